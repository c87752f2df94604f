/*
 * loop.c - the workloads.
 *
 * Workers get ready (connect, fill their value buffer), then begin together when the parent says go; the time is that
 * from go to the last one's end. Results lie in shared memory, one block per worker, so that a worker may be a thread or
 * a process. Which keys were written is kept in a shared bitmap, for `verify`.
 *
 * Every operation is timed by itself, for the histogram: two clock reads, some 40 ns, the same for every engine.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/park.h"
#include "tools/shale-bench/bench.h"

enum { TEXT_BYTES = 1 << 20, TEXT_PIECE = 100 };

struct shared {
	_Atomic uint32_t ready, go, done;
	struct {
		struct result result;
		_Atomic uint64_t end_ns;
	} worker[MAX_WORKERS];
};

struct worker {
	const struct driver *d;
	const struct bench_options *o;
	const struct benchmark *b;
	unsigned index;
	void *session;
	uint64_t random;
	unsigned char *text, *value;
	size_t text_at;
	struct result *r;
};

struct benchmark {
	const char *name;
	bool fresh, writes;
	int (*run)(struct worker *w);
	const char *help;
};

static struct shared *shared;
static _Atomic uint64_t *written; /* a bit per key */

/* ---- keys and values ---- */

static uint64_t next_random(struct worker *w)
{
	uint64_t x = w->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	w->random = x;
	return x * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static struct slice make_key(unsigned char buf[KEY_BYTES], uint64_t n)
{
	for (int i = KEY_BYTES - 1; i >= 0; i--, n /= 10)
		buf[i] = (unsigned char)('0' + n % 10);
	return slice_of(buf, KEY_BYTES);
}

/* Text that compresses to half, as db_bench's does: pieces of random printable bytes, each there twice. */
static void make_text(struct worker *w)
{
	for (size_t i = 0; i < TEXT_BYTES + w->o->value_bytes; i++)
		w->text[i] = i % TEXT_PIECE < TEXT_PIECE / 2 ? (unsigned char)(' ' + next_random(w) % 95)
							     : w->text[i - TEXT_PIECE / 2];
}

/* The next value. With verify it begins with its key, so that a scan can tell that they belong together. */
static struct slice make_value(struct worker *w, struct slice key)
{
	struct slice v = slice_of(w->text + w->text_at, w->o->value_bytes);

	w->text_at = (w->text_at + v.size) % TEXT_BYTES;
	if (w->o->verify) {
		memcpy(w->value, v.data, v.size);
		memcpy(w->value, key.data, key.size < v.size ? key.size : v.size);
		v.data = w->value;
	}
	return v;
}

static void set_written(uint64_t key)
{
	atomic_fetch_or_explicit(&written[key / 64], UINT64_C(1) << key % 64, memory_order_relaxed);
}

static bool was_written(uint64_t key)
{
	return atomic_load_explicit(&written[key / 64], memory_order_relaxed) >> key % 64 & 1;
}

/* This worker's share of @n operations. */
static uint64_t share(const struct worker *w, uint64_t n)
{
	return n / w->o->procs + (w->index < n % w->o->procs);
}

static void count(struct worker *w, uint64_t start, uint64_t bytes)
{
	histogram_add(&w->r->latency, monotonic_ns() - start);
	w->r->operations++;
	w->r->bytes += bytes;
}

/* ---- writing ---- */

static int fill(struct worker *w, bool sequential, bool sync, uint64_t n)
{
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	for (uint64_t i = 0; i < share(w, n) && rc == 0; i++) {
		uint64_t k = sequential ? i * w->o->procs + w->index : next_random(w) % w->o->num;
		struct slice key = make_key(buf, k), value = make_value(w, key);
		uint64_t start = monotonic_ns();

		rc = w->d->put(w->session, key, value, sync);
		count(w, start, key.size + value.size);
		if (rc == 0)
			set_written(k);
	}
	return rc;
}

static int run_fillseq(struct worker *w)
{
	return fill(w, true, false, w->o->num);
}

static int run_fillrandom(struct worker *w)
{
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
		rc = fill(w, false, false, 1000 * w->o->procs);
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

		for (uint64_t i = 0; i < n && rc == 0; i++, k += w->o->procs) {
			struct slice key = make_key(buf, k), value = make_value(w, key);

			rc = w->d->batch_put(w->session, key, value);
			set_written(k);
			w->r->bytes += key.size + value.size;
		}
		if (rc == 0)
			rc = w->d->batch_commit(w->session);
		histogram_add(&w->r->latency, monotonic_ns() - start);
		w->r->operations += n;
		left -= n;
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

static int run_readrandom(struct worker *w)
{
	uint64_t n = share(w, w->o->reads ? w->o->reads : w->o->num);
	unsigned char buf[KEY_BYTES];
	int rc = 0;

	for (uint64_t i = 0; i < n && rc >= 0; i++) {
		struct slice key = make_key(buf, next_random(w) % w->o->num);
		uint64_t start = monotonic_ns();

		rc = w->d->get(w->session, key);
		count(w, start, rc == 0 ? key.size + w->o->value_bytes : 0);
		w->r->found += rc == 0;
	}
	return rc < 0 ? rc : 0;
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
		histogram_add(&w->r->latency, (monotonic_ns() - start) / n);
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
	for (uint64_t i = 0; i < w->o->num; i++)
		expected += was_written(i);
	rc = w->d->cursor_open(w->session, false);
	if (rc < 0)
		return rc;
	for (w->d->cursor_first(w->session); w->d->cursor_valid(w->session); w->d->cursor_next(w->session), seen++) {
		struct slice key = w->d->cursor_key(w->session), value = w->d->cursor_value(w->session);
		uint64_t n = key_number(key);

		wrong += (seen && n <= last) || n >= w->o->num || !was_written(n) || value.size != w->o->value_bytes ||
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
	{"fillseq", true, true, run_fillseq, "N writes in order, new database"},
	{"fillbatch", true, true, run_fillbatch, "N writes in order in batches of 1000, new database"},
	{"fillrandom", true, true, run_fillrandom, "N writes of random keys, new database"},
	{"fillsync", true, true, run_fillsync, "N/100 synchronous writes (200 to 10000), new database"},
	{"overwrite", false, true, run_overwrite, "N writes of random keys, or as many as --duration seconds take"},
	{"readrandom", false, false, run_readrandom, "N reads of random keys"},
	{"readseq", false, false, run_readseq, "forward over N entries (each worker)"},
	{"readreverse", false, false, run_readreverse, "backward over N entries (each worker)"},
	{"seekrandom", false, false, run_seekrandom, "N/4 seeks to random keys, a new cursor each"},
	{"compact", false, false, run_compact, "compact everything"},
	{"verify", false, false, run_verify, "full scan: sorted, complete, values right (needs --verify)"},
};

const struct benchmark *benchmark_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		if (strcmp(benchmarks[i].name, name) == 0)
			return &benchmarks[i];
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

void benchmark_list(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(benchmarks); i++)
		fprintf(out, "  %-12s %s\n", benchmarks[i].name, benchmarks[i].help);
}

/* ---- workers ---- */

static void *map_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int loop_init(const struct bench_options *o)
{
	shared = map_shared(sizeof(*shared));
	written = map_shared((o->num / 64 + 1) * sizeof(*written));
	if (!shared || !written)
		return -ENOMEM;
	for (uint64_t i = 0; i <= o->num / 64; i++)
		atomic_store_explicit(&written[i], 0, memory_order_relaxed);
	return 0;
}

void loop_forget(const struct bench_options *o)
{
	for (uint64_t i = 0; i <= o->num / 64; i++)
		atomic_store_explicit(&written[i], 0, memory_order_relaxed);
}

uint64_t loop_keys(const struct bench_options *o)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i <= o->num / 64; i++)
		n += (uint64_t)__builtin_popcountll(atomic_load_explicit(&written[i], memory_order_relaxed));
	return n;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int rc = -ENOMEM;

	w->random = 0x9e3779b97f4a7c15 * (w->index + 1) + monotonic_ns();
	w->text = malloc(TEXT_BYTES + w->o->value_bytes);
	w->value = malloc(w->o->value_bytes + 1);
	w->session = w->text && w->value ? w->d->open() : NULL;
	if (w->session)
		make_text(w);
	atomic_fetch_add_explicit(&shared->ready, 1, memory_order_release);
	/* Acquire: pairs with the release in loop_run(). Workers begin within a scheduler tick of each other. */
	while (!atomic_load_explicit(&shared->go, memory_order_acquire))
		usleep(100);
	if (w->session)
		rc = w->b->run(w);
	atomic_store_explicit(&shared->worker[w->index].end_ns, monotonic_ns(), memory_order_relaxed);
	if (rc < 0)
		w->r->errors++;
	if (w->session)
		w->d->close(w->session);
	free(w->text);
	free(w->value);
	/* Release: results before done. Pairs with the acquire in loop_run(). */
	atomic_fetch_add_explicit(&shared->done, 1, memory_order_release);
	return NULL;
}

static int start_workers(struct worker *workers, unsigned n, pthread_t *threads, pid_t *pids)
{
	for (unsigned i = 0; i < n; i++) {
		pid_t parent = getpid();

		if (!workers[i].d->by_process) {
			if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
				return -EAGAIN;
			continue;
		}
		fflush(NULL);
		pids[i] = fork();
		if (pids[i] < 0)
			return -errno;
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				work(&workers[i]);
			_exit(0);
		}
	}
	return 0;
}

static bool worker_died(pid_t *pids, unsigned n)
{
	int status;

	for (unsigned i = 0; i < n; i++)
		if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
			pids[i] = 0;
			if (status)
				return true;
		}
	return false;
}

/* Waits until @word is @n. False when a worker process died instead. */
static bool wait_for(const _Atomic uint32_t *word, unsigned n, const struct driver *d, pid_t *pids)
{
	/* Acquire: pairs with the releases in work(). */
	while (atomic_load_explicit(word, memory_order_acquire) < n) {
		if (d->by_process && worker_died(pids, n))
			return false;
		usleep(20000);
		if (d->sample)
			d->sample();
	}
	return true;
}

static void collect(unsigned n, uint64_t begin, struct result *out)
{
	uint64_t end = begin;

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < n; i++) {
		const struct result *r = &shared->worker[i].result;
		uint64_t t = atomic_load_explicit(&shared->worker[i].end_ns, memory_order_relaxed);

		out->operations += r->operations;
		out->found += r->found;
		out->bytes += r->bytes;
		out->errors += r->errors;
		histogram_merge(&out->latency, &r->latency);
		if (t > end)
			end = t;
	}
	out->seconds = (double)(end - begin) / 1e9;
}

int loop_run(const struct driver *d, const struct bench_options *o, const struct benchmark *b, struct result *out)
{
	struct worker workers[MAX_WORKERS];
	pthread_t threads[MAX_WORKERS];
	pid_t pids[MAX_WORKERS] = {0};
	unsigned n = (unsigned)o->procs;
	uint64_t begin;
	bool alive;
	int rc;

	memset(shared, 0, sizeof(*shared));
	for (unsigned i = 0; i < n; i++)
		workers[i] = (struct worker){.d = d, .o = o, .b = b, .index = i, .r = &shared->worker[i].result};
	rc = start_workers(workers, n, threads, pids);
	if (rc < 0) {
		fprintf(stderr, "shale-bench: cannot start workers: %s\n", strerror(-rc));
		exit(1);
	}
	alive = wait_for(&shared->ready, n, d, pids);
	begin = monotonic_ns();
	atomic_store_explicit(&shared->go, 1, memory_order_release);
	alive = alive && wait_for(&shared->done, n, d, pids);
	for (unsigned i = 0; i < n; i++) {
		if (!d->by_process)
			pthread_join(threads[i], NULL);
		else if (pids[i] > 0)
			waitpid(pids[i], NULL, 0);
	}
	collect(n, begin, out);
	return alive && out->errors == 0 ? 0 : -EIO;
}
