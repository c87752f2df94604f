#include "tools/shale-bench/bench.h"

/* Small values have a bucket each; then the top HISTOGRAM_SUB_BITS bits below the leading one choose among 32 per octave. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < 2u << HISTOGRAM_SUB_BITS)
		return (unsigned)ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
	return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(ns >> shift);
}

/* The middle of a bucket. */
static uint64_t value_of(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2u << HISTOGRAM_SUB_BITS)
		return bucket;
	shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
	return ((uint64_t)(bucket - (shift << HISTOGRAM_SUB_BITS)) << shift) + (UINT64_C(1) << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->bucket[bucket_of(ns)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && h->count; i++) {
		seen += h->bucket[i];
		if (seen > rank)
			return value_of(i) < h->max ? value_of(i) : h->max;
	}
	return h->max;
}
