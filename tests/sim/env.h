/*
 * env.h - the I/O backend of the simulation: one process's door to a simulated disk (disk.h).
 *
 * A submitted operation is in flight until sim_env_perform() picks it: only then does it touch the disk, and only then can it be completed, so whoever picks
 * decides the order. What waits for a queue inside a coroutine yields until something of it is done; outside, it picks by itself.
 *
 * Every operation that is performed, and every call that changes the directory, is an event. The process can be made to die at any of
 * them: from there on all its calls fail with -EIO and change nothing, which is how the code unwinds that a kill would have stopped;
 * writes in flight become late ones.
 *
 * A fault is armed by kind and strikes the n-th operation of that kind; see enum sim_fault.
 */
#ifndef SHALE_TESTS_SIM_ENV_H
#define SHALE_TESTS_SIM_ENV_H

#include "engine/io.h"
#include "tests/sim/disk.h"

enum sim_fault {
	FAULT_READ,	/* -EIO */
	FAULT_WRITE,	/* -EIO after some of its bytes */
	FAULT_SYNC,	/* -EIO, and the pages are clean afterwards: a second fsync says 0 over lost data */
	FAULT_ALLOCATE, /* -EIO */
	FAULT_SYNC_DIR, /* -EIO, and what was not made durable never will be */
	FAULT_OPEN,	/* -EMFILE */
	FAULT_RENAME,	/* -EIO */
	FAULT_UNLINK,	/* -EIO */
	FAULTS
};

extern const char *const sim_fault_names[FAULTS];

enum { QUEUES_MAX = 5, FLYING_MAX = 1024 };

struct sim_queue;

struct sim_env {
	struct io_env base;
	struct disk *disk;
	struct sim_queue *queue[QUEUES_MAX];
	unsigned queues;
	unsigned flying;     /* requests in flight that were not performed yet */
	bool dead;
	int64_t die_in;	     /* events until death; negative: never */
	uint64_t events;     /* so far */
	int64_t fault_in[FAULTS]; /* operations of the kind until it strikes; negative: not armed */
	uint64_t struck;     /* faults that struck */
	bool full;	     /* -ENOSPC was answered */
	uint64_t random;     /* state: salts, and what is picked by those who wait outside a coroutine */
	uint64_t *now;	     /* the machine's clock, which goes on between processes */
};

void sim_env_init(struct sim_env *e, struct disk *d, uint64_t seed, uint64_t *now);
/* All queues must be freed, all files closed. */
void sim_env_fini(struct sim_env *e);

/* Performs the @n-th request in flight (modulo their number); false: there is none, or the process died of it. */
bool sim_env_perform(struct sim_env *e, uint64_t n);
/* The process dies now. */
void sim_env_die(struct sim_env *e);

/* Whether a wait on @q would return at once. */
bool sim_queue_ready(const struct io_queue *q);
/* Performs something of @q, the seed's choice. False: nothing in flight there. */
bool sim_queue_perform(struct io_queue *q);

#endif
