/*
 * Conditions of a write come from clients: what is not well formed is refused, what is comes back as it was.
 */
#include "shm/condition.h"

#include <errno.h>

#include "shm/batch.h"
#include "tests/test.h"

static const struct condition each[] = {
	{CONDITION_ABSENT, {(const unsigned char *)"new", 3}, {NULL, 0}, 0},
	{CONDITION_PRESENT, {(const unsigned char *)"", 0}, {NULL, 0}, 0},
	{CONDITION_EQUAL, {(const unsigned char *)"k", 1}, {(const unsigned char *)"value", 5}, 0},
	{CONDITION_EQUAL, {(const unsigned char *)"empty", 5}, {(const unsigned char *)"", 0}, 0},
	{CONDITION_SEQUENCE, {(const unsigned char *)"k\0l", 3}, {NULL, 0}, UINT64_C(1) << 55},
};

static size_t encode(unsigned char *buf)
{
	unsigned char *p = buf + CONDITION_HEADER_SIZE;

	store_le32(buf, ARRAY_SIZE(each));
	for (size_t i = 0; i < ARRAY_SIZE(each); i++) {
		unsigned char *before = p;

		p = condition_append(p, &each[i]);
		ck_assert_uint_eq((size_t)(p - before), condition_size(&each[i]));
	}
	return (size_t)(p - buf);
}

/* Every kind comes back as it was given. */
START_TEST(round_trip)
{
	unsigned char buf[256];
	size_t size = encode(buf), i = 0;
	struct condition_reader r;
	struct condition c;
	uint32_t count;

	ck_ok(conditions_check(slice_of(buf, size), NULL, &count));
	ck_assert_uint_eq(count, ARRAY_SIZE(each));
	condition_reader_init(&r, slice_of(buf, size));
	for (; condition_reader_next(&r, &c); i++) {
		ck_assert_uint_eq(c.type, each[i].type);
		ck_assert(slice_equal(c.key, each[i].key));
		ck_assert(slice_equal(c.value, each[i].value));
		ck_assert_uint_eq(c.sequence, each[i].sequence);
	}
	ck_assert_uint_eq(i, ARRAY_SIZE(each));
}
END_TEST

/* Cut anywhere, or with a byte too many, they are refused: a condition that is lost would let a write pass. */
START_TEST(every_truncation_is_refused)
{
	unsigned char buf[256];
	size_t size = encode(buf);
	uint32_t count = 99;

	buf[size] = 0;
	for (size_t cut = 0; cut <= size + 1; cut++) {
		if (cut != size)
			ck_assert_int_eq(conditions_check(slice_of(buf, cut), NULL, &count), -EBADMSG);
	}
	ck_assert_uint_eq(count, 99);
	buf[CONDITION_HEADER_SIZE] = CONDITION_SEQUENCE + 1;
	ck_assert_int_eq(conditions_check(slice_of(buf, size), NULL, &count), -EBADMSG);
}
END_TEST

/* Their number, and the sizes of keys and values, are bounded. */
START_TEST(limits_hold)
{
	unsigned char buf[256];
	size_t size = encode(buf);
	uint32_t count;
	const struct batch_limits fits = {.max_key = 5, .max_value = 5}, keys = {.max_key = 4, .max_value = 5},
				  values = {.max_key = 5, .max_value = 4};

	ck_ok(conditions_check(slice_of(buf, size), &fits, &count));
	ck_assert_int_eq(conditions_check(slice_of(buf, size), &keys, &count), -E2BIG);
	ck_assert_int_eq(conditions_check(slice_of(buf, size), &values, &count), -E2BIG);
	store_le32(buf, CONDITIONS_MAX + 1);
	ck_assert_int_eq(conditions_check(slice_of(buf, size), NULL, &count), -E2BIG);
}
END_TEST

/* Hostile bytes are never read past their end (the sanitizers watch), and what is accepted can be walked whole. */
START_TEST(hostile_bytes_stay_inside)
{
	uint64_t seed = test_seed();

	for (int i = 0; i < 20000; i++) {
		size_t size = test_random(&seed) % 40;
		unsigned char *bytes = malloc(size ? size : 1);
		struct condition_reader r;
		struct condition c;
		uint32_t count = 0, walked = 0;

		for (size_t j = 0; j < size; j++)
			bytes[j] = (unsigned char)(test_random(&seed) % (j < 4 ? 2 : 12));
		if (conditions_check(slice_of(bytes, size), NULL, &count) == 0) {
			condition_reader_init(&r, slice_of(bytes, size));
			while (condition_reader_next(&r, &c))
				walked++;
			ck_assert_uint_eq(walked, count);
		}
		free(bytes);
	}
}
END_TEST

TEST_MAIN("condition", 30, round_trip, every_truncation_is_refused, limits_hold, hostile_bytes_stay_inside)
