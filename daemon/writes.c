/*
 * writes.c - what changes the database.
 *
 * Order
 *	Writes, flushes and compactions of one session take effect in the order of its submissions. One that has to wait (for the engine, for its share, for the
 *	blocks that its conditions look at) keeps back those behind it; they wait in session.stalled, and the session waits in
 *	service.stalled, where shares.c chooses among sessions. Between sessions there is no order but the one in which writes are applied.
 *	A flush that waits for a memtable's place keeps nobody back: what is written meanwhile is flushed with the rest.
 *
 * Conditions
 *	They are copied once, checked, and judged at the newest state; then the batch is applied in the same step. This thread alone writes, so nothing comes
 *	between. A block that is missing is fetched, and all is judged again from the start, at the state of then. What
 *	the engine cannot take yet is judged again when it can.
 */
#include "daemon/writes.h"

#include "daemon/ops.h"
#include "daemon/pending.h"
#include "daemon/reads.h"
#include "daemon/room.h"
#include "daemon/shares.h"
#include "shm/condition.h"
#include "shm/error.h"

enum {
	COMPACTIONS_MAX =
		128, /* that wait or run: each takes memory until it is done, and they run one after the other */
	COMPACTIONS_OF_UID_MAX = 32, /* so that no user keeps the others out */
};

/* ---- conditions ---- */

static bool holds(const struct condition *c, bool present, struct slice value, uint64_t entry)
{
	switch (c->type) {
	case CONDITION_ABSENT:
		return !present;
	case CONDITION_PRESENT:
		return present;
	case CONDITION_EQUAL:
		return present && slice_equal(value, c->value);
	case CONDITION_SEQUENCE:
		return present && entry == c->sequence;
	}
	return false; /* conditions_check() lets no other through */
}

enum verdict { ALL_HOLD, ONE_FAILS, BLOCKS_MISSING };

/* One look at all conditions at the newest state. ONE_FAILS: which, and the sequence of its key's entry. Negative: a key cannot be read. */
static int judge(struct service *svc, struct request *r, uint32_t *which_out, uint64_t *entry_out)
{
	struct view *view = engine_view(svc->engine); /* first, so that it holds all up to the newest sequence */
	uint64_t newest = engine_last_sequence(svc->engine);
	struct condition_reader reader;
	struct condition c;
	bool missed = false;

	if (!view)
		return -ENOMEM;
	view_unref(r->view);
	r->view = view;
	condition_reader_init(&reader, slice_of(r->in, r->sqe.extra_len));
	for (uint32_t i = 0; condition_reader_next(&reader, &c); i++) {
		struct slice value = {0};
		uint64_t entry = 0;
		int rc = engine_get_entry(r->view, &r->ctx, newest, c.key, &value, &entry);

		session_charge(r->session, SEARCH_COST);
		if (rc < 0)
			return rc;
		missed |= rc == READ_MISS;
		/* Behind a miss the first failure is not known; keys are only asked for, so that one round fetches all. */
		if (missed || holds(&c, rc == 0, value, entry)) {
			read_ctx_release(&r->ctx);
			continue;
		}
		*which_out = i;
		*entry_out = entry;
		return ONE_FAILS;
	}
	return missed ? BLOCKS_MISSING : ALL_HOLD;
}

/* True when the write may go; else it was answered, or fetches blocks and its session's later writes are behind it. */
static bool conditions_hold(struct service *svc, struct request *r)
{
	uint64_t entry = 0;
	uint32_t which = 0;
	int rc = judge(svc, r, &which, &entry);

	if (rc == ALL_HOLD)
		return true;
	if (rc == BLOCKS_MISSING) {
		/* They are all needed at once, since they must hold at one moment. */
		if (r->ctx.bytes + r->ctx.wanted > svc->config->in_flight_per_uid) {
			request_complete(svc, r, -EDQUOT, 0);
			return false;
		}
		r->session->fetching = r;
		read_fetch(svc, r);
		return false;
	}
	r->sequence = entry;
	request_complete(svc, r, rc == ONE_FAILS ? SHALE_MISMATCH : rc, which);
	return false;
}

/* ---- writes ---- */

static const unsigned char *batch_of(const struct request *r)
{
	return r->session->arena + r->sqe.in_off + r->sqe.extra_len;
}

static uint32_t batch_size(const struct request *r)
{
	return r->sqe.in_len - r->sqe.extra_len;
}

static void count_write(struct service *svc, const struct request *r, uint64_t last_before)
{
	uint64_t records = r->sequence - last_before;
	struct region_stats *st = &svc->stats;

	st->writes++;
	st->write_batches_synced += !!(r->sqe.flags & SQE_SYNC);
	/* Only a statistic: the byte may have changed since. Larger batches count as puts. */
	if (records == 1 && batch_size(r) > BATCH_HEADER_SIZE &&
	    *(const volatile unsigned char *)(batch_of(r) + BATCH_HEADER_SIZE) == BATCH_DELETE)
		st->deletes++;
	else
		st->puts += records;
	st->bytes_written_by_clients += r->sqe.in_len;
	r->session->bytes_in += r->sqe.in_len;
	session_charge(r->session, r->sqe.in_len);
	share_charge(svc, r->session, r->sqe.in_len);
}

void write_ended(struct service *svc, struct request *r, int rc, uint64_t sequence, uint64_t position)
{
	uint64_t before = r->sequence;

	if (rc < 0) {
		r->sequence = 0;
		request_complete(svc, r, rc, 0);
		return;
	}
	r->sequence = sequence;
	count_write(svc, r, before);
	if (r->sqe.flags & SQE_SYNC) {
		engine_want_sync(svc->engine, position);
		r->position = position;
		r->delay |= DELAY_SYNC;
		request_wait(svc, r, REQUEST_SYNCING, &svc->syncing);
	} else {
		request_complete(svc, r, 0, 0);
	}
}

/* What its conditions looked at. */
static void forget_reads(struct service *svc, struct request *r)
{
	request_drop_view(r);
	if (unlikely(r->reader))
		room_drop(svc, r);
}

/* It cannot go now. False: it is to wait. */
static bool put_off(struct service *svc, struct request *r, uint16_t why)
{
	r->delay |= why;
	svc->stall_why = why;
	forget_reads(svc, r); /* what it pins could be in the way of what it waits for */
	if (!(r->sqe.flags & SQE_NO_SLOWDOWN))
		return false;
	request_complete(svc, r, -EAGAIN, 0);
	return true;
}

/* True when the write is taken, refused, failed, or fetches blocks; false when it must wait in line (r->delay says why). @waiting: it did so before. */
static bool try_write(struct service *svc, struct request *r, bool waiting)
{
	uint64_t sequence = 0, position = 0;
	uint16_t why = 0;
	int rc;

	if (unlikely(svc->engine_why && !waiting && !list_empty(&svc->stalled)))
		return put_off(svc, r, svc->engine_why); /* others wait for the same */
	if (unlikely(share_wait(svc, r->session, waiting)))
		return put_off(svc, r, DELAY_SLOWDOWN);
	if (unlikely(r->sqe.extra_len) && !conditions_hold(svc, r))
		return true;
	r->sequence = engine_last_sequence(svc->engine);
	rc = engine_write(svc->engine, batch_of(r), batch_size(r), &sequence, &position, &why);
	svc->engine_why = rc == -EAGAIN ? why : 0;
	if (rc == -EAGAIN)
		return put_off(svc, r, why);
	if (unlikely(r->view))
		forget_reads(svc, r);
	if (unlikely(rc == WRITE_UNDERWAY)) {
		r->delay |= DELAY_LOG;
		svc->large_underway = true;
		request_wait(svc, r, REQUEST_UNDERWAY, &svc->underway);
		heap_remove(&svc->timed, &r->timed); /* the engine has it: no deadline takes it back */
		return true;
	}
	write_ended(svc, r, rc, sequence, position);
	return true;
}

/* ---- flushes and compactions ---- */

static void await_job(struct service *svc, struct request *r, struct list *where)
{
	r->delay |= DELAY_JOB;
	request_wait(svc, r, REQUEST_JOB, where);
	svc->jobs_look = true;
}

bool flush_start(struct service *svc, struct request *r)
{
	int rc = engine_flush_start(svc->engine, &r->ticket);

	if (rc == -EAGAIN) {
		r->delay |= DELAY_MEMTABLE;
		request_wait(svc, r, REQUEST_JOB, &svc->flushes_due);
		return false;
	}
	if (rc < 0)
		request_complete(svc, r, rc, 0);
	else
		await_job(svc, r, &svc->flushes);
	return true;
}

static bool too_many_compactions(const struct service *svc, uid_t owner)
{
	unsigned all = 0, of_uid = 0;

	for (const struct list *l = svc->compactions.next; l != &svc->compactions; l = l->next, all++)
		of_uid += container_of(l, struct request, link)->owner == owner;
	return all >= COMPACTIONS_MAX || of_uid >= COMPACTIONS_OF_UID_MAX;
}

/* The engine flushes first what was written before. The payload was checked by compact_begin(). */
static void compact_now(struct service *svc, struct request *r)
{
	struct slice begin, end;
	int rc = ops_two_keys(svc, r, &begin, &end);
	const struct slice *from = begin.size ? &begin : NULL, *to = end.size ? &end : NULL;

	r->owner = r->session->uid;
	if (rc == 0 && too_many_compactions(svc, r->owner))
		rc = -EBUSY;
	if (rc == 0)
		rc = r->sqe.sequence == 0 ? engine_compact_start(svc->engine, from, to, &r->ticket)
		     : r->sqe.sequence > LEVELS
			     ? -EINVAL
			     : engine_compact_level(svc->engine, (unsigned)r->sqe.sequence - 1, from, to, &r->ticket);
	if (rc < 0) {
		request_complete(svc, r, rc, 0);
		return;
	}
	await_job(svc, r, &svc->compactions);
	if (r->sqe.flags & SQE_NO_WAIT)
		pending_give_up(svc, r, 0);
}

/* ---- in order ---- */

static bool run(struct service *svc, struct request *r, bool waiting)
{
	if (unlikely(svc->failed)) {
		request_complete(svc, r, -SHALE_EFAILED, 0);
		return true;
	}
	switch (r->sqe.op) {
	case OP_WRITE:
		return try_write(svc, r, waiting);
	case OP_FLUSH:
		flush_start(svc, r);
		return true;
	default:
		compact_now(svc, r);
		return true;
	}
}

bool write_retry(struct service *svc, struct request *r)
{
	return run(svc, r, true);
}

static void run_ordered(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	if (s->read_only) {
		request_complete(svc, r, -EROFS, 0);
	} else if (likely(list_empty(&s->stalled) && !s->fetching)) {
		if (unlikely(!run(svc, r, false)))
			pending_stall(svc, r, false);
	} else if ((r->sqe.flags & SQE_NO_SLOWDOWN) && !list_empty(&s->stalled)) {
		r->delay |= svc->stall_why;
		request_complete(svc, r, -EAGAIN, 0);
	} else {
		r->delay |= s->fetching ? DELAY_READ : svc->stall_why;
		pending_stall(svc, r, false);
	}
}

void write_again(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	assert(s->fetching == r);
	s->fetching = NULL;
	/* It is still the session's first. If it does not go through at once, it waits at the head of the others. */
	if (!run(svc, r, false))
		pending_stall(svc, r, true);
	pending_settle(svc, s);
}

/* Its private copy of the conditions, checked. */
static int take_conditions(struct service *svc, struct request *r)
{
	struct batch_limits limits = {.max_key = svc->config->max_key, .max_value = svc->config->max_request};
	uint32_t count;
	int rc;

	if (r->sqe.extra_len > svc->config->max_request)
		return -E2BIG;
	rc = request_copy_in(r, r->session->arena + r->sqe.in_off, r->sqe.extra_len);
	return rc < 0 ? rc : conditions_check(slice_of(r->in, r->sqe.extra_len), &limits, &count);
}

void write_begin(struct service *svc, struct request *r)
{
	int rc = batch_size(r) > svc->config->max_request ? -E2BIG : 0;

	if (rc == 0 && unlikely(r->sqe.extra_len))
		rc = take_conditions(svc, r);
	if (rc < 0)
		request_complete(svc, r, rc, 0);
	else
		run_ordered(svc, r);
}

void flush_begin(struct service *svc, struct request *r)
{
	run_ordered(svc, r);
}

void compact_begin(struct service *svc, struct request *r)
{
	struct slice a, b;
	int rc = r->sqe.in_len > 2 * (svc->config->max_key + VARINT32_MAX) ? -E2BIG : ops_copy_payload(r);

	if (rc == 0)
		rc = ops_two_keys(svc, r, &a, &b);
	if (rc == 0)
		run_ordered(svc, r);
	else
		request_complete(svc, r, rc, 0);
}
