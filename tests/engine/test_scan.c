/* engine_scan by hand: what is visible, where chunks end, where a miss leaves off. */
#include <stdio.h>
#include <string.h>

#include "tests/engine/world.h"

/* The keys of a scan as "a b c", with ":value" behind each. */
static const char *scan_text(struct world *w, struct scan *s)
{
	static unsigned char out[4096];
	static char text[4096];
	const unsigned char *at = out;
	struct slice key, value;
	size_t n = 0;

	if (!s->out_size)
		s->out_size = sizeof(out);
	s->out = out;
	ck_ok(world_scan(w, s));
	text[0] = 0;
	while (scan_entry(&at, out + s->used, &key, &value))
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s:%.*s", n ? " " : "", (int)key.size, key.data,
				      (int)value.size, value.data);
	scan_fini(s);
	return text;
}

static void put(struct world *w, const char *key, const char *value)
{
	world_put(w, slice_str(key), slice_str(value));
}

/* a b c d e, of which b was overwritten and c deleted; in memtable, immutable or tables, as @where says. */
static void fill(struct world *w, int where)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
	put(w, "a", "1");   /* 1 */
	put(w, "b", "old"); /* 2 */
	put(w, "c", "3");   /* 3 */
	if (where == 1)
		world_flush(w);
	put(w, "d", "4");		 /* 4 */
	put(w, "b", "new");		 /* 5 */
	world_delete(w, slice_str("c")); /* 6 */
	put(w, "e", "5");		 /* 7 */
	if (where == 2)
		world_flush(w);
}

/* The newest visible version of each key, tombstones hiding what is older, in both directions and wherever the entries lie. */
START_TEST(newest_visible_version)
{
	struct world w;

	fill(&w, _i);
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 7}), "a:1 b:new d:4 e:5");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 7, .reverse = true}), "e:5 d:4 b:new a:1");
	world_fini(&w);
}
END_TEST

/* An older sequence sees the older versions; a flush may only have dropped what no snapshot pinned. */
START_TEST(older_sequences_see_older_versions)
{
	struct world w;

	fill(&w, _i);
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 5}), "a:1 b:new c:3 d:4");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 3}), "a:1 b:old c:3");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 3, .reverse = true}), "c:3 b:old a:1");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 0}), "");
	world_fini(&w);
}
END_TEST

/* Bounds: forward [start, limit), reverse [limit, start] going down; exclusive leaves the start key out. */
START_TEST(bounds)
{
	struct world w;
	struct scan s = {.sequence = 7, .has_start = true, .start = slice_str("b")};
	struct scan t;

	fill(&w, _i);
	t = s;
	ck_assert_str_eq(scan_text(&w, &t), "b:new d:4 e:5");
	t = s;
	t.exclusive = true;
	ck_assert_str_eq(scan_text(&w, &t), "d:4 e:5");
	t = s;
	t.has_limit = true;
	t.limit = slice_str("e");
	ck_assert_str_eq(scan_text(&w, &t), "b:new d:4");
	t = s;
	t.start = slice_str("c"); /* a deleted key is a fine place to start */
	ck_assert_str_eq(scan_text(&w, &t), "d:4 e:5");
	t = s;
	t.reverse = true;
	t.start = slice_str("d");
	ck_assert_str_eq(scan_text(&w, &t), "d:4 b:new a:1");
	t.exclusive = true;
	t.last = (struct key_buf){0};
	t.used = t.count = 0;
	ck_assert_str_eq(scan_text(&w, &t), "b:new a:1");
	t = s;
	t.reverse = true;
	t.start = slice_str("dd");
	t.has_limit = true;
	t.limit = slice_str("b");
	ck_assert_str_eq(scan_text(&w, &t), "d:4 b:new");
	t = s;
	t.reverse = true;
	t.start = slice_str("A"); /* before everything */
	ck_assert_str_eq(scan_text(&w, &t), "");
	t = s;
	t.start = slice_str("z"); /* behind everything */
	ck_assert_str_eq(scan_text(&w, &t), "");
	world_fini(&w);
}
END_TEST

/* A chunk ends at its count or when @out is full, and says so; an entry that alone is too large says what it needs. */
START_TEST(chunks_end_and_say_so)
{
	struct world w;

	for (int reverse = 0; reverse < 2; reverse++) {
		struct scan s = {.sequence = 7, .reverse = reverse, .max_count = 2};

		fill(&w, 0);
		ck_assert_str_eq(scan_text(&w, &s), reverse ? "e:5 d:4" : "a:1 b:new");
		ck_assert(s.more);
		s = (struct scan){.sequence = 7, .reverse = reverse, .out_size = 8};
		ck_assert_str_eq(scan_text(&w, &s), reverse ? "e:5 d:4" : "a:1");
		ck_assert(s.more);
		ck_assert_uint_eq(s.needed, 0);
		s = (struct scan){.sequence = 7, .reverse = reverse, .out_size = 3};
		ck_assert_str_eq(scan_text(&w, &s), "");
		ck_assert(s.more);
		ck_assert_uint_eq(s.needed, 4);
		s = (struct scan){.sequence = 7, .reverse = reverse, .max_count = 5};
		scan_text(&w, &s);
		ck_assert(!s.more);
		world_fini(&w);
	}
}
END_TEST

/* The empty key is a key: it sorts first, and a cursor may stand on it. */
START_TEST(empty_key)
{
	struct world w;
	struct scan s = {.sequence = 9, .has_start = true, .start = slice_str(""), .exclusive = true};

	fill(&w, 0);
	put(&w, "", "nothing");
	if (_i)
		world_flush(&w);
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 9, .max_count = 1}), ":nothing");
	ck_assert_str_eq(scan_text(&w, &s), "a:1 b:new d:4 e:5");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 9, .reverse = true}), "e:5 d:4 b:new a:1 :nothing");
	ck_assert_str_eq(scan_text(&w, &(struct scan){.sequence = 9, .reverse = true, .has_start = true}), ":nothing");
	world_fini(&w);
}
END_TEST

/*
 * After a miss the same scan goes on where it was: nothing twice, nothing left out. The block cache is smaller than one block, so that every
 * block is a miss, and reverse scans stop in the middle of keys with many versions.
 */
START_TEST(misses_lose_nothing)
{
	bool reverse = _i;
	struct world w;
	unsigned n = 0, misses = 0;
	unsigned char out[200 << 10];
	const unsigned char *at = out;
	struct slice key, value;
	struct scan s = {.reverse = reverse, .out = out, .out_size = sizeof(out)};
	struct read_ctx ctx;
	struct view *v;
	char text[32];
	uint64_t pins[5];
	int rc;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.block_cache_bytes = 1;
	world_open(&w);
	for (unsigned version = 0; version < 5; version++) {
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(text, sizeof(text), "%04u", i);
			if (version == 3 && i % 3 == 0)
				world_delete(&w, slice_str(text));
			else if (version < 4 || i % 3)
				world_put(&w, slice_str(text), slice_of(text, (size_t)(version < 3 ? 2 : 4)));
		}
		ck_ok(engine_snapshot_take(w.e, &pins[version]));
	}
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	s.sequence = engine_last_sequence(w.e);
	v = engine_view(w.e);
	read_ctx_init(&ctx, engine_read_shared(w.e));
	ctx.no_fill = true;
	while ((rc = engine_scan(v, &ctx, &s)) == READ_MISS) {
		misses++;
		ctx.readahead = 0;
		world_fetch(&w, &ctx);
	}
	ck_ok(rc);
	ck_assert_uint_gt(misses, 20);
	for (unsigned i = reverse ? 999 : 0; i < 1000; i += reverse ? -1 : 1) {
		if (i % 3 == 0)
			continue;
		snprintf(text, sizeof(text), "%04u", i);
		ck_assert(scan_entry(&at, out + s.used, &key, &value));
		ck_assert(slice_equal(key, slice_str(text)));
		ck_assert(slice_equal(value, slice_str(text)));
		n++;
	}
	ck_assert(!scan_entry(&at, out + s.used, &key, &value));
	ck_assert_uint_eq(n, s.count);
	scan_fini(&s);
	read_ctx_fini(&ctx);
	view_unref(v);
	world_fini(&w);
}
END_TEST

/* One chunk over all of @s's range; how often the scan came back to be called again. */
static unsigned rounds(struct world *w, struct scan *s)
{
	struct view *v = engine_view(w->e);
	struct read_ctx ctx;
	unsigned n = 0;
	int rc;

	read_ctx_init(&ctx, engine_read_shared(w->e));
	while ((rc = engine_scan(v, &ctx, s)) == READ_MISS) {
		ck_assert_uint_lt(++n, 1000);
		world_fetch(w, &ctx);
	}
	ck_ok(rc);
	read_ctx_fini(&ctx);
	view_unref(v);
	return n;
}

/*
 * Reading ahead in many tables at once pins more than what a scan passes before it gives way. What it has read is used all the same: each block is fetched
 * once, and now and then a few of them again.
 */
START_TEST(reads_ahead_are_used)
{
	enum { TABLES = 20, KEYS = 100, VALUE = 8000 };
	static unsigned char value[VALUE], out[256 << 10]; /* a scan reads ahead no more than its chunk can hold */
	uint64_t pinned, seed = 1;
	struct world w;
	struct scan s = {.out = out, .out_size = sizeof(out)};
	struct view *v;
	struct read_ctx ctx;
	size_t fetched = 0;
	int rc;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.write_buffer_bytes = w.options.levels.max_file_bytes = 4 << 20;
	w.options.max_open_tables = 2 * TABLES;
	world_open(&w);
	put(&w, "a", "1");
	put(&w, "z", "2");
	ck_ok(engine_snapshot_take(w.e, &pinned));
	for (unsigned t = 0; t < TABLES; t++) {
		for (unsigned i = 0; i < KEYS; i++) {
			char key[16];

			for (size_t n = 0; n < VALUE; n += 8)
				store_le64(value + n, test_random(&seed));
			snprintf(key, sizeof(key), "k%04u", i * TABLES + t);
			world_put(&w, slice_str(key), slice_of(value, VALUE));
		}
		world_flush(&w);
	}
	s.sequence = pinned;
	v = engine_view(w.e);
	read_ctx_init(&ctx, engine_read_shared(w.e));
	ctx.no_fill = true;
	for (unsigned rounds = 0; (rc = engine_scan(v, &ctx, &s)) == READ_MISS; rounds++) {
		size_t before = ctx.bytes;

		ck_assert_uint_lt(rounds, 1000);
		ctx.readahead = 256 << 10;
		world_fetch(&w, &ctx);
		fetched += ctx.bytes > before ? ctx.bytes - before : 0;
	}
	ck_ok(rc);
	ck_assert_uint_eq(s.count, 2);
	ck_assert_msg(fetched < 3 * (size_t)TABLES * KEYS * VALUE, "%zu bytes were fetched", fetched);
	scan_fini(&s);
	read_ctx_fini(&ctx);
	view_unref(v);
	engine_snapshot_release(w.e, pinned);
	world_fini(&w);
}
END_TEST

/*
 * A scan over what it must skip gives way to others now and then, and ends where it should: over tombstones (0), keys newer than its
 * sequence (1), and one key with a great many newer versions (2); in both directions, in the memtable and in tables.
 */
START_TEST(long_skips_give_way)
{
	enum { SKIPPED = 50000 };
	bool tables = _i & 1;
	int kind = _i / 2;
	uint64_t pinned;
	struct world w;
	char key[16];

	world_init(&w, IO_BACKEND_POSIX);
	w.options.write_buffer_bytes = 32 << 20;
	world_open(&w);
	put(&w, "a", "1");
	put(&w, "m", "2");
	put(&w, "z", "3");
	ck_ok(engine_snapshot_take(w.e, &pinned));
	for (unsigned i = 0; i < SKIPPED; i++) {
		snprintf(key, sizeof(key), "k%06u", i);
		if (kind == 0)
			world_delete(&w, slice_str(key));
		else
			put(&w, kind == 1 ? key : "m", "new");
	}
	if (kind == 0)
		pinned = engine_last_sequence(w.e);
	if (tables)
		world_flush(&w);
	for (int reverse = 0; reverse < 2; reverse++) {
		unsigned char out[256];
		const unsigned char *at = out;
		struct scan s = {.sequence = pinned, .reverse = reverse, .out = out, .out_size = sizeof(out)};
		struct slice k, v;
		unsigned n = rounds(&w, &s);

		if (!tables && !(reverse && kind == 2))
			ck_assert_uint_eq(n, kind == 2 ? 1 : 3); /* a seek passes all versions of one key */
		ck_assert_uint_eq(s.count, 3);
		ck_assert(!s.more);
		for (int i = 0; i < 3; i++) {
			ck_assert(scan_entry(&at, out + s.used, &k, &v));
			ck_assert_int_eq(k.data[0], "amz"[reverse ? 2 - i : i]);
			ck_assert_int_eq(v.data[0], "123"[reverse ? 2 - i : i]);
		}
		scan_fini(&s);
	}
	/* A limit is heeded also where all behind it is hidden. */
	if (kind == 1) {
		unsigned char out[64];
		struct scan s = {.sequence = pinned,
				 .has_limit = true,
				 .limit = slice_str("b"),
				 .out = out,
				 .out_size = sizeof(out)};

		ck_assert_uint_le(rounds(&w, &s), tables ? 4 : 0);
		ck_assert_uint_eq(s.count, 1);
		scan_fini(&s);
	}
	world_fini(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scan");
	TCase *t = tcase_create("scan");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, newest_visible_version, 0, 3);
	tcase_add_loop_test(t, older_sequences_see_older_versions, 0, 2);
	tcase_add_loop_test(t, bounds, 0, 3);
	tcase_add_test(t, chunks_end_and_say_so);
	tcase_add_loop_test(t, empty_key, 0, 2);
	tcase_add_loop_test(t, misses_lose_nothing, 0, 2);
	tcase_add_loop_test(t, long_skips_give_way, 0, 6);
	tcase_add_test(t, reads_ahead_are_used);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
