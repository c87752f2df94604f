/*
 * export_leveldb.c - a LevelDB directory that stock opens, whatever the database's own compression is.
 *
 * Entries come in order and each key once, so the tables are one sorted run: all of them lie in the last level, where nothing is ever due for compaction.
 * All entries have sequence number 1.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/filename.h"
#include "engine/table.h"
#include "shm/error.h"
#include "tools/shalectl/export.h"
#include "tools/shalectl/place.h"

enum { MANIFEST = 1, FIRST_TABLE = 2, SEQUENCE = 1, QUEUE_DEPTH = 16 };

struct leveldb_sink {
	struct export_sink sink;
	char path[PATH_MAX];
	struct backup_dir place;
	struct io_env *env;
	struct io_queue *queue;
	struct table_options options;
	uint64_t table_bytes; /* a table ends when it is as large */
	struct edit edit;
	/* the table that is being written */
	uint64_t number;
	struct io_file *file;
	struct table_builder *builder;
	struct key_buf smallest, largest;
};

static int tell(struct leveldb_sink *l, int rc, const char *what)
{
	return err_set(&l->sink.err, rc, "%s: %s: %s", l->path, what, shale_strerror(rc));
}

static int table_begin(struct leveldb_sink *l, struct slice ikey)
{
	char name[FILE_NAME_MAX];
	int rc = io_open(l->env, file_name(name, FILE_TABLE, l->number), IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL,
			 &l->file);

	if (rc == 0)
		rc = table_builder_new(l->queue, l->file, &l->options, &l->builder);
	return rc < 0 ? rc : key_buf_set(&l->smallest, ikey);
}

static void table_drop(struct leveldb_sink *l)
{
	table_builder_free(l->builder);
	io_close(l->file);
	l->builder = NULL;
	l->file = NULL;
}

static int table_end(struct leveldb_sink *l)
{
	struct file_meta *meta;
	int rc = table_builder_finish(l->builder);

	if (rc == 0)
		rc = io_fdatasync(l->queue, l->file);
	if (rc < 0)
		return rc;
	meta = file_meta_new(l->number++, table_builder_size(l->builder), key_buf_slice(&l->smallest),
			     key_buf_slice(&l->largest));
	if (!meta)
		return -ENOMEM;
	rc = edit_add_file(&l->edit, LEVELS - 1, meta);
	file_meta_unref(meta);
	table_drop(l);
	return rc;
}

static int add(struct export_sink *s, struct slice key, struct slice value)
{
	struct leveldb_sink *l = container_of(s, struct leveldb_sink, sink);
	int rc = key_buf_set_internal(&l->largest, key, SEQUENCE, IKEY_VALUE);

	if (rc == 0 && !l->builder)
		rc = table_begin(l, key_buf_slice(&l->largest));
	if (rc == 0)
		rc = table_builder_add(l->builder, key_buf_slice(&l->largest), value);
	if (rc == 0 && table_builder_size(l->builder) >= l->table_bytes)
		rc = table_end(l);
	return rc < 0 ? tell(l, rc, "writing a table") : 0;
}

static int end(struct export_sink *s)
{
	struct leveldb_sink *l = container_of(s, struct leveldb_sink, sink);
	int rc = l->builder ? table_end(l) : 0;

	if (rc < 0)
		return tell(l, rc, "writing a table");
	l->edit.has_comparator = l->edit.has_log_number = l->edit.has_prev_log_number = true;
	l->edit.has_next_file = l->edit.has_last_sequence = true;
	strcpy(l->edit.comparator, COMPARATOR_NAME);
	l->edit.next_file = l->number;
	l->edit.last_sequence = SEQUENCE;
	rc = backup_manifest(&l->place, MANIFEST, &l->edit, &s->err);
	if (rc == 0)
		rc = backup_current(&l->place, MANIFEST, &s->err);
	if (rc == 0 && place_publish("export", l->path, &l->place) != EXIT_OK)
		rc = err_set(&s->err, -EEXIST, "%s was not made", l->path);
	return rc;
}

static void drop(struct export_sink *s)
{
	struct leveldb_sink *l = container_of(s, struct leveldb_sink, sink);

	table_drop(l);
	edit_fini(&l->edit);
	key_buf_fini(&l->smallest);
	key_buf_fini(&l->largest);
	io_queue_free(l->queue);
	io_env_close(l->env);
	place_end(&l->place);
	free(l);
}

int export_leveldb(struct ctl *ctl, const char *given, struct export_sink **out)
{
	struct leveldb_sink *l = calloc(1, sizeof(*l));
	struct engine_options defaults;
	struct err_info err = {0};
	char dir[40];
	int code, rc;

	if (!l) {
		complain("export: no memory");
		return EXIT_FAILED;
	}
	engine_options_default(&defaults);
	l->sink = (struct export_sink){.add = add, .end = end, .drop = drop};
	l->place = (struct backup_dir){.parent = -1, .dir = -1};
	l->options = defaults.table;
	l->options.compression = ctl->uncompressed ? COMPRESS_NONE : COMPRESS_SNAPPY;
	l->options.with_counts = false;
	l->table_bytes = defaults.levels.max_file_bytes;
	l->number = FIRST_TABLE;
	edit_init(&l->edit);
	code = place_path("export", given, l->path);
	if (code == EXIT_OK)
		code = place_begin("export", l->path, &l->place);
	if (code == EXIT_OK) {
		snprintf(dir, sizeof(dir), "/proc/self/fd/%d", l->place.dir);
		rc = io_env_open(dir, IO_BACKEND_POSIX, false, &l->env, &err);
		if (rc == 0)
			rc = io_queue_new(l->env, QUEUE_DEPTH, &l->queue);
		if (rc < 0) {
			complain("export: %s: %s", l->path, *err.text ? err.text : shale_strerror(rc));
			code = EXIT_FAILED;
		}
	}
	if (code == EXIT_OK)
		*out = &l->sink;
	else
		drop(&l->sink);
	return code;
}
