/* exam_iter.c - over the good blocks of a run of tables: what is left of them, as if nothing else had ever been there. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/table_exam.h"
#include "engine/table_impl.h"

struct exam_iter {
	struct iter base;
	struct exam *x;
	struct table_exam *const *tables;
	size_t count, at; /* the table that is open */
	size_t block;	  /* the next of its blocks */
	struct io_file *file;
	unsigned char *stored;
	size_t stored_cap;
	struct block_iter data;
};

static void close_file(struct exam_iter *it)
{
	block_iter_set(&it->data, NULL, false, true);
	io_close(it->file);
	it->file = NULL;
}

/* Block @h of the open table, read again. It was good a moment ago: when it is not any more, the device is not to be trusted. */
static int read_block(struct exam_iter *it, struct block_handle h, struct block **out)
{
	size_t need = h.size + BLOCK_TRAILER;
	int64_t got;
	int rc;

	if (need > it->stored_cap) {
		unsigned char *grown = realloc(it->stored, need);

		if (!grown)
			return -ENOMEM;
		it->stored = grown;
		it->stored_cap = need;
	}
	got = table_read(it->x->q, it->file, it->stored, need, h.offset);
	if (got < 0)
		return (int)got;
	if ((size_t)got < need || block_judge(it->stored, h.size, true, out, &rc))
		return -EIO;
	rc = exam_progress(it->x, it->tables[it->at]->name, need);
	if (rc < 0)
		block_unref(*out);
	return rc;
}

/* Brings the next block into data. 0, 1 at the end, or a failure. */
static int next_block(struct exam_iter *it)
{
	struct block *b;
	int rc;

	while (it->at < it->count && it->block >= it->tables[it->at]->block_count) {
		close_file(it);
		it->at++;
		it->block = 0;
	}
	if (it->at == it->count)
		return 1;
	rc = it->file ? 0 : io_open(it->x->env, it->tables[it->at]->name, IO_OPEN_READ, &it->file);
	if (rc == 0)
		rc = read_block(it, it->tables[it->at]->blocks[it->block++], &b);
	if (rc < 0)
		return rc;
	block_iter_set(&it->data, b, true, true);
	iter_seek_first(&it->data.base);
	return 0;
}

static void show(struct exam_iter *it)
{
	int rc = 0;

	while (rc == 0 && !it->data.base.valid)
		rc = next_block(it);
	it->base.valid = rc == 0;
	it->base.status = rc < 0 ? rc : 0;
	it->base.key = it->data.base.key;
	it->base.value = it->data.base.value;
}

static void seek_first(struct iter *base)
{
	struct exam_iter *it = container_of(base, struct exam_iter, base);

	close_file(it);
	it->at = it->block = 0;
	show(it);
}

static void next(struct iter *base)
{
	struct exam_iter *it = container_of(base, struct exam_iter, base);

	iter_next(&it->data.base);
	show(it);
}

static void free_iter(struct iter *base)
{
	struct exam_iter *it = container_of(base, struct exam_iter, base);

	close_file(it);
	block_iter_fini(&it->data);
	free(it->stored);
	free(it);
}

static const struct iter_ops ops = {.seek_first = seek_first, .next = next, .free = free_iter};

int exam_iter_new(struct exam *x, struct table_exam *const *tables, size_t count, struct iter **out)
{
	struct exam_iter *it = calloc(1, sizeof(*it));

	if (!it)
		return -ENOMEM;
	it->base.ops = &ops;
	it->x = x;
	it->tables = tables;
	it->count = count;
	block_iter_init(&it->data);
	*out = &it->base;
	return 0;
}

size_t exam_iter_table(const struct iter *it)
{
	return container_of(it, struct exam_iter, base)->at;
}
