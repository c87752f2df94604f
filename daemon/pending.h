/*
 * pending.h - requests that wait, what wakes them, and their completion.
 *
 *	CROWDED    room for the blocks that it needs    → run again (room.c)
 *	FETCHING   blocks from disk                    → ready → probed again (reads.c, writes.c)
 *	STALLED    a memtable, level 0, log space      → retried in each session's order; shares.c chooses the session
 *	SYNCING    the fdatasync that covers them      → completed in order of position
 *	JOB        a flush, a compaction               → asked after each progress of the engine
 *	UNDERWAY   a write on its way through the ring → asked in each pass
 *
 * Any of them may have a deadline. The service thread only.
 */
#ifndef SHALE_DAEMON_PENDING_H
#define SHALE_DAEMON_PENDING_H

#include "daemon/service.h"

/* Answers the request and gives it back to the pool (now, or when its reads are over). */
void request_complete(struct service *svc, struct request *r, int32_t res, uint32_t len);

/* Makes it wait in @state, at the end of @where (NULL: in no list). */
void request_wait(struct service *svc, struct request *r, enum request_state state, struct list *where);

/* Its session is gone: drops it, or detaches it until its I/O or job is over. */
void request_abandon(struct service *svc, struct request *r);

/* Answers a waiting request with @rc before its time; what it waits for goes on without it. */
void pending_give_up(struct service *svc, struct request *r, int rc);

/* Puts a write behind the other stalled ones of its session, or before them. */
void pending_stall(struct service *svc, struct request *r, bool first);

/* The session's stalled writes, or what they wait for, changed: it waits for its turn, or does not. */
void pending_settle(struct service *svc, struct session *s);

/* Each returns how many requests it moved on. */
unsigned pending_run_ready(struct service *svc);
unsigned pending_retry_stalled(struct service *svc);
unsigned pending_check_underway(struct service *svc);
unsigned pending_complete_synced(struct service *svc);
unsigned pending_check_jobs(struct service *svc);
unsigned pending_expire(struct service *svc);

/* Answers everything that waits for the engine: syncs with -SHALE_EUNKNOWN, others with @rc. */
void pending_fail(struct service *svc, int rc);

/* When the loop must look again although nothing woke it: CLOCK_MONOTONIC, UINT64_MAX for never. */
uint64_t pending_next_ns(const struct service *svc);

#endif
