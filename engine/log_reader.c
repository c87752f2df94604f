/*
 * log_reader.c - reads records back, and tells a torn tail from a corrupt log.
 *
 * A process that dies, or a machine that loses power, leaves the end of its newest log unwritten: cut short, zero, or garbage.
 * That is no fault: the records before it are all that was ever promised. Bytes that rot in the middle look the same
 * where they fail. The difference is what follows: behind a torn tail nothing valid stands.
 *
 *	fails its check ──▶ look ahead ──▶ a valid fragment follows ──▶ -SHALE_ECORRUPT
 *	                               └─▶ none to the end of file ──▶ LOG_END
 *
 * Looking ahead tries every byte of the bad block (a bad length hides where the next fragment begins), then the start of each later
 * block, where a fragment must begin. What it finds is remembered, so that a file with many bad blocks is looked through once.
 *
 * A fragment whose check holds but that has no place (a LAST without FIRST, an unknown type) is corruption at once: whole
 * bytes were written there by somebody. One exception, as in stock: an empty FIRST may be followed by a new record.
 */
#include "engine/log_format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/crc32c.h"
#include "engine/plant.h"
#include "shm/error.h"

enum { BUFFER = 8 * LOG_BLOCK };

struct log_reader {
	struct io_queue *q;
	struct io_file *file;
	uint64_t size;	       /* of the file */
	uint64_t offset;       /* of the next fragment */
	unsigned char *buffer; /* whole blocks of the file … */
	uint64_t buffer_start;
	size_t buffer_size;
	struct {
		unsigned char *data; /* fragments of a split record */
		size_t size, cap;
	} joined;
	bool in_record;	   /* FIRST seen, LAST not yet */
	bool resyncing;	   /* after a skip: fragments of a record whose start is gone are dropped */
	uint64_t first;	   /* offset of the record's first fragment */
	uint64_t record;   /* … of the last record returned */
	uint64_t end;	   /* end of the last record returned */
	uint64_t evidence; /* a valid fragment is known to begin here; 0: none known */
	uint64_t resume;   /* where log_reader_skip goes on */
	int failure;	   /* of the last call, or LOG_END */
	char reason[160];
};

int log_reader_new(struct io_queue *q, struct io_file *file, struct log_reader **out)
{
	struct log_reader *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->q = q;
	r->file = file;
	r->buffer = malloc(BUFFER);
	rc = r->buffer ? io_size(file, &r->size) : -ENOMEM;
	if (rc < 0) {
		log_reader_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void log_reader_free(struct log_reader *r)
{
	if (!r)
		return;
	free(r->buffer);
	free(r->joined.data);
	free(r);
}

__attribute__((format(printf, 3, 4))) static int fail(struct log_reader *r, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
	va_end(ap);
	return rc;
}

/* ---- fragments ---- */

/* Has the block of @offset in memory. */
static int load(struct log_reader *r, uint64_t offset)
{
	uint64_t start = offset - offset % LOG_BLOCK;
	size_t size = (size_t)(r->size - start < BUFFER ? r->size - start : BUFFER);
	int rc;

	if (start >= r->buffer_start && offset < r->buffer_start + r->buffer_size)
		return 0;
	rc = io_pread(r->q, r->file, r->buffer, size, start);
	if (rc < 0) {
		r->buffer_size = 0;
		return fail(r, rc, "offset %" PRIu64 ": cannot be read: %s", start, strerror(-rc));
	}
	r->buffer_start = start;
	r->buffer_size = size;
	return 0;
}

struct fragment {
	unsigned type;
	struct slice payload;
};

enum check {
	FRAGMENT_OK,
	FRAGMENT_ZERO, /* space reserved but never written */
	FRAGMENT_SHORT,
	FRAGMENT_LENGTH,
	FRAGMENT_CRC,
};

static const char *const check_words[] = {
	[FRAGMENT_ZERO] = "zeros where a record should be",
	[FRAGMENT_SHORT] = "the record is cut short",
	[FRAGMENT_LENGTH] = "the record's length is past the end of its block",
	[FRAGMENT_CRC] = "the record's checksum does not match",
};

/* Judges the bytes at @offset, whose block is loaded. */
static enum check check_fragment(const struct log_reader *r, uint64_t offset, struct fragment *out)
{
	const unsigned char *p = r->buffer + (offset - r->buffer_start);
	uint64_t block_left = LOG_BLOCK - offset % LOG_BLOCK, file_left = r->size - offset;
	size_t length;

	if (file_left < LOG_HEADER)
		return FRAGMENT_SHORT;
	length = (size_t)p[4] | (size_t)p[5] << 8;
	if (p[6] == LOG_ZERO && !length)
		return FRAGMENT_ZERO;
	if (LOG_HEADER + length > block_left)
		return FRAGMENT_LENGTH;
	if (LOG_HEADER + length > file_left)
		return FRAGMENT_SHORT;
	if (!PLANT("crc-skipped") && crc32c_unmask(load_le32(p)) != crc32c(p + 6, 1 + length))
		return FRAGMENT_CRC;
	out->type = p[6];
	out->payload = slice_of(p + LOG_HEADER, length);
	return FRAGMENT_OK;
}

/* As check_fragment, for looking around: only whether something whole that a writer makes stands there. */
static bool valid_at(const struct log_reader *r, uint64_t offset)
{
	const unsigned char *p = r->buffer + (offset - r->buffer_start);
	struct fragment f;

	/* The type first: it spares most checksums. */
	return r->size - offset >= LOG_HEADER && p[6] >= LOG_FULL && p[6] <= LOG_LAST &&
	       check_fragment(r, offset, &f) == FRAGMENT_OK;
}

/* Finds a valid fragment behind the bad one at @bad. 1 found, 0 none, -errno. */
static int look_ahead(struct log_reader *r, uint64_t bad)
{
	uint64_t block_end = bad - bad % LOG_BLOCK + LOG_BLOCK, at;
	int rc;

	if (r->evidence > bad)
		return 1;
	rc = load(r, bad);
	if (rc < 0)
		return rc;
	for (at = bad + 1; at + LOG_HEADER <= block_end && at < r->size; at++)
		if (valid_at(r, at))
			goto found;
	for (at = block_end; at < r->size; at += LOG_BLOCK) {
		rc = load(r, at);
		if (rc < 0)
			return rc;
		if (valid_at(r, at))
			goto found;
	}
	return 0;
found:
	r->evidence = at;
	return 1;
}

/* The bytes at the current offset fail their check: the end of the log, or corruption? */
static int judge(struct log_reader *r, enum check why)
{
	int rc = look_ahead(r, r->offset);

	if (rc < 0)
		return rc;
	if (!rc)
		return LOG_END;
	r->resume = r->offset - r->offset % LOG_BLOCK + LOG_BLOCK;
	return fail(r, -SHALE_ECORRUPT, "offset %" PRIu64 ": %s, and valid records follow at offset %" PRIu64,
		    r->offset, check_words[why], r->evidence);
}

/* ---- records ---- */

static int join(struct log_reader *r, struct slice piece)
{
	size_t need = r->joined.size + piece.size;

	if (need > r->joined.cap) {
		size_t cap = max_size(need + need / 2, 2 * LOG_BLOCK);
		unsigned char *data = realloc(r->joined.data, cap);

		if (!data)
			return fail(r, -ENOMEM, "offset %" PRIu64 ": out of memory for a record of more than %zu bytes",
				    r->first, need);
		r->joined.data = data;
		r->joined.cap = cap;
	}
	if (piece.size)
		memcpy(r->joined.data + r->joined.size, piece.data, piece.size);
	r->joined.size = need;
	return 0;
}

/* A valid fragment in the wrong place. @keep: it may begin a record itself, so skip goes on with it. */
static int misplaced(struct log_reader *r, const struct fragment *f, bool keep, const char *what)
{
	r->resume = keep ? r->offset : r->offset + LOG_HEADER + f->payload.size;
	return fail(r, -SHALE_ECORRUPT, "offset %" PRIu64 ": %s", r->offset, what);
}

/* Takes the fragment at the current offset. 0: a record is whole, 1: go on, negative: failure. */
static int take(struct log_reader *r, const struct fragment *f, struct slice *record_out)
{
	uint64_t after = r->offset + LOG_HEADER + f->payload.size;
	bool starts = f->type == LOG_FULL || f->type == LOG_FIRST;
	int rc;

	if (f->type < LOG_FULL || f->type > LOG_LAST)
		return misplaced(r, f, false, "a record of unknown type");
	if (starts && r->in_record && r->joined.size)
		return misplaced(r, f, true, "a new record begins before the one at its front ended");
	if (!starts && !r->in_record) {
		if (!r->resyncing)
			return misplaced(r, f, false, "a record's continuation without its beginning");
		r->offset = after;
		return 1;
	}
	if (starts) {
		r->first = r->offset;
		r->joined.size = 0;
		r->in_record = f->type == LOG_FIRST;
		r->resyncing = false;
	}
	if (f->type == LOG_FULL) {
		*record_out = f->payload;
	} else {
		rc = join(r, f->payload);
		if (rc < 0)
			return rc;
	}
	r->offset = after;
	if (f->type == LOG_FIRST || f->type == LOG_MIDDLE)
		return 1;
	if (f->type == LOG_LAST)
		*record_out = slice_of(r->joined.data, r->joined.size);
	r->in_record = false;
	r->record = r->first;
	r->end = after;
	return 0;
}

static int next_record(struct log_reader *r, struct slice *record_out)
{
	struct fragment f;
	enum check check;
	int rc;

	do {
		uint64_t block_left = LOG_BLOCK - r->offset % LOG_BLOCK;

		if (block_left < LOG_HEADER)
			r->offset += block_left;
		if (r->offset >= r->size)
			return LOG_END;
		rc = load(r, r->offset);
		if (rc < 0)
			return rc;
		check = check_fragment(r, r->offset, &f);
		if (check != FRAGMENT_OK)
			return judge(r, check);
		rc = take(r, &f, record_out);
	} while (rc > 0);
	return rc;
}

int log_reader_next(struct log_reader *r, struct slice *record_out)
{
	if (!r->failure)
		r->failure = next_record(r, record_out);
	return r->failure;
}

int log_reader_skip(struct log_reader *r)
{
	if (r->failure != -SHALE_ECORRUPT)
		return 0;
	r->failure = 0;
	r->reason[0] = '\0';
	r->offset = r->resume;
	r->in_record = false;
	r->resyncing = true;
	return 0;
}

int log_reader_resync(struct log_reader *r)
{
	uint64_t evidence = r->evidence;

	if (r->failure == -SHALE_ECORRUPT && evidence > r->offset && evidence < r->resume)
		r->resume = evidence;
	return log_reader_skip(r);
}

uint64_t log_reader_record_offset(const struct log_reader *r)
{
	return r->record;
}

uint64_t log_reader_end_offset(const struct log_reader *r)
{
	return r->end;
}

const char *log_reader_reason(const struct log_reader *r)
{
	return r->reason;
}
