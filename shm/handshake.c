/*
 * handshake.c - one HELLO, one WELCOME, three descriptors.
 *
 * Neither side believes the other yet. The daemon accepts no descriptor at all and checks every field of HELLO. The
 * client may have been pointed at any socket on the machine, so it checks what answers in the order magic, size, ABI,
 * status, fingerprint, descriptors, and says in words what it found. Nothing is mapped here.
 */
#include "shm/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/layout.h"
#include "shm/park.h"

enum { FIXED_HEAD = 16 }; /* bytes of both messages that no release changes */

/* Room for one SCM_RIGHTS message, aligned as the kernel wants it. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(WELCOME_FDS * sizeof(int))];
};

int socket_address(const char *path, struct sockaddr_un *addr, socklen_t *len, int *dirfd_out)
{
	const char *slash = strrchr(path, '/');
	int dirfd = -1, n;

	if (!*path)
		return -ENOENT; /* the kernel would make up an address */
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(addr->sun_path)) {
		char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

		if (!dir)
			return -ENOMEM;
		dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		free(dir);
		if (dirfd < 0)
			return -errno;
		n = snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/%s", dirfd,
			     slash ? slash + 1 : path);
	} else {
		n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	}
	if (n < 0 || (size_t)n >= sizeof(addr->sun_path)) {
		if (dirfd >= 0)
			close(dirfd);
		return -ENAMETOOLONG;
	}
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
	*dirfd_out = dirfd;
	return 0;
}

/* ---- client: connecting ---- */

/* -EACCES in words: who owns the socket, what its mode is, who we are. */
static int no_permission(const char *path, struct err_info *err)
{
	char owner_name[64] = "?", group_name[64] = "?";
	char buf[1024];
	struct passwd pw, *pwp = NULL;
	struct group gr, *grp = NULL;
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, -EACCES,
			       "no permission to reach %s as uid %u: a directory on its way may not be searched", path,
			       (unsigned)geteuid());
	if (getpwuid_r(st.st_uid, &pw, buf, sizeof(buf), &pwp) == 0 && pwp)
		snprintf(owner_name, sizeof(owner_name), "%s", pw.pw_name);
	if (getgrgid_r(st.st_gid, &gr, buf, sizeof(buf), &grp) == 0 && grp)
		snprintf(group_name, sizeof(group_name), "%s", gr.gr_name);
	return err_set(
		err, -EACCES,
		"no permission to connect to %s as uid %u: it belongs to user %s (%u), group %s (%u), mode %04o; join "
		"that group, or have the daemon's socket mode widened",
		path, (unsigned)geteuid(), owner_name, (unsigned)st.st_uid, group_name, (unsigned)st.st_gid,
		(unsigned)st.st_mode & 07777);
}

static int refused(const char *path, struct err_info *err)
{
	struct stat st;

	if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return err_set(err, -SHALE_ENOTSHALE, "%s is no socket; name the socket of a shaled", path);
	return err_set(
		err, -ECONNREFUSED,
		"nobody listens on %s: the daemon that made this socket is gone; start it again with: shaled --db DIR "
		"--socket %s",
		path, path);
}

/* What a failed connect() means. */
static int connect_failed(const char *path, int code, struct err_info *err)
{
	switch (code) {
	case -ENOENT:
	case -ENOTDIR:
		return err_set(err, -ENOENT,
			       "no daemon: there is no socket %s; start it with: shaled --db DIR --socket %s", path,
			       path);
	case -ECONNREFUSED:
		return refused(path, err);
	case -EACCES:
	case -EPERM:
		return no_permission(path, err);
	case -EPROTOTYPE:
		return err_set(err, -SHALE_ENOTSHALE,
			       "%s belongs to another program: it is not the type of socket that shaled has", path);
	case -EAGAIN:
	case -EINPROGRESS:
		return err_set(err, -ETIMEDOUT,
			       "the daemon on %s does not accept connections: it hangs or is overloaded; see: shalectl "
			       "--socket %s status",
			       path, path);
	case -ENAMETOOLONG:
		return err_set(err, code,
			       "%s: the socket's file name is too long; a unix socket's name may have about %zu bytes",
			       path, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	default:
		return err_set(err, code, "connecting to %s: %s", path, shale_strerror(code));
	}
}

static uint64_t left_ms(uint64_t give_up_ns)
{
	uint64_t now = monotonic_ns();

	return now >= give_up_ns ? 0 : (give_up_ns - now + 999999) / 1000000;
}

/* A connected socket, or a negative code without words. A full backlog is waited for, until @give_up_ns. */
static int connect_to(const char *path, uint64_t give_up_ns)
{
	struct sockaddr_un addr;
	socklen_t len;
	int fd, dirfd = -1, rc;

	rc = socket_address(path, &addr, &len, &dirfd);
	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		rc = -errno;
		goto done;
	}
	do {
		uint64_t ms = left_ms(give_up_ns);
		struct timeval limit = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

		if (ms == 0) {
			rc = -EAGAIN;
			break;
		}
		/*
		 * A connect to a unix socket blocks for room in the backlog only, and the send time limit bounds that.
		 */
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		rc = connect(fd, (struct sockaddr *)&addr, len) < 0 ? -errno : 0;
	} while (rc == -EINTR);
	if (rc < 0) {
		close(fd);
		fd = -1;
	}
done:
	if (dirfd >= 0)
		close(dirfd);
	return fd < 0 ? rc : fd;
}

/* ---- client: the exchange ---- */

static void close_all(int *fds, unsigned n)
{
	while (n > 0)
		close(fds[--n]);
}

/*
 * Takes the descriptors of @msg. Returns how many were kept, or -EPROTO (all closed) when they are not exactly
 * WELCOME_FDS or none.
 */
static int take_fds(struct msghdr *msg, int fds[WELCOME_FDS])
{
	unsigned kept = 0, seen = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++, seen++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (kept < WELCOME_FDS)
				fds[kept++] = fd;
			else
				close(fd);
		}
	}
	if ((msg->msg_flags & MSG_CTRUNC) || (seen != 0 && seen != WELCOME_FDS)) {
		close_all(fds, kept);
		return -EPROTO;
	}
	return (int)kept;
}

/*
 * Waits for one message. Returns its size, 0 when the other side closed, -ETIMEDOUT or -errno; the descriptors go to
 * @fds.
 */
static long receive_welcome(int fd, uint64_t give_up_ns, struct welcome *w, int fds[WELCOME_FDS], int *nfds_out)
{
	union control control;
	struct iovec iov = {.iov_base = w, .iov_len = sizeof(*w)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n;
	int rc;

	do {
		uint64_t ms = left_ms(give_up_ns);

		rc = poll(&p, 1, ms > 60000 ? 60000 : (int)ms);
		if (rc == 0 && left_ms(give_up_ns) == 0)
			return -ETIMEDOUT;
		if (rc < 0 && errno != EINTR)
			return -errno;
	} while (rc <= 0);
	/*
	 * A daemon that refuses before it has read HELLO leaves us a reset and, behind it, the refusal: the reset is
	 * reported once, then the message can be had.
	 */
	for (int tries = 0;;) {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n >= 0 || (errno != EINTR && (errno != ECONNRESET || tries++)))
			break;
	}
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	rc = take_fds(&msg, fds);
	if (rc < 0)
		return rc;
	*nfds_out = rc;
	if (msg.msg_flags & MSG_TRUNC)
		return (long)sizeof(*w) + 1; /* longer than ours, by how much does not matter */
	return n;
}

static int other_version(uint32_t abi, uint32_t size, uint64_t fingerprint, struct err_info *err)
{
	return err_set(
		err, -SHALE_EABI,
		"the daemon speaks protocol version %u (WELCOME of %u bytes, layout %016llx), this library version %u "
		"(%zu bytes, layout %016llx): install matching versions of shaled and libshale, then restart the "
		"service",
		abi, size, (unsigned long long)fingerprint, (unsigned)SHM_ABI, sizeof(struct welcome),
		(unsigned long long)layout_fingerprint());
}

/* The words of a refusal: whatever bytes came, without control characters. */
static int told_no(struct welcome *w, struct err_info *err)
{
	w->text[sizeof(w->text) - 1] = '\0';
	for (char *p = w->text; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return err_set(err, w->status, "%s", w->text[0] ? w->text : shale_strerror(w->status));
}

static bool is_as_long(int fd, uint64_t size)
{
	struct stat st;

	return fstat(fd, &st) == 0 && size > 0 && st.st_size > 0 && (uint64_t)st.st_size >= size;
}

/* @n bytes of @w came, with @nfds descriptors. */
static int check_welcome(struct welcome *w, long n, const int *fds, int nfds, const char *path, struct err_info *err)
{
	if (n < FIXED_HEAD || w->magic != WELCOME_MAGIC)
		return err_set(err, -SHALE_ENOTSHALE,
			       "what answers on %s is not shaled: it sent something else than WELCOME", path);
	if (n != (long)sizeof(*w) || w->size != sizeof(*w) || w->abi != SHM_ABI)
		return other_version(w->abi, w->size, n >= 24 ? w->fingerprint : 0, err);
	if (w->status < 0)
		return told_no(w, err);
	if (w->fingerprint != layout_fingerprint())
		return other_version(w->abi, w->size, w->fingerprint, err);
	if (w->status > 0 || w->reserved || nfds != WELCOME_FDS)
		return err_set(err, -EPROTO,
			       "the daemon on %s sent a WELCOME that makes no sense (status %d, %d descriptors)", path,
			       w->status, nfds);
	/* A segment shorter than it is said to be would raise SIGBUS when touched. */
	if (!is_as_long(fds[0], w->channel_size) || !is_as_long(fds[1], w->region_size) ||
	    !is_as_long(fds[3], w->rows_size))
		return err_set(err, -EPROTO, "the daemon on %s handed over segments that are shorter than it says",
			       path);
	return 0;
}

int handshake_connect(const char *path, const struct hello *hello, unsigned timeout_ms, int *socket_out,
		      struct welcome *welcome_out, int fds_out[WELCOME_FDS], struct err_info *err)
{
	const uint64_t give_up_ns = monotonic_ns() + (uint64_t)timeout_ms * 1000000;
	int fds[WELCOME_FDS], nfds = 0, rc;
	struct welcome w = {0};
	long n;
	int fd;

	fd = connect_to(path, give_up_ns);
	if (fd < 0)
		return connect_failed(path, fd, err);
	/* A daemon that refused us already may have closed its end; its words can still be read. */
	if (send(fd, hello, sizeof(*hello), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE && errno != ECONNRESET) {
		rc = -errno;
		err_set(err, rc, "sending HELLO to %s: %s", path, shale_strerror(rc));
		goto fail;
	}
	n = receive_welcome(fd, give_up_ns, &w, fds, &nfds);
	if (n == -ETIMEDOUT) {
		rc = err_set(err, -ETIMEDOUT,
			     "the daemon on %s accepted, but did not answer within %u ms: it is starting, hangs, or is "
			     "not shaled",
			     path, timeout_ms);
	} else if (n < 0) {
		rc = err_set(err, (int)n, "waiting for the WELCOME of %s: %s", path, shale_strerror((int)n));
	} else if (n == 0) {
		rc = err_set(err, -SHALE_ENOTSHALE,
			     "what listens on %s hung up without an answer: it is not shaled, or just ended", path);
	} else {
		rc = check_welcome(&w, n, fds, nfds, path, err);
	}
	if (rc < 0)
		goto fail;
	*socket_out = fd;
	*welcome_out = w;
	memcpy(fds_out, fds, sizeof(fds));
	return 0;
fail:
	close_all(fds, (unsigned)nfds);
	close(fd);
	return rc;
}

/* ---- daemon ---- */

int hello_check(const void *bytes, size_t size, struct hello *out, struct err_info *err)
{
	struct hello h = {0};

	if (size < FIXED_HEAD)
		return err_set(err, -EPROTO, "HELLO is cut short: %zu bytes", size);
	memcpy(&h, bytes, min_size(size, sizeof(h)));
	if (h.magic != HELLO_MAGIC)
		return err_set(err, -EPROTO, "this is shaled: it expects HELLO of libshale, not what was sent");
	if (h.size != size)
		return err_set(err, -EPROTO, "HELLO says that it has %u bytes, but %zu came", h.size, size);
	if (h.size != sizeof(h) || h.abi != SHM_ABI || h.fingerprint != layout_fingerprint())
		return err_set(err, -SHALE_EABI,
			       "the library speaks protocol version %u (HELLO of %u bytes, layout %016llx), the daemon "
			       "version %u "
			       "(%zu bytes, layout %016llx, release " SHALE_VERSION
			       "): install matching versions of shaled and "
			       "libshale, then restart the service",
			       h.abi, h.size, (unsigned long long)h.fingerprint, (unsigned)SHM_ABI, sizeof(h),
			       (unsigned long long)layout_fingerprint());
	if (h.flags & ~(uint32_t)HELLO_FLAGS_KNOWN)
		return err_set(err, -EPROTO, "HELLO has flags that the daemon does not know: %#x", h.flags);
	if (h.reserved)
		return err_set(err, -EPROTO, "HELLO's reserved field is not zero");
	*out = h;
	return 0;
}

long handshake_receive(int socket, void *buf, size_t cap, unsigned *stray_out)
{
	struct iovec iov = {.iov_base = buf, .iov_len = cap};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do
		n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	*stray_out = (msg.msg_flags & MSG_CTRUNC) ? 1 : 0;
	if (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		return -EPROTO;
	return n;
}

int handshake_send(int socket, const struct welcome *w, const int *fds, unsigned nfds)
{
	union control control = {0};
	struct iovec iov = {.iov_base = (void *)w, .iov_len = sizeof(*w)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	assert(nfds <= WELCOME_FDS);
	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(*w) ? 0 : -EPROTO;
}
