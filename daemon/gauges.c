#include "daemon/gauges.h"

#include <sys/statvfs.h>

#include "daemon/worker.h"
#include "shm/park.h"

static const uint64_t OLD_NS = UINT64_C(5000000000);

/* jemalloc's, where it is linked. */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new_value, size_t new_len) __attribute__((weak));

static uint64_t heap(const char *name)
{
	size_t value = 0, size = sizeof(value);

	return mallctl && mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

void gauges_measure(struct gauges *g)
{
	uint64_t epoch = 1;
	struct statvfs fs;

	/* Before the look: whoever asks from now on gets another one. */
	atomic_store_explicit(&g->due, false, memory_order_seq_cst);
	if (fstatvfs(g->dirfd, &fs) == 0) {
		atomic_store_explicit(&g->disk_free, (uint64_t)fs.f_bavail * fs.f_frsize, memory_order_relaxed);
		atomic_store_explicit(&g->disk_size, (uint64_t)fs.f_blocks * fs.f_frsize, memory_order_relaxed);
	}
	if (mallctl)
		mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	atomic_store_explicit(&g->heap_allocated, heap("stats.allocated"), memory_order_relaxed);
	atomic_store_explicit(&g->heap_resident, heap("stats.resident"), memory_order_relaxed);
	atomic_store_explicit(&g->measured_ns, monotonic_ns(), memory_order_relaxed);
}

void gauges_fill(struct gauges *g, uint64_t now_ns, struct region_stats *st)
{
	if (!g)
		return;
	st->disk_free = atomic_load_explicit(&g->disk_free, memory_order_relaxed);
	st->disk_size = atomic_load_explicit(&g->disk_size, memory_order_relaxed);
	st->heap_allocated = atomic_load_explicit(&g->heap_allocated, memory_order_relaxed);
	st->heap_resident = atomic_load_explicit(&g->heap_resident, memory_order_relaxed);
	st->measured_monotonic_ns = atomic_load_explicit(&g->measured_ns, memory_order_relaxed);
	if (now_ns < st->measured_monotonic_ns + OLD_NS || atomic_load_explicit(&g->due, memory_order_relaxed))
		return;
	/* seq_cst, and before the call: pairs with the worker's look at `due` after it has read the count of calls. */
	atomic_store_explicit(&g->due, true, memory_order_seq_cst);
	workers_wake(g->workers);
}
