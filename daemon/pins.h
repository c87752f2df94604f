/*
 * pins.h - snapshots: who holds which, and until when. The service thread only.
 *
 * A snapshot pins a sequence in the engine and has a row in the region's table. It ends by RELEASE, with its session, or when its lease is over: then the row is free
 * and the engine need not keep anything for it, but its session remembers that there was one, and reads at it answer -SHALE_EOUSTED.
 */
#ifndef SHALE_DAEMON_PINS_H
#define SHALE_DAEMON_PINS_H

#include "daemon/service.h"

void pin_take(struct service *svc, struct request *r);	  /* OP_SNAPSHOT */
void pin_release(struct service *svc, struct request *r); /* OP_RELEASE */

/* Whether @s may read at @sequence: 0, or -SHALE_EOUSTED. */
int pin_check(struct service *svc, const struct session *s, uint64_t sequence);

/* The session ends. */
void pins_drop(struct service *svc, struct session *s);

/* Ends the leases that are over. */
void pins_expire(struct service *svc);

/* When the next one may be over; UINT64_MAX: nothing is leased. */
static inline uint64_t pins_next_ns(const struct service *svc)
{
	return svc->next_lease_ns;
}

#endif
