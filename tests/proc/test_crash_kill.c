/*
 * The daemon is killed under load: at random moments, while it recovers, and at each named point of its code. Nothing that was
 * acknowledged may be missing, synced or not. crash.h tells what else must hold.
 *
 * Some rounds in `make check`, many in `make crash`.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/crash.h"
#include "tests/proc/loopfs.h"

static struct private_daemon d;
static struct crash c;
static struct loopfs fs;

/*
 * Small everything, so that a few milliseconds see flushes, compactions and new logs. A file system in memory, where that can be had: a kill
 * leaves the page cache alone, so nothing depends on the disk but the number of rounds in a minute.
 */
static void begin(const char *setting)
{
	bool in_memory = !loopfs_missing("ext4");
	uint64_t seed = test_seed();
	char path[300];

	if (in_memory) {
		loopfs_private(64 << 10, 2048);
		loopfs_make(&fs, "ext4", 128, NULL);
		snprintf(path, sizeof(path), "%s/db", fs.root);
	}
	proc_init(&d, in_memory ? path : NULL, "engine.write_buffer=64K", "engine.max_file_size=64K",
		  "engine.level1_size=256K", "wal.ring=256K", "limits.max_request=1M", setting, NULL);
	proc_start(&d);
	crash_begin(&c, &d, seed);
}

static void finish(void)
{
	proc_stop(&d);
	crash_end(&c);
	private_daemon_fini(&d);
	if (fs.type)
		loopfs_fini(&fs);
}

static void kill_now(void)
{
	private_daemon_kill(&d);
	c.kills++;
}

/* Every fourth time the next daemons are killed as well, while they recover. */
static void at_random(const char *setting, unsigned rounds)
{
	struct err_info err;

	begin(setting);
	for (unsigned round = 0; round < rounds; round++) {
		crash_load(&c);
		usleep((useconds_t)(test_random(&c.seed) % 40000));
		kill_now();
		crash_join(&c);
		for (unsigned again = test_random(&c.seed) % 4 ? 0 : 1 + test_random(&c.seed) % 3; again; again--) {
			ck_ok(private_daemon_spawn(&d, &err));
			usleep((useconds_t)(test_random(&c.seed) % 10000));
			kill_now();
		}
		proc_start(&d);
		crash_judge(&c, CRASH_KILLED);
	}
	finish();
}

START_TEST(window_in_shm)
{
	at_random("wal.window=shm", crash_rounds(20, 80));
}
END_TEST

/* For places where /dev/shm does not outlive the daemon. */
START_TEST(window_in_directory)
{
	at_random("wal.window=directory", crash_rounds(6, 25));
}
END_TEST

START_TEST(without_io_uring)
{
	at_random("io.backend=posix", crash_rounds(6, 25));
}
END_TEST

#ifdef SHALE_DEBUG

/* When the daemon comes to a point. */
enum when { RUNNING, RECOVERING, CLOSING };

struct point {
	const char *name;
	enum when when;
	unsigned often; /* how many visits there surely are in one round: it is killed at one of them */
};

/* The order is that of a record's way: the window, the log, the table, the MANIFEST, deletion; then recovery and the end. */
static const struct point points[] = {
	{"write_numbered", RUNNING, 100},
	{"record_framed", RUNNING, 100},
	{"write_committed", RUNNING, 100},
	{"large_part_framed", RUNNING, 8},
	{"large_committed", RUNNING, 3},
	{"answers_published", RUNNING, 100},
	{"log_written", RUNNING, 20},
	{"log_synced", RUNNING, 10},
	{"log_allocated", RUNNING, 4},
	{"log_ended", RUNNING, 4},
	{"log_gap_published", RUNNING, 4},
	{"log_entry_filled", RUNNING, 4},
	{"log_retired", RUNNING, 4},
	{"table_written", RUNNING, 4},
	{"flush_built", RUNNING, 4},
	{"flush_directory_synced", RUNNING, 4},
	{"manifest_appended", RUNNING, 4},
	{"manifest_synced", RUNNING, 4},
	{"flush_installed", RUNNING, 4},
	{"compaction_built", RUNNING, 2},
	{"compaction_installed", RUNNING, 2},
	{"obsolete_unlinked", RUNNING, 8},
	{"window_written_back", RECOVERING, 1},
	{"table_written", RECOVERING, 1},
	{"replay_flushed", RECOVERING, 1},
	{"log_allocated", RECOVERING, 1},
	{"manifest_begun", RECOVERING, 1},
	{"current_temp_written", RECOVERING, 1},
	{"current_renamed", RECOVERING, 1},
	{"recovery_installed", RECOVERING, 1},
	{"obsolete_unlinked", RECOVERING, 1},
	{"recovery_swept", RECOVERING, 1},
	{"window_distrusted", RECOVERING, 1},
	{"log_entry_filled", RECOVERING, 1},
	{"close_truncated", CLOSING, 1},
	{"close_window_emptied", CLOSING, 1},
};

/* True when the daemon, which was started with a point, died of it within @ms. */
static bool dies(unsigned ms)
{
	for (unsigned waited = 0; waited < ms * PATIENCE; waited++, usleep(1000)) {
		if (waitpid(d.pid, &d.status, WNOHANG) != d.pid)
			continue;
		d.pid = 0;
		ck_assert_msg(WIFSIGNALED(d.status) && WTERMSIG(d.status) == SIGKILL, "ended with status %#x\n%s",
			      (unsigned)d.status, proc_log_tail(&d));
		c.kills++;
		return true;
	}
	return false;
}

/* Starts a daemon that dies at the point. False: it died before it served. */
static bool start_doomed(const struct point *p, unsigned visit)
{
	struct err_info err = {0};
	char text[80];
	int rc;

	snprintf(text, sizeof(text), "%s:%u", p->name, visit);
	setenv("SHALE_KILL_POINT", text, 1);
	rc = private_daemon_spawn(&d, &err);
	unsetenv("SHALE_KILL_POINT");
	ck_ok(rc);
	while ((rc = private_daemon_try(&d, 5, &err)) == 0)
		usleep(1000);
	if (rc > 0)
		return true;
	ck_assert_msg(!d.pid && WIFSIGNALED(d.status) && WTERMSIG(d.status) == SIGKILL, "%s: %s\n%s", p->name, err.text,
		      proc_log_tail(&d));
	c.kills++;
	return false;
}

/* Starts a daemon that dies at the point, and puts it under load if it lives to see any. Returns whether it died there. */
static bool run_doomed(const struct point *p)
{
	bool reached;

	if (!start_doomed(p, 1 + (unsigned)(test_random(&c.seed) % p->often)))
		return true;
	crash_load(&c);
	if (p->when == CLOSING) {
		usleep((useconds_t)(test_random(&c.seed) % 20000));
		kill(d.pid, SIGTERM);
	}
	reached = dies(p->when == CLOSING ? 10000 : 1500);
	if (!reached)
		kill_now();
	crash_join(&c);
	return reached;
}

/* One cycle around one point, from a daemon that serves to one that serves. Returns whether the point was reached. */
static bool one_round(const struct point *p)
{
	static const struct point undrained = {"write_committed", RUNNING, 300};
	bool reached;

	proc_stop(&d);
	if (p->when == RECOVERING) {
		run_doomed(&undrained); /* it leaves a record in its window, for the next one to find */
		reached = !start_doomed(p, 1);
		if (!reached)
			kill_now();
	} else {
		reached = run_doomed(p);
	}
	proc_start(&d);
	crash_judge(&c, CRASH_KILLED);
	return reached;
}

/* Each point is reached, or it protects nothing that anybody looks at. */
START_TEST(at_each_point)
{
	unsigned rounds = crash_rounds(1, 2);

	begin("wal.window=shm");
	for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
		unsigned reached = 0, tries = 0;

		while (reached < rounds && tries++ < rounds + 10)
			reached += one_round(&points[i]);
		ck_assert_msg(reached >= rounds, "%s: reached %u times in %u tries", points[i].name, reached, tries);
	}
	finish();
}
END_TEST

#else

START_TEST(at_each_point)
{
	printf("skipped: this build has no named points (make crash BUILD=debug has)\n");
}
END_TEST

#endif

TEST_MAIN("crash_kill", 240, window_in_shm, window_in_directory, without_io_uring, at_each_point)
