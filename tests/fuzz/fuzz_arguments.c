/*
 * The payloads that requests are decoded from (keys, batches, scan arguments, counted keys, pairs of keys, names), in submissions that are otherwise whole:
 * the session lives on, each is answered with a code that its operation has, and an answer has the form that shm/README.md says.
 *
 * Input: a byte of operation, two of flags, a byte of room for the answer (× 16), a byte of conditions (their bytes), then the payload.
 */
#include <errno.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/service_bed.h"

static const uint16_t ops[] = {OP_GET, OP_WRITE, OP_SCAN, OP_MULTIGET, OP_SIZES, OP_COMPACT, OP_PROPERTY, OP_CANCEL};

enum { OUT = BED_ARENA / 2 };

/* Entries of a chunk, in order. */
static void check_chunk(const struct sqe *sqe, const struct cqe *cqe)
{
	const unsigned char *p = bed.arena + OUT, *end = p + cqe->len;
	struct slice last = {0};
	bool first = true;

	if (cqe->len > sqe->out_len) {
		ENSURE(cqe->flags & CQE_MORE);
		return; /* the first entry did not fit */
	}
	while (p < end) {
		uint32_t key_size, value_size;
		struct slice key;

		p = varint32_get(p, end, &key_size);
		ENSURE(p && (p = varint32_get(p, end, &value_size)));
		ENSURE(key_size <= (size_t)(end - p) && value_size <= (size_t)(end - p) - key_size);
		key = slice_of(p, key_size);
		p += (size_t)key_size + value_size;
		if (!first)
			ENSURE(sqe->flags & SQE_REVERSE ? slice_compare(key, last) < 0 : slice_compare(key, last) > 0);
		last = key;
		first = false;
	}
}

static bool expected(const struct sqe *sqe, const struct cqe *cqe)
{
	switch (cqe->res) {
	case 0:
	case -EINVAL:
		return true;
	case -E2BIG:
		return sqe->op != OP_CANCEL;
	case SHALE_NOTFOUND:
		return sqe->op == OP_GET || sqe->op == OP_PROPERTY;
	case -ENOENT:
		return sqe->op == OP_CANCEL;
	case -EBADMSG:
	case -EAGAIN:
		return sqe->op == OP_WRITE;
	default:
		/* Conditions of a write that did not hold. */
		return sqe->op == OP_WRITE && cqe->res > 0;
	}
}

static void submit(const struct sqe *sqe)
{
	const struct cqe *cqe;

	*ring_sq_slot(&bed.ring, 0) = *sqe;
	ring_sq_publish(&bed.ring, 1);
	ENSURE(bed_visit());
	bed_settle();
	cqe = ring_cq_peek(&bed.ring);
	ENSURE(cqe && cqe->user_data == sqe->user_data && expected(sqe, cqe));
	if (sqe->op == OP_SCAN && cqe->res == 0)
		check_chunk(sqe, cqe);
	if (sqe->op == OP_SIZES && cqe->res == 0)
		ENSURE(cqe->len == 8);
	ring_cq_pop(&bed.ring);
	ENSURE(!ring_cq_peek(&bed.ring));
}

FUZZ_TARGET(arguments)
{
	struct input in = {data, data + size};
	struct sqe sqe = {.user_data = 99, .out_off = OUT};
	struct slice payload;

	bed_ready();
	sqe.session = bed.s->id;
	sqe.op = ops[input_byte(&in) % ARRAY_SIZE(ops)];
	sqe.flags = (uint16_t)(input_number(&in, 2) & SQE_FLAGS_KNOWN);
	sqe.out_len = input_byte(&in) * 16;
	sqe.extra_len = input_byte(&in);
	payload = input_slice(&in, OUT);
	sqe.in_len = (uint32_t)payload.size;
	if (sqe.op != OP_WRITE || sqe.extra_len > sqe.in_len)
		sqe.extra_len = 0;
	memset(bed.arena, 0, BED_ARENA);
	if (payload.size)
		memcpy(bed.arena, payload.data, payload.size);
	submit(&sqe);
	return 0;
}
