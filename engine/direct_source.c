/*
 * direct_source.c - a worker's blocks: read through its own queue, waiting, with one buffer of reading ahead per table in use.
 *
 * A merge reads many tables, each in order, so each has its own buffer; the one unused for longest gives way. A block that begins where the last one
 * of its table ended (or at the start of the file) is read in order: then as much as `readahead` comes with it.
 * Nothing goes into the block cache: a compaction reads each block once.
 */
#include "engine/source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/table_impl.h"
#include "shm/error.h"

enum { BUFFERS = 32 };

struct ahead {
	uint64_t table; /* number; file numbers begin at 1, so 0: free */
	uint64_t last_use;
	uint64_t start, end; /* file offsets of the bytes in buf */
	uint64_t next;	     /* file offset after the block asked for last */
	unsigned char *buf;
	size_t cap;
};

struct direct_source {
	struct block_source base;
	struct io_env *env;
	struct io_queue *queue;
	struct table_cache *tables;
	size_t readahead;
	uint64_t bytes_read, uses;
	struct ahead *recent; /* asked last; NULL: none */
	struct ahead buffers[BUFFERS];
	struct err_info err;
};

static int ask_table(struct block_source *src, uint64_t number, uint64_t file_size, struct table **out)
{
	struct direct_source *s = container_of(src, struct direct_source, base);
	struct table *t = s->tables ? table_cache_get(s->tables, number) : NULL;

	if (!t) {
		int rc = table_open(s->env, s->queue, number, file_size, &t, &s->err);

		if (rc < 0)
			return rc;
		if (s->tables)
			table_cache_put(s->tables, t);
	}
	*out = t;
	return 0;
}

/* The table's buffer, or the one unused for longest, emptied for it. */
static struct ahead *ahead_of(struct direct_source *s, uint64_t table)
{
	struct ahead *oldest = &s->buffers[0];

	if (s->recent && s->recent->table == table)
		return s->recent;
	for (unsigned i = 0; i < BUFFERS; i++) {
		if (s->buffers[i].table == table)
			return &s->buffers[i];
		if (s->buffers[i].last_use < oldest->last_use)
			oldest = &s->buffers[i];
	}
	oldest->table = table;
	oldest->start = oldest->end = oldest->next = 0;
	return oldest;
}

/* Reads at least @need bytes at @offset into @a, which then holds what came. */
static int fill(struct direct_source *s, struct ahead *a, const struct table *t, uint64_t offset, size_t need)
{
	uint64_t limit = offset + need <= t->data_end ? t->data_end
						      : t->file_size; /* behind the data nothing is read in order */
	size_t len = need;
	int64_t got;

	if (offset == a->next)
		len = max_size(need, min_size(s->readahead, limit - offset));
	a->start = a->end = 0;
	if (len > a->cap) {
		unsigned char *buf = malloc(len);

		if (!buf)
			return err_set(&s->err, -ENOMEM, "%s: no memory to read %zu bytes", t->name, len);
		free(a->buf);
		a->buf = buf;
		a->cap = len;
	}
	got = table_read(s->queue, t->file, a->buf, len, offset);
	if (got < 0)
		return err_set(&s->err, (int)got, "%s: cannot read %zu bytes at offset %" PRIu64 ": %s", t->name, len,
			       offset, shale_strerror((int)got));
	s->bytes_read += (uint64_t)got;
	if ((uint64_t)got < need)
		return err_set(&s->err, -SHALE_ECORRUPT, "%s: the file ends inside the block at offset %" PRIu64,
			       t->name, offset);
	a->start = offset;
	a->end = offset + (uint64_t)got;
	return 0;
}

static int ask_block(struct block_source *src, struct table *t, struct block_handle h, struct block **out)
{
	struct direct_source *s = container_of(src, struct direct_source, base);
	struct ahead *a = ahead_of(s, t->number);
	size_t need = h.size + BLOCK_TRAILER;
	int rc = 0;

	s->recent = a;
	a->last_use = ++s->uses;
	if (h.offset < a->start || h.offset + need > a->end)
		rc = fill(s, a, t, h.offset, need);
	if (rc == 0)
		rc = block_from_stored(t, h, a->buf + (h.offset - a->start), out, &s->err);
	a->next = h.offset + need;
	return rc;
}

int direct_source_new(struct io_env *env, struct io_queue *q, struct table_cache *tables, size_t readahead,
		      struct direct_source **out)
{
	struct direct_source *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->base = (struct block_source){.table = ask_table, .block = ask_block};
	s->env = env;
	s->queue = q;
	s->tables = tables;
	s->readahead = readahead;
	*out = s;
	return 0;
}

struct block_source *direct_source_base(struct direct_source *s)
{
	return &s->base;
}

uint64_t direct_source_bytes_read(const struct direct_source *s)
{
	return s->bytes_read;
}

const struct err_info *direct_source_error(const struct direct_source *s)
{
	return &s->err;
}

void direct_source_free(struct direct_source *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < BUFFERS; i++)
		free(s->buffers[i].buf);
	free(s);
}
