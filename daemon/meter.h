/*
 * meter.h - how long requests take, at the price of one addition for most of them. The service thread only.
 *
 * Reading the clock costs more than half of what a cached read does, so it is not read for each request. One that never waits is only counted; when its pass
 * is over, all that the pass counted get the length of the pass: the time that the first one took, an upper bound for the others, and what a client that waits for
 * the answer sees at most. Whoever has to wait is worth a look at the clock of its own: when it is answered, and at the end of each kind of waiting.
 */
#ifndef SHALE_DAEMON_METER_H
#define SHALE_DAEMON_METER_H

#include "daemon/service.h"

/* @r is answered with @res. */
void meter_done(struct service *svc, struct request *r, int32_t res);

/* @r begins to wait in @state; what it waited for before is over. */
void meter_wait(struct service *svc, struct request *r, enum request_state state);

/* @r waits no more, and is worked on. */
void meter_resume(struct service *svc, struct request *r);

/* A pass that had something to do took @ns. */
void meter_pass(struct service *svc, uint64_t ns);

/* Writes begin to wait, and none does any more. */
void meter_stall_begun(struct service *svc);
void meter_stall_ended(struct service *svc);

/* While writes wait, each pass: one that lasts becomes an event. */
void meter_stall_goes_on(struct service *svc);

#endif
