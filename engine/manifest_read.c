/*
 * manifest_read.c - the state that CURRENT and its MANIFEST describe.
 *
 *	CURRENT ─▶ MANIFEST-n ─▶ records, in order ─▶ files by number, pointers, numbers ─▶ version ─▶ tables on disk
 *
 * What is accepted: records up to a torn last one (a crash during an append leaves that; the edit was never acknowledged). Everything
 * else that does not add up fails the open with words, and changes nothing: a guess here would cost data later.
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/filename.h"
#include "engine/log_format.h"
#include "engine/manifest.h"
#include "engine/version_builder.h"
#include "shm/error.h"

enum { CURRENT_MAX = 256 };

/* One live table while records are read: by number, because that is how records delete. */
struct live {
	uint64_t number;
	unsigned level;
	struct file_meta *meta;
};

/* What the records so far add up to. */
struct recovery {
	struct io_env *env;
	struct version_set *vs; /* NULL: only the records are wanted */
	const char *name;	/* of the MANIFEST */
	uint64_t record_at;	/* file offset of the record in hand */
	uint64_t records;
	uint64_t whole;	 /* bytes of the file that are whole records; set at its end */
	void *files;	 /* tsearch tree of struct live */
	struct edit sum; /* scalars: the last said; pointers: the last of each level; added: filled at the end */
	struct key_buf pointers[LEVELS];
	struct err_info *err;
	int walk_rc;
};

static int corrupt(struct recovery *r, const char *what)
{
	return err_set(r->err, -SHALE_ECORRUPT,
		       "%s, record at offset %llu: %s. The file was damaged or written by another program; restore the "
		       "database from a backup, or run `shalectl repair`",
		       r->name, (unsigned long long)r->record_at, what);
}

static int no_memory(struct recovery *r)
{
	return err_set(r->err, -ENOMEM, "%s: no memory to read it", r->name);
}

/* ---- live tables ---- */

static int live_order(const void *a, const void *b)
{
	const struct live *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static void live_free(void *p)
{
	struct live *l = p;

	file_meta_unref(l->meta);
	free(l);
}

static int live_delete(struct recovery *r, const struct edit_file *f)
{
	struct live key = {.number = f->number}, **found = tfind(&key, &r->files, live_order), *l;
	char what[96];

	if (!found || (*found)->level != f->level) {
		snprintf(what, sizeof(what), "it deletes table %06llu from level %u, where it is not",
			 (unsigned long long)f->number, f->level);
		return corrupt(r, what);
	}
	l = *found;
	tdelete(&key, &r->files, live_order);
	live_free(l);
	return 0;
}

static int live_add(struct recovery *r, const struct edit_file *f)
{
	struct live *l = malloc(sizeof(*l)), **found;
	char what[96];

	if (!l)
		return no_memory(r);
	*l = (struct live){.number = f->number, .level = f->level, .meta = f->meta};
	found = tsearch(l, &r->files, live_order);
	if (!found || *found != l) {
		free(l);
		if (!found)
			return no_memory(r);
		snprintf(what, sizeof(what), "it adds table %06llu, which is already there",
			 (unsigned long long)f->number);
		return corrupt(r, what);
	}
	l->meta->refs++;
	return 0;
}

static void live_collect(const void *node, VISIT visit, void *context)
{
	const struct live *l = *(struct live *const *)node;
	struct recovery *r = context;

	if ((visit == postorder || visit == leaf) && r->walk_rc == 0)
		r->walk_rc = edit_add_file(&r->sum, l->level, l->meta);
}

/* ---- records ---- */

static int check_comparator(struct recovery *r, const struct edit *e)
{
	if (!e->has_comparator || strcmp(e->comparator, COMPARATOR_NAME) == 0)
		return 0;
	return err_set(r->err, -SHALE_ECOMPARATOR,
		       "%s: the database is ordered by the comparator '%s', shale knows only '%s'. Open it with the "
		       "program that made it",
		       r->name, e->comparator, COMPARATOR_NAME);
}

static void sum_scalars(struct edit *sum, const struct edit *e)
{
	if (e->has_comparator)
		sum->has_comparator = true;
	if (e->has_log_number) {
		sum->has_log_number = true;
		sum->log_number = e->log_number;
	}
	if (e->has_prev_log_number) {
		sum->has_prev_log_number = true;
		sum->prev_log_number = e->prev_log_number;
	}
	if (e->has_next_file) {
		sum->has_next_file = true;
		sum->next_file = e->next_file;
	}
	if (e->has_last_sequence) {
		sum->has_last_sequence = true;
		sum->last_sequence = e->last_sequence;
	}
}

/* Deletions first: a table that moves is deleted and added by one record. */
static int apply_record(struct recovery *r, const struct edit *e)
{
	int rc = check_comparator(r, e);

	for (size_t i = 0; i < e->deleted_count && rc == 0; i++)
		rc = live_delete(r, &e->deleted[i]);
	for (size_t i = 0; i < e->added_count && rc == 0; i++)
		rc = live_add(r, &e->added[i]);
	for (size_t i = 0; i < e->pointer_count && rc == 0; i++) {
		rc = key_buf_set(&r->pointers[e->pointers[i].level], key_buf_slice(&e->pointers[i].key));
		if (rc < 0)
			no_memory(r);
	}
	if (rc == 0)
		sum_scalars(&r->sum, e);
	return rc;
}

static int read_failed(struct recovery *r, const struct log_reader *reader, int rc)
{
	if (rc == -SHALE_ECORRUPT)
		return err_set(r->err, rc,
			       "%s: %s. The file was damaged after it was written (a torn end would have been "
			       "accepted); restore the "
			       "database from a backup, or run `shalectl repair`",
			       r->name, log_reader_reason(reader));
	return err_set(r->err, rc, "%s: reading it: %s", r->name, shale_strerror(rc));
}

static int read_records(struct recovery *r, struct log_reader *reader)
{
	struct err_info why = {0};
	struct slice record;
	struct edit e;
	int rc;

	for (;;) {
		rc = log_reader_next(reader, &record);
		if (rc == LOG_END) {
			r->whole = log_reader_end_offset(reader);
			return 0;
		}
		if (rc < 0)
			return read_failed(r, reader, rc);
		r->record_at = log_reader_record_offset(reader);
		rc = edit_decode(record, &e, &why);
		if (rc < 0)
			return rc == -SHALE_ECORRUPT ? corrupt(r, why.text) : no_memory(r);
		rc = apply_record(r, &e);
		edit_fini(&e);
		if (rc < 0)
			return rc;
		r->records++;
	}
}

static int check_complete(struct recovery *r)
{
	const char *missing = NULL;

	if (!r->records)
		missing = "it holds no whole record";
	else if (!r->sum.has_next_file)
		missing = "no record gives the next file number";
	else if (!r->sum.has_log_number)
		missing = "no record gives the log number";
	else if (!r->sum.has_last_sequence)
		missing = "no record gives the last sequence";
	if (!missing)
		return 0;
	return err_set(
		r->err, -SHALE_ECORRUPT,
		"%s: %s. It was cut short or never finished; restore the database from a backup, or run `shalectl "
		"repair`",
		r->name, missing);
}

/* ---- the tables themselves ---- */

/* Size of table @number, under its new or its old name. 0, -ENOENT, or another failure. */
static int table_size(struct io_env *env, uint64_t number, char name[FILE_NAME_MAX], uint64_t *size_out)
{
	struct io_file *f;
	int rc = io_open(env, file_name(name, FILE_TABLE, number), IO_OPEN_READ, &f);

	if (rc == -ENOENT) {
		rc = io_open(env, file_name(name, FILE_SST, number), IO_OPEN_READ, &f);
		if (rc == -ENOENT)
			file_name(name, FILE_TABLE, number);
	}
	if (rc < 0)
		return rc;
	rc = io_size(f, size_out);
	io_close(f);
	return rc;
}

static int check_tables(struct recovery *r)
{
	char name[FILE_NAME_MAX], first[FILE_NAME_MAX] = "";
	size_t missing = 0;
	uint64_t size;

	if (r->vs->best_effort)
		return 0; /* whoever reads them is told */
	for (size_t i = 0; i < r->sum.added_count; i++) {
		const struct file_meta *m = r->sum.added[i].meta;
		int rc = table_size(r->env, m->number, name, &size);

		if (rc == -ENOENT) {
			if (!missing++)
				memcpy(first, name, sizeof(first));
		} else if (rc < 0) {
			return err_set(r->err, rc, "%s: opening it: %s. It is named by %s; check its owner and mode",
				       name, shale_strerror(rc), r->name);
		} else if (size != m->size) {
			return err_set(r->err, -SHALE_ECORRUPT,
				       "%s is %llu bytes long, %s says %llu: it was cut or replaced. Restore the "
				       "database from a backup, run `shalectl repair`, or serve what can be read with "
				       "--best-effort",
				       name, (unsigned long long)size, r->name, (unsigned long long)m->size);
		}
	}
	if (!missing)
		return 0;
	return err_set(
		r->err, -SHALE_EMISSING,
		"%zu of the %zu tables that %s names are missing, one is %s: somebody removed files, or copied "
		"the directory "
		"incompletely. Put them back, restore the database from a backup, run `shalectl repair`, or serve what "
		"can be read with --best-effort",
		missing, r->sum.added_count, r->name, first);
}

/* ---- CURRENT ---- */

int manifest_current(struct io_env *env, struct io_queue *q, char name[FILE_NAME_MAX], uint64_t *number_out,
		     struct err_info *err)
{
	static const char advice[] = "restore the database from a backup, or run `shalectl repair`";
	enum file_type type;
	char *text = NULL;
	size_t size = 0;
	int rc = io_read_file(q, env, "CURRENT", CURRENT_MAX, &text, &size);

	if (rc == -ENOENT)
		return err_set(err, rc, "CURRENT: there is none, so the directory holds no database");
	if (rc == -EFBIG)
		return err_set(err, -SHALE_ECORRUPT, "CURRENT is longer than any file name: it was overwritten; %s",
			       advice);
	if (rc < 0)
		return err_set(err, rc, "CURRENT: reading it: %s", shale_strerror(rc));
	rc = -SHALE_ECORRUPT;
	if (size == 0) {
		err_set(err, rc, "CURRENT is empty: a crash lost its contents, or it was overwritten; %s", advice);
	} else if (text[size - 1] != '\n') {
		err_set(err, rc, "CURRENT does not end with a newline (%zu bytes): it was cut or overwritten; %s", size,
			advice);
	} else {
		text[size - 1] = '\0';
		if (size > FILE_NAME_MAX || strlen(text) != size - 1 || !file_parse(text, &type, number_out) ||
		    type != FILE_MANIFEST) {
			err_set(err, rc, "CURRENT does not name a MANIFEST: it was overwritten; %s", advice);
		} else {
			memcpy(name, text, size);
			rc = 0;
		}
	}
	free(text);
	return rc;
}

/* ---- recovery ---- */

/* Takes over what the records say. @next is the version made of it. */
static void adopt(struct recovery *r, struct version *next, uint64_t manifest_number)
{
	struct version_set *vs = r->vs;

	version_install(vs, next);
	for (unsigned level = 0; level < LEVELS; level++) {
		key_buf_fini(&vs->compact_pointer[level]);
		vs->compact_pointer[level] = r->pointers[level];
		r->pointers[level] = (struct key_buf){0};
	}
	vs->log_number = r->sum.log_number;
	/* Of before 2011: a second, older log that is still needed. */
	if (r->sum.prev_log_number && r->sum.prev_log_number < vs->log_number)
		vs->log_number = r->sum.prev_log_number;
	vs->manifest_number = manifest_number;
	atomic_store_explicit(&vs->last_sequence, r->sum.last_sequence, memory_order_relaxed); /* before any thread */
	atomic_store_explicit(&vs->next_file, r->sum.next_file, memory_order_relaxed);
	version_set_number_used(vs, manifest_number);
	version_set_number_used(vs, r->sum.log_number);
	for (size_t i = 0; i < r->sum.added_count; i++)
		version_set_number_used(vs, r->sum.added[i].number);
}

/* From the records read to a version installed. */
static int finish(struct recovery *r, uint64_t manifest_number)
{
	struct version *empty, *next = NULL;
	struct err_info why = {0};
	int rc = check_complete(r);

	if (rc < 0)
		return rc;
	twalk_r(r->files, live_collect, r);
	if (r->walk_rc < 0)
		return no_memory(r);
	empty = version_new_empty(r->vs);
	if (!empty)
		return no_memory(r);
	rc = version_build(empty, &r->sum, &next, &why);
	version_destroy(empty);
	if (rc == -SHALE_ECORRUPT)
		return corrupt(r, why.text);
	if (rc < 0)
		return no_memory(r);
	rc = check_tables(r);
	if (rc == 0)
		adopt(r, next, manifest_number);
	else
		version_destroy(next);
	return rc;
}

static int read_manifest(struct recovery *r, struct io_queue *q)
{
	struct log_reader *reader = NULL;
	struct io_file *f = NULL;
	int rc = io_open(r->env, r->name, IO_OPEN_READ, &f);

	if (rc == -ENOENT)
		return err_set(r->err, -SHALE_ECORRUPT,
			       "CURRENT names %s, which is missing: somebody removed it, or copied the directory "
			       "incompletely. Put it back, "
			       "restore the database from a backup, or run `shalectl repair`",
			       r->name);
	if (rc < 0)
		return err_set(r->err, rc, "%s: opening it: %s", r->name, shale_strerror(rc));
	rc = log_reader_new(q, f, &reader);
	if (rc < 0)
		err_set(r->err, rc, "%s: reading it: %s", r->name, shale_strerror(rc));
	else
		rc = read_records(r, reader);
	log_reader_free(reader);
	io_close(f);
	return rc;
}

static void recovery_fini(struct recovery *r)
{
	edit_fini(&r->sum); /* before the tree: a meta goes with its last reference */
	tdestroy(r->files, live_free);
	for (unsigned level = 0; level < LEVELS; level++)
		key_buf_fini(&r->pointers[level]);
}

int manifest_sum(struct io_env *env, struct io_queue *q, const char *name, struct edit *sum_out, uint64_t *whole_out,
		 struct err_info *err)
{
	struct recovery r = {.env = env, .name = name, .err = err};
	int rc = read_manifest(&r, q);

	if (rc == 0)
		rc = check_complete(&r);
	if (rc == 0) {
		twalk_r(r.files, live_collect, &r);
		rc = r.walk_rc;
		for (unsigned level = 0; level < LEVELS && rc == 0; level++)
			if (r.pointers[level].size)
				rc = edit_set_pointer(&r.sum, level, key_buf_slice(&r.pointers[level]));
		if (rc < 0)
			no_memory(&r);
	}
	if (rc == 0) {
		*sum_out = r.sum;
		*whole_out = r.whole;
		edit_init(&r.sum);
	}
	recovery_fini(&r);
	return rc;
}

int version_set_recover(struct version_set *vs, struct io_queue *q, struct err_info *err)
{
	char name[FILE_NAME_MAX];
	struct recovery r = {.env = vs->env, .vs = vs, .name = name, .err = err};
	uint64_t number;
	int rc = manifest_current(vs->env, q, name, &number, err);

	if (rc < 0)
		return rc;
	rc = read_manifest(&r, q);
	if (rc == 0)
		rc = finish(&r, number);
	recovery_fini(&r);
	return rc;
}
