#include "daemon/pending.h"

#include "daemon/ops.h"
#include "daemon/reads.h"
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
		/* It waited, so its client may have been parked meanwhile; it will likely ask again soon. */
		session_activate(svc, s);
	}
	if (unlikely(ring_cq_push(&s->ring, &cqe) < 0)) {
		/* ring_cq_room() kept a slot for it, so this is the client's doing. */
		session_break(svc, s, "its completion index is out of bounds");
		return;
	}
	if (list_empty(&s->dirty))
		list_push_back(&svc->dirty, &s->dirty);
}

static void leave_session(struct request *r)
{
	if (!list_empty(&r->of_session))
		r->session->held -= r->sqe.in_len;
	list_remove(&r->of_session);
	list_remove(&r->timed);
}

void request_complete(struct service *svc, struct request *r, int32_t res, uint32_t len)
{
	if (r->session) {
		/* Out of the session first: breaking it would abandon its requests, this one among them. */
		leave_session(r);
		answer(svc, r, res, len);
		r->session = NULL;
	}
	if (!r->ctx.in_flight)
		request_put(&svc->pool, r);
}

void request_wait(struct service *svc, struct request *r, enum request_state state, struct list *where)
{
	if (list_empty(&r->of_session) && r->session) {
		list_push_back(&r->session->requests, &r->of_session);
		r->session->held += r->sqe.in_len;
		r->taken_ns = svc->now_ns;
		if (r->sqe.deadline_ns) {
			list_push_back(&svc->timed, &r->timed);
			if (r->sqe.deadline_ns < svc->next_deadline)
				svc->next_deadline = r->sqe.deadline_ns;
		}
	}
	list_remove(&r->link);
	r->state = state;
	if (where)
		list_push_back(where, &r->link);
}

static void leave_stalled(struct session *s)
{
	if (list_empty(&s->stalled))
		list_remove(&s->stalled_link);
}

void request_abandon(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	leave_session(r);
	r->session = NULL;
	switch (r->state) {
	case REQUEST_FETCHING: /* on_fetched() gives it back */
		return;
	case REQUEST_JOB: /* pending_check_jobs() takes a compaction's answer, so that the engine can forget it */
		if (r->sqe.op == OP_FLUSH)
			request_put(&svc->pool, r);
		return;
	case REQUEST_STALLED:
		request_put(&svc->pool, r);
		leave_stalled(s);
		return;
	case REQUEST_RUNNING:
	case REQUEST_READY:
	case REQUEST_SYNCING:
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

void pending_stall(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	if (list_empty(&svc->stalled)) {
		svc->stall_retry_ns = svc->now_ns + STALL_LOOK_NS;
		svc->stall_since_ns = svc->now_ns;
	}
	if (list_empty(&s->stalled))
		list_push_back(&svc->stalled, &s->stalled_link);
	request_wait(svc, r, REQUEST_STALLED, &s->stalled);
}

unsigned pending_retry_stalled(struct service *svc)
{
	struct list *l;
	unsigned n = 0;

	svc->stall_retry_ns = svc->now_ns + STALL_LOOK_NS;
	/* One write of each session in turn, until one cannot go on: then none can. A pass stays short, so that reads go on. */
	while (n < VISIT_BUDGET && (l = list_pop(&svc->stalled))) {
		struct session *s = container_of(l, struct session, stalled_link);
		struct request *r = container_of(s->stalled.next, struct request, link);

		if (!ops_retry(svc, r)) {
			list_push_back(svc->stalled.next, &s->stalled_link); /* it stays the first */
			return n;
		}
		n++;
		if (!list_empty(&s->stalled))
			list_push_back(&svc->stalled, &s->stalled_link);
	}
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
		ops_written(svc, container_of(l, struct request, link), rc, sequence, position);
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
	return n;
}

/* ---- ends ---- */

void pending_give_up(struct service *svc, struct request *r, int rc)
{
	struct session *s = r->session;
	bool stalled = r->state == REQUEST_STALLED;

	if (r->state == REQUEST_JOB && r->sqe.op == OP_COMPACT && rc == -ECANCELED)
		engine_compact_cancel(svc->engine, r->ticket);
	if (r->state == REQUEST_JOB && r->sqe.op == OP_COMPACT) {
		struct request *rest; /* stays behind to take the ticket's answer */
		struct sqe sqe = r->sqe;

		rest = request_get(&svc->pool, NULL, &sqe);
		if (rest) {
			rest->ticket = r->ticket;
			rest->owner = r->owner;
			request_wait(svc, rest, REQUEST_JOB, &svc->compactions);
		}
	}
	request_complete(svc, r, rc, 0);
	if (stalled && !s->ending)
		leave_stalled(s);
}

unsigned pending_expire(struct service *svc)
{
	struct list *l, *next;
	unsigned n = 0;

	if (svc->now_ns < svc->next_deadline)
		return 0;
	svc->next_deadline = UINT64_MAX;
	for (l = svc->timed.next; l != &svc->timed; l = next) {
		struct request *r = container_of(l, struct request, timed);
		const struct session *s = r->session;

		next = l->next;
		if (r->sqe.deadline_ns <= svc->now_ns) {
			pending_give_up(svc, r, -ETIMEDOUT);
			n++;
			if (s->ending) {
				/* Completing ended the session and with it other timed requests: begin anew. */
				next = svc->timed.next;
				svc->next_deadline = UINT64_MAX;
			}
		} else if (r->sqe.deadline_ns < svc->next_deadline) {
			svc->next_deadline = r->sqe.deadline_ns;
		}
	}
	return n;
}

void pending_fail(struct service *svc, int rc)
{
	struct list *l;

	while (!list_empty(&svc->syncing))
		request_complete(svc, container_of(svc->syncing.next, struct request, link), -SHALE_EUNKNOWN, 0);
	while (!list_empty(&svc->underway))
		request_complete(svc, container_of(svc->underway.next, struct request, link), -SHALE_EUNKNOWN, 0);
	while (!list_empty(&svc->flushes))
		request_complete(svc, container_of(svc->flushes.next, struct request, link), rc, 0);
	while (!list_empty(&svc->compactions))
		request_complete(svc, container_of(svc->compactions.next, struct request, link), rc, 0);
	while ((l = list_pop(&svc->stalled))) {
		struct session *s = container_of(l, struct session, stalled_link);

		while (!list_empty(&s->stalled))
			request_complete(svc, container_of(s->stalled.next, struct request, link), rc, 0);
	}
}

uint64_t pending_next_ns(const struct service *svc)
{
	uint64_t next = svc->next_deadline;

	if (!list_empty(&svc->stalled)) {
		uint64_t at = svc->stall_retry_ns;

		if ((svc->stall_why & DELAY_SLOWDOWN) && svc->tokens <= 0) {
			uint64_t ns =
				(uint64_t)((double)-svc->tokens * 1e9 / (double)svc->config->slowdown_rate) + 1000;

			if (svc->tokens_ns + ns < at)
				at = svc->tokens_ns + ns;
		}
		next = at < next ? at : next;
	}
	if ((svc->paused || svc->set_aside) && svc->retry_ns < next)
		next = svc->retry_ns;
	if (svc->closing && svc->closing_until_ns < next)
		next = svc->closing_until_ns;
	if (!list_empty(&svc->ending) && svc->now_ns + ENDING_LOOK_NS < next)
		next = svc->now_ns + ENDING_LOOK_NS;
	return next;
}
