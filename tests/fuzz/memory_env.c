#include "tests/fuzz/memory_env.h"

#include <errno.h>

#include "engine/filename.h"
#include "tests/fuzz/fuzz.h"

struct memory_file {
	struct memory_file *next;
	char name[64];
	unsigned char *data;
	size_t size, cap;
	unsigned opens;
	bool linked;
};

struct open_file {
	struct io_file base;
	struct memory_file *file;
};

static struct memory_env *env_of(struct io_env *env)
{
	return container_of(env, struct memory_env, base);
}

static struct memory_file *file_of(struct io_file *f)
{
	return container_of(f, struct open_file, base)->file;
}

static struct memory_file *find(struct memory_env *m, const char *name)
{
	for (struct memory_file *f = m->files; f; f = f->next)
		if (f->linked && strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

static void resize(struct memory_env *m, struct memory_file *f, size_t size)
{
	if (size > f->cap) {
		f->cap = size + size / 2;
		f->data = realloc(f->data, f->cap);
		ENSURE(f->data);
	}
	if (size > f->size)
		memset(f->data + f->size, 0, size - f->size);
	m->bytes += size;
	m->bytes -= f->size;
	f->size = size;
}

static struct memory_file *create(struct memory_env *m, const char *name)
{
	struct memory_file *f = calloc(1, sizeof(*f));

	ENSURE(f && strlen(name) < sizeof(f->name));
	strcpy(f->name, name);
	f->linked = true;
	f->next = m->files;
	m->files = f;
	return f;
}

/* Frees @f once it has neither a name nor an opener. */
static void drop(struct memory_env *m, struct memory_file *f)
{
	struct memory_file **at = &m->files;

	if (f->linked || f->opens)
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	m->bytes -= f->size;
	free(f->data);
	free(f);
}

/* ---- the env ---- */

static struct memory_file *imagine(struct memory_env *m, const char *name)
{
	enum file_type type;
	struct memory_file *f;
	uint64_t number;

	if (!m->imagined_tables || !file_parse(name, &type, &number) || type != FILE_TABLE || number > 1000)
		return NULL;
	f = create(m, name);
	resize(m, f, 100 + number);
	return f;
}

static int mem_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	struct memory_env *m = env_of(env);
	struct memory_file *f = find(m, name);
	struct open_file *o;

	if (!f && !(flags & IO_OPEN_CREATE))
		f = imagine(m, name);
	if (f && (flags & IO_OPEN_EXCL))
		return -EEXIST;
	if (!f && !(flags & IO_OPEN_CREATE))
		return -ENOENT;
	if (!f)
		f = create(m, name);
	else if (flags & IO_OPEN_CREATE)
		resize(m, f, 0);
	o = calloc(1, sizeof(*o));
	ENSURE(o);
	o->base = (struct io_file){.env = env, .fd = -1};
	o->file = f;
	f->opens++;
	*out = &o->base;
	return 0;
}

static void mem_close(struct io_file *file)
{
	struct memory_file *f = file_of(file);

	f->opens--;
	drop(env_of(file->env), f);
	free(container_of(file, struct open_file, base));
}

static int mem_size(struct io_file *file, uint64_t *size_out)
{
	*size_out = file_of(file)->size;
	return 0;
}

static int mem_truncate(struct io_file *file, uint64_t size)
{
	resize(env_of(file->env), file_of(file), (size_t)size);
	return 0;
}

static int mem_unlink(struct io_env *env, const char *name)
{
	struct memory_file *f = find(env_of(env), name);

	if (!f)
		return -ENOENT;
	f->linked = false;
	drop(env_of(env), f);
	return 0;
}

static int mem_rename(struct io_env *env, const char *from, const char *to)
{
	struct memory_file *f = find(env_of(env), from);

	if (!f)
		return -ENOENT;
	mem_unlink(env, to);
	strcpy(f->name, to);
	return 0;
}

static int mem_sync_dir(struct io_env *env)
{
	(void)env;
	return 0;
}

static int mem_list(struct io_env *env, void (*each)(void *context, const char *name), void *context)
{
	for (struct memory_file *f = env_of(env)->files, *next; f; f = next) {
		next = f->next;
		if (f->linked)
			each(context, f->name);
	}
	return 0;
}

static int mem_lock(struct io_env *env, const char *name, struct err_info *err)
{
	(void)env, (void)name, (void)err;
	return 0;
}

static uint64_t mem_now(struct io_env *env)
{
	(void)env;
	return 1000000000;
}

static uint64_t mem_random(struct io_env *env)
{
	(void)env;
	return 42;
}

/* ---- the queue: runs at once, answers at the next poll ---- */

struct memory_queue {
	struct io_queue base;
	struct io_req *first, **last;
};

static int64_t run(struct io_req *req)
{
	struct memory_file *f = req->file ? file_of(req->file) : NULL;

	switch (req->op) {
	case IO_READ: {
		size_t n = req->offset < f->size ? min_size(req->len, f->size - (size_t)req->offset) : 0;

		if (n)
			memcpy(req->buf, f->data + req->offset, n);
		return (int64_t)n;
	}
	case IO_WRITE:
		if (req->offset + req->len > f->size)
			resize(env_of(req->file->env), f, (size_t)req->offset + req->len);
		if (req->len)
			memcpy(f->data + req->offset, req->buf, req->len);
		return (int64_t)req->len;
	case IO_EVENT:
		return -EINVAL; /* nobody here waits for one */
	default:
		return 0;
	}
}

static void q_submit(struct io_queue *q, struct io_req *req)
{
	struct memory_queue *mq = container_of(q, struct memory_queue, base);

	req->result = run(req);
	req->next = NULL;
	*mq->last = req;
	mq->last = &req->next;
	q->in_flight++;
}

static int q_flush(struct io_queue *q)
{
	(void)q;
	return 0;
}

static int q_poll(struct io_queue *q)
{
	struct memory_queue *mq = container_of(q, struct memory_queue, base);
	struct io_req *req = mq->first;
	int n = 0;

	/* What done() submits is for the next poll. */
	mq->first = NULL;
	mq->last = &mq->first;
	for (struct io_req *next; req; req = next, n++) {
		next = req->next;
		q->in_flight--;
		req->done(req);
	}
	return n;
}

static int q_wait(struct io_queue *q, uint64_t timeout_ns)
{
	(void)timeout_ns;
	return q_poll(q);
}

static void q_free(struct io_queue *q)
{
	while (q_poll(q))
		;
	free(container_of(q, struct memory_queue, base));
}

static int q_cancel(struct io_queue *q, struct io_req *req)
{
	(void)q, (void)req;
	return 0;
}

static int mem_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	static const struct io_queue_ops ops = {.submit = q_submit,
						.flush = q_flush,
						.poll = q_poll,
						.wait = q_wait,
						.free = q_free,
						.cancel = q_cancel};
	struct memory_queue *mq = calloc(1, sizeof(*mq));

	(void)depth;
	ENSURE(mq);
	mq->base = (struct io_queue){.ops = &ops, .env = env};
	mq->last = &mq->first;
	*out = &mq->base;
	return 0;
}

/* ---- making ---- */

static void mem_env_close(struct io_env *env)
{
	(void)env; /* memory_env_fini() */
}

void memory_env_init(struct memory_env *m)
{
	static const struct io_env_ops ops = {
		.open = mem_open,
		.close = mem_close,
		.size = mem_size,
		.truncate = mem_truncate,
		.unlink = mem_unlink,
		.rename = mem_rename,
		.sync_dir = mem_sync_dir,
		.list = mem_list,
		.lock = mem_lock,
		.queue_new = mem_queue_new,
		.now_ns = mem_now,
		.random = mem_random,
		.env_close = mem_env_close,
	};

	*m = (struct memory_env){.base = {.ops = &ops, .backend = "memory"}};
}

void memory_env_fini(struct memory_env *m)
{
	for (struct memory_file *f = m->files, *next; f; f = next) {
		next = f->next;
		ENSURE(!f->opens);
		f->linked = false;
		drop(m, f);
	}
}

void memory_env_put(struct memory_env *m, const char *name, const void *data, size_t size)
{
	struct memory_file *f = find(m, name);

	if (!f)
		f = create(m, name);
	resize(m, f, 0);
	resize(m, f, size);
	if (size)
		memcpy(f->data, data, size);
}

struct io_queue *memory_queue(struct memory_env *m)
{
	struct io_queue *q = NULL;

	ENSURE(io_queue_new(&m->base, 8, &q) == 0);
	return q;
}
