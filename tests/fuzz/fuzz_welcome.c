/*
 * WELCOME as the library receives it, over a real socket: whatever answers, with whatever descriptors, a refusal has words and leaves nothing
 * open, and what is accepted is backed by segments as long as it says.
 *
 * Input: a byte (bit 0: ABI and fingerprint of this build; bits 1 to 3: descriptors sent along; bit 4: they are long enough), then the message.
 */
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/layout.h"
#include "tests/fuzz/fuzz.h"

enum { SEGMENT = 65536 };

static struct {
	char path[64];
	int listener, segment;
	unsigned char message[4096];
	size_t size;
	unsigned fds; /* sent along */
	sem_t closed; /* the server's end, after each exchange */
} server;

static void answer(int socket)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = server.message, .iov_len = server.size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (server.fds) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(server.fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(server.fds * sizeof(int));
		for (unsigned i = 0; i < server.fds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &server.segment, sizeof(int));
	}
	if (sendmsg(socket, &msg, MSG_NOSIGNAL) != (ssize_t)server.size) {
		perror("sendmsg");
		abort();
	}
}

static void *serve(void *unused)
{
	for (;;) {
		struct pollfd p = {.fd = server.listener, .events = POLLIN};
		struct hello hello;
		int socket;

		/* An accept that waits holds a descriptor already, and lowest_free() would see it. */
		if (poll(&p, 1, -1) != 1)
			continue;
		socket = accept(server.listener, NULL, NULL);
		ENSURE(socket >= 0 && recv(socket, &hello, sizeof(hello), 0) == sizeof(hello));
		answer(socket);
		close(socket);
		sem_post(&server.closed);
	}
	return unused;
}

static void stop(void)
{
	unlink(server.path);
}

static void start(void)
{
	struct sockaddr_un addr;
	pthread_t thread;
	socklen_t len;
	int dirfd;

	snprintf(server.path, sizeof(server.path), "/tmp/shale-fuzz.%d", (int)getpid());
	server.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ENSURE(server.listener >= 0 && socket_address(server.path, &addr, &len, &dirfd) == 0);
	unlink(server.path);
	ENSURE(bind(server.listener, (struct sockaddr *)&addr, len) == 0 && listen(server.listener, 8) == 0);
	server.segment = memfd_create("segment", MFD_CLOEXEC);
	ENSURE(server.segment >= 0 && sem_init(&server.closed, 0, 0) == 0);
	atexit(stop);
	ENSURE(pthread_create(&thread, NULL, serve, NULL) == 0);
	pthread_detach(thread);
}

/* The next descriptor that an open would get: the same before and after unless something was left open. */
static int lowest_free(void)
{
	int fd = dup(STDERR_FILENO);

	ENSURE(fd >= 0);
	close(fd);
	return fd;
}

/* The server has the message before the library connects, and is not heard of again before it is answered. */
static void exchange(void)
{
	const struct hello hello = {.magic = HELLO_MAGIC, .size = sizeof(hello), .abi = SHM_ABI};
	struct err_info err = {0};
	struct welcome w;
	int socket, fds[WELCOME_FDS], rc;

	rc = handshake_connect(server.path, &hello, 10000, &socket, &w, fds, &err);
	if (rc < 0) {
		ENSURE(err.text[0] && !strchr(err.text, '\n'));
		return;
	}
	ENSURE(rc == 0 && server.fds == WELCOME_FDS && server.size == sizeof(w));
	ENSURE(memcmp(&w, server.message, sizeof(w)) == 0);
	ENSURE(w.status == 0 && w.channel_size && w.channel_size <= SEGMENT && w.region_size <= SEGMENT &&
	       w.rows_size <= SEGMENT);
	for (unsigned i = 0; i < WELCOME_FDS; i++)
		close(fds[i]);
	close(socket);
}

FUZZ_TARGET(welcome)
{
	struct input in = {data, data + size};
	unsigned mode = input_byte(&in);
	struct slice rest = input_slice(&in, sizeof(server.message));
	int before;

	if (!server.path[0])
		start();
	before = lowest_free();
	server.fds = mode >> 1 & 7;
	server.size = max_size(rest.size, 1);
	ENSURE(ftruncate(server.segment, mode & 16 ? SEGMENT : 0) == 0);
	memset(server.message, 0, 1);
	if (rest.size)
		memcpy(server.message, rest.data, rest.size);
	if ((mode & 1) && rest.size >= offsetof(struct welcome, session)) {
		store_le32(server.message + offsetof(struct welcome, abi), SHM_ABI);
		store_le64(server.message + offsetof(struct welcome, fingerprint), layout_fingerprint());
	}
	exchange();
	while (sem_wait(&server.closed) < 0)
		;
	ENSURE(lowest_free() == before);
	return 0;
}
