/*
 * compaction.c - tables of one level and those they overlap in the next, merged into new tables of that next level.
 *
 * The loop takes each entry in order and asks three questions:
 *	may it go?          snapshot.c judges by all snapshots; a tombstone goes only if no deeper level holds its key
 *	begin a new table?  the current one is large enough, or overlaps too much of the level below it; only between two user keys,
 *	                    so that all versions of a key lie in one table
 *	must we stop?       at a shutdown, or when its manual compaction is cancelled: everything written is removed, the inputs are as before
 *
 * Durable in this order: each table synced and read back, the directory synced, one edit. What ends a compaction early, by place:
 *	reading inputs      the range is quarantined: nothing picks it again until engine_retry; the database goes on. Inputs whose keys are
 *	                    out of order, or outside the range that the MANIFEST gives, count as such, though every checksum is right
 *	writing outputs     no space: background work pauses; a failed sync or anything else: the engine stops
 *	installing          the engine stops (see version_set.h)
 *
 * A manual rewrite of the bottom level (manual.c) comes here with level == output_level and no second inputs.
 */
#include "engine/engine_internal.h"
#include "engine/plant.h"
#include "engine/kill_point.h"

#include <stdlib.h>

enum { READAHEAD = 256 << 10, PACE_BYTES = 64 << 10 };

struct merge {
	struct engine *engine;
	struct compaction *c;
	struct io_queue *queue;
	struct survivor keep;
	struct compaction_cursor cursor;
	struct output out;
	bool cut;	/* the current table ends before the next user key */
	bool bad_input; /* a key that is not where it must be */
	struct file_meta **made;
	size_t made_count;
	struct job_note *note;
	struct job_record did; /* entries and bytes, until they are counted */
	uint64_t paced;	       /* bytes read and written that pace() knows of */
};

static int merge_close_output(struct merge *m, struct err_info *err)
{
	struct file_meta **grown, *meta;
	int rc;

	m->cut = false;
	if (!output_is_open(&m->out))
		return 0;
	grown = reallocarray(m->made, m->made_count + 1, sizeof(*grown));
	if (!grown)
		return err_set(err, -ENOMEM, "no memory for a compaction's outputs");
	m->made = grown;
	rc = output_finish(&m->out, &meta, err);
	if (rc < 0)
		return rc;
	m->made[m->made_count++] = meta;
	m->did.bytes_written += meta->size;
	return 0;
}

static int merge_entry(struct merge *m, struct slice ikey, struct slice value, struct err_info *err)
{
	uint64_t max_file = m->engine->options.levels.max_file_bytes;
	uint64_t size = output_is_open(&m->out) ? table_builder_size(m->out.builder) : 0;
	enum verdict verdict;
	bool new_user;
	int rc = survivor_judge(&m->keep, ikey, &verdict, &new_user);

	if (rc < 0)
		return err_set(err, rc, "no memory for a key");
	if (compaction_stop_before(&m->cursor, ikey, max_file, size))
		m->cut = true;
	if (m->cut && new_user) {
		rc = merge_close_output(m, err);
		if (rc < 0)
			return rc;
	}
	if (verdict == VERDICT_SHADOWED) {
		m->did.dropped_shadowed++;
		return 0;
	}
	if (verdict == VERDICT_TOMBSTONE &&
	    (PLANT("tombstone-early") || compaction_is_base_level(&m->cursor, ikey_user(ikey)))) {
		m->did.dropped_tombstone++; /* what is older of this key lies in the same stripe and is shadowed */
		return 0;
	}
	if (!output_is_open(&m->out)) {
		m->cut = false;
		rc = output_open(&m->out, m->engine, m->c->output_level, m->queue, err);
		if (rc < 0)
			return rc;
	}
	rc = output_add(&m->out, ikey, value, err);
	m->bad_input = rc == -SHALE_ECORRUPT; /* the builder's word for a key out of order */
	if (rc == 0 && table_builder_size(m->out.builder) >= max_file)
		m->cut = true;
	return rc;
}

static int out_of_order(const struct merge *m, bool *reading_out, struct err_info *err)
{
	const struct compaction *c = m->c;

	*reading_out = true;
	return err_set(
		err, -SHALE_ECORRUPT,
		"%06llu.ldb, or one of the %zu tables that are merged with it from level %u into level %u: keys out of "
		"order, or outside the range that the MANIFEST gives",
		(unsigned long long)c->inputs[0][0]->number, c->input_count[0] + c->input_count[1] - 1, c->level,
		c->output_level);
}

/* Whether the outputs follow one another inside the range that was kept free for them. If not, no version could hold them. */
static bool outputs_fit(const struct merge *m)
{
	const struct compaction *c = m->c;
	const struct file_meta *last;

	if (!m->made_count)
		return true;
	for (size_t i = 0; i + 1 < m->made_count; i++) {
		if (ikey_compare(key_buf_slice(&m->made[i]->largest), key_buf_slice(&m->made[i + 1]->smallest)) >= 0)
			return false;
	}
	last = m->made[m->made_count - 1];
	return slice_compare(ikey_user(key_buf_slice(&m->made[0]->smallest)), key_buf_slice(&c->smallest)) >= 0 &&
	       slice_compare(ikey_user(key_buf_slice(&last->largest)), key_buf_slice(&c->largest)) <= 0;
}

/* Waits when the bytes read and written since the last time come too fast. */
static void merge_pace(struct merge *m, const struct direct_source *src, uint64_t step)
{
	uint64_t bytes = direct_source_bytes_read(src) + m->did.bytes_written;

	if (output_is_open(&m->out))
		bytes += table_builder_size(m->out.builder);
	if (bytes - m->paced < step)
		return;
	pace(m->engine, m->queue, bytes - m->paced, &m->c->cancelled);
	m->paced = bytes;
}

/* Everything that @it gives. *@reading_out: the failure is the inputs'. */
static int merge_all(struct merge *m, struct iter *it, struct direct_source *src, bool *reading_out,
		     struct err_info *err)
{
	int rc;

	for (iter_seek_first(it); it->valid; iter_next(it)) {
		if ((++m->did.entries_in & 255) == 0) {
			if (atomic_load_explicit(&m->engine->stopping, memory_order_relaxed) ||
			    atomic_load_explicit(&m->c->cancelled, memory_order_relaxed))
				return -ECANCELED;
			job_note_done(m->note, direct_source_bytes_read(src));
		}
		merge_pace(m, src, PACE_BYTES);
		rc = merge_entry(m, it->key, it->value, err);
		if (m->bad_input)
			return out_of_order(m, reading_out, err);
		if (rc < 0)
			return rc;
	}
	if (it->status) {
		const struct err_info *words = direct_source_error(src);

		*reading_out = true;
		rc = it->status < 0 ? it->status : -EIO;
		return words && words->code ? err_set(err, rc, "%s", words->text)
					    : err_set(err, rc, "reading a table: %s", shale_strerror(rc));
	}
	rc = merge_close_output(m, err);
	return rc == 0 && !outputs_fit(m) ? out_of_order(m, reading_out, err) : rc;
}

/* ---- inputs ---- */

static int input_iters(struct compaction *c, struct block_source *src, struct iter ***out, unsigned *count_out)
{
	size_t room = c->input_count[0] + 2;
	struct iter **children = calloc(room, sizeof(*children));
	unsigned n = 0;
	int rc = children ? 0 : -ENOMEM;

	for (unsigned which = 0; rc == 0 && which < 2; which++) {
		if (which == 0 && c->level == 0) {
			for (size_t i = 0; rc == 0 && i < c->input_count[0]; i++) {
				rc = level_iter_new(&c->inputs[0][i], 1, src, &children[n]);
				n += rc == 0;
			}
		} else if (c->input_count[which]) {
			rc = level_iter_new(c->inputs[which], c->input_count[which], src, &children[n]);
			n += rc == 0;
		}
	}
	if (rc < 0) {
		while (n)
			iter_free(children[--n]);
		free(children);
		return rc;
	}
	*out = children;
	*count_out = n;
	return 0;
}

static int merge_inputs(struct merge *m, struct direct_source *src, bool *reading_out, struct err_info *err)
{
	struct iter **children, *it;
	unsigned count;
	int rc = input_iters(m->c, direct_source_base(src), &children, &count);

	if (rc == 0) {
		rc = merge_iter_new(children, count, &it); /* takes the children */
		free(children);
	}
	if (rc < 0)
		return err_set(err, rc, "no memory to merge tables");
	rc = merge_all(m, it, src, reading_out, err);
	iter_free(it);
	return rc;
}

/* ---- installing ---- */

/* Under the lock, because references of shared metas change. */
static int edit_fill(struct edit *edit, const struct compaction *c, struct file_meta **made, size_t made_count)
{
	int rc = 0;

	for (unsigned which = 0; which < 2; which++) {
		for (size_t i = 0; rc == 0 && i < c->input_count[which]; i++)
			rc = edit_delete_file(edit, which ? c->output_level : c->level, c->inputs[which][i]->number);
	}
	for (size_t i = 0; rc == 0 && i < made_count; i++)
		rc = edit_add_file(edit, c->output_level, made[i]);
	if (rc == 0 && c->pointer.size)
		rc = edit_set_pointer(edit, c->level, key_buf_slice(&c->pointer));
	return rc;
}

static int install(struct engine *e, struct compaction *c, struct file_meta **made, size_t made_count,
		   struct edit *edit, struct io_queue *q, struct err_info *err)
{
	int rc;

	edit_init(edit);
	pthread_mutex_lock(&e->lock);
	rc = edit_fill(edit, c, made, made_count);
	pthread_mutex_unlock(&e->lock);
	if (rc < 0)
		return err_set(err, rc, "no memory for a version edit");
	KILL_POINT("compaction_built");
	rc = edit_apply(e, edit, q, err);
	KILL_POINT("compaction_installed");
	return rc;
}

static int move_table(struct engine *e, struct compaction *c, struct job_note *note, struct io_queue *q,
		      struct err_info *err)
{
	struct edit edit;
	int rc = install(e, c, c->inputs[0], 1, &edit, q, err);

	pthread_mutex_lock(&e->lock);
	edit_fini(&edit);
	if (rc == 0) {
		e->stats.trivial_moves++;
		file_meta_allow_seeks(c->inputs[0][0]); /* where it is now, it has cost nobody anything yet */
		e->stats.level[c->output_level].moved++;
		joblog_count(e, note, c->output_level, &(struct job_record){0});
		version_installed(e);
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static void count_work(struct engine *e, struct merge *m, uint64_t bytes_read, uint64_t micros)
{
	struct engine_level_stats *level = &e->stats.level[m->c->output_level];

	m->did.bytes_read = bytes_read;
	pthread_mutex_lock(&e->lock);
	e->stats.compactions++;
	e->stats.compaction_bytes_read += bytes_read;
	e->stats.compaction_bytes_written += m->did.bytes_written;
	e->stats.bytes_read_by_reason[m->c->reason] += m->did.bytes_read;
	e->stats.bytes_written_by_reason[m->c->reason] += m->did.bytes_written;
	joblog_count(e, m->note, m->c->output_level, &m->did);
	level->compactions++;
	level->micros += micros;
	for (unsigned which = 0; PLANT("deleted-in-use") && which < 2; which++) {
		for (size_t i = 0; i < m->c->input_count[which]; i++)
			obsolete_add(e, FILE_TABLE, m->c->inputs[which][i]->number);
	}
	version_installed(e);
	pthread_mutex_unlock(&e->lock);
}

static int merge_tables(struct engine *e, struct compaction *c, struct job_note *note, struct io_queue *q,
			bool *reading_out, struct err_info *err)
{
	struct merge m = {.engine = e, .c = c, .queue = q, .note = note};
	uint64_t begin = io_now_ns(e->env);
	struct direct_source *src = NULL;
	struct edit edit;
	int rc;

	edit_init(&edit);
	compaction_cursor_init(&m.cursor, c);
	rc = survivor_init(&m.keep, e);
	if (rc == 0)
		rc = direct_source_new(e->env, q, e->shared.tables, READAHEAD, &src);
	if (rc < 0)
		err_set(err, rc, "no memory to merge tables");
	if (rc == 0)
		rc = merge_inputs(&m, src, reading_out, err);
	if (rc < 0)
		output_drop(&m.out);
	if (rc == 0 && m.made_count)
		rc = directory_sync(e, err);
	if (rc == 0)
		rc = install(e, c, m.made, m.made_count, &edit, q, err);
	if (rc == 0) {
		count_work(e, &m, direct_source_bytes_read(src), (io_now_ns(e->env) - begin) / 1000);
		merge_pace(&m, src, 0); /* what is left to pay; nobody waits for the inputs any more */
	}
	outputs_release(e, &edit, m.made, m.made_count, rc == 0);
	free(m.made);
	direct_source_free(src);
	survivor_fini(&m.keep);
	return rc;
}

int compaction_run(struct engine *e, struct compaction *c, struct job_note *note, struct io_queue *q, bool *reading_out,
		   struct err_info *err)
{
	*reading_out = false;
	if (c->trivial)
		return move_table(e, c, note, q, err);
	return merge_tables(e, c, note, q, reading_out, err);
}
