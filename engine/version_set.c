#include "engine/version_set.h"

#include <stdlib.h>

#include "engine/manifest.h"
#include "engine/version_builder.h"
#include "shm/error.h"

int version_set_init(struct version_set *vs, struct io_env *env, pthread_mutex_t *lock,
		     const struct version_set_options *o, void (*obsolete)(void *context, struct file_meta *meta),
		     void *context)
{
	memset(vs, 0, sizeof(*vs));
	vs->env = env;
	vs->lock = lock;
	vs->options = *o;
	vs->obsolete = obsolete;
	vs->context = context;
	vs->versions.next = vs->versions.prev = &vs->versions;
	atomic_init(&vs->next_file, 2); /* 1 is the first MANIFEST */
	atomic_init(&vs->last_sequence, 0);
	vs->tables_sequence = UINT64_MAX;
	vs->current = version_new_empty(vs);
	if (!vs->current)
		return -ENOMEM;
	vs->current->next = vs->current->prev = &vs->versions;
	vs->versions.next = vs->versions.prev = vs->current;
	pthread_mutex_init(&vs->manifest_lock, NULL);
	return 0;
}

void version_set_fini(struct version_set *vs)
{
	if (!vs || !vs->current)
		return;
	vs->obsolete = NULL; /* from here on a meta that loses its last reference is only freed */
	vs->current = NULL;
	while (vs->versions.next != &vs->versions) {
		struct version *v = vs->versions.next;

		vs->versions.next = v->next;
		version_destroy(v);
	}
	for (unsigned level = 0; level < LEVELS; level++)
		key_buf_fini(&vs->compact_pointer[level]);
	io_close(vs->manifest);
	pthread_mutex_destroy(&vs->manifest_lock);
	memset(vs, 0, sizeof(*vs));
}

void version_set_number_used(struct version_set *vs, uint64_t number)
{
	uint64_t next = atomic_load_explicit(&vs->next_file, memory_order_relaxed);

	/* Relaxed, as in version_set_new_number: only the counter itself matters, it publishes nothing. */
	while (next <= number && !atomic_compare_exchange_weak_explicit(&vs->next_file, &next, number + 1,
									memory_order_relaxed, memory_order_relaxed))
		;
}

bool version_set_is_live(const struct version_set *vs, uint64_t number)
{
	for (const struct version *v = vs->versions.next; v != &vs->versions; v = v->next) {
		for (unsigned level = 0; level < LEVELS; level++) {
			for (size_t i = 0; i < v->count[level]; i++) {
				if (v->files[level][i]->number == number)
					return true;
			}
		}
	}
	return false;
}

/* ---- applying an edit ---- */

/* What an apply carries from its first part under the lock to its second. */
struct apply {
	struct version *next;
	struct slice records[2]; /* snapshot (only when a new MANIFEST begins) and edit; malloc'ed */
	uint64_t new_manifest;	 /* 0: append to the open one */
};

static int encode(const struct edit *e, struct slice *out)
{
	unsigned char *data;
	size_t size;
	int rc = edit_encode(e, &data, &size);

	if (rc == 0)
		*out = slice_of(data, size);
	return rc;
}

/* The numbers that every record carries, so that any record is enough to make a MANIFEST complete. */
static void edit_stamp(struct version_set *vs, struct edit *e)
{
	if (!e->has_log_number) {
		e->has_log_number = true;
		e->log_number = vs->log_number;
	}
	/* There has been no second log since 2011, but old programs insist that somebody says so. */
	e->has_prev_log_number = true;
	e->prev_log_number = 0;
	e->has_next_file = true;
	e->next_file = atomic_load_explicit(&vs->next_file, memory_order_relaxed);
	if (e->has_last_sequence)
		return;
	/* Acquire: pairs with the release by which the service thread publishes a group. At least as new as what the added files hold. */
	e->has_last_sequence = true;
	e->last_sequence = atomic_load_explicit(&vs->last_sequence, memory_order_acquire);
	if (vs->tables_sequence < e->last_sequence)
		e->last_sequence = vs->tables_sequence;
}

/* The current state as one record. */
static int encode_snapshot(struct version_set *vs, struct slice *out)
{
	struct edit e;
	int rc = 0;

	edit_init(&e);
	e.has_comparator = true;
	strcpy(e.comparator, COMPARATOR_NAME);
	edit_stamp(vs, &e);
	for (unsigned level = 0; level < LEVELS && rc == 0; level++) {
		if (vs->compact_pointer[level].size)
			rc = edit_set_pointer(&e, level, key_buf_slice(&vs->compact_pointer[level]));
		for (size_t i = 0; i < vs->current->count[level] && rc == 0; i++)
			rc = edit_add_file(&e, level, vs->current->files[level][i]);
	}
	if (rc == 0)
		rc = encode(&e, out);
	edit_fini(&e); /* drops the references just taken; the version keeps its own */
	return rc;
}

/* An added file that is deleted from another level moves: it must be the same meta (see edit_add_file). */
static bool moves_keep_meta(const struct version *current, const struct edit *e)
{
	for (size_t i = 0; i < e->added_count; i++) {
		for (size_t d = 0; d < e->deleted_count; d++) {
			unsigned level = e->deleted[d].level;

			if (e->deleted[d].number != e->added[i].number)
				continue;
			for (size_t k = 0; k < current->count[level]; k++) {
				if (current->files[level][k]->number == e->added[i].number &&
				    current->files[level][k] != e->added[i].meta)
					return false;
			}
		}
	}
	return true;
}

static bool manifest_full(const struct version_set *vs)
{
	return vs->manifest_offset >= vs->options.max_manifest_bytes &&
	       vs->manifest_offset / 2 >= vs->manifest_begin_bytes;
}

/* Under the lock. Everything allocated is in @a, also on failure. */
static int apply_prepare(struct version_set *vs, struct edit *edit, struct apply *a, struct err_info *err)
{
	int rc;

	if (vs->failed)
		return err_set(err, -SHALE_EFAILED,
			       "the MANIFEST could not be written before (%s); a restart reads it again",
			       shale_strerror(vs->failed));
	assert(moves_keep_meta(vs->current, edit));
	assert(!edit->has_log_number || edit->log_number >= vs->log_number);
	assert(!edit->has_last_sequence || vs->tables_sequence == UINT64_MAX ||
	       edit->last_sequence >= vs->tables_sequence);
	rc = version_build(vs->current, edit, &a->next, err);
	if (rc < 0) {
		err_prefix(err, "a version edit does not fit the current version: ");
		return rc;
	}
	if (!vs->manifest || manifest_full(vs)) {
		a->new_manifest = version_set_new_number(vs);
		rc = encode_snapshot(vs, &a->records[0]);
	}
	edit_stamp(vs, edit);
	assert(!edit->has_log_number || edit->log_number < edit->next_file);
	if (rc == 0)
		rc = encode(edit, &a->records[1]);
	return rc < 0 ? err_set(err, rc, "no memory to encode a version edit") : 0;
}

/* Under the lock: the record is durable. */
static void apply_install(struct version_set *vs, struct edit *edit, struct apply *a)
{
	version_install(vs, a->next);
	a->next = NULL;
	vs->log_number = edit->log_number;
	if (vs->tables_sequence != UINT64_MAX)
		vs->tables_sequence = edit->last_sequence;
	if (a->new_manifest)
		vs->manifest_number = a->new_manifest;
	/* The version holds the added files now. Dropped here, under the lock, so that edit_fini touches no shared count. */
	for (size_t i = 0; i < edit->added_count; i++) {
		edit->added[i].meta->refs--;
		edit->added[i].meta = NULL;
	}
#ifdef SHALE_DEBUG
	assert(version_check(vs->current, NULL) != -SHALE_ECORRUPT);
#endif
}

int version_set_apply(struct version_set *vs, struct edit *edit, struct io_queue *q, struct err_info *err)
{
	enum manifest_damage damage = MANIFEST_WHOLE;
	struct apply a = {0};
	int rc;

	pthread_mutex_lock(&vs->manifest_lock);
	pthread_mutex_lock(vs->lock);
	rc = apply_prepare(vs, edit, &a, err);
	pthread_mutex_unlock(vs->lock);
	if (rc == 0) {
		if (a.new_manifest)
			rc = manifest_begin(vs, q, a.new_manifest, a.records, 2, &damage, err);
		else
			rc = manifest_append(vs, q, a.records[1], &damage, err);
	}
	pthread_mutex_lock(vs->lock);
	if (rc == 0)
		apply_install(vs, edit, &a);
	else if (damage != MANIFEST_WHOLE)
		vs->failed = rc;
	version_destroy(a.next);
	pthread_mutex_unlock(vs->lock);
	pthread_mutex_unlock(&vs->manifest_lock);
	free((void *)a.records[0].data);
	free((void *)a.records[1].data);
	return rc;
}

int version_set_create(struct version_set *vs, struct io_queue *q, struct err_info *err)
{
	enum manifest_damage damage;
	struct slice record;
	int rc = encode_snapshot(vs, &record);

	if (rc < 0)
		return err_set(err, rc, "no memory to create a database");
	rc = manifest_begin(vs, q, 1, &record, 1, &damage, err);
	free((void *)record.data);
	if (rc < 0) {
		err_prefix(err, "creating a database: ");
		if (damage != MANIFEST_WHOLE)
			vs->failed = rc;
		return rc;
	}
	vs->manifest_number = 1;
	return 0;
}
