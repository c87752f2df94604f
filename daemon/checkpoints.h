/* checkpoints.h - CHECKPOINT: who may ask, and what is answered. The service thread only; the work is a worker's (engine/checkpoint.h). */
#ifndef SHALE_DAEMON_CHECKPOINTS_H
#define SHALE_DAEMON_CHECKPOINTS_H

#include "daemon/service.h"

/* Completes @r, or makes it wait in service.errands. */
void checkpoint_begin(struct service *svc, struct request *r);

/* Answers @r when its checkpoint has ended. False: it has not. */
bool checkpoint_ended(struct service *svc, struct request *r);

#endif
