/*
 * park.c - the futex calls and the spin budget.
 */
#include "shm/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	NS_PER_SECOND = 1000000000,
	SPIN_FLOOR_NS = 1000, /* less than this is no spin at all */
	SPIN_RETRY = 64,      /* misses after which the whole budget is tried again */
};

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

int futex_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
		.tv_nsec = (long)(timeout_ns % NS_PER_SECOND),
	};
	/* FUTEX_WAIT without PRIVATE: the waker is another process. Its timeout is relative and on CLOCK_MONOTONIC. */
	long rc = syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL, 0);

	return rc < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void futex_wake(_Atomic uint32_t *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

void spinner_init(struct spinner *s, uint64_t max_ns)
{
	s->max_ns = max_ns;
	s->budget_ns = max_ns;
	s->misses = 0;
}

void spinner_hit(struct spinner *s, uint64_t waited_ns)
{
	/* An answer near the end of the budget was luck: growing on it would follow a slow daemon upwards. */
	if (waited_ns > s->budget_ns / 2)
		return;
	s->budget_ns += s->budget_ns / 8 + 1;
	if (s->budget_ns > s->max_ns)
		s->budget_ns = s->max_ns;
}

void spinner_miss(struct spinner *s)
{
	const uint64_t floor_ns = s->max_ns < SPIN_FLOOR_NS ? s->max_ns : SPIN_FLOOR_NS;

	/*
	 * A budget below the usual answer's time never sees a hit and could not grow again. So the full one is tried
	 * now and then; when that fails too, it costs about twice max_ns per SPIN_RETRY sleeps.
	 */
	if (++s->misses >= SPIN_RETRY) {
		s->misses = 0;
		s->budget_ns = s->max_ns;
		return;
	}
	s->budget_ns /= 2;
	if (s->budget_ns < floor_ns)
		s->budget_ns = floor_ns;
}
