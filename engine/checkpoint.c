/*
 * checkpoint.c - a copy of the database at one sequence.
 *
 *	1. numbers   for a table and a MANIFEST, made durable by an empty edit: no later life of the database gives them to other files
 *	2. pin       under the lock: version, memtables, then the last sequence S. All of them stay; S is the end of a batch
 *	3. tables    each table of the version: a hard link, or a copy where there can be none. They never change and were synced before
 *	             the version was
 *	4. memtables what they hold up to S becomes one more table, of level 0. Its number is the highest, so it is newer than all others
 *	5. MANIFEST  one record: these tables, S, no log; synced. Then the directory
 *	6. CURRENT   by rename: from here on it is this checkpoint
 *	7. name      a new directory gets its name (backup_dir.h). In an earlier checkpoint, the files that it no longer needs go
 *
 * A new directory appears in step 7, whole. An earlier checkpoint becomes the new one in step 6 at a stroke: before, its own MANIFEST and tables are
 * all there, and what was added is not referred to. A failure before step 6 takes away what was added.
 *
 * Why the memtables become a table, where a copy of the logs would do: the tail of the log is in a ring that the service thread writes on, and its
 * older files go away with each flush. To copy it at one sequence, the service thread would have to wait, or the copy to begin anew. A memtable up to S
 * never changes. The checkpoint also opens without a replay, and holds each key of the memtables once.
 *
 * A directory that was opened as a database since (it holds a log) is no checkpoint any more: whoever did has written to it. It is refused.
 */
#include "engine/checkpoint.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/backup_dir.h"
#include "engine/engine_internal.h"
#include "engine/exam.h"
#include "engine/kill_point.h"

struct checkpoint {
	struct errand errand;
	struct checkpoint_result result;
	char path[PATH_MAX];
};

/* What a worker carries from step to step. */
struct making {
	struct engine *engine;
	struct checkpoint *checkpoint;
	struct job_note *note;
	struct io_queue *queue; /* the worker's */
	struct backup_copy copy;
	struct backup_dir place;
	struct io_env *env;	 /* of the place; its lock is held */
	struct io_queue *writer; /* to there */
	uint64_t table_number, manifest_number;
	/* pinned */
	struct version *version;
	struct memtable *memtables[IMMUTABLES_MAX + 1]; /* newest first */
	unsigned memtable_count;
	struct edit edit; /* the record of the MANIFEST */
	uint64_t done;	  /* bytes, for the note */
	uint64_t *added;  /* tables that this attempt put there */
	size_t added_count;
	bool switched; /* step 6 was reached */
};

/* ---- asking ---- */

int engine_checkpoint_start(struct engine *e, const char *path, uint64_t *ticket_out)
{
	struct checkpoint *c;

	if (io_env_dirfd(e->env) < 0)
		return -EOPNOTSUPP;
	if (strlen(path) >= sizeof(c->path))
		return -ENAMETOOLONG;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->errand.kind = ERRAND_CHECKPOINT;
	snprintf(c->path, sizeof(c->path), "%s", path);
	return errand_start(e, &c->errand, ticket_out);
}

int engine_checkpoint_done(struct engine *e, uint64_t ticket, struct checkpoint_result *out, struct err_info *err)
{
	struct errand *a;
	int rc = errand_take(e, ERRAND_CHECKPOINT, ticket, &a, err);

	if (rc > 0) {
		struct checkpoint *c = container_of(a, struct checkpoint, errand);

		*out = c->result;
		free(c);
	}
	return rc;
}

int engine_checkpoint_cancel(struct engine *e, uint64_t ticket)
{
	return errand_cancel(e, ERRAND_CHECKPOINT, ticket);
}

static uint64_t bytes_of(const struct version *v)
{
	uint64_t sum = 0;

	for (unsigned level = 0; level < LEVELS; level++)
		sum += v->bytes[level];
	return sum;
}

bool checkpoint_claim(struct engine *e, struct job_note *note)
{
	if (!errand_claim(e, ERRAND_CHECKPOINT))
		return false;
	for (unsigned level = 0; level < LEVELS; level++)
		note->record.files[0] += e->versions.current->count[level];
	note->record.bytes[0] = bytes_of(e->versions.current);
	return true;
}

/* ---- the place ---- */

static bool is_cancelled(const struct making *m)
{
	return errand_is_over(m->engine, &m->checkpoint->errand);
}

static void advance(struct making *m, uint64_t bytes)
{
	m->done += bytes;
	job_note_done(m->note, m->done);
}

/* Copies cost the disk what compactions cost it, and share their rate. */
static int on_copied(struct backup_copy *c, uint64_t bytes)
{
	struct making *m = container_of(c, struct making, copy);

	advance(m, bytes);
	m->checkpoint->result.bytes_copied += bytes;
	pace(m->engine, m->queue, 2 * bytes, &m->checkpoint->errand.cancelled);
	return is_cancelled(m) ? -ECANCELED : 0;
}

static uint64_t inode_of(int dir)
{
	struct stat st;

	return fstat(dir, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

static void look_for_log(void *context, const char *name)
{
	enum file_type type;
	uint64_t number;

	*(bool *)context |= file_parse(name, &type, &number) && type == FILE_LOG;
}

/* The directory is there: is it a checkpoint of this database, that nobody has used as a database? */
static int check_earlier(struct making *m, struct err_info *err)
{
	const char *path = m->checkpoint->path;
	uint64_t inode = 0;
	bool used = false;
	char text[512] = "";
	ssize_t n = -1;
	int rc, fd = openat(m->place.dir, CHECKPOINT_MARKER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n < 0 || sscanf(text, "shale checkpoint\ninode %" SCNu64, &inode) != 1)
		return err_set(
			err, -EEXIST,
			"%s is there, and is no checkpoint (it has no valid %s): nothing in it was touched. Choose a "
			"directory that does not exist, or an earlier checkpoint of this database",
			path, CHECKPOINT_MARKER);
	if (inode != inode_of(io_env_dirfd(m->engine->env)))
		return err_set(
			err, -EEXIST,
			"%s is a checkpoint of another database directory (its %s says which): nothing in it was "
			"touched. Choose another directory, or remove this one",
			path, CHECKPOINT_MARKER);
	rc = io_list(m->env, look_for_log, &used);
	if (rc < 0)
		return err_set(err, rc, "%s: cannot be listed: %s", path, shale_strerror(rc));
	if (used)
		return err_set(
			err, -EEXIST,
			"%s was a checkpoint, but has been opened as a database since (it holds a log): nothing in it "
			"was touched. Choose another directory, or remove this one",
			path);
	return 0;
}

/* An io_env of the directory that b->dir is, and its LOCK: verify, restore and daemons keep out meanwhile. */
static int open_env(struct making *m, struct err_info *err)
{
	char path[40];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->place.dir);
	rc = io_env_open(path, IO_BACKEND_POSIX, false, &m->env, err);
	if (rc == 0)
		rc = io_queue_new(m->env, 8, &m->writer);
	if (rc < 0)
		err_prefix(err, "%s: ", m->checkpoint->path);
	return rc;
}

static int lock_place(struct making *m, struct err_info *err)
{
	int rc = io_lock(m->env, "LOCK", err);

	if (rc < 0)
		err_prefix(err, "%s is in use: ", m->checkpoint->path);
	return rc;
}

static int open_place(struct making *m, struct err_info *err)
{
	int there, rc = backup_locate(&m->place, m->checkpoint->path, err);

	if (rc < 0)
		return rc;
	there = backup_existing(&m->place, err);
	if (there < 0)
		return there;
	if (!there) {
		rc = backup_begin(&m->place, err);
		return rc < 0 || (rc = open_env(m, err)) < 0 ? rc : lock_place(m, err);
	}
	rc = open_env(m, err);
	if (rc == 0) /* before LOCK, which would be a first file in a directory that is none of our business */
		rc = check_earlier(m, err);
	if (rc == 0)
		rc = lock_place(m, err);
	return rc < 0 ? rc : check_earlier(m, err); /* again: it may have changed until we had the lock */
}

/* ---- 1 and 2: numbers, pins ---- */

static int take_numbers(struct making *m, struct err_info *err)
{
	struct engine *e = m->engine;
	struct edit nothing;
	int rc;

	m->table_number = version_set_new_number(&e->versions);
	m->manifest_number = version_set_new_number(&e->versions);
	edit_init(&nothing);
	rc = edit_apply(e, &nothing, m->queue, err);
	edit_fini(&nothing);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&e->lock);
	version_installed(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* Under the lock. */
static int pin(struct making *m)
{
	struct engine *e = m->engine;
	struct edit *edit = &m->edit;
	int rc = 0;

	m->version = version_ref(e->versions.current);
	m->memtables[m->memtable_count++] = memtable_ref(e->mem);
	for (unsigned i = e->immutable_count; i-- > 0;) {
		/* One whose table is installed stays in the list for a moment: its entries must not come twice. */
		if (e->immutables[i].next_log > e->versions.log_number)
			m->memtables[m->memtable_count++] = memtable_ref(e->immutables[i].mem);
	}
	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < m->version->count[level] && rc == 0; i++)
			rc = edit_add_file(edit, level, m->version->files[level][i]);
	}
	edit->has_comparator = edit->has_log_number = edit->has_prev_log_number = true;
	edit->has_next_file = edit->has_last_sequence = true;
	strcpy(edit->comparator, COMPARATOR_NAME);
	edit->log_number = 0; /* of no log: there is none */
	edit->next_file = atomic_load_explicit(&e->versions.next_file, memory_order_relaxed);
	/* Last: everything up to it is in what was pinned, since memtables are switched under this lock. */
	edit->last_sequence = engine_last_sequence(e);
	m->note->record.files[0] = edit->added_count;
	m->note->record.bytes[0] = bytes_of(m->version);
	for (unsigned i = 0; i < m->memtable_count; i++)
		m->note->record.bytes[0] += memtable_used(m->memtables[i]);
	return rc;
}

static void unpin(struct making *m)
{
	struct engine *e = m->engine;

	for (unsigned i = 0; i < m->memtable_count; i++)
		memtable_unref(m->memtables[i]);
	pthread_mutex_lock(&e->lock);
	edit_fini(&m->edit); /* before the version, which tells when a table is obsolete */
	if (m->version)
		version_unref(m->version);
	engine_wake_jobs(e); /* there may be something to delete */
	pthread_mutex_unlock(&e->lock);
}

/* ---- 3: tables ---- */

static int add_table(struct making *m, uint64_t number, struct err_info *err)
{
	struct checkpoint_result *r = &m->checkpoint->result;
	char name[FILE_NAME_MAX];
	enum backup_way way;
	struct stat st;
	int from = io_env_dirfd(m->engine->env), rc;

	file_name(name, FILE_TABLE, number);
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		file_name(name, FILE_SST, number);
	rc = backup_file(&m->copy, from, name, &m->place, &way, err);
	if (rc < 0)
		return rc;
	if (way != BACKUP_KEPT)
		m->added[m->added_count++] = number;
	r->kept += way == BACKUP_KEPT;
	r->linked += way == BACKUP_LINKED;
	r->copied += way == BACKUP_COPIED;
	return 0;
}

static int add_tables(struct making *m, struct err_info *err)
{
	uint64_t before = 0;
	int rc = 0;

	m->added = calloc(m->edit.added_count + 1, sizeof(*m->added));
	if (!m->added)
		return err_set(err, -ENOMEM, "no memory for a list of tables");
	for (size_t i = 0; i < m->edit.added_count && rc == 0; i++) {
		if (is_cancelled(m))
			return -ECANCELED;
		rc = add_table(m, m->edit.added[i].number, err);
		before += m->edit.added[i].meta->size;
		m->done = before; /* whatever way it came */
		job_note_done(m->note, before);
		KILL_POINT("checkpoint_table_added");
	}
	return rc;
}

/* ---- 4: memtables ---- */

struct building {
	struct io_file *file;
	struct table_builder *builder;
	struct key_buf smallest, largest, user;
};

static int builder_open(struct making *m, struct building *b)
{
	struct table_options options = m->engine->options.table;
	char name[FILE_NAME_MAX];
	int rc;

	if (m->engine->options.compression_by_level)
		options.compression = m->engine->options.level_compression[0];
	rc = io_open(m->env, file_name(name, FILE_TABLE, m->table_number),
		     IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL, &b->file);
	if (rc < 0)
		return rc;
	m->added[m->added_count++] = m->table_number;
	return table_builder_new(m->writer, b->file, &options, &b->builder);
}

/* What the newest state at S has of each key, deletions included: deeper tables may hold older entries. */
static int build_entries(struct making *m, struct building *b, struct iter *it)
{
	const uint64_t last = m->edit.last_sequence;
	uint64_t base = m->done;
	bool has_user = false;

	for (iter_seek_first(it); it->valid; iter_next(it)) {
		int rc = 0;

		if (ikey_sequence(it->key) > last ||
		    (has_user && slice_equal(key_buf_slice(&b->user), ikey_user(it->key))))
			continue;
		if (is_cancelled(m))
			return -ECANCELED;
		if (!b->builder) {
			rc = builder_open(m, b);
			if (rc == 0)
				rc = key_buf_set(&b->smallest, it->key);
		}
		if (rc == 0)
			rc = key_buf_set(&b->user, ikey_user(it->key));
		if (rc == 0)
			rc = key_buf_set(&b->largest, it->key);
		if (rc == 0)
			rc = table_builder_add(b->builder, it->key, it->value);
		if (rc < 0)
			return rc;
		has_user = true;
		m->done += it->key.size + it->value.size;
		job_note_done(m->note, m->done);
	}
	m->checkpoint->result.bytes_copied += b->builder ? m->done - base : 0;
	return it->status;
}

static int finish_table(struct making *m, struct building *b)
{
	struct file_meta *meta;
	int rc = table_builder_finish(b->builder);

	if (rc == 0)
		rc = io_fdatasync(m->writer, b->file);
	if (rc < 0)
		return rc;
	meta = file_meta_new(m->table_number, table_builder_size(b->builder), key_buf_slice(&b->smallest),
			     key_buf_slice(&b->largest));
	if (!meta)
		return -ENOMEM;
	rc = edit_add_file(&m->edit, 0, meta);
	file_meta_unref(meta); /* the edit's alone: nobody else knows it */
	return rc;
}

static int merge_memtables(struct making *m, struct iter **out)
{
	struct iter **children = calloc(m->memtable_count, sizeof(struct iter *));
	unsigned count = 0;
	int rc = children ? 0 : -ENOMEM;

	while (rc == 0 && count < m->memtable_count) {
		rc = memtable_iter_new(m->memtables[count], &children[count]);
		count += rc == 0;
	}
	if (rc == 0)
		rc = merge_iter_new(children, count, out); /* takes them, whatever it answers */
	else
		while (count)
			iter_free(children[--count]);
	free(children);
	return rc;
}

static int add_memtables(struct making *m, struct err_info *err)
{
	struct building b = {0};
	struct iter *it = NULL;
	int rc = merge_memtables(m, &it);

	if (rc == 0)
		rc = build_entries(m, &b, it);
	if (rc == 0 && b.builder)
		rc = finish_table(m, &b);
	iter_free(it);
	table_builder_free(b.builder);
	io_close(b.file);
	key_buf_fini(&b.smallest);
	key_buf_fini(&b.largest);
	key_buf_fini(&b.user);
	KILL_POINT("checkpoint_memtables_added");
	return rc < 0 && rc != -ECANCELED ? err_set(err, rc, "%s: writing a table of what is in memory: %s",
						    m->checkpoint->path, shale_strerror(rc))
					  : rc;
}

/* ---- 5 and 6: MANIFEST, CURRENT ---- */

static int write_marker(struct making *m, struct err_info *err)
{
	char text[PATH_MAX + 256], from[40], source[PATH_MAX] = "";
	int dir = io_env_dirfd(m->engine->env), n;

	snprintf(from, sizeof(from), "/proc/self/fd/%d", dir);
	if (readlink(from, source, sizeof(source) - 1) < 0)
		*source = '\0';
	n = snprintf(text, sizeof(text), "shale checkpoint\ninode %" PRIu64 "\nsequence %" PRIu64 "\ndatabase %s\n",
		     inode_of(dir), m->edit.last_sequence, source);
	return backup_write(&m->place, CHECKPOINT_MARKER, text, (size_t)n, err);
}

static int switch_current(struct making *m, struct err_info *err)
{
	int rc;

	if (fsync(m->place.dir) < 0)
		return err_set(err, -errno, "%s: syncing it: %m", m->checkpoint->path);
	KILL_POINT("checkpoint_manifest_written");
	rc = backup_current(&m->place, m->manifest_number, err);
	m->switched = rc == 0;
	KILL_POINT("checkpoint_switched");
	if (rc == 0 && fsync(m->place.dir) < 0)
		rc = err_set(err, -errno, "%s: syncing it: %m", m->checkpoint->path);
	return rc;
}

/* ---- 7: what is left over ---- */

static bool is_needed(const struct making *m, const struct dir_file *f)
{
	if (f->type == FILE_MANIFEST)
		return f->number == m->manifest_number;
	if (f->type != FILE_TABLE && f->type != FILE_SST)
		return f->type != FILE_TEMP;
	for (size_t i = 0; i < m->edit.added_count; i++) {
		if (m->edit.added[i].number == f->number)
			return true;
	}
	return false;
}

static int remove_left_over(struct making *m, struct err_info *err)
{
	struct dir_list list = {0};
	int rc = dir_list_read(m->env, &list, err);

	for (size_t i = 0; i < list.count && rc == 0; i++) {
		if (is_needed(m, &list.at[i]))
			continue;
		if (unlinkat(m->place.dir, list.at[i].name, 0) < 0)
			rc = err_set(err, -errno, "%s: removing what the earlier checkpoint had: %m", list.at[i].name);
		KILL_POINT("checkpoint_removed");
		m->checkpoint->result.removed++;
	}
	dir_list_free(&list);
	if (rc == 0 && fsync(m->place.dir) < 0)
		rc = err_set(err, -errno, "%s: syncing it: %m", m->checkpoint->path);
	return rc;
}

/* The earlier checkpoint as it was. */
static void take_back(struct making *m)
{
	char name[FILE_NAME_MAX];

	if (m->place.fresh) {
		backup_drop(&m->place);
		return;
	}
	if (m->switched || !m->env || m->place.dir < 0)
		return;
	for (size_t i = 0; i < m->added_count; i++) {
		unlinkat(m->place.dir, file_name(name, FILE_TABLE, m->added[i]), 0);
		unlinkat(m->place.dir, file_name(name, FILE_SST, m->added[i]), 0);
	}
	if (m->manifest_number)
		unlinkat(m->place.dir, file_name(name, FILE_MANIFEST, m->manifest_number), 0);
}

/* ---- all of it ---- */

static int make(struct making *m, struct err_info *err)
{
	struct checkpoint_result *r = &m->checkpoint->result;
	int rc = open_place(m, err);

	if (rc == 0)
		rc = take_numbers(m, err);
	if (rc == 0) {
		pthread_mutex_lock(&m->engine->lock);
		rc = pin(m);
		pthread_mutex_unlock(&m->engine->lock);
		if (rc < 0)
			err_set(err, rc, "no memory for a list of tables");
	}
	KILL_POINT("checkpoint_pinned");
	if (rc == 0)
		rc = add_tables(m, err);
	if (rc == 0)
		rc = add_memtables(m, err);
	if (rc == 0)
		rc = backup_manifest(&m->place, m->manifest_number, &m->edit, err);
	if (rc == 0 && m->place.fresh)
		rc = write_marker(m, err);
	if (rc == 0)
		rc = switch_current(m, err);
	if (rc < 0)
		return rc;
	r->sequence = m->edit.last_sequence;
	r->tables = m->edit.added_count;
	for (size_t i = 0; i < m->edit.added_count; i++)
		r->bytes += m->edit.added[i].meta->size;
	if (m->place.fresh)
		return backup_publish(&m->place, err);
	rc = write_marker(m, err);
	return rc < 0 ? rc : remove_left_over(m, err);
}

int checkpoint_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err)
{
	struct checkpoint *c = container_of(e->errands[ERRAND_CHECKPOINT], struct checkpoint, errand);
	struct making m = {
		.engine = e,
		.checkpoint = c,
		.note = note,
		.queue = q,
		.copy = {.link = true, .durable_source = true, .progress = on_copied},
		.place = {.parent = -1, .dir = -1},
	};
	int rc;

	edit_init(&m.edit);
	rc = make(&m, err);
	if (rc < 0)
		take_back(&m);
	unpin(&m);
	io_queue_free(m.writer);
	io_env_close(m.env);
	backup_close(&m.place);
	free(m.added);
	if (rc == -ECANCELED)
		err_set(err, rc, "cancelled; %s is as it was", c->path);
	else if (rc < 0 && strncmp(err->text, c->path, strlen(c->path)) != 0)
		err_prefix(err, "%s: ", c->path);
	pthread_mutex_lock(&e->lock);
	note->record.bytes_written = c->result.bytes_copied;
	c->errand.err = *err;
	errand_end(e, &c->errand, rc);
	pthread_mutex_unlock(&e->lock);
	return rc;
}
