/*
 * io_uring.c - the queue on io_uring.
 *
 * A ring belongs to the thread that enters it (SINGLE_ISSUER), but a queue may be made in one thread and used in another (the
 * service queue first serves recovery in the main thread). So each entry compares the calling thread with the ring's, and a ring whose
 * thread changed while nothing was in flight is made anew.
 *
 *	io_submit ──▶ SQE ──flush──▶ kernel ──▶ CQE ──poll──▶ done()
 *	    └─▶ pending list, when the submission ring is full or broken ─┘
 *
 * With DEFER_TASKRUN the kernel finishes operations only when we enter it; TASKRUN_FLAG says in shared memory when that is worth a
 * system call. So a poll that finds nothing costs three loads.
 *
 * The LOCK descriptor is registered in each ring (see io_lock.c).
 */
#include "engine/io_real.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/error.h"

#ifndef IORING_ASYNC_CANCEL_ANY
#define IORING_ASYNC_CANCEL_ANY (1U << 2)
#endif

enum {
	DEPTH_MIN = 8,
	DEPTH_MAX = 4096,
	PIECE = 1 << 30, /* most bytes of one SQE: its length has 32 bits, its result 31 */
};

/* How an IO_EVENT is waited for, kept in req->progress. */
enum { EVENT_READ, EVENT_POLL };

struct uring_queue {
	struct io_queue base;
	struct io_uring ring;
	unsigned depth;
	bool ring_up;
	bool lock_registered;
	pid_t owner;		      /* thread that the ring belongs to */
	unsigned in_kernel;	      /* SQEs made, CQEs not yet seen */
	unsigned unsubmitted;	      /* SQEs not yet handed over */
	unsigned events;	      /* IO_EVENT requests among in_flight */
	struct io_req *first, **last; /* pending: not yet an SQE */
};

/* gettid() without a system call. */
static inline pid_t this_thread(void)
{
	static _Thread_local pid_t id;

	if (unlikely(!id))
		id = gettid();
	return id;
}

static struct uring_queue *uring_queue(struct io_queue *q)
{
	return container_of(q, struct uring_queue, base);
}

/* ---- the ring ---- */

static int ring_init(struct io_uring *ring, unsigned depth, unsigned flags)
{
	struct io_uring_params params = {.flags = flags};
	int rc = io_uring_queue_init_params(depth, ring, &params);

	if (rc < 0)
		return rc;
	/* A time-out passed to the wait itself: kernel 5.11. Without it liburing would need an SQE for each wait. */
	if (!(ring->features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(ring);
		return -ENOSYS;
	}
	return 0;
}

static int ring_up(struct uring_queue *q)
{
	int rc;

	assert(!q->in_kernel); /* a queue changes threads only while nothing is in flight */
	if (q->ring_up)
		io_uring_queue_exit(&q->ring);
	q->ring_up = false;
	q->lock_registered = false;
	rc = ring_init(&q->ring, q->depth, env_real(q->base.env)->ring_flags);
	if (rc < 0)
		return rc;
	io_uring_ring_dontfork(&q->ring);
	q->ring_up = true;
	q->owner = this_thread();
	return 0;
}

/* Before each use: the ring is this thread's, and keeps the LOCK descriptor alive. */
static int ring_ready(struct uring_queue *q)
{
	int lock_fd;

	if (unlikely(q->owner != this_thread() || !q->ring_up)) {
		int rc = ring_up(q);

		if (rc < 0)
			return rc;
	}
	if (likely(q->lock_registered))
		return 0;
	/* Pairs with the release in io_lock.c: the lock is held when its descriptor is seen. */
	lock_fd = atomic_load_explicit(&env_real(q->base.env)->lock_fd, memory_order_acquire);
	/* A kernel that refuses only loses the lock's afterlife, not the lock: no reason to stop. */
	if (lock_fd >= 0) {
		io_uring_register_files(&q->ring, &lock_fd, 1);
		q->lock_registered = true;
	}
	return 0;
}

/* ---- submitting ---- */

static void prepare(struct io_uring_sqe *sqe, const struct io_req *req)
{
	int fd = req->file ? req->file->fd : -1;
	char *buf = req->buf;
	unsigned piece;

	switch (req->op) {
	case IO_NOP:
		io_uring_prep_nop(sqe);
		break;
	case IO_READ:
	case IO_WRITE:
		piece = (unsigned)min_size(req->len - req->progress, PIECE);
		if (req->op == IO_READ)
			io_uring_prep_read(sqe, fd, buf + req->progress, piece, req->offset + req->progress);
		else
			io_uring_prep_write(sqe, fd, buf + req->progress, piece, req->offset + req->progress);
		break;
	case IO_FDATASYNC:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_ALLOCATE:
		io_uring_prep_fallocate(sqe, fd, FALLOC_FL_KEEP_SIZE, (off_t)req->offset, (off_t)req->len);
		break;
	case IO_EVENT:
		if (req->progress == EVENT_READ)
			io_uring_prep_read(sqe, req->fd, buf, sizeof(uint64_t), 0);
		else
			io_uring_prep_poll_add(sqe, req->fd, POLLIN);
		break;
	}
	io_uring_sqe_set_data(sqe, (void *)req);
}

static void pend(struct uring_queue *q, struct io_req *req)
{
	req->next = NULL;
	*q->last = req;
	q->last = &req->next;
}

/* Turns pending requests into SQEs as far as the submission ring has room. */
static void fill(struct uring_queue *q)
{
	struct io_uring_sqe *sqe;

	while (q->first && (sqe = io_uring_get_sqe(&q->ring))) {
		struct io_req *req = q->first;

		q->first = req->next;
		if (!q->first)
			q->last = &q->first;
		prepare(sqe, req);
		q->in_kernel++;
		q->unsubmitted++;
	}
}

/* Hands over what is in the submission ring. 0, -EBUSY (completions must be taken first), or -errno. */
static int hand_over(struct uring_queue *q)
{
	while (q->unsubmitted) {
		int n = io_uring_submit(&q->ring);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN || n == -EBUSY)
			return -EBUSY;
		if (n < 0)
			return n;
		q->unsubmitted -= min_size((size_t)n, q->unsubmitted);
		if (!n)
			break;
	}
	return 0;
}

static int uring_flush(struct io_queue *base)
{
	struct uring_queue *q = uring_queue(base);
	int rc;

	if (!q->first && !q->unsubmitted)
		return 0;
	rc = ring_ready(q);
	if (rc < 0)
		return rc;
	do {
		fill(q);
		rc = hand_over(q);
		/* What does not fit now is handed over by the next poll or wait, which takes completions first. */
		if (rc == -EBUSY)
			return 0;
	} while (!rc && q->first);
	return rc;
}

static void uring_submit(struct io_queue *base, struct io_req *req)
{
	struct uring_queue *q = uring_queue(base);
	struct io_uring_sqe *sqe;

	base->in_flight++;
	q->events += req->op == IO_EVENT;
	req->progress = 0;
	if (q->first || ring_ready(q) < 0) {
		pend(q, req);
		return;
	}
	sqe = io_uring_get_sqe(&q->ring);
	if (unlikely(!sqe)) {
		pend(q, req);
		uring_flush(base);
		return;
	}
	prepare(sqe, req);
	q->in_kernel++;
	q->unsubmitted++;
}

/* ---- completing ---- */

/* True when @req is over, its result set; false when it must go on. */
static bool settle(struct io_req *req, int res)
{
	bool transfer = req->op == IO_READ || req->op == IO_WRITE;

	if (res == -EINTR || (res == -EAGAIN && req->op != IO_EVENT))
		return false;
	if (req->op == IO_EVENT) {
		/* A descriptor opened non-blocking answers a read at once: wait by poll, then read. */
		if (res == -EAGAIN || (res >= 0 && req->progress == EVENT_POLL)) {
			req->progress = res == -EAGAIN ? EVENT_POLL : EVENT_READ;
			return false;
		}
		req->result = res;
		return true;
	}
	if (!transfer || res < 0) {
		req->result = res;
		return true;
	}
	req->progress += (size_t)res;
	if (req->progress == req->len || (req->op == IO_READ && !res)) {
		req->result = (int64_t)req->progress;
		return true;
	}
	if (!res) {
		req->result = -EIO; /* a write that makes no progress and gives no reason */
		return true;
	}
	return false;
}

static int take(struct uring_queue *q, struct io_req *req, int res)
{
	q->in_kernel--;
	if (!req) /* a cancellation */
		return 0;
	if (!settle(req, res)) {
		pend(q, req);
		return 0;
	}
	q->base.in_flight--;
	q->events -= req->op == IO_EVENT;
	req->done(req);
	return 1;
}

/* Calls done() for the completions that are there now; those that done() causes are for the next call. */
static int reap(struct uring_queue *q)
{
	unsigned ready = io_uring_cq_ready(&q->ring);
	int count = 0;

	while (ready--) {
		struct io_uring_cqe *cqe = NULL;
		struct io_req *req;
		int res;

		/* done() may submit, flush, even wait: take the entry out of the ring first. */
		if (!io_uring_cq_ready(&q->ring) || io_uring_peek_cqe(&q->ring, &cqe))
			break;
		req = io_uring_cqe_get_data(cqe);
		res = cqe->res;
		io_uring_cqe_seen(&q->ring, cqe);
		count += take(q, req, res);
	}
	return count;
}

/* A ring that cannot be had: what is pending fails with the reason, so that no caller waits for ever. */
static int fail_pending(struct uring_queue *q, int rc)
{
	struct io_req *req = q->first;
	int count = 0;

	q->first = NULL;
	q->last = &q->first;
	while (req) {
		struct io_req *next = req->next;

		req->result = rc;
		q->base.in_flight--;
		q->events -= req->op == IO_EVENT;
		count++;
		req->done(req);
		req = next;
	}
	return count;
}

static bool kernel_has_work(const struct uring_queue *q)
{
	unsigned flags = __atomic_load_n(q->ring.sq.kflags, __ATOMIC_RELAXED);

	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static int uring_poll(struct io_queue *base)
{
	struct uring_queue *q = uring_queue(base);
	int rc, count;

	if (!base->in_flight)
		return 0;
	rc = ring_ready(q);
	if (rc < 0)
		return fail_pending(q, rc);
	rc = uring_flush(base);
	if (rc < 0)
		return rc;
	if (kernel_has_work(q))
		io_uring_get_events(&q->ring);
	count = reap(q);
	if (q->first || q->unsubmitted) {
		rc = uring_flush(base);
		if (rc < 0 && !count)
			return rc;
	}
	return count;
}

/* Waits in the kernel for one completion. 0 one may be there; -ETIME; -errno. */
static int wait_one(struct uring_queue *q, uint64_t timeout_ns)
{
	struct io_uring_cqe *cqe = NULL;
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(timeout_ns / 1000000000),
		.tv_nsec = (long long)(timeout_ns % 1000000000),
	};
	int rc = io_uring_wait_cqes(&q->ring, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);

	return rc == -EINTR || rc == -EAGAIN || rc == -EBUSY ? 0 : rc;
}

static int uring_wait(struct io_queue *base, uint64_t timeout_ns)
{
	struct uring_queue *q = uring_queue(base);
	uint64_t start = timeout_ns == UINT64_MAX ? 0 : io_now_ns(base->env);

	for (;;) {
		uint64_t passed, left = UINT64_MAX;
		int rc = uring_poll(base);

		if (rc)
			return rc;
		if (!base->in_flight && timeout_ns == UINT64_MAX)
			return 0; /* nothing can ever come */
		if (timeout_ns != UINT64_MAX) {
			passed = io_now_ns(base->env) - start;
			if (passed >= timeout_ns)
				return 0;
			left = timeout_ns - passed;
		}
		rc = ring_ready(q);
		if (!rc)
			rc = wait_one(q, left);
		if (rc < 0 && rc != -ETIME)
			return rc;
	}
}

/* ---- cancelling ---- */

static int uring_cancel(struct io_queue *base, struct io_req *req)
{
	struct uring_queue *q = uring_queue(base);
	struct io_uring_sqe *sqe;
	int rc = uring_flush(base); /* what is to be cancelled must be in the kernel first */

	if (rc == 0)
		rc = ring_ready(q);
	if (rc < 0)
		return rc;
	sqe = q->first ? NULL : io_uring_get_sqe(&q->ring);
	if (!sqe)
		return -EBUSY;
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)req, 0);
	io_uring_sqe_set_data(sqe, NULL);
	q->in_kernel++;
	q->unsubmitted++;
	return 0;
}

/* ---- making and freeing ---- */

/* Nothing but IO_EVENT requests is in flight: they would wait for ever. */
static void cancel_events(struct uring_queue *q)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	if (!sqe)
		return;
	io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
	io_uring_sqe_set_data(sqe, NULL);
	q->in_kernel++;
	q->unsubmitted++;
}

static void uring_queue_free(struct io_queue *base)
{
	struct uring_queue *q = uring_queue(base);

	while (base->in_flight > q->events && uring_wait(base, UINT64_MAX) >= 0)
		;
	if (base->in_flight && !ring_ready(q)) {
		uring_flush(base);
		cancel_events(q);
		while (base->in_flight && uring_wait(base, UINT64_MAX) >= 0)
			;
	}
	if (q->ring_up) {
		/* The kernel takes a ring down at leisure: do not let it hold the LOCK descriptor meanwhile. */
		if (q->lock_registered)
			io_uring_unregister_files(&q->ring);
		io_uring_queue_exit(&q->ring);
	}
	free(q);
}

static const struct io_queue_ops uring_queue_ops = {
	.submit = uring_submit,
	.flush = uring_flush,
	.poll = uring_poll,
	.wait = uring_wait,
	.cancel = uring_cancel,
	.free = uring_queue_free,
};

static int uring_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	struct uring_queue *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return -ENOMEM;
	q->base.ops = &uring_queue_ops;
	q->base.env = env;
	q->last = &q->first;
	for (q->depth = DEPTH_MIN; q->depth < depth && q->depth < DEPTH_MAX; q->depth *= 2)
		;
	rc = ring_up(q);
	if (rc < 0) {
		free(q);
		return rc;
	}
	*out = &q->base;
	return 0;
}

static const struct io_env_ops uring_env_ops = {IO_DIR_OPS, .queue_new = uring_queue_new};

/* Words for why io_uring cannot be had: what the administrator would have to change. */
static void explain(int rc, char *reason, size_t size)
{
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
	char value[2] = "0";

	if (fd >= 0) {
		if (read(fd, value, 1) != 1)
			value[0] = '0';
		close(fd);
	}
	if (rc == -EPERM && value[0] != '0')
		snprintf(reason, size, "io_uring is forbidden: kernel.io_uring_disabled=%s", value);
	else if (rc == -EPERM || rc == -EACCES)
		snprintf(reason, size, "io_uring is forbidden: probably by a container's seccomp filter");
	else if (rc == -ENOSYS)
		snprintf(reason, size,
			 "this kernel has no io_uring, or one older than 5.11, or a seccomp filter hides it");
	else if (rc == -ENOMEM)
		snprintf(reason, size, "io_uring cannot get memory: the memlock limit (ulimit -l) is too low");
	else
		snprintf(reason, size, "io_uring cannot be set up: %s", strerror(-rc));
}

int io_uring_attach(struct io_env_real *real)
{
	/* Best first: 6.1 has all three; 5.19 can at least say in memory that it has work for us. */
	static const unsigned choices[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	struct io_uring ring;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
		rc = ring_init(&ring, DEPTH_MIN, choices[i]);
		if (!rc) {
			io_uring_queue_exit(&ring);
			real->ring_flags = choices[i];
			real->base.ops = &uring_env_ops;
			real->base.backend = "io_uring";
			return 0;
		}
		if (rc != -EINVAL)
			break;
	}
	explain(rc, real->base.reason, sizeof(real->base.reason));
	return rc;
}
