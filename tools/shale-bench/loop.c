/*
 * loop.c - workers.
 *
 * They get ready (connect, fill their value buffer), then begin together when the parent says go; the time is that from go to the last
 * one's end. Results lie in shared memory, one block per worker, so that a worker may be a thread or a process. Random numbers depend on
 * the benchmark and on the worker's index alone: every engine gets the same keys in the same order.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/shale-bench/workload.h"

enum { TEXT_BYTES = 1 << 20, TEXT_PIECE = 100 };

struct shared {
	_Atomic uint32_t ready, go, done;
	struct {
		struct result result;
		_Atomic uint64_t end_ns, cpu_ns;
	} worker[MAX_WORKERS];
};

static struct shared *shared;
static _Atomic uint64_t *written; /* a bit per key */
static uint64_t written_words;

/* ---- keys and values ---- */

/* Text that compresses to half, as db_bench's does: pieces of random printable bytes, each there twice. */
int worker_text(struct worker *w)
{
	w->text = malloc(TEXT_BYTES + w->o->value_bytes);
	w->value = malloc(w->o->value_bytes + 1);
	if (!w->text || !w->value)
		return -ENOMEM;
	for (size_t i = 0; i < TEXT_BYTES + w->o->value_bytes; i++)
		w->text[i] = i % TEXT_PIECE < TEXT_PIECE / 2 ? (unsigned char)(' ' + next_random(w) % 95)
							     : w->text[i - TEXT_PIECE / 2];
	return 0;
}

void worker_text_free(struct worker *w)
{
	free(w->text);
	free(w->value);
	w->text = w->value = NULL;
}

struct slice make_value(struct worker *w, struct slice key)
{
	struct slice v = slice_of(w->text + w->text_at, w->o->value_bytes);

	w->text_at = (w->text_at + v.size) % TEXT_BYTES;
	if (w->o->verify) {
		memcpy(w->value, v.data, v.size);
		memcpy(w->value, key.data, min_size(key.size, v.size));
		v.data = w->value;
	}
	return v;
}

void set_written(uint64_t key, bool there)
{
	uint64_t bit = UINT64_C(1) << key % 64;

	if (there)
		atomic_fetch_or_explicit(&written[key / 64], bit, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&written[key / 64], ~bit, memory_order_relaxed);
}

bool was_written(uint64_t key)
{
	return atomic_load_explicit(&written[key / 64], memory_order_relaxed) >> key % 64 & 1;
}

static void *map_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int loop_init(uint64_t max_num)
{
	written_words = 2 * max_num / 64 + 2; /* key_space() */
	shared = map_shared(sizeof(*shared));
	written = map_shared(written_words * sizeof(*written));
	return shared && written ? 0 : -ENOMEM;
}

void loop_forget(void)
{
	for (uint64_t i = 0; i < written_words; i++)
		atomic_store_explicit(&written[i], 0, memory_order_relaxed);
}

uint64_t loop_keys(void)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < written_words; i++)
		n += (uint64_t)__builtin_popcountll(atomic_load_explicit(&written[i], memory_order_relaxed));
	return n;
}

/* ---- one worker ---- */

bool others_done(const struct worker *w)
{
	/* Acquire: pairs with the release in work(). */
	return atomic_load_explicit(&shared->done, memory_order_acquire) >= w->count - 1;
}

static uint64_t seed_of(const struct worker *w)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) + w->index; /* FNV-1a */

	for (const char *p = w->b->name; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	return h | 1;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t cpu;
	int rc = -ENOMEM;

	w->random = seed_of(w);
	w->session = worker_text(w) == 0 ? w->d->open() : NULL;
	/* Release: pairs with the acquire in wait_for(). */
	atomic_fetch_add_explicit(&shared->ready, 1, memory_order_release);
	/* Acquire: pairs with the release in loop_run(). Workers begin within a scheduler tick of each other. */
	while (!atomic_load_explicit(&shared->go, memory_order_acquire))
		usleep(100);
	cpu = thread_cpu_ns();
	if (w->session)
		rc = w->b->run(w);
	atomic_store_explicit(&shared->worker[w->index].end_ns, monotonic_ns(), memory_order_relaxed);
	atomic_store_explicit(&shared->worker[w->index].cpu_ns, thread_cpu_ns() - cpu, memory_order_relaxed);
	if (rc < 0)
		w->r->errors++;
	/* Release: results before done. Pairs with the acquires in wait_for() and others_done(). */
	atomic_fetch_add_explicit(&shared->done, 1, memory_order_release);
	if (w->session)
		w->d->close(w->session);
	worker_text_free(w);
	return NULL;
}

/* ---- all of them ---- */

struct crew {
	struct worker worker[MAX_WORKERS];
	pthread_t thread[MAX_WORKERS];
	pid_t pid[MAX_WORKERS];
	unsigned count, procs, threads; /* procs: 0 when all are threads of this process */
};

static int start_threads(struct crew *c, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		if (pthread_create(&c->thread[i], NULL, work, &c->worker[i]) != 0)
			return -EAGAIN;
	return 0;
}

static void join_threads(struct crew *c, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		pthread_join(c->thread[i], NULL);
}

static int start_workers(struct crew *c)
{
	pid_t parent = getpid();

	if (!c->procs)
		return start_threads(c, 0, c->count);
	fflush(NULL);
	for (unsigned i = 0; i < c->procs; i++) {
		c->pid[i] = fork();
		if (c->pid[i] < 0)
			return -errno;
		if (c->pid[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		if (c->threads == 1)
			work(&c->worker[i]);
		else if (start_threads(c, i * c->threads, c->threads) == 0)
			join_threads(c, i * c->threads, c->threads);
		else
			_exit(1);
		_exit(0);
	}
	return 0;
}

static bool worker_died(struct crew *c)
{
	int status;

	for (unsigned i = 0; i < c->procs; i++)
		if (c->pid[i] > 0 && waitpid(c->pid[i], &status, WNOHANG) == c->pid[i]) {
			c->pid[i] = 0;
			if (status)
				return true;
		}
	return false;
}

/* Waits until @word says that all have come so far. False when a worker process died instead. */
static bool wait_for(const _Atomic uint32_t *word, struct crew *c, const struct driver *d)
{
	/* Acquire: pairs with the releases in work(). */
	while (atomic_load_explicit(word, memory_order_acquire) < c->count) {
		if (worker_died(c))
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
		out->cpu += (double)atomic_load_explicit(&shared->worker[i].cpu_ns, memory_order_relaxed) / 1e9;
		latency_merge(&out->latency, &r->latency);
		if (t > end)
			end = t;
	}
	out->seconds = (double)(end - begin) / 1e9;
}

static void recruit(struct crew *c, const struct driver *d, const struct bench_options *o, const struct benchmark *b)
{
	double zetan = b->needs & NEEDS_ZIPF ? zipf_zeta(o->num) : 0;

	c->count = (unsigned)(o->procs * o->threads);
	c->threads = (unsigned)o->threads;
	c->procs = d->by_process ? (unsigned)o->procs : 0;
	for (unsigned i = 0; i < c->count; i++)
		c->worker[i] = (struct worker){.d = d,
					       .o = o,
					       .b = b,
					       .index = i,
					       .count = c->count,
					       .zetan = zetan,
					       .r = &shared->worker[i].result};
}

int loop_run(const struct driver *d, const struct bench_options *o, const struct benchmark *b, struct result *out)
{
	pid_t server = d->server_pid ? d->server_pid() : 0;
	struct usage before, after;
	struct crew c = {0};
	uint64_t begin;
	bool alive;
	int rc;

	memset(shared, 0, sizeof(*shared));
	recruit(&c, d, o, b);
	rc = start_workers(&c);
	if (rc < 0) {
		fprintf(stderr, "shale-bench: cannot start workers: %s\n", strerror(-rc));
		exit(1);
	}
	alive = wait_for(&shared->ready, &c, d);
	usage_now(server, &before);
	begin = monotonic_ns();
	/* Release: pairs with the acquire in work(). */
	atomic_store_explicit(&shared->go, 1, memory_order_release);
	alive = alive && wait_for(&shared->done, &c, d);
	usage_now(server, &after);
	if (!c.procs)
		join_threads(&c, 0, c.count);
	for (unsigned i = 0; i < c.procs; i++)
		if (c.pid[i] > 0)
			waitpid(c.pid[i], NULL, 0);
	collect(c.count, begin, out);
	out->used = (struct usage){
		/* Threads of this process share it with the engine's own: all of it is the client's. */
		.cpu_client = c.procs ? out->cpu : after.cpu_client - before.cpu_client,
		.cpu_server = after.cpu_server - before.cpu_server,
		.device_bytes = after.device_bytes - before.device_bytes,
		.resident_bytes = after.resident_bytes,
	};
	return alive && out->errors == 0 ? 0 : -EIO;
}
