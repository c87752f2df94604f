/*
 * pace.c - background I/O at no more than options.background_rate bytes a second.
 *
 * All compactions together pay from one account: pace_paid is the moment until which what they took is paid for, at the rate. Who takes bytes
 * moves it on, and waits until then. Credit is kept for a short while only, so that a pause is not followed by a burst.
 *
 * Flushes are free: a writer waits for them. And nobody is held up while level 0 is at its slowdown limit, because then writers pay
 * for every moment that compactions lose.
 */
#include "engine/engine_internal.h"

enum { CREDIT_NS = 100 * 1000 * 1000, SLICE_NS = 50 * 1000 * 1000 };

static bool must_hurry(const struct engine *e)
{
	return atomic_load_explicit(&e->stopping, memory_order_relaxed) ||
	       atomic_load_explicit(&e->l0_files, memory_order_relaxed) >= e->options.l0_slowdown_trigger;
}

void pace(struct engine *e, struct io_queue *q, uint64_t bytes, const _Atomic bool *cancelled)
{
	/* Relaxed: a number that engine_tune may change; what is paid for already was at the old rate. */
	uint64_t rate = atomic_load_explicit(&e->background_rate, memory_order_relaxed), now, until, cost;

	if (!rate)
		return;
	cost = (uint64_t)((double)bytes * 1e9 / (double)rate);
	now = io_now_ns(e->env);
	pthread_mutex_lock(&e->lock);
	if (e->pace_paid + CREDIT_NS < now)
		e->pace_paid = now - CREDIT_NS;
	e->pace_paid += cost;
	until = e->pace_paid;
	pthread_mutex_unlock(&e->lock);
	/* In slices, to see a shutdown or a cancel soon. Completions that come meanwhile are those of writes behind: welcome. */
	while (now < until && !must_hurry(e) && !atomic_load_explicit(cancelled, memory_order_relaxed)) {
		if (io_queue_wait(q, until - now < SLICE_NS ? until - now : SLICE_NS) < 0)
			return; /* whoever uses the queue next is told why */
		now = io_now_ns(e->env);
	}
}
