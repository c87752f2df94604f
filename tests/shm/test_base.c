#include "shm/base.h"
#include "tests/test.h"

/* Every length class of a varint comes back as it went in; a cut one is refused. */
START_TEST(varint_round_trip)
{
	static const uint64_t values[] = {0,	     1, 127, 128, 16383, 16384, UINT32_MAX, (uint64_t)UINT32_MAX + 1,
					  UINT64_MAX};
	unsigned char buf[VARINT64_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		unsigned char *end = varint64_put(buf, values[i]);
		uint64_t v = 0;

		ck_assert_uint_eq((size_t)(end - buf), varint_length(values[i]));
		ck_assert_ptr_eq(varint64_get(buf, end, &v), end);
		ck_assert_uint_eq(v, values[i]);
		ck_assert_ptr_null(varint64_get(buf, end - 1, &v));
	}
}
END_TEST

/* Five bytes that all say "more" are no varint32, and a length past the end is no slice. */
START_TEST(varint_overlong_refused)
{
	const unsigned char overlong[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
	const unsigned char past_end[] = {3, 'a', 'b'};
	struct slice s;
	uint32_t v;

	ck_assert_ptr_null(varint32_get(overlong, overlong + sizeof(overlong), &v));
	ck_assert_ptr_null(length_prefixed_get(past_end, past_end + sizeof(past_end), &s));
}
END_TEST

/* LevelDB's bytewise order: memcmp, then the shorter first. */
START_TEST(slice_order_is_bytewise)
{
	ck_assert_int_lt(slice_compare(slice_str("a"), slice_str("b")), 0);
	ck_assert_int_lt(slice_compare(slice_str("a"), slice_str("aa")), 0);
	ck_assert_int_gt(slice_compare(slice_str("\xff"), slice_str("a")), 0);
	ck_assert_int_eq(slice_compare(slice_of(NULL, 0), slice_str("")), 0);
}
END_TEST

TEST_MAIN("base", 10, varint_round_trip, varint_overlong_refused, slice_order_is_bytewise)
