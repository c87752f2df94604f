/*
 * merge_iter.c - many sorted iterators as one.
 *
 * A binary heap of the children that are positioned, ordered by (key, index of the child): a strict order even when two
 * children hold the same key, so that prev exactly undoes next. One heap serves both directions; @forward says which end of
 * the order is on top.
 *
 *	forward:  every child but the top stands on its first entry after the top's
 *	backward: every child but the top stands on its last entry before the top's
 *
 * Turning round re-establishes the other line by seeking every other child to the top's key; a turn is rare, so it may
 * cost what a seek costs. With two or three children a heap step is one or two comparisons, as a tournament would need,
 * which is why there is no special case for few, save one: a merge of one child is that child.
 *
 * A child's miss or failure ends the merge in that state. It is seen at the move that caused it, because only a move can cause one.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/ikey.h"
#include "engine/iter.h"

struct merge {
	struct iter base;
	unsigned count;	     /* children */
	unsigned heap_count; /* valid ones, in heap[] */
	bool forward;
	unsigned *heap; /* indices of children; inside the same allocation */
	struct iter *children[];
};

/* True when child @a comes before child @b in the direction of travel. Both are valid. */
static bool before(const struct merge *m, unsigned a, unsigned b)
{
	int c = ikey_compare(m->children[a]->key, m->children[b]->key);

	if (c == 0)
		return (a < b) == m->forward;
	return (c < 0) == m->forward;
}

static void sift_down(struct merge *m, unsigned at)
{
	unsigned moving = m->heap[at];

	for (;;) {
		unsigned child = 2 * at + 1;

		if (child >= m->heap_count)
			break;
		if (child + 1 < m->heap_count && before(m, m->heap[child + 1], m->heap[child]))
			child++;
		if (!before(m, m->heap[child], moving))
			break;
		m->heap[at] = m->heap[child];
		at = child;
	}
	m->heap[at] = moving;
}

static void stop(struct merge *m, int status)
{
	m->base.valid = false;
	m->base.status = status;
}

/* Shows the heap's top, or the end. */
static void publish(struct merge *m)
{
	if (m->heap_count) {
		const struct iter *top = m->children[m->heap[0]];

		m->base.valid = true;
		m->base.status = 0;
		m->base.key = top->key;
		m->base.value = top->value;
	} else {
		stop(m, 0);
	}
}

/* After every child was moved: a failure outweighs a miss, a miss outweighs the entries that others have. */
static void gather(struct merge *m)
{
	int status = 0;

	m->heap_count = 0;
	for (unsigned i = 0; i < m->count; i++) {
		const struct iter *child = m->children[i];

		if (child->valid)
			m->heap[m->heap_count++] = i;
		else if (child->status < 0 ? status >= 0 : child->status > 0 && status == 0)
			status = child->status;
	}
	if (status) {
		stop(m, status);
		return;
	}
	for (unsigned i = m->heap_count / 2; i-- > 0;)
		sift_down(m, i);
	publish(m);
}

/* After the top moved one step in the direction of travel. */
static void settle(struct merge *m)
{
	const struct iter *top = m->children[m->heap[0]];

	if (!top->valid) {
		if (top->status) {
			stop(m, top->status);
			return;
		}
		m->heap[0] = m->heap[--m->heap_count];
	}
	if (m->heap_count > 1)
		sift_down(m, 0);
	publish(m);
}

static void merge_seek_first(struct iter *it)
{
	struct merge *m = container_of(it, struct merge, base);

	m->forward = true;
	for (unsigned i = 0; i < m->count; i++)
		iter_seek_first(m->children[i]);
	gather(m);
}

static void merge_seek_last(struct iter *it)
{
	struct merge *m = container_of(it, struct merge, base);

	m->forward = false;
	for (unsigned i = 0; i < m->count; i++)
		iter_seek_last(m->children[i]);
	gather(m);
}

static void merge_seek(struct iter *it, struct slice ikey)
{
	struct merge *m = container_of(it, struct merge, base);

	m->forward = true;
	for (unsigned i = 0; i < m->count; i++)
		iter_seek(m->children[i], ikey);
	gather(m);
}

static void skip_equal(struct iter *child, struct slice key)
{
	while (child->valid && ikey_compare(child->key, key) == 0)
		iter_next(child);
}

/* Puts every child but @top on its first entry after the top's. */
static void turn_forward(struct merge *m, unsigned top)
{
	struct slice key = m->children[top]->key;

	for (unsigned i = 0; i < m->count; i++) {
		struct iter *child = m->children[i];

		if (i == top)
			continue;
		iter_seek(child, key);
		if (i < top)
			skip_equal(child, key); /* an equal entry of an earlier child lies before the top's */
	}
	m->forward = true;
}

/* Puts every child but @top on its last entry before the top's. */
static void turn_backward(struct merge *m, unsigned top)
{
	struct slice key = m->children[top]->key;

	for (unsigned i = 0; i < m->count; i++) {
		struct iter *child = m->children[i];

		if (i == top)
			continue;
		iter_seek(child, key);
		if (i < top)
			skip_equal(child, key);
		if (child->valid)
			iter_prev(child);
		else if (child->status == 0)
			iter_seek_last(child);
	}
	m->forward = false;
}

static void merge_next(struct iter *it)
{
	struct merge *m = container_of(it, struct merge, base);
	unsigned top = m->heap[0];

	assert(it->valid);
	if (m->forward) {
		iter_next(m->children[top]);
		settle(m);
	} else {
		turn_forward(m, top);
		iter_next(m->children[top]);
		gather(m);
	}
}

static void merge_prev(struct iter *it)
{
	struct merge *m = container_of(it, struct merge, base);
	unsigned top = m->heap[0];

	assert(it->valid);
	if (!m->forward) {
		iter_prev(m->children[top]);
		settle(m);
	} else {
		turn_backward(m, top);
		iter_prev(m->children[top]);
		gather(m);
	}
}

static void merge_free(struct iter *it)
{
	struct merge *m = container_of(it, struct merge, base);

	for (unsigned i = 0; i < m->count; i++)
		iter_free(m->children[i]);
	free(m);
}

static const struct iter_ops merge_ops = {
	.seek_first = merge_seek_first,
	.seek_last = merge_seek_last,
	.seek = merge_seek,
	.next = merge_next,
	.prev = merge_prev,
	.free = merge_free,
};

int merge_iter_new(struct iter **children, unsigned count, struct iter **out)
{
	struct merge *m;

	if (count == 1) {
		*out = children[0];
		return 0;
	}
	m = calloc(1, sizeof(*m) + count * (sizeof(struct iter *) + sizeof(unsigned)));
	if (!m) {
		for (unsigned i = 0; i < count; i++)
			iter_free(children[i]);
		return -ENOMEM;
	}
	m->base.ops = &merge_ops;
	m->count = count;
	m->forward = true;
	m->heap = (unsigned *)&m->children[count];
	if (count)
		memcpy(m->children, children, count * sizeof(struct iter *));
	*out = &m->base;
	return 0;
}
