#include "tests/fuzz/seal.h"

#include "engine/block.h"
#include "engine/crc32c.h"
#include "engine/log_format.h"
#include "engine/table.h"
#include "tests/fuzz/fuzz.h"

void seal_log(unsigned char *data, size_t size)
{
	size_t at = 0;

	for (;;) {
		size_t block_left = LOG_BLOCK - at % LOG_BLOCK, length;

		if (block_left < LOG_HEADER) {
			at += block_left;
			continue;
		}
		if (at >= size || size - at < LOG_HEADER)
			return;
		length = (size_t)data[at + 4] | (size_t)data[at + 5] << 8;
		if (LOG_HEADER + length > block_left || LOG_HEADER + length > size - at)
			return;
		if (data[at + 6] != LOG_ZERO || length)
			store_le32(data + at, crc32c_mask(crc32c(data + at + 6, 1 + length)));
		at += LOG_HEADER + length;
	}
}

static const unsigned char *handle_get(const unsigned char *p, const unsigned char *end, struct block_handle *out)
{
	p = varint64_get(p, end, &out->offset);
	return p ? varint64_get(p, end, &out->size) : NULL;
}

/* The block's bytes with its checksum put right, or NULL when it does not lie in the file. */
static unsigned char *seal_block(unsigned char *data, size_t size, struct block_handle h)
{
	unsigned char *p;

	if (h.offset > size || h.size > size - h.offset || size - h.offset - h.size < BLOCK_TRAILER)
		return NULL;
	p = data + h.offset;
	store_le32(p + h.size + 1, crc32c_mask(crc32c(p, (size_t)h.size + 1)));
	return p;
}

/* Also the blocks that its entries, where they are handles, lead to. */
static void seal_index(unsigned char *data, size_t size, struct block_handle h)
{
	unsigned char *p = seal_block(data, size, h);
	struct block_iter it;
	struct block *b;

	if (!p || p[h.size] != COMPRESS_NONE)
		return;
	b = block_new((size_t)h.size);
	ENSURE(b);
	memcpy(b->data, p, (size_t)h.size);
	block_iter_init(&it);
	if (block_check(b) == 0) {
		block_iter_set(&it, b, false, false);
		for (iter_seek_first(&it.base); it.base.valid; iter_next(&it.base)) {
			struct block_handle to;

			if (handle_get(it.base.value.data, it.base.value.data + it.base.value.size, &to))
				seal_block(data, size, to);
		}
	}
	block_iter_fini(&it);
	block_unref(b);
	seal_block(data, size, h); /* a block may overlap it */
}

void seal_table(unsigned char *data, size_t size)
{
	unsigned char *footer = data + size - TABLE_FOOTER;
	const unsigned char *p = footer;
	struct block_handle metaindex, index;

	if (size < TABLE_FOOTER)
		return;
	store_le64(footer + TABLE_FOOTER - 8, TABLE_MAGIC);
	p = handle_get(p, footer + TABLE_FOOTER - 8, &metaindex);
	if (!p || !handle_get(p, footer + TABLE_FOOTER - 8, &index))
		return;
	seal_index(data, size - TABLE_FOOTER, metaindex);
	seal_index(data, size - TABLE_FOOTER, index);
}
