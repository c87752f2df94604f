/*
 * user.h - what the sessions of one user share: their turns, their part of the write path, their quotas.
 *
 * A user is here while one of its sessions is. The service thread only; what the control thread counts per user is in admit.c.
 */
#ifndef SHALE_DAEMON_USER_H
#define SHALE_DAEMON_USER_H

#include <sys/types.h>

#include "daemon/list.h"

struct service;
struct session;

struct user {
	struct list link; /* service.users */
	uid_t uid;
	unsigned weight;   /* fairness.weights */
	unsigned sessions; /* adopted, and not yet ended; and reads under way of ended ones */
	unsigned pins;	   /* snapshots that they hold */
	size_t held;	   /* bytes of payload of their waiting requests */

	/* turns.c */
	struct list turn;   /* service.turns, while `polled` is not empty */
	struct list polled; /* its active sessions, by session.turn */
	unsigned polled_count;
	int64_t credit; /* what they may still cost in this round */

	/* reads.c */
	struct list answering;	 /* sessions with reads of large values */
	struct list answer_link; /* service.answering */

	/* room.c */
	size_t room_used; /* bytes that reads pin, also those whose session is gone */
	unsigned readers; /* that are at it */
	struct list crowded;	  /* sessions with reads that wait for room */
	struct list crowded_link; /* service.crowded, while there is one */
	struct session *first;	  /* waits for the user's room: none of the others goes before it; or NULL */

	/* shares.c */
	uint64_t tag;	/* virtual time at which its next write begins */
	uint64_t clock; /* virtual time among its own sessions */
	int64_t rate_left; /* bytes that it may write now: limits.write_rate_per_uid */
	uint64_t rate_ns;
};

/* The user of that number, with one more session. When memory is short: one that stands for all whom there was none for. */
struct user *user_join(struct service *svc, uid_t uid);
void user_leave(struct service *svc, struct user *u); /* the last one frees it */

/* Weights and rates are others now: old debts do not count. */
void users_reweigh(struct service *svc);

/* At the end, when sessions may be left that nobody came for. */
void users_fini(struct service *svc);

#endif
