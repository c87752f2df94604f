/*
 * Lines on stderr and in LOG: whole, and never a reason to stand still.
 */
#include "tests/test.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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

/* ---- the file LOG ---- */

static char *folder;
static int folder_fd;

static void begin(void)
{
	if (!folder) {
		folder = test_tmpdir();
		folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
		ck_assert_int_ge(folder_fd, 0);
	}
	log_start(folder, folder_fd, true);
}

static void end(void)
{
	close(folder_fd);
	test_rmtree(folder);
	free(folder);
	folder = NULL;
}

/* The file's text; valid until the next call. */
static const char *text_of(const char *name)
{
	static char text[1 << 20];
	int fd = openat(folder_fd, name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	ck_assert_int_ge(fd, 0);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

/* LOG has what was said between start and stop, with time and priority, also what is too little for stderr; the one before is LOG.old. */
START_TEST(file_in_the_directory)
{
	int year, n = 0;

	log_level(LOG_WARNING);
	log_line(LOG_ERR, "before");
	begin();
	log_line(LOG_NOTICE, "one");
	log_event(&(struct log_about){.job = 7}, LOG_INFO, "two %d", 2);
	log_line(LOG_DEBUG, "three");
	log_stop();
	log_line(LOG_ERR, "after");
	ck_assert_ptr_null(strstr(text_of("LOG"), "before"));
	ck_assert_ptr_null(strstr(text_of("LOG"), "after"));
	ck_assert_ptr_null(strstr(text_of("LOG"), "three"));
	ck_assert_int_eq(sscanf(text_of("LOG"), "%d-%*d-%*dT%*d:%*d:%*d.%*dZ notice one\n%n", &year, &n), 1);
	ck_assert_int_gt(n, 0);
	ck_assert_ptr_nonnull(strstr(text_of("LOG"), "Z info    two 2\n"));
	begin();
	log_line(LOG_NOTICE, "four");
	log_stop();
	ck_assert_ptr_nonnull(strstr(text_of("LOG.old"), "two 2\n"));
	ck_assert_ptr_nonnull(strstr(text_of("LOG"), "four\n"));
	end();
}
END_TEST

/* Too many lines are counted, not written, and cost their speaker no waiting; errors are always told. A link in the file's place is not followed. */
START_TEST(file_has_bounds)
{
	const char *at;
	unsigned lines = 0, held = 0;

	log_level(LOG_ERR);
	begin();
	ck_ok(symlinkat("/dev/full", folder_fd, "victim"));
	for (int i = 0; i < 50000; i++)
		log_line(LOG_INFO, "line %d", i);
	log_stop();
	for (at = text_of("LOG"); (at = strchr(at, '\n')); at++)
		lines++;
	ck_assert_uint_ge(lines, 100);
	ck_assert_uint_le(lines, 3000);
	for (at = text_of("LOG"); (at = strstr(at, "warning ")); at++)
		held += (unsigned)atoi(at + strlen("warning "));
	ck_assert_uint_ge(held, 40000);
	ck_ok(unlinkat(folder_fd, "LOG", 0));
	ck_ok(symlinkat("victim", folder_fd, "LOG"));
	begin(); /* it is LOG.old now, and was not written to */
	log_line(LOG_NOTICE, "safe");
	log_stop();
	ck_assert_ptr_nonnull(strstr(text_of("LOG"), "safe"));
	end();
}
END_TEST

static void *speak(void *arg)
{
	for (int i = 0; i < 20; i++)
		log_line(LOG_NOTICE, "speaker %d says %d", (int)(intptr_t)arg, i);
	return NULL;
}

/* Lines of many threads are whole, and none that found room is lost at the end. */
START_TEST(many_speakers)
{
	pthread_t thread[4];
	char words[64];

	log_level(LOG_ERR);
	begin();
	for (intptr_t i = 0; i < 4; i++)
		ck_ok(pthread_create(&thread[i], NULL, speak, (void *)i));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	log_stop();
	for (int i = 0; i < 80; i++) {
		snprintf(words, sizeof(words), "notice  speaker %d says %d\n", i / 20, i % 20);
		ck_assert_msg(strstr(text_of("LOG"), words) != NULL, "%s", words);
	}
	end();
}
END_TEST

TEST_MAIN("log", 20, full_pipe, full_socket, file_and_nobody, file_in_the_directory, file_has_bounds, many_speakers)
