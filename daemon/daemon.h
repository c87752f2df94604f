/*
 * daemon.h - the whole of shaled, put together: the order in which its parts start and end.
 *
 *	lock the directory → window → io_queue, engine_open (recovery) → sweep old segments, region → workers → socket, control thread → serve
 *
 * Nothing that another daemon may own is touched before the directory's lock is held; the socket appears only when the database is ready.
 */
#ifndef SHALE_DAEMON_DAEMON_H
#define SHALE_DAEMON_DAEMON_H

#include "daemon/config.h"

/*
 * Runs until SIGTERM, SIGINT or a failure of the engine. @sources: what @config was read from, for a reload. @socket may be NULL: <db>/shale.sock; a
 * socket that a supervisor passed goes before it. The calling thread, which must be the
 * only one, becomes the service thread. 0 after a clean end, or a negative code with words.
 */
int daemon_run(const struct config *config, const struct config_sources *sources, const char *database, const char *socket,
	       struct err_info *err);

#endif
