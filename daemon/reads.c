/*
 * reads.c - GET, SCAN, MULTIGET: probe; on a miss fetch all missing blocks at once, and probe again from the start.
 *
 * A probe runs over a view that the request keeps while it waits, at a sequence chosen after the view was taken, so that
 * what it finds does not depend on how often it had to be repeated.
 */
#include "daemon/reads.h"

#include "daemon/meter.h"
#include "daemon/ops.h"
#include "daemon/pending.h"
#include "daemon/pins.h"
#include "daemon/room.h"
#include "daemon/rows.h"
#include "daemon/writes.h"
#include "shm/error.h"

enum {
	ANSWER_SLICE =
		256 << 10, /* bytes of a large value that are copied in one pass, so that others are not kept waiting */
	SCAN_CHUNK_MAX = 256 << 10, /* bytes of one chunk, for the same reason */
	SCAN_LONG = 16 << 10,	    /* a chunk of this size is not a cursor's first look */
	SCAN_READAHEAD = 256 << 10,
	MULTIGET_AT_ONCE = 8 << 20, /* bytes that a MULTIGET pins, as far as its next key does not need more */
};

/* Pins the view, then chooses the sequence: in this order the read is linearizable. 0 or a negative code. */
static int read_begin(struct service *svc, struct request *r)
{
	uint64_t sequence = r->sqe.sequence;
	int rc;

	if (sequence) {
		if (sequence == SEQUENCE_EMPTY)
			sequence = 0;
		else if (sequence > SEQUENCE_MAX)
			return -SHALE_EOUSTED;
		rc = pin_check(svc, r->session, sequence);
		if (rc < 0)
			return rc;
	}
	r->view = engine_view(svc->engine);
	if (unlikely(!r->view))
		return -ENOMEM;
	r->sequence = r->sqe.sequence ? sequence : engine_last_sequence(svc->engine);
	r->ctx.no_fill = r->sqe.flags & SQE_NO_FILL;
	return 0;
}

/* What it has; after a wait for room, at least what it waited for: else others would take that before it gets there. */
static size_t needs(const struct request *r)
{
	return r->waited ? max_size(r->ctx.bytes, r->wants) : r->ctx.bytes;
}

static void on_fetched(struct read_ctx *ctx)
{
	struct request *r = container_of(ctx, struct request, ctx);

	if (likely(r->session))
		room_set(r, needs(r));
	list_remove(&r->link);
	r->state = REQUEST_READY;
	list_push_back(&r->service->ready, &r->link);
}

void read_fetch(struct service *svc, struct request *r)
{
	int rc;

	r->delay |= DELAY_READ;
	if (!room_enter(svc, r, r->ctx.wanted))
		return;
	request_wait(svc, r, REQUEST_FETCHING, NULL);
	rc = read_ctx_fetch(&r->ctx, on_fetched);
	if (rc < 0)
		request_complete(svc, r, rc, 0);
	else
		room_set(r, needs(r));
}

/*
 * A read that the disk could not answer: the client gets the code, the log gets the words. A missing table is damage like any other to whoever
 * asks for a key.
 */
static int damage(struct service *svc, struct request *r, int rc)
{
	const struct err_info *why = read_ctx_error(&r->ctx);

	if (rc != -SHALE_ECORRUPT && rc != -SHALE_EMISSING && rc != -EIO)
		return rc;
	event_tell(&svc->events, REGION_EVENT_DAMAGE, LOG_ERR, "a read failed: %s",
		   why ? why->text : shale_strerror(rc));
	log_braked(&svc->damage_brake, svc->now_ns, LOG_ERR,
		   "a read failed: %s; `shalectl verify` tells all that is damaged",
		   why ? why->text : shale_strerror(rc));
	return rc == -SHALE_EMISSING ? -SHALE_ECORRUPT : rc;
}

/*
 * Whether there is room to hold the value until its last slice is copied; else the request waits. Its block may be the cache's or a memtable's for now, but
 * neither keeps it for as long.
 */
static bool room_for_slices(struct service *svc, struct request *r, struct slice value)
{
	if (room_enter(svc, r, value.size - min_size(value.size, r->room))) {
		room_set(r, max_size(value.size, r->ctx.bytes));
		return true;
	}
	r->delay |= DELAY_READ;
	read_ctx_unpin(&r->ctx);
	room_drop(svc, r);
	r->wants = value.size;
	return false;
}

/* A large value, to be copied slice by slice. */
static void answer_in_slices(struct service *svc, struct request *r, struct slice value)
{
	struct session *s = r->session;

	r->value = value;
	r->copied = 0;
	request_wait(svc, r, REQUEST_ANSWERING, &s->answering);
	if (list_empty(&s->answer_link))
		list_push_back(&s->user->answering, &s->answer_link);
	if (list_empty(&s->user->answer_link))
		list_push_back(&svc->answering, &s->user->answer_link);
}

/* Whose slice is next: users take turns, and so do the sessions of each. NULL: nobody's. */
static struct request *next_slice(struct service *svc)
{
	struct list *of_user, *of_session;

	while ((of_user = list_pop(&svc->answering))) {
		struct user *u = container_of(of_user, struct user, answer_link);

		while ((of_session = list_pop(&u->answering))) {
			struct session *s = container_of(of_session, struct session, answer_link);

			if (list_empty(&s->answering))
				continue; /* its last one is done, or was given up */
			list_push_back(&u->answering, of_session);
			list_push_back(&svc->answering, of_user);
			return container_of(s->answering.next, struct request, link);
		}
	}
	return NULL;
}

unsigned read_answer_on(struct service *svc)
{
	struct request *r = next_slice(svc);
	size_t n;

	if (likely(!r))
		return 0;
	n = min_size(min_size(r->value.size, r->sqe.out_len) - r->copied, ANSWER_SLICE);
	memcpy(r->session->arena + r->sqe.out_off + r->copied, r->value.data + r->copied, n);
	r->copied += n;
	r->session->bytes_out += n;
	svc->stats.bytes_read_by_clients += n;
	session_charge(r->session, n);
	if (r->copied == min_size(r->value.size, r->sqe.out_len))
		request_complete(svc, r, 0, (uint32_t)r->value.size);
	return 1;
}

static void probe_get(struct service *svc, struct request *r)
{
	struct slice value;
	uint64_t entry = 0, at = r->sequence;
	int rc = engine_get_entry(r->view, &r->ctx, at, slice_of(r->in, r->sqe.in_len), &value, &entry);
	bool large;

	if (rc == READ_MISS) {
		read_fetch(svc, r);
		return;
	}
	large = rc == 0 && min_size(value.size, r->sqe.out_len) > ANSWER_SLICE;
	if (unlikely(large) && !room_for_slices(svc, r, value))
		return;
	svc->stats.gets++;
	r->sequence = entry;
	if (rc >= 0)
		rows_offer(svc, r, at, rc == 0 ? &value : NULL, entry);
	if (rc == 0) {
		svc->stats.gets_found++;
		if (likely(!large))
			ops_answer(svc, r, value.data, value.size);
		else
			answer_in_slices(svc, r, value);
	} else {
		request_complete(svc, r, rc < 0 ? damage(svc, r, rc) : rc, 0);
	}
}

void read_get(struct service *svc, struct request *r)
{
	int rc = r->sqe.in_len > svc->config->max_key ? -E2BIG : ops_copy_payload(r);

	if (rc == 0)
		rc = read_begin(svc, r);
	if (rc == 0)
		probe_get(svc, r);
	else
		request_complete(svc, r, rc, 0);
}

static void probe_scan(struct service *svc, struct request *r)
{
	struct scan *scan = &r->scan;
	int rc = engine_scan(r->view, &r->ctx, scan);

	/* An entry that is larger than the chunk may be alone in it, as long as the client has the room. */
	if (rc == 0 && !scan->count && scan->needed > scan->out_size && scan->needed <= r->sqe.out_len) {
		scan->out_size = scan->needed;
		rc = engine_scan(r->view, &r->ctx, scan);
	}
	if (rc == READ_MISS) {
		read_fetch(svc, r);
		return;
	}
	if (rc < 0) {
		request_complete(svc, r, damage(svc, r, rc), 0);
		return;
	}
	svc->stats.scans++;
	svc->stats.scan_entries += scan->count;
	svc->stats.bytes_read_by_clients += scan->used;
	r->session->bytes_out += scan->used;
	session_charge(r->session, scan->used);
	if (scan->more)
		r->flags |= CQE_MORE;
	request_complete(svc, r, 0, (uint32_t)(!scan->count && scan->needed ? scan->needed : scan->used));
}

static int scan_begin(struct service *svc, struct request *r)
{
	struct scan_args args;
	size_t keys, room = min_size(r->sqe.out_len, SCAN_CHUNK_MAX);
	int rc;

	if (r->sqe.in_len < sizeof(args))
		return -EINVAL;
	if (r->sqe.in_len > sizeof(args) + 2 * svc->config->max_key)
		return -E2BIG;
	rc = ops_copy_payload(r);
	if (rc < 0)
		return rc;
	memcpy(&args, r->in, sizeof(args));
	keys = r->sqe.in_len - sizeof(args);
	if (args.start_len > keys || args.limit_len != keys - args.start_len)
		return -EINVAL;
	rc = read_begin(svc, r);
	if (rc < 0)
		return rc;
	if (args.max_bytes)
		room = min_size(room, args.max_bytes);
	r->scan = (struct scan){
		.sequence = r->sequence,
		.reverse = r->sqe.flags & SQE_REVERSE,
		.exclusive = r->sqe.flags & SQE_EXCLUSIVE,
		.has_start = r->sqe.flags & SQE_HAS_START,
		.has_limit = r->sqe.flags & SQE_HAS_LIMIT,
		.start = slice_of(r->in + sizeof(args), args.start_len),
		.limit = slice_of(r->in + sizeof(args) + args.start_len, args.limit_len),
		.max_count = args.max_count,
		.out = r->session->arena + r->sqe.out_off,
		.out_size = room,
	};
	if (room >= SCAN_LONG && !r->scan.reverse && (!args.max_count || args.max_count > 16))
		r->ctx.readahead = SCAN_READAHEAD;
	return 0;
}

void read_scan(struct service *svc, struct request *r)
{
	int rc = scan_begin(svc, r);

	if (rc == 0)
		probe_scan(svc, r);
	else
		request_complete(svc, r, rc, 0);
}

/*
 * Keys are answered in their order, at once when they are known, and not looked at again. Behind the first that misses they are only asked for, so that one
 * round fetches what many of them need. What was fetched for those before is then let go of, if it is much. That may be something that a later key would need
 * again; but it happens only after a key was answered, so a request gets on whatever the caches keep.
 *
 * A key's value that does not fit is left out (its length says so), and the completion's len tells the room that all together take.
 */
static void probe_multiget(struct service *svc, struct request *r)
{
	struct multiget_progress *m = &r->multiget;
	const unsigned char *p = r->in + m->at, *end = r->in + r->sqe.in_len;
	unsigned char *out = r->session->arena + r->sqe.out_off;
	uint32_t done_before = m->done;
	size_t used_before = m->used;
	bool missed = false;

	for (uint32_t i = m->done; i < m->count; i++) {
		struct slice key, value = {0};
		unsigned char head[16];
		uint64_t sequence = 0;
		size_t entry;
		int rc;

		if (missed && r->ctx.bytes + r->ctx.wanted > MULTIGET_AT_ONCE)
			break;
		p = length_prefixed_get(p, end, &key); /* multiget_begin() saw that all are there */
		rc = engine_get_entry(r->view, &r->ctx, r->sequence, key, &value, &sequence);
		if (rc == READ_MISS && !missed && m->done > done_before && r->ctx.bytes > MULTIGET_AT_ONCE / 2)
			read_ctx_unpin(&r->ctx);
		missed |= rc == READ_MISS;
		if (missed) {
			read_ctx_release(&r->ctx);
			continue;
		}
		if (rc)
			value.size = 0;
		if (rc < 0)
			rc = damage(svc, r, rc);
		entry = sizeof(head) + value.size;
		m->need += entry;
		if (entry <= r->sqe.out_len - m->used) {
			store_le32(head, (uint32_t)rc);
			store_le32(head + 4, (uint32_t)value.size);
			store_le64(head + 8, sequence);
			memcpy(out + m->used, head, sizeof(head));
			if (value.size)
				memcpy(out + m->used + sizeof(head), value.data, value.size);
			m->used += entry;
		}
		read_ctx_release(&r->ctx);
		m->done = i + 1;
		m->at = (size_t)(p - r->in);
	}
	svc->stats.gets += m->done - done_before;
	svc->stats.bytes_read_by_clients += m->used - used_before;
	r->session->bytes_out += m->used - used_before;
	session_charge(r->session, m->used - used_before + (uint64_t)(m->done - done_before) * SEARCH_COST);
	if (missed)
		read_fetch(svc, r);
	else
		request_complete(svc, r, m->need > UINT32_MAX ? -E2BIG : 0,
				 m->need > UINT32_MAX ? 0 : (uint32_t)m->need);
}

static int multiget_begin(struct service *svc, struct request *r)
{
	const unsigned char *p, *end;
	uint32_t count;
	int rc;

	if (r->sqe.in_len < 4)
		return -EINVAL;
	if (r->sqe.in_len > svc->config->max_request)
		return -E2BIG;
	rc = ops_copy_payload(r);
	if (rc < 0)
		return rc;
	count = load_le32(r->in);
	if (count > MULTIGET_MAX)
		return -E2BIG;
	p = r->in + 4;
	end = r->in + r->sqe.in_len;
	for (uint32_t i = 0; i < count; i++) {
		struct slice key;

		p = length_prefixed_get(p, end, &key);
		if (!p)
			return -EINVAL;
		if (key.size > svc->config->max_key)
			return -E2BIG;
	}
	r->multiget = (struct multiget_progress){.count = count, .at = 4};
	return p == end ? read_begin(svc, r) : -EINVAL;
}

void read_multiget(struct service *svc, struct request *r)
{
	int rc = multiget_begin(svc, r);

	if (rc == 0)
		probe_multiget(svc, r);
	else
		request_complete(svc, r, rc, 0);
}

void read_again(struct service *svc, struct request *r)
{
	meter_resume(svc, r);
	if (!r->session) {
		room_forget(svc, r);
		request_complete(svc, r, 0, 0); /* nobody waits for it any more */
	} else if (r->sqe.op == OP_GET)
		probe_get(svc, r);
	else if (r->sqe.op == OP_SCAN)
		probe_scan(svc, r);
	else if (r->sqe.op == OP_WRITE)
		write_again(svc, r);
	else
		probe_multiget(svc, r);
}
