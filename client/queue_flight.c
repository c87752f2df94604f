/*
 * queue_flight.c - operations of a queue on their way: into the ring, out of it, and through the daemon's death.
 *
 * sqe.user_data is (round << 32 | index of the op). Rounds count issues, so an answer to an operation that has been given up since is recognised
 * and dropped. CANCEL requests have no op: their index is OP_NONE. A few entries of the ring are kept for them, because the daemon takes no more
 * requests than the ring has entries, and a queue full of stalled writes would otherwise lock out the cancel that is to free it.
 *
 * What becomes of operations in flight when the daemon goes away follows call.c: not taken, or a read: pending again, before all others and in
 * the order in which they were; a write that was taken: -SHALE_EUNKNOWN.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "client/multiget.h"
#include "client/queue.h"

enum {
	CANCEL_ENTRIES = 8,
	PUBLISH_BATCH = 16, /* submissions that wait for company: each publication moves a cache line to the daemon */
	GRACE_NS = 5 * 1000 * 1000, /* as in call.c: the daemon's own -ETIMEDOUT is better, for it ends the request */
	CONNECT_MS = 100,
	VALUE_GUESS = 240, /* bytes of one value of a MULTIGET, before anything is known */
};

static uint32_t index_of(const struct shale_queue *q, const struct op *op)
{
	return (uint32_t)(op - q->ops);
}

/* ---- lists ---- */

void op_push_back(struct shale_queue *q, struct op_list *list, struct op *op)
{
	op->next = OP_NONE;
	op->prev = list->tail;
	if (list->tail == OP_NONE)
		list->head = index_of(q, op);
	else
		q->ops[list->tail].next = index_of(q, op);
	list->tail = index_of(q, op);
}

static void push_front(struct shale_queue *q, struct op_list *list, struct op *op)
{
	op->prev = OP_NONE;
	op->next = list->head;
	if (list->head == OP_NONE)
		list->tail = index_of(q, op);
	else
		q->ops[list->head].prev = index_of(q, op);
	list->head = index_of(q, op);
}

void op_unlink(struct shale_queue *q, struct op *op)
{
	if (op->prev == OP_NONE)
		q->pending.head = op->next;
	else
		q->ops[op->prev].next = op->next;
	if (op->next == OP_NONE)
		q->pending.tail = op->prev;
	else
		q->ops[op->next].prev = op->prev;
}

struct op *op_new(struct shale_queue *q)
{
	struct op *op = &q->ops[q->free_head == OP_NONE ? q->used : q->free_head];

	assert(q->free_head != OP_NONE || q->used < q->max + q->in_flight_wanted);
	if (q->free_head == OP_NONE)
		q->used++;
	else
		q->free_head = op->next;
	*op = (struct op){.state = OP_FREE};
	return op;
}

void op_free(struct shale_queue *q, struct op *op)
{
	free(op->payload);
	op->payload = NULL;
	op->state = OP_FREE;
	op->next = q->free_head;
	q->free_head = index_of(q, op);
}

void op_finish(struct shale_queue *q, struct op *op, int result)
{
	free(op->payload);
	op->payload = NULL;
	op->result = result;
	op->state = OP_DONE;
	if (op->cancel_waits)
		q->cancels_waiting--;
	op->cancel_waits = false;
	op_push_back(q, &q->done, op);
}

/* Makes an operation that has no room in the ring wait for it. Its payload is copied. */
static int keep_payload(struct op *op, const unsigned char *from)
{
	if (op->payload || !op->in_len)
		return 0;
	op->payload = malloc(op->in_len);
	if (!op->payload)
		return -ENOMEM;
	memcpy(op->payload, from, op->in_len);
	return 0;
}

/* A FLYING operation, whose area is still to be given back, is asked again. */
static void ask_again(struct shale_queue *q, struct op *op)
{
	int rc = keep_payload(op, q->ch.arena + op->area.off);

	if (rc < 0) {
		op_finish(q, op, rc);
		return;
	}
	op->state = OP_PENDING;
	push_front(q, &q->pending, op);
}

/* ---- into the ring ---- */

static int check_snapshot(struct shale_queue *q, const struct op *op)
{
	const struct shale_snapshot *s = op->snapshot;
	bool alive;

	if (likely(!s))
		return 0;
	alive = snapshot_alive(q->db, s);
	if (likely(alive && !memcmp(s->boot_id, q->ch.boot_id, sizeof(s->boot_id))))
		return 0;
	q->must_look = alive && channel_hung_up(&q->ch); /* then it is this session that is out of date */
	return q->must_look ? -EAGAIN : -SHALE_EOUSTED;
}

/* Room for the answer that is worth trying: what is known to be needed, else what the caller has, or a guess. */
static size_t room_wanted(const struct shale_queue *q, const struct op *op)
{
	size_t in = align_up(op->in_len, SHM_LINE), most = area_max(q) > in ? area_max(q) - in : 0;
	size_t slot = in < QUEUE_SLOT ? QUEUE_SLOT - in : 0;

	if (op->out_need)
		return op->out_need;
	if (op->opcode == OP_GET)
		return op->buf ? min_size(op->cap, slot) : slot;
	if (op->opcode == OP_MULTIGET)
		return min_size(max_size(slot, op->cap * VALUE_GUESS), most);
	return 0;
}

/* No room for @size bytes now: 0 to wait for it, or why there will never be any. */
static int outgrown(struct shale_queue *q, size_t size)
{
	/* So that this much is left beside the slots, which take half at most. */
	size_t want = align_up(size + min_size(size, (size_t)q->in_flight_wanted * QUEUE_SLOT), SHM_PAGE);

	if (size <= area_max(q) || size <= QUEUE_SLOT)
		return -EAGAIN;
	if (size > arena_limit(q->db) || want <= q->arena_asked)
		return -E2BIG; /* the daemon would give no more, or gave less than it was asked for */
	q->arena_wanted = max_size(want, q->arena_wanted);
	return -EAGAIN;
}

int flight_issue(struct shale_queue *q, struct op *op, const struct slice *parts, unsigned count)
{
	struct channel *ch = &q->ch;
	size_t in = align_up(op->in_len, SHM_LINE), room;
	unsigned char *to;
	int rc;

	if (unlikely(ch->socket < 0 || q->flying >= q->in_flight_limit || ring_sq_room(&ch->ring) == q->unpublished))
		return -EAGAIN;
	rc = check_snapshot(q, op);
	if (unlikely(rc < 0))
		return rc;
	room = room_wanted(q, op);
	if (unlikely(!area_take(q, in + room, &op->area)))
		return outgrown(q, in + room);
	to = ch->arena + op->area.off;
	if (op->payload)
		memcpy(to, op->payload, op->in_len);
	for (unsigned i = 0; i < count; i++) {
		if (parts[i].size)
			memcpy(to, parts[i].data, parts[i].size);
		to += parts[i].size;
	}
	free(op->payload);
	op->payload = NULL;
	op->state = OP_FLYING;
	op->round = ++q->rounds;
	op->room = (uint32_t)room;
	op->position = ch->ring.sq_tail + q->unpublished;
	*ring_sq_slot(&ch->ring, q->unpublished) = (struct sqe){
		.user_data = (uint64_t)op->round << 32 | index_of(q, op),
		.session = ch->session,
		.op = op->opcode,
		.flags = op->flags,
		.in_len = op->in_len,
		.in_off = op->in_len ? op->area.off : 0,
		.out_off = room ? op->area.off + in : 0,
		.out_len = op->room,
		.extra_len = op->extra_len,
		.sequence = op->snapshot ? op->snapshot->sequence : 0,
		.deadline_ns = channel_deadline(ch, op->deadline_ns),
	};
	q->flying++;
	/* The first one starts at once; those that follow while it is under way go together. */
	if (++q->unpublished >= PUBLISH_BATCH || q->flying == 1)
		flight_publish(q);
	return 0;
}

void flight_publish(struct shale_queue *q)
{
	uint32_t n = q->unpublished;

	if (n == 0)
		return;
	q->unpublished = 0;
	if (ring_sq_publish(&q->ch.ring, n))
		channel_ring(&q->ch);
}

static bool send_cancel(struct shale_queue *q, struct op *op)
{
	struct channel *ch = &q->ch;

	if (q->flying + q->cancels >= ch->ring.entries || ring_sq_room(&ch->ring) == q->unpublished)
		return false;
	*ring_sq_slot(&ch->ring, q->unpublished) = (struct sqe){
		.user_data = (uint64_t)op->round << 32 | OP_NONE,
		.session = ch->session,
		.op = OP_CANCEL,
		.sequence = (uint64_t)op->round << 32 | index_of(q, op),
	};
	q->unpublished++;
	q->cancels++;
	return true;
}

void flight_cancel(struct shale_queue *q, struct op *op)
{
	op->cancelled = true;
	if (!op->cancel_waits && !send_cancel(q, op)) {
		op->cancel_waits = true;
		q->cancels_waiting++;
	}
}

static void send_waiting_cancels(struct shale_queue *q)
{
	for (uint32_t i = 0; i < q->used && q->cancels_waiting > 0; i++) {
		if (!q->ops[i].cancel_waits)
			continue;
		if (!send_cancel(q, &q->ops[i]))
			return;
		q->ops[i].cancel_waits = false;
		q->cancels_waiting--;
	}
}

/* ---- sessions ---- */

static void disconnect(struct shale_queue *q)
{
	/* By name: a forked child may still hold the socket, and then closing ours would not take it out. */
	if (q->ch.socket >= 0)
		epoll_ctl(q->epoll, EPOLL_CTL_DEL, q->ch.socket, NULL);
	channel_close(&q->ch, false);
	q->unpublished = q->cancels = 0;
	q->armed = false;
	q->retry_ns = 0;
	q->step_ms = 1;
}

static int connect_session(struct shale_queue *q, unsigned timeout_ms, struct err_info *err)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
	uint32_t entries = RING_ENTRIES_MIN;
	int rc;

	while (entries < q->in_flight_wanted + CANCEL_ENTRIES)
		entries *= 2;
	rc = channel_connect(q->db, &q->ch, entries, q->arena_wanted, timeout_ms, err);
	if (rc < 0)
		return rc;
	if (epoll_ctl(q->epoll, EPOLL_CTL_ADD, q->ch.socket, &event) < 0) {
		rc = err_set(err, -errno, "queue: the session's socket cannot be watched: %s", shale_strerror(-errno));
		channel_close(&q->ch, false);
		return rc;
	}
	entries = q->ch.ring.entries;
	q->in_flight_limit = (uint32_t)min_size(q->in_flight_wanted, entries - min_size(CANCEL_ENTRIES, entries / 4));
	q->arena_asked = q->arena_wanted;
	q->looked_ns = monotonic_ns();
	areas_reset(q);
	return 0;
}

int flight_open(struct shale_queue *q, struct err_info *err)
{
	uint64_t until = monotonic_ns() + (uint64_t)q->db->reconnect_ms * 1000000;
	unsigned step_ms = 1;

	for (;;) {
		uint64_t now = monotonic_ns();
		int rc = connect_session(q, now < until ? (unsigned)((until - now) / 1000000 + 1) : 1, err);

		if (rc == 0 || (!connect_may_retry(rc) && rc != -SHALE_ENOTSHALE) || monotonic_ns() >= until)
			return rc;
		backoff(&step_ms, until);
	}
}

static void fail_pending(struct shale_queue *q, int code)
{
	while (q->pending.head != OP_NONE) {
		struct op *op = &q->ops[q->pending.head];

		op_unlink(q, op);
		op_finish(q, op, code);
	}
}

/* One try to get a session for what is pending, when it is time for one. */
static void reconnect(struct shale_queue *q)
{
	struct err_info err = {0, ""};
	uint64_t now = monotonic_ns();
	int rc;

	if (now < q->retry_ns)
		return;
	if (!q->give_up_ns)
		q->give_up_ns = now + (uint64_t)q->db->reconnect_ms * 1000000;
	rc = connect_session(q, CONNECT_MS, &err);
	if (rc == 0)
		return;
	now = monotonic_ns();
	if ((!connect_may_retry(rc) && rc != -SHALE_ENOTSHALE) || now >= q->give_up_ns) {
		fail_pending(q, connect_may_retry(rc) ? -EPIPE : rc);
		q->give_up_ns = 0;
		return;
	}
	q->retry_ns = now + (uint64_t)q->step_ms * 1000000;
	q->step_ms = q->step_ms >= 25 ? 50 : q->step_ms * 2;
}

/* Without a usable session, makes one when it is time for that. True: there is one. */
static bool session_ready(struct shale_queue *q)
{
	if (q->must_look)
		flight_look(q, true);
	q->must_look = false;
	/* It ends, or is too small. While something is in flight it stays, for the answers; the rest is for the next one. */
	if (q->ch.socket >= 0 && (ring_client_state(&q->ch.ring) != CHANNEL_OPEN || q->arena_wanted > q->arena_asked)) {
		if (q->flying > 0)
			return false;
		disconnect(q);
	}
	if (q->ch.socket < 0)
		reconnect(q);
	return q->ch.socket >= 0;
}

void flight_issue_pending(struct shale_queue *q)
{
	if (q->cancels_waiting)
		send_waiting_cancels(q);
	while (q->pending.head != OP_NONE && session_ready(q)) {
		struct op *op = &q->ops[q->pending.head];
		bool fits = q->arena_wanted <= q->arena_asked;
		int rc = flight_issue(q, op, NULL, 0);

		if (rc == -EAGAIN) {
			if (fits && q->arena_wanted > q->arena_asked)
				continue; /* it wants a larger arena */
			return;
		}
		op_unlink(q, op); /* flight_issue() leaves the links alone */
		if (rc < 0)
			op_finish(q, op, rc);
	}
}

/* ---- out of the ring ---- */

/* The answer of a GET or MULTIGET, from the arena to where the caller wants it. */
static int deliver(struct shale_queue *q, struct op *op, size_t len)
{
	const unsigned char *from = q->ch.arena + op->area.off + align_up(op->in_len, SHM_LINE);

	if (op->opcode == OP_MULTIGET)
		return multiget_decode(from, len, op->cap, op->buf, &op->value);
	if (op->buf) {
		memcpy(op->buf, from, min_size(len, min_size(op->cap, op->room)));
		return 0;
	}
	op->value = malloc(len + 1);
	if (!op->value)
		return -ENOMEM;
	memcpy(op->value, from, len);
	((unsigned char *)op->value)[len] = '\0';
	return 0;
}

/* True when the answer did not fit and the operation was set on its way again. */
static bool asks_for_room(struct shale_queue *q, struct op *op, const struct cqe *cqe)
{
	size_t want = op->opcode == OP_GET && op->buf ? min_size(op->cap, cqe->len) : cqe->len;

	if (cqe->res != 0 || want <= op->room || (op->opcode != OP_GET && op->opcode != OP_MULTIGET))
		return false;
	op->out_need = (uint32_t)want;
	if (op->cancelled)
		op_finish(q, op, -ECANCELED);
	else
		ask_again(q, op);
	return true;
}

static bool on_completion(struct shale_queue *q, const struct cqe *cqe)
{
	uint32_t index = (uint32_t)cqe->user_data;
	struct op *op;
	int rc = cqe->res;

	if (index == OP_NONE) {
		q->cancels -= q->cancels > 0;
		return false;
	}
	op = index < q->used ? &q->ops[index] : NULL;
	if (!op || op->round != (uint32_t)(cqe->user_data >> 32) || (op->state != OP_FLYING && op->state != OP_LATE))
		return false; /* no request of ours */
	q->flying--;
	q->give_up_ns = 0;
	if (op->state == OP_LATE) {
		area_give(q, &op->area);
		op_free(q, op);
		return false;
	}
	if (asks_for_room(q, op, cqe)) {
		area_give(q, &op->area);
		return op->state == OP_DONE;
	}
	op->len = cqe->len;
	op->sequence = cqe->sequence;
	if (rc == 0 && (op->opcode == OP_GET || op->opcode == OP_MULTIGET))
		rc = deliver(q, op, cqe->len);
	area_give(q, &op->area);
	op_finish(q, op, rc);
	return true;
}

uint32_t flight_collect(struct shale_queue *q, uint32_t max)
{
	const struct cqe *slot;
	uint32_t n = 0;

	while (n < max && q->ch.socket >= 0 && (slot = ring_cq_peek(&q->ch.ring))) {
		struct cqe cqe = *slot;

		ring_cq_pop(&q->ch.ring);
		n += on_completion(q, &cqe);
	}
	return n;
}

/* ---- the end of a session ---- */

static int by_round(const void *a, const void *b)
{
	int32_t order = (int32_t)((*(struct op *const *)a)->round - (*(struct op *const *)b)->round);

	return (order > 0) - (order < 0);
}

static void lost_op(struct shale_queue *q, struct op *op, uint32_t head, int why)
{
	bool taken = (int32_t)(op->position - head) < 0;

	if (op->state == OP_LATE)
		op_free(q, op);
	else if (why < 0)
		op_finish(q, op, why);
	else if (taken && op->opcode == OP_WRITE)
		op_finish(q, op, -SHALE_EUNKNOWN);
	else if (op->cancelled)
		op_finish(q, op, -ECANCELED);
	else
		ask_again(q, op);
}

void flight_lost(struct shale_queue *q, int why)
{
	struct op **flying = NULL;
	uint32_t n = 0, head;

	flight_collect(q, UINT32_MAX); /* what was completed before */
	if (q->flying)
		flying = malloc(q->flying * sizeof(struct op *));
	/* Acquire: pairs with the release in ring_sq_take(). */
	head = atomic_load_explicit(&q->ch.ring.theirs->sq_head, memory_order_acquire);
	for (uint32_t i = 0; i < q->used; i++) {
		struct op *op = &q->ops[i];

		if (op->state != OP_FLYING && op->state != OP_LATE)
			continue;
		if (flying)
			flying[n++] = op;
		else /* no memory to sort them: nothing is repeated */
			lost_op(q, op, head, why < 0 ? why : op->opcode == OP_WRITE ? -SHALE_EUNKNOWN : -ENOMEM);
	}
	if (n)
		qsort(flying, n, sizeof(flying[0]), by_round);
	for (uint32_t i = n; i > 0; i--) /* each goes to the front */
		lost_op(q, flying[i - 1], head, why);
	free(flying);
	q->flying = 0;
	for (uint32_t i = 0; i < q->used; i++)
		q->ops[i].area.size = 0;
	disconnect(q);
	if (!q->give_up_ns)
		q->give_up_ns = monotonic_ns() + (uint64_t)q->db->reconnect_ms * 1000000;
}

void flight_look(struct shale_queue *q, bool at_socket)
{
	uint32_t state;
	bool gone;

	if (q->ch.socket < 0)
		return;
	gone = at_socket && channel_hung_up(&q->ch);
	state = ring_client_state(&q->ch.ring);
	if (state == CHANNEL_BROKEN || state == CHANNEL_KICKED)
		flight_lost(q, state == CHANNEL_BROKEN ? -SHALE_ESESSION : -SHALE_EKICKED);
	else if (gone)
		flight_lost(q, 0);
}

/* @op got no answer in time: its completion is told by a fresh op, because its area is still the daemon's. */
static void give_up(struct shale_queue *q, struct op *op)
{
	struct op *told = op_new(q); /* there are more of them than may be submitted, for this */

	told->user = op->user;
	told->opcode = op->opcode;
	op->state = OP_LATE;
	if (op->cancel_waits)
		q->cancels_waiting--;
	op->cancel_waits = false;
	op_finish(q, told, -ETIMEDOUT);
}

void flight_expire(struct shale_queue *q, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	if (now_ns < q->check_ns)
		return;
	for (uint32_t i = 0; i < q->used; i++) {
		struct op *op = &q->ops[i];
		uint64_t due = op->deadline_ns;

		if (!due || (op->state != OP_PENDING && op->state != OP_FLYING))
			continue;
		if (op->state == OP_FLYING)
			due += GRACE_NS;
		if (now_ns >= due && op->state == OP_PENDING) {
			op_unlink(q, op);
			op_finish(q, op, -ETIMEDOUT);
		} else if (now_ns >= due) {
			give_up(q, op);
		}
		if (op->state == OP_PENDING || op->state == OP_FLYING)
			next = due < next ? due : next;
	}
	q->check_ns = next;
}
