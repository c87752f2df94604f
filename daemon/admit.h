/*
 * admit.h - who may have a session, and how large: access, quotas, session ids. The control thread only.
 */
#ifndef SHALE_DAEMON_ADMIT_H
#define SHALE_DAEMON_ADMIT_H

#include "daemon/config.h"
#include "daemon/session.h"
#include "shm/handshake.h"

struct guest;

struct admission {
	const struct config *config;
	unsigned sessions_max; /* config->sessions, or what the limit of descriptors allows */
	unsigned count;
	struct guest *guests;	/* users with sessions */
	struct session **slots; /* [config->sessions]: by the low half of a session's id */
	uint32_t next_slot;	/* where to look for a free one */
	uint32_t generation;	/* of the next session; begins at random */
};

/* @config is borrowed. 0 or a negative code with words. */
int admission_init(struct admission *a, const struct config *config, struct err_info *err);
void admission_fini(struct admission *a); /* a zeroed one is fine */

/*
 * What the user @uid gets who asks for @h: 0 and *@out, or a refusal with words: -EACCES (not listed), -EUSERS (too many sessions), -EDQUOT (too much
 * shared memory). Too large a wish is cut: the client sees in the channel what it got.
 */
int admission_check(const struct admission *a, uid_t uid, const struct hello *h, struct session_wish *out, struct err_info *err);

/* Whether the access lists, as they are now, would let @s in as it is. */
bool admission_may_stay(const struct admission *a, const struct session *s);

/* An id for a session that was let in: slot | generation << 32. */
uint64_t admission_id(struct admission *a);

/* It counts from now on, or no longer. -ENOMEM. */
int admission_enter(struct admission *a, struct session *s);
void admission_leave(struct admission *a, struct session *s);

#endif
