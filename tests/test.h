/*
 * test.h - what every Check program of shale shares: one main, scratch directories, a seeded generator.
 *
 *	START_TEST(torn_tail_ends_log) { … } END_TEST
 *	TEST_MAIN("log_format", 60, torn_tail_ends_log, …)
 *
 * Seeds: a randomised test takes test_seed(), which prints what it returns; SHALE_SEED=n repeats a run.
 */
#ifndef SHALE_TESTS_TEST_H
#define SHALE_TESTS_TEST_H

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

/* Defines main(): one suite, a time limit of @seconds, or of a minute if that is more, for each test (Check forks, so a crash fails one test only). */
#define TEST_MAIN(suite, seconds, ...)                                                                                 \
	int main(void)                                                                                                 \
	{                                                                                                              \
		const TTest *tests[] = {__VA_ARGS__};                                                                  \
		return test_main(suite, seconds, tests, sizeof(tests) / sizeof(tests[0]));                             \
	}

int test_main(const char *suite, double seconds, const TTest *const *tests, size_t count);

/* A fresh directory under $TMPDIR or /tmp, removed at the end of the test by test_rmtree (or by the runner). Owned: free(). */
char *test_tmpdir(void);
void test_rmtree(const char *path);

/* The seed of this run, printed. */
uint64_t test_seed(void);

/* xorshift64*: small, fast, the same everywhere. */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545F4914F6CDD1D);
}

/*
 * Check notes each assertion that holds, by a write(2), so that it can say after which one a test crashed. Sanitizers and core dumps say more, and tests that
 * assert a hundred thousand times a second spent most of their time there: so here nothing is noted.
 */
#undef ck_assert_msg
#define ck_assert_msg(expr, ...)                                                                                       \
	((expr) ? (void)0                                                                                              \
		: _ck_assert_failed(__FILE__, __LINE__, "Assertion '" #expr "' failed", ##__VA_ARGS__))

/* Fails with the code's name when rc != 0. */
#define ck_ok(expr)                                                                                                    \
	do {                                                                                                           \
		int ck_rc_ = (expr);                                                                                   \
		ck_assert_msg(ck_rc_ == 0, "%s = %d", #expr, ck_rc_);                                                  \
	} while (0)

#endif
