/*
 * Power losses under load, on real file systems: ext4 and XFS on a loop device are stopped by their shutdown ioctl, which drops what was not
 * synced, then unmounted, mounted and recovered. What was acknowledged as synced must be there, the rest as a prefix. crash.h
 * tells what else must hold.
 *
 * What goes with the power, and how it is played
 *	page cache, device caches   the shutdown: nothing written before it and not synced is there after the mount, but for what the file
 *	                            system wrote back by itself
 *	processes                   SIGKILL, before or after the shutdown; when after, the daemon lives on for a moment with a disk that
 *	                            answers EIO, and may acknowledge no synced write
 *	/dev/shm, with the window   emptied
 *	the boot id                 another one: what tells a window that lies in the directory that its machine has gone down
 *
 * In some rounds only the disk goes (it was unplugged): then the window and the boot id stay, and the window must not be taken for the log's
 * continuation where the file has lost what came before.
 */
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/crash.h"
#include "tests/proc/loopfs.h"

static struct private_daemon d;
static struct loopfs fs;
static struct crash c;

static void kill_daemon(void)
{
	private_daemon_kill(&d);
	c.kills++;
}

static void lose_power(bool machine)
{
	bool kill_first = test_random(&c.seed) % 3 == 0;
	int flush_log = test_random(&c.seed) % 3 == 0;

	if (kill_first)
		kill_daemon();
	c.cut_ns = monotonic_ns();
	loopfs_shutdown(&fs, flush_log);
	c.shutdowns++;
	if (!kill_first) {
		usleep((useconds_t)(test_random(&c.seed) % 4000));
		kill_daemon();
	}
	crash_join(&c);
	if (machine)
		loopfs_reboot();
	loopfs_unmount(&fs);
	loopfs_mount(&fs, NULL);
}

/* A daemon on a fresh file system. False, and a word, when that cannot be had here. */
static bool prepare(const char *type, const char *window)
{
	const char *missing = loopfs_missing(type);
	char path[300];

	if (missing) {
		printf("skipped on %s: %s\n", type, missing);
		return false;
	}
	loopfs_private(64 << 10, 2048);
	loopfs_make(&fs, type, 64, NULL);
	snprintf(path, sizeof(path), "%s/db", fs.root);
	proc_init(&d, path, "engine.write_buffer=64K", "engine.max_file_size=64K", "engine.level1_size=256K",
		  "wal.ring=256K", "limits.max_request=1M", window, NULL);
	proc_start(&d);
	crash_begin(&c, &d, test_seed());
	return true;
}

static void rounds_on(const char *type, const char *window, unsigned rounds)
{
	if (!prepare(type, window))
		return;
	for (unsigned round = 0; round < rounds; round++) {
		crash_load(&c);
		usleep((useconds_t)(1000 + test_random(&c.seed) % 40000));
		lose_power(test_random(&c.seed) % 4 > 0);
		proc_start(&d);
		crash_judge(&c, CRASH_POWER);
	}
	proc_stop(&d);
	crash_end(&c);
	private_daemon_fini(&d);
	loopfs_fini(&fs);
}

START_TEST(on_ext4)
{
	rounds_on("ext4", "wal.window=shm", crash_rounds(10, 30));
}
END_TEST

START_TEST(on_xfs)
{
	rounds_on("xfs", "wal.window=shm", crash_rounds(10, 30));
}
END_TEST

/* The window's file comes back from the dead with whatever the disk has of it. */
START_TEST(window_in_directory)
{
	rounds_on("ext4", "wal.window=directory", crash_rounds(5, 15));
}
END_TEST

START_TEST(window_in_directory_xfs)
{
	rounds_on("xfs", "wal.window=directory", crash_rounds(5, 15));
}
END_TEST

/* Proof that the judge is not blind: what a power loss takes is missed when it is held to the promise of a kill. */
START_TEST(judge_sees_a_loss)
{
	if (!prepare("ext4", "wal.window=shm"))
		return;
	for (unsigned round = 0; round < 20 && !c.lost; round++) {
		crash_load(&c);
		usleep(20000);
		kill_daemon();
		crash_join(&c);
		loopfs_shutdown(&fs, 0);
		loopfs_reboot();
		loopfs_unmount(&fs);
		loopfs_mount(&fs, NULL);
		proc_start(&d);
		crash_judge(&c, CRASH_KILLED);
	}
	ck_assert_uint_gt(c.lost, 0);
	proc_stop(&d);
	private_daemon_fini(&d);
	loopfs_fini(&fs);
}
END_TEST

TEST_MAIN("crash_power", 240, on_ext4, on_xfs, window_in_directory, window_in_directory_xfs, judge_sees_a_loss)
