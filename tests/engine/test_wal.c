#include "engine/wal.h"
#include "tests/test.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/filename.h"
#include "engine/wal_impl.h"
#include "shm/error.h"

static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};

enum { RING = 256 << 10, RECORDS_MAX = 20000, LOG_BYTES = 1 << 20 };

/* What was committed: record i is size[i] bytes of a pattern made from i, in log number[i]. */
static struct {
	uint32_t size[RECORDS_MAX];
	uint64_t number[RECORDS_MAX];
	unsigned count;
} model;

struct bed {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
	void *window;
	size_t window_size;
	struct wal *wal;
	uint64_t next_number;
};

static bool bed_make(struct bed *b, enum io_backend backend)
{
	struct err_info err;

	memset(b, 0, sizeof(*b));
	memset(&model, 0, sizeof(model));
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

static void bed_drop(struct bed *b)
{
	io_queue_free(b->q);
	io_env_close(b->env);
	free(b->window);
	test_rmtree(b->dir);
	free(b->dir);
}

#define FOR_BACKENDS(bed)                                                                                              \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(backends); i_++)                                                           \
		if (bed_make(&(bed), backends[i_]))

static void switch_log(struct bed *b, uint64_t bytes)
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

static void start(struct bed *b)
{
	ck_ok(wal_open(b->env, b->q, b->window, b->window_size, &b->wal, NULL));
	switch_log(b, LOG_BYTES);
}

static const unsigned char *pattern(unsigned i, size_t size)
{
	static unsigned char bytes[RING + 256];

	for (size_t at = 0; at < size; at++)
		bytes[at] = (unsigned char)(i + at * 31 + (at >> 8));
	return bytes;
}

/* Appends the next record of the model, in place or copied; drives the WAL while there is no room. */
static uint64_t append(struct bed *b, size_t size)
{
	const unsigned char *payload = pattern(model.count, size);
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
	model.size[model.count] = (uint32_t)size;
	model.number[model.count++] = wal_log_number(b->wal);
	return wal_commit(b->wal, place ? place : payload, size);
}

/* The logs hold exactly the model's records. */
static void check_logs(struct bed *b)
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
		for (; i < model.count && model.number[i] == number; i++) {
			ck_assert_msg(log_reader_next(r, &record) == 0, "log %d ends before record %u of %u: %s",
				      (int)number, i, model.count, log_reader_reason(r));
			ck_assert(slice_equal(record, slice_of(pattern(i, model.size[i]), model.size[i])));
		}
		ck_assert_int_eq(log_reader_next(r, &record), LOG_END);
		/* And not a byte more: stock would take it for a torn record. */
		ck_ok(io_size(file, &size));
		ck_assert_uint_eq(log_reader_end_offset(r), size);
		log_reader_free(r);
		io_close(file);
	}
	ck_assert_uint_eq(i, model.count);
}

/* Mostly small, now and then over several blocks, rarely most of the ring. */
static size_t random_size(uint64_t *seed)
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

static void random_step(struct bed *b, uint64_t *seed)
{
	switch (test_random(seed) % 100) {
	case 0:
		switch_log(b, test_random(seed) % 2 ? LOG_BYTES : 0);
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
		append(b, random_size(seed));
	}
	ck_assert_uint_le(wal_synced(b->wal), wal_drained(b->wal));
	ck_assert_uint_le(wal_drained(b->wal), wal_appended(b->wal));
	ck_assert_uint_le(wal_appended(b->wal) - wal_drained(b->wal), RING);
}

/* After a clean close every record is in its log, files have their exact size, and the window says nothing. */
START_TEST(close_leaves_everything)
{
	uint64_t seed = test_seed();
	struct wal_recovery found;
	struct bed b;

	FOR_BACKENDS(b)
	{
		struct stat st;
		char path[300];
		uint64_t size;

		start(&b);
		for (int i = 0; i < 1500; i++)
			random_step(&b, &seed);
		append(&b, 100);
		size = wal_log_bytes(b.wal);
		snprintf(path, sizeof(path), "%s/%06d.log", b.dir, (int)wal_log_number(b.wal));
		ck_ok(wal_close(b.wal));
		check_logs(&b);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq((uint64_t)st.st_size, size);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert(!found.ignored && !found.bytes);
		bed_drop(&b);
	}
}
END_TEST

/* A log that was durable already when the next one began needs no sync of its own: the close must not wait for one, and call it a full disk. */
START_TEST(close_after_a_quiet_switch)
{
	struct wal_recovery found;
	struct bed b;

	FOR_BACKENDS(b)
	{
		start(&b);
		append(&b, 1000);
		wal_want_sync(b.wal, wal_appended(b.wal));
		while (!wal_idle(b.wal)) {
			ck_ok(wal_pump(b.wal, true));
			ck_assert_int_ge(io_queue_wait(b.q, UINT64_MAX), 0);
		}
		switch_log(&b, LOG_BYTES);
		ck_ok(wal_close(b.wal));
		check_logs(&b);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert(!found.ignored && !found.bytes);
		bed_drop(&b);
	}
}
END_TEST

/* Killed at any moment, the window and the files together hold every committed record: the promise to writers. */
START_TEST(kill_loses_nothing)
{
	uint64_t seed = test_seed();
	uint64_t recovered = 0;
	struct bed b;

	for (int turn = 0; turn < 12; turn++)
		FOR_BACKENDS(b)
		{
			struct wal_recovery found;
			struct err_info err = {0};
			uint64_t steps = test_random(&seed) % 300;

			start(&b);
			while (steps--)
				random_step(&b, &seed);
			/* A record begun and not committed must leave no trace. */
			if (!wal_reserve(b.wal, 100) && wal_place(b.wal, 100))
				memset(wal_place(b.wal, 100), 0xee, 100);
			wal_abandon(b.wal);
			for (int again = 0; again < 2; again++) {
				ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, &err));
				ck_assert_msg(!found.ignored, "%s", found.why);
				recovered += found.bytes;
				check_logs(&b);
			}
			bed_drop(&b);
		}
	ck_assert_uint_gt(recovered, 0);
}
END_TEST

/* A window filled to the last byte, and a record begun in it, still hold the proof by which recovery knows the file. */
START_TEST(full_window_keeps_its_proof)
{
	struct bed b;

	FOR_BACKENDS(b)
	{
		struct wal_recovery found;
		uint64_t drained;

		start(&b);
		append(&b, 9000);
		ck_ok(wal_pump(b.wal, true));
		while (wal_drained(b.wal) < wal_appended(b.wal))
			ck_assert_int_gt(io_queue_wait(b.q, UINT64_MAX), 0);
		drained = wal_drained(b.wal);
		for (size_t size = 5000; size; size /= 2)
			while (wal_reserve(b.wal, size) == 0)
				append(&b, size);
		ck_assert_uint_eq(wal_drained(b.wal), drained);
		ck_assert_uint_gt(wal_appended(b.wal) - drained, RING - 4096 - 16);
		wal_abandon(b.wal);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert_msg(!found.ignored, "%s", found.why);
		check_logs(&b);
		bed_drop(&b);
	}
}
END_TEST

/* What was wanted durable becomes so, with few syncs for many wishes, across logs, oldest first. */
START_TEST(sync_covers_what_was_wanted)
{
	struct bed b;

	FOR_BACKENDS(b)
	{
		uint64_t end = 0;

		start(&b);
		for (int round = 0; round < 10; round++) {
			for (int i = 0; i < 50; i++)
				wal_want_sync(b.wal, end = append(&b, 100));
			if (round % 3 == 0)
				switch_log(&b, LOG_BYTES);
			ck_assert_uint_lt(wal_synced(b.wal), end);
			while (wal_synced(b.wal) < end) {
				ck_ok(wal_pump(b.wal, false));
				ck_assert_int_gt(io_queue_wait(b.q, UINT64_MAX), 0);
			}
			ck_assert_uint_ge(wal_drained(b.wal), end);
		}
		ck_assert_uint_le(wal_syncs(b.wal), 30);
		/* Nobody wants more: after the last log is let go, the WAL rests. */
		for (int i = 0; i < 100 && !wal_idle(b.wal); i++) {
			ck_ok(wal_pump(b.wal, false));
			ck_assert_int_ge(io_queue_wait(b.q, 1000000), 0);
		}
		ck_assert(wal_idle(b.wal));
		ck_ok(wal_close(b.wal));
		check_logs(&b);
		bed_drop(&b);
	}
}
END_TEST

/* A record that cannot fit is refused at once; the largest that is promised fits at every offset within a block. */
START_TEST(largest_record)
{
	struct bed b;

	FOR_BACKENDS(b)
	{
		start(&b);
		ck_assert_int_eq(wal_reserve(b.wal, wal_record_max(RING) + 1), -E2BIG);
		for (int i = 0; i < 20; i++) {
			append(&b, wal_record_max(RING) - (size_t)i);
			append(&b, (size_t)i * 1021 % 700);
		}
		ck_ok(wal_close(b.wal));
		check_logs(&b);
		bed_drop(&b);
	}
}
END_TEST

/* Fills a window with something pending, as a killed process leaves it. */
static void leave_pending(struct bed *b)
{
	start(b);
	append(b, 5000);
	append(b, 5000);
	ck_ok(wal_pump(b->wal, true));
	while (wal_drained(b->wal) < wal_appended(b->wal))
		ck_assert_int_gt(io_queue_wait(b->q, UINT64_MAX), 0);
	append(b, 3000);
	wal_abandon(b->wal);
}

static uint64_t log_size(struct bed *b, uint64_t number)
{
	char name[FILE_NAME_MAX];
	struct io_file *file;
	uint64_t size;

	ck_ok(io_open(b->env, file_name(name, FILE_LOG, number), IO_OPEN_READ, &file));
	ck_ok(io_size(file, &size));
	io_close(file);
	return size;
}

static void expect_ignored(struct bed *b, const char *words)
{
	struct wal_recovery found;

	ck_ok(wal_window_recover(b->env, b->q, b->window, b->window_size, &found, NULL));
	ck_assert(found.ignored);
	ck_assert_uint_eq(found.bytes, 0);
	ck_assert_msg(strstr(found.why, words) != NULL, "%s", found.why);
}

/* An entry that says what it says on purpose: its check is right. */
static void forge(struct wal_window *win, unsigned slot, uint64_t number, uint64_t base, uint64_t end)
{
	struct wal_window_log *entry = &win->log[slot];

	entry->number = number;
	entry->base = base;
	entry->check = wal_entry_check(win->salt, entry);
	atomic_store(&entry->end, end);
	atomic_store(&entry->used, 1);
}

/*
 * A window whose header or entries cannot have been left by a WAL is left alone, each for its own reason, also where the entry's check holds:
 * what lies in shared memory was written by a process that may have gone astray before it died.
 */
START_TEST(impossible_windows_are_ignored)
{
	struct wal_window *win;
	struct wal_recovery found;
	unsigned char *saved;
	uint64_t base, top;
	unsigned slot = 0;
	struct bed b;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	leave_pending(&b);
	win = b.window;
	saved = malloc(b.window_size);
	memcpy(saved, b.window, b.window_size);
	while (!atomic_load(&win->log[slot].used))
		slot++;
	base = win->log[slot].base;
	top = atomic_load(&win->appended);
#define IGNORED(words, change)                                                                                         \
	change;                                                                                                        \
	expect_ignored(&b, words);                                                                                     \
	memcpy(b.window, saved, b.window_size)
	IGNORED("not a WAL window", win->magic++);
	IGNORED("version", win->log_slots++);
	IGNORED("does not fit", win->ring_size--);
	IGNORED("does not fit", win->ring_size = 1);
	IGNORED("does not fit", win->ring_size *= 2);
	IGNORED("positions are impossible", atomic_store(&win->drained, top + 1));
	IGNORED("positions are impossible", atomic_store(&win->appended, win->drained + win->ring_size + 1));
	IGNORED("positions are impossible",
		(atomic_store(&win->appended, UINT64_MAX), atomic_store(&win->drained, UINT64_MAX - 10)));
	IGNORED("another directory", win->dir_dev++);
	IGNORED("is damaged", atomic_store(&win->log[slot].used, 2));
	IGNORED("is damaged", win->log[slot].check++);
	IGNORED("is damaged", win->log[slot].number++);
	IGNORED("is damaged", forge(win, slot, 1, base + 1, UINT64_MAX));
	IGNORED("is damaged", forge(win, slot, 1, align_up(top, 4096) + 4096, UINT64_MAX));
	IGNORED("is damaged", (atomic_store(&win->drained, 4096), forge(win, slot, 1, 4096, 4095)));
	IGNORED("overlap", forge(win, slot + 1, 2, base, UINT64_MAX));
	IGNORED("overlap", (forge(win, slot, 5, base, 4096), forge(win, slot + 1, 4, 4096, UINT64_MAX)));
	IGNORED("names no log", atomic_store(&win->log[slot].used, 0));
	IGNORED("does not exist", forge(win, slot, 77, base, UINT64_MAX));
	/* Nothing to do is no doubt. */
	atomic_store(&win->drained, top);
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
	ck_assert(!found.ignored && !found.bytes);
	ck_ok(wal_window_recover(b.env, b.q, b.window, 100, &found, NULL));
	ck_assert(!found.ignored && !found.bytes);
	memcpy(b.window, saved, b.window_size);
	/* And untouched it is trusted. */
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
	ck_assert(!found.ignored && found.bytes > 3000);
	free(saved);
	bed_drop(&b);
}
END_TEST

/* A window that is not this directory's, this boot's, or this file's is left alone, and says why: foreign bytes would destroy a log. */
START_TEST(foreign_windows_are_ignored)
{
	struct bed b, other;

	FOR_BACKENDS(b)
	{
		struct wal_window *win = b.window;
		struct wal_recovery found;
		struct io_file *file;
		struct wal_log *log;
		uint64_t size;
		char byte;

		leave_pending(&b);
		size = log_size(&b, 1);

		ck_assert(bed_make(&other, backends[i_]));
		ck_ok(wal_log_prepare(other.env, other.q, 1, 0, &log));
		io_close(log->file);
		free(log);
		memcpy(other.window, b.window, b.window_size);
		expect_ignored(&other, "another directory");
		ck_assert_uint_eq(log_size(&other, 1), 0);
		bed_drop(&other);

		win->boot_id[0] ^= 1;
		expect_ignored(&b, "restarted");
		win->boot_id[0] ^= 1;
		win->version++;
		expect_ignored(&b, "version");
		win->version--;

		/* A byte that was written differs. */
		ck_ok(io_open(b.env, "000001.log", IO_OPEN_WRITE, &file));
		ck_ok(io_pread(b.q, file, &byte, 1, size - 1));
		byte ^= 1;
		ck_ok(io_pwrite(b.q, file, &byte, 1, size - 1));
		expect_ignored(&b, "other bytes");
		byte ^= 1;
		ck_ok(io_pwrite(b.q, file, &byte, 1, size - 1));
		ck_ok(io_truncate(file, size - 1));
		expect_ignored(&b, "shorter");
		ck_assert_uint_eq(log_size(&b, 1), size - 1);
		ck_ok(io_pwrite(b.q, file, &byte, 1, size - 1));
		ck_ok(io_truncate(file, size + 3008)); /* 3000 and a header were appended and not drained */
		expect_ignored(&b, "longer");
		ck_ok(io_truncate(file, size));
		io_close(file);

		/* With all put back it is trusted: the doubts above were not for another reason. */
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert_msg(!found.ignored, "%s", found.why);
		ck_assert_uint_gt(log_size(&b, 1), size);
		bed_drop(&b);

		/* The same name, another file. */
		ck_assert(bed_make(&b, backends[i_]));
		leave_pending(&b);
		ck_ok(io_rename(b.env, "000001.log", "old"));
		expect_ignored(&b, "does not exist");
		ck_ok(wal_log_prepare(b.env, b.q, 1, 0, &log));
		io_close(log->file);
		free(log);
		expect_ignored(&b, "another file");
		ck_assert_uint_eq(log_size(&b, 1), 0);
		bed_drop(&b);
	}
}
END_TEST

/* A log that was flushed and deleted while a newer one lives is not needed; the newer one is completed. */
START_TEST(deleted_log_is_skipped)
{
	struct bed b;

	FOR_BACKENDS(b)
	{
		struct wal_recovery found;

		start(&b);
		append(&b, 5000);
		switch_log(&b, LOG_BYTES);
		model.count = 0;
		append(&b, 7000);
		wal_abandon(b.wal);
		ck_ok(io_unlink(b.env, "000001.log"));
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert_msg(!found.ignored, "%s", found.why);
		ck_assert_uint_eq(found.bytes, 7000 + LOG_HEADER);
		ck_assert_uint_eq(log_size(&b, 2), 7000 + LOG_HEADER);
		bed_drop(&b);
	}
}
END_TEST

/* Whatever is scribbled over the header: no crash, and no byte written that a reader of the log would take for a record. */
START_TEST(scribbled_window_is_harmless)
{
	uint64_t seed = test_seed();
	struct bed b;
	unsigned char *saved;
	unsigned ignored = 0;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	leave_pending(&b);
	saved = malloc(b.window_size);
	memcpy(saved, b.window, b.window_size);
	for (int turn = 0; turn < 4000; turn++) {
		size_t at = test_random(&seed) % (sizeof(struct wal_window) / 8) * 8;
		uint64_t word = load_le64(saved + at);
		struct wal_recovery found;

		if (turn % 3 == 0)
			word = test_random(&seed);
		else if (turn % 3 == 1)
			word ^= UINT64_C(1) << test_random(&seed) % 64;
		else
			word += test_random(&seed) % 9000 - 4500;
		memcpy(b.window, saved, b.window_size);
		store_le64((unsigned char *)b.window + at, word);
		ck_assert_int_le(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL), 0);
		ignored += found.ignored;
	}
	for (int turn = 0; turn < 200; turn++) {
		struct wal_recovery found;
		struct wal_window *win = b.window;

		for (size_t at = 0; at < 4096; at++)
			((unsigned char *)b.window)[at] = (unsigned char)test_random(&seed);
		if (turn % 2)
			memcpy(b.window, saved, 128);
		win->log[0].used = turn % 4 == 3;
		ck_assert_int_le(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL), 0);
	}
	ck_assert_uint_gt(ignored, 100);
	free(saved);
	bed_drop(&b);
}
END_TEST

/* Memory that is no window, or too small, is told; zero memory is simply nothing. */
START_TEST(no_window)
{
	struct wal_recovery found;
	struct err_info err;
	struct wal *w = NULL;
	struct bed b;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, &err));
	ck_assert(!found.ignored && !found.bytes);
	memset(b.window, 0x55, b.window_size);
	expect_ignored(&b, "first bytes");
	ck_assert_int_eq(wal_open(b.env, b.q, b.window, WAL_WINDOW_MIN / 2, &w, &err), -EINVAL);
	ck_assert_int_eq(wal_open(b.env, b.q, b.window, b.window_size - 8192, &w, &err), -EINVAL);
	ck_assert_ptr_null(w);
	ck_ok(wal_close(NULL));
	wal_abandon(NULL);
	bed_drop(&b);
}
END_TEST

/* ---- failing disks ---- */

/* An env that fails the operations asked for; all else goes to the real one. */
static struct {
	struct io_queue_ops ops;
	const struct io_queue_ops *real;
	enum io_op op;
	int result;
} fault;

static void faulty_submit(struct io_queue *q, struct io_req *req)
{
	if (fault.result && req->op == fault.op) {
		/* Fails by what the kernel says of a bad descriptor; done() then sees the result that was asked for. */
		req->result = fault.result;
		q->in_flight++;
		q->in_flight--;
		req->done(req);
		return;
	}
	fault.real->submit(q, req);
}

static void faults_on(struct bed *b)
{
	fault.real = b->q->ops;
	fault.ops = *b->q->ops;
	fault.ops.submit = faulty_submit;
	fault.result = 0;
	b->q->ops = &fault.ops;
}

/* A failed write or sync ends all acknowledging, for good: the kernel may have forgotten the pages. */
START_TEST(failure_poisons)
{
	static const enum io_op ops[] = {IO_WRITE, IO_FDATASYNC, IO_ALLOCATE};
	struct bed b;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		uint64_t end, drained, synced;

		ck_assert(bed_make(&b, IO_BACKEND_POSIX));
		faults_on(&b);
		start(&b);
		if (ops[i] == IO_ALLOCATE) /* a log that was made with little looks for more at once */
			switch_log(&b, 8192);
		end = append(&b, 1000);
		fault.op = ops[i];
		fault.result = -EIO;
		wal_want_sync(b.wal, end);
		for (int pass = 0; pass < 5 && !wal_error(b.wal); pass++) {
			wal_pump(b.wal, true);
			io_queue_poll(b.q);
		}
		ck_assert_int_eq(wal_error(b.wal), -EIO);
		fault.result = 0;
		drained = wal_drained(b.wal);
		synced = wal_synced(b.wal);
		ck_assert_int_eq(wal_pump(b.wal, true), -EIO);
		ck_assert_int_ge(io_queue_poll(b.q), 0);
		ck_assert_uint_eq(wal_synced(b.wal), synced);
		ck_assert_uint_ge(wal_drained(b.wal), drained);
		if (ops[i] != IO_ALLOCATE)
			ck_assert_uint_lt(synced, end);
		ck_assert_int_eq(wal_reserve(b.wal, 10), -SHALE_EFAILED);
		ck_assert_int_eq(wal_close(b.wal), -EIO);
		bed_drop(&b);
	}
}
END_TEST

/* A full disk refuses writes before they are acknowledged, once reserved space is used up, and heals by itself. */
START_TEST(full_disk_heals)
{
	struct bed b;
	int rc;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	start(&b);
	fault.op = IO_ALLOCATE;
	fault.result = -ENOSPC;
	for (;;) {
		while ((rc = wal_reserve(b.wal, 10000)) == -EAGAIN) {
			ck_ok(wal_pump(b.wal, true));
			ck_assert_int_ge(io_queue_poll(b.q), 0);
		}
		if (rc)
			break;
		append(&b, 10000);
		ck_assert_uint_le(wal_log_bytes(b.wal), LOG_BYTES);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_uint_gt(wal_log_bytes(b.wal), LOG_BYTES - 20000);
	ck_ok(wal_pump(b.wal, true)); /* reads and what was acknowledged go on */
	fault.result = 0;
	while ((rc = wal_reserve(b.wal, 10000)) == -ENOSPC) {
		usleep(5000);
		ck_ok(wal_pump(b.wal, false));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	append(&b, 10000);
	ck_ok(wal_close(b.wal));
	check_logs(&b);
	bed_drop(&b);
}
END_TEST

/* Space that came back while nobody asked for it: the next writer is not told that the disk is full. */
START_TEST(full_disk_heals_unasked)
{
	struct bed b;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	start(&b);
	append(&b, 10000);
	fault.op = IO_ALLOCATE;
	fault.result = -ENOSPC;
	ck_ok(wal_pump(b.wal, true)); /* less than what is kept ahead: asks for more, in vain */
	ck_assert_int_ge(io_queue_poll(b.q), 0);
	fault.result = 0;
	usleep(110000);
	while (wal_log_bytes(b.wal) < LOG_BYTES + 20000) {
		int rc;

		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
		rc = wal_reserve(b.wal, 10000);
		ck_assert_int_ne(rc, -ENOSPC);
		if (rc == 0)
			append(&b, 10000);
	}
	ck_ok(wal_close(b.wal));
	check_logs(&b);
	bed_drop(&b);
}
END_TEST

/* Where the file system cannot reserve space, a full disk shows in the write; that is tried again, and nothing is lost. */
START_TEST(full_disk_without_reservation)
{
	struct wal_recovery found;
	struct bed b;
	int rc;

	ck_assert(bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	fault.op = IO_ALLOCATE;
	fault.result = -EOPNOTSUPP;
	start(&b);
	append(&b, 10000);
	fault.op = IO_WRITE;
	fault.result = -ENOSPC;
	while ((rc = wal_reserve(b.wal, 10000)) == 0) {
		append(&b, 10000);
		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_int_eq(wal_error(b.wal), 0);
	fault.result = 0;
	usleep(110000);
	ck_ok(wal_pump(b.wal, true));
	fault.op = IO_WRITE;
	fault.result = -ENOSPC;
	append(&b, 500);
	ck_assert_int_eq(wal_close(b.wal), -ENOSPC); /* and the window keeps what the disk refused */
	fault.result = 0;
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
	ck_assert_uint_gt(found.bytes, 0);
	check_logs(&b);
	bed_drop(&b);
}
END_TEST

TEST_MAIN("wal", 60, close_leaves_everything, close_after_a_quiet_switch, kill_loses_nothing,
	  full_window_keeps_its_proof, sync_covers_what_was_wanted, largest_record, impossible_windows_are_ignored,
	  foreign_windows_are_ignored, deleted_log_is_skipped, scribbled_window_is_harmless, no_window, failure_poisons,
	  full_disk_heals, full_disk_heals_unasked, full_disk_without_reservation)
