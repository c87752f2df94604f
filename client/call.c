/*
 * call.c - one request, from the caller's bytes to the daemon's answer.
 *
 * The usual way, all in shared memory: gather the payload into the arena, fill a submission, publish it, spin on the completion
 * ring. No system call is made while both sides spin. The clock is first read after a while of spinning, so an answer that
 * comes at once costs none.
 *
 * Waiting: spin as long as that has paid off lately, yielding the core after 2 us, then sleep on the ring's futex in slices of 2 ms doubling
 * to 100 ms. Between slices the socket tells whether the daemon still lives; so its death is noticed within a slice, whatever it
 * was doing.
 *
 * What becomes of a request whose daemon went away:
 *
 *	sq_head has not passed its slot    it was never taken, so never applied: repeated with the next daemon
 *	a read, or a flush or compaction   repeated
 *	a write that was taken             -SHALE_EUNKNOWN: it may have been applied and acknowledged a moment too late
 *
 * The daemon moves sq_head after copying a submission and before acting on it; its stores are all visible once the kernel has
 * hung up its socket. So the first line is certain and not a guess.
 *
 * Iterators ask for their next chunk ahead (call_ahead): such an answer is put aside when it comes by, and is lost with the channel. Who asked for it then asks
 * again, so nothing depends on it.
 *
 * A time-out leaves a request in flight, which may still write into the arena: a thread's channel is given up with it (the
 * daemon sees a hang-up), the next call makes another. The main session must not be given up, for it holds the pins; its
 * requests use no arena, so a late answer to them is dropped when it comes, and a late pin released.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "client/internal.h"

enum {
	SPINS_PER_CLOCK = 64,
	YIELD_NS = 2000,
	ROOM_YIELDS = 64,
	SLICE_MIN_NS = 2 * 1000 * 1000,
	SLICE_MAX_NS = 100 * 1000 * 1000,
	GRACE_NS =
		5 * 1000 * 1000, /* past a deadline: the daemon keeps deadlines too, and its answer keeps the channel */
	WATCH_NS = 100 * 1000 * 1000, /* between two looks of a watch */
	OP_BITS = 8,		      /* of user_data */
	GROW_ROUNDS = 8,	      /* an answer that outgrows its room so often is no answer */
	SHRINK_CALLS =
		1000, /* that did not need a grown arena, until it goes: less often than a handshake would be felt */
};

/* How an attempt ended when not with an answer. */
enum { ATTEMPT_GONE = INT32_MIN };

/* ---- waiting ---- */

static void publish(struct channel *ch)
{
	if (ring_sq_publish(&ch->ring, 1))
		channel_ring(ch);
}

/* A submission without payload whose answer nobody waits for. False when the ring is full. */
static bool send_release(struct channel *ch, uint64_t sequence)
{
	if (ring_sq_room(&ch->ring) == 0)
		return false;
	*ring_sq_slot(&ch->ring, 0) = (struct sqe){
		.user_data = ++ch->calls << OP_BITS | OP_RELEASE,
		.session = ch->session,
		.op = OP_RELEASE,
		.sequence = sequence,
	};
	publish(ch);
	return true;
}

/* Keeps an answer that was asked for ahead. False: it is none. */
static bool note_ahead(struct channel *ch, const struct cqe *cqe)
{
	for (unsigned i = 0; i < AHEADS; i++) {
		struct ahead *a = &ch->ahead[i];

		if (!a->owner || a->done || a->id != cqe->user_data)
			continue;
		a->cqe = *cqe;
		a->done = true;
		if (a->owner == AHEAD_ABANDONED)
			a->owner = 0;
		return true;
	}
	return false;
}

/* Bytes of the arena that calls may use. */
static size_t usable_arena(const struct channel *ch)
{
	for (size_t i = AHEADS; i > 0; i--) {
		if (ch->ahead[i - 1].owner)
			return ch->arena_size - i * (ch->arena_size / 4 & ~(size_t)(SHM_LINE - 1));
	}
	return ch->arena_size;
}

/* Reads completions until the one of @id (0: all that are there). Others belong to requests that timed out. */
static bool take_completion(struct channel *ch, uint64_t id, struct cqe *out)
{
	const struct cqe *slot;

	while ((slot = ring_cq_peek(&ch->ring))) {
		struct cqe cqe = *slot;

		ring_cq_pop(&ch->ring);
		if (cqe.user_data == id) {
			*out = cqe;
			return true;
		}
		if (note_ahead(ch, &cqe))
			continue;
		if ((cqe.user_data & ((1 << OP_BITS) - 1)) == OP_SNAPSHOT && cqe.res == 0)
			send_release(ch, cqe.sequence); /* if it cannot be sent, the pin goes with the session */
	}
	return false;
}

/* Spins for an answer as long as the spinner finds worth it. */
static bool spin(struct channel *ch, uint64_t id, struct cqe *out)
{
	uint64_t start = 0, now = 0;
	unsigned n = 0;

	while (!take_completion(ch, id, out)) {
		if (ch->spin.budget_ns == 0)
			return false;
		if (++n % SPINS_PER_CLOCK == 0) {
			now = monotonic_ns();
			if (!start)
				start = now;
			if (now - start >= ch->spin.budget_ns) {
				spinner_miss(&ch->spin);
				return false;
			}
			/* So long an answer means, as a rule, that the daemon has no core: it gets this one, for less than a sleep costs. */
			if (now - start >= YIELD_NS)
				sched_yield();
		}
		cpu_relax();
	}
	spinner_hit(&ch->spin, now - start);
	return true;
}

/* What a state of the channel means for what is in flight there. 0: it goes on. */
static int state_ended(uint32_t state)
{
	return state == CHANNEL_BROKEN ? -SHALE_ESESSION : state == CHANNEL_KICKED ? -SHALE_EKICKED : 0;
}

/*
 * Waits for the completion of @id, or, when @id is 0, for room in the submission ring.
 * 0; -ETIMEDOUT; -SHALE_ESESSION, -SHALE_EKICKED (the daemon ended the session); ATTEMPT_GONE (the daemon is not there any more).
 */
static int await(struct channel *ch, uint64_t id, uint64_t deadline_ns, struct cqe *out)
{
	uint64_t slice = SLICE_MIN_NS;
	bool slept = false;

	if (id && spin(ch, id, out))
		return 0;
	for (;;) {
		uint64_t now, wait;
		int ended;
		bool gone;

		/*
		 * Look at the socket first: what a daemon completed before it died is then seen below. Not before the first
		 * sleep, though: most sleeps end with an answer, and a look is a system call.
		 */
		gone = slept && channel_hung_up(ch);
		if (take_completion(ch, id, out) || (!id && ring_sq_room(&ch->ring)))
			return 0;
		ended = state_ended(ring_client_state(&ch->ring));
		if (ended < 0)
			return take_completion(ch, id, out) ? 0 : ended;
		if (gone)
			return ATTEMPT_GONE;
		now = monotonic_ns();
		if (deadline_ns && now >= deadline_ns + GRACE_NS)
			return -ETIMEDOUT;
		wait = deadline_ns && deadline_ns + GRACE_NS - now < slice ? deadline_ns + GRACE_NS - now : slice;
		ring_client_park(&ch->ring, wait);
		slept = true;
		slice = slice * 2 < SLICE_MAX_NS ? slice * 2 : SLICE_MAX_NS;
	}
}

/* ---- connecting ---- */

/* What one call knows while it is under way. */
struct progress {
	struct shale_db *db;
	struct channel *ch;
	const struct call *call;
	size_t in_len;
	size_t need;	      /* bytes of answer that there must be room for */
	uint64_t deadline_us; /* the call's, or the handle's; 0: none */
	uint64_t deadline_ns; /* the same on CLOCK_MONOTONIC; 0: none */
	uint64_t give_up_ns;  /* when to stop waiting for a daemon; 0: it has not been missed yet */
	bool outgrown;	      /* the usual arena was seen to be too small */
};

static size_t out_offset(const struct progress *p)
{
	return align_up(p->in_len, SHM_LINE);
}

static int too_big(const struct progress *p)
{
	const struct shale_db *db = p->db;
	size_t max = atomic_load_explicit(&db->max_request, memory_order_relaxed);

	return fail(db, -E2BIG,
		    "%s: a request of %zu bytes with an answer of %zu is more than the daemon on %s takes "
		    "(max_request_bytes %zu); "
		    "split it, or raise limits.max_request in shaled.conf and restart shaled",
		    p->call->what, p->in_len, p->need, db->path, max);
}

/* Words for a daemon that did not come back, or cannot be talked to. */
static int not_back(const struct progress *p, int rc, const struct err_info *err)
{
	if (!connect_may_retry(rc))
		return fail(p->db, rc, "%s: %s", p->call->what, err->text);
	if (p->deadline_ns && monotonic_ns() >= p->deadline_ns)
		return fail(p->db, -ETIMEDOUT, "%s: the deadline passed while waiting for a daemon on %s; last try: %s",
			    p->call->what, p->db->path, err->text);
	return fail(p->db, -EPIPE,
		    "%s: the daemon on %s is gone and did not come back within %u ms (reconnect_ms); last try: %s; see "
		    "whether "
		    "shaled runs (`shalectl ping`)",
		    p->call->what, p->db->path, p->db->reconnect_ms, err->text);
}

/* Connects, waiting for a daemon that restarts. */
static int reconnect(struct progress *p)
{
	size_t need = out_offset(p) + p->need;
	struct err_info err = {0, "none"};
	unsigned step_ms = 1;
	int rc;

	if (!p->give_up_ns)
		p->give_up_ns = monotonic_ns() + (uint64_t)p->db->reconnect_ms * 1000000;
	for (;;) {
		uint64_t now = monotonic_ns(), until = p->give_up_ns;

		if (p->deadline_ns && p->deadline_ns < until)
			until = p->deadline_ns;
		if (now >= until)
			return not_back(p, -ETIMEDOUT, &err);
		rc = channel_connect(p->db, p->ch, 0, p->outgrown ? arena_for(p->db, need) : p->db->arena_bytes,
				     (unsigned)((until - now) / 1000000 + 1), &err);
		if (rc == 0 && need <= p->ch->arena_size)
			return 0;
		if (rc == 0) {
			channel_close(p->ch, false);
			if (p->outgrown)
				return too_big(p); /* the daemon gave less than was asked for */
			p->outgrown = true;
			continue;
		}
		/* A daemon that dies in the middle of a handshake looks like a stranger; it has been shaled here before. */
		if (!connect_may_retry(rc) && rc != -SHALE_ENOTSHALE)
			return not_back(p, rc, &err);
		backoff(&step_ms, until);
	}
}

/* Whether a grown arena has not been needed for long. Where it still is, the next call says so and it grows again. */
static bool shrink_due(const struct channel *ch)
{
	return unlikely(ch->usual_arena < ch->arena_size) && ch->small_calls >= SHRINK_CALLS;
}

/* Remembers whether a grown arena was worth its memory: @used bytes of it were needed. */
static void note_use(struct channel *ch, size_t used)
{
	if (unlikely(ch->usual_arena < ch->arena_size))
		ch->small_calls = used > ch->usual_arena ? 0 : ch->small_calls + 1;
}

/* Sees to a usable channel with room for the request. */
static int prepare(struct progress *p)
{
	size_t need = out_offset(p) + p->need;
	struct channel *ch = p->ch;

	if (unlikely(p->in_len > UINT32_MAX || p->need > UINT32_MAX ||
		     (need > ch->arena_size && need > arena_limit(p->db))))
		return too_big(p);
	if (likely(ch->socket >= 0)) {
		uint32_t state = ring_client_state(&ch->ring);

		if (unlikely(state == CHANNEL_BROKEN))
			return -SHALE_ESESSION;
		p->outgrown = need > ch->arena_size;
		if (likely(state == CHANNEL_OPEN && !p->outgrown && !shrink_due(ch) && !row_reader_replaced(&ch->rows)))
			return 0;
		channel_close(ch, false);
	}
	if (p->call->same_session)
		return -SHALE_EOUSTED;
	return reconnect(p);
}

/* ---- asking ---- */

/* Copies the payload into the arena and publishes the submission. *@out_len: room left for the answer. */
static void submit(struct progress *p, uint64_t id, uint32_t *out_len)
{
	const struct call *call = p->call;
	struct channel *ch = p->ch;
	size_t at = 0, out_off = out_offset(p), room;
	struct sqe *sqe = ring_sq_slot(&ch->ring, 0);

	for (unsigned i = 0; i < call->parts; i++) {
		if (call->part[i].size)
			memcpy(ch->arena + at, call->part[i].data, call->part[i].size);
		at += call->part[i].size;
	}
	room = min_size(usable_arena(ch) - out_off, max_size(call->out_want, p->need));
	*out_len = (uint32_t)min_size(room, UINT32_MAX);
	*sqe = (struct sqe){
		.user_data = id,
		.session = ch->session,
		.op = call->op,
		.flags = call->flags,
		.in_len = (uint32_t)p->in_len,
		.out_off = *out_len ? out_off : 0,
		.out_len = *out_len,
		.extra_len = call->extra_len,
		.sequence = call->snapshot ? call->snapshot->sequence : call->sequence,
		.deadline_ns = channel_deadline(ch, p->deadline_ns),
	};
	publish(ch);
}

/* Asks the daemon to give up the request @id of this channel. False: no room. */
static bool send_cancel(struct channel *ch, uint64_t id)
{
	if (ring_sq_room(&ch->ring) == 0)
		return false;
	*ring_sq_slot(&ch->ring, 0) = (struct sqe){
		.user_data = ++ch->calls << OP_BITS | OP_CANCEL,
		.session = ch->session,
		.op = OP_CANCEL,
		.sequence = id,
	};
	publish(ch);
	return true;
}

/* Waits for a long request in short turns; between them its caller may look at how it goes, and end it. */
static int await_watched(const struct progress *p, uint64_t id, struct cqe *cqe)
{
	bool cancelled = false;

	for (;;) {
		uint64_t until = monotonic_ns() + WATCH_NS;
		int rc = await(p->ch, id, until > GRACE_NS ? until - GRACE_NS : 1, cqe);

		if (rc == ATTEMPT_GONE && cancelled)
			return -ECANCELED; /* not to be begun again with another daemon */
		if (rc != -ETIMEDOUT)
			return rc;
		if (p->deadline_ns && monotonic_ns() >= p->deadline_ns + GRACE_NS)
			return rc;
		if (!cancelled && p->call->watch(p->call->watch_context))
			cancelled = send_cancel(p->ch, id);
	}
}

/* Waits until nothing is asked for ahead any more; the answers are lost. As await(). */
static int end_aheads(struct progress *p)
{
	for (unsigned i = 0; i < AHEADS; i++) {
		struct ahead *a = &p->ch->ahead[i];

		if (a->owner && !a->done) {
			int rc = await(p->ch, a->id, p->deadline_ns, &a->cqe);

			if (rc < 0)
				return rc;
		}
		a->owner = 0;
	}
	return 0;
}

/* One try over a usable channel. 0 and *@cqe, ATTEMPT_GONE, or a failure. *@taken: the daemon may have seen it. */
static int attempt(struct progress *p, struct cqe *cqe, uint32_t *out_len, bool *taken)
{
	struct channel *ch = p->ch;
	uint64_t id = ++ch->calls << OP_BITS | p->call->op;
	uint32_t slot;
	int rc = 0;

	*taken = false;
	if (unlikely(ring_sq_room(&ch->ring) == 0))
		rc = await(ch, 0, p->deadline_ns, cqe);
	if (unlikely(rc == 0 && out_offset(p) + p->need > usable_arena(ch)))
		rc = end_aheads(p);
	if (rc < 0)
		return rc;
	slot = ch->ring.sq_tail;
	submit(p, id, out_len);
	rc = p->call->watch ? await_watched(p, id, cqe) : await(ch, id, p->deadline_ns, cqe);
	/* Acquire pairs with the release in ring_sq_take(). Only the one value that proves it counts as not taken. */
	if (rc < 0)
		*taken = atomic_load_explicit(&ch->ring.theirs->sq_head, memory_order_acquire) != slot;
	return rc;
}

/*
 * The snapshot of @call may have been pinned by a session that is gone, or in another run of the daemon than this
 * channel's. 0; -SHALE_EOUSTED; ATTEMPT_GONE when it is this channel that is out of date.
 */
static int check_snapshot(const struct progress *p)
{
	const struct shale_snapshot *s = p->call->snapshot;
	bool alive;

	if (likely(!s))
		return 0;
	alive = snapshot_alive(p->db, s);
	if (likely(alive && !memcmp(s->boot_id, p->ch->boot_id, sizeof(s->boot_id))))
		return 0;
	if (alive && channel_hung_up(p->ch))
		return ATTEMPT_GONE;
	return fail(p->db, -SHALE_EOUSTED,
		    "%s: the snapshot of sequence %llu went with the session that pinned it: the daemon on %s "
		    "restarted or ended the "
		    "session; take a new snapshot, or open a new iterator",
		    p->call->what, (unsigned long long)s->sequence, p->db->path);
}

/* An attempt ended without an answer. 0: try again. */
static int lost(struct progress *p, int rc, bool taken)
{
	bool is_main = p->ch == &p->db->main;

	if (rc != -ETIMEDOUT || !is_main)
		channel_close(p->ch, false);
	switch (rc) {
	case ATTEMPT_GONE:
		break;
	case -SHALE_ESESSION:
		return fail(p->db, rc,
			    "%s: the daemon on %s ended this session because the channel broke its protocol, so "
			    "something in this "
			    "process wrote over shared memory; the next call opens a new session",
			    p->call->what, p->db->path);
	case -SHALE_EKICKED:
		return fail(p->db, rc,
			    "%s: an administrator ended this session with the daemon on %s (`shalectl kick`)%s; the "
			    "next call "
			    "opens a new one",
			    p->call->what, p->db->path,
			    p->call->write && taken ? "; the write may or may not have been applied" : "");
	case -ETIMEDOUT:
		return fail(p->db, rc, "%s: no answer from the daemon on %s before the deadline of %llu us%s",
			    p->call->what, p->db->path, (unsigned long long)p->deadline_us,
			    p->call->write ? "; the write may still be applied" : "");
	default:
		return fail_answer(p->db, p->call->what, rc);
	}
	if (p->call->write && taken)
		return fail(p->db, -SHALE_EUNKNOWN,
			    "%s: the daemon on %s went away after it had taken the write: it may or may not have been "
			    "applied; read "
			    "back what it wrote before writing again",
			    p->call->what, p->db->path);
	/* The clock of reconnect_ms starts with the first loss and is not wound again: a daemon that dies on each try ends it. */
	if (!p->give_up_ns)
		p->give_up_ns = monotonic_ns() + (uint64_t)p->db->reconnect_ms * 1000000;
	return 0;
}

/* Makes room for an answer of @len bytes. 0: ask again. */
static int grow(struct progress *p, size_t len, unsigned round)
{
	if (round >= GROW_ROUNDS)
		return fail(p->db, -SHALE_ENOTSHALE,
			    "%s: the answer of the daemon on %s never fits the room it asks for", p->call->what,
			    p->db->path);
	p->need = len;
	if (len > arena_limit(p->db))
		return too_big(p);
	return 0;
}

static int channel_call(struct shale_db *db, struct channel *ch, const struct call *call, struct answer *out)
{
	struct progress p = {.db = db, .ch = ch, .call = call, .need = call->out_need};
	unsigned round = 0;

	for (unsigned i = 0; i < call->parts; i++)
		p.in_len += call->part[i].size;
	p.deadline_us = call->deadline_us || call->takes_long ? call->deadline_us : db->deadline_us;
	if (p.deadline_us)
		p.deadline_ns = deadline_after(p.deadline_us);
	for (;;) {
		uint32_t out_len = 0;
		bool taken = false;
		struct cqe cqe;
		int rc = prepare(&p);

		if (rc == 0)
			rc = check_snapshot(&p);
		else if (rc == -SHALE_ESESSION)
			rc = lost(&p, rc, false);
		if (unlikely(rc < 0 && rc != ATTEMPT_GONE))
			return rc;
		if (likely(rc == 0))
			rc = attempt(&p, &cqe, &out_len, &taken);
		if (unlikely(rc < 0)) {
			rc = lost(&p, rc, taken);
			if (rc < 0)
				return rc;
			continue;
		}
		if (unlikely(cqe.res < 0))
			return fail_answer(db, call->what, cqe.res);
		if (unlikely(cqe.res == 0 && cqe.len > out_len && !call->length_only)) {
			rc = grow(&p, cqe.len, round++);
			if (rc < 0)
				return rc;
			continue;
		}
		note_use(ch, out_offset(&p) + (cqe.res == 0 ? cqe.len : 0));
		*out = (struct answer){cqe.res, cqe.flags, cqe.len, ch->arena + out_offset(&p), cqe.sequence};
		return cqe.res;
	}
}

int call_run(struct shale_db *db, const struct call *call, struct answer *out)
{
	struct lane *lane = lane_get(db);

	if (unlikely(!lane))
		return fail(db, -ENOMEM, "%s: no memory for this thread's channel", call->what);
	return channel_call(db, &lane->channel, call, out);
}

int call_main(struct shale_db *db, const struct call *call, struct answer *out)
{
	return channel_call(db, &db->main, call, out);
}

/* ---- ahead ---- */

static struct ahead *find_ahead(struct channel *ch, uint64_t ticket)
{
	for (unsigned i = 0; i < AHEADS; i++) {
		if (ch->ahead[i].owner == ticket)
			return &ch->ahead[i];
	}
	return NULL;
}

/* A free place, or one whose answer nobody has come for: that iterator then asks again. */
static struct ahead *place_ahead(struct channel *ch)
{
	struct ahead *a = find_ahead(ch, 0);

	for (unsigned i = 0; !a && i < AHEADS; i++) {
		if (ch->ahead[i].done)
			a = &ch->ahead[i];
	}
	return a;
}

void call_ahead(struct shale_db *db, const struct call *call, uint64_t ticket)
{
	struct lane *lane = lane_get(db);
	struct channel *ch = lane ? &lane->channel : NULL;
	struct progress p = {.db = db, .ch = ch, .call = call};
	size_t part, off, in;
	struct ahead *a;

	if (!ch || ch->socket < 0 || ring_client_state(&ch->ring) != CHANNEL_OPEN || ring_sq_room(&ch->ring) == 0 ||
	    check_snapshot(&p) < 0)
		return;
	a = place_ahead(ch);
	for (unsigned i = 0; i < call->parts; i++)
		p.in_len += call->part[i].size;
	in = out_offset(&p);
	part = ch->arena_size / 4 & ~(size_t)(SHM_LINE - 1);
	if (!a || in >= part / 2)
		return;
	off = ch->arena_size - (size_t)(a - ch->ahead + 1) * part;
	p.deadline_us = call->deadline_us ? call->deadline_us : db->deadline_us;
	if (p.deadline_us)
		p.deadline_ns = deadline_after(p.deadline_us);
	*a = (struct ahead){
		.owner = ticket,
		.id = ++ch->calls << OP_BITS | call->op,
		.out_off = off + in,
		.out_len = (uint32_t)min_size(part - in, call->out_want),
	};
	for (unsigned i = 0, at = 0; i < call->parts; i++) {
		if (call->part[i].size)
			memcpy(ch->arena + off + at, call->part[i].data, call->part[i].size);
		at += (unsigned)call->part[i].size;
	}
	*ring_sq_slot(&ch->ring, 0) = (struct sqe){
		.user_data = a->id,
		.session = ch->session,
		.op = call->op,
		.flags = call->flags,
		.in_len = (uint32_t)p.in_len,
		.in_off = off,
		.out_off = a->out_off,
		.out_len = a->out_len,
		.sequence = call->snapshot ? call->snapshot->sequence : call->sequence,
		.deadline_ns = channel_deadline(ch, p.deadline_ns),
	};
	publish(ch);
}

bool call_ahead_answer(struct shale_db *db, const struct call *call, uint64_t ticket, struct answer *out)
{
	struct lane *lane = lane_get(db);
	struct ahead *a = lane && lane->channel.socket >= 0 ? find_ahead(&lane->channel, ticket) : NULL;
	struct progress p = {.db = db, .call = call};

	if (!a)
		return false;
	p.ch = &lane->channel;
	if (!a->done) {
		uint64_t us = call->deadline_us ? call->deadline_us : db->deadline_us;

		if (await(p.ch, a->id, us ? deadline_after(us) : 0, &a->cqe) < 0) {
			channel_close(p.ch, false); /* the call that follows finds out what there is to say */
			return false;
		}
		a->done = true;
	}
	/* An answer that is a failure, or does not fit, is given again to somebody who can deal with it. */
	if (a->cqe.res != 0 || a->cqe.len > a->out_len || check_snapshot(&p) < 0) {
		a->owner = 0;
		return false;
	}
	*out = (struct answer){0, a->cqe.flags, a->cqe.len, p.ch->arena + a->out_off, a->cqe.sequence};
	return true;
}

void call_ahead_drop(struct shale_db *db, uint64_t ticket)
{
	struct lane *lane = lane_get(db);
	struct ahead *a = lane && lane->channel.socket >= 0 ? find_ahead(&lane->channel, ticket) : NULL;

	if (a)
		a->owner = a->done ? 0 : AHEAD_ABANDONED;
}

bool call_release_nowait(struct shale_db *db, const struct shale_snapshot *snapshot)
{
	struct cqe unused;

	if (db->main.socket < 0 || !snapshot_alive(db, snapshot))
		return true; /* the pin went with its session */
	take_completion(&db->main, 0, &unused);
	/* Many at once can be faster than a daemon that is well; one that is stopped costs only these. */
	for (unsigned i = 0; i < ROOM_YIELDS && ring_sq_room(&db->main.ring) == 0; i++)
		sched_yield();
	return send_release(&db->main, snapshot->sequence);
}
