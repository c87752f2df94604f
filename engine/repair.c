/*
 * repair.c - what is decided, and in which order it is made true.
 *
 *	1. look     the MANIFEST, if one can be read; every table; the logs
 *	2. decide   per table: stays as it is, or is written anew without what is damaged, withheld or superseded
 *	3. write    new tables under new numbers, synced: strays, until
 *	4. keep     what will not be used any more is found in lost/ as well
 *	5. commit   logs are cut; a new MANIFEST; CURRENT names it
 *	6. move     what is in lost/ leaves the directory
 *
 * A kill before 5 leaves the old state and some strays, which the next run moves away; a kill after it leaves the new state, and files that nothing refers
 * to and that are in lost/ already. Level 0 is read by number, so there a table cannot be replaced alone: all of them become one run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/ikey.h"
#include "engine/manifest.h"
#include "engine/repair_impl.h"
#include "engine/verify.h"

void repair_tell(struct repair *r, const struct repair_loss *l)
{
	if (r->o->lost)
		r->o->lost(r->o, l);
}

/* ---- 1. look: the MANIFEST ---- */

/*
 * The MANIFEST that CURRENT names; when that cannot be read, the newest one in the directory, if it is newer: older ones tell of a state whose tables
 * are gone since.
 */
static int find_manifest(struct repair *r)
{
	struct finding f = {.cause = cause_rot};
	struct err_info why = {0};
	char name[FILE_NAME_MAX];
	uint64_t named = 0, whole, newest = 0;
	int rc = manifest_current(r->x->env, r->x->q, name, &named, &why);

	for (size_t i = 0; i < r->files.count; i++)
		if (r->files.at[i].type == FILE_MANIFEST && r->files.at[i].number < NUMBER_IMPOSSIBLE)
			newest = r->files.at[i].number;
	if (rc == 0) {
		rc = manifest_sum(r->x->env, r->x->q, name, &r->sum, &whole, &why);
		r->has_sum = rc == 0;
		r->manifest_number = named;
	}
	if (rc == 0)
		return 0;
	if (rc == -ENOMEM || rc == -SHALE_ECOMPARATOR)
		return err_set(r->err, rc, "%s", why.text);
	f.kind = rc == -ENOENT ? "missing" : "manifest";
	f.file = named ? name : "CURRENT";
	snprintf(f.what, sizeof(f.what), "%.300s", why.text);
	exam_found(r->x, &f);
	if (newest <= named)
		return 0;
	file_name(name, FILE_MANIFEST, newest);
	rc = manifest_sum(r->x->env, r->x->q, name, &r->sum, &whole, &why);
	if (rc == -ENOMEM || rc == -SHALE_ECOMPARATOR)
		return err_set(r->err, rc, "%s", why.text);
	r->has_sum = rc == 0;
	r->manifest_number = rc == 0 ? newest : 0;
	return 0;
}

/* ---- 1. look: tables ---- */

static bool is_table(const struct dir_file *f)
{
	return (f->type == FILE_TABLE || f->type == FILE_SST) && f->number < NUMBER_IMPOSSIBLE;
}

static int examine(struct repair *r, struct item *item, const struct dir_file *f)
{
	int rc = table_examine(r->x, f->name, f->number, item->meta, NULL, &item->t, r->err);

	if (rc == 0 && item->t->entries && item->t->sequence_high > r->sequence_high)
		r->sequence_high = item->t->sequence_high;
	return rc;
}

static void tell_missing(struct repair *r, const struct item *item)
{
	struct slice first = ikey_user(key_buf_slice(&item->meta->smallest)),
		     last = ikey_user(key_buf_slice(&item->meta->largest));
	char name[FILE_NAME_MAX];
	struct finding f = {.kind = "missing",
			    .file = file_name(name, FILE_TABLE, item->meta->number),
			    .cause = cause_hands,
			    .has_range = true,
			    .first = &first,
			    .last = &last};

	snprintf(f.what, sizeof(f.what), "the MANIFEST names it in level %u, and it is not there", item->level);
	exam_found(r->x, &f);
}

static int look_by_manifest(struct repair *r)
{
	unsigned level0 = 0, seen = 0;
	int rc = 0;

	r->items = calloc(r->sum.added_count + 1, sizeof(*r->items));
	if (!r->items)
		return err_set(r->err, -ENOMEM, "no memory to repair a database");
	for (size_t i = 0; i < r->sum.added_count; i++)
		level0 += r->sum.added[i].level == 0;
	for (size_t i = 0; i < r->sum.added_count && rc == 0; i++) {
		const struct edit_file *added = &r->sum.added[i];
		const struct dir_file *f = dir_list_find(&r->files, FILE_TABLE, added->number);
		struct item *item = &r->items[r->count++];

		item->meta = added->meta;
		item->level = added->level;
		/* Ascending numbers: the newest of level 0 comes last, and is read first. */
		item->rank = added->level ? level0 + added->level : level0 - ++seen;
		if (f)
			rc = examine(r, item, f);
		else
			tell_missing(r, item);
	}
	return rc;
}

static int look_without(struct repair *r)
{
	int rc = 0;

	r->items = calloc(r->files.count + 1, sizeof(*r->items));
	if (!r->items)
		return err_set(r->err, -ENOMEM, "no memory to repair a database");
	for (size_t i = 0; i < r->files.count && rc == 0; i++)
		if (is_table(&r->files.at[i]))
			rc = examine(r, &r->items[r->count++], &r->files.at[i]);
	return rc;
}

/* Levels may be as the MANIFEST says and still be wrong: another repairer puts all tables into level 0. */
static int check_levels(struct repair *r)
{
	struct table_exam **tables = calloc(r->count + 1, sizeof(struct table_exam *));
	int rc;

	if (!tables)
		return err_set(r->err, -ENOMEM, "no memory to repair a database");
	for (size_t i = 0; i < r->count; i++)
		tables[i] = r->items[i].t;
	rc = verify_order(r->x, &r->sum, tables, r->err);
	free(tables);
	r->levels_known = rc == 0;
	for (size_t i = 0; rc == 1 && i < r->count; i++)
		r->items[i].rank = 0;
	return rc < 0 ? rc : 0;
}

static int look(struct repair *r)
{
	bool any = false;
	int rc = dir_list_read(r->x->env, &r->files, r->err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < r->files.count; i++) {
		any |= r->files.at[i].type != FILE_LOCK && r->files.at[i].type != FILE_INFO_LOG;
		r->x->total += is_table(&r->files.at[i]) ? 2 * r->files.at[i].size : 0;
	}
	if (!any)
		return err_set(r->err, -SHALE_ENODATABASE,
			       "the directory holds no database (no CURRENT, no tables, no logs)");
	rc = find_manifest(r);
	if (rc == 0)
		rc = r->has_sum ? look_by_manifest(r) : look_without(r);
	if (rc == 0 && r->has_sum)
		rc = check_levels(r);
	r->next_number = dir_list_highest(&r->files) + 1;
	if (r->has_sum && r->sum.next_file > r->next_number && r->sum.next_file < NUMBER_IMPOSSIBLE)
		r->next_number = r->sum.next_file;
	return rc;
}

/* ---- 2. decide ---- */

static int lost_add(struct repair *r, const struct item *item, const struct table_hole *hole)
{
	if (r->lost_count == r->lost_cap) {
		size_t cap = r->lost_cap ? 2 * r->lost_cap : 16;
		struct lost_range *grown = reallocarray(r->lost, cap, sizeof(*grown));

		if (!grown)
			return err_set(r->err, -ENOMEM, "no memory to repair a database");
		r->lost = grown;
		r->lost_cap = cap;
	}
	r->lost[r->lost_count++] = (struct lost_range){item, *hole};
	return 0;
}

/* What is lost of one table: told, and noted for what it may have hidden. */
static int note_hole(struct repair *r, const struct item *item, const struct table_hole *hole)
{
	struct slice first = key_buf_slice(&hole->after), last = key_buf_slice(&hole->before);
	char name[FILE_NAME_MAX];
	struct repair_loss l = {.kind = item->t ? "block" : "table",
				.file = item->t ? item->t->name : file_name(name, FILE_TABLE, item->meta->number),
				.has_range = true,
				.first = hole->has_after ? &first : NULL,
				.last = hole->has_before ? &last : NULL};

	if (!item->t) {
		l.bytes = item->meta->size;
		snprintf(l.what, sizeof(l.what), "the table is missing, with all that was in it");
	} else {
		l.bytes = hole->size ? hole->size : item->t->size > hole->offset ? item->t->size - hole->offset : 0;
		snprintf(l.what, sizeof(l.what), "what lay at offset %" PRIu64 " cannot be read", hole->offset);
	}
	repair_tell(r, &l);
	return lost_add(r, item, hole);
}

static int note_losses(struct repair *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->count && rc == 0; i++) {
		struct item *item = &r->items[i];

		if (!item->t) {
			struct slice first = ikey_user(key_buf_slice(&item->meta->smallest));
			struct slice last = ikey_user(key_buf_slice(&item->meta->largest));
			struct table_hole all = {.has_after = true, .has_before = true};

			rc = key_buf_set(&all.after, first);
			if (rc == 0)
				rc = key_buf_set(&all.before, last);
			rc = rc < 0 ? err_set(r->err, rc, "no memory to repair a database") : note_hole(r, item, &all);
		} else if (!item->t->entries && !item->meta) {
			/* Most often the unfinished output of a job that was killed. It says nothing about which keys it is about. */
			struct repair_loss l = {.kind = "unknown", .file = item->t->name, .bytes = item->t->size};

			snprintf(l.what, sizeof(l.what),
				 "nothing in it can be read; what it held, and what that deleted or replaced, cannot "
				 "be known");
			repair_tell(r, &l);
		}
		for (size_t k = 0; item->t && (item->t->entries || item->meta) && k < item->t->hole_count && rc == 0;
		     k++)
			rc = note_hole(r, item, &item->t->holes[k]);
	}
	return rc;
}

static int keep_table(struct repair *r, const struct item *item, unsigned level)
{
	struct table_exam *t = item->t;
	struct file_meta *meta =
		file_meta_new(t->number, t->size, key_buf_slice(&t->smallest), key_buf_slice(&t->largest));
	int rc = meta ? edit_add_file(&r->edit, level, meta) : -ENOMEM;

	file_meta_unref(meta);
	r->r->kept++;
	return rc < 0 ? err_set(r->err, rc, "no memory to repair a database") : 0;
}

/* item->rewrite, for a table by itself. */
static int decide_one(struct repair *r, struct item *item)
{
	int rc = 0;

	item->rewrite = !item->t || !item->t->sound || item->t->hole_count || !item->t->entries;
	if (!item->rewrite)
		rc = repair_must_rewrite(r, item);
	item->rewrite |= rc == 1;
	return rc < 0 ? rc : 0;
}

/* The level whose target holds all of it: then nothing is compacted for being in the wrong place. */
static unsigned level_for(const struct version_set_options *o, uint64_t bytes)
{
	unsigned level = 1;

	while (level < LEVELS - 1 && level_target(o, level) < bytes)
		level++;
	return level;
}

static int by_smallest(const void *a, const void *b)
{
	const struct item *const *x = a, *const *y = b;

	return ikey_compare(key_buf_slice(&(*x)->t->smallest), key_buf_slice(&(*y)->t->smallest));
}

/* Tables from @first to before @end share keys, directly or by way of others. */
static int merge_cluster(struct repair *r, struct item **sorted, size_t first, size_t end, unsigned level)
{
	int rc;

	if (end - first == 1) {
		rc = decide_one(r, sorted[first]);
		if (rc == 0 && !sorted[first]->rewrite)
			return keep_table(r, sorted[first], level);
	} else {
		rc = 0;
	}
	for (size_t i = first; i < end; i++) {
		sorted[i]->rewrite = true;
		r->r->rewritten++;
	}
	return rc < 0 ? rc : repair_merge(r, sorted + first, end - first, level);
}

/* By sequence numbers alone: one sorted run of all that can be read. */
static int write_by_sequence(struct repair *r, const struct version_set_options *o)
{
	struct item **sorted = calloc(r->count + 1, sizeof(struct item *));
	struct key_buf reach = {0};
	size_t n = 0, first = 0;
	uint64_t bytes = 0;
	int rc = sorted ? 0 : err_set(r->err, -ENOMEM, "no memory to repair a database");

	for (size_t i = 0; i < r->count && rc == 0; i++) {
		if (r->items[i].t && r->items[i].t->entries)
			sorted[n++] = &r->items[i];
		else
			r->items[i].rewrite = true;
		bytes += r->items[i].t ? r->items[i].t->size : 0;
	}
	if (rc == 0)
		rc = repair_supersede(r, sorted, n);
	if (n)
		qsort(sorted, n, sizeof(struct item *), by_smallest);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct slice last = ikey_user(key_buf_slice(&sorted[i]->t->largest));

		if (i == first || slice_compare(last, key_buf_slice(&reach)) > 0)
			rc = key_buf_set(&reach, last);
		if (rc == 0 && (i + 1 == n || slice_compare(ikey_user(key_buf_slice(&sorted[i + 1]->t->smallest)),
							    key_buf_slice(&reach)) > 0)) {
			rc = merge_cluster(r, sorted, first, i + 1, level_for(o, bytes));
			first = i + 1;
		}
	}
	key_buf_fini(&reach);
	free(sorted);
	return rc;
}

/* Table by table, each in its level; level 0 as it is or as a whole. */
static int write_by_level(struct repair *r)
{
	struct item **level0 = calloc(r->count + 1, sizeof(struct item *));
	bool rewrite0 = false;
	size_t n = 0;
	int rc = level0 ? 0 : err_set(r->err, -ENOMEM, "no memory to repair a database");

	for (size_t i = 0; i < r->count && rc == 0; i++) {
		struct item *item = &r->items[i];

		rc = decide_one(r, item);
		if (rc == 0 && item->level == 0) {
			level0[n++] = item;
			rewrite0 |= item->rewrite;
		} else if (rc == 0 && item->rewrite) {
			r->r->rewritten += item->t != NULL;
			rc = repair_merge(r, &item, 1, item->level);
		} else if (rc == 0) {
			rc = keep_table(r, item, item->level);
		}
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		level0[i]->rewrite = rewrite0;
		r->r->rewritten += rewrite0 && level0[i]->t;
		rc = rewrite0 ? 0 : keep_table(r, level0[i], 0);
	}
	if (rc == 0 && rewrite0)
		rc = repair_merge(r, level0, n, 0);
	free(level0);
	return rc;
}

/* ---- 4. to 6. ---- */

int repair_move_away(struct repair *r, const char *name)
{
	int rc = r->o->keep(r->o, name);

	if (rc == 0)
		rc = io_unlink(r->x->env, name);
	r->r->moved += rc == 0;
	return rc < 0 && rc != -ENOENT
		       ? err_set(r->err, rc, "%s: cannot be moved to lost/: %s", name, shale_strerror(rc))
		       : 0;
}

/* Whether @f is one that the repaired database does not use. */
static bool goes(const struct repair *r, const struct dir_file *f, bool new_manifest)
{
	switch (f->type) {
	case FILE_TABLE:
	case FILE_SST:
		for (size_t i = 0; i < r->count; i++)
			if (r->items[i].t && !strcmp(r->items[i].t->name, f->name))
				return r->items[i].rewrite;
		return true;
	case FILE_MANIFEST:
		return new_manifest || f->number != r->manifest_number;
	case FILE_TEMP:
		return true;
	case FILE_LOG:
		return f->number >= NUMBER_IMPOSSIBLE;
	default:
		return false;
	}
}

static int keep_all(struct repair *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->files.count && rc == 0; i++) {
		const struct dir_file *f = &r->files.at[i];

		if (f->type != FILE_CURRENT && !goes(r, f, true))
			continue;
		rc = r->o->keep(r->o, f->name);
		if (rc < 0)
			err_set(r->err, rc, "%s: cannot be put into lost/: %s. Nothing was changed", f->name,
				shale_strerror(rc));
	}
	return rc;
}

static int move_all(struct repair *r, bool new_manifest)
{
	int rc = 0;

	for (size_t i = 0; i < r->files.count && rc == 0; i++)
		if (goes(r, &r->files.at[i], new_manifest))
			rc = repair_move_away(r, r->files.at[i].name);
	return rc;
}

static int write_manifest(struct repair *r, const struct version_set_options *o)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct version_set vs;
	int rc = version_set_init(&vs, r->x->env, &lock, o, NULL, NULL);

	if (rc < 0)
		return err_set(r->err, rc, "no memory for a MANIFEST");
	atomic_store_explicit(&vs.next_file, r->next_number, memory_order_relaxed); /* nobody else has it */
	r->edit.has_comparator = true;
	strcpy(r->edit.comparator, COMPARATOR_NAME);
	r->edit.has_log_number = true;
	r->edit.log_number = r->log_number;
	r->edit.has_last_sequence = true;
	r->edit.last_sequence =
		r->has_sum && r->sum.last_sequence > r->sequence_high ? r->sum.last_sequence : r->sequence_high;
	/* Without a MANIFEST the newest entries of tables may be gone by compaction: the log knows which number came before it. */
	if (!r->has_sum && r->first_logged && r->first_logged - 1 > r->edit.last_sequence)
		r->edit.last_sequence = r->first_logged - 1;
	for (size_t i = 0; r->levels_known && i < r->sum.pointer_count && rc == 0; i++)
		rc = edit_set_pointer(&r->edit, r->sum.pointers[i].level, key_buf_slice(&r->sum.pointers[i].key));
	rc = rc < 0 ? err_set(r->err, rc, "no memory for a MANIFEST")
		    : version_set_apply(&vs, &r->edit, r->x->q, r->err);
	if (r->edit.last_sequence > r->r->last_sequence)
		r->r->last_sequence = r->edit.last_sequence;
	version_set_fini(&vs);
	return rc;
}

static int sync_directory(struct repair *r)
{
	int rc = io_sync_dir(r->x->env);

	return rc < 0 ? err_set(r->err, rc, "syncing the database directory: %s", shale_strerror(rc)) : 0;
}

static int commit(struct repair *r, const struct version_set_options *o)
{
	int rc = keep_all(r);

	if (rc == 0)
		rc = repair_cut_logs(r);
	if (rc == 0)
		rc = sync_directory(r);
	if (rc == 0)
		rc = write_manifest(r, o);
	if (rc == 0)
		rc = move_all(r, true);
	return rc == 0 ? sync_directory(r) : rc;
}

static int repair_all(struct repair *r)
{
	struct engine_options defaults;
	int rc = look(r);

	engine_options_default(&defaults);
	if (rc == 0)
		rc = note_losses(r);
	if (rc == 0)
		rc = repair_plan_logs(r);
	if (rc < 0)
		return rc;
	r->r->levels_known = r->levels_known;
	if (!r->x->problems) {
		r->r->nothing = true;
		return r->o->dry_run ? 0 : move_all(r, false);
	}
	rc = r->levels_known ? write_by_level(r) : write_by_sequence(r, &defaults.levels);
	if (rc == 0 && !r->o->dry_run)
		rc = commit(r, &defaults.levels);
	return rc;
}

int repair_database(struct exam *x, struct repair_options *options, struct repair_result *out, struct err_info *err)
{
	struct err_info ignored = {0};
	struct repair r = {.x = x, .o = options, .r = out, .err = err ? err : &ignored};
	int rc;

	*out = (struct repair_result){0};
	edit_init(&r.sum);
	edit_init(&r.edit);
	rc = repair_all(&r);
	for (size_t i = 0; i < r.lost_count; i++) {
		if (r.lost[i].item->t)
			continue;
		key_buf_fini(&r.lost[i].hole.after);
		key_buf_fini(&r.lost[i].hole.before);
	}
	for (size_t i = 0; i < r.count; i++) {
		table_exam_free(r.items[i].t);
		key_buf_fini(&r.items[i].superseded);
	}
	free(r.lost);
	free(r.items);
	free(r.cuts);
	edit_fini(&r.edit);
	edit_fini(&r.sum);
	dir_list_free(&r.files);
	return rc;
}
