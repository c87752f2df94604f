/*
 * filter.c - Bloom filters, bit for bit LevelDB's, and the block that holds those of a table.
 *
 * The builder keeps the 32-bit hashes of the keys of the filter in the making, not the keys: a filter depends on nothing else.
 */
#include "engine/filter.h"

#include <stdlib.h>

#include "shm/error.h"

enum {
	FILTER_BASE_LG = 11, /* one filter for each 2 KiB of file offset */
	FILTER_TAIL = 5,     /* array offset, lg */
	BLOOM_BITS_MIN = 64,
	BLOOM_PROBES_MAX = 30, /* more are left for encodings to come: match */
};

uint32_t bloom_hash(struct slice key)
{
	const uint32_t seed = 0xbc9f1d34, m = 0xc6a4a793;
	const unsigned char *p = key.data;
	size_t left = key.size;
	uint32_t h = seed ^ (uint32_t)(key.size * m);

	for (; left >= 4; left -= 4, p += 4) {
		h += load_le32(p);
		h *= m;
		h ^= h >> 16;
	}
	if (left == 0)
		return h;
	if (left > 2)
		h += (uint32_t)p[2] << 16;
	if (left > 1)
		h += (uint32_t)p[1] << 8;
	h += p[0];
	h *= m;
	return h ^ h >> 24;
}

static uint32_t bloom_delta(uint32_t h)
{
	return h >> 17 | h << 15;
}

bool bloom_may_contain(struct slice filter, struct slice key)
{
	uint32_t h, delta;
	size_t bits;
	unsigned probes;

	if (filter.size < 2)
		return false; /* a filter over no keys */
	bits = (filter.size - 1) * 8;
	probes = filter.data[filter.size - 1];
	if (probes > BLOOM_PROBES_MAX)
		return true;
	h = bloom_hash(key);
	delta = bloom_delta(h);
	for (; probes; probes--, h += delta) {
		size_t bit = h % bits;

		if (!(filter.data[bit / 8] & 1u << bit % 8))
			return false;
	}
	return true;
}

/* ---- building ---- */

struct filter_builder {
	unsigned bits_per_key, probes;
	unsigned char *data; /* filters made so far; at the end, the whole block */
	size_t size, cap;
	uint32_t *hashes; /* of the keys of the next filter */
	size_t hash_count, hash_cap;
	uint32_t *offsets; /* where each filter begins in data */
	size_t offset_count, offset_cap;
};

int filter_builder_new(unsigned bits_per_key, struct filter_builder **out)
{
	struct filter_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->bits_per_key = bits_per_key;
	b->probes = (unsigned)(bits_per_key * 0.69); /* bits per key × ln 2, rounded down */
	if (b->probes < 1)
		b->probes = 1;
	if (b->probes > BLOOM_PROBES_MAX)
		b->probes = BLOOM_PROBES_MAX;
	*out = b;
	return 0;
}

void filter_builder_free(struct filter_builder *b)
{
	if (!b)
		return;
	free(b->data);
	free(b->hashes);
	free(b->offsets);
	free(b);
}

static int reserve_words(uint32_t **array, size_t *cap, size_t need)
{
	size_t n = max_size(*cap * 2, max_size(need, 64));
	uint32_t *grown;

	if (need <= *cap)
		return 0;
	grown = realloc(*array, n * sizeof(**array));
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*cap = n;
	return 0;
}

static int reserve_data(struct filter_builder *b, size_t more)
{
	size_t n = max_size(b->cap * 2, b->size + more);
	unsigned char *grown;

	if (b->size + more <= b->cap)
		return 0;
	grown = realloc(b->data, n);
	if (!grown)
		return -ENOMEM;
	b->data = grown;
	b->cap = n;
	return 0;
}

/* Turns the hashes gathered so far into one more filter; of no keys an empty one. */
static int generate(struct filter_builder *b)
{
	size_t bits = max_size(b->hash_count * b->bits_per_key, BLOOM_BITS_MIN);
	size_t bytes = (bits + 7) / 8;
	unsigned char *array;
	int rc = reserve_words(&b->offsets, &b->offset_cap, b->offset_count + 1);

	if (rc == 0 && b->hash_count)
		rc = reserve_data(b, bytes + 1);
	if (rc < 0)
		return rc;
	b->offsets[b->offset_count++] = (uint32_t)b->size;
	if (b->hash_count == 0)
		return 0;
	bits = bytes * 8;
	array = b->data + b->size;
	memset(array, 0, bytes);
	array[bytes] = (unsigned char)b->probes;
	b->size += bytes + 1;
	for (size_t i = 0; i < b->hash_count; i++) {
		uint32_t h = b->hashes[i], delta = bloom_delta(h);

		for (unsigned j = 0; j < b->probes; j++, h += delta)
			array[h % bits / 8] |= (unsigned char)(1u << h % bits % 8);
	}
	b->hash_count = 0;
	return 0;
}

int filter_builder_start_block(struct filter_builder *b, uint64_t block_offset)
{
	while (block_offset >> FILTER_BASE_LG > b->offset_count) {
		int rc = generate(b);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int filter_builder_add(struct filter_builder *b, struct slice user_key)
{
	int rc = reserve_words(&b->hashes, &b->hash_cap, b->hash_count + 1);

	if (rc < 0)
		return rc;
	b->hashes[b->hash_count++] = bloom_hash(user_key);
	return 0;
}

int filter_builder_finish(struct filter_builder *b, struct slice *out)
{
	size_t array;
	int rc = b->hash_count ? generate(b) : 0;

	if (rc == 0)
		rc = reserve_data(b, b->offset_count * 4 + FILTER_TAIL);
	if (rc < 0)
		return rc;
	array = b->size;
	for (size_t i = 0; i < b->offset_count; i++, b->size += 4)
		store_le32(b->data + b->size, b->offsets[i]);
	store_le32(b->data + b->size, (uint32_t)array);
	b->data[b->size + 4] = FILTER_BASE_LG;
	b->size += FILTER_TAIL;
	*out = slice_of(b->data, b->size);
	return 0;
}

/* ---- asking ---- */

bool filter_may_contain(struct slice block, uint64_t block_offset, struct slice user_key)
{
	size_t array, count;
	uint64_t index;
	uint32_t start, limit;
	unsigned lg;

	if (block.size < FILTER_TAIL)
		return true;
	lg = block.data[block.size - 1];
	array = load_le32(block.data + block.size - FILTER_TAIL);
	if (lg > 63 || array > block.size - FILTER_TAIL)
		return true;
	count = (block.size - FILTER_TAIL - array) / 4;
	index = block_offset >> lg;
	if (index >= count)
		return true;
	/* The last filter's end is the array's offset, which follows the array. */
	start = load_le32(block.data + array + index * 4);
	limit = load_le32(block.data + array + index * 4 + 4);
	if (start > limit || limit > array)
		return true;
	return bloom_may_contain(slice_of(block.data + start, limit - start), user_key);
}
