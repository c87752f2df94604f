#include "engine/version_set.h"
#include "tests/engine/faulty_env.h"
#include "tests/engine/hand_made.h"
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/filename.h"
#include "engine/log_format.h"
#include "engine/table.h"
#include "shm/error.h"

/* ---- a database directory and a version set over it ---- */

struct bed {
	char *dir;
	struct faulty_env env;
	struct io_queue *q;
	pthread_mutex_t lock;
	struct version_set vs;
	struct version_set_options options;
	struct err_info err;
	unsigned gone;
};

static void note_gone(void *context, struct file_meta *m)
{
	struct bed *b = context;

	b->gone++;
	file_meta_free(m);
}

static void bed_init(struct bed *b)
{
	memset(b, 0, sizeof(*b));
	b->dir = test_tmpdir();
	faulty_env_init(&b->env, b->dir);
	ck_ok(io_queue_new(&b->env.base, 8, &b->q));
	pthread_mutex_init(&b->lock, NULL);
	b->options = (struct version_set_options){4, 10 << 20, 10, 2 << 20, 64 << 20};
	ck_ok(version_set_init(&b->vs, &b->env.base, &b->lock, &b->options, note_gone, b));
}

/* The set anew, as after a restart: nothing recovered yet. */
static void bed_restart(struct bed *b)
{
	version_set_fini(&b->vs);
	b->env.countdown = -1;
	memset(&b->err, 0, sizeof(b->err));
	ck_ok(version_set_init(&b->vs, &b->env.base, &b->lock, &b->options, note_gone, b));
}

static void bed_fini(struct bed *b)
{
	version_set_fini(&b->vs);
	io_queue_free(b->q);
	faulty_env_fini(&b->env);
	test_rmtree(b->dir);
	free(b->dir);
}

static void bed_create(struct bed *b)
{
	int rc = version_set_create(&b->vs, b->q, &b->err);

	ck_assert_msg(rc == 0, "%s", b->err.text);
}

static void bed_recover(struct bed *b)
{
	int rc;

	bed_restart(b);
	rc = version_set_recover(&b->vs, b->q, &b->err);
	ck_assert_msg(rc == 0, "%s", b->err.text);
	ck_ok(version_check(b->vs.current, &b->err));
}

static void expect_recovery(struct bed *b, int want, const char *const *words, size_t count)
{
	int rc;

	bed_restart(b);
	rc = version_set_recover(&b->vs, b->q, &b->err);
	ck_assert_msg(rc == want, "%d, not %d: %s", rc, want, b->err.text);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(strstr(b->err.text, words[i]), "'%s' does not say '%s'", b->err.text, words[i]);
	ck_assert_uint_eq(b->vs.current->count[1], 0); /* nothing half taken over */
	ck_assert_uint_eq(b->vs.manifest_number, 0);
}
#define EXPECT_RECOVERY(b, want, ...)                                                                                  \
	expect_recovery(b, want, (const char *const[]){__VA_ARGS__},                                                   \
			sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static char *path_of(const struct bed *b, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	return path;
}

static void write_file(const struct bed *b, const char *name, const void *data, size_t size)
{
	int fd = open(path_of(b, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
}

static unsigned char *read_whole(const struct bed *b, const char *name, size_t *size_out)
{
	int fd = open(path_of(b, name), O_RDONLY);
	struct stat st;
	unsigned char *data;

	ck_assert_int_ge(fd, 0);
	ck_ok(fstat(fd, &st));
	data = malloc((size_t)st.st_size + 1);
	ck_assert_int_eq(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*size_out = (size_t)st.st_size;
	return data;
}

/* A stand-in for a table: right name, right size, no contents. */
static void make_table(const struct bed *b, uint64_t number, uint64_t size)
{
	char name[FILE_NAME_MAX];

	write_file(b, file_name(name, FILE_TABLE, number), "", 0);
	ck_ok(truncate(path_of(b, name), (off_t)size));
}

/* An edit that adds table i at level 1: key "k<i>", size 100 + i. */
static uint64_t add_one(struct bed *b, struct edit *e)
{
	uint64_t number = version_set_new_number(&b->vs);
	char key[16];

	snprintf(key, sizeof(key), "k%06llu", (unsigned long long)number);
	make_table(b, number, 100 + number);
	hand_add(e, 1, number, 100 + number, key, key);
	return number;
}

/* Applies one such edit. */
static int apply_one(struct bed *b, uint64_t *number_out)
{
	struct edit e;
	int rc;

	edit_init(&e);
	*number_out = add_one(b, &e);
	e.has_log_number = true;
	e.log_number = *number_out;
	rc = version_set_apply(&b->vs, &e, b->q, &b->err);
	edit_fini(&e);
	return rc;
}

static uint64_t must_apply(struct bed *b)
{
	uint64_t number;
	int rc = apply_one(b, &number);

	ck_assert_msg(rc == 0, "%s", b->err.text);
	return number;
}

static unsigned count_files(const struct bed *b, enum file_type type)
{
	DIR *d = opendir(b->dir);
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(d))) {
		enum file_type t;
		uint64_t number;

		n += file_parse(entry->d_name, &t, &number) && t == type;
	}
	closedir(d);
	return n;
}

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

/* ---- failing disks ---- */

/*
 * One apply whose n-th operation on the disk fails. Then: a set that is not poisoned goes on, and a restart finds exactly what was
 * acknowledged; a poisoned one takes nothing more, and a restart finds the old state or the new one, whole.
 */
static bool fail_nth(long n, int failure, bool fresh_manifest)
{
	uint64_t first, second = 0, third = 0;
	bool poisoned, ended;
	struct bed b;
	size_t count;
	int rc;

	bed_init(&b);
	bed_create(&b);
	first = must_apply(&b);
	if (fresh_manifest)
		bed_recover(&b); /* the next apply begins a MANIFEST */
	b.env.countdown = n;
	b.env.failure = failure;
	rc = apply_one(&b, &second);
	ended = b.env.countdown >= 0; /* fewer operations than that: nothing failed */
	b.env.countdown = -1;
	poisoned = b.vs.failed != 0;
	if (ended) {
		ck_ok(rc);
	} else {
		ck_assert_msg(rc == failure, "%s: %d, %s", b.env.last, rc, b.err.text);
		ck_assert(strstr(b.err.text, "MANIFEST-") || strstr(b.err.text, "CURRENT") ||
			  strstr(b.err.text, ".dbtmp"));
		if (failure == -ENOSPC && strcmp(b.env.last, "fdatasync") && strcmp(b.env.last, "sync_dir") &&
		    strcmp(b.env.last, "write"))
			ck_assert_msg(!poisoned, "a full disk must heal (%s)", b.env.last);
		if (!strcmp(b.env.last, "fdatasync") || !strcmp(b.env.last, "sync_dir"))
			ck_assert_msg(poisoned, "a failed %s must stop everything", b.env.last);
		ck_assert_uint_eq(b.vs.current->count[1], 1); /* not visible */
	}
	rc = apply_one(&b, &third);
	ck_assert_int_eq(rc, poisoned ? -SHALE_EFAILED : 0);
	bed_recover(&b);
	count = b.vs.current->count[1];
	ck_assert_uint_eq(b.vs.current->files[1][0]->number, first);
	if (!poisoned) {
		ck_assert_uint_eq(count, ended ? 3 : 2);
		ck_assert_uint_eq(b.vs.current->files[1][count - 1]->number, third);
		ck_assert_uint_eq(count_files(&b, FILE_MANIFEST), 1);
		ck_assert_uint_eq(count_files(&b, FILE_TEMP), 0);
	} else {
		ck_assert(count == 1 || (count == 2 && b.vs.current->files[1][1]->number == second));
	}
	bed_fini(&b);
	return ended;
}

/* Each operation in turn, for appending and for beginning a MANIFEST, with the errors that heal and the one that does not. */
START_TEST(each_operation_fails_in_turn)
{
	static const int failures[] = {-EIO, -ENOSPC, -EDQUOT};

	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		for (int fresh = 0; fresh < 2; fresh++) {
			long n = 0;

			while (!fail_nth(n, failures[i], fresh))
				n++;
			ck_assert_int_ge(n, fresh ? 10 : 2);
		}
	}
}
END_TEST

/* A full disk is noticed before a record is begun, so that writing goes on in the same MANIFEST when there is space again. */
START_TEST(full_disk_heals)
{
	uint64_t number, manifest;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	manifest = b.vs.manifest_number;
	b.vs.manifest_reserved = b.vs.manifest_offset; /* the reserve is used up */
	b.env.countdown = 0;
	b.env.failure = -ENOSPC;
	ck_assert_int_eq(apply_one(&b, &number), -ENOSPC);
	b.env.countdown = -1;
	ck_assert_str_eq(b.env.last, "allocate");
	ck_assert_int_eq(b.vs.failed, 0);
	must_apply(&b);
	ck_assert_uint_eq(b.vs.manifest_number, manifest);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], 1);
	bed_fini(&b);
}
END_TEST

/* Creating a database fails cleanly at every step, and can be tried again in the same directory. */
START_TEST(failed_creation_can_be_repeated)
{
	bool ended = false;

	for (long n = 0; !ended; n++) {
		struct bed b;
		int rc;

		bed_init(&b);
		b.env.countdown = n;
		b.env.failure = -EIO;
		rc = version_set_create(&b.vs, b.q, &b.err);
		ended = b.env.countdown >= 0;
		ck_assert_int_eq(rc, ended ? 0 : -EIO);
		bed_restart(&b);
		rc = version_set_recover(&b.vs, b.q, &b.err);
		ck_assert_msg(rc == 0 || rc == -ENOENT, "%s", b.err.text);
		if (rc == -ENOENT)
			bed_create(&b);
		bed_recover(&b);
		bed_fini(&b);
	}
}
END_TEST

/* ---- damaged files ---- */

/* Offsets after each whole record of @data. */
static size_t record_ends(const struct bed *b, const char *name, size_t ends[16])
{
	struct log_reader *r;
	struct slice record;
	struct io_file *f;
	size_t n = 0;

	ck_ok(io_open(b->env.inner, name, IO_OPEN_READ, &f));
	ck_ok(log_reader_new(b->q, f, &r));
	while (log_reader_next(r, &record) == 0)
		ends[n++] = log_reader_end_offset(r);
	log_reader_free(r);
	io_close(f);
	return n;
}

static bool all_zero(const unsigned char *p, size_t n)
{
	while (n > 0 && !p[n - 1])
		n--;
	return n == 0;
}

/* After a crash at any byte of an append, the state is that of the last whole record. */
START_TEST(every_prefix_is_the_last_whole_record)
{
	size_t size, ends[16], records;
	unsigned char *data;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	for (int i = 0; i < 4; i++)
		must_apply(&b);
	bed_recover(&b);
	records = record_ends(&b, "MANIFEST-000001", ends);
	ck_assert_uint_eq(records, 5);
	data = read_whole(&b, "MANIFEST-000001", &size);
	for (size_t n = 0; n <= size; n++) {
		size_t whole = 0;

		while (whole < records && ends[whole] <= n)
			whole++;
		write_file(&b, "MANIFEST-000001", data, n);
		if (!whole) {
			EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "MANIFEST-000001", "no whole record", "repair");
		} else {
			bed_recover(&b);
			ck_assert_uint_eq(b.vs.current->count[1], whole - 1);
		}
		if (n % 16 || !whole)
			continue;
		/* The same, with space reserved behind it but never written; a record whose missing bytes are zero is then whole. */
		while (whole < records && all_zero(data + n, ends[whole] - n))
			whole++;
		ck_ok(truncate(path_of(&b, "MANIFEST-000001"), (off_t)(size + 5000)));
		bed_recover(&b);
		ck_assert_uint_eq(b.vs.current->count[1], whole - 1);
	}
	free(data);
	bed_fini(&b);
}
END_TEST

/* A byte damaged anywhere before the last record fails the open: skipping an edit would resurrect and lose tables. */
START_TEST(damage_before_the_end_is_corruption)
{
	size_t size, ends[16], records;
	unsigned char *data;
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	for (int i = 0; i < 4; i++)
		must_apply(&b);
	records = record_ends(&b, "MANIFEST-000001", ends);
	data = read_whole(&b, "MANIFEST-000001", &size);
	for (size_t at = 0; at < ends[records - 2]; at++) {
		data[at] ^= 0x40;
		write_file(&b, "MANIFEST-000001", data, size);
		EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "MANIFEST-000001", "offset");
		data[at] ^= 0x40;
	}
	free(data);
	bed_fini(&b);
}
END_TEST

/* Puts a MANIFEST of the given edits in place. */
static void write_manifest(struct bed *b, const struct edit *edits, size_t count)
{
	static unsigned char buf[1 << 16];
	struct log_dest dest = {.base = buf, .mask = UINT64_MAX};
	uint64_t at = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned char *data;
		size_t size;

		ck_ok(edit_encode(&edits[i], &data, &size));
		at = log_frame(&dest, at, slice_of(data, size));
		free(data);
	}
	write_file(b, "MANIFEST-000009", buf, at);
	write_file(b, "CURRENT", "MANIFEST-000009\n", 16);
}

static void good_numbers(struct edit *e)
{
	edit_init(e);
	e->has_comparator = e->has_log_number = e->has_next_file = e->has_last_sequence = true;
	strcpy(e->comparator, COMPARATOR_NAME);
	e->log_number = 3;
	e->next_file = 20;
	e->last_sequence = 9;
}

/* Each way in which records can contradict themselves or each other has its own words. */
START_TEST(contradictions_are_named)
{
	struct edit e[2];
	struct bed b;

	bed_init(&b);
	good_numbers(&e[0]);
	edit_init(&e[1]);
	e[0].has_next_file = false;
	write_manifest(&b, e, 1);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "MANIFEST-000009", "next file number");
	e[0].has_next_file = true;
	e[0].has_log_number = false;
	write_manifest(&b, e, 1);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "log number");
	e[0].has_log_number = true;
	e[0].has_last_sequence = false;
	write_manifest(&b, e, 1);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "last sequence");
	e[0].has_last_sequence = true;
	strcpy(e[0].comparator, "idb_cmp1");
	write_manifest(&b, e, 1);
	EXPECT_RECOVERY(&b, -SHALE_ECOMPARATOR, "idb_cmp1", COMPARATOR_NAME);
	strcpy(e[0].comparator, COMPARATOR_NAME);

	ck_ok(edit_delete_file(&e[1], 1, 5));
	write_manifest(&b, e, 2);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "deletes table 000005 from level 1, where it is not");
	hand_add(&e[0], 2, 5, 105, "a", "c");
	write_manifest(&b, e, 2);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "deletes table 000005 from level 1, where it is not");
	edit_fini(&e[1]);
	hand_add(&e[1], 1, 5, 105, "x", "z");
	write_manifest(&b, e, 2);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "adds table 000005, which is already there");
	edit_fini(&e[1]);
	hand_add(&e[1], 2, 6, 106, "b", "d");
	write_manifest(&b, e, 2);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "tables 000005 and 000006 of level 2 overlap");
	edit_fini(&e[1]);

	hand_add(&e[1], 2, 6, 106, "d", "e");
	write_manifest(&b, e, 2);
	EXPECT_RECOVERY(&b, -SHALE_EMISSING, "2 of the 2 tables", "000005.ldb", "repair");
	make_table(&b, 5, 105);
	EXPECT_RECOVERY(&b, -SHALE_EMISSING, "1 of the 2 tables", "000006.ldb");
	make_table(&b, 6, 99);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "000006.ldb is 99 bytes long", "106");
	ck_ok(unlink(path_of(&b, "000006.ldb")));
	write_file(&b, "000006.sst", "", 0); /* the name that old LevelDBs gave */
	ck_ok(truncate(path_of(&b, "000006.sst"), 106));
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[2], 2);
	ck_assert_uint_eq(atomic_load(&b.vs.next_file), 20);
	edit_fini(&e[0]);
	edit_fini(&e[1]);
	bed_fini(&b);
}
END_TEST

/* A record that passes its checksum but is no version edit is corruption with the offset, not a guess. */
START_TEST(unknown_tag_is_corruption)
{
	unsigned char buf[128];
	struct log_dest dest = {.base = buf, .mask = UINT64_MAX};
	struct bed b;

	bed_init(&b);
	write_file(&b, "MANIFEST-000009", buf, log_frame(&dest, 0, slice_str("\x2a\x01")));
	write_file(&b, "CURRENT", "MANIFEST-000009\n", 16);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "MANIFEST-000009", "offset 0", "tag is none");
	bed_fini(&b);
}
END_TEST

/* Numbers that files have in use are never given out again, even when the MANIFEST's counter lags behind. */
START_TEST(numbers_in_use_are_skipped)
{
	struct edit e;
	struct bed b;

	bed_init(&b);
	good_numbers(&e);
	e.next_file = 2;
	hand_add(&e, 1, 70, 170, "a", "b");
	make_table(&b, 70, 170);
	write_manifest(&b, &e, 1);
	edit_fini(&e);
	bed_recover(&b);
	ck_assert_uint_eq(version_set_new_number(&b.vs), 71);
	version_set_number_used(&b.vs, 5);
	version_set_number_used(&b.vs, 90);
	ck_assert_uint_eq(version_set_new_number(&b.vs), 91);
	bed_fini(&b);
}
END_TEST

/* Each way in which CURRENT can be wrong has its own words. */
START_TEST(bad_current_is_named)
{
	static const char nul[] = "MANIFEST-000001\0\n";
	char longest[400];
	struct bed b;

	bed_init(&b);
	bed_create(&b);
	write_file(&b, "CURRENT", "", 0);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT is empty");
	write_file(&b, "CURRENT", "MANIFEST-000001", 15);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT does not end with a newline");
	write_file(&b, "CURRENT", "../../etc/passwd\n", 17);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT does not name a MANIFEST");
	write_file(&b, "CURRENT", "000001.ldb\n", 11);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT does not name a MANIFEST");
	write_file(&b, "CURRENT", "\n", 1);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT does not name a MANIFEST");
	write_file(&b, "CURRENT", nul, 17);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT does not name a MANIFEST");
	memset(longest, 'M', sizeof(longest));
	write_file(&b, "CURRENT", longest, sizeof(longest));
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT is longer");
	write_file(&b, "CURRENT", "MANIFEST-000123\n", 16);
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT names MANIFEST-000123, which is missing", "repair");
	write_file(&b, "CURRENT", "MANIFEST-000001\n", 16);
	bed_recover(&b);
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
	  unfit_edit_changes_nothing, each_operation_fails_in_turn, full_disk_heals, failed_creation_can_be_repeated,
	  every_prefix_is_the_last_whole_record, damage_before_the_end_is_corruption, contradictions_are_named,
	  unknown_tag_is_corruption, numbers_in_use_are_skipped, bad_current_is_named, workers_apply_side_by_side,
	  stock_opens_our_empty_database, stock_reads_our_tables, stock_database_recovers)
