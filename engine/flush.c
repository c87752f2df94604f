/*
 * flush.c - the oldest immutable memtable becomes a table.
 *
 *	1. build     %06llu.ldb from the memtable, without what newer entries hide from everybody; sync, read back, sync the directory
 *	2. place     under the lock: level 0, or 1 or 2 where nothing above or in flight overlaps. The table is registered as an output in
 *	             flight at that level in the same section, so that no compaction can begin into its range before it is installed
 *	3. install   one edit: the table, and the number of the next memtable's log
 *	4. let go    the memtable leaves the list; its log may be deleted
 *
 * One flush at a time, oldest first: level 0's order and the log number both depend on it. It never waits for a compaction.
 */
#include "engine/engine_internal.h"
#include "engine/plant.h"
#include "engine/kill_point.h"

#include <stdlib.h>

/* Entries of @it that anybody can see, into @o, which is opened at the first. */
static int build(struct engine *e, struct io_queue *q, struct iter *it, struct survivor *keep, struct output *o,
		 struct job_note *note, struct job_record *did, struct err_info *err)
{
	uint64_t bytes = 0;

	for (iter_seek_first(it); it->valid; iter_next(it)) {
		enum verdict verdict;
		bool new_user;
		int rc;

		bytes += it->key.size + it->value.size;
		if ((++did->entries_in & 255) == 0) {
			if (atomic_load_explicit(&e->stopping, memory_order_relaxed))
				return -ECANCELED;
			if (note)
				job_note_done(note, bytes);
		}
		rc = survivor_judge(keep, it->key, &verdict, &new_user);
		if (rc < 0)
			return err_set(err, rc, "no memory for a key");
		if (verdict == VERDICT_SHADOWED) { /* tombstones stay: deeper levels may hold the key */
			did->dropped_shadowed++;
			continue;
		}
		if (!output_is_open(o)) {
			rc = output_open(o, e, 0, q, err);
			if (rc < 0)
				return rc;
		}
		rc = output_add(o, it->key, it->value, err);
		if (rc < 0)
			return rc;
	}
	return it->status;
}

int flush_build(struct engine *e, struct io_queue *q, struct memtable *mem, struct job_note *note,
		struct file_meta **meta_out, struct job_record *did_out, struct err_info *err)
{
	struct job_record did = {0};
	struct survivor keep;
	struct output out = {0};
	struct file_meta *meta = NULL;
	struct iter *it = NULL;
	int rc;

	rc = survivor_init(&keep, e);
	if (rc == 0)
		rc = memtable_iter_new(mem, &it);
	if (rc < 0) {
		survivor_fini(&keep);
		return err_set(err, rc, "no memory to flush a memtable");
	}
	rc = build(e, q, it, &keep, &out, note, &did, err);
	if (rc == 0 && output_is_open(&out))
		rc = output_finish(&out, &meta, err);
	if (rc < 0)
		output_drop(&out);
	iter_free(it);
	survivor_fini(&keep);
	if (rc < 0)
		return rc;
	*meta_out = meta;
	did.bytes_written = meta ? meta->size : 0;
	*did_out = did;
	return 0;
}

/* The table as something that is being written to @level: what the picker must keep clear of. NULL: no memory. */
static struct compaction *in_flight(struct engine *e, const struct file_meta *meta)
{
	struct slice smallest = ikey_user(key_buf_slice(&meta->smallest));
	struct slice largest = ikey_user(key_buf_slice(&meta->largest));
	struct compaction *c = calloc(1, sizeof(*c));

	if (!c || key_buf_set(&c->smallest, smallest) < 0 || key_buf_set(&c->largest, largest) < 0) {
		compaction_end(&e->running, c); /* frees one that never began; not in the list, so no lock */
		return NULL;
	}
	pthread_mutex_lock(&e->lock);
	c->reason = REASON_FLUSH;
	c->level = c->output_level = flush_pick_level(&e->versions, &e->running, smallest, largest);
	c->version = version_ref(e->versions.current);
	compaction_start(&e->running, c);
	pthread_mutex_unlock(&e->lock);
	return c;
}

static void installed(struct engine *e, struct job_note *note, const struct job_record *did, unsigned level,
		      uint64_t micros)
{
	struct immutable done;

	pthread_mutex_lock(&e->lock);
	done = e->immutables[0];
	e->immutable_count--;
	memmove(&e->immutables[0], &e->immutables[1], e->immutable_count * sizeof(e->immutables[0]));
	e->flushed = done.ordinal;
	obsolete_add(e, FILE_LOG, memtable_log_number(done.mem));
	version_installed(e);
	e->stats.flushes++;
	e->stats.flush_bytes += did->bytes_written;
	joblog_count(e, note, level, did);
	note->record.level = note->record.output_level = level;
	e->stats.level[level].micros += micros;
	pthread_mutex_unlock(&e->lock);
	memtable_unref(done.mem);
}

int flush_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err)
{
	uint64_t begin = io_now_ns(e->env);
	struct job_record did;
	struct compaction *flight = NULL;
	struct file_meta *meta = NULL;
	struct immutable imm;
	struct edit edit;
	unsigned level = 0;
	int rc;

	pthread_mutex_lock(&e->lock);
	imm = e->immutables[0]; /* ours until installed: only this job removes from the front */
	pthread_mutex_unlock(&e->lock);
	rc = flush_build(e, q, imm.mem, note, &meta, &did, err);
	if (rc < 0)
		return rc;
	KILL_POINT("flush_built");
	edit_init(&edit);
	edit.has_log_number = true;
	edit.log_number = PLANT("log-number-early") ? memtable_log_number(e->mem) : imm.next_log;
	edit.has_last_sequence = true;
	edit.last_sequence = imm.last;
	if (meta)
		rc = directory_sync(e, err);
	if (meta && rc == 0) {
		flight = in_flight(e, meta);
		rc = flight ? edit_add_file(&edit, flight->output_level, meta) : -ENOMEM;
		if (rc < 0)
			err_set(err, rc, "no memory to install a flushed table");
	}
	KILL_POINT("flush_directory_synced");
	if (rc == 0)
		rc = edit_apply(e, &edit, q, err);
	KILL_POINT("flush_installed");
	if (flight)
		level = flight->output_level;
	if (rc == 0)
		installed(e, note, &did, level, (io_now_ns(e->env) - begin) / 1000);
	outputs_release(e, &edit, &meta, meta ? 1 : 0, rc == 0);
	if (flight) {
		pthread_mutex_lock(&e->lock);
		compaction_end(&e->running, flight);
		pthread_mutex_unlock(&e->lock);
	}
	return rc;
}
