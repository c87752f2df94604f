/*
 * park.h - waiting: a futex on a shared word, and an adaptive spin before it.
 *
 * A futex wake to another core costs some 16 µs here, a spin 0.07 µs; so a waiter spins first, for as long as
 * spinning has paid off lately, then sleeps. With more runnable waiters than cores a spin only takes the core
 * from whoever would answer, so the budget falls to almost nothing when spins fail.
 */
#ifndef SHALE_SHM_PARK_H
#define SHALE_SHM_PARK_H

#include <stdatomic.h>
#include <time.h>

#include "shm/base.h"

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t monotonic_ns(void);

/*
 * Sleeps while *@word == @expected, at most @timeout_ns (UINT64_MAX: no limit). Shared between processes.
 * Returns 0 (woken, or the word differed, or a signal) or -ETIMEDOUT.
 */
int futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);

/* Wakes at most @count sleepers. Never blocks. */
void futex_wake(_Atomic uint32_t *word, int count);

/* An adaptive spin budget, private to one waiter. */
struct spinner {
	uint64_t budget_ns; /* how long the next wait spins */
	uint64_t max_ns;    /* upper bound */
	uint32_t misses;    /* since the whole budget was last tried */
};

void spinner_init(struct spinner *s, uint64_t max_ns);

/* Tells how the last wait went: answered while spinning after @waited_ns, or had to sleep. */
void spinner_hit(struct spinner *s, uint64_t waited_ns);
void spinner_miss(struct spinner *s);

#endif
