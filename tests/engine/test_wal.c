#include "tests/engine/wal_bed.h"

/* After a clean close every record is in its log, files have their exact size, and the window says nothing. */
START_TEST(close_leaves_everything)
{
	uint64_t seed = test_seed();
	struct wal_recovery found;
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		struct stat st;
		char path[300];
		uint64_t size;

		wal_bed_start(&b);
		for (int i = 0; i < 1500; i++)
			wal_bed_random_step(&b, &seed);
		wal_bed_append(&b, 100);
		size = wal_log_bytes(b.wal);
		snprintf(path, sizeof(path), "%s/%06d.log", b.dir, (int)wal_log_number(b.wal));
		ck_ok(wal_close(b.wal));
		wal_bed_check_logs(&b);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq((uint64_t)st.st_size, size);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert(!found.ignored && !found.bytes);
		wal_bed_drop(&b);
	}
}
END_TEST

/* A log that was durable already when the next one began needs no sync of its own: the close must not wait for one, and call it a full disk. */
START_TEST(close_after_a_quiet_switch)
{
	struct wal_recovery found;
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		wal_bed_start(&b);
		wal_bed_append(&b, 1000);
		wal_want_sync(b.wal, wal_appended(b.wal));
		while (!wal_idle(b.wal)) {
			ck_ok(wal_pump(b.wal, true));
			ck_assert_int_ge(io_queue_wait(b.q, UINT64_MAX), 0);
		}
		wal_bed_switch(&b, LOG_BYTES);
		ck_ok(wal_close(b.wal));
		wal_bed_check_logs(&b);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert(!found.ignored && !found.bytes);
		wal_bed_drop(&b);
	}
}
END_TEST

/* Killed at any moment, the window and the files together hold every committed record: the promise to writers. */
START_TEST(kill_loses_nothing)
{
	uint64_t seed = test_seed();
	uint64_t recovered = 0;
	struct wal_bed b;

	for (int turn = 0; turn < 12; turn++)
		FOR_BACKENDS(b)
		{
			struct wal_recovery found;
			struct err_info err = {0};
			uint64_t steps = test_random(&seed) % 300;

			wal_bed_start(&b);
			while (steps--)
				wal_bed_random_step(&b, &seed);
			/* A record begun and not committed must leave no trace. */
			if (!wal_reserve(b.wal, 100) && wal_place(b.wal, 100))
				memset(wal_place(b.wal, 100), 0xee, 100);
			wal_abandon(b.wal);
			for (int again = 0; again < 2; again++) {
				ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, &err));
				ck_assert_msg(!found.ignored, "%s", found.why);
				recovered += found.bytes;
				wal_bed_check_logs(&b);
			}
			wal_bed_drop(&b);
		}
	ck_assert_uint_gt(recovered, 0);
}
END_TEST

/* A window filled to the last byte, and a record begun in it, still hold the proof by which recovery knows the file. */
START_TEST(full_window_keeps_its_proof)
{
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		struct wal_recovery found;
		uint64_t drained;

		wal_bed_start(&b);
		wal_bed_append(&b, 9000);
		ck_ok(wal_pump(b.wal, true));
		while (wal_drained(b.wal) < wal_appended(b.wal))
			ck_assert_int_gt(io_queue_wait(b.q, UINT64_MAX), 0);
		drained = wal_drained(b.wal);
		for (size_t size = 5000; size; size /= 2)
			while (wal_reserve(b.wal, size) == 0)
				wal_bed_append(&b, size);
		ck_assert_uint_eq(wal_drained(b.wal), drained);
		ck_assert_uint_gt(wal_appended(b.wal) - drained, RING - 4096 - 16);
		wal_abandon(b.wal);
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert_msg(!found.ignored, "%s", found.why);
		wal_bed_check_logs(&b);
		wal_bed_drop(&b);
	}
}
END_TEST

/* What was wanted durable becomes so, with few syncs for many wishes, across logs, oldest first. */
START_TEST(sync_covers_what_was_wanted)
{
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		uint64_t end = 0;

		wal_bed_start(&b);
		for (int round = 0; round < 10; round++) {
			for (int i = 0; i < 50; i++)
				wal_want_sync(b.wal, end = wal_bed_append(&b, 100));
			if (round % 3 == 0)
				wal_bed_switch(&b, LOG_BYTES);
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
		wal_bed_check_logs(&b);
		wal_bed_drop(&b);
	}
}
END_TEST

/* A record that cannot fit is refused at once; the largest that is promised fits at every offset within a block. */
START_TEST(largest_record)
{
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		wal_bed_start(&b);
		ck_assert_int_eq(wal_reserve(b.wal, wal_record_max(RING) + 1), -E2BIG);
		for (int i = 0; i < 20; i++) {
			wal_bed_append(&b, wal_record_max(RING) - (size_t)i);
			wal_bed_append(&b, (size_t)i * 1021 % 700);
		}
		ck_ok(wal_close(b.wal));
		wal_bed_check_logs(&b);
		wal_bed_drop(&b);
	}
}
END_TEST

/* Fills a window with something pending, as a killed process leaves it. */
static void leave_pending(struct wal_bed *b)
{
	wal_bed_start(b);
	wal_bed_append(b, 5000);
	wal_bed_append(b, 5000);
	ck_ok(wal_pump(b->wal, true));
	while (wal_drained(b->wal) < wal_appended(b->wal))
		ck_assert_int_gt(io_queue_wait(b->q, UINT64_MAX), 0);
	wal_bed_append(b, 3000);
	wal_abandon(b->wal);
}

static uint64_t log_size(struct wal_bed *b, uint64_t number)
{
	char name[FILE_NAME_MAX];
	struct io_file *file;
	uint64_t size;

	ck_ok(io_open(b->env, file_name(name, FILE_LOG, number), IO_OPEN_READ, &file));
	ck_ok(io_size(file, &size));
	io_close(file);
	return size;
}

static void expect_ignored(struct wal_bed *b, const char *words)
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
	struct wal_bed b;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
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
	wal_bed_drop(&b);
}
END_TEST

/* A window that is not this directory's, this boot's, or this file's is left alone, and says why: foreign bytes would destroy a log. */
START_TEST(foreign_windows_are_ignored)
{
	struct wal_bed b, other;

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

		ck_assert(wal_bed_make(&other, wal_bed_backends[i_]));
		ck_ok(wal_log_prepare(other.env, other.q, 1, 0, &log));
		io_close(log->file);
		free(log);
		memcpy(other.window, b.window, b.window_size);
		expect_ignored(&other, "another directory");
		ck_assert_uint_eq(log_size(&other, 1), 0);
		wal_bed_drop(&other);

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
		wal_bed_drop(&b);

		/* The same name, another file. */
		ck_assert(wal_bed_make(&b, wal_bed_backends[i_]));
		leave_pending(&b);
		ck_ok(io_rename(b.env, "000001.log", "old"));
		expect_ignored(&b, "does not exist");
		ck_ok(wal_log_prepare(b.env, b.q, 1, 0, &log));
		io_close(log->file);
		free(log);
		expect_ignored(&b, "another file");
		ck_assert_uint_eq(log_size(&b, 1), 0);
		wal_bed_drop(&b);
	}
}
END_TEST

/* A log that was flushed and deleted while a newer one lives is not needed; the newer one is completed. */
START_TEST(deleted_log_is_skipped)
{
	struct wal_bed b;

	FOR_BACKENDS(b)
	{
		struct wal_recovery found;

		wal_bed_start(&b);
		wal_bed_append(&b, 5000);
		wal_bed_switch(&b, LOG_BYTES);
		wal_model.count = 0;
		wal_bed_append(&b, 7000);
		wal_abandon(b.wal);
		ck_ok(io_unlink(b.env, "000001.log"));
		ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
		ck_assert_msg(!found.ignored, "%s", found.why);
		ck_assert_uint_eq(found.bytes, 7000 + LOG_HEADER);
		ck_assert_uint_eq(log_size(&b, 2), 7000 + LOG_HEADER);
		wal_bed_drop(&b);
	}
}
END_TEST

/* Whatever is scribbled over the header: no crash, and no byte written that a reader of the log would take for a record. */
START_TEST(scribbled_window_is_harmless)
{
	uint64_t seed = test_seed();
	struct wal_bed b;
	unsigned char *saved;
	unsigned ignored = 0;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
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
	wal_bed_drop(&b);
}
END_TEST

/* Memory that is no window, or too small, is told; zero memory is simply nothing. */
START_TEST(no_window)
{
	struct wal_recovery found;
	struct err_info err;
	struct wal *w = NULL;
	struct wal_bed b;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, &err));
	ck_assert(!found.ignored && !found.bytes);
	memset(b.window, 0x55, b.window_size);
	expect_ignored(&b, "first bytes");
	ck_assert_int_eq(wal_open(b.env, b.q, b.window, WAL_WINDOW_MIN / 2, &w, &err), -EINVAL);
	ck_assert_int_eq(wal_open(b.env, b.q, b.window, b.window_size - 8192, &w, &err), -EINVAL);
	ck_assert_ptr_null(w);
	ck_ok(wal_close(NULL));
	wal_abandon(NULL);
	wal_bed_drop(&b);
}
END_TEST

TEST_MAIN("wal", 60, close_leaves_everything, close_after_a_quiet_switch, kill_loses_nothing,
	  full_window_keeps_its_proof, sync_covers_what_was_wanted, largest_record, impossible_windows_are_ignored,
	  foreign_windows_are_ignored, deleted_log_is_skipped, scribbled_window_is_harmless, no_window)
