/*
 * An idle daemon sleeps: no thread of it is woken, with sessions connected or not.
 *
 * The kernel's own workers for io_uring (iou-wrk-…) are listed among a process's threads. The last one of each ring looks
 * around every five seconds for as long as the ring is there; that is the kernel's and not counted here.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum { CLIENTS = 10 };

static struct private_daemon d;

/* Voluntary context switches of all threads: each wait that was entered is one. */
static unsigned long long switches(pid_t pid)
{
	unsigned long long n, sum = 0;
	struct dirent *entry;
	char path[300], line[256];
	bool ours = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, entry->d_name);
		f = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (strncmp(line, "Name:", 5) == 0)
				ours = !strstr(line, "iou-wrk");
			if (ours && sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
				sum += n;
		}
		if (f)
			fclose(f);
	}
	closedir(dir);
	return sum;
}

/* Nothing may move for @seconds; what was begun before may take some time to settle. */
static void expect_silence(unsigned seconds)
{
	unsigned long long before = switches(d.pid), after;

	for (int i = 0; i < 50 * PATIENCE; i++) {
		usleep(200000);
		proc_await_sleep(d.pid); /* one that waits for a core is not silent */
		after = switches(d.pid);
		if (after == before)
			break;
		before = after;
	}
	sleep(seconds);
	after = switches(d.pid);
	ck_assert_msg(after == before, "%llu wake-ups in %u s", after - before, seconds);
}

/* Ten clients that have worked and now hold their sessions, cursors and snapshots. */
static int idle_client(void *arg)
{
	struct shale_snapshot *snapshot;
	struct shale_db *db;

	if (shale_open(d.socket, NULL, &db) < 0 || shale_put(db, NULL, "a", 1, "1", 1) < 0 ||
	    shale_snapshot_take(db, &snapshot) < 0)
		return 1;
	if (write(*(int *)arg, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

START_TEST(no_wake_ups)
{
	pid_t pids[CLIENTS];
	int ready[2];
	char c;

	proc_begin(&d);
	expect_silence(1);
	ck_ok(pipe(ready));
	for (unsigned i = 0; i < CLIENTS; i++)
		pids[i] = proc_fork(idle_client, &ready[1]);
	for (unsigned i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(read(ready[0], &c, 1), 1);
	expect_silence(2);
	for (unsigned i = 0; i < CLIENTS; i++) {
		kill(pids[i], SIGKILL);
		proc_wait(pids[i]);
	}
	expect_silence(1);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("idle", 60 * PATIENCE, no_wake_ups)
