#include "engine/source.h"
#include "tests/engine/tables.h"

#include <stdio.h>

static const enum io_backend backends[] = {IO_BACKEND_AUTO, IO_BACKEND_POSIX};
static const struct table_options options = {
	.block_bytes = 1024, .restart_interval = 16, .bloom_bits_per_key = 10, .compression = COMPRESS_SNAPPY};

/* What a service thread has, over a queue that counts and fails. */
struct bench {
	struct place p;
	struct odd_queue odd;
	struct read_shared shared;
	struct entry_list l;
	uint64_t size[4]; /* of tables 1 to 3, which hold the same entries */
};

static void bench_make(struct bench *b, enum io_backend backend, size_t cache_bytes, unsigned open_tables)
{
	uint64_t seed = test_seed();

	*b = (struct bench){0};
	place_make(&b->p, backend);
	b->shared.env = b->p.env;
	b->shared.queue = odd_queue_init(&b->odd, b->p.q);
	ck_ok(block_cache_new(cache_bytes, &b->shared.blocks));
	ck_ok(table_cache_new(open_tables, &b->shared.tables));
	entries_random(&b->l, &seed, 2000, 100);
	for (uint64_t n = 1; n <= 3; n++)
		b->size[n] = table_make(&b->p, n, &options, &b->l);
}

static void bench_drop(struct bench *b)
{
	block_cache_free(b->shared.blocks);
	table_cache_free(b->shared.tables);
	entries_free(&b->l);
	place_drop(&b->p);
}

static unsigned fetched_calls;

static void fetched(struct read_ctx *ctx)
{
	ck_assert_uint_eq(ctx->in_flight, 0);
	fetched_calls++;
}

/* Fetches what was noted and waits for it, as a service loop does. */
static void fetch(struct read_ctx *ctx)
{
	unsigned before = fetched_calls;

	ck_ok(read_ctx_fetch(ctx, fetched));
	ck_assert_uint_eq(fetched_calls, before); /* never from inside the call */
	while (fetched_calls == before)
		ck_assert_int_ge(io_queue_wait(ctx->shared->queue, UINT64_MAX), 0);
	ck_assert_uint_eq(fetched_calls, before + 1);
}

/* One probe of one table, run again until it has an answer. */
static int get(struct bench *b, struct read_ctx *ctx, uint64_t number, struct slice ikey, struct slice *value_out,
	       unsigned *rounds)
{
	for (*rounds = 0;; ++*rounds) {
		struct table *t = NULL;
		struct block *pin;
		uint64_t trailer;
		int rc = ctx->source.table(&ctx->source, number, b->size[number], &t);

		if (rc == 0)
			rc = table_get(t, &ctx->source, ikey, &pin, &trailer, value_out, NULL);
		table_unref(t);
		if (rc == 0)
			ck_ok(read_ctx_pin(ctx, pin));
		if (rc != READ_MISS)
			return rc;
		ck_assert_uint_lt(*rounds, 5);
		fetch(ctx);
	}
}

/* The first read opens the table, then reads the block, then answers; the next finds all in the caches and reads nothing. */
START_TEST(misses_then_hits)
{
	for (unsigned n = 0; n < ARRAY_SIZE(backends); n++) {
		struct read_ctx ctx;
		struct slice value;
		struct bench b;
		unsigned rounds;

		bench_make(&b, backends[n], 4 << 20, 100);
		read_ctx_init(&ctx, &b.shared);
		ck_ok(get(&b, &ctx, 1, b.l.at[500].key, &value, &rounds));
		ck_assert_uint_eq(rounds, 2);
		ck_assert(slice_equal(value, b.l.at[500].value));
		read_ctx_reset(&ctx);
		b.odd.ops[IO_READ] = 0;
		ck_ok(get(&b, &ctx, 1, b.l.at[500].key, &value, &rounds));
		ck_assert_uint_eq(rounds, 0);
		ck_assert_uint_eq(b.odd.ops[IO_READ], 0);
		ck_assert_ptr_null(ctx.misses);
		for (size_t i = 0; i < b.l.count; i++) {
			read_ctx_reset(&ctx);
			ck_ok(get(&b, &ctx, 1, b.l.at[i].key, &value, &rounds));
			ck_assert(slice_equal(value, b.l.at[i].value));
		}
		read_ctx_fini(&ctx);
		bench_drop(&b);
	}
}
END_TEST

/* All tables that a request misses are opened in one round, and each once, however often it was asked for. */
START_TEST(misses_together_and_once)
{
	struct read_ctx ctx;
	struct table *t;
	struct bench b;

	bench_make(&b, IO_BACKEND_AUTO, 4 << 20, 100);
	read_ctx_init(&ctx, &b.shared);
	for (unsigned n = 0; n < 9; n++)
		ck_assert_int_eq(ctx.source.table(&ctx.source, n % 3 + 1, b.size[n % 3 + 1], &t), READ_MISS);
	ck_assert_uint_eq(ctx.miss_count, 3);
	fetch(&ctx);
	ck_assert_uint_eq(b.odd.ops[IO_READ], 3);
	for (uint64_t n = 1; n <= 3; n++) {
		ck_ok(ctx.source.table(&ctx.source, n, b.size[n], &t));
		table_unref(t);
	}
	ck_assert_int_eq(read_ctx_fetch(&ctx, fetched), -EINVAL); /* nothing was missed */
	/* A request that is dropped with misses noted leaves nothing. */
	read_ctx_reset(&ctx);
	for (uint64_t n = 4; n < 4 + 2 * READ_MISSES_MAX; n++)
		ck_assert_int_eq(ctx.source.table(&ctx.source, n, 1000, &t), READ_MISS);
	ck_assert_uint_eq(ctx.miss_count, READ_MISSES_MAX);
	read_ctx_fini(&ctx);
	bench_drop(&b);
}
END_TEST

/* With caches that keep nothing, and with no_fill, the retry still finds what was fetched for it. */
START_TEST(retry_needs_no_cache)
{
	for (unsigned n = 0; n < 2; n++) {
		struct block_cache_stats stats;
		struct read_ctx ctx;
		struct slice value[6];
		struct bench b;
		unsigned rounds;

		bench_make(&b, IO_BACKEND_AUTO, n ? 4 << 20 : 0, n ? 100 : 0);
		read_ctx_init(&ctx, &b.shared);
		ctx.no_fill = n == 1;
		ctx.readahead = n == 1 ? 8192 : 0;
		for (unsigned i = 0; i < ARRAY_SIZE(value); i++)
			ck_ok(get(&b, &ctx, 2, b.l.at[i * 300].key, &value[i], &rounds));
		/* Values stay until reset, more than fit into the request itself. */
		for (unsigned i = 0; i < ARRAY_SIZE(value); i++)
			ck_assert(slice_equal(value[i], b.l.at[i * 300].value));
		block_cache_stats(b.shared.blocks, &stats);
		ck_assert_uint_eq(stats.blocks, 0);
		read_ctx_fini(&ctx);
		bench_drop(&b);
	}
}
END_TEST

/* Scans through the source: misses are fetched and the scan sought again, and reading ahead makes it far fewer reads. */
START_TEST(scan_with_readahead)
{
	unsigned reads[2];

	for (unsigned n = 0; n < 2; n++) {
		struct read_ctx ctx;
		struct table *t;
		struct iter *it;
		struct bench b;
		size_t i = 0;

		bench_make(&b, backends[n], 4 << 20, 100);
		ck_ok(table_open(b.p.env, b.p.q, 1, b.size[1], &t, NULL));
		read_ctx_init(&ctx, &b.shared);
		ctx.readahead = n ? 64 << 10 : 0;
		ck_ok(table_iter_new(t, &ctx.source, &it));
		while (i < b.l.count) {
			for (iter_seek(it, b.l.at[i].key); it->valid; iter_next(it), i++)
				ck_assert(slice_equal(it->key, b.l.at[i].key));
			if (it->status == READ_MISS)
				fetch(&ctx);
			else
				ck_assert_int_eq(it->status, 0);
		}
		ck_assert_uint_eq(i, b.l.count);
		reads[n] = b.odd.ops[IO_READ];
		iter_free(it);
		table_unref(t);
		read_ctx_fini(&ctx);
		bench_drop(&b);
	}
	ck_assert_uint_gt(reads[0], 50);
	ck_assert_uint_lt(reads[1] * 10, reads[0]);
}
END_TEST

/* A table that is gone, one that is damaged, and a disk that fails: the retry's ask says which, in code and words, and other reads go on. */
START_TEST(errors_are_typed)
{
	unsigned char *bytes;
	struct read_ctx ctx;
	struct slice value;
	struct bench b;
	unsigned rounds;
	size_t size;

	bench_make(&b, IO_BACKEND_AUTO, 4 << 20, 100);
	read_ctx_init(&ctx, &b.shared);
	ck_assert_ptr_null(read_ctx_error(&ctx));

	ck_ok(io_unlink(b.p.env, "000001.ldb"));
	ck_assert_int_eq(get(&b, &ctx, 1, b.l.at[0].key, &value, &rounds), -SHALE_EMISSING);
	ck_assert_int_eq(ctx.error, -SHALE_EMISSING);
	ck_assert_ptr_nonnull(strstr(read_ctx_error(&ctx)->text, "000001.ldb"));
	ck_ok(get(&b, &ctx, 3, b.l.at[0].key, &value, &rounds)); /* the same request, another table */
	read_ctx_reset(&ctx);
	ck_assert_int_eq(ctx.error, 0);

	bytes = file_bytes(&b.p, 2, &size);
	bytes[3] ^= 1;
	file_write(&b.p, 2, bytes, size);
	ck_assert_int_eq(get(&b, &ctx, 2, b.l.at[0].key, &value, &rounds), -SHALE_ECORRUPT);
	ck_assert_ptr_nonnull(strstr(read_ctx_error(&ctx)->text, "offset 0"));
	ck_ok(get(&b, &ctx, 2, b.l.at[b.l.count - 1].key, &value, &rounds)); /* another block */
	read_ctx_reset(&ctx);
	bytes[3] ^= 1;
	file_write(&b.p, 2, bytes, size);
	ck_ok(get(&b, &ctx, 2, b.l.at[0].key, &value, &rounds)); /* an error is not kept past its request */
	read_ctx_reset(&ctx);
	file_write(&b.p, 2, bytes, 100); /* cut while open */
	ck_assert_int_eq(get(&b, &ctx, 2, b.l.at[b.l.count / 2].key, &value, &rounds), -SHALE_ECORRUPT);
	read_ctx_reset(&ctx);

	table_cache_drop(b.shared.tables, 3);
	b.odd.fail_op = IO_READ;
	b.odd.fail_with = -EIO;
	b.odd.fail_at = 1;
	ck_assert_int_eq(get(&b, &ctx, 3, b.l.at[0].key, &value, &rounds), -EIO);
	ck_assert_uint_eq(rounds, 1);
	read_ctx_reset(&ctx);
	b.odd.ops[IO_READ] = 0;
	b.odd.fail_at = 2; /* the table opens, its block cannot be read */
	ck_assert_int_eq(get(&b, &ctx, 3, b.l.at[1000].key, &value, &rounds), -EIO);
	ck_assert_uint_eq(rounds, 2);
	free(bytes);
	read_ctx_fini(&ctx);
	bench_drop(&b);
}
END_TEST

/*
 * A block of which little is stored takes as little until the retry asks for it, then what it is. One that is damaged fails that ask, and every further one, in words,
 * though the block could be read.
 */
START_TEST(large_blocks_are_unpacked_late)
{
	enum { LARGE = 2 << 20 };
	static unsigned char zeros[LARGE];
	struct table *t = NULL;
	struct block *pin;
	struct entry_list l = {0};
	unsigned char *bytes;
	struct read_ctx ctx;
	uint64_t trailer;
	struct slice value;
	struct bench b;
	unsigned rounds;
	size_t size;

	bench_make(&b, IO_BACKEND_AUTO, 16 << 20, 100);
	entries_add_user(&l, "large", 7, IKEY_VALUE, slice_of(zeros, LARGE));
	b.size[3] = table_make(&b.p, 3, &options, &l);
	read_ctx_init(&ctx, &b.shared);
	ck_assert_int_eq(ctx.source.table(&ctx.source, 3, b.size[3], &t), READ_MISS);
	fetch(&ctx);
	ck_ok(ctx.source.table(&ctx.source, 3, b.size[3], &t));
	ck_assert_int_eq(table_get(t, &ctx.source, l.at[0].key, &pin, &trailer, &value, NULL), READ_MISS);
	ck_assert_uint_lt(ctx.wanted, LARGE / 4);
	fetch(&ctx);
	ck_assert_uint_lt(ctx.bytes, LARGE / 4);
	ck_ok(table_get(t, &ctx.source, l.at[0].key, &pin, &trailer, &value, NULL));
	ck_assert_uint_ge(ctx.bytes, LARGE);
	ck_assert(slice_equal(value, l.at[0].value));
	block_unref(pin);
	read_ctx_reset(&ctx);
	ck_assert_uint_eq(ctx.bytes, 0);
	ck_ok(get(&b, &ctx, 3, l.at[0].key, &value, &rounds)); /* by now it is cached */
	ck_assert_uint_eq(rounds, 0);
	read_ctx_reset(&ctx);

	block_cache_drop_table(b.shared.blocks, 3);
	bytes = file_bytes(&b.p, 3, &size);
	bytes[1000] ^= 1;
	file_write(&b.p, 3, bytes, size);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(get(&b, &ctx, 3, l.at[0].key, &value, &rounds), -SHALE_ECORRUPT);
		ck_assert_uint_eq(rounds, !i);
		ck_assert_int_eq(ctx.error, -SHALE_ECORRUPT);
		ck_assert_ptr_nonnull(strstr(read_ctx_error(&ctx)->text, "offset 0"));
	}
	/* Nobody asks for it any more. */
	read_ctx_reset(&ctx);
	ck_assert_int_eq(table_get(t, &ctx.source, l.at[0].key, &pin, &trailer, &value, NULL), READ_MISS);
	fetch(&ctx);
	free(bytes);
	table_unref(t);
	read_ctx_fini(&ctx);
	entries_free(&l);
	bench_drop(&b);
}
END_TEST

/* A worker reads a table in order with few, large reads, a lone block with one small read, and leaves the block cache alone. */
START_TEST(direct_reads_ahead)
{
	struct direct_source *s;
	struct block_source *src;
	struct slice value;
	struct block *pin;
	struct iter *it;
	struct table *t;
	struct bench b;
	uint64_t trailer, read;
	unsigned opening;

	bench_make(&b, IO_BACKEND_AUTO, 4 << 20, 100);
	ck_ok(direct_source_new(b.p.env, &b.odd.base, b.shared.tables, 32 << 10, &s));
	src = direct_source_base(s);
	ck_ok(src->table(src, 1, b.size[1], &t));
	ck_assert_uint_eq(table_cache_count(b.shared.tables), 1);
	opening = b.odd.ops[IO_READ];
	ck_ok(table_iter_new(t, src, &it));
	same_entries(it, &b.l);
	iter_free(it);
	read = direct_source_bytes_read(s);
	ck_assert_uint_ge(read, b.size[1] / 2);
	b.odd.ops[IO_READ] = 0;
	ck_ok(table_iter_new(t, src, &it));
	for (iter_seek_first(it); it->valid; iter_next(it))
		;
	ck_assert_uint_le(b.odd.ops[IO_READ], b.size[1] / (32 << 10) + 3);
	ck_assert_uint_eq(opening, 1);
	iter_free(it);
	table_unref(t);

	ck_ok(src->table(src, 2, b.size[2], &t));
	read = direct_source_bytes_read(s);
	ck_ok(table_get(t, src, b.l.at[1000].key, &pin, &trailer, &value, NULL));
	ck_assert_uint_lt(direct_source_bytes_read(s) - read, 4096);
	block_unref(pin);
	table_unref(t);
	ck_assert(!block_cache_has(b.shared.blocks, 1, 0));
	direct_source_free(s);
	direct_source_free(NULL);
	bench_drop(&b);
}
END_TEST

/* More tables in turn than there are buffers, without a table cache: slower, but right. */
START_TEST(direct_many_tables)
{
	enum { TABLES = 40 };
	struct direct_source *s;
	struct block_source *src;
	struct iter *its[TABLES];
	struct bench b;
	struct table *t;

	bench_make(&b, IO_BACKEND_AUTO, 0, 0);
	ck_ok(direct_source_new(b.p.env, b.p.q, NULL, 16 << 10, &s));
	src = direct_source_base(s);
	for (uint64_t n = 0; n < TABLES; n++) {
		uint64_t size = table_make(&b.p, 100 + n, &options, &b.l);

		ck_ok(src->table(src, 100 + n, size, &t));
		ck_ok(table_iter_new(t, src, &its[n]));
		table_unref(t);
		iter_seek_first(its[n]);
	}
	for (size_t i = 0; i < b.l.count; i++) {
		for (unsigned n = 0; n < TABLES; n++) {
			ck_assert(its[n]->valid && slice_equal(its[n]->key, b.l.at[i].key));
			ck_assert(slice_equal(its[n]->value, b.l.at[i].value));
			iter_next(its[n]);
		}
	}
	for (unsigned n = 0; n < TABLES; n++) {
		ck_assert(!its[n]->valid && its[n]->status == 0);
		iter_free(its[n]);
	}
	direct_source_free(s);
	bench_drop(&b);
}
END_TEST

/* A worker's failures have codes and words that name file and place. */
START_TEST(direct_errors)
{
	struct direct_source *s;
	struct block_source *src;
	struct table *t, *unused;
	struct iter *it;
	struct bench b;

	bench_make(&b, IO_BACKEND_AUTO, 0, 0);
	ck_ok(direct_source_new(b.p.env, &b.odd.base, NULL, 32 << 10, &s));
	src = direct_source_base(s);
	ck_assert_int_eq(src->table(src, 9, 5000, &unused), -SHALE_EMISSING);
	ck_assert_int_eq(direct_source_error(s)->code, -SHALE_EMISSING);
	ck_ok(src->table(src, 1, b.size[1], &t));
	ck_ok(table_iter_new(t, src, &it));
	b.odd.fail_op = IO_READ;
	b.odd.fail_with = -EIO;
	b.odd.fail_at = b.odd.ops[IO_READ] + 2;
	for (iter_seek_first(it); it->valid; iter_next(it))
		;
	ck_assert_int_eq(it->status, -EIO);
	ck_assert_int_eq(direct_source_error(s)->code, -EIO);
	ck_assert_ptr_nonnull(strstr(direct_source_error(s)->text, "000001.ldb"));
	b.odd.fail_at = 0;
	for (iter_seek_first(it); it->valid; iter_next(it)) /* and it recovers where the disk does */
		;
	ck_assert_int_eq(it->status, 0);
	iter_free(it);
	table_unref(t);
	direct_source_free(s);
	bench_drop(&b);
}
END_TEST

TEST_MAIN("source", 30, misses_then_hits, misses_together_and_once, retry_needs_no_cache, scan_with_readahead,
	  errors_are_typed, large_blocks_are_unpacked_late, direct_reads_ahead, direct_many_tables, direct_errors)
