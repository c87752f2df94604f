/*
 * Who gets a session and who does not; what a session's end depends on; what a supervisor hears.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/handshake.h"
#include "tests/proc/proc.h"

static struct private_daemon d;

static int connect_raw(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, d.socket);
	ck_assert_int_ge(fd, 0);
	ck_ok(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

/* Waits for a refusal on a raw connection. True when it came, with its status. */
static bool refused(int fd, int timeout_ms, struct welcome *w)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n = -1;

	if (poll(&p, 1, timeout_ms) <= 0)
		return false;
	for (int i = 0; i < 2 && n < 0; i++) /* a reset is told once, before what came earlier */
		n = recv(fd, w, sizeof(*w), MSG_DONTWAIT);
	ck_assert_int_eq(n, sizeof(*w));
	ck_assert_uint_eq(w->magic, WELCOME_MAGIC);
	return true;
}

static void wait_for_sessions(uint64_t n)
{
	for (int i = 0; proc_stats(&d).sessions != n; i++, usleep(10000))
		ck_assert_int_lt(i, 200 * PATIENCE);
}

/* ---- access ---- */

static int as_user(void *arg)
{
	uid_t uid = *(uid_t *)arg;
	struct shale_db *db;
	char buf[8];
	size_t len;
	int rc;

	if (setuid(uid) < 0)
		return 99;
	rc = shale_open(d.socket, NULL, &db);
	if (rc < 0)
		return rc == -EACCES && strstr(shale_last_error(NULL), "access.uids") ? 10 : 11;
	if (shale_get(db, NULL, "a", 1, buf, sizeof(buf), &len) != 0)
		return 12;
	rc = shale_put(db, NULL, "b", 1, "2", 1);
	if (rc == 0)
		return 0;
	return rc == -EROFS ? 20 : 21;
}

/* The lists decide by what the kernel says of the peer: who is in none is refused in words, who may only read cannot write. */
START_TEST(access_lists)
{
	struct shale_db *db;

	if (getuid() != 0) {
		printf("not root: cannot become somebody else; skipped\n");
		return;
	}
	proc_init(&d, NULL, "access.mode=0666", "access.uids=0,65533", "access.read_only_uids=65534", NULL);
	ck_ok(chmod(d.scratch, 0711));
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_assert_int_eq(proc_wait(proc_fork(as_user, &(uid_t){65533})), 0);
	ck_assert_int_eq(proc_wait(proc_fork(as_user, &(uid_t){65534})), 20);
	ck_assert_int_eq(proc_wait(proc_fork(as_user, &(uid_t){65532})), 10);
	ck_assert_str_eq(proc_get(db, "b"), "2");
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- how many ---- */

/* A user's sessions are counted: one too many is refused in words, and there is room again when one has ended. */
START_TEST(sessions_of_a_user)
{
	struct shale_db *db[3], *more;
	int rc = 0;

	proc_init(&d, NULL, "limits.sessions_per_uid=3", NULL);
	proc_start(&d);
	wait_for_sessions(0);
	for (int i = 0; i < 3; i++)
		db[i] = proc_open(&d);
	ck_assert_int_eq(shale_open(d.socket, NULL, &more), -EUSERS);
	ck_assert_msg(strstr(shale_last_error(NULL), "sessions_per_uid") != NULL, "%s", shale_last_error(NULL));
	/* A call needs a session, too. */
	ck_assert_int_eq(shale_ping(db[0]), -EUSERS);
	shale_close(db[1]);
	for (int i = 0; i < 200 * PATIENCE && (rc = shale_ping(db[0])) == -EUSERS; i++)
		usleep(10000);
	ck_ok(rc);
	shale_close(db[0]);
	shale_close(db[2]);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* So is the shared memory that they take; a larger channel than there is room for is refused, a smaller one is not. */
START_TEST(memory_of_a_user)
{
	struct shale_options large = SHALE_OPTIONS_INIT;
	struct shale_db *db, *more;

	proc_init(&d, NULL, "limits.memory_per_uid=4M", NULL);
	proc_start(&d);
	wait_for_sessions(0);
	large.arena_bytes = 5 << 20;
	ck_ok(shale_open(d.socket, &large, &db)); /* the main session has a small arena of its own */
	ck_assert_int_eq(shale_ping(db), -EDQUOT);
	ck_assert_msg(strstr(shale_last_error(db), "memory_per_uid") != NULL, "%s", shale_last_error(db));
	more = proc_open(&d);
	ck_ok(shale_ping(more));
	shale_close(more);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Who connects and says nothing is told to go after a while, and holds up nobody meanwhile. */
START_TEST(silent_connection)
{
	struct shale_db *db;
	struct welcome w;
	char byte;
	int fd;

	proc_init(&d, NULL, "limits.handshake_ms=100", NULL);
	proc_start(&d);
	fd = connect_raw();
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_assert(refused(fd, 5000 * PATIENCE, &w));
	ck_assert_int_eq(w.status, -ETIMEDOUT);
	ck_assert_msg(strstr(w.text, "handshake_ms") != NULL, "%s", w.text);
	ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
	close(fd);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* One user's silent connections are bounded, and are not counted once they are closed. */
START_TEST(many_silent_connections)
{
	enum { MANY = 100 };
	struct welcome w;
	int fd[MANY], n = 0;

	proc_init(&d, NULL, "limits.handshake_ms=600000", NULL);
	proc_start(&d);
	for (bool told = false; n < MANY && !told; n++) {
		fd[n] = connect_raw();
		if (n >= 30)
			told = refused(fd[n], 200, &w);
	}
	ck_assert_int_lt(n, MANY);
	ck_assert_int_eq(w.status, -EAGAIN);
	while (n)
		close(fd[--n]);
	shale_close(proc_open(&d));
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Without descriptors left the daemon says so to whoever comes, serves those it has, and takes in others as soon as it can. */
START_TEST(no_descriptors)
{
	enum { MANY = 64 };
	struct rlimit before, tight;
	struct shale_db *db;
	struct welcome w;
	int fd[MANY], n = 0;

	proc_init(&d, NULL, "limits.handshake_ms=600000", NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, NULL, &before));
	tight = (struct rlimit){proc_fds(d.pid), before.rlim_max};
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, &tight, NULL));
	for (bool told = false; n < MANY && !told; n++) {
		fd[n] = connect_raw();
		told = refused(fd[n], 300 * PATIENCE, &w);
	}
	ck_assert_int_lt(n, MANY);
	ck_assert_int_eq(w.status, -EMFILE);
	ck_assert_msg(strstr(w.text, "ulimit -n") != NULL, "%s", w.text);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	proc_put(db, "b", "2");
	while (n)
		close(fd[--n]);
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL));
	shale_close(proc_open(&d));
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* When even the engine finds no descriptor for its next file, it waits for one: the daemon lives, and goes on when there are some. */
START_TEST(engine_without_descriptors)
{
	struct rlimit before, tight;
	static char value[8192];
	struct shale_db *db;
	char key[16];
	int rc = 0, n;

	proc_init(&d, NULL, "engine.write_buffer=64K", NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, NULL, &before));
	tight = (struct rlimit){4, before.rlim_max};
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, &tight, NULL));
	for (n = 0; n < 1000 && rc == 0; n++) {
		snprintf(key, sizeof(key), "%08d", n);
		rc = shale_put(db, NULL, key, strlen(key), value, sizeof(value));
	}
	ck_assert_int_lt(rc, 0);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	ck_ok(prlimit(d.pid, RLIMIT_NOFILE, &before, NULL));
	for (int i = 0; i < 500 * PATIENCE && rc < 0; i++, usleep(10000))
		rc = shale_put(db, NULL, key, strlen(key), value, sizeof(value));
	ck_assert_msg(rc == 0, "%d: %s", rc, shale_last_error(db));
	ck_assert_int_eq(waitpid(d.pid, NULL, WNOHANG), 0);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Sessions are not given out to the last descriptor: the engine's own files need some. */
START_TEST(few_descriptors)
{
	struct shale_db *db[64];
	char wrapper[128];
	int n = 0, rc = 0;
	FILE *f;

	proc_init(&d, NULL, NULL);
	snprintf(wrapper, sizeof(wrapper), "%s/shaled", d.scratch);
	f = fopen(wrapper, "we");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "#!/bin/sh\nulimit -n 128\nexec %s \"$@\"\n", d.program);
	fclose(f);
	ck_ok(chmod(wrapper, 0755));
	strcpy(d.program, wrapper);
	proc_start(&d);
	wait_for_sessions(0);
	while (n < 64 && (rc = shale_open(d.socket, NULL, &db[n])) == 0)
		n++;
	ck_assert_int_eq(rc, -EUSERS);
	ck_assert_msg(strstr(shale_last_error(NULL), "ulimit") != NULL, "%s", shale_last_error(NULL));
	ck_assert_int_ge(n, 10);
	shale_close(db[--n]);
	wait_for_sessions((uint64_t)n);
	proc_put(db[0], "a", "1");
	ck_ok(shale_flush(db[0]));
	ck_assert_str_eq(proc_get(db[0], "a"), "1");
	while (n)
		shale_close(db[--n]);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- ends ---- */

static int linger(void *arg)
{
	ssize_t ignored = read(*(int *)arg, &(char){0}, 1);

	(void)ignored;
	return 0;
}

/* A child that was forked holds copies of its parent's sockets; what the parent closes is over nevertheless. */
START_TEST(children_keep_no_session)
{
	struct shale_snapshot *snapshot;
	struct shale_db *db;
	int ends[2];
	pid_t child;

	proc_begin(&d);
	wait_for_sessions(0);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_ok(shale_snapshot_take(db, &snapshot));
	ck_ok(pipe(ends));
	child = proc_fork(linger, &ends[0]);
	shale_snapshot_release(db, snapshot);
	shale_close(db);
	wait_for_sessions(0);
	ck_assert_int_eq(write(ends[1], "", 1), 1);
	ck_assert_int_eq(proc_wait(child), 0);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

static int walk_on(void *arg)
{
	struct shale_iter *it = arg;

	while (shale_iter_valid(it))
		shale_iter_next(it);
	return shale_iter_error(it) == -SHALE_EFORKED ? 0 : 1;
}

/* A child that moves its parent's iterator gets to the end of the chunk that it inherited, and is then told. */
START_TEST(child_walks_on)
{
	struct shale_iter *it;
	struct shale_db *db;
	char key[16];

	proc_begin(&d);
	db = proc_open(&d);
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "%08d", i);
		proc_put(db, key, "a value of some length, so that one chunk cannot hold them all");
	}
	ck_ok(shale_iter_open(db, NULL, &it));
	shale_iter_seek_first(it);
	ck_assert(shale_iter_valid(it));
	ck_assert_int_eq(proc_wait(proc_fork(walk_on, it)), 0);
	shale_iter_close(it);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

struct load {
	struct shale_db *db;
	_Atomic bool stop;
	unsigned number;
	int rc, written;
};

static void *write_steadily(void *arg)
{
	struct shale_write_options sync = SHALE_WRITE_OPTIONS_INIT;
	struct load *l = arg;
	char key[32];

	for (; !atomic_load(&l->stop) && l->rc == 0; l->written++) {
		snprintf(key, sizeof(key), "%u-%08d", l->number, l->written);
		sync.sync = l->written % 64 == 0;
		l->rc = shale_put(l->db, &sync, key, strlen(key), key, strlen(key));
	}
	return NULL;
}

/* A clean end under load answers what it took: no write's fate is unknown, and none that was acknowledged is missing. */
START_TEST(clean_restarts_under_load)
{
	struct load load[2];
	pthread_t thread[2];
	struct shale_db *db;
	char key[32];

	proc_begin(&d);
	db = proc_open(&d);
	for (unsigned i = 0; i < 2; i++) {
		load[i] = (struct load){.db = db, .number = i};
		ck_ok(pthread_create(&thread[i], NULL, write_steadily, &load[i]));
	}
	for (int round = 0; round < 4; round++) {
		usleep(100000);
		proc_stop(&d);
		proc_start(&d);
	}
	for (unsigned i = 0; i < 2; i++) {
		atomic_store(&load[i].stop, true);
		pthread_join(thread[i], NULL);
		ck_assert_msg(load[i].rc == 0, "%d: %s", load[i].rc, shale_strerror(load[i].rc));
		ck_assert_int_gt(load[i].written, 0);
		for (int k = 0; k < load[i].written; k += 7) {
			const char *value;

			snprintf(key, sizeof(key), "%u-%08d", i, k);
			value = proc_get(db, key);
			ck_assert_msg(value && !strcmp(value, key), "%s is missing", key);
		}
	}
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* SIGTERM while it recovers: it ends, cleanly if it had come so far as to take notice, and what was there stays. */
START_TEST(ended_while_recovering)
{
	uint64_t seed = test_seed();
	static char value[4096];
	struct err_info err = {0};
	struct shale_db *db;
	char key[32];

	signal(SIGTERM, SIG_DFL); /* until the new program runs, it would have Check's handler */
	proc_begin(&d);
	for (int round = 0; round < 6; round++) {
		db = proc_open(&d);
		for (int i = 0; i < 1500; i++) {
			snprintf(key, sizeof(key), "%d-%d", round, i);
			ck_ok(shale_put(db, NULL, key, strlen(key), value, sizeof(value)));
		}
		shale_close(db);
		private_daemon_kill(&d);
		ck_ok(private_daemon_spawn(&d, &err));
		usleep((useconds_t)(test_random(&seed) % 20000));
		private_daemon_stop(&d);
		ck_assert_msg((WIFEXITED(d.status) && WEXITSTATUS(d.status) == 0) ||
				      (WIFSIGNALED(d.status) && WTERMSIG(d.status) == SIGTERM),
			      "status %#x", (unsigned)d.status);
		proc_start(&d);
	}
	db = proc_open(&d);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 1500; i++) {
			size_t len = 0;

			snprintf(key, sizeof(key), "%d-%d", round, i);
			ck_ok(shale_get(db, NULL, key, strlen(key), value, sizeof(value), &len));
			ck_assert_uint_eq(len, sizeof(value));
		}
	}
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- the supervisor ---- */

/* Waits for the message that begins with @what. Others may come before it: STATUS, more time. */
static void heard(int fd, const char *what)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char text[512] = "";
	ssize_t n;

	while (strncmp(text, what, strlen(what)) != 0) {
		ck_assert_msg(poll(&p, 1, 5000 * PATIENCE) == 1, "not heard: %s; last: %s", what, text);
		n = recv(fd, text, sizeof(text) - 1, 0);
		ck_assert_int_gt(n, 0);
		text[n] = 0;
		/* Whoever hears that it is ready, or that it ends, hears it once, and in this order. */
		ck_assert_msg(strncmp(text, "STOPPING=1", 10) != 0 || strcmp(what, "STOPPING=1") == 0, "%s", text);
	}
}

/* A supervisor hears READY=1 when clients can connect, not before, and STOPPING=1. */
START_TEST(notified)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	proc_init(&d, NULL, NULL);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/notify", d.scratch);
	ck_ok(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	setenv("NOTIFY_SOCKET", addr.sun_path, 1);
	ck_ok(private_daemon_spawn(&d, &(struct err_info){0}));
	heard(fd, "READY=1");
	shale_close(proc_open(&d));
	proc_stop(&d);
	heard(fd, "STOPPING=1");
	unsetenv("NOTIFY_SOCKET");
	close(fd);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("sessions", 60, access_lists, sessions_of_a_user, memory_of_a_user, silent_connection,
	  many_silent_connections, no_descriptors, engine_without_descriptors, few_descriptors,
	  children_keep_no_session, child_walks_on, clean_restarts_under_load, ended_while_recovering, notified)
