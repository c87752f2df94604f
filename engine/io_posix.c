/*
 * io_posix.c - the queue where io_uring is forbidden: operations run one after the other, by plain system calls, inside
 * flush, poll and wait. Only IO_EVENT really waits, and only in io_queue_wait; a loop that is too busy to wait looks
 * for events in io_queue_poll, at most every EVENT_LOOK_NS.
 */
#include "engine/io_real.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

enum { EVENT_LOOK_NS = 100000 };

struct posix_queue {
	struct io_queue base;
	uint64_t last_look;
	struct io_req *first, **last;		/* submitted, not yet run */
	struct io_req *done_first, **done_last; /* run, done() not yet called */
	struct io_req *events;			/* IO_EVENT requests that wait */
	unsigned event_count;
	struct pollfd *polls; /* scratch for poll(2), room for poll_cap */
	unsigned poll_cap;
};

static struct posix_queue *posix_queue(struct io_queue *q)
{
	return container_of(q, struct posix_queue, base);
}

/* Reads or writes until whole, failed, or at the end of the file. */
static int64_t transfer(const struct io_req *req)
{
	size_t at = 0;

	while (at < req->len) {
		char *p = (char *)req->buf + at;
		off_t offset = (off_t)(req->offset + at);
		ssize_t n = req->op == IO_READ ? pread(req->file->fd, p, req->len - at, offset)
					       : pwrite(req->file->fd, p, req->len - at, offset);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return req->op == IO_READ ? (int64_t)at : -EIO;
		at += (size_t)n;
	}
	return (int64_t)at;
}

static int64_t run(const struct io_req *req)
{
	int rc = 0;

	switch (req->op) {
	case IO_READ:
	case IO_WRITE:
		return transfer(req);
	case IO_FDATASYNC:
		rc = fdatasync(req->file->fd);
		break;
	case IO_ALLOCATE:
		do
			rc = fallocate(req->file->fd, FALLOC_FL_KEEP_SIZE, (off_t)req->offset, (off_t)req->len);
		while (rc && errno == EINTR);
		break;
	case IO_NOP:
	case IO_EVENT:
		break;
	}
	return rc ? -errno : 0;
}

static void finish(struct posix_queue *q, struct io_req *req, int64_t result)
{
	req->result = result;
	req->next = NULL;
	*q->done_last = req;
	q->done_last = &req->next;
}

static void posix_submit(struct io_queue *base, struct io_req *req)
{
	struct posix_queue *q = posix_queue(base);

	base->in_flight++;
	req->progress = 0;
	if (req->op == IO_EVENT) {
		req->next = q->events;
		q->events = req;
		q->event_count++;
		return;
	}
	req->next = NULL;
	*q->last = req;
	q->last = &req->next;
}

static int posix_flush(struct io_queue *base)
{
	struct posix_queue *q = posix_queue(base);
	struct io_req *req;

	while ((req = q->first)) {
		q->first = req->next;
		if (!q->first)
			q->last = &q->first;
		finish(q, req, run(req));
	}
	return 0;
}

/* Calls done() of what is done now; what done() submits waits for the next call. */
static int deliver(struct posix_queue *q)
{
	struct io_req *req = q->done_first;
	int count = 0;

	q->done_first = NULL;
	q->done_last = &q->done_first;
	while (req) {
		struct io_req *next = req->next;

		q->base.in_flight--;
		count++;
		req->done(req);
		req = next;
	}
	return count;
}

static int poll_room(struct posix_queue *q)
{
	struct pollfd *polls;

	if (q->event_count <= q->poll_cap)
		return 0;
	polls = realloc(q->polls, 2 * q->event_count * sizeof(*polls));
	if (!polls)
		return -ENOMEM;
	q->polls = polls;
	q->poll_cap = 2 * q->event_count;
	return 0;
}

/*
 * Never blocks, whatever O_NONBLOCK says: who else holds the eventfd (a client holds its doorbell) may clear that flag, and may read
 * the event away between our poll and this.
 */
static ssize_t read_event(const struct io_req *req)
{
	struct iovec v = {.iov_base = req->buf, .iov_len = sizeof(uint64_t)};

	return preadv2(req->fd, &v, 1, -1, RWF_NOWAIT);
}

/* Waits for events, at most @timeout, and finishes those that came. 0 or -errno; nothing came: 0. */
static int wait_events(struct posix_queue *q, const struct timespec *timeout)
{
	struct io_req **link = &q->events, *req;
	nfds_t n = 0;
	int rc;

	rc = poll_room(q);
	if (rc < 0)
		return rc;
	for (req = q->events; req; req = req->next)
		q->polls[n++] = (struct pollfd){.fd = req->fd, .events = POLLIN};
	rc = ppoll(q->polls, n, timeout, NULL);
	if (rc <= 0)
		return rc < 0 && errno != EINTR ? -errno : 0;
	for (nfds_t i = 0; (req = *link); i++) {
		ssize_t got;

		if (!q->polls[i].revents) {
			link = &req->next;
			continue;
		}
		got = q->polls[i].revents & POLLNVAL ? (errno = EBADF, -1) : read_event(req);
		if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
			link = &req->next;
			continue;
		}
		*link = req->next;
		q->event_count--;
		finish(q, req, got < 0 ? -errno : got);
	}
	return 0;
}

static int posix_poll(struct io_queue *base)
{
	struct posix_queue *q = posix_queue(base);

	posix_flush(base);
	if (q->events) {
		const struct timespec none = {0};
		uint64_t now = io_now_ns(base->env);

		if (now - q->last_look >= EVENT_LOOK_NS) {
			int rc = wait_events(q, &none);

			if (rc < 0)
				return rc;
			q->last_look = now;
		}
	}
	return deliver(q);
}

static int posix_wait(struct io_queue *base, uint64_t timeout_ns)
{
	const struct timespec none = {0};
	struct posix_queue *q = posix_queue(base);
	uint64_t start = timeout_ns == UINT64_MAX ? 0 : io_now_ns(base->env);

	posix_flush(base);
	if (q->done_first) {
		int rc = q->events ? wait_events(q, &none) : 0;

		return rc < 0 ? rc : deliver(q);
	}
	for (;;) {
		uint64_t passed = timeout_ns == UINT64_MAX ? 0 : io_now_ns(base->env) - start;
		uint64_t left = passed < timeout_ns ? timeout_ns - passed : 0;
		struct timespec ts = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
		int rc;

		if (!base->in_flight && timeout_ns == UINT64_MAX)
			return 0; /* nothing can ever come */
		rc = wait_events(q, timeout_ns == UINT64_MAX ? NULL : &ts);
		if (rc < 0)
			return rc;
		if (q->done_first)
			return deliver(q);
		if (!left)
			return 0;
	}
}

static int posix_cancel(struct io_queue *base, struct io_req *req)
{
	struct posix_queue *q = posix_queue(base);

	for (struct io_req **link = &q->events; *link; link = &(*link)->next) {
		if (*link != req)
			continue;
		*link = req->next;
		q->event_count--;
		finish(q, req, -ECANCELED);
		break;
	}
	return 0;
}

static void posix_queue_free(struct io_queue *base)
{
	struct posix_queue *q = posix_queue(base);
	struct io_req *req;

	while (q->first || q->done_first)
		posix_poll(base);
	while ((req = q->events)) {
		q->events = req->next;
		finish(q, req, -ECANCELED);
	}
	deliver(q);
	free(q->polls);
	free(q);
}

static const struct io_queue_ops posix_queue_ops = {
	.submit = posix_submit,
	.flush = posix_flush,
	.poll = posix_poll,
	.wait = posix_wait,
	.cancel = posix_cancel,
	.free = posix_queue_free,
};

static int posix_queue_new(struct io_env *env, unsigned depth, struct io_queue **out)
{
	struct posix_queue *q = calloc(1, sizeof(*q));

	(void)depth;
	if (!q)
		return -ENOMEM;
	q->base.ops = &posix_queue_ops;
	q->base.env = env;
	q->last = &q->first;
	q->done_last = &q->done_first;
	*out = &q->base;
	return 0;
}

static const struct io_env_ops posix_env_ops = {IO_DIR_OPS, .queue_new = posix_queue_new};

void io_posix_attach(struct io_env_real *real)
{
	real->base.ops = &posix_env_ops;
	real->base.backend = "posix";
}
