/*
 * log.h - what the daemon says: lines with a priority, on stderr or in systemd's journal, and in the database's file LOG.
 *
 *	stderr    "shaled: " and, from warning upwards, the priority's name. A line is one write(2), so that threads do not mix
 *	journal   where stderr leads there (JOURNAL_STREAM, sd-journal(3)): with fields (PRIORITY, SHALE_DATABASE, SHALE_JOB, MESSAGE_ID for the main
 *	          events), from log_start() on; before it, lines that begin with "<priority>"
 *	LOG       in the database directory, as LevelDB has it; the one before is LOG.old. From LOG_INFO on, whatever log.level says
 *
 * Any thread; it never waits for whoever reads stderr, nor for the journal or the disk: these two are a thread's, which takes the lines from a queue. What finds
 * no room is dropped, and the next line that does tells how many were.
 */
#ifndef SHALE_DAEMON_LOG_H
#define SHALE_DAEMON_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h> /* LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO */

void log_line(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What a program that reads the journal may look for: each has a MESSAGE_ID (log.c; shaled(8) lists them). */
enum log_event {
	EVENT_NONE,
	EVENT_STARTED,
	EVENT_STOPPED,
	EVENT_FAILED,
	EVENT_RELOADED,
	EVENT_DISK_FULL,
	EVENT_DISK_ROOM,
	EVENT_FALLBACK, /* something is not as good as it could be, and why */
	LOG_EVENTS,
};

/* Fields of a line besides its words. */
struct log_about {
	enum log_event event;
	uint64_t job; /* its id; 0: about none */
};

/* log_line with fields. */
void log_event(const struct log_about *about, int priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The least urgent priority that goes to stderr or the journal; LOG_NOTICE until it is called. */
void log_level(int priority);

/*
 * The database is locked: begins the file LOG in it (@file) and the thread. Signals that the thread must not get are blocked in the caller. Without
 * memory or a file the lines go to stderr all the same. @database: its path, for the journal. @dirfd is borrowed for the call.
 */
void log_start(const char *database, int dirfd, bool file);

/* What was said is written, as far as that can be done within two seconds. Nothing when log_start was not called. */
void log_stop(void);

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
