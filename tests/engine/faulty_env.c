#include "tests/engine/faulty_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/test.h"

static struct faulty_env *faulty(struct io_env *env)
{
	return container_of(env, struct faulty_env, base);
}

/* 0, or the failure when it is this operation's turn. */
static int turn(struct faulty_env *f, const char *what)
{
	f->ops++;
	if (f->countdown < 0 || f->countdown-- > 0)
		return 0;
	if (f->dies)
		_exit(FAULTY_EXIT);
	snprintf(f->last, sizeof(f->last), "%s", what);
	return f->failure;
}

static int f_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	int rc = flags & IO_OPEN_CREATE ? turn(faulty(env), "create") : 0;

	return rc ? rc : io_open(faulty(env)->inner, name, flags, out);
}

static int f_unlink(struct io_env *env, const char *name)
{
	if (faulty(env)->dies)
		turn(faulty(env), "unlink");
	return io_unlink(faulty(env)->inner, name);
}

static int f_list(struct io_env *env, void (*each)(void *context, const char *name), void *context)
{
	return io_list(faulty(env)->inner, each, context);
}

static int f_rename(struct io_env *env, const char *from, const char *to)
{
	int rc = turn(faulty(env), "rename");

	return rc ? rc : io_rename(faulty(env)->inner, from, to);
}

static int f_sync_dir(struct io_env *env)
{
	int rc = turn(faulty(env), "sync_dir");

	/* Not by io_sync_dir, which is above us on the stack and lets one in at a time. */
	return rc ? rc : faulty(env)->inner->ops->sync_dir(faulty(env)->inner);
}

/* ---- the queue: on top of an inner one; a failed request is answered by the next poll ---- */

struct faulty_queue {
	struct io_queue base;
	struct io_queue *inner;
	struct io_req *failed;
};

static struct faulty_queue *fq(struct io_queue *q)
{
	return container_of(q, struct faulty_queue, base);
}

static void q_submit(struct io_queue *q, struct io_req *req)
{
	static const char *const names[] = {
		[IO_WRITE] = "write", [IO_FDATASYNC] = "fdatasync", [IO_ALLOCATE] = "allocate", [IO_EVENT] = NULL};
	int rc = names[req->op] ? turn(faulty(q->env), names[req->op]) : 0;

	if (!rc) {
		io_submit(fq(q)->inner, req);
		return;
	}
	req->result = rc;
	req->next = fq(q)->failed;
	fq(q)->failed = req;
}

static int q_flush(struct io_queue *q)
{
	return io_queue_flush(fq(q)->inner);
}

static int q_answer(struct io_queue *q)
{
	int n = 0;

	while (fq(q)->failed) {
		struct io_req *req = fq(q)->failed;

		fq(q)->failed = req->next;
		req->done(req);
		n++;
	}
	return n;
}

static int q_poll(struct io_queue *q)
{
	int n = q_answer(q), rc = io_queue_poll(fq(q)->inner);

	return rc < 0 ? rc : rc + n;
}

static int q_wait(struct io_queue *q, uint64_t timeout_ns)
{
	int n = q_answer(q);

	return n ? n : io_queue_wait(fq(q)->inner, timeout_ns);
}

static void q_free(struct io_queue *q)
{
	io_queue_free(fq(q)->inner);
	free(fq(q));
}

static int f_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	static const struct io_queue_ops ops = {
		.submit = q_submit, .flush = q_flush, .poll = q_poll, .wait = q_wait, .free = q_free};
	struct faulty_queue *q = calloc(1, sizeof(*q));

	q->base.ops = &ops;
	q->base.env = env;
	ck_ok(io_queue_new(faulty(env)->inner, depth, &q->inner));
	*out = &q->base;
	return 0;
}

void faulty_env_init(struct faulty_env *f, const char *dir)
{
	static const struct io_env_ops ops = {.open = f_open,
					      .unlink = f_unlink,
					      .rename = f_rename,
					      .list = f_list,
					      .sync_dir = f_sync_dir,
					      .queue_new = f_queue_new};
	struct err_info err = {0};

	memset(f, 0, sizeof(*f));
	f->base.ops = &ops;
	f->base.backend = "faulty";
	f->countdown = -1;
	ck_ok(io_env_open(dir, IO_BACKEND_POSIX, false, &f->inner, &err));
}

void faulty_env_fini(struct faulty_env *f)
{
	io_env_close(f->inner);
}
