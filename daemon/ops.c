/*
 * ops.c - from a submission to its answer.
 *
 * @sqe is a private copy. Nothing else of the channel is read more than once: keys are copied before they are used, a batch goes from the arena
 * into the WAL window in one copy, which engine_write() then checks. Answers are written to the arena and never read back.
 *
 * What a well-behaved library cannot send (a foreign session, an unknown operation, a range outside the arena) ends the
 * session. What a program can ask for by mistake (a key that is too long) is refused with a code.
 */
#include "daemon/ops.h"

#include <stdlib.h>

#include "daemon/pending.h"
#include "daemon/reads.h"
#include "shm/error.h"

enum {
	PROPERTY_NAME_MAX = 128,
	COMPACTIONS_MAX = 128,	     /* that wait or run: each takes memory until it is done, and they run one after the other */
	COMPACTIONS_OF_UID_MAX = 32, /* so that no user keeps the others out */
};

/* ---- checks ---- */

static const uint16_t flags_of[OP_COUNT] = {
	[OP_GET] = SQE_NO_FILL,
	[OP_WRITE] = SQE_SYNC | SQE_NO_SLOWDOWN,
	[OP_SCAN] = SQE_REVERSE | SQE_EXCLUSIVE | SQE_NO_FILL | SQE_HAS_START | SQE_HAS_LIMIT,
	[OP_COMPACT] = SQE_NO_WAIT,
	[OP_MULTIGET] = SQE_NO_FILL,
};

static bool in_arena(const struct session *s, uint64_t off, uint32_t len)
{
	return off <= s->arena_size && len <= s->arena_size - off;
}

/* Why no library of ours would have sent this, or NULL. */
static const char *violation(const struct session *s, const struct sqe *sqe)
{
	if (sqe->session != s->id)
		return "a submission names another session";
	if (sqe->op >= OP_COUNT)
		return "a submission has an unknown operation";
	if (sqe->flags & ~SQE_FLAGS_KNOWN)
		return "a submission has unknown flags";
	if (sqe->extra_len && (sqe->op != OP_WRITE || sqe->extra_len > sqe->in_len))
		return "a submission has conditions where none can be";
	if (!in_arena(s, sqe->in_off, sqe->in_len) || !in_arena(s, sqe->out_off, sqe->out_len))
		return "a submission points outside its arena";
	/* Each request in flight has a payload of its own. Without this bound, private copies of one could fill our memory. */
	if (sqe->in_len > s->arena_size - s->held)
		return "its waiting requests have more payload than its arena can hold";
	return NULL;
}

int ops_copy_payload(struct request *r)
{
	return request_copy_in(r, r->session->arena + r->sqe.in_off, r->sqe.in_len);
}

void ops_answer(struct service *svc, struct request *r, const void *data, size_t size)
{
	size_t n = min_size(size, r->sqe.out_len);

	if (n)
		memcpy(r->session->arena + r->sqe.out_off, data, n);
	r->session->bytes_out += n;
	svc->stats.bytes_read_by_clients += n;
	request_complete(svc, r, 0, (uint32_t)size);
}

/* ---- writes ---- */

/* Whether a write may be taken now, as far as pacing is concerned. */
static bool pace(struct service *svc)
{
	int64_t most = (int64_t)(svc->config->slowdown_rate / 50 + 4096); /* 20 ms worth */
	uint64_t passed = svc->now_ns - svc->tokens_ns;

	if (!engine_slowdown(svc->engine)) {
		/* What was written at full speed is no debt. */
		svc->tokens = 0;
		svc->tokens_ns = svc->now_ns;
		return true;
	}
	svc->tokens_ns = svc->now_ns;
	if (passed > UINT64_C(1000000000))
		passed = UINT64_C(1000000000);
	svc->tokens += (int64_t)((double)passed * (double)svc->config->slowdown_rate / 1e9);
	if (svc->tokens > most)
		svc->tokens = most;
	return svc->tokens > 0;
}

static void count_write(struct service *svc, const struct request *r, uint64_t last_before)
{
	uint64_t records = r->sequence - last_before;
	struct region_stats *st = &svc->stats;
	const unsigned char *type = r->session->arena + r->sqe.in_off + BATCH_HEADER_SIZE;

	st->writes++;
	st->write_batches_synced += !!(r->sqe.flags & SQE_SYNC);
	/* Only a statistic: the byte may have changed since. Larger batches count as puts. */
	if (records == 1 && r->sqe.in_len > BATCH_HEADER_SIZE && *(const volatile unsigned char *)type == BATCH_DELETE)
		st->deletes++;
	else
		st->puts += records;
	st->bytes_written_by_clients += r->sqe.in_len;
	r->session->bytes_in += r->sqe.in_len;
}

void ops_written(struct service *svc, struct request *r, int rc, uint64_t sequence, uint64_t position)
{
	uint64_t before = r->sequence;

	if (rc < 0) {
		r->sequence = 0;
		request_complete(svc, r, rc, 0);
		return;
	}
	svc->tokens -= r->sqe.in_len;
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

/* True when the write is taken, refused, or failed; false when it must wait (r->delay says why). */
static bool try_write(struct service *svc, struct request *r)
{
	uint64_t sequence = 0, position = 0;
	uint16_t why = 0;
	int rc = -EAGAIN;

	if (unlikely(!pace(svc))) {
		why = DELAY_SLOWDOWN;
	} else {
		r->sequence = engine_last_sequence(svc->engine);
		rc = engine_write(svc->engine, r->session->arena + r->sqe.in_off, r->sqe.in_len, &sequence, &position,
				  &why);
	}
	if (rc == -EAGAIN) {
		r->delay |= why;
		svc->stall_why = why;
		if (!(r->sqe.flags & SQE_NO_SLOWDOWN))
			return false;
	}
	if (unlikely(rc == WRITE_UNDERWAY)) {
		r->delay |= DELAY_LOG;
		svc->large_underway = true;
		request_wait(svc, r, REQUEST_UNDERWAY, &svc->underway);
		return true;
	}
	ops_written(svc, r, rc, sequence, position);
	return true;
}

/* Both keys of a COMPACT or SIZES payload, in the private copy. 0, -EINVAL, -E2BIG. */
static int two_keys(const struct service *svc, const struct request *r, struct slice *a_out, struct slice *b_out)
{
	const unsigned char *end = r->in + r->sqe.in_len, *p = length_prefixed_get(r->in, end, a_out);

	if (p)
		p = length_prefixed_get(p, end, b_out);
	if (p != end || !p)
		return -EINVAL;
	return a_out->size > svc->config->max_key || b_out->size > svc->config->max_key ? -E2BIG : 0;
}

static void await_job(struct service *svc, struct request *r, struct list *where)
{
	r->delay |= DELAY_JOB;
	request_wait(svc, r, REQUEST_JOB, where);
	svc->jobs_look = true;
}

static bool try_flush(struct service *svc, struct request *r)
{
	int rc = engine_flush_start(svc->engine, &r->ticket);

	if (rc == -EAGAIN) {
		r->delay |= DELAY_MEMTABLE;
		svc->stall_why = DELAY_MEMTABLE;
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

/* The engine flushes first what was written before. The payload was checked by op_compact(). */
static void start_compaction(struct service *svc, struct request *r)
{
	struct slice begin, end;
	int rc = two_keys(svc, r, &begin, &end);
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

bool ops_retry(struct service *svc, struct request *r)
{
	switch (r->sqe.op) {
	case OP_WRITE:
		return try_write(svc, r);
	case OP_FLUSH:
		return try_flush(svc, r);
	default:
		start_compaction(svc, r);
		return true;
	}
}

/* Writes, flushes and compactions of a session happen in its order; while others are stalled, new ones get in line. */
static void run_ordered(struct service *svc, struct request *r)
{
	if (r->session->read_only)
		request_complete(svc, r, -EROFS, 0);
	else if (svc->failed)
		request_complete(svc, r, -SHALE_EFAILED, 0);
	else if (likely(list_empty(&svc->stalled))) {
		if (unlikely(!ops_retry(svc, r)))
			pending_stall(svc, r);
	} else if (r->sqe.flags & SQE_NO_SLOWDOWN) {
		r->delay |= svc->stall_why;
		request_complete(svc, r, -EAGAIN, 0);
	} else {
		r->delay |= svc->stall_why;
		pending_stall(svc, r);
	}
}

static void op_write(struct service *svc, struct request *r)
{
	if (unlikely(r->sqe.in_len > svc->config->max_request))
		request_complete(svc, r, -E2BIG, 0);
	else
		run_ordered(svc, r);
}

static void op_compact(struct service *svc, struct request *r)
{
	struct slice a, b;
	int rc = r->sqe.in_len > 2 * (svc->config->max_key + VARINT32_MAX) ? -E2BIG : ops_copy_payload(r);

	if (rc == 0)
		rc = two_keys(svc, r, &a, &b);
	if (rc == 0)
		run_ordered(svc, r);
	else
		request_complete(svc, r, rc, 0);
}

/* ---- the small ones ---- */

static void op_snapshot(struct service *svc, struct request *r)
{
	struct session *s = r->session;
	uint64_t sequence;
	int rc, row;

	if (s->snapshot_count >= svc->config->snapshots) {
		request_complete(svc, r, -ENOSPC, 0);
		return;
	}
	rc = engine_snapshot_take(svc->engine, &sequence);
	if (rc < 0) {
		request_complete(svc, r, rc, 0);
		return;
	}
	row = region_snapshot_take(svc->region, sequence, s->id, svc->now_ns);
	rc = row < 0 ? row : session_snapshot_add(s, sequence, row);
	if (rc < 0) {
		if (row >= 0)
			region_snapshot_free(svc->region, row);
		engine_snapshot_release(svc->engine, sequence);
		request_complete(svc, r, rc, 0);
		return;
	}
	r->sequence = sequence ? sequence : SEQUENCE_EMPTY;
	request_complete(svc, r, 0, 0);
}

static void op_release(struct service *svc, struct request *r)
{
	uint64_t sequence = r->sqe.sequence == SEQUENCE_EMPTY ? 0 : r->sqe.sequence;
	int row = session_snapshot_forget(r->session, sequence);

	if (row >= 0) {
		region_snapshot_free(svc->region, row);
		engine_snapshot_release(svc->engine, sequence);
	}
	request_complete(svc, r, row >= 0 ? 0 : -EINVAL, 0);
}

/* "shale.config": the settings in force, as a configuration file. */
static int config_text(const struct service *svc, char **text_out)
{
	size_t size;
	FILE *f = open_memstream(text_out, &size);

	if (!f)
		return -ENOMEM;
	config_write(svc->config, false, f);
	return fclose(f) ? -ENOMEM : 0;
}

static void op_property(struct service *svc, struct request *r)
{
	char *text = NULL;
	struct slice name;
	int rc = r->sqe.in_len > PROPERTY_NAME_MAX ? SHALE_NOTFOUND : ops_copy_payload(r);

	if (rc) {
		request_complete(svc, r, rc, 0);
		return;
	}
	name = slice_of(r->in, r->sqe.in_len);
	rc = slice_equal(name, slice_str("shale.config")) ? config_text(svc, &text)
							  : engine_property(svc->engine, name, &text);
	if (rc == 0)
		ops_answer(svc, r, text, strlen(text));
	else
		request_complete(svc, r, rc, 0);
	free(text);
}

static void op_sizes(struct service *svc, struct request *r)
{
	unsigned char bytes[8];
	struct slice start, limit;
	int rc = r->sqe.in_len > 2 * (svc->config->max_key + VARINT32_MAX) ? -E2BIG : ops_copy_payload(r);

	if (rc == 0)
		rc = two_keys(svc, r, &start, &limit);
	if (rc < 0) {
		request_complete(svc, r, rc, 0);
		return;
	}
	store_le64(bytes, engine_approximate_size(svc->engine, start, limit));
	ops_answer(svc, r, bytes, sizeof(bytes));
}

/* What waits and can be taken back is completed as cancelled; what is applied already is not: the client hears -ENOENT. */
static void op_cancel(struct service *svc, struct request *r)
{
	struct session *s = r->session;
	struct request *found = NULL;

	for (struct list *l = s->requests.next; l != &s->requests && !found; l = l->next) {
		struct request *other = container_of(l, struct request, of_session);

		if (other->sqe.user_data == r->sqe.sequence && other->state != REQUEST_SYNCING &&
		    other->state != REQUEST_UNDERWAY)
			found = other;
	}
	if (found)
		pending_give_up(svc, found, -ECANCELED);
	request_complete(svc, r, found ? 0 : -ENOENT, 0);
}

void ops_execute(struct service *svc, struct session *s, const struct sqe *sqe)
{
	const char *why = violation(s, sqe);
	struct request *r;

	if (unlikely(why)) {
		session_break(svc, s, why);
		return;
	}
	r = request_get(&svc->pool, s, sqe);
	if (unlikely(!r)) {
		/* Not even a request to answer with: the client would wait for ever, so its session must end. */
		session_break(svc, s, "the daemon has no memory left to answer it");
		return;
	}
	s->operations++;
	if (unlikely(sqe->flags & ~flags_of[sqe->op])) {
		request_complete(svc, r, -EINVAL, 0);
		return;
	}
	if (unlikely(sqe->deadline_ns && sqe->deadline_ns <= svc->now_ns)) {
		request_complete(svc, r, -ETIMEDOUT, 0);
		return;
	}
	switch ((enum shm_op)sqe->op) {
	case OP_NOP:
		svc->stats.nops++;
		request_complete(svc, r, 0, 0);
		break;
	case OP_GET:
		read_get(svc, r);
		break;
	case OP_WRITE:
		op_write(svc, r);
		break;
	case OP_SCAN:
		read_scan(svc, r);
		break;
	case OP_SNAPSHOT:
		op_snapshot(svc, r);
		break;
	case OP_RELEASE:
		op_release(svc, r);
		break;
	case OP_PROPERTY:
		op_property(svc, r);
		break;
	case OP_SIZES:
		op_sizes(svc, r);
		break;
	case OP_FLUSH:
		run_ordered(svc, r);
		break;
	case OP_COMPACT:
		op_compact(svc, r);
		break;
	case OP_MULTIGET:
		read_multiget(svc, r);
		break;
	case OP_CANCEL:
		op_cancel(svc, r);
		break;
	case OP_KICK:
		request_complete(svc, r, -EPERM, 0);
		break;
	case OP_COUNT:
		break; /* violation() refused it */
	}
}
