#include "daemon/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const priority_word[] = {"", "", "", "error: ", "warning: ", "", "", "debug: "};

static void emit(int priority, const char *fmt, va_list args)
{
	char line[2048];
	size_t room = sizeof(line) - 1; /* for the newline */
	ssize_t ignored;
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
	ignored = write(STDERR_FILENO, line, (size_t)n);
	(void)ignored; /* there is nowhere to tell that stderr is gone */
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
