#include "engine/ikey.h"
#include "tests/test.h"

static struct slice make(unsigned char *buf, const char *user, uint64_t sequence, unsigned type)
{
	return ikey_make(buf, slice_str(user), sequence, type);
}

/* User keys ascend; of one key the newest comes first, so that a seek lands on what a reader may see. */
START_TEST(order)
{
	unsigned char a[64], b[64];

	ck_assert_int_lt(ikey_compare(make(a, "a", 1, IKEY_VALUE), make(b, "b", 9, IKEY_VALUE)), 0);
	ck_assert_int_lt(ikey_compare(make(a, "a", 2, IKEY_VALUE), make(b, "a", 1, IKEY_VALUE)), 0);
	ck_assert_int_lt(ikey_compare(make(a, "a", 1, IKEY_VALUE), make(b, "a", 1, IKEY_DELETION)), 0);
	ck_assert_int_lt(ikey_compare(make(a, "a", 1, IKEY_VALUE), make(b, "aa", 99, IKEY_VALUE)), 0);
	ck_assert_int_eq(ikey_compare(make(a, "", SEQUENCE_MAX, IKEY_VALUE), make(b, "", SEQUENCE_MAX, IKEY_VALUE)), 0);
}
END_TEST

/* The parts come back, and bytes that are no key are told. */
START_TEST(parts)
{
	unsigned char buf[64];
	struct slice k = make(buf, "key", 77, IKEY_DELETION);

	ck_assert(slice_equal(ikey_user(k), slice_str("key")));
	ck_assert_uint_eq(ikey_sequence(k), 77);
	ck_assert_uint_eq(ikey_kind(k), IKEY_DELETION);
	ck_assert(ikey_valid(k));
	ck_assert(!ikey_valid(slice_of(buf, 7)));
	buf[3] = 2;
	ck_assert(!ikey_valid(k));
}
END_TEST

/* The separator of @start and @limit, as a user key. */
static const char *separator(const char *start, const char *limit)
{
	static unsigned char buf[64];
	unsigned char limit_buf[64];
	size_t size = make(buf, start, 100, IKEY_VALUE).size;

	ikey_shorten_separator(buf, &size, make(limit_buf, limit, 200, IKEY_VALUE));
	buf[size - IKEY_TRAILER] = '\0';
	return (const char *)buf;
}

/* Index keys as stock makes them: shorter where possible, never past the next block's first key. */
START_TEST(separators)
{
	ck_assert_str_eq(separator("foo", "hello"), "g");
	ck_assert_str_eq(separator("abcdef", "abzz"), "abd");
	ck_assert_str_eq(separator("foo", "foobar"), "foo");
	ck_assert_str_eq(separator("foobar", "foo"), "foobar");
	ck_assert_str_eq(separator("abc", "abd"), "abc");
	ck_assert_str_eq(separator("a\xffq", "b"), "a\xffq");
	ck_assert_str_eq(separator("a\xffqq", "c"), "b");
	ck_assert_str_eq(separator("", "x"), "");
}
END_TEST

/* Whatever the keys: start <= separator < limit, and successor >= key. */
START_TEST(shortened_keys_stay_in_bounds)
{
	uint64_t seed = test_seed();

	for (int i = 0; i < 20000; i++) {
		unsigned char a[32], b[32], k[32], user[16];
		struct slice key[2];
		unsigned char *bufs[] = {a, b};
		size_t size;

		for (int j = 0; j < 2; j++) {
			size_t n = test_random(&seed) % 5;

			for (size_t x = 0; x < n; x++)
				user[x] = (unsigned char)(test_random(&seed) % 3 + 0xfd);
			key[j] = ikey_make(bufs[j], slice_of(user, n), test_random(&seed) % 4, IKEY_VALUE);
		}
		memcpy(k, a, key[0].size);
		size = key[0].size;
		ikey_shorten_successor(k, &size);
		ck_assert_int_ge(ikey_compare(slice_of(k, size), key[0]), 0);
		if (ikey_compare(key[0], key[1]) >= 0)
			continue;
		memcpy(k, a, key[0].size);
		size = key[0].size;
		ikey_shorten_separator(k, &size, key[1]);
		ck_assert_int_ge(ikey_compare(slice_of(k, size), key[0]), 0);
		ck_assert_int_lt(ikey_compare(slice_of(k, size), key[1]), 0);
	}
}
END_TEST

/* A key buffer may be set from its own bytes, also when that makes it grow. */
START_TEST(key_buf_from_itself)
{
	char text[100];
	struct key_buf k = {0};

	memset(text, 'x', sizeof(text));
	for (size_t n = 0; n <= sizeof(text); n++) {
		ck_ok(key_buf_set(&k, slice_of(text, n)));
		ck_ok(key_buf_set_internal(&k, key_buf_slice(&k), n, IKEY_VALUE));
		ck_assert(slice_equal(ikey_user(key_buf_slice(&k)), slice_of(text, n)));
		ck_assert_uint_eq(ikey_sequence(key_buf_slice(&k)), n);
		ck_ok(key_buf_set(&k, ikey_user(key_buf_slice(&k))));
		ck_assert(slice_equal(key_buf_slice(&k), slice_of(text, n)));
	}
	key_buf_fini(&k);
}
END_TEST

TEST_MAIN("ikey", 10, order, parts, separators, shortened_keys_stay_in_bounds, key_buf_from_itself)
