/*
 * A record log from the disk: reading ends, records ascend, and a log cut where its last whole record ended reads the same once more. And a log that we
 * wrote gives back what went in, whole.
 *
 * Input: a byte (bit 0: checksums are put right first; bit 1: what follows is framed, not read), then the log; or the bytes that make records.
 */
#include "engine/log_format.h"

#include "shm/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/seal.h"

struct found {
	unsigned records, skips;
	uint64_t end;
};

static struct found read_all(struct memory_env *m, struct io_queue *q, size_t size)
{
	struct found found = {0};
	struct log_reader *r;
	struct slice record;
	struct io_file *f;
	uint64_t last = 0;
	int rc;

	ENSURE(io_open(&m->base, "log", IO_OPEN_READ, &f) == 0 && log_reader_new(q, f, &r) == 0);
	while ((rc = log_reader_next(r, &record)) != LOG_END) {
		if (rc < 0) {
			ENSURE(rc == -SHALE_ECORRUPT && log_reader_reason(r)[0]);
			ENSURE(log_reader_next(r, &record) == rc); /* until it is told to skip */
			ENSURE(log_reader_skip(r) == 0);
			/* Each skip passes at least one header, or keeps a record that the next call takes. */
			ENSURE(++found.skips <= size / LOG_HEADER + size / LOG_BLOCK + 2 * found.records + 2);
			continue;
		}
		ENSURE(!found.records || log_reader_record_offset(r) > last);
		ENSURE(log_reader_end_offset(r) > log_reader_record_offset(r));
		ENSURE(log_reader_end_offset(r) - log_reader_record_offset(r) >= record.size + LOG_HEADER);
		last = log_reader_record_offset(r);
		found.records++;
	}
	found.end = log_reader_end_offset(r);
	ENSURE(found.end <= size && log_reader_next(r, &record) == LOG_END);
	log_reader_free(r);
	io_close(f);
	return found;
}

static void read_back(struct memory_env *m, struct io_queue *q, struct slice log, bool seal)
{
	unsigned char *copy = input_copy(log);
	struct found found, again;

	if (seal)
		seal_log(copy, log.size);
	memory_env_put(m, "log", copy, log.size);
	found = read_all(m, q, log.size);
	if (!found.skips) {
		memory_env_put(m, "log", copy, (size_t)found.end);
		again = read_all(m, q, (size_t)found.end);
		ENSURE(again.records == found.records && !again.skips && again.end == found.end);
	}
	free(copy);
}

enum { RECORDS = 16, LOG_MAX = 1 << 20 };

static void write_and_read(struct memory_env *m, struct io_queue *q, struct input *in)
{
	unsigned char *log = calloc(1, LOG_MAX), *payload = malloc(65536);
	const struct log_dest dest = {.base = log, .mask = UINT64_MAX};
	struct slice put[RECORDS], record;
	uint64_t end = 0, offset[RECORDS];
	struct log_reader *r;
	struct io_file *f;
	unsigned n = 0;

	ENSURE(log && payload);
	for (size_t i = 0; i < 65536; i++)
		payload[i] = (unsigned char)(i * 31 ^ i >> 8);
	for (; n < RECORDS && input_left(in); n++) {
		uint64_t at = end;

		put[n] = slice_of(payload + input_byte(in), (size_t)input_number(in, 2) % 65280);
		offset[n] = at;
		end = log_frame(&dest, at, put[n]);
		ENSURE(end - at == log_framed_size(at, put[n].size));
	}
	memory_env_put(m, "log", log, (size_t)end);
	ENSURE(io_open(&m->base, "log", IO_OPEN_READ, &f) == 0 && log_reader_new(q, f, &r) == 0);
	for (unsigned i = 0; i < n; i++) {
		ENSURE(log_reader_next(r, &record) == 0 && slice_equal(record, put[i]));
		ENSURE(log_reader_record_offset(r) - offset[i] < LOG_HEADER);
		ENSURE(log_reader_end_offset(r) == (i + 1 < n ? offset[i + 1] : end));
	}
	ENSURE(log_reader_next(r, &record) == LOG_END);
	log_reader_free(r);
	io_close(f);
	free(payload);
	free(log);
}

FUZZ_TARGET(log)
{
	struct input in = {data, data + size};
	unsigned mode = input_byte(&in);
	struct memory_env m;
	struct io_queue *q;

	memory_env_init(&m);
	q = memory_queue(&m);
	if (mode & 2)
		write_and_read(&m, q, &in);
	else
		read_back(&m, q, input_slice(&in, LOG_MAX), mode & 1);
	io_queue_free(q);
	memory_env_fini(&m);
	return 0;
}
