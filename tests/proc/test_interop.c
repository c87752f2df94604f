/*
 * The directory belongs to both: stock LevelDB writes, shaled serves and writes, stock reads all of it; and back.
 */
#include <leveldb/c.h>
#include <stdio.h>

#include "tests/proc/proc.h"

enum { KEYS = 4000, RANGE = 3000 };

static struct private_daemon d;

/* The model: for each key number the version it has, 0 when it is not there. */
static uint32_t model[RANGE];

static size_t make_key(char *buf, unsigned k)
{
	return (size_t)sprintf(buf, "%s%05u", k % 3 ? "key" : "another/longer/prefix/", k);
}

static size_t make_value(char *buf, unsigned k, uint32_t version)
{
	size_t n = (size_t)sprintf(buf, "%u of %u ", version, k), size = 20 + (k * 7 + version * 13) % 300;

	for (; n < size; n++)
		buf[n] = (char)('a' + (n * version) % (k % 5 ? 3 : 26));
	return n;
}

/* ---- through stock ---- */

struct stock {
	leveldb_options_t *options;
	leveldb_filterpolicy_t *filter;
	leveldb_t *db;
};

static void stock_open(struct stock *s, const char *path, bool snappy, bool bloom)
{
	char *error = NULL;

	s->options = leveldb_options_create();
	s->filter = bloom ? leveldb_filterpolicy_create_bloom(10) : NULL;
	leveldb_options_set_create_if_missing(s->options, 1);
	leveldb_options_set_paranoid_checks(s->options, 1);
	leveldb_options_set_write_buffer_size(s->options, 64 << 10);
	leveldb_options_set_max_file_size(s->options, 1 << 20);
	leveldb_options_set_compression(s->options, snappy ? leveldb_snappy_compression : leveldb_no_compression);
	leveldb_options_set_filter_policy(s->options, s->filter);
	s->db = leveldb_open(s->options, path, &error);
	ck_assert_msg(!error, "stock: %s", error);
}

static void stock_close(struct stock *s)
{
	leveldb_close(s->db);
	leveldb_options_destroy(s->options);
	if (s->filter)
		leveldb_filterpolicy_destroy(s->filter);
}

static void stock_write(struct stock *s, uint64_t *seed, uint32_t version)
{
	leveldb_writeoptions_t *options = leveldb_writeoptions_create();
	char key[64], value[512], *error = NULL;

	for (unsigned i = 0; i < KEYS; i++) {
		unsigned k = (unsigned)(test_random(seed) % RANGE);
		size_t kn = make_key(key, k), vn = make_value(value, k, version + i);

		if (test_random(seed) % 4 == 0) {
			leveldb_delete(s->db, options, key, kn, &error);
			model[k] = 0;
		} else {
			leveldb_put(s->db, options, key, kn, value, vn, &error);
			model[k] = version + i;
		}
		ck_assert_msg(!error, "stock: %s", error);
	}
	leveldb_writeoptions_destroy(options);
}

static void stock_check(struct stock *s)
{
	leveldb_readoptions_t *options = leveldb_readoptions_create();
	char key[64], value[512], *error = NULL;
	unsigned expected = 0, seen = 0;
	leveldb_iterator_t *it;

	leveldb_readoptions_set_verify_checksums(options, 1);
	for (unsigned k = 0; k < RANGE; k++) {
		size_t kn = make_key(key, k), len;
		char *v = leveldb_get(s->db, options, key, kn, &len, &error);

		ck_assert_msg(!error, "stock: %s", error);
		ck_assert_msg(!v == !model[k], "stock: %s: %s", key, v ? "should be gone" : "is missing");
		if (v) {
			ck_assert_uint_eq(len, make_value(value, k, model[k]));
			ck_assert_mem_eq(v, value, len);
			leveldb_free(v);
			expected++;
		}
	}
	it = leveldb_create_iterator(s->db, options);
	for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it))
		seen++;
	leveldb_iter_get_error(it, &error);
	ck_assert_msg(!error, "stock: %s", error);
	ck_assert_uint_eq(seen, expected);
	leveldb_iter_destroy(it);
	leveldb_readoptions_destroy(options);
}

/* ---- through shaled ---- */

static void shale_write_random(struct shale_db *db, uint64_t *seed, uint32_t version)
{
	struct shale_batch *batch = shale_batch_new();
	char key[64], value[512];

	for (unsigned i = 0; i < KEYS; i++) {
		unsigned k = (unsigned)(test_random(seed) % RANGE);
		size_t kn = make_key(key, k), vn = make_value(value, k, version + i);

		if (test_random(seed) % 4 == 0) {
			ck_ok(shale_batch_delete(batch, key, kn));
			model[k] = 0;
		} else {
			ck_ok(shale_batch_put(batch, key, kn, value, vn));
			model[k] = version + i;
		}
		if (test_random(seed) % 8 == 0 || i + 1 == KEYS) {
			ck_ok(shale_write(db, NULL, batch, NULL));
			shale_batch_clear(batch);
		}
	}
	shale_batch_free(batch);
}

static void shale_check(struct shale_db *db)
{
	char key[64], value[512], buf[512];
	unsigned expected = 0, seen = 0;
	struct shale_iter *it;

	for (unsigned k = 0; k < RANGE; k++) {
		size_t kn = make_key(key, k), len;
		int rc = shale_get(db, NULL, key, kn, buf, sizeof(buf), &len);

		ck_assert_msg(rc >= 0, "%s: %s", key, shale_last_error(db));
		ck_assert_msg((rc == 0) == (model[k] != 0), "%s: %s", key, rc ? "is missing" : "should be gone");
		if (rc == 0) {
			ck_assert_uint_eq(len, make_value(value, k, model[k]));
			ck_assert_mem_eq(buf, value, len);
			expected++;
		}
	}
	ck_ok(shale_iter_open(db, NULL, &it));
	for (shale_iter_seek_last(it); shale_iter_valid(it); shale_iter_prev(it))
		seen++;
	ck_ok(shale_iter_error(it));
	ck_assert_uint_eq(seen, expected);
	shale_iter_close(it);
}

/* Back and forth, three times each, with kills in between; every reader sees exactly the model. */
static void there_and_back(const char *compression, bool snappy, bool bloom)
{
	uint64_t seed = test_seed();
	char setting[64], bits[64];
	struct shale_db *db;
	struct stock s;

	memset(model, 0, sizeof(model));
	snprintf(setting, sizeof(setting), "engine.compression=%s", compression);
	snprintf(bits, sizeof(bits), "engine.bloom_bits=%d", bloom ? 10 : 0);
	proc_init(&d, NULL, setting, bits, "engine.write_buffer=128K", "engine.level1_size=256K",
		  "engine.max_file_size=64K", NULL);
	for (uint32_t round = 1; round <= 3; round++) {
		stock_open(&s, d.database, snappy, bloom);
		stock_check(&s);
		stock_write(&s, &seed, round * 100000);
		stock_close(&s); /* its log is not flushed */
		proc_start(&d);
		db = proc_open(&d);
		shale_check(db);
		shale_write_random(db, &seed, round * 100000 + 50000);
		shale_check(db);
		if (round == 2) {
			private_daemon_kill(&d);
			proc_start(&d);
			shale_check(db);
		}
		shale_close(db);
		proc_stop(&d); /* nor is ours */
	}
	stock_open(&s, d.database, snappy, bloom);
	stock_check(&s);
	stock_close(&s);
	private_daemon_fini(&d);
}

START_TEST(snappy_and_bloom)
{
	there_and_back("snappy", true, true);
}
END_TEST

START_TEST(plain)
{
	there_and_back("none", false, false);
}
END_TEST

START_TEST(mixed)
{
	there_and_back("none", true, true);
}
END_TEST

TEST_MAIN("interop", 60 * PATIENCE, snappy_and_bloom, plain, mixed)
