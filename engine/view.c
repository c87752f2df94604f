/*
 * view.c - views: the memtables and the version that a read runs over, pinned.
 *
 * The service thread asks for a view with every request, so the usual answer must cost nothing: one load of the generation, one
 * count. Only after a change does it take the lock. References of a view belong to the service thread and are plain numbers; those that the
 * view holds on version and memtables are what keeps the files.
 *
 * A view made too early is never wrong, only late: the memtables of an older view hold everything that a newer version got from them. The one
 * change that must not be missed is a new memtable, and that is the service thread's own doing (write.c makes the new view before it goes on).
 */
#include "engine/engine_internal.h"

#include <stdlib.h>

void view_changed(struct engine *e)
{
	/* Release: the new version and memtable list before the number. Pairs with the acquire in engine_view. */
	atomic_fetch_add_explicit(&e->generation, 1, memory_order_release);
}

struct view *view_alloc(struct engine *e)
{
	struct view *v = calloc(1, sizeof(*v));

	if (v) {
		v->refs = 1;
		v->engine = e;
	}
	return v;
}

void view_fill(struct view *v)
{
	struct engine *e = v->engine;

	v->version = version_ref(e->versions.current);
	v->mem = memtable_ref(e->mem);
	v->immutable_count = e->immutable_count;
	for (unsigned i = 0; i < e->immutable_count; i++)
		v->immutables[i] = memtable_ref(e->immutables[e->immutable_count - 1 - i].mem);
	/* Relaxed: this thread holds the lock under which the number changes. */
	v->generation = atomic_load_explicit(&e->generation, memory_order_relaxed);
}

void view_install(struct engine *e, struct view *v)
{
	struct view *old = e->view;

	e->view = v;
	view_unref(old);
}

void view_refresh(struct engine *e, bool wait)
{
	struct view *fresh;

	/* Acquire: pairs with the release in view_changed. */
	if (likely(atomic_load_explicit(&e->generation, memory_order_acquire) == e->view->generation))
		return;
	fresh = view_alloc(e);
	if (!fresh)
		return; /* the old one serves as well: it is complete */
	/* A worker that holds the lock may have lost its core, on a busy machine for milliseconds: the next pass looks again, if there is one. */
	if (wait) {
		pthread_mutex_lock(&e->lock);
	} else if (pthread_mutex_trylock(&e->lock)) {
		view_unref(fresh);
		return;
	}
	view_fill(fresh);
	pthread_mutex_unlock(&e->lock);
	view_install(e, fresh);
}

/* Under the lock. What nobody refers to any more is left to a worker: to unmap a large one takes a millisecond. */
static void let_go(struct engine *e, struct memtable *m)
{
	if (!memtable_let_go(m))
		return;
	if (e->gone_count == ARRAY_SIZE(e->gone)) {
		memtable_free(m);
		return;
	}
	e->gone[e->gone_count++] = m;
	engine_wake_jobs(e);
}

struct view *engine_view(struct engine *e)
{
	view_refresh(e, false);
	e->view->refs++;
	return e->view;
}

void view_unref(struct view *v)
{
	struct engine *e;

	if (!v || --v->refs)
		return;
	e = v->engine;
	if (v->version) { /* else nothing was filled in */
		pthread_mutex_lock(&e->lock);
		version_unref(v->version);
		for (unsigned i = 0; i < v->immutable_count; i++)
			let_go(e, v->immutables[i]);
		let_go(e, v->mem);
		pthread_mutex_unlock(&e->lock);
	}
	free(v);
}
