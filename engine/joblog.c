#include "engine/joblog.h"

#include "engine/engine_internal.h"
#include "shm/probe.h"

void joblog_begin(struct joblog *log, struct job_note *n, uint64_t now_ns)
{
	n->record.id = ++log->ids;
	n->record.begin_ns = now_ns;
	n->next = log->running;
	log->running = n;
	if (n->record.kind == JOB_FLUSH)
		PROBE2(flush__begin, n->record.id, n->record.bytes[0]);
	else if (n->record.kind == JOB_COMPACT)
		PROBE4(compaction__begin, n->record.id, n->record.level, n->record.output_level,
		       n->record.bytes[0] + n->record.bytes[1]);
}

void joblog_describe(struct job_note *n, const struct compaction *c)
{
	struct job_record *r = &n->record;

	r->reason = c->reason;
	r->trivial = c->trivial;
	r->level = c->level;
	r->output_level = c->output_level;
	for (unsigned which = 0; which < 2; which++) {
		r->files[which] = c->input_count[which];
		for (size_t i = 0; i < c->input_count[which]; i++)
			r->bytes[which] += c->inputs[which][i]->size;
	}
}

void joblog_end(struct joblog *log, struct job_note *n, uint64_t now_ns, int rc)
{
	struct job_note **at = &log->running;

	while (*at && *at != n)
		at = &(*at)->next;
	if (*at)
		*at = n->next;
	n->record.micros = (now_ns - n->record.begin_ns) / 1000;
	n->record.result = rc;
	n->record.done = job_note_progress(n);
	if (n->record.kind == JOB_FLUSH)
		PROBE4(flush__end, n->record.id, n->record.bytes_written, n->record.micros, rc);
	else if (n->record.kind == JOB_COMPACT)
		PROBE4(compaction__end, n->record.id, n->record.bytes_written, n->record.micros, rc);
	if (rc < 0 || n->record.kind & (JOB_FLUSH | JOB_COMPACT | JOB_CHECKPOINT | JOB_CHECK))
		log->last[log->ended++ % JOBLOG_KEEP] = n->record;
}

void joblog_count(struct engine *e, struct job_note *n, unsigned level, const struct job_record *did)
{
	struct engine_level_stats *l = &e->stats.level[level];
	struct job_record *r = &n->record;

	r->bytes_read = did->bytes_read;
	r->bytes_written = did->bytes_written;
	r->entries_in = did->entries_in;
	r->dropped_shadowed = did->dropped_shadowed;
	r->dropped_tombstone = did->dropped_tombstone;
	l->bytes_read += did->bytes_read;
	l->bytes_written += did->bytes_written;
	l->entries_in += did->entries_in;
	l->dropped_shadowed += did->dropped_shadowed;
	l->dropped_tombstone += did->dropped_tombstone;
	l->by_reason[r->reason]++;
	e->stats.dropped_shadowed += did->dropped_shadowed;
	e->stats.dropped_tombstone += did->dropped_tombstone;
}

unsigned engine_jobs(struct engine *e, struct job_record *running, unsigned cap, struct job_record last[JOBLOG_KEEP])
{
	struct joblog *log = &e->jobs;
	unsigned count = 0, i;

	pthread_mutex_lock(&e->lock);
	for (const struct job_note *n = log->running; n; n = n->next)
		count++;
	i = count;
	for (const struct job_note *n = log->running; n; n = n->next) {
		if (--i >= cap)
			continue;
		running[i] = n->record;
		running[i].done = job_note_progress(n);
	}
	for (i = 0; i < JOBLOG_KEEP && i < log->ended; i++)
		last[i] = log->last[(log->ended - 1 - i) % JOBLOG_KEEP];
	pthread_mutex_unlock(&e->lock);
	for (; i < JOBLOG_KEEP; i++)
		last[i] = (struct job_record){0};
	return count;
}
