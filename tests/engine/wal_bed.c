#include "tests/engine/wal_bed.h"

const enum io_backend wal_bed_backends[2] = {IO_BACKEND_URING, IO_BACKEND_POSIX};
struct wal_model wal_model;

bool wal_bed_make(struct wal_bed *b, enum io_backend backend)
{
	struct err_info err;

	memset(b, 0, sizeof(*b));
	memset(&wal_model, 0, sizeof(wal_model));
	b->dir = test_tmpdir();
	if (io_env_open(b->dir, backend, false, &b->env, &err) < 0) {
		ck_assert_int_eq(backend, IO_BACKEND_URING);
		printf("skipped on io_uring: %s\n", err.text);
		return false;
	}
	ck_ok(io_queue_new(b->env, 32, &b->q));
	b->window_size = wal_window_size(RING);
	b->window = aligned_alloc(4096, b->window_size);
	memset(b->window, 0, b->window_size);
	b->next_number = 1;
	return true;
}

void wal_bed_drop(struct wal_bed *b)
{
	io_queue_free(b->q);
	io_env_close(b->env);
	free(b->window);
	test_rmtree(b->dir);
	free(b->dir);
}

void wal_bed_switch(struct wal_bed *b, uint64_t bytes)
{
	struct wal_log *log;
	int rc;

	ck_ok(wal_log_prepare(b->env, b->q, b->next_number, bytes, &log));
	while ((rc = wal_switch(b->wal, log)) == -EAGAIN) {
		ck_ok(wal_pump(b->wal, true));
		ck_assert_int_gt(io_queue_wait(b->q, UINT64_MAX), 0);
	}
	ck_ok(rc);
	b->next_number++;
}

void wal_bed_start(struct wal_bed *b)
{
	ck_ok(wal_open(b->env, b->q, b->window, b->window_size, &b->wal, NULL));
	wal_bed_switch(b, LOG_BYTES);
}

const unsigned char *wal_bed_pattern(unsigned i, size_t size)
{
	static unsigned char bytes[RING + 256];

	for (size_t at = 0; at < size; at++)
		bytes[at] = (unsigned char)(i + at * 31 + (at >> 8));
	return bytes;
}

/* Appends the next record of the model, in place or copied; drives the WAL while there is no room. */
uint64_t wal_bed_append(struct wal_bed *b, size_t size)
{
	const unsigned char *payload = wal_bed_pattern(wal_model.count, size);
	unsigned char *place;
	int rc;

	while ((rc = wal_reserve(b->wal, size)) == -EAGAIN) {
		ck_ok(wal_pump(b->wal, true));
		ck_assert_int_gt(io_queue_wait(b->q, UINT64_MAX), 0);
	}
	ck_ok(rc);
	place = wal_place(b->wal, size);
	if (place && size)
		memcpy(place, payload, size);
	wal_model.size[wal_model.count] = (uint32_t)size;
	wal_model.number[wal_model.count++] = wal_log_number(b->wal);
	return wal_commit(b->wal, place ? place : payload, size);
}

/* The logs hold exactly the model's records. */
void wal_bed_check_logs(struct wal_bed *b)
{
	unsigned i = 0;

	for (uint64_t number = 1; number < b->next_number; number++) {
		char name[FILE_NAME_MAX];
		struct log_reader *r;
		struct io_file *file;
		struct slice record;
		uint64_t size;

		ck_ok(io_open(b->env, file_name(name, FILE_LOG, number), IO_OPEN_READ, &file));
		ck_ok(log_reader_new(b->q, file, &r));
		for (; i < wal_model.count && wal_model.number[i] == number; i++) {
			ck_assert_msg(log_reader_next(r, &record) == 0, "log %d ends before record %u of %u: %s",
				      (int)number, i, wal_model.count, log_reader_reason(r));
			ck_assert(slice_equal(record,
					      slice_of(wal_bed_pattern(i, wal_model.size[i]), wal_model.size[i])));
		}
		ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
		/* And not a byte more: stock would take it for a torn record. */
		ck_ok(io_size(file, &size));
		ck_assert_uint_eq(log_reader_end_offset(r), size);
		log_reader_free(r);
		io_close(file);
	}
	ck_assert_uint_eq(i, wal_model.count);
}

/* Mostly small, now and then over several blocks, rarely most of the ring. */
static size_t wal_bed_random_size(uint64_t *seed)
{
	switch (test_random(seed) % 64) {
	case 0:
		return test_random(seed) % wal_record_max(RING);
	case 1 ... 4:
		return test_random(seed) % 40000;
	default:
		return test_random(seed) % 300;
	}
}

void wal_bed_random_step(struct wal_bed *b, uint64_t *seed)
{
	switch (test_random(seed) % 100) {
	case 0:
		wal_bed_switch(b, test_random(seed) % 2 ? LOG_BYTES : 0);
		break;
	case 1 ... 5:
		wal_want_sync(b->wal, wal_appended(b->wal));
		break;
	case 6 ... 15:
		ck_ok(wal_pump(b->wal, test_random(seed) % 2));
		break;
	case 16 ... 25:
		ck_assert_int_ge(io_queue_poll(b->q), 0);
		break;
	default:
		wal_bed_append(b, wal_bed_random_size(seed));
	}
	ck_assert_uint_le(wal_synced(b->wal), wal_drained(b->wal));
	ck_assert_uint_le(wal_drained(b->wal), wal_appended(b->wal));
	ck_assert_uint_le(wal_appended(b->wal) - wal_drained(b->wal), RING);
}
