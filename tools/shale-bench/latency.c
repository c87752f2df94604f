#include "tools/shale-bench/bench.h"

/* Small values have a bucket each; then the top LATENCY_SUB_BITS bits below the leading one choose among 32 per octave. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < 2u << LATENCY_SUB_BITS)
		return (unsigned)ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - LATENCY_SUB_BITS;
	return (shift << LATENCY_SUB_BITS) + (unsigned)(ns >> shift);
}

/* The middle of a bucket. */
static uint64_t value_of(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2u << LATENCY_SUB_BITS)
		return bucket;
	shift = (bucket >> LATENCY_SUB_BITS) - 1;
	return ((uint64_t)(bucket - (shift << LATENCY_SUB_BITS)) << shift) + (UINT64_C(1) << shift) / 2;
}

void latency_add(struct latencies *h, uint64_t ns)
{
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->bucket[bucket_of(ns)]++;
}

void latency_merge(struct latencies *into, const struct latencies *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
	for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t latency_quantile(const struct latencies *h, double q)
{
	uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;

	for (unsigned i = 0; i < LATENCY_BUCKETS && h->count; i++) {
		seen += h->bucket[i];
		if (seen > rank)
			return value_of(i) < h->max ? value_of(i) : h->max;
	}
	return h->max;
}
