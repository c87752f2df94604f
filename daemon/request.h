/*
 * request.h - one request of a client, from the ring to its completion, and the pool that requests come from.
 *
 * Most requests are answered in the visit that took them and never wait. One that must wait is linked to its session and to the list
 * that will wake it. It may outlive its session: what cannot be dropped at once (block reads in flight, a compaction) is detached and goes unanswered.
 * The service thread only.
 */
#ifndef SHALE_DAEMON_REQUEST_H
#define SHALE_DAEMON_REQUEST_H

#include <sys/types.h>

#include "daemon/heap.h"
#include "daemon/list.h"
#include "engine/engine.h"
#include "shm/layout.h"

struct service;
struct session;
struct user;

enum request_state {
	REQUEST_RUNNING,  /* in no list: being executed */
	REQUEST_CROWDED,  /* session.crowd: a read that waits for room (room.c) */
	REQUEST_FETCHING, /* blocks are being read: comes back through read_ctx.fetched */
	REQUEST_READY,	  /* service.ready: they are in, probe again */
	REQUEST_STALLED,  /* session.stalled: a write that the engine cannot take now */
	REQUEST_SYNCING,  /* service.syncing: a write that waits for its fdatasync */
	REQUEST_JOB,	  /* service.flushes, .compactions or .errands */
	REQUEST_ANSWERING, /* session.answering: a large value on its way into the arena */
	REQUEST_UNDERWAY, /* service.underway: a write larger than the WAL's ring, which the engine has taken */
};

enum { REQUEST_IN_SPACE = 256 };

/* The keys before `done` are answered. */
struct multiget_progress {
	uint32_t count, done;
	size_t at;     /* where the next key lies in the payload */
	size_t used;   /* bytes of the answer so far */
	uint64_t need; /* bytes that it would have with room for all */
};

struct request {
	struct list link;	/* of the list that `state` names, or of the pool */
	struct list of_session; /* session.requests, while it waits */
	struct heap_member timed; /* service.timed, while it waits and has a deadline */
	struct service *service;
	struct session *session; /* NULL: nobody waits for an answer any more, only I/O or a job is awaited */
	struct sqe sqe;		 /* private copy, checked */
	enum request_state state;
	uint16_t delay;	   /* DELAY_… so far */
	uint16_t flags;	   /* CQE_… */
	uint8_t part;	   /* enum region_part: what it waits for now; REGION_PARTS: nothing that is metered */
	bool reader;	   /* room.c: counted in session.readers and user.readers */
	bool waited;	   /* for room, at least once */
	size_t room;	   /* bytes counted in session.room_used and user.room_used */
	uint64_t taken_ns; /* when it first had to wait */
	uint64_t part_ns;  /* since when it waits for `part` */
	uint64_t sequence; /* for the completion: read at, or written as */
	uint64_t position; /* SYNCING: in the WAL */
	uint64_t ticket;   /* JOB */
	uid_t owner;	   /* COMPACT: whose it is, also when nobody waits for it any more */
	struct view *view; /* reads: held while it waits */
	struct read_ctx ctx;
	struct scan scan;
	struct slice value; /* ANSWERING: held by view and ctx */
	size_t copied;	    /* of it */
	struct multiget_progress multiget;
	size_t wants;	    /* CROWDED: how much room, in bytes */
	struct user *payer; /* whose room its reads under way take, when it has left its session; else NULL */
	unsigned char
		*in; /* private copy of the payload, sqe.in_len bytes: in_space, or memory that is kept for the next */
	size_t in_cap;
	unsigned char in_space[REQUEST_IN_SPACE];
};

struct request_pool {
	struct service *service;
	struct read_shared *shared;
	struct list idle;
	struct list chunks;
	unsigned busy;
};

/* @shared is what the requests read through. */
void request_pool_init(struct request_pool *pool, struct service *service, struct read_shared *shared);
void request_pool_fini(struct request_pool *pool); /* all requests are back */

/* A request in state RUNNING; NULL when memory is short. No allocation while the pool has one. */
struct request *request_get(struct request_pool *pool, struct session *s, const struct sqe *sqe);

/* Gives it back: unlinks it everywhere, drops view and pins. No fetch is in flight. */
void request_put(struct request_pool *pool, struct request *r);

/* Lets go of what it has looked at. No fetch is in flight. */
void request_drop_view(struct request *r);

/* Makes r->in a private copy of @size bytes at @from (client memory, read once). 0 or -ENOMEM. */
int request_copy_in(struct request *r, const unsigned char *from, size_t size);

#endif
