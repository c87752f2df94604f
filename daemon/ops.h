/* ops.h - what each operation of shm/layout.h does. The service thread only. */
#ifndef SHALE_DAEMON_OPS_H
#define SHALE_DAEMON_OPS_H

#include "daemon/service.h"

/* Checks and executes one submission (a private copy): it is completed, waits, or its session is broken. */
void ops_execute(struct service *svc, struct session *s, const struct sqe *sqe);

/* Tries a stalled write, flush or compaction again. True when it is no longer stalled (completed or waiting for something else). */
bool ops_retry(struct service *svc, struct request *r);

/* What became of a write that the engine took: its completion, or the wait for its sync. r->sequence: the last one before it. */
void ops_written(struct service *svc, struct request *r, int rc, uint64_t sequence, uint64_t position);

/* Makes r->in a private copy of the payload. 0 or -ENOMEM. */
int ops_copy_payload(struct request *r);

/* Completes with an answer of which all is known, cut to the room that the client gave. */
void ops_answer(struct service *svc, struct request *r, const void *data, size_t size);

#endif
