/*
 * table.h - SSTables: building one, opening one, reading it through a block source. Spec: engine/FORMAT.md.
 */
#ifndef SHALE_ENGINE_TABLE_H
#define SHALE_ENGINE_TABLE_H

#include "engine/block.h"
#include "engine/compress.h"
#include "engine/io.h"

struct err_info;
struct block_source;

struct block_handle {
	uint64_t offset;
	uint64_t size; /* without the 5-byte trailer */
};

enum { BLOCK_TRAILER = 5, TABLE_FOOTER = 48 };
#define TABLE_MAGIC UINT64_C(0xdb4775248b80fb57)

struct table_options {
	size_t block_bytes;	     /* 4096 */
	unsigned restart_interval;   /* 16 */
	unsigned bloom_bits_per_key; /* 10; 0: no filter */
	enum compression compression;
	bool with_counts; /* tell how many entries are dead, where stock does not look */
};

/* What a table tells of its entries (FORMAT.md, shale.stats). */
struct table_counts {
	uint64_t entries;       /* 0: nobody counted */
	uint64_t dead;          /* deletions, and versions that a newer one of the same key in the table hides */
	uint64_t dead_sequence; /* with no pinned sequence below this one, all of them may go (a deletion: if nothing lies below it) */
};
/* Dead entries in a hundred; 0 when nobody counted. */
static inline unsigned table_dead_percent(const struct table_counts *c)
{
	return c->entries ? (unsigned)((double)c->dead / (double)c->entries * 100) : 0;
}

/* ---- building (a worker) ---- */

struct table_builder;

/* Writes to @file (borrowed, new and empty) through @q, with writes behind. 0 or -ENOMEM. */
int table_builder_new(struct io_queue *q, struct io_file *file, const struct table_options *options,
		      struct table_builder **out);
/* Internal keys, strictly ascending. 0 or -errno (sticky). */
int table_builder_add(struct table_builder *b, struct slice ikey, struct slice value);
/* Writes what is left, index and footer, and waits for every write; does not sync. */
int table_builder_finish(struct table_builder *b);
uint64_t table_builder_size(const struct table_builder *b); /* bytes so far; the file's size after finish */
uint64_t table_builder_entries(const struct table_builder *b);
struct table_counts table_builder_counts(const struct table_builder *b);
void table_builder_free(struct table_builder *b); /* NULL is fine; waits for writes in flight */

/* ---- an open table ---- */

/* Immutable, reference-counted, any thread. Holds the file, the index block and the filter in memory. */
struct table;

/* Blocking: opens %06llu.ldb (or .sst), reads footer, index and filter. 0, or a negative code with words naming the file. */
int table_open(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t file_size, struct table **out,
	       struct err_info *err);
/* Blocking: reads no more of the file than its counts; all zero when it has none. 0, or a negative code with words. */
int table_read_counts(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t file_size, struct table_counts *out,
		      struct err_info *err);
struct table *table_ref(struct table *t);
void table_unref(struct table *t); /* NULL is fine */
uint64_t table_number(const struct table *t);
struct io_file *table_file(const struct table *t);
size_t table_memory(const struct table *t); /* bytes of index and filter */
const struct table_counts *table_counts(const struct table *t);

/*
 * Turns the stored bytes of a block (handle.size + BLOCK_TRAILER, as read from the file) into a block: checks the CRC, decompresses.
 * 0 and one reference, -SHALE_ECORRUPT (words name file and offset), -ENOMEM.
 */
int block_from_stored(const struct table *t, struct block_handle h, const unsigned char *stored, struct block **out,
		      struct err_info *err);

/*
 * The blocks that follow the one at @h in the file, for reading ahead: fills @out with at most @max handles, the first being @h itself,
 * in file order and adjacent. Returns how many (0 when @h is not in the index).
 */
unsigned table_following_blocks(const struct table *t, struct block_handle h, struct block_handle *out, unsigned max);

/*
 * The newest entry of @ikey's user key at or below @ikey's sequence. 0, and *@trailer_out (its sequence << 8 | type, as
 * ikey_trailer gives; a key is prefix-compressed in its block, so there is no whole one to point at) and *@value_out, whose bytes lie in *@pin_out
 * (a reference for the caller, on 0 only); TABLE_ABSENT: the filter or the search says that there is none; READ_MISS; -SHALE_ECORRUPT.
 * *@read_out (may be NULL; always set): a data block was searched.
 */
#define TABLE_ABSENT 3
int table_get(struct table *t, struct block_source *src, struct slice ikey, struct block **pin_out,
	      uint64_t *trailer_out, struct slice *value_out, bool *read_out);

/* Over internal keys, through @src (borrowed while the iterator lives). Takes a reference of the table. */
int table_iter_new(struct table *t, struct block_source *src, struct iter **out);

/* Approximate file offset at which @ikey lies. */
uint64_t table_offset_of(const struct table *t, struct slice ikey);

/* ---- tables kept open ---- */

/* Open tables by number, at most @capacity kept (least recently used go; those in use stay open for their users). Any thread. */
struct table_cache;

int table_cache_new(unsigned capacity, struct table_cache **out);
void table_cache_free(struct table_cache *c);
struct table *table_cache_get(struct table_cache *c, uint64_t number); /* a new reference, or NULL */
void table_cache_put(struct table_cache *c, struct table *t);	       /* takes a reference of its own */
void table_cache_drop(struct table_cache *c, uint64_t number);	       /* before the file is deleted */
unsigned table_cache_count(struct table_cache *c);

#endif
