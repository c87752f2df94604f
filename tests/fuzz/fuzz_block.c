/*
 * One block of a table: iterating ends; walked backward it gives what it gave forward, when every restart point is where an entry begins; each
 * entry can be sought. And a block that we built gives back what went in.
 *
 * Input: a byte (bit 0: keys are internal keys; bit 1: what follows is built, not read), then the block; or the bytes that make entries.
 */
#include "engine/block.h"

#include <errno.h>

#include "engine/ikey.h"
#include "shm/error.h"
#include "tests/fuzz/fuzz.h"

enum { ENTRIES = 4096 };

struct entry {
	struct slice key; /* owned */
	struct slice value;
	uint32_t at;
};

struct walk {
	struct entry entry[ENTRIES];
	size_t count;
	int status;
};

static struct walk forward;

static void walk_free(void)
{
	for (size_t i = 0; i < forward.count; i++)
		free((void *)forward.entry[i].key.data);
	forward.count = 0;
}

static void walk_forward(struct block_iter *it)
{
	uint32_t last = 0;

	for (iter_seek_first(&it->base); it->base.valid && forward.count < ENTRIES; iter_next(&it->base)) {
		ENSURE(it->base.status == 0 && (!forward.count || it->current > last));
		last = it->current;
		forward.entry[forward.count++] = (struct entry){slice_of(input_copy(it->base.key), it->base.key.size),
								it->base.value, it->current};
	}
	forward.status = it->base.valid ? -EFBIG : it->base.status;
}

/* Whether the cursor came by every restart point, and found an entry there that shares nothing. */
static bool restarts_are_entries(const struct block *b)
{
	size_t n = 0;

	for (uint32_t i = 0; i < b->restarts; i++) {
		uint32_t at = load_le32(b->data + b->restart_offset + 4 * (size_t)i), shared = 1;

		while (n < forward.count && forward.entry[n].at < at)
			n++;
		if (!forward.count)
			continue;
		if (n == forward.count || forward.entry[n].at != at)
			return false;
		if (!varint32_get(b->data + at, b->data + b->restart_offset, &shared) || shared)
			return false;
	}
	return true;
}

static void walk_backward(struct block_iter *it)
{
	size_t n = forward.count;

	for (iter_seek_last(&it->base); it->base.valid; iter_prev(&it->base)) {
		ENSURE(n > 0);
		n--;
		ENSURE(slice_equal(it->base.key, forward.entry[n].key));
		ENSURE(slice_equal(it->base.value, forward.entry[n].value));
	}
	ENSURE(n == 0 && it->base.status == 0);
}

/* Sought, an entry is found when the keys ascend; else only that it ends counts. */
static void seek_all(struct block_iter *it, bool internal)
{
	bool ascend = true;

	for (size_t i = 1; i < forward.count && ascend; i++) {
		struct slice a = forward.entry[i - 1].key, b = forward.entry[i].key;

		ascend = (internal ? ikey_compare(a, b) : slice_compare(a, b)) < 0;
	}
	for (size_t i = 0; i < forward.count; i++) {
		iter_seek(&it->base, forward.entry[i].key);
		ENSURE(!ascend || (it->base.valid && it->current == forward.entry[i].at));
	}
}

static void look(struct block *b, bool internal)
{
	struct block_iter it;

	block_iter_init(&it);
	block_iter_set(&it, b, false, internal);
	walk_forward(&it);
	ENSURE(forward.status == 0 || forward.status == -SHALE_ECORRUPT || forward.status == -EFBIG);
	if (forward.status == 0 && restarts_are_entries(b)) {
		walk_backward(&it);
		seek_all(&it, internal);
	} else {
		unsigned steps = 0;

		for (iter_seek_last(&it.base); it.base.valid; iter_prev(&it.base))
			ENSURE(++steps <= b->size);
		for (size_t i = 0; i < forward.count; i++)
			iter_seek(&it.base, forward.entry[i].key);
	}
	block_iter_fini(&it);
}

static struct block *block_of(struct slice bytes)
{
	struct block *b = block_new(bytes.size);

	ENSURE(b);
	if (bytes.size)
		memcpy(b->data, bytes.data, bytes.size);
	return b;
}

/* Ascending keys with tails from the input, so that they share prefixes of all lengths; values from it, too. */
static void build(struct input *in)
{
	unsigned char key[3 + 60];
	struct block_builder *builder;
	struct slice bytes;
	struct block *b;
	size_t n = 0;

	ENSURE(block_builder_new(1 + input_byte(in) % 20, &builder) == 0);
	for (; n < ENTRIES && input_left(in); n++) {
		struct slice tail = input_slice(in, input_byte(in) % 60);

		key[0] = 0;
		key[1] = (unsigned char)(n >> 8);
		key[2] = (unsigned char)n;
		if (tail.size)
			memcpy(key + 3, tail.data, tail.size);
		ENSURE(block_builder_add(builder, slice_of(key, 3 + tail.size), input_slice(in, input_byte(in))) == 0);
	}
	ENSURE(block_builder_finish(builder, &bytes) == 0);
	b = block_of(bytes);
	ENSURE(block_check(b) == 0);
	look(b, false);
	ENSURE(forward.count == n && forward.status == 0);
	block_unref(b);
	block_builder_free(builder);
}

FUZZ_TARGET(block)
{
	struct input in = {data, data + size};
	unsigned mode = input_byte(&in);
	struct block *b;

	if (mode & 2) {
		build(&in);
	} else {
		b = block_of(input_slice(&in, 1 << 20));
		if (block_check(b) == 0)
			look(b, mode & 1);
		block_unref(b);
	}
	walk_free();
	return 0;
}
