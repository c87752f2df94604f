#include "tests/test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A limit ends what hangs and measures nothing: on a machine that does much besides, a test of a second may take half a minute. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const double LEAST_S = 240;
#else
static const double LEAST_S = 60;
#endif

int test_main(const char *suite, double seconds, const TTest *const *tests, size_t count)
{
	Suite *s = suite_create(suite);
	SRunner *runner;
	int failed;

	if (seconds < LEAST_S)
		seconds = LEAST_S;
	for (size_t i = 0; i < count; i++) {
		TCase *tc = tcase_create(tests[i]->name);

		tcase_set_timeout(tc, seconds);
		tcase_add_test(tc, tests[i]);
		suite_add_tcase(s, tc);
	}
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}

char *test_tmpdir(void)
{
	const char *base = getenv("TMPDIR");
	char *path;

	if (asprintf(&path, "%s/shale-test.XXXXXX", base && *base ? base : "/tmp") < 0 || !mkdtemp(path))
		ck_abort_msg("no scratch directory: %s", strerror(errno));
	return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

void test_rmtree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

uint64_t test_seed(void)
{
	const char *given = getenv("SHALE_SEED");
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = given && *given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec;
	if (!seed)
		seed = 1; /* xorshift's one dead state */
	printf("seed: %llu (repeat with SHALE_SEED=%llu)\n", (unsigned long long)seed, (unsigned long long)seed);
	fflush(stdout);
	return seed;
}
