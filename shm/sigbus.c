/*
 * sigbus.c - the table of guarded ranges and the handler.
 *
 * A slot is taken and given back by the service thread; the handler reads slots on any thread. base is what makes a
 * slot live: it is stored last by add (release) and cleared first by remove, so that a handler that sees a base sees
 * the size and the cleared flag that belong to it.
 */
#include "shm/sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GUARD_SLOTS = 8192 };

struct guard {
	_Atomic uintptr_t base; /* 0: free */
	_Atomic size_t size;
	_Atomic uint32_t broken;
};

static struct guard guards[GUARD_SLOTS];
static uint32_t maybe_free;	     /* no slot below this one is free: where to look. The service thread's */
static _Atomic uint32_t guards_used; /* slots below this have been used at some time; only grows */

static struct guard *guard_of(uintptr_t addr)
{
	/* Acquire: pairs with the release in sigbus_guard_add(). */
	uint32_t used = atomic_load_explicit(&guards_used, memory_order_acquire);

	for (uint32_t i = 0; i < used; i++) {
		/* Acquire: pairs with the release of base in sigbus_guard_add(). */
		uintptr_t base = atomic_load_explicit(&guards[i].base, memory_order_acquire);
		size_t size = atomic_load_explicit(&guards[i].size, memory_order_relaxed);

		if (base && addr >= base && addr - base < size)
			return &guards[i];
	}
	return NULL;
}

/*
 * Private zero pages over the whole range, so that no other page of it faults either. A bare system call: signal-safe.
 */
static bool map_zeros(struct guard *g)
{
	long rc = syscall(SYS_mmap, atomic_load_explicit(&g->base, memory_order_relaxed),
			  atomic_load_explicit(&g->size, memory_order_relaxed), PROT_READ | PROT_WRITE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return rc != -1;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	struct guard *g = info->si_code > 0 ? guard_of((uintptr_t)info->si_addr) : NULL;

	(void)context;
	if (g && map_zeros(g)) {
		/* Release: pairs with the acquire in sigbus_guard_broken(). */
		atomic_store_explicit(&g->broken, 1, memory_order_release);
	} else {
		struct sigaction act = {.sa_handler = SIG_DFL};

		/*
		 * A real fault: on return the instruction runs again and ends the process as it would have without us.
		 */
		sigaction(signo, &act, NULL);
		if (info->si_code <= 0)
			raise(signo); /* sent by somebody: nothing would run again */
	}
	errno = saved_errno;
}

int sigbus_guard_install(void)
{
	/* NODEFER: a second fault inside the handler ends the process instead of hanging it. */
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&act.sa_mask);
	return sigaction(SIGBUS, &act, NULL) < 0 ? -errno : 0;
}

int sigbus_guard_add(void *base, size_t size)
{
	uint32_t used = atomic_load_explicit(&guards_used, memory_order_relaxed);
	uint32_t i = maybe_free;

	assert(base && size);
	while (i < used && atomic_load_explicit(&guards[i].base, memory_order_relaxed))
		i++;
	if (i == GUARD_SLOTS)
		return -ENOSPC;
	atomic_store_explicit(&guards[i].size, size, memory_order_relaxed);
	atomic_store_explicit(&guards[i].broken, 0, memory_order_relaxed);
	/* Release, both: size and flag before base, base before the count. Pair with the acquires in guard_of(). */
	atomic_store_explicit(&guards[i].base, (uintptr_t)base, memory_order_release);
	if (i == used)
		atomic_store_explicit(&guards_used, used + 1, memory_order_release);
	maybe_free = i + 1;
	return (int)i;
}

bool sigbus_guard_broken(int slot)
{
	assert(slot >= 0 && slot < GUARD_SLOTS);
	/* Acquire: pairs with the release in on_sigbus(). */
	return atomic_load_explicit(&guards[slot].broken, memory_order_acquire) != 0;
}

void sigbus_guard_remove(int slot)
{
	assert(slot >= 0 && slot < GUARD_SLOTS);
	atomic_store_explicit(&guards[slot].base, 0, memory_order_relaxed);
	if ((uint32_t)slot < maybe_free)
		maybe_free = (uint32_t)slot;
}
