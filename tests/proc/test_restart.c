/*
 * The daemon goes and comes back under its clients: reads are repeated, writes are never, cursors and snapshots say
 * that they are gone.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;

/* A handle works on after a clean restart and after a kill, and reads what it wrote before. */
START_TEST(handles_survive)
{
	struct shale_db *db;
	size_t len;
	char buf[8];

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	proc_stop(&d);
	proc_start(&d);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	private_daemon_kill(&d);
	proc_start(&d);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	private_daemon_kill(&d);
	proc_start(&d);
	/* Nothing was in flight, so a write has no unknown fate. */
	ck_ok(shale_put(db, NULL, "b", 1, "2", 1));
	ck_ok(shale_get(db, NULL, "b", 1, buf, sizeof(buf), &len));
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

static void *start_later(void *arg)
{
	usleep(300000);
	proc_start(&d);
	atomic_store((_Atomic bool *)arg, true);
	/* The daemon's parent-death signal comes with the end of the thread that started it: stay. */
	for (;;)
		pause();
	return NULL;
}

/* A read begun while no daemon is there waits for one. */
START_TEST(reads_wait)
{
	_Atomic bool started = false;
	struct shale_db *db;
	pthread_t thread;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	private_daemon_kill(&d);
	ck_ok(pthread_create(&thread, NULL, start_later, &started));
	ck_assert_str_eq(proc_get(db, "a"), "1");
	while (!atomic_load(&started))
		usleep(1000);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* What belonged to the old daemon says so, and a new one can be had on the same handle. */
START_TEST(snapshots_are_ousted)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	struct shale_iter *it;
	struct shale_db *db;
	size_t len;
	char buf[8];

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	proc_put(db, "b", "2");
	ck_ok(shale_snapshot_take(db, &snapshot));
	ck_ok(shale_iter_open(db, NULL, &it));
	private_daemon_kill(&d);
	proc_start(&d);
	options.snapshot = snapshot;
	ck_assert_int_eq(shale_get(db, &options, "a", 1, buf, sizeof(buf), &len), -SHALE_EOUSTED);
	shale_iter_seek_first(it);
	ck_assert(!shale_iter_valid(it));
	ck_assert_int_eq(shale_iter_error(it), -SHALE_EOUSTED);
	shale_iter_close(it);
	shale_snapshot_release(db, snapshot);
	ck_ok(shale_snapshot_take(db, &snapshot));
	options.snapshot = snapshot;
	ck_ok(shale_get(db, &options, "a", 1, buf, sizeof(buf), &len));
	shale_snapshot_release(db, snapshot);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* When no daemon comes back a call ends after reconnect_ms, with a word that says so. */
START_TEST(gives_up)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	size_t len;
	char buf[8];
	int rc;

	proc_begin(&d);
	options.reconnect_ms = 200;
	ck_ok(shale_open(d.socket, &options, &db));
	proc_put(db, "a", "1");
	proc_stop(&d);
	ck_assert_int_eq(shale_get(db, NULL, "a", 1, buf, sizeof(buf), &len), -EPIPE);
	ck_assert_str_ne(shale_last_error(db), "");
	rc = shale_put(db, NULL, "a", 1, "2", 1);
	ck_assert_int_eq(rc, -EPIPE);
	proc_start(&d);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Opening waits up to connect_ms for a daemon that is not there yet, and says what is missing. */
START_TEST(open_without_daemon)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db = NULL;
	int rc;

	proc_init(&d, NULL, NULL);
	options.connect_ms = 50;
	rc = shale_open(d.socket, &options, &db);
	ck_assert_msg(rc == -ENOENT || rc == -ECONNREFUSED, "%s", shale_strerror(rc));
	ck_assert_ptr_null(db);
	ck_assert_ptr_nonnull(strstr(shale_last_error(NULL), d.socket));
	private_daemon_fini(&d);
}
END_TEST

/* The directory's path finds the daemon that serves it. */
START_TEST(open_by_directory)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;

	proc_init(&d, NULL, NULL);
	snprintf(d.socket, sizeof(d.socket), "%s/db/shale.sock", d.scratch); /* where shaled puts it by itself */
	proc_start(&d);
	options.connect_ms = 500;
	ck_assert_msg(shale_open(d.database, &options, &db) == 0, "%s", shale_last_error(NULL));
	proc_put(db, "a", "1");
	shale_close(db);
	ck_assert_int_lt(shale_open(d.scratch, &options, &db), 0);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("restart", 30 * PATIENCE, handles_survive, reads_wait, snapshots_are_ousted, gives_up, open_without_daemon,
	  open_by_directory)
