/*
 * check.c - invariants that take the disk to know: which files are there, and what is in them.
 *
 * Reads go through places in one order, and take the first entry that they meet; so do compactions when they drop what is hidden. Both
 * are right only as long as of each user key
 *
 *	memtable > immutables, newest first > level 0, newest first > level 1 > … > level 6
 *
 * holds for the sequences. A naive placement of a flush, or of two compactions at a time, breaks exactly this, and no reader notices until
 * the newer entry is dropped. The walk below steps through all places at once, user key by user key, and compares.
 */
#include "engine/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

/* ---- files ---- */

struct found {
	enum file_type type;
	uint64_t number;
};

struct listing {
	struct found *files;
	size_t count, cap;
	bool no_memory;
};

static void listing_add(void *context, const char *name)
{
	struct listing *l = context;
	enum file_type type;
	uint64_t number;

	if (l->no_memory || !file_parse(name, &type, &number))
		return;
	if (type != FILE_TABLE && type != FILE_SST && type != FILE_LOG && type != FILE_MANIFEST)
		return;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct found *grown = reallocarray(l->files, cap, sizeof(*grown));

		l->no_memory = !grown;
		if (!grown)
			return;
		l->files = grown;
		l->cap = cap;
	}
	l->files[l->count++] = (struct found){type == FILE_SST ? FILE_TABLE : type, number};
}

static int by_type_and_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static int check_all_there(const struct version *v, const struct listing *l, struct err_info *err)
{
	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			struct found key = {FILE_TABLE, v->files[level][i]->number};

			if (!v->set->best_effort &&
			    (!l->count || !bsearch(&key, l->files, l->count, sizeof(key), by_type_and_number)))
				return err_set(err, -SHALE_ECORRUPT, "table %06llu of level %u is not in the directory",
					       (unsigned long long)key.number, level);
		}
	}
	return 0;
}

/* Under the lock: somebody needs it, writes it, or knows that it must go. */
static bool accounted_for(const struct engine *e, const struct found *f)
{
	/* A flush makes logs needless in its edit, and says so to us a moment later; so does what begins a new MANIFEST. */
	if (f->type == FILE_LOG && (f->number >= e->versions.log_number || e->flushing))
		return true;
	if (f->type == FILE_MANIFEST && (f->number >= e->versions.manifest_number || f->number == e->manifest_seen))
		return true;
	for (size_t i = 0; i < e->obsolete_count; i++) {
		if (e->obsolete[i].type == f->type && e->obsolete[i].number == f->number)
			return true;
	}
	for (size_t i = 0; f->type == FILE_TABLE && i < e->pending_count; i++) {
		if (e->pending[i] == f->number)
			return true;
	}
	return f->type == FILE_TABLE && version_set_is_live(&e->versions, f->number);
}

/* What nobody accounts for may have gone since the directory was listed. A number is never used again, so a second look decides. */
static int check_stray(struct engine *e, const struct found *f, struct err_info *err)
{
	char name[FILE_NAME_MAX];
	struct io_file *file;
	int rc = io_open(e->env, file_name(name, f->type, f->number), IO_OPEN_READ, &file);

	if (rc == -ENOENT && f->type == FILE_TABLE)
		rc = io_open(e->env, file_name(name, FILE_SST, f->number), IO_OPEN_READ, &file);
	if (rc < 0)
		return 0;
	io_close(file);
	return err_set(err, -SHALE_ECORRUPT, "%s is in the directory, but nobody knows of it", name);
}

static int check_no_strays(struct engine *e, const struct listing *l, struct err_info *err)
{
	for (size_t i = 0; i < l->count; i++) {
		bool known;

		pthread_mutex_lock(&e->lock);
		known = e->deleting || accounted_for(e, &l->files[i]);
		pthread_mutex_unlock(&e->lock);
		/* Set before the lock was taken to say that the deletion is over: so the lock orders it, and relaxed will do. */
		if (atomic_load_explicit(&e->leftovers, memory_order_relaxed) ||
		    atomic_load_explicit(&e->failed, memory_order_relaxed))
			return 0;
		if (!known && check_stray(e, &l->files[i], err) < 0)
			return -SHALE_ECORRUPT;
	}
	return 0;
}

int engine_check_files(struct engine *e, struct err_info *err)
{
	struct listing l = {0};
	struct version *v;
	int rc;

	pthread_mutex_lock(&e->lock);
	v = version_ref(e->versions.current); /* its tables stay while we look */
	pthread_mutex_unlock(&e->lock);
	rc = io_list(e->env, listing_add, &l);
	if (rc == 0 && l.no_memory)
		rc = -ENOMEM;
	if (rc < 0) {
		err_set(err, rc, "listing the database directory: %s", shale_strerror(rc));
	} else {
		if (l.count)
			qsort(l.files, l.count, sizeof(*l.files), by_type_and_number);
		rc = check_all_there(v, &l, err);
		if (rc == 0)
			rc = check_no_strays(e, &l, err);
	}
	pthread_mutex_lock(&e->lock);
	version_unref(v);
	pthread_mutex_unlock(&e->lock);
	free(l.files);
	return rc;
}

void check_installed(struct engine *e)
{
#ifdef SHALE_DEBUG
	struct err_info err = {0};

	if (engine_check_files(e, &err) == -SHALE_ECORRUPT) {
		engine_log(e, PRIORITY_ERROR, "%s", err.text);
		assert(!"the directory and the version do not fit");
	}
#else
	(void)e;
#endif
}

/* ---- entries ---- */

/* One place of the order above. */
struct place {
	struct iter *it;
	char name[48];
};

struct walk {
	struct place *places; /* newest first */
	size_t count;
	struct direct_source *src;
	struct key_buf user; /* the user key being looked at */
	bool has_user;
};

static int place_add(struct walk *w, int rc, struct iter *it, const char *what, uint64_t number)
{
	if (rc < 0)
		return rc;
	w->places[w->count].it = it;
	snprintf(w->places[w->count].name, sizeof(w->places[w->count].name), "%s %llu", what,
		 (unsigned long long)number);
	w->count++;
	return 0;
}

static int places_fill(struct walk *w, const struct view *v)
{
	struct block_source *src = direct_source_base(w->src);
	const struct version *ver = v->version;
	struct iter *it = NULL;
	int rc = memtable_iter_new(v->mem, &it);

	rc = place_add(w, rc, it, "memtable", 0);
	for (unsigned i = 0; rc == 0 && i < v->immutable_count; i++) {
		rc = memtable_iter_new(v->immutables[i], &it);
		rc = place_add(w, rc, it, "immutable memtable", i);
	}
	for (size_t i = 0; rc == 0 && i < ver->count[0]; i++) {
		rc = level_iter_new(&ver->files[0][i], 1, src, &it);
		rc = place_add(w, rc, it, "table", ver->files[0][i]->number);
	}
	for (unsigned level = 1; rc == 0 && level < LEVELS; level++) {
		rc = level_iter_new(ver->files[level], ver->count[level], src, &it);
		rc = place_add(w, rc, it, "level", level);
	}
	return rc;
}

static int read_failed(const struct walk *w, int rc, struct err_info *err)
{
	const struct err_info *words = direct_source_error(w->src);

	rc = rc < 0 ? rc : -EIO;
	return words && words->code ? err_set(err, rc, "%s", words->text)
				    : err_set(err, rc, "reading a table: %s", shale_strerror(rc));
}

/* The smallest user key that any place stands on. False: all are at their end, or *@rc_out says why not. */
static bool next_user(struct walk *w, int *rc_out, struct err_info *err)
{
	const struct place *least = NULL;

	for (size_t i = 0; i < w->count; i++) {
		const struct place *p = &w->places[i];

		if (!p->it->valid && p->it->status) {
			*rc_out = read_failed(w, p->it->status, err);
			return false;
		}
		if (p->it->valid && !ikey_valid(p->it->key)) {
			*rc_out = err_set(err, -SHALE_ECORRUPT, "%s holds a key that is no internal key", p->name);
			return false;
		}
		if (p->it->valid && (!least || slice_compare(ikey_user(p->it->key), ikey_user(least->it->key)) < 0))
			least = p;
	}
	if (!least)
		return false;
	if (w->has_user && slice_compare(ikey_user(least->it->key), key_buf_slice(&w->user)) <= 0)
		*rc_out = err_set(err, -SHALE_ECORRUPT, "%s is not in the order of its keys", least->name);
	else
		*rc_out = key_buf_set(&w->user, ikey_user(least->it->key));
	w->has_user = true;
	return *rc_out == 0;
}

/* All entries of the user key, place by place: each must be older than the one before. */
static int check_user(struct walk *w, struct err_info *err)
{
	const struct place *newer = NULL;
	uint64_t bound = UINT64_MAX;

	for (size_t i = 0; i < w->count; i++) {
		struct iter *it = w->places[i].it;

		while (it->valid && ikey_valid(it->key) && slice_equal(ikey_user(it->key), key_buf_slice(&w->user))) {
			uint64_t sequence = ikey_sequence(it->key);

			if (sequence >= bound)
				return err_set(err, -SHALE_ECORRUPT,
					       "%s holds sequence %llu of a key that %s, which is read first, holds "
					       "with sequence %llu",
					       w->places[i].name, (unsigned long long)sequence, newer->name,
					       (unsigned long long)bound);
			bound = sequence;
			newer = &w->places[i];
			iter_next(it);
		}
	}
	return 0;
}

static int walk_all(struct walk *w, struct err_info *err)
{
	int rc = 0;

	for (size_t i = 0; i < w->count; i++)
		iter_seek_first(w->places[i].it);
	while (rc == 0 && next_user(w, &rc, err))
		rc = check_user(w, err);
	return rc;
}

/* First and last key of one table are those that the MANIFEST gives. */
static int check_ends(struct walk *w, struct file_meta *m, struct err_info *err)
{
	struct iter *it;
	bool same;
	int rc = level_iter_new(&m, 1, direct_source_base(w->src), &it);

	if (rc < 0)
		return err_set(err, rc, "no memory to check a table");
	iter_seek_first(it);
	same = it->valid && slice_equal(it->key, key_buf_slice(&m->smallest));
	if (same) {
		iter_seek_last(it);
		same = it->valid && slice_equal(it->key, key_buf_slice(&m->largest));
	}
	if (!it->valid && it->status)
		rc = read_failed(w, it->status, err);
	else if (!same)
		rc = err_set(err, -SHALE_ECORRUPT, "table %06llu begins or ends elsewhere than the MANIFEST says",
			     (unsigned long long)m->number);
	iter_free(it);
	return rc;
}

static int check_entries(struct engine *e, const struct view *v, struct io_queue *q, struct err_info *err)
{
	struct walk w = {.places = calloc(v->version->count[0] + v->immutable_count + 1 + LEVELS, sizeof(*w.places))};
	int rc = w.places ? direct_source_new(e->env, q, e->shared.tables, 64 << 10, &w.src) : -ENOMEM;

	if (rc == 0)
		rc = places_fill(&w, v);
	if (rc < 0)
		err_set(err, rc, "no memory to check a database");
	for (unsigned level = 0; rc == 0 && level < LEVELS; level++) {
		for (size_t i = 0; rc == 0 && i < v->version->count[level]; i++)
			rc = check_ends(&w, v->version->files[level][i], err);
	}
	if (rc == 0)
		rc = walk_all(&w, err);
	while (w.count)
		iter_free(w.places[--w.count].it);
	key_buf_fini(&w.user);
	direct_source_free(w.src);
	free(w.places);
	return rc;
}

int engine_check_deep(struct engine *e, struct io_queue *queue, struct err_info *err)
{
	struct view *v;
	int rc = engine_check(e, err);

	if (rc == 0)
		rc = engine_check_files(e, err);
	if (rc < 0)
		return rc;
	v = engine_view(e);
	rc = check_entries(e, v, queue, err);
	view_unref(v);
	return rc;
}
