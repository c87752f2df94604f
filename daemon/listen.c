#include "daemon/listen.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "shm/base.h"
#include "shm/error.h"
#include "shm/handshake.h"

enum { BACKLOG = 128 };

struct address {
	struct sockaddr_un un;
	socklen_t len;
	int dirfd; /* of a path that is too long for the system; -1 */
};

static bool somebody_answers(const struct address *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answered;

	if (fd < 0)
		return false;
	answered = connect(fd, (const struct sockaddr *)&addr->un, addr->len) == 0 || errno == EAGAIN ||
		   errno == EPROTOTYPE;
	close(fd);
	return answered;
}

/* Makes the name free, if what is there is a dead socket. */
static int clear_path(const char *path, const struct address *addr, struct err_info *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "the socket %s: %s", path, shale_strerror(-errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST,
			       "%s is there already and is no socket: remove it, or choose another place by --socket",
			       path);
	if (somebody_answers(addr))
		return err_set(err, -EADDRINUSE, "another program listens on %s: choose another place by --socket",
			       path);
	if (unlink(path) < 0)
		return err_set(err, -errno, "the left-over socket %s cannot be removed: %s", path,
			       shale_strerror(-errno));
	return 0;
}

/*
 * Descriptors that a client sends are refused by the kernel, where it can (6.16): to drop them here means to close them here, and the last close
 * of some files takes as long as their owner likes (a TCP socket lingers for what cannot be delivered). The connections inherit this. Older kernels:
 * see "Known limits" in ARCHITECTURE.md.
 */
static void refuse_descriptors(int fd)
{
#ifndef SO_PASSRIGHTS
	enum { SO_PASSRIGHTS = 83 };
#endif
	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int));
}

static int open_at(const char *path, const struct address *addr, mode_t mode, struct err_info *err)
{
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "no socket: %s", shale_strerror(-errno));
	refuse_descriptors(fd);
	/*
	 * The name is made with the socket's own mode, less the umask: so there is no moment with a wider one. (To change the umask itself would
	 * change it for the files that the workers make meanwhile.)
	 */
	rc = fchmod(fd, mode) < 0 ? -errno : 0;
	if (rc == 0)
		rc = bind(fd, (const struct sockaddr *)&addr->un, addr->len) < 0 ? -errno : 0;
	if (rc == 0 && chmod(addr->un.sun_path, mode) < 0) {
		rc = -errno;
		unlink(path);
	}
	if (rc < 0) {
		err_set(err, rc, "the socket %s cannot be made: %s%s", path, shale_strerror(rc),
			rc == -ENOENT ? ": its directory must exist" : "");
	} else if (listen(fd, BACKLOG) < 0) {
		rc = err_set(err, -errno, "cannot listen on %s: %s", path, shale_strerror(-errno));
		unlink(path);
	}
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int listen_open(const char *path, mode_t mode, struct err_info *err)
{
	struct address addr;
	int rc = socket_address(path, &addr.un, &addr.len, &addr.dirfd);

	if (rc == -ENAMETOOLONG)
		return err_set(err, rc,
			       "the socket's name in %s is too long for the system: choose a shorter one by --socket",
			       path);
	if (rc < 0)
		return err_set(err, rc, "the socket %s: %s: its directory must exist", path, shale_strerror(rc));
	rc = clear_path(path, &addr, err);
	if (rc == 0)
		rc = open_at(path, &addr, mode, err);
	if (addr.dirfd >= 0)
		close(addr.dirfd);
	return rc;
}

int listen_passed(char *path_out, struct err_info *err)
{
	struct sockaddr_un addr = {0};
	socklen_t len = sizeof(addr);
	int n = sd_listen_fds(1), fd = SD_LISTEN_FDS_START;

	if (n == 0)
		return -ENOENT;
	if (n < 0)
		return err_set(err, -SHALE_ECONFIG, "the sockets that were passed cannot be used (LISTEN_FDS): %s",
			       shale_strerror(n));
	if (n > 1)
		return err_set(err, -SHALE_ECONFIG,
			       "%d sockets were passed; shaled listens on one: give the .socket unit a single "
			       "ListenSequentialPacket=",
			       n);
	if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0)
		return err_set(err, -SHALE_ECONFIG,
			       "what was passed as a socket is no listening unix socket of type SOCK_SEQPACKET: the "
			       ".socket unit "
			       "must say ListenSequentialPacket=/some/path");
	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0 ||
	    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return err_set(err, -SHALE_ECONFIG, "the socket that was passed cannot be used: %s",
			       shale_strerror(-errno));
	refuse_descriptors(fd);
	snprintf(path_out, PATH_MAX, "%s", addr.sun_path[0] ? addr.sun_path : "an abstract name");
	return fd;
}
