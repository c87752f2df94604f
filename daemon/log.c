#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log_queue.h"

static_assert((int)LOG_LINE_BYTES <= PIPE_BUF, "a pipe that is ready takes a whole line");

static const char *const priority_word[] = {"", "", "", "error: ", "warning: ", "", "", "debug: "};

enum where { STDERR_ALONE, STDERR_AND_QUEUE, JOURNAL };
static _Atomic enum where where;
static _Atomic int level = LOG_NOTICE;

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

/* Where stderr leads to the journal, as sd_journal_stream_fd(3) says. A child of such a process may have another stderr. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}

static size_t format(char *line, size_t cap, int priority, const char *text)
{
	size_t n;

	if (is_journal())
		n = (size_t)snprintf(line, cap - 1, "<%d>%s", priority & 7, text);
	else
		n = (size_t)snprintf(line, cap - 1, "shaled: %s%s", priority_word[priority & 7], text);
	if (n >= cap - 1)
		n = cap - 2;
	line[n++] = '\n';
	return n;
}

static void to_stderr(int priority, const char *text)
{
	char line[LOG_LINE_BYTES], loss[64];
	size_t size;

	pthread_mutex_lock(&stderr_lock);
	if (dropped) {
		snprintf(loss, sizeof(loss), "%u lines were lost, because nobody read them", dropped);
		size = format(line, sizeof(line), LOG_WARNING, loss);
		if (write_now(line, size))
			dropped = 0;
	}
	size = format(line, sizeof(line), priority, text);
	if (dropped || !write_now(line, size))
		dropped++;
	pthread_mutex_unlock(&stderr_lock);
}

static void emit(const struct log_about *about, int priority, const char *fmt, va_list args)
{
	/* Relaxed: each is one word that is true by itself. */
	bool wanted = priority <= atomic_load_explicit(&level, memory_order_relaxed);
	enum where to = atomic_load_explicit(&where, memory_order_relaxed);
	char text[LOG_LINE_BYTES];
	int n;

	if (!wanted && (to == STDERR_ALONE || priority > LOG_INFO))
		return;
	n = vsnprintf(text, sizeof(text), fmt, args);
	if (n < 0)
		return;
	if (wanted && to != JOURNAL)
		to_stderr(priority, text);
	if (to != STDERR_ALONE)
		log_queue_add(about, priority, wanted && to == JOURNAL, text,
			      (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void log_line(int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	emit(&(struct log_about){0}, priority, fmt, args);
	va_end(args);
}

void log_event(const struct log_about *about, int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	emit(about, priority, fmt, args);
	va_end(args);
}

void log_level(int priority)
{
	atomic_store_explicit(&level, priority, memory_order_relaxed);
}

void log_start(const char *database, int dirfd, bool file)
{
	bool journal = is_journal();
	int rc = file ? log_queue_start(database, dirfd, true, journal) : 0;
	bool queue = file && rc == 0;

	if (!queue && journal)
		queue = log_queue_start(database, dirfd, false, true) == 0;
	if (queue)
		atomic_store_explicit(&where, journal ? JOURNAL : STDERR_AND_QUEUE, memory_order_relaxed);
	if (rc < 0)
		log_line(LOG_WARNING, "the file LOG cannot be written: %s", strerrordesc_np(-rc));
}

void log_stop(void)
{
	atomic_store_explicit(&where, STDERR_ALONE, memory_order_relaxed);
	log_queue_stop();
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
	emit(&(struct log_about){0}, priority, fmt, args);
	va_end(args);
}
