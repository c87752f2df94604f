#include "daemon/pending.h"

#include "daemon/checkpoints.h"
#include "daemon/checks.h"
#include "daemon/meter.h"
#include "daemon/reads.h"
#include "daemon/room.h"
#include "daemon/shares.h"
#include "daemon/writes.h"
#include "engine/check.h"
#include "engine/checkpoint.h"
#include "shm/error.h"

enum {
	STALL_LOOK_NS = 100000000, /* a stalled write is tried this often even when nothing is heard of the engine */
	ENDING_LOOK_NS = 2000000,  /* a doorbell's cancellation that missed is not heard of, and must be repeated */
};

/* ---- completing ---- */

static void count_delay(struct service *svc, const struct request *r, uint64_t us)
{
	struct region_stats *st = &svc->stats;

	if (r->delay & DELAY_L0)
		st->stall_l0_us += us;
	else if (r->delay & DELAY_MEMTABLE)
		st->stall_memtable_us += us;
	else if (r->delay & DELAY_LOG)
		st->stall_log_us += us;
	else if (r->delay & DELAY_SLOWDOWN)
		st->stall_slowdown_us += us;
}

static void answer(struct service *svc, struct request *r, int32_t res, uint32_t len)
{
	struct session *s = r->session;
	struct cqe cqe = {
		.user_data = r->sqe.user_data,
		.sequence = r->sequence,
		.res = res,
		.len = len,
		.delay = r->delay,
		.flags = r->flags,
	};

	if (unlikely(s->ending))
		return; /* broken while this request was being executed: its channel is not touched any more */
	if (unlikely(r->taken_ns)) {
		uint64_t us = (svc->now_ns - r->taken_ns) / 1000;

		cqe.delayed_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
		count_delay(svc, r, us);
		s->throttled_us += r->delay & DELAY_SLOWDOWN ? us : 0;
		/* It waited, so its client may have been parked meanwhile; it will likely ask again soon. */
		session_activate(svc, s);
	}
	meter_done(svc, r, res);
	if (unlikely(ring_cq_push(&s->ring, &cqe) < 0)) {
		/* ring_cq_room() kept a slot for it, so this is the client's doing. */
		session_break(svc, s, "its completion index is out of bounds");
		return;
	}
	if (list_empty(&s->dirty))
		list_push_back(&svc->dirty, &s->dirty);
}

void pending_settle(struct service *svc, struct session *s)
{
	bool in = !list_empty(&s->stalled_link), due = !s->ending && !s->fetching && !list_empty(&s->stalled);

	if (due && !in) {
		if (list_empty(&svc->stalled)) {
			svc->stall_retry_ns = svc->now_ns; /* to learn when it may go */
			svc->stall_since_ns = svc->now_ns;
			meter_stall_begun(svc);
		}
		list_push_back(&svc->stalled, &s->stalled_link);
		svc->stalled_count++;
	} else if (!due && in) {
		list_remove(&s->stalled_link);
		if (--svc->stalled_count == 0)
			meter_stall_ended(svc);
	}
}

static void leave_session(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	if (!list_empty(&r->of_session)) {
		s->held -= r->sqe.in_len;
		s->user->held -= r->sqe.in_len;
	}
	list_remove(&r->of_session);
	if (unlikely(r->timed.place))
		heap_remove(&svc->timed, &r->timed);
	if (unlikely(r->room || r->reader || r->state == REQUEST_CROWDED))
		room_leave(svc, r);
	if (unlikely(s->fetching == r)) {
		s->fetching = NULL;
		pending_settle(svc, s);
	} else if (unlikely(r->state == REQUEST_STALLED)) {
		list_remove(&r->link);
		pending_settle(svc, s);
	}
}

void request_complete(struct service *svc, struct request *r, int32_t res, uint32_t len)
{
	if (r->session) {
		/* Out of the session first: breaking it would abandon its requests, this one among them. */
		leave_session(svc, r);
		answer(svc, r, res, len);
		r->session = NULL;
	}
	if (!r->ctx.in_flight)
		request_put(&svc->pool, r);
}

void request_wait(struct service *svc, struct request *r, enum request_state state, struct list *where)
{
	bool was_stalled;

	if (list_empty(&r->of_session) && r->session) {
		list_push_back(&r->session->requests, &r->of_session);
		r->session->held += r->sqe.in_len;
		r->session->user->held += r->sqe.in_len;
		r->taken_ns = svc->now_ns;
		if (r->sqe.deadline_ns)
			heap_add(&svc->timed, &r->timed, r->sqe.deadline_ns);
	}
	meter_wait(svc, r, state);
	was_stalled = r->state == REQUEST_STALLED && r->session;
	list_remove(&r->link);
	r->state = state;
	if (where)
		list_push_back(where, &r->link);
	if (unlikely(was_stalled)) /* it may have been the last that kept its session in line */
		pending_settle(svc, r->session);
}

void request_abandon(struct service *svc, struct request *r)
{
	leave_session(svc, r);
	r->session = NULL;
	switch (r->state) {
	case REQUEST_FETCHING: /* on_fetched() gives it back */
		return;
	case REQUEST_JOB: /* pending_check_jobs() takes the answer of what goes on, so that the engine can forget it */
		if (r->sqe.op == OP_FLUSH)
			request_put(&svc->pool, r);
		else if (r->sqe.op == OP_CHECK)
			engine_check_cancel(svc->engine, r->ticket);
		return;
	case REQUEST_CROWDED:
	case REQUEST_STALLED:
	case REQUEST_RUNNING:
	case REQUEST_READY:
	case REQUEST_SYNCING:
	case REQUEST_ANSWERING:
	case REQUEST_UNDERWAY: /* it is applied all the same */
		request_put(&svc->pool, r);
	}
}

/* ---- reads whose blocks are in ---- */

unsigned pending_run_ready(struct service *svc)
{
	struct list *l;
	unsigned n = 0;

	for (; (l = list_pop(&svc->ready)); n++)
		read_again(svc, container_of(l, struct request, link));
	return n;
}

/* ---- stalled writes ---- */

void pending_stall(struct service *svc, struct request *r, bool first)
{
	struct session *s = r->session;

	request_wait(svc, r, REQUEST_STALLED, first ? s->stalled.next : &s->stalled);
	pending_settle(svc, s);
}

unsigned pending_retry_stalled(struct service *svc)
{
	uint64_t ready = UINT64_MAX;
	struct session *s = NULL;
	unsigned n = 0;

	svc->stall_retry_ns = svc->now_ns + STALL_LOOK_NS;
	/* Until one cannot go on for the engine's sake: then none can. A pass stays short, so that reads go on. */
	while (n < RETRY_BUDGET && (s = share_next(svc, &ready))) {
		if (!write_retry(svc, container_of(s->stalled.next, struct request, link)))
			return n;
		n++;
		if (!list_empty(&s->stalled_link)) { /* it has more: of equals, others come first */
			list_remove(&s->stalled_link);
			list_push_back(&svc->stalled, &s->stalled_link);
		}
	}
	if (!s)
		svc->stall_retry_ns = min_size(svc->stall_retry_ns, ready);
	return n;
}

/* ---- large writes, syncs and jobs ---- */

unsigned pending_check_underway(struct service *svc)
{
	uint64_t sequence = 0, position = 0;
	int rc = engine_write_result(svc->engine, &sequence, &position);
	struct list *l;

	if (rc == WRITE_UNDERWAY)
		return engine_write_busy(svc->engine);
	svc->large_underway = false;
	svc->stall_look = true; /* who waited for its end */
	l = list_pop(&svc->underway);
	if (l)
		write_ended(svc, container_of(l, struct request, link), rc, sequence, position);
	return 1;
}

unsigned pending_complete_synced(struct service *svc)
{
	uint64_t synced;
	unsigned n = 0;

	if (list_empty(&svc->syncing))
		return 0;
	synced = engine_synced(svc->engine);
	for (; !list_empty(&svc->syncing); n++) {
		struct request *r = container_of(svc->syncing.next, struct request, link);

		if (r->position > synced)
			break;
		request_complete(svc, r, 0, 0);
	}
	return n;
}

unsigned pending_check_jobs(struct service *svc)
{
	struct list *l, *next;
	unsigned n = 0;

	while (!list_empty(&svc->flushes_due)) {
		if (!flush_start(svc, container_of(svc->flushes_due.next, struct request, link)))
			break;
		n++;
	}
	for (; !list_empty(&svc->flushes); n++) {
		struct request *r = container_of(svc->flushes.next, struct request, link);
		int rc = engine_flush_done(svc->engine, r->ticket);

		if (!rc)
			break;
		request_complete(svc, r, rc < 0 ? rc : 0, 0);
	}
	for (l = svc->compactions.next; l != &svc->compactions; l = next) {
		struct request *r = container_of(l, struct request, link);
		int rc = engine_compact_done(svc->engine, r->ticket);

		next = l->next;
		if (!rc)
			continue;
		request_complete(svc, r, rc < 0 ? rc : 0, 0);
		n++;
	}
	for (l = svc->errands.next; l != &svc->errands; l = next) {
		struct request *r = container_of(l, struct request, link);

		next = l->next;
		n += r->sqe.op == OP_CHECK ? check_ended(svc, r) : checkpoint_ended(svc, r);
	}
	return n;
}

/* ---- ends ---- */

void pending_give_up(struct service *svc, struct request *r, int rc)
{
	bool lasting = r->state == REQUEST_JOB && r->sqe.op != OP_FLUSH;

	if (lasting && r->sqe.op == OP_CHECK)
		engine_check_cancel(svc->engine, r->ticket);
	if (lasting && rc == -ECANCELED && r->sqe.op == OP_CHECKPOINT)
		engine_checkpoint_cancel(svc->engine, r->ticket);
	/* The end of these, which is near, is worth waiting for: then a checkpoint's place is as it was. */
	if (lasting && rc == -ECANCELED && r->sqe.op != OP_COMPACT)
		return;
	if (lasting && rc == -ECANCELED)
		engine_compact_cancel(svc->engine, r->ticket);
	if (lasting) {
		struct request *rest; /* stays behind to take the ticket's answer */
		struct sqe sqe = r->sqe;

		rest = request_get(&svc->pool, NULL, &sqe);
		if (rest) {
			rest->ticket = r->ticket;
			rest->owner = r->owner;
			request_wait(svc, rest, REQUEST_JOB, sqe.op == OP_COMPACT ? &svc->compactions : &svc->errands);
		}
	}
	request_complete(svc, r, rc, 0);
}

unsigned pending_expire(struct service *svc)
{
	struct heap_member *m;
	unsigned n = 0;

	/* Each takes itself out, and maybe others with it: answering can end a session. */
	for (; (m = svc->timed.first) && m->key <= svc->now_ns; n++)
		pending_give_up(svc, container_of(m, struct request, timed), -ETIMEDOUT);
	return n;
}

void pending_fail(struct service *svc, int rc)
{
	while (!list_empty(&svc->syncing))
		request_complete(svc, container_of(svc->syncing.next, struct request, link), -SHALE_EUNKNOWN, 0);
	while (!list_empty(&svc->underway))
		request_complete(svc, container_of(svc->underway.next, struct request, link), -SHALE_EUNKNOWN, 0);
	while (!list_empty(&svc->flushes_due))
		request_complete(svc, container_of(svc->flushes_due.next, struct request, link), rc, 0);
	while (!list_empty(&svc->flushes))
		request_complete(svc, container_of(svc->flushes.next, struct request, link), rc, 0);
	while (!list_empty(&svc->compactions))
		request_complete(svc, container_of(svc->compactions.next, struct request, link), rc, 0);
	while (!list_empty(&svc->errands))
		request_complete(svc, container_of(svc->errands.next, struct request, link), rc, 0);
	while (!list_empty(&svc->stalled)) { /* a session leaves the list with its last one */
		struct session *s = container_of(svc->stalled.next, struct session, stalled_link);

		request_complete(svc, container_of(s->stalled.next, struct request, link), rc, 0);
	}
}

uint64_t pending_next_ns(const struct service *svc)
{
	uint64_t next = svc->timed.first ? svc->timed.first->key : UINT64_MAX;

	if (!list_empty(&svc->stalled))
		next = min_size(next, svc->stall_retry_ns);
	if ((svc->paused || svc->set_aside) && svc->retry_ns < next)
		next = svc->retry_ns;
	if (svc->closing && svc->closing_until_ns < next)
		next = svc->closing_until_ns;
	if (!list_empty(&svc->ending) && svc->now_ns + ENDING_LOOK_NS < next)
		next = svc->now_ns + ENDING_LOOK_NS;
	return next;
}
