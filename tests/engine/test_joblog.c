/* What background work says about itself: the log of jobs, and the counters by level and cause. */
#include <stdio.h>
#include <string.h>

#include "engine/joblog.h"
#include "tests/engine/world.h"

static struct world w;
static struct job_record running[8], last[JOBLOG_KEEP];

static void begin(void)
{
	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
}

static void put(const char *key)
{
	world_put(&w, slice_str(key), slice_str("value"));
}

static struct engine_stats stats(void)
{
	struct engine_stats s;

	engine_stats(w.e, &s);
	return s;
}

/* The oldest record of @reason in the log; it must be there. */
static const struct job_record *first_of(enum job_kind kind, enum compaction_reason reason)
{
	const struct job_record *found = NULL;

	ck_assert_uint_eq(engine_jobs(w.e, running, 8, last), 0);
	for (unsigned i = 0; i < JOBLOG_KEEP; i++) {
		if (last[i].id && last[i].kind == kind && last[i].reason == reason)
			found = &last[i];
	}
	ck_assert_ptr_nonnull(found);
	return found;
}

/*
 * A case by hand. Memtable 1: a b c d; it becomes a table at level 2. Memtable 2: a twice, b deleted, x deleted. Its flush drops the older a. The
 * compaction of all sees a b x, a b c d: it drops the old a and b for their newer entries, and both deletions, since nothing lies below.
 */
START_TEST(drops_are_counted_by_cause)
{
	const struct job_record *r;
	struct engine_stats s;

	begin();
	put("a"), put("b"), put("c"), put("d");
	world_flush(&w);
	r = first_of(JOB_FLUSH, REASON_FLUSH);
	ck_assert_uint_eq(r->entries_in, 4);
	ck_assert_uint_eq(r->dropped_shadowed, 0);
	ck_assert_uint_eq(r->output_level, 2);
	ck_assert_uint_gt(r->bytes_written, 0);
	ck_assert_uint_eq(r->bytes_written, stats().level[2].bytes);
	put("a"), put("a");
	world_delete(&w, slice_str("b"));
	world_delete(&w, slice_str("x"));
	world_flush(&w);
	s = stats();
	ck_assert_uint_eq(s.dropped_shadowed, 1);
	ck_assert_uint_eq(s.level[1].entries_in, 4);
	ck_assert_uint_eq(s.level[1].dropped_shadowed, 1);
	ck_assert_uint_eq(s.level[1].by_reason[REASON_FLUSH], 1);
	world_compact(&w, NULL, NULL);
	s = stats();
	ck_assert_uint_eq(s.level[2].entries_in, 4 + 7);
	ck_assert_uint_eq(s.level[2].dropped_shadowed, 2);
	ck_assert_uint_eq(s.level[2].dropped_tombstone, 2);
	ck_assert_uint_eq(s.level[2].by_reason[REASON_MANUAL], 1);
	ck_assert_uint_eq(s.level[2].by_reason[REASON_FLUSH], 1);
	ck_assert_uint_eq(s.dropped_shadowed, 3);
	ck_assert_uint_eq(s.dropped_tombstone, 2);
	r = first_of(JOB_COMPACT, REASON_MANUAL);
	ck_assert_uint_eq(r->level, 1);
	ck_assert_uint_eq(r->output_level, 2);
	ck_assert_uint_eq(r->files[0] + r->files[1], 2);
	ck_assert_uint_eq(r->entries_in, 7);
	ck_assert_uint_eq(r->dropped_shadowed, 2);
	ck_assert_uint_eq(r->dropped_tombstone, 2);
	ck_assert_int_eq(r->result, 0);
	ck_assert_uint_eq(r->bytes_written, s.level[2].bytes);
	world_fini(&w);
}
END_TEST

/* A job is listed from its claim to its end, with its inputs; the level says what is busy. */
START_TEST(claimed_jobs_are_running)
{
	struct engine_stats s;
	struct job *j;
	uint64_t id;

	begin();
	for (unsigned i = 0; i < w.options.levels.l0_compaction_trigger + 3; i++) {
		put("a");
		put("b");
		world_flush(&w);
	}
	while (!(j = engine_next_job(w.e, JOB_COMPACT)))
		ck_abort_msg("no compaction although level 0 is full");
	ck_assert_uint_eq(engine_jobs(w.e, running, 8, last), 1);
	id = running[0].id;
	ck_assert_uint_gt(id, last[0].id);
	ck_assert_int_eq(running[0].kind, JOB_COMPACT);
	ck_assert_int_eq(running[0].reason, REASON_SIZE);
	ck_assert_uint_eq(running[0].level, 0);
	ck_assert_uint_gt(running[0].files[0], 0);
	ck_assert_uint_gt(running[0].begin_ns, 0);
	s = stats();
	ck_assert_uint_eq(s.jobs_running, 1);
	ck_assert_uint_eq(s.level[0].busy_files, running[0].files[0]);
	ck_assert_uint_eq(s.level[0].busy_bytes, running[0].bytes[0]);
	ck_assert_uint_eq(s.level[1].busy_bytes, running[0].bytes[1]);
	ck_assert_uint_eq(s.debt_bytes, s.level[0].bytes);
	ck_ok(engine_run_job(w.e, j, w.worker));
	ck_assert_uint_eq(engine_jobs(w.e, running, 8, last), 0);
	ck_assert_uint_eq(last[0].id, id);
	ck_assert_uint_eq(stats().level[0].busy_files, 0);
	world_fini(&w);
}
END_TEST

/* The log keeps the newest JOBLOG_KEEP, newest first, each once. */
START_TEST(log_wraps)
{
	begin();
	for (unsigned i = 0; i < JOBLOG_KEEP + 20; i++) {
		put("k");
		world_flush(&w);
	}
	engine_jobs(w.e, running, 8, last);
	for (unsigned i = 0; i < JOBLOG_KEEP; i++) {
		ck_assert_uint_gt(last[i].id, 0);
		ck_assert(last[i].kind & (JOB_FLUSH | JOB_COMPACT));
		ck_assert(i == 0 || last[i].id < last[i - 1].id);
	}
	world_fini(&w);
}
END_TEST

/* A job that is stopped or fails leaves its record with its code, and its counters untouched. */
START_TEST(ends_without_success_are_kept)
{
	struct engine_stats before, after;
	struct job *j;

	begin();
	for (unsigned i = 0; i < 300; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%04u", i);
		put(key);
	}
	world_flush(&w);
	for (unsigned i = 0; i < 300; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%04u", i);
		put(key);
	}
	before = stats();
	{
		uint64_t ticket;

		ck_ok(engine_flush_start(w.e, &ticket));
	}
	j = engine_next_job(w.e, JOB_FLUSH);
	ck_assert_ptr_nonnull(j);
	engine_stop_jobs(w.e);
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -ECANCELED);
	ck_assert_uint_eq(engine_jobs(w.e, running, 8, last), 0);
	ck_assert_int_eq(last[0].result, -ECANCELED);
	ck_assert_uint_gt(last[0].bytes[0], 0);
	after = stats();
	ck_assert_uint_eq(after.flushes, before.flushes);
	ck_assert_uint_eq(after.level[2].entries_in, before.level[2].entries_in);
	world_fini(&w);
}
END_TEST

/* Amplification and debt, from numbers that can be checked by hand. */
START_TEST(amplification)
{
	struct engine_stats s;

	begin();
	s = stats();
	ck_assert(s.write_amplification == 0 && s.space_amplification == 0 && s.debt_bytes == 0);
	put("a");
	world_flush(&w);
	s = stats();
	ck_assert(s.write_amplification == 1 && s.space_amplification == 1);
	put("a");
	world_flush(&w);
	s = stats();
	ck_assert(s.write_amplification == 1 && s.space_amplification > 1.9 && s.space_amplification < 2.1);
	world_compact(&w, NULL, NULL);
	s = stats();
	ck_assert(s.space_amplification == 1);
	ck_assert(s.write_amplification ==
		  (double)(s.flush_bytes + s.compaction_bytes_written) / (double)s.flush_bytes);
	ck_assert(s.write_amplification > 1.4);
	ck_assert_uint_eq(s.live_versions, 1);
	world_fini(&w);
}
END_TEST

static const char *key(unsigned i)
{
	static char text[16];

	snprintf(text, sizeof(text), "%06u", i);
	return text;
}

/* Enough overwrites that several levels hold files. */
static void fill(void)
{
	begin();
	for (unsigned i = 0; i < 12000; i++)
		put(key(i * 7919 % 4000));
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
}

/* Ends the request @ticket and returns its answer; *@pieces_out: its compactions, *@most_out: the highest progress seen. */
static int end_request(uint64_t ticket, unsigned *pieces_out, double *most_out)
{
	double before = 0;
	unsigned pieces = 0;
	int rc;

	while ((rc = engine_compact_done(w.e, ticket)) == 0) {
		struct engine_manual_stats m = stats().manual;

		ck_assert_uint_eq(m.requests, 1);
		pieces = (unsigned)m.pieces;
		if (m.bytes_total) {
			double now = (double)m.bytes_done / (double)m.bytes_total;

			ck_assert_msg(now >= before, "progress went back");
			before = now;
		}
		world_run_all(&w, JOB_LOG | JOB_FLUSH);
		world_run_one(&w, JOB_COMPACT);
	}
	*pieces_out = pieces;
	*most_out = before;
	return rc;
}

/* A request tells how far it is: never backwards, and near its whole when it ends. */
START_TEST(manual_progress)
{
	uint64_t ticket;
	unsigned pieces;
	double most;

	fill();
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	ck_assert_int_eq(end_request(ticket, &pieces, &most), 1);
	ck_assert_uint_gt(pieces, 0);
	ck_assert(most > 0.1 && most <= 1.5);
	ck_assert_uint_eq(stats().manual.requests, 0);
	world_fini(&w);
}
END_TEST

/* Takes the request back when a merge begins its second table. */
static const struct io_env_ops *real_ops;
static unsigned creations;
static uint64_t unwanted;

static int cancelling_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	if (flags & IO_OPEN_CREATE && ++creations == 2)
		ck_ok(engine_compact_cancel(w.e, unwanted));
	return real_ops->open(env, name, flags, out);
}

static void expect_all_there(void)
{
	unsigned char *value;
	size_t size;

	for (unsigned i = 0; i < 4000; i += 97) {
		ck_ok(world_get(&w, slice_str(key(i)), engine_last_sequence(w.e), &value, &size));
		free(value);
	}
}

/* A cancelled request ends at once when nothing of it runs. */
START_TEST(manual_cancelled_between_pieces)
{
	uint64_t ticket;

	fill();
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	ck_ok(engine_compact_cancel(w.e, ticket));
	ck_assert_int_eq(engine_compact_done(w.e, ticket), -ECANCELED);
	ck_assert_int_eq(engine_compact_cancel(w.e, ticket), -ENOENT);
	world_fini(&w);
}
END_TEST

/* Else the merge stops where it is: no table of it remains, the version is as before, its range is free for others, and nothing failed. */
START_TEST(manual_cancelled_within_a_piece)
{
	static struct io_env_ops ops;
	struct engine_stats before, after;
	uint64_t ticket;
	struct job *j;

	fill();
	ck_ok(engine_compact_start(w.e, NULL, NULL, &unwanted));
	do {
		world_run_all(&w, JOB_LOG | JOB_FLUSH);
		j = engine_next_job(w.e, JOB_COMPACT);
	} while (!j);
	engine_jobs(w.e, running, 8, last);
	ck_assert_int_eq(running[0].reason, REASON_MANUAL);
	before = stats();
	real_ops = w.env->ops;
	ops = *real_ops;
	ops.open = cancelling_open;
	w.env->ops = &ops;
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -ECANCELED);
	w.env->ops = real_ops;
	ck_assert_uint_eq(creations, 2);
	ck_assert_int_eq(engine_compact_done(w.e, unwanted), -ECANCELED);
	after = stats();
	ck_assert_uint_eq(after.live_bytes, before.live_bytes);
	ck_assert_uint_eq(after.live_files, before.live_files);
	ck_assert_uint_eq(after.compactions, before.compactions);
	ck_assert_uint_eq(after.jobs_failed, 0);
	world_check_deep(&w); /* knows of every file that is there */
	expect_all_there();
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	world_run_all(&w, JOBS_ALL);
	ck_ok(engine_pump(w.e, true));
	world_run_all(&w, JOBS_ALL);
	ck_assert_int_eq(engine_compact_done(w.e, ticket), 1);
	world_check_deep(&w);
	expect_all_there();
	world_fini(&w);
}
END_TEST

/* One level goes down by one, the others stay; the last level is rewritten in place. */
START_TEST(manual_one_level)
{
	unsigned pieces, deepest = LEVELS - 1;
	struct engine_stats before, after;
	uint64_t ticket;
	double most;

	fill();
	before = stats();
	while (!before.level[deepest].files)
		deepest--;
	ck_assert_uint_gt(deepest, 0);
	ck_assert_uint_lt(deepest, LEVELS - 1);
	ck_ok(engine_compact_level(w.e, deepest, NULL, NULL, &ticket));
	ck_assert_int_eq(end_request(ticket, &pieces, &most), 1);
	after = stats();
	ck_assert_uint_gt(after.level[deepest + 1].by_reason[REASON_MANUAL], 0);
	ck_assert_uint_eq(after.level[deepest].by_reason[REASON_MANUAL], 0);
	ck_assert_uint_gt(after.level[deepest + 1].files, 0);
	ck_ok(engine_compact_level(w.e, LEVELS - 1, NULL, NULL, &ticket));
	ck_assert_int_eq(end_request(ticket, &pieces, &most), 1);
	ck_assert_int_eq(engine_compact_level(w.e, LEVELS, NULL, NULL, &ticket), -EINVAL);
	world_check(&w);
	world_fini(&w);
}
END_TEST

TEST_MAIN("joblog", 30, manual_progress, manual_cancelled_between_pieces, manual_cancelled_within_a_piece,
	  manual_one_level, drops_are_counted_by_cause, claimed_jobs_are_running, log_wraps,
	  ends_without_success_are_kept, amplification)
