/*
 * ikey.h - internal keys: user key, then LE64(sequence << 8 | type). Source: LevelDB 1.23, db/dbformat.h.
 *
 * Order: user keys ascending bytewise; of one user key, the newest (highest sequence) first.
 */
#ifndef SHALE_ENGINE_IKEY_H
#define SHALE_ENGINE_IKEY_H

#include "shm/base.h"

#define SEQUENCE_MAX ((UINT64_C(1) << 56) - 1)

enum { IKEY_TRAILER = 8 };
enum ikey_type { IKEY_DELETION = 0, IKEY_VALUE = 1, IKEY_SEEK = 1 /* sorts before every entry of the same sequence */ };

static inline uint64_t ikey_pack(uint64_t sequence, unsigned type)
{
	return sequence << 8 | type;
}

/* The parts of an internal key of at least IKEY_TRAILER bytes. */
static inline struct slice ikey_user(struct slice ikey)
{
	return slice_of(ikey.data, ikey.size - IKEY_TRAILER);
}

static inline uint64_t ikey_trailer(struct slice ikey)
{
	return load_le64(ikey.data + ikey.size - IKEY_TRAILER);
}

static inline uint64_t ikey_sequence(struct slice ikey)
{
	return ikey_trailer(ikey) >> 8;
}

static inline unsigned ikey_kind(struct slice ikey)
{
	return (unsigned)(ikey_trailer(ikey) & 0xff);
}

/* False for bytes that are no internal key: too short, or an unknown type. */
static inline bool ikey_valid(struct slice ikey)
{
	return ikey.size >= IKEY_TRAILER && ikey_kind(ikey) <= IKEY_VALUE;
}

/* Both at least IKEY_TRAILER bytes. */
static inline int ikey_compare(struct slice a, struct slice b)
{
	int c = slice_compare(ikey_user(a), ikey_user(b));
	uint64_t ta, tb;

	if (c)
		return c;
	ta = ikey_trailer(a);
	tb = ikey_trailer(b);
	return (ta < tb) - (ta > tb);
}

/* Writes @user and its trailer to @dst (user.size + IKEY_TRAILER bytes) and returns the slice. */
static inline struct slice ikey_make(unsigned char *dst, struct slice user, uint64_t sequence, unsigned type)
{
	if (user.size)
		memcpy(dst, user.data, user.size);
	store_le64(dst + user.size, ikey_pack(sequence, type));
	return slice_of(dst, user.size + IKEY_TRAILER);
}

/*
 * Shortest internal keys for index blocks (LevelDB's FindShortestSeparator / FindShortSuccessor): a key k with
 * @start <= k < @limit, and a key >= @key. @key is a malloc-owned buffer of *@size bytes, shortened in place.
 */
void ikey_shorten_separator(unsigned char *start, size_t *size, struct slice limit);
void ikey_shorten_successor(unsigned char *key, size_t *size);

/* Owned copy of an internal or user key that lives in a struct: grown as needed. */
struct key_buf {
	unsigned char *data;
	size_t size, cap;
};

int key_buf_set(struct key_buf *k, struct slice s); /* 0 or -ENOMEM, k unchanged */
int key_buf_set_internal(struct key_buf *k, struct slice user, uint64_t sequence, unsigned type);
void key_buf_fini(struct key_buf *k);

static inline struct slice key_buf_slice(const struct key_buf *k)
{
	return slice_of(k->data, k->size);
}

#endif
