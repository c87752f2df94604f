/* table_iter.c - over the entries of a table: an iterator over its index, and one over the block that the index points at. */
#include "engine/table.h"

#include <stdlib.h>

#include "engine/source.h"
#include "engine/table_impl.h"
#include "shm/error.h"

struct table_iter {
	struct iter base;
	struct table *table;
	struct block_source *source;
	struct block_iter index, data;
	uint64_t offset; /* of the block in data; UINT64_MAX: none */
};

static void fail(struct table_iter *it, int status)
{
	it->base.valid = false;
	it->base.status = status;
}

static void drop_block(struct table_iter *it)
{
	block_iter_set(&it->data, NULL, false, true);
	it->offset = UINT64_MAX;
}

/* Brings the block under the index cursor; the data iterator is not positioned. False: at an end, or failed. */
static bool load_block(struct table_iter *it)
{
	struct block_handle h;
	struct block *b;
	int rc;

	if (!it->index.base.valid) {
		fail(it, it->index.base.status);
		return false;
	}
	rc = table_handle(it->table, it->index.base.value, &h);
	if (rc == 0 && h.offset == it->offset)
		return true;
	drop_block(it);
	if (rc == 0)
		rc = it->source->block(it->source, it->table, h, &b);
	if (rc != 0) {
		fail(it, rc);
		return false;
	}
	block_iter_set(&it->data, b, true, true);
	it->offset = h.offset;
	return true;
}

/* Shows the data cursor, walking on over block ends (blocks may be empty, too). */
static void settle(struct table_iter *it, void (*onward)(struct iter *), void (*enter)(struct iter *))
{
	while (!it->data.base.valid) {
		if (it->data.base.status) {
			fail(it, it->data.base.status);
			return;
		}
		onward(&it->index.base);
		if (!load_block(it))
			return;
		enter(&it->data.base);
	}
	it->base.valid = true;
	it->base.status = 0;
	it->base.key = it->data.base.key;
	it->base.value = it->data.base.value;
}

static void seek_first(struct iter *base)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	iter_seek_first(&it->index.base);
	if (!load_block(it))
		return;
	iter_seek_first(&it->data.base);
	settle(it, iter_next, iter_seek_first);
}

static void seek_last(struct iter *base)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	iter_seek_last(&it->index.base);
	if (!load_block(it))
		return;
	iter_seek_last(&it->data.base);
	settle(it, iter_prev, iter_seek_last);
}

static void seek(struct iter *base, struct slice ikey)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	table_index_seek(it->table, &it->index, ikey);
	if (!load_block(it))
		return;
	iter_seek(&it->data.base, ikey);
	settle(it, iter_next, iter_seek_first);
}

static void next(struct iter *base)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	assert(base->valid);
	iter_next(&it->data.base);
	settle(it, iter_next, iter_seek_first);
}

static void prev(struct iter *base)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	assert(base->valid);
	iter_prev(&it->data.base);
	settle(it, iter_prev, iter_seek_last);
}

static void release(struct iter *base)
{
	struct table_iter *it = container_of(base, struct table_iter, base);

	block_iter_fini(&it->data);
	block_iter_fini(&it->index);
	table_unref(it->table);
	free(it);
}

static const struct iter_ops table_iter_ops = {
	.seek_first = seek_first,
	.seek_last = seek_last,
	.seek = seek,
	.next = next,
	.prev = prev,
	.free = release,
};

int table_iter_new(struct table *t, struct block_source *src, struct iter **out)
{
	struct table_iter *it = malloc(sizeof(*it));

	if (!it)
		return -ENOMEM;
	it->base = (struct iter){.ops = &table_iter_ops};
	it->table = table_ref(t);
	it->source = src;
	block_iter_init(&it->index);
	block_iter_set(&it->index, t->index, false, true);
	block_iter_init(&it->data);
	drop_block(it);
	*out = &it->base;
	return 0;
}
