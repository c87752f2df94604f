/*
 * heap.c - a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986).
 *
 * A tree in which no member comes before its parent. Two trees are joined by making the one with the later root a child of the other. Where a
 * member is taken out, its children are joined in pairs, and the pairs one after the other from the last on: that is what bounds the work.
 *
 * Rejected: a binary heap in an array. It would have to grow, which can fail, just when a request begins to wait.
 */
#include "daemon/heap.h"

/* Both are roots that nothing points to. */
static struct heap_member *join(struct heap_member *a, struct heap_member *b)
{
	struct heap_member *late;

	if (!a || !b)
		return a ? a : b;
	late = a->key <= b->key ? b : a;
	a = late == b ? a : b;
	late->next = a->child;
	if (late->next)
		late->next->place = &late->next;
	late->place = &a->child;
	a->child = late;
	return a;
}

static struct heap_member *join_all(struct heap_member *m)
{
	struct heap_member *pairs = NULL, *all = NULL;

	while (m) {
		struct heap_member *a = m, *b = a->next, *pair;

		m = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		pair = join(a, b);
		pair->next = pairs;
		pairs = pair;
	}
	while (pairs) {
		m = pairs;
		pairs = m->next;
		m->next = NULL;
		all = join(all, m);
	}
	return all;
}

static void set_first(struct heap *h, struct heap_member *m)
{
	h->first = m;
	if (m)
		m->place = &h->first;
}

void heap_add(struct heap *h, struct heap_member *m, uint64_t key)
{
	assert(!m->place);
	*m = (struct heap_member){.key = key};
	set_first(h, join(h->first, m));
}

void heap_remove(struct heap *h, struct heap_member *m)
{
	struct heap_member *children;

	if (!m->place)
		return;
	*m->place = m->next;
	if (m->next)
		m->next->place = m->place;
	children = join_all(m->child);
	*m = (struct heap_member){0};
	set_first(h, join(h->first, children));
}
