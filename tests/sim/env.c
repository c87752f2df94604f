#include "tests/sim/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/error.h"
#include "tests/sim/co.h"

const char *const sim_fault_names[FAULTS] = {"read",	 "write", "sync",   "allocate",
					     "sync-dir", "open",  "rename", "unlink"};

struct sim_file {
	struct io_file base;
	struct disk_inode *inode;
};

struct sim_queue {
	struct io_queue base;
	struct {
		struct io_req *req;
		uint64_t sync_upto; /* IO_FDATASYNC: the newest write when it was submitted */
	} flying[FLYING_MAX];
	unsigned flying_count;
	struct io_req *done, **done_tail;
};

static struct sim_env *env_of(struct io_env *env)
{
	return container_of(env, struct sim_env, base);
}

static struct sim_queue *queue_of(const struct io_queue *q)
{
	return (struct sim_queue *)container_of(q, struct sim_queue, base);
}

static struct disk_inode *inode_of(struct io_file *file)
{
	return container_of(file, struct sim_file, base)->inode;
}

/* ---- events, death, faults ---- */

static void finish(struct sim_queue *q, unsigned at, int64_t result)
{
	struct io_req *req = q->flying[at].req;

	q->flying[at] = q->flying[--q->flying_count];
	env_of(q->base.env)->flying--;
	req->result = result;
	req->next = NULL;
	*q->done_tail = req;
	q->done_tail = &req->next;
}

void sim_env_die(struct sim_env *e)
{
	if (e->dead)
		return;
	e->dead = true;
	for (unsigned i = 0; i < e->queues; i++) {
		struct sim_queue *q = e->queue[i];

		for (unsigned k = 0; k < q->flying_count; k++) {
			const struct io_req *req = q->flying[k].req;

			if (req->op == IO_WRITE)
				disk_add_late(e->disk, inode_of(req->file), req->buf, req->len, req->offset);
		}
		while (q->flying_count)
			finish(q, 0, -EIO);
	}
}

/* False: the process is dead. */
static bool event(struct sim_env *e)
{
	if (e->dead)
		return false;
	e->events++;
	*e->now += 1000;
	if (e->die_in < 0 || e->die_in-- > 0)
		return true;
	sim_env_die(e);
	return false;
}

static bool strikes(struct sim_env *e, enum sim_fault kind)
{
	if (e->fault_in[kind] < 0 || e->fault_in[kind]-- > 0)
		return false;
	e->struck++;
	return true;
}

/* ---- requests ---- */

static int64_t do_write(struct sim_env *e, const struct io_req *req)
{
	struct disk_inode *inode = inode_of(req->file);
	int rc;

	if (strikes(e, FAULT_WRITE)) {
		size_t some = (size_t)(next_random(&e->random) % (req->len + 1));

		disk_write(e->disk, inode, req->buf, some, req->offset);
		return -EIO;
	}
	rc = disk_write(e->disk, inode, req->buf, req->len, req->offset);
	e->full |= rc == -ENOSPC;
	return rc < 0 ? rc : (int64_t)req->len;
}

static int64_t perform(struct sim_env *e, const struct io_req *req, uint64_t sync_upto)
{
	int rc = 0;

	switch (req->op) {
	case IO_NOP:
		return 0;
	case IO_READ:
		return strikes(e, FAULT_READ)
			       ? -EIO
			       : (int64_t)disk_read(inode_of(req->file), req->buf, req->len, req->offset);
	case IO_WRITE:
		return do_write(e, req);
	case IO_FDATASYNC:
		if (strikes(e, FAULT_SYNC)) {
			disk_lose(e->disk, inode_of(req->file), sync_upto, next_random(&e->random));
			return -EIO;
		}
		disk_sync(e->disk, inode_of(req->file), sync_upto);
		return 0;
	case IO_ALLOCATE:
		rc = strikes(e, FAULT_ALLOCATE) ? -EIO
						: disk_allocate(e->disk, inode_of(req->file), req->offset + req->len);
		e->full |= rc == -ENOSPC;
		return rc;
	case IO_EVENT:
		break;
	}
	return -EINVAL;
}

static bool perform_at(struct sim_queue *q, unsigned at)
{
	struct sim_env *e = env_of(q->base.env);
	const struct io_req *req = q->flying[at].req;

	/* A NOP is no I/O. */
	if (req->op != IO_NOP && !event(e))
		return false; /* it is among the late ones now, and answered */
	finish(q, at, perform(e, req, q->flying[at].sync_upto));
	return true;
}

bool sim_env_perform(struct sim_env *e, uint64_t n)
{
	if (!e->flying)
		return false;
	n %= e->flying;
	for (unsigned i = 0; i < e->queues; i++) {
		if (n < e->queue[i]->flying_count)
			return perform_at(e->queue[i], (unsigned)n);
		n -= e->queue[i]->flying_count;
	}
	return false;
}

/* ---- queues ---- */

static void q_submit(struct io_queue *queue, struct io_req *req)
{
	struct sim_queue *q = queue_of(queue);
	struct sim_env *e = env_of(queue->env);

	assert(q->flying_count < FLYING_MAX);
	q->flying[q->flying_count].req = req;
	q->flying[q->flying_count++].sync_upto = e->disk->next_write;
	q->base.in_flight++;
	e->flying++;
	if (e->dead)
		finish(q, q->flying_count - 1, -EIO);
}

static int q_flush(struct io_queue *queue)
{
	(void)queue;
	return 0;
}

static int q_poll(struct io_queue *queue)
{
	struct sim_queue *q = queue_of(queue);
	struct io_req *last = NULL;
	int n = 0;

	/* Only what is done now: done() may submit more. */
	if (q->done)
		last = container_of(q->done_tail, struct io_req, next);
	while (q->done) {
		struct io_req *req = q->done;

		q->done = req->next;
		if (!q->done)
			q->done_tail = &q->done;
		q->base.in_flight--;
		n++;
		if (req == last)
			last = NULL;
		req->done(req);
		if (!last)
			break;
	}
	return n;
}

bool sim_queue_ready(const struct io_queue *queue)
{
	return queue_of(queue)->done || env_of(queue->env)->dead;
}

bool sim_queue_perform(struct io_queue *queue)
{
	struct sim_queue *q = queue_of(queue);
	struct sim_env *e = env_of(queue->env);

	if (!q->flying_count)
		return false;
	perform_at(q, (unsigned)(next_random(&e->random) % q->flying_count));
	return true;
}

static int q_wait(struct io_queue *queue, uint64_t timeout_ns)
{
	struct sim_queue *q = queue_of(queue);

	if (!q->done && !q->flying_count) {
		if (timeout_ns != UINT64_MAX)
			*env_of(queue->env)->now += timeout_ns;
		return 0;
	}
	while (!q->done) {
		if (co_inside())
			co_yield ();
		else
			sim_queue_perform(queue);
	}
	return q_poll(queue);
}

static void q_free(struct io_queue *queue)
{
	struct sim_queue *q = queue_of(queue);
	struct sim_env *e = env_of(queue->env);

	while (q->base.in_flight)
		q_wait(queue, UINT64_MAX);
	for (unsigned i = 0; i < e->queues; i++) {
		if (e->queue[i] == q)
			e->queue[i] = e->queue[--e->queues];
	}
	free(q);
}

static int e_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	static const struct io_queue_ops ops = {
		.submit = q_submit, .flush = q_flush, .poll = q_poll, .wait = q_wait, .free = q_free};
	struct sim_env *e = env_of(env);
	struct sim_queue *q = calloc(1, sizeof(*q));

	(void)depth;
	assert(e->queues < QUEUES_MAX);
	if (!q)
		return -ENOMEM;
	q->base.ops = &ops;
	q->base.env = env;
	q->done_tail = &q->done;
	e->queue[e->queues++] = q;
	*out = &q->base;
	return 0;
}

/* ---- files and names ---- */

static int e_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	struct sim_env *e = env_of(env);
	struct disk_inode *inode;
	struct sim_file *f;

	if (!event(e))
		return -EIO;
	if (strikes(e, FAULT_OPEN))
		return -EMFILE;
	inode = disk_find(e->disk, name);
	if (!inode && !(flags & IO_OPEN_CREATE))
		return -ENOENT;
	if (inode && flags & IO_OPEN_EXCL)
		return -EEXIST;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	if (!inode)
		inode = disk_create(e->disk, name);
	else if (flags & IO_OPEN_CREATE && inode->size)
		disk_truncate(e->disk, inode, 0);
	f->base.env = env;
	f->base.fd = -1;
	f->inode = disk_ref(inode);
	*out = &f->base;
	return 0;
}

static void e_close(struct io_file *file)
{
	disk_unref(env_of(file->env)->disk, inode_of(file));
	free(container_of(file, struct sim_file, base));
}

static int e_size(struct io_file *file, uint64_t *size_out)
{
	*size_out = inode_of(file)->size;
	return 0;
}

static int e_truncate(struct io_file *file, uint64_t size)
{
	struct sim_env *e = env_of(file->env);

	if (!event(e))
		return -EIO;
	disk_truncate(e->disk, inode_of(file), size);
	return 0;
}

static int e_unlink(struct io_env *env, const char *name)
{
	struct sim_env *e = env_of(env);

	if (!event(e) || strikes(e, FAULT_UNLINK))
		return -EIO;
	return disk_unlink(e->disk, name);
}

static int e_rename(struct io_env *env, const char *from, const char *to)
{
	struct sim_env *e = env_of(env);

	if (!event(e) || strikes(e, FAULT_RENAME))
		return -EIO;
	return disk_rename(e->disk, from, to);
}

static int e_sync_dir(struct io_env *env)
{
	struct sim_env *e = env_of(env);

	if (!event(e))
		return -EIO;
	if (strikes(e, FAULT_SYNC_DIR)) {
		disk_lose_names(e->disk, next_random(&e->random));
		return -EIO;
	}
	disk_sync_names(e->disk);
	return 0;
}

static int e_list(struct io_env *env, void (*each)(void *context, const char *name), void *context)
{
	const struct disk_names *n = &env_of(env)->disk->names;

	for (size_t i = 0; i < n->count; i++)
		each(context, n->v[i].name);
	return 0;
}

/* A dead process's lock is held as long as a write of it may still land. */
static int e_lock(struct io_env *env, const char *name, struct err_info *err)
{
	struct disk *d = env_of(env)->disk;

	if (d->late)
		return err_set(err, -SHALE_ELOCKED, "%s is held by a killed process's I/O", name);
	if (!disk_find(d, name))
		disk_create(d, name);
	return 0;
}

static uint64_t e_now(struct io_env *env)
{
	return *env_of(env)->now += 100;
}

static uint64_t e_random(struct io_env *env)
{
	return next_random(&env_of(env)->random);
}

static void e_env_close(struct io_env *env)
{
	(void)env;
}

void sim_env_init(struct sim_env *e, struct disk *d, uint64_t seed, uint64_t *now)
{
	static const struct io_env_ops ops = {
		.open = e_open,
		.close = e_close,
		.size = e_size,
		.truncate = e_truncate,
		.unlink = e_unlink,
		.rename = e_rename,
		.sync_dir = e_sync_dir,
		.list = e_list,
		.lock = e_lock,
		.queue_new = e_queue_new,
		.now_ns = e_now,
		.random = e_random,
		.env_close = e_env_close,
	};

	memset(e, 0, sizeof(*e));
	e->base.ops = &ops;
	e->base.backend = "sim";
	e->disk = d;
	e->die_in = -1;
	for (unsigned i = 0; i < FAULTS; i++)
		e->fault_in[i] = -1;
	e->random = seed;
	e->now = now;
}

void sim_env_fini(struct sim_env *e)
{
	assert(!e->queues);
	(void)e;
}
