#include "engine/filter.h"
#include "tests/test.h"

#include <stdio.h>

/* The hash is LevelDB's: values that its own test expects. Bytes past 0x7f must not be taken for negative. */
START_TEST(hash_vectors)
{
	static const struct {
		const char *data;
		uint32_t hash;
	} vectors[] = {{"", 0xbc9f1d34},
		       {"\x62", 0xef1345c4},
		       {"\xc3\x97", 0x5b663814},
		       {"\xe2\x99\xa5", 0x323c078f},
		       {"\xe1\x80\xb9\x32", 0xed21633a}};

	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		ck_assert_uint_eq(bloom_hash(slice_str(vectors[i].data)), vectors[i].hash);
}
END_TEST

static struct slice key_of(char *buf, size_t size, unsigned i)
{
	snprintf(buf, size, "key%07u", i);
	return slice_str(buf);
}

/* Every key that went in is found under the offset of its block; few that did not are, and none where no key went in. */
START_TEST(keys_are_found)
{
	static const uint64_t offsets[] = {0, 900, 2100, 9000, 9100, 100000};
	enum { PER_BLOCK = 400, ASKED = 5000 };
	struct filter_builder *b;
	unsigned wrong = 0;
	struct slice block;
	char buf[32];

	ck_ok(filter_builder_new(10, &b));
	for (unsigned n = 0; n < ARRAY_SIZE(offsets); n++) {
		ck_ok(filter_builder_start_block(b, offsets[n]));
		for (unsigned i = 0; i < PER_BLOCK; i++)
			ck_ok(filter_builder_add(b, key_of(buf, sizeof(buf), n * PER_BLOCK + i)));
	}
	ck_ok(filter_builder_finish(b, &block));
	for (unsigned n = 0; n < ARRAY_SIZE(offsets); n++)
		for (unsigned i = 0; i < PER_BLOCK; i++)
			ck_assert(filter_may_contain(block, offsets[n], key_of(buf, sizeof(buf), n * PER_BLOCK + i)));
	for (unsigned i = 0; i < ASKED; i++)
		wrong += filter_may_contain(block, 2100, key_of(buf, sizeof(buf), 1000000 + i));
	ck_assert_uint_lt(wrong, ASKED / 50);
	ck_assert(!filter_may_contain(block, 4096, slice_str("anything")));
	ck_assert(filter_may_contain(block, UINT64_MAX, slice_str("past the array: must not be denied")));
	filter_builder_free(b);
}
END_TEST

/* A table without keys, and encodings that do not exist yet. */
START_TEST(edges)
{
	const unsigned char future[] = {0, 0, 0, 0, 31};
	struct filter_builder *b;
	struct slice block;

	ck_ok(filter_builder_new(10, &b));
	ck_ok(filter_builder_finish(b, &block));
	ck_assert_uint_eq(block.size, 5);
	ck_assert(filter_may_contain(block, 0, slice_str("x")));
	filter_builder_free(b);
	filter_builder_free(NULL);
	ck_assert(bloom_may_contain(slice_of(future, sizeof(future)), slice_str("x")));
	ck_assert(!bloom_may_contain(slice_of(future, 1), slice_str("x")));
}
END_TEST

/* Bytes that are no filter may cost a read, but never hide a key nor reach outside the block. */
START_TEST(malformed_never_crashes)
{
	uint64_t seed = test_seed();
	unsigned char good[64], *p;
	struct filter_builder *b;
	struct slice block;

	ck_ok(filter_builder_new(10, &b));
	ck_ok(filter_builder_start_block(b, 0));
	ck_ok(filter_builder_add(b, slice_str("a")));
	ck_ok(filter_builder_finish(b, &block));
	ck_assert_uint_le(block.size, sizeof(good));
	memcpy(good, block.data, block.size);
	for (unsigned n = 0; n < 20000; n++) {
		size_t size = n % 4 ? block.size : test_random(&seed) % (block.size + 1);

		p = malloc(size + 1); /* its own allocation, so that a read past it is seen */
		memcpy(p, good, size);
		if (size)
			p[test_random(&seed) % size] = (unsigned char)test_random(&seed);
		filter_may_contain(slice_of(p, size), test_random(&seed) >> test_random(&seed) % 64, slice_str("b"));
		free(p);
	}
	filter_builder_free(b);
}
END_TEST

TEST_MAIN("filter", 30, hash_vectors, keys_are_found, edges, malformed_never_crashes)
