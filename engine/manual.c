/*
 * manual.c - compactions that somebody asked for.
 *
 * A request goes through four phases, one request at a time:
 *	SWITCH   the service thread makes the memtable immutable (engine_pump), so that what was written before counts
 *	FLUSH    until that memtable is a table
 *	LEVELS   level by level down to the deepest that has anything of the range, in pieces; the next piece begins where the last one ended
 *	BOTTOM   files of that deepest level which no piece touched are rewritten in place, so that data deleted long ago,
 *	         and kept then for a snapshot, leaves the disk
 * LevelDB chooses the last level before it flushes and never rewrites the bottom, so a deletion may leave its data on disk for ever.
 *
 * A piece that has to wait for a running compaction is asked for again when that one ends. Everything here is under the engine's lock.
 */
#include "engine/engine_internal.h"

#include <stdlib.h>

enum phase { PHASE_SWITCH, PHASE_FLUSH, PHASE_LEVELS, PHASE_BOTTOM, PHASE_DONE };

struct manual {
	struct manual *next;
	uint64_t ticket;
	bool has_begin, has_end;
	struct key_buf begin, end; /* user keys */
	enum phase phase;
	uint64_t flush_ticket;
	unsigned level;
	struct key_buf cursor; /* LEVELS: user key; BOTTOM: internal key; the level is done up to here */
	bool has_cursor;
	uint64_t first_number; /* tables from this number on were written after the request */
	bool busy;	       /* a job has a piece of it */
	int rc;
};

static void manual_free(struct manual *m)
{
	key_buf_fini(&m->begin);
	key_buf_fini(&m->end);
	key_buf_fini(&m->cursor);
	free(m);
}

void manual_free_all(struct engine *e)
{
	while (e->manuals) {
		struct manual *m = e->manuals;

		e->manuals = m->next;
		manual_free(m);
	}
}

int engine_compact_start(struct engine *e, const struct slice *begin, const struct slice *end, uint64_t *ticket_out)
{
	struct manual *m = calloc(1, sizeof(*m)), **last;

	if (!m)
		return -ENOMEM;
	m->has_begin = begin != NULL;
	m->has_end = end != NULL;
	if ((begin && key_buf_set(&m->begin, *begin) < 0) || (end && key_buf_set(&m->end, *end) < 0)) {
		manual_free(m);
		return -ENOMEM;
	}
	pthread_mutex_lock(&e->lock);
	m->ticket = ++e->manual_tickets;
	for (last = &e->manuals; *last; last = &(*last)->next)
		;
	*last = m;
	/* Release: the request before the flag. Pairs with the acquire in engine_pump. */
	atomic_store_explicit(&e->switch_wanted, true, memory_order_release);
	engine_wake_service(e);
	*ticket_out = m->ticket;
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void manual_switched(struct engine *e, uint64_t ticket)
{
	for (struct manual *m = e->manuals; m; m = m->next) {
		if (m->phase == PHASE_SWITCH) {
			m->phase = PHASE_FLUSH;
			m->flush_ticket = ticket;
		}
	}
	engine_wake_jobs(e);
}

int engine_compact_done(struct engine *e, uint64_t ticket)
{
	int failed = atomic_load_explicit(&e->failed, memory_order_relaxed), rc = 0;
	struct manual **at, *m;

	pthread_mutex_lock(&e->lock);
	for (at = &e->manuals; *at && (*at)->ticket != ticket; at = &(*at)->next)
		;
	m = *at;
	if (!m) {
		rc = -ENOENT;
	} else if (!m->busy && (m->phase == PHASE_DONE || failed)) {
		rc = m->phase != PHASE_DONE ? -SHALE_EFAILED : m->rc < 0 ? m->rc : 1;
		*at = m->next;
		manual_free(m);
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

/* ---- pieces ---- */

static void manual_end(struct manual *m, int rc)
{
	m->phase = PHASE_DONE;
	m->rc = rc;
}

static void begin_level(struct manual *m, enum phase phase, unsigned level)
{
	m->phase = phase;
	m->level = level;
	m->has_cursor = false;
}

/* The deepest level that has anything of the range, at least 1: level 0 always goes down. */
static unsigned deepest(const struct engine *e, const struct manual *m)
{
	struct slice begin = key_buf_slice(&m->begin), end = key_buf_slice(&m->end);

	for (unsigned level = LEVELS - 1; level > 1; level--) {
		if (version_overlaps(e->versions.current, level, m->has_begin ? &begin : NULL,
				     m->has_end ? &end : NULL))
			return level;
	}
	return 1;
}

/* What stands in the way does not run, but was set aside because it cannot be read: the request ends with its error. */
static bool blocked_for_good(struct engine *e, struct manual *m)
{
	if (!e->quarantine || e->compactions_running || e->flushing)
		return false;
	manual_end(m, e->error.code ? e->error.code : -SHALE_ECORRUPT);
	return true;
}

static struct compaction *level_piece(struct engine *e, struct manual *m)
{
	struct slice begin = m->has_cursor ? key_buf_slice(&m->cursor) : key_buf_slice(&m->begin);
	struct slice end = key_buf_slice(&m->end);
	struct compaction *c = NULL;
	int rc = compact_pick_manual(&e->versions, &e->running, m->level, m->has_cursor || m->has_begin ? &begin : NULL,
				     m->has_end ? &end : NULL, &c);

	if (rc == -EAGAIN)
		blocked_for_good(e, m);
	else if (rc < 0)
		manual_end(m, rc);
	else if (!c)
		begin_level(m, PHASE_LEVELS, m->level + 1);
	return c;
}

/* ---- the bottom ---- */

static struct slice largest_user(const struct file_meta *f)
{
	return ikey_user(key_buf_slice(&f->largest));
}

static struct slice smallest_user(const struct file_meta *f)
{
	return ikey_user(key_buf_slice(&f->smallest));
}

static bool wants_rewrite(const struct manual *m, const struct file_meta *f)
{
	if (f->number >= m->first_number || f->compacting)
		return false;
	return !m->has_cursor || ikey_compare(key_buf_slice(&f->largest), key_buf_slice(&m->cursor)) > 0;
}

/* The run of files of m->level to rewrite next: [*@first_out, *@first_out + count). 0: none left. */
static size_t bottom_run(const struct engine *e, const struct manual *m, size_t *first_out)
{
	const struct version *v = e->versions.current;
	struct file_meta **files = v->files[m->level];
	size_t i = 0, n, count = v->count[m->level];
	uint64_t bytes = 0;

	while (i < count && ((m->has_begin && slice_compare(largest_user(files[i]), key_buf_slice(&m->begin)) < 0) ||
			     !wants_rewrite(m, files[i])))
		i++;
	for (n = 0; i + n < count && wants_rewrite(m, files[i + n]); n++) {
		if (m->has_end && slice_compare(smallest_user(files[i + n]), key_buf_slice(&m->end)) > 0)
			break;
		if (n && bytes >= 10 * e->options.levels.max_file_bytes)
			break;
		bytes += files[i + n]->size;
	}
	/* Older versions of the last key may lie in the next file (stock LevelDB splits keys): they must come along. */
	while (n && i + n < count && slice_equal(largest_user(files[i + n - 1]), smallest_user(files[i + n])))
		n++;
	*first_out = i;
	return n;
}

static struct compaction *bottom_piece(struct engine *e, struct manual *m)
{
	struct file_meta **files = e->versions.current->files[m->level];
	struct compaction *c = NULL;
	size_t first, count = bottom_run(e, m, &first);
	int rc;

	if (!count) {
		manual_end(m, 0);
		return NULL;
	}
	rc = compact_pick_rewrite(&e->versions, &e->running, m->level, first, count, REASON_MANUAL, &c);
	if (rc == -EAGAIN) {
		blocked_for_good(e, m);
		return NULL;
	}
	if (rc == 0)
		rc = key_buf_set(&m->cursor, key_buf_slice(&files[first + count - 1]->largest));
	if (rc < 0) {
		manual_end(m, rc);
		compaction_end(&e->running, c); /* frees one that never began */
		return NULL;
	}
	m->has_cursor = true;
	return c;
}

/* ---- the request's way ---- */

struct compaction *manual_next(struct engine *e, struct manual **manual_out)
{
	struct compaction *c = NULL;
	struct manual *m = e->manuals;

	while (m && m->phase == PHASE_DONE)
		m = m->next;
	if (!m || m->busy || m->phase == PHASE_SWITCH)
		return NULL;
	if (m->phase == PHASE_FLUSH) {
		if (e->flushed < m->flush_ticket)
			return NULL;
		m->first_number = atomic_load_explicit(&e->versions.next_file, memory_order_relaxed);
		begin_level(m, PHASE_LEVELS, 0);
	}
	while (!c && m->phase == PHASE_LEVELS) {
		unsigned before = m->level;

		if (m->level >= deepest(e, m)) {
			begin_level(m, PHASE_BOTTOM, m->level);
			break;
		}
		c = level_piece(e, m);
		if (!c && m->level == before)
			break; /* waits, or has ended */
	}
	if (!c && m->phase == PHASE_BOTTOM)
		c = bottom_piece(e, m);
	if (m->phase == PHASE_DONE)
		engine_wake_service(e);
	if (!c)
		return NULL;
	m->busy = true;
	compaction_start(&e->running, c);
	*manual_out = m;
	return c;
}

void manual_piece_done(struct engine *e, struct manual *m, const struct compaction *c, int rc)
{
	m->busy = false;
	if (rc == 0 && m->phase == PHASE_LEVELS) {
		if (c->manual_end.size < IKEY_TRAILER) {
			begin_level(m, PHASE_LEVELS, m->level + 1);
		} else {
			rc = key_buf_set(&m->cursor, ikey_user(key_buf_slice(&c->manual_end)));
			m->has_cursor = rc == 0;
		}
	}
	if (rc < 0)
		manual_end(m, rc);
	engine_wake_jobs(e);
}
