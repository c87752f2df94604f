/*
 * cache.h - the block cache: decompressed blocks by (table number, offset), bounded in bytes.
 *
 * Sharded, one short lock a shard, CLOCK eviction: a hit sets one bit and moves nothing. Any thread. Evicted blocks live on while
 * somebody holds a reference.
 */
#ifndef SHALE_ENGINE_CACHE_H
#define SHALE_ENGINE_CACHE_H

#include "engine/block.h"

struct block_cache;

int block_cache_new(size_t capacity_bytes, struct block_cache **out);
void block_cache_free(struct block_cache *c);

/* A new reference, or NULL. Counts a hit or a miss. */
struct block *block_cache_get(struct block_cache *c, uint64_t table, uint64_t offset);

/* Whether it is there; neither a hit nor a miss. */
bool block_cache_has(struct block_cache *c, uint64_t table, uint64_t offset);

/* Keeps @b (takes a reference of its own). When another thread was faster, the block already there stays. */
void block_cache_put(struct block_cache *c, uint64_t table, uint64_t offset, struct block *b);

/* Drops all blocks of a table that is gone. */
void block_cache_drop_table(struct block_cache *c, uint64_t table);

struct block_cache_stats {
	uint64_t bytes, capacity, blocks, hits, misses, evicted;
};
void block_cache_stats(struct block_cache *c, struct block_cache_stats *out);

#endif
