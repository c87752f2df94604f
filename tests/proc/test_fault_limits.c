/*
 * What a system may refuse to a daemon: shared memory, locked memory, io_uring, large files; and clocks that jump. Descriptors are in
 * test_sessions.c. What is refused, in which words, what goes on meanwhile, and what heals by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/proc/loopfs.h"
#include "tests/proc/proc.h"

enum { EXIT_FAILED_ = 1, EXIT_DISK_FULL = 8 };

static struct private_daemon d;
static char words[4096];

static bool log_says(const char *what)
{
	static char text[65536];
	FILE *f = fopen(d.log, "re");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	return strstr(text, what) != NULL;
}

/* A write, a read, and another process's view of both. */
static void serves(const char *key)
{
	struct shale_write_options sync = SHALE_WRITE_OPTIONS_INIT;
	struct shale_db *db = proc_open(&d);

	sync.sync = 1;
	ck_ok(shale_put(db, &sync, key, strlen(key), "yes", 3));
	ck_ok(shale_flush(db));
	ck_assert_str_eq(proc_get(db, key), "yes");
	shale_close(db);
}

/* ---- shared memory ---- */

static void resize_shm(unsigned kib)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%uk", kib);
	ck_assert_msg(mount(NULL, "/dev/shm", NULL, MS_REMOUNT, options) == 0, "remount: %m");
}

/* Too little for the daemon: refused with words that name the place. Too little for one more client: that one is refused, nobody else notices. */
START_TEST(shm_full)
{
	struct shale_options large = SHALE_OPTIONS_INIT;
	static char value[60000], back[60000];
	struct shale_db *db, *other, *late[16];
	unsigned late_count = 0;
	size_t len;
	int rc;

	if (loopfs_missing("tmpfs")) {
		printf("skipped: %s\n", loopfs_missing("tmpfs"));
		return;
	}
	loopfs_private(100, 64);
	proc_init(&d, NULL, "wal.ring=256K", "limits.max_request=128K", "service.arena=64K", NULL);
	ck_assert_int_eq(proc_refused(&d, words, sizeof(words)), EXIT_DISK_FULL);
	ck_assert_msg(strstr(words, "/dev/shm") != NULL && strstr(words, "enlarge it") != NULL, "%s", words);
	ck_assert_int_eq(private_daemon_segments(&d), 0);
	resize_shm(8192);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "before", "1");
	loopfs_fill("/dev/shm", "precious", 16 << 10);
	/* Sessions that were closed just now may give their memory back only after the place was filled. Those who get it keep it. */
	while ((rc = shale_open(d.socket, NULL, &other)) == 0) {
		ck_assert_uint_lt(late_count, ARRAY_SIZE(late));
		late[late_count++] = other;
	}
	ck_assert_msg(rc == -ENOSPC || rc == -ENOMEM, "%d: %s", rc, shale_last_error(NULL));
	ck_assert_msg(strstr(shale_last_error(NULL), "/dev/shm") != NULL, "%s", shale_last_error(NULL));
	/* A handle that would need a larger channel is told as well, and is as good as before. */
	rc = shale_put(db, NULL, "large", 5, value, sizeof(value));
	ck_assert_msg(rc == 0 || rc == -ENOSPC || rc == -ENOMEM, "%d: %s", rc, shale_last_error(db));
	proc_put(db, "meanwhile", "2");
	ck_assert_str_eq(proc_get(db, "before"), "1");
	ck_ok(unlink("/dev/shm/precious"));
	while (late_count)
		shale_close(late[--late_count]);
	large.arena_bytes = 256 << 10;
	ck_ok(shale_open(d.socket, &large, &other));
	ck_ok(shale_put(other, NULL, "large", 5, value, sizeof(value)));
	ck_ok(shale_get(db, NULL, "large", 5, back, sizeof(back), &len));
	ck_assert_uint_eq(len, sizeof(value));
	shale_close(other);
	shale_close(db);
	/* A killed one leaves its segments there; the next takes their place, though there is room for no more than a channel. */
	private_daemon_kill(&d);
	loopfs_fill("/dev/shm", "precious", 100 << 10);
	proc_start(&d);
	ck_ok(unlink("/dev/shm/precious"));
	db = proc_open(&d);
	ck_assert_str_eq(proc_get(db, "meanwhile"), "2");
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- locked memory ---- */

/* No memory may be locked, by nobody however mighty: it serves, and if it does so without io_uring, it says why. */
START_TEST(no_locked_memory)
{
	const struct rlimit none = {0, 0};

	ck_ok(setrlimit(RLIMIT_MEMLOCK, &none));
	prctl(PR_CAPBSET_DROP, 14 /* CAP_IPC_LOCK */); /* who may not drop it does not have it */
	proc_begin(&d);
	serves("key");
	ck_assert(log_says("io_uring;") || log_says("the memlock limit (ulimit -l) is too low"));
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- io_uring ---- */

/* From here on io_uring_setup answers @error in this process and its children, as in a container. */
static void forbid_io_uring(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_SIZE(filter), filter};

	ck_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ck_ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void without_io_uring(int error, const char *reason)
{
	forbid_io_uring(error);
	proc_begin(&d);
	ck_assert_msg(log_says("I/O by posix") && log_says(reason), "no \"%s\" in its log", reason);
	serves("first");
	private_daemon_kill(&d);
	proc_start(&d);
	serves("second");
	proc_stop(&d);
	private_daemon_fini(&d);
	/* Who insists is told, too, and what to do. */
	proc_init(&d, NULL, "io.backend=io_uring", NULL);
	ck_assert_int_ne(proc_refused(&d, words, sizeof(words)), 0);
	ck_assert_msg(strstr(words, reason) != NULL && strstr(words, "posix") != NULL, "%s", words);
	private_daemon_fini(&d);
}

START_TEST(io_uring_forbidden)
{
	without_io_uring(EPERM, "io_uring is forbidden");
}
END_TEST

START_TEST(io_uring_hidden)
{
	without_io_uring(ENOSYS, "no io_uring");
}
END_TEST

/* ---- file sizes ---- */

static int put_number(struct shale_db *db, unsigned n)
{
	char value[2048];
	uint64_t seed = n + 1;

	for (size_t at = 0; at < sizeof(value); at += 8) { /* nothing that compresses */
		uint64_t word = test_random(&seed);

		memcpy(value + at, &word, 8);
	}
	return shale_put(db, NULL, &n, sizeof(n), value, sizeof(value));
}

static void limit_files(rlim_t bytes)
{
	struct rlimit before, tight;

	ck_ok(prlimit(d.pid, RLIMIT_FSIZE, NULL, &before));
	tight = (struct rlimit){bytes, before.rlim_max};
	ck_ok(prlimit(d.pid, RLIMIT_FSIZE, &tight, NULL));
}

/* A limit that logs stay below and merged tables do not: background work waits as on a full disk, and goes on when the limit is gone. */
START_TEST(tables_over_the_limit)
{
	struct region_stats stats;
	struct shale_db *db;
	unsigned n = 0, limit;
	int rc = 0;

	proc_init(&d, NULL, "engine.write_buffer=64K", "engine.max_file_size=1M", NULL);
	proc_start(&d);
	db = proc_open(&d);
	ck_ok(put_number(db, 0)); /* its channel is there before the limit, which holds for shared memory as well */
	limit_files(400 << 10);
	for (; n < 5000 && rc == 0; n++)
		rc = put_number(db, (n * 7919) % 100000); /* all over, so that tables overlap */
	ck_assert_msg(rc == -ENOSPC, "%d after %u: %s", rc, n, shale_last_error(db));
	limit = n - 1;
	ck_assert(log_says("File too large"));
	for (n = 0; n < limit; n++) {
		unsigned key = (n * 7919) % 100000;
		size_t len;

		ck_ok(shale_get(db, NULL, &key, sizeof(key), NULL, 0, &len));
	}
	limit_files(RLIM_INFINITY);
	for (int i = 0; i < 1000 * PATIENCE && rc == -ENOSPC; i++, usleep(10000))
		rc = put_number(db, 0);
	ck_assert_msg(rc == 0, "%d: %s", rc, shale_last_error(db));
	for (int i = 0; i < 1000 * PATIENCE && !(stats = proc_stats(&d)).compactions; i++)
		usleep(10000);
	ck_assert_uint_gt(stats.compactions, 0);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- clocks ---- */

/* The children to come live @seconds ahead of us: what another boot of the machine may bring. */
static bool shift_clock(long seconds)
{
	char text[64];
	int fd, rc;

	if (unshare(CLONE_NEWTIME) < 0)
		return false;
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	snprintf(text, sizeof(text), "monotonic %ld 0\nboottime %ld 0\n", seconds, seconds);
	rc = fd < 0 ? -1 : (int)write(fd, text, strlen(text));
	if (fd >= 0)
		close(fd);
	return rc > 0;
}

/* A client whose clock is the daemon's: a deadline neither comes at once nor never. */
static int waits_in_time(void *arg)
{
	struct shale_write_options soon = SHALE_WRITE_OPTIONS_INIT;
	struct shale_db *db = proc_open(&d);
	const char *key = arg ? "ahead" : "behind";
	int rc;

	soon.sync = 1;
	soon.deadline_us = 20000000;
	rc = shale_put(db, &soon, key, strlen(key), "yes", 3);
	shale_close(db);
	return rc != 0;
}

/*
 * The clock that the daemon lives by is months ahead of that of the daemon after it, and of a client's elsewhere. Data, deadlines, job
 * records and the statistics page must not mind.
 */
START_TEST(clock_jumps)
{
	int before = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	struct shale_db *db;

	proc_init(&d, NULL, "engine.write_buffer=64K", NULL);
	if (before < 0 || !shift_clock(10000000)) {
		printf("skipped: no time namespaces, or not root\n");
		private_daemon_fini(&d);
		return;
	}
	proc_start(&d);
	ck_assert_int_eq(proc_wait(proc_fork(waits_in_time, &d)), 0);
	serves("elsewhere");
	db = proc_open(&d);
	for (unsigned n = 0; n < 200; n++)
		ck_ok(put_number(db, n));
	private_daemon_kill(&d);
	ck_ok(setns(before, CLONE_NEWTIME));
	proc_start(&d);
	ck_assert_str_eq(proc_get(db, "ahead"), "yes");
	ck_assert_str_eq(proc_get(db, "elsewhere"), "yes");
	ck_assert_int_eq(proc_wait(proc_fork(waits_in_time, NULL)), 0);
	for (unsigned n = 200; n < 400; n++)
		ck_ok(put_number(db, n));
	ck_ok(shale_flush(db));
	ck_assert_uint_gt(proc_stats(&d).flushes, 0);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
	close(before);
}
END_TEST

/* ---- modes ---- */

/* The socket has the mode that was asked for whatever the umask is, and files have the umask's, though they are made at the same time. */
START_TEST(modes)
{
	struct stat st;
	char out[2000];

	umask(022);
	for (int i = 0; i < 5; i++) {
		proc_init(&d, NULL, "access.mode=0660", NULL);
		proc_start(&d);
		ck_ok(stat(d.socket, &st));
		ck_assert_uint_eq(st.st_mode & 0777, 0660);
		ck_assert_int_eq(proc_shell(out, sizeof(out), "find %s -type f ! -perm 644", d.database), 0);
		ck_assert_str_eq(out, "");
		proc_stop(&d);
		private_daemon_fini(&d);
	}
}
END_TEST

TEST_MAIN("fault_limits", 60 * PATIENCE, shm_full, no_locked_memory, io_uring_forbidden, io_uring_hidden,
	  tables_over_the_limit, clock_jumps, modes)
