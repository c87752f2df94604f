/*
 * link.h - a session by hand, for what the library has no call for: kick, checkpoint, check.
 */
#ifndef SHALE_SHALECTL_LINK_H
#define SHALE_SHALECTL_LINK_H

#include "shm/handshake.h"
#include "shm/region.h"
#include "shm/ring.h"
#include "tools/shalectl/shalectl.h"

struct link {
	int socket, fds[WELCOME_FDS];
	struct welcome welcome;
	struct region region;
	void *base;
	struct ring_client ring;
	uint64_t session;
	unsigned char *arena;
	size_t arena_size;
};

/* A read-only session. EXIT_OK, or the exit code after having said why. */
int link_open(struct ctl *ctl, struct link *l);
void link_close(struct link *l);

/* Submits @sqe, whose session is filled in here. At most RING_ENTRIES_MIN may wait. 0 or -errno. */
int link_submit(struct link *l, const struct sqe *sqe);

/* The next completion: 1 and *@out; 0: none until @until_ns; -EPIPE: the session has ended. */
int link_wait(struct link *l, uint64_t until_ns, struct cqe *out);

#endif
