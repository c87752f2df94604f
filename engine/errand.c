#include "engine/errand.h"

#include <stdlib.h>

#include "engine/engine_internal.h"

int errand_start(struct engine *e, struct errand *a, uint64_t *ticket_out)
{
	struct errand **place = &e->errands[a->kind];
	int rc = 0;

	pthread_mutex_lock(&e->lock);
	if (atomic_load_explicit(&e->failed, memory_order_relaxed)) {
		rc = -SHALE_EFAILED;
	} else if (*place && (*place)->state != ERRAND_ENDED) {
		rc = -EBUSY;
	} else {
		free(*place); /* an answer that nobody came for */
		*place = a;
		*ticket_out = a->ticket = ++e->errand_tickets;
		a = NULL;
		engine_wake_jobs(e);
	}
	pthread_mutex_unlock(&e->lock);
	free(a);
	return rc;
}

/* Under the lock: the final answer of @a, as errand_take gives it; 0: there is none yet. */
static int answer_of(const struct engine *e, struct errand *a)
{
	if (a->state == ERRAND_ENDED)
		return a->rc < 0 ? a->rc : 1;
	if (a->state == ERRAND_WAITING && atomic_load_explicit(&e->failed, memory_order_relaxed))
		return err_set(&a->err, -SHALE_EFAILED, "the daemon stopped writing after an I/O error: %s",
			       e->error.text);
	return 0;
}

int errand_take(struct engine *e, enum errand_kind kind, uint64_t ticket, struct errand **out, struct err_info *err)
{
	struct errand *a;
	int rc = 0;

	pthread_mutex_lock(&e->lock);
	a = e->errands[kind];
	if (!a || a->ticket != ticket) {
		a = NULL;
		rc = -ENOENT;
	} else {
		rc = answer_of(e, a);
	}
	if (a && rc)
		e->errands[kind] = NULL;
	pthread_mutex_unlock(&e->lock);
	if (rc > 0)
		*out = a;
	if (rc < 0 && a) {
		if (err)
			*err = a->err;
		free(a);
	}
	return rc;
}

int errand_cancel(struct engine *e, enum errand_kind kind, uint64_t ticket)
{
	struct errand *a;
	int rc = -ENOENT;

	pthread_mutex_lock(&e->lock);
	a = e->errands[kind];
	if (a && a->ticket == ticket && a->state != ERRAND_ENDED) {
		rc = 0;
		atomic_store_explicit(&a->cancelled, true, memory_order_relaxed);
		if (a->state == ERRAND_WAITING)
			errand_end(e, a, err_set(&a->err, -ECANCELED, "cancelled before it began"));
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

struct errand *errand_claim(struct engine *e, enum errand_kind kind)
{
	struct errand *a = e->errands[kind];

	if (!a || a->state != ERRAND_WAITING)
		return NULL;
	a->state = ERRAND_RUNNING;
	return a;
}

bool errand_is_over(const struct engine *e, const struct errand *a)
{
	return atomic_load_explicit(&a->cancelled, memory_order_relaxed) ||
	       atomic_load_explicit(&e->stopping, memory_order_relaxed);
}

void errand_end(struct engine *e, struct errand *a, int rc)
{
	a->state = ERRAND_ENDED;
	a->rc = rc;
	engine_wake_service(e);
}

void errands_free(struct engine *e)
{
	for (unsigned i = 0; i < ERRAND_KINDS; i++) {
		free(e->errands[i]);
		e->errands[i] = NULL;
	}
}
