/*
 * verify.c - all of a database, file by file, then across.
 *
 *	CURRENT ─▶ MANIFEST ─▶ each table: table_exam.c
 *	                  ├──▶ tables against one another: a key's newer place holds the newer sequence
 *	                  ├──▶ logs from its log number on: log_exam.c
 *	                  └──▶ the directory: nothing missing, nothing left over
 *
 * When the MANIFEST cannot be read, tables and logs are still looked at one by one; what depends on levels is not known then.
 */
#include "engine/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/ikey.h"
#include "engine/log_exam.h"
#include "engine/manifest.h"
#include "engine/table_exam.h"

enum { ORDER_TOLD = 20 }; /* keys out of order over levels: one fault makes thousands */

struct verify {
	struct exam *x;
	struct err_info *err;
	struct verify_result *out;
	struct dir_list files;
	char manifest[FILE_NAME_MAX];
	uint64_t manifest_number;
	struct edit sum;	    /* of the MANIFEST */
	bool known;		    /* it could be read */
	struct table_exam **tables; /* as sum.added; NULL: missing */
	bool damaged;
	uint64_t sequence_high;
};

__attribute__((format(printf, 5, 6))) static void tell(struct verify *v, bool note, const char *kind, const char *file,
						       const char *fmt, ...)
{
	struct finding f = {.note = note, .kind = kind, .file = file};
	va_list ap;

	f.cause = note ? cause_crash : strcmp(kind, "missing") == 0 ? cause_hands : cause_rot;
	va_start(ap, fmt);
	vsnprintf(f.what, sizeof(f.what), fmt, ap);
	va_end(ap);
	exam_found(v->x, &f);
}

/* ---- CURRENT and MANIFEST ---- */

/* What the engine's own reader says, without its advice. */
static void tell_words(struct verify *v, const char *kind, const char *file, const struct err_info *why)
{
	struct finding f = {.kind = kind, .file = file, .cause = cause_rot};

	snprintf(f.what, sizeof(f.what), "%.300s", why->text);
	exam_found(v->x, &f);
}

static int read_manifest(struct verify *v)
{
	const struct dir_file *file;
	struct err_info why = {0};
	uint64_t whole = 0;
	int rc = manifest_current(v->x->env, v->x->q, v->manifest, &v->manifest_number, &why);

	if (rc == -ENOENT) {
		for (size_t i = 0; i < v->files.count; i++)
			v->known |= v->files.at[i].type != FILE_LOCK && v->files.at[i].type != FILE_INFO_LOG;
		if (!v->known)
			return err_set(v->err, -SHALE_ENODATABASE,
				       "the directory holds no database (no CURRENT, no tables, no logs)");
		v->known = false;
		tell(v, false, "missing", "CURRENT", "it is missing: which MANIFEST is the live one is not known");
		return 0;
	}
	if (rc < 0) {
		tell_words(v, "current", "CURRENT", &why);
		return 0;
	}
	rc = manifest_sum(v->x->env, v->x->q, v->manifest, &v->sum, &whole, &why);
	if (rc == -ENOMEM)
		return err_set(v->err, rc, "%s", why.text);
	if (rc < 0) {
		tell_words(v, "manifest", v->manifest, &why);
		return 0;
	}
	v->known = true;
	file = dir_list_find(&v->files, FILE_MANIFEST, v->manifest_number);
	if (file && whole < file->size)
		tell(v, true, "tail", v->manifest,
		     "it ends after %" PRIu64 " of %" PRIu64
		     " bytes: what follows is no whole record, and was never in force",
		     whole, file->size);
	v->out->manifest_records_bytes = whole;
	return exam_progress(v->x, v->manifest, whole);
}

/* ---- tables, one by one ---- */

static int look_at_table(struct verify *v, const struct dir_file *file, const struct file_meta *meta,
			 struct table_exam **out)
{
	uint64_t before = v->x->problems;
	int rc = table_examine(v->x, file->name, file->number, meta, NULL, out, v->err);

	if (rc < 0)
		return rc;
	v->damaged |= v->x->problems != before;
	v->out->tables++;
	v->out->entries += (*out)->entries;
	v->out->bytes += file->size;
	v->sequence_high = (*out)->sequence_high > v->sequence_high ? (*out)->sequence_high : v->sequence_high;
	return 0;
}

static int look_at_known(struct verify *v)
{
	int rc = 0;

	v->tables = calloc(v->sum.added_count + 1, sizeof(struct table_exam *));
	if (!v->tables)
		return err_set(v->err, -ENOMEM, "no memory to verify a database");
	for (size_t i = 0; i < v->sum.added_count && rc == 0; i++) {
		const struct file_meta *m = v->sum.added[i].meta;
		const struct dir_file *file = dir_list_find(&v->files, FILE_TABLE, m->number);
		struct slice first = ikey_user(key_buf_slice(&m->smallest)),
			     last = ikey_user(key_buf_slice(&m->largest));
		struct finding f = {
			.kind = "missing", .cause = cause_hands, .has_range = true, .first = &first, .last = &last};
		char name[FILE_NAME_MAX];

		if (file) {
			rc = look_at_table(v, file, m, &v->tables[i]);
			if (rc == 0 && v->tables[i]->sequence_high > v->sum.last_sequence)
				tell(v, false, "sequence", file->name,
				     "it holds sequence %" PRIu64 ", the MANIFEST's last is %" PRIu64,
				     v->tables[i]->sequence_high, v->sum.last_sequence);
			continue;
		}
		v->damaged = true;
		f.file = file_name(name, FILE_TABLE, m->number);
		snprintf(f.what, sizeof(f.what), "%s names it in level %u with %" PRIu64 " bytes, and it is not there",
			 v->manifest, v->sum.added[i].level, m->size);
		exam_found(v->x, &f);
	}
	return rc;
}

static int look_at_unknown(struct verify *v)
{
	int rc = 0;

	for (size_t i = 0; i < v->files.count && rc == 0; i++) {
		struct table_exam *t = NULL;

		if (v->files.at[i].type != FILE_TABLE && v->files.at[i].type != FILE_SST)
			continue;
		rc = look_at_table(v, &v->files.at[i], NULL, &t);
		table_exam_free(t);
	}
	tell(v, true, "levels", "MANIFEST",
	     "which table belongs to which level is not known, so order over levels was not checked");
	return rc;
}

/* ---- tables, against one another ---- */

static int by_smallest(const void *a, const void *b)
{
	const struct table_exam *const *x = a, *const *y = b;

	return ikey_compare(key_buf_slice(&(*x)->smallest), key_buf_slice(&(*y)->smallest));
}

struct place {
	struct iter *it;
	char name[32];
};

struct walk {
	struct verify *v;
	struct place *places; /* newest first */
	size_t count;
	struct table_exam **run; /* room for the tables of all levels; each place has a part of it */
	size_t used, told;
};

static int place_add(struct walk *w, size_t first, size_t count, const char *what, uint64_t number)
{
	struct place *p = &w->places[w->count];
	int rc = exam_iter_new(w->v->x, w->run + first, count, &p->it);

	if (rc < 0)
		return rc;
	snprintf(p->name, sizeof(p->name), "%s %" PRIu64, what, number);
	w->count++;
	iter_seek_first(p->it);
	return 0;
}

/* Two tables of a level from 1 on that share keys: reads look into one of them only. */
static bool check_disjoint(struct walk *w, unsigned level, size_t first)
{
	bool disjoint = true;

	for (size_t i = first + 1; i < w->used; i++) {
		const struct table_exam *a = w->run[i - 1], *b = w->run[i];
		struct slice from = ikey_user(key_buf_slice(&b->smallest)), to = ikey_user(key_buf_slice(&a->largest));
		struct finding f = {.kind = "overlap",
				    .file = b->name,
				    .cause = cause_bug,
				    .has_range = true,
				    .first = &from,
				    .last = &to};

		if (ikey_compare(key_buf_slice(&a->largest), key_buf_slice(&b->smallest)) < 0)
			continue;
		snprintf(f.what, sizeof(f.what), "it overlaps %s, both in level %u", a->name, level);
		exam_found(w->v->x, &f);
		disjoint = false;
	}
	return disjoint;
}

/* Level 0 by number, newest first; deeper levels as one run each. 0, 1: they overlap, or a failure. */
static int places_fill(struct walk *w)
{
	const struct edit *sum = &w->v->sum;
	int rc = 0;

	for (size_t i = sum->added_count; i-- > 0 && rc == 0;) {
		struct table_exam *t = w->v->tables[i];

		if (sum->added[i].level != 0 || !t || !t->entries)
			continue;
		w->run[w->used++] = t;
		rc = place_add(w, w->used - 1, 1, "table", t->number);
	}
	for (unsigned level = 1; level < LEVELS && rc == 0; level++) {
		size_t first = w->used;

		for (size_t i = 0; i < sum->added_count; i++)
			if (sum->added[i].level == level && w->v->tables[i] && w->v->tables[i]->entries)
				w->run[w->used++] = w->v->tables[i];
		if (w->used == first)
			continue;
		qsort(w->run + first, w->used - first, sizeof(struct table_exam *), by_smallest);
		if (!check_disjoint(w, level, first))
			return 1;
		rc = place_add(w, first, w->used - first, "level", level);
	}
	return rc;
}

static void tell_order(struct walk *w, const struct place *p, const struct place *newer, struct slice user,
		       uint64_t sequence, uint64_t bound)
{
	struct finding f = {.kind = "sequence",
			    .file = p->name,
			    .cause = cause_bug,
			    .has_range = true,
			    .first = &user,
			    .last = &user};

	if (w->told++ >= ORDER_TOLD)
		return;
	snprintf(f.what, sizeof(f.what),
		 "it holds sequence %" PRIu64 " of a key that %s, which is read first, holds with sequence %" PRIu64
		 ": reads answer the older one%s",
		 sequence, newer->name, bound, w->told == ORDER_TOLD ? " (further ones are not told)" : "");
	exam_found(w->v->x, &f);
}

/* One user key in all places: each entry must be older than the one before. */
static int check_user(struct walk *w, struct key_buf *user)
{
	const struct place *least = NULL, *newer = NULL;
	uint64_t bound = UINT64_MAX;

	for (size_t i = 0; i < w->count; i++) {
		const struct iter *it = w->places[i].it;

		if (!it->valid && it->status < 0)
			return it->status;
		if (it->valid && (!least || slice_compare(ikey_user(it->key), ikey_user(least->it->key)) < 0))
			least = &w->places[i];
	}
	if (!least)
		return 1;
	if (key_buf_set(user, ikey_user(least->it->key)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < w->count; i++) {
		struct place *p = &w->places[i];

		for (; p->it->valid && slice_equal(ikey_user(p->it->key), key_buf_slice(user)); iter_next(p->it)) {
			uint64_t sequence = ikey_sequence(p->it->key);

			if (sequence >= bound)
				tell_order(w, p, newer, key_buf_slice(user), sequence, bound);
			bound = sequence;
			newer = p;
		}
	}
	return 0;
}

static int check_order(struct verify *v)
{
	struct walk w = {.v = v};
	struct key_buf user = {0};
	int rc;

	w.places = calloc(v->sum.added_count + LEVELS, sizeof(*w.places));
	w.run = calloc(v->sum.added_count + 1, sizeof(struct table_exam *));
	rc = w.places && w.run ? places_fill(&w) : -ENOMEM;
	while (rc == 0)
		rc = check_user(&w, &user);
	if (rc < 0)
		err_set(v->err, rc, "comparing tables: %s", shale_strerror(rc));
	else
		v->out->order_checked = true;
	while (w.count)
		iter_free(w.places[--w.count].it);
	key_buf_fini(&user);
	free(w.places);
	free(w.run);
	return rc < 0 ? rc : 0;
}

int verify_order(struct exam *x, const struct edit *sum, struct table_exam **tables, struct err_info *err)
{
	struct verify_result ignored;
	struct verify v = {.x = x, .err = err, .out = &ignored, .sum = *sum, .tables = tables};
	uint64_t before = x->problems;
	int rc = check_order(&v);

	return rc < 0 ? rc : x->problems != before;
}

/* ---- logs, and the rest of the directory ---- */

static int look_at_logs(struct verify *v)
{
	uint64_t known = v->known ? v->sum.last_sequence : v->sequence_high, last = 0;
	bool ended = false;
	int rc = 0;

	for (size_t i = 0; i < v->files.count && rc == 0; i++) {
		const struct dir_file *file = &v->files.at[i];
		struct log_exam l;

		if (file->type != FILE_LOG || (v->known && file->number < v->sum.log_number))
			continue;
		if (ended) {
			tell(v, false, "record", file->name,
			     "it follows a log that cannot be used to its end, so it is not recovered");
			continue;
		}
		if (!v->known && !last)
			known = UINT64_MAX >> 8; /* anything may come first */
		rc = log_examine(v->x, file->name, known, &last, &l, v->err);
		if (rc < 0)
			break;
		v->out->logs++;
		v->out->records += l.records;
		ended = l.end != RECORD_GOOD;
	}
	v->out->last_sequence = last > v->sequence_high ? last : v->sequence_high;
	return rc;
}

static bool in_version(const struct verify *v, uint64_t number)
{
	for (size_t low = 0, high = v->sum.added_count; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (v->sum.added[middle].number == number)
			return true;
		if (v->sum.added[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static void look_for_strays(struct verify *v)
{
	uint64_t log = v->sum.log_number;
	char name[FILE_NAME_MAX];

	if (log && !dir_list_find(&v->files, FILE_LOG, log))
		tell(v, false, "missing", file_name(name, FILE_LOG, log),
		     "%s names it as the oldest log that is needed, and it is not there", v->manifest);
	for (size_t i = 0; i < v->files.count; i++) {
		const struct dir_file *file = &v->files.at[i];
		bool stray = false;

		if (file->type == FILE_TABLE || file->type == FILE_SST)
			stray = !in_version(v, file->number);
		else if (file->type == FILE_LOG)
			stray = file->number < log;
		else if (file->type == FILE_MANIFEST)
			stray = file->number != v->manifest_number;
		else if (file->type == FILE_TEMP)
			stray = true;
		if (stray)
			tell(v, true, "stray", file->name, "nothing refers to it (%" PRIu64 " bytes)", file->size);
	}
}

static uint64_t bytes_to_read(const struct verify *v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < v->files.count; i++) {
		const struct dir_file *f = &v->files.at[i];

		if (f->type == FILE_TABLE || f->type == FILE_SST)
			sum += v->known && !in_version(v, f->number) ? 0 : (v->known ? 2 : 1) * f->size;
		else if (f->type == FILE_LOG || f->type == FILE_MANIFEST)
			sum += f->size;
	}
	return sum;
}

static int verify_all(struct verify *v)
{
	int rc = dir_list_read(v->x->env, &v->files, v->err);

	if (rc == 0)
		rc = read_manifest(v);
	if (rc < 0)
		return rc;
	v->x->total = bytes_to_read(v);
	rc = v->known ? look_at_known(v) : look_at_unknown(v);
	if (rc == 0 && v->known)
		rc = check_order(v);
	if (rc == 0)
		rc = look_at_logs(v);
	if (rc == 0 && v->known)
		look_for_strays(v);
	return rc;
}

int verify_database(struct exam *x, struct verify_result *out, struct err_info *err)
{
	struct verify v = {.x = x, .err = err, .out = out};
	int rc;

	*out = (struct verify_result){0};
	edit_init(&v.sum);
	rc = verify_all(&v);
	if (rc < 0 && err && !*err->text)
		err_set(err, rc, "%s", shale_strerror(rc));
	for (size_t i = 0; v.tables && i < v.sum.added_count; i++)
		table_exam_free(v.tables[i]);
	free(v.tables);
	edit_fini(&v.sum);
	dir_list_free(&v.files);
	return rc;
}
