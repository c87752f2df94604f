/*
 * heap.h - what comes first: a pairing heap of members that live inside structs.
 *
 * To add is O(1), to take the first or any other O(log n), amortized; nothing is allocated. A member that is in no heap is all zero.
 */
#ifndef SHALE_DAEMON_HEAP_H
#define SHALE_DAEMON_HEAP_H

#include "shm/base.h"

struct heap_member {
	uint64_t key;
	struct heap_member *child;  /* the first of those that come later than this one */
	struct heap_member *next;   /* sibling */
	struct heap_member **place; /* what points to this one: heap.first, a child or a next; NULL: it is in no heap */
};

struct heap {
	struct heap_member *first; /* with the smallest key; NULL: empty */
};

void heap_add(struct heap *h, struct heap_member *m, uint64_t key);

/* Harmless when @m is in no heap. */
void heap_remove(struct heap *h, struct heap_member *m);

#endif
