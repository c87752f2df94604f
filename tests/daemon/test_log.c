/*
 * Lines on stderr: whole, and never a reason to stand still.
 */
#include "tests/test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"

/* Puts @fd in the place of stderr; returns the old one. */
static int redirect(int fd)
{
	int old = dup(STDERR_FILENO);

	unsetenv("JOURNAL_STREAM");
	ck_assert_int_ge(old, 0);
	ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	return old;
}

/* All that is there to be read. */
static size_t read_all(int fd, char *out, size_t cap)
{
	struct pollfd end = {.fd = fd, .events = POLLIN};
	size_t used = 0;

	while (used < cap - 1 && poll(&end, 1, 0) == 1) {
		ssize_t n = read(fd, out + used, cap - 1 - used);

		if (n <= 0)
			break;
		used += (size_t)n;
	}
	out[used] = 0;
	return used;
}

/* Somebody holds our stderr and does not read it: we go on, nothing is torn, and the reader hears how much it missed. */
static void flood(int reader, int writer)
{
	static char text[1 << 22];
	int old = redirect(writer);

	for (int i = 0; i < 20000; i++)
		log_line(LOG_NOTICE, "line %d of many, and long enough to fill what lies between us", i);
	ck_assert_uint_gt(read_all(reader, text, sizeof(text)), 1000);
	ck_assert_ptr_nonnull(strstr(text, "line 0 of many"));
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	log_line(LOG_NOTICE, "after");
	read_all(reader, text, sizeof(text));
	dup2(old, STDERR_FILENO);
	close(old);
	ck_assert_msg(strstr(text, "lines were lost") && strstr(text, "after\n"), "%s", text);
}

START_TEST(full_pipe)
{
	int ends[2];

	ck_ok(pipe(ends));
	flood(ends[0], ends[1]);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(full_socket)
{
	int ends[2];

	ck_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	flood(ends[0], ends[1]);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

/* A file takes everything. A closed stderr and a reader that is gone cost nothing. */
START_TEST(file_and_nobody)
{
	char path[] = "/tmp/shale-log-XXXXXX", text[256] = "";
	int fd = mkstemp(path), old, ends[2];

	ck_assert_int_ge(fd, 0);
	old = redirect(fd);
	log_line(LOG_ERR, "one");
	log_line(LOG_NOTICE, "two");
	close(STDERR_FILENO);
	log_line(LOG_NOTICE, "nowhere");
	ck_ok(pipe(ends));
	dup2(ends[1], STDERR_FILENO);
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	log_line(LOG_NOTICE, "to nobody");
	dup2(old, STDERR_FILENO);
	ck_assert_int_gt(pread(fd, text, sizeof(text) - 1, 0), 0);
	ck_assert_str_eq(text, "shaled: error: one\nshaled: two\n");
	close(fd);
	unlink(path);
}
END_TEST

TEST_MAIN("log", 20, full_pipe, full_socket, file_and_nobody)
