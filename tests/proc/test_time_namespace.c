/*
 * A client whose CLOCK_MONOTONIC is not the daemon's: it lives in another time namespace, as in a container with one of its own.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum { MINUTE_US = 60000000 };
enum { NO_NAMESPACE = 77 };

static struct private_daemon d;

/* Calls and operations of a queue with a deadline that is far off. */
static int calls(void)
{
	const struct shale_options options = {.struct_size = sizeof(options), .deadline_us = MINUTE_US};
	struct shale_snapshot *snapshot;
	struct shale_iter *it;
	struct shale_db *db;
	struct shale_completion done;
	struct shale_queue *q;

	ck_ok(shale_open(d.socket, &options, &db));
	proc_put(db, "key", "value");
	ck_assert_str_eq(proc_get(db, "key"), "value");
	ck_ok(shale_snapshot_take(db, &snapshot));
	shale_snapshot_release(db, snapshot);
	ck_ok(shale_iter_open(db, NULL, &it));
	shale_iter_seek_first(it);
	ck_assert(shale_iter_valid(it));
	shale_iter_close(it);
	ck_ok(shale_queue_open(db, NULL, &q));
	ck_ok(shale_submit_put(q, NULL, "key", 3, "other", 5, NULL));
	ck_assert_int_eq(shale_wait(q, &done, 1, UINT64_MAX), 1);
	ck_ok(done.result);
	shale_queue_close(q);
	shale_close(db);
	return 0;
}

static int client(void *arg)
{
	(void)arg;
	return calls();
}

static int enter(void *arg)
{
	char words[64];
	int fd, n = snprintf(words, sizeof(words), "monotonic %lld 0\n", (long long)*(int64_t *)arg);

	if (unshare(CLONE_NEWTIME) < 0)
		return NO_NAMESPACE;
	fd = open("/proc/self/timens_offsets", O_WRONLY);
	if (fd < 0 || write(fd, words, (size_t)n) != n)
		return NO_NAMESPACE;
	close(fd);
	return proc_wait(proc_fork(client, arg)); /* children are in it */
}

/* Whose clock is ahead, or behind by half of what it shows, has its answers before its deadlines. (What the daemon is told exactly: client/test_calls.) */
START_TEST(deadlines_are_the_same_moment)
{
	int64_t up_s = (int64_t)(monotonic_ns() / 1000000000), off_s[] = {3600, -up_s / 2, 0};

	proc_begin(&d);
	for (unsigned i = 0; i < ARRAY_SIZE(off_s); i++) {
		int code = off_s[i] ? proc_wait(proc_fork(enter, &off_s[i])) : calls();

		if (code == NO_NAMESPACE)
			printf("no time namespace can be made here (root, Linux 5.6): only the usual case is tested\n");
		else
			ck_assert_int_eq(code, 0);
	}
	proc_stop(&d);
}
END_TEST

TEST_MAIN("time_namespace", 60, deadlines_are_the_same_moment)
