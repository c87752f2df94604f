#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };
static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a pipe that is ready takes a whole line");

static const char *const priority_word[] = {"", "", "", "error: ", "warning: ", "", "", "debug: "};

/* A reader of stderr that stands still must not stand in our way: what it does not take is dropped, and counted. */
static pthread_mutex_t stderr_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned dropped;

/*
 * Writes a line to stderr if that can be done at once. A pipe or terminal that says it can be written to takes a line (it is shorter than PIPE_BUF);
 * the lock keeps our own threads from filling it in between. O_NONBLOCK would do it, too, but it belongs to the open file, which others use as
 * well. A regular file is always ready.
 */
static bool write_now(const char *line, size_t size)
{
	struct pollfd end = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t n = send(STDERR_FILENO, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0 || errno != ENOTSOCK)
		return n >= 0 || errno != EAGAIN; /* there is nowhere to tell that stderr is gone */
	if (poll(&end, 1, 0) != 1 || !(end.revents & POLLOUT))
		return (end.revents & (POLLERR | POLLNVAL)) != 0;
	n = write(STDERR_FILENO, line, size);
	return true;
}

static size_t format(char *line, size_t cap, int priority, const char *fmt, va_list args)
{
	size_t room = cap - 1; /* for the newline */
	int n, m;

	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, room, "<%d>", priority & 7);
	else
		n = snprintf(line, room, "shaled: %s", priority_word[priority & 7]);
	m = vsnprintf(line + n, room - (size_t)n, fmt, args);
	n += m < 0 ? 0 : m;
	if ((size_t)n >= room)
		n = (int)room - 1;
	line[n++] = '\n';
	return (size_t)n;
}

static size_t format_loss(char *line, size_t cap, const char *fmt, ...)
{
	va_list args;
	size_t n;

	va_start(args, fmt);
	n = format(line, cap, LOG_WARNING, fmt, args);
	va_end(args);
	return n;
}

static void emit(int priority, const char *fmt, va_list args)
{
	char line[LINE_MAX_BYTES], loss[128];
	size_t size = format(line, sizeof(line), priority, fmt, args), n;

	pthread_mutex_lock(&stderr_lock);
	if (dropped) {
		n = format_loss(loss, sizeof(loss), "%u lines were lost, because nobody read them", dropped);
		if (write_now(loss, n))
			dropped = 0;
	}
	if (dropped || !write_now(line, size))
		dropped++;
	pthread_mutex_unlock(&stderr_lock);
}

void log_line(int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	emit(priority, fmt, args);
	va_end(args);
}

void log_braked(struct log_brake *brake, uint64_t now_ns, int priority, const char *fmt, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const uint64_t window_ns = UINT64_C(10000000000);
	unsigned held = 0;
	bool speak;
	va_list args;

	pthread_mutex_lock(&lock);
	if (!brake->window_ns || now_ns - brake->window_ns >= window_ns) {
		held = brake->held;
		*brake = (struct log_brake){.window_ns = now_ns ? now_ns : 1};
	}
	speak = brake->lines < LOG_BURST;
	if (speak)
		brake->lines++;
	else
		brake->held++;
	pthread_mutex_unlock(&lock);

	if (held)
		log_line(priority, "%u more lines of this kind were held back", held);
	if (!speak)
		return;
	va_start(args, fmt);
	emit(priority, fmt, args);
	va_end(args);
}
