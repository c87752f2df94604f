/*
 * What the corpus begins with: inputs made by our own encoders, one of each kind. With SHALE_SEEDS=tests/fuzz/corpus they are written there, after a
 * change of a format, say; in make check each is only held against the decoder, because a seed that its decoder refuses leads a fuzzer nowhere.
 */
#include "tests/test.h"

#include <stdio.h>
#include <sys/stat.h>

#include "daemon/config.h"
#include "engine/edit.h"
#include "engine/filter.h"
#include "engine/ikey.h"
#include "engine/log_format.h"
#include "engine/table.h"
#include "shm/batch.h"
#include "shm/condition.h"
#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/layout.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"

struct bytes {
	unsigned char data[80 << 10];
	size_t size;
};

static void add(struct bytes *b, const void *data, size_t size)
{
	ck_assert_uint_le(size, sizeof(b->data) - b->size);
	if (size)
		memcpy(b->data + b->size, data, size);
	b->size += size;
}

static void add_byte(struct bytes *b, unsigned byte)
{
	b->data[b->size++] = (unsigned char)byte;
}

static void add_lp(struct bytes *b, const char *text)
{
	b->size = (size_t)(varint32_put(b->data + b->size, (uint32_t)strlen(text)) - b->data);
	add(b, text, strlen(text));
}

static void keep(const char *target, const char *name, const struct bytes *b)
{
	const char *root = getenv("SHALE_SEEDS");
	char path[512];
	FILE *f;

	if (!root)
		return;
	mkdir(root, 0755);
	snprintf(path, sizeof(path), "%s/%s", root, target);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/%s/seed-%s", root, target, name);
	f = fopen(path, "we");
	ck_assert_msg(f && fwrite(b->data, 1, b->size, f) == b->size && fclose(f) == 0, "%s cannot be written", path);
}

static void make_batch(struct bytes *b, uint64_t sequence, unsigned records)
{
	unsigned char *start = b->data + b->size, *end = batch_begin(start);

	batch_set_sequence(start, sequence);
	for (unsigned i = 0; i < records; i++) {
		char key[16];

		snprintf(key, sizeof(key), "key%03u", i * 7 % 100);
		end = i % 4 == 3 ? batch_append_delete(end, slice_str(key))
				 : batch_append_put(end, slice_str(key), slice_str("a value"));
	}
	batch_set_count(start, records);
	b->size += (size_t)(end - start);
}

/* A library of this release is let in by a daemon of this release. */
START_TEST(handshake)
{
	struct hello h = {.magic = HELLO_MAGIC, .size = sizeof(h), .abi = SHM_ABI, .fingerprint = layout_fingerprint()};
	struct welcome w = {
		.magic = WELCOME_MAGIC, .size = sizeof(w), .abi = SHM_ABI, .fingerprint = layout_fingerprint()};
	struct err_info err = {0};
	static struct bytes b;
	struct hello out;

	h.ring_entries = 64;
	h.arena_size = 1 << 20;
	add_byte(&b, 1);
	add(&b, &h, sizeof(h));
	ck_ok(hello_check(b.data + 1, b.size - 1, &out, &err));
	keep("hello", "plain", &b);

	b.size = 0;
	w.session = 7;
	w.channel_size = w.region_size = w.rows_size = 8192;
	add_byte(&b, 1 | 3 << 1 | 16);
	add(&b, &w, sizeof(w));
	keep("welcome", "accepted", &b);
	b.data[0] = 1 | 3 << 1;
	keep("welcome", "short-segments", &b);
	b.size = 0;
	w.status = -SHALE_EABI;
	snprintf(w.text, sizeof(w.text), "words\nof a refusal");
	add_byte(&b, 1);
	add(&b, &w, sizeof(w));
	keep("welcome", "refused", &b);
}
END_TEST

START_TEST(batches)
{
	static struct bytes b;

	for (unsigned n = 0; n < 6; n++) {
		char name[16];

		b.size = 0;
		add_byte(&b, n & 1 ? 16 : 0);
		add_byte(&b, n & 1 ? 32 : 0);
		make_batch(&b, 0, n);
		ck_ok(batch_check(slice_of(b.data + 2, b.size - 2), NULL, NULL));
		snprintf(name, sizeof(name), "%u-records", n);
		keep("batch", name, &b);
	}
}
END_TEST

static size_t put_conditions(struct bytes *b)
{
	const struct condition list[] = {
		{.type = CONDITION_ABSENT, .key = slice_str("no such")},
		{.type = CONDITION_PRESENT, .key = slice_str("key001")},
		{.type = CONDITION_EQUAL, .key = slice_str("key002"), .value = slice_str("value 2 of some length")},
		{.type = CONDITION_SEQUENCE, .key = slice_str("key003"), .sequence = 4},
	};
	unsigned char *start = b->data + b->size, *end = start + CONDITION_HEADER_SIZE;
	uint32_t count;

	store_le32(start, ARRAY_SIZE(list));
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		end = condition_append(end, &list[i]);
	b->size += (size_t)(end - start);
	ck_ok(conditions_check(slice_of(start, (size_t)(end - start)), NULL, &count));
	return (size_t)(end - start);
}

START_TEST(conditions)
{
	static struct bytes b;

	add_byte(&b, 0);
	add_byte(&b, 0);
	put_conditions(&b);
	keep("condition", "one-of-each", &b);
}
END_TEST

/* ---- requests ---- */

static void begin_arguments(struct bytes *b, unsigned op, unsigned flags)
{
	b->size = 0;
	add_byte(b, op);
	add_byte(b, flags & 255);
	add_byte(b, flags >> 8);
	add_byte(b, 200);
	add_byte(b, 0);
}

START_TEST(arguments)
{
	struct scan_args scan = {.start_len = 6, .limit_len = 6};
	static struct bytes b;
	unsigned char count[4];

	begin_arguments(&b, 0, 0);
	add(&b, "key001", 6);
	keep("arguments", "get", &b);
	begin_arguments(&b, 1, SQE_SYNC);
	make_batch(&b, 0, 3);
	keep("arguments", "write", &b);
	begin_arguments(&b, 1, 0);
	b.data[4] = (unsigned char)put_conditions(&b);
	make_batch(&b, 0, 2);
	keep("arguments", "write-if", &b);
	begin_arguments(&b, 2, SQE_HAS_START | SQE_HAS_LIMIT);
	add(&b, &scan, sizeof(scan));
	add(&b, "key010key050", 12);
	keep("arguments", "scan", &b);
	begin_arguments(&b, 2, SQE_REVERSE);
	scan = (struct scan_args){.max_count = 3};
	add(&b, &scan, sizeof(scan));
	keep("arguments", "scan-reverse", &b);
	begin_arguments(&b, 3, 0);
	store_le32(count, 2);
	add(&b, count, 4);
	add_lp(&b, "key001");
	add_lp(&b, "none");
	keep("arguments", "multiget", &b);
	begin_arguments(&b, 4, 0);
	add_lp(&b, "key");
	add_lp(&b, "l");
	keep("arguments", "sizes", &b);
	b.data[0] = 5;
	keep("arguments", "compact", &b);
	begin_arguments(&b, 6, 0);
	add(&b, "leveldb.stats", 13);
	keep("arguments", "property", &b);
}
END_TEST

START_TEST(submissions)
{
	static struct bytes b;
	struct sqe sqe = {.user_data = 1, .op = OP_NOP};

	add_byte(&b, 3);
	add_byte(&b, 0);
	add_byte(&b, 0);
	for (unsigned op = OP_NOP; op < 4; op++) {
		add_byte(&b, 31);
		sqe.op = (uint16_t)(op == 2 ? OP_SNAPSHOT : op == 3 ? OP_SCAN : op);
		sqe.in_len = op == OP_GET ? 6 : op == 3 ? sizeof(struct scan_args) : 0;
		sqe.in_off = op == 3 ? 8 : 0;
		sqe.out_len = 1000;
		add(&b, &sqe, sizeof(sqe));
	}
	add(&b, "key001\0\0", 8);
	keep("submission", "four", &b);
	b.data[1] = 1;
	keep("submission", "past-its-tail", &b);
	b.data[1] = 200;
	keep("submission", "past-the-ring", &b);
	b.data[1] = 0;
	b.data[2] = 1;
	keep("submission", "head-past-tail", &b);
}
END_TEST

/* ---- files ---- */

static void frame(struct bytes *b, size_t from, struct slice record)
{
	const struct log_dest dest = {.base = b->data + from, .mask = UINT64_MAX};

	b->size = from + (size_t)log_frame(&dest, b->size - from, record);
}

START_TEST(logs)
{
	static unsigned char large[40000];
	static struct bytes b, batch;
	uint64_t sequence = 1;

	memset(large, 'x', sizeof(large));
	add_byte(&b, 1);
	for (unsigned n = 1; n < 4; n++) {
		batch.size = 0;
		make_batch(&batch, sequence, n);
		sequence += n;
		frame(&b, 1, slice_of(batch.data, batch.size));
	}
	keep("log", "three-records", &b);
	keep("recovery", "three-batches", &b);
	b.size -= 5;
	keep("log", "torn", &b);
	keep("recovery", "torn", &b);
	b.size += 5;
	frame(&b, 1, slice_of(large, sizeof(large)));
	frame(&b, 1, slice_of("", 0));
	keep("log", "split-and-empty", &b);
	b.size = 0;
	for (unsigned i = 0; i < 12; i++)
		add_byte(&b, (i + 2) * 11);
	b.data[0] = 2;
	keep("log", "framed", &b);
}
END_TEST

static void add_table(struct edit *e, unsigned level, uint64_t number, const char *from, const char *to)
{
	unsigned char a[64], z[64];
	struct file_meta *m = file_meta_new(number, 100 + number, ikey_make(a, slice_str(from), 9, IKEY_VALUE),
					    ikey_make(z, slice_str(to), 3, IKEY_DELETION));

	ck_assert_ptr_nonnull(m);
	ck_ok(edit_add_file(e, level, m));
	file_meta_unref(m);
}

START_TEST(edits)
{
	static struct bytes b, manifest;
	struct err_info err = {0};
	struct edit e, back;
	unsigned char *data, key[64];
	size_t size;

	edit_init(&e);
	e.has_comparator = e.has_log_number = e.has_next_file = e.has_last_sequence = true;
	strcpy(e.comparator, COMPARATOR_NAME);
	e.log_number = 3;
	e.next_file = 20;
	e.last_sequence = 100;
	add_table(&e, 0, 5, "a", "m");
	add_table(&e, 1, 6, "a", "f");
	add_table(&e, 1, 7, "g", "z");
	ck_ok(edit_set_pointer(&e, 1, ikey_make(key, slice_str("f"), 3, IKEY_VALUE)));
	ck_ok(edit_encode(&e, &data, &size));
	ck_ok(edit_decode(slice_of(data, size), &back, &err));
	edit_fini(&back);
	edit_fini(&e);
	add(&b, data, size);
	keep("edit", "snapshot", &b);
	add_byte(&manifest, 1);
	frame(&manifest, 1, slice_of(data, size));
	free(data);

	b.size = 0;
	edit_init(&e);
	ck_ok(edit_delete_file(&e, 0, 5));
	add_table(&e, 2, 5, "a", "m");
	ck_ok(edit_encode(&e, &data, &size));
	edit_fini(&e);
	add(&b, data, size);
	keep("edit", "move", &b);
	frame(&manifest, 1, slice_of(data, size));
	free(data);
	keep("manifest", "two-records", &manifest);
}
END_TEST

START_TEST(current)
{
	static struct bytes b;

	add(&b, "MANIFEST-000001\n", 16);
	keep("current", "plain", &b);
	b.size = 0;
	add(&b, "MANIFEST-1\n", 11);
	keep("current", "short", &b);
}
END_TEST

static void make_table(struct bytes *b, const struct table_options *o)
{
	struct table_builder *builder;
	struct memory_env m;
	struct io_queue *q;
	struct io_file *f;

	memory_env_init(&m);
	q = memory_queue(&m);
	ck_ok(io_open(&m.base, "000005.ldb", IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	ck_ok(table_builder_new(q, f, o, &builder));
	for (unsigned i = 0; i < 40; i++) {
		unsigned char ikey[32];
		char key[16];

		snprintf(key, sizeof(key), "key%03u", i / 2);
		ck_ok(table_builder_add(builder, ikey_make(ikey, slice_str(key), 100 - i, i % 3 != 0),
					slice_str("value, value, value")));
	}
	ck_ok(table_builder_finish(builder));
	b->size = 0;
	add_byte(b, 1);
	ck_ok(io_pread(q, f, b->data + 1, (size_t)table_builder_size(builder), 0));
	b->size += (size_t)table_builder_size(builder);
	table_builder_free(builder);
	io_close(f);
	io_queue_free(q);
	memory_env_fini(&m);
}

START_TEST(tables)
{
	static const char *const names[] = {"plain", "snappy", "zstd"};
	struct table_options o = {
		.block_bytes = 256, .restart_interval = 4, .bloom_bits_per_key = 10, .with_counts = true};
	static struct bytes b;

	for (unsigned c = COMPRESS_NONE; c <= COMPRESS_ZSTD; c++) {
		o.compression = (enum compression)c;
		make_table(&b, &o);
		keep("table", names[c], &b);
	}
}
END_TEST

START_TEST(blocks)
{
	struct block_builder *builder;
	static struct bytes b;
	struct slice block;

	ck_ok(block_builder_new(4, &builder));
	for (unsigned i = 0; i < 12; i++) {
		unsigned char ikey[32];
		char key[16];

		snprintf(key, sizeof(key), "key%03u", i);
		ck_ok(block_builder_add(builder, ikey_make(ikey, slice_str(key), 9, IKEY_VALUE), slice_str("v")));
	}
	ck_ok(block_builder_finish(builder, &block));
	add_byte(&b, 1);
	add(&b, block.data, block.size);
	keep("block", "internal", &b);
	b.data[0] = 0;
	keep("block", "plain", &b);
	block_builder_free(builder);
	b.size = 0;
	for (unsigned i = 0; i < 60; i++)
		add_byte(&b, i * 5 % 16);
	b.data[0] = 2;
	keep("block", "built", &b);
}
END_TEST

START_TEST(filters)
{
	struct filter_builder *builder;
	static struct bytes b;
	struct slice block;

	ck_ok(filter_builder_new(10, &builder));
	for (unsigned i = 0; i < 30; i++) {
		char key[16];

		snprintf(key, sizeof(key), "key%03u", i);
		ck_ok(filter_builder_start_block(builder, i * 300));
		ck_ok(filter_builder_add(builder, slice_str(key)));
	}
	ck_ok(filter_builder_finish(builder, &block));
	ck_assert(filter_may_contain(block, 2100, slice_str("key007")));
	add_byte(&b, 0);
	add_byte(&b, 6);
	add(&b, "key007", 6);
	add(&b, "\x34\x08\0\0\0\0\0\0", 8);
	add(&b, block.data, block.size);
	keep("filter", "asked", &b);
	b.data[0] = 2;
	keep("filter", "built", &b);
	filter_builder_free(builder);
}
END_TEST

START_TEST(configs)
{
	static struct bytes b;
	struct config c;
	char *text = NULL;
	size_t size;
	FILE *f;

	config_default(&c);
	for (unsigned explain = 0; explain < 2; explain++) {
		f = open_memstream(&text, &size);
		config_write(&c, explain, f);
		ck_assert_int_eq(fclose(f), 0);
		b.size = 0;
		add(&b, text, size);
		if (!explain)
			keep("config", "defaults", &b);
		free(text);
	}
	b.size = 0;
	add(&b, "--set engine.block_cache=256M", 29);
	keep("config", "set", &b);
	b.size = 0;
	add(&b, "[access]\nmode = 0660\nuids = 0, 1000\n", 36);
	keep("config", "access", &b);
}
END_TEST

TEST_MAIN("seeds", 60, handshake, batches, conditions, arguments, submissions, logs, edits, current, tables, blocks,
	  filters, configs)
