/*
 * log.h - what the daemon says: lines on stderr, with a priority.
 *
 * Under systemd's journal (JOURNAL_STREAM is set) a line begins with "<priority>", which the journal understands; elsewhere with
 * "shaled: " and, from warning upwards, the priority's name. A line is one write(2), so that threads do not mix. Any thread; it never waits for
 * whoever reads stderr: a line that is not taken at once is dropped, and the next one that is tells how many were.
 */
#ifndef SHALE_DAEMON_LOG_H
#define SHALE_DAEMON_LOG_H

#include <stdint.h>
#include <syslog.h> /* LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO */

void log_line(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A brake for lines that a client can cause: at most LOG_BURST per ten seconds and brake. Zero-initialised. The first line that is let
 * through again tells how many were held back.
 */
enum { LOG_BURST = 10 };
struct log_brake {
	uint64_t window_ns; /* when the present ten seconds began */
	unsigned lines, held;
};

/* As log_line, through @brake, which one lock in log.c guards; @now_ns is CLOCK_MONOTONIC. */
void log_braked(struct log_brake *brake, uint64_t now_ns, int priority, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
