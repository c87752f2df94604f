/*
 * options.autostart: a database directory is enough; the daemon comes and goes by itself, and whoever asks at the same time gets the same one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static char out[1 << 14], *dir;

static void begin(void)
{
	char shaled[600];

	dir = test_tmpdir();
	snprintf(shaled, sizeof(shaled), "%s/shaled", proc_build());
	setenv("SHALED", shaled, 1);
}

static int open_at(const char *where, unsigned connect_ms, struct shale_db **db)
{
	struct shale_options o = SHALE_OPTIONS_INIT;

	o.autostart = 1;
	o.connect_ms = connect_ms ? connect_ms : 30000;
	o.reconnect_ms = 30000;
	return shale_open(where, &o, db);
}

/* The daemon that serves @where: from its region, without asking it. */
static pid_t daemon_of(const char *where)
{
	struct private_daemon d = {0};
	char instance[INSTANCE_LEN + 1];
	struct region region;
	pid_t pid;

	snprintf(d.database, sizeof(d.database), "%s", where);
	ck_ok(private_daemon_instance(&d, instance));
	ck_ok(region_open(&region, instance, NULL));
	pid = (pid_t)region.header->daemon_pid;
	region_close(&region, false);
	return pid;
}

/* Waits until process @pid has ended. */
static void gone(pid_t pid)
{
	for (int i = 0; i < 30000 && kill(pid, 0) == 0; i++)
		usleep(1000);
	ck_assert_int_eq(kill(pid, 0), -1);
}

/* Makes directory and database, leaves no child and no SIGCHLD behind, and ends when its client has gone; what was written is there next time. */
START_TEST(comes_and_goes)
{
	struct shale_db *db;
	char path[600];
	sigset_t set, pending;
	pid_t pid;

	begin();
	snprintf(path, sizeof(path), "%s/new", dir);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ck_assert_msg(open_at(path, 0, &db) == 0, "%s", shale_last_error(NULL));
	sigpending(&pending);
	ck_assert_int_eq(sigismember(&pending, SIGCHLD), 0);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG | __WALL), -1); /* no child of any kind */
	proc_put(db, "k", "v");
	pid = daemon_of(path);
	ck_assert_int_ne(getpgid(pid), getpgid(0));
	shale_close(db);
	gone(pid);
	ck_assert_msg(open_at(path, 0, &db) == 0, "%s", shale_last_error(NULL));
	ck_assert_str_eq(proc_get(db, "k"), "v");
	ck_assert_int_ne(daemon_of(path), pid);
	pid = daemon_of(path);
	shale_close(db);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

/* It gets nothing of the program's: no descriptor, no ignored signal, no working directory. */
START_TEST(inherits_nothing)
{
	char link[256], path[64];
	struct shale_db *db;
	int mine = open("/dev/zero", O_RDONLY); /* not close-on-exec */
	struct dirent *entry;
	ssize_t n;
	pid_t pid;
	DIR *fds;

	begin();
	signal(SIGUSR2, SIG_IGN);
	ck_assert_msg(open_at(dir, 0, &db) == 0, "%s", shale_last_error(NULL));
	pid = daemon_of(dir);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = opendir(path);
	ck_assert_ptr_nonnull(fds);
	while ((entry = readdir(fds))) {
		n = readlinkat(dirfd(fds), entry->d_name, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		ck_assert_str_ne(link, "/dev/zero");
	}
	closedir(fds);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "grep SigIgn /proc/%d/status", (int)pid), 0);
	ck_assert_uint_eq(strtoull(strchr(out, ':') + 1, NULL, 16) >> (SIGUSR2 - 1) & 1, 0);
	snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
	n = readlink(path, link, sizeof(link));
	ck_assert_int_eq(n, 1);
	close(mine);
	shale_close(db);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

static struct {
	_Atomic int go;
	_Atomic int pids[16];
} * shared;

static int racer(void *arg)
{
	int i = (int)(intptr_t)arg;
	struct shale_db *db;
	char key[24];

	while (!atomic_load(&shared->go))
		;
	if (open_at(dir, 60000, &db) < 0) {
		fprintf(stderr, "racer: %s\n", shale_last_error(NULL));
		return 1;
	}
	snprintf(key, sizeof(key), "racer%d", i);
	if (shale_put(db, NULL, key, strlen(key), "x", 1) != 0)
		return 2;
	atomic_store(&shared->pids[i], daemon_of(dir));
	while (atomic_load(&shared->go) < 2) /* so that the daemon stays */
		usleep(1000);
	shale_close(db);
	return 0;
}

/* Several processes at the same moment: one daemon, and each write is in its database. */
START_TEST(one_daemon_for_all)
{
	enum { N = 6 };
	struct shale_db *db;
	char key[24];
	pid_t child[N], pid = 0;

	begin();
	shared = proc_shared(sizeof(*shared));
	for (int i = 0; i < N; i++)
		child[i] = proc_fork(racer, (void *)(intptr_t)i);
	atomic_store(&shared->go, 1);
	for (int i = 0; i < N; i++) {
		for (int k = 0; k < 60000 && !atomic_load(&shared->pids[i]) && waitpid(child[i], NULL, WNOHANG) == 0;
		     k++)
			usleep(1000);
		ck_assert_int_ne(atomic_load(&shared->pids[i]), 0);
		pid = pid ? pid : atomic_load(&shared->pids[i]);
		ck_assert_int_eq(atomic_load(&shared->pids[i]), pid);
	}
	ck_ok(open_at(dir, 0, &db));
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "racer%d", i);
		ck_assert_str_eq(proc_get(db, key), "x");
	}
	atomic_store(&shared->go, 2);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(proc_wait(child[i]), 0);
	proc_put(db, "still", "there"); /* with one client left it stays */
	ck_assert_int_eq(daemon_of(dir), pid);
	shale_close(db);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

/* A private daemon that was killed is started again by the call that misses it, and has what was acknowledged. */
START_TEST(killed_daemon_is_started_again)
{
	struct shale_db *db;
	pid_t pid;

	begin();
	ck_ok(open_at(dir, 0, &db));
	proc_put(db, "k", "v");
	pid = daemon_of(dir);
	kill(pid, SIGKILL);
	gone(pid);
	ck_assert_str_eq(proc_get(db, "k"), "v");
	pid = daemon_of(dir);
	shale_close(db);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

/* Failures have words: no program; a database that cannot be opened, with what shaled said; one that somebody else has open. */
START_TEST(failures_have_words)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct shale_db *db;
	char path[600];
	int fd, rc;
	pid_t child;

	begin();
	snprintf(path, sizeof(path), "%s/CURRENT", dir);
	fd = open(path, O_WRONLY | O_CREAT, 0644);
	ck_assert_int_eq(write(fd, "nonsense", 8), 8);
	close(fd);
	rc = open_at(dir, 0, &db);
	ck_assert_int_eq(rc, -SHALE_EFAILED);
	ck_assert_msg(strstr(shale_last_error(NULL), "CURRENT"), "%s", shale_last_error(NULL));
	unlink(path);

	snprintf(path, sizeof(path), "%s/LOCK", dir);
	child = fork();
	if (child == 0) {
		fd = open(path, O_RDWR | O_CREAT, 0644);
		fcntl(fd, F_SETLK, &lock);
		pause();
		_exit(0);
	}
	for (int i = 0; i < 10000; i++, usleep(1000)) {
		fd = open(path, O_RDWR);
		lock.l_type = F_WRLCK;
		rc = fd < 0 ? -1 : fcntl(fd, F_GETLK, &lock);
		close(fd);
		if (rc == 0 && lock.l_type != F_UNLCK)
			break;
	}
	rc = open_at(dir, 300, &db);
	ck_assert_int_eq(rc, -SHALE_ELOCKED);
	kill(child, SIGKILL);
	proc_wait(child);

	setenv("SHALED", "/nowhere/shaled", 1);
	rc = open_at(dir, 0, &db);
	ck_assert_int_eq(rc, -SHALE_EFAILED);
	ck_assert_ptr_nonnull(strstr(shale_last_error(NULL), "$SHALED"));
	test_rmtree(dir);
}
END_TEST

/* The program may be named from the caller's directory, which the daemon leaves before it begins. */
START_TEST(named_from_here)
{
	struct shale_db *db;
	char path[600];
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;
	pid_t pid;

	begin();
	snprintf(path, sizeof(path), "%s/new", dir);
	ck_assert_int_eq(chdir(proc_build()), 0);
	setenv("SHALED", "./shaled", 1);
	rc = open_at(path, 0, &db);
	ck_assert_int_eq(fchdir(here), 0);
	ck_assert_msg(rc == 0, "%s", shale_last_error(NULL));
	close(here);
	pid = daemon_of(path);
	shale_close(db);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

static bool leads_to(pid_t pid, int fd, const char *end)
{
	char path[64], link[700];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	return n > 0 && (size_t)n >= strlen(end) && strcmp(link + n - strlen(end), end) == 0;
}

/* A program that has closed its standard descriptors gets pipe and sockets in their places; the daemon has its own there all the same. */
START_TEST(standard_descriptors)
{
	struct shale_options o = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	pid_t child, pid;

	begin();
	child = fork();
	if (child == 0) {
		for (int fd = 0; fd < 4; fd++)
			close(fd);
		if (open_at(dir, 0, &db) == 0)
			pause();
		_exit(1);
	}
	o.connect_ms = 30000; /* it is the child that starts it */
	ck_assert_msg(shale_open(dir, &o, &db) == 0, "%s", shale_last_error(NULL));
	pid = daemon_of(dir);
	ck_assert(leads_to(pid, 0, "/dev/null"));
	ck_assert(leads_to(pid, 1, "/shaled.log"));
	ck_assert(leads_to(pid, 2, "/shaled.log"));
	shale_close(db);
	kill(child, SIGKILL);
	proc_wait(child);
	gone(pid);
	test_rmtree(dir);
}
END_TEST

TEST_MAIN("autostart", 120, comes_and_goes, inherits_nothing, named_from_here, standard_descriptors, one_daemon_for_all,
	  killed_daemon_is_started_again, failures_have_words)
