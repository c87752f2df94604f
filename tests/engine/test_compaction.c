/* What a merge keeps and drops, where it cuts, and that nothing comes back from the dead. */
#include <stdio.h>
#include <string.h>

#include "tests/engine/model.h"

static void put(struct world *w, const char *key, const char *value)
{
	world_put(w, slice_str(key), slice_str(value));
}

static void del(struct world *w, const char *key)
{
	world_delete(w, slice_str(key));
}

/* The value of @key at @sequence as text; NULL: none. */
static const char *get(struct world *w, const char *key, uint64_t sequence)
{
	static char text[64];
	unsigned char *value;
	size_t size;
	int rc = world_get(w, slice_str(key), sequence, &value, &size);

	if (rc == SHALE_NOTFOUND)
		return NULL;
	ck_ok(rc);
	ck_assert_uint_lt(size, sizeof(text));
	memcpy(text, value, size);
	text[size] = 0;
	free(value);
	return text;
}

static void begin(struct world *w)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
}

static struct engine_stats stats_of(struct world *w)
{
	struct engine_stats s;

	engine_stats(w->e, &s);
	return s;
}

/* Without snapshots one version of each key remains, and a tombstone with nothing below it goes as well. */
START_TEST(nothing_pinned_leaves_one_version)
{
	struct world w;
	struct engine_stats s;

	begin(&w);
	for (unsigned i = 0; i < 5; i++) {
		put(&w, "a", "old");
		put(&w, "b", "old");
		del(&w, "c");
		world_flush(&w);
	}
	put(&w, "a", "new");
	del(&w, "b");
	world_compact(&w, NULL, NULL);
	s = stats_of(&w);
	ck_assert_uint_eq(s.live_files, 1);
	ck_assert_uint_eq(s.compactions,
			  2); /* 0 to 1, 1 to 2; what was rewritten on the way is not rewritten again at the bottom */
	ck_assert_uint_gt(s.dropped_shadowed, 0);
	ck_assert_uint_ge(s.dropped_tombstone, 2);
	ck_assert_str_eq(get(&w, "a", s.last_sequence), "new");
	ck_assert_ptr_null(get(&w, "b", s.last_sequence));
	ck_assert_ptr_null(get(&w, "a", 3)); /* the old version is really gone */
	world_fini(&w);
}
END_TEST

/* All snapshots count, not the oldest alone: each sees its version, and versions between two snapshots that none sees are dropped. */
START_TEST(each_snapshot_keeps_its_own)
{
	struct world w;
	uint64_t pin[3], last;
	struct engine_stats s;

	begin(&w);
	for (unsigned i = 0; i < 3; i++) {
		char value[16];

		put(&w, "k", "nobody sees this");
		snprintf(value, sizeof(value), "v%u", i);
		put(&w, "k", value);
		ck_ok(engine_snapshot_take(w.e, &pin[i]));
	}
	put(&w, "k", "nor this");
	put(&w, "k", "now");
	last = engine_last_sequence(w.e);
	world_compact(&w, NULL, NULL);
	s = stats_of(&w);
	ck_assert_uint_eq(s.dropped_shadowed, 4);
	ck_assert_str_eq(get(&w, "k", pin[0]), "v0");
	ck_assert_str_eq(get(&w, "k", pin[1]), "v1");
	ck_assert_str_eq(get(&w, "k", pin[2]), "v2");
	ck_assert_str_eq(get(&w, "k", last), "now");
	/* The middle one goes: its version too, its neighbours' stay. */
	engine_snapshot_release(w.e, pin[1]);
	ck_assert(!engine_snapshot_held(w.e, pin[1]));
	world_compact(&w, NULL, NULL);
	ck_assert_uint_eq(stats_of(&w).dropped_shadowed, 5);
	ck_assert_str_eq(get(&w, "k", pin[0]), "v0");
	ck_assert_str_eq(get(&w, "k", pin[1]), "v0");
	ck_assert_str_eq(get(&w, "k", pin[2]), "v2");
	world_fini(&w);
}
END_TEST

/* A sequence pinned twice stays pinned until released twice. */
START_TEST(pins_are_counted)
{
	struct world w;
	uint64_t a, b;

	begin(&w);
	put(&w, "k", "old");
	ck_ok(engine_snapshot_take(w.e, &a));
	ck_ok(engine_snapshot_take(w.e, &b));
	ck_assert_uint_eq(a, b);
	put(&w, "k", "new");
	engine_snapshot_release(w.e, a);
	ck_assert(engine_snapshot_held(w.e, b));
	engine_snapshot_release(w.e, 77); /* never taken: harmless */
	world_compact(&w, NULL, NULL);
	ck_assert_str_eq(get(&w, "k", b), "old");
	engine_snapshot_release(w.e, b);
	world_compact(&w, NULL, NULL);
	ck_assert_ptr_null(get(&w, "k", b));
	world_fini(&w);
}
END_TEST

/* A deletion hides a value that a snapshot still sees: the tombstone must stay as long as that value does, or the key comes back. */
START_TEST(deleted_keys_stay_deleted)
{
	struct world w;
	uint64_t pin;

	begin(&w);
	put(&w, "k", "v");
	ck_ok(engine_snapshot_take(w.e, &pin));
	del(&w, "k");
	for (unsigned i = 0; i < 3; i++) {
		world_compact(&w, NULL, NULL);
		ck_assert_ptr_null(get(&w, "k", engine_last_sequence(w.e)));
		ck_assert_str_eq(get(&w, "k", pin), "v");
	}
	engine_snapshot_release(w.e, pin);
	world_compact(&w, NULL, NULL);
	ck_assert_ptr_null(get(&w, "k", engine_last_sequence(w.e)));
	world_fini(&w);
}
END_TEST

/* A tombstone above a deeper level that holds its key must not go before it got there. */
START_TEST(tombstone_waits_for_the_deeper_value)
{
	struct world w;
	struct slice a = slice_str("a"), z = slice_str("z");

	begin(&w);
	put(&w, "k", "v");
	world_compact(&w, &a, &z); /* deep down */
	del(&w, "k");
	world_flush(&w);
	put(&w, "a", "1");
	put(&w, "z", "1");
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	ck_assert_ptr_null(get(&w, "k", engine_last_sequence(w.e)));
	world_compact(&w, NULL, NULL);
	ck_assert_ptr_null(get(&w, "k", engine_last_sequence(w.e)));
	ck_assert_ptr_null(get(&w, "k", 1));
	world_fini(&w);
}
END_TEST

/* What was deleted leaves the disk with a manual compaction, also when all of it lies in the deepest level already. */
START_TEST(manual_compaction_frees_the_bottom)
{
	struct world w;
	uint64_t pin, before;
	unsigned char value[300];
	uint64_t seed = 3;
	char key[16];

	begin(&w);
	for (unsigned i = 0; i < 300; i++) {
		for (size_t k = 0; k < sizeof(value); k++)
			value[k] = (unsigned char)test_random(&seed);
		snprintf(key, sizeof(key), "%04u", i);
		world_put(&w, slice_str(key), slice_of(value, sizeof(value)));
	}
	ck_ok(engine_snapshot_take(w.e, &pin));
	for (unsigned i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "%04u", i);
		del(&w, key);
	}
	world_compact(&w, NULL, NULL);
	before = stats_of(&w).live_bytes;
	ck_assert_uint_gt(before, 300 * 300);
	engine_snapshot_release(w.e, pin);
	world_compact(&w, NULL, NULL);
	ck_assert_uint_eq(stats_of(&w).live_files, 0);
	world_fini(&w);
}
END_TEST

/* A manual compaction of a range leaves tables outside of it alone, and two requests are both answered. */
START_TEST(manual_ranges_and_queue)
{
	struct world w;
	uint64_t first, second;
	int a = 0, b = 0;
	struct slice m = slice_str("m"), n = slice_str("n"), x = slice_str("x");

	begin(&w);
	put(&w, "a", "1");
	put(&w, "b", "1");
	world_flush(&w);
	put(&w, "m", "1");
	world_flush(&w);
	ck_assert_uint_eq(world_files(&w, 2), 2);
	ck_ok(engine_compact_start(w.e, &m, &n, &first));
	ck_ok(engine_compact_start(w.e, &x, NULL, &second));
	for (unsigned i = 0; i < 100 && !(a && b); i++) {
		ck_ok(engine_pump(w.e, true));
		world_run_one(&w, JOBS_ALL);
		a = a ? a : engine_compact_done(w.e, first);
		b = b ? b : engine_compact_done(w.e, second);
	}
	ck_assert_int_eq(a, 1);
	ck_assert_int_eq(b, 1);
	ck_assert_int_eq(engine_compact_done(w.e, first), -ENOENT);
	ck_assert_uint_eq(world_files(&w, 2), 2);
	ck_assert_uint_eq(stats_of(&w).level[2].compactions, 1);
	world_fini(&w);
}
END_TEST

/* Ascending writes without overlap move down as they are: nothing is rewritten. */
START_TEST(disjoint_tables_are_moved)
{
	struct world w;
	struct engine_stats s;
	unsigned char value[200] = {0};
	char key[16];

	begin(&w);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(key, sizeof(key), "%06u", i);
		world_put(&w, slice_str(key), slice_of(value, sizeof(value)));
	}
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	s = stats_of(&w);
	ck_assert_uint_eq(s.compaction_bytes_written, 0);
	ck_assert_uint_eq(s.level[0].files, 0);
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* Random overwrites settle: every level within its target, level 0 below its trigger, all tables of about the size asked for. */
START_TEST(levels_settle)
{
	struct world w;
	struct model m;
	struct engine_stats s;
	uint64_t seed = test_seed();

	begin(&w);
	w.options.table.compression = COMPRESS_NONE;
	model_init(&m, 5000);
	for (unsigned i = 0; i < 3000; i++)
		model_write(&m, &w, &seed, 8, 300);
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	s = stats_of(&w);
	ck_assert_uint_lt(s.level[0].files, w.options.levels.l0_compaction_trigger);
	for (unsigned level = 1; level < LEVELS; level++) {
		ck_assert(s.level[level].score < 1);
		ck_assert_uint_le(s.level[level].bytes,
				  s.level[level].files * (w.options.levels.max_file_bytes + 5000));
	}
	ck_assert_uint_gt(s.level[2].files, 0);
	ck_assert_uint_gt(s.compactions, 0);
	model_check_scan(&m, &w, SEQUENCE_MAX, false, 9000);
	model_fini(&m);
	world_fini(&w);
}
END_TEST

/* All versions of a key lie in one table, however many snapshots hold it: no cut between them. */
START_TEST(versions_of_a_key_stay_together)
{
	struct world w;
	uint64_t pins[64];
	unsigned char value[1000];
	uint64_t seed = 5;

	begin(&w);
	w.options.max_immutables = 2;
	for (unsigned i = 0; i < 64; i++) {
		for (size_t k = 0; k < sizeof(value); k++)
			value[k] = (unsigned char)test_random(&seed);
		world_put(&w, slice_str("k"), slice_of(value, sizeof(value)));
		ck_ok(engine_snapshot_take(w.e, &pins[i]));
	}
	world_compact(&w, NULL, NULL);
	ck_assert_uint_eq(stats_of(&w).live_files, 1);
	ck_assert_uint_gt(stats_of(&w).live_bytes, 4 * w.options.levels.max_file_bytes - 5000);
	world_fini(&w);
}
END_TEST

TEST_MAIN("compaction", 60, nothing_pinned_leaves_one_version, each_snapshot_keeps_its_own, pins_are_counted,
	  deleted_keys_stay_deleted, tombstone_waits_for_the_deeper_value, manual_compaction_frees_the_bottom,
	  manual_ranges_and_queue, disjoint_tables_are_moved, levels_settle, versions_of_a_key_stay_together)
