/*
 * batch.h - LevelDB's write batch: the unit that a client submits, the WAL holds and recovery replays.
 *
 *	fixed64 sequence | fixed32 count | count × ( type byte | varint32 key length | key
 *	                                             [ varint32 value length | value ] )
 *
 * type 0 is a deletion (no value), 1 a put. Source: LevelDB 1.23, db/write_batch.cc. A client leaves the
 * sequence zero; the daemon writes it into its own copy.
 */
#ifndef SHALE_SHM_BATCH_H
#define SHALE_SHM_BATCH_H

#include "shm/base.h"

enum {
	BATCH_HEADER_SIZE = 12,
	BATCH_DELETE = 0,
	BATCH_PUT = 1,
};

static inline uint64_t batch_sequence(const void *batch)
{
	return load_le64(batch);
}

static inline void batch_set_sequence(void *batch, uint64_t sequence)
{
	store_le64(batch, sequence);
}

static inline uint32_t batch_count(const void *batch)
{
	return load_le32((const char *)batch + 8);
}

/* Bytes that one record takes in a batch. @value_size is ignored for deletions. */
static inline size_t batch_put_size(size_t key_size, size_t value_size)
{
	return 1 + varint_length(key_size) + key_size + varint_length(value_size) + value_size;
}

static inline size_t batch_delete_size(size_t key_size)
{
	return 1 + varint_length(key_size) + key_size;
}

/*
 * Encoders into the caller's buffer, which has room. batch_begin writes an empty header; the two others
 * append a record at @dst (not counting it: call batch_set_count at the end) and return the byte after it.
 */
unsigned char *batch_begin(unsigned char *dst);
unsigned char *batch_append_put(unsigned char *dst, struct slice key, struct slice value);
unsigned char *batch_append_delete(unsigned char *dst, struct slice key);
void batch_set_count(unsigned char *batch, uint32_t count);

/* Limits that a batch from a client is held to. */
struct batch_limits {
	size_t max_key;   /* bytes */
	size_t max_value; /* bytes */
	uint32_t max_count; /* records; 0: as many as there are */
};

/* What validation found, so that no second pass is needed to size a memtable insert. */
struct batch_info {
	uint32_t count;     /* records */
	size_t key_bytes;   /* of all keys together */
	size_t value_bytes; /* of all values together */
};

/*
 * batch_check - walk every record of a *private* copy of a batch; nothing may change it meanwhile.
 *
 * Returns 0 and fills *@info_out (may be NULL); -EBADMSG when the bytes are no well-formed batch (short header,
 * unknown type, a length past the end, a count that does not match, trailing bytes); -E2BIG when a key, a value or
 * the number of records is past @limits (may be NULL: no limit).
 */
int batch_check(struct slice batch, const struct batch_limits *limits, struct batch_info *info_out);

/* Walks the records of a batch that batch_check() accepted. */
struct batch_reader {
	const unsigned char *next, *end;
};

struct batch_record {
	unsigned type;      /* BATCH_PUT or BATCH_DELETE */
	struct slice key;   /* into the batch */
	struct slice value; /* into the batch; empty for a deletion */
};

void batch_reader_init(struct batch_reader *r, struct slice batch);

/* Returns true and the next record, false at the end. */
bool batch_reader_next(struct batch_reader *r, struct batch_record *out);

#endif
