/* checks.h - CHECK: who may ask, and what is answered. The service thread only; what takes the disk is a worker's (engine/check.h). */
#ifndef SHALE_DAEMON_CHECKS_H
#define SHALE_DAEMON_CHECKS_H

#include "daemon/service.h"

/* Completes @r, or makes it wait in service.errands. */
void check_begin(struct service *svc, struct request *r);

/* Answers @r when its check has ended. False: it has not. */
bool check_ended(struct service *svc, struct request *r);

#endif
