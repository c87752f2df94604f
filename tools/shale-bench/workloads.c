/*
 * workloads.c - db_bench's workloads, by db_bench's names.
 *
 * Every operation is timed by itself, for the histogram: two clock reads, some 40 ns, the same for every engine.
 */
#include <errno.h>

#include "tools/shale-bench/workload.h"

/* ---- writing ---- */

static int fill(struct worker *w, bool sequential, bool sync, uint64_t n)
{
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	for (uint64_t i = 0; i < share(w, n) && rc == 0; i++) {
		uint64_t k = sequential ? i * w->count + w->index : next_random(w) % w->o->num;
		struct slice key = make_key(buf, k), value = make_value(w, key);
		uint64_t start = monotonic_ns();

		rc = w->d->put(w->session, key, value, sync);
		count(w, start, key.size + value.size);
		if (rc == 0)
			set_written(k, true);
	}
	return rc;
}

/* Several in flight; the latency is shared out as for reads. */
static int fill_deep(struct worker *w, uint64_t n)
{
	uint64_t begun = 0, ended = 0, ignored = 0, start = monotonic_ns();
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	while (ended < n && rc >= 0) {
		uint64_t before = ended, now;

		for (; begun < n && begun - ended < w->o->depth && rc >= 0; begun++) {
			uint64_t k = next_random(w) % w->o->num;
			struct slice key = make_key(buf, k);

			rc = w->d->submit_put(w->session, key, make_value(w, key));
			set_written(k, true);
		}
		if (rc >= 0)
			rc = w->d->reap(w->session, (unsigned)(begun - ended) / 2, &ended, &ignored);
		now = monotonic_ns();
		for (uint64_t i = before; i < ended; i++)
			latency_add(&w->r->latency, (now - start) / (ended - before));
		start = now;
	}
	w->r->operations += ended;
	w->r->bytes += ended * (KEY_BYTES + w->o->value_bytes);
	return rc < 0 ? rc : 0;
}

static int run_fillseq(struct worker *w)
{
	return fill(w, true, false, w->o->num);
}

static int run_fillrandom(struct worker *w)
{
	if (w->o->depth > 1 && w->d->submit_put)
		return fill_deep(w, share(w, w->o->num));
	return fill(w, false, false, w->o->num);
}

/* For a time, or as fillrandom. */
static int run_overwrite(struct worker *w)
{
	uint64_t end = monotonic_ns() + w->o->duration * UINT64_C(1000000000);
	int rc = 0;

	if (!w->o->duration)
		return run_fillrandom(w);
	while (rc == 0 && monotonic_ns() < end)
		rc = fill(w, false, false, 1000 * w->count);
	return rc;
}

static int run_fillsync(struct worker *w)
{
	uint64_t n = w->o->num / 100;

	return fill(w, false, true, n < 200 ? 200 : n > 10000 ? 10000 : n);
}

/* One operation is one key, as db_bench counts; the latency is the batch's. */
static int run_fillbatch(struct worker *w)
{
	uint64_t left = share(w, w->o->num), k = w->index;
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	while (left > 0 && rc == 0) {
		uint64_t n = left < w->o->batch ? left : w->o->batch, start = monotonic_ns();

		for (uint64_t i = 0; i < n && rc == 0; i++, k += w->count) {
			struct slice key = make_key(buf, k), value = make_value(w, key);

			rc = w->d->batch_put(w->session, key, value);
			set_written(k, true);
			w->r->bytes += key.size + value.size;
		}
		if (rc == 0)
			rc = w->d->batch_commit(w->session);
		latency_add(&w->r->latency, monotonic_ns() - start);
		w->r->operations += n;
		left -= n;
	}
	return rc;
}

/* N/1000 values of 100,000 bytes. */
static int run_fill100K(struct worker *w)
{
	struct bench_options large = *w->o;
	const struct bench_options *o = w->o;
	unsigned char *text = w->text, *value = w->value;
	int rc;

	large.value_bytes = 100000;
	w->o = &large;
	rc = worker_text(w);
	if (rc == 0)
		rc = fill(w, false, false, o->num / 1000 + 1);
	worker_text_free(w);
	w->o = o;
	w->text = text;
	w->value = value;
	return rc;
}

static int run_deleterandom(struct worker *w)
{
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	for (uint64_t i = 0; i < share(w, w->o->num) && rc == 0; i++) {
		uint64_t k = next_random(w) % w->o->num, start = monotonic_ns();

		rc = w->d->del(w->session, make_key(buf, k));
		count(w, start, KEY_BYTES);
		set_written(k, false);
	}
	return rc;
}

static int run_compact(struct worker *w)
{
	uint64_t start = monotonic_ns();
	int rc = w->index == 0 ? w->d->compact(w->session) : 0;

	if (w->index == 0)
		count(w, start, 0);
	return rc;
}

/* ---- reading ---- */

/* Random keys of the first @range, @n of them. @missing: with a dot behind, as no key has. */
static int read_some(struct worker *w, uint64_t n, uint64_t range, bool missing)
{
	unsigned char buf[KEY_BYTES + 1];
	int rc = 0;

	for (uint64_t i = 0; i < n && rc >= 0; i++) {
		struct slice key = make_key(buf, next_random(w) % range);
		uint64_t start;

		if (missing)
			buf[key.size++] = '.';
		start = monotonic_ns();
		rc = w->d->get(w->session, key);
		count(w, start, rc == 0 ? key.size + w->o->value_bytes : 0);
		w->r->found += rc == 0;
	}
	return rc < 0 ? rc : 0;
}

/* The same with several in flight; the latency is that of a whole round of them, shared out. */
static int read_deep(struct worker *w, uint64_t n)
{
	uint64_t begun = 0, ended = 0, found = 0, start = monotonic_ns();
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	while (ended < n && rc >= 0) {
		uint64_t before = ended, now;

		for (; begun < n && begun - ended < w->o->depth && rc >= 0; begun++)
			rc = w->d->submit_get(w->session, make_key(buf, next_random(w) % w->o->num));
		if (rc >= 0)
			rc = w->d->reap(w->session, (unsigned)(begun - ended) / 2, &ended, &found);
		now = monotonic_ns();
		for (uint64_t i = before; i < ended; i++)
			latency_add(&w->r->latency, (now - start) / (ended - before));
		start = now;
	}
	w->r->operations += ended;
	w->r->found += found;
	w->r->bytes += found * (KEY_BYTES + w->o->value_bytes);
	return rc < 0 ? rc : 0;
}

static int run_readrandom(struct worker *w)
{
	if (w->o->depth > 1 && w->d->submit_get)
		return read_deep(w, reads_of(w));
	return read_some(w, reads_of(w), w->o->num, false);
}

static int run_readmissing(struct worker *w)
{
	return read_some(w, reads_of(w), w->o->num, true);
}

/* One key in a hundred, again and again. */
static int run_readhot(struct worker *w)
{
	return read_some(w, reads_of(w), (w->o->num + 99) / 100, false);
}

/* The first worker writes random keys until the others have read; only the reads count. With one worker there is nobody to disturb. */
static int run_readwhilewriting(struct worker *w)
{
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	if (w->index || w->count == 1)
		return read_some(w, (w->o->reads ? w->o->reads : w->o->num) / max_size(w->count - 1, 1), w->o->num,
				 false);
	while (rc == 0 && !others_done(w)) {
		uint64_t k = next_random(w) % w->o->num;
		struct slice key = make_key(buf, k);

		rc = w->d->put(w->session, key, make_value(w, key), false);
		set_written(k, true);
	}
	return rc;
}

static int run_nop(struct worker *w)
{
	uint64_t n = reads_of(w);
	int rc = 0;

	for (uint64_t i = 0; i < n && rc == 0; i++) {
		uint64_t start = monotonic_ns();

		rc = w->d->nop(w->session);
		count(w, start, 0);
	}
	return rc;
}

/* A walk over @n entries. The steps are timed in tens: a single one is shorter than a clock read. */
static int walk(struct worker *w, bool backwards)
{
	void (*step)(void *) = backwards ? w->d->cursor_prev : w->d->cursor_next;
	uint64_t left = w->o->reads ? w->o->reads : w->o->num;
	int rc = w->d->cursor_open(w->session, true);

	if (rc < 0)
		return rc;
	(backwards ? w->d->cursor_last : w->d->cursor_first)(w->session);
	while (left > 0 && w->d->cursor_valid(w->session)) {
		uint64_t start = monotonic_ns(), n = 0;

		for (; n < 10 && left > 0 && w->d->cursor_valid(w->session); n++, left--) {
			w->r->bytes += w->d->cursor_key(w->session).size + w->d->cursor_value(w->session).size;
			step(w->session);
		}
		latency_add(&w->r->latency, (monotonic_ns() - start) / n);
		w->r->operations += n;
	}
	return w->d->cursor_close(w->session);
}

static int run_readseq(struct worker *w)
{
	return walk(w, false);
}

static int run_readreverse(struct worker *w)
{
	return walk(w, true);
}

/* A new cursor for each seek, as db_bench does it. */
static int run_seekrandom(struct worker *w)
{
	uint64_t n = share(w, w->o->reads ? w->o->reads : w->o->num / 4);
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	for (uint64_t i = 0; i < n && rc == 0; i++) {
		struct slice key = make_key(buf, next_random(w) % w->o->num);
		uint64_t start = monotonic_ns();

		rc = w->d->cursor_open(w->session, true);
		if (rc < 0)
			break;
		w->d->cursor_seek(w->session, key);
		if (w->d->cursor_valid(w->session)) {
			w->r->found += slice_equal(w->d->cursor_key(w->session), key);
			w->r->bytes += key.size + w->d->cursor_value(w->session).size;
		}
		rc = w->d->cursor_close(w->session);
		count(w, start, 0);
	}
	return rc;
}

static uint64_t key_number(struct slice key)
{
	uint64_t n = 0;

	for (size_t i = 0; i < key.size; i++)
		n = n * 10 + (uint64_t)(key.data[i] - '0');
	return key.size == KEY_BYTES ? n : UINT64_MAX;
}

/* Sorted, complete, nothing else: the first worker scans all and holds it against the bitmap. */
static int run_verify(struct worker *w)
{
	uint64_t expected = 0, seen = 0, wrong = 0, last = 0;
	int rc;

	if (w->index)
		return 0;
	for (uint64_t i = 0; i < key_space(w->o); i++)
		expected += was_written(i);
	rc = w->d->cursor_open(w->session, false);
	if (rc < 0)
		return rc;
	for (w->d->cursor_first(w->session); w->d->cursor_valid(w->session); w->d->cursor_next(w->session), seen++) {
		struct slice key = w->d->cursor_key(w->session), value = w->d->cursor_value(w->session);
		uint64_t n = key_number(key);

		wrong += (seen && n <= last) || n >= key_space(w->o) || !was_written(n) ||
			 value.size != w->o->value_bytes ||
			 memcmp(value.data, key.data, key.size < value.size ? key.size : value.size) != 0;
		last = n;
	}
	w->r->operations = seen;
	rc = w->d->cursor_close(w->session);
	if (rc == 0 && (wrong || seen != expected)) {
		fprintf(stderr, "shale-bench: verify: %llu keys written, %llu found, %llu of them wrong\n",
			(unsigned long long)expected, (unsigned long long)seen, (unsigned long long)wrong);
		rc = -EBADMSG;
	}
	return rc;
}

static const struct benchmark benchmarks[] = {
	{"fillseq", true, true, 0, run_fillseq, "N writes in order, new database"},
	{"fillbatch", true, true, NEEDS_BATCH, run_fillbatch, "N writes in order in batches of 1000, new database"},
	{"fillrandom", true, true, 0, run_fillrandom, "N writes of random keys, new database"},
	{"fillsync", true, true, 0, run_fillsync, "N/100 synchronous writes (200 to 10000), new database"},
	{"fill100K", true, true, 0, run_fill100K, "N/1000 writes of 100,000 bytes, new database"},
	{"overwrite", false, true, 0, run_overwrite, "N writes of random keys, or as many as --duration seconds take"},
	{"deleterandom", false, true, NEEDS_DELETE, run_deleterandom, "N deletions of random keys"},
	{"readrandom", false, false, 0, run_readrandom, "N reads of random keys"},
	{"readmissing", false, false, 0, run_readmissing, "N reads of keys that are not there"},
	{"readhot", false, false, 0, run_readhot, "N reads of the same hundredth of the keys"},
	{"readwhilewriting", false, false, 0, run_readwhilewriting,
	 "N reads while the first worker writes (use 2 or more)"},
	{"readseq", false, false, NEEDS_CURSOR, run_readseq, "forward over N entries (each worker)"},
	{"readreverse", false, false, NEEDS_CURSOR, run_readreverse, "backward over N entries (each worker)"},
	{"seekrandom", false, false, NEEDS_CURSOR, run_seekrandom, "N/4 seeks to random keys, a new cursor each"},
	{"nop", false, false, NEEDS_NOP, run_nop, "N calls that do nothing, there and back"},
	{"compact", false, false, NEEDS_COMPACT, run_compact, "compact everything"},
	{"verify", false, false, NEEDS_CURSOR, run_verify,
	 "full scan: sorted, complete, values right (needs --verify)"},
};

const struct benchmark *benchmark_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		if (strcmp(benchmarks[i].name, name) == 0)
			return &benchmarks[i];
	for (size_t i = 0; i < ycsb_count; i++)
		if (strcmp(ycsb_benchmarks[i].name, name) == 0)
			return &ycsb_benchmarks[i];
	return NULL;
}

const char *benchmark_name(const struct benchmark *b)
{
	return b->name;
}

bool benchmark_fresh(const struct benchmark *b)
{
	return b->fresh;
}

bool benchmark_writes(const struct benchmark *b)
{
	return b->writes;
}

bool benchmark_possible(const struct benchmark *b, const struct driver *d)
{
	return !((b->needs & NEEDS_CURSOR && !d->cursor_open) || (b->needs & NEEDS_COMPACT && !d->compact) ||
		 (b->needs & NEEDS_BATCH && !d->batch_put) || (b->needs & NEEDS_DELETE && !d->del) ||
		 (b->needs & NEEDS_NOP && !d->nop));
}

void benchmark_list(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		fprintf(out, "  %-16s %s\n", benchmarks[i].name, benchmarks[i].help);
	for (size_t i = 0; i < ycsb_count; i++)
		fprintf(out, "  %-16s %s\n", ycsb_benchmarks[i].name, ycsb_benchmarks[i].help);
}
