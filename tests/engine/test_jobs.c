/* Background work: what runs first, what waits for what, and what the engine does when the disk says no. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/crc32c.h"
#include "shm/layout.h"
#include "tests/engine/model.h"

/* ---- a disk that fails on demand ---- */

static const struct io_env_ops *real_ops;
static struct io_env_ops faulty_ops;
static int fail_open_table, fail_sync_dir;
static unsigned unlinks, closes;

static int faulty_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	if (fail_open_table && flags & IO_OPEN_CREATE && strstr(name, ".ldb"))
		return fail_open_table;
	return real_ops->open(env, name, flags, out);
}

static int faulty_sync_dir(struct io_env *env)
{
	return fail_sync_dir ? fail_sync_dir : real_ops->sync_dir(env);
}

static int faulty_unlink(struct io_env *env, const char *name)
{
	unlinks++;
	return real_ops->unlink(env, name);
}

static void counting_close(struct io_file *file)
{
	closes++;
	real_ops->close(file);
}

static void make_faulty(struct world *w)
{
	real_ops = w->env->ops;
	faulty_ops = *real_ops;
	faulty_ops.open = faulty_open;
	faulty_ops.sync_dir = faulty_sync_dir;
	faulty_ops.unlink = faulty_unlink;
	faulty_ops.close = counting_close;
	w->env->ops = &faulty_ops;
}

/* ---- helpers ---- */

static void fill(struct world *w, unsigned from, unsigned count)
{
	unsigned char value[400];
	char key[16];

	memset(value, 'v', sizeof(value));
	for (unsigned i = from; i < from + count; i++) {
		snprintf(key, sizeof(key), "%06u", i);
		store_le32(value, i);
		world_put(w, slice_str(key), slice_of(value, sizeof(value)));
	}
}

/* One write that must not be taken now; says why. */
static int try_put(struct world *w, uint16_t *why)
{
	unsigned char batch[700], value[600] = {0}, *p;
	uint64_t sequence, position;

	p = batch_append_put(batch_begin(batch), slice_str("k"), slice_of(value, sizeof(value)));
	batch_set_count(batch, 1);
	*why = 0;
	return engine_write(w->e, batch, (size_t)(p - batch), &sequence, &position, why);
}

/* Writes until the engine refuses; its answer. */
static int fill_until_refused(struct world *w, uint16_t *why)
{
	int rc;

	for (unsigned i = 0; i < 100000; i++) {
		rc = try_put(w, why);
		if (rc < 0)
			return rc;
		ck_assert_int_ge(io_queue_poll(w->service), 0);
		ck_ok(engine_pump(w->e, true));
	}
	ck_abort_msg("never refused");
	return 0;
}

static void begin(struct world *w)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
}

/* ---- order ---- */

/* A log made ready comes before a flush, a flush before compactions; and a worker gets only the kinds that it asks for. */
START_TEST(urgent_jobs_first)
{
	struct world w;
	struct job *j;
	uint64_t ticket;

	begin(&w);
	ck_assert_ptr_null(engine_next_job(w.e, JOB_FLUSH | JOB_COMPACT | JOB_DELETE)); /* nothing to do */
	world_run_all(&w, JOBS_ALL);
	fill(&w, 0, 10);
	ck_ok(engine_flush_start(w.e, &ticket));
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	j = engine_next_job(w.e, JOBS_ALL);
	ck_assert_int_eq(job_kind(j), JOB_LOG);
	ck_assert_ptr_null(engine_next_job(w.e, JOB_LOG)); /* one at a time */
	ck_ok(engine_run_job(w.e, j, w.worker));
	ck_assert_ptr_null(engine_next_job(w.e, JOB_COMPACT));
	j = engine_next_job(w.e, JOBS_ALL);
	ck_assert_int_eq(job_kind(j), JOB_FLUSH);
	ck_assert_ptr_null(engine_next_job(w.e, JOB_FLUSH));
	ck_ok(engine_run_job(w.e, j, w.worker));
	world_fini(&w);
}
END_TEST

/* A ticket covers what was written before it, and is kept when there is nothing to flush. */
START_TEST(flush_tickets)
{
	struct world w;
	uint64_t a, b;

	begin(&w);
	world_run_all(&w, JOBS_ALL);
	ck_ok(engine_flush_start(w.e, &a)); /* nothing was written */
	ck_assert_int_eq(engine_flush_done(w.e, a), 1);
	fill(&w, 0, 3);
	ck_ok(engine_flush_start(w.e, &a));
	ck_assert_int_eq(engine_flush_done(w.e, a), 0);
	ck_ok(engine_flush_start(w.e, &b)); /* nothing since */
	ck_assert_uint_eq(a, b);
	world_run_all(&w, JOBS_ALL);
	ck_assert_int_eq(engine_flush_done(w.e, a), 1);
	world_fini(&w);
}
END_TEST

/* Each lack has its own reason: no log made ready, no free memtable, too many tables in level 0. */
START_TEST(stalls_say_why)
{
	struct world w;
	uint16_t why;

	begin(&w);
	ck_assert_int_eq(fill_until_refused(&w, &why), -EAGAIN);
	ck_assert_uint_eq(why, DELAY_LOG);
	while (world_run_one(&w, JOB_LOG))
		ck_assert_int_eq(fill_until_refused(&w, &why), -EAGAIN);
	ck_assert_uint_eq(why, DELAY_MEMTABLE);
	for (unsigned i = 0; why != DELAY_L0; i++) {
		ck_assert_uint_lt(i, 100);
		while (world_run_one(&w, JOB_LOG | JOB_FLUSH))
			;
		ck_assert_int_eq(fill_until_refused(&w, &why), -EAGAIN);
	}
	ck_assert(engine_slowdown(w.e));
	ck_assert_uint_ge(world_files(&w, 0), w.options.l0_stop_trigger);
	world_run_all(&w, JOBS_ALL); /* compactions make room */
	ck_ok(try_put(&w, &why));
	ck_assert(!engine_slowdown(w.e));
	world_fini(&w);
}
END_TEST

/* A flush does not wait for a compaction that runs, and does not land under its outputs, where reads would miss its keys. */
START_TEST(flush_beside_a_compaction)
{
	struct world w;
	struct job *j;
	unsigned char *value;
	size_t size;

	begin(&w);
	fill(&w, 0, 100);
	world_put(&w, slice_str("900000"), slice_str("x")); /* range 000000 … 900000, with a wide gap */
	world_compact(&w, NULL, NULL);
	fill(&w, 0, 100);
	world_put(&w, slice_str("900000"), slice_str("y"));
	world_flush(&w);
	world_run_all(&w, JOB_LOG | JOB_FLUSH);
	{
		uint64_t ticket;

		ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
		ck_ok(engine_pump(w.e, true));
	}
	j = engine_next_job(w.e, JOB_COMPACT);
	ck_assert_ptr_nonnull(j); /* claimed: it runs, as far as anyone can tell */
	world_put(&w, slice_str("500000"), slice_str("in the gap"));
	world_flush(&w);
	ck_assert_uint_ge(world_files(&w, 0), 1);
	ck_ok(engine_run_job(w.e, j, w.worker));
	world_check(&w);
	ck_ok(world_get(&w, slice_str("500000"), engine_last_sequence(w.e), &value, &size));
	free(value);
	world_run_all(&w, JOBS_ALL);
	world_check(&w);
	ck_ok(world_get(&w, slice_str("500000"), engine_last_sequence(w.e), &value, &size));
	free(value);
	world_fini(&w);
}
END_TEST

/* Two tables with a gap between them in level 2, and a manual compaction that is about to rewrite both into one. */
static void two_tables_and_a_gap(struct world *w, uint64_t *ticket)
{
	begin(w);
	fill(w, 0, 5);
	world_flush(w);
	fill(w, 900, 5);
	world_flush(w);
	world_run_all(w, JOBS_ALL);
	ck_assert_uint_eq(world_files(w, 2), 2);
	ck_ok(engine_compact_start(w->e, NULL, NULL, ticket));
	ck_ok(engine_pump(w->e, true));
}

static void gap_is_whole(struct world *w)
{
	unsigned char *value;
	size_t size;

	world_check(w);
	ck_ok(world_get(w, slice_str("000500"), engine_last_sequence(w->e), &value, &size));
	free(value);
	ck_ok(world_get(w, slice_str("000001"), engine_last_sequence(w->e), &value, &size));
	free(value);
	world_run_all(w, JOBS_ALL);
	world_check(w);
	world_fini(w);
}

/* The gap between the inputs of a running compaction is no gap in its output: a flush must not go down into it. */
START_TEST(flush_keeps_out_of_the_gap)
{
	uint64_t ticket;
	struct world w;
	struct job *j;

	two_tables_and_a_gap(&w, &ticket);
	j = engine_next_job(w.e, JOB_COMPACT);
	ck_assert_ptr_nonnull(j);
	fill(&w, 500, 1);
	world_flush(&w);
	ck_assert_uint_eq(world_files(&w, 2), 2);
	ck_ok(engine_run_job(w.e, j, w.worker));
	ck_assert_uint_eq(world_files(&w, 2), 1);
	gap_is_whole(&w);
}
END_TEST

static const struct io_queue_ops *real_queue_ops;
static struct io_queue_ops watching_ops;
static struct world *watched;
static struct job *claimed;
static bool armed, asked;

static int arming_sync_dir(struct io_env *env)
{
	armed = true; /* the flush has its table; next it places it, and writes the MANIFEST */
	return real_ops->sync_dir(env);
}

static void watching_submit(struct io_queue *q, struct io_req *req)
{
	if (armed && !asked) {
		asked = true;
		claimed = engine_next_job(watched->e, JOB_COMPACT);
	}
	real_queue_ops->submit(q, req);
}

/* And the other way round: between the choice of a flush's level and its installation no compaction may begin over that place. */
START_TEST(compaction_keeps_out_of_a_flush)
{
	uint64_t ticket, flush;
	struct world w;
	struct job *j;

	two_tables_and_a_gap(&w, &ticket);
	world_run_all(&w, JOB_LOG);
	fill(&w, 500, 1);
	ck_ok(engine_flush_start(w.e, &flush));
	make_faulty(&w);
	faulty_ops.sync_dir = arming_sync_dir;
	real_queue_ops = w.worker->ops;
	watching_ops = *real_queue_ops;
	watching_ops.submit = watching_submit;
	w.worker->ops = &watching_ops;
	watched = &w;
	j = engine_next_job(w.e, JOB_FLUSH);
	ck_assert_ptr_nonnull(j);
	ck_ok(engine_run_job(w.e, j, w.worker));
	w.worker->ops = real_queue_ops;
	ck_assert(asked);
	ck_assert_uint_eq(world_files(&w, 2), 3);
	ck_assert_ptr_null(claimed); /* it waits for the flush */
	ck_assert(world_run_one(&w, JOB_COMPACT));
	gap_is_whole(&w);
}
END_TEST

/* Tables that a version still needs are kept; the rest, and old logs, go by a job, and their names with them. */
START_TEST(obsolete_files_are_deleted)
{
	struct world w;
	struct view *v;
	struct engine_stats stats;

	begin(&w);
	make_faulty(&w);
	fill(&w, 0, 300);
	world_flush(&w);
	v = engine_view(w.e);
	world_compact(&w, NULL, NULL);
	world_run_all(&w, JOBS_ALL);
	view_unref(v);
	unlinks = 0;
	view_unref(engine_view(w.e)); /* the cached view moves on: the last hold on the old version goes */
	engine_stats(w.e, &stats);
	ck_assert_uint_gt(stats.obsolete_waiting, 0);
	world_run_all(&w, JOBS_ALL);
	ck_assert_uint_ge(unlinks, 1);
	engine_stats(w.e, &stats);
	ck_assert_uint_eq(stats.obsolete_waiting, 0);
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* ---- failures ---- */

/* A log that was left behind is closed by a worker, since the close may free its space; and at the latest when the engine goes. */
START_TEST(workers_close_logs)
{
	struct world w;
	uint64_t ticket;

	begin(&w);
	make_faulty(&w);
	world_run_all(&w, JOBS_ALL);
	for (int left = 0; left < 2; left++) {
		fill(&w, 0, 5);
		world_sync(&w);
		ck_ok(engine_flush_start(w.e, &ticket));
		closes = 0;
		for (int i = 0; i < 10; i++) {
			ck_ok(engine_pump(w.e, true));
			ck_assert_int_ge(io_queue_poll(w.service), 0);
		}
		ck_assert(engine_wal_idle(w.e));
		ck_assert_uint_eq(closes, 0);
		if (left)
			break;
		ck_assert(world_run_one(&w, JOB_DELETE));
		ck_assert_uint_eq(closes, 1);
		world_run_all(&w, JOBS_ALL);
	}
	w.env->ops = real_ops; /* the descriptor that is left is found by asan, or by whoever counts descriptors */
	world_fini(&w);
}
END_TEST

/* A full disk pauses background work and refuses writes with -ENOSPC; reads go on; space back, a retry heals all. */
START_TEST(full_disk_heals)
{
	struct world w;
	struct err_info err;
	unsigned char *value;
	struct job *j;
	uint16_t why;
	size_t size;

	begin(&w);
	make_faulty(&w);
	world_run_all(&w, JOBS_ALL);
	fill(&w, 0, 20);
	fail_open_table = -ENOSPC;
	fill_until_refused(&w, &why);
	while ((j = engine_next_job(w.e, JOB_LOG | JOB_FLUSH)))
		engine_run_job(w.e, j, w.worker);
	ck_assert_int_eq(engine_state(w.e, &err), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, ".ldb"));
	ck_assert_int_eq(fill_until_refused(&w, &why), -ENOSPC);
	ck_ok(world_get(&w, slice_str("000003"), engine_last_sequence(w.e), &value, &size));
	free(value);
	ck_assert(engine_retry(w.e)); /* still full */
	while ((j = engine_next_job(w.e, JOB_LOG | JOB_FLUSH)))
		engine_run_job(w.e, j, w.worker);
	ck_assert_int_eq(engine_state(w.e, &err), -ENOSPC);
	fail_open_table = 0;
	ck_assert(engine_retry(w.e));
	world_run_all(&w, JOBS_ALL);
	ck_assert_int_eq(engine_state(w.e, &err), 0);
	ck_ok(try_put(&w, &why));
	ck_assert(!engine_retry(w.e));
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* A failed sync is for good: no write is accepted, nothing is deleted, reads go on, and the next open has everything. */
START_TEST(failed_sync_stops_for_good)
{
	struct world w;
	struct err_info err;
	unsigned char *value;
	uint64_t ticket;
	struct job *j;
	uint16_t why;
	size_t size;

	begin(&w);
	make_faulty(&w);
	world_run_all(&w, JOBS_ALL);
	fill(&w, 0, 20);
	ck_ok(engine_flush_start(w.e, &ticket));
	fail_sync_dir = -EIO;
	unlinks = 0;
	j = engine_next_job(w.e, JOB_FLUSH);
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -EIO);
	fail_sync_dir = 0;
	ck_assert_int_eq(engine_state(w.e, &err), -EIO);
	ck_assert_int_eq(try_put(&w, &why), -SHALE_EFAILED);
	ck_assert_int_lt(engine_flush_done(w.e, ticket), 0);
	engine_retry(w.e);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	ck_assert_uint_eq(unlinks, 0);
	ck_ok(world_get(&w, slice_str("000003"), engine_last_sequence(w.e), &value, &size));
	free(value);
	world_abandon(&w);
	world_open(&w);
	ck_ok(world_get(&w, slice_str("000019"), engine_last_sequence(w.e), &value, &size));
	free(value);
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* A table that cannot be read stops the compaction of its range, once, and nothing else: writes, flushes and other ranges go on. */
START_TEST(unreadable_table_is_left_alone)
{
	struct world w;
	struct engine_stats stats;
	char path[512], *text;
	unsigned long long number;
	unsigned ran = 0;
	uint64_t ticket;
	struct job *j;
	FILE *f;

	begin(&w);
	fill(&w, 0, 60);
	world_flush(&w);
	fill(&w, 0, 60);
	world_flush(&w); /* overlaps the first: level 0 */
	ck_ok(engine_property(w.e, slice_str("leveldb.sstables"), &text));
	ck_assert_int_eq(sscanf(strstr(text, "\n ") + 2, "%llu:", &number), 1);
	free(text);
	snprintf(path, sizeof(path), "%s/%06llu.ldb", w.dir, number);
	f = fopen(path, "r+b");
	ck_assert_ptr_nonnull(f);
	fseek(f, 20, SEEK_SET);
	fputs("damage", f);
	fclose(f);
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	ck_ok(engine_pump(w.e, true));
	while ((j = engine_next_job(w.e, JOB_COMPACT))) {
		ck_assert_uint_lt(ran++, 10);
		engine_run_job(w.e, j, w.worker);
	}
	ck_assert_int_eq(engine_compact_done(w.e, ticket), -SHALE_ECORRUPT);
	engine_stats(w.e, &stats);
	ck_assert_uint_eq(stats.jobs_failed, 1);
	ck_assert_int_eq(engine_state(w.e, NULL), 0);
	ck_assert_ptr_nonnull(strstr(w.last_log, ".ldb"));
	fill(&w, 1000, 20);
	world_flush(&w);
	world_check(&w);
	for (unsigned i = 0; i < 4; i++) /* let go again after some calls, not at each */
		engine_retry(w.e);
	ck_assert(!engine_retry(w.e));
	world_fini(&w);
}
END_TEST

/* Changes the first key of a table's first block, and mends the checksum: what a program with a fault would have written. */
static void disorder(const char *path)
{
	unsigned char data[16384];
	FILE *f = fopen(path, "r+b");
	size_t got, n = 1;

	ck_assert_ptr_nonnull(f);
	got = fread(data, 1, sizeof(data), f);
	while (n + 5 < got &&
	       (data[n] > COMPRESS_ZSTD || crc32c(data, n + 1) != crc32c_unmask(load_le32(data + n + 1))))
		n++;
	ck_assert_uint_lt(n + 5, got);
	data[4] = '9'; /* after three lengths, of which the value's takes two bytes */
	store_le32(data + n + 1, crc32c_mask(crc32c(data, n + 1)));
	rewind(f);
	ck_assert_uint_eq(fwrite(data, 1, n + 5, f), n + 5);
	fclose(f);
}

/* A table whose checksums are right and whose keys are not in order is as unreadable as a damaged one: its range is left alone, all else goes on. */
START_TEST(disordered_table_is_left_alone)
{
	struct world w;
	struct engine_stats stats;
	char path[512], *text;
	unsigned long long number;
	unsigned ran = 0;
	uint64_t ticket;
	struct job *j;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.table.compression = COMPRESS_NONE;
	w.options.table.restart_interval = 4;
	world_open(&w);
	fill(&w, 0, 60);
	world_flush(&w);
	fill(&w, 0, 60);
	world_flush(&w); /* overlaps the first: level 0 */
	ck_ok(engine_property(w.e, slice_str("leveldb.sstables"), &text));
	ck_assert_int_eq(sscanf(strstr(text, "\n ") + 2, "%llu:", &number), 1);
	free(text);
	snprintf(path, sizeof(path), "%s/%06llu.ldb", w.dir, number);
	disorder(path);
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	ck_ok(engine_pump(w.e, true));
	while ((j = engine_next_job(w.e, JOB_COMPACT))) {
		ck_assert_uint_lt(ran++, 10);
		engine_run_job(w.e, j, w.worker);
	}
	ck_assert_int_eq(engine_compact_done(w.e, ticket), -SHALE_ECORRUPT);
	engine_stats(w.e, &stats);
	ck_assert_uint_eq(stats.jobs_failed, 1);
	ck_assert_int_eq(engine_state(w.e, NULL), 0);
	fill(&w, 1000, 20);
	world_flush(&w);
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* A stop ends a compaction where it is: nothing of it remains, the inputs are as before, and no new job begins. */
START_TEST(stop_leaves_nothing_behind)
{
	struct world w;
	struct engine_stats before, after;
	uint64_t ticket;
	struct job *j;

	begin(&w);
	make_faulty(&w);
	for (unsigned i = 0; i < 5; i++) {
		fill(&w, i, 600); /* enough entries that a merge looks at the flag */
		world_flush(&w);
	}
	ck_ok(engine_compact_start(w.e, NULL, NULL, &ticket));
	ck_ok(engine_pump(w.e, true));
	while (world_run_one(&w, JOB_LOG | JOB_FLUSH | JOB_DELETE))
		;
	j = engine_next_job(w.e, JOB_COMPACT);
	ck_assert_ptr_nonnull(j);
	engine_stats(w.e, &before);
	engine_stop_jobs(w.e);
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -ECANCELED);
	ck_assert_ptr_null(engine_next_job(w.e, JOBS_ALL));
	engine_stats(w.e, &after);
	ck_assert_uint_eq(before.live_files, after.live_files);
	ck_assert_uint_eq(after.jobs_failed, 0);
	ck_assert_int_eq(engine_compact_done(w.e, ticket), -ECANCELED);
	world_check(&w);
	world_close(&w);
	world_open(&w);
	world_check(&w);
	world_fini(&w);
}
END_TEST

/* ---- threads ---- */

struct crew {
	struct world *w;
	atomic_bool stop;
	unsigned kinds;
	int rc;
};

static void *work(void *arg)
{
	struct crew *c = arg;
	struct io_queue *q;

	ck_assert_int_eq(io_queue_new(c->w->env, 32, &q), 0);
	while (!atomic_load(&c->stop)) {
		struct job *j = engine_next_job(c->w->e, c->kinds);

		if (j)
			c->rc = engine_run_job(c->w->e, j, q);
		else
			usleep(200);
		if (c->rc < 0)
			break;
	}
	io_queue_free(q);
	return NULL;
}

static uint64_t thread_write(struct world *w, struct model *m, unsigned key, uint32_t seed)
{
	unsigned char batch[2048], kb[MODEL_KEY_MAX], vb[MODEL_VALUE_MAX], *p;
	uint64_t sequence, position;
	uint16_t why;
	int rc;

	p = batch_append_put(batch_begin(batch), model_key(key, kb), model_value(seed, 200, vb));
	batch_set_count(batch, 1);
	while ((rc = engine_write(w->e, batch, (size_t)(p - batch), &sequence, &position, &why)) == -EAGAIN) {
		ck_assert_int_ge(io_queue_poll(w->service), 0);
		ck_ok(engine_pump(w->e, true));
		usleep(100);
	}
	ck_ok(rc);
	model_set(m, key, sequence, true, seed, 200);
	return sequence;
}

/* The real arrangement: one service thread, one flush worker, two compaction workers. Run this under the thread sanitizer. */
START_TEST(workers_in_threads)
{
	struct world w;
	struct model m;
	struct crew crew[3];
	pthread_t threads[3];
	uint64_t seed = test_seed();

	world_init(&w, IO_BACKEND_POSIX);
	model_init(&m, 2000);
	world_open(&w);
	for (unsigned i = 0; i < 3; i++) {
		crew[i] = (struct crew){.w = &w, .kinds = i ? JOB_COMPACT : JOB_LOG | JOB_FLUSH | JOB_DELETE};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &crew[i]), 0);
	}
	for (unsigned i = 0; i < 12000; i++) {
		thread_write(&w, &m, (unsigned)(test_random(&seed) % m.keys), (uint32_t)i + 1);
		if (i % 16 == 0) {
			ck_assert_int_ge(io_queue_poll(w.service), 0);
			ck_ok(engine_pump(w.e, true));
			model_check_get(&m, &w, (unsigned)(test_random(&seed) % m.keys), engine_last_sequence(w.e));
		}
		if (i % 3000 == 2999)
			model_check_scan(&m, &w, engine_last_sequence(w.e), i & 1, 8000);
	}
	engine_stop_jobs(w.e);
	for (unsigned i = 0; i < 3; i++) {
		atomic_store(&crew[i].stop, true);
		pthread_join(threads[i], NULL);
		ck_assert(crew[i].rc == 0 || crew[i].rc == -ECANCELED);
	}
	world_check(&w);
	model_check_scan(&m, &w, engine_last_sequence(w.e), false, 8000);
	world_close(&w);
	world_open(&w);
	model_check_scan(&m, &w, SEQUENCE_MAX, false, 8000);
	model_fini(&m);
	world_fini(&w);
}
END_TEST

TEST_MAIN("jobs", 60, urgent_jobs_first, flush_tickets, stalls_say_why, flush_beside_a_compaction,
	  flush_keeps_out_of_the_gap, compaction_keeps_out_of_a_flush, obsolete_files_are_deleted, workers_close_logs,
	  full_disk_heals, failed_sync_stops_for_good, unreadable_table_is_left_alone, disordered_table_is_left_alone,
	  stop_leaves_nothing_behind, workers_in_threads)
