#include "engine/table.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/crc32c.h"
#include "engine/filter.h"
#include "engine/ikey.h"
#include "engine/source.h"
#include "engine/table_impl.h"
#include "shm/error.h"

/* No block is larger once decompressed; what claims to be is damaged. Far above any value that a batch may carry. */
enum { BLOCK_BYTES_MAX = 1 << 30 };

struct table *table_ref(struct table *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void table_unref(struct table *t)
{
	/* Release: this thread's uses come before the free. Pairs with the acquire of whoever drops the last reference. */
	if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	io_close(t->file);
	block_unref(t->index);
	block_unref(t->filter);
	free(t->heads);
	free(t);
}

uint64_t table_number(const struct table *t)
{
	return t->number;
}

struct io_file *table_file(const struct table *t)
{
	return t->file;
}

size_t table_memory(const struct table *t)
{
	return t->index->size + (t->heads ? t->index->restarts * sizeof(*t->heads) : 0) +
	       (t->filter ? t->filter->size : 0);
}

const struct table_counts *table_counts(const struct table *t)
{
	return &t->counts;
}

/* ---- handles and stored blocks ---- */

unsigned char *block_handle_put(unsigned char *dst, struct block_handle h)
{
	return varint64_put(varint64_put(dst, h.offset), h.size);
}

const unsigned char *block_handle_get(struct slice value, uint64_t file_size, struct block_handle *out)
{
	const unsigned char *end = value.data + value.size, *p;
	uint64_t room = file_size - TABLE_FOOTER;
	struct block_handle h;

	p = varint64_get(value.data, end, &h.offset);
	if (p)
		p = varint64_get(p, end, &h.size);
	if (!p || file_size < TABLE_FOOTER || h.offset > room || room - h.offset < BLOCK_TRAILER ||
	    h.size > room - h.offset - BLOCK_TRAILER)
		return NULL;
	*out = h;
	return p;
}

int table_handle(const struct table *t, struct slice value, struct block_handle *out)
{
	return block_handle_get(value, t->file_size, out) ? 0 : -SHALE_ECORRUPT;
}

static int corrupt(const struct table *t, struct block_handle h, struct err_info *err, const char *what)
{
	return err_set(err, -SHALE_ECORRUPT,
		       "%s: block of %" PRIu64 " bytes at offset %" PRIu64
		       ": %s; the file is damaged: put back a good copy, or run `shalectl repair`",
		       t->name, h.size, h.offset, what);
}

int block_unpack(const struct table *t, struct block_handle h, const unsigned char *stored, struct block **out,
		 struct err_info *err)
{
	enum compression type = stored[h.size];
	struct slice bytes = slice_of(stored, h.size);
	struct block *b;
	size_t size;

	if (crc32c(stored, h.size + 1) != crc32c_unmask(load_le32(stored + h.size + 1)))
		return corrupt(t, h, err, "its checksum does not match");
	if (type > COMPRESS_ZSTD)
		return corrupt(t, h, err, "it is compressed in a way that this version does not know");
	if (decompressed_size(type, bytes, BLOCK_BYTES_MAX, &size) < 0)
		return corrupt(t, h, err, "it cannot be decompressed");
	b = block_new(size);
	if (!b)
		return err_set(err, -ENOMEM, "%s: no memory for a block of %zu bytes", t->name, size);
	if (decompress_block(type, bytes, b->data, size) < 0) {
		block_unref(b);
		return corrupt(t, h, err, "it cannot be decompressed");
	}
	*out = b;
	return 0;
}

int block_from_stored(const struct table *t, struct block_handle h, const unsigned char *stored, struct block **out,
		      struct err_info *err)
{
	struct block *b;
	int rc = block_unpack(t, h, stored, &b, err);

	if (rc < 0)
		return rc;
	if (block_check(b) < 0) {
		block_unref(b);
		return corrupt(t, h, err, "its restart points do not make sense");
	}
	*out = b;
	return 0;
}

/* ---- the probe ---- */

/* 0 and the handle of the one block that can hold @ikey's user key at or below its sequence; TABLE_ABSENT; failure. */
static int probe_index(const struct table *t, struct slice ikey, struct block_handle *out)
{
	struct block_iter it;
	int rc;

	block_iter_init(&it);
	table_index_seek(t, &it, ikey);
	if (it.base.valid)
		rc = table_handle(t, it.base.value, out);
	else
		rc = it.base.status ? it.base.status : TABLE_ABSENT;
	block_iter_fini(&it);
	if (rc == 0 && t->filter &&
	    !filter_may_contain(slice_of(t->filter->data, t->filter->size), out->offset, ikey_user(ikey)))
		rc = TABLE_ABSENT;
	return rc;
}

/*
 * If the block ends before an entry >= @ikey is met, the next block begins with another user key: the separator between the two is >= @ikey, and
 * it is shortened only between different user keys. So one block is enough.
 */
static int probe_block(struct block *b, struct slice ikey, uint64_t *trailer_out, struct slice *value_out)
{
	struct block_iter it;
	int rc = TABLE_ABSENT;

	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	iter_seek(&it.base, ikey);
	if (!it.base.valid) {
		if (it.base.status)
			rc = it.base.status;
	} else if (slice_equal(ikey_user(it.base.key), ikey_user(ikey))) {
		*trailer_out = ikey_trailer(it.base.key);
		*value_out = it.base.value;
		rc = 0;
	}
	block_iter_fini(&it);
	return rc;
}

int table_get(struct table *t, struct block_source *src, struct slice ikey, struct block **pin_out,
	      uint64_t *trailer_out, struct slice *value_out, bool *read_out)
{
	struct block_handle h;
	struct block *b;
	int rc;

	if (read_out)
		*read_out = false;
	rc = probe_index(t, ikey, &h);
	if (rc != 0)
		return rc;
	rc = src->block(src, t, h, &b);
	if (rc != 0)
		return rc;
	if (read_out)
		*read_out = true;
	rc = probe_block(b, ikey, trailer_out, value_out);
	if (rc == 0)
		*pin_out = b;
	else
		block_unref(b);
	return rc;
}
