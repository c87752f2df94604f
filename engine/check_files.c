/*
 * check_files.c - the directory against what the engine knows of.
 *
 * Jobs go on meanwhile, so files come and go between the moment when the directory is listed and the one when somebody is asked about them. No alarm comes of
 * that:
 *	tables of the version   are pinned before the directory is listed, so all of them are in it
 *	what nobody accounts for may have gone since. A number is never used again, so a second look decides
 * Each file that is there is accounted for under the lock by whoever needs it, writes it, or knows that it must go: the lists in accounted_for.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/check_impl.h"

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

/* 0: under either name; -ENOENT; or another failure to open it. *@name is the name tried last. */
static int look(const struct engine *e, const struct found *f, char name[FILE_NAME_MAX])
{
	struct io_file *file;
	int rc = io_open(e->env, file_name(name, f->type, f->number), IO_OPEN_READ, &file);

	if (rc == -ENOENT && f->type == FILE_TABLE)
		rc = io_open(e->env, file_name(name, FILE_SST, f->number), IO_OPEN_READ, &file);
	if (rc == 0)
		io_close(file);
	return rc;
}

static void check_all_there(struct checking *c, const struct listing *l)
{
	const struct version *v = c->version;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			const struct file_meta *m = v->files[level][i];
			struct found key = {FILE_TABLE, m->number};
			struct check_finding f = {.kind = "missing", .code = -SHALE_ECORRUPT, .level = (int)level};
			char name[FILE_NAME_MAX];

			if ((l->count && bsearch(&key, l->files, l->count, sizeof(key), by_type_and_number)) ||
			    look(c->engine, &key, name) != -ENOENT)
				continue;
			snprintf(f.file, sizeof(f.file), "%s", file_name(name, FILE_TABLE, m->number));
			snprintf(f.what, sizeof(f.what), "it is not in the directory");
			check_range_set(&f, m, m);
			c->found(c, &f);
		}
	}
}

static bool is_listed(const struct obsolete *list, size_t count, const struct found *f)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i].type == f->type && list[i].number == f->number)
			return true;
	}
	return false;
}

/* Under the lock: somebody needs it, writes it, or knows that it must go. */
static bool accounted_for(const struct engine *e, const struct found *f)
{
	/* A flush makes its log needless in its edit, and says so to us a moment later; so does what begins a new MANIFEST. */
	if (f->type == FILE_LOG && (f->number >= e->versions.log_number ||
				    (e->immutable_count && f->number >= memtable_log_number(e->immutables[0].mem))))
		return true;
	if (f->type == FILE_MANIFEST && (f->number >= e->versions.manifest_number || f->number == e->manifest_seen))
		return true;
	if (is_listed(e->obsolete, e->obsolete_count, f) || is_listed(e->in_deletion, e->in_deletion_count, f))
		return true;
	for (size_t i = 0; f->type == FILE_TABLE && i < e->pending_count; i++) {
		if (e->pending[i] == f->number)
			return true;
	}
	return f->type == FILE_TABLE && version_set_is_live(&e->versions, f->number);
}

static void check_no_strays(struct checking *c, const struct listing *l)
{
	struct engine *e = c->engine;

	for (size_t i = 0; i < l->count; i++) {
		char name[FILE_NAME_MAX];
		bool known;

		pthread_mutex_lock(&e->lock);
		known = accounted_for(e, &l->files[i]);
		pthread_mutex_unlock(&e->lock);
		/* Set before the lock was taken to say that the deletion is over: so the lock orders it, and relaxed will do. */
		if (atomic_load_explicit(&e->leftovers, memory_order_relaxed) ||
		    atomic_load_explicit(&e->failed, memory_order_relaxed))
			return;
		if (!known && look(e, &l->files[i], name) == 0)
			check_tell(c, "stray", -SHALE_ECORRUPT, -1, name,
				   "it is in the directory, but nobody knows of it");
	}
}

int check_files(struct checking *c)
{
	struct engine *e = c->engine;
	struct listing l = {0};
	int rc = io_list(e->env, listing_add, &l);

	if (rc == 0 && l.no_memory)
		rc = -ENOMEM;
	if (rc < 0) {
		err_set(c->err, rc, "listing the database directory: %s", shale_strerror(rc));
	} else {
		if (l.count)
			qsort(l.files, l.count, sizeof(*l.files), by_type_and_number);
		c->result->files = l.count;
		if (!e->versions.best_effort) /* else the start has said so, and reading the entries says it again */
			check_all_there(c, &l);
		check_no_strays(c, &l);
	}
	free(l.files);
	return rc;
}
