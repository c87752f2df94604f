/*
 * service.h - the service thread: every session's ring, the write path, cached reads, one io_queue.
 *
 * Everything here is the service thread's own, except what a line says otherwise. daemon/README.md tells what one pass of the
 * loop does; service.c is the loop, roster.c keeps the sessions, turns.c chooses among them, ops.c, reads.c, writes.c and pins.c execute requests, pending.c
 * keeps those that wait, room.c bounds what reads pin meanwhile, shares.c chooses among writes;
 * meter.c tells how long it all takes.
 */
#ifndef SHALE_DAEMON_SERVICE_H
#define SHALE_DAEMON_SERVICE_H

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/request.h"
#include "daemon/session.h"
#include "shm/park.h"

enum { VISIT_TAKE = 8, RETRY_BUDGET = 32 };

struct service {
	const struct config *config; /* the caller's, or own_config */
	struct config *own_config;   /* what a reload brought */
	struct engine *engine;
	struct io_queue *queue;
	struct region *region;
	struct rows *rows; /* borrowed; NULL in tests */

	/* Any thread. */
	struct mailbox inbox;  /* sessions: SESSION_ADOPT, SESSION_END */
	struct mailbox outbox; /* sessions: SESSION_BROKEN, SESSION_GONE; the control thread's */
	int event;	       /* eventfd that ends our sleep */
	int outbox_event;      /* eventfd that tells the control thread to look into the outbox */
	_Atomic bool sleeping; /* we sleep, or are about to: wake us */
	_Atomic bool progress; /* the engine's background work got on */
	_Atomic bool stop;     /* somebody asked for a clean end */
	_Atomic(struct config *) new_config; /* of a reload: taken, and owned, by whoever exchanges it for NULL */
	_Atomic uint64_t beats; /* passes of the loop; written by the service thread only, relaxed: for the watchdog */

	struct io_req event_req;
	uint64_t event_count;
	uint64_t now_ns; /* at the beginning of this pass */
	struct spinner spinner;
	unsigned cores;

	struct list active, parked, clogged, ending; /* sessions */
	unsigned active_count, session_count;
	struct list users; /* struct user */
	struct user nobody;
	struct list dirty; /* sessions with completions to show */

	struct sqe taken[VISIT_TAKE];
	struct list turns;	/* users with active sessions */
	struct list light;	/* active sessions that ask for little */
	uint64_t light_round;	/* counts the looks at them */
	int64_t turn_cost;	/* what a user of weight 1 may cost in its turn, in bytes */
	uint64_t request_cost;	/* what a request costs besides its bytes */
	bool owed;		/* somebody waits whose turn is yet to come */

	struct request_pool pool;
	struct list ready;	 /* reads whose blocks are in */
	struct list answering;	 /* users with reads of large values */
	struct list crowded;	 /* users with reads that wait for room */
	bool room_look;		 /* some became free, or somebody else may be first */
	struct list stalled;	 /* sessions with stalled writes that wait for the engine or for their share */
	unsigned stalled_count;
	uint16_t engine_why;	 /* DELAY_… : the engine did not take the last write; 0: it did */
	struct list syncing;	 /* writes, by position */
	struct list flushes_due; /* that the engine could not begin yet */
	struct list flushes;	 /* by ticket */
	struct list compactions; /* also those that nobody waits for any more */
	struct list errands;	 /* checkpoints and checks; likewise */
	struct list underway;	 /* the large write that the engine has taken, unless its client is gone */
	bool large_underway;	 /* there is one; engine_write_result() tells its end */
	bool jobs_look;		 /* a ticket is new, or the engine got on: ask about all */
	bool stall_look;	 /* the last retry made headway: go on in the next pass */
	struct heap timed;	 /* waiting requests with a deadline, by it */
	uint16_t stall_why;	 /* DELAY_… of the last stall */
	uint64_t stall_since_ns; /* when the first of those that wait now began to */
	uint64_t stall_retry_ns; /* when to try stalled writes at the latest */

	uint64_t write_clock; /* shares.c: virtual time among users */
	bool paced;	      /* the engine asks to slow down */
	uint64_t pace_round;  /* counts how often it began to */
	int64_t pace_left;    /* bytes that may be written meanwhile */
	uint64_t pace_ns;

	struct list leased;	/* sessions with snapshots that end by themselves */
	uint64_t next_lease_ns; /* not later than the end of the first of those; UINT64_MAX: none */

	bool drain_due;	     /* there was work since the log was last drained to its end, */
	uint64_t drained_ns; /* which was then */

	bool closing;
	uint64_t closing_until_ns;
	int failed;	   /* why the engine stopped for good, or 0 */
	bool paused;	   /* disk full: background work waits */
	bool set_aside;	   /* so does a compaction that could not read its tables */
	uint64_t retry_ns; /* when to try either again */
	uint64_t set_aside_every_ns; /* a minute; tests have less patience */

	struct events events;		      /* any thread */
	_Atomic uint64_t refused[REGION_REFUSALS]; /* the control thread's; relaxed: for the stats page */
	struct gauges *gauges;		      /* borrowed; NULL in tests */
	uint64_t quick[REGION_OPS];	      /* meter.c: answered in this pass without waiting */
	uint64_t grouped_writes;	      /* stats.writes when the last group was counted */
	bool stall_told;		      /* the present stall is an event */

	struct region_stats stats; /* our own counters; the rest is filled in by stats_publish */
	bool stats_changed;
	uint64_t stats_ns; /* last published */
	uint64_t jobs_seen; /* engine_stats.jobs_ever as published */
	uint64_t job_told;  /* the last that ended and is in the log */
	uint64_t started_ns;
	const char *standing_error; /* shown while nothing else is wrong: what the open found; NULL or "": nothing */
	struct log_brake broken_brake, ousted_brake, damage_brake;
};

/* @engine, @queue and @region are borrowed. 0 or -errno with words. */
int service_init(struct service *svc, const struct config *config, struct engine *engine, struct io_queue *queue,
		 struct region *region, struct err_info *err);
void service_fini(struct service *svc); /* after service_run; the control thread has ended */

/* Serves until service_stop, or until the engine failed for good. 0, or the engine's negative code. */
int service_run(struct service *svc);

/* ---- any thread ---- */

/* Adds one to an eventfd. */
void service_ring(int fd);

/* Ends the loop's sleep. Call after storing what it is to see. Async-signal-unsafe, never blocks. */
void service_wake(struct service *svc);
void service_stop(struct service *svc);
void service_post(struct service *svc, struct session *s, unsigned bits);
void service_progress(struct service *svc);

/* The service thread sleeps, and nobody has called it. */
bool service_rests(const struct service *svc);

/* From now on @config, which it takes, in place of what service_init got; before service_fini. Settings that need a restart are the same in both. */
void service_reload(struct service *svc, struct config *config);

/* ---- for the other parts ---- */

/* Makes the session's completions visible now, and wakes its client. */
void service_show(struct service *svc, struct session *s);

/* Ends a session that broke the protocol: @why for the log. */
void session_break(struct service *svc, struct session *s, const char *why);

/* Polls the session's ring again from now on. */
void session_activate(struct service *svc, struct session *s);

/* The engine failed for good: answers what waits and begins to close. */
void service_fail(struct service *svc, int rc);

#endif
