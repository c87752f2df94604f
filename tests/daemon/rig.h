/*
 * rig.h - the service loop with real sessions, in one process: the loop runs in a thread of its own on a scratch database, the test
 * plays the clients over the same channels, and the control thread's part of taking sessions back.
 */
#ifndef SHALE_TESTS_DAEMON_RIG_H
#define SHALE_TESTS_DAEMON_RIG_H

#include "tests/test.h"

#include <pthread.h>
#include <semaphore.h>

#include "daemon/roster.h"
#include "daemon/rows.h"
#include "daemon/stats.h"
#include "daemon/worker.h"
#include "shm/error.h"

struct rig {
	/* set before rig_start() */
	uint64_t set_aside_every_ns; /* 0: the service's own */
	bool no_workers;     /* nothing is flushed until rig_work() */
	bool still;	     /* no thread runs the service: the test calls its parts, and nothing happens by itself */
	const char *setting; /* one more, or NULL */

	_Atomic bool working;	/* rig_work() is over; release, pairs with the acquire before workers_stop() */
	_Atomic bool fail_sync; /* the log's fdatasync fails from now on */
	_Atomic bool hold_reads; /* blocks do not arrive; once it is false again, with the next thing that goes to the disk */
	_Atomic unsigned held;	 /* that do not arrive now */
	char *dir;
	char instance[INSTANCE_LEN + 1];
	struct config config;
	struct io_env *env;
	struct engine_host host;
	struct engine *engine;
	struct region region;
	struct rows rows;
	struct workers workers;
	struct service service;
	pthread_t thread;
	sem_t ready;
	int rc;
	bool up;
	uint64_t next_id;
};

extern struct rig rig;

void rig_start(void);

/* Starts the workers that no_workers held back. */
void rig_work(void);

/* Ends the loop (service_stop) and checks that it ended with @rc; takes everything down. */
void rig_stop_as(int rc);
void rig_stop(void); /* cleanly */

struct client {
	struct session *s;
	struct ring_client ring;
	unsigned char *arena;
	size_t arena_size;
	uint64_t user_data;
};

void client_open(struct client *c, bool read_only);

/* The same, with the daemon's end of a connection, which the session takes. */
void client_open_with(struct client *c, bool read_only, int socket);

/* One with so much arena. */
void client_open_large(struct client *c, size_t arena);

/* One of that user. */
void client_open_as(struct client *c, uid_t uid);
void client_open_large_as(struct client *c, uid_t uid, size_t arena);

/* As when it hangs up: posts SESSION_END, waits for SESSION_GONE, frees. */
void client_close(struct client *c);

/* As the control thread: waits for a mail that says @bits about @s. */
void await_mail(struct session *s, unsigned bits);

/* Fills the submission @ahead places from the tail: an answer may take the upper half of the arena. */
struct sqe *prepare(struct client *c, unsigned ahead, unsigned op);

/* Makes @n of them visible, with the doorbell when it is asked for. */
void publish(struct client *c, unsigned n);

/* The next completion; fails after 8 s. */
struct cqe take(struct client *c);

/* prepare, publish, take, with a payload at the arena's beginning. */
struct cqe call(struct client *c, unsigned op, unsigned flags, uint64_t sequence, const void *in, size_t size);

/* The answer's bytes. */
const unsigned char *answer(const struct client *c);

/* A write of one record (NULL: a deletion). */
struct cqe put(struct client *c, unsigned flags, const char *key, const char *value);

/* @value NULL: not found. */
void ck_get(struct client *c, uint64_t sequence, const char *key, const char *value);

/* 1 ms. */
void nap(void);

#endif
