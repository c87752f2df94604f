/*
 * Clients die and stop at random moments: the others go on, and what the dead held is given back.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;

struct baseline {
	uint64_t sessions, snapshots;
	unsigned fds;
	int segments;
};

static struct baseline measure(void)
{
	struct region_stats s = proc_stats(&d);

	return (struct baseline){s.sessions, s.snapshots, proc_fds(d.pid), private_daemon_segments(&d)};
}

/* Everything that can happen in a client at once: writes, reads, an open cursor, pinned snapshots. */
static int busy_client(void *arg)
{
	_Atomic uint64_t *progress = arg;
	struct shale_snapshot *snapshot;
	char key[32], value[512] = {1};
	struct shale_iter *it;
	struct shale_db *db;
	size_t len;

	if (shale_open(d.socket, NULL, &db) < 0 || shale_iter_open(db, NULL, &it) < 0)
		return 1;
	for (unsigned i = 0;; i++) {
		size_t n = (size_t)sprintf(key, "%d-%u", (int)getpid(), i % 1000);

		if (shale_put(db, NULL, key, n, value, sizeof(value)) < 0 ||
		    shale_get(db, NULL, key, n, value, sizeof(value), &len) != 0)
			return 2;
		if (i % 64 == 0 && i < 640 && shale_snapshot_take(db, &snapshot) < 0)
			return 3;
		if (i % 128 == 0) {
			shale_iter_seek_first(it);
			for (unsigned k = 0; k < 100 && shale_iter_valid(it); k++)
				shale_iter_next(it);
		}
		atomic_fetch_add(progress, 1);
	}
}

/* Waits until the daemon holds no more than @want. A second is promised; sanitizers get longer. Returns ms. */
static double wait_for_baseline(struct baseline want)
{
	uint64_t begin = monotonic_ns();
	struct baseline now;
	double ms;

	for (;;) {
		now = measure();
		ms = (double)(monotonic_ns() - begin) / 1e6;
		if (now.sessions <= want.sessions && now.snapshots <= want.snapshots && now.fds <= want.fds &&
		    now.segments <= want.segments)
			return ms;
		ck_assert_msg(ms < 1000 * PATIENCE,
			      "after %.0f ms: sessions %llu (before: %llu), snapshots %llu (%llu), descriptors %u "
			      "(%u), segments %d (%d)",
			      ms, (unsigned long long)now.sessions, (unsigned long long)want.sessions,
			      (unsigned long long)now.snapshots, (unsigned long long)want.snapshots, now.fds, want.fds,
			      now.segments, want.segments);
		usleep(2000);
	}
}

static void wait_for_progress(_Atomic uint64_t *counter, uint64_t steps)
{
	uint64_t target = atomic_load(counter) + steps;

	for (int i = 0; atomic_load(counter) < target; i++, usleep(1000))
		ck_assert_msg(i < 5000 * PATIENCE, "no progress");
}

/* A killed client's session, pins, descriptors and memory go; the one beside it works on. */
START_TEST(killed)
{
	_Atomic uint64_t *progress = proc_shared(2 * sizeof(*progress));
	uint64_t seed = test_seed();
	struct baseline before;
	double worst = 0;
	pid_t healthy;

	/* So large a memtable is not flushed here: tables and logs would change the number of descriptors. */
	proc_init(&d, NULL, "engine.write_buffer=512M", NULL);
	proc_start(&d);
	healthy = proc_fork(busy_client, &progress[0]);
	wait_for_progress(&progress[0], 1000);
	before = measure();
	for (unsigned i = 0; i < 20; i++) {
		pid_t victim = proc_fork(busy_client, &progress[1]);
		double ms;

		if (i % 4)
			wait_for_progress(&progress[1], 1 + test_random(&seed) % 1000);
		else
			usleep((useconds_t)(test_random(&seed) % 5000)); /* perhaps in the handshake */
		kill(victim, SIGKILL);
		ck_assert_int_eq(proc_wait(victim), -SIGKILL);
		ms = wait_for_baseline(before);
		if (ms > worst)
			worst = ms;
		wait_for_progress(&progress[0], 100);
	}
	printf("20 clients killed; all was given back within %.0f ms\n", worst);
	kill(healthy, SIGKILL);
	ck_assert_int_eq(proc_wait(healthy), -SIGKILL);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Stopped clients hold nobody up, go on when they may, and are cleaned away like others when they are killed. */
START_TEST(stopped)
{
	_Atomic uint64_t *progress = proc_shared(5 * sizeof(*progress));
	struct baseline before;
	pid_t victims[4];
	uint64_t seed = test_seed();
	struct shale_db *db;
	char key[32];

	/* So large a memtable is not flushed here: tables and logs would change the number of descriptors. */
	proc_init(&d, NULL, "engine.write_buffer=512M", NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	before = measure();
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 4; i++) {
			victims[i] = proc_fork(busy_client, &progress[i]);
			wait_for_progress(&progress[i], 1 + test_random(&seed) % 200);
			kill(victims[i], SIGSTOP);
		}
		for (unsigned i = 0; i < 2000; i++) {
			sprintf(key, "healthy-%u", i);
			proc_put(db, key, key);
			ck_assert_str_eq(proc_get(db, key), key);
		}
		for (unsigned i = 0; i < 2; i++) {
			kill(victims[i], SIGCONT);
			wait_for_progress(&progress[i], 50);
		}
		for (unsigned i = 0; i < 4; i++) {
			kill(victims[i], SIGKILL);
			ck_assert_int_eq(proc_wait(victims[i]), -SIGKILL);
		}
		wait_for_baseline(before);
	}
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("kill_client", 60 * PATIENCE, killed, stopped)
