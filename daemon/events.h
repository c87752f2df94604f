/*
 * events.h - the region's table of recent events, from the daemon's side: for `shalectl events`, which needs no journal, no daemon that answers, and, after a
 * kill, no daemon at all.
 *
 * Any thread tells an event; a lock that is held for the copying of one row makes them take turns, as with a mailbox. Handing them over to the service thread would keep
 * quiet exactly when that one hangs. Nobody can wash the table out: of one kind, at most EVENT_BURST are taken in ten seconds, and the next one says how many were
 * left out.
 */
#ifndef SHALE_DAEMON_EVENTS_H
#define SHALE_DAEMON_EVENTS_H

#include <pthread.h>
#include <syslog.h> /* LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO */

#include "shm/region.h"

enum { EVENT_BURST = 12 };

struct events {
	pthread_mutex_t lock;
	struct region *region;
	struct event_brake {
		uint64_t since_ns; /* CLOCK_MONOTONIC: when the present ten seconds began */
		unsigned taken, left_out;
	} brake[REGION_EVENT_KINDS];
};

/* @region is borrowed until events_fini. */
void events_init(struct events *e, struct region *region);
void events_fini(struct events *e);

/* Any thread, after events_init; no line feed in @fmt. Blocks for another's copying of a row at most. */
void event_tell(struct events *e, enum region_event_kind kind, int priority, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
