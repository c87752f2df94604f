#include "engine/version_set.h"
#include "tests/engine/hand_made.h"
#include "tests/engine/set_bed.h"
#include "tests/test.h"

#include <leveldb/c.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/table.h"

/* ---- creating and recovering ---- */

/* What is created recovers as an empty database, and numbers go on after those in use. */
START_TEST(created_database_recovers)
{
	struct bed b;
	unsigned char *text;
	size_t size;

	bed_init(&b);
	ck_assert_int_eq(version_set_recover(&b.vs, b.q, &b.err), -ENOENT);
	bed_create(&b);
	text = read_whole(&b, "CURRENT", &size);
	ck_assert_uint_eq(size, 16);
	ck_assert_mem_eq(text, "MANIFEST-000001\n", 16);
	free(text);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.manifest_number, 1);
	ck_assert_uint_eq(atomic_load(&b.vs.next_file), 2);
	ck_assert_uint_eq(b.vs.log_number, 0);
	ck_assert_uint_eq(atomic_load(&b.vs.last_sequence), 0);
	bed_fini(&b);
}
END_TEST

/* Edits applied come back after a restart: files, key ranges, numbers, pointers; then further ones on top, in a new MANIFEST. */
START_TEST(edits_come_back)
{
	struct bed b;
	struct edit e;
	uint64_t first, second, third;
	unsigned char k[32];
	struct slice key = ikey_make(k, slice_str("pointer"), 5, 1);

	bed_init(&b);
	bed_create(&b);
	first = must_apply(&b);
	second = must_apply(&b);
	atomic_store(&b.vs.last_sequence, 4711);
	edit_init(&e);
	third = add_one(&b, &e);
	ck_ok(edit_delete_file(&e, 1, first));
	ck_ok(edit_set_pointer(&e, 1, key));
	ck_ok(version_set_apply(&b.vs, &e, b.q, &b.err));
	ck_assert_ptr_null(e.added[0].meta); /* the version's now */
	edit_fini(&e);
	ck_assert_uint_eq(b.gone, 1);
	ck_assert_uint_eq(b.vs.manifest_number, 1);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 2);
	ck_assert_uint_eq(b.vs.current->files[1][0]->number, second);
	ck_assert_uint_eq(b.vs.current->files[1][1]->number, third);
	ck_assert_uint_eq(b.vs.current->files[1][1]->size, 100 + third);
	ck_assert_uint_eq(b.vs.log_number, second);
	ck_assert_uint_eq(atomic_load(&b.vs.last_sequence), 4711);
	ck_assert_uint_gt(atomic_load(&b.vs.next_file), third);
	ck_assert(slice_equal(key_buf_slice(&b.vs.compact_pointer[1]), key));
	must_apply(&b);
	ck_assert_uint_gt(b.vs.manifest_number, 1);
	ck_assert_uint_eq(count_files(&b, FILE_MANIFEST), 1); /* the old one was removed */
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 3);
	ck_assert(slice_equal(key_buf_slice(&b.vs.compact_pointer[1]), key)); /* carried by the snapshot */
	ck_assert_uint_eq(atomic_load(&b.vs.last_sequence), 4711);
	bed_fini(&b);
}
END_TEST

/* Past its size limit a new MANIFEST is begun; a snapshot larger than the limit does not make every edit begin one. */
START_TEST(manifest_rolls_over)
{
	unsigned begun = 0;
	uint64_t manifest;
	struct bed b;

	bed_init(&b);
	b.options.max_manifest_bytes = 600;
	bed_restart(&b);
	bed_create(&b);
	manifest = b.vs.manifest_number;
	for (unsigned i = 0; i < 100; i++) {
		must_apply(&b);
		begun += b.vs.manifest_number != manifest;
		manifest = b.vs.manifest_number;
	}
	ck_assert_uint_ge(begun, 2);
	ck_assert_uint_le(begun, 10);
	ck_assert_uint_eq(count_files(&b, FILE_MANIFEST), 1);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 100);
	bed_fini(&b);
}
END_TEST

/* An edit that does not fit changes nothing, neither on disk nor in memory, and the next one goes through. */
START_TEST(unfit_edit_changes_nothing)
{
	uint64_t first;
	struct edit e;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	first = must_apply(&b);
	edit_init(&e);
	ck_ok(edit_delete_file(&e, 2, first));
	ck_assert_int_eq(version_set_apply(&b.vs, &e, b.q, &b.err), -SHALE_ECORRUPT);
	edit_fini(&e);
	ck_assert_int_eq(b.vs.failed, 0);
	must_apply(&b);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 2);
	bed_fini(&b);
}
END_TEST

/* ---- several workers ---- */

struct worker {
	struct bed *bed;
	unsigned first;
};

static void *work(void *context)
{
	struct worker *w = context;
	struct bed *b = w->bed;
	struct io_queue *q;

	ck_ok(io_queue_new(b->env.inner, 8, &q));
	for (unsigned i = 0; i < 25; i++) {
		struct err_info err = {0};
		struct edit e;
		char key[16];

		edit_init(&e);
		snprintf(key, sizeof(key), "%06u", w->first + i);
		hand_add(&e, 1, version_set_new_number(&b->vs), 1, key, key);
		ck_assert_msg(version_set_apply(&b->vs, &e, q, &err) == 0, "%s", err.text);
		edit_fini(&e);
		pthread_mutex_lock(&b->lock);
		version_unref(version_ref(b->vs.current));
		pthread_mutex_unlock(&b->lock);
	}
	io_queue_free(q);
	return NULL;
}

/* Edits of several workers at once are all applied, each on top of the others. */
START_TEST(workers_apply_side_by_side)
{
	struct worker w[4];
	pthread_t t[4];
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct worker){&b, i * 1000};
		ck_ok(pthread_create(&t[i], NULL, work, &w[i]));
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(b.vs.current->count[1], 100);
	ck_ok(version_check(b.vs.current, &b.err));
	for (size_t i = 0; i < 100; i++)
		make_table(&b, b.vs.current->files[1][i]->number, 1);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 100);
	bed_fini(&b);
}
END_TEST

/* ---- stock LevelDB ---- */

static leveldb_t *stock_open(const char *dir, bool create)
{
	leveldb_options_t *o = leveldb_options_create();
	char *error = NULL;
	leveldb_t *db;

	leveldb_options_set_create_if_missing(o, create);
	leveldb_options_set_paranoid_checks(o, 1);
	leveldb_options_set_write_buffer_size(o, 64 << 10);
	leveldb_options_set_max_file_size(o, 1 << 20);
	leveldb_options_set_compression(o, leveldb_no_compression);
	db = leveldb_open(o, dir, &error);
	ck_assert_msg(!error, "%s", error);
	leveldb_options_destroy(o);
	return db;
}

/* An empty database made by ours opens in stock, which takes writes; what stock then wrote recovers in ours. */
START_TEST(stock_opens_our_empty_database)
{
	leveldb_writeoptions_t *w = leveldb_writeoptions_create();
	char *error = NULL;
	leveldb_t *db;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	db = stock_open(b.dir, false);
	leveldb_put(db, w, "key", 3, "value", 5, &error);
	ck_assert_ptr_null(error);
	leveldb_compact_range(db, NULL, 0, NULL, 0);
	leveldb_close(db);
	leveldb_writeoptions_destroy(w);
	bed_recover(&b);
	ck_assert_uint_ge(atomic_load(&b.vs.last_sequence), 1);
	bed_fini(&b);
}
END_TEST

/* Adds a real table with the @count keys k<first>… to the edit. */
static void real_table(struct bed *b, struct edit *e, unsigned level, unsigned first, unsigned count)
{
	struct table_options o = {.block_bytes = 4096, .restart_interval = 16, .bloom_bits_per_key = 10};
	uint64_t number = version_set_new_number(&b->vs);
	struct key_buf smallest = {0}, largest = {0};
	char name[FILE_NAME_MAX], user[16];
	struct table_builder *tb;
	unsigned char k[32];
	struct file_meta *m;
	struct io_file *f;

	ck_ok(io_open(b->env.inner, file_name(name, FILE_TABLE, number), IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	ck_ok(table_builder_new(b->q, f, &o, &tb));
	for (unsigned i = first; i < first + count; i++) {
		struct slice key;

		snprintf(user, sizeof(user), "k%06u", i);
		key = ikey_make(k, slice_str(user), i + 1, IKEY_VALUE);
		ck_ok(table_builder_add(tb, key, slice_str(user)));
		ck_ok(key_buf_set(&largest, key));
		if (i == first)
			ck_ok(key_buf_set(&smallest, key));
	}
	ck_ok(table_builder_finish(tb));
	m = file_meta_new(number, table_builder_size(tb), key_buf_slice(&smallest), key_buf_slice(&largest));
	ck_ok(edit_add_file(e, level, m));
	file_meta_unref(m);
	table_builder_free(tb);
	key_buf_fini(&smallest);
	key_buf_fini(&largest);
	io_close(f);
}

/* Tables that ours put at several levels, in several records and MANIFESTs, are all read by stock. */
START_TEST(stock_reads_our_tables)
{
	leveldb_readoptions_t *r = leveldb_readoptions_create();
	leveldb_t *db;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	for (unsigned i = 0; i < 4; i++) {
		struct edit e;

		edit_init(&e);
		real_table(&b, &e, i, i * 1000, 1000);
		atomic_store(&b.vs.last_sequence, 4000);
		ck_ok(version_set_apply(&b.vs, &e, b.q, &b.err));
		edit_fini(&e);
		if (i == 1)
			bed_recover(&b);
	}
	version_set_fini(&b.vs);
	db = stock_open(b.dir, false);
	for (unsigned i = 0; i < 4000; i++) {
		char user[16], *value, *error = NULL;
		size_t size;

		snprintf(user, sizeof(user), "k%06u", i);
		value = leveldb_get(db, r, user, strlen(user), &size, &error);
		ck_assert_msg(!error && value && size == strlen(user) && !memcmp(value, user, size), "%s: %s", user,
			      error);
		leveldb_free(value);
	}
	leveldb_close(db);
	leveldb_readoptions_destroy(r);
	bed_fini(&b);
}
END_TEST

static unsigned level0_files(leveldb_t *db)
{
	char *text = leveldb_property_value(db, "leveldb.num-files-at-level0");
	unsigned n = (unsigned)atoi(text);

	leveldb_free(text);
	return n;
}

/* Fills a stock database with several levels and no unflushed log, and closes it at rest. */
static void stock_fill(const char *dir, uint64_t *seed)
{
	leveldb_writeoptions_t *w = leveldb_writeoptions_create();
	leveldb_t *db = stock_open(dir, true);
	char key[16], value[200], *error = NULL;

	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 30000; i++) {
		snprintf(key, sizeof(key), "k%06u", (unsigned)(test_random(seed) % 60000));
		if (test_random(seed) % 8)
			leveldb_put(db, w, key, strlen(key), value, test_random(seed) % sizeof(value), &error);
		else
			leveldb_delete(db, w, key, strlen(key), &error);
		ck_assert_ptr_null(error);
		if (i == 15000)
			leveldb_compact_range(db, NULL, 0, "k030", 4);
	}
	leveldb_compact_range(db, "a", 1, "b", 1); /* flushes, and compacts nothing */
	while (level0_files(db) >= 4)
		usleep(1000);
	leveldb_close(db);
	leveldb_writeoptions_destroy(w);
}

/* A user key as stock's property shows it: plain here. */
static void check_line(const char *text, const struct file_meta *m)
{
	struct slice s = key_buf_slice(&m->smallest), l = key_buf_slice(&m->largest);
	char line[256];

	snprintf(line, sizeof(line), " %llu:%llu['%.*s' @ %llu : %u .. '%.*s' @ %llu : %u]\n",
		 (unsigned long long)m->number, (unsigned long long)m->size, (int)(s.size - IKEY_TRAILER),
		 (const char *)s.data, (unsigned long long)ikey_sequence(s), ikey_kind(s), (int)(l.size - IKEY_TRAILER),
		 (const char *)l.data, (unsigned long long)ikey_sequence(l), ikey_kind(l));
	ck_assert_msg(strstr(text, line), "%s is not in:\n%s", line, text);
}

/* A database of stock's recovers with all its files, levels, sizes and key ranges, as stock itself lists them. */
START_TEST(stock_database_recovers)
{
	uint64_t seed = test_seed();
	size_t files = 0, lines = 0, levels = 0;
	struct bed b;
	leveldb_t *db;
	char *text, *at;

	bed_init(&b);
	stock_fill(b.dir, &seed);
	bed_recover(&b);
	db = stock_open(b.dir, false);
	text = leveldb_property_value(db, "leveldb.sstables");
	at = text;
	for (unsigned level = 0; level < LEVELS; level++) {
		char head[32], next[32], *end;

		snprintf(head, sizeof(head), "--- level %u ---\n", level);
		snprintf(next, sizeof(next), "--- level %u ---\n", level + 1);
		at = strstr(at, head);
		ck_assert_ptr_nonnull(at);
		end = strstr(at, next);
		if (end)
			*end = '\0';
		for (size_t i = 0; i < b.vs.current->count[level]; i++)
			check_line(at, b.vs.current->files[level][i]);
		for (const char *p = strchr(at, '\n') + 1; *p; p = strchr(p, '\n') + 1)
			lines++;
		files += b.vs.current->count[level];
		levels += b.vs.current->count[level] > 0;
		if (end)
			*end = '-';
	}
	ck_assert_uint_eq(lines, files);
	ck_assert_uint_ge(files, 3);
	ck_assert_uint_ge(levels, 2);
	leveldb_free(text);
	leveldb_close(db);
	bed_fini(&b);
}
END_TEST

TEST_MAIN("version_set", 60, created_database_recovers, edits_come_back, manifest_rolls_over,
	  unfit_edit_changes_nothing, workers_apply_side_by_side, stock_opens_our_empty_database,
	  stock_reads_our_tables, stock_database_recovers)
