/* block_builder.c - makes the bytes of a block; the picture is atop block.c. */
#include "engine/block.h"

#include <stdlib.h>

#include "engine/ikey.h"
#include "shm/error.h"

enum { ENTRY_HEADER_MAX = 3 * VARINT32_MAX };

struct block_builder {
	unsigned restart_interval;
	unsigned since_restart; /* entries since the last restart point */
	unsigned char *data;
	size_t size, cap;
	uint32_t *restarts;
	size_t restart_count, restart_cap; /* always at least one: offset 0 */
	struct key_buf last;
};

int block_builder_new(unsigned restart_interval, struct block_builder **out)
{
	struct block_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->restart_cap = 64;
	b->restarts = malloc(b->restart_cap * sizeof(*b->restarts));
	if (!b->restarts) {
		free(b);
		return -ENOMEM;
	}
	b->restart_interval = restart_interval ? restart_interval : 1;
	block_builder_reset(b);
	*out = b;
	return 0;
}

void block_builder_free(struct block_builder *b)
{
	if (!b)
		return;
	free(b->data);
	free(b->restarts);
	key_buf_fini(&b->last);
	free(b);
}

void block_builder_reset(struct block_builder *b)
{
	b->size = 0;
	b->since_restart = 0;
	b->restarts[0] = 0;
	b->restart_count = 1;
	b->last.size = 0;
}

static int reserve(struct block_builder *b, size_t more)
{
	size_t cap = max_size(b->size + more, b->cap + b->cap / 2);
	unsigned char *grown;

	if (b->size + more <= b->cap)
		return 0;
	grown = realloc(b->data, cap);
	if (!grown)
		return -ENOMEM;
	b->data = grown;
	b->cap = cap;
	return 0;
}

static int restart_add(struct block_builder *b)
{
	if (b->restart_count == b->restart_cap) {
		uint32_t *grown = realloc(b->restarts, b->restart_cap * 2 * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		b->restarts = grown;
		b->restart_cap *= 2;
	}
	b->restarts[b->restart_count++] = (uint32_t)b->size;
	b->since_restart = 0;
	return 0;
}

static size_t shared_prefix(struct slice a, struct slice b)
{
	size_t n = min_size(a.size, b.size), i = 0;

	for (; i + 8 <= n; i += 8) {
		uint64_t differ = load_le64(a.data + i) ^ load_le64(b.data + i);

		if (differ)
			return i + (size_t)__builtin_ctzll(differ) / 8;
	}
	while (i < n && a.data[i] == b.data[i])
		i++;
	return i;
}

int block_builder_add(struct block_builder *b, struct slice key, struct slice value)
{
	size_t shared = 0;
	unsigned char *p;
	int rc;

	/* Offsets are 32 bits; the whole block, restart points and all, stays far below. */
	if (key.size > UINT32_MAX / 4 || value.size > UINT32_MAX / 4 || b->size > UINT32_MAX / 4)
		return -E2BIG;
	rc = reserve(b, ENTRY_HEADER_MAX + key.size + value.size);
	if (rc < 0)
		return rc;
	if (b->since_restart < b->restart_interval)
		shared = shared_prefix(key_buf_slice(&b->last), key);
	else if ((rc = restart_add(b)) < 0)
		return rc;
	rc = key_buf_set(&b->last, key);
	if (rc < 0)
		return rc;
	p = varint32_put(b->data + b->size, (uint32_t)shared);
	p = varint32_put(p, (uint32_t)(key.size - shared));
	p = varint32_put(p, (uint32_t)value.size);
	if (key.size > shared)
		memcpy(p, key.data + shared, key.size - shared);
	p += key.size - shared;
	if (value.size)
		memcpy(p, value.data, value.size);
	b->size = (size_t)(p - b->data) + value.size;
	b->since_restart++;
	return 0;
}

size_t block_builder_estimate(const struct block_builder *b)
{
	return b->size + (b->restart_count + 1) * 4;
}

bool block_builder_empty(const struct block_builder *b)
{
	return b->size == 0;
}

int block_builder_finish(struct block_builder *b, struct slice *out)
{
	int rc = reserve(b, (b->restart_count + 1) * 4);
	unsigned char *p;

	if (rc < 0)
		return rc;
	p = b->data + b->size;
	memcpy(p, b->restarts, b->restart_count * 4);
	store_le32(p + b->restart_count * 4, (uint32_t)b->restart_count);
	*out = slice_of(b->data, b->size + (b->restart_count + 1) * 4);
	return 0;
}
