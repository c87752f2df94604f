/* reads.h - the operations that read, and may have to wait for blocks. The service thread only. */
#ifndef SHALE_DAEMON_READS_H
#define SHALE_DAEMON_READS_H

#include "daemon/service.h"

enum { SEARCH_COST = 256 }; /* bytes that one search for a key counts as: session_charge() */

/* Each completes the request, or makes it wait for blocks. */
void read_get(struct service *svc, struct request *r);
void read_scan(struct service *svc, struct request *r);
void read_multiget(struct service *svc, struct request *r);

/* Fetches what its last probe missed, and comes back to read_again(). Completes it when that cannot begin. */
void read_fetch(struct service *svc, struct request *r);

/* Copies a slice of a large value. Returns how many requests it moved on. */
unsigned read_answer_on(struct service *svc);

/* Its blocks are in: probes again. */
void read_again(struct service *svc, struct request *r);

#endif
