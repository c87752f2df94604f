#include "engine/compress.h"
#include "tests/test.h"

#include <stdlib.h>

#include "shm/error.h"

enum { BYTES_MAX = 70000 };

static const enum compression types[] = {COMPRESS_NONE, COMPRESS_SNAPPY, COMPRESS_ZSTD};

/* @size bytes: random, or a short pattern with some noise. */
static void fill(unsigned char *p, size_t size, bool dense, uint64_t *seed)
{
	for (size_t i = 0; i < size; i++)
		p[i] = dense ? (unsigned char)test_random(seed)
			     : (unsigned char)("shale is rock "[i % 14] + (i % 97 == 0));
}

/* What was compressed comes back; what would not shrink by an eighth is kept as it is, and says so. */
START_TEST(round_trip)
{
	unsigned char *raw = malloc(BYTES_MAX), *back = malloc(BYTES_MAX);
	uint64_t seed = test_seed();
	struct compressor *c;

	ck_ok(compressor_new(&c));
	for (unsigned n = 0; n < 300; n++) {
		size_t size = test_random(&seed) % (n % 2 ? BYTES_MAX : 300), told = 1;
		enum compression want = types[n % 3], got;
		bool dense = test_random(&seed) % 2;
		struct slice out;

		fill(raw, size, dense, &seed);
		got = compress_block(c, want, slice_of(raw, size), &out);
		ck_assert(got == want || got == COMPRESS_NONE);
		if (got == COMPRESS_NONE)
			ck_assert_ptr_eq(out.data, raw);
		else
			ck_assert_uint_lt(out.size, size - size / 8);
		if (dense)
			ck_assert_int_eq(got, COMPRESS_NONE);
		else if (size > 200)
			ck_assert_int_eq(got, want);
		ck_ok(decompressed_size(got, out, BYTES_MAX, &told));
		ck_assert_uint_eq(told, size);
		ck_ok(decompress_block(got, out, back, told));
		ck_assert(size == 0 || memcmp(raw, back, size) == 0);
	}
	compressor_free(c);
	free(raw);
	free(back);
}
END_TEST

/* Cut or changed streams are refused or give the told number of bytes: never more, never a crash. Sizes past the limit are refused before memory is taken. */
START_TEST(damaged_streams)
{
	unsigned char raw[3000], copy[3000];
	uint64_t seed = test_seed();
	struct compressor *c;
	unsigned refused = 0;

	ck_ok(compressor_new(&c));
	fill(raw, sizeof(raw), false, &seed);
	for (unsigned n = 0; n < 6000; n++) {
		enum compression want = n % 2 ? COMPRESS_SNAPPY : COMPRESS_ZSTD, type;
		struct slice out;
		size_t size;

		type = compress_block(c, want, slice_of(raw, sizeof(raw)), &out);
		ck_assert_int_eq(type, want);
		memcpy(copy, out.data, out.size);
		if (n % 3 == 0)
			out.size = test_random(&seed) % out.size;
		else
			copy[test_random(&seed) % out.size] ^= (unsigned char)(1 + test_random(&seed) % 255);
		if (decompressed_size(type, slice_of(copy, out.size), 1 << 20, &size) == 0) {
			unsigned char *dst = malloc(size + 1);

			refused += decompress_block(type, slice_of(copy, out.size), dst, size) < 0;
			free(dst);
		} else {
			refused++;
		}
	}
	ck_assert_uint_gt(refused, 3000);
	compressor_free(c);
}
END_TEST

/* A stream that claims more than the limit, or more than its bytes can possibly say, and a type that nobody knows. */
START_TEST(lies_refused)
{
	const unsigned char huge_snappy[] = {0xff, 0xff, 0xff, 0x7f, 0x00, 'a'};
	unsigned char raw[2000] = {0}, dst[2000];
	struct compressor *c;
	struct slice out;
	size_t size = 42;

	ck_ok(compressor_new(&c));
	ck_assert_int_eq(decompressed_size(COMPRESS_SNAPPY, slice_of(huge_snappy, sizeof(huge_snappy)), 1 << 30, &size),
			 -SHALE_ECORRUPT);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		enum compression type = compress_block(c, types[i], slice_of(raw, sizeof(raw)), &out);

		ck_assert_int_eq(type, types[i]);
		ck_assert_int_eq(decompressed_size(type, out, sizeof(raw) - 1, &size), -SHALE_ECORRUPT);
		ck_assert_int_eq(decompress_block(type, out, dst, sizeof(raw) - 1), -SHALE_ECORRUPT);
	}
	ck_assert_int_eq(decompressed_size((enum compression)9, slice_of(raw, 5), 100, &size), -SHALE_ECORRUPT);
	ck_assert_int_eq(decompress_block((enum compression)9, slice_of(raw, 5), dst, 5), -SHALE_ECORRUPT);
	ck_assert_uint_eq(size, 42);
	compressor_free(c);
}
END_TEST

TEST_MAIN("compress", 30, round_trip, damaged_streams, lies_refused)
