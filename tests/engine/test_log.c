#include "engine/log_format.h"
#include "tests/test.h"

#include <leveldb/c.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/crc32c.h"
#include "engine/filename.h"
#include "shm/batch.h"
#include "shm/error.h"

static struct {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
} bed;

static void bed_make(void)
{
	struct err_info err;

	bed.dir = test_tmpdir();
	ck_ok(io_env_open(bed.dir, IO_BACKEND_AUTO, false, &bed.env, &err));
	ck_ok(io_queue_new(bed.env, 8, &bed.q));
}

static void bed_drop(void)
{
	io_queue_free(bed.q);
	io_env_close(bed.env);
	test_rmtree(bed.dir);
	free(bed.dir);
}

/* Replaces the file by @size bytes and opens a reader on it. */
static struct log_reader *reader_on(const unsigned char *data, size_t size, struct io_file **file)
{
	struct log_reader *r;

	ck_ok(io_open(bed.env, "000001.log", IO_OPEN_WRITE | IO_OPEN_CREATE, file));
	if (size)
		ck_ok(io_pwrite(bed.q, *file, data, size, 0));
	ck_ok(log_reader_new(bed.q, *file, &r));
	return r;
}

/* A log in memory, and where its records lie. */
enum { LOG_MAX = 4 << 20, RECORDS_MAX = 64 };

static struct log_image {
	unsigned char *bytes;
	uint64_t size;
	unsigned count;
	uint64_t start[RECORDS_MAX], end[RECORDS_MAX];
	struct slice record[RECORDS_MAX];
} image;

static void image_begin(void)
{
	free(image.bytes);
	memset(&image, 0, sizeof(image));
	image.bytes = malloc(LOG_MAX);
}

static void image_add(struct slice record)
{
	struct log_dest dest = {image.bytes, UINT64_MAX >> 1, 0};
	size_t framed = log_framed_size(image.size, record.size);
	uint64_t left = LOG_BLOCK - image.size % LOG_BLOCK;

	image.start[image.count] = image.size + (left < LOG_HEADER ? left : 0);
	image.record[image.count] = record;
	image.end[image.count] = log_frame(&dest, image.size, record);
	ck_assert_uint_eq(image.end[image.count], image.size + framed);
	image.size = image.end[image.count++];
}

/* Letters that differ from record to record. */
static struct slice text(size_t size)
{
	static unsigned char bytes[1 << 20];
	static bool made;

	for (size_t i = 0; !made && i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)('a' + i * 2654435761u % 26);
	made = true;
	return slice_of(bytes + image.count, size);
}

/* The first @count records come back, each with its offsets. */
static void expect_records(struct log_reader *r, unsigned from, unsigned to)
{
	struct slice record;

	for (unsigned i = from; i < to; i++) {
		ck_assert_msg(log_reader_next(r, &record) == 0, "record %u: %s", i, log_reader_reason(r));
		ck_assert(slice_equal(record, image.record[i]));
		ck_assert_uint_eq(log_reader_record_offset(r), image.start[i]);
		ck_assert_uint_eq(log_reader_end_offset(r), image.end[i]);
	}
}

static void check_image(void)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	r = reader_on(image.bytes, image.size, &file);
	expect_records(r, 0, image.count);
	ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
	ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
	ck_assert_str_eq(log_reader_reason(r), "");
	log_reader_free(r);
	io_close(file);
}

/* A record that ends 0 to 8 bytes before, at, or after the block's end: zero fill, the empty FIRST at exactly 7 left. */
START_TEST(around_the_block_end)
{
	bed_make();
	for (size_t left = 0; left < 20; left++) {
		image_begin();
		image_add(text(LOG_BLOCK - LOG_HEADER - left));
		image_add(text(100));
		image_add(text(0));
		check_image();
		if (left == LOG_HEADER)
			ck_assert_uint_eq(image.bytes[LOG_BLOCK - 1], LOG_FIRST);
		for (size_t i = 0; left < LOG_HEADER && i < left; i++)
			ck_assert_uint_eq(image.bytes[LOG_BLOCK - 1 - i], 0);
	}
	bed_drop();
}
END_TEST

/* Records over many blocks, and the size that is announced for each: the WAL reserves by it. */
START_TEST(sizes_and_splits)
{
	static const size_t sizes[] = {0,      1, 32760,   32761,     32762, 65522,  65523,
				       100000, 7, 1000000, 3 * 32761, 0,     327610, 6};

	bed_make();
	image_begin();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		image_add(text(sizes[i]));
	check_image();
	bed_drop();
}
END_TEST

/* Framing into a ring that wraps gives the same bytes as into flat memory, and the in-place path the same as the copying one. */
START_TEST(ring_equals_flat)
{
	enum { RING = 1 << 16 };
	static unsigned char ring[RING], flat[2 * RING];
	uint64_t seed = test_seed(), in_place = 0, copied = 0, differ = 0;

	for (unsigned turn = 0; turn < 2000; turn++) {
		uint64_t offset = test_random(&seed) % (4 * LOG_BLOCK), end;
		size_t size = turn % 2 ? test_random(&seed) % 200 : test_random(&seed) % 40000;
		struct log_dest to_ring = {ring, RING - 1, test_random(&seed) % RING};
		struct log_dest to_flat = {flat, UINT64_MAX >> 1, 0 - offset};
		struct slice record = slice_of(text(1 << 20).data + test_random(&seed) % 1000, size);
		unsigned char *place = log_frame_reserve(&to_ring, offset, size);

		end = log_frame(&to_flat, offset, record);
		ck_assert_uint_eq(end, offset + log_framed_size(offset, size));
		if (place) {
			memcpy(place, record.data, size);
			ck_assert_uint_eq(log_frame_finish(&to_ring, offset, size), end);
			in_place++;
		} else {
			ck_assert_uint_eq(log_frame(&to_ring, offset, record), end);
			copied++;
		}
		for (uint64_t o = offset; o < end; o++)
			differ += ring[(o + to_ring.shift) % RING] != flat[o - offset];
		ck_assert_uint_eq(differ, 0);
	}
	ck_assert(in_place > 100 && copied > 100);
}
END_TEST

/* A log for damage: small, whole blocks, split records, an empty one, a last one of some size. */
static void image_for_damage(void)
{
	image_begin();
	image_add(text(10));
	image_add(text(300));
	image_add(text(LOG_BLOCK));
	image_add(text(0));
	image_add(text(LOG_BLOCK - 500));
	image_add(text(90));
	image_add(text(3));
	image_add(text(40));
	ck_assert(image.start[image.count - 1] < 2 * LOG_BLOCK && image.end[image.count - 1] > 2 * LOG_BLOCK);
}

/* Cut anywhere, a log yields the records that are whole, and ends: a crash tears the tail, and that is no fault. */
START_TEST(every_truncation)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;
	unsigned whole;

	bed_make();
	image_for_damage();
	r = reader_on(image.bytes, image.size, &file);
	log_reader_free(r);
	whole = image.count;
	for (uint64_t cut = image.size; cut-- > 0;) {
		/* Every length in the first and last KiB and around block ends; a sample elsewhere. */
		if (cut > 1024 && cut + 1024 < image.size && cut % LOG_BLOCK > 16 && cut % 97)
			continue;
		ck_ok(io_truncate(file, cut));
		while (whole && image.end[whole - 1] > cut)
			whole--;
		ck_ok(log_reader_new(bed.q, file, &r));
		expect_records(r, 0, whole);
		ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
		ck_assert_uint_eq(log_reader_end_offset(r), whole ? image.end[whole - 1] : 0);
		log_reader_free(r);
	}
	io_close(file);
	bed_drop();
}
END_TEST

/* Where @offset is flipped: which record is hit, RECORDS_MAX when it is padding. */
static unsigned record_at(uint64_t offset)
{
	for (unsigned i = 0; i < image.count; i++)
		if (offset >= image.start[i] && offset < image.end[i])
			return i;
	return RECORDS_MAX;
}

/* A flipped byte never changes a record unseen: all before it come back, then corruption, or the end if nothing follows. */
START_TEST(every_flip)
{
	struct log_reader *r;
	struct io_file *file;

	bed_make();
	image_for_damage();
	r = reader_on(image.bytes, image.size, &file);
	log_reader_free(r);
	for (uint64_t at = 0; at < image.size; at++) {
		unsigned hit = record_at(at), last = image.count - 1;
		unsigned char byte = image.bytes[at] ^ (unsigned char)(1 << at % 8);
		struct slice record;
		int rc;

		/* Every byte of headers and short records; a sample of the long ones. */
		if (hit < image.count && image.record[hit].size > 1000 && at % LOG_BLOCK > 16 &&
		    at - image.start[hit] > 16 && at % 101)
			continue;
		ck_ok(io_pwrite(bed.q, file, &byte, 1, at));
		ck_ok(log_reader_new(bed.q, file, &r));
		expect_records(r, 0, hit == RECORDS_MAX ? image.count : hit);
		rc = log_reader_next(r, &record);
		/* The last record is split: a flip in its first half leaves the second half as a witness. */
		if (hit == RECORDS_MAX || (hit == last && at >= 2 * LOG_BLOCK)) {
			ck_assert_msg(rc == LOG_END, "flip at %u of record %u: %s", (unsigned)at, hit,
				      log_reader_reason(r));
		} else {
			ck_assert_int_eq(rc, -SHALE_ECORRUPT);
			ck_assert_ptr_nonnull(strstr(log_reader_reason(r), "offset"));
			ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
		}
		log_reader_free(r);
		ck_ok(io_pwrite(bed.q, file, &image.bytes[at], 1, at));
	}
	io_close(file);
	bed_drop();
}
END_TEST

/* After corruption, skip goes on in the next block, at the start of a record; continuations without a start are dropped. */
START_TEST(skip_goes_on)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	bed_make();
	image_begin();
	image_add(text(10));
	image_add(text(20));
	image_add(text(2 * LOG_BLOCK)); /* blocks 0, 1, 2 */
	image_add(text(30));		/* block 2 */
	image_add(text(40));
	image.bytes[image.start[1] + LOG_HEADER] ^= 1;
	r = reader_on(image.bytes, image.size, &file);
	expect_records(r, 0, 1);
	ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
	ck_ok(log_reader_skip(r));
	expect_records(r, 3, 5);
	ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
	log_reader_free(r);
	io_close(file);
	bed_drop();
}
END_TEST

/* Zeros behind the last record, or behind the first half of one, are reserved space: the end, with the cut at the last whole record. */
START_TEST(zeros_end_the_log)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	bed_make();
	for (int torn = 0; torn < 2; torn++) {
		uint64_t cut;

		image_begin();
		image_add(text(100));
		image_add(text(LOG_BLOCK));
		cut = torn ? LOG_BLOCK : image.size;
		memset(image.bytes + cut, 0, 20 * LOG_BLOCK);
		r = reader_on(image.bytes, cut + 20 * LOG_BLOCK, &file);
		expect_records(r, 0, torn ? 1 : 2);
		ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
		ck_assert_uint_eq(log_reader_end_offset(r), image.end[torn ? 0 : 1]);
		log_reader_free(r);
		io_close(file);
	}
	bed_drop();
}
END_TEST

/* Zeros in the middle, with records behind them, are records that were lost. */
START_TEST(zeros_in_the_middle_are_corruption)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	bed_make();
	image_begin();
	for (int i = 0; i < 60; i++)
		image_add(text(LOG_BLOCK - 1000));
	memset(image.bytes + 2 * LOG_BLOCK, 0, 20 * LOG_BLOCK);
	r = reader_on(image.bytes, image.size, &file);
	for (unsigned i = 0; i < 2; i++)
		expect_records(r, i, i + 1);
	ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
	log_reader_free(r);
	io_close(file);
	bed_drop();
}
END_TEST

/* Writes one fragment by hand. */
static void image_fragment(unsigned type, const char *payload)
{
	size_t n = strlen(payload);
	unsigned char *p = image.bytes + image.size;

	p[4] = (unsigned char)n;
	p[5] = 0;
	p[6] = (unsigned char)type;
	memcpy(p + LOG_HEADER, payload, n);
	store_le32(p, crc32c_mask(crc32c(p + 6, n + 1)));
	image.size += LOG_HEADER + n;
}

/* Fragments whose checks hold but which have no place are told, and dropped one by one by skip. */
START_TEST(misplaced_fragments)
{
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	bed_make();
	image_begin();
	image_fragment(LOG_LAST, "orphan");
	image_fragment(LOG_FIRST, "begun");
	image_fragment(LOG_FULL, "whole");
	image_fragment(9, "odd");
	image_fragment(LOG_FIRST, "");
	image_fragment(LOG_FULL, "after an empty first");
	r = reader_on(image.bytes, image.size, &file);
	ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(log_reader_reason(r), "without its beginning"));
	log_reader_skip(r);
	ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
	log_reader_skip(r);
	ck_ok(log_reader_next(r, &record));
	ck_assert(slice_equal(record, slice_str("whole")));
	ck_assert_int_eq(log_reader_next(r, &record), -SHALE_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(log_reader_reason(r), "unknown type"));
	log_reader_skip(r);
	ck_ok(log_reader_next(r, &record));
	ck_assert(slice_equal(record, slice_str("after an empty first")));
	ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
	log_reader_free(r);
	io_close(file);
	bed_drop();
}
END_TEST

/* Garbage, whole blocks of it, neither crashes nor yields a record. */
START_TEST(garbage_yields_nothing)
{
	uint64_t seed = test_seed();
	struct log_reader *r;
	struct io_file *file;
	struct slice record;

	bed_make();
	image_begin();
	for (unsigned turn = 0; turn < 20; turn++) {
		size_t size = test_random(&seed) % (3 * LOG_BLOCK);

		for (size_t i = 0; i < size; i++)
			image.bytes[i] = (unsigned char)(test_random(&seed) % (turn % 2 ? 256 : 5));
		r = reader_on(image.bytes, size, &file);
		ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
		log_reader_free(r);
		io_close(file);
	}
	bed_drop();
}
END_TEST

static void find_log(void *context, const char *name)
{
	enum file_type type;
	uint64_t number;

	if (file_parse(name, &type, &number) && type == FILE_LOG)
		snprintf(context, FILE_NAME_MAX, "%s", name);
}

/* The log that stock LevelDB leaves reads with ours: every batch, in order, also one over several blocks. */
START_TEST(reads_stock_log)
{
	char path[256], log[FILE_NAME_MAX] = "", *error = NULL;
	leveldb_options_t *options = leveldb_options_create();
	leveldb_writeoptions_t *wo = leveldb_writeoptions_create();
	uint64_t sequence = 1;
	struct log_reader *r;
	struct io_file *file;
	struct slice record;
	leveldb_t *db;

	bed_make();
	snprintf(path, sizeof(path), "%s", bed.dir);
	leveldb_options_set_create_if_missing(options, 1);
	db = leveldb_open(options, path, &error);
	ck_assert_msg(!error, "%s", error);
	for (unsigned i = 0; i < 200; i++) {
		leveldb_writebatch_t *batch = leveldb_writebatch_create();

		for (unsigned j = 0; j <= i % 3; j++)
			leveldb_writebatch_put(batch, (char *)&i, sizeof(i), (const char *)text(0).data, i * 500);
		leveldb_writebatch_delete(batch, "gone", 4);
		leveldb_write(db, wo, batch, &error);
		ck_assert_msg(!error, "%s", error);
		leveldb_writebatch_destroy(batch);
		if (i == 90)
			break; /* stay inside one log */
	}
	leveldb_close(db);
	leveldb_options_destroy(options);
	leveldb_writeoptions_destroy(wo);

	ck_ok(io_list(bed.env, find_log, log));
	ck_ok(io_open(bed.env, log, IO_OPEN_READ, &file));
	ck_ok(log_reader_new(bed.q, file, &r));
	for (unsigned i = 0; i <= 90; i++) {
		struct batch_reader reader;
		struct batch_record put;

		ck_ok(log_reader_next(r, &record));
		ck_ok(batch_check(record, NULL, NULL));
		ck_assert_uint_eq(batch_sequence(record.data), sequence);
		ck_assert_uint_eq(batch_count(record.data), i % 3 + 2);
		batch_reader_init(&reader, record);
		ck_assert(batch_reader_next(&reader, &put));
		ck_assert_uint_eq(put.value.size, i * 500);
		sequence += i % 3 + 2;
	}
	ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
	log_reader_free(r);
	io_close(file);
	bed_drop();
}
END_TEST

TEST_MAIN("log", 30, around_the_block_end, sizes_and_splits, ring_equals_flat, every_truncation, every_flip,
	  skip_goes_on, zeros_end_the_log, zeros_in_the_middle_are_corruption, misplaced_fragments,
	  garbage_yields_nothing, reads_stock_log)
