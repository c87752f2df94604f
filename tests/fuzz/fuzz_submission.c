/*
 * Submissions and ring indices as a hostile client writes them, through the real ring into ops_execute: the daemon's state stays sound, each request that
 * was taken is answered (or the session ended, with nothing left of it), and no byte of the arena changes outside the ranges that requests named
 * for their answers.
 *
 * Input: a byte of submissions (1 to 8), a byte of what is added to sq_tail beyond them, and one added to cq_head; for each submission a byte of
 * amends (bit 0: the true session; bit 1: offsets inside the arena; bit 2: lengths small; bit 3: no deadline; bit 4: a known operation) and 64 bytes; then the arena.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/service_bed.h"

static unsigned char before[BED_ARENA];

static void amend(struct sqe *sqe, unsigned how)
{
	if (how & 1)
		sqe->session = bed.s->id;
	if (how & 2) {
		sqe->in_off %= BED_ARENA / 2;
		sqe->out_off = BED_ARENA / 2 + sqe->out_off % (BED_ARENA / 4);
	}
	if (how & 4) {
		sqe->in_len %= 256;
		sqe->out_len %= 4096;
	}
	if (how & 8)
		sqe->deadline_ns = 0;
	if (how & 16)
		sqe->op %= OP_COUNT;
}

static bool may_change(const struct sqe *sqes, unsigned n, size_t at)
{
	for (unsigned i = 0; i < n; i++)
		if (at >= sqes[i].out_off && at - sqes[i].out_off < sqes[i].out_len)
			return true;
	return false;
}

static void nothing_else_changed(const struct sqe *sqes, unsigned n)
{
	if (memcmp(before, bed.arena, BED_ARENA) == 0)
		return;
	for (size_t at = 0; at < BED_ARENA; at++)
		ENSURE(before[at] == bed.arena[at] || may_change(sqes, n, at));
}

static void drain(unsigned sent)
{
	const struct cqe *cqe;
	unsigned n = 0;

	while ((cqe = ring_cq_peek(&bed.ring))) {
		ENSURE(!cqe->delayed_us || cqe->delay);
		ring_cq_pop(&bed.ring);
		n++;
	}
	ENSURE(n == sent);
}

FUZZ_TARGET(submission)
{
	struct input in = {data, data + size};
	unsigned n = 1 + input_byte(&in) % BED_ENTRIES, beyond = input_byte(&in), ahead = input_byte(&in);
	struct sqe sqes[BED_ENTRIES] = {0};
	struct slice rest;
	bool sound;

	bed_ready();
	for (unsigned i = 0; i < BED_ENTRIES; i++) /* what a tail that is too far on shows */
		*ring_sq_slot(&bed.ring, i) = (struct sqe){0};
	for (unsigned i = 0; i < n; i++) {
		unsigned how = input_byte(&in);
		struct slice raw = input_slice(&in, sizeof(sqes[i]));

		if (raw.size)
			memcpy(&sqes[i], raw.data, raw.size);
		amend(&sqes[i], how);
		*ring_sq_slot(&bed.ring, i) = sqes[i];
	}
	rest = input_slice(&in, BED_ARENA);
	memset(bed.arena, 0, BED_ARENA);
	if (rest.size)
		memcpy(bed.arena, rest.data, rest.size);
	memcpy(before, bed.arena, BED_ARENA);
	ring_sq_publish(&bed.ring, n + beyond);
	if (ahead)
		atomic_store(&bed.ring.mine->cq_head, bed.ring.cq_head + ahead);
	sound = bed_visit();
	ENSURE(!beyond || n + beyond <= BED_ENTRIES || !sound);
	bed_settle();
	nothing_else_changed(sqes, n);
	if (!sound || beyond || ahead)
		bed_end_session();
	else
		drain(n);
	return 0;
}
