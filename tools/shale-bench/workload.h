/*
 * workload.h - what a workload sees of its worker. The same keys, values and random numbers for every engine.
 */
#ifndef SHALE_BENCH_WORKLOAD_H
#define SHALE_BENCH_WORKLOAD_H

#include "shm/park.h"
#include "tools/shale-bench/bench.h"

struct worker {
	const struct driver *d;
	const struct bench_options *o;
	const struct benchmark *b;
	unsigned index, count; /* which of how many */
	void *session;
	uint64_t random;
	double zetan; /* of o->num keys, for those that need it */
	unsigned char *text, *value;
	size_t text_at;
	struct result *r;
};

/* What a benchmark needs of an engine, beyond put. */
enum {
	NEEDS_CURSOR = 1 << 0,
	NEEDS_COMPACT = 1 << 1,
	NEEDS_BATCH = 1 << 2,
	NEEDS_DELETE = 1 << 3,
	NEEDS_NOP = 1 << 4,
	NEEDS_ZIPF = 1 << 5, /* of the worker: zetan */
};

struct benchmark {
	const char *name;
	bool fresh, writes;
	unsigned needs;
	int (*run)(struct worker *w);
	const char *help;
};

/* The normalizing sum of the Zipf distribution over @n keys; takes long, so once and before the clock runs. Not for several threads. */
double zipf_zeta(uint64_t n);

extern const struct benchmark ycsb_benchmarks[];
extern const size_t ycsb_count;

/* xorshift64*: 48 bits. */
static inline uint64_t next_random(struct worker *w)
{
	uint64_t x = w->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	w->random = x;
	return x * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

/* Sixteen decimal digits. */
static inline struct slice make_key(unsigned char buf[KEY_BYTES], uint64_t n)
{
	for (int i = KEY_BYTES - 1; i >= 0; i--, n /= 10)
		buf[i] = (unsigned char)('0' + n % 10);
	return slice_of(buf, KEY_BYTES);
}

/* The next value. With verify it begins with its key, so that a scan can tell that they belong together. */
struct slice make_value(struct worker *w, struct slice key);

/* Fills text and value for w->o->value_bytes; forgets what was there. 0 or -ENOMEM. */
int worker_text(struct worker *w);
void worker_text_free(struct worker *w);

/* Which keys are there: a bit for each, shared by all workers. */
void set_written(uint64_t key, bool there);
bool was_written(uint64_t key);

/* Keys that workloads may insert besides the @num: as many again. */
static inline uint64_t key_space(const struct bench_options *o)
{
	return 2 * o->num;
}

/* True once every other worker has ended: for one that only disturbs. */
bool others_done(const struct worker *w);

/* This worker's share of @n operations. */
static inline uint64_t share(const struct worker *w, uint64_t n)
{
	return n / w->count + (w->index < n % w->count);
}

static inline uint64_t reads_of(const struct worker *w)
{
	return share(w, w->o->reads ? w->o->reads : w->o->num);
}

/* One operation that began at @start has ended. */
static inline void count(struct worker *w, uint64_t start, uint64_t bytes)
{
	latency_add(&w->r->latency, monotonic_ns() - start);
	w->r->operations++;
	w->r->bytes += bytes;
}

#endif
