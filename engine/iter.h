/*
 * iter.h - what every source of ordered entries looks like: memtable, block, table, level, merge.
 *
 * After each move exactly one of these holds:
 *	valid                          key and value are set and stay until the next move
 *	!valid && status == 0          past an end
 *	!valid && status == READ_MISS  a block that is not in memory is needed; the block source has noted it. Nothing
 *	                               is lost: fetch what was noted, then seek again (never resume)
 *	!valid && status < 0           the data could not be read or is corrupt
 * Keys are internal keys (engine/ikey.h). valid, key, value and status are plain fields so that a merge of many
 * iterators compares keys without calls. One thread at a time.
 */
#ifndef SHALE_ENGINE_ITER_H
#define SHALE_ENGINE_ITER_H

#include "shm/base.h"

#define READ_MISS 2 /* positive: an answer that means "not yet" */

struct iter;

struct iter_ops {
	void (*seek_first)(struct iter *it);
	void (*seek_last)(struct iter *it);
	void (*seek)(struct iter *it, struct slice ikey); /* first entry >= ikey */
	void (*next)(struct iter *it);                    /* it is valid */
	void (*prev)(struct iter *it);                    /* it is valid */
	void (*free)(struct iter *it);                    /* also takes what it holds */
};

struct iter {
	const struct iter_ops *ops;
	bool valid;
	int status;
	struct slice key;
	struct slice value;
};

static inline void iter_seek_first(struct iter *it)
{
	it->ops->seek_first(it);
}

static inline void iter_seek_last(struct iter *it)
{
	it->ops->seek_last(it);
}

static inline void iter_seek(struct iter *it, struct slice ikey)
{
	it->ops->seek(it, ikey);
}

static inline void iter_next(struct iter *it)
{
	it->ops->next(it);
}

static inline void iter_prev(struct iter *it)
{
	it->ops->prev(it);
}

static inline void iter_free(struct iter *it)
{
	if (it)
		it->ops->free(it);
}

/*
 * A merge of @count children in internal-key order; takes the children (freed with it, also on failure). Of equal
 * keys, the child with the lower index comes first. When a child misses, all children that must be positioned are still asked, so
 * that one round fetches all missing blocks. 0 and *@out, or -ENOMEM.
 */
int merge_iter_new(struct iter **children, unsigned count, struct iter **out);

#endif
