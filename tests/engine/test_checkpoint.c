/* Checkpoints: what they hold, how one becomes the next, and that a place is as it was when something goes wrong. */
#include "engine/checkpoint.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/backup_dir.h"
#include "engine/verify.h"
#include "tests/engine/model.h"
#include "tests/engine/offline.h"
#include "tests/engine/stock.h"

enum { KEYS = 300 };

static struct world w;
static struct model m;
static char *place, target[300];
static struct checkpoint_result done;
static struct err_info why;
static uint64_t seed;

static void begin(enum io_backend backend)
{
	seed = test_seed();
	world_init(&w, backend);
	world_open(&w);
	model_init(&m, KEYS);
	place = test_tmpdir();
	snprintf(target, sizeof(target), "%s/copy", place);
}

static void end(void)
{
	world_fini(&w);
	model_fini(&m);
	test_rmtree(place);
	free(place);
}

static void write_some(unsigned batches)
{
	for (unsigned i = 0; i < batches; i++)
		model_write(&m, &w, &seed, 20, 600);
}

static int run_one(void)
{
	struct job *j = engine_next_job(w.e, JOB_CHECKPOINT);

	ck_assert_ptr_nonnull(j);
	return engine_run_job(w.e, j, w.worker);
}

/* Asks, lets a worker do it, and takes the answer: 0 or the failure, with words in `why`. */
static int checkpoint(const char *path)
{
	uint64_t ticket;
	int rc = engine_checkpoint_start(w.e, path, &ticket);

	why = (struct err_info){0};
	if (rc < 0)
		return rc;
	ck_assert_int_eq(engine_checkpoint_done(w.e, ticket, &done, &why), 0);
	rc = run_one();
	ck_assert_int_eq(engine_checkpoint_done(w.e, ticket, &done, &why), rc < 0 ? rc : 1);
	if (rc < 0) /* the asker's failure alone */
		ck_assert_int_eq(engine_state(w.e, NULL), 0);
	ck_assert_int_eq(engine_checkpoint_done(w.e, ticket, &done, NULL), -ENOENT);
	return rc;
}

static void take(void)
{
	int rc = checkpoint(target);

	ck_assert_msg(rc == 0, "%d: %s", rc, why.text);
}

static unsigned files_in(const char *dir, const char *with)
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)))
		n += entry->d_name[0] != '.' && strstr(entry->d_name, with) != NULL;
	closedir(d);
	return n;
}

static bool left_over(void) /* the other name, under which a directory is filled */
{
	char path[400];

	snprintf(path, sizeof(path), "%s/.copy.shale-part", place);
	return access(path, F_OK) == 0;
}

/* The checkpoint is sound, has nothing else in it, and holds just what the model says of @sequence. A copy is opened, so that it stays one. */
static void holds(const char *dir, uint64_t sequence)
{
	struct verify_result result;
	struct err_info err = {0};
	struct world copy;
	struct looked l;
	char command[900];

	looked_open(&l, dir);
	ck_ok(verify_database(&l.exam, &result, &err));
	ck_assert_str_eq(l.text, "");
	ck_assert_uint_le(result.last_sequence, sequence);
	looked_close(&l);
	world_init(&copy, IO_BACKEND_POSIX);
	snprintf(command, sizeof(command), "cp -a '%s'/. '%s'/", dir, copy.dir);
	ck_assert_int_eq(system(command), 0);
	world_open(&copy);
	ck_assert_uint_eq(engine_last_sequence(copy.e), sequence);
	model_check_scan(&m, &copy, sequence, false, 4096);
	model_check_scan(&m, &copy, sequence, true, 4096);
	world_fini(&copy);
}

/* All of it is there: tables by links, memtables as a table; and later writes are not. */
static void everything(enum io_backend backend)
{
	uint64_t sequence;

	begin(backend);
	write_some(300);
	world_run_all(&w, JOBS_ALL);
	write_some(10); /* in memory only */
	sequence = engine_last_sequence(w.e);
	take();
	ck_assert_uint_eq(done.sequence, sequence);
	ck_assert_uint_gt(done.linked, 0);
	ck_assert_uint_eq(done.copied, 0);
	ck_assert_uint_eq(done.tables, done.linked + 1);
	write_some(200);
	world_run_all(&w, JOBS_ALL);
	holds(target, sequence);
	ck_assert(!left_over());
	world_check_deep(&w);
	end();
}

START_TEST(everything_up_to_one_sequence)
{
	everything(IO_BACKEND_POSIX);
}
END_TEST

START_TEST(through_io_uring)
{
	everything(IO_BACKEND_AUTO);
}
END_TEST

/* An empty database has an empty checkpoint, and one whose memtable is empty has no table more than it. */
START_TEST(empty_ones)
{
	begin(IO_BACKEND_POSIX);
	take();
	ck_assert_uint_eq(done.tables, 0);
	ck_assert_uint_eq(done.sequence, 0);
	holds(target, 0);
	write_some(50);
	world_flush(&w);
	take();
	ck_assert_uint_eq(done.tables, done.linked);
	holds(target, engine_last_sequence(w.e));
	end();
}
END_TEST

/* The next one into the same directory keeps what is still needed, adds what is new, and removes what is gone. */
START_TEST(incremental)
{
	begin(IO_BACKEND_POSIX);
	write_some(400);
	world_compact(&w, NULL, NULL);
	take();
	for (unsigned round = 0; round < 6; round++) {
		write_some(round == 3 ? 0 : 40);
		if (round & 1)
			world_run_all(&w, JOBS_ALL);
		if (round == 4)
			world_compact(&w, NULL, NULL);
		take();
		if (round == 3)
			ck_assert_uint_gt(done.kept, 0);
		ck_assert_uint_eq(files_in(target, ".ldb"), done.tables);
		ck_assert_uint_eq(files_in(target, "MANIFEST"), 1);
		holds(target, engine_last_sequence(w.e));
	}
	/* The database was closed and opened in between: numbers go on where they were. */
	world_close(&w);
	world_open(&w);
	write_some(40);
	take();
	holds(target, engine_last_sequence(w.e));
	end();
}
END_TEST

/* A killed database gives the checkpoint's own numbers to no other file: else the next one would meet another table of that name. */
START_TEST(its_numbers_stay_its_own)
{
	begin(IO_BACKEND_POSIX);
	write_some(30);
	for (unsigned round = 0; round < 8; round++) {
		take();
		world_abandon(&w);
		world_open(&w);
		write_some(5);
		world_flush(&w);
	}
	take();
	holds(target, engine_last_sequence(w.e));
	end();
}
END_TEST

/* Another file system has no links to ours: tables are copied, and the next time those that are there are known again. */
START_TEST(on_another_file_system)
{
	char *other = NULL, memory[] = "/dev/shm/shale-test-XXXXXX";
	struct stat here, there;

	begin(IO_BACKEND_POSIX);
	other = mkdtemp(memory);
	ck_assert_ptr_nonnull(other);
	ck_assert_int_eq(stat(w.dir, &here) | stat(other, &there), 0);
	if (here.st_dev != there.st_dev) {
		snprintf(target, sizeof(target), "%s/copy", other);
		write_some(300);
		world_run_all(&w, JOBS_ALL);
		take();
		ck_assert_uint_gt(done.copied, 0);
		ck_assert_uint_eq(done.linked, 0);
		ck_assert_uint_gt(done.bytes_copied, 0);
		holds(target, engine_last_sequence(w.e));
		take();
		ck_assert_uint_eq(done.copied, 0);
		ck_assert_uint_gt(done.kept, 0);
		holds(target, engine_last_sequence(w.e));
	}
	test_rmtree(other);
	end();
}
END_TEST

static const char *expect_refusal(const char *path, int code)
{
	int rc = checkpoint(path);

	ck_assert_msg(rc == code, "%s: %d (%s), expected %d", path, rc, why.text, code);
	ck_assert(*why.text);
	ck_assert(!left_over());
	return why.text;
}

/* What is not ours is not touched, and the words say what to do. */
START_TEST(wrong_places)
{
	char path[500], link[400];

	begin(IO_BACKEND_POSIX);
	write_some(20);
	expect_refusal("relative/path", -EINVAL);
	expect_refusal("/", -EINVAL);
	snprintf(path, sizeof(path), "%s/../copy", place);
	expect_refusal(path, -EINVAL);
	snprintf(path, sizeof(path), "%s/missing/copy", place);
	expect_refusal(path, -ENOENT);
	/* links on the way, and at its end */
	snprintf(link, sizeof(link), "%s/link", place);
	ck_assert_int_eq(symlink(place, link), 0);
	snprintf(path, sizeof(path), "%s/copy", link);
	ck_assert_ptr_nonnull(strstr(expect_refusal(path, -ELOOP), "symbolic link"));
	expect_refusal(link, -ELOOP);
	/* a foreign directory, an empty one too, and a file */
	ck_assert_int_eq(mkdir(target, 0700), 0);
	ck_assert_ptr_nonnull(strstr(expect_refusal(target, -EEXIST), "no checkpoint"));
	ck_assert_uint_eq(files_in(target, ""), 0);
	ck_assert_int_eq(rmdir(target), 0);
	overwrite(place, "copy", "words", 5);
	expect_refusal(target, -ENOTDIR);
	ck_assert_int_eq(unlink(target), 0);
	/* the database itself */
	expect_refusal(w.dir, -EEXIST);
	world_check_deep(&w);
	/* one that others may write to */
	take();
	ck_assert_int_eq(chmod(target, 0777), 0);
	expect_refusal(target, -EPERM);
	ck_assert_int_eq(chmod(target, 0700), 0);
	take();
	end();
}
END_TEST

/* A checkpoint that was opened as a database has been written to; one of another database has other tables under the same names. */
START_TEST(no_checkpoint_of_ours_any_more)
{
	struct world mine, other;

	begin(IO_BACKEND_POSIX);
	write_some(20);
	take();
	mine = w;
	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_put(&w, slice_str("a"), slice_str("b"));
	ck_assert_ptr_nonnull(strstr(expect_refusal(target, -EEXIST), "another database"));
	world_fini(&w);
	w = mine;
	holds(target, engine_last_sequence(w.e));
	world_init(&other, IO_BACKEND_POSIX);
	test_rmtree(other.dir);
	free(other.dir);
	other.dir = strdup(target);
	world_open(&other);
	ck_assert_ptr_nonnull(strstr(expect_refusal(target, -EEXIST), "opened as a database"));
	world_close(&other);
	expect_refusal(target, -EEXIST);
	world_fini(&other);
	end();
}
END_TEST

/* One at a time; one that waits or runs can be cancelled, and leaves the place as it was. */
START_TEST(cancelled_and_busy)
{
	uint64_t first, second, sequence;
	struct job *j;

	begin(IO_BACKEND_POSIX);
	write_some(100);
	ck_ok(engine_checkpoint_start(w.e, target, &first));
	ck_assert_int_eq(engine_checkpoint_start(w.e, target, &second), -EBUSY);
	ck_ok(engine_checkpoint_cancel(w.e, first));
	ck_assert_int_eq(engine_checkpoint_cancel(w.e, first), -ENOENT);
	ck_assert(!world_run_one(&w, JOB_CHECKPOINT));
	ck_assert_int_eq(engine_checkpoint_done(w.e, first, &done, &why), -ECANCELED);
	ck_assert_int_eq(access(target, F_OK), -1);
	take();
	sequence = done.sequence;
	/* claimed, then cancelled before its first step */
	write_some(10);
	ck_ok(engine_checkpoint_start(w.e, target, &first));
	j = engine_next_job(w.e, JOB_CHECKPOINT);
	ck_assert_ptr_nonnull(j);
	ck_ok(engine_checkpoint_cancel(w.e, first));
	ck_assert_int_eq(engine_run_job(w.e, j, w.worker), -ECANCELED);
	ck_assert_int_eq(engine_checkpoint_done(w.e, first, &done, &why), -ECANCELED);
	holds(target, sequence);
	ck_assert_int_eq(engine_state(w.e, &why), 0);
	/* an answer that nobody came for is no obstacle, and is freed */
	ck_ok(engine_checkpoint_start(w.e, target, &first));
	ck_ok(run_one());
	ck_ok(engine_checkpoint_start(w.e, target, &first));
	end();
}
END_TEST

/* What a killed attempt left under the other name is cleared away, but never somebody else's files. */
START_TEST(leftovers)
{
	char part[400];

	begin(IO_BACKEND_POSIX);
	write_some(100);
	snprintf(part, sizeof(part), "%s/.copy.shale-part", place);
	ck_assert_int_eq(mkdir(part, 0700), 0);
	overwrite(part, "000005.ldb", "x", 1);
	overwrite(part, "SHALE.copy", "x", 1);
	take();
	ck_assert(!left_over());
	holds(target, engine_last_sequence(w.e));
	test_rmtree(target);
	ck_assert_int_eq(mkdir(part, 0700), 0);
	overwrite(part, "diary", "x", 1);
	ck_assert_int_eq(checkpoint(target), -ENOTEMPTY);
	ck_assert_int_eq(access(in_dir(part, "diary"), F_OK), 0);
	/* an update that was killed before its switch: strays that the next one takes away */
	test_rmtree(part);
	take();
	overwrite(target, "999999.ldb", "x", 1);
	overwrite(target, "SHALE.part", "x", 1);
	take();
	ck_assert_int_eq(access(in_dir(target, "999999.ldb"), F_OK), -1);
	holds(target, engine_last_sequence(w.e));
	end();
}
END_TEST

/* Stock LevelDB opens it, and finds every key. */
START_TEST(stock_opens_it)
{
	char *error = NULL;
	struct stock s;
	size_t found = 0;

	begin(IO_BACKEND_POSIX);
	write_some(300);
	world_run_all(&w, JOBS_ALL);
	write_some(10);
	take();
	stock_open(&s, target, false, true, 10);
	for (unsigned i = 0; i < KEYS; i++) {
		unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];
		const struct model_entry *want = model_get(&m, i, done.sequence);
		struct slice key = model_key(i, key_buf), value;
		size_t len;
		char *got = leveldb_get(s.db, s.read, (const char *)key.data, key.size, &len, &error);

		stock_must(error, "get");
		ck_assert_int_eq(got != NULL, want && want->present);
		if (got) {
			value = model_value(want->seed, want->size, value_buf);
			ck_assert_uint_eq(len, value.size);
			ck_assert_mem_eq(got, value.data, len);
			found++;
		}
		leveldb_free(got);
	}
	ck_assert_uint_eq(found, model_count(&m, done.sequence));
	stock_close(&s);
	end();
}
END_TEST

static void *run_checkpoints(void *arg)
{
	struct io_queue *q;
	struct job *j;

	(void)arg;
	ck_ok(io_queue_new(w.env, 16, &q));
	while (!(j = engine_next_job(w.e, JOB_CHECKPOINT)))
		usleep(100);
	ck_ok(engine_run_job(w.e, j, q));
	io_queue_free(q);
	return NULL;
}

/* Writers, flushes and compactions go on while a worker makes it: it holds all from before the call, ends at a batch, and nobody waited. */
START_TEST(beside_writers)
{
	begin(IO_BACKEND_POSIX);
	write_some(200);
	for (unsigned round = 0; round < 8; round++) {
		uint64_t ticket, before = engine_last_sequence(w.e);
		pthread_t thread;
		int rc = 0;

		ck_ok(engine_checkpoint_start(w.e, target, &ticket));
		ck_assert_int_eq(pthread_create(&thread, NULL, run_checkpoints, NULL), 0);
		for (unsigned n = 0; !rc && n < 100000; n++) {
			write_some(1);
			world_run_one(&w, JOBS_ALL);
			rc = engine_checkpoint_done(w.e, ticket, &done, &why);
		}
		pthread_join(thread, NULL);
		if (!rc)
			rc = engine_checkpoint_done(w.e, ticket, &done, &why);
		ck_assert_msg(rc == 1, "%d: %s", rc, why.text);
		ck_assert_uint_ge(done.sequence, before);
		holds(target, done.sequence);
	}
	world_run_all(&w, JOBS_ALL);
	world_check_deep(&w);
	end();
}
END_TEST

TEST_MAIN("checkpoint", 60, everything_up_to_one_sequence, through_io_uring, empty_ones, incremental,
	  its_numbers_stay_its_own, on_another_file_system, wrong_places, no_checkpoint_of_ours_any_more,
	  cancelled_and_busy, leftovers, stock_opens_it, beside_writers)
