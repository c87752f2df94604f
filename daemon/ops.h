/* ops.h - what each operation of shm/layout.h does. The service thread only. */
#ifndef SHALE_DAEMON_OPS_H
#define SHALE_DAEMON_OPS_H

#include "daemon/service.h"

/* Checks and executes one submission (a private copy): it is completed, waits, or its session is broken. */
void ops_execute(struct service *svc, struct session *s, const struct sqe *sqe);

/* Probes a read again. */
void ops_reprobe(struct service *svc, struct request *r);

/* Tries a stalled write, flush or compaction again. True when it is no longer stalled (completed or waiting for something else). */
bool ops_retry(struct service *svc, struct request *r);

#endif
