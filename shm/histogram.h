/*
 * histogram.h - how often something took how long: 62 buckets, two for each power of two of nanoseconds.
 *
 *	bucket 0          below 256 ns
 *	1, 2              from 256 ns, from 384 ns
 *	3, 4              from 512 ns, from 768 ns
 *	…
 *	61                from 2^38 ns (275 s)
 *
 * So a bucket is at most half as wide as its lower end. Adding is a count of leading zeros and three additions: some two nanoseconds. One writer; the stats page
 * publishes copies. The number of samples is the sum of the buckets, so that the two cannot disagree.
 */
#ifndef SHALE_SHM_HISTOGRAM_H
#define SHALE_SHM_HISTOGRAM_H

#include "shm/base.h"

enum { HISTOGRAM_BUCKETS = 62, HISTOGRAM_FIRST_LOG2 = 8 };

struct histogram {
	uint64_t sum_ns, max_ns;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};
static_assert(sizeof(struct histogram) == 512, "histogram moved: bump SHM_ABI");

static inline unsigned histogram_bucket(uint64_t ns)
{
	unsigned log2, i;

	if (ns < UINT64_C(1) << HISTOGRAM_FIRST_LOG2)
		return 0;
	log2 = 63 - (unsigned)__builtin_clzll(ns);
	i = 1 + (log2 - HISTOGRAM_FIRST_LOG2) * 2 + (unsigned)(ns >> (log2 - 1) & 1);
	return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

/* Where bucket @i ends: the first duration that is not in it any more. The last has no end: UINT64_MAX. */
static inline uint64_t histogram_end(unsigned i)
{
	unsigned log2 = HISTOGRAM_FIRST_LOG2 + (i - 1) / 2;

	if (i == 0)
		return UINT64_C(1) << HISTOGRAM_FIRST_LOG2;
	if (i >= HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return (i - 1) % 2 ? UINT64_C(2) << log2 : UINT64_C(3) << (log2 - 1);
}

/* @times samples of @ns each. */
static inline void histogram_add(struct histogram *h, uint64_t ns, uint64_t times)
{
	h->bucket[histogram_bucket(ns)] += times;
	h->sum_ns += ns * times;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

static inline uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += h->bucket[i];
	return n;
}

/* A duration that the share @q (0 … 1) of the samples did not reach: the end of the bucket where that is so, or the largest sample. 0 without samples. */
static inline uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t all = histogram_count(h), below = 0;

	for (unsigned i = 0; all && i < HISTOGRAM_BUCKETS; i++) {
		below += h->bucket[i];
		if ((double)below >= q * (double)all)
			return histogram_end(i) < h->max_ns ? histogram_end(i) : h->max_ns;
	}
	return h->max_ns;
}

#endif
