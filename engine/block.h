/*
 * block.h - one block of a table, in memory: prefix-compressed entries and restart points. Spec: engine/FORMAT.md.
 *
 * A block is immutable and reference-counted; caches and iterators hold references. Its bytes come from disk, so nothing in them
 * is believed: a block that does not add up makes the iterator end with -SHALE_ECORRUPT, never a wild read.
 */
#ifndef SHALE_ENGINE_BLOCK_H
#define SHALE_ENGINE_BLOCK_H

#include <stdatomic.h>

#include "engine/iter.h"

struct block {
	_Atomic uint32_t refs;
	uint32_t restarts;	 /* number of restart points */
	uint32_t restart_offset; /* where their array begins */
	uint32_t size;		 /* bytes of data */
	unsigned char data[];
};

/*
 * A block of @size bytes for the caller to fill (data[]), with one reference; call block_check once it is filled.
 * NULL when memory is short.
 */
struct block *block_new(size_t size);

/* Reads and checks the restart array: entries inside the block, ascending, the first 0. 0 or -SHALE_ECORRUPT. */
int block_check(struct block *b);

static inline struct block *block_ref(struct block *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void block_unref(struct block *b); /* NULL is fine */

/*
 * An iterator in the caller's memory, which must not move, over a block (borrowed unless @own: then a reference is taken over). @internal: keys
 * are internal keys (else plain bytewise, as in the metaindex). block_iter_fini releases; do not iter_free it.
 *
 * base.value points into the block, and so does base.key when the entry shares nothing with the one before it; else it lies in @key.
 */
struct block_iter {
	struct iter base;
	struct block *block;
	bool own, internal;
	uint32_t current; /* offset of the entry at the cursor */
	uint32_t next;	  /* offset after it */
	uint32_t restart; /* a restart point near the cursor: where prev begins to look */
	struct {
		unsigned char *data; /* key_space, or malloc'ed when longer */
		size_t cap;
	} key; /* a prefix-compressed key, put together */
	unsigned char key_space[128];
};

void block_iter_init(struct block_iter *it);
/* Not positioned; @b may be NULL: empty. */
void block_iter_set(struct block_iter *it, struct block *b, bool own, bool internal);
void block_iter_fini(struct block_iter *it);

/* Moves to the entry at restart point @i < block->restarts: what a search by something else than the key needs. */
void block_iter_restart(struct block_iter *it, uint32_t i);

/* ---- building ---- */

struct block_builder;

int block_builder_new(unsigned restart_interval, struct block_builder **out);
void block_builder_free(struct block_builder *b);
void block_builder_reset(struct block_builder *b);
/* Keys ascending. 0, -ENOMEM, -E2BIG (a block ends far below 4 GiB). */
int block_builder_add(struct block_builder *b, struct slice key, struct slice value);
size_t block_builder_estimate(const struct block_builder *b); /* bytes that finish would return */
bool block_builder_empty(const struct block_builder *b);
int block_builder_finish(struct block_builder *b, struct slice *out); /* *@out valid until reset. 0 or -ENOMEM */

#endif
