#include "shm/handshake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/layout.h"
#include "tests/test.h"

static struct hello good_hello(void)
{
	return (struct hello){
		.magic = HELLO_MAGIC,
		.size = sizeof(struct hello),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
	};
}

static struct welcome good_welcome(void)
{
	return (struct welcome){
		.magic = WELCOME_MAGIC,
		.size = sizeof(struct welcome),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
		.session = 42,
		.channel_size = 8192,
		.region_size = 4096,
		.rows_size = 4096,
		.max_request_bytes = 1 << 20,
	};
}

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- a daemon in a thread, that answers as it is told ---- */

struct fake {
	char *dir;
	char path[256];
	int listener;
	/* What it does with the one client that comes. */
	struct welcome w;
	const void *raw; /* sent instead of w when not NULL */
	size_t raw_size;
	unsigned nfds;
	bool silent; /* hangs up without a word */
	bool mute;   /* keeps the connection and says nothing */
	bool early;  /* answers without reading HELLO */
	int fds[WELCOME_FDS + 1];
	long got; /* what handshake_receive said */
	struct hello hello;
	pthread_t thread;
};

static void fake_open(struct fake *f, int type)
{
	struct sockaddr_un addr;
	socklen_t len;
	int dirfd;

	*f = (struct fake){.dir = test_tmpdir(), .w = good_welcome(), .nfds = WELCOME_FDS};
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	f->listener = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	ck_ok(socket_address(f->path, &addr, &len, &dirfd));
	ck_assert_int_eq(dirfd, -1);
	ck_ok(bind(f->listener, (struct sockaddr *)&addr, len));
	if (type != SOCK_DGRAM)
		ck_ok(listen(f->listener, 8));
	for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++) {
		f->fds[i] = memfd_create("segment", MFD_CLOEXEC);
		ck_ok(ftruncate(f->fds[i], 8192));
	}
}

static void fake_close(struct fake *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++)
		close(f->fds[i]);
	close(f->listener);
	test_rmtree(f->dir);
	free(f->dir);
}

/* As handshake_send, but any bytes and any number of descriptors. */
static void send_raw(int fd, const void *bytes, size_t size, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static void *fake_run(void *arg)
{
	struct fake *f = arg;
	int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	unsigned stray = 0;

	if (!f->early) {
		poll(&p, 1, 5000);
		f->got = handshake_receive(fd, &f->hello, sizeof(f->hello), &stray);
	}
	if (f->mute)
		poll(&p, 1, 5000); /* until the client hangs up */
	else if (f->raw)
		send_raw(fd, f->raw, f->raw_size, f->fds, f->nfds);
	else if (!f->silent && f->nfds <= WELCOME_FDS)
		handshake_send(fd, &f->w, f->fds, f->nfds);
	else if (!f->silent)
		send_raw(fd, &f->w, sizeof(f->w), f->fds, f->nfds);
	close(fd);
	return NULL;
}

static void fake_start(struct fake *f)
{
	ck_ok(pthread_create(&f->thread, NULL, fake_run, f));
}

/*
 * One handshake against @f as it is set up; must fail with @want, with words that contain @words, and leave nothing
 * open.
 */
static void refused(struct fake *f, int want, const char *words)
{
	struct hello hello = good_hello();
	struct welcome w = {.session = 777};
	struct err_info err = {0};
	int before = open_fds(), socket = 77, fds[WELCOME_FDS] = {77, 77, 77}, rc;

	fake_start(f);
	rc = handshake_connect(f->path, &hello, 2000, &socket, &w, fds, &err);
	ck_ok(pthread_join(f->thread, NULL));
	ck_assert_msg(rc == want, "got %s (%s), wanted %s", error_name(rc), err.text, error_name(want));
	ck_assert_int_eq(err.code, want);
	ck_assert_msg(strstr(err.text, words) != NULL, "no \"%s\" in: %s", words, err.text);
	ck_assert_int_eq(open_fds(), before);
	ck_assert_int_eq(socket, 77);
	ck_assert_int_eq(fds[0], 77);
	ck_assert_uint_eq(w.session, 777);
}

/* The good case: fields and three descriptors arrive, close-on-exec, the same files; the socket stays open. */
START_TEST(welcome_brings_descriptors)
{
	struct fake f;
	struct hello hello = good_hello();
	struct welcome w;
	struct err_info err;
	struct stat a, b;
	int socket, fds[WELCOME_FDS];

	fake_open(&f, SOCK_SEQPACKET);
	hello.arena_size = 12345;
	fake_start(&f);
	ck_ok(handshake_connect(f.path, &hello, 2000, &socket, &w, fds, &err));
	ck_ok(pthread_join(f.thread, NULL));
	ck_assert_int_eq(f.got, sizeof(struct hello));
	ck_assert_uint_eq(f.hello.arena_size, 12345);
	ck_assert_uint_eq(w.session, 42);
	for (int i = 0; i < WELCOME_FDS; i++) {
		ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		ck_ok(fstat(fds[i], &a));
		ck_ok(fstat(f.fds[i], &b));
		ck_assert_uint_eq(a.st_ino, b.st_ino);
		close(fds[i]);
	}
	ck_assert_int_eq(fcntl(socket, F_GETFD), FD_CLOEXEC);
	close(socket);
	fake_close(&f);
}
END_TEST

/*
 * A refusal's status and words reach the caller as they are, also when it came before HELLO was read; control
 * characters do not.
 */
START_TEST(refusals_are_passed_on)
{
	struct fake f;

	fake_open(&f, SOCK_SEQPACKET);
	f.w.status = -EDQUOT;
	f.nfds = 0;
	snprintf(f.w.text, sizeof(f.w.text), "uid 1000 has 64 sessions\x1b[2J already");
	refused(&f, -EDQUOT, "uid 1000 has 64 sessions [2J already");
	f.early = true;
	refused(&f, -EDQUOT, "uid 1000");
	f.w.text[0] = '\0';
	refused(&f, -EDQUOT, shale_strerror(-EDQUOT));
	memset(f.w.text, 'x', sizeof(f.w.text)); /* no NUL */
	refused(&f, -EDQUOT, "xxx");
	f.nfds = WELCOME_FDS; /* a refusal with descriptors leaks none */
	refused(&f, -EDQUOT, "xxx");
	fake_close(&f);
}
END_TEST

/* Another protocol version or layout is told in words, whatever else of the message has changed. */
START_TEST(other_versions_are_named)
{
	struct fake f;
	unsigned char longer[900] = {0};

	fake_open(&f, SOCK_SEQPACKET);
	f.w.abi = 4711;
	refused(&f, -SHALE_EABI, "version 4711");
	f.w = good_welcome();
	f.w.fingerprint ^= 1;
	refused(&f, -SHALE_EABI, "matching versions");
	f.w = good_welcome();
	f.w.size = 900;
	memcpy(longer, &f.w, sizeof(f.w));
	f.raw = longer;
	f.raw_size = sizeof(longer);
	refused(&f, -SHALE_EABI, "900 bytes");
	f.raw_size = 16; /* the head that never changes is enough */
	refused(&f, -SHALE_EABI, "matching versions");
	fake_close(&f);
}
END_TEST

/* What is not shaled is called so: garbage, short answers, a hang-up without a word. */
START_TEST(strangers_are_told_apart)
{
	static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	struct fake f;

	fake_open(&f, SOCK_SEQPACKET);
	f.raw = http;
	f.raw_size = sizeof(http);
	refused(&f, -SHALE_ENOTSHALE, "not shaled");
	f.raw = &f.w;
	f.raw_size = 15;
	refused(&f, -SHALE_ENOTSHALE, "not shaled");
	f.raw = NULL;
	f.silent = true;
	refused(&f, -SHALE_ENOTSHALE, "hung up");
	f.early = true;
	refused(&f, -SHALE_ENOTSHALE, "hung up");
	fake_close(&f);
}
END_TEST

/* Too few or too many descriptors, or segments shorter than said, are refused, and every one that came is closed. */
START_TEST(wrong_descriptors_are_refused)
{
	struct fake f;

	fake_open(&f, SOCK_SEQPACKET);
	for (unsigned n = 0; n <= WELCOME_FDS + 1; n++) {
		f.nfds = n;
		if (n != WELCOME_FDS)
			refused(&f, -EPROTO, "");
	}
	f.nfds = WELCOME_FDS;
	f.w.channel_size = 8193;
	refused(&f, -EPROTO, "shorter");
	f.w = good_welcome();
	f.w.region_size = UINT64_MAX;
	refused(&f, -EPROTO, "shorter");
	f.w = good_welcome();
	f.w.channel_size = 0;
	refused(&f, -EPROTO, "shorter");
	f.w = good_welcome();
	f.w.rows_size = 8193;
	refused(&f, -EPROTO, "shorter");
	f.w = good_welcome();
	f.w.status = 1;
	refused(&f, -EPROTO, "makes no sense");
	fake_close(&f);
}
END_TEST

/* A daemon that accepts and says nothing costs the time limit, not for ever; so does one that does not even accept. */
START_TEST(silence_times_out)
{
	struct fake f;
	struct hello hello = good_hello();
	struct welcome w;
	struct err_info err;
	int sock, fds[WELCOME_FDS], before, held[64], n = 0, rc;

	fake_open(&f, SOCK_SEQPACKET);
	f.mute = true;
	fake_start(&f);
	before = open_fds();
	ck_assert_int_eq(handshake_connect(f.path, &hello, 30, &sock, &w, fds, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "did not answer"));
	ck_ok(pthread_join(f.thread, NULL));
	/* Fill the backlog; then nobody gets in. */
	do {
		struct sockaddr_un addr;
		socklen_t len;
		int dirfd;

		ck_ok(socket_address(f.path, &addr, &len, &dirfd));
		held[n] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		rc = connect(held[n++], (struct sockaddr *)&addr, len);
	} while (rc == 0 && n < 64);
	ck_assert_int_lt(rc, 0);
	before = open_fds();
	ck_assert_int_eq(handshake_connect(f.path, &hello, 30, &sock, &w, fds, &err), -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(err.text, "does not accept"));
	ck_assert_int_eq(open_fds(), before);
	while (n > 0)
		close(held[--n]);
	fake_close(&f);
}
END_TEST

static int connect_path(const char *path, struct err_info *err)
{
	struct hello hello = good_hello();
	struct welcome w;
	int socket, fds[WELCOME_FDS];

	return handshake_connect(path, &hello, 500, &socket, &w, fds, err);
}

/* Why there is no daemon: each cause has its own code, and words with the next step. */
START_TEST(no_daemon_is_explained)
{
	struct fake f;
	struct err_info err;
	char path[300];
	int fd;

	fake_open(&f, SOCK_SEQPACKET);
	snprintf(path, sizeof(path), "%s/nothing", f.dir);
	ck_assert_int_eq(connect_path(path, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "shaled --db"));
	ck_assert_int_eq(connect_path("", &err), -ENOENT);
	snprintf(path, sizeof(path), "%s/file", f.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_int_eq(connect_path(path, &err), -SHALE_ENOTSHALE);
	ck_assert_ptr_nonnull(strstr(err.text, "no socket"));
	close(f.listener);
	ck_assert_int_eq(connect_path(f.path, &err), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(err.text, "start it again"));
	f.listener = -1;
	fake_close(&f);
	fake_open(&f, SOCK_STREAM);
	ck_assert_int_eq(connect_path(f.path, &err), -SHALE_ENOTSHALE);
	ck_assert_ptr_nonnull(strstr(err.text, "another program"));
	fake_close(&f);
	fake_open(&f, SOCK_DGRAM);
	ck_assert_int_eq(connect_path(f.path, &err), -SHALE_ENOTSHALE);
	fake_close(&f);
}
END_TEST

/*
 * Without permission, the words say whose the socket is and who asked. Root may do all, so a child of another uid asks.
 */
START_TEST(permission_is_explained)
{
	struct fake f;
	struct err_info err = {0};
	pid_t pid;
	int status;

	if (geteuid() != 0)
		return;
	fake_open(&f, SOCK_SEQPACKET);
	ck_ok(chmod(f.dir, 0755));
	ck_ok(chmod(f.path, 0660));
	pid = fork();
	if (pid == 0) {
		bool ok = setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
			  setresuid(65534, 65534, 65534) == 0 && connect_path(f.path, &err) == -EACCES &&
			  strstr(err.text, "65534") && strstr(err.text, "mode 0660") && strstr(err.text, "root");

		if (!ok)
			fprintf(stderr, "%s\n", err.text);
		_exit(!ok);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	fake_close(&f);
}
END_TEST

/*
 * A path longer than a socket address is reached through its directory; a name that is too long by itself is refused in
 * words.
 */
START_TEST(long_paths_work)
{
	struct fake f = {.dir = test_tmpdir(), .w = good_welcome(), .nfds = 0};
	struct sockaddr_un addr;
	struct err_info err;
	char name[200];
	socklen_t len;
	int dirfd;

	f.w.status = -EDQUOT;
	snprintf(name, sizeof(name), "%s/%0120d", f.dir, 1);
	ck_ok(mkdir(name, 0700));
	snprintf(f.path, sizeof(f.path), "%s/sock", name);
	ck_ok(socket_address(f.path, &addr, &len, &dirfd));
	ck_assert_int_ge(dirfd, 0);
	f.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_ok(bind(f.listener, (struct sockaddr *)&addr, len));
	close(dirfd);
	ck_ok(listen(f.listener, 8));
	refused(&f, -EDQUOT, "");
	ck_assert_int_eq(access(f.path, F_OK), 0);
	snprintf(f.path, sizeof(f.path), "%s/%0120d", f.dir, 2);
	ck_assert_int_eq(connect_path(f.path, &err), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(err.text, "too long"));
	close(f.listener);
	test_rmtree(f.dir);
	free(f.dir);
}
END_TEST

/* ---- the daemon's side ---- */

/* Every field of HELLO that is off is refused, with the code that tells the client what to do. */
START_TEST(hello_is_checked)
{
	struct hello h = good_hello(), out = {.flags = 77};
	unsigned char longer[64] = {0};
	struct err_info err;

	h.flags = HELLO_READ_ONLY;
	h.ring_entries = 100;
	ck_ok(hello_check(&h, sizeof(h), &out, &err));
	ck_assert_mem_eq(&out, &h, sizeof(h));
	out.flags = 77;
#define REFUSED(field, value, want)                                                                                    \
	do {                                                                                                           \
		h = good_hello();                                                                                      \
		h.field = value;                                                                                       \
		ck_assert_int_eq(hello_check(&h, sizeof(h), &out, &err), want);                                        \
		ck_assert_uint_eq(out.flags, 77);                                                                      \
	} while (0)
	REFUSED(magic, WELCOME_MAGIC, -EPROTO);
	REFUSED(size, sizeof(h) + 8, -EPROTO);
	REFUSED(abi, 4711, -SHALE_EABI);
	ck_assert_ptr_nonnull(strstr(err.text, "version 4711"));
	ck_assert_ptr_nonnull(strstr(err.text, "matching versions"));
	REFUSED(fingerprint, 0, -SHALE_EABI);
	REFUSED(flags, 1u << 31, -EPROTO);
	REFUSED(reserved, 1, -EPROTO);
	h = good_hello();
	for (size_t cut = 0; cut < sizeof(h); cut++)
		ck_assert_int_eq(hello_check(&h, cut, &out, &err), -EPROTO);
	/* A HELLO of another release: longer or shorter, consistent in itself. */
	h.abi = SHM_ABI + 1;
	h.size = sizeof(longer);
	memcpy(longer, &h, sizeof(h));
	ck_assert_int_eq(hello_check(longer, sizeof(longer), &out, &err), -SHALE_EABI);
	h.size = 16;
	ck_assert_int_eq(hello_check(&h, 16, &out, &err), -SHALE_EABI);
}
END_TEST

/* Random bytes never pass for a HELLO, and are not read past their end. */
START_TEST(random_hello_is_refused)
{
	uint64_t rng = test_seed();

	for (int round = 0; round < 20000; round++) {
		size_t size = test_random(&rng) % 80;
		unsigned char *bytes = malloc(size ? size : 1);
		struct hello h = good_hello(), out;
		struct err_info err;

		for (size_t i = 0; i < size; i++)
			bytes[i] = (unsigned char)test_random(&rng);
		if (round % 2)
			memcpy(bytes, &h, min_size(size, test_random(&rng) % 16));
		if (hello_check(bytes, size, &out, &err) >= 0)
			ck_abort_msg("random bytes were taken for a HELLO");
		free(bytes);
	}
}
END_TEST

/* Descriptors that a client sends along are never open in the daemon, however many there are. */
START_TEST(stray_descriptors_are_dropped)
{
	struct hello h = good_hello(), got;
	int pair[2], before, fds[8];
	unsigned stray = 77;

	ck_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	before = open_fds();
	for (unsigned n = 1; n <= ARRAY_SIZE(fds); n++) {
		send_raw(pair[0], &h, sizeof(h), fds, n);
		ck_assert_int_eq(handshake_receive(pair[1], &got, sizeof(got), &stray), -EPROTO);
		ck_assert_uint_eq(stray, 1);
		ck_assert_int_eq(open_fds(), before);
	}
	send_raw(pair[0], &h, sizeof(h), NULL, 0);
	ck_assert_int_eq(handshake_receive(pair[1], &got, sizeof(got), &stray), sizeof(h));
	ck_assert_uint_eq(stray, 0);
}
END_TEST

/* Nothing there, a message too long, and a hang-up are three different answers; none of them blocks. */
START_TEST(receive_tells_what_it_found)
{
	char big[200] = {0}, buf[100];
	int pair[2];
	unsigned stray;

	ck_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	ck_assert_int_eq(handshake_receive(pair[1], buf, sizeof(buf), &stray), -EAGAIN);
	send_raw(pair[0], big, sizeof(big), NULL, 0);
	ck_assert_int_eq(handshake_receive(pair[1], buf, sizeof(buf), &stray), -EPROTO);
	send_raw(pair[0], big, 7, NULL, 0);
	ck_assert_int_eq(handshake_receive(pair[1], buf, sizeof(buf), &stray), 7);
	close(pair[0]);
	ck_assert_int_eq(handshake_receive(pair[1], buf, sizeof(buf), &stray), 0);
	ck_assert_int_eq(handshake_receive(-1, buf, sizeof(buf), &stray), -EBADF);
}
END_TEST

/* A client that does not read, or is gone, costs the daemon an error code and nothing else. */
START_TEST(send_never_blocks)
{
	struct welcome w = good_welcome();
	int pair[2], rc = 0;

	ck_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	for (int i = 0; rc == 0 && i < 100000; i++)
		rc = handshake_send(pair[0], &w, NULL, 0);
	ck_assert_int_eq(rc, -EAGAIN);
	close(pair[1]);
	ck_assert_int_lt(handshake_send(pair[0], &w, NULL, 0), 0);
}
END_TEST

TEST_MAIN("handshake", 30, welcome_brings_descriptors, refusals_are_passed_on, other_versions_are_named,
	  strangers_are_told_apart, wrong_descriptors_are_refused, silence_times_out, no_daemon_is_explained,
	  permission_is_explained, long_paths_work, hello_is_checked, random_hello_is_refused,
	  stray_descriptors_are_dropped, receive_tells_what_it_found, send_never_blocks)
