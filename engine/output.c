/*
 * output.c - one table being written: create, add, finish, sync, read back.
 *
 * A table counts only after all of that and after the directory was synced, which the caller does once for all its outputs, before the
 * edit that names them. Reading it back costs one open, and puts it where readers will look for it.
 */
#include "engine/engine_internal.h"
#include "engine/plant.h"
#include "engine/kill_point.h"

#include <stdlib.h>

/* ---- tables on their way: on disk, and in no version yet ---- */

static int pending_add(struct engine *e, uint64_t number)
{
	int rc = 0;

	pthread_mutex_lock(&e->lock);
	if (e->pending_count == e->pending_cap) {
		size_t cap = e->pending_cap ? 2 * e->pending_cap : 16;
		uint64_t *grown = reallocarray(e->pending, cap, sizeof(*grown));

		if (grown) {
			e->pending = grown;
			e->pending_cap = cap;
		} else {
			rc = -ENOMEM;
		}
	}
	if (rc == 0)
		e->pending[e->pending_count++] = number;
	pthread_mutex_unlock(&e->lock);
	return rc;
}

/* Under the lock. Harmless when it is not there. */
static void pending_remove(struct engine *e, uint64_t number)
{
	for (size_t i = 0; i < e->pending_count; i++) {
		if (e->pending[i] == number) {
			e->pending[i] = e->pending[--e->pending_count];
			return;
		}
	}
}

/* ---- one table ---- */

/* Removes a table that no version has. Not under the lock. */
static void remove_pending(struct engine *e, uint64_t number)
{
	struct obsolete gone = {FILE_TABLE, number};

	obsolete_remove(e, &gone, 1);
	pthread_mutex_lock(&e->lock);
	pending_remove(e, number);
	pthread_mutex_unlock(&e->lock);
}

int output_open(struct output *o, struct engine *e, unsigned level, struct io_queue *q, struct err_info *err)
{
	struct table_options table = e->options.table;
	char name[FILE_NAME_MAX];
	int rc;

	memset(o, 0, sizeof(*o));
	o->engine = e;
	o->queue = q;
	o->number = version_set_new_number(&e->versions);
	file_name(name, FILE_TABLE, o->number);
	rc = pending_add(e, o->number);
	if (rc == 0)
		rc = io_open(e->env, name, IO_OPEN_WRITE | IO_OPEN_CREATE, &o->file);
	if (rc < 0)
		return err_set(err, rc, "%s: cannot be created: %s", name, shale_strerror(rc));
	if (e->options.compression_by_level)
		table.compression = e->options.level_compression[level];
	rc = table_builder_new(q, o->file, &table, &o->builder);
	if (rc < 0) {
		output_drop(o);
		return err_set(err, rc, "%s: no memory to build a table", name);
	}
	return 0;
}

bool output_is_open(const struct output *o)
{
	return o->builder != NULL;
}

static int write_error(const struct output *o, int rc, const char *what, struct err_info *err)
{
	char name[FILE_NAME_MAX];

	return err_set(err, rc, "%s: %s: %s", file_name(name, FILE_TABLE, o->number), what, shale_strerror(rc));
}

int output_add(struct output *o, struct slice ikey, struct slice value, struct err_info *err)
{
	int rc = key_buf_set(&o->largest, ikey);

	if (rc == 0 && !o->has_smallest) {
		rc = key_buf_set(&o->smallest, ikey);
		o->has_smallest = rc == 0;
	}
	if (rc == 0)
		rc = table_builder_add(o->builder, ikey, value);
	return rc < 0 ? write_error(o, rc, "writing", err) : 0;
}

/* Opens what was written as a reader would; a table that cannot be read back must not replace anything. */
static int read_back(struct output *o, uint64_t size, struct err_info *err)
{
	struct table *t;
	int rc = table_open(o->engine->env, o->queue, o->number, size, &t, err);

	if (rc < 0)
		return rc;
	table_cache_put(o->engine->shared.tables, t);
	table_unref(t);
	return 0;
}

static void output_close(struct output *o)
{
	table_builder_free(o->builder);
	io_close(o->file);
	o->builder = NULL;
	o->file = NULL;
}

int output_finish(struct output *o, struct file_meta **meta_out, struct err_info *err)
{
	struct file_meta *meta;
	struct table_counts counts;
	uint64_t size;
	int rc;

	rc = table_builder_finish(o->builder);
	if (rc < 0)
		return write_error(o, rc, "writing", err);
	size = table_builder_size(o->builder);
	counts = table_builder_counts(o->builder);
	KILL_POINT("table_written");
	rc = PLANT("table-sync-skipped") ? 0 : io_fdatasync(o->queue, o->file);
	if (rc < 0) { /* never retried, never healed: the kernel may report lost pages once only */
		write_error(o, rc, "fdatasync", err);
		return engine_fail(o->engine, rc, err);
	}
	output_close(o);
	rc = read_back(o, size, err);
	if (rc < 0)
		return rc;
	meta = file_meta_new(o->number, size, key_buf_slice(&o->smallest), key_buf_slice(&o->largest));
	if (!meta)
		return err_set(err, -ENOMEM, "no memory for a table's entry");
	meta->counted = true;
	meta->dead_percent = table_dead_percent(&counts);
	meta->dead_sequence = counts.dead_sequence;
	key_buf_fini(&o->smallest);
	key_buf_fini(&o->largest);
	memset(o, 0, sizeof(*o));
	*meta_out = meta;
	return 0;
}

void output_drop(struct output *o)
{
	struct engine *e = o->engine;

	output_close(o);
	key_buf_fini(&o->smallest);
	key_buf_fini(&o->largest);
	if (e)
		remove_pending(e, o->number);
	memset(o, 0, sizeof(*o));
}

/* ---- what comes after: directory, edit, references ---- */

int directory_sync(struct engine *e, struct err_info *err)
{
	int rc = PLANT("directory-sync-skipped") ? 0 : io_sync_dir(e->env);

	if (rc < 0) {
		err_set(err, rc, "syncing the database directory: %s", shale_strerror(rc));
		engine_fail(e, rc, err);
	}
	return rc;
}

int edit_apply(struct engine *e, struct edit *edit, struct io_queue *q, struct err_info *err)
{
	int rc = version_set_apply(&e->versions, edit, q, err), failed;

	if (rc < 0) {
		pthread_mutex_lock(&e->lock);
		failed = e->versions.failed;
		pthread_mutex_unlock(&e->lock);
		if (failed) /* whether the edit is in the MANIFEST is not known: from here on nothing may be deleted */
			engine_fail(e, rc, err);
	}
	return rc;
}

void outputs_release(struct engine *e, struct edit *edit, struct file_meta **metas, size_t count, bool installed)
{
	pthread_mutex_lock(&e->lock);
	edit_fini(edit);
	for (size_t i = 0; i < count && installed; i++) {
		/* Installed and compacted away before we let go: then no version saw the last reference go, and we do it for them. */
		if (metas[i]->refs == 1)
			obsolete_add(e, FILE_TABLE, metas[i]->number);
		pending_remove(e, metas[i]->number);
		file_meta_unref(metas[i]);
	}
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < count && !installed; i++) {
		uint64_t number = metas[i]->number;

		file_meta_unref(metas[i]);
		remove_pending(e, number);
	}
}
