/*
 * The invariants of a running database: each kind of damage is found, and named; a healthy database, jobs under way or not, passes. At once, and as the
 * job that somebody asked for.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/check.h"
#include "engine/engine_internal.h"
#include "tests/engine/world.h"

static struct slice text(const char *s)
{
	return slice_of(s, strlen(s));
}

/* Two tables of level 0 or deeper, of which the newer one lies inside the range of the older one and overwrites "m". */
static void two_tables(struct world *w)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
	world_put(w, text("a"), text("1"));
	world_put(w, text("m"), text("old"));
	world_put(w, text("z"), text("1"));
	world_flush(w);
	world_put(w, text("m"), text("new"));
	world_flush(w);
	world_run_all(w, JOB_DELETE);
}

static struct file_meta *newest_table(struct world *w, unsigned *level_out)
{
	struct version *v = w->e->versions.current;
	struct file_meta *found = NULL;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			if (!found || v->files[level][i]->number > found->number) {
				found = v->files[level][i];
				*level_out = level;
			}
		}
	}
	ck_assert_ptr_nonnull(found);
	return found;
}

static void must_find(struct world *w, const char *words)
{
	struct err_info err = {0};

	ck_assert_int_eq(engine_check_deep(w->e, w->worker, &err), -SHALE_ECORRUPT);
	ck_assert_msg(strstr(err.text, words), "\"%s\" is not in \"%s\"", words, err.text);
}

/* Nothing is wrong with memtables, tables at several levels, and jobs that are claimed and not yet run. */
START_TEST(healthy_passes)
{
	struct job *held;
	char key[32];
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "%08u", i * 7919 % 5000);
		world_put(&w, text(key), text(key));
		if (i % 2000 == 0)
			world_check_deep(&w);
	}
	held = engine_next_job(w.e, JOBS_ALL);
	world_check_deep(&w);
	if (held)
		ck_ok(engine_run_job(w.e, held, w.worker));
	world_run_all(&w, JOBS_ALL);
	world_check_deep(&w);
	world_fini(&w);
}
END_TEST

/* The newest table goes below the older one, whose entries are then read first. */
static void misplace(struct world *w)
{
	struct err_info err = {0};
	struct file_meta *newer;
	struct edit edit;
	unsigned level;

	newer = newest_table(w, &level);
	edit_init(&edit);
	ck_ok(edit_delete_file(&edit, level, newer->number));
	ck_ok(edit_add_file(&edit, LEVELS - 1, newer));
	ck_ok(edit_apply(w->e, &edit, w->worker, &err));
	pthread_mutex_lock(&w->e->lock);
	edit_fini(&edit);
	version_installed(w->e);
	pthread_mutex_unlock(&w->e->lock);
}

/* An older entry in a place that is read first: no reader and no checksum notices, so this must. */
START_TEST(newer_entry_below_older_one_is_found)
{
	struct world w;

	two_tables(&w);
	world_check_deep(&w);
	misplace(&w);
	must_find(&w, "which is read first");
	world_fini(&w);
}
END_TEST

/* A file that nobody knows of is room on disk that never comes back. */
START_TEST(stray_table_is_found)
{
	char path[300];
	struct world w;
	int fd;

	two_tables(&w);
	snprintf(path, sizeof(path), "%s/000999.ldb", w.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	must_find(&w, "000999.ldb: it is in the directory, but nobody knows of it");
	ck_ok(unlink(path));
	world_check_deep(&w);
	world_fini(&w);
}
END_TEST

/* A table may be gone while its descriptor in our cache still reads well. */
START_TEST(missing_table_is_found)
{
	char path[300];
	struct world w;
	unsigned level;

	two_tables(&w);
	snprintf(path, sizeof(path), "%s/%06llu.ldb", w.dir, (unsigned long long)newest_table(&w, &level)->number);
	ck_ok(unlink(path));
	must_find(&w, "is not in the directory");
	world_fini(&w);
}
END_TEST

/* The bounds in the MANIFEST steer every read: a table with other ends is found. */
START_TEST(table_with_other_ends_is_found)
{
	unsigned level;
	struct world w;

	two_tables(&w);
	newest_table(&w, &level)->largest.data[0] = 'n';
	must_find(&w, "ends elsewhere than the MANIFEST says");
	world_fini(&w);
}
END_TEST

/* ---- the job ---- */

static struct check_result result;
static struct err_info why;

/* Asked for, run, answered. */
static const struct check_result *run_check(struct world *w)
{
	uint64_t ticket;

	ck_ok(engine_check_start(w->e, &ticket));
	ck_assert_int_eq(engine_check_done(w->e, ticket, &result, &why), 0);
	ck_assert(world_run_one(w, JOB_CHECK));
	ck_assert_msg(engine_check_done(w->e, ticket, &result, &why) == 1, "%s", why.text);
	ck_assert_int_eq(engine_check_done(w->e, ticket, &result, &why), -ENOENT);
	return &result;
}

static void must_be_clean(struct world *w)
{
	run_check(w);
	ck_assert_msg(!result.problems, "%s: %s: %s", result.finding[0].kind, result.finding[0].file,
		      result.finding[0].what);
	ck_assert(result.entries_checked);
}

static const struct check_finding *must_tell(const char *kind)
{
	for (unsigned i = 0; i < result.kept; i++)
		if (strcmp(result.finding[i].kind, kind) == 0)
			return &result.finding[i];
	ck_abort_msg("nothing of kind %s among %" PRIu64 " findings; the first is %s: %s", kind, result.problems,
		     result.finding[0].kind, result.finding[0].what);
	return NULL;
}

static void must_be_key(const struct check_key *k, const char *wanted)
{
	ck_assert_uint_eq(k->size, strlen(wanted));
	ck_assert_mem_eq(k->bytes, wanted, strlen(wanted));
}

/* What was looked at is counted; and reading all of it leaves both caches as they were. */
START_TEST(job_counts_what_it_saw)
{
	struct engine_stats before, after;
	uint64_t bytes = 0, tables = 0;
	struct world w;

	two_tables(&w);
	world_put(&w, text("n"), text("1"));
	for (unsigned level = 0; level < LEVELS; level++) {
		tables += w.e->versions.current->count[level];
		bytes += w.e->versions.current->bytes[level];
	}
	engine_stats(w.e, &before);
	must_be_clean(&w);
	engine_stats(w.e, &after);
	ck_assert_uint_eq(result.tables, tables);
	ck_assert_uint_eq(result.table_bytes, bytes);
	ck_assert_uint_eq(result.memtables, 1);
	ck_assert_uint_eq(result.entries, 5);
	ck_assert_uint_eq(result.sequence, engine_last_sequence(w.e));
	ck_assert_uint_ge(result.files, tables + 2);
	ck_assert_uint_eq(after.cache.blocks, before.cache.blocks);
	ck_assert_uint_eq(after.cache.misses, before.cache.misses);
	ck_assert_uint_eq(after.tables_open, before.tables_open);
	world_fini(&w);
}
END_TEST

/* Entries in the wrong order over the levels: which table, which level, which keys. */
START_TEST(job_names_misplaced_table)
{
	const struct check_finding *f;
	uint64_t number;
	unsigned level;
	char name[32];
	struct world w;

	two_tables(&w);
	number = newest_table(&w, &level)->number;
	misplace(&w);
	run_check(&w);
	f = must_tell("sequence");
	snprintf(name, sizeof(name), "%06" PRIu64 ".ldb", number);
	ck_assert_str_eq(f->file, name);
	ck_assert_int_eq(f->level, LEVELS - 1);
	ck_assert(f->has_range);
	must_be_key(&f->first, "m");
	must_be_key(&f->last, "m");
	ck_assert_uint_eq(result.problems, 1);
	world_fini(&w);
}
END_TEST

/* Keys in turn that one table has in the wrong order are one finding with a range, not thousands. */
START_TEST(job_sums_up_keys_in_turn)
{
	const struct check_finding *f;
	char key[300];
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.levels.max_file_bytes = 1 << 20;
	world_open(&w);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 40; i++) {
			snprintf(key, sizeof(key), "%02u%0250u", i, 0); /* longer than a finding shows */
			world_put(&w, text(key), text("1"));
		}
		world_flush(&w);
	}
	misplace(&w);
	run_check(&w);
	ck_assert_uint_eq(result.problems, 1);
	f = must_tell("sequence");
	ck_assert_msg(strstr(f->what, "of 40 keys"), "%s", f->what);
	ck_assert_uint_eq(f->first.size, 252);
	ck_assert_mem_eq(f->first.bytes, "0000", 4);
	ck_assert_mem_eq(f->last.bytes, "3900", 4);
	world_fini(&w);
}
END_TEST

/* Levels that cannot be: told with both tables' keys, and nothing is concluded from their order. */
START_TEST(job_names_wrong_levels)
{
	const struct check_finding *f;
	struct version *v;
	struct world w;
	char key[16];

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(key, sizeof(key), "%08u", i);
		world_put(&w, text(key), text(key));
	}
	world_compact(&w, NULL, NULL);
	v = w.e->versions.current;
	for (unsigned level = 1; level < LEVELS; level++) {
		if (v->count[level] < 2)
			continue;
		ck_ok(key_buf_set(&v->files[level][0]->largest, key_buf_slice(&v->files[level][1]->largest)));
		run_check(&w);
		f = must_tell("overlap");
		ck_assert_int_eq(f->level, (int)level);
		must_be_key(&f->first, "00000000");
		ck_assert(!result.entries_checked);
		world_fini(&w);
		return;
	}
	ck_abort_msg("no level holds two tables");
}
END_TEST

/* A table that is not there is told once, although both the directory and its entries miss it; all else is looked at. */
START_TEST(job_names_missing_and_stray_files)
{
	const struct check_finding *f;
	char path[300], name[32];
	uint64_t number;
	struct world w;
	unsigned level;
	int fd;

	two_tables(&w);
	number = newest_table(&w, &level)->number;
	snprintf(name, sizeof(name), "%06" PRIu64 ".ldb", number);
	snprintf(path, sizeof(path), "%s/%s", w.dir, name);
	ck_ok(unlink(path));
	snprintf(path, sizeof(path), "%s/000999.sst", w.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/000001.log", w.dir); /* below all logs that are needed */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	run_check(&w);
	ck_assert_uint_eq(result.problems, 3);
	f = must_tell("missing");
	ck_assert_str_eq(f->file, name);
	ck_assert_int_eq(f->level, (int)level);
	must_be_key(&f->first, "m");
	f = must_tell("stray");
	ck_assert_msg(!strcmp(f->file, "000999.sst") || !strcmp(f->file, "000001.log"), "%s", f->file);
	ck_assert_uint_eq(result.entries, 3); /* of the table that is there */
	world_fini(&w);
}
END_TEST

/* A block that the disk gives back otherwise is told, also where a cache holds the sound one; what lies behind that table is looked at all the same. */
START_TEST(job_names_unreadable_table)
{
	const struct check_finding *f;
	unsigned char byte, *value;
	char path[300];
	struct world w;
	unsigned level;
	size_t size;
	int fd;

	two_tables(&w);
	ck_ok(world_get(&w, text("m"), engine_last_sequence(w.e), &value, &size));
	free(value);
	snprintf(path, sizeof(path), "%s/%06" PRIu64 ".ldb", w.dir, newest_table(&w, &level)->number);
	fd = open(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, 4), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, 4), 1);
	close(fd);
	run_check(&w);
	ck_assert_uint_eq(result.problems, 1);
	f = must_tell("read");
	ck_assert_int_eq(f->code, -SHALE_ECORRUPT);
	ck_assert_msg(strstr(f->what, "checksum"), "%s", f->what);
	ck_assert(f->has_range);
	ck_assert_uint_eq(result.entries, 3);
	ck_assert_int_eq(engine_state(w.e, &why), 0);
	world_fini(&w);
}
END_TEST

static void *run_checks(void *arg)
{
	struct world *w = arg;
	struct io_queue *q;
	struct job *j;

	ck_ok(io_queue_new(w->env, 16, &q));
	while (!(j = engine_next_job(w->e, JOB_CHECK)))
		usleep(100);
	engine_run_job(w->e, j, q);
	io_queue_free(q);
	return NULL;
}

/* Writers, flushes, compactions and deletions go on meanwhile: files come and go, and there is no false alarm. */
START_TEST(job_beside_writers)
{
	unsigned n = 0;
	char key[32];
	struct world w;

	world_init(&w, IO_BACKEND_AUTO);
	world_open(&w);
	for (unsigned round = 0; round < 30; round++) {
		pthread_t thread;
		uint64_t ticket;
		int rc = 0;

		ck_ok(engine_check_start(w.e, &ticket));
		ck_assert_int_eq(pthread_create(&thread, NULL, run_checks, &w), 0);
		while (!rc) {
			snprintf(key, sizeof(key), "%08u", n++ * 7919 % 5000);
			world_put(&w, text(key), text(key));
			world_run_one(&w, JOBS_ALL);
			rc = engine_check_done(w.e, ticket, &result, &why);
		}
		pthread_join(thread, NULL);
		ck_assert_msg(rc == 1, "%d: %s", rc, why.text);
		ck_assert_msg(!result.problems, "%s: %s: %s", result.finding[0].kind, result.finding[0].file,
			      result.finding[0].what);
		for (unsigned i = 0; i < 200; i++) {
			snprintf(key, sizeof(key), "%08u", n++ * 7919 % 5000);
			world_put(&w, text(key), text(key));
		}
	}
	world_fini(&w);
}
END_TEST

/*
 * A flush makes its table and drops its log with an edit, and tells the engine a moment later. In between the memtable and its table hold the same
 * entries, and nobody needs the log any more: neither is an alarm.
 */
START_TEST(job_between_edit_and_notice)
{
	struct immutable *imm;
	struct file_meta *meta;
	struct job_record did;
	uint64_t ticket;
	struct edit edit;
	struct world w;

	two_tables(&w);
	world_put(&w, text("m"), text("newest"));
	while (engine_flush_start(w.e, &ticket) == -EAGAIN)
		world_run_one(&w, JOB_LOG);
	ck_assert_uint_eq(w.e->immutable_count, 1);
	imm = &w.e->immutables[0];
	ck_ok(flush_build(w.e, w.worker, imm->mem, NULL, &meta, &did, &why));
	ck_assert_ptr_nonnull(meta);
	edit_init(&edit);
	edit.has_log_number = edit.has_last_sequence = true;
	edit.log_number = imm->next_log;
	edit.last_sequence = imm->last;
	ck_ok(edit_add_file(&edit, 0, meta));
	ck_ok(edit_apply(w.e, &edit, w.worker, &why));
	ck_assert_uint_lt(memtable_log_number(imm->mem), w.e->versions.log_number);
	must_be_clean(&w);
	ck_assert_uint_eq(result.memtables, 1);
	ck_assert_uint_eq(result.entries, 5);
	world_check_deep(&w);
	outputs_release(w.e, &edit, &meta, 1, true);
	world_fini(&w);
}
END_TEST

/* One at a time; one that waits ends at once when it is cancelled, one that runs soon, also where the rate would make it take days. */
START_TEST(job_is_cancelled)
{
	uint64_t ticket, other, moved = 0;
	struct job_record running[4], last[JOBLOG_KEEP];
	char key[32], value[1000];
	pthread_t thread;
	struct world w;
	struct job *j;
	int rc = 0;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	memset(value, 'x', sizeof(value));
	for (unsigned i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "%08u", i);
		world_put(&w, text(key), slice_of(value, sizeof(value)));
	}
	world_run_all(&w, JOBS_ALL);
	ck_ok(engine_check_start(w.e, &ticket));
	ck_assert_int_eq(engine_check_start(w.e, &other), -EBUSY);
	ck_ok(engine_check_cancel(w.e, ticket));
	ck_assert_int_eq(engine_check_cancel(w.e, ticket), -ENOENT);
	ck_assert_ptr_null(engine_next_job(w.e, JOB_CHECK));
	ck_assert_int_eq(engine_check_done(w.e, ticket, &result, &why), -ECANCELED);
	/* claimed, then cancelled before its first step */
	ck_ok(engine_check_start(w.e, &ticket));
	j = engine_next_job(w.e, JOB_CHECK);
	ck_assert_ptr_nonnull(j);
	ck_ok(engine_check_cancel(w.e, ticket));
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -ECANCELED);
	ck_assert_int_eq(engine_check_done(w.e, ticket, &result, &why), -ECANCELED);
	/* while it waits for what it has read to be paid for */
	engine_tune(w.e, 1, 0);
	ck_ok(engine_check_start(w.e, &ticket));
	ck_assert_int_eq(pthread_create(&thread, NULL, run_checks, &w), 0);
	while (!moved) {
		if (engine_jobs(w.e, running, 4, last) && running[0].kind == JOB_CHECK)
			moved = running[0].done;
		usleep(1000);
	}
	ck_assert_int_eq(engine_check_done(w.e, ticket, &result, &why), 0);
	ck_ok(engine_check_cancel(w.e, ticket));
	while (!(rc = engine_check_done(w.e, ticket, &result, &why)))
		usleep(1000);
	ck_assert_int_eq(rc, -ECANCELED);
	pthread_join(thread, NULL);
	ck_assert_int_eq(engine_state(w.e, &why), 0);
	/* an answer that nobody came for is no obstacle, and is freed */
	engine_tune(w.e, 0, 0);
	ck_ok(engine_check_start(w.e, &ticket));
	ck_assert(world_run_one(&w, JOB_CHECK));
	must_be_clean(&w);
	ck_ok(engine_check_start(w.e, &ticket));
	world_fini(&w);
}
END_TEST

TEST_MAIN("check", 60, healthy_passes, newer_entry_below_older_one_is_found, stray_table_is_found,
	  missing_table_is_found, table_with_other_ends_is_found, job_counts_what_it_saw, job_names_misplaced_table,
	  job_sums_up_keys_in_turn, job_names_wrong_levels, job_names_missing_and_stray_files,
	  job_names_unreadable_table, job_beside_writers, job_between_edit_and_notice, job_is_cancelled)
