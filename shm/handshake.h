/*
 * handshake.h - HELLO and WELCOME over the SOCK_SEQPACKET unix socket, with descriptors.
 *
 *	client                         daemon
 *	  HELLO (abi, wanted sizes) ─▶  SO_PEERCRED, pidfd, access rules, quotas
 *	  ◀─ WELCOME (status, sizes, session) + fds { channel, region, doorbell, rows }
 *	  … the socket stays open; its hang-up ends the session …
 *
 * A refusal is a WELCOME with a negative status, words, and no descriptors. Both messages are fixed-size, begin with
 * magic, and are checked field by field; their first 16 bytes never change, so that any two releases can refuse each
 * other in words.
 */
#ifndef SHALE_SHM_HANDSHAKE_H
#define SHALE_SHM_HANDSHAKE_H

#include <sys/socket.h>
#include <sys/un.h>

#include "shm/base.h"

struct err_info;

#define HELLO_MAGIC 0x6f6c6853u   /* "Shlo" */
#define WELCOME_MAGIC 0x636c6853u /* "Shlc" */

enum {
	HELLO_READ_ONLY = 1 << 0, /* the session will refuse writes */
	HELLO_FLAGS_KNOWN = 1 << 0,
	WELCOME_FDS = 4, /* channel, region (read-only), doorbell eventfd, row cache (read-only) */
};

struct hello {
	uint32_t magic;
	uint32_t size; /* of this struct */
	uint32_t abi;  /* SHM_ABI */
	uint32_t flags;
	uint64_t fingerprint;  /* layout_fingerprint() */
	uint32_t ring_entries; /* wanted; 0 for the daemon's default; rounded up to a power of two */
	uint32_t reserved;
	uint64_t arena_size; /* wanted bytes; 0 for the default */
};

struct welcome {
	uint32_t magic;
	uint32_t size;
	uint32_t abi;
	int32_t status; /* 0, or why the session was refused */
	uint64_t fingerprint;
	uint64_t session;
	unsigned char boot_id[16];
	uint64_t channel_size;
	uint64_t region_size;
	uint64_t rows_size;
	uint64_t max_request_bytes; /* largest batch or value that the daemon takes */
	uint64_t max_key_bytes;
	uint32_t spin_us; /* how long the daemon suggests to spin before parking */
	uint32_t reserved;
	uint64_t monotonic_ns; /* the daemon's CLOCK_MONOTONIC, which is what deadlines are told in */
	char text[512]; /* NUL-terminated words of a refusal */
};

static_assert(sizeof(struct hello) == 40, "HELLO is fixed");
static_assert(offsetof(struct welcome, text) == 104 && sizeof(struct welcome) == 616, "WELCOME is fixed");

/*
 * Fills @addr and @len for @path. A path that is too long for the kernel is reached through its directory, which stays
 * open in *@dirfd_out (owned; -1 when not needed) for as long as the address is used. For connect() and bind() alike.
 * Returns 0, -ENOENT (an empty path), -ENAMETOOLONG (the last component alone is too long) or -errno of opening the
 * directory.
 */
int socket_address(const char *path, struct sockaddr_un *addr, socklen_t *len, int *dirfd_out);

/*
 * Client: connects to @path and exchanges HELLO and WELCOME, waiting at most @timeout_ms.
 * On success: 0, *@welcome_out filled, @fds_out owned by the caller, the connected socket in *@socket_out (owned).
 * Failure, with words: -ENOENT / -ECONNREFUSED (no daemon), -EACCES, -SHALE_ENOTSHALE, -SHALE_EABI, -ETIMEDOUT, the
 * status of a refusal, or another -errno; nothing is left open.
 */
int handshake_connect(const char *path, const struct hello *hello, unsigned timeout_ms, int *socket_out,
		      struct welcome *welcome_out, int fds_out[WELCOME_FDS], struct err_info *err);

/*
 * Daemon: checks the bytes of a received HELLO. Returns 0 and *@out, or the negative status to refuse with (-EPROTO,
 * -SHALE_EABI), with words for the client.
 */
int hello_check(const void *bytes, size_t size, struct hello *out, struct err_info *err);

/*
 * Daemon: receives one message without blocking. No room is offered for descriptors, so that the kernel drops what a
 * client sends along before it is ever open here. Returns the message's size (0: hang-up), -EAGAIN, -EPROTO (larger
 * than @cap, or descriptors came along: *@stray_out is 1), -errno.
 */
long handshake_receive(int socket, void *buf, size_t cap, unsigned *stray_out);

/* Daemon: sends WELCOME with @nfds descriptors (borrowed) without blocking. 0 or -errno. */
int handshake_send(int socket, const struct welcome *w, const int *fds, unsigned nfds);

#endif
