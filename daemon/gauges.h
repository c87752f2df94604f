/*
 * gauges.h - what can only be learnt by asking somebody who may take his time: the file system how much room it has, the allocator how much memory is in use.
 *
 * The service thread may not wait, so a worker asks for it, when the service says that the numbers are old; with no work to do the daemon says nothing, and
 * sleeps.
 */
#ifndef SHALE_DAEMON_GAUGES_H
#define SHALE_DAEMON_GAUGES_H

#include <stdatomic.h>

#include "shm/layout.h"

struct workers;

struct gauges {
	int dirfd;		 /* of the database; borrowed */
	struct workers *workers; /* to be woken; borrowed */
	_Atomic bool due;
	/* Relaxed: single numbers, of which nobody concludes anything about another. */
	_Atomic uint64_t disk_free, disk_size, heap_allocated, heap_resident, measured_ns;
};

/* Measures now: any thread that may wait for a file system, one at a time. */
void gauges_measure(struct gauges *g);

/* A worker, before it rests: somebody wants new numbers. */
static inline bool gauges_due(const struct gauges *g)
{
	return g && atomic_load_explicit(&g->due, memory_order_seq_cst);
}

/* The service thread: what is known, into the stats page; old numbers are asked for anew. NULL is fine. */
void gauges_fill(struct gauges *g, uint64_t now_ns, struct region_stats *st);

#endif
