/*
 * reclaim.c - compaction because of what is dead: files that hold mostly deletions, or versions that newer ones hide, do not wait for
 * their level to fill.
 *
 * A table counts, as it is written, its dead entries: a deletion, and a version with a newer one of the same key before it (a snapshot kept both). With
 * them goes dead_sequence: once no pinned sequence lies below it, nobody sees what they hide, and all of them may go. So a file is picked when
 *	its share of dead entries is tombstone_percent or more, and
 *	no snapshot is older than its dead_sequence (else the space could not come back: it waits for the release).
 * What then happens depends on what lies below:
 *	level 0, or a deeper level overlaps   an ordinary compaction into the next level, or a move: the deletions travel towards what they delete
 *	nothing below                         the file is rewritten where it is, with its neighbours that are as dead
 *
 * It ends: a rewrite drops every dead entry, as nothing lies below them and no pin holds them; every other step takes a file one level down.
 * The MANIFEST cannot tell these counts. So after an open workers with nothing else to do read them from the tables, two small reads each
 * (engine_survey); until then a file counts as having none. Tables of stock LevelDB never have any.
 *
 * One such job at a time, after all others: it must not keep workers from what writers wait for.
 */
#include "engine/engine_internal.h"

#include "engine/version_builder.h"

enum { SURVEY_FILES = 16 };
enum { REWRITE_FILES = 10 }; /* full-sized ones that one job takes at most */

static bool is_dead(const struct engine *e, const struct file_meta *m)
{
	uint64_t oldest = e->snapshot_count ? e->snapshots[0] : UINT64_MAX;

	return m->dead_percent >= e->options.levels.tombstone_percent && m->dead_sequence <= oldest;
}

static struct slice smallest_user(const struct file_meta *m)
{
	return ikey_user(key_buf_slice(&m->smallest));
}

static struct slice largest_user(const struct file_meta *m)
{
	return ikey_user(key_buf_slice(&m->largest));
}

static bool anything_below(const struct version *v, unsigned level, const struct file_meta *m)
{
	struct slice smallest = smallest_user(m), largest = largest_user(m);

	for (unsigned deeper = level + 1; deeper < LEVELS; deeper++) {
		if (version_overlaps(v, deeper, &smallest, &largest))
			return true;
	}
	return false;
}

/* The file at @at with what must come along (it shares a user key) and what may (as dead, nothing below). */
static struct compaction *rewrite(struct engine *e, unsigned level, size_t at)
{
	const struct version *v = e->versions.current;
	struct file_meta **files = v->files[level];
	uint64_t bytes = files[at]->size, limit = REWRITE_FILES * e->options.levels.max_file_bytes;
	size_t first = at, end = at + 1;
	struct compaction *c = NULL;

	for (; end < v->count[level] && bytes < limit; bytes += files[end++]->size) {
		if (files[end]->compacting || !is_dead(e, files[end]) || anything_below(v, level, files[end]))
			break;
	}
	while (first > 0 && slice_equal(largest_user(files[first - 1]), smallest_user(files[first])))
		first--;
	while (end < v->count[level] && slice_equal(largest_user(files[end - 1]), smallest_user(files[end])))
		end++;
	if (compact_pick_rewrite(&e->versions, &e->running, level, first, end - first, REASON_TOMBSTONES, &c) < 0)
		return NULL;
	return c;
}

static struct compaction *reclaim_file(struct engine *e, unsigned level, size_t at)
{
	const struct version *v = e->versions.current;
	struct file_meta *m = v->files[level][at];

	if (level == 0 || anything_below(v, level, m))
		return compact_pick_file(&e->versions, &e->running, level, m, REASON_TOMBSTONES);
	return rewrite(e, level, at);
}

struct compaction *reclaim_next(struct engine *e)
{
	const struct version *v = e->versions.current;
	struct compaction *c = NULL;

	for (const struct compaction *r = e->running.head; r; r = r->next) {
		if (r->reason == REASON_TOMBSTONES)
			return NULL;
	}
	/* Deepest first: what is freed there no longer has to be merged with what comes down. */
	for (unsigned level = LEVELS; level-- > 0 && !c;) {
		for (size_t i = 0; v->dead_files[level] && i < v->count[level] && !c; i++) {
			struct file_meta *m = v->files[level][i];

			if (!m->compacting && is_dead(e, m))
				c = reclaim_file(e, level, i);
		}
	}
	return c;
}

void engine_tune(struct engine *e, uint64_t background_rate, unsigned tombstone_percent)
{
	atomic_store_explicit(&e->background_rate, background_rate, memory_order_relaxed);
	pthread_mutex_lock(&e->lock);
	e->options.levels.tombstone_percent = e->versions.options.tombstone_percent = tombstone_percent;
	version_count_dead(e->versions.current);
	engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
}

bool reclaim_waiting(const struct engine *e)
{
	for (unsigned level = 0; level < LEVELS; level++) {
		if (e->versions.current->dead_files[level])
			return true;
	}
	return false;
}

/* ---- what earlier processes wrote ---- */

/* Under the lock. */
static unsigned unknown_files(const struct version *v, struct file_meta *out[SURVEY_FILES])
{
	unsigned n = 0;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level] && n < SURVEY_FILES; i++) {
			if (!v->files[level][i]->counted)
				out[n++] = v->files[level][i];
		}
	}
	return n;
}

/* A table that cannot be read is left to those who need its data: here it is one that nobody counted. */
static struct table_counts learn(struct engine *e, const struct file_meta *m, struct io_queue *q)
{
	struct table *t = table_cache_get(e->shared.tables, m->number);
	struct table_counts counts = {0};

	if (t)
		counts = *table_counts(t);
	else
		table_read_counts(e->env, q, m->number, m->size, &counts, NULL);
	table_unref(t);
	return counts;
}

/* Under the lock: the next files to ask, pinned by *@version_out. 0: nothing to do here. */
static unsigned survey_begin(struct engine *e, struct file_meta *files[SURVEY_FILES], struct version **version_out)
{
	unsigned n;

	if (e->surveyed || e->surveying || !e->options.levels.tombstone_percent ||
	    atomic_load_explicit(&e->stopping, memory_order_relaxed) ||
	    atomic_load_explicit(&e->failed, memory_order_relaxed))
		return 0;
	n = unknown_files(e->versions.current, files);
	if (!n) {
		e->surveyed = true; /* whatever comes now is counted as it is written */
		return 0;
	}
	e->surveying = true;
	*version_out = version_ref(e->versions.current);
	return n;
}

bool engine_survey(struct engine *e, struct io_queue *queue)
{
	struct file_meta *files[SURVEY_FILES];
	struct table_counts counts[SURVEY_FILES];
	struct version *v;
	unsigned n;

	pthread_mutex_lock(&e->lock);
	n = survey_begin(e, files, &v);
	pthread_mutex_unlock(&e->lock);
	if (!n)
		return false;
	for (unsigned i = 0; i < n; i++)
		counts[i] = learn(e, files[i], queue);
	pthread_mutex_lock(&e->lock);
	for (unsigned i = 0; i < n; i++) {
		files[i]->counted = true;
		files[i]->dead_percent = table_dead_percent(&counts[i]);
		files[i]->dead_sequence = counts[i].dead_sequence;
	}
	version_count_dead(e->versions.current);
	version_unref(v);
	e->surveying = false;
	if (reclaim_waiting(e))
		engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
	return true;
}
