/*
 * co.c - two stacks, one thread.
 *
 * swapcontext() would do, and does on other machines; but it makes two system calls, and under AddressSanitizer it is intercepted, which clears the shadow of the whole stack
 * at every switch. So where we know how, a switch is a few instructions: save what a callee must preserve, change the stack pointer, restore.
 */
#include "tests/sim/co.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

/* Where somebody goes on. */
struct place {
#if defined(__x86_64__)
	void *sp;
#else
	ucontext_t context;
#endif
};

struct co {
	struct place here, back;
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

static void run_current(void);

#if defined(__x86_64__)

void co_switch(void **save, void *to);

/* What System V's ABI has a callee preserve, pushed on the stack that is left; the return address is there already. */
__asm__(".text\n"
	".globl co_switch\n"
	".hidden co_switch\n"
	".type co_switch, @function\n"
	"co_switch:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size co_switch, .-co_switch\n");

static void place_init(struct place *p, unsigned char *stack, size_t size)
{
	void **top = (void **)(stack + size) - 10;

	/* Six registers, then the address that `ret` goes to, then a frame that nobody returns to; 16-byte aligned as after a call. */
	memset(top, 0, 10 * sizeof(*top));
	top[6] = (void *)run_current;
	p->sp = top;
}

static void place_switch(struct place *from, struct place *to)
{
	co_switch(&from->sp, to->sp);
}

#else

static void place_init(struct place *p, unsigned char *stack, size_t size)
{
	getcontext(&p->context);
	p->context.uc_stack.ss_sp = stack;
	p->context.uc_stack.ss_size = size;
	makecontext(&p->context, run_current, 0);
}

static void place_switch(struct place *from, struct place *to)
{
	swapcontext(&from->context, &to->context);
}

#endif

/* The first frame of every coroutine. */
static void run_current(void)
{
	struct co *c = current;

	arrived_inside(c);
	c->run(c->arg);
	c->ended = true;
	leave_for_outside(c);
	place_switch(&c->here, &c->back);
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
	place_init(&c->here, c->stack, STACK);
	return c;
}

void co_resume(struct co *c)
{
	assert(!current && !c->ended);
	current = c;
	c->began = true;
	leave_for_inside(c);
	place_switch(&c->back, &c->here);
	back_outside(c);
	current = NULL;
}

void co_yield (void)
{
	struct co *c = current;

	assert(c);
	leave_for_outside(c);
	place_switch(&c->here, &c->back);
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
