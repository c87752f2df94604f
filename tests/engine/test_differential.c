/*
 * Ours and stock LevelDB side by side: one random stream of operations goes to both, and whatever can be read must be the same.
 *
 * One thread plays our service thread and our workers. Jobs are claimed and run at random moments, up to three are held
 * between the two, so that flushes and compactions overlap as they do on threads. Sizes are small: every level fills.
 *
 *	SHALE_DIFF_OPS=1000000 SHALE_DIFF_SEEDS=10 test_differential       the long form (make differential)
 *	SHALE_SEED=n SHALE_DIFF_SEEDS=1 SHALE_DIFF_OPS=… test_differential one run again
 *
 * Each seed is a test of its own, in a process of its own. A failure prints the seed and the operation.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/engine/model.h"
#include "tests/engine/stock.h"

enum { LONG_FORM = 100000, SEEDS_MAX = 100, PINS = 8, HELD = 3, BATCH_MAX = 64, BATCH_BYTES = 96 << 10 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SHORT_FORM = 2500 };
#else
enum { SHORT_FORM = 8000 };
#endif

/*
 * What is killed here is a process at most, and the page cache outlives it: no read of this test can depend on a sync. Without them a million
 * operations take minutes instead of hours. These two stand before libc's for both engines (ours on the posix backend).
 */
__attribute__((visibility("default"))) int fdatasync(int fd)
{
	(void)fd;
	return 0;
}

__attribute__((visibility("default"))) int fsync(int fd)
{
	(void)fd;
	return 0;
}

/* One state of the database that stays readable in both. */
struct pin {
	const leveldb_snapshot_t *stock;
	uint64_t sequence;
	struct view *view; /* ours is pinned by memtables and version; NULL: by a snapshot */
};

/* Where a run is: shared with the process that says so when it fails. */
struct progress {
	uint64_t seed, op, ops;
	bool done;
};

struct diff {
	struct progress *at;
	struct world w;
	struct stock s;
	char *stock_dir;
	bool snappy;
	int bloom_bits;
	uint64_t seed;
	unsigned keys, value_max;
	unsigned job_rate; /* of 1000 operations */
	struct pin pins[PINS];
	unsigned pin_count;
	struct job *held[HELD];
	unsigned held_count;
	uint64_t ticket;   /* of a manual compaction of ours; 0: none */
	uint64_t position; /* in the log, of the last write */
	uint64_t manual, reopens, flushes, compactions, moves;
	unsigned levels; /* bits: levels that held a file when we looked */
};

static struct progress *progress;
static uint64_t base_seed, ops_wanted = SHORT_FORM;
static int seeds_wanted = 10;

static uint64_t pick(struct diff *d, uint64_t n)
{
	return test_random(&d->seed) % n;
}

/* ---- jobs ---- */

static void run_held(struct diff *d, unsigned i, bool may_cancel)
{
	struct job *j = d->held[i];
	int rc;

	d->held[i] = d->held[--d->held_count];
	rc = engine_run_job(d->w.e, j, d->w.worker);
	ck_assert_msg(rc == 0 || (may_cancel && rc == -ECANCELED), "a job failed: %d, %s", rc, d->w.last_log);
}

/* Claims one, or runs one that was claimed. False: there is nothing to do. */
static bool some_job(struct diff *d, unsigned kinds)
{
	struct job *j;

	if (d->held_count == HELD || (d->held_count && pick(d, 2))) {
		run_held(d, (unsigned)pick(d, d->held_count), false);
		return true;
	}
	j = engine_next_job(d->w.e, kinds);
	if (j) {
		d->held[d->held_count++] = j;
		return true;
	}
	if (d->held_count)
		run_held(d, (unsigned)pick(d, d->held_count), false);
	return d->held_count;
}

static void pump(struct diff *d, bool eager)
{
	ck_assert_int_ge(io_queue_poll(d->w.service), 0);
	ck_ok(engine_pump(d->w.e, eager));
}

static void all_jobs(struct diff *d)
{
	do
		pump(d, true);
	while (some_job(d, JOBS_ALL) || d->held_count);
}

/* ---- writing ---- */

/* A batch in both tongues. */
struct both {
	unsigned char ours[BATCH_BYTES + 8192], *end;
	unsigned count;
	leveldb_writebatch_t *stock;
};

static void both_begin(struct both *b)
{
	b->end = batch_begin(b->ours);
	b->count = 0;
	b->stock = leveldb_writebatch_create();
}

static void both_put(struct both *b, struct slice key, struct slice value)
{
	b->end = batch_append_put(b->end, key, value);
	b->count++;
	leveldb_writebatch_put(b->stock, (const char *)key.data, key.size, (const char *)value.data, value.size);
}

static void both_delete(struct both *b, struct slice key)
{
	b->end = batch_append_delete(b->end, key);
	b->count++;
	leveldb_writebatch_delete(b->stock, (const char *)key.data, key.size);
}

static void both_write(struct diff *d, struct both *b)
{
	char *error = NULL;
	uint64_t sequence;
	uint16_t why;
	int rc;

	batch_set_count(b->ours, b->count);
	for (unsigned tries = 0;; tries++) {
		rc = engine_write(d->w.e, b->ours, (size_t)(b->end - b->ours), &sequence, &d->position, &why);
		if (rc != -EAGAIN)
			break;
		ck_assert_msg(tries < 100000, "stalled for ever: why %#x", why);
		pump(d, true);
		some_job(d, JOBS_ALL);
	}
	ck_assert_msg(rc == 0, "engine_write: %d", rc);
	leveldb_write(d->s.db, d->s.write, b->stock, &error);
	stock_must(error, "write");
	leveldb_writebatch_destroy(b->stock);
}

/* Mostly anywhere, often in a small region that wanders. */
static unsigned some_key(struct diff *d)
{
	unsigned hot = (unsigned)(d->at->op / 2000 * 97 % d->keys);

	return pick(d, 4) ? (unsigned)pick(d, d->keys) : (hot + (unsigned)pick(d, 100)) % d->keys;
}

static void both_put_some(struct diff *d, struct both *b, unsigned key)
{
	unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];
	uint32_t size = (uint32_t)pick(d, pick(d, 200) ? d->value_max + 1 : MODEL_VALUE_MAX);

	both_put(b, model_key(key, key_buf), model_value((uint32_t)pick(d, UINT32_MAX), size, value_buf));
}

/* One entry or many; a key may come several times, and then its last entry counts. */
static void write_some(struct diff *d, unsigned max)
{
	static struct both b;
	unsigned char key_buf[MODEL_KEY_MAX];

	both_begin(&b);
	for (unsigned n = 1 + (unsigned)pick(d, max); n && b.end - b.ours < BATCH_BYTES; n--) {
		if (pick(d, 4))
			both_put_some(d, &b, some_key(d));
		else
			both_delete(&b, model_key(some_key(d), key_buf));
	}
	both_write(d, &b);
}

/* Keys in a row are written or deleted: tables that nothing overlaps, and runs of tombstones. */
static void write_run(struct diff *d)
{
	static struct both b;
	unsigned char key_buf[MODEL_KEY_MAX];
	unsigned first = (unsigned)pick(d, d->keys);
	bool put = pick(d, 2);

	both_begin(&b);
	for (unsigned i = 0; i < BATCH_MAX && first + i < d->keys && b.end - b.ours < BATCH_BYTES; i++) {
		if (put)
			both_put_some(d, &b, first + i);
		else
			both_delete(&b, model_key(first + i, key_buf));
	}
	both_write(d, &b);
}

/* ---- states to read at ---- */

static struct pin *some_pin(struct diff *d)
{
	return d->pin_count && pick(d, 3) == 0 ? &d->pins[pick(d, d->pin_count)] : NULL;
}

static void pin(struct diff *d)
{
	struct pin *p = &d->pins[d->pin_count];

	if (d->pin_count == PINS)
		return;
	p->stock = leveldb_create_snapshot(d->s.db);
	p->view = pick(d, 4) ? NULL : engine_view(d->w.e);
	if (p->view)
		p->sequence = engine_last_sequence(d->w.e);
	else
		ck_ok(engine_snapshot_take(d->w.e, &p->sequence));
	d->pin_count++;
}

static void unpin(struct diff *d, unsigned i)
{
	leveldb_release_snapshot(d->s.db, d->pins[i].stock);
	if (d->pins[i].view)
		view_unref(d->pins[i].view);
	else
		engine_snapshot_release(d->w.e, d->pins[i].sequence);
	d->pins[i] = d->pins[--d->pin_count];
}

/* What a read needs on our side. @p may be NULL: the newest state. */
struct reading {
	struct view *view;
	uint64_t sequence;
	struct read_ctx ctx;
	bool own_view;
};

static void reading_begin(struct diff *d, struct reading *r, const struct pin *p)
{
	r->own_view = !p || !p->view;
	r->view = r->own_view ? engine_view(d->w.e) : p->view;
	r->sequence = p ? p->sequence : engine_last_sequence(d->w.e);
	read_ctx_init(&r->ctx, engine_read_shared(d->w.e));
}

static void reading_end(struct reading *r)
{
	read_ctx_fini(&r->ctx);
	if (r->own_view)
		view_unref(r->view);
}

/* ---- reading, and comparing ---- */

static void compare_get(struct diff *d, const struct pin *p, unsigned key)
{
	unsigned char key_buf[MODEL_KEY_MAX];
	struct slice k = model_key(key, key_buf), ours;
	char *error = NULL, *stock;
	struct reading r;
	size_t size;
	int rc;

	leveldb_readoptions_set_snapshot(d->s.read, p ? p->stock : NULL);
	stock = leveldb_get(d->s.db, d->s.read, (const char *)k.data, k.size, &size, &error);
	stock_must(error, "get");
	reading_begin(d, &r, p);
	while ((rc = engine_get(r.view, &r.ctx, r.sequence, k, &ours)) == READ_MISS)
		world_fetch(&d->w, &r.ctx);
	ck_assert_msg(rc == (stock ? 0 : SHALE_NOTFOUND), "get of key %u at %llu: ours answers %d, stock has %s", key,
		      (unsigned long long)r.sequence, rc, stock ? "a value" : "none");
	ck_assert_msg(!stock || slice_equal(ours, slice_of(stock, size)), "get of key %u at %llu: another value", key,
		      (unsigned long long)r.sequence);
	leveldb_free(stock);
	reading_end(&r);
}

static struct slice stock_key(const leveldb_iterator_t *it)
{
	struct slice k;

	k.data = (const unsigned char *)leveldb_iter_key(it, &k.size);
	return k;
}

static struct slice stock_value(const leveldb_iterator_t *it)
{
	struct slice v;

	v.data = (const unsigned char *)leveldb_iter_value(it, &v.size);
	return v;
}

/* Puts stock's iterator where scan @s begins. */
static void stock_begin(leveldb_iterator_t *it, const struct scan *s)
{
	if (!s->has_start && s->reverse) {
		leveldb_iter_seek_to_last(it);
	} else if (!s->has_start) {
		leveldb_iter_seek_to_first(it);
	} else {
		leveldb_iter_seek(it, (const char *)s->start.data, s->start.size);
		if (s->reverse && !leveldb_iter_valid(it))
			leveldb_iter_seek_to_last(it);
		else if (s->reverse && slice_compare(stock_key(it), s->start) > 0)
			leveldb_iter_prev(it);
		if (s->exclusive && leveldb_iter_valid(it) && slice_equal(stock_key(it), s->start))
			(s->reverse ? leveldb_iter_prev : leveldb_iter_next)(it);
	}
}

/* True while stock's iterator is inside the range of @s. */
static bool stock_inside(const leveldb_iterator_t *it, const struct scan *s)
{
	int c;

	if (!leveldb_iter_valid(it))
		return false;
	c = s->has_limit ? slice_compare(stock_key(it), s->limit) : 0;
	return !s->has_limit || (s->reverse ? c >= 0 : c < 0);
}

/* The entries of one chunk against stock's next ones. *@last_out: the last one's key. */
static void compare_chunk(leveldb_iterator_t *it, const struct scan *s, struct key_buf *last_out)
{
	const unsigned char *at = s->out;
	struct slice key = {0}, value;

	while (scan_entry(&at, s->out + s->used, &key, &value)) {
		ck_assert_msg(stock_inside(it, s), "a scan at %llu gives an entry where stock's range ends",
			      (unsigned long long)s->sequence);
		ck_assert_msg(slice_equal(key, stock_key(it)), "a scan at %llu gives another key",
			      (unsigned long long)s->sequence);
		ck_assert_msg(slice_equal(value, stock_value(it)), "a scan at %llu gives another value",
			      (unsigned long long)s->sequence);
		(s->reverse ? leveldb_iter_prev : leveldb_iter_next)(it);
	}
	if (s->count)
		ck_ok(key_buf_set(last_out, key));
	ck_assert_msg(s->more || !stock_inside(it, s), "a scan at %llu ends too early",
		      (unsigned long long)s->sequence);
}

/* @question from its start to its end in chunks of @chunk bytes, at most @chunks of them (0: all). */
static void compare_scan(struct diff *d, const struct pin *p, struct scan question, size_t chunk, unsigned chunks)
{
	unsigned char *out = malloc(chunk);
	leveldb_iterator_t *it;
	struct key_buf at = {0};
	char *error = NULL;
	struct reading r;
	bool more = true;

	leveldb_readoptions_set_snapshot(d->s.read, p ? p->stock : NULL);
	it = leveldb_create_iterator(d->s.db, d->s.read);
	stock_begin(it, &question);
	reading_begin(d, &r, p);
	for (unsigned n = 0; more && (!chunks || n < chunks); n++) {
		struct scan s = question;
		int rc;

		s.sequence = r.sequence;
		s.out = out;
		s.out_size = chunk;
		while ((rc = engine_scan(r.view, &r.ctx, &s)) == READ_MISS)
			world_fetch(&d->w, &r.ctx);
		ck_assert_msg(rc == 0, "engine_scan: %d", rc);
		compare_chunk(it, &s, &at);
		more = s.more;
		if (s.count) {
			question.has_start = question.exclusive = true;
			question.start = key_buf_slice(&at);
		} else if (more) {
			ck_assert_uint_gt(s.needed, chunk);
			chunk = s.needed;
			out = realloc(out, chunk);
		}
		scan_fini(&s);
		read_ctx_reset(&r.ctx);
	}
	leveldb_iter_get_error(it, &error);
	stock_must(error, "scan");
	leveldb_iter_destroy(it);
	reading_end(&r);
	key_buf_fini(&at);
	free(out);
}

static void compare_range(struct diff *d)
{
	unsigned char start[MODEL_KEY_MAX], limit[MODEL_KEY_MAX];
	unsigned a = some_key(d), b = pick(d, 2) ? some_key(d) : (a + 50) % d->keys;
	struct scan s = {.reverse = pick(d, 2),
			 .exclusive = pick(d, 2),
			 .has_start = pick(d, 8),
			 .has_limit = pick(d, 4),
			 .max_count = pick(d, 2) ? 1 + (uint32_t)pick(d, 30) : 0};

	if ((a > b) != s.reverse && pick(d, 8)) { /* now and then a range that is empty */
		unsigned t = a;

		a = b;
		b = t;
	}
	s.start = model_key(a, start);
	s.limit = model_key(b, limit);
	compare_scan(d, some_pin(d), s, 200 + pick(d, 4000), 1 + (unsigned)pick(d, 4));
}

static void note_levels(struct diff *d)
{
	struct engine_stats stats;

	engine_stats(d->w.e, &stats);
	for (unsigned i = 0; i < LEVELS; i++)
		d->levels |= (unsigned)(stats.level[i].files > 0) << i;
}

/* Everything, both ways, at the newest state and at every pinned one; and our invariants, the slow ones too. */
static void compare_all(struct diff *d)
{
	world_check_deep(&d->w);
	for (unsigned i = 0; i <= d->pin_count; i++) {
		const struct pin *p = i < d->pin_count ? &d->pins[i] : NULL;

		compare_scan(d, p, (struct scan){.reverse = false}, 2000 + pick(d, 20000), 0);
		compare_scan(d, p, (struct scan){.reverse = true}, 2000 + pick(d, 20000), 0);
	}
	for (unsigned i = 0; i < d->keys; i += 1 + (unsigned)pick(d, 20))
		compare_get(d, some_pin(d), i);
}

/* ---- events ---- */

static void count_work(struct diff *d)
{
	struct engine_stats stats;

	engine_stats(d->w.e, &stats);
	ck_assert_msg(stats.jobs_failed == 0, "jobs failed: %s", d->w.last_log);
	d->flushes += stats.flushes;
	d->compactions += stats.compactions;
	d->moves += stats.trivial_moves;
}

/* Both are closed and opened again; ours is killed as often as closed. */
static void reopen(struct diff *d)
{
	bool kill = pick(d, 2);

	while (d->pin_count) /* pins do not outlive the engine */
		unpin(d, 0);
	if (pick(d, 2))
		engine_stop_jobs(d->w.e);
	while (d->held_count)
		run_held(d, 0, true);
	d->ticket = d->position = 0;
	count_work(d);
	if (kill)
		world_abandon(&d->w);
	else
		world_close(&d->w);
	world_open(&d->w);
	ck_assert_uint_eq(d->w.recovery.dropped_bytes, 0);
	stock_close(&d->s);
	stock_open(&d->s, d->stock_dir, false, d->snappy, d->bloom_bits);
	d->reopens++;
	compare_all(d);
}

/* Ours goes on in pieces while the stream does; a range, or open ends. */
static void manual(struct diff *d)
{
	unsigned char a[MODEL_KEY_MAX], b[MODEL_KEY_MAX];
	struct slice begin = model_key(some_key(d), a), end = model_key(some_key(d), b);

	if (d->ticket) {
		int rc = engine_compact_done(d->w.e, d->ticket);

		ck_assert_msg(rc >= 0, "a manual compaction: %d", rc);
		if (rc == 1)
			d->ticket = 0;
		return;
	}
	if (slice_compare(begin, end) > 0) {
		struct slice t = begin;

		begin = end;
		end = t;
	}
	ck_ok(engine_compact_start(d->w.e, pick(d, 3) ? &begin : NULL, pick(d, 3) ? &end : NULL, &d->ticket));
	d->manual++;
	if (pick(d, 8) == 0)
		leveldb_compact_range(d->s.db, (const char *)begin.data, begin.size, (const char *)end.data, end.size);
}

/* Switches memtables, with flushes and logs as that needs them; what else was claimed stays as it is. False: not now. */
static bool switch_memtable(struct diff *d)
{
	uint64_t ticket;
	int rc;

	for (unsigned tries = 0; (rc = engine_flush_start(d->w.e, &ticket)) == -EAGAIN && tries < 4; tries++) {
		pump(d, true);
		if (!world_run_one(&d->w, JOB_LOG | JOB_FLUSH))
			break;
	}
	ck_assert_msg(rc == 0 || rc == -EAGAIN, "engine_flush_start: %d", rc);
	return rc == 0;
}

/* A memtable of one or two neighbours finds gaps between tables, where a flush may go down past compactions under way. */
static void narrow_flush(struct diff *d)
{
	unsigned char key_buf[MODEL_KEY_MAX];
	unsigned key = some_key(d);
	static struct both b;

	if (!switch_memtable(d))
		return;
	both_begin(&b);
	if (pick(d, 3))
		both_put_some(d, &b, key);
	else
		both_delete(&b, model_key(key, key_buf));
	if (pick(d, 2))
		both_put_some(d, &b, (key + 1) % d->keys);
	both_write(d, &b);
	if (switch_memtable(d))
		while (world_run_one(&d->w, JOB_FLUSH))
			;
}

static void one_step(struct diff *d)
{
	uint64_t dice = pick(d, 10000), ticket;

	if (d->at->op % 50 == 0)
		note_levels(d);
	if (d->at->op % 10000 == 0)
		d->job_rate = (unsigned)pick(d, 200); /* background work is fast now, and slow then */
	if (pick(d, 1000) < d->job_rate)
		some_job(d, pick(d, 2) ? JOBS_ALL : 1u << pick(d, 4));
	if (dice < 5500)
		write_some(d, 1);
	else if (dice < 5900)
		write_some(d, pick(d, 10) ? 8 : BATCH_MAX);
	else if (dice < 5920)
		write_run(d);
	else if (dice < 9000)
		compare_get(d, some_pin(d), some_key(d));
	else if (dice < 9400)
		compare_range(d);
	else if (dice < 9800)
		pump(d, pick(d, 2));
	else if (dice < 9860)
		pin(d);
	else if (dice < 9920)
		d->pin_count ? unpin(d, (unsigned)pick(d, d->pin_count)) : (void)0;
	else if (dice < 9930)
		narrow_flush(d);
	else if (dice < 9940)
		ck_assert(engine_flush_start(d->w.e, &ticket) != -SHALE_EFAILED);
	else if (dice < 9980)
		manual(d);
	else if (dice < 9996)
		engine_want_sync(d->w.e, d->position);
	else
		pick(d, 3) ? compare_all(d) : reopen(d);
}

/* ---- a run ---- */

static void choose_sizes(struct diff *d)
{
	struct engine_options *o;

	world_init(&d->w, IO_BACKEND_POSIX);
	o = &d->w.options;
	d->keys = 2000 + (unsigned)pick(d, 6000);
	d->value_max = 50 + (unsigned)pick(d, 400);
	d->snappy = pick(d, 2);
	d->bloom_bits = pick(d, 3) ? 10 : 0;
	o->table.compression = d->snappy ? COMPRESS_SNAPPY : COMPRESS_NONE;
	o->table.bloom_bits_per_key = (unsigned)d->bloom_bits;
	o->max_immutables = 1 + (unsigned)pick(d, 3);
	o->write_buffer_bytes = 8 << (10 + pick(d, 3));
	o->levels.max_file_bytes = 4 << (10 + pick(d, 2));
	o->levels.level1_bytes = 4 << (10 + pick(d, 2));
	o->levels.level_multiplier = 2;
	o->levels.max_manifest_bytes = 64 << 10;
	d->stock_dir = test_tmpdir();
}

static void run(struct progress *at)
{
	struct diff *d = calloc(1, sizeof(*d));

	d->at = at;
	d->seed = at->seed;
	choose_sizes(d);
	world_open(&d->w);
	stock_open(&d->s, d->stock_dir, true, d->snappy, d->bloom_bits);
	for (at->op = 0; at->op < at->ops; at->op++)
		one_step(d);
	all_jobs(d);
	compare_all(d);
	reopen(d);
	world_compact(&d->w, NULL, NULL);
	compare_all(d);
	count_work(d);
	printf("seed %llu: %llu operations, %llu reopens, %llu flushes, %llu compactions, %llu moves, %llu manual, "
	       "levels %#x\n",
	       (unsigned long long)at->seed, (unsigned long long)at->ops, (unsigned long long)d->reopens,
	       (unsigned long long)d->flushes, (unsigned long long)d->compactions, (unsigned long long)d->moves,
	       (unsigned long long)d->manual, d->levels);
	fflush(stdout);
	if (at->ops >= LONG_FORM) /* the short one fills them in most runs */
		ck_assert_msg(d->levels == (1u << LEVELS) - 1, "not all levels were filled: %#x", d->levels);
	at->done = true;
	world_close(&d->w);
	world_fini(&d->w);
	stock_close(&d->s);
	test_rmtree(d->stock_dir);
	free(d->stock_dir);
	free(d);
}

/* Whatever was written, in whatever order flushes and compactions came, both give the same answers to every question. */
START_TEST(ours_equals_stock)
{
	run(&progress[_i]);
}
END_TEST

static void say_where(void)
{
	for (int i = 0; i < seeds_wanted; i++) {
		const struct progress *p = &progress[i];

		if (!p->done)
			printf("seed %llu did not get past operation %llu; again: SHALE_SEED=%llu SHALE_DIFF_SEEDS=1 "
			       "SHALE_DIFF_OPS=%llu\n",
			       (unsigned long long)p->seed, (unsigned long long)p->op, (unsigned long long)p->seed,
			       (unsigned long long)p->ops);
	}
}

static void take_wishes(void)
{
	const char *ops = getenv("SHALE_DIFF_OPS"), *seeds = getenv("SHALE_DIFF_SEEDS");

	if (ops && *ops)
		ops_wanted = strtoull(ops, NULL, 0);
	if (seeds && *seeds)
		seeds_wanted = atoi(seeds);
	if (seeds_wanted < 1 || seeds_wanted > SEEDS_MAX)
		seeds_wanted = SEEDS_MAX;
	progress = mmap(NULL, SEEDS_MAX * sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < seeds_wanted; i++) {
		progress[i].seed = base_seed + (uint64_t)i;
		progress[i].ops = ops_wanted;
	}
}

int main(void)
{
	Suite *s = suite_create("differential");
	TCase *tc = tcase_create("ours_equals_stock");
	SRunner *runner;
	int failed;

	base_seed = test_seed();
	take_wishes();
	tcase_set_timeout(tc, 60 + (double)ops_wanted / 200);
	tcase_add_unchecked_fixture(tc, NULL, say_where);
	tcase_add_loop_test(tc, ours_equals_stock, 0, seeds_wanted);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
