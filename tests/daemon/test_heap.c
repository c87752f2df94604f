/* The heap of deadlines: what comes out first, also when others are taken out in between, and that this takes no walk over all. */
#include "tests/test.h"

#include <stdlib.h>

#include "daemon/heap.h"

enum { MANY = 1000000, SOME = 300 };

static struct heap heap;

static uint64_t pop(void)
{
	struct heap_member *m = heap.first;
	uint64_t key = m ? m->key : UINT64_MAX;

	if (m)
		heap_remove(&heap, m);
	return key;
}

/* The smallest is first, whatever was added and taken out before: against an array that is searched. */
START_TEST(first_is_the_smallest)
{
	static struct heap_member member[SOME], outside;
	uint64_t seed = test_seed();

	for (int i = 0; i < 200000; i++) {
		struct heap_member *m = &member[test_random(&seed) % SOME];
		uint64_t least = UINT64_MAX;

		if (m->place)
			heap_remove(&heap, m);
		else
			heap_add(&heap, m, test_random(&seed) % 100);
		heap_remove(&heap, &outside);
		if (i % 16)
			continue;
		for (unsigned k = 0; k < SOME; k++) {
			if (member[k].place && member[k].key < least)
				least = member[k].key;
		}
		ck_assert_uint_eq(pop(), least);
	}
}
END_TEST

/* A million that are due one after the other: with a walk over all for each, this would not end; whatever the order in which they were added. */
START_TEST(many_one_by_one)
{
	struct heap_member *member = calloc(MANY, sizeof(*member));

	for (unsigned order = 0; order < 3; order++) {
		for (uint64_t i = 0; i < MANY; i++)
			heap_add(&heap, &member[i], order == 0 ? i : order == 1 ? MANY - 1 - i : i * 7919 % MANY);
		for (uint64_t i = 0; i < MANY; i += 3) {
			uint64_t key = member[i].key;

			heap_remove(&heap, &member[i]);
			heap_add(&heap, &member[i], key);
		}
		for (uint64_t i = 0; i < MANY; i++) {
			if (pop() != i)
				ck_abort_msg("number %llu is not in its place", (unsigned long long)i);
		}
		ck_assert_ptr_null(heap.first);
	}
	free(member);
}
END_TEST

TEST_MAIN("heap", 60, first_is_the_smallest, many_one_by_one)
