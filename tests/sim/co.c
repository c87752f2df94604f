#include "tests/sim/co.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

enum { STACK = 512 << 10, POOL = 8 };

struct co {
	ucontext_t here, back;
	void (*run)(void *arg);
	void *arg;
	unsigned char *stack;
	bool began, ended;
	void *fake, *caller_fake; /* AddressSanitizer's */
	const void *caller_stack;
	size_t caller_size;
	void *fiber, *caller_fiber; /* ThreadSanitizer's */
};

static struct co *current;
static unsigned char *pool[POOL];
static unsigned pooled;

/* ---- what sanitizers want to know of a switch ---- */

static void leave_for_inside(struct co *c)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(&c->caller_fake, c->stack, STACK);
#endif
#if defined(__SANITIZE_THREAD__)
	c->caller_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(c->fiber, 0);
#endif
	(void)c;
}

static void back_outside(struct co *c)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(c->caller_fake, NULL, NULL);
#endif
	(void)c;
}

static void arrived_inside(struct co *c)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(c->fake, &c->caller_stack, &c->caller_size);
#endif
	(void)c;
}

static void leave_for_outside(struct co *c)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(c->ended ? NULL : &c->fake, c->caller_stack, c->caller_size);
#endif
#if defined(__SANITIZE_THREAD__)
	__tsan_switch_to_fiber(c->caller_fiber, 0);
#endif
	(void)c;
}

/* ---- switching ---- */

static void entry(void)
{
	struct co *c = current;

	arrived_inside(c);
	c->run(c->arg);
	c->ended = true;
	leave_for_outside(c);
	setcontext(&c->back);
	abort();
}

struct co *co_new(void (*run)(void *arg), void *arg)
{
	struct co *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	c->run = run;
	c->arg = arg;
	if (pooled)
		c->stack = pool[--pooled];
	else
		c->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->stack == MAP_FAILED)
		abort();
#if defined(__SANITIZE_ADDRESS__)
	__asan_unpoison_memory_region(c->stack, STACK);
#endif
#if defined(__SANITIZE_THREAD__)
	c->fiber = __tsan_create_fiber(0);
#endif
	getcontext(&c->here);
	c->here.uc_stack.ss_sp = c->stack;
	c->here.uc_stack.ss_size = STACK;
	makecontext(&c->here, entry, 0);
	return c;
}

void co_resume(struct co *c)
{
	assert(!current && !c->ended);
	current = c;
	c->began = true;
	leave_for_inside(c);
	swapcontext(&c->back, &c->here);
	back_outside(c);
	current = NULL;
}

void co_yield(void)
{
	struct co *c = current;

	assert(c);
	leave_for_outside(c);
	swapcontext(&c->here, &c->back);
	arrived_inside(c);
}

bool co_inside(void)
{
	return current != NULL;
}

bool co_ended(const struct co *c)
{
	return c->ended;
}

void co_free(struct co *c)
{
	if (!c)
		return;
	assert(c->ended || !c->began);
#if defined(__SANITIZE_THREAD__)
	__tsan_destroy_fiber(c->fiber);
#endif
	if (pooled < POOL)
		pool[pooled++] = c->stack;
	else
		munmap(c->stack, STACK);
	free(c);
}
