/*
 * ycsb.c - the core workloads A to F of the Yahoo! Cloud Serving Benchmark (Cooper et al., SoCC 2010), over the keys that a fill has written.
 *
 *	A  half reads, half updates         D  reads of the newest, one in twenty inserts
 *	B  one in twenty updates            E  short scans, one in twenty inserts
 *	C  reads                            F  half reads, half read-modify-writes
 *
 * Keys are chosen by a Zipf distribution with exponent 0.99, whose popular ones are scattered over the key space by a hash; the generator is that
 * of Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994).
 */
#include <math.h>

#include "tools/shale-bench/workload.h"

static const double THETA = 0.99;
enum { SCAN_MAX = 100 };

struct zipf {
	uint64_t n;
	double alpha, zetan, eta;
};

double zipf_zeta(uint64_t n)
{
	static uint64_t known_n;
	static double known;
	double sum = 0;

	if (n == known_n)
		return known;
	for (uint64_t i = 1; i <= n; i++)
		sum += 1 / pow((double)i, THETA);
	known = sum;
	known_n = n;
	return sum;
}

static void zipf_init(struct zipf *z, uint64_t n, double zetan)
{
	z->n = n;
	z->zetan = zetan;
	z->alpha = 1 / (1 - THETA);
	z->eta = (1 - pow(2.0 / (double)n, 1 - THETA)) / (1 - (1 + pow(0.5, THETA)) / z->zetan);
}

/* 0 is the most popular. */
static uint64_t zipf_next(const struct zipf *z, struct worker *w)
{
	double u = (double)next_random(w) / (double)(UINT64_C(1) << 48), uz = u * z->zetan;
	uint64_t k;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, THETA))
		return 1;
	k = (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
	return k < z->n ? k : z->n - 1;
}

static uint64_t scatter(uint64_t rank, uint64_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (unsigned i = 0; i < 8; i++, rank >>= 8)
		h = (h ^ (rank & 255)) * UINT64_C(0x100000001b3);
	return h % n;
}

/* ---- operations ---- */

struct mix {
	unsigned update, insert, scan, modify; /* in a hundred; the rest are reads */
	bool newest;
};

static int put_key(struct worker *w, uint64_t k)
{
	unsigned char buf[KEY_BYTES];
	struct slice key = make_key(buf, k);
	int rc = w->d->put(w->session, key, make_value(w, key), false);

	if (rc == 0)
		set_written(k, true);
	return rc;
}

static int get_key(struct worker *w, uint64_t k)
{
	unsigned char buf[KEY_BYTES];
	int rc = w->d->get(w->session, make_key(buf, k));

	w->r->found += rc == 0;
	return rc < 0 ? rc : 0;
}

static int scan_from(struct worker *w, uint64_t k, uint64_t length)
{
	unsigned char buf[KEY_BYTES];
	int rc = w->d->cursor_open(w->session, true);

	if (rc < 0)
		return rc;
	w->d->cursor_seek(w->session, make_key(buf, k));
	for (uint64_t i = 0; i < length && w->d->cursor_valid(w->session); i++, w->d->cursor_next(w->session))
		w->r->bytes += w->d->cursor_key(w->session).size + w->d->cursor_value(w->session).size;
	w->r->found++;
	return w->d->cursor_close(w->session);
}

static int run_mix(struct worker *w, const struct mix *mix)
{
	uint64_t n = share(w, w->o->reads ? w->o->reads : w->o->num), inserted = 0;
	struct zipf z;
	int rc = 0;

	zipf_init(&z, w->o->num, w->zetan);
	for (uint64_t i = 0; i < n && rc == 0; i++) {
		unsigned die = (unsigned)(next_random(w) % 100);
		/* Inserted keys are this worker's own: every count-th behind the first num. */
		uint64_t newest = w->o->num + inserted * w->count + w->index, rank = zipf_next(&z, w), k, start;

		k = !mix->newest		  ? scatter(rank, w->o->num)
		    : rank < inserted		  ? newest - (rank + 1) * w->count
		    : rank - inserted < w->o->num ? w->o->num - 1 - (rank - inserted)
						  : 0;
		start = monotonic_ns();
		if (die < mix->update) {
			rc = put_key(w, k);
		} else if ((die -= mix->update) < mix->insert) {
			if (newest < key_space(w->o)) {
				rc = put_key(w, newest);
				inserted++;
			}
		} else if ((die -= mix->insert) < mix->scan) {
			rc = scan_from(w, k, 1 + next_random(w) % SCAN_MAX);
		} else {
			rc = get_key(w, k);
			if (rc == 0 && die - mix->scan < mix->modify)
				rc = put_key(w, k);
		}
		count(w, start, 0);
	}
	return rc;
}

static int run_a(struct worker *w)
{
	return run_mix(w, &(struct mix){.update = 50});
}

static int run_b(struct worker *w)
{
	return run_mix(w, &(struct mix){.update = 5});
}

static int run_c(struct worker *w)
{
	return run_mix(w, &(struct mix){0});
}

static int run_d(struct worker *w)
{
	return run_mix(w, &(struct mix){.insert = 5, .newest = true});
}

static int run_e(struct worker *w)
{
	return run_mix(w, &(struct mix){.insert = 5, .scan = 95});
}

static int run_f(struct worker *w)
{
	return run_mix(w, &(struct mix){.modify = 50});
}

const struct benchmark ycsb_benchmarks[] = {
	{"ycsba", false, false, NEEDS_ZIPF, run_a, "N: half reads, half updates; Zipf 0.99"},
	{"ycsbb", false, false, NEEDS_ZIPF, run_b, "N: 95 reads, 5 updates"},
	{"ycsbc", false, false, NEEDS_ZIPF, run_c, "N: reads"},
	{"ycsbd", false, false, NEEDS_ZIPF, run_d, "N: 95 reads of the newest, 5 inserts"},
	{"ycsbe", false, false, NEEDS_ZIPF | NEEDS_CURSOR, run_e, "N: 95 scans of 1 to 100, 5 inserts"},
	{"ycsbf", false, false, NEEDS_ZIPF, run_f, "N: half reads, half read-modify-writes"},
};
const size_t ycsb_count = ARRAY_SIZE(ycsb_benchmarks);
