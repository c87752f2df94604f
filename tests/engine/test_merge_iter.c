#include "engine/ikey.h"
#include "engine/iter.h"
#include "tests/test.h"

#include <stdio.h>

#include "shm/error.h"

/* ---- a child over an array, which can be told to miss or to fail ---- */

struct entry {
	unsigned char key[24];
	size_t size;
	unsigned child; /* whose it is; also its value */
};

struct array_iter {
	struct iter base;
	const struct entry **entries;
	size_t count, at;
	int fault;	 /* status that every move answers; 0: none */
	unsigned moves;	 /* calls of any kind */
	unsigned *freed; /* counts frees */
};

static void show(struct array_iter *a)
{
	a->moves++;
	a->base.valid = !a->fault && a->at < a->count;
	a->base.status = a->fault;
	if (a->base.valid) {
		a->base.key = slice_of(a->entries[a->at]->key, a->entries[a->at]->size);
		a->base.value = slice_of(&a->entries[a->at]->child, sizeof(unsigned));
	}
}

static void array_first(struct iter *it)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	a->at = 0;
	show(a);
}

static void array_last(struct iter *it)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	a->at = a->count - 1; /* SIZE_MAX when empty: past the end */
	show(a);
}

static void array_seek(struct iter *it, struct slice ikey)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	a->at = 0;
	while (a->at < a->count && ikey_compare(slice_of(a->entries[a->at]->key, a->entries[a->at]->size), ikey) < 0)
		a->at++;
	show(a);
}

static void array_next(struct iter *it)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	ck_assert(it->valid);
	a->at++;
	show(a);
}

static void array_prev(struct iter *it)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	ck_assert(it->valid);
	a->at--;
	show(a);
}

static void array_free(struct iter *it)
{
	struct array_iter *a = container_of(it, struct array_iter, base);

	if (a->freed)
		++*a->freed;
	free(a->entries);
	free(a);
}

static const struct iter_ops array_ops = {array_first, array_last, array_seek, array_next, array_prev, array_free};

/* A child with those of the @count entries that are @child's. */
static struct array_iter *array_new(const struct entry *all, size_t count, unsigned child)
{
	struct array_iter *a = calloc(1, sizeof(*a));

	a->base.ops = &array_ops;
	a->entries = calloc(count + 1, sizeof(*a->entries));
	for (size_t i = 0; i < count; i++) {
		if (all[i].child == child)
			a->entries[a->count++] = &all[i];
	}
	return a;
}

/* ---- the model: all entries sorted by (key, child) ---- */

static int entry_order(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = ikey_compare(slice_of(x->key, x->size), slice_of(y->key, y->size));

	return c ? c : (x->child > y->child) - (x->child < y->child);
}

/* @count entries spread over @children, with few enough keys that children share some. Sorted. Equal (key, child) pairs do not occur. */
static size_t make_entries(struct entry *all, size_t count, unsigned children, uint64_t *seed)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		char user[16];

		snprintf(user, sizeof(user), "k%02u", (unsigned)(test_random(seed) % (count / 2 + 1)));
		all[i].size = ikey_make(all[i].key, slice_str(user), 1 + test_random(seed) % 3, IKEY_VALUE).size;
		all[i].child = (unsigned)(test_random(seed) % children);
	}
	qsort(all, count, sizeof(*all), entry_order);
	for (size_t i = 0; i < count; i++) {
		if (!kept || entry_order(&all[kept - 1], &all[i]))
			all[kept++] = all[i];
	}
	return kept;
}

static struct iter *make_merge(const struct entry *all, size_t count, unsigned children, unsigned *freed)
{
	struct iter *list[16], *merge;

	for (unsigned i = 0; i < children; i++) {
		struct array_iter *a = array_new(all, count, i);

		a->freed = freed;
		list[i] = &a->base;
	}
	ck_ok(merge_iter_new(list, children, &merge));
	return merge;
}

static void check_at(const struct iter *it, const struct entry *all, size_t count, size_t at)
{
	unsigned child;

	ck_assert_int_eq(it->valid, at < count);
	ck_assert_int_eq(it->status, 0);
	if (!it->valid)
		return;
	ck_assert(slice_equal(it->key, slice_of(all[at].key, all[at].size)));
	memcpy(&child, it->value.data, sizeof(child));
	ck_assert_uint_eq(child, all[at].child);
}

static void random_walk(unsigned children, size_t want, uint64_t *seed)
{
	struct entry *all = calloc(want + 1, sizeof(*all));
	size_t count = make_entries(all, want, children, seed), at = count;
	unsigned freed = 0;
	struct iter *it = make_merge(all, count, children, &freed);
	bool placed = false;

	for (int step = 0; step < 400; step++) {
		unsigned action = (unsigned)(test_random(seed) % 16);

		if (action == 0) {
			iter_seek_first(it);
			at = 0;
		} else if (action == 1) {
			iter_seek_last(it);
			at = count - 1;
		} else if (action == 2 || !placed || at >= count) {
			unsigned char buf[24];
			char user[16];
			struct slice key;

			snprintf(user, sizeof(user), "k%02u", (unsigned)(test_random(seed) % (want / 2 + 2)));
			key = ikey_make(buf, slice_str(user), test_random(seed) % 5, IKEY_VALUE);
			iter_seek(it, key);
			for (at = 0; at < count && ikey_compare(slice_of(all[at].key, all[at].size), key) < 0; at++)
				;
		} else if (action % 2) {
			iter_next(it);
			at++;
		} else {
			iter_prev(it);
			at--;
		}
		placed = true;
		check_at(it, all, count, at);
	}
	iter_free(it);
	ck_assert_uint_eq(freed, children);
	free(all);
}

/*
 * Any walk over a merge equals the same walk over the sorted array of all entries, direction changes and keys that several children hold included:
 * scans in both directions and compaction stand on this.
 */
START_TEST(random_walk_equals_sorted_array)
{
	uint64_t seed = test_seed();

	for (int round = 0; round < 300; round++)
		random_walk(1 + (unsigned)(test_random(&seed) % 9), test_random(&seed) % 60, &seed);
}
END_TEST

/* Of equal keys the earlier child comes first, and prev undoes next between them. */
START_TEST(equal_keys_come_in_child_order)
{
	struct entry all[3];
	struct iter *it;

	for (unsigned i = 0; i < 3; i++) {
		all[i].size = ikey_make(all[i].key, slice_str("same"), 7, IKEY_VALUE).size;
		all[i].child = i;
	}
	it = make_merge(all, 3, 3, NULL);
	iter_seek_first(it);
	check_at(it, all, 3, 0);
	iter_next(it);
	check_at(it, all, 3, 1);
	iter_next(it);
	check_at(it, all, 3, 2);
	iter_prev(it);
	check_at(it, all, 3, 1);
	iter_next(it);
	check_at(it, all, 3, 2);
	iter_seek_last(it);
	check_at(it, all, 3, 2);
	iter_prev(it);
	iter_prev(it);
	check_at(it, all, 3, 0);
	iter_free(it);
}
END_TEST

/* A merge of nothing is empty, not a crash: a version may have no tables. */
START_TEST(merge_of_none_is_empty)
{
	struct iter *it;

	ck_ok(merge_iter_new(NULL, 0, &it));
	iter_seek_first(it);
	ck_assert(!it->valid && it->status == 0);
	iter_seek_last(it);
	ck_assert(!it->valid && it->status == 0);
	iter_free(it);
}
END_TEST

/* The children of a merge of three, the middle one faulty. */
static struct iter *faulty(struct array_iter *a[3], const struct entry *all, size_t count)
{
	struct iter *list[3], *it;

	for (unsigned i = 0; i < 3; i++) {
		a[i] = array_new(all, count, i);
		list[i] = &a[i]->base;
	}
	ck_ok(merge_iter_new(list, 3, &it));
	return it;
}

static void three_entries(struct entry all[6])
{
	for (unsigned i = 0; i < 6; i++) {
		char user[2] = {(char)('a' + i), 0};

		all[i].size = ikey_make(all[i].key, slice_str(user), 1, IKEY_VALUE).size;
		all[i].child = i % 3;
	}
}

/* A miss in one child does not keep the others from being asked: one round must fetch all that is missing. */
START_TEST(all_children_are_asked_on_a_miss)
{
	struct array_iter *a[3];
	struct entry all[6];
	struct iter *it;

	three_entries(all);
	it = faulty(a, all, 6);
	a[0]->fault = READ_MISS;
	iter_seek_first(it);
	ck_assert(!it->valid);
	ck_assert_int_eq(it->status, READ_MISS);
	ck_assert_uint_eq(a[1]->moves, 1);
	ck_assert_uint_eq(a[2]->moves, 1);
	a[0]->fault = 0;
	iter_seek_first(it);
	check_at(it, all, 6, 0);
	iter_next(it);
	a[0]->fault = a[2]->fault = READ_MISS;
	iter_prev(it); /* a turn: both others are sought */
	ck_assert_int_eq(it->status, READ_MISS);
	a[0]->fault = a[2]->fault = 0;
	iter_seek(it, slice_of(all[3].key, all[3].size));
	check_at(it, all, 6, 3);
	iter_free(it);
}
END_TEST

/* A miss met by next or prev ends the merge there with READ_MISS: it must not go on with the other children's entries. */
START_TEST(miss_on_a_step_stops_the_merge)
{
	struct array_iter *a[3];
	struct entry all[6];
	struct iter *it;

	three_entries(all);
	it = faulty(a, all, 6);
	iter_seek_first(it);
	a[0]->fault = READ_MISS;
	iter_next(it);
	ck_assert(!it->valid);
	ck_assert_int_eq(it->status, READ_MISS);
	a[0]->fault = 0;
	iter_seek_last(it);
	check_at(it, all, 6, 5);
	a[2]->fault = READ_MISS;
	iter_prev(it);
	ck_assert(!it->valid);
	ck_assert_int_eq(it->status, READ_MISS);
	iter_free(it);
}
END_TEST

/* A failure outweighs a miss, wherever it is: fetching again would not help. */
START_TEST(failure_outweighs_miss)
{
	struct array_iter *a[3];
	struct entry all[6];
	struct iter *it;

	three_entries(all);
	it = faulty(a, all, 6);
	a[0]->fault = READ_MISS;
	a[1]->fault = -SHALE_ECORRUPT;
	a[2]->fault = READ_MISS;
	iter_seek_first(it);
	ck_assert(!it->valid);
	ck_assert_int_eq(it->status, -SHALE_ECORRUPT);
	iter_seek_last(it);
	ck_assert_int_eq(it->status, -SHALE_ECORRUPT);
	iter_free(it);
}
END_TEST

TEST_MAIN("merge_iter", 20, random_walk_equals_sorted_array, equal_keys_come_in_child_order, merge_of_none_is_empty,
	  all_children_are_asked_on_a_miss, miss_on_a_step_stops_the_merge, failure_outweighs_miss)
