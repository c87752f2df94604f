/* Compactions that no full level asks for: reads in vain, dead entries; and what holds them back: order, the rate, snapshots. */
#include <stdio.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "tests/engine/model.h"

static struct engine_stats stats_of(struct world *w)
{
	struct engine_stats s;

	engine_stats(w->e, &s);
	return s;
}

static uint64_t count(struct world *w, enum compaction_reason reason)
{
	struct engine_stats s = stats_of(w);
	uint64_t n = 0;

	for (unsigned level = 0; level < LEVELS; level++)
		n += s.level[level].by_reason[reason];
	return n;
}

static struct slice key_of(unsigned i)
{
	static char key[16];

	snprintf(key, sizeof(key), "%06u", i);
	return slice_str(key);
}

/* Values that no compression makes smaller. */
static void fill(struct world *w, unsigned from, unsigned to, uint64_t seed)
{
	unsigned char value[300];

	for (unsigned i = from; i < to; i++) {
		for (size_t k = 0; k < sizeof(value); k++)
			value[k] = (unsigned char)test_random(&seed);
		world_put(w, key_of(i), slice_of(value, sizeof(value)));
	}
}

static void delete_all(struct world *w, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		world_delete(w, key_of(i));
}

static int get(struct world *w, unsigned i, uint64_t sequence)
{
	unsigned char *value;
	size_t size;
	int rc = world_get(w, key_of(i), sequence, &value, &size);

	if (rc == 0)
		free(value);
	return rc;
}

static void get_often(struct world *w, unsigned i, unsigned times)
{
	while (times--)
		ck_ok(get(w, i, SEQUENCE_MAX));
}

static struct file_meta *first_file(struct world *w, unsigned level)
{
	ck_assert_uint_gt(w->e->versions.current->count[level], 0);
	return w->e->versions.current->files[level][0];
}

/* ---- reads in vain ---- */

/* A table of level 1 that spans one of level 2, and lacks what that one holds: looking for it reads a block in vain. */
static void two_levels(struct world *w, bool seek_compaction, unsigned bloom_bits)
{
	world_init(w, IO_BACKEND_POSIX);
	w->options.seek_compaction = seek_compaction;
	w->options.table.bloom_bits_per_key = bloom_bits;
	world_open(w);
	fill(w, 0, 50, 1);
	world_flush(w);
	fill(w, 0, 1, 2);
	fill(w, 49, 50, 2);
	world_flush(w);
	world_run_all(w, JOBS_ALL);
	ck_assert_uint_eq(world_files(w, 1), 1);
	ck_assert_uint_eq(world_files(w, 2), 1);
}

/* Seek compaction: a file that cost 100 gets a block in vain is merged down, and its cost is counted; 99 are not enough. */
START_TEST(reads_in_vain_compact)
{
	struct world w;

	two_levels(&w, true, 0);
	get_often(&w, 25, 99);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	get_often(&w, 25, 1);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(count(&w, REASON_SEEK), 1);
	ck_assert_uint_gt(stats_of(&w).bytes_read_by_reason[REASON_SEEK], 0);
	ck_assert_uint_gt(stats_of(&w).bytes_written_by_reason[REASON_SEEK], 0);
	ck_assert_uint_eq(world_files(&w, 1), 0);
	get_often(&w, 25, 300); /* one table: nothing is in vain any more */
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* The switch: off, no number of reads compacts anything. */
START_TEST(seek_compaction_is_off_unless_asked)
{
	struct engine_options o;
	struct world w;

	engine_options_default(&o);
	ck_assert(!o.seek_compaction);
	two_levels(&w, false, 0);
	get_often(&w, 25, 300);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	world_fini(&w);
}
END_TEST

/* What a filter answers reads no block, and is not charged: else a database that is only read would rewrite itself. */
START_TEST(filtered_probes_are_not_charged)
{
	struct world w;

	two_levels(&w, true, 20);
	get_often(&w, 25, 300);
	ck_assert_int_eq(first_file(&w, 1)->allowed_seeks, 100);
	/* Nor is a probe that ends the search where it began. */
	get_often(&w, 0, 300);
	ck_assert_int_eq(first_file(&w, 1)->allowed_seeks, 100);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	world_fini(&w);
}
END_TEST

/* Iterator sampling: scans, too, wear out a file that overlaps another, once in about every MiB that they read; in both directions. */
START_TEST(scans_sample)
{
	struct world w;
	int32_t before;

	two_levels(&w, true, 10);
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		before = first_file(&w, 1)->allowed_seeks;
		for (unsigned i = 0; i < 400; i++) /* of 15 KiB each */
			world_scan_all(&w, SEQUENCE_MAX, reverse, 32 << 10, NULL, NULL);
		ck_assert_int_le(first_file(&w, 1)->allowed_seeks, before - 2);
		ck_assert_int_ge(first_file(&w, 1)->allowed_seeks, before - 40);
	}
	world_compact(&w, NULL, NULL); /* one file: nothing to charge */
	before = first_file(&w, 2)->allowed_seeks;
	for (unsigned i = 0; i < 400; i++)
		world_scan_all(&w, SEQUENCE_MAX, false, 32 << 10, NULL, NULL);
	ck_assert_int_eq(first_file(&w, 2)->allowed_seeks, before);
	world_fini(&w);
}
END_TEST

/* A file that was compacted for another reason, before a worker came to its seeks, is forgotten. */
START_TEST(worn_out_file_may_be_gone)
{
	struct world w;

	two_levels(&w, true, 0);
	get_often(&w, 25, 100);
	ck_assert_uint_ne(w.e->seek_file, 0);
	world_compact(&w, NULL, NULL);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(w.e->seek_file, 0);
	ck_assert_uint_eq(count(&w, REASON_SEEK), 0);
	world_fini(&w);
}
END_TEST

/* ---- dead entries ---- */

static void settled(struct world *w, unsigned keys)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
	fill(w, 0, keys, 3);
	world_compact(w, NULL, NULL);
	world_run_all(w, JOBS_ALL);
}

/* Mass deletion, no write after it, no manual compaction: the space comes back, and what was not deleted stays. */
START_TEST(space_comes_back_after_mass_deletion)
{
	struct world w;
	uint64_t before;

	settled(&w, 2000);
	before = stats_of(&w).live_bytes;
	ck_assert_uint_gt(before, 2000 * 300);
	delete_all(&w, 100, 2000);
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_lt(stats_of(&w).live_bytes, before / 10);
	ck_assert_uint_gt(count(&w, REASON_TOMBSTONES), 0);
	ck_ok(get(&w, 99, SEQUENCE_MAX));
	ck_assert_int_eq(get(&w, 100, SEQUENCE_MAX), SHALE_NOTFOUND);
	ck_assert_int_eq(get(&w, 1999, SEQUENCE_MAX), SHALE_NOTFOUND);
	world_check(&w);
	delete_all(&w, 0, 100);
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(stats_of(&w).live_files, 0);
	world_fini(&w);
}
END_TEST

/* tombstone_percent = 0 turns it off. */
START_TEST(tombstone_compaction_can_be_off)
{
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.levels.tombstone_percent = 0;
	world_open(&w);
	fill(&w, 0, 50, 3);
	world_flush(&w);
	delete_all(&w, 0, 50);
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(count(&w, REASON_TOMBSTONES), 0);
	ck_assert_uint_gt(stats_of(&w).live_bytes, 50 * 300);
	world_fini(&w);
}
END_TEST

/* What a snapshot pins is not rewritten in vain, over and over; its release brings the space back, and wakes the workers for it. */
START_TEST(snapshot_holds_dead_entries_back)
{
	struct world w;
	uint64_t pin, later, before;

	settled(&w, 1000);
	ck_ok(engine_snapshot_take(w.e, &pin));
	delete_all(&w, 0, 1000);
	world_flush(&w);
	ck_ok(engine_snapshot_take(w.e, &later));
	world_compact(&w, NULL, NULL); /* deletions at the bottom, beside what they delete */
	before = stats_of(&w).compactions;
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(stats_of(&w).compactions, before);
	ck_ok(get(&w, 500, pin));
	engine_snapshot_release(w.e, pin);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(stats_of(&w).live_files, 0);
	ck_assert_int_eq(get(&w, 500, later), SHALE_NOTFOUND);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	engine_snapshot_release(w.e, later);
	world_fini(&w);
}
END_TEST

/* Old versions that a snapshot kept are as dead as deletions once it is gone. */
START_TEST(old_versions_go_with_their_snapshot)
{
	struct world w;
	uint64_t pins[3], before;

	settled(&w, 500);
	before = stats_of(&w).live_bytes;
	for (unsigned i = 0; i < 3; i++) {
		ck_ok(engine_snapshot_take(w.e, &pins[i]));
		fill(&w, 0, 500, 10 + i);
	}
	world_compact(&w, NULL, NULL);
	ck_assert_uint_gt(stats_of(&w).live_bytes, 3 * before);
	for (unsigned i = 0; i < 3; i++)
		engine_snapshot_release(w.e, pins[i]);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_lt(stats_of(&w).live_bytes, before + before / 10);
	ck_ok(get(&w, 250, SEQUENCE_MAX));
	world_fini(&w);
}
END_TEST

/* What an earlier process left dead is found without a write: the tables tell, the MANIFEST cannot. Stock's silence means none. */
START_TEST(dead_entries_are_known_after_open)
{
	struct world w;
	uint64_t pin;

	settled(&w, 500);
	ck_ok(engine_snapshot_take(w.e, &pin));
	delete_all(&w, 0, 500);
	world_flush(&w);
	world_compact(&w, NULL, NULL);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_gt(stats_of(&w).live_bytes, 500 * 300); /* the snapshot; it ends with its process */
	world_close(&w);
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_gt(stats_of(&w).live_bytes, 500 * 300);
	while (engine_survey(w.e, w.worker))
		;
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(stats_of(&w).live_files, 0);
	ck_assert(!engine_survey(w.e, w.worker));
	world_fini(&w);
}
END_TEST

/* ---- order ---- */

/* As two_levels, for the keys [from, to): a table of level 2, and one of level 1 above it with @upper of these keys and the last. */
static void stack(struct world *w, unsigned from, unsigned to, unsigned upper)
{
	fill(w, from, to, 1);
	world_flush(w);
	fill(w, from, from + upper, 2);
	fill(w, to - 1, to, 2);
	world_flush(w);
}

static struct file_meta *file_of(struct world *w, unsigned level, unsigned key)
{
	const struct version *v = w->e->versions.current;
	unsigned char buf[32];

	return v->files[level][version_find_file(v, level, ikey_make(buf, key_of(key), SEQUENCE_MAX, IKEY_SEEK))];
}

/* flush → manual → size → seek → tombstones: of all that is due at once, each on keys of its own, the most urgent is taken first. */
START_TEST(order_of_triggers)
{
	static const enum compaction_reason order[] = {REASON_MANUAL, REASON_SIZE, REASON_SEEK, REASON_TOMBSTONES};
	struct slice begin, end = slice_str("000399");
	struct job *jobs[ARRAY_SIZE(order)], *flush;
	uint64_t ticket;
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.seek_compaction = true;
	w.options.table.bloom_bits_per_key = 0;
	w.options.levels.l0_gather_files = 0;
	world_open(&w);
	stack(&w, 100, 150, 40); /* of size */
	stack(&w, 200, 220, 1);	 /* of seeks */
	fill(&w, 300, 310, 1);	 /* asked for */
	world_flush(&w);
	fill(&w, 400, 410, 1); /* dead */
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(world_files(&w, 0), 0);
	ck_assert_uint_eq(world_files(&w, 1), 2);
	ck_assert_uint_eq(world_files(&w, 2), 4);
	get_often(&w, 210, 100);
	file_of(&w, 2, 405)->dead_percent = 100;
	fill(&w, 500, 501, 1);
	begin = slice_str("000300");
	ck_ok(engine_compact_start(w.e, &begin, &end, &ticket));
	ck_ok(engine_pump(w.e, true)); /* the memtable waits for its flush, and the request for that */
	flush = engine_next_job(w.e, JOB_FLUSH | JOB_COMPACT);
	ck_assert_int_eq(flush->reason, REASON_FLUSH);
	ck_ok(engine_run_job(w.e, flush, w.worker));
	w.e->versions.options.level1_bytes = 10000;
	w.e->versions.options.level_multiplier = 100;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		jobs[i] = engine_next_job(w.e, JOB_COMPACT);
		ck_assert_ptr_nonnull(jobs[i]);
		ck_assert_str_eq(compaction_reason_name(jobs[i]->reason), compaction_reason_name(order[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		ck_ok(engine_run_job(w.e, jobs[i], w.worker));
	world_run_all(&w, JOBS_ALL);
	world_check(&w);
	ck_assert_int_eq(engine_compact_done(w.e, ticket), 1);
	world_fini(&w);
}
END_TEST

/* After open: what was due when the last process ended is due again, without a write. */
START_TEST(compaction_after_open)
{
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned i = 0; i < 6; i++) {
		fill(&w, 0, 50, i);
		world_flush(&w);
	}
	ck_assert_uint_ge(world_files(&w, 0), 4);
	world_close(&w);
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_gt(count(&w, REASON_SIZE), 0);
	ck_assert_uint_eq(world_files(&w, 0), 0);
	world_fini(&w);
}
END_TEST

/* Where the next compaction of a level begins is in the edit of the last: after an open the walk goes on, and does not begin again at the front. */
START_TEST(compact_pointer_persists)
{
	struct world w;
	struct key_buf pointer = {0};

	two_levels(&w, false, 10);
	ck_assert_uint_eq(w.e->versions.compact_pointer[1].size, 0);
	w.e->versions.options.level1_bytes = 1;
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_eq(world_files(&w, 1), 0);
	ck_ok(key_buf_set(&pointer, key_buf_slice(&w.e->versions.compact_pointer[1])));
	ck_assert_uint_gt(pointer.size, 0);
	world_close(&w);
	world_open(&w);
	ck_assert(slice_equal(key_buf_slice(&pointer), key_buf_slice(&w.e->versions.compact_pointer[1])));
	key_buf_fini(&pointer);
	world_fini(&w);
}
END_TEST

/* ---- the rate ---- */

static uint64_t clock_ns, waited_ns;
static const struct io_env_ops *real_env;
static struct io_env_ops slow_env;
static const struct io_queue_ops *real_queue;
static struct io_queue_ops slow_queue;

static uint64_t slow_now(struct io_env *env)
{
	(void)env;
	return clock_ns;
}

/* Whoever waits for time gets it at once. */
static int slow_wait(struct io_queue *q, uint64_t timeout_ns)
{
	if (timeout_ns == UINT64_MAX)
		return real_queue->wait(q, timeout_ns);
	clock_ns += timeout_ns;
	waited_ns += timeout_ns;
	return 0;
}

/* Compacts 300 KB against a clock that stands still but for waits; how long it waited. */
static uint64_t compact_at(uint64_t rate, unsigned l0_slowdown, uint64_t *bytes_out)
{
	struct world w;
	uint64_t pin;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.background_rate = rate;
	w.options.l0_slowdown_trigger = l0_slowdown;
	world_open(&w);
	fill(&w, 0, 1000, 1);
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_ok(engine_snapshot_take(w.e, &pin));
	real_env = w.env->ops;
	slow_env = *real_env;
	slow_env.now_ns = slow_now;
	w.env->ops = &slow_env;
	real_queue = w.worker->ops;
	slow_queue = *real_queue;
	slow_queue.wait = slow_wait;
	w.worker->ops = &slow_queue;
	clock_ns = UINT64_C(1) << 40;
	waited_ns = 0;
	*bytes_out = stats_of(&w).compaction_bytes_read + stats_of(&w).compaction_bytes_written;
	world_compact(&w, NULL, NULL);
	*bytes_out = stats_of(&w).compaction_bytes_read + stats_of(&w).compaction_bytes_written - *bytes_out;
	ck_assert_uint_gt(*bytes_out, 500 << 10);
	w.worker->ops = real_queue;
	w.env->ops = real_env;
	world_fini(&w);
	return waited_ns;
}

/* The rate: what a compaction reads and writes takes its time, but for a tenth of a second's credit and the last pieces; without a rate, or when writers would pay, none. */
START_TEST(background_rate_is_kept)
{
	uint64_t bytes, waited = compact_at(100 << 10, 8, &bytes), due = bytes * 10000;

	ck_assert_uint_ge(waited, due - due / 4);
	ck_assert_uint_le(waited, due + due / 4);
	ck_assert_uint_eq(compact_at(0, 8, &bytes), 0);
	ck_assert_uint_eq(compact_at(100 << 10, 0, &bytes), 0); /* level 0 always at its limit */
}
END_TEST

/* ---- compression ---- */

/* Each level has the compression that it was given; a memtable is written with that of level 0, wherever its table goes. */
START_TEST(compression_by_level)
{
	unsigned char value[300] = {0};
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.compression_by_level = true;
	w.options.level_compression[2] = COMPRESS_ZSTD;
	world_open(&w);
	for (unsigned i = 0; i < 80; i++)
		world_put(&w, key_of(i), slice_of(value, sizeof(value)));
	world_flush(&w);
	ck_assert_uint_eq(world_files(&w, 2), 1);
	ck_assert_uint_gt(stats_of(&w).level[2].bytes, 80 * sizeof(value));
	world_compact(&w, NULL, NULL);
	ck_assert_uint_gt(stats_of(&w).level[2].bytes, 0);
	ck_assert_uint_lt(stats_of(&w).level[2].bytes, 80 * sizeof(value) / 4);
	world_fini(&w);
}
END_TEST

TEST_MAIN("triggers", 30, reads_in_vain_compact, seek_compaction_is_off_unless_asked, filtered_probes_are_not_charged,
	  scans_sample, worn_out_file_may_be_gone, space_comes_back_after_mass_deletion,
	  tombstone_compaction_can_be_off, snapshot_holds_dead_entries_back, old_versions_go_with_their_snapshot,
	  dead_entries_are_known_after_open, order_of_triggers, compaction_after_open, compact_pointer_persists,
	  background_rate_is_kept, compression_by_level)
