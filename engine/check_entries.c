/*
 * check_entries.c - every entry of memtables and tables, in the order in which reads meet them.
 *
 * Reads go through places in one order, and take the first entry that they meet; so do compactions when they drop what is hidden. Both
 * are right only as long as of each user key
 *
 *	memtable > immutables, newest first > level 0, newest first > level 1 > … > level 6
 *
 * holds for the sequences. A naive placement of a flush, or of two compactions at a time, breaks exactly this, and no reader notices until
 * the newer entry is dropped. The walk below steps through all places at once, user key by user key, and compares.
 *
 * A place is a memtable, a table of level 0, or all tables of a deeper level, one after the other. A table that cannot be read, or whose keys do not
 * ascend, is told and left; the walk goes on with what comes after it. Tables are opened anew, past all caches: what counts is what is on the disk.
 *
 * The first memtable is written to meanwhile. What it gets is newer than all there is, so it changes no verdict.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/check_impl.h"

enum { READAHEAD = 64 << 10, NAME_MAX_SHOWN = 80 };

/* One place of the order above. */
struct place {
	struct memtable *mem;		/* or */
	struct file_meta *const *files; /* borrowed from the version */
	size_t at, count;		/* the file, or with mem 0, that is being read; count: none any more */
	unsigned level;			/* of the files; memtables: their number, 0 for the one that is written to */
	struct iter *it;		/* of it; NULL: not open */
	struct key_buf last;		/* internal key before the one that it stands on */
	bool has_last, begun;		/* begun: the file has given a key */
	bool told;			/* of the file: a sequence that was not given yet */
};

/* Keys in turn that the same two places have in the wrong order: one finding. */
struct disorder {
	uint64_t keys; /* 0: there is none */
	uint64_t sequence, bound;
	struct check_finding finding;
	char newer[NAME_MAX_SHOWN]; /* where the other entry was met */
};

struct walk {
	struct checking *c;
	struct place *places; /* newest first */
	size_t count;
	struct direct_source *src;
	uint64_t paid;	     /* bytes that were read and paid for */
	struct key_buf user; /* the user key being looked at */
	struct disorder disorder;
};

static bool at_end(const struct place *p)
{
	return p->at == p->count;
}

static int no_memory(struct walk *w)
{
	return err_set(w->c->err, -ENOMEM, "no memory to check a database");
}

/* ---- words ---- */

/* What @p is reading: into a finding without words. */
static void finding_at(const struct place *p, struct check_finding *f)
{
	char name[FILE_NAME_MAX];

	f->code = -SHALE_ECORRUPT;
	f->level = p->mem ? -1 : (int)p->level;
	if (p->files)
		snprintf(f->file, sizeof(f->file), "%s", file_name(name, FILE_TABLE, p->files[p->at]->number));
}

/* File @at of a place, or its memtable. */
static void place_name(const struct place *p, size_t at, char *buf, size_t cap)
{
	char name[FILE_NAME_MAX];

	if (!p->mem)
		snprintf(buf, cap, "%s of level %u", file_name(name, FILE_TABLE, p->files[at]->number), p->level);
	else if (!p->level)
		snprintf(buf, cap, "the memtable");
	else
		snprintf(buf, cap, "immutable memtable %u", p->level);
}

/* A finding about the whole table that @p is reading. */
static void tell_table(struct walk *w, const struct place *p, const char *kind, int code, const char *what)
{
	struct check_finding f = {0};

	finding_at(p, &f);
	f.code = code;
	snprintf(f.kind, sizeof(f.kind), "%s", kind);
	snprintf(f.what, sizeof(f.what), "%s", what);
	if (p->files)
		check_range_set(&f, p->files[p->at], p->files[p->at]);
	w->c->found(w->c, &f);
}

static void disorder_tell(struct walk *w)
{
	struct disorder *d = &w->disorder;

	if (!d->keys)
		return;
	snprintf(d->finding.what, sizeof(d->finding.what),
		 "of %" PRIu64
		 " key%s it holds entries that are not older than those of %s, which is read first (sequence %" PRIu64
		 " against %" PRIu64 ")",
		 d->keys, d->keys == 1 ? "" : "s", d->newer, d->sequence, d->bound);
	w->c->found(w->c, &d->finding);
	d->keys = 0;
}

/* @p, whose entry of the user key has @sequence, is read after file @at of @first, whose last one had @bound. */
static void disorder_add(struct walk *w, const struct place *p, uint64_t sequence, const struct place *first, size_t at,
			 uint64_t bound)
{
	struct disorder *d = &w->disorder;
	struct check_finding f = {.kind = "sequence", .has_range = true};
	char newer[sizeof(d->newer)];

	finding_at(p, &f);
	place_name(first, at, newer, sizeof(newer));
	if (!d->keys || d->finding.level != f.level || strcmp(d->finding.file, f.file) != 0 ||
	    strcmp(d->newer, newer) != 0) {
		disorder_tell(w);
		d->finding = f;
		d->sequence = sequence;
		d->bound = bound;
		strcpy(d->newer, newer);
		check_key_set(&d->finding.first, key_buf_slice(&w->user));
	}
	d->keys++;
	check_key_set(&d->finding.last, key_buf_slice(&w->user));
}

/* ---- places ---- */

/* Away from the file, whatever is left of it. */
static void leave(struct place *p)
{
	iter_free(p->it);
	p->it = NULL;
	p->begun = p->told = false;
	p->at++;
}

/*
 * The file cannot be read on, with @rc. 0: that was told, and the walk may go on; or the failure, which is not the file's: no memory, no descriptors.
 */
static int unreadable(struct walk *w, struct place *p, int rc)
{
	const struct err_info *words = direct_source_error(w->src);
	bool said = words && words->code == rc;

	rc = rc < 0 ? rc : -EIO;
	if (failure_heals(rc))
		return err_set(w->c->err, rc, "reading a table: %s", said ? words->text : shale_strerror(rc));
	if (rc == -SHALE_EMISSING)
		tell_table(w, p, "missing", rc, "it is not in the directory");
	else
		tell_table(w, p, "read", rc, said ? words->text : shale_strerror(rc));
	return 0;
}

static int open_at(struct walk *w, struct place *p)
{
	struct block_source *src = direct_source_base(w->src);
	struct table *t = NULL;
	int rc;

	if (p->mem) {
		rc = memtable_iter_new(p->mem, &p->it);
	} else {
		rc = src->table(src, p->files[p->at]->number, p->files[p->at]->size, &t);
		if (rc == 0)
			rc = table_iter_new(t, src, &p->it);
		table_unref(t);
	}
	if (rc == 0)
		iter_seek_first(p->it);
	return rc;
}

/* The entry that @p stands on, by itself and against the one before. 1: it will do; 0: told, and the file is of no use; or a failure. */
static int judge(struct walk *w, struct place *p)
{
	struct slice key = p->it->key;

	if (!ikey_valid(key)) {
		tell_table(w, p, "order", -SHALE_ECORRUPT, "it holds a key that is no internal key");
		return 0;
	}
	if (p->has_last && ikey_compare(key_buf_slice(&p->last), key) >= 0) {
		tell_table(w, p, "order", -SHALE_ECORRUPT,
			   p->begun || p->mem ? "its keys do not ascend"
					      : "it begins before the table before it in its level ends");
		return 0;
	}
	if (p->files && !p->begun && !slice_equal(key, key_buf_slice(&p->files[p->at]->smallest)))
		tell_table(w, p, "range", -SHALE_ECORRUPT, "it begins elsewhere than the MANIFEST says");
	if (p->files && !p->told && ikey_sequence(key) > w->c->sequence) {
		tell_table(w, p, "sequence", -SHALE_ECORRUPT, "it holds a sequence that was not given yet");
		p->told = true;
	}
	p->begun = true;
	p->has_last = true;
	return key_buf_set(&p->last, key) < 0 ? no_memory(w) : 1;
}

/* All of the file was read. */
static void judge_end(struct walk *w, struct place *p)
{
	if (p->files && !p->begun)
		tell_table(w, p, "range", -SHALE_ECORRUPT, "it holds no entries");
	else if (p->files && !slice_equal(key_buf_slice(&p->last), key_buf_slice(&p->files[p->at]->largest)))
		tell_table(w, p, "range", -SHALE_ECORRUPT, "it ends elsewhere than the MANIFEST says");
}

/* To an entry that will do, from wherever @p stands; or to its end. */
static int settle(struct walk *w, struct place *p)
{
	while (!at_end(p)) {
		int rc = p->it ? 0 : open_at(w, p);

		if (rc == 0 && p->it->valid) {
			rc = judge(w, p);
			if (rc)
				return rc < 0 ? rc : 0;
		} else if (rc || p->it->status) {
			rc = unreadable(w, p, rc ? rc : p->it->status);
			if (rc < 0)
				return rc;
		} else {
			judge_end(w, p);
		}
		leave(p);
	}
	return 0;
}

static int advance(struct walk *w, struct place *p)
{
	uint64_t read;

	w->c->result->entries++;
	iter_next(p->it);
	read = direct_source_bytes_read(w->src);
	if (w->c->errand && read != w->paid) {
		job_note_done(w->c->note, read);
		pace(w->c->engine, w->c->queue, read - w->paid, &w->c->errand->cancelled);
		w->paid = read;
	}
	if (check_over(w->c))
		return -ECANCELED;
	return settle(w, p);
}

static void places_fill(struct walk *w)
{
	const struct checking *c = w->c;
	const struct version *v = c->version;

	for (unsigned i = 0; i < c->memtable_count; i++)
		w->places[w->count++] = (struct place){.mem = c->memtables[i], .count = 1, .level = i};
	for (size_t i = 0; i < v->count[0]; i++)
		w->places[w->count++] = (struct place){.files = &v->files[0][i], .count = 1};
	for (unsigned level = 1; level < LEVELS; level++)
		w->places[w->count++] =
			(struct place){.files = v->files[level], .count = v->count[level], .level = level};
}

/* ---- the walk ---- */

/* The smallest user key that any place stands on. 0; 1: all are at their end; a failure. */
static int next_user(struct walk *w)
{
	const struct place *least = NULL;

	for (size_t i = 0; i < w->count; i++) {
		const struct place *p = &w->places[i];

		if (!at_end(p) && (!least || slice_compare(ikey_user(p->it->key), ikey_user(least->it->key)) < 0))
			least = p;
	}
	if (!least)
		return 1;
	return key_buf_set(&w->user, ikey_user(least->it->key)) < 0 ? no_memory(w) : 0;
}

/* All entries of the user key, place by place: each must be older than the one before. */
static int check_user(struct walk *w)
{
	const struct place *newer = NULL;
	uint64_t bound = UINT64_MAX;
	size_t newer_at = 0;

	for (size_t i = 0; i < w->count; i++) {
		struct place *p = &w->places[i];
		bool told = false;

		while (!at_end(p) && slice_equal(ikey_user(p->it->key), key_buf_slice(&w->user))) {
			uint64_t sequence = ikey_sequence(p->it->key);
			int rc;

			if (sequence < bound) {
				bound = sequence;
				newer = p;
				newer_at = p->at;
			} else if (!told) {
				disorder_add(w, p, sequence, newer, newer_at, bound);
				told = true;
			}
			rc = advance(w, p);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int walk_all(struct walk *w)
{
	int rc = 0;

	places_fill(w);
	for (size_t i = 0; i < w->count && rc == 0; i++)
		rc = settle(w, &w->places[i]);
	while (rc == 0) {
		rc = next_user(w);
		if (rc == 0)
			rc = check_user(w);
	}
	if (rc > 0)
		disorder_tell(w);
	return rc < 0 ? rc : 0;
}

int check_entries(struct checking *c)
{
	size_t most = c->version->count[0] + c->memtable_count + LEVELS;
	struct walk w = {.c = c, .places = calloc(most, sizeof(*w.places))};
	int rc = w.places ? direct_source_new(c->engine->env, c->queue, NULL, READAHEAD, &w.src) : -ENOMEM;

	rc = rc < 0 ? no_memory(&w) : walk_all(&w);
	c->result->entries_checked = rc == 0;
	c->bytes_read = w.src ? direct_source_bytes_read(w.src) : 0;
	for (size_t i = 0; i < w.count; i++) {
		iter_free(w.places[i].it);
		key_buf_fini(&w.places[i].last);
	}
	key_buf_fini(&w.user);
	direct_source_free(w.src);
	free(w.places);
	return rc;
}
