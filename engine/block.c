/*
 * block.c - a block in memory and the iterator over it.
 *
 *	data    entry | entry | …                          0 … restart_offset
 *	        fixed32 restart point × restarts | fixed32 restarts
 *	entry   varint32 shared | varint32 unshared | varint32 value size | key bytes past the shared ones | value
 *
 * block_check proves the restart array once; every entry is checked when it is parsed, so an iterator over any bytes whatever
 * stays inside the block. An entry that does not add up ends the iteration with -SHALE_ECORRUPT.
 */
#include "engine/block.h"

#include <stdlib.h>

#include "engine/ikey.h"
#include "shm/error.h"

struct block *block_new(size_t size)
{
	struct block *b;

	if (size > UINT32_MAX)
		return NULL;
	b = malloc(sizeof(*b) + size);
	if (!b)
		return NULL;
	atomic_init(&b->refs, 1);
	b->restarts = 0;
	b->restart_offset = 0;
	b->size = (uint32_t)size;
	return b;
}

void block_unref(struct block *b)
{
	/* Release: this thread's reads of the block come before the free. Pairs with the acquire of whoever drops the last reference. */
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}

static inline uint32_t restart_point(const struct block *b, uint32_t i)
{
	return load_le32(b->data + b->restart_offset + (size_t)i * 4);
}

int block_check(struct block *b)
{
	uint32_t n, end, last = 0;

	if (b->size < 4)
		return -SHALE_ECORRUPT;
	n = load_le32(b->data + b->size - 4);
	if (n > (b->size - 4) / 4)
		return -SHALE_ECORRUPT;
	end = b->size - 4 - n * 4;
	if (n == 0 && end != 0)
		return -SHALE_ECORRUPT;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = load_le32(b->data + end + (size_t)i * 4);

		/* An empty block has one restart point, at 0, and no entry there. */
		if (i == 0 ? at != 0 : at <= last || at >= end)
			return -SHALE_ECORRUPT;
		last = at;
	}
	b->restarts = n;
	b->restart_offset = end;
	return 0;
}

/* ---- parsing ---- */

struct entry {
	uint32_t shared;
	struct slice key; /* what is not shared */
	struct slice value;
	uint32_t next; /* offset after it */
};

/* The entry at @at, inside the block's entries. False when it reaches past them. */
static inline bool entry_parse(const struct block *b, uint32_t at, struct entry *e)
{
	const unsigned char *p = b->data + at, *end = b->data + b->restart_offset;
	uint32_t unshared, value;

	if (likely(end - p >= 3 && (p[0] | p[1] | p[2]) < 0x80)) {
		e->shared = p[0];
		unshared = p[1];
		value = p[2];
		p += 3;
	} else if (!(p = varint32_get(p, end, &e->shared)) || !(p = varint32_get(p, end, &unshared)) ||
		   !(p = varint32_get(p, end, &value))) {
		return false;
	}
	if (unlikely((uint64_t)unshared + value > (uint64_t)(end - p)))
		return false;
	e->key = slice_of(p, unshared);
	e->value = slice_of(p + unshared, value);
	e->next = (uint32_t)(p - b->data) + unshared + value;
	return true;
}

static void stop(struct block_iter *it, int status)
{
	it->base.valid = false;
	it->base.status = status;
}

/* Room for @size key bytes in it->key; what base.key says may lie there is kept. */
static bool key_reserve(struct block_iter *it, size_t size)
{
	size_t cap = size + size / 2;
	unsigned char *grown;

	if (likely(size <= it->key.cap))
		return true;
	grown = malloc(cap);
	if (!grown)
		return false;
	if (it->base.key.data == it->key.data) {
		memcpy(grown, it->key.data, it->base.key.size);
		it->base.key.data = grown;
	}
	if (it->key.data != it->key_space)
		free(it->key.data);
	it->key.data = grown;
	it->key.cap = cap;
	return true;
}

/* Puts the cursor on the entry at @at; base.key holds the key of the entry before it (empty at a restart point). */
static inline bool load(struct block_iter *it, uint32_t at)
{
	struct entry e;

	if (unlikely(!entry_parse(it->block, at, &e) || e.shared > it->base.key.size ||
		     (it->internal && e.shared + e.key.size < IKEY_TRAILER))) {
		stop(it, -SHALE_ECORRUPT);
		return false;
	}
	if (e.shared == 0) {
		it->base.key = e.key;
	} else {
		size_t size = e.shared + e.key.size;

		if (unlikely(!key_reserve(it, size))) {
			stop(it, -ENOMEM);
			return false;
		}
		if (it->base.key.data != it->key.data)
			memcpy(it->key.data, it->base.key.data, e.shared);
		memcpy(it->key.data + e.shared, e.key.data, e.key.size);
		it->base.key = slice_of(it->key.data, size);
	}
	it->base.value = e.value;
	it->base.valid = true;
	it->base.status = 0;
	it->current = at;
	it->next = e.next;
	return true;
}

/* The entry after the cursor, or past the end. */
static inline bool step(struct block_iter *it)
{
	if (it->next >= it->block->restart_offset) {
		stop(it, 0);
		return false;
	}
	return load(it, it->next);
}

/* The entry at restart point @i, which stands for itself. */
static bool load_restart(struct block_iter *it, uint32_t i)
{
	it->restart = i;
	it->base.key.size = 0;
	return load(it, restart_point(it->block, i));
}

/* True, and the iterator stopped, when there is no entry at all. */
static bool is_empty(struct block_iter *it)
{
	if (it->block && it->block->restart_offset > 0)
		return false;
	stop(it, 0);
	return true;
}

/* ---- moves ---- */

static inline int compare(const struct block_iter *it, struct slice a, struct slice b)
{
	return it->internal ? ikey_compare(a, b) : slice_compare(a, b);
}

static void seek_first(struct iter *base)
{
	struct block_iter *it = container_of(base, struct block_iter, base);

	if (!is_empty(it))
		load_restart(it, 0);
}

static void seek_last(struct iter *base)
{
	struct block_iter *it = container_of(base, struct block_iter, base);

	if (is_empty(it) || !load_restart(it, it->block->restarts - 1))
		return;
	while (it->next < it->block->restart_offset)
		if (!load(it, it->next))
			return;
}

/* The last restart point whose key is < @target (0 when none is), in it->restart. False: corrupt, and stopped. */
static bool find_restart(struct block_iter *it, struct slice target)
{
	const struct block *b = it->block;
	uint32_t low = 0, high = b->restarts - 1;

	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		struct entry e;

		if (unlikely(!entry_parse(b, restart_point(b, middle), &e) || e.shared != 0 ||
			     (it->internal && e.key.size < IKEY_TRAILER))) {
			stop(it, -SHALE_ECORRUPT);
			return false;
		}
		if (compare(it, e.key, target) < 0)
			low = middle;
		else
			high = middle - 1;
	}
	it->restart = low;
	return true;
}

static void seek(struct iter *base, struct slice target)
{
	struct block_iter *it = container_of(base, struct block_iter, base);

	assert(!it->internal || target.size >= IKEY_TRAILER);
	if (is_empty(it) || !find_restart(it, target) || !load_restart(it, it->restart))
		return;
	while (compare(it, base->key, target) < 0)
		if (!step(it))
			return;
}

static void next(struct iter *base)
{
	struct block_iter *it = container_of(base, struct block_iter, base);

	assert(base->valid);
	step(it);
}

/* Entries can be read forward only: begins again at the last restart point before the cursor. */
static void prev(struct iter *base)
{
	struct block_iter *it = container_of(base, struct block_iter, base);
	const struct block *b = it->block;
	uint32_t target = it->current, i = it->restart;

	assert(base->valid);
	if (target == 0) {
		stop(it, 0);
		return;
	}
	while (i + 1 < b->restarts && restart_point(b, i + 1) < target)
		i++;
	while (i > 0 && restart_point(b, i) >= target)
		i--;
	if (!load_restart(it, i))
		return;
	while (it->next < target)
		if (!load(it, it->next))
			return;
	if (it->next != target)
		stop(it, -SHALE_ECORRUPT); /* a restart point that lies inside an entry */
}

void block_iter_restart(struct block_iter *it, uint32_t i)
{
	assert(it->block && i < it->block->restarts);
	if (!is_empty(it))
		load_restart(it, i);
}

static void release(struct iter *base)
{
	block_iter_fini(container_of(base, struct block_iter, base));
}

static const struct iter_ops block_iter_ops = {
	.seek_first = seek_first,
	.seek_last = seek_last,
	.seek = seek,
	.next = next,
	.prev = prev,
	.free = release,
};

void block_iter_init(struct block_iter *it)
{
	it->base = (struct iter){.ops = &block_iter_ops};
	it->block = NULL;
	it->own = it->internal = false;
	it->current = it->next = it->restart = 0;
	it->key.data = it->key_space;
	it->key.cap = sizeof(it->key_space);
}

void block_iter_set(struct block_iter *it, struct block *b, bool own, bool internal)
{
	if (it->own)
		block_unref(it->block);
	it->block = b;
	it->own = own;
	it->internal = internal;
	it->current = it->next = it->restart = 0;
	stop(it, 0);
}

void block_iter_fini(struct block_iter *it)
{
	block_iter_set(it, NULL, false, false);
	if (it->key.data != it->key_space)
		free(it->key.data);
	it->key.data = it->key_space;
	it->key.cap = sizeof(it->key_space);
}
