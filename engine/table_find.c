/*
 * table_find.c - where a block ends when nobody says so.
 *
 * A stored block is its bytes, a type and their checksum, so its end is the first place where the checksum of all before it stands. That is one pass
 * over the bytes: the checksum grows byte by byte, and at each place is held against the four bytes that follow. That a wrong
 * place matches has a chance of 2^-32 per byte, and what is found must still be a block.
 *
 * Where a block is damaged, so that none begins there, the next one has to be found without knowing where it begins. Trying each
 * byte would be a pass for each; but the first entry of a block shares nothing with the one before it, so its first
 * byte is zero, and in a compressed block it stands behind a header that is known.
 */
#include "engine/table_find.h"

#include "engine/crc32c.h"

enum { BLOCK_MIN = 8, RESYNC_AHEAD = 512 << 10, RESYNC_BLOCK = 256 << 10 };

static void table_fill(uint32_t table[256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
		table[i] = c;
	}
}

static bool find_end(const uint32_t table[256], const unsigned char *p, size_t left, size_t *size_out)
{
	uint32_t state = ~0u;

	if (left < BLOCK_MIN + BLOCK_TRAILER)
		return false;
	/* @n bytes of block, then the type at p[n], then the checksum. */
	for (size_t n = 0; n + BLOCK_TRAILER <= left; n++) {
		state = table[(state ^ p[n]) & 0xff] ^ state >> 8;
		if (n >= BLOCK_MIN && p[n] <= COMPRESS_ZSTD && load_le32(p + n + 1) == crc32c_mask(~state)) {
			*size_out = n;
			return true;
		}
	}
	return false;
}

/* Whether a block of entries may begin here, by its first bytes. */
static bool may_begin(const unsigned char *p, size_t left)
{
	static const unsigned char zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	size_t i = 0;

	if (left < BLOCK_MIN + BLOCK_TRAILER)
		return false;
	if (p[0] == 0 || memcmp(p, zstd, sizeof(zstd)) == 0)
		return true;
	/* Snappy: the length of the whole, then a literal that begins with the first entry. */
	while (i < VARINT32_MAX - 1 && p[i] & 0x80)
		i++;
	i++;
	return (p[i] & 3) == 0 && p[i + 1 + (p[i] >> 2 < 60 ? 0 : (p[i] >> 2) - 59)] == 0;
}

bool table_find_block(const unsigned char *bytes, size_t size, uint64_t from, bool resync, struct block_handle *out)
{
	uint64_t last = resync ? from + RESYNC_AHEAD : from;
	uint32_t table[256];
	size_t n;

	table_fill(table);
	for (uint64_t at = resync ? from + 1 : from; at <= last && at < size; at++) {
		size_t left = size - at;

		if (resync && !may_begin(bytes + at, left))
			continue;
		if (find_end(table, bytes + at, resync ? min_size(left, RESYNC_BLOCK) : left, &n)) {
			*out = (struct block_handle){at, n};
			return true;
		}
	}
	return false;
}
