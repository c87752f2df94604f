/*
 * filter.h - LevelDB's Bloom filter and filter block ("filter.leveldb.BuiltinBloomFilter2"). Spec: engine/FORMAT.md.
 *
 * Keys are user keys. One filter for each 2 KiB of file offset at which data blocks begin. Source: LevelDB 1.23, util/bloom.cc,
 * table/filter_block.cc.
 */
#ifndef SHALE_ENGINE_FILTER_H
#define SHALE_ENGINE_FILTER_H

#include "shm/base.h"

#define FILTER_META_KEY "filter.leveldb.BuiltinBloomFilter2"

uint32_t bloom_hash(struct slice key);

/* True when @key may be in @filter (one Bloom filter with its trailing k byte). Never false for a key that is. */
bool bloom_may_contain(struct slice filter, struct slice key);

struct filter_builder;

int filter_builder_new(unsigned bits_per_key, struct filter_builder **out);
void filter_builder_free(struct filter_builder *b);
int filter_builder_start_block(struct filter_builder *b, uint64_t block_offset); /* 0 or -ENOMEM */
int filter_builder_add(struct filter_builder *b, struct slice user_key);
int filter_builder_finish(struct filter_builder *b, struct slice *out); /* valid until free */

/* @block is a whole filter block. True when the data block at @block_offset may hold @user_key; true also for a malformed filter. */
bool filter_may_contain(struct slice block, uint64_t block_offset, struct slice user_key);

#endif
