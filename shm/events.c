/*
 * events.c - the region's table of recent events.
 *
 * A row is written over while somebody may be reading it, so it carries the number of its event: taken away before the first new word, put there after the
 * last, and looked at by the reader before and after its copy. The words are moved as on the stats page (region.c): release stores keep them behind the number's
 * going away, acquire loads keep them before the second look. Unlike there, a daemon that is killed in the middle costs one row, which is left out.
 */
#include <errno.h>
#include <stdio.h>

#include "shm/region.h"

enum { WORDS = sizeof(struct region_event) / sizeof(uint64_t) };
static_assert(sizeof(struct region_event) % sizeof(uint64_t) == 0, "rows are copied by words");
static_assert(offsetof(struct region_event, number) == 0, "the first word is the number");

/* The shared memory has no declared type and is accessed through these alone. */
static _Atomic uint64_t *row_words(const struct region *r, uint64_t number)
{
	return (_Atomic uint64_t *)&r->events->row[number % REGION_EVENTS];
}

void region_add_event(struct region *r, enum region_event_kind kind, unsigned severity, uint64_t realtime_ns,
		      const char *text)
{
	/* Relaxed: writers take turns. */
	uint64_t number = atomic_load_explicit(&r->events->newest, memory_order_relaxed) + 1;
	_Atomic uint64_t *words = row_words(r, number);
	struct region_event row = {.realtime_ns = realtime_ns, .kind = kind, .severity = severity};

	snprintf(row.text, sizeof(row.text), "%s", text);
	/* Relaxed: the release stores behind it carry it along. Pairs with the second look in region_read_event(). */
	atomic_store_explicit(&words[0], 0, memory_order_relaxed);
	for (unsigned i = 1; i < WORDS; i++)
		/* Release: the number's going away before any new word. Pairs with the acquire in region_read_event(). */
		atomic_store_explicit(&words[i], load_le64((const char *)&row + i * sizeof(uint64_t)),
				      memory_order_release);
	/* Release, both: the row before its number, that before the count which sends readers there. */
	atomic_store_explicit(&words[0], number, memory_order_release);
	atomic_store_explicit(&r->events->newest, number, memory_order_release);
}

uint64_t region_newest_event(const struct region *r)
{
	return atomic_load_explicit(&r->events->newest, memory_order_acquire);
}

int region_read_event(const struct region *r, uint64_t number, struct region_event *out)
{
	const _Atomic uint64_t *words = row_words(r, number);
	struct region_event row;

	/* Acquire: pairs with the release that ends region_add_event(). */
	if (!number || atomic_load_explicit(&words[0], memory_order_acquire) != number)
		return -ENOENT;
	row.number = number;
	for (unsigned i = 1; i < WORDS; i++)
		/* Acquire: who sees a word of a later event sees, below, that the number went away before it. */
		store_le64((char *)&row + i * sizeof(uint64_t), atomic_load_explicit(&words[i], memory_order_acquire));
	if (atomic_load_explicit(&words[0], memory_order_relaxed) != number)
		return -ENOENT;
	row.text[sizeof(row.text) - 1] = '\0'; /* whoever wrote the region */
	*out = row;
	return 0;
}
