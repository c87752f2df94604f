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

/*
 * A socket that a supervisor passed (sd_listen_fds(3)), which must be a listening SOCK_SEQPACKET unix socket, and the only one; made non-blocking. The name in the
 * file system is the supervisor's: nobody here removes it. *@path_out (PATH_MAX bytes) gets it. Call it once, before there are threads.
 * Returns the descriptor, -ENOENT without words when none was passed, or -SHALE_ECONFIG with words.
 */
int listen_passed(char *path_out, struct err_info *err);

#endif
