/*
 * jobs.c - background work: what runs next and why, running it, and what a failure means.
 *
 * next_job() is the one place that decides. Its order is the order of urgency for writers:
 *	1. log         without a log made ready, and a memtable to go with it, none can be switched
 *	2. flush       frees a memtable; never waits for a compaction
 *	3. delete      cheap, and gives space back; closes logs and unmaps memtables, too
 *	4. manual      somebody waits for it
 *	5. size        a level is over its target
 *	6. seek        a file costs readers blocks in vain (seek.c)
 *	7. tombstones  a file holds mostly what nobody will read (reclaim.c)
 *
 * Failures
 *	space, memory, descriptors   background work pauses until engine_retry (which the host calls now and then); deletions go on
 *	inputs that cannot be read   that compaction stays registered as if it ran (quarantine): its range is left alone, all else goes on;
 *	                             engine_retry lets it go again, after ever more calls
 *	anything else                the engine stops for good: no write, no deletion; what is on disk is for the next open to judge
 */
#include "engine/check.h"
#include "engine/checkpoint.h"
#include "engine/engine_internal.h"
#include "engine/kill_point.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- files to delete ---- */

void obsolete_add(struct engine *e, enum file_type type, uint64_t number)
{
	if (e->obsolete_count == e->obsolete_cap) {
		size_t cap = e->obsolete_cap ? 2 * e->obsolete_cap : 64;
		struct obsolete *grown = reallocarray(e->obsolete, cap, sizeof(*grown));

		if (!grown) {
			atomic_store_explicit(&e->leftovers, true, memory_order_relaxed);
			return;
		}
		e->obsolete = grown;
		e->obsolete_cap = cap;
	}
	e->obsolete[e->obsolete_count++] = (struct obsolete){type, number};
}

static int remove_one(struct engine *e, const struct obsolete *o)
{
	char name[FILE_NAME_MAX];
	int rc;

	if (o->type == FILE_TABLE) {
		table_cache_drop(e->shared.tables, o->number);
		block_cache_drop_table(e->shared.blocks, o->number);
	}
	rc = io_unlink(e->env, file_name(name, o->type, o->number));
	KILL_POINT("obsolete_unlinked");
	if (rc == -ENOENT && o->type == FILE_TABLE)
		rc = io_unlink(e->env, file_name(name, FILE_SST, o->number));
	if (rc < 0 && rc != -ENOENT) {
		atomic_store_explicit(&e->leftovers, true, memory_order_relaxed);
		engine_log(e, PRIORITY_WARNING, "%s: obsolete, but cannot be deleted (%s); the next start tries again",
			   name, shale_strerror(rc));
	}
	return rc;
}

void obsolete_remove(struct engine *e, const struct obsolete *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (atomic_load_explicit(&e->failed, memory_order_relaxed))
			return; /* what the MANIFEST says is no longer known */
		remove_one(e, &list[i]);
	}
}

void version_installed(struct engine *e)
{
	if (e->manifest_seen != e->versions.manifest_number) {
		if (e->manifest_seen)
			obsolete_add(e, FILE_MANIFEST, e->manifest_seen);
		e->manifest_seen = e->versions.manifest_number;
	}
	atomic_store_explicit(&e->l0_files, (unsigned)e->versions.current->count[0], memory_order_relaxed);
	view_changed(e);
}

/* ---- what runs next ---- */

static bool pick_compaction(struct engine *e, struct job *j)
{
	j->compaction = manual_next(e, &j->manual);
	if (!j->compaction) {
		j->compaction = compact_pick_size(&e->versions, &e->running);
		if (!j->compaction)
			j->compaction = seek_next(e);
		if (!j->compaction)
			j->compaction = reclaim_next(e);
		if (j->compaction)
			compaction_start(&e->running, j->compaction);
	}
	if (!j->compaction)
		return false;
	e->compactions_running++;
	j->kind = JOB_COMPACT;
	j->reason = j->compaction->reason;
	joblog_describe(&j->note, j->compaction);
	return true;
}

/* Under the lock: claims the most urgent job of @kinds into @j. */
static bool next_job(struct engine *e, unsigned kinds, struct job *j)
{
	bool paused = atomic_load_explicit(&e->paused, memory_order_relaxed) != 0;

	if (atomic_load_explicit(&e->stopping, memory_order_relaxed) ||
	    atomic_load_explicit(&e->failed, memory_order_relaxed))
		return false;
	if (kinds & JOB_LOG && !paused && !e->next_log && !e->log_preparing) {
		e->log_preparing = true;
		j->kind = JOB_LOG;
		return true;
	}
	if (kinds & JOB_FLUSH && !paused && e->immutable_count && !e->flushing) {
		e->flushing = true;
		j->kind = JOB_FLUSH;
		j->reason = REASON_FLUSH;
		j->note.record.files[0] = 1;
		j->note.record.bytes[0] = memtable_used(e->immutables[0].mem);
		return true;
	}
	if (kinds & JOB_DELETE && (e->obsolete_count || e->closing_count || e->gone_count) && !e->deleting) {
		e->deleting = true;
		j->kind = JOB_DELETE;
		j->obsolete = e->obsolete;
		j->obsolete_count = e->obsolete_count;
		j->note.record.files[0] = e->obsolete_count;
		e->in_deletion = e->obsolete;
		e->in_deletion_count = e->obsolete_count;
		e->obsolete = NULL;
		e->obsolete_count = e->obsolete_cap = 0;
		memcpy(j->closing, e->closing, sizeof(j->closing));
		j->closing_count = e->closing_count;
		e->closing_count = 0;
		memcpy(j->gone, e->gone, sizeof(j->gone));
		j->gone_count = e->gone_count;
		e->gone_count = 0;
		return true;
	}
	/* It writes elsewhere, so what makes us pause need not be its trouble. */
	if (kinds & JOB_CHECKPOINT && checkpoint_claim(e, &j->note)) {
		j->kind = JOB_CHECKPOINT;
		return true;
	}
	if (kinds & JOB_CHECK && check_claim(e, &j->note)) {
		j->kind = JOB_CHECK;
		return true;
	}
	return kinds & JOB_COMPACT && !paused && pick_compaction(e, j);
}

struct job *engine_next_job(struct engine *e, unsigned kinds)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->engine = e;
	pthread_mutex_lock(&e->lock);
	if (next_job(e, kinds, j)) {
		e->stats.jobs_running++;
		e->stats.jobs_ever++;
		j->note.record.kind = j->kind;
		j->note.record.reason = j->reason;
		joblog_begin(&e->jobs, &j->note, io_now_ns(e->env));
		if (j->kind & (JOB_FLUSH | JOB_COMPACT | JOB_CHECKPOINT | JOB_CHECK))
			engine_wake_service(e); /* it shows them while they run */
	} else {
		free(j);
		j = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	return j;
}

enum job_kind job_kind(const struct job *j)
{
	return j->kind;
}

/* ---- running ---- */

static int run_log(struct engine *e, struct io_queue *q, struct err_info *err)
{
	uint64_t number = version_set_new_number(&e->versions);
	struct memtable *mem = NULL;
	struct wal_log *log = NULL;
	int rc = wal_log_prepare(e->env, q, number, log_reserve(&e->options), &log);

	if (rc < 0)
		err_set(err, rc, "%06llu.log: cannot be prepared: %s", (unsigned long long)number, shale_strerror(rc));
	if (rc == 0) {
		rc = memtable_new(e->memory, memtable_arena(&e->options), number, &mem);
		if (rc < 0) {
			err_set(err, rc, "no memory for a memtable of %zu bytes", memtable_arena(&e->options));
			wal_log_discard(e->env, log);
			log = NULL;
		}
	}
	pthread_mutex_lock(&e->lock);
	e->log_preparing = false;
	e->next_log = log;
	e->next_mem = mem;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static int run_flush(struct engine *e, struct job *j, struct io_queue *q, struct err_info *err)
{
	int rc = flush_run(e, &j->note, q, err);

	pthread_mutex_lock(&e->lock);
	e->flushing = false;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static int run_delete(struct engine *e, struct job *j)
{
	obsolete_remove(e, j->obsolete, j->obsolete_count);
	for (unsigned i = 0; i < j->closing_count; i++)
		io_close(j->closing[i]);
	for (unsigned i = 0; i < j->gone_count; i++)
		memtable_free(j->gone[i]);
	pthread_mutex_lock(&e->lock);
	e->deleting = false;
	e->in_deletion = NULL;
	e->in_deletion_count = 0;
	pthread_mutex_unlock(&e->lock);
	free(j->obsolete);
	return 0;
}

/* Under the lock. Without memory for the note the range is simply free again: it will fail again, and be noted then. */
static void quarantine(struct engine *e, struct compaction *c)
{
	struct quarantined *q = malloc(sizeof(*q));

	if (!q) {
		compaction_end(&e->running, c);
		return;
	}
	c->set_aside = true;
	*q = (struct quarantined){c, e->quarantine};
	e->quarantine = q;
	e->quarantines++;
	e->retries = 0;
}

void quarantine_clear(struct engine *e)
{
	while (e->quarantine) {
		struct quarantined *q = e->quarantine;

		e->quarantine = q->next;
		compaction_end(&e->running, q->compaction);
		free(q);
	}
}

/* *@reading_out: the failure touches the inputs' range alone. */
static int run_compact(struct engine *e, struct job *j, struct io_queue *q, bool *reading_out, struct err_info *err)
{
	int rc = compaction_run(e, j->compaction, &j->note, q, reading_out, err);

	pthread_mutex_lock(&e->lock);
	e->compactions_running--;
	if (j->manual)
		manual_piece_done(e, j->manual, j->compaction, rc);
	if (*reading_out && !failure_heals(rc))
		quarantine(e, j->compaction);
	else
		compaction_end(&e->running, j->compaction);
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static const char *job_name(const struct job *j)
{
	switch (j->kind) {
	case JOB_LOG:
		return "preparing the next log";
	case JOB_FLUSH:
		return "flushing a memtable";
	case JOB_DELETE:
		return "deleting obsolete files";
	case JOB_CHECKPOINT:
		return "making a checkpoint";
	case JOB_CHECK:
		return "checking the database";
	case JOB_COMPACT:
		break;
	}
	return "compacting";
}

static void job_failed(struct engine *e, const struct job *j, int rc, bool reading, struct err_info *err)
{
	if (rc == -ECANCELED || j->kind & (JOB_CHECKPOINT | JOB_CHECK)) /* the failure is told to who asked for it */
		return;
	err_prefix(err, "%s: ", job_name(j));
	if (failure_heals(rc)) {
		engine_pause(e, rc, err);
	} else if (reading) {
		engine_log(e, PRIORITY_ERROR,
			   "%s. These tables are left as they are, and are tried again now and then; check the disk, "
			   "and if that does not help, restore the database from a backup, or stop shaled and run "
			   "`shalectl verify`, then `shalectl repair`",
			   err->text);
		pthread_mutex_lock(&e->lock);
		if (!e->error.code)
			e->error = *err;
		pthread_mutex_unlock(&e->lock);
	} else {
		engine_fail(e, rc, err);
	}
}

int engine_run_job(struct engine *e, struct job *j, struct io_queue *queue)
{
	struct err_info err = {0};
	bool reading = false;
	int rc = 0;

	switch (j->kind) {
	case JOB_LOG:
		rc = run_log(e, queue, &err);
		break;
	case JOB_FLUSH:
		rc = run_flush(e, j, queue, &err);
		break;
	case JOB_COMPACT:
		rc = run_compact(e, j, queue, &reading, &err);
		break;
	case JOB_DELETE:
		rc = run_delete(e, j);
		break;
	case JOB_CHECKPOINT:
		rc = checkpoint_run(e, &j->note, queue, &err);
		break;
	case JOB_CHECK:
		rc = check_run(e, &j->note, queue, &err);
		break;
	}
	if (rc < 0)
		job_failed(e, j, rc, reading, &err);
	else if (j->kind == JOB_FLUSH || j->kind == JOB_COMPACT)
		check_installed(e);
	pthread_mutex_lock(&e->lock);
	e->stats.jobs_running--;
	e->stats.jobs_failed += rc < 0 && rc != -ECANCELED;
	joblog_end(&e->jobs, &j->note, io_now_ns(e->env), rc);
	engine_wake_jobs(e);
	engine_wake_service(e);
	pthread_mutex_unlock(&e->lock);
	free(j);
	return rc;
}

void engine_stop_jobs(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	atomic_store_explicit(&e->stopping, true, memory_order_relaxed);
	engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
}

bool engine_set_aside(struct engine *e)
{
	bool some;

	pthread_mutex_lock(&e->lock);
	some = e->quarantine != NULL;
	pthread_mutex_unlock(&e->lock);
	return some;
}

bool engine_retry(struct engine *e)
{
	bool waiting;

	pthread_mutex_lock(&e->lock);
	waiting = atomic_load_explicit(&e->paused, memory_order_relaxed) || e->quarantine;
	if (waiting) {
		atomic_store_explicit(&e->paused, 0, memory_order_relaxed);
		/* Twice as many calls after each failure: a table that is broken is not read again every second. */
		if (e->quarantine && ++e->retries >= 1u << (e->quarantines < 10 ? e->quarantines : 10))
			quarantine_clear(e);
		engine_wake_jobs(e);
	}
	pthread_mutex_unlock(&e->lock);
	return waiting;
}
