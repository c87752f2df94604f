#include "shm/batch.h"

#include <errno.h>

#include "tests/test.h"

/*
 * Fills @buf with @count random records, some deletions, some empty; returns the size. Small keys, so that cuts hit
 * every field.
 */
static size_t random_batch(uint64_t *rng, unsigned char *buf, uint32_t count)
{
	unsigned char *p = batch_begin(buf), bytes[400];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)test_random(rng);
	for (uint32_t i = 0; i < count; i++) {
		struct slice key = slice_of(bytes, test_random(rng) % 40);
		struct slice value = slice_of(bytes + 50, test_random(rng) % 300);

		if (test_random(rng) % 4)
			p = batch_append_put(p, key, value);
		else
			p = batch_append_delete(p, key);
	}
	batch_set_count(buf, count);
	return (size_t)(p - buf);
}

/* A heap copy of exactly @size bytes, so that ASan sees a read of one byte too many. */
static int check_exact(const unsigned char *bytes, size_t size, struct batch_info *info)
{
	unsigned char *copy = malloc(size ? size : 1);
	int rc;

	memcpy(copy, bytes, size);
	rc = batch_check(slice_of(copy, size), NULL, info);
	free(copy);
	return rc;
}

/* The bytes are LevelDB's: a batch is what its log holds, so they must not drift. */
START_TEST(encoding_is_leveldbs)
{
	static const unsigned char want[] = {9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1, 'k', 2, 'v', 'w', 0, 1, 'd'};
	unsigned char buf[64], *p = batch_begin(buf);

	p = batch_append_put(p, slice_str("k"), slice_str("vw"));
	p = batch_append_delete(p, slice_str("d"));
	batch_set_count(buf, 2);
	batch_set_sequence(buf, 9);
	ck_assert_uint_eq((size_t)(p - buf), sizeof(want));
	ck_assert_mem_eq(buf, want, sizeof(want));
	ck_assert_uint_eq(batch_put_size(1, 2) + batch_delete_size(1), sizeof(want) - BATCH_HEADER_SIZE);
	ck_assert_uint_eq(batch_sequence(buf), 9);
	ck_assert_uint_eq(batch_count(buf), 2);
}
END_TEST

/* What goes in comes out, in order, through check and reader, also when a length needs several varint bytes. */
START_TEST(round_trip)
{
	static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 70000};
	unsigned char *buf = malloc(1 << 20), *p = batch_begin(buf), *bytes = calloc(1, 70000);
	struct batch_info info;
	struct batch_reader r;
	struct batch_record rec;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		p = batch_append_put(p, slice_of(bytes, sizes[i]), slice_of(bytes, sizes[ARRAY_SIZE(sizes) - 1 - i]));
		p = batch_append_delete(p, slice_of(bytes, sizes[i]));
	}
	batch_set_count(buf, 2 * ARRAY_SIZE(sizes));
	ck_ok(batch_check(slice_of(buf, (size_t)(p - buf)), NULL, &info));
	ck_assert_uint_eq(info.count, 2 * ARRAY_SIZE(sizes));
	ck_assert_uint_eq(info.key_bytes, 2 * info.value_bytes);
	batch_reader_init(&r, slice_of(buf, (size_t)(p - buf)));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ck_assert(batch_reader_next(&r, &rec));
		ck_assert_uint_eq(rec.type, BATCH_PUT);
		ck_assert_uint_eq(rec.key.size, sizes[i]);
		ck_assert_uint_eq(rec.value.size, sizes[ARRAY_SIZE(sizes) - 1 - i]);
		ck_assert(batch_reader_next(&r, &rec));
		ck_assert_uint_eq(rec.type, BATCH_DELETE);
		ck_assert_uint_eq(rec.key.size, sizes[i]);
		ck_assert_uint_eq(rec.value.size, 0);
	}
	ck_assert(!batch_reader_next(&r, &rec));
	free(bytes);
	free(buf);
}
END_TEST

/* Every truncation, and a trailing byte, is refused: the count and the bytes must agree exactly. */
START_TEST(every_truncation_is_refused)
{
	uint64_t rng = test_seed();
	unsigned char buf[16384];
	struct batch_info info;

	for (int round = 0; round < 20; round++) {
		size_t size = random_batch(&rng, buf, 1 + test_random(&rng) % 20);

		ck_ok(check_exact(buf, size, &info));
		for (size_t cut = 0; cut < size; cut++)
			ck_assert_int_eq(check_exact(buf, cut, &info), -EBADMSG);
		buf[size] = 0;
		ck_assert_int_eq(check_exact(buf, size + 1, &info), -EBADMSG);
		batch_set_count(buf, batch_count(buf) + 1);
		ck_assert_int_eq(check_exact(buf, size, &info), -EBADMSG);
		batch_set_count(buf, UINT32_MAX);
		ck_assert_int_eq(check_exact(buf, size, &info), -EBADMSG);
	}
}
END_TEST

/* A batch with flipped or random bytes is refused or walks to its end inside its bytes; nothing else can happen. */
START_TEST(hostile_bytes_stay_inside)
{
	uint64_t rng = test_seed();
	unsigned char buf[16384];
	unsigned accepted = 0;

	for (int round = 0; round < 100000; round++) {
		size_t size = random_batch(&rng, buf, test_random(&rng) % 6);
		unsigned char *copy;
		struct batch_reader r;
		struct batch_record rec;
		struct batch_info info;
		size_t keys = 0, values = 0;
		uint32_t n = 0;

		for (unsigned flips = test_random(&rng) % 4; flips; flips--)
			buf[test_random(&rng) % size] = (unsigned char)test_random(&rng);
		copy = malloc(size);
		memcpy(copy, buf, size);
		if (batch_check(slice_of(copy, size), NULL, &info) == 0) {
			batch_reader_init(&r, slice_of(copy, size));
			while (batch_reader_next(&r, &rec)) {
				ck_assert(rec.key.data >= copy && rec.key.data + rec.key.size <= copy + size);
				keys += rec.key.size;
				values += rec.value.size;
				n++;
			}
			ck_assert_uint_eq(n, info.count);
			ck_assert_uint_eq(keys, info.key_bytes);
			ck_assert_uint_eq(values, info.value_bytes);
			accepted++;
		}
		free(copy);
	}
	ck_assert_uint_gt(accepted, 1000); /* otherwise the walk above was hardly tried */
}
END_TEST

/* Types other than put and delete are refused: the log must hold nothing that stock LevelDB cannot replay. */
START_TEST(unknown_type_is_refused)
{
	unsigned char buf[64], *p = batch_begin(buf);

	p = batch_append_put(p, slice_str("k"), slice_str("v"));
	batch_set_count(buf, 1);
	for (unsigned type = 0; type < 256; type++) {
		buf[BATCH_HEADER_SIZE] = (unsigned char)type;
		ck_assert_int_eq(check_exact(buf, (size_t)(p - buf), NULL), type == BATCH_PUT ? 0 : -EBADMSG);
	}
}
END_TEST

/* A key or a value may be as large as the limit and no larger. Outputs stay untouched on failure. */
START_TEST(limits_hold)
{
	static const unsigned char bytes[32];
	const struct batch_limits limits = {.max_key = 8, .max_value = 16};

	for (size_t key = 7; key <= 9; key++) {
		for (size_t value = 15; value <= 17; value++) {
			unsigned char buf[128], *p = batch_begin(buf);
			struct batch_info info = {.count = 77};
			int rc;

			p = batch_append_put(p, slice_of(bytes, key), slice_of(bytes, value));
			p = batch_append_delete(p, slice_of(bytes, key));
			batch_set_count(buf, 2);
			rc = batch_check(slice_of(buf, (size_t)(p - buf)), &limits, &info);
			ck_assert_int_eq(rc, key <= 8 && value <= 16 ? 0 : -E2BIG);
			ck_assert_uint_eq(info.count, rc ? 77 : 2);
		}
	}
}
END_TEST

/* Many tiny records are few bytes and much work: their number has a limit of its own. 0 is none. */
START_TEST(number_of_records_is_limited)
{
	unsigned char buf[128], *p = batch_begin(buf);

	for (unsigned i = 0; i < 5; i++)
		p = batch_append_delete(p, slice_str("k"));
	batch_set_count(buf, 5);
	for (uint32_t most = 0; most < 8; most++) {
		const struct batch_limits limits = {.max_key = 8, .max_value = 16, .max_count = most};
		int rc = batch_check(slice_of(buf, (size_t)(p - buf)), &limits, NULL);

		ck_assert_int_eq(rc, most == 0 || most >= 5 ? 0 : -E2BIG);
	}
}
END_TEST

TEST_MAIN("batch", 30, encoding_is_leveldbs, round_trip, every_truncation_is_refused, hostile_bytes_stay_inside,
	  unknown_type_is_refused, limits_hold, number_of_records_is_limited)
