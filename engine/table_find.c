/*
 * table_find.c - where a block ends when nobody says so.
 *
 * A stored block is its bytes, a type and their checksum, so its end is the first place where the checksum of all before it stands. That is one pass
 * over the bytes: the checksum grows byte by byte, and at each place is held against the four bytes that follow. That a wrong
 * place matches has a chance of 2^-32 per byte, and what is found must still be a block.
 *
 * Where a block is damaged, so that none begins there, the next one has to be found without knowing where it begins. A pass for each byte that may begin
 * one would be quadratic: over a table whose end was zeroed it took minutes. But the state of a CRC is linear. With A for "one more
 * byte of zeros", P(i) for the state after the first i bytes begun at 0, and I for all ones, the state over [s, e) is
 *
 *	P(e) ^ A^(e-s) (P(s) ^ I)
 *
 * which is the wanted state W(e) just where A^-s (P(s) ^ I) = A^-e (P(e) ^ W(e)). The left side is a number of s alone, the right side one of e alone: so the
 * numbers of all ends are sorted, and each start is looked up among them. A is a multiplication by x^8 modulo the polynomial.
 *
 * Of starts, only those are looked up that may begin a block of entries: its first entry shares nothing with the one before it, so its first
 * byte is zero, and in a compressed block it stands behind a header that is known.
 */
#include "engine/table_find.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/crc32c.h"
#include "engine/table_exam.h"

/* RESYNC_STARTS: so many starts are looked up at once, each among ends up to RESYNC_BLOCK behind it. */
enum { BLOCK_MIN = 8, RESYNC_STARTS = 256 << 10, RESYNC_BLOCK = 256 << 10 };

#define POLYNOMIAL UINT32_C(0x82f63b78) /* bit 31 is x^0 */

static uint32_t times_x(uint32_t v)
{
	return v & 1 ? v >> 1 ^ POLYNOMIAL : v >> 1;
}

static uint32_t over_x(uint32_t v)
{
	return v >> 31 ? (v ^ POLYNOMIAL) << 1 | 1 : v << 1;
}

static uint32_t times(uint32_t a, uint32_t b)
{
	uint32_t product = 0;

	for (; b; b <<= 1, a = times_x(a))
		product ^= b >> 31 ? a : 0;
	return product;
}

static void table_fill(uint32_t table[256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = times_x(c);
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

/* Starts and ends of one stretch of bytes: the number of each above its place. */
struct places {
	uint64_t *start, *end;
	size_t starts, ends;
};

static uint64_t place(uint32_t number, size_t at)
{
	return (uint64_t)number << 32 | at;
}

static void note_places(const unsigned char *p, size_t left, struct places *out)
{
	size_t stretch = min_size(left, RESYNC_STARTS + RESYNC_BLOCK);
	uint32_t table[256], state = 0, power = UINT32_C(1) << 31; /* P(i), and x^(-8i) */

	table_fill(table);
	for (size_t i = 0; i < stretch; i++) {
		if (i < RESYNC_STARTS && may_begin(p + i, left - i))
			out->start[out->starts++] = place(times(state ^ ~UINT32_C(0), power), i);
		if (i && p[i - 1] <= COMPRESS_ZSTD && left - i >= 4)
			out->end[out->ends++] = place(times(state ^ ~crc32c_unmask(load_le32(p + i)), power), i);
		state = table[(state ^ p[i]) & 0xff] ^ state >> 8;
		for (int bit = 0; bit < 8; bit++)
			power = over_x(power);
	}
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The first end of those at or behind @least. */
static size_t first_end(const struct places *l, uint64_t least)
{
	size_t low = 0, high = l->ends;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->end[middle] < least)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first start in @l for which there is an end, and the bytes in between are a block of entries. 1, 0, or -ENOMEM. */
static int match(const unsigned char *p, const struct places *l, struct block_handle *out)
{
	for (size_t i = 0; i < l->starts; i++) {
		size_t at = (uint32_t)l->start[i], end;
		uint64_t least = l->start[i] + BLOCK_MIN + 1; /* places are far below 2^32: the number stays */
		struct block *b;
		int rc;

		end = first_end(l, least);
		if (end == l->ends || l->end[end] >> 32 != l->start[i] >> 32)
			continue;
		*out = (struct block_handle){at, (uint32_t)l->end[end] - at - 1};
		if (!block_judge(p + at, out->size, true, &b, &rc)) {
			block_unref(b);
			return 1;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

int table_find_next_block(const unsigned char *bytes, size_t size, uint64_t behind, struct block_handle *out)
{
	struct places l = {.start = malloc(RESYNC_STARTS * sizeof(*l.start)),
			   .end = malloc((RESYNC_STARTS + RESYNC_BLOCK) * sizeof(*l.end))};
	struct block_handle h;
	int rc = l.start && l.end ? 0 : -ENOMEM;

	for (uint64_t at = behind + 1; rc == 0 && at < size; at += RESYNC_STARTS) {
		l.starts = l.ends = 0;
		note_places(bytes + at, size - at, &l);
		qsort(l.end, l.ends, sizeof(*l.end), by_value);
		rc = match(bytes + at, &l, &h);
		if (rc == 1)
			*out = (struct block_handle){at + h.offset, h.size};
	}
	free(l.start);
	free(l.end);
	return rc;
}

bool table_find_block(const unsigned char *bytes, size_t size, uint64_t from, struct block_handle *out)
{
	uint32_t table[256];
	size_t n;

	table_fill(table);
	if (from >= size || !find_end(table, bytes + from, size - from, &n))
		return false;
	*out = (struct block_handle){from, n};
	return true;
}
