/*
 * window.h - the memory of the WAL window: a shared-memory segment, or a file in the database directory.
 *
 * It outlives a killed daemon, so at the start there may be one that holds acknowledged writes. Such a one is always
 * used as it is, whatever the configuration says by now of kind and size: recovery needs its bytes. The configuration holds
 * from the next start after a clean end, which removes it.
 */
#ifndef SHALE_DAEMON_WINDOW_H
#define SHALE_DAEMON_WINDOW_H

#include "daemon/config.h"
#include "shm/segment.h"

struct window {
	enum window_kind kind;
	struct segment segment; /* WINDOW_SHM; WINDOW_DIRECTORY uses its fd, base and size only */
	size_t ring_bytes;	/* what engine_options.wal_ring_bytes must be */
	bool found;		/* it was there: left by a daemon that did not end cleanly */
	int dirfd;		/* borrowed */
};

/* The database must be locked. 0 or a negative code with words. */
int window_open(struct window *w, const struct config *config, int dirfd, const char *instance, struct err_info *err);

/* Unmaps; removes it only after a clean end (@remove): otherwise it holds what recovery needs. Takes a zeroed struct. */
void window_close(struct window *w, bool remove);

#endif
