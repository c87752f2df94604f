/*
 * table_exam.h - one table, whatever state it is in: everything about it is checked, and what can be read of it is known afterwards.
 */
#ifndef SHALE_ENGINE_TABLE_EXAM_H
#define SHALE_ENGINE_TABLE_EXAM_H

#include "engine/exam.h"
#include "engine/iter.h"

/*
 * A part of a table that cannot be read. User keys that were in it lie from @after to @before, both included (versions of one key may stand in
 * two blocks); without one of them that end is open.
 */
struct table_hole {
	uint64_t offset, size; /* in the file; size 0: unknown */
	bool one_block;        /* it is the block at @offset, so the filter tells which keys it cannot have held */
	bool has_after, has_before;
	struct key_buf after, before;
};

struct table_exam {
	char name[FILE_NAME_MAX];
	uint64_t number, size;
	struct block_handle *blocks; /* the good data blocks, in the order of their keys */
	size_t block_count, block_cap;
	struct table_hole *holes;
	size_t hole_count, hole_cap;
	bool sound;            /* nothing is wrong: the engine reads it as it is */
	bool foreign_keys;     /* it holds keys that are no internal keys */
	struct block *filter;  /* NULL: none, or damaged */
	struct key_buf smallest, largest; /* internal keys, of what can be read; empty when nothing can */
	uint64_t entries, bytes;          /* of good blocks: entries, keys and values */
	uint64_t sequence_low, sequence_high;
};

/* What a dump wants to be told of. Any may be NULL. */
struct table_watch {
	void (*block)(struct table_watch *w, const char *kind, struct block_handle h, unsigned type, size_t size, size_t entries);
	void (*entry)(struct table_watch *w, struct slice ikey, struct slice value, struct block_handle h);
	void (*meta)(struct table_watch *w, struct slice key, struct slice value);
	void (*index)(struct table_watch *w, struct slice ikey, struct block_handle h);
};

/*
 * Reads the whole of @name into memory and checks: footer, index, metaindex, filter, every block and entry; order; that the index leads to each
 * key and the filter lets it through; no byte unaccounted for. @meta: what the MANIFEST says of it, checked too, or NULL. Reports to @x.
 * 0 and *@out (owned; also when it is damaged), or a failure with words: not there, no memory, ended by progress.
 */
int table_examine(struct exam *x, const char *name, uint64_t number, const struct file_meta *meta, struct table_watch *watch,
		  struct table_exam **out, struct err_info *err);
void table_exam_free(struct table_exam *t); /* NULL is fine */

/* Iterates over the good blocks of @tables (borrowed; disjoint, in key order), one open at a time. Only seek_first and next. 0 or -ENOMEM. */
int exam_iter_new(struct exam *x, struct table_exam *const *tables, size_t count, struct iter **out);

/* Which of the tables the valid iterator @it stands in. */
size_t exam_iter_table(const struct iter *it);

/* True when @hole may have held @user. @t: its table. */
bool table_hole_may_hold(const struct table_exam *t, const struct table_hole *hole, struct slice user);

/* Why the stored bytes of a block are no block; NULL when they are, and *@out (one reference). *@rc_out: -ENOMEM, or 0. */
const char *block_judge(const unsigned char *stored, size_t size, bool entries, struct block **out, int *rc_out);

#endif
