/*
 * sim.h - a world in one thread: machine, disk, daemon, clients, and the oracle that watches them.
 *
 *	clients ──▶ service half (this file's caller) ──▶ engine_write, engine_pump, views …  ──▶ sim env ──▶ disk
 *	                                       jobs, run in line or as coroutines
 *
 * What the daemon does around the engine is done here the same way: writes are acknowledged when the engine has taken them, or, for sync writes, when
 * engine_synced() covers their position; reads that miss are parked with their view and run again; after a failure for good the daemon restarts.
 *
 * A violation is recorded once, with words; from then on commands do nothing.
 */
#ifndef SHALE_TESTS_SIM_SIM_H
#define SHALE_TESTS_SIM_SIM_H

#include "engine/engine.h"
#include "tests/sim/env.h"
#include "tests/sim/oracle.h"
#include "tests/sim/script.h"

enum { PLACES = 6, WORKERS = 3, PARKED_MAX = 8, SYNCING_MAX = 64, JOBS_ALL = JOB_LOG | JOB_FLUSH | JOB_COMPACT | JOB_DELETE };

struct co;
struct parked;
struct records;

/* Somewhere in the past that can be read: a snapshot, or a view. */
struct place {
	enum { PLACE_EMPTY, PLACE_SNAPSHOT, PLACE_VIEW } kind;
	struct view *view;
	uint64_t sequence;
};

struct worker {
	struct sim *sim;
	struct io_queue *queue;
	struct co *co; /* NULL: idle */
	struct job *job;
};

struct sim {
	struct sim_config config;
	struct disk disk;
	uint64_t now;
	void *window, *window_then; /* the second: as it was when the process died at a kill point */
	size_t window_size;
	int64_t kill_in;      /* kill points until the daemon dies at one; negative: never */
	uint64_t kill_points; /* passed so far, by all processes */
	uint64_t kill_at;     /* for exhaustive.c: it dies at the one of this number, counted from 1; 0: none */
	bool killed;	      /* it did: window_then is its window */
	struct engine_host host;
	struct oracle oracle;

	/* the daemon; e is NULL when none runs */
	struct sim_env env;
	struct io_queue *service;
	struct worker worker[WORKERS];
	struct engine *e;
	struct place place[PLACES];
	struct parked *parked[PARKED_MAX];
	unsigned parked_count;
	struct {
		uint64_t position, last;
	} syncing[SYNCING_MAX]; /* sync writes that wait, oldest first */
	unsigned syncing_count;
	struct records *large; /* of the write that the engine has under way; NULL: none */
	bool large_sync;
	uint64_t compaction;	    /* ticket, 0: none */
	uint64_t flush, flush_last; /* ticket + 1; what it makes durable */
	int holder;		    /* the worker that is stopped with the MANIFEST's lock in its hands; -1: none */
	struct parked *spare;
	uint64_t opens;
	unsigned complaints; /* lines of the engine's log, of priority notice or worse, since the last open */
	int64_t next_fault[FAULTS]; /* armed for the next open */

	/* how it may die */
	bool crash_power;
	uint64_t crash_seed, open_die_in;
	uint64_t all_events; /* of the processes before this one */
	uint64_t crash_at;   /* for exhaustive.c: counted over all processes; 0: never */
	bool power_lost; /* since the last successful open */
	bool flipped;	 /* a bit was: anything may be refused, nothing may be wrong */
	bool detected;	 /* and somebody said so */
	bool excused;	 /* something happened to this process for which it may fail */
	bool over;	 /* nothing more can be learned */

	uint64_t ops, crashes, recoveries, recovery_crashes, reopens, faults, commands;
	uint64_t hash; /* of everything that happened */
	char violation[512];
	char log[256]; /* the engine's last line */
};

void sim_init(struct sim *s, const struct sim_config *config);
void sim_fini(struct sim *s);

/* Executes one command. False: the world ended (a violation, or a damaged file was dealt with). */
bool sim_run(struct sim *s, const struct sim_command *c);
/* The end of every run: faults off, all comes to rest, all is there; again after a clean stop and a power loss. */
void sim_end(struct sim *s);
/* The whole script, and the end. */
void sim_play(struct sim *s, const struct sim_script *script);

__attribute__((format(printf, 2, 3))) void violation(struct sim *s, const char *fmt, ...);
void sim_note(struct sim *s, uint64_t word); /* into the hash */

/* ---- sim_life.c: opening, dying, jobs ---- */

void life_open(struct sim *s, uint64_t die_in, bool power, uint64_t seed);
void life_close(struct sim *s, uint64_t die_in, bool power, uint64_t seed);
void life_crash(struct sim *s, bool power, uint64_t in, uint64_t seed);
/* If the process died of what was just done: buries it. True: it did. */
bool life_over(struct sim *s);
void life_job(struct sim *s, unsigned kinds, bool to_end);
void life_resume(struct sim *s, uint64_t n);
/* One step of whatever can go on. False: nothing can. */
bool life_help(struct sim *s);
void life_settle(struct sim *s);
/* The daemon dies at the @n-th kill point from now, or of the next one that is started. */
void life_kill(struct sim *s, uint64_t n);
/* The engine failed though nothing had struck it. */
void life_check_health(struct sim *s);

/* ---- sim_clients.c: what clients ask for ---- */

void client_write(struct sim *s, uint64_t seed, unsigned most, unsigned flags);
void client_get(struct sim *s, uint64_t key, uint64_t where);
void client_scan(struct sim *s, uint64_t seed, uint64_t where);
void client_hold(struct sim *s, uint64_t place, bool view);
void client_drop(struct sim *s, uint64_t place);
void client_flush(struct sim *s);
void client_compact(struct sim *s, uint64_t seed);
/* After completions: sync writes are acknowledged, parked reads run again. */
void client_progress(struct sim *s);
/* The daemon is gone, or about to go: every client forgets what it waited for. A write that is under way may be there afterwards, or not. */
void client_forget(struct sim *s);
/* Every key at the newest sequence, by scans and gets. */
void client_check_all(struct sim *s);

#endif
