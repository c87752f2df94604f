/*
 * raw_client.h - a client that speaks the socket and the rings by hand, so that it can say what the library never would; and the
 * measures that every test of a hostile or unlucky client ends with: what the daemon holds, and how a client beside it fares.
 */
#ifndef SHALE_TESTS_PROC_RAW_CLIENT_H
#define SHALE_TESTS_PROC_RAW_CLIENT_H

#include <pthread.h>

#include "shm/batch.h"
#include "shm/condition.h"
#include "shm/handshake.h"
#include "shm/ring.h"
#include "tests/proc/proc.h"

/* ---- the socket ---- */

struct hello raw_hello(void);

/* A connected socket, or -errno. */
int raw_connect(const char *path, int type);

/* Sends @n bytes and the descriptor @fd (-1: none). As sendmsg(2), with -errno. */
ssize_t raw_send(int socket, const void *bytes, size_t n, int fd);

/* ---- a session ---- */

struct raw_client {
	int sock, fds[WELCOME_FDS];
	struct welcome welcome;
	unsigned char *base;
	size_t size;
	struct ring_client ring;
	uint64_t session;
	unsigned char *arena;
	size_t arena_size;
	uint64_t user_data;
};

/* A session with the sizes of @hello. 0, or the code of the refusal; raw_open() fails the test instead, and has a default HELLO. */
int raw_try(const char *path, const struct hello *hello, struct raw_client *out);
void raw_open(const char *path, struct raw_client *out);
void raw_close(struct raw_client *r);

/* Adds one to the doorbell. */
void raw_ring(const struct raw_client *r);

/* True when the daemon ended the session: the socket hung up within @patience_ms (which sanitizers stretch). */
bool raw_hung_up(const struct raw_client *r, int patience_ms);

/* Fills the slot @ahead places from the tail: @sqe, with the session's id unless it names one, and a new user_data. */
struct sqe *raw_prepare(struct raw_client *r, uint32_t ahead, struct sqe sqe);

/* Makes @n of them visible, and rings when the daemon is parked. */
void raw_publish(struct raw_client *r, uint32_t n);
void raw_submit(struct raw_client *r, struct sqe sqe);

enum { RAW_ENDED = INT32_MAX };

/* The next completion; its res is RAW_ENDED when the session ended instead. Fails after a long while. */
struct cqe raw_take(struct raw_client *r);

/* raw_submit and raw_take: the result. */
int32_t raw_call(struct raw_client *r, struct sqe sqe);

/* A batch of one record at arena[@off]: its length. @value NULL: a deletion. */
uint32_t raw_batch(struct raw_client *r, size_t off, const char *key, const char *value);
int32_t raw_put(struct raw_client *r, const char *key, const char *value);

/* ---- what the daemon holds ---- */

struct holdings {
	uint64_t sessions, snapshots;
	unsigned fds;	      /* besides those of the database's files */
	int segments;	      /* in /dev/shm, by name */
	unsigned mappings;    /* of channels, which have no name any more */
	uint64_t mapped;      /* bytes of those */
	uint64_t resident_kb; /* its own memory, besides the memtable */
};

struct holdings holdings_of(const struct private_daemon *d);

/* Waits until the daemon holds no more than @want (and not much more memory). Returns ms. */
double holdings_await(const struct private_daemon *d, struct holdings want);

/* ---- the client beside ---- */

/*
 * A well-behaved client in a thread: writes, deletes, reads, scans and snapshots keys of its own ("witness-…"), compares each answer with
 * what it must be, and remembers the slowest call.
 */
struct witness {
	struct shale_db *db;
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint64_t rounds, slowest_ns;
	uint64_t seed;
	bool complained;
	char complaint[300]; /* the thread's until it has been joined */
};

void witness_start(struct witness *w, const struct private_daemon *d, uint64_t seed);

/* Waits until it has made @rounds more; fails the test when that takes long. */
void witness_progress(struct witness *w, uint64_t rounds);

/* Ends it; fails the test when anything was wrong, or when a call took longer than @limit_ms (which sanitizers stretch). */
void witness_stop(struct witness *w, unsigned limit_ms);

/* ---- a daemon under attack ---- */

struct scene {
	struct private_daemon d;
	struct witness witness;
	struct holdings before;
};

/* A daemon with the --set words given up to NULL, a witness, and the baseline. */
void scene_begin(struct scene *s, ...) __attribute__((sentinel));

/* Fails, with the daemon's last words, when it has ended. */
void scene_alive(struct scene *s);

/* The daemon lives, the witness gets on, and what was taken is given back. */
void scene_check(struct scene *s);

/* scene_check, then the clean end of all. */
void scene_end(struct scene *s);

#endif
