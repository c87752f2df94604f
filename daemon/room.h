/*
 * room.h - how much of the daemon's memory the waiting reads of a client, and of a user, may pin. The service thread only.
 */
#ifndef SHALE_DAEMON_ROOM_H
#define SHALE_DAEMON_ROOM_H

#include "daemon/service.h"

/*
 * @r is about to take @more bytes besides those that it has. True: it may, and is at it until it ends or is refused. False: it waits in its session's crowd,
 * and is run again from the start (read_again) when there is room. With @more zero it may, and is not counted.
 */
bool room_enter(struct service *svc, struct request *r, size_t more);

/* It has @bytes now. */
void room_set(struct request *r, size_t bytes);

/* It has nothing any more, and is not at it. */
void room_drop(struct service *svc, struct request *r);

/* Out of its session: it ends, or nobody waits for it any more. What its reads under way hold stays charged to its user. */
void room_leave(struct service *svc, struct request *r);

/* Those reads are over as well. */
void room_forget(struct service *svc, struct request *r);

/* Runs those that fit by now. How many. */
unsigned room_run(struct service *svc);

#endif
