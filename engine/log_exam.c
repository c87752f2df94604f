#include "engine/log_exam.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/ikey.h"
#include "engine/log_format.h"

enum verdict_of_record record_judge(uint64_t known, uint64_t last, struct slice record, bool first_of_log,
				    struct batch_info *info, const char **why_out)
{
	uint64_t before = last ? last : known, sequence;

	if (record.size < BATCH_HEADER_SIZE || batch_check(record, NULL, info) < 0) {
		*why_out = "its checksum is right, but it is no well-formed batch";
		return RECORD_BAD;
	}
	sequence = batch_sequence(record.data);
	if (info->count && (sequence > SEQUENCE_MAX || info->count > SEQUENCE_MAX - sequence)) {
		*why_out = "its sequence number is out of range";
		return RECORD_BAD;
	}
	/* Stock may have told the MANIFEST of sequences that are still in the log only: before the first record there may be less than is known. */
	if (!info->count || sequence == before + 1 || (!last && sequence <= before))
		return RECORD_GOOD;
	*why_out = sequence <= before ? "its sequence number runs backwards" : "sequence numbers before it are missing";
	return first_of_log && sequence > before ? RECORD_GAP : RECORD_BAD;
}

static void report(struct exam *x, const char *name, const struct log_exam *l, uint64_t offset, const char *why)
{
	struct finding f = {
		.kind = l->end == RECORD_GAP ? "gap" : "record", .file = name, .has_offset = true, .offset = offset};

	f.size = l->size - offset;
	f.cause = l->end == RECORD_GAP
			  ? "the end of the log before it was lost (power failure), or that log was removed"
			  : cause_rot;
	snprintf(f.what, sizeof(f.what),
		 "the record at offset %" PRIu64 " cannot be used: %s; %" PRIu64
		 " bytes from here on are not recovered, nor are later logs",
		 offset, why, f.size);
	exam_found(x, &f);
}

static void report_tail(struct exam *x, const char *name, const struct log_exam *l)
{
	struct finding f = {.note = true, .kind = "tail", .file = name, .has_offset = true, .offset = l->whole};

	f.size = l->size - l->whole;
	f.cause = "a crash while it was written; a damaged last record looks the same";
	snprintf(f.what, sizeof(f.what),
		 "it ends after %" PRIu64 " of %" PRIu64 " bytes: what follows is no whole record", l->whole, l->size);
	exam_found(x, &f);
}

static int read_records(struct exam *x, const char *name, uint64_t known, uint64_t *last_io, struct log_reader *reader,
			struct log_exam *l)
{
	struct slice record;
	uint64_t seen = 0;
	bool first = true;
	int rc;

	while ((rc = log_reader_next(reader, &record)) == 0) {
		struct batch_info info = {0};
		const char *why = "";

		l->end = record_judge(known, *last_io, record, first, &info, &why);
		if (l->end != RECORD_GOOD) {
			report(x, name, l, log_reader_record_offset(reader), why);
			return 0;
		}
		first = false;
		if (info.count) {
			l->first = l->first ? l->first : batch_sequence(record.data);
			*last_io = l->last = batch_sequence(record.data) + info.count - 1;
		}
		l->records++;
		l->whole = log_reader_end_offset(reader);
		rc = exam_progress(x, name, l->whole - seen);
		seen = l->whole;
		if (rc < 0)
			return rc;
	}
	if (rc == -SHALE_ECORRUPT) {
		l->end = RECORD_BAD;
		report(x, name, l, l->whole, log_reader_reason(reader));
		return 0;
	}
	if (rc == LOG_END && l->whole < l->size)
		report_tail(x, name, l);
	return rc == LOG_END ? 0 : rc;
}

int log_examine(struct exam *x, const char *name, uint64_t known, uint64_t *last_io, struct log_exam *out,
		struct err_info *err)
{
	struct log_reader *reader = NULL;
	struct log_exam l = {0};
	struct io_file *f = NULL;
	int rc = io_open(x->env, name, IO_OPEN_READ, &f);

	if (rc == 0)
		rc = io_size(f, &l.size);
	if (rc == 0)
		rc = log_reader_new(x->q, f, &reader);
	if (rc == 0)
		rc = read_records(x, name, known, last_io, reader, &l);
	if (rc < 0)
		err_set(err, rc, "%s: cannot be read: %s", name, shale_strerror(rc));
	log_reader_free(reader);
	io_close(f);
	if (rc == 0)
		*out = l;
	return rc;
}
