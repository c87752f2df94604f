/* Our directories in stock LevelDB's hands, and its directories in ours: formats are a promise in both directions. */
#include <stdio.h>
#include <string.h>

#include "tests/engine/model.h"
#include "tests/engine/stock.h"

/* Random batches into both; stock tells no sequences, so the model counts its own, which only has to grow. */
static void stock_work(struct stock *s, struct model *m, uint64_t *seed, uint64_t *clock, unsigned batches)
{
	unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];

	for (unsigned b = 0; b < batches; b++) {
		leveldb_writebatch_t *batch = leveldb_writebatch_create();
		char *error = NULL;

		for (unsigned n = 1 + (unsigned)(test_random(seed) % 8); n; n--) {
			unsigned key = (unsigned)(test_random(seed) % m->keys);
			bool present = test_random(seed) % 4 != 0;
			uint32_t vseed = (uint32_t)test_random(seed), size = (uint32_t)(test_random(seed) % 300);
			struct slice k = model_key(key, key_buf), v = model_value(vseed, size, value_buf);

			if (present)
				leveldb_writebatch_put(batch, (const char *)k.data, k.size, (const char *)v.data,
						       v.size);
			else
				leveldb_writebatch_delete(batch, (const char *)k.data, k.size);
			model_set(m, key, ++*clock, present, vseed, size);
		}
		leveldb_write(s->db, s->write, batch, &error);
		stock_must(error, "write");
		leveldb_writebatch_destroy(batch);
	}
}

/* A full scan and a get of every key must be the model's newest state. */
static void stock_check(struct stock *s, struct model *m)
{
	leveldb_iterator_t *it = leveldb_create_iterator(s->db, s->read);
	unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];
	char *error = NULL;

	leveldb_iter_seek_to_first(it);
	for (unsigned i = 0; i < m->keys; i++) {
		const struct model_entry *want = model_get(m, i, UINT64_MAX);
		struct slice key = model_key(i, key_buf), value;
		size_t ksize, vsize;
		const char *k, *v;

		v = leveldb_get(s->db, s->read, (const char *)key.data, key.size, &vsize, &error);
		stock_must(error, "get");
		ck_assert_msg(!v == !want, "stock get of key %u: %s", i, v ? "there, but deleted" : "missing");
		if (!want)
			continue;
		value = model_value(want->seed, want->size, value_buf);
		ck_assert_msg(slice_equal(value, slice_of(v, vsize)), "stock get of key %u: another value", i);
		leveldb_free((void *)v);
		ck_assert_msg(leveldb_iter_valid(it), "stock's scan ends before key %u", i);
		k = leveldb_iter_key(it, &ksize);
		ck_assert_msg(slice_equal(key, slice_of(k, ksize)), "stock's scan: another key instead of %u", i);
		v = leveldb_iter_value(it, &vsize);
		ck_assert_msg(slice_equal(value, slice_of(v, vsize)), "stock's scan: key %u has another value", i);
		leveldb_iter_next(it);
	}
	ck_assert_msg(!leveldb_iter_valid(it), "stock's scan gives too much");
	leveldb_iter_get_error(it, &error);
	stock_must(error, "scan");
	leveldb_iter_destroy(it);
}

/* Our sequences are not the model's once stock has written: compare the newest state only. */
static void ours_check(struct world *w, struct model *m)
{
	world_check(w);
	model_check_scan(m, w, SEQUENCE_MAX, false, 9000);
	model_check_scan(m, w, SEQUENCE_MAX, true, 9000);
	for (unsigned i = 0; i < m->keys; i += 3)
		model_check_get(m, w, i, SEQUENCE_MAX);
}

static void ours_work(struct world *w, struct model *m, uint64_t *seed, uint64_t *clock, unsigned batches)
{
	for (unsigned b = 0; b < batches; b++) {
		unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];
		unsigned key = (unsigned)(test_random(seed) % m->keys);
		uint32_t vseed = (uint32_t)test_random(seed), size = (uint32_t)(test_random(seed) % 300);
		bool present = test_random(seed) % 4 != 0;

		if (present)
			world_put(w, model_key(key, key_buf), model_value(vseed, size, value_buf));
		else
			world_delete(w, model_key(key, key_buf));
		model_set(m, key, ++*clock, present, vseed, size);
		if (b % 64 == 0)
			world_run_one(w, JOBS_ALL);
	}
}

static void ours_to_stock(enum compression compression, unsigned bloom_bits, bool kill)
{
	struct engine_stats stats;
	struct stock s;
	struct world w;
	struct model m;
	uint64_t seed = test_seed(), clock = 0;
	unsigned levels = 0;

	world_init(&w, IO_BACKEND_AUTO);
	w.options.table.compression = compression;
	w.options.table.bloom_bits_per_key = bloom_bits;
	model_init(&m, 2000);
	world_open(&w);
	ours_work(&w, &m, &seed, &clock, 6000);
	world_run_all(&w, JOBS_ALL);
	ours_work(&w, &m, &seed, &clock, 60); /* these stay in the log */
	engine_stats(w.e, &stats);
	for (unsigned i = 0; i < LEVELS; i++)
		levels += stats.level[i].files > 0;
	ck_assert_uint_ge(levels, 2);
	if (kill) { /* the log's tail is in the window: somebody must open before stock may look */
		world_abandon(&w);
		world_open(&w);
	}
	world_close(&w);
	stock_open(&s, w.dir, false, compression == COMPRESS_SNAPPY, (int)bloom_bits);
	stock_check(&s, &m);
	stock_close(&s);
	model_fini(&m);
	world_fini(&w);
}

/* Several levels, overwrites, deletions and a log tail: stock reads all of it, with every check switched on. */
START_TEST(stock_reads_ours_snappy)
{
	ours_to_stock(COMPRESS_SNAPPY, 10, false);
}
END_TEST

START_TEST(stock_reads_ours_plain)
{
	ours_to_stock(COMPRESS_NONE, 0, false);
}
END_TEST

START_TEST(stock_reads_ours_after_a_kill)
{
	ours_to_stock(COMPRESS_SNAPPY, 10, true);
}
END_TEST

static void stock_to_ours(bool snappy, int bloom_bits)
{
	struct stock s;
	struct world w;
	struct model m;
	uint64_t seed = test_seed(), clock = 0;

	world_init(&w, IO_BACKEND_AUTO);
	model_init(&m, 2000);
	stock_open(&s, w.dir, true, snappy, bloom_bits);
	stock_work(&s, &m, &seed, &clock, 3000);
	leveldb_compact_range(s.db, NULL, 0, "\x00\x02", 2);
	stock_work(&s, &m, &seed, &clock, 100); /* these stay in the log */
	stock_close(&s);
	world_open(&w);
	ours_check(&w, &m);
	world_run_all(&w, JOBS_ALL);
	ours_check(&w, &m);
	world_fini(&w);
	model_fini(&m);
}

/* What stock wrote is read whole, at once and after our compactions. */
START_TEST(ours_reads_stock_snappy_bloom)
{
	stock_to_ours(true, 10);
}
END_TEST

START_TEST(ours_reads_stock_plain)
{
	stock_to_ours(false, 0);
}
END_TEST

/* There and back again: each side goes on with what the other left, several times. */
START_TEST(round_trips)
{
	struct stock s;
	struct world w;
	struct model m;
	uint64_t seed = test_seed(), clock = 0;

	world_init(&w, IO_BACKEND_AUTO);
	model_init(&m, 1200);
	for (unsigned round = 0; round < 4; round++) {
		bool snappy = test_random(&seed) & 1;

		w.options.table.compression = snappy ? COMPRESS_SNAPPY : COMPRESS_NONE;
		world_open(&w);
		ours_check(&w, &m);
		ours_work(&w, &m, &seed, &clock, 1500);
		if (test_random(&seed) & 1)
			world_compact(&w, NULL, NULL);
		ours_check(&w, &m);
		world_close(&w);
		world_lose_window(&w);
		stock_open(&s, w.dir, false, snappy, round & 1 ? 10 : 0);
		stock_check(&s, &m);
		stock_work(&s, &m, &seed, &clock, 400);
		if (test_random(&seed) & 1)
			leveldb_compact_range(s.db, NULL, 0, NULL, 0);
		stock_check(&s, &m);
		stock_close(&s);
	}
	model_fini(&m);
	world_fini(&w);
}
END_TEST

/* A database with another order of keys is refused by name, and left as it is. */
static int reversed(void *state, const char *a, size_t an, const char *b, size_t bn)
{
	(void)state;
	return -slice_compare(slice_of(a, an), slice_of(b, bn));
}

static const char *reversed_name(void *state)
{
	(void)state;
	return "test.ReverseComparator";
}

static void nothing(void *state)
{
	(void)state;
}

START_TEST(foreign_comparator_is_refused)
{
	leveldb_comparator_t *comparator = leveldb_comparator_create(NULL, nothing, reversed, reversed_name);
	leveldb_options_t *options = leveldb_options_create();
	struct err_info err = {0};
	char *error = NULL;
	struct world w;
	leveldb_t *db;

	world_init(&w, IO_BACKEND_POSIX);
	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_comparator(options, comparator);
	db = leveldb_open(options, w.dir, &error);
	stock_must(error, "open");
	leveldb_close(db);
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_ECOMPARATOR);
	ck_assert_ptr_nonnull(strstr(err.text, "test.ReverseComparator"));
	db = leveldb_open(options, w.dir, &error);
	stock_must(error, "open again");
	leveldb_close(db);
	leveldb_options_destroy(options);
	leveldb_comparator_destroy(comparator);
	world_fini(&w);
}
END_TEST

TEST_MAIN("stock", 60, stock_reads_ours_snappy, stock_reads_ours_plain, stock_reads_ours_after_a_kill,
	  ours_reads_stock_snappy_bloom, ours_reads_stock_plain, round_trips, foreign_comparator_is_refused)
