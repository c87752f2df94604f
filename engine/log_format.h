/*
 * log_format.h - LevelDB's record log (WAL and MANIFEST): framing and reading. Spec: engine/FORMAT.md.
 *
 * 32,768-byte blocks; a record is one FULL fragment or FIRST, MIDDLE…, LAST; 7-byte fragment header: masked crc32c over
 * type and payload, LE16 length, type. Source: LevelDB 1.23, doc/log_format.md.
 */
#ifndef SHALE_ENGINE_LOG_FORMAT_H
#define SHALE_ENGINE_LOG_FORMAT_H

#include "engine/io.h"

enum {
	LOG_BLOCK = 32768,
	LOG_HEADER = 7,
	LOG_ZERO = 0, /* preallocated space */
	LOG_FULL = 1,
	LOG_FIRST = 2,
	LOG_MIDDLE = 3,
	LOG_LAST = 4,
};

/* Bytes that a record of @size takes when its framing begins at file offset @offset, padding included. */
size_t log_framed_size(uint64_t offset, size_t size);

/*
 * A place to put framed bytes: a ring of @size bytes (power of two, or large enough not to wrap) where file offset o
 * lies at base[(o + shift) % size]. A flat buffer that begins at file offset F is {buf, huge power of two, -F}.
 */
struct log_dest {
	unsigned char *base;
	uint64_t mask;  /* size - 1 */
	uint64_t shift;
};

/*
 * Frames @payload as one record at file offset @offset into @dest, which has room for log_framed_size() bytes.
 * Returns the file offset after it. @payload may not lie inside the destination range.
 */
uint64_t log_frame(const struct log_dest *dest, uint64_t offset, struct slice payload);

/*
 * The same in parts, for a record that is larger than the destination: each call frames as many whole fragments as @room bytes take and returns the
 * offset after them, @offset if none. Begin with *rest = payload and *begun = false; it is done when *done_out is true.
 */
uint64_t log_frame_part(const struct log_dest *dest, uint64_t offset, uint64_t room, struct slice *rest, bool *begun,
			bool *done_out);

/*
 * Fast path: when a record of @size fits into what is left of its block without splitting, and its destination is contiguous,
 * returns the address where its payload belongs (header space before it), else NULL. The caller puts the payload there and calls
 * log_frame_finish, which writes the header and returns the offset after the record.
 */
unsigned char *log_frame_reserve(const struct log_dest *dest, uint64_t offset, size_t size);
uint64_t log_frame_finish(const struct log_dest *dest, uint64_t offset, size_t size);

/* ---- reading ---- */

#define LOG_END 1 /* no more records: a clean or a torn tail */

struct log_reader;

/*
 * Reads records of @file from its start through @q in large blocks. Both are borrowed until log_reader_free.
 */
int log_reader_new(struct io_queue *q, struct io_file *file, struct log_reader **out);
void log_reader_free(struct log_reader *r);

/*
 * The next whole record. Returns 0 and *@record_out (valid until the next call); LOG_END at the end: clean, zero-filled
 * (preallocated) or torn in the last record; -SHALE_ECORRUPT when the bytes fail their check and that cannot be a torn tail, or
 * -errno. After a failure every further call returns the same; log_reader_skip continues behind the bad block.
 */
int log_reader_next(struct log_reader *r, struct slice *record_out);

/* After -SHALE_ECORRUPT: drops the rest of the bad block and goes on at the next record start. 0. */
int log_reader_skip(struct log_reader *r);

/*
 * As log_reader_skip, but goes on at the valid fragment that gave the damage away, also inside the bad block: for looking, not for recovery, since a value
 * may hold what looks like one. 0.
 */
int log_reader_resync(struct log_reader *r);

/* File offset of the last record returned (its first fragment), and of the end of the last whole record: where a torn tail is cut. */
uint64_t log_reader_record_offset(const struct log_reader *r);
uint64_t log_reader_end_offset(const struct log_reader *r);

/* Why the last call failed, in words: offset and reason. "" when it did not. */
const char *log_reader_reason(const struct log_reader *r);

#endif
