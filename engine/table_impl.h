/*
 * table_impl.h - inside an open table, for table.c, table_iter.c, table_load.c and the block sources.
 *
 * Loading is a small machine that never waits: it says which read it needs next, and is told how that ended. So the service thread
 * can drive it with completions (read_ctx.c) and a worker by waiting (table_open).
 *
 *	begin: open the file ─▶ tail (footer, and mostly all the rest) ─▶ index ─▶ metaindex ─▶ filter ─▶ done
 *	                                                                 └── each a further read only if it does not lie in the tail ──┘
 */
#ifndef SHALE_ENGINE_TABLE_IMPL_H
#define SHALE_ENGINE_TABLE_IMPL_H

#include <stdatomic.h>

#include "engine/filename.h"
#include "engine/table.h"

struct table {
	_Atomic uint32_t refs;
	uint64_t number;
	uint64_t file_size; /* bytes, as the MANIFEST tells */
	uint64_t data_end;  /* where the metaindex begins: what lies before is data and filter */
	struct io_file *file;
	struct block *index;
	uint64_t *heads;	  /* of the index keys, one per restart point (table_index.c); NULL: searched without */
	struct table_counts counts;
	struct slice head_prefix; /* what all index keys begin with; into index */
	struct block *filter;	  /* the filter block's raw bytes; NULL: none */
	char name[FILE_NAME_MAX];
};

/* A handle at the start of @value that lies inside the blocks of a file of @file_size bytes. Returns the bytes after it, NULL when it does not. */
const unsigned char *block_handle_get(struct slice value, uint64_t file_size, struct block_handle *out);
enum { BLOCK_HANDLE_MAX = 2 * VARINT64_MAX };
unsigned char *block_handle_put(unsigned char *dst, struct block_handle h);

/* The handle that an index entry's value begins with (what follows it is ignored). 0 or -SHALE_ECORRUPT. */
int table_handle(const struct table *t, struct slice value, struct block_handle *out);

/* As block_from_stored, for bytes that are no entries (the filter): restart points are not looked for. */
int block_unpack(const struct table *t, struct block_handle h, const unsigned char *stored, struct block **out,
		 struct err_info *err);

/* Proves every entry of t->index (an internal key, the handle of a block behind the one before) and makes its heads. 0, -SHALE_ECORRUPT, -ENOMEM. */
int table_index_check(struct table *t);
/* Moves @it (initialised) to the first entry of the index >= @ikey, or to no entry. */
void table_index_seek(const struct table *t, struct block_iter *it, struct slice ikey);

/* Its name in the metaindex; the value is no handle, but the counts themselves. Sorts behind the filter's name. */
#define STATS_META_KEY "shale.stats"

#define TABLE_LOAD_READ 1 /* the machine wants load->{buf, len, offset} read from load->table->file */

struct table_load {
	struct table *table;
	struct err_info *err; /* borrowed; may be NULL */
	enum { LOAD_TAIL, LOAD_INDEX, LOAD_META, LOAD_FILTER, LOAD_DONE } step;
	unsigned char *tail; /* the end of the file */
	uint64_t tail_offset;
	unsigned char *piece;		       /* a block that does not lie in the tail */
	struct block_handle handle[LOAD_DONE]; /* by step */
	/* the read that is wanted */
	unsigned char *buf;
	size_t len;
	uint64_t offset;
};

/* Opens the file (the one call that may touch the disk). TABLE_LOAD_READ, or a failure with words: -SHALE_EMISSING, -SHALE_ECORRUPT, -errno. */
int table_load_begin(struct table_load *l, struct io_env *env, uint64_t number, uint64_t file_size,
		     struct err_info *err);
/* The read ended with @result (bytes or -errno). TABLE_LOAD_READ; 0: done, take the table; or a failure with words. */
int table_load_next(struct table_load *l, int64_t result);
struct table *table_load_take(struct table_load *l); /* the loaded table, one reference */
void table_load_fini(struct table_load *l);	     /* also of a half-loaded one; never while a read is in flight */

/* Reads and waits; worker's queue. Bytes read, fewer than @len only at the end of the file, or -errno. */
int64_t table_read(struct io_queue *q, struct io_file *f, void *buf, size_t len, uint64_t offset);

#endif
