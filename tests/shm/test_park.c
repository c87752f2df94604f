#include "shm/park.h"

#include <errno.h>
#include <pthread.h>

#include "tests/test.h"

/* A word that differs already means no sleep: this is what closes the gap between the last look and the sleep. */
START_TEST(differing_word_does_not_sleep)
{
	_Atomic uint32_t word = 1;

	ck_ok(futex_wait(&word, 0, UINT64_MAX));
}
END_TEST

/* A wait that nobody ends reports its time limit. */
START_TEST(time_limit_is_reported)
{
	_Atomic uint32_t word = 0;
	uint64_t before = monotonic_ns();

	ck_assert_int_eq(futex_wait(&word, 0, 2000000), -ETIMEDOUT);
	ck_assert_uint_ge(monotonic_ns() - before, 2000000);
}
END_TEST

struct pair {
	_Atomic uint32_t ping, pong;
};

enum { ROUNDS = 2000 };

static void *answer(void *arg)
{
	struct pair *p = arg;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		while (atomic_load_explicit(&p->ping, memory_order_acquire) == i)
			futex_wait(&p->ping, i, UINT64_MAX);
		atomic_store_explicit(&p->pong, i + 1, memory_order_release);
		futex_wake(&p->pong, 1);
	}
	return NULL;
}

/* A wake after a change reaches a sleeper, whichever comes first; a lost one would hang until the test's time limit. */
START_TEST(wakes_reach_sleepers)
{
	struct pair p = {0};
	pthread_t thread;

	ck_ok(pthread_create(&thread, NULL, answer, &p));
	for (uint32_t i = 0; i < ROUNDS; i++) {
		atomic_store_explicit(&p.ping, i + 1, memory_order_release);
		futex_wake(&p.ping, 1);
		while (atomic_load_explicit(&p.pong, memory_order_acquire) == i)
			futex_wait(&p.pong, i, UINT64_MAX);
	}
	ck_ok(pthread_join(thread, NULL));
}
END_TEST

/* Spins that fail soon cost almost nothing, or waiters would take the core from whoever answers. */
START_TEST(misses_shrink_the_budget)
{
	struct spinner s;

	spinner_init(&s, 50000);
	ck_assert_uint_eq(s.budget_ns, 50000);
	for (int i = 0; i < 10; i++)
		spinner_miss(&s);
	ck_assert_uint_eq(s.budget_ns, 1000);
	spinner_init(&s, 0);
	spinner_miss(&s);
	spinner_hit(&s, 0);
	ck_assert_uint_eq(s.budget_ns, 0); /* told never to spin */
}
END_TEST

/* Quick answers win the budget back, up to the maximum; late ones do not. */
START_TEST(hits_grow_the_budget)
{
	struct spinner s;

	spinner_init(&s, 50000);
	for (int i = 0; i < 10; i++)
		spinner_miss(&s);
	spinner_hit(&s, 900);
	ck_assert_uint_eq(s.budget_ns, 1000);
	for (int i = 0; i < 100; i++)
		spinner_hit(&s, 100);
	ck_assert_uint_eq(s.budget_ns, 50000);
}
END_TEST

/*
 * A budget that has fallen below the usual answer's time would never see a hit again, so the full one is tried now and
 * then.
 */
START_TEST(full_budget_is_tried_again)
{
	struct spinner s;
	unsigned full = 0;

	spinner_init(&s, 50000);
	for (int i = 0; i < 1000; i++) {
		spinner_miss(&s);
		full += s.budget_ns == s.max_ns;
	}
	ck_assert_uint_gt(full, 5);
	ck_assert_uint_lt(full, 50);
}
END_TEST

TEST_MAIN("park", 30, differing_word_does_not_sleep, time_limit_is_reported, wakes_reach_sleepers,
	  misses_shrink_the_budget, hits_grow_the_budget, full_budget_is_tried_again)
