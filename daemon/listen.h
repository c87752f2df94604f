/* listen.h - the daemon's unix socket. */
#ifndef SHALE_DAEMON_LISTEN_H
#define SHALE_DAEMON_LISTEN_H

#include <sys/types.h>

struct err_info;

/*
 * A listening SOCK_SEQPACKET socket at @path with @mode. A socket that is there already is replaced (the caller holds the database's lock,
 * so it is a dead daemon's) unless somebody answers on it: -EADDRINUSE. -EEXIST: there is something that is no socket. -ENAMETOOLONG.
 * Returns the descriptor (non-blocking), or a negative code with words.
 */
int listen_open(const char *path, mode_t mode, struct err_info *err);

#endif
