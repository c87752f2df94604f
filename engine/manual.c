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
	uint64_t first_number;	  /* tables from this number on were written after the request */
	struct compaction *piece; /* that a job has; NULL: none */
	bool cancelled;		  /* ends when that piece does, which is soon */
	bool one_level;		  /* only `only` goes down, and nothing else; the bottom is rewritten if it is that */
	unsigned only;
	uint64_t pieces, bytes_done, bytes_total; /* for engine_stats */
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

static int start(struct engine *e, bool one_level, unsigned only, const struct slice *begin, const struct slice *end,
		 uint64_t *ticket_out)
{
	struct manual *m = calloc(1, sizeof(*m)), **last;

	if (!m)
		return -ENOMEM;
	m->one_level = one_level;
	m->only = only;
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

int engine_compact_start(struct engine *e, const struct slice *begin, const struct slice *end, uint64_t *ticket_out)
{
	return start(e, false, 0, begin, end, ticket_out);
}

int engine_compact_level(struct engine *e, unsigned level, const struct slice *begin, const struct slice *end,
			 uint64_t *ticket_out)
{
	return level < LEVELS ? start(e, true, level, begin, end, ticket_out) : -EINVAL;
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
	} else if (!m->piece && (m->phase == PHASE_DONE || failed)) {
		rc = m->phase != PHASE_DONE ? -SHALE_EFAILED : m->rc < 0 ? m->rc : 1;
		*at = m->next;
		manual_free(m);
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static void manual_end(struct manual *m, int rc)
{
	m->phase = PHASE_DONE;
	m->rc = rc;
}

int engine_compact_cancel(struct engine *e, uint64_t ticket)
{
	struct manual *m;
	int rc = -ENOENT;

	pthread_mutex_lock(&e->lock);
	for (m = e->manuals; m && m->ticket != ticket; m = m->next)
		;
	if (m && m->phase != PHASE_DONE) {
		rc = 0;
		m->cancelled = true;
		if (m->piece) {
			atomic_store_explicit(&m->piece->cancelled, true, memory_order_relaxed);
		} else {
			manual_end(m, -ECANCELED);
			engine_wake_jobs(e); /* the next request's turn */
			engine_wake_service(e);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

/* ---- pieces ---- */

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

/* The last level that the request reads. */
static unsigned last_level(const struct engine *e, const struct manual *m)
{
	return m->one_level ? m->only : deepest(e, m);
}

static uint64_t bytes_in_range(const struct engine *e, const struct manual *m, unsigned level)
{
	const struct version *v = e->versions.current;
	uint64_t sum = 0;

	for (size_t i = 0; i < v->count[level]; i++) {
		const struct file_meta *f = v->files[level][i];

		if ((!m->has_begin ||
		     slice_compare(ikey_user(key_buf_slice(&f->largest)), key_buf_slice(&m->begin)) >= 0) &&
		    (!m->has_end || slice_compare(ikey_user(key_buf_slice(&f->smallest)), key_buf_slice(&m->end)) <= 0))
			sum += f->size;
	}
	return sum;
}

/* As if every byte of a level went on to the next: what is dropped or moved on the way makes it less. */
static uint64_t bytes_to_read(const struct engine *e, const struct manual *m)
{
	uint64_t carried, total = 0;

	if (m->one_level) {
		return bytes_in_range(e, m, m->only) + (m->only + 1 < LEVELS ? bytes_in_range(e, m, m->only + 1) : 0);
	}
	carried = bytes_in_range(e, m, 0);
	for (unsigned level = 1, last = deepest(e, m); level <= last; level++) {
		carried += bytes_in_range(e, m, level);
		total += carried;
	}
	return total;
}

void manual_stats(const struct engine *e, struct engine_manual_stats *out)
{
	const struct manual *at = NULL;

	*out = (struct engine_manual_stats){0};
	for (const struct manual *m = e->manuals; m; m = m->next) {
		if (m->phase == PHASE_DONE)
			continue;
		out->requests++;
		if (!at)
			at = m;
	}
	if (!at || at->phase == PHASE_SWITCH || at->phase == PHASE_FLUSH)
		return;
	out->level = at->level;
	out->last_level = last_level(e, at);
	out->pieces = at->pieces;
	out->bytes_done = at->bytes_done;
	out->bytes_total = at->bytes_total;
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
	if (!m || m->piece || m->phase == PHASE_SWITCH)
		return NULL;
	if (m->phase == PHASE_FLUSH) {
		if (e->flushed < m->flush_ticket)
			return NULL;
		m->first_number = atomic_load_explicit(&e->versions.next_file, memory_order_relaxed);
		begin_level(m, m->one_level && m->only == LEVELS - 1 ? PHASE_BOTTOM : PHASE_LEVELS, m->only);
		m->bytes_total = bytes_to_read(e, m);
	}
	while (!c && m->phase == PHASE_LEVELS) {
		unsigned before = m->level;

		if (m->one_level && m->level > m->only) {
			manual_end(m, 0);
			break;
		}
		if (!m->one_level && m->level >= deepest(e, m)) {
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
	m->piece = c;
	compaction_start(&e->running, c);
	*manual_out = m;
	return c;
}

void manual_piece_done(struct engine *e, struct manual *m, const struct compaction *c, int rc)
{
	m->piece = NULL;
	m->pieces += rc == 0;
	for (unsigned which = 0; which < 2; which++) {
		for (size_t i = 0; i < c->input_count[which]; i++)
			m->bytes_done += c->inputs[which][i]->size;
	}
	if (rc == 0 && m->cancelled)
		rc = -ECANCELED;
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
