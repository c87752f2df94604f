/*
 * The conditions before a client's batch: what conditions_check accepts, the reader walks to its end, as many as were counted; encoded anew they are
 * accepted again and say the same.
 *
 * Input: a byte each that limit key and value (0: no limits), then the conditions.
 */
#include "shm/condition.h"

#include <errno.h>

#include "shm/batch.h"
#include "tests/fuzz/fuzz.h"

static void same(struct slice bytes, struct slice again)
{
	struct condition_reader r, s;
	struct condition c, d;

	condition_reader_init(&r, bytes);
	condition_reader_init(&s, again);
	while (condition_reader_next(&r, &c)) {
		ENSURE(condition_reader_next(&s, &d) && c.type == d.type && c.sequence == d.sequence);
		ENSURE(slice_equal(c.key, d.key) && slice_equal(c.value, d.value));
	}
	ENSURE(!condition_reader_next(&s, &d));
}

static void walk(struct slice bytes, uint32_t count, const struct batch_limits *limits)
{
	unsigned char *copy = malloc(bytes.size), *end = copy + CONDITION_HEADER_SIZE;
	struct condition_reader r;
	struct condition c;
	uint32_t n = 0;

	ENSURE(copy);
	store_le32(copy, count);
	condition_reader_init(&r, bytes);
	for (; condition_reader_next(&r, &c); n++) {
		ENSURE(c.type <= CONDITION_SEQUENCE && (c.type == CONDITION_EQUAL || !c.value.size));
		ENSURE(!limits || (c.key.size <= limits->max_key && c.value.size <= limits->max_value));
		/* Lengths in their shortest form never take more room. */
		ENSURE(condition_size(&c) <= bytes.size - (size_t)(end - copy));
		end = condition_append(end, &c);
	}
	ENSURE(r.next == r.end && n == count && n <= CONDITIONS_MAX);
	ENSURE(conditions_check(slice_of(copy, (size_t)(end - copy)), limits, &n) == 0 && n == count);
	same(bytes, slice_of(copy, (size_t)(end - copy)));
	free(copy);
}

FUZZ_TARGET(condition)
{
	struct input in = {data, data + size};
	struct batch_limits limits = {.max_key = input_byte(&in), .max_value = input_byte(&in)};
	const struct batch_limits *used = limits.max_key || limits.max_value ? &limits : NULL;
	struct slice rest = input_slice(&in, SIZE_MAX);
	unsigned char *copy = input_copy(rest);
	uint32_t count = 0;
	int rc = conditions_check(slice_of(copy, rest.size), used, &count);

	ENSURE(rc == 0 || rc == -EBADMSG || rc == -E2BIG);
	if (rc == 0)
		walk(slice_of(copy, rest.size), count, used);
	free(copy);
	return 0;
}
