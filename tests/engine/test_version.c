/* Versions made by hand, without a disk: which files a key or a range concerns, what an edit makes of one, and what is no version. */
#include "engine/version.h"
#include "tests/engine/hand_made.h"
#include "tests/test.h"

#include <stdio.h>

#include "engine/filename.h"
#include "engine/version_builder.h"
#include "shm/error.h"

static struct hand h;
static struct edit e;

static void setup(void)
{
	hand_init(&h);
	edit_init(&e);
}

/* The file to look into for a key is the first whose largest key is not before it. */
START_TEST(find_file_by_largest)
{
	unsigned char k[32];

	setup();
	hand_add(&e, 1, 1, 1, "b", "d");
	hand_add_at(&e, 1, 2, 1, "f", 9, "h", 5);
	hand_add_at(&e, 1, 3, 1, "h", 4, "k", 1);
	hand_install(&h, &e);
	ck_assert_uint_eq(version_find_file(h.vs.current, 1, ikey_make(k, slice_str("a"), 1, 1)), 0);
	ck_assert_uint_eq(version_find_file(h.vs.current, 1, ikey_make(k, slice_str("e"), 1, 1)), 1);
	ck_assert_uint_eq(version_find_file(h.vs.current, 1, ikey_make(k, slice_str("h"), 5, 1)), 1);
	ck_assert_uint_eq(version_find_file(h.vs.current, 1, ikey_make(k, slice_str("h"), 4, 1)),
			  2); /* goes on there */
	ck_assert_uint_eq(version_find_file(h.vs.current, 1, ikey_make(k, slice_str("l"), 1, 1)), 3);
	ck_assert_uint_eq(version_find_file(h.vs.current, 2, ikey_make(k, slice_str("l"), 1, 1)), 0);
	hand_fini(&h);
}
END_TEST

static bool overlaps(unsigned level, const char *smallest, const char *largest)
{
	struct slice s = slice_str(smallest ? smallest : ""), l = slice_str(largest ? largest : "");

	return version_overlaps(h.vs.current, level, smallest ? &s : NULL, largest ? &l : NULL);
}

/* Overlap is by user key, ends included, open ends allowed; level 0 looks at every file. */
START_TEST(overlap_by_user_key)
{
	setup();
	for (unsigned level = 0; level < 2; level++) {
		hand_add(&e, level, 10 * level + 1, 1, "b", "d");
		hand_add(&e, level, 10 * level + 2, 1, "f", "h");
	}
	hand_install(&h, &e);
	for (unsigned level = 0; level < 2; level++) {
		ck_assert(overlaps(level, NULL, NULL));
		ck_assert(!overlaps(level, NULL, "a"));
		ck_assert(overlaps(level, NULL, "b"));
		ck_assert(overlaps(level, "d", "e"));
		ck_assert(!overlaps(level, "d2", "e"));
		ck_assert(overlaps(level, "a", "z"));
		ck_assert(overlaps(level, "h", NULL));
		ck_assert(!overlaps(level, "i", NULL));
	}
	ck_assert(!overlaps(2, NULL, NULL));
	hand_fini(&h);
}
END_TEST

static void expect_overlapping(unsigned level, const char *begin, const char *end, const char *want)
{
	struct slice b = slice_str(begin ? begin : ""), l = slice_str(end ? end : "");
	struct file_meta **files;
	size_t count;

	ck_ok(version_overlapping(h.vs.current, level, begin ? &b : NULL, end ? &l : NULL, &files, &count));
	hand_expect(files, count, want);
	ck_assert((files != NULL) == (count > 0)); /* callers free what they got, and nothing when there is nothing */
	free(files);
}

/* Deeper levels give what overlaps; level 0 gives the closure, which may grow at both ends and back over files already passed. */
START_TEST(overlapping_files_and_closure)
{
	setup();
	hand_add(&e, 0, 1, 1, "a", "c");
	hand_add(&e, 0, 2, 1, "c", "f");
	hand_add(&e, 0, 3, 1, "e", "g");
	hand_add(&e, 0, 4, 1, "i", "k");
	hand_add(&e, 1, 11, 1, "a", "c");
	hand_add(&e, 1, 12, 1, "d", "f");
	hand_add(&e, 1, 13, 1, "g", "i");
	hand_install(&h, &e);
	expect_overlapping(0, "g", "g", "1 2 3");
	expect_overlapping(0, "a", "a", "1 2 3");
	expect_overlapping(0, "h", "h", "");
	expect_overlapping(0, "h", NULL, "4");
	expect_overlapping(0, NULL, NULL, "1 2 3 4");
	expect_overlapping(1, "c", "d", "11 12");
	expect_overlapping(1, "c2", "c3", "");
	expect_overlapping(1, "e", NULL, "12 13");
	expect_overlapping(1, NULL, "f", "11 12");
	hand_fini(&h);
}
END_TEST

/* In words, and as a place: tables @a and @b, 0: none. */
static void expect_check(const char *words, const char *kind, int level, uint64_t a, uint64_t b)
{
	struct version_fault fault = {0};
	struct err_info err = {0};

	ck_assert_int_eq(version_check(h.vs.current, &err), -SHALE_ECORRUPT);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	ck_assert_int_eq(version_check_at(h.vs.current, &fault, NULL), -SHALE_ECORRUPT);
	ck_assert_str_eq(fault.kind, kind);
	ck_assert_int_eq(fault.level, level);
	ck_assert_uint_eq(fault.a ? fault.a->number : 0, a);
	ck_assert_uint_eq(fault.b ? fault.b->number : 0, b);
}

/* Each broken invariant is found and named: this check stands behind every install in debug builds. */
START_TEST(check_names_what_is_broken)
{
	struct file_meta *m;
	unsigned char k[32];

	setup();
	hand_add(&e, 0, 1, 1, "a", "c");
	hand_add(&e, 0, 2, 1, "a", "c");
	hand_add(&e, 1, 3, 7, "b", "d");
	hand_add(&e, 1, 4, 7, "f", "h");
	hand_add(&e, 2, 5, 7, "f", "h");
	hand_install(&h, &e);
	m = hand_file(&h, 3);
	ck_ok(key_buf_set(&m->largest, ikey_make(k, slice_str("g"), 1, 1)));
	expect_check("000003 and 000004 of level 1 overlap", "overlap", 1, 3, 4);
	ck_ok(key_buf_set(&m->largest, ikey_make(k, slice_str("a"), 1, 1)));
	expect_check("000003 of level 1 has its smallest key after its largest", "level", 1, 3, 0);
	ck_ok(key_buf_set(&m->largest, slice_str("short")));
	expect_check("000003 of level 1 has a key that is too short", "level", 1, 3, 0);
	ck_ok(key_buf_set(&m->largest, ikey_make(k, slice_str("d"), 1, 1)));
	ck_ok(version_check(h.vs.current, NULL));
	m->number = 5;
	expect_check("000005 is in the version twice", "twice", -1, 5, 0);
	m->number = 3;
	hand_file(&h, 1)->number = 6;
	expect_check("000002 and 000006 of level 0 are not newest first", "level", 0, 2, 6);
	hand_file(&h, 6)->number = 1;
	m->size = 8;
	expect_check("level 1 counts 14 bytes, its tables hold 15", "level", 1, 0, 0);
	hand_fini(&h);
}
END_TEST

static void expect_unfit(const char *words)
{
	struct err_info err = {0};
	struct version *next;

	ck_assert_int_eq(version_build(h.vs.current, &e, &next, &err), -SHALE_ECORRUPT);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	edit_fini(&e);
}

/* An edit that does not fit is refused before anything is written: a bad MANIFEST record would make the database unreadable. */
START_TEST(unfit_edits_are_refused)
{
	setup();
	hand_add(&e, 1, 1, 1, "b", "d");
	hand_add(&e, 1, 2, 1, "f", "h");
	hand_add(&e, 0, 3, 1, "a", "z");
	hand_install(&h, &e);
	ck_ok(edit_delete_file(&e, 2, 1));
	expect_unfit("000001, …) are not there");
	ck_ok(edit_delete_file(&e, 1, 1));
	ck_ok(edit_delete_file(&e, 1, 9));
	expect_unfit("1 of the 2 tables");
	hand_add(&e, 1, 4, 1, "d", "e");
	expect_unfit("000001 and 000004 of level 1 overlap");
	hand_add(&e, 1, 4, 1, "e", "f");
	expect_unfit("000004 and 000002 of level 1 overlap");
	hand_add(&e, 1, 4, 1, "x", "y");
	hand_add(&e, 1, 5, 1, "y", "z");
	expect_unfit("000004 and 000005 of level 1 overlap");
	hand_add(&e, 0, 3, 1, "x", "y");
	expect_unfit("000003 is at level 0 twice");
	ck_assert_uint_eq(h.gone_count, 0);
	ck_ok(version_check(h.vs.current, NULL));
	hand_fini(&h);
}
END_TEST

/* A file becomes obsolete when the last version that holds it goes, once, and never because the set is torn down. */
START_TEST(obsolete_with_the_last_version)
{
	struct version *old;

	setup();
	hand_add(&e, 1, 1, 1, "b", "d");
	hand_add(&e, 1, 2, 1, "f", "h");
	hand_add(&e, 2, 3, 1, "f", "h");
	hand_install(&h, &e);
	old = version_ref(h.vs.current);
	ck_ok(edit_delete_file(&e, 1, 1));
	hand_install(&h, &e);
	ck_ok(edit_delete_file(&e, 1, 2));
	hand_add(&e, 1, 4, 1, "x", "z");
	hand_install(&h, &e);
	ck_assert_uint_eq(h.gone_count, 0); /* the reader still needs both */
	ck_assert(version_set_is_live(&h.vs, 1) && version_set_is_live(&h.vs, 2));
	version_unref(old);
	ck_assert_uint_eq(h.gone_count, 2);
	ck_assert(!version_set_is_live(&h.vs, 1) && !version_set_is_live(&h.vs, 2));
	ck_assert(version_set_is_live(&h.vs, 3) && version_set_is_live(&h.vs, 4));
	ck_assert_uint_eq(hand_file(&h, 3)->refs, 1); /* its level was shared by all versions */
	hand_fini(&h);
	ck_assert_uint_eq(h.gone_count, 2);
}
END_TEST

/* A moved file keeps its meta: it is not obsolete while the new level holds it. */
START_TEST(moved_file_stays)
{
	struct file_meta *m;

	setup();
	m = hand_add(&e, 1, 1, 1, "b", "d");
	hand_install(&h, &e);
	ck_ok(edit_delete_file(&e, 1, 1));
	ck_ok(edit_add_file(&e, 2, m));
	hand_install(&h, &e);
	ck_assert_uint_eq(h.gone_count, 0);
	ck_assert_uint_eq(h.vs.current->count[1], 0);
	ck_assert_uint_eq(h.vs.current->count[2], 1);
	hand_fini(&h);
}
END_TEST

/* Bytes before a key: whole files before it, half of one that contains it and is not open, a better guess when it is. */
START_TEST(offsets_of_keys)
{
	unsigned char k[32];
	uint64_t before;

	setup();
	hand_add(&e, 0, 1, 100, "a", "c");
	hand_add(&e, 0, 2, 100, "x", "z");
	hand_add(&e, 1, 3, 1000, "a", "c");
	hand_add(&e, 1, 4, 2000, "d", "h");
	hand_add(&e, 1, 5, 4000, "i", "k");
	hand_install(&h, &e);
	before = version_offset_of(h.vs.current, ikey_make(k, slice_str("f"), 9, 1), NULL);
	ck_assert_uint_eq(before, 100 + 1000 + 1000);
	ck_assert_uint_eq(version_offset_of(h.vs.current, ikey_make(k, slice_str(""), 9, 1), NULL), 0);
	ck_assert_uint_eq(version_offset_of(h.vs.current, ikey_make(k, slice_str("zz"), 9, 1), NULL), 7200);
	hand_fini(&h);
}
END_TEST

TEST_MAIN("version", 60, find_file_by_largest, overlap_by_user_key, overlapping_files_and_closure,
	  check_names_what_is_broken, unfit_edits_are_refused, obsolete_with_the_last_version, moved_file_stays,
	  offsets_of_keys)
