/*
 * roster.h - the sessions of the service thread: who is polled, who sleeps, who is ending.
 *
 *	          ┌────────── work, or a doorbell ──────────┐
 *	ADOPT ─▶ active ── idle ──▶ parked (doorbell read by the queue)
 *	          │  └─ its completions are not read ─▶ clogged (looked at by time)
 *	          └─ END, or broken ─▶ ending ─ doorbell done, END seen ─▶ GONE
 */
#ifndef SHALE_DAEMON_ROSTER_H
#define SHALE_DAEMON_ROSTER_H

#include "daemon/service.h"

/* True when it sleeps now; false when it has work after all. */
bool roster_park(struct service *svc, struct session *s);

/*
 * There are submissions, but none can be taken now. Either its requests in flight are as many as its ring holds: the first completion
 * brings it back. Or the client does not read its completions, and it will not ring when it does: it is looked at now and then, ever more
 * seldom. (libshale keeps fewer requests open than its ring has slots, so that is a stopped or a broken client.)
 */
void roster_set_aside(struct service *svc, struct session *s, int room);

/* Polls clogged sessions again whose time has come. When the next one's comes; UINT64_MAX: there is none. */
uint64_t roster_look_at_clogged(struct service *svc);

/* Ends a session: from here on nothing of the session's channel is touched. roster_let_go() hands it back at the end of the pass. */
void session_end(struct service *svc, struct session *s);

/* The session of that id, or NULL. */
struct session *roster_find(struct service *svc, uint64_t id);

/* An administrator ends it. */
void roster_kick(struct service *svc, struct session *s);

/* Hands sessions that have ended back to the control thread. */
void roster_let_go(struct service *svc);

/* Takes in new sessions and ends those whose clients are gone. Returns how many mails. */
unsigned roster_read_mail(struct service *svc);

#endif
