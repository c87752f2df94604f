/* ops.h - what each operation of shm/layout.h does. The service thread only. */
#ifndef SHALE_DAEMON_OPS_H
#define SHALE_DAEMON_OPS_H

#include "daemon/service.h"

/* Checks and executes one submission (a private copy): it is completed, waits, or its session is broken. */
void ops_execute(struct service *svc, struct session *s, const struct sqe *sqe);

/* Both keys of a COMPACT or SIZES payload, in the private copy. 0, -EINVAL, -E2BIG. */
int ops_two_keys(const struct service *svc, const struct request *r, struct slice *a_out, struct slice *b_out);

/* Makes r->in a private copy of the payload. 0 or -ENOMEM. */
int ops_copy_payload(struct request *r);

/* Completes with an answer of which all is known, cut to the room that the client gave. */
void ops_answer(struct service *svc, struct request *r, const void *data, size_t size);

/* Completes with a failure and its words, cut likewise. */
void ops_refuse(struct service *svc, struct request *r, const struct err_info *err);

#endif
