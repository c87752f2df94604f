/*
 * worker.h - the threads that run the engine's background jobs: one for flushes (and logs, and deletions), N for compactions, one for
 * checkpoints, one for checks.
 *
 * Each has an io_queue of its own. With nothing to do they sleep on a futex word that counts calls, without time-out.
 */
#ifndef SHALE_DAEMON_WORKER_H
#define SHALE_DAEMON_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"

struct gauges;

struct worker {
	struct workers *all;
	pthread_t thread;
	unsigned kinds; /* of jobs */
	struct io_queue *queue;
	char name[16];
};

struct workers {
	struct io_env *env;
	struct engine *engine;
	_Atomic uint32_t calls;	 /* futex word: +1 for each workers_wake() */
	_Atomic uint32_t asleep; /* threads that wait on it */
	_Atomic bool stop;
	struct gauges *gauges; /* the flush worker looks at them when they are due; borrowed, NULL in tests */
	struct worker *list;
	unsigned count;
};

/* Before the engine is opened, since it may call workers_wake() at once. */
void workers_init(struct workers *w);

/* Starts the flush worker, the backup worker and @compactors compaction workers. 0 or a negative code with words; then none runs. */
int workers_start(struct workers *w, struct io_env *env, struct engine *engine, unsigned compactors,
		  struct err_info *err);

/* There may be a job. Any thread, also under the engine's lock; never blocks. */
void workers_wake(struct workers *w);

/* Asks running jobs to end, and waits for the threads. */
void workers_stop(struct workers *w);

#endif
