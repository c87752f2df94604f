/*
 * An I/O error of the log stops the daemon for good: it says so, ends with its own exit code, and the next one has all that was
 * acknowledged. The error is a file size limit set upon the running process: the log's next write is then refused (EFBIG).
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;

static void limit_files(rlim_t bytes)
{
	struct rlimit before, tight;

	ck_ok(prlimit(d.pid, RLIMIT_FSIZE, NULL, &before));
	tight = (struct rlimit){bytes, before.rlim_max};
	ck_ok(prlimit(d.pid, RLIMIT_FSIZE, &tight, NULL));
}

static int ended(void)
{
	pid_t pid = d.pid;

	d.pid = 0;
	return proc_wait(pid);
}

static void log_says(const char *what)
{
	static char text[16384];
	FILE *f = fopen(d.log, "re");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	ck_assert_msg(strstr(text, what) != NULL, "no \"%s\" in: %s", what, text);
}

/* Writers go on over the failure and the restart: what was acknowledged is there, what is not says so. */
static void writers_survive(const char *backend)
{
	struct shale_write_options sync = SHALE_WRITE_OPTIONS_INIT;
	struct shale_db *db;
	char key[32];
	int rc, n;

	proc_init(&d, NULL, backend, NULL);
	proc_start(&d);
	db = proc_open(&d);
	for (n = 0; n < 2000; n++) {
		snprintf(key, sizeof(key), "%08d", n);
		proc_put(db, key, key);
	}
	sync.sync = 1;
	ck_ok(shale_put(db, &sync, "synced", 6, "yes", 3));
	limit_files(4096);
	/* The window keeps what was acknowledged without sync; a sync write must say that nobody knows. */
	rc = shale_put(db, &sync, "unknown", 7, "?", 1);
	ck_assert_msg(rc == -SHALE_EUNKNOWN, "%d: %s", rc, shale_last_error(db));
	ck_assert_int_eq(ended(), 1);
	log_says("the daemon ends");
	proc_start(&d);
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "%08d", i);
		ck_assert_str_eq(proc_get(db, key), key);
	}
	ck_assert_str_eq(proc_get(db, "synced"), "yes");
	ck_ok(shale_put(db, &sync, "after", 5, "all", 3));
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}

START_TEST(log_cannot_be_written)
{
	writers_survive("io.backend=auto");
}
END_TEST

START_TEST(log_cannot_be_written_posix)
{
	writers_survive("io.backend=posix");
}
END_TEST

struct waiter {
	struct shale_db *db;
	int rc, acknowledged;
};

static void *write_until_failure(void *arg)
{
	struct waiter *w = arg;
	char value[1000] = "";

	for (int i = 0; i < 1000000 && w->rc == 0; i++) {
		w->rc = shale_put(w->db, NULL, &i, sizeof(i), value, sizeof(value));
		w->acknowledged += w->rc == 0;
	}
	return NULL;
}

/* Clients in the middle of writing: each gets a failure that is typed, nobody hangs, nothing acknowledged is lost. */
START_TEST(failure_under_load)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct waiter w[3];
	struct shale_db *db;
	pthread_t thread[3];
	int most = 0;

	proc_init(&d, NULL, "engine.write_buffer=1M", NULL);
	proc_start(&d);
	options.reconnect_ms = 300;
	for (int i = 0; i < 3; i++) {
		w[i] = (struct waiter){0};
		ck_ok(shale_open(d.socket, &options, &w[i].db));
		ck_ok(pthread_create(&thread[i], NULL, write_until_failure, &w[i]));
	}
	usleep(50000);
	limit_files(4096);
	for (int i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		ck_assert_msg(w[i].rc == -SHALE_EFAILED || w[i].rc == -SHALE_EUNKNOWN || w[i].rc == -EPIPE ||
				      w[i].rc == -ENOSPC,
			      "%d: %s", w[i].rc, shale_strerror(w[i].rc));
		shale_close(w[i].db);
		most = w[i].acknowledged > most ? w[i].acknowledged : most;
	}
	ck_assert_int_eq(ended(), 1);
	proc_start(&d);
	db = proc_open(&d);
	for (int i = 0; i < most; i++) {
		size_t len;

		ck_ok(shale_get(db, NULL, &i, sizeof(i), NULL, 0, &len));
		ck_assert_uint_eq(len, 1000);
	}
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("failure", 60, log_cannot_be_written, log_cannot_be_written_posix, failure_under_load)
