/*
 * table_index.c - searching the index of an open table.
 *
 * The index is a block with a restart point for every entry. A binary search over it alone touches, at each step, a restart point
 * here and an entry there, nearly always two cache misses. So an open table keeps, for each entry, a head: the 8 bytes of the user key that follow what
 * all index keys have in common, as a big-endian number. Heads are ordered as the keys are; the search runs over this one small array, and looks at keys
 * only where heads are equal.
 */
#include <stdlib.h>

#include "engine/ikey.h"
#include "engine/table_impl.h"
#include "shm/error.h"

static uint64_t head_of(struct slice user, size_t skip)
{
	unsigned char bytes[8] = {
		0}; /* a key that ends is below all that go on, and zeros are below or equal to anything */
	uint64_t head;

	if (likely(user.size >= skip + 8))
		memcpy(&head, user.data + skip, 8);
	else {
		if (user.size > skip)
			memcpy(bytes, user.data + skip, user.size - skip);
		memcpy(&head, bytes, 8);
	}
	return __builtin_bswap64(head);
}

static size_t common_prefix(struct slice a, struct slice b)
{
	size_t n = min_size(a.size, b.size), i = 0;

	while (i < n && a.data[i] == b.data[i])
		i++;
	return i;
}

/* The user key of entry @i, with @it over an index that is known to have each entry at a restart point. Its bytes lie in the block. */
static struct slice user_at(struct block_iter *it, uint32_t i)
{
	block_iter_restart(it, i);
	assert(it->base.valid);
	return ikey_user(it->base.key);
}

static uint32_t restart_point(const struct block *b, uint32_t i)
{
	return i < b->restarts ? load_le32(b->data + b->restart_offset + (size_t)i * 4) : UINT32_MAX;
}

int table_index_check(struct table *t)
{
	struct slice last = {0};
	struct block_handle h;
	struct block_iter it;
	uint64_t end = 0;
	uint32_t n = 0;
	bool plain = true; /* the i-th entry lies at the i-th restart point and shares nothing */
	int rc = 0;

	block_iter_init(&it);
	block_iter_set(&it, t->index, false, true);
	for (iter_seek_first(&it.base); it.base.valid && rc == 0; iter_next(&it.base), n++) {
		if (table_handle(t, it.base.value, &h) < 0 || h.offset < end)
			rc = -SHALE_ECORRUPT;
		else
			end = h.offset + h.size + BLOCK_TRAILER;
		plain = plain && it.base.key.data != it.key.data && it.current == restart_point(t->index, n);
		if (!plain)
			continue; /* nobody writes such an index; it is searched as any block is */
		if (last.size && ikey_compare(last, it.base.key) > 0)
			rc = -SHALE_ECORRUPT;
		last = it.base.key;
	}
	if (rc == 0)
		rc = it.base.status;
	if (rc == 0 && n > 0 && plain && n == t->index->restarts && (t->heads = malloc(n * sizeof(*t->heads)))) {
		t->head_prefix = user_at(&it, 0);
		t->head_prefix.size = common_prefix(t->head_prefix, user_at(&it, n - 1));
		for (uint32_t i = 0; i < n; i++)
			t->heads[i] = head_of(user_at(&it, i), t->head_prefix.size);
	}
	block_iter_fini(&it);
	return rc;
}

/* First entry whose head is >= @head (or > it, when @above). */
static uint32_t find_head(const struct table *t, uint32_t low, uint64_t head, bool above)
{
	uint32_t n = t->index->restarts - low;

	while (n > 0) {
		uint32_t half = n / 2;
		uint64_t at = t->heads[low + half];
		bool before = above ? at <= head : at < head;

		low = before ? low + half + 1 : low;
		n = before ? n - half - 1 : half;
	}
	return low;
}

void table_index_seek(const struct table *t, struct block_iter *it, struct slice ikey)
{
	struct slice user = ikey_user(ikey), prefix = t->head_prefix;
	uint32_t low = 0, high = 0;

	block_iter_set(it, t->index, false, true);
	if (unlikely(!t->heads)) {
		iter_seek(&it->base, ikey);
		return;
	}
	if (prefix.size) {
		int c = slice_compare(slice_of(user.data, min_size(user.size, prefix.size)), prefix);

		if (c > 0)
			return; /* behind all keys */
		if (c < 0) {
			block_iter_restart(it, 0);
			return;
		}
	}
	low = find_head(t, 0, head_of(user, prefix.size), false);
	if (low < t->index->restarts && t->heads[low] == head_of(user, prefix.size))
		high = find_head(t, low, head_of(user, prefix.size), true);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		block_iter_restart(it, middle);
		if (ikey_compare(it->base.key, ikey) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < t->index->restarts)
		block_iter_restart(it, low);
	else
		block_iter_set(it, t->index, false, true);
}

/* Moves @it, over the index, to the entry of the block at @offset. */
static bool find_block(const struct table *t, struct block_iter *it, uint64_t offset)
{
	uint32_t low = 0, high = t->index->restarts;
	struct block_handle h;

	if (high == 0)
		return false;
	/* The last restart point at or before the offset; with one per entry, that is it. */
	for (high--; low < high;) {
		uint32_t middle = low + (high - low + 1) / 2;

		block_iter_restart(it, middle);
		if (!it->base.valid || table_handle(t, it->base.value, &h) < 0)
			return false;
		if (h.offset <= offset)
			low = middle;
		else
			high = middle - 1;
	}
	for (block_iter_restart(it, low); it->base.valid; iter_next(&it->base)) {
		if (table_handle(t, it->base.value, &h) < 0 || h.offset > offset)
			return false;
		if (h.offset == offset)
			return true;
	}
	return false;
}

unsigned table_following_blocks(const struct table *t, struct block_handle h, struct block_handle *out, unsigned max)
{
	uint64_t expect = h.offset;
	struct block_iter it;
	unsigned n = 0;

	block_iter_init(&it);
	block_iter_set(&it, t->index, false, true);
	if (find_block(t, &it, h.offset)) {
		for (; n < max && it.base.valid; iter_next(&it.base)) {
			if (table_handle(t, it.base.value, &out[n]) < 0 || out[n].offset != expect)
				break;
			expect += out[n].size + BLOCK_TRAILER;
			n++;
		}
	}
	block_iter_fini(&it);
	return n;
}

uint64_t table_offset_of(const struct table *t, struct slice ikey)
{
	struct block_handle h = {.offset = t->data_end};
	struct block_iter it;

	block_iter_init(&it);
	table_index_seek(t, &it, ikey);
	if (it.base.valid && table_handle(t, it.base.value, &h) < 0)
		h.offset = t->data_end;
	block_iter_fini(&it);
	return h.offset;
}
