/* log_queue.h - lines on their way to the journal and to the file LOG, whose thread may wait for both. For log.c alone. */
#ifndef SHALE_DAEMON_LOG_QUEUE_H
#define SHALE_DAEMON_LOG_QUEUE_H

#include <stddef.h>

#include "daemon/log.h"

enum { LOG_LINE_BYTES = 2048 };

/* Starts the thread with whichever of the two there is. 0, or a negative code: there is no thread. */
int log_queue_start(const char *database, int dirfd, bool file, bool journal);

/* The rest is written, within two seconds; then there is no thread. */
void log_queue_stop(void);

/* Adds a line (without newline); drops it when there is no room or when lines come too fast. Nothing without a thread. */
void log_queue_add(const struct log_about *about, int priority, bool journal, const char *text, size_t size);

#endif
