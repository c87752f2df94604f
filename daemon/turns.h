/*
 * turns.h - whose requests are taken, and how many at a time.
 *
 * Users take turns, and within a turn their sessions do. Everything that is taken or answered costs: session_charge(). The service thread only.
 */
#ifndef SHALE_DAEMON_TURNS_H
#define SHALE_DAEMON_TURNS_H

#include "daemon/service.h"

/* One round: each user's turn once. Parks sessions that have been idle for a while. Returns how many requests were taken; also 1 when some wait whose turn is yet to come. */
unsigned turns_take(struct service *svc);

/* The session is polled from now on, or no longer. */
void turns_join(struct service *svc, struct session *s);
void turns_leave(struct service *svc, struct session *s);

#endif
