#include "tests/engine/tables.h"

#include <stdio.h>
#include <unistd.h>

#include "engine/crc32c.h"
#include "engine/filename.h"

static const struct table_options defaults = {
	.block_bytes = 4096, .restart_interval = 16, .bloom_bits_per_key = 10, .compression = COMPRESS_SNAPPY};

/* An open table with a source to read it through. */
struct opened {
	struct table *table;
	struct direct_source *source;
	struct iter *iter;
};

static int try_open(struct place *p, uint64_t number, uint64_t size, struct opened *o, struct err_info *err)
{
	int rc;

	*o = (struct opened){0};
	ck_ok(direct_source_new(p->env, p->q, NULL, 64 << 10, &o->source));
	rc = table_open(p->env, p->q, number, size, &o->table, err);
	if (rc == 0)
		ck_ok(table_iter_new(o->table, direct_source_base(o->source), &o->iter));
	return rc;
}

static void opened_close(struct opened *o)
{
	iter_free(o->iter);
	table_unref(o->table);
	direct_source_free(o->source);
}

static void must_open(struct place *p, uint64_t number, uint64_t size, struct opened *o)
{
	struct err_info err = {0};
	int rc = try_open(p, number, size, o, &err);

	ck_assert_msg(rc == 0, "%d: %s", rc, err.text);
}

/* The first of @l at or after @ikey: what a seek must find. */
static size_t model_seek(const struct entry_list *l, struct slice ikey)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (ikey_compare(l->at[middle].key, ikey) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void check_seeks(struct opened *o, const struct entry_list *l, uint64_t *seed, unsigned times)
{
	unsigned char buf[512];

	for (unsigned n = 0; n < times; n++) {
		struct slice user = ikey_user(l->at[test_random(seed) % l->count].key), ikey;
		size_t i;

		if (test_random(seed) % 4 == 0)
			user.size = test_random(seed) % (user.size + 1);
		ikey = ikey_make(buf, user, test_random(seed) % (l->count + 2), IKEY_SEEK);
		i = model_seek(l, ikey);
		iter_seek(o->iter, ikey);
		ck_assert_int_eq(o->iter->status, 0);
		ck_assert_int_eq(o->iter->valid, i < l->count);
		/* From there a few steps each way, as a scan that turns round makes them. */
		for (unsigned steps = 0; steps < 6 && i < l->count; steps++) {
			ck_assert(slice_equal(o->iter->key, l->at[i].key));
			if (test_random(seed) % 2) {
				iter_next(o->iter);
				i++;
			} else {
				iter_prev(o->iter);
				i = i ? i - 1 : l->count;
			}
			ck_assert_int_eq(o->iter->valid, i < l->count);
		}
	}
}

static void check_gets(struct opened *o, const struct entry_list *l)
{
	struct block_source *src = direct_source_base(o->source);

	for (size_t i = 0; i < l->count; i++) {
		struct block *pin = NULL;
		struct slice value;
		uint64_t trailer;
		bool read;

		ck_ok(table_get(o->table, src, l->at[i].key, &pin, &trailer, &value, &read));
		ck_assert(read);
		ck_assert_uint_eq(trailer, ikey_trailer(l->at[i].key));
		ck_assert(slice_equal(value, l->at[i].value));
		block_unref(pin);
	}
}

/* Whatever the options, what went in comes out: forward, backward, by seek and by probe. */
START_TEST(round_trip)
{
	static const enum compression types[] = {COMPRESS_NONE, COMPRESS_SNAPPY, COMPRESS_ZSTD};
	static const size_t counts[] = {0, 1, 2, 17, 700, 1500}, blocks[] = {64, 1024, 4096};
	static const unsigned restarts[] = {1, 3, 16}, blooms[] = {0, 10};
	uint64_t seed = test_seed();
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	for (unsigned n = 0; n < 24; n++) {
		struct table_options options = {.block_bytes = blocks[test_random(&seed) % 3],
						.restart_interval = restarts[test_random(&seed) % 3],
						.bloom_bits_per_key = blooms[n % 2],
						.compression = types[n % 3]};
		struct entry_list l = {0};
		struct opened o;

		entries_random(&l, &seed, counts[n % ARRAY_SIZE(counts)], 300);
		must_open(&p, n + 1, table_make(&p, n + 1, &options, &l), &o);
		same_entries(o.iter, &l);
		if (l.count) {
			check_seeks(&o, &l, &seed, 300);
			check_gets(&o, &l);
		}
		opened_close(&o);
		entries_free(&l);
	}
	place_drop(&p);
}
END_TEST

/* A probe answers with the newest entry at or below the sequence, says "absent" for what is not there, and the filter spares the block. */
START_TEST(get_semantics)
{
	struct entry_list l = {0};
	unsigned char buf[64];
	unsigned spared = 0;
	struct block *pin;
	struct slice value;
	uint64_t trailer;
	struct place p;
	struct opened o;
	bool read;

	place_make(&p, IO_BACKEND_AUTO);
	entries_add_user(&l, "b", 9, IKEY_DELETION, slice_str(""));
	entries_add_user(&l, "b", 5, IKEY_VALUE, slice_str("five"));
	entries_add_user(&l, "d", 7, IKEY_VALUE, slice_str("seven"));
	must_open(&p, 1, table_make(&p, 1, &defaults, &l), &o);
#define GET(key, sequence)                                                                                             \
	table_get(o.table, direct_source_base(o.source), ikey_make(buf, slice_str(key), sequence, IKEY_SEEK), &pin,    \
		  &trailer, &value, &read)
	ck_assert_int_eq(GET("b", 20), 0);
	ck_assert_uint_eq(trailer, ikey_pack(9, IKEY_DELETION));
	block_unref(pin);
	ck_assert_int_eq(GET("b", 8), 0);
	ck_assert_uint_eq(trailer, ikey_pack(5, IKEY_VALUE));
	ck_assert(slice_equal(value, slice_str("five")));
	block_unref(pin);
	ck_assert_int_eq(GET("b", 4), TABLE_ABSENT);
	ck_assert(read);
	ck_assert_int_eq(GET("zzz", 20), TABLE_ABSENT);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];

		snprintf(key, sizeof(key), "c%u", i);
		ck_assert_int_eq(GET(key, 20), TABLE_ABSENT);
		spared += !read;
	}
	ck_assert_uint_gt(spared, 80);
#undef GET
	opened_close(&o);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Builds the table again from its own entries; the bytes must be stock's. */
static void rebuild_and_compare(struct place *p, struct table_file f, const struct stock_options *so,
				struct entry_list *all)
{
	struct table_options options = {.block_bytes = so->block_bytes ? so->block_bytes : 4096,
					.restart_interval = so->restart_interval ? (unsigned)so->restart_interval : 16,
					.bloom_bits_per_key = (unsigned)so->bloom_bits,
					.compression = so->snappy ? COMPRESS_SNAPPY : COMPRESS_NONE};
	struct entry_list l = {0};
	unsigned char *theirs, *ours;
	size_t their_size, our_size;
	struct opened o;

	must_open(p, f.number, f.size, &o);
	for (iter_seek_first(o.iter); o.iter->valid; iter_next(o.iter)) {
		entries_add(&l, o.iter->key, o.iter->value);
		entries_add(all, o.iter->key, o.iter->value);
	}
	ck_assert_int_eq(o.iter->status, 0);
	ck_assert_uint_gt(l.count, 0);
	same_entries(o.iter, &l);
	check_gets(&o, &l);
	opened_close(&o);

	theirs = file_bytes(p, f.number, &their_size);
	ck_assert_uint_eq(table_make(p, f.number + 1000000, &options, &l), their_size);
	ours = file_bytes(p, f.number + 1000000, &our_size);
	ck_assert_uint_eq(our_size, their_size);
	ck_assert_msg(memcmp(ours, theirs, our_size) == 0, "table %llu differs from stock's",
		      (unsigned long long)f.number);
	free(ours);
	free(theirs);
	entries_free(&l);
}

static void stock_database(const struct stock_options *so, uint64_t *seed)
{
	struct entry_list written = {0}, stored = {0};
	struct table_file files[64];
	struct place p = {.dir = test_tmpdir()};
	size_t n;

	entries_random(&written, seed, 4000, 250);
	stock_make(p.dir, so, &written, 1 + test_random(seed) % 100);
	place_open(&p, IO_BACKEND_AUTO);
	n = place_tables(&p, files, ARRAY_SIZE(files));
	ck_assert_uint_gt(n, 0);
	for (size_t i = 0; i < n; i++)
		rebuild_and_compare(&p, files[i], so, &stored);
	/* Nothing got lost: stock gave sequence i + 1 to the i-th write, and keeps the newest of each key (a tombstone may go once nothing is below). */
	entries_sort(&stored);
	for (size_t i = 0; i < written.count; i++) {
		struct slice user = ikey_user(written.at[i].key);
		unsigned char buf[512];
		size_t at;

		if (i + 1 < written.count && slice_equal(user, ikey_user(written.at[i + 1].key)))
			continue;
		at = model_seek(&stored, ikey_make(buf, user, i + 1, IKEY_SEEK));
		if (at < stored.count && slice_equal(ikey_user(stored.at[at].key), user)) {
			ck_assert_uint_eq(ikey_sequence(stored.at[at].key), i + 1);
			ck_assert(slice_equal(stored.at[at].value, written.at[i].value));
		} else {
			ck_assert_uint_eq(ikey_kind(written.at[i].key), IKEY_DELETION);
		}
	}
	entries_free(&written);
	entries_free(&stored);
	place_drop(&p);
}

/* Stock's tables are read as they were meant, and from the same entries we write the same bytes: data, filter, index, footer. */
START_TEST(stock_tables_and_bytes)
{
	static const struct stock_options options[] = {
		{.snappy = false},
		{.snappy = true},
		{.snappy = true, .bloom_bits = 10, .write_buffer = 128 << 10},
		{.snappy = false, .bloom_bits = 3, .block_bytes = 1100, .restart_interval = 5},
		{.snappy = true, .bloom_bits = 50, .block_bytes = 20000, .restart_interval = 1},
	};
	uint64_t seed = test_seed();

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		stock_database(&options[i], &seed);
}
END_TEST

/* A table tells how many of its entries are dead, and until which sequence a snapshot needs them; unless it was told not to, or none is. */
START_TEST(dead_entries_are_counted)
{
	struct table_options options = {.block_bytes = 200, .restart_interval = 16, .bloom_bits_per_key = 10};
	struct table_counts counts = {.entries = 1};
	struct entry_list l = {0};
	struct place p;
	uint64_t size;
	char key[8];

	place_make(&p, IO_BACKEND_POSIX);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "%03u", i);
		entries_add_user(&l, key, 2000 + i, IKEY_VALUE, slice_str("v"));
	}
	options.with_counts = true;
	size = table_make(&p, 1, &options, &l);
	ck_ok(table_read_counts(p.env, p.q, 1, size, &counts, NULL));
	ck_assert_uint_eq(counts.entries, 0); /* nothing is dead: nothing is told */
	entries_add_user(&l, "b", 900, IKEY_VALUE, slice_str("hides"));
	entries_add_user(&l, "b", 800, IKEY_VALUE, slice_str("dead"));
	entries_add_user(&l, "b", 700, IKEY_DELETION, slice_str("")); /* dead once, not twice */
	entries_add_user(&l, "c", 850, IKEY_DELETION, slice_str(""));
	size = table_make(&p, 2, &options, &l);
	ck_ok(table_read_counts(p.env, p.q, 2, size, &counts, NULL));
	ck_assert_uint_eq(counts.entries, 104);
	ck_assert_uint_eq(counts.dead, 3);
	ck_assert_uint_eq(counts.dead_sequence, 900);
	ck_assert_uint_eq(table_dead_percent(&counts), 2);
	options.with_counts = false;
	size = table_make(&p, 3, &options, &l);
	ck_ok(table_read_counts(p.env, p.q, 3, size, &counts, NULL));
	ck_assert_uint_eq(counts.entries, 0);
	ck_assert_int_eq(table_read_counts(p.env, p.q, 9, size, &counts, NULL), -SHALE_EMISSING);
	ck_assert_int_eq(table_read_counts(p.env, p.q, 3, size + 1, &counts, NULL), -SHALE_ECORRUPT);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Reads everything that a damaged table gives; false when it was refused somewhere, which must be as corruption and with words. */
static bool reads_same(struct place *p, uint64_t number, uint64_t size, const struct entry_list *l)
{
	struct err_info err = {0};
	struct opened o;
	int rc = try_open(p, number, size, &o, &err);
	size_t i = 0;

	if (rc == 0) {
		for (iter_seek_first(o.iter); o.iter->valid; iter_next(o.iter), i++) {
			ck_assert_uint_lt(i, l->count);
			ck_assert(slice_equal(o.iter->key, l->at[i].key));
			ck_assert(slice_equal(o.iter->value, l->at[i].value));
		}
		rc = o.iter->status;
		if (rc == 0) {
			ck_assert_uint_eq(i, l->count);
			check_gets(&o, l);
		} else {
			err = *direct_source_error(o.source);
		}
	}
	opened_close(&o);
	if (rc == 0)
		return true;
	ck_assert_msg(rc == -SHALE_ECORRUPT, "%d: %s", rc, err.text);
	ck_assert_int_eq(err.code, rc);
	ck_assert_msg(strstr(err.text, ".ldb"), "no file named: %s", err.text);
	return false;
}

static void flip_every_byte(enum compression compression)
{
	struct table_options options = defaults;
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	unsigned char *bytes;
	unsigned harmless = 0;
	struct place p;
	size_t size;

	place_make(&p, IO_BACKEND_POSIX);
	options.block_bytes = 256;
	options.compression = compression;
	entries_random(&l, &seed, 30, 60);
	table_make(&p, 1, &options, &l);
	bytes = file_bytes(&p, 1, &size);
	for (size_t i = 0; i < size; i++) {
		unsigned char was = bytes[i];

		bytes[i] ^= i % 2 ? (unsigned char)(1u << test_random(&seed) % 8) : 0xff;
		file_write(&p, 1, bytes, size);
		harmless += reads_same(&p, 1, size, &l);
		bytes[i] = was;
	}
	ck_assert_uint_lt(harmless, 40); /* two handles of at least two bytes are not padding */
	/* And cut anywhere, or with a size that is not the file's. */
	for (size_t cut = 0; cut < size; cut += 1 + size / 60) {
		file_write(&p, 1, bytes, cut);
		ck_assert(!reads_same(&p, 1, size, &l));
		ck_assert(!reads_same(&p, 1, cut, &l));
	}
	free(bytes);
	entries_free(&l);
	place_drop(&p);
}

/* A changed byte anywhere is noticed, or it is one that says nothing (padding of the footer). */
START_TEST(every_flipped_byte)
{
	flip_every_byte(COMPRESS_NONE);
	flip_every_byte(COMPRESS_SNAPPY);
	flip_every_byte(COMPRESS_ZSTD);
}
END_TEST

/* Where each block of a table (no filter) of ours lies: data, metaindex, index. Returns how many. */
static unsigned all_blocks(struct opened *o, const unsigned char *bytes, size_t size, struct block_handle *out,
			   unsigned max)
{
	const unsigned char *end = bytes + size, *p = end - TABLE_FOOTER;
	unsigned n = table_following_blocks(o->table, (struct block_handle){0}, out, max - 2);

	for (unsigned i = 0; i < 2; i++, n++) {
		p = varint64_get(p, end, &out[n].offset);
		p = varint64_get(p, end, &out[n].size);
	}
	return n;
}

/* Whole blocks of noise that carry right checksums (a bug, or malice): any answer but a crash or a hang. */
START_TEST(forged_blocks)
{
	struct table_options options = {.block_bytes = 128, .restart_interval = 4, .compression = COMPRESS_NONE};
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	struct block_handle blocks[64];
	unsigned char *bytes;
	unsigned opened = 0, block_count;
	struct place p;
	struct opened whole;
	size_t size;

	place_make(&p, IO_BACKEND_POSIX);
	entries_random(&l, &seed, 20, 30);
	table_make(&p, 1, &options, &l);
	bytes = file_bytes(&p, 1, &size);
	must_open(&p, 1, size, &whole);
	block_count = all_blocks(&whole, bytes, size, blocks, ARRAY_SIZE(blocks));
	opened_close(&whole);
	for (unsigned n = 0; n < 600; n++) {
		unsigned char *forged = malloc(size);
		struct opened o;

		memcpy(forged, bytes, size);
		for (unsigned i = 0; i < 1 + n % 3; i++)
			forged[test_random(&seed) % (size - TABLE_FOOTER)] = (unsigned char)test_random(&seed);
		for (unsigned i = 0; i < block_count; i++) {
			unsigned char *at = forged + blocks[i].offset;

			store_le32(at + blocks[i].size + 1, crc32c_mask(crc32c(at, blocks[i].size + 1)));
		}
		file_write(&p, 1, forged, size);
		if (try_open(&p, 1, size, &o, NULL) == 0) {
			unsigned steps = 0;

			opened++;
			for (iter_seek_first(o.iter); o.iter->valid && steps < 1000; iter_next(o.iter))
				steps++;
			ck_assert_uint_lt(steps, 1000);
			for (iter_seek_last(o.iter); o.iter->valid && steps < 2000; iter_prev(o.iter))
				steps++;
			for (size_t i = 0; i < l.count; i++)
				iter_seek(o.iter, l.at[i].key);
		}
		opened_close(&o);
		free(forged);
	}
	ck_assert_uint_gt(opened, 40);
	free(bytes);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Index, metaindex and filter too large for one read at the end of the file are read piece by piece. */
START_TEST(large_index_and_filter)
{
	struct table_options options = {
		.block_bytes = 64, .restart_interval = 16, .bloom_bits_per_key = 40, .compression = COMPRESS_NONE};
	struct entry_list l = {0};
	struct opened o;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	for (unsigned i = 0; i < 25000; i++) {
		char key[32];

		snprintf(key, sizeof(key), "%08u%08u", i, i * 7);
		entries_add_user(&l, key, i + 1, IKEY_VALUE, slice_str("v"));
	}
	must_open(&p, 1, table_make(&p, 1, &options, &l), &o);
	ck_assert_uint_gt(table_memory(o.table), 140 << 10);
	same_entries(o.iter, &l);
	check_gets(&o, &l);
	opened_close(&o);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Values larger than the builder's buffers, and than a block, pass through whole. */
START_TEST(large_values)
{
	static const size_t sizes[] = {0, 1, 4096, 300 << 10, (1 << 20) + 1, 3};
	unsigned char *value = malloc(2 << 20);
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	struct opened o;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	for (size_t i = 0; i < 2 << 20; i++)
		value[i] = (unsigned char)test_random(&seed);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		char key[8];

		snprintf(key, sizeof(key), "k%u", i);
		entries_add_user(&l, key, 1, IKEY_VALUE, slice_of(value, sizes[i]));
	}
	must_open(&p, 1, table_make(&p, 1, &defaults, &l), &o);
	same_entries(o.iter, &l);
	check_gets(&o, &l);
	opened_close(&o);
	entries_free(&l);
	free(value);
	place_drop(&p);
}
END_TEST

/* The n-th write fails, for every n: the builder says so, then and for ever, and never calls the table good. */
START_TEST(failed_write_sticks)
{
	struct entry_list l = {0};
	uint64_t seed = test_seed();
	struct odd_queue odd;
	struct place p;
	unsigned writes;

	place_make(&p, IO_BACKEND_AUTO);
	entries_random(&l, &seed, 4000, 400);
	odd_queue_init(&odd, p.q);
	for (unsigned fail_at = 1;; fail_at++) {
		struct table_builder *b;
		struct io_file *f;
		int rc = 0;

		odd.ops[IO_WRITE] = 0;
		odd.fail_op = IO_WRITE;
		odd.fail_at = fail_at;
		odd.fail_with = -ENOSPC;
		ck_ok(io_open(p.env, "000001.ldb", IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
		ck_ok(table_builder_new(&odd.base, f, &defaults, &b));
		for (size_t i = 0; i < l.count && rc == 0; i++)
			rc = table_builder_add(b, l.at[i].key, l.at[i].value);
		ck_assert(rc == 0 || rc == -ENOSPC);
		rc = table_builder_finish(b);
		writes = odd.ops[IO_WRITE];
		if (rc == -ENOSPC)
			ck_assert_int_eq(table_builder_add(b, l.at[0].key, l.at[0].value), -ENOSPC);
		table_builder_free(b);
		io_close(f);
		if (rc == 0)
			break;
		ck_assert_int_eq(rc, -ENOSPC);
	}
	ck_assert_uint_gt(writes, 1);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Entries out of order, as a damaged input may deliver them, are refused: a table of them would lie to searches. */
START_TEST(disorder_refused)
{
	struct entry_list l = {0};
	struct table_builder *b;
	struct io_file *f;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	entries_add_user(&l, "b", 1, IKEY_VALUE, slice_str("1"));
	entries_add_user(&l, "a", 2, IKEY_VALUE, slice_str("2"));
	ck_ok(io_open(p.env, "000001.ldb", IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	for (unsigned second = 0; second < 2; second++) {
		ck_ok(table_builder_new(p.q, f, &defaults, &b));
		ck_ok(table_builder_add(b, l.at[0].key, l.at[0].value));
		ck_assert_int_eq(table_builder_add(b, l.at[second].key, l.at[0].value), -SHALE_ECORRUPT);
		ck_assert_int_eq(table_builder_finish(b), -SHALE_ECORRUPT);
		table_builder_free(b);
	}
	io_close(f);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* A table that is not there is told apart from a damaged one, and named; the old .sst name is found, too. */
START_TEST(missing_and_old_names)
{
	struct entry_list l = {0};
	struct err_info err = {0};
	struct opened o;
	uint64_t size;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	entries_add_user(&l, "a", 1, IKEY_VALUE, slice_str("1"));
	size = table_make(&p, 7, &defaults, &l);
	ck_assert_int_eq(try_open(&p, 8, size, &o, &err), -SHALE_EMISSING);
	ck_assert_ptr_nonnull(strstr(err.text, "000008.ldb"));
	opened_close(&o);
	ck_ok(io_rename(p.env, "000007.ldb", "000007.sst"));
	must_open(&p, 7, size, &o);
	same_entries(o.iter, &l);
	opened_close(&o);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

/* Offsets grow with keys and stay inside the file; blocks follow one another in the file without gap or overlap. */
START_TEST(offsets_and_following_blocks)
{
	struct block_handle h[512], first = {0};
	struct entry_list l = {0};
	uint64_t seed = test_seed(), last = 0, size;
	struct opened o;
	struct place p;
	unsigned n;

	place_make(&p, IO_BACKEND_AUTO);
	entries_random(&l, &seed, 3000, 200);
	size = table_make(&p, 1, &defaults, &l);
	must_open(&p, 1, size, &o);
	for (size_t i = 0; i < l.count; i++) {
		uint64_t at = table_offset_of(o.table, l.at[i].key);

		ck_assert_uint_ge(at, last);
		ck_assert_uint_lt(at, size);
		last = at;
	}
	n = table_following_blocks(o.table, first, h, ARRAY_SIZE(h));
	ck_assert_uint_gt(n, 10);
	ck_assert_uint_lt(n, ARRAY_SIZE(h));
	ck_assert_uint_eq(h[n - 1].offset, last);
	for (unsigned i = 1; i < n; i++) {
		struct block_handle again[2];

		ck_assert_uint_eq(h[i].offset, h[i - 1].offset + h[i - 1].size + BLOCK_TRAILER);
		ck_assert_uint_eq(table_following_blocks(o.table, h[i], again, 2), i + 1 < n ? 2 : 1);
		ck_assert_uint_eq(again[0].size, h[i].size);
	}
	first.offset = h[1].offset + 1;
	ck_assert_uint_eq(table_following_blocks(o.table, first, h, ARRAY_SIZE(h)), 0);
	opened_close(&o);
	entries_free(&l);
	place_drop(&p);
}
END_TEST

TEST_MAIN("table", 60, round_trip, get_semantics, stock_tables_and_bytes, dead_entries_are_counted, every_flipped_byte,
	  forged_blocks, large_index_and_filter, large_values, failed_write_sticks, disorder_refused,
	  missing_and_old_names, offsets_and_following_blocks)
