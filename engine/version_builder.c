#include "engine/version_builder.h"

#include <stdlib.h>

#include "shm/error.h"

/* ---- runs: one level's files, shared by versions ---- */

struct run {
	uint32_t refs;
	size_t count;
	struct file_meta *files[];
};

static struct run *run_new(size_t room)
{
	struct run *r = malloc(sizeof(*r) + room * sizeof(r->files[0]));

	if (r) {
		r->refs = 1;
		r->count = 0;
	}
	return r;
}

static struct run *run_of(const struct version *v, unsigned level)
{
	return v->files[level] ? container_of(v->files[level], struct run, files) : NULL;
}

static void run_push(struct run *r, struct file_meta *m)
{
	m->refs++;
	r->files[r->count++] = m;
}

/* The last version that held @m is gone. While the set is torn down, the file stays on disk: only the memory goes. */
static void meta_gone(struct version_set *vs, struct file_meta *m)
{
	if (vs && vs->obsolete)
		vs->obsolete(vs->context, m);
	else
		file_meta_free(m);
}

static void run_unref(struct version_set *vs, struct run *r)
{
	if (!r || --r->refs)
		return;
	for (size_t i = 0; i < r->count; i++) {
		assert(r->files[i]->refs > 0);
		if (--r->files[i]->refs == 0)
			meta_gone(vs, r->files[i]);
	}
	free(r);
}

/* ---- building ---- */

/* What an edit does to one level, sorted for merging. */
struct change {
	struct file_meta **added;
	uint64_t *deleted;
	size_t added_count, deleted_count;
};

static int newest_first(const void *a, const void *b)
{
	const struct file_meta *x = *(struct file_meta *const *)a, *y = *(struct file_meta *const *)b;

	return (x->number < y->number) - (x->number > y->number);
}

static int smallest_first(const void *a, const void *b)
{
	const struct file_meta *x = *(struct file_meta *const *)a, *y = *(struct file_meta *const *)b;

	return ikey_compare(key_buf_slice(&x->smallest), key_buf_slice(&y->smallest));
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int change_init(struct change *c, const struct edit *e, unsigned level)
{
	*c = (struct change){0};
	for (size_t i = 0; i < e->added_count; i++)
		c->added_count += e->added[i].level == level;
	for (size_t i = 0; i < e->deleted_count; i++)
		c->deleted_count += e->deleted[i].level == level;
	/* One element more than needed, so that an empty array is an allocation like any other. */
	c->added = malloc((c->added_count + 1) * sizeof(*c->added));
	c->deleted = malloc((c->deleted_count + 1) * sizeof(*c->deleted));
	if (!c->added || !c->deleted)
		return -ENOMEM;
	c->added_count = c->deleted_count = 0;
	for (size_t i = 0; i < e->added_count; i++) {
		if (e->added[i].level == level)
			c->added[c->added_count++] = e->added[i].meta;
	}
	for (size_t i = 0; i < e->deleted_count; i++) {
		if (e->deleted[i].level == level)
			c->deleted[c->deleted_count++] = e->deleted[i].number;
	}
	qsort(c->added, c->added_count, sizeof(*c->added), level ? smallest_first : newest_first);
	qsort(c->deleted, c->deleted_count, sizeof(*c->deleted), by_number);
	return 0;
}

static void change_fini(struct change *c)
{
	free(c->added);
	free(c->deleted);
}

static bool is_deleted(const struct change *c, uint64_t number)
{
	return c->deleted_count && bsearch(&number, c->deleted, c->deleted_count, sizeof(number), by_number);
}

/* Whether @next may stand directly after the last of @r. */
static int follows(const struct run *r, unsigned level, const struct file_meta *next, struct err_info *err)
{
	const struct file_meta *last = r->count ? r->files[r->count - 1] : NULL;

	if (!last)
		return 0;
	if (last->number == next->number)
		return err_set(err, -SHALE_ECORRUPT, "table %06llu is at level %u twice",
			       (unsigned long long)next->number, level);
	if (level && ikey_compare(key_buf_slice(&last->largest), key_buf_slice(&next->smallest)) >= 0)
		return err_set(err, -SHALE_ECORRUPT, "tables %06llu and %06llu of level %u overlap",
			       (unsigned long long)last->number, (unsigned long long)next->number, level);
	return 0;
}

/* Merges what is left of @base's level with what is added. Only neighbours of added files are compared: the rest was checked before. */
static int level_merge(const struct version *base, unsigned level, const struct change *c, struct run *r,
		       struct err_info *err)
{
	int (*order)(const void *, const void *) = level ? smallest_first : newest_first;
	size_t old = 0, added = 0, gone = 0;
	bool last_added = false;
	int rc;

	while (old < base->count[level] || added < c->added_count) {
		struct file_meta *m;
		bool is_added;

		if (old < base->count[level] && is_deleted(c, base->files[level][old]->number)) {
			old++;
			gone++;
			continue;
		}
		is_added = old == base->count[level] ||
			   (added < c->added_count && order(&c->added[added], &base->files[level][old]) < 0);
		m = is_added ? c->added[added++] : base->files[level][old++];
		if (is_added || last_added) {
			rc = follows(r, level, m, err);
			if (rc < 0)
				return rc;
		}
		last_added = is_added;
		run_push(r, m);
	}
	if (gone != c->deleted_count)
		return err_set(err, -SHALE_ECORRUPT,
			       "%zu of the %zu tables to be deleted from level %u (%06llu, …) are not there",
			       c->deleted_count - gone, c->deleted_count, level, (unsigned long long)c->deleted[0]);
	return 0;
}

static void count_dead(struct version *v, unsigned level, const struct file_meta *m)
{
	unsigned percent = v->set->options.tombstone_percent;

	v->dead_files[level] += percent && m->dead_percent >= percent;
	v->dead_bytes[level] += m->size / 100 * m->dead_percent;
}

void version_count_dead(struct version *v)
{
	for (unsigned level = 0; level < LEVELS; level++) {
		v->dead_files[level] = 0;
		v->dead_bytes[level] = 0;
		for (size_t i = 0; i < v->count[level]; i++)
			count_dead(v, level, v->files[level][i]);
	}
}

static int level_build(const struct version *base, const struct edit *e, unsigned level, struct version *v,
		       struct err_info *err)
{
	struct change c;
	struct run *r = NULL;
	int rc = change_init(&c, e, level);

	if (rc < 0) {
		err_set(err, rc, "no memory to build a version");
		goto out;
	}
	if (!c.added_count && !c.deleted_count) {
		r = run_of(base, level);
		if (r)
			r->refs++;
	} else {
		r = run_new(base->count[level] + c.added_count);
		rc = r ? level_merge(base, level, &c, r, err) : err_set(err, -ENOMEM, "no memory to build a version");
		if (rc < 0 || !r->count) {
			run_unref(v->set, r);
			r = NULL;
		}
	}
	if (!r)
		goto out;
	v->files[level] = r->files;
	v->count[level] = r->count;
	for (size_t i = 0; i < r->count; i++) {
		v->bytes[level] += r->files[i]->size;
		count_dead(v, level, r->files[i]);
	}
out:
	change_fini(&c);
	return rc;
}

int version_build(const struct version *base, const struct edit *edit, struct version **out, struct err_info *err)
{
	struct version *v = version_new_empty(base->set);
	int rc;

	if (!v)
		return err_set(err, -ENOMEM, "no memory to build a version");
	for (unsigned level = 0; level < LEVELS; level++) {
		rc = level_build(base, edit, level, v, err);
		if (rc < 0) {
			version_destroy(v);
			return rc;
		}
	}
	version_score(v);
	*out = v;
	return 0;
}

/* ---- life and death ---- */

struct version *version_new_empty(struct version_set *vs)
{
	struct version *v = calloc(1, sizeof(*v));

	if (v) {
		v->refs = 1;
		v->set = vs;
	}
	return v;
}

void version_destroy(struct version *v)
{
	if (!v)
		return;
	for (unsigned level = 0; level < LEVELS; level++)
		run_unref(v->set, run_of(v, level));
	free(v);
}

struct version *version_ref(struct version *v)
{
	assert(v->refs > 0);
	v->refs++;
	return v;
}

void version_unref(struct version *v)
{
	if (!v)
		return;
	assert(v->refs > 0);
	if (--v->refs)
		return;
	assert(v != v->set->current);
	v->prev->next = v->next;
	v->next->prev = v->prev;
	version_destroy(v);
}

void version_install(struct version_set *vs, struct version *next)
{
	struct version *old = vs->current;

	assert(next->refs == 1 && next->set == vs);
	next->prev = vs->versions.prev;
	next->next = &vs->versions;
	next->prev->next = next;
	vs->versions.prev = next;
	vs->current = next;
	version_unref(old);
}

/* LevelDB's: the same factor from level to level. */
static uint64_t plain_target(const struct version_set_options *o, unsigned level)
{
	uint64_t target = o->level1_bytes;

	for (; level > 1; level--) {
		if (__builtin_mul_overflow(target, (uint64_t)o->level_multiplier, &target))
			return UINT64_MAX;
	}
	return target;
}

/* What level 0 gathers; see level0_due. */
static uint64_t gather_bytes(const struct version_set_options *o)
{
	return 2 * o->level1_bytes;
}

/*
 * A level 1 that is smaller than what comes down from level 0 at once is rewritten as a whole for it, and passes most of it on to a level 2 that is many
 * times its size. So it may hold as much as comes, though not more than half of level 2.
 */
uint64_t level_target(const struct version_set_options *o, unsigned level)
{
	uint64_t target = plain_target(o, level), batch;

	if (level != 1)
		return target;
	batch = min_size(o->l0_gather_files * o->l0_file_bytes, gather_bytes(o));
	batch = max_size(batch, o->l0_compaction_trigger * o->l0_file_bytes);
	return max_size(target, min_size(batch, plain_target(o, 2) / 2));
}

/*
 * What goes from level 0 to level 1 takes all of level 1 with it as a rule, however little it is itself. So with small memtables, and a level 1 that is
 * worth sparing, level 0 gathers files until it holds twice what level 1 was given, or as many as are allowed to gather. LevelDB takes four, unless its
 * one thread is late.
 */
unsigned level0_due(const struct version *v)
{
	const struct version_set_options *o = &v->set->options;
	unsigned due = o->l0_compaction_trigger;

	if (v->count[0] >= due && v->count[0] < o->l0_gather_files && v->bytes[0] < gather_bytes(o) &&
	    v->bytes[1] >= o->level1_bytes / 2)
		due = (unsigned)v->count[0] + 1;
	return due;
}

void version_score(struct version *v)
{
	const struct version_set_options *o = &v->set->options;

	/* Level 0 by files, not bytes: each costs every read a probe, and with big write buffers bytes would compact too often. */
	v->score[0] = (double)v->count[0] / (double)level0_due(v);
	for (unsigned level = 1; level < LEVELS - 1; level++)
		v->score[level] = (double)v->bytes[level] / (double)level_target(o, level);
	v->score[LEVELS - 1] = 0;
}
