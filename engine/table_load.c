#include "engine/table_impl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/filter.h"
#include "engine/ikey.h"
#include "shm/error.h"

enum {
	TAIL_MIN = 64 << 10, /* holds index and filter of a table of LevelDB's usual 2 MiB */
	TAIL_MAX = 1 << 20,
	TAIL_PART = 32, /* larger tables: this part of the file */
};

static int open_file(struct table *t, struct io_env *env, struct err_info *err)
{
	static const enum file_type names[] = {FILE_TABLE, FILE_SST}; /* ours and stock's; LevelDB's before 1.14 */
	int rc = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(names) && rc == -ENOENT; i++)
		rc = io_open(env, file_name(t->name, names[i], t->number), IO_OPEN_READ, &t->file);
	if (rc == -ENOENT) {
		file_name(t->name, FILE_TABLE, t->number);
		return err_set(err, -SHALE_EMISSING,
			       "%s: the table is not there, though the database needs it; somebody removed it, or a "
			       "copy of the "
			       "directory is incomplete: put the file back",
			       t->name);
	}
	if (rc < 0)
		return err_set(err, rc, "%s: cannot open the table: %s", t->name, shale_strerror(rc));
	return 0;
}

static int corrupt(struct table_load *l, uint64_t offset, const char *what)
{
	return err_set(l->err, -SHALE_ECORRUPT,
		       "%s: offset %" PRIu64
		       ": %s; the file is damaged: put back a good copy, or run `shalectl repair`",
		       l->table->name, offset, what);
}

static int want(struct table_load *l, unsigned char *buf, size_t len, uint64_t offset)
{
	l->buf = buf;
	l->len = len;
	l->offset = offset;
	return TABLE_LOAD_READ;
}

int table_load_begin(struct table_load *l, struct io_env *env, uint64_t number, uint64_t file_size,
		     struct err_info *err)
{
	struct table *t = calloc(1, sizeof(*t));
	size_t len;
	int rc;

	*l = (struct table_load){.table = t, .err = err, .step = LOAD_TAIL};
	if (!t)
		return err_set(err, -ENOMEM, "no memory for a table");
	atomic_init(&t->refs, 1);
	t->number = number;
	t->file_size = file_size;
	rc = open_file(t, env, err);
	if (rc < 0)
		return rc;
	if (file_size < TABLE_FOOTER)
		return corrupt(l, 0, "the table is too short to be one");
	len = max_size(TAIL_MIN, min_size(TAIL_MAX, file_size / TAIL_PART));
	len = min_size(len, file_size);
	l->tail = malloc(len);
	if (!l->tail)
		return err_set(err, -ENOMEM, "%s: no memory to open the table", t->name);
	l->tail_offset = file_size - len;
	return want(l, l->tail, len, l->tail_offset);
}

static int read_footer(struct table_load *l)
{
	struct table *t = l->table;
	uint64_t at = t->file_size - TABLE_FOOTER;
	const unsigned char *footer = l->tail + (at - l->tail_offset), *p = footer;
	const unsigned char *handles_end = footer + TABLE_FOOTER - 8;

	if (load_le64(handles_end) != TABLE_MAGIC)
		return corrupt(l, at, "no table's magic number at the end (cut short, or not a table)");
	p = block_handle_get(slice_of(p, (size_t)(handles_end - p)), t->file_size, &l->handle[LOAD_META]);
	if (p)
		p = block_handle_get(slice_of(p, (size_t)(handles_end - p)), t->file_size, &l->handle[LOAD_INDEX]);
	if (!p)
		return corrupt(l, at, "the footer points outside the file");
	t->data_end = l->handle[LOAD_META].offset;
	return 0;
}

static int take_index(struct table_load *l, const unsigned char *stored)
{
	int rc = block_from_stored(l->table, l->handle[LOAD_INDEX], stored, &l->table->index, l->err);

	if (rc == 0)
		rc = table_index_check(l->table);
	else
		return rc;
	return rc == -SHALE_ECORRUPT ? corrupt(l, l->handle[LOAD_INDEX].offset, "the index does not make sense") : rc;
}

/* Nonsense there is no reason to refuse the table: then nobody counted. */
static void take_counts(struct table *t, struct slice value)
{
	const unsigned char *p = value.data, *end = p + value.size;
	struct table_counts c;

	p = varint64_get(p, end, &c.entries);
	if (p)
		p = varint64_get(p, end, &c.dead);
	if (p)
		p = varint64_get(p, end, &c.dead_sequence);
	if (p && c.dead <= c.entries && c.dead_sequence <= SEQUENCE_MAX)
		t->counts = c;
}

/* Looks for the filter and the counts; other entries (of other programs, or of versions to come) are none of our business. */
static int take_meta(struct table_load *l, const unsigned char *stored, bool *filter_out)
{
	struct block_handle h = l->handle[LOAD_META];
	struct slice name = slice_str(FILTER_META_KEY), stats = slice_str(STATS_META_KEY);
	struct block *meta;
	struct block_iter it;
	int rc = block_from_stored(l->table, h, stored, &meta, l->err);

	if (rc < 0)
		return rc;
	block_iter_init(&it);
	block_iter_set(&it, meta, true, false);
	iter_seek(&it.base, name);
	*filter_out = it.base.valid && slice_equal(it.base.key, name);
	if (*filter_out && table_handle(l->table, it.base.value, &l->handle[LOAD_FILTER]) < 0)
		rc = corrupt(l, h.offset, "the filter's place lies outside the file");
	else if (it.base.status == 0)
		iter_seek(&it.base, stats);
	if (it.base.valid && slice_equal(it.base.key, stats))
		take_counts(l->table, it.base.value);
	if (rc == 0 && it.base.status == -SHALE_ECORRUPT)
		rc = corrupt(l, h.offset, "the metaindex does not make sense");
	else if (rc == 0)
		rc = it.base.status;
	block_iter_fini(&it);
	return rc;
}

/* Uses the block that this step is about. */
static int take(struct table_load *l, const unsigned char *stored)
{
	bool filter = false;
	int rc;

	switch (l->step) {
	case LOAD_INDEX:
		rc = take_index(l, stored);
		l->step = LOAD_META;
		return rc;
	case LOAD_META:
		rc = take_meta(l, stored, &filter);
		l->step = filter ? LOAD_FILTER : LOAD_DONE;
		return rc;
	default:
		assert(l->step == LOAD_FILTER);
		l->step = LOAD_DONE;
		return block_unpack(l->table, l->handle[LOAD_FILTER], stored, &l->table->filter, l->err);
	}
}

/* Works through the steps whose bytes are there. */
static int advance(struct table_load *l)
{
	while (l->step != LOAD_DONE) {
		struct block_handle h = l->handle[l->step];
		const unsigned char *stored = l->piece;
		int rc;

		if (!stored && h.offset >= l->tail_offset)
			stored = l->tail + (h.offset - l->tail_offset);
		if (!stored) {
			l->piece = malloc(h.size + BLOCK_TRAILER);
			if (!l->piece)
				return err_set(l->err, -ENOMEM, "%s: no memory for its index or filter",
					       l->table->name);
			return want(l, l->piece, h.size + BLOCK_TRAILER, h.offset);
		}
		rc = take(l, stored);
		free(l->piece);
		l->piece = NULL;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int table_load_next(struct table_load *l, int64_t result)
{
	int rc;

	if (result < 0)
		return err_set(l->err, (int)result, "%s: cannot read %zu bytes at offset %" PRIu64 ": %s",
			       l->table->name, l->len, l->offset, shale_strerror((int)result));
	if ((uint64_t)result < l->len)
		return corrupt(l, l->offset + (uint64_t)result, "the file ends here, but should be longer");
	if (l->step == LOAD_TAIL) {
		rc = read_footer(l);
		if (rc < 0)
			return rc;
		l->step = LOAD_INDEX;
	}
	return advance(l);
}

struct table *table_load_take(struct table_load *l)
{
	struct table *t = l->table;

	assert(l->step == LOAD_DONE);
	l->table = NULL;
	return t;
}

void table_load_fini(struct table_load *l)
{
	table_unref(l->table);
	free(l->tail);
	free(l->piece);
	*l = (struct table_load){.step = LOAD_TAIL};
}

/* ---- waiting ---- */

static void read_done(struct io_req *req)
{
	*(bool *)req->context = true;
}

int64_t table_read(struct io_queue *q, struct io_file *f, void *buf, size_t len, uint64_t offset)
{
	bool done = false;
	struct io_req req = {.op = IO_READ,
			     .file = f,
			     .buf = buf,
			     .len = len,
			     .offset = offset,
			     .done = read_done,
			     .context = &done};

	io_submit(q, &req);
	while (!done) {
		int rc = io_queue_wait(q, UINT64_MAX);

		assert(rc >= 0 ||
		       done); /* the buffer is the queue's until then: there is no way back from a queue that broke */
		(void)rc;
	}
	return req.result;
}

int table_open(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t file_size, struct table **out,
	       struct err_info *err)
{
	struct table_load load;
	int rc = table_load_begin(&load, env, number, file_size, err);

	while (rc == TABLE_LOAD_READ)
		rc = table_load_next(&load, table_read(q, load.table->file, load.buf, load.len, load.offset));
	if (rc == 0)
		*out = table_load_take(&load);
	table_load_fini(&load);
	return rc;
}

/* One wanted piece, whole. 0 or a failure with words. */
static int load_piece(struct table_load *l, struct io_queue *q, unsigned char *buf, size_t len, uint64_t offset)
{
	int64_t got;

	want(l, buf, len, offset);
	got = table_read(q, l->table->file, buf, len, offset);
	if (got < 0)
		return err_set(l->err, (int)got, "%s: cannot read %zu bytes at offset %" PRIu64 ": %s", l->table->name,
			       len, offset, shale_strerror((int)got));
	return (uint64_t)got < len ? corrupt(l, offset + (uint64_t)got, "the file ends here, but should be longer") : 0;
}

int table_read_counts(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t file_size,
		      struct table_counts *out, struct err_info *err)
{
	struct table_load l;
	struct block_handle meta;
	bool filter;
	int rc = table_load_begin(&l, env, number, file_size, err); /* it wants the tail; its footer will do */

	if (rc == TABLE_LOAD_READ)
		rc = load_piece(&l, q, l.tail + l.len - TABLE_FOOTER, TABLE_FOOTER, file_size - TABLE_FOOTER);
	if (rc == 0)
		rc = read_footer(&l);
	meta = l.handle[LOAD_META];
	if (rc == 0) {
		l.piece = malloc(meta.size + BLOCK_TRAILER);
		rc = l.piece ? load_piece(&l, q, l.piece, meta.size + BLOCK_TRAILER, meta.offset) : -ENOMEM;
	}
	if (rc == 0)
		rc = take_meta(&l, l.piece, &filter);
	if (rc == 0)
		*out = l.table->counts;
	table_load_fini(&l);
	return rc;
}
