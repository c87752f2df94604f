#include "shm/histogram.h"
#include "tests/test.h"

/* Every duration lies below the end of its bucket and not below the end of the one before: else quantiles and `le` bounds would lie. */
START_TEST(buckets_are_where_they_say)
{
	uint64_t state = test_seed();

	for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
		uint64_t end = histogram_end(i);

		ck_assert_uint_eq(histogram_bucket(end - 1), i);
		ck_assert_uint_eq(histogram_bucket(end), i + 1);
	}
	ck_assert_uint_eq(histogram_bucket(0), 0);
	ck_assert_uint_eq(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	ck_assert_uint_eq(histogram_end(0), 256);
	ck_assert_uint_eq(histogram_end(1), 384);
	ck_assert_uint_eq(histogram_end(2), 512);
	ck_assert_uint_eq(histogram_end(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
	for (int i = 0; i < 100000; i++) {
		uint64_t ns = test_random(&state) >> (test_random(&state) % 64);
		unsigned b = histogram_bucket(ns);

		ck_assert(ns < histogram_end(b) || b == HISTOGRAM_BUCKETS - 1);
		ck_assert(b == 0 || ns >= histogram_end(b - 1));
	}
}
END_TEST

/* Sum, largest and count are of all samples; a quantile is never below the sample that it stands for, nor above the largest. */
START_TEST(sums_and_quantiles)
{
	struct histogram h = {0};

	ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
	histogram_add(&h, 1000, 90);
	histogram_add(&h, 1000000, 9);
	histogram_add(&h, 5000000, 1);
	ck_assert_uint_eq(histogram_count(&h), 100);
	ck_assert_uint_eq(h.sum_ns, 90 * 1000 + 9 * 1000000 + 5000000);
	ck_assert_uint_eq(h.max_ns, 5000000);
	ck_assert_uint_eq(histogram_quantile(&h, 0.5), 1024);
	ck_assert_uint_eq(histogram_quantile(&h, 0.99), 1048576);
	ck_assert_uint_eq(histogram_quantile(&h, 1), 5000000);
}
END_TEST

TEST_MAIN("histogram", 10, buckets_are_where_they_say, sums_and_quantiles)
