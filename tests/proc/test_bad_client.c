/*
 * Bytes that break the protocol: each gets its own error, that session ends, the daemon lives on for the others.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

static struct private_daemon d;
static struct shale_db *other; /* the client that must not notice */

static void begin(void)
{
	proc_begin(&d);
	other = proc_open(&d);
	proc_put(other, "steady", "as a rock");
}

static void others_are_served(void)
{
	ck_assert_int_eq(waitpid(d.pid, NULL, WNOHANG), 0);
	ck_assert_str_eq(proc_get(other, "steady"), "as a rock");
	proc_put(other, "more", "work");
}

static void end(void)
{
	others_are_served();
	shale_close(other);
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* ---- the socket ---- */

/* A library of another protocol version is refused in words, before anything is mapped; so is another layout. */
START_TEST(other_abi)
{
	struct hello hello = raw_hello();
	struct err_info err = {0};
	struct welcome welcome;
	int sock, fds[WELCOME_FDS];

	begin();
	hello.abi = SHM_ABI + 1;
	ck_assert_int_eq(handshake_connect(d.socket, &hello, 2000, &sock, &welcome, fds, &err), -SHALE_EABI);
	ck_assert_str_ne(err.text, "");
	hello = raw_hello();
	hello.fingerprint ^= 1;
	ck_assert_int_eq(handshake_connect(d.socket, &hello, 2000, &sock, &welcome, fds, &err), -SHALE_EABI);
	end();
}
END_TEST

/* Anything but a HELLO, and a HELLO cut short, ends that connection and nothing else. */
START_TEST(no_hello)
{
	uint64_t seed = test_seed();
	char bytes[700];

	begin();
	for (unsigned i = 0; i < 60; i++) {
		struct hello hello = raw_hello();
		int fd = raw_connect(d.socket, SOCK_SEQPACKET);
		size_t n = i % sizeof(bytes);

		ck_assert_int_ge(fd, 0);
		for (size_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (char)test_random(&seed);
		if (i % 3 == 0)
			memcpy(bytes, &hello, n < sizeof(hello) ? n : sizeof(hello));
		else if (i % 3 == 1)
			n = sizeof(hello);
		ck_assert(send(fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n || errno == EPIPE);
		close(fd);
	}
	others_are_served();
	end();
}
END_TEST

/* Listens at @path and answers each message with @n bytes. */
struct impostor {
	int fd;
	const void *bytes;
	size_t n;
};

static int impostor_run(void *arg)
{
	struct impostor *i = arg;
	char buf[1024];

	for (;;) {
		int fd = accept(i->fd, NULL, NULL);

		if (fd < 0)
			return 1;
		if (read(fd, buf, sizeof(buf)) > 0 && i->n && write(fd, i->bytes, i->n) < 0)
			return 1;
		usleep(50000);
		close(fd);
	}
}

static pid_t impostor_start(struct impostor *i, const char *path, int type)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	strcpy(addr.sun_path, path);
	unlink(path);
	i->fd = socket(AF_UNIX, type, 0);
	ck_ok(bind(i->fd, (struct sockaddr *)&addr, sizeof(addr)));
	ck_ok(listen(i->fd, 5));
	return proc_fork(impostor_run, i);
}

/* A socket that is not ours is told from one of another version. */
START_TEST(not_our_socket)
{
	struct welcome newer = {.magic = WELCOME_MAGIC, .size = sizeof(newer), .abi = SHM_ABI + 7, .status = 0};
	struct shale_options options = SHALE_OPTIONS_INIT;
	const struct {
		int type;
		const void *bytes;
		size_t n;
		int expected;
	} cases[] = {
		{SOCK_SEQPACKET, "HTTP/1.1 400 Bad Request\r\n", 26, -SHALE_ENOTSHALE},
		{SOCK_SEQPACKET, &newer, 600, -SHALE_EABI},
		{SOCK_SEQPACKET, "", 0, -SHALE_ENOTSHALE},
		{SOCK_STREAM, "+OK\r\n", 5, -SHALE_ENOTSHALE},
	};
	struct shale_db *db = NULL;
	char path[200];

	proc_init(&d, NULL, NULL);
	snprintf(path, sizeof(path), "%s/impostor", d.scratch);
	options.connect_ms = 1000;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct impostor impostor = {.bytes = cases[i].bytes, .n = cases[i].n};
		pid_t pid = impostor_start(&impostor, path, cases[i].type);
		int rc = shale_open(path, &options, &db);

		ck_assert_msg(rc == cases[i].expected, "case %zu: %d (%s)", i, rc, shale_last_error(NULL));
		ck_assert_ptr_nonnull(strstr(shale_last_error(NULL), path));
		close(impostor.fd);
		kill(pid, SIGKILL);
		proc_wait(pid);
	}
	private_daemon_fini(&d);
}
END_TEST

/* ---- the channel ---- */

/* A channel that shrinks under the daemon's hands raises SIGBUS there; only that session may end. */
START_TEST(truncated_channel)
{
	begin();
	for (unsigned i = 0; i < 6; i++) {
		struct raw_client r;
		struct sqe *sqe;

		raw_open(d.socket, &r);
		sqe = ring_sq_slot(&r.ring, 0);
		*sqe = (struct sqe){.session = r.session, .op = OP_WRITE, .in_len = 4096, .in_off = 0};
		ring_sq_publish(&r.ring, 1);
		/* All of it, all but the first pages, or only the arena. */
		ck_ok(ftruncate(r.fds[0], i % 3 == 0 ? 0 : i % 3 == 1 ? 3 * SHM_PAGE : r.arena - r.base));
		raw_ring(&r);
		ck_assert_msg(raw_hung_up(&r, 2000), "case %u: the session goes on", i);
		raw_close(&r);
		others_are_served();
	}
	end();
}
END_TEST

/* Random bytes over every word that a client can reach, while requests are under way. */
START_TEST(scribbled_channel)
{
	uint64_t seed = test_seed();

	begin();
	for (unsigned i = 0; i < 40; i++) {
		struct raw_client r;

		raw_open(d.socket, &r);
		for (unsigned k = 0; k < 200; k++) {
			size_t room = i % 2 ? 3 * SHM_PAGE + r.ring.entries * sizeof(struct sqe) : r.size - 8;

			for (unsigned n = 0; n < 20; n++)
				store_le64(r.base + test_random(&seed) % (room - 8), test_random(&seed));
			raw_ring(&r);
		}
		raw_close(&r);
		if (i % 8 == 0)
			others_are_served();
	}
	end();
}
END_TEST

/* Well-formed rings with ill-formed requests: an error or the end of the session, never a success, never a crash. */
START_TEST(hostile_requests)
{
	static const struct sqe cases[] = {
		{.op = OP_COUNT},
		{.op = 0xffff},
		{.op = OP_GET, .in_off = UINT64_MAX, .in_len = 16},
		{.op = OP_GET, .in_off = 1, .in_len = UINT32_MAX},
		{.op = OP_GET, .in_len = 1, .out_off = UINT64_MAX - 4, .out_len = 64},
		{.op = OP_GET, .in_len = 1, .out_len = 64, .flags = 0xffff},
		{.op = OP_GET, .in_len = 1, .out_len = 64, .extra_len = 1},
		{.op = OP_WRITE, .in_len = 3},
		{.op = OP_WRITE, .in_len = 12 + 100},
		{.op = OP_SCAN, .in_len = 3},
		{.op = OP_SCAN,
		 .in_len = sizeof(struct scan_args),
		 .flags = SQE_HAS_START | SQE_HAS_LIMIT,
		 .out_len = 0},
		{.op = OP_RELEASE, .sequence = 12345},
		{.op = OP_MULTIGET, .in_len = 4, .out_len = 64},
		{.op = OP_SIZES, .in_len = 1, .out_len = 8},
		{.op = OP_COMPACT, .in_len = 1},
		{.op = OP_PROPERTY, .in_len = 0, .out_len = 64},
	};

	begin();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sqe sqe = cases[i];
		struct raw_client r;
		int32_t res;

		raw_open(d.socket, &r);
		memset(r.arena, 0xfe, r.arena_size);
		res = raw_call(&r, sqe);
		ck_assert_msg(res != 0, "case %zu was accepted", i);
		raw_close(&r);
		others_are_served();
	}
	end();
}
END_TEST

/* A request in another session's name is refused. */
START_TEST(foreign_session)
{
	struct raw_client r;

	begin();
	raw_open(d.socket, &r);
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_NOP}), 0);
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_NOP, .session = r.session + 1}), RAW_ENDED);
	raw_close(&r);
	end();
}
END_TEST

/* ---- over the limits ---- */

/* A key, value or batch that is too large is refused in words; the handle and everything else work on. */
START_TEST(too_large)
{
	size_t max_key, max_request;
	struct shale_batch *batch;
	unsigned char *big;

	begin();
	shale_limits(other, &max_key, &max_request);
	big = calloc(1, max_request + max_key + 64);
	ck_ok(shale_put(other, NULL, big, max_key, "x", 1));
	ck_assert_int_eq(shale_put(other, NULL, big, max_key + 1, "x", 1), -E2BIG);
	ck_assert_str_ne(shale_last_error(other), "");
	ck_assert_int_eq(shale_put(other, NULL, "k", 1, big, max_request + 1), -E2BIG);
	batch = shale_batch_new();
	for (size_t bytes = 0; bytes <= max_request; bytes += 60000)
		ck_ok(shale_batch_put(batch, &bytes, sizeof(bytes), big, 60000));
	ck_assert_int_eq(shale_write(other, NULL, batch, NULL), -E2BIG);
	ck_assert_ptr_null(proc_get(other, "k"));
	shale_batch_free(batch);
	free(big);
	end();
}
END_TEST

TEST_MAIN("bad_client", 60 * PATIENCE, other_abi, no_hello, not_our_socket, truncated_channel, scribbled_channel,
	  hostile_requests, foreign_session, too_large)
