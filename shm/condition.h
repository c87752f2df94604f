/*
 * condition.h - what must hold for a write to be applied: a compare-and-set over any keys, in one round trip.
 *
 *	le32 count | count × ( type byte | varint32 key length | key
 *	                       [ EQUAL: varint32 value length | value ] [ SEQUENCE: le64 sequence ] )
 *
 * Stands before the batch in the payload of an OP_WRITE, sqe.extra_len bytes. The daemon judges all of it at one moment, at the newest
 * state, together with the write: either every condition holds and the batch is applied, or nothing is, and the completion names the first
 * one that fails (SHALE_MISMATCH; cqe.len its index, cqe.sequence the sequence of the key's entry, 0 when the key is absent).
 */
#ifndef SHALE_SHM_CONDITION_H
#define SHALE_SHM_CONDITION_H

#include "shm/base.h"

struct batch_limits;

enum condition_type {
	CONDITION_ABSENT = 0,   /* there is no such key */
	CONDITION_PRESENT = 1,  /* there is, with whatever value */
	CONDITION_EQUAL = 2,    /* its value is this one */
	CONDITION_SEQUENCE = 3, /* its newest entry is a value with this sequence number, as a GET tells it */
};

enum {
	CONDITION_HEADER_SIZE = 4,
	CONDITIONS_MAX = 1024, /* in one write: each costs the daemon a read */
};

struct condition {
	enum condition_type type;
	struct slice key;
	struct slice value; /* EQUAL; else empty */
	uint64_t sequence;  /* SEQUENCE; else 0 */
};

/* Bytes that @c takes, encoded. */
size_t condition_size(const struct condition *c);

/* Appends @c at @dst, which has room, and returns the byte after it. The count before them is the caller's: store_le32. */
unsigned char *condition_append(unsigned char *dst, const struct condition *c);

/*
 * Walks every condition of a *private* copy. Returns 0 and their number; -EBADMSG (not well formed, trailing bytes), -E2BIG (more than
 * CONDITIONS_MAX, or a key or value past @limits, which may be NULL: no limit).
 */
int conditions_check(struct slice bytes, const struct batch_limits *limits, uint32_t *count_out);

/* Walks what conditions_check() accepted. */
struct condition_reader {
	const unsigned char *next, *end;
};

void condition_reader_init(struct condition_reader *r, struct slice bytes);

/* Returns true and the next condition, whose slices point into the bytes; false at the end. */
bool condition_reader_next(struct condition_reader *r, struct condition *out);

#endif
