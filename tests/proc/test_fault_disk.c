/*
 * Disks as users meet them: full, failing, gone read-only. Each fault has a real cause. What clients are told, what goes on meanwhile,
 * what heals by itself, and with which code and words the daemon ends where it must.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/proc/loopfs.h"
#include "tests/proc/proc.h"

/* shaled's exit codes, as its help tells them. */
enum { EXIT_FAILED_ = 1, EXIT_PERMISSION = 5, EXIT_DISK_FULL = 8 };

static struct private_daemon d;
static struct loopfs fs;
static char words[4096];

/* A daemon's directory on a small file system. False, and a word, when that cannot be had here. */
static bool prepare(const char *type, size_t mib, size_t place_mib, const char *options)
{
	const char *missing = loopfs_missing(type);
	char path[300];

	if (missing) {
		printf("skipped on %s: %s\n", type, missing);
		return false;
	}
	loopfs_private(64 << 10, place_mib);
	loopfs_make(&fs, type, mib, options);
	snprintf(path, sizeof(path), "%s/db", fs.root);
	proc_init(&d, path, "engine.write_buffer=256K", "engine.max_file_size=256K", "engine.level1_size=512K",
		  "engine.block_cache=64K", "wal.ring=256K", "limits.max_request=128K", NULL);
	return true;
}

static void done(void)
{
	private_daemon_fini(&d);
	loopfs_fini(&fs);
}

static int put_number(struct shale_db *db, unsigned n, bool sync)
{
	struct shale_write_options how = SHALE_WRITE_OPTIONS_INIT;
	char value[4096];
	uint64_t seed = n + 1;

	how.sync = sync;
	for (size_t at = 0; at < sizeof(value); at += 8) { /* nothing that compresses */
		uint64_t word = test_random(&seed);

		memcpy(value + at, &word, 8);
	}
	return shale_put(db, &how, &n, sizeof(n), value, sizeof(value));
}

/* All of [0, count) are there. */
static void check_numbers(struct shale_db *db, unsigned count)
{
	char value[4096];
	size_t len;

	for (unsigned n = 0; n < count; n++) {
		uint64_t seed = n + 1, word = test_random(&seed);
		int rc = shale_get(db, NULL, &n, sizeof(n), value, sizeof(value), &len);

		ck_assert_msg(rc == 0, "number %u of %u: %d %s", n, count, rc, shale_last_error(db));
		ck_assert_uint_eq(len, sizeof(value));
		ck_assert_mem_eq(value, &word, 8);
	}
}

/* The daemon ends by itself, with @code. */
static void ends_with(int code)
{
	for (int i = 0; i < 3000 * PATIENCE && d.pid; i++, usleep(10000))
		if (waitpid(d.pid, &d.status, WNOHANG) == d.pid)
			d.pid = 0;
	ck_assert_int_eq(d.pid, 0);
	ck_assert_msg(WIFEXITED(d.status) && WEXITSTATUS(d.status) == code, "it ended with status %#x",
		      (unsigned)d.status);
}

static void log_says(const char *what)
{
	static char text[65536];
	FILE *f = fopen(d.log, "re");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	ck_assert_msg(strstr(text, what) != NULL, "no \"%s\" in: %s", what, text);
}

/* What must hold once the disk is whole again: numbers below @synced are there, and writes go on. */
static void recovers(unsigned synced)
{
	struct shale_db *db;

	proc_start(&d);
	db = proc_open(&d);
	check_numbers(db, synced);
	ck_ok(put_number(db, synced, true));
	shale_close(db);
	proc_stop(&d);
}

/* ---- full ---- */

/* Writes on from @n until a write is refused for lack of space. Returns the first number that is not there. */
static unsigned write_until_full(struct shale_db *db, unsigned n)
{
	int rc = 0;

	while (rc == 0 && n < 100000) {
		rc = put_number(db, n, n % 16 == 0);
		n += rc == 0;
	}
	ck_assert_msg(rc == -ENOSPC, "%d: %s\n%s", rc, shale_last_error(db), proc_log_tail(&d));
	ck_assert_ptr_nonnull(strstr(shale_last_error(db), "space"));
	return n;
}

/* It takes writes again, without anybody telling it. */
static void goes_on_by_itself(struct shale_db *db, unsigned n)
{
	int rc = -ENOSPC;

	for (int i = 0; i < 1000 * PATIENCE && rc == -ENOSPC; i++) {
		rc = put_number(db, n, true);
		if (rc < 0)
			usleep(10000);
	}
	ck_assert_msg(rc == 0, "%d: %s", rc, shale_last_error(db));
}

/* The region tells of it, and that it is over, for whoever looks later. */
static void told_as_events(void)
{
	char events[1 << 14];

	for (int i = 0; i < 1000 * PATIENCE; i++, usleep(10000)) {
		ck_assert_int_eq(
			proc_shell(events, sizeof(events), "%s/shalectl --db %s events", proc_build(), d.database), 0);
		if (strstr(events, "  resumed "))
			break;
	}
	ck_assert_msg(strstr(events, "  error    paused ") && strstr(events, "No space left") &&
			      strstr(events, "  resumed "),
		      "%s", events);
}

static void fill_up(const char *type)
{
	struct shale_db *db, *other;
	char path[300];
	unsigned n;

	if (!prepare(type, 24, 512, NULL))
		return;
	proc_start(&d);
	db = proc_open(&d);
	other = proc_open(&d);
	loopfs_fill(fs.root, "precious", 10 << 20);
	snprintf(path, sizeof(path), "%s/precious", fs.root);
	n = write_until_full(db, 0);
	ck_assert_uint_gt(n, 100);
	check_numbers(other, n); /* reads go on, and nothing that was acknowledged is missing */
	ck_ok(shale_ping(other));
	shale_close(proc_open(&d)); /* and so do comings and goings */
	ck_ok(unlink(path));
	goes_on_by_itself(db, n++);
	check_numbers(other, n);
	told_as_events();
	/* Once more, and killed there. Recovery writes tables: without room it is refused, and nothing is harmed. */
	loopfs_fill(fs.root, "precious", 2 << 20);
	n = write_until_full(db, n);
	shale_close(db);
	shale_close(other);
	private_daemon_kill(&d);
	loopfs_fill(fs.root, "more", 0);
	ck_assert_int_eq(proc_refused(&d, words, sizeof(words)), EXIT_DISK_FULL);
	ck_assert_msg(strstr(words, fs.root) != NULL && strstr(words, "No space left") != NULL, "%s", words);
	ck_ok(unlink(path));
	recovers(n);
	done();
}

START_TEST(full_tmpfs)
{
	fill_up("tmpfs");
}
END_TEST

START_TEST(full_ext4)
{
	fill_up("ext4");
}
END_TEST

/* Too full for a new database: its own code, and the directory's name. */
START_TEST(full_from_the_beginning)
{
	if (!prepare("tmpfs", 1, 64, NULL))
		return;
	loopfs_fill(fs.root, "precious", 0);
	ck_assert_int_eq(proc_refused(&d, words, sizeof(words)), EXIT_DISK_FULL);
	ck_assert_msg(strstr(words, fs.root) != NULL && strstr(words, "pace") != NULL, "%s", words);
	done();
}
END_TEST

/* ---- failing ---- */

/* Waits until nothing is left to do in the background: what it would meet with on a broken disk ends the daemon. */
static void be_quiet(void)
{
	do
		proc_await_sleep(d.pid);
	while (proc_stats(&d).jobs_running);
}

/* The device is gone: reads of what is not in memory say so one by one; the first sync ends it, and says that nobody knows. */
static void device_gone(const char *type)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db, *other;
	char value[4096];
	unsigned n, cold = 0;
	size_t len;
	int rc;

	if (!prepare(type, 64, 512, NULL))
		return;
	proc_start(&d);
	options.reconnect_ms = 100;
	ck_ok(shale_open(d.socket, &options, &db));
	ck_ok(shale_open(d.socket, &options, &other));
	for (n = 0; n < 500; n++)
		ck_ok(put_number(db, n, false));
	ck_ok(shale_compact_range(db, NULL, 0, NULL, 0)); /* so that nothing is left to do in the background */
	for (; n < 510; n++)
		ck_ok(put_number(db, n, true));
	/* Tables that are in no cache: the daemon's holds 64 KiB, and the kernel's is dropped with the next mount. */
	proc_stop(&d);
	loopfs_unmount(&fs);
	loopfs_mount(&fs, NULL);
	proc_start(&d);
	options.reconnect_ms = 5000;
	shale_close(db);
	shale_close(other);
	ck_ok(shale_open(d.socket, &options, &db));
	ck_ok(put_number(db, n++, true));
	options.reconnect_ms = 100;
	ck_ok(shale_open(d.socket, &options, &other));
	be_quiet();
	loopfs_shutdown(&fs, 0);
	for (unsigned i = 0; i < n - 1; i++) {
		rc = shale_get(other, NULL, &i, sizeof(i), value, sizeof(value), &len);
		ck_assert_msg(rc == 0 || rc == -EIO, "%d: %s", rc, shale_last_error(other));
		cold += rc == -EIO;
	}
	ck_assert_uint_gt(cold, 0);
	/* What is in memory is still served, and the daemon lives. */
	n--;
	ck_ok(shale_get(other, NULL, &n, sizeof(n), value, sizeof(value), &len));
	n++;
	ck_assert_int_eq(waitpid(d.pid, &d.status, WNOHANG), 0);
	shale_close(db);
	ck_ok(shale_open(d.socket, &options, &db));
	rc = put_number(db, n, true);
	ck_assert_msg(rc == -SHALE_EUNKNOWN, "%d: %s", rc, shale_last_error(db));
	ends_with(EXIT_FAILED_);
	log_says("Input/output error");
	log_says("the daemon ends");
	rc = shale_get(other, NULL, &n, sizeof(n), value, sizeof(value), &len);
	ck_assert_msg(rc == -EPIPE, "%d: %s", rc, shale_last_error(other));
	shale_close(db);
	shale_close(other);
	loopfs_unmount(&fs);
	loopfs_mount(&fs, NULL);
	recovers(n);
	done();
}

START_TEST(device_gone_ext4)
{
	device_gone("ext4");
}
END_TEST

START_TEST(device_gone_xfs)
{
	device_gone("xfs");
}
END_TEST

/*
 * The page cache takes what is written, and the device does not: it has become shorter. Linux tells of it at the next sync, once. Nothing may
 * be acknowledged as synced from there on.
 */
static void sync_fails(const char *type, const char *backend)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	unsigned n = 0;
	int rc;

	if (!prepare(type, 64, 512, NULL))
		return;
	private_daemon_arg(&d, "--set");
	private_daemon_arg(&d, backend);
	proc_start(&d);
	options.reconnect_ms = 100;
	ck_ok(shale_open(d.socket, &options, &db));
	for (; n < 20; n++)
		ck_ok(put_number(db, n, true));
	be_quiet();
	loopfs_shorten(&fs, 64 << 10);
	rc = put_number(db, n, true);
	ck_assert_msg(rc == -SHALE_EUNKNOWN, "%d: %s", rc, shale_last_error(db));
	ends_with(EXIT_FAILED_);
	log_says("the daemon ends");
	shale_close(db);
	loopfs_shorten(&fs, 0);
	loopfs_unmount(&fs);
	loopfs_mount(&fs, NULL);
	recovers(n);
	done();
}

START_TEST(sync_fails_ext4)
{
	sync_fails("ext4", "io.backend=io_uring");
}
END_TEST

START_TEST(sync_fails_ext4_posix)
{
	sync_fails("ext4", "io.backend=posix");
}
END_TEST

START_TEST(sync_fails_xfs)
{
	sync_fails("xfs", "io.backend=io_uring");
}
END_TEST

/* ---- read-only ---- */

/* The kernel found an error and made the file system read-only (errors=remount-ro), as it does for many users. */
START_TEST(remounted_read_only)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	char path[300];
	unsigned n = 0;
	int rc, fd;

	if (!prepare("ext4", 64, 512, "errors=remount-ro"))
		return;
	snprintf(path, sizeof(path), "/sys/fs/ext4/%s/trigger_fs_error", fs.device + strlen("/dev/"));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("skipped: %s is not there\n", path);
		done();
		return;
	}
	proc_start(&d);
	options.reconnect_ms = 100;
	ck_ok(shale_open(d.socket, &options, &db));
	for (; n < 100; n++)
		ck_ok(put_number(db, n, true));
	be_quiet(); /* a memtable was full */
	ck_assert_int_gt(write(fd, "test", 4), 0);
	close(fd);
	check_numbers(db, n);
	rc = put_number(db, n, true);
	ck_assert_msg(rc == -SHALE_EUNKNOWN, "%d: %s", rc, shale_last_error(db));
	ends_with(EXIT_FAILED_);
	log_says("Read-only file system");
	shale_close(db);
	ck_assert_int_eq(proc_refused(&d, words, sizeof(words)), EXIT_PERMISSION);
	ck_assert_msg(strstr(words, "read-only file system; ") != NULL, "%s", words);
	loopfs_unmount(&fs);
	loopfs_mount(&fs, NULL);
	recovers(n);
	done();
}
END_TEST

/* Nothing is changed by the attempt: after the remount all is there. */
START_TEST(read_only_from_the_beginning)
{
	struct shale_db *db;
	int rc = -1;

	if (!prepare("tmpfs", 32, 64, NULL))
		return;
	proc_start(&d);
	db = proc_open(&d);
	ck_ok(put_number(db, 0, false));
	shale_close(db);
	private_daemon_kill(&d); /* the window holds it */
	/* The kernel takes a killed process's rings, and with them its files, down at leisure. */
	for (int i = 0; i < 1000 * PATIENCE && rc < 0; i++, usleep(10000))
		rc = mount(NULL, fs.root, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	ck_assert_msg(rc == 0, "remount: %m");
	ck_assert_int_eq(proc_refused(&d, words, sizeof(words)), EXIT_PERMISSION);
	ck_assert_msg(strstr(words, d.database) != NULL && strstr(words, "read-only") != NULL, "%s", words);
	ck_ok(mount(NULL, fs.root, NULL, MS_REMOUNT, NULL));
	recovers(1);
	done();
}
END_TEST

TEST_MAIN("fault_disk", 60 * PATIENCE, full_tmpfs, full_ext4, full_from_the_beginning, device_gone_ext4,
	  device_gone_xfs, sync_fails_ext4, sync_fails_ext4_posix, sync_fails_xfs, remounted_read_only,
	  read_only_from_the_beginning)
