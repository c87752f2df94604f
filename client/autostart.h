/*
 * autostart.h - a private shaled for a database directory that nobody serves.
 */
#ifndef SHALE_CLIENT_AUTOSTART_H
#define SHALE_CLIENT_AUTOSTART_H

#include <pthread.h>

#include "shm/base.h"

struct err_info;

struct autostart {
	char *directory; /* owned, absolute; NULL: not wanted */
	pthread_mutex_t lock;
	/* guarded by it: */
	int pidfd;      /* of the daemon that we started; -1: none, or it ended */
	unsigned tries; /* daemons started since the last connection */
};

/* Takes @directory; NULL: autostart_help() does nothing. */
void autostart_init(struct autostart *a, char *directory);
void autostart_fini(struct autostart *a, bool forked);

/*
 * Nobody listens on @socket. Starts a daemon, unless one is on its way or has just to be waited for. 0: go on trying to connect; or why that is of no
 * use, with words.
 */
int autostart_help(struct autostart *a, const char *socket, struct err_info *err);

/* A connection was made. */
void autostart_done(struct autostart *a);

/* Whether another program has the database open. */
bool autostart_locked(const struct autostart *a);

#endif
