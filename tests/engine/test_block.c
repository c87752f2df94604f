#include "engine/block.h"
#include "tests/engine/tables.h"

#include <stdlib.h>

/* The block of these entries, as a reader has it. */
static struct block *block_of(const struct entry_list *l, unsigned restart_interval)
{
	struct block_builder *b;
	struct block *block;
	struct slice bytes;

	ck_ok(block_builder_new(restart_interval, &b));
	ck_assert(block_builder_empty(b));
	for (size_t i = 0; i < l->count; i++)
		ck_ok(block_builder_add(b, l->at[i].key, l->at[i].value));
	ck_assert_int_eq(block_builder_empty(b), l->count == 0);
	ck_ok(block_builder_finish(b, &bytes));
	ck_assert_uint_eq(bytes.size, block_builder_estimate(b));
	block = block_new(bytes.size);
	memcpy(block->data, bytes.data, bytes.size);
	block_builder_free(b);
	return block;
}

/* Entries come back in order, both ways, and a seek from anywhere finds the first at or after its target. */
START_TEST(round_trip_and_seeks)
{
	static const size_t counts[] = {0, 1, 2, 16, 17, 33, 400};
	static const unsigned intervals[] = {1, 2, 16};
	uint64_t seed = test_seed();

	for (unsigned n = 0; n < 42; n++) {
		struct entry_list l = {0};
		struct block_iter it;
		struct block *b;

		entries_random(&l, &seed, counts[n % 7], 40);
		b = block_of(&l, intervals[n % 3]);
		ck_ok(block_check(b));
		block_iter_init(&it);
		block_iter_set(&it, b, true, true);
		ck_assert(!it.base.valid);
		same_entries(&it.base, &l);
		for (size_t i = 0; i < l.count; i++) {
			size_t at = test_random(&seed) % l.count;

			iter_seek(&it.base, l.at[at].key);
			ck_assert(it.base.valid && slice_equal(it.base.key, l.at[at].key));
			iter_prev(&it.base);
			ck_assert_int_eq(it.base.valid, at > 0);
			if (at)
				ck_assert(slice_equal(it.base.key, l.at[at - 1].key));
		}
		block_iter_fini(&it);
		entries_free(&l);
	}
}
END_TEST

/* A key that shares nothing is shown where it lies in the block: index entries cost no copy. */
START_TEST(unshared_keys_are_not_copied)
{
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	struct block_iter it;
	struct block *b;

	entries_random(&l, &seed, 50, 20);
	b = block_of(&l, 1);
	ck_ok(block_check(b));
	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	for (iter_seek_first(&it.base); it.base.valid; iter_next(&it.base))
		ck_assert(it.base.key.data > b->data && it.base.key.data < b->data + b->size);
	block_iter_fini(&it);
	block_unref(b);
	entries_free(&l);
}
END_TEST

/* A block's bytes in an allocation of their own, so that a read past the end is seen. */
static struct block *block_raw(const void *bytes, size_t size)
{
	struct block *b = block_new(size);

	memcpy(b->data, bytes, size);
	return b;
}

/* Restart arrays that do not add up are refused before anything trusts them. */
START_TEST(bad_restarts_refused)
{
	static const uint32_t bad[][4] = {
		{4, 0, 0, 5},	       /* more than there is room for */
		{0, 0, 0, UINT32_MAX}, /* far more */
		{1, 2, 3, 0},	       /* none, though there are bytes */
		{0, 0, 4, 1},	       /* the first not 0 */
		{0, 0, 0, 2},	       /* not ascending */
		{0, 0, 8, 2},	       /* past the entries */
	};
	static const uint32_t empty[] = {0, 1};
	struct block *b;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		b = block_raw(bad[i], sizeof(bad[i]));
		ck_assert_int_eq(block_check(b), -SHALE_ECORRUPT);
		block_unref(b);
	}
	b = block_raw("abc", 3);
	ck_assert_int_eq(block_check(b), -SHALE_ECORRUPT);
	block_unref(b);
	b = block_raw(empty, sizeof(empty));
	ck_ok(block_check(b));
	block_unref(b);
	b = block_raw(&empty[0], 4);
	ck_ok(block_check(b));
	block_unref(b);
	block_unref(NULL);
}
END_TEST

/* Whatever the bytes, moves end, stay inside the block, and damage shows as corruption, not as an assertion. */
static void walk(struct block *b, const struct entry_list *targets, uint64_t *seed)
{
	struct block_iter it;
	unsigned steps = 0;

	block_iter_init(&it);
	block_iter_set(&it, b, true, true);
	for (iter_seek_first(&it.base); it.base.valid; iter_next(&it.base), steps++)
		ck_assert_uint_ge(it.base.key.size, IKEY_TRAILER);
	ck_assert(it.base.status == 0 || it.base.status == -SHALE_ECORRUPT);
	for (iter_seek_last(&it.base); it.base.valid && steps < 5000; iter_prev(&it.base), steps++)
		;
	ck_assert_uint_lt(steps, 5000);
	for (unsigned n = 0; n < 8; n++) {
		iter_seek(&it.base, targets->at[test_random(seed) % targets->count].key);
		if (it.base.valid)
			iter_prev(&it.base);
		if (it.base.valid)
			iter_next(&it.base);
		ck_assert(it.base.valid || it.base.status == 0 || it.base.status == -SHALE_ECORRUPT);
	}
	block_iter_fini(&it);
}

START_TEST(noise_is_survived)
{
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	unsigned accepted = 0;
	struct block *good;

	entries_random(&l, &seed, 60, 20);
	good = block_of(&l, 4);
	for (unsigned n = 0; n < 8000; n++) {
		size_t size = n % 5 ? good->size : test_random(&seed) % good->size;
		struct block *b = block_raw(good->data, size);

		for (unsigned i = 0; size && i < n % 7; i++)
			b->data[test_random(&seed) % size] = (unsigned char)test_random(&seed);
		if (block_check(b) == 0) {
			accepted++;
			walk(b, &l, &seed);
		} else {
			block_unref(b);
		}
	}
	ck_assert_uint_gt(accepted, 2000);
	block_unref(good);
	entries_free(&l);
}
END_TEST

TEST_MAIN("block", 30, round_trip_and_seeks, unshared_keys_are_not_copied, bad_restarts_refused, noise_is_survived)
