/*
 * read_ctx.c - one request's blocks: from the caches, or noted as missing, fetched together, and pinned for the retry.
 *
 *	probe ──ask──▶ pinned? cached? ──▶ 0
 *	                 │ no
 *	                 ├─ failed before ─▶ the error
 *	                 └─ noted ─────────▶ READ_MISS        read_ctx_fetch: all noted ones are submitted
 *	                                                       ├─ table: open, then read by read as table_load wants
 *	                                                       └─ block: one read, with what follows it when reading ahead
 *	                                                      the last one in calls fetched(), and the probe runs again
 *
 * What was fetched is pinned here, so the retry finds it however small the caches are, and whatever other requests do to them
 * meanwhile; each round thus gets further, and a request ends. One thread: the queue's.
 *
 * A few kilobytes on the disk can be a block of many megabytes. Such a one is kept as it is stored until the probe asks for it: probes run one after the
 * other, while reads for thousands of requests may end at once.
 */
#include "engine/source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/table_impl.h"
#include "shm/error.h"

enum {
	AHEAD_BLOCKS_MAX = 128, /* blocks that one read may bring */
	UNPACK_LATER = 1 << 20, /* blocks larger than this are not unpacked before they are asked for */
	TABLE_GUESS = 4096,	/* what a table that is to be opened counts as before anything is known of it */
};

struct fetched_block {
	uint64_t table;
	struct block_handle handle;
	struct block *block;
	unsigned char *stored; /* owned: not unpacked yet, and then there is no block; NULL with it: it could not be */
	size_t stored_size;
};

struct read_pins {
	struct fetched_block *blocks;
	struct table **tables;
	struct block **held; /* those that found no place in ctx->held */
	size_t block_count, block_cap, table_count, table_cap, held_count, held_cap;
};

/* One table to be opened (table == NULL), one block to be read, or nothing (number 0, which no file has). */
struct fetch {
	struct fetch *next; /* in ctx->misses or ctx->failed */
	struct read_ctx *ctx;
	uint64_t number, file_size;
	struct table *table; /* a reference */
	struct block_handle handle;
	int status;
	struct io_req req;
	struct table_load load;
	unsigned char *buf;
	size_t buf_size;
	struct err_info err;
};

/* ---- pins ---- */

static int make_room(void *array_io, size_t *cap, size_t count, size_t item)
{
	void **array = array_io, *grown;
	size_t n = *cap ? *cap * 2 : 8;

	if (count < *cap)
		return 0;
	grown = realloc(*array, n * item);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = n;
	return 0;
}

static struct read_pins *pins_of(struct read_ctx *ctx)
{
	if (!ctx->pins)
		ctx->pins = calloc(1, sizeof(*ctx->pins));
	return ctx->pins;
}

/* Each takes the reference, also on failure. */
static int pin_table(struct read_ctx *ctx, struct table *t)
{
	struct read_pins *p = pins_of(ctx);

	if (!p || make_room(&p->tables, &p->table_cap, p->table_count, sizeof(struct table *)) < 0) {
		table_unref(t);
		return -ENOMEM;
	}
	p->tables[p->table_count++] = t;
	ctx->bytes += table_memory(t);
	return 0;
}

static int pin_fetched(struct read_ctx *ctx, uint64_t table, struct block_handle h, struct block *b)
{
	struct read_pins *p = pins_of(ctx);

	if (!p || make_room(&p->blocks, &p->block_cap, p->block_count, sizeof(*p->blocks)) < 0) {
		block_unref(b);
		return -ENOMEM;
	}
	p->blocks[p->block_count++] = (struct fetched_block){table, h, b, NULL, 0};
	ctx->bytes += sizeof(*b) + b->size;
	return 0;
}

int read_ctx_pin(struct read_ctx *ctx, struct block *b)
{
	struct read_pins *p;

	if (likely(ctx->held_count < READ_HELD)) {
		ctx->held[ctx->held_count++] = b;
		return 0;
	}
	p = pins_of(ctx);
	if (!p || make_room(&p->held, &p->held_cap, p->held_count, sizeof(struct block *)) < 0) {
		block_unref(b);
		return -ENOMEM;
	}
	p->held[p->held_count++] = b;
	return 0;
}

static struct table *pinned_table(const struct read_ctx *ctx, uint64_t number)
{
	const struct read_pins *p = ctx->pins;

	for (size_t i = p ? p->table_count : 0; i-- > 0;)
		if (table_number(p->tables[i]) == number)
			return table_ref(p->tables[i]);
	return NULL;
}

static bool unpacks_large(const unsigned char *stored, uint64_t size)
{
	enum compression type = (enum compression)stored[size];
	size_t unpacked;

	return type != COMPRESS_NONE &&
	       decompressed_size(type, slice_of(stored, (size_t)size), UINT32_MAX, &unpacked) == 0 &&
	       unpacked > UNPACK_LATER;
}

/* Takes over the fetch's buffer, which is counted already. */
static int pin_stored(struct fetch *f)
{
	struct read_pins *p = pins_of(f->ctx);

	if (!p || make_room(&p->blocks, &p->block_cap, p->block_count, sizeof(*p->blocks)) < 0)
		return -ENOMEM;
	p->blocks[p->block_count++] = (struct fetched_block){f->number, f->handle, NULL, f->buf, f->buf_size};
	f->buf = NULL;
	return 0;
}

/* The next ask for the block gets the error, as when its read had failed. */
static int unpack_failed(struct read_ctx *ctx, const struct table *t, struct block_handle h, int rc,
			 const struct err_info *why)
{
	struct fetch *f = malloc(sizeof(*f));

	if (f) {
		*f = (struct fetch){.ctx = ctx, .number = t->number, .handle = h, .status = rc, .err = *why};
		f->table = table_ref((struct table *)t);
		f->next = ctx->failed;
		ctx->failed = f;
	}
	if (ctx->error == 0)
		ctx->error = rc;
	return rc;
}

static int unpack(struct read_ctx *ctx, struct table *t, struct fetched_block *p)
{
	struct err_info err = {0};
	struct block *b;
	int rc = block_from_stored(t, p->handle, p->stored, &b, &err);

	free(p->stored);
	p->stored = NULL;
	ctx->bytes -= p->stored_size;
	if (rc < 0)
		return unpack_failed(ctx, t, p->handle, rc, &err);
	if (!ctx->no_fill)
		block_cache_put(ctx->shared->blocks, p->table, p->handle.offset, b);
	p->block = b;
	ctx->bytes += sizeof(*b) + b->size;
	return 0;
}

/* From the newest backwards: a retry asks for what was fetched last. 0 and *@out, NULL when there is none; or it cannot be unpacked. */
static int pinned_block(struct read_ctx *ctx, struct table *t, uint64_t offset, struct block **out)
{
	struct read_pins *p = ctx->pins;

	*out = NULL;
	for (size_t i = p ? p->block_count : 0; i-- > 0;) {
		struct fetched_block *found = &p->blocks[i];

		if (found->handle.offset != offset || found->table != t->number)
			continue;
		if (unlikely(found->stored)) {
			int rc = unpack(ctx, t, found);

			if (rc < 0)
				return rc;
		}
		if (found->block)
			*out = block_ref(found->block);
		return 0;
	}
	return 0;
}

/* ---- asking ---- */

static struct fetch *fetch_find(struct fetch *list, bool table, uint64_t number, uint64_t offset)
{
	for (; list; list = list->next)
		if (!list->table == table && list->number == number && (table || list->handle.offset == offset))
			return list;
	return NULL;
}

static void fetch_free(struct fetch *f)
{
	table_unref(f->table);
	table_load_fini(&f->load);
	free(f->buf);
	free(f);
}

/* READ_MISS, or why not: it failed before, or there is no memory to note it. @t is NULL for a table. */
static int note(struct read_ctx *ctx, uint64_t number, uint64_t file_size, struct table *t, struct block_handle h)
{
	struct fetch *f = fetch_find(ctx->failed, !t, number, h.offset);

	if (f)
		return f->status;
	if (ctx->miss_count == READ_MISSES_MAX || fetch_find(ctx->misses, !t, number, h.offset))
		return READ_MISS;
	f = malloc(sizeof(*f));
	if (!f)
		return -ENOMEM;
	*f = (struct fetch){.ctx = ctx, .number = number, .file_size = file_size, .handle = h};
	f->table = t ? table_ref(t) : NULL;
	f->next = ctx->misses;
	ctx->misses = f;
	ctx->miss_count++;
	ctx->wanted += t ? h.size + BLOCK_TRAILER : TABLE_GUESS;
	return READ_MISS;
}

static int ask_table(struct block_source *src, uint64_t number, uint64_t file_size, struct table **out)
{
	struct read_ctx *ctx = container_of(src, struct read_ctx, source);
	struct table *t = pinned_table(ctx, number);

	if (!t)
		t = table_cache_get(ctx->shared->tables, number);
	if (!t)
		return note(ctx, number, file_size, NULL, (struct block_handle){0});
	*out = t;
	return 0;
}

static int ask_block(struct block_source *src, struct table *t, struct block_handle h, struct block **out)
{
	struct read_ctx *ctx = container_of(src, struct read_ctx, source);
	struct block *b;
	int rc = pinned_block(ctx, t, h.offset, &b);

	if (unlikely(rc < 0))
		return rc;
	if (!b)
		b = block_cache_get(ctx->shared->blocks, t->number, h.offset);
	if (!b)
		return note(ctx, t->number, t->file_size, t, h);
	*out = b;
	return 0;
}

/* ---- fetching ---- */

/* The fetch is over. Last of all tells the request, which may then be gone. */
static void finish(struct fetch *f, int rc)
{
	struct read_ctx *ctx = f->ctx;

	if (f->buf) {
		ctx->bytes -= f->buf_size;
		free(f->buf);
		f->buf = NULL;
	}
	if (rc < 0) {
		f->status = rc;
		f->next = ctx->failed;
		ctx->failed = f;
		if (ctx->error == 0)
			ctx->error = rc;
	} else {
		fetch_free(f);
	}
	if (--ctx->in_flight == 0)
		ctx->fetched(ctx);
}

static int finish_table(struct fetch *f)
{
	struct table *t = table_load_take(&f->load);

	table_cache_put(f->ctx->shared->tables, t);
	return pin_table(f->ctx, t);
}

/* Keeps a block that was read: pinned when it was asked for, else cached if it may be. Takes the reference. */
static int keep(struct fetch *f, struct block_handle h, struct block *b, bool asked)
{
	struct read_ctx *ctx = f->ctx;

	if (!ctx->no_fill)
		block_cache_put(ctx->shared->blocks, f->number, h.offset, b);
	if (asked || ctx->no_fill)
		return pin_fetched(ctx, f->number, h, b);
	block_unref(b);
	return 0;
}

/* The blocks behind the asked one, as far as they were read. One that is damaged is left to whoever asks for it. */
static void keep_following(struct fetch *f, uint64_t read)
{
	struct block_handle h[AHEAD_BLOCKS_MAX];
	unsigned n = table_following_blocks(f->table, f->handle, h, AHEAD_BLOCKS_MAX);

	for (unsigned i = 1; i < n; i++) {
		uint64_t at = h[i].offset - f->handle.offset;
		struct block *b;

		if (at + h[i].size + BLOCK_TRAILER > read)
			return;
		if (!block_cache_has(f->ctx->shared->blocks, f->number, h[i].offset) &&
		    !unpacks_large(f->buf + at, h[i].size) &&
		    block_from_stored(f->table, h[i], f->buf + at, &b, NULL) == 0)
			keep(f, h[i], b, false);
	}
}

static int finish_block(struct fetch *f, int64_t result)
{
	uint64_t need = f->handle.size + BLOCK_TRAILER;
	struct block *b;
	int rc;

	if (result < 0)
		return err_set(&f->err, (int)result, "%s: cannot read %zu bytes at offset %" PRIu64 ": %s",
			       f->table->name, f->req.len, f->handle.offset, shale_strerror((int)result));
	if ((uint64_t)result < need)
		return err_set(&f->err, -SHALE_ECORRUPT, "%s: the file ends inside the block at offset %" PRIu64,
			       f->table->name, f->handle.offset);
	if (f->req.len > need)
		keep_following(f, (uint64_t)result);
	if (unlikely(unpacks_large(f->buf, f->handle.size)))
		return pin_stored(f);
	rc = block_from_stored(f->table, f->handle, f->buf, &b, &f->err);
	return rc < 0 ? rc : keep(f, f->handle, b, true);
}

static void completed(struct io_req *req);

static void submit(struct fetch *f, enum io_op op, struct io_file *file, unsigned char *buf, size_t len,
		   uint64_t offset)
{
	f->req = (struct io_req){
		.op = op, .file = file, .buf = buf, .len = len, .offset = offset, .done = completed, .context = f};
	io_submit(f->ctx->shared->queue, &f->req);
}

/* What is over already still ends through the queue, so that fetched() never runs inside read_ctx_fetch. */
static void submit_result(struct fetch *f, int rc)
{
	f->status = rc;
	submit(f, IO_NOP, NULL, NULL, 0, 0);
}

static void completed(struct io_req *req)
{
	struct fetch *f = req->context;
	int rc;

	if (req->op == IO_NOP) {
		rc = f->status;
	} else if (f->table) {
		rc = finish_block(f, req->result);
	} else {
		rc = table_load_next(&f->load, req->result);
		if (rc == TABLE_LOAD_READ) {
			submit(f, IO_READ, f->load.table->file, f->load.buf, f->load.len, f->load.offset);
			return;
		}
		if (rc == 0)
			rc = finish_table(f);
	}
	finish(f, rc);
}

static void start_table(struct fetch *f)
{
	struct read_shared *shared = f->ctx->shared;
	struct table *t = table_cache_get(shared->tables, f->number); /* another request may have been faster */
	int rc;

	if (t) {
		submit_result(f, pin_table(f->ctx, t));
		return;
	}
	rc = table_load_begin(&f->load, shared->env, f->number, f->file_size, &f->err);
	if (rc < 0)
		submit_result(f, rc);
	else
		submit(f, IO_READ, f->load.table->file, f->load.buf, f->load.len, f->load.offset);
}

static void start_block(struct fetch *f)
{
	size_t len = f->handle.size + BLOCK_TRAILER;

	if (f->ctx->readahead) {
		struct block_handle h[AHEAD_BLOCKS_MAX];
		unsigned n = table_following_blocks(f->table, f->handle, h, AHEAD_BLOCKS_MAX);
		size_t limit = len + f->ctx->readahead;

		for (unsigned i = 1; i < n && len + h[i].size + BLOCK_TRAILER <= limit; i++)
			len += h[i].size + BLOCK_TRAILER;
	}
	f->buf = malloc(len);
	if (!f->buf) {
		submit_result(f, err_set(&f->err, -ENOMEM, "%s: no memory to read %zu bytes", f->table->name, len));
		return;
	}
	f->buf_size = len;
	f->ctx->bytes += len;
	submit(f, IO_READ, f->table->file, f->buf, len, f->handle.offset);
}

int read_ctx_fetch(struct read_ctx *ctx, void (*fetched)(struct read_ctx *ctx))
{
	struct fetch *f = ctx->misses, *next;

	assert(ctx->in_flight == 0);
	if (!f)
		return -EINVAL;
	ctx->misses = NULL;
	ctx->in_flight = ctx->miss_count;
	ctx->miss_count = 0;
	ctx->wanted = 0;
	ctx->fetched = fetched;
	for (; f; f = next) {
		next = f->next;
		f->next = NULL;
		if (f->table)
			start_block(f);
		else if (!f->number)
			submit_result(f, 0);
		else
			start_table(f);
	}
	return 0;
}

/* ---- life ---- */

void read_ctx_init(struct read_ctx *ctx, struct read_shared *shared)
{
	*ctx = (struct read_ctx){.source = {.table = ask_table, .block = ask_block}, .shared = shared};
}

const struct err_info *read_ctx_error(const struct read_ctx *ctx)
{
	const struct fetch *f = ctx->failed;

	while (f && f->next)
		f = f->next; /* the first failure is the last of the list */
	return f ? &f->err : NULL;
}

static void list_free(struct fetch **list)
{
	while (*list) {
		struct fetch *f = *list;

		*list = f->next;
		fetch_free(f);
	}
}

void read_ctx_release(struct read_ctx *ctx)
{
	struct read_pins *p = ctx->pins;

	for (unsigned i = 0; i < ctx->held_count; i++)
		block_unref(ctx->held[i]);
	ctx->held_count = 0;
	if (!p)
		return;
	for (size_t i = 0; i < p->held_count; i++)
		block_unref(p->held[i]);
	p->held_count = 0;
}

void read_ctx_unpin(struct read_ctx *ctx)
{
	struct read_pins *p = ctx->pins;

	assert(ctx->in_flight == 0);
	read_ctx_release(ctx);
	if (!p)
		return;
	for (size_t i = 0; i < p->block_count; i++) {
		block_unref(p->blocks[i].block);
		free(p->blocks[i].stored);
	}
	for (size_t i = 0; i < p->table_count; i++)
		table_unref(p->tables[i]);
	p->block_count = p->table_count = 0;
	ctx->bytes = 0;
}

void read_ctx_forget(struct read_ctx *ctx)
{
	list_free(&ctx->misses);
	ctx->miss_count = 0;
	ctx->wanted = 0;
}

int read_ctx_yield(struct read_ctx *ctx)
{
	read_ctx_unpin(ctx);
	return note(ctx, 0, 0, NULL, (struct block_handle){0});
}

void read_ctx_reset(struct read_ctx *ctx)
{
	read_ctx_forget(ctx);
	list_free(&ctx->failed);
	ctx->error = 0;
	read_ctx_unpin(ctx);
}

void read_ctx_fini(struct read_ctx *ctx)
{
	read_ctx_reset(ctx);
	if (!ctx->pins)
		return;
	free(ctx->pins->blocks);
	free(ctx->pins->tables);
	free(ctx->pins->held);
	free(ctx->pins);
	ctx->pins = NULL;
}
