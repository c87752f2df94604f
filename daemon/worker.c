#include "daemon/worker.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/ioprio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/gauges.h"
#include "shm/park.h"

enum {
	WORKER_QUEUE_DEPTH = 64,
	/*
	 * Compactions behind the log and the flushes. An io_uring takes the priority of the thread that submits. (Put together by hand:
	 * IOPRIO_PRIO_VALUE is a function, and so no constant, in some releases of the kernel's headers.)
	 */
	IOPRIO_LOWEST = IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | 7,
};

void workers_init(struct workers *w)
{
	memset(w, 0, sizeof(*w));
}

void workers_wake(struct workers *w)
{
	/* seq_cst twice: the call before the look at `asleep`. Pairs with rest_until_called(). */
	atomic_fetch_add_explicit(&w->calls, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&w->asleep, memory_order_seq_cst))
		futex_wake(&w->calls, INT_MAX);
}

/* @seen: the count before the engine was asked in vain; a call since then ends the wait at once. */
static void rest_until_called(struct workers *w, uint32_t seen)
{
	atomic_fetch_add_explicit(&w->asleep, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&w->calls, memory_order_seq_cst) == seen)
		futex_wait(&w->calls, seen, UINT64_MAX);
	atomic_fetch_sub_explicit(&w->asleep, 1, memory_order_relaxed);
}

static void *work(void *arg)
{
	struct worker *me = arg;
	struct workers *w = me->all;

	prctl(PR_SET_NAME, me->name);
	if (me->kinds & (JOB_COMPACT | JOB_CHECKPOINT | JOB_CHECK))
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
			IOPRIO_LOWEST); /* a wish: not every scheduler heeds it */
	/* Acquire: pairs with the release in workers_stop(). */
	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		uint32_t seen = atomic_load_explicit(&w->calls, memory_order_seq_cst);
		struct job *job = engine_next_job(w->engine, me->kinds);

		if (me->kinds & JOB_FLUSH && gauges_due(w->gauges))
			gauges_measure(w->gauges);
		if (job)
			engine_run_job(w->engine, job, me->queue); /* a failure is recorded and logged by the engine */
		else if (me->kinds & JOB_COMPACT && engine_survey(w->engine, me->queue))
			continue; /* one idle moment's worth; a job goes before the rest */
		else if (!atomic_load_explicit(&w->stop, memory_order_acquire))
			rest_until_called(w, seen);
	}
	io_queue_free(me->queue);
	return NULL;
}

static int start_one(struct workers *w, unsigned kinds, const char *name)
{
	struct worker *me = &w->list[w->count];
	int rc;

	me->all = w;
	me->kinds = kinds;
	snprintf(me->name, sizeof(me->name), "%s", name);
	/* Here, so that a daemon which could never flush does not start. */
	rc = io_queue_new(w->env, WORKER_QUEUE_DEPTH, &me->queue);
	if (rc < 0)
		return rc;
	rc = -pthread_create(&me->thread, NULL, work, me);
	if (rc < 0) {
		io_queue_free(me->queue);
		return rc;
	}
	w->count++;
	return 0;
}

int workers_start(struct workers *w, struct io_env *env, struct engine *engine, unsigned compactors,
		  struct err_info *err)
{
	int rc;

	w->env = env;
	w->engine = engine;
	w->list = calloc(compactors + 3, sizeof(*w->list));
	if (!w->list)
		return err_set(err, -ENOMEM, "no memory for workers");
	rc = start_one(w, JOB_LOG | JOB_FLUSH | JOB_DELETE, "shaled-flush");
	for (unsigned i = 0; i < compactors && rc == 0; i++) {
		char name[16];

		snprintf(name, sizeof(name), "shaled-comp%u", i % 1000);
		rc = start_one(w, JOB_COMPACT, name);
	}
	/* Copies may take hours, to a slow disk: neither flushes nor compactions wait for them. Nor does a backup wait for a check. */
	if (rc == 0)
		rc = start_one(w, JOB_CHECKPOINT, "shaled-backup");
	if (rc == 0)
		rc = start_one(w, JOB_CHECK, "shaled-check");
	if (rc < 0) {
		workers_stop(w);
		return err_set(err, rc, "a worker thread cannot be started: %s", shale_strerror(rc));
	}
	return 0;
}

void workers_stop(struct workers *w)
{
	if (w->engine)
		engine_stop_jobs(w->engine);
	/* Release, and before the call that wakes them. */
	atomic_store_explicit(&w->stop, true, memory_order_seq_cst);
	workers_wake(w);
	while (w->count)
		pthread_join(w->list[--w->count].thread, NULL);
	free(w->list);
	w->list = NULL;
}
