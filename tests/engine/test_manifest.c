#include "engine/manifest.h"
#include "tests/engine/hand_made.h"
#include "tests/engine/set_bed.h"
#include "tests/test.h"

#include <stdio.h>
#include <unistd.h>

#include "engine/log_format.h"

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
			ck_assert_int_eq(
				n, fresh ? 11 : 2); /* two files written, two directory syncs, a rename; or a record */
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
			EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "MANIFEST-000001", "no whole record", "backup");
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
	EXPECT_RECOVERY(&b, -SHALE_EMISSING, "2 of the 2 tables", "000005.ldb", "backup");
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
	EXPECT_RECOVERY(&b, -SHALE_ECORRUPT, "CURRENT names MANIFEST-000123, which is missing", "backup");
	write_file(&b, "CURRENT", "MANIFEST-000001\n", 16);
	bed_recover(&b);
	bed_fini(&b);
}
END_TEST

TEST_MAIN("manifest", 60, each_operation_fails_in_turn, full_disk_heals, failed_creation_can_be_repeated,
	  every_prefix_is_the_last_whole_record, damage_before_the_end_is_corruption, contradictions_are_named,
	  unknown_tag_is_corruption, numbers_in_use_are_skipped, bad_current_is_named)
