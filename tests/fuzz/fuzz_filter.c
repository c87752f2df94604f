/*
 * A filter block from the disk answers, whatever its bytes, and a damaged one never says "not there" louder than a whole one may: its reader treats
 * what does not add up as "may be there". And a filter that we built never denies a key that it holds.
 *
 * Input: a byte (bit 1: what follows makes keys), a byte of key length, that key, 8 bytes of block offset, the filter block; or bits per key, and keys.
 */
#include "engine/filter.h"

#include "tests/fuzz/fuzz.h"

enum { KEYS = 256 };

static void build(struct input *in)
{
	struct filter_builder *b;
	struct slice key[KEYS], block;
	uint64_t at[KEYS], offset = 0;
	unsigned n = 0;

	ENSURE(filter_builder_new(1 + input_byte(in) % 40, &b) == 0);
	while (n < KEYS && input_left(in)) {
		unsigned what = input_byte(in);

		if (what & 1) { /* a new data block, up to 64 KiB on */
			offset += 1 + (uint64_t)(what >> 1) * 512;
			ENSURE(filter_builder_start_block(b, offset) == 0);
		}
		at[n] = offset;
		key[n] = input_slice(in, input_byte(in) % 64);
		ENSURE(filter_builder_add(b, key[n]) == 0);
		n++;
	}
	ENSURE(filter_builder_finish(b, &block) == 0);
	for (unsigned i = 0; i < n; i++)
		ENSURE(filter_may_contain(block, at[i], key[i]));
	filter_builder_free(b);
}

static void ask(struct input *in)
{
	struct slice key = input_slice(in, input_byte(in)), rest;
	uint64_t offset = input_number(in, 8);
	unsigned char *block;

	rest = input_slice(in, SIZE_MAX);
	block = input_copy(rest);
	bloom_may_contain(slice_of(block, rest.size), key);
	filter_may_contain(slice_of(block, rest.size), offset, key);
	/* Nothing is known of a block past the last filter, nor by a filter that is cut short. */
	ENSURE(filter_may_contain(slice_of(block, rest.size), UINT64_MAX, key) ||
	       (rest.size && block[rest.size - 1] > 40));
	ENSURE(filter_may_contain(slice_of(block, min_size(rest.size, 4)), offset, key));
	free(block);
}

FUZZ_TARGET(filter)
{
	struct input in = {data, data + size};

	if (input_byte(&in) & 2)
		build(&in);
	else
		ask(&in);
	return 0;
}
