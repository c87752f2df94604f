/*
 * base.h - the few words that every part of shale shares: slices, fixed-width little-endian loads and
 * stores, varints, and small arithmetic. Header only, no state, depends on libc alone.
 *
 * All on-disk and shared integers of shale are little-endian, as LevelDB's are (doc/table_format.md and
 * util/coding.h of LevelDB 1.23 are the source of the encodings).
 */
#ifndef SHALE_SHM_BASE_H
#define SHALE_SHM_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shale runs on little-endian machines only");

/* Repeated in client/shale.h, as the error codes are (shm/error.h). */
#define SHALE_VERSION "0.1.0"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* A run of bytes that somebody else owns. @data may be NULL only when @size is 0. */
struct slice {
	const unsigned char *data;
	size_t size;
};

static inline struct slice slice_of(const void *data, size_t size)
{
	return (struct slice){data, size};
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){(const unsigned char *)s, strlen(s)};
}

/* LevelDB's bytewise comparator: memcmp order, a proper prefix comes first. */
static inline int slice_compare(struct slice a, struct slice b)
{
	size_t n = a.size < b.size ? a.size : b.size;
	int c = n ? memcmp(a.data, b.data, n) : 0;

	if (c)
		return c;
	return (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline uint32_t load_le32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t load_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void store_le32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_le64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

enum { VARINT32_MAX = 5, VARINT64_MAX = 10 }; /* longest encodings, bytes */

/* Writes @v at @dst (room for VARINT64_MAX bytes) and returns the first byte after it. */
static inline unsigned char *varint64_put(unsigned char *dst, uint64_t v)
{
	while (v >= 0x80) {
		*dst++ = (unsigned char)(v | 0x80);
		v >>= 7;
	}
	*dst++ = (unsigned char)v;
	return dst;
}

static inline unsigned char *varint32_put(unsigned char *dst, uint32_t v)
{
	return varint64_put(dst, v);
}

static inline size_t varint_length(uint64_t v)
{
	size_t n = 1;

	for (; v >= 0x80; v >>= 7)
		n++;
	return n;
}

/* Reads a varint from [p, end). Returns the byte after it, or NULL when it is cut short or too long. */
static inline const unsigned char *varint64_get(const unsigned char *p, const unsigned char *end, uint64_t *v_out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift <= 63 && p < end; shift += 7) {
		uint64_t byte = *p++;

		v |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			*v_out = v;
			return p;
		}
	}
	return NULL;
}

static inline const unsigned char *varint32_get(const unsigned char *p, const unsigned char *end, uint32_t *v_out)
{
	uint32_t v = 0;

	if (likely(p < end && *p < 0x80)) {
		*v_out = *p;
		return p + 1;
	}
	for (unsigned shift = 0; shift <= 28 && p < end; shift += 7) {
		uint32_t byte = *p++;

		v |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			*v_out = v;
			return p;
		}
	}
	return NULL;
}

/* Reads a varint32 length and that many bytes. Returns the byte after them, or NULL when cut short. */
static inline const unsigned char *length_prefixed_get(const unsigned char *p, const unsigned char *end,
						       struct slice *out)
{
	uint32_t n;

	p = varint32_get(p, end, &n);
	if (!p || n > (size_t)(end - p))
		return NULL;
	*out = slice_of(p, n);
	return p + n;
}

static inline bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* @align is a power of two. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* One spin of a waiting loop: tells the core that this is one. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

#endif
