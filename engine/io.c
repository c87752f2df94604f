#include "engine/io.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/io_real.h"
#include "shm/error.h"

/* ---- opening on a real backend ---- */

int io_env_open(const char *path, enum io_backend backend, bool create, struct io_env **out, struct err_info *err)
{
	struct io_env_real *real;
	int rc;

	rc = io_dir_open(path, create, &real, err);
	if (rc < 0)
		return rc;
	rc = backend == IO_BACKEND_POSIX ? 0 : io_uring_attach(real);
	if (rc < 0 && backend == IO_BACKEND_URING) {
		err_set(err, rc, "%s; use the posix backend, or auto, which falls back to it", real->base.reason);
		io_dir_close(real);
		return rc;
	}
	if (rc < 0 || backend == IO_BACKEND_POSIX)
		io_posix_attach(real);
	*out = &real->base;
	return 0;
}

void io_env_close(struct io_env *env)
{
	if (env)
		env->ops->env_close(env);
}

int io_env_dirfd(const struct io_env *env)
{
	return io_env_is_real(env) ? env_real(env)->dirfd : -1;
}

bool io_env_is_real(const struct io_env *env)
{
	return env->ops->env_close == io_dir_env_close;
}

/* ---- dispatch ---- */

static bool name_ok(const char *name)
{
	return *name && !strchr(name, '/');
}

int io_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	assert(name_ok(name));
	return env->ops->open(env, name, flags, out);
}

void io_close(struct io_file *file)
{
	if (file)
		file->env->ops->close(file);
}

int io_size(struct io_file *file, uint64_t *size_out)
{
	return file->env->ops->size(file, size_out);
}

int io_truncate(struct io_file *file, uint64_t size)
{
	return file->env->ops->truncate(file, size);
}

int io_unlink(struct io_env *env, const char *name)
{
	assert(name_ok(name));
	return env->ops->unlink(env, name);
}

int io_rename(struct io_env *env, const char *from, const char *to)
{
	assert(name_ok(from) && name_ok(to));
	return env->ops->rename(env, from, to);
}

int io_sync_dir(struct io_env *env)
{
	/* One at a time, or a sync could succeed between another's failure and the note of it. */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int rc;

	pthread_mutex_lock(&lock);
	rc = env->dir_failed ? -EIO : env->ops->sync_dir(env);
	env->dir_failed |= rc < 0;
	pthread_mutex_unlock(&lock);
	return rc;
}

int io_list(struct io_env *env, void (*each)(void *context, const char *name), void *context)
{
	return env->ops->list(env, each, context);
}

int io_lock(struct io_env *env, const char *name, struct err_info *err)
{
	assert(name_ok(name));
	return env->ops->lock(env, name, err);
}

uint64_t io_now_ns(struct io_env *env)
{
	return env->ops->now_ns(env);
}

uint64_t io_random(struct io_env *env)
{
	return env->ops->random(env);
}

int io_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	return env->ops->queue_new(env, depth, out);
}

void io_queue_free(struct io_queue *q)
{
	if (q)
		q->ops->free(q);
}

void io_submit(struct io_queue *q, struct io_req *req)
{
	io_check_buffer(req);
	q->ops->submit(q, req);
}

int io_queue_flush(struct io_queue *q)
{
	return q->ops->flush(q);
}

int io_queue_poll(struct io_queue *q)
{
	return q->ops->poll(q);
}

int io_cancel(struct io_queue *q, struct io_req *req)
{
	assert(req->op == IO_EVENT);
	return q->ops->cancel(q, req);
}

int io_queue_wait(struct io_queue *q, uint64_t timeout_ns)
{
	return q->ops->wait(q, timeout_ns);
}

/* ---- one operation, waited for ---- */

static void note_done(struct io_req *req)
{
	*(bool *)req->context = true;
}

static int64_t run_one(struct io_queue *q, struct io_req *req)
{
	bool done = false;

	req->done = note_done;
	req->context = &done;
	io_submit(q, req);
	while (!done) {
		int rc = io_queue_wait(q, UINT64_MAX);

		/* The request lies on this stack and is still the queue's: there is no way back from a queue that broke. */
		assert(rc >= 0 || done);
		(void)rc;
	}
	return req->result;
}

int io_pread(struct io_queue *q, struct io_file *f, void *buf, size_t len, uint64_t offset)
{
	struct io_req req = {.op = IO_READ, .file = f, .buf = buf, .len = len, .offset = offset};
	int64_t n = run_one(q, &req);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

int io_pwrite(struct io_queue *q, struct io_file *f, const void *buf, size_t len, uint64_t offset)
{
	struct io_req req = {.op = IO_WRITE, .file = f, .buf = (void *)buf, .len = len, .offset = offset};
	int64_t n = run_one(q, &req);

	return n < 0 ? (int)n : 0;
}

int io_fdatasync(struct io_queue *q, struct io_file *f)
{
	struct io_req req = {.op = IO_FDATASYNC, .file = f};

	return (int)run_one(q, &req);
}

int io_allocate(struct io_queue *q, struct io_file *f, uint64_t offset, uint64_t len)
{
	struct io_req req = {.op = IO_ALLOCATE, .file = f, .offset = offset, .len = len};

	return (int)run_one(q, &req);
}

int io_read_file(struct io_queue *q, struct io_env *env, const char *name, size_t max, char **data_out,
		 size_t *size_out)
{
	struct io_file *file;
	char *data = NULL;
	uint64_t size;
	int rc;

	rc = io_open(env, name, IO_OPEN_READ, &file);
	if (rc < 0)
		return rc;
	rc = io_size(file, &size);
	if (!rc && size > max)
		rc = -EFBIG;
	if (!rc) {
		data = malloc(size + 1);
		rc = !data ? -ENOMEM : size ? io_pread(q, file, data, size, 0) : 0;
	}
	io_close(file);
	if (rc < 0) {
		free(data);
		return rc;
	}
	data[size] = '\0';
	*data_out = data;
	*size_out = size;
	return 0;
}

/* ---- buffers under AddressSanitizer ---- */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <stdio.h>

void io_check_buffer(const struct io_req *req)
{
	bool uses_buffer = req->op == IO_READ || req->op == IO_WRITE || req->op == IO_EVENT;
	void *bad = uses_buffer && req->len ? __asan_region_is_poisoned(req->buf, req->len) : NULL;

	if (bad) {
		fprintf(stderr, "I/O buffer %p of %zu bytes is not valid memory at %p\n", req->buf, req->len, bad);
		__asan_describe_address(bad);
		abort();
	}
}
#endif
