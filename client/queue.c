/*
 * queue.c - the caller's side of a queue: submit, collect, wait, cancel.
 *
 * The event descriptor is an epoll instance of its own, which lasts as long as the queue while sessions come and go. In it: the session's socket, over which the
 * daemon sends a byte once it was asked to (PARK_SOCKET), and which hangs up with it; and a timer, for what no daemon tells: when to look for a
 * successor, and deadlines.
 *
 * No wake-up is lost because shale_arm first empties the socket, then asks for a byte, then looks for completions; a byte that comes after that is
 * there until the next shale_poll or shale_arm, which is the next thing the caller does when it wakes.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/multiget.h"
#include "client/queue.h"
#include "client/write.h"

enum {
	IN_FLIGHT = 256,
	IN_FLIGHT_MAX = 4000,
	PENDING = 16384,
	IDLE_POLLS = 64,	      /* without a completion, between two looks at the clock */
	LOOK_NS = 2 * 1000 * 1000,    /* between two looks at the socket */
	SLICE_NS = 100 * 1000 * 1000, /* of a sleep: a killed daemon wakes nobody */
	SPINS_PER_CLOCK = 64,
	YIELD_NS = 2000,
};

/* ---- beginning and end ---- */

static int make_event(struct shale_queue *q)
{
	struct epoll_event event = {.events = EPOLLIN};

	q->epoll = epoll_create1(EPOLL_CLOEXEC);
	q->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (q->epoll < 0 || q->timer < 0 || epoll_ctl(q->epoll, EPOLL_CTL_ADD, q->timer, &event) < 0)
		return fail(q->db, -errno, "queue: no descriptors for its event: %s", shale_strerror(-errno));
	return 0;
}

static void queue_free(struct shale_queue *q)
{
	bool forked = check_fork(q->db) < 0;

	channel_close(&q->ch, forked);
	for (uint32_t i = 0; i < q->used; i++) {
		free(q->ops[i].payload);
		if (q->ops[i].state == OP_DONE)
			free(q->ops[i].value);
	}
	if (q->epoll >= 0)
		close(q->epoll);
	if (q->timer >= 0)
		close(q->timer);
	free(q->ops);
	free(q->slots);
	free(q->extents);
	free(q);
}

static int queue_new(struct shale_db *db, const struct shale_queue_options *o, struct shale_queue **out)
{
	struct shale_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return fail(db, -ENOMEM, "queue: out of memory");
	q->db = db;
	q->in_flight_wanted = o->in_flight ? o->in_flight : IN_FLIGHT;
	q->max = o->max_pending ? o->max_pending : PENDING;
	q->arena_wanted = o->arena_bytes ? max_size(o->arena_bytes, ARENA_SIZE_MIN)
					 : max_size((size_t)q->in_flight_wanted * 2 * QUEUE_SLOT, ARENA_SIZE_MIN);
	q->arena_wanted = align_up(q->arena_wanted, SHM_PAGE);
	q->epoll = q->timer = -1;
	q->free_head = OP_NONE;
	q->pending = q->done = (struct op_list){OP_NONE, OP_NONE};
	q->check_ns = UINT64_MAX;
	q->ticket = PARK_FUTEX;
	q->step_ms = 1;
	channel_init(&q->ch);
	q->ops = calloc((size_t)q->max + q->in_flight_wanted, sizeof(*q->ops));
	q->slots = calloc(q->in_flight_wanted, sizeof(*q->slots));
	q->extents = calloc((size_t)q->in_flight_wanted + 1, sizeof(*q->extents));
	if (!q->ops || !q->slots || !q->extents) {
		queue_free(q);
		return fail(db, -ENOMEM, "queue: no memory for %u operations", q->max);
	}
	*out = q;
	return 0;
}

int shale_queue_open(struct shale_db *db, const struct shale_queue_options *options, struct shale_queue **queue_out)
{
	struct err_info err = {0, ""};
	struct shale_queue_options o;
	struct shale_queue *q = NULL;
	int rc = check_fork(db);

	if (rc == 0)
		rc = options_copy(db, &o, sizeof(o), options);
	if (rc < 0)
		return rc;
	if (o.in_flight > IN_FLIGHT_MAX || o.max_pending > UINT32_MAX / 4 || o.arena_bytes > ARENA_SIZE_MAX)
		return fail(db, -EINVAL, "queue: in_flight is at most %d, max_pending %u, arena_bytes %d",
			    IN_FLIGHT_MAX, UINT32_MAX / 4, ARENA_SIZE_MAX);
	rc = queue_new(db, &o, &q);
	if (rc < 0)
		return rc;
	rc = make_event(q);
	if (rc == 0) {
		rc = flight_open(q, &err);
		if (rc < 0)
			fail(db, rc, "queue: %s", err.text);
	}
	if (rc < 0) {
		queue_free(q);
		return rc;
	}
	*queue_out = q;
	return 0;
}

void shale_queue_close(struct shale_queue *queue)
{
	if (queue)
		queue_free(queue);
}

size_t shale_queue_pending(const struct shale_queue *queue)
{
	return queue->count;
}

int shale_event_fd(const struct shale_queue *queue)
{
	return queue->epoll;
}

/* ---- submit ---- */

/* What each submission begins with. 0 or a failure with words. */
static int may_submit(const struct shale_queue *q, const char *what)
{
	int rc = check_fork(q->db);

	if (unlikely(rc == 0 && q->count >= q->max))
		rc = fail(q->db, -EAGAIN, "%s: %u operations of this queue have not been collected (max_pending)", what,
			  q->count);
	return rc;
}

/* The copy of @key and what follows waits in memory until there is room in the ring. */
static int gather(struct op *op, const struct slice *parts, unsigned count)
{
	unsigned char *to;

	if (op->payload || op->in_len == 0)
		return 0;
	to = op->payload = malloc(op->in_len);
	if (!to)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		if (parts[i].size)
			memcpy(to, parts[i].data, parts[i].size);
		to += parts[i].size;
	}
	return 0;
}

/* Takes @op->payload, if there is one, in any case. */
static int submit(struct shale_queue *q, struct op *like, const char *what, uint64_t deadline_us,
		  const struct slice *parts, unsigned count)
{
	struct op *op = op_new(q);
	int rc = -EAGAIN;

	*op = *like;
	if (!deadline_us)
		deadline_us = q->db->deadline_us;
	if (deadline_us) {
		op->deadline_ns = deadline_after(deadline_us);
		q->check_ns = op->deadline_ns < q->check_ns ? op->deadline_ns : q->check_ns;
	}
	for (unsigned i = 0; i < count; i++)
		op->in_len += (uint32_t)parts[i].size;
	q->count++;
	if (likely(q->pending.head == OP_NONE && q->ch.socket >= 0 && ring_client_state(&q->ch.ring) == CHANNEL_OPEN))
		rc = flight_issue(q, op, parts, count);
	if (likely(rc == 0))
		return 0;
	if (rc != -EAGAIN) {
		op_finish(q, op, rc); /* a failure of the operation, not of submitting it */
		return 0;
	}
	rc = gather(op, parts, count);
	if (rc < 0) {
		q->count--;
		op_free(q, op);
		return fail(q->db, rc, "%s: no memory for its bytes", what);
	}
	op->state = OP_PENDING;
	op_push_back(q, &q->pending, op);
	return 0;
}

static int read_options(const struct shale_queue *q, const char *what, const struct shale_read_options *options,
			struct shale_read_options *o)
{
	int rc = options_copy(q->db, o, sizeof(*o), options);

	if (rc == 0 && o->sequence_out)
		rc = fail(q->db, -EINVAL, "%s: sequence_out must be NULL; the completion has the sequence", what);
	return rc;
}

/* A get into the caller's buffer of what was read lately is done at once, without the daemon (shm/row_cache.h). False: it has to be asked. */
static bool answer_at_once(struct shale_queue *q, const struct shale_read_options *o, struct slice key, void *buf,
			   size_t cap, void *user)
{
	uint64_t sequence = 0;
	size_t len = 0;
	struct op *op;
	int rc;

	if (!buf || o->snapshot || q->ch.socket < 0 || ring_client_state(&q->ch.ring) != CHANNEL_OPEN)
		return false;
	rc = row_reader_get(&q->ch.rows, key, buf, cap, &len, &sequence);
	if (rc == ROW_MISS)
		return false;
	op = op_new(q);
	*op = (struct op){.user = user, .opcode = OP_GET, .len = len, .sequence = rc == 0 ? sequence : 0};
	q->count++;
	op_finish(q, op, rc);
	return true;
}

int shale_submit_get(struct shale_queue *queue, const struct shale_read_options *options, const void *key,
		     size_t key_len, void *buf, size_t cap, void *user)
{
	struct slice part = slice_of(key, key_len);
	struct shale_read_options o;
	int rc = may_submit(queue, "get");

	if (likely(rc == 0))
		rc = check_key(queue->db, "get", key, key_len);
	if (likely(rc == 0))
		rc = read_options(queue, "get", options, &o);
	if (unlikely(rc < 0))
		return rc;
	if (answer_at_once(queue, &o, part, buf, cap, user))
		return 0;
	return submit(queue,
		      &(struct op){.user = user,
				   .opcode = OP_GET,
				   .flags = o.no_fill_cache ? SQE_NO_FILL : 0,
				   .snapshot = o.snapshot,
				   .buf = buf,
				   .cap = cap},
		      "get", o.deadline_us, &part, 1);
}

int shale_submit_multiget(struct shale_queue *queue, const struct shale_read_options *options, size_t count,
			  const struct shale_slice *keys, struct shale_value *values, void *user)
{
	struct op op = {.user = user, .opcode = OP_MULTIGET, .buf = values, .cap = count};
	struct shale_read_options o;
	size_t size;
	int rc = may_submit(queue, "multiget");

	if (rc == 0)
		rc = multiget_size(queue->db, count, keys, &size);
	if (rc == 0)
		rc = read_options(queue, "multiget", options, &o);
	if (rc < 0)
		return rc;
	if (count > MULTIGET_MAX || size > atomic_load_explicit(&queue->db->max_request, memory_order_relaxed))
		return fail(queue->db, -E2BIG, "multiget: %zu keys of %zu bytes are too many for one request", count,
			    size);
	op.payload = malloc(size);
	if (!op.payload)
		return fail(queue->db, -ENOMEM, "multiget: no memory for %zu keys", count);
	multiget_encode(op.payload, count, keys);
	op.in_len = (uint32_t)size;
	op.flags = o.no_fill_cache ? SQE_NO_FILL : 0;
	op.snapshot = o.snapshot;
	return submit(queue, &op, "multiget", o.deadline_us, NULL, 0);
}

/* A write of @size bytes in @parts, the first @extra_len of them conditions. */
static int submit_write(struct shale_queue *q, const char *what, const struct shale_write_options *options, size_t size,
			const struct slice *parts, unsigned count, size_t extra_len, void *user)
{
	struct shale_write_options o;
	struct call call;
	int rc = write_prepare(q->db, what, options, size, &o, &call);

	if (likely(rc == 0) && (o.mismatch_out || o.mismatch_sequence_out))
		rc = fail(q->db, -EINVAL,
			  "%s: mismatch_out and mismatch_sequence_out must be NULL; the completion tells", what);
	if (unlikely(rc < 0))
		return rc;
	return submit(
		q,
		&(struct op){.user = user, .opcode = OP_WRITE, .flags = call.flags, .extra_len = (uint32_t)extra_len},
		what, o.deadline_us, parts, count);
}

int shale_submit_put(struct shale_queue *queue, const struct shale_write_options *options, const void *key,
		     size_t key_len, const void *value, size_t value_len, void *user)
{
	unsigned char head[FRAME_MAX], middle[VARINT64_MAX];
	struct slice part[4];
	int rc = may_submit(queue, "put");

	if (likely(rc == 0))
		rc = check_key(queue->db, "put", key, key_len);
	if (likely(rc == 0) && unlikely(!value && value_len))
		rc = fail(queue->db, -EINVAL, "put: the value is NULL but %zu bytes long", value_len);
	if (unlikely(rc < 0))
		return rc;
	part[0] = slice_of(head, write_frame(head, BATCH_PUT, key_len));
	part[1] = slice_of(key, key_len);
	part[2] = slice_of(middle, (size_t)(varint32_put(middle, (uint32_t)value_len) - middle));
	part[3] = slice_of(value, value_len);
	return submit_write(queue, "put", options, write_put_size(key_len, value_len), part, 4, 0, user);
}

int shale_submit_delete(struct shale_queue *queue, const struct shale_write_options *options, const void *key,
			size_t key_len, void *user)
{
	unsigned char head[FRAME_MAX];
	struct slice part[2];
	int rc = may_submit(queue, "delete");

	if (likely(rc == 0))
		rc = check_key(queue->db, "delete", key, key_len);
	if (unlikely(rc < 0))
		return rc;
	part[0] = slice_of(head, write_frame(head, BATCH_DELETE, key_len));
	part[1] = slice_of(key, key_len);
	return submit_write(queue, "delete", options, BATCH_HEADER_SIZE + batch_delete_size(key_len), part, 2, 0, user);
}

int shale_submit_write(struct shale_queue *queue, const struct shale_write_options *options,
		       const struct shale_batch *batch, void *user)
{
	struct slice part[2] = {batch_conditions(batch), batch_writes(batch)};
	int rc = may_submit(queue, "write");

	if (rc < 0)
		return rc;
	return submit_write(queue, "write", options, shale_batch_bytes(batch), part, 2, part[0].size, user);
}

int shale_submit_ping(struct shale_queue *queue, void *user)
{
	int rc = may_submit(queue, "ping");

	return rc < 0 ? rc : submit(queue, &(struct op){.user = user, .opcode = OP_NOP}, "ping", 0, NULL, 0);
}

int shale_cancel(struct shale_queue *queue, const void *user)
{
	int n = 0, rc = check_fork(queue->db);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < queue->used; i++) {
		struct op *op = &queue->ops[i];

		if (op->user != user || op->cancelled)
			continue;
		if (op->state == OP_PENDING) {
			op_unlink(queue, op);
			op_finish(queue, op, -ECANCELED);
			n++;
		} else if (op->state == OP_FLYING) {
			flight_cancel(queue, op);
			n++;
		}
	}
	flight_publish(queue);
	return n;
}

/* ---- collect ---- */

/* Empties the socket of wake-up bytes. */
static void drain(struct shale_queue *q)
{
	char bytes[16];
	ssize_t n;

	while (q->ch.socket >= 0) {
		n = recv(q->ch.socket, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		if (n == 0 || errno != EAGAIN)
			flight_look(q, true);
		return;
	}
}

/* No more wake-ups for now: the caller is here. */
static void disarm(struct shale_queue *q)
{
	uint64_t count;
	ssize_t ignored;

	if (!q->armed)
		return;
	q->armed = false;
	if (q->ch.socket >= 0)
		ring_client_disarm(&q->ch.ring);
	drain(q);
	if (q->timer_ns && monotonic_ns() >= q->timer_ns) {
		ignored = read(q->timer, &count, sizeof(count));
		(void)ignored; /* it has not fired yet: then it will */
		q->timer_ns = 0;
	}
}

/* Moves what is done to the caller. */
static uint32_t hand_over(struct shale_queue *q, struct shale_completion *out, uint32_t max)
{
	uint32_t n = 0;

	for (; n < max && q->done.head != OP_NONE; n++) {
		struct op *op = &q->ops[q->done.head];

		q->done.head = op->next;
		if (op->next == OP_NONE)
			q->done.tail = OP_NONE;
		out[n] = (struct shale_completion){op->user, op->result, op->len, op->value, op->sequence, {0, 0}};
		op_free(q, op);
	}
	q->count -= n;
	return n;
}

/* Nothing came: now and then, is it because nothing can come? */
static void idle(struct shale_queue *q)
{
	uint64_t now;

	flight_look(q, false);
	if (++q->idle_polls % IDLE_POLLS)
		return;
	now = monotonic_ns();
	flight_expire(q, now);
	if (now - q->looked_ns >= LOOK_NS) {
		q->looked_ns = now;
		flight_look(q, true);
	}
}

int shale_poll(struct shale_queue *queue, struct shale_completion *out, size_t max)
{
	uint32_t most = (uint32_t)min_size(max, INT32_MAX), n;
	int rc = check_fork(queue->db);

	if (unlikely(rc < 0))
		return rc;
	disarm(queue);
	if (most && flight_collect(queue, most) == 0 && queue->count > 0)
		idle(queue);
	n = hand_over(queue, out, most);
	if (unlikely(queue->pending.head != OP_NONE || queue->cancels_waiting))
		flight_issue_pending(queue);
	flight_publish(queue);
	return (int)n;
}

/* ---- wait ---- */

/* When to look again although nothing came: a deadline, the next try to find a daemon. UINT64_MAX: no reason. */
static uint64_t next_event(const struct shale_queue *q)
{
	uint64_t next = q->check_ns;

	if (q->ch.socket < 0 && q->pending.head != OP_NONE && q->retry_ns < next)
		next = q->retry_ns;
	return next;
}

/* Sleeps until a completion may be there, or @until_ns. */
static void sleep_until(struct shale_queue *q, uint64_t until_ns)
{
	uint64_t now = monotonic_ns(), next = next_event(q), wait = SLICE_NS;

	if (next < until_ns)
		until_ns = next;
	if (until_ns <= now)
		return;
	if (until_ns - now < wait)
		wait = until_ns - now;
	if (q->ch.socket >= 0) {
		ring_client_park(&q->ch.ring, wait);
		flight_look(q, true);
	} else {
		nanosleep(&(struct timespec){0, (long)wait}, NULL);
	}
}

/* Spins for a completion as long as that has paid off. */
static bool spin(struct shale_queue *q)
{
	uint64_t start = 0, now = 0;

	if (q->ch.socket < 0 || q->ch.spin.budget_ns == 0)
		return false;
	for (unsigned n = 1; !ring_cq_peek(&q->ch.ring); n++) {
		if (n % SPINS_PER_CLOCK == 0) {
			now = monotonic_ns();
			start = start ? start : now;
			if (now - start >= q->ch.spin.budget_ns) {
				spinner_miss(&q->ch.spin);
				return false;
			}
			if (now - start >= YIELD_NS)
				sched_yield(); /* as in call.c: the daemon may have no core */
		}
		cpu_relax();
	}
	spinner_hit(&q->ch.spin, now - start);
	return true;
}

int shale_wait(struct shale_queue *queue, struct shale_completion *out, size_t max, uint64_t timeout_us)
{
	uint64_t until = 0;

	for (;;) {
		int n = shale_poll(queue, out, max);

		if (n != 0 || queue->count == 0 || max == 0)
			return n;
		if (queue->done.head != OP_NONE || spin(queue))
			continue;
		if (!until)
			until = timeout_us == UINT64_MAX ? UINT64_MAX : deadline_after(timeout_us);
		if (monotonic_ns() >= until)
			return shale_poll(queue, out, max);
		sleep_until(queue, until);
		flight_expire(queue, monotonic_ns());
	}
}

/* Sets the timer in the event descriptor to @at_ns (UINT64_MAX: none). */
static void set_timer(struct shale_queue *q, uint64_t at_ns)
{
	struct itimerspec spec = {{0, 0}, {0, 0}};

	if (at_ns == UINT64_MAX)
		at_ns = 0;
	else if (at_ns == 0)
		at_ns = 1; /* long ago: at once */
	if (at_ns == q->timer_ns)
		return;
	q->timer_ns = at_ns;
	spec.it_value.tv_sec = (time_t)(at_ns / 1000000000);
	spec.it_value.tv_nsec = (long)(at_ns % 1000000000);
	timerfd_settime(q->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

int shale_arm(struct shale_queue *queue)
{
	int rc = check_fork(queue->db);

	if (rc < 0)
		return rc;
	disarm(queue);
	flight_expire(queue, monotonic_ns());
	flight_issue_pending(queue);
	flight_publish(queue);
	drain(queue);
	if (queue->done.head != OP_NONE)
		return 1;
	if (queue->ch.socket >= 0) {
		queue->ticket = queue->ticket == UINT32_MAX ? PARK_SOCKET : queue->ticket + 1;
		if (!ring_client_arm(&queue->ch.ring, queue->ticket))
			return 1;
	}
	set_timer(queue, next_event(queue));
	queue->armed = true;
	return 0;
}
