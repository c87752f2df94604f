/* What an open makes of a directory: whole, torn, damaged, foreign. Always a prefix of what was acknowledged, or a clear refusal. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/log_format.h"
#include "tests/engine/world.h"

/* ---- making log files by hand ---- */

struct log_bytes {
	unsigned char data[200 << 10];
	uint64_t size;
};

static const char *path_of(struct world *w, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	return path;
}

static const char *log_path(struct world *w, uint64_t number)
{
	char name[32];

	snprintf(name, sizeof(name), "%06llu.log", (unsigned long long)number);
	return path_of(w, name);
}

static bool exists(struct world *w, const char *name)
{
	return access(path_of(w, name), F_OK) == 0;
}

static void log_record(struct log_bytes *l, const void *record, size_t size)
{
	struct log_dest dest = {l->data, UINT64_MAX, 0};

	l->size = log_frame(&dest, l->size, slice_of(record, size));
	ck_assert_uint_le(l->size, sizeof(l->data));
}

/* One record: key = value, as batch of one at @sequence. */
static void log_put(struct log_bytes *l, uint64_t sequence, const char *key, const char *value)
{
	unsigned char batch[512], *p = batch_append_put(batch_begin(batch), slice_str(key), slice_str(value));

	batch_set_sequence(batch, sequence);
	batch_set_count(batch, 1);
	log_record(l, batch, (size_t)(p - batch));
}

static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
}

/* A new, closed database; returns the number that a log must have to be replayed by the next open. */
static uint64_t make(struct world *w)
{
	struct engine_stats stats;

	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
	engine_stats(w->e, &stats);
	world_close(w);
	world_lose_window(w);
	return stats.log_number;
}

static bool has(struct world *w, const char *key)
{
	unsigned char *value;
	size_t size;
	int rc = world_get(w, slice_str(key), SEQUENCE_MAX, &value, &size);

	ck_assert_int_ge(rc, 0);
	if (rc == 0)
		free(value);
	return rc == 0;
}

/* ---- logs ---- */

/* Logs are replayed in the order of their numbers, and what they held is in level 0 afterwards. */
START_TEST(logs_are_replayed_in_order)
{
	struct world w;
	uint64_t number = make(&w);
	struct log_bytes l = {.size = 0};

	log_put(&l, 1, "a", "1");
	log_put(&l, 2, "b", "1");
	write_file(log_path(&w, number), l.data, l.size);
	l.size = 0;
	log_put(&l, 3, "a", "2");
	log_put(&l, 4, "c", "2");
	write_file(log_path(&w, number + 7), l.data, l.size);
	world_open(&w);
	ck_assert_uint_eq(w.recovery.records, 4);
	ck_assert_uint_eq(w.recovery.dropped_bytes, 0);
	ck_assert_uint_eq(engine_last_sequence(w.e), 4);
	ck_assert_uint_eq(world_files(&w, 0), 1);
	ck_assert(has(&w, "a") && has(&w, "b") && has(&w, "c"));
	/* The old logs are gone only now that a MANIFEST names their table. */
	ck_assert(access(log_path(&w, number), F_OK) != 0);
	ck_assert(access(log_path(&w, number + 7), F_OK) != 0);
	ck_assert_uint_eq(world_put(&w, slice_str("d"), slice_str("")), 5);
	world_fini(&w);
}
END_TEST

/* A record cut short at the end of a log is the usual end after a power failure: no damage, also with paranoid. */
START_TEST(torn_tail_is_the_end)
{
	struct world w;
	uint64_t number = make(&w);
	struct log_bytes l = {.size = 0};
	uint64_t whole;

	log_put(&l, 1, "a", "1");
	whole = l.size;
	log_put(&l, 2, "b", "1");
	for (uint64_t cut = whole; cut < l.size; cut++) {
		write_file(log_path(&w, number), l.data, cut);
		w.options.paranoid = true;
		world_open(&w);
		ck_assert_uint_eq(w.recovery.records, 1);
		ck_assert_uint_eq(w.recovery.dropped_bytes, 0);
		ck_assert(has(&w, "a") && !has(&w, "b"));
		world_fini(&w);
		number = make(&w);
	}
	world_fini(&w);
}
END_TEST

/* The end of one log is lost and the next one is there: the next must not be applied, or there would be a hole. It is kept aside. */
START_TEST(log_after_a_lost_tail_is_set_aside)
{
	struct world w;
	uint64_t number = make(&w);
	struct log_bytes l = {.size = 0};
	char name[64];

	log_put(&l, 1, "a", "1"); /* 2 and 3 are lost with the power */
	write_file(log_path(&w, number), l.data, l.size);
	l.size = 0;
	log_put(&l, 4, "d", "1");
	write_file(log_path(&w, number + 1), l.data, l.size);
	world_open(&w);
	ck_assert(has(&w, "a") && !has(&w, "d"));
	ck_assert_uint_eq(engine_last_sequence(w.e), 1);
	snprintf(name, sizeof(name), "lost-%06llu.log.bak", (unsigned long long)number + 1);
	ck_assert(exists(&w, name));
	ck_assert_uint_ge(w.logged[4], 1);
	world_close(&w);
	world_open(&w); /* and stays out of the way for ever */
	ck_assert(exists(&w, name));
	ck_assert(!has(&w, "d"));
	world_fini(&w);
}
END_TEST

/* The whole of a log is lost and the next one is there: a hole as well, though no record before it says so. */
START_TEST(log_after_a_lost_log_is_set_aside)
{
	struct world w;
	uint64_t number = make(&w);
	struct log_bytes l = {.size = 0};
	char name[64];

	log_put(&l, 4, "d", "1");
	write_file(log_path(&w, number + 1), l.data, l.size);
	world_open(&w);
	ck_assert(!has(&w, "d"));
	snprintf(name, sizeof(name), "lost-%06llu.log.bak", (unsigned long long)number + 1);
	ck_assert(exists(&w, name));
	world_fini(&w);
}
END_TEST

/* The same, where edits were made while both logs were in use: what they say of sequences must not hide the hole. */
START_TEST(lost_log_between_a_table_and_a_log)
{
	struct engine_stats stats;
	struct world w;
	uint64_t ticket, lost;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
	world_put(&w, slice_str("a"), slice_str("1"));
	ck_ok(engine_flush_start(w.e, &ticket));
	ck_assert(world_run_one(&w, JOB_LOG));
	world_put(&w, slice_str("b"), slice_str("1"));
	engine_stats(w.e, &stats);
	lost = stats.log_number;
	ck_ok(engine_flush_start(w.e, &ticket));
	world_put(&w, slice_str("c"), slice_str("1"));
	ck_assert(world_run_one(&w, JOB_FLUSH)); /* of "a" */
	world_sync(&w);
	world_abandon(&w);
	world_lose_window(&w);
	ck_assert_int_eq(truncate(log_path(&w, lost), 0), 0);
	world_open(&w);
	ck_assert(has(&w, "a") && !has(&w, "b") && !has(&w, "c"));
	ck_assert_uint_ge(world_put(&w, slice_str("d"), slice_str("1")), 2);
	world_close(&w);
	world_open(&w);
	ck_assert(has(&w, "a") && has(&w, "d"));
	world_fini(&w);
}
END_TEST

/* The oldest log that is needed is gone: somebody removed it, or the MANIFEST lost its end. Refused, and nothing is swept. */
START_TEST(missing_log_is_refused)
{
	struct err_info err = {0};
	struct world w;
	uint64_t number = make(&w);
	char name[32];

	write_file(path_of(&w, "000900.ldb"), "x", 1);
	ck_assert_int_eq(unlink(log_path(&w, number)), 0);
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_EMISSING);
	snprintf(name, sizeof(name), "%06llu.log", (unsigned long long)number);
	ck_assert_ptr_nonnull(strstr(err.text, name));
	ck_assert(exists(&w, "000900.ldb"));
	write_file(log_path(&w, number), "", 0);
	world_open(&w);
	world_fini(&w);
}
END_TEST

/* A flush whose record at the end of the MANIFEST was damaged looks like a torn end; its table must not be swept as a stray. */
START_TEST(damaged_end_of_the_manifest)
{
	struct engine_stats stats;
	struct err_info err = {0};
	struct world w;
	char name[64];
	struct stat st;
	int fd;

	make(&w);
	world_open(&w);
	world_put(&w, slice_str("a"), slice_str("1"));
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	engine_stats(w.e, &stats);
	world_close(&w);
	snprintf(name, sizeof(name), "MANIFEST-%06llu", (unsigned long long)stats.manifest_number);
	fd = open(path_of(&w, name), O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_ok(fstat(fd, &st));
	ck_assert_int_eq(pwrite(fd, "\xff\xff", 2, st.st_size - 2), 2);
	close(fd);
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_EMISSING);
	world_fini(&w);
}
END_TEST

/* A name with a number that no counter reaches: counting on from it would run over, and give numbers of live files out again. */
START_TEST(impossible_number_is_refused)
{
	static const char *const names[] = {"18446744073709551615.log", "18446744073709551615.ldb",
					    "MANIFEST-18446744073709551614"};
	struct world w;

	make(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		struct err_info err = {0};

		write_file(path_of(&w, names[i]), "", 0);
		ck_assert_int_eq(world_try_open(&w, &err), -SHALE_ECORRUPT);
		ck_assert_ptr_nonnull(strstr(err.text, names[i]));
		ck_assert_int_eq(unlink(path_of(&w, names[i])), 0);
	}
	world_open(&w);
	world_fini(&w);
}
END_TEST

/* A bad record with good ones behind it is damage: what is before it is kept, what is behind it, and later logs, are set aside. */
START_TEST(bad_record_ends_the_replay)
{
	struct world w;
	uint64_t number = make(&w);
	struct log_bytes l = {.size = 0};
	struct err_info err = {0};
	uint64_t first;
	char name[64];

	log_put(&l, 1, "a", "1");
	first = l.size;
	log_put(&l, 2, "b", "1");
	log_put(&l, 3, "c", "1");
	l.data[first + LOG_HEADER + 14] ^= 1;
	write_file(log_path(&w, number), l.data, l.size);
	l.size = 0;
	log_put(&l, 4, "d", "1");
	write_file(log_path(&w, number + 1), l.data, l.size);

	w.options.paranoid = true;
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_ECORRUPT);
	snprintf(name, sizeof(name), "%06llu.log", (unsigned long long)number);
	ck_assert_ptr_nonnull(strstr(err.text, name));
	ck_assert(exists(&w, name)); /* unharmed: it can be tried again */

	w.options.paranoid = false;
	world_open(&w);
	ck_assert_uint_gt(w.recovery.dropped_bytes, 0);
	ck_assert_uint_ge(w.logged[3], 1);
	ck_assert(has(&w, "a") && !has(&w, "b") && !has(&w, "c") && !has(&w, "d"));
	snprintf(name, sizeof(name), "lost-%06llu.log.bak", (unsigned long long)number);
	ck_assert(exists(&w, name));
	snprintf(name, sizeof(name), "lost-%06llu.log.bak", (unsigned long long)number + 1);
	ck_assert(exists(&w, name));
	world_fini(&w);
}
END_TEST

/* A record whose checksum is right but whose contents are nonsense is damage as well: never inserted, never asserted on. */
START_TEST(nonsense_in_a_good_record)
{
	static const struct {
		uint64_t sequence;
		uint32_t count;
	} cases[] = {{2, 2}, {1, 1}, {SEQUENCE_MAX + 1, 1}, {UINT64_MAX, 1}, {9, 1}};

	for (unsigned i = 0; i <= ARRAY_SIZE(cases); i++) {
		struct world w;
		uint64_t number = make(&w);
		struct log_bytes l = {.size = 0};
		unsigned char batch[64], *p;

		log_put(&l, 1, "a", "1");
		p = batch_append_put(batch_begin(batch), slice_str("b"), slice_str("1"));
		if (i < ARRAY_SIZE(cases)) {
			batch_set_sequence(batch, cases[i].sequence);
			batch_set_count(batch, cases[i].count);
			log_record(&l, batch, (size_t)(p - batch));
		} else {
			log_record(&l, batch, 5);
		}
		write_file(log_path(&w, number), l.data, l.size);
		world_open(&w);
		ck_assert(has(&w, "a") && !has(&w, "b"));
		ck_assert_uint_eq(engine_last_sequence(w.e), 1);
		world_fini(&w);
	}
}
END_TEST

/* A killed process leaves its last writes in the window only: they are there again, and their numbers are not given out twice. */
START_TEST(window_completes_the_log)
{
	struct world w;
	char key[16];

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t before = engine_last_sequence(w.e);

		for (unsigned i = 0; i < 100; i++) {
			snprintf(key, sizeof(key), "%u-%u", round, i);
			ck_assert_uint_eq(world_put(&w, slice_str(key), slice_str("x")), before + i + 1);
		}
		world_abandon(&w);
		world_open(&w);
		ck_assert_uint_gt(w.recovery.window_bytes, 0);
		ck_assert_uint_eq(w.recovery.records, 100);
		ck_assert(has(&w, key) && has(&w, "0-0"));
	}
	world_fini(&w);
}
END_TEST

/* A power failure takes the window with it: what was synced is there, and what is there is a prefix. */
START_TEST(synced_writes_survive_without_the_window)
{
	struct world w;
	char key[16];
	bool gone = false;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%02u", i);
		world_put(&w, slice_str(key), slice_str("x"));
		if (i == 60)
			world_sync(&w);
	}
	world_abandon(&w);
	world_lose_window(&w);
	world_open(&w);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%02u", i);
		if (i <= 60)
			ck_assert(has(&w, key));
		gone |= !has(&w, key);
		ck_assert(!gone || !has(&w, key));
	}
	ck_assert(gone);
	world_fini(&w);
}
END_TEST

/* ---- the directory ---- */

/* Strays with LevelDB's names go, files with any other name stay. */
START_TEST(sweep_takes_only_known_names)
{
	static const char *const gone[] = {"000900.ldb", "000901.sst", "000902.dbtmp", "MANIFEST-000903", "000001.log"};
	static const char *const stay[] = {"notes.txt",	 "SHALE", "lost-000001.log.bak",
					   "12.ldb.bak", "LOG",	  "x000900.ldb"};
	struct world w;

	make(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
		write_file(path_of(&w, gone[i]), "x", 1);
	for (unsigned i = 0; i < ARRAY_SIZE(stay); i++)
		write_file(path_of(&w, stay[i]), "x", 1);
	world_open(&w);
	for (unsigned i = 0; i < ARRAY_SIZE(gone); i++)
		ck_assert_msg(!exists(&w, gone[i]), "%s is still there", gone[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(stay); i++)
		ck_assert_msg(exists(&w, stay[i]), "%s is gone", stay[i]);
	world_fini(&w);
}
END_TEST

/* Tables without CURRENT are somebody's data, not an empty directory. */
START_TEST(lost_current_is_no_new_database)
{
	struct err_info err = {0};
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_put(&w, slice_str("a"), slice_str("1"));
	world_flush(&w);
	world_close(&w);
	unlink(path_of(&w, "CURRENT"));
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(err.text, "CURRENT"));
	world_fini(&w);
}
END_TEST

/* A table that the MANIFEST names must be there: the refusal names it, and nothing is swept. */
START_TEST(missing_table_is_refused)
{
	struct err_info err = {0};
	struct world w;
	char *text, name[32];
	unsigned long long number;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_put(&w, slice_str("a"), slice_str("1"));
	world_flush(&w);
	ck_ok(engine_property(w.e, slice_str("leveldb.sstables"), &text));
	ck_assert_int_eq(sscanf(strstr(text, "\n ") + 2, "%llu:", &number), 1);
	free(text);
	world_close(&w);
	snprintf(name, sizeof(name), "%06llu.ldb", number);
	ck_assert_int_eq(unlink(path_of(&w, name)), 0);
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_EMISSING);
	ck_assert_ptr_nonnull(strstr(err.text, name));
	world_fini(&w);
}
END_TEST

/* A replay larger than a memtable becomes several tables, of which the newer wins. */
START_TEST(long_logs_become_several_tables)
{
	struct world w;
	uint64_t number = make(&w);
	static struct log_bytes l;
	unsigned char *value;
	char filler[301], key[16];
	size_t size;

	memset(filler, 'x', 300);
	filler[300] = 0;
	l.size = 0;
	for (unsigned i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "%03u", i % 100);
		snprintf(filler, 8, "%07u", i);
		filler[7] = 'x';
		log_put(&l, i + 1, key, filler);
	}
	write_file(log_path(&w, number), l.data, l.size);
	world_open(&w);
	ck_assert_uint_gt(w.recovery.tables_written, 2);
	ck_assert_uint_eq(world_files(&w, 0), w.recovery.tables_written);
	ck_ok(world_get(&w, slice_str("042"), SEQUENCE_MAX, &value, &size));
	ck_assert(memcmp(value, "0000442", 7) == 0);
	free(value);
	world_fini(&w);
}
END_TEST

TEST_MAIN("recover", 60, logs_are_replayed_in_order, torn_tail_is_the_end, log_after_a_lost_tail_is_set_aside,
	  log_after_a_lost_log_is_set_aside, lost_log_between_a_table_and_a_log, missing_log_is_refused,
	  damaged_end_of_the_manifest, impossible_number_is_refused, bad_record_ends_the_replay,
	  nonsense_in_a_good_record, window_completes_the_log, synced_writes_survive_without_the_window,
	  sweep_takes_only_known_names, lost_current_is_no_new_database, missing_table_is_refused,
	  long_logs_become_several_tables)
