/*
 * queue_areas.c - which parts of a queue's arena are taken.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/queue.h"

void areas_reset(struct shale_queue *q)
{
	size_t slots = min_size(q->in_flight_limit, q->ch.arena_size / 2 / QUEUE_SLOT);

	q->slot_count = q->slots_free = (uint32_t)slots;
	q->slots_end = slots * QUEUE_SLOT;
	q->extent_count = 0;
	for (uint32_t i = 0; i < q->slot_count; i++)
		q->slots[i] = q->slot_count - 1 - i;
}

size_t area_max(const struct shale_queue *q)
{
	return q->ch.arena_size - q->slots_end;
}

/* The first gap between extents that is large enough. */
static bool extent_take(struct shale_queue *q, size_t size, struct area *out)
{
	size_t off = q->slots_end;
	uint32_t i;

	for (i = 0; i < q->extent_count; i++) {
		if (q->extents[i].off - off >= size)
			break;
		off = q->extents[i].off + q->extents[i].size;
	}
	if (q->ch.arena_size - off < size)
		return false;
	memmove(&q->extents[i + 1], &q->extents[i], (q->extent_count - i) * sizeof(q->extents[0]));
	q->extents[i] = *out = (struct area){off, size};
	q->extent_count++;
	return true;
}

bool area_take(struct shale_queue *q, size_t size, struct area *out)
{
	if (likely(size <= QUEUE_SLOT && q->slots_free > 0)) {
		*out = (struct area){(size_t)q->slots[--q->slots_free] * QUEUE_SLOT, QUEUE_SLOT};
		return true;
	}
	return extent_take(q, align_up(max_size(size, SHM_LINE), SHM_LINE), out);
}

void area_give(struct shale_queue *q, struct area *area)
{
	uint32_t i = 0;

	if (area->size == 0)
		return;
	if (likely(area->off < q->slots_end)) {
		q->slots[q->slots_free++] = (uint32_t)(area->off / QUEUE_SLOT);
	} else {
		while (q->extents[i].off != area->off)
			i++;
		q->extent_count--;
		memmove(&q->extents[i], &q->extents[i + 1], (q->extent_count - i) * sizeof(q->extents[0]));
	}
	area->size = 0;
}
