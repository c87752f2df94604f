#include "engine/edit.h"
#include "tests/test.h"

#include <stdio.h>

#include "shm/error.h"

static struct slice ikey(unsigned char *buf, const char *user, uint64_t sequence)
{
	return ikey_make(buf, slice_str(user), sequence, IKEY_VALUE);
}

static void add_file(struct edit *e, unsigned level, uint64_t number, uint64_t size, const char *smallest,
		     const char *largest)
{
	unsigned char a[64], b[64];
	struct file_meta *m = file_meta_new(number, size, ikey(a, smallest, 9), ikey(b, largest, 7));

	ck_assert_ptr_nonnull(m);
	ck_ok(edit_add_file(e, level, m));
	file_meta_unref(m);
}

static void full_edit(struct edit *e)
{
	unsigned char k[64];

	edit_init(e);
	e->has_comparator = e->has_log_number = e->has_prev_log_number = e->has_next_file = e->has_last_sequence = true;
	strcpy(e->comparator, COMPARATOR_NAME);
	e->log_number = 300;
	e->prev_log_number = 0;
	e->next_file = 70000;
	e->last_sequence = SEQUENCE_MAX;
	ck_ok(edit_set_pointer(e, 6, ikey(k, "pointer", 5)));
	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "key%04u", i);
		add_file(e, i % LEVELS, 1000 + i, i * 100000, name, "z");
		ck_ok(edit_delete_file(e, i % LEVELS, 500 + i));
	}
	add_file(e, 0, 2000, 1, "", "");
}

/* What is encoded is decoded, field by field: a MANIFEST record must bring back the very state it recorded. */
START_TEST(edit_round_trip)
{
	struct err_info err = {0};
	struct edit e, d;
	unsigned char *data;
	size_t size;

	full_edit(&e);
	ck_ok(edit_encode(&e, &data, &size));
	ck_ok(edit_decode(slice_of(data, size), &d, &err));
	ck_assert_str_eq(d.comparator, COMPARATOR_NAME);
	ck_assert(d.has_comparator && d.has_log_number && d.has_prev_log_number && d.has_next_file &&
		  d.has_last_sequence);
	ck_assert_uint_eq(d.log_number, 300);
	ck_assert_uint_eq(d.prev_log_number, 0);
	ck_assert_uint_eq(d.next_file, 70000);
	ck_assert_uint_eq(d.last_sequence, SEQUENCE_MAX);
	ck_assert_uint_eq(d.pointer_count, 1);
	ck_assert_uint_eq(d.pointers[0].level, 6);
	ck_assert(slice_equal(key_buf_slice(&d.pointers[0].key), key_buf_slice(&e.pointers[0].key)));
	ck_assert_uint_eq(d.deleted_count, e.deleted_count);
	ck_assert_uint_eq(d.added_count, e.added_count);
	for (size_t i = 0; i < e.deleted_count; i++) {
		ck_assert_uint_eq(d.deleted[i].level, e.deleted[i].level);
		ck_assert_uint_eq(d.deleted[i].number, e.deleted[i].number);
	}
	for (size_t i = 0; i < e.added_count; i++) {
		const struct file_meta *x = e.added[i].meta, *y = d.added[i].meta;

		ck_assert_uint_eq(d.added[i].level, e.added[i].level);
		ck_assert_uint_eq(d.added[i].number, x->number);
		ck_assert_uint_eq(y->number, x->number);
		ck_assert_uint_eq(y->size, x->size);
		ck_assert_uint_eq(y->refs, 1);
		ck_assert(slice_equal(key_buf_slice(&y->smallest), key_buf_slice(&x->smallest)));
		ck_assert(slice_equal(key_buf_slice(&y->largest), key_buf_slice(&x->largest)));
	}
	free(data);
	edit_fini(&d);
	edit_fini(&e);
}
END_TEST

/* The bytes are LevelDB's: tag, then varints and length-prefixed strings, as its MANIFEST reader expects them. */
START_TEST(edit_bytes_are_leveldbs)
{
	static const unsigned char want[] = "\x02\x05\x09\x00\x03\xac\x02\x04\x07"
					    "\x06\x01\x03"
					    "\x07\x02\x08\x80\x01\x09"
					    "a\x01\x09\0\0\0\0\0\0\x09"
					    "b\x01\x07\0\0\0\0\0";
	struct edit e;
	unsigned char *data;
	size_t size;

	edit_init(&e);
	e.has_log_number = e.has_prev_log_number = e.has_next_file = e.has_last_sequence = true;
	e.log_number = 5;
	e.next_file = 300;
	e.last_sequence = 7;
	ck_ok(edit_delete_file(&e, 1, 3));
	add_file(&e, 2, 8, 128, "a", "b");
	ck_ok(edit_encode(&e, &data, &size));
	ck_assert_uint_eq(size, sizeof(want)); /* the literal's own NUL is the last zero of the key */
	ck_assert_mem_eq(data, want, size);
	free(data);
	edit_fini(&e);
}
END_TEST

/* A record cut anywhere decodes to a part of the edit or to a worded refusal: bytes from disk are never trusted to be whole. */
START_TEST(every_prefix_is_answered)
{
	struct edit e, d;
	unsigned char *data;
	size_t size, refused = 0;

	full_edit(&e);
	ck_ok(edit_encode(&e, &data, &size));
	for (size_t n = 0; n < size; n++) {
		unsigned char *exact = malloc(n ? n : 1); /* so that a sanitizer sees one byte too many */
		struct err_info err = {0};
		int rc;

		memcpy(exact, data, n);
		rc = edit_decode(slice_of(exact, n), &d, &err);
		ck_assert(rc == 0 || rc == -SHALE_ECORRUPT);
		if (rc == 0) {
			ck_assert_uint_le(d.added_count, e.added_count);
			edit_fini(&d);
		} else {
			ck_assert(strstr(err.text, "byte"));
			refused++;
		}
		free(exact);
	}
	ck_assert_uint_gt(refused, size / 2);
	free(data);
	edit_fini(&e);
}
END_TEST

/* Random damage never crashes the decoder, and what it accepts keeps its promises. */
START_TEST(random_bytes_are_answered)
{
	uint64_t seed = test_seed();
	struct edit e, d;
	unsigned char *data, *copy;
	size_t size;

	full_edit(&e);
	ck_ok(edit_encode(&e, &data, &size));
	copy = malloc(size);
	for (int round = 0; round < 20000; round++) {
		memcpy(copy, data, size);
		for (unsigned flips = 1 + test_random(&seed) % 4; flips > 0; flips--)
			copy[test_random(&seed) % size] = (unsigned char)test_random(&seed);
		if (edit_decode(slice_of(copy, size), &d, NULL) < 0)
			continue;
		for (size_t i = 0; i < d.added_count; i++) {
			ck_assert_uint_lt(d.added[i].level, LEVELS);
			ck_assert_uint_ge(d.added[i].meta->smallest.size, IKEY_TRAILER);
			ck_assert_int_le(ikey_compare(key_buf_slice(&d.added[i].meta->smallest),
						      key_buf_slice(&d.added[i].meta->largest)),
					 0);
		}
		ck_assert_uint_le(d.last_sequence, SEQUENCE_MAX);
		edit_fini(&d);
	}
	free(copy);
	free(data);
	edit_fini(&e);
}
END_TEST

static void refuse(const char *bytes, size_t size, const char *words)
{
	struct err_info err = {0};
	struct edit d;

	ck_assert_int_eq(edit_decode(slice_of(bytes, size), &d, &err), -SHALE_ECORRUPT);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
}

/* Each kind of nonsense has its own words, so that whoever reads them knows which field is bad. */
START_TEST(nonsense_is_named)
{
#define REFUSE(bytes, words) refuse(bytes, sizeof(bytes) - 1, words)
	REFUSE("\x08", "tag is none");
	REFUSE("\x0a\x01", "tag is none");
	REFUSE("\xff\xff\xff\xff\xff\xff", "tag is cut short");
	REFUSE("\x02", "log number");
	REFUSE("\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "next file number"); /* 2^64 - 1 */
	REFUSE("\x04\xff\xff\xff\xff\xff\xff\xff\xff\x01", "last sequence");	    /* past 2^56 - 1 */
	REFUSE("\x01\x7f"
	       "abc",
	       "comparator");
	REFUSE("\x05\x07\x08"
	       "AAAAAAAA",
	       "level");
	REFUSE("\x05\x01\x07"
	       "AAAAAAA",
	       "compact pointer");
	REFUSE("\x06\x01", "deleted file");
	REFUSE("\x07\x01\x05\x06\x07"
	       "AAAAAAA\x08"
	       "AAAAAAAA",
	       "smallest key");
	REFUSE("\x07\x01\x05\x06\x08"
	       "AAAAAAAA\x01"
	       "A",
	       "largest key");
	REFUSE("\x07\x01\x05\x06\x09"
	       "bAAAAAAAA\x09"
	       "aAAAAAAAA",
	       "after its largest");
#undef REFUSE
}
END_TEST

/* A foreign comparator of any length is shown, cut to fit, and can never be taken for ours. */
START_TEST(long_comparator_is_kept_foreign)
{
	unsigned char record[2 + 2 + 200] = {1, 0x80 | (200 & 0x7f), 200 >> 7};
	struct edit d;

	memset(record + 3, 'x', 200);
	memcpy(record + 3, COMPARATOR_NAME "\0", sizeof(COMPARATOR_NAME));
	ck_ok(edit_decode(slice_of(record, 3 + 200), &d, NULL));
	ck_assert(d.has_comparator);
	ck_assert_uint_eq(strlen(d.comparator), sizeof(d.comparator) - 1);
	ck_assert_str_ne(d.comparator, COMPARATOR_NAME);
	edit_fini(&d);
}
END_TEST

/* allowed_seeks follows LevelDB: one per 16 KiB, at least 100. */
START_TEST(seeks_allowed_by_size)
{
	struct {
		uint64_t size;
		int32_t seeks;
	} const cases[] = {{0, 100}, {1638400, 100}, {1654784, 101}, {UINT64_C(1) << 60, INT32_MAX}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned char k[32];
		struct file_meta *m = file_meta_new(1, cases[i].size, ikey(k, "a", 1), ikey(k, "a", 1));

		ck_assert_int_eq(m->allowed_seeks, cases[i].seeks);
		file_meta_free(m);
	}
}
END_TEST

TEST_MAIN("edit", 20, edit_round_trip, edit_bytes_are_leveldbs, every_prefix_is_answered, random_bytes_are_answered,
	  nonsense_is_named, long_comparator_is_kept_foreign, seeks_allowed_by_size)
