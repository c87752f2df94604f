/*
 * table_builder.c - makes a table file from sorted entries.
 *
 *	[data block]… [filter block] [metaindex block] [index block] [footer]        a block: bytes | type | masked crc32c
 *
 * Finished bytes gather in one of BUFFERS buffers; a full one is submitted and fills the file behind while the next is filled. An index entry is
 * written when the first key of the next block is known, so that its key may be a shorter one between the two blocks.
 *
 * The first failure is kept and returned by everything that follows; the file is then of no use.
 */
#include "engine/table.h"

#include <stdlib.h>

#include "engine/crc32c.h"
#include "engine/filter.h"
#include "engine/ikey.h"
#include "engine/table_impl.h"
#include "shm/error.h"

enum {
	BUFFERS = 2,
	BUFFER_BYTES = 256 << 10,
	BUFFER_ALIGN = 4096,
	META_RESTART_INTERVAL = 16,
	INDEX_RESTART_INTERVAL = 1,
};

struct write_buffer {
	struct io_req req;
	unsigned char *data;
	bool in_flight;
};

struct table_builder {
	struct io_queue *queue;
	struct io_file *file;
	struct table_options options;
	struct compressor *compressor;
	struct block_builder *data, *index, *meta;
	struct filter_builder *filter; /* NULL: none */
	struct key_buf last;	       /* internal key added last */
	bool pending_index;	       /* a data block was finished, and `last` is its last key */
	struct block_handle pending;
	uint64_t offset; /* file offset after the finished blocks */
	struct table_counts counts;
	int error;
	/* writing behind */
	struct write_buffer buffers[BUFFERS];
	unsigned filling;
	size_t filled;	    /* bytes in that buffer */
	uint64_t submitted; /* file offset where it belongs */
};

static int fail(struct table_builder *b, int rc)
{
	if (rc < 0 && b->error == 0)
		b->error = rc;
	return b->error;
}

int table_builder_new(struct io_queue *q, struct io_file *file, const struct table_options *options,
		      struct table_builder **out)
{
	struct table_builder *b = calloc(1, sizeof(*b));
	int rc = -ENOMEM;

	if (!b)
		return rc;
	b->queue = q;
	b->file = file;
	b->options = *options;
	for (unsigned i = 0; i < BUFFERS; i++) {
		b->buffers[i].data = aligned_alloc(BUFFER_ALIGN, BUFFER_BYTES);
		if (!b->buffers[i].data)
			goto failed;
	}
	rc = compressor_new(&b->compressor);
	if (rc == 0)
		rc = block_builder_new(options->restart_interval, &b->data);
	if (rc == 0)
		rc = block_builder_new(INDEX_RESTART_INTERVAL, &b->index);
	if (rc == 0)
		rc = block_builder_new(META_RESTART_INTERVAL, &b->meta);
	if (rc == 0 && options->bloom_bits_per_key)
		rc = filter_builder_new(options->bloom_bits_per_key, &b->filter);
	if (rc == 0 && b->filter)
		rc = filter_builder_start_block(b->filter, 0);
	if (rc < 0)
		goto failed;
	*out = b;
	return 0;
failed:
	table_builder_free(b);
	return rc;
}

/* ---- writing behind ---- */

static void write_done(struct io_req *req)
{
	struct write_buffer *w = container_of(req, struct write_buffer, req);

	w->in_flight = false;
	if (req->result < 0)
		fail(req->context, (int)req->result);
}

static void wait_for(struct table_builder *b, struct write_buffer *w)
{
	while (w->in_flight) {
		int rc = io_queue_wait(b->queue, UINT64_MAX);

		assert(rc >= 0 ||
		       !w->in_flight); /* the buffer is the queue's until then: no way back from a queue that broke */
		(void)rc;
	}
}

/* Sends the buffer being filled on its way and takes the next, waiting until that one is free. */
static void submit_buffer(struct table_builder *b)
{
	struct write_buffer *w = &b->buffers[b->filling];

	w->req = (struct io_req){
		.op = IO_WRITE,
		.file = b->file,
		.buf = w->data,
		.len = b->filled,
		.offset = b->submitted,
		.done = write_done,
		.context = b,
	};
	w->in_flight = true;
	io_submit(b->queue, &w->req);
	io_queue_flush(b->queue); /* on its way while the next one fills; a failure comes as the result */
	b->submitted += b->filled;
	b->filled = 0;
	b->filling = (b->filling + 1) % BUFFERS;
	wait_for(b, &b->buffers[b->filling]);
}

static void append(struct table_builder *b, const void *bytes, size_t size)
{
	const unsigned char *p = bytes;

	b->offset += size;
	while (size) {
		size_t n = min_size(size, BUFFER_BYTES - b->filled);

		memcpy(b->buffers[b->filling].data + b->filled, p, n);
		b->filled += n;
		p += n;
		size -= n;
		if (b->filled == BUFFER_BYTES)
			submit_buffer(b);
	}
}

/* ---- blocks ---- */

static void append_stored(struct table_builder *b, struct slice bytes, enum compression type, struct block_handle *out)
{
	unsigned char trailer[BLOCK_TRAILER] = {(unsigned char)type};
	uint32_t crc = crc32c_extend(crc32c(bytes.data, bytes.size), trailer, 1);

	store_le32(trailer + 1, crc32c_mask(crc));
	*out = (struct block_handle){.offset = b->offset, .size = bytes.size};
	append(b, bytes.data, bytes.size);
	append(b, trailer, sizeof(trailer));
}

static int append_block(struct table_builder *b, struct block_builder *block, struct block_handle *out)
{
	struct slice raw, stored;
	enum compression type;
	int rc = block_builder_finish(block, &raw);

	if (rc < 0)
		return fail(b, rc);
	type = compress_block(b->compressor, b->options.compression, raw, &stored);
	append_stored(b, stored, type, out);
	block_builder_reset(block);
	return b->error;
}

/* The index entry of the block that was finished last, under the key now in b->last. */
static int append_index(struct table_builder *b)
{
	unsigned char handle[BLOCK_HANDLE_MAX];
	size_t size = (size_t)(block_handle_put(handle, b->pending) - handle);

	b->pending_index = false;
	return fail(b, block_builder_add(b->index, key_buf_slice(&b->last), slice_of(handle, size)));
}

static int finish_data_block(struct table_builder *b)
{
	if (block_builder_empty(b->data))
		return b->error;
	if (append_block(b, b->data, &b->pending) < 0)
		return b->error;
	b->pending_index = true;
	if (b->filter)
		fail(b, filter_builder_start_block(b->filter, b->offset));
	return b->error;
}

/* Before b->last becomes @ikey. Only what a merge may drop is dead: it keeps keys that it does not understand, and what follows them. */
static void count(struct table_builder *b, struct slice ikey)
{
	struct slice last = key_buf_slice(&b->last);
	uint64_t sequence = 0; /* that of who makes it dead */

	b->counts.entries++;
	if (!ikey_valid(ikey))
		return;
	if (b->counts.entries > 1 && slice_equal(ikey_user(last), ikey_user(ikey)))
		sequence = ikey_valid(last) ? ikey_sequence(last) : 0;
	else if (ikey_kind(ikey) == IKEY_DELETION)
		sequence = ikey_sequence(ikey);
	b->counts.dead += sequence > 0;
	if (sequence > b->counts.dead_sequence)
		b->counts.dead_sequence = sequence;
}

int table_builder_add(struct table_builder *b, struct slice ikey, struct slice value)
{
	int rc = 0;

	if (b->error)
		return b->error;
	/* The entries may come from damaged tables: a table out of order would lie to every search. */
	if (ikey.size < IKEY_TRAILER || (b->counts.entries && ikey_compare(key_buf_slice(&b->last), ikey) >= 0))
		return fail(b, -SHALE_ECORRUPT);
	count(b, ikey);
	if (b->pending_index) {
		ikey_shorten_separator(b->last.data, &b->last.size, ikey);
		if (append_index(b) < 0)
			return b->error;
	}
	if (b->filter)
		rc = filter_builder_add(b->filter, ikey_user(ikey));
	if (rc == 0)
		rc = key_buf_set(&b->last, ikey);
	if (rc == 0)
		rc = block_builder_add(b->data, ikey, value);
	if (fail(b, rc) < 0)
		return b->error;
	return block_builder_estimate(b->data) >= b->options.block_bytes ? finish_data_block(b) : 0;
}

static int append_filter(struct table_builder *b)
{
	unsigned char encoded[BLOCK_HANDLE_MAX];
	struct block_handle handle;
	struct slice filter;
	size_t size;
	int rc = filter_builder_finish(b->filter, &filter);

	if (rc == 0) {
		append_stored(b, filter, COMPRESS_NONE, &handle);
		size = (size_t)(block_handle_put(encoded, handle) - encoded);
		rc = block_builder_add(b->meta, slice_str(FILTER_META_KEY), slice_of(encoded, size));
	}
	return fail(b, rc);
}

/* A table without this entry is byte for byte what LevelDB would have written; so is one in which nothing is dead. */
static int append_counts(struct table_builder *b)
{
	unsigned char counts[3 * VARINT64_MAX], *p;

	p = varint64_put(counts, b->counts.entries);
	p = varint64_put(varint64_put(p, b->counts.dead), b->counts.dead_sequence);
	return fail(b, block_builder_add(b->meta, slice_str(STATS_META_KEY), slice_of(counts, (size_t)(p - counts))));
}

static int append_tail(struct table_builder *b)
{
	struct block_handle meta, index;
	unsigned char footer[TABLE_FOOTER] = {0};

	if (b->filter && append_filter(b) < 0)
		return b->error;
	if ((b->options.with_counts && b->counts.dead && append_counts(b) < 0) || append_block(b, b->meta, &meta) < 0)
		return b->error;
	if (b->pending_index) {
		ikey_shorten_successor(b->last.data, &b->last.size);
		if (append_index(b) < 0)
			return b->error;
	}
	if (append_block(b, b->index, &index) < 0)
		return b->error;
	block_handle_put(block_handle_put(footer, meta), index);
	store_le64(footer + TABLE_FOOTER - 8, TABLE_MAGIC);
	append(b, footer, sizeof(footer));
	return b->error;
}

int table_builder_finish(struct table_builder *b)
{
	if (!b->error && finish_data_block(b) == 0)
		append_tail(b);
	if (!b->error && b->filled)
		submit_buffer(b);
	for (unsigned i = 0; i < BUFFERS; i++)
		wait_for(b, &b->buffers[i]);
	return b->error;
}

uint64_t table_builder_size(const struct table_builder *b)
{
	return b->offset;
}

uint64_t table_builder_entries(const struct table_builder *b)
{
	return b->counts.entries;
}

struct table_counts table_builder_counts(const struct table_builder *b)
{
	return b->counts;
}

void table_builder_free(struct table_builder *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < BUFFERS; i++) {
		wait_for(b, &b->buffers[i]);
		free(b->buffers[i].data);
	}
	compressor_free(b->compressor);
	block_builder_free(b->data);
	block_builder_free(b->index);
	block_builder_free(b->meta);
	filter_builder_free(b->filter);
	key_buf_fini(&b->last);
	free(b);
}
