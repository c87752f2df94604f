/*
 * shares.h - whose write goes next when not all can go at once, and how fast.
 *
 * Two things can hold a write up. The engine cannot take it (a memtable, level 0, log space): then it holds for everybody. Or its writer
 * has had its share: of the rate that is left while level 0 is past its slowdown limit (service.slowdown_rate), or of its user's own limit
 * (limits.write_rate_per_uid). The service thread only.
 */
#ifndef SHALE_DAEMON_SHARES_H
#define SHALE_DAEMON_SHARES_H

#include "daemon/service.h"

/* A write of @size bytes of @s was taken. */
void share_charge(struct service *svc, struct session *s, size_t size);

/*
 * When the next write of @s may be tried, CLOCK_MONOTONIC; 0: now. @waiting: it waits already, so nobody's turn is taken by trying.
 */
uint64_t share_wait(struct service *svc, struct session *s, bool waiting);

/*
 * Of the sessions with stalled writes the one whose turn it is. NULL when all of them have to wait for their shares; *@ready_out is then when the first of them may.
 */
struct session *share_next(struct service *svc, uint64_t *ready_out);

#endif
