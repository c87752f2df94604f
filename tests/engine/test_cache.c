#include "engine/cache.h"
#include "tests/engine/tables.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* A block whose bytes tell what it is. */
static struct block *block_named(uint64_t table, uint64_t offset, size_t size)
{
	struct block *b = block_new(size);

	ck_assert_ptr_nonnull(b);
	ck_assert_uint_ge(size, 16);
	memset(b->data, 0, size);
	store_le64(b->data, table);
	store_le64(b->data + 8, offset);
	return b;
}

static void put(struct block_cache *c, uint64_t table, uint64_t offset, size_t size)
{
	struct block *b = block_named(table, offset, size);

	block_cache_put(c, table, offset, b);
	block_unref(b);
}

/* Whether it is there; if so it must be the right one. */
static bool hit(struct block_cache *c, uint64_t table, uint64_t offset)
{
	struct block *b = block_cache_get(c, table, offset);

	if (!b)
		return false;
	ck_assert_uint_eq(load_le64(b->data), table);
	ck_assert_uint_eq(load_le64(b->data + 8), offset);
	block_unref(b);
	return true;
}

/* Never more bytes than the capacity, whatever is put; and what is counted adds up. */
START_TEST(bounded)
{
	uint64_t seed = test_seed(), asked = 0;
	struct block_cache_stats stats;
	struct block_cache *c;

	ck_ok(block_cache_new(16 << 20, &c));
	for (unsigned n = 0; n < 20000; n++) {
		put(c, 1 + test_random(&seed) % 50, test_random(&seed) % 500 * 4096, 16 + test_random(&seed) % 8192);
		hit(c, 1 + test_random(&seed) % 50, test_random(&seed) % 500 * 4096);
		asked++;
		if (n % 100 == 0) {
			block_cache_stats(c, &stats);
			ck_assert_uint_le(stats.bytes, stats.capacity);
		}
	}
	block_cache_stats(c, &stats);
	ck_assert_uint_eq(stats.capacity, 16 << 20);
	ck_assert_uint_eq(stats.hits + stats.misses, asked);
	ck_assert_uint_gt(stats.hits, 0);
	ck_assert_uint_gt(stats.evicted, 0);
	ck_assert_uint_gt(stats.bytes, stats.capacity / 2);
	block_cache_free(c);
	block_cache_free(NULL);
}
END_TEST

/* Blocks that are hit survive a scan of many that are asked for once: that is what the clock's mark is for. */
START_TEST(hits_survive_a_scan)
{
	struct block_cache *c;
	unsigned kept = 0;

	ck_ok(block_cache_new(1 << 20, &c));
	for (unsigned i = 0; i < 50; i++)
		put(c, 1, i, 4000);
	for (unsigned i = 0; i < 5000; i++) {
		put(c, 2, i, 4000);
		hit(c, 1, i % 50);
	}
	for (unsigned i = 0; i < 50; i++)
		kept += hit(c, 1, i);
	ck_assert_uint_eq(kept, 50);
	ck_assert(hit(c, 2, 4999));
	ck_assert(!hit(c, 2, 0));
	block_cache_free(c);
}
END_TEST

/* Capacity 0 keeps nothing, nor does any capacity a block larger than itself; both go on working. */
START_TEST(nothing_kept)
{
	struct block_cache_stats stats;
	struct block_cache *c;

	ck_ok(block_cache_new(0, &c));
	put(c, 1, 0, 16);
	ck_assert(!hit(c, 1, 0));
	block_cache_drop_table(c, 1);
	block_cache_stats(c, &stats);
	ck_assert_uint_eq(stats.blocks, 0);
	block_cache_free(c);

	ck_ok(block_cache_new(10000, &c));
	put(c, 1, 0, 4000);
	put(c, 1, 1, 10000);
	ck_assert(hit(c, 1, 0));
	ck_assert(!hit(c, 1, 1));
	block_cache_free(c);
}
END_TEST

/* The first of two equal blocks stays; an evicted or dropped one lives on for those who hold it. */
START_TEST(references_and_dropping)
{
	struct block *mine = block_named(7, 0, 100), *other = block_named(7, 0, 200), *got;
	struct block_cache_stats stats;
	struct block_cache *c;

	ck_ok(block_cache_new(1 << 20, &c));
	block_cache_put(c, 7, 0, mine);
	block_cache_put(c, 7, 0, other);
	got = block_cache_get(c, 7, 0);
	ck_assert_ptr_eq(got, mine);
	for (unsigned i = 0; i < 300; i++)
		put(c, 8, i, 100);
	ck_assert(block_cache_has(c, 7, 0));
	block_cache_drop_table(c, 7);
	ck_assert(!block_cache_has(c, 7, 0));
	ck_assert(hit(c, 8, 299));
	ck_assert_uint_eq(load_le64(got->data), 7);
	block_unref(got);
	block_unref(mine);
	block_unref(other);
	block_cache_drop_table(c, 8);
	block_cache_stats(c, &stats);
	ck_assert_uint_eq(stats.blocks, 0);
	ck_assert_uint_eq(stats.bytes, 0);
	put(c, 9, 1, 100); /* the places given back are used again */
	ck_assert(hit(c, 9, 1));
	block_cache_free(c);
}
END_TEST

struct mob {
	struct block_cache *cache;
	uint64_t seed;
};

static void *trample(void *arg)
{
	struct mob *m = arg;

	for (unsigned n = 0; n < 20000; n++) {
		uint64_t table = test_random(&m->seed) % 8, offset = test_random(&m->seed) % 100;

		switch (test_random(&m->seed) % 16) {
		case 0:
			block_cache_drop_table(m->cache, table);
			break;
		case 1 ... 5:
			put(m->cache, table, offset, 16 + test_random(&m->seed) % 3000);
			break;
		default:
			hit(m->cache, table, offset);
		}
	}
	return NULL;
}

/* Many threads at once: no lost or torn block, and the sums still hold. */
START_TEST(many_threads)
{
	uint64_t seed = test_seed();
	struct block_cache_stats stats;
	struct block_cache *c;
	pthread_t threads[4];
	struct mob mobs[4];

	ck_ok(block_cache_new(300 << 10, &c));
	for (unsigned i = 0; i < 4; i++) {
		mobs[i] = (struct mob){c, seed + i};
		ck_ok(pthread_create(&threads[i], NULL, trample, &mobs[i]));
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	block_cache_stats(c, &stats);
	ck_assert_uint_le(stats.bytes, stats.capacity);
	for (uint64_t t = 0; t < 8; t++)
		block_cache_drop_table(c, t);
	block_cache_stats(c, &stats);
	ck_assert_uint_eq(stats.bytes, 0);
	block_cache_free(c);
}
END_TEST

/* ---- tables ---- */

static struct table *open_table(struct place *p, uint64_t number)
{
	static const struct table_options options = {.block_bytes = 4096, .restart_interval = 16};
	struct entry_list l = {0};
	struct table *t;
	char key[16];

	snprintf(key, sizeof(key), "%llu", (unsigned long long)number);
	entries_add_user(&l, key, 1, IKEY_VALUE, slice_str("v"));
	ck_ok(table_open(p->env, p->q, number, table_make(p, number, &options, &l), &t, NULL));
	entries_free(&l);
	return t;
}

static bool cached(struct table_cache *c, uint64_t number)
{
	struct table *t = table_cache_get(c, number);

	if (t)
		ck_assert_uint_eq(table_number(t), number);
	table_unref(t);
	return t != NULL;
}

/* At most so many tables stay open, the least recently used go, and one that goes stays whole for who uses it. */
START_TEST(tables_lru)
{
	struct table_cache *c;
	struct table *held;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	ck_ok(table_cache_new(3, &c));
	held = open_table(&p, 1);
	table_cache_put(c, held);
	for (uint64_t i = 2; i <= 3; i++) {
		struct table *t = open_table(&p, i);

		table_cache_put(c, t);
		table_cache_put(c, t); /* twice is once */
		table_unref(t);
	}
	ck_assert_uint_eq(table_cache_count(c), 3);
	ck_assert(cached(c, 1)); /* so that 2 is the oldest */
	for (uint64_t i = 20; i <= 21; i++) {
		struct table *t = open_table(&p, i);

		table_cache_put(c, t);
		table_unref(t);
	}
	ck_assert_uint_eq(table_cache_count(c), 3);
	ck_assert(cached(c, 1) && cached(c, 20) && cached(c, 21));
	ck_assert(!cached(c, 2) && !cached(c, 3));
	table_cache_drop(c, 1);
	table_cache_drop(c, 1);
	ck_assert(!cached(c, 1));
	ck_assert_uint_eq(table_cache_count(c), 2);
	table_cache_free(c);
	table_cache_free(NULL);
	ck_assert_uint_gt(table_memory(held), 0);
	table_unref(held);
	place_drop(&p);
}
END_TEST

struct table_mob {
	struct table_cache *cache;
	struct table **tables;
	uint64_t seed;
};

static void *trample_tables(void *arg)
{
	struct table_mob *m = arg;

	for (unsigned n = 0; n < 20000; n++) {
		uint64_t i = test_random(&m->seed) % 8;

		switch (test_random(&m->seed) % 8) {
		case 0:
			table_cache_drop(m->cache, i + 1);
			break;
		case 1:
		case 2:
			table_cache_put(m->cache, m->tables[i]);
			break;
		default:
			cached(m->cache, i + 1);
		}
	}
	return NULL;
}

/* Several threads getting, putting and dropping: no table is closed under one, none is lost. */
START_TEST(tables_many_threads)
{
	uint64_t seed = test_seed();
	struct table *tables[8];
	struct table_mob mobs[3];
	pthread_t threads[3];
	struct table_cache *c;
	struct place p;

	place_make(&p, IO_BACKEND_AUTO);
	ck_ok(table_cache_new(5, &c));
	for (unsigned i = 0; i < 8; i++)
		tables[i] = open_table(&p, i + 1);
	for (unsigned i = 0; i < 3; i++) {
		mobs[i] = (struct table_mob){c, tables, seed + i};
		ck_ok(pthread_create(&threads[i], NULL, trample_tables, &mobs[i]));
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_le(table_cache_count(c), 5);
	table_cache_free(c);
	for (unsigned i = 0; i < 8; i++)
		table_unref(tables[i]);
	place_drop(&p);
}
END_TEST

TEST_MAIN("cache", 30, bounded, hits_survive_a_scan, nothing_kept, references_and_dropping, many_threads, tables_lru,
	  tables_many_threads)
