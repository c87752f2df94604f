/* writes.h - WRITE, FLUSH and COMPACT: what happens in each session's order. The service thread only. */
#ifndef SHALE_DAEMON_WRITES_H
#define SHALE_DAEMON_WRITES_H

#include "daemon/service.h"

/* Begins a request of these operations: it is completed, or waits. */
void write_begin(struct service *svc, struct request *r);
void flush_begin(struct service *svc, struct request *r);
void compact_begin(struct service *svc, struct request *r);

/* Tries a stalled one again. True when it is no longer stalled (completed, or waiting for something else). */
bool write_retry(struct service *svc, struct request *r);

/* The blocks that its conditions needed are in. */
void write_again(struct service *svc, struct request *r);

/* What became of a write that the engine took: its completion, or the wait for its sync. r->sequence: the last one before it. */
void write_ended(struct service *svc, struct request *r, int rc, uint64_t sequence, uint64_t position);

/* Asks the engine for the flush that @r waits for. False: it is due, and cannot begin now; this keeps no writes back. */
bool flush_start(struct service *svc, struct request *r);

#endif
