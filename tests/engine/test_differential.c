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
 *
 * What is compared how often, of a million operations: a third are gets, 40,000 ranges, a third of both at a pinned state; a hundred and fifty times
 * all that is there: at every pinned state too, or after both were opened again. Each level is filled on purpose ten times, and more often by itself.
 *
 * Where the time goes (perf, in the long form): a quarter each into our compactions, into scans and gets of ours, into stock as a whole, and into what
 * surrounds them. Tables of a few kilobytes and large values cost twice as much, and the same code ran.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/engine/diff_bed.h"

enum { LONG_FORM = 100000, SEEDS_MAX = 100 };

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

static struct progress *progress;
static uint64_t base_seed, ops_wanted = SHORT_FORM;
static int seeds_wanted = 10;

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
	bool kill = diff_pick(d, 2);

	while (d->pin_count) /* pins do not outlive the engine */
		diff_unpin(d, 0);
	if (diff_pick(d, 2))
		engine_stop_jobs(d->w.e);
	while (d->held_count)
		diff_run_held(d, 0, true);
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
	diff_compare_all(d);
}

/* Ours goes on in pieces while the stream does; a range, or open ends. */
static void manual(struct diff *d)
{
	unsigned char a[MODEL_KEY_MAX], b[MODEL_KEY_MAX];
	struct slice begin = model_key(diff_some_key(d), a), end = model_key(diff_some_key(d), b), *from, *to;

	if (d->ticket) {
		int rc = engine_compact_done(d->w.e, d->ticket);

		ck_assert_msg(rc >= 0 || (d->cancelled && rc == -ECANCELED), "a manual compaction: %d", rc);
		if (rc)
			d->ticket = 0;
		else if (diff_pick(d, 10) == 0)
			d->cancelled = engine_compact_cancel(d->w.e, d->ticket) == 0;
		return;
	}
	if (slice_compare(begin, end) > 0) {
		struct slice t = begin;

		begin = end;
		end = t;
	}
	from = diff_pick(d, 3) ? &begin : NULL;
	to = diff_pick(d, 3) ? &end : NULL;
	if (diff_pick(d, 4)) /* of one level: what takes data to the last one, however little there is */
		ck_ok(engine_compact_start(d->w.e, from, to, &d->ticket));
	else
		ck_ok(engine_compact_level(d->w.e, (unsigned)diff_pick(d, LEVELS), from, to, &d->ticket));
	d->cancelled = false;
	d->manual++;
	if (diff_pick(d, 8) == 0)
		leveldb_compact_range(d->s.db, (const char *)begin.data, begin.size, (const char *)end.data, end.size);
}

/* Switches memtables, with flushes and logs as that needs them; what else was claimed stays as it is. False: not now. */
static bool switch_memtable(struct diff *d)
{
	uint64_t ticket;
	int rc;

	for (unsigned tries = 0; (rc = engine_flush_start(d->w.e, &ticket)) == -EAGAIN && tries < 4; tries++) {
		diff_pump(d, true);
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
	unsigned key = diff_some_key(d);
	static struct both b;

	if (!switch_memtable(d))
		return;
	both_begin(&b);
	if (diff_pick(d, 3))
		both_put_some(d, &b, key);
	else
		both_delete(&b, model_key(key, key_buf));
	if (diff_pick(d, 2))
		both_put_some(d, &b, (key + 1) % d->keys);
	both_write(d, &b);
	if (switch_memtable(d))
		while (world_run_one(&d->w, JOB_FLUSH))
			;
}

static void note_levels(struct diff *d)
{
	struct engine_stats stats;

	engine_stats(d->w.e, &stats);
	for (unsigned i = 0; i < LEVELS; i++)
		d->levels |= (unsigned)(stats.level[i].files > 0) << i;
}

/* The manual compaction under way, to its end. */
static void finish_manual(struct diff *d)
{
	int rc = 1;

	while (d->ticket && (rc = engine_compact_done(d->w.e, d->ticket)) == 0) {
		diff_pump(d, true);
		diff_some_job(d, JOBS_ALL);
	}
	ck_assert_msg(rc == 1 || (d->cancelled && rc == -ECANCELED), "a manual compaction: %d", rc);
	d->ticket = 0;
}

/*
 * All there is goes down to the last level, one level at a time: whatever sizes were chosen, each level holds a table then. How much of the stream
 * comes there by itself depends on them.
 */
static void fill_levels(struct diff *d)
{
	finish_manual(d);
	for (unsigned i = 0; i < LEVELS; i++) {
		ck_ok(engine_compact_level(d->w.e, i, NULL, NULL, &d->ticket));
		d->cancelled = false;
		d->manual++;
		finish_manual(d);
		note_levels(d);
	}
}

static void one_step(struct diff *d)
{
	uint64_t dice = diff_pick(d, 10000), ticket;

	if (d->at->op % 50 == 0)
		note_levels(d);
	if (d->at->op % LONG_FORM == LONG_FORM / 2)
		fill_levels(d);
	if (d->at->op % 10000 == 0)
		d->job_rate = (unsigned)diff_pick(d, 200); /* background work is fast now, and slow then */
	if (diff_pick(d, 1000) < d->job_rate)
		diff_some_job(d, diff_pick(d, 2) ? JOBS_ALL : 1u << diff_pick(d, 4));
	if (dice < 5500)
		diff_write_some(d, 1);
	else if (dice < 5900)
		diff_write_some(d, diff_pick(d, 10) ? 8 : BATCH_MAX);
	else if (dice < 5920)
		diff_write_run(d);
	else if (dice < 9000)
		diff_compare_get(d, diff_some_pin(d), diff_some_key(d));
	else if (dice < 9400)
		diff_compare_range(d);
	else if (dice < 9800)
		diff_pump(d, diff_pick(d, 2));
	else if (dice < 9860)
		diff_pin(d);
	else if (dice < 9920)
		d->pin_count ? diff_unpin(d, (unsigned)diff_pick(d, d->pin_count)) : (void)0;
	else if (dice < 9930)
		narrow_flush(d);
	else if (dice < 9940)
		ck_assert(engine_flush_start(d->w.e, &ticket) != -SHALE_EFAILED);
	else if (dice < 9980)
		manual(d);
	else if (dice < 9996)
		engine_want_sync(d->w.e, d->position);
	else if (dice < 9997)
		reopen(d);
	else if (dice < 9998 && diff_pick(d, 2))
		diff_compare_all(d);
}

/* ---- a run ---- */

static void choose_sizes(struct diff *d)
{
	struct engine_options *o;

	world_init(&d->w, IO_BACKEND_POSIX);
	o = &d->w.options;
	d->keys = 2000 + (unsigned)diff_pick(d, 6000);
	d->value_max = 20 + (unsigned)diff_pick(d, 200);
	d->snappy = diff_pick(d, 2);
	d->bloom_bits = diff_pick(d, 3) ? 10 : 0;
	o->table.compression = d->snappy ? COMPRESS_SNAPPY : COMPRESS_NONE;
	o->table.bloom_bits_per_key = (unsigned)d->bloom_bits;
	o->max_immutables = 1 + (unsigned)diff_pick(d, 3);
	o->write_buffer_bytes = 16 << (10 + diff_pick(d, 3));
	o->levels.max_file_bytes = 8 << (10 + diff_pick(d, 2));
	o->levels.level1_bytes = 8 << (10 + diff_pick(d, 2));
	o->levels.level_multiplier = 2;
	if (diff_pick(d, 3)) { /* else what world_init gives: next to nothing stays in memory */
		o->block_cache_bytes = 1 << 20;
		o->max_open_tables = 300;
	}
	o->levels.l0_gather_files = (unsigned)diff_pick(d, 7);
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
	diff_all_jobs(d);
	diff_compare_all(d);
	reopen(d);
	world_compact(&d->w, NULL, NULL);
	diff_compare_all(d);
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
