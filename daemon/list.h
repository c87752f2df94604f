/* list.h - a doubly linked list of members that live inside structs. A head or member that is in no list points to itself. */
#ifndef SHALE_DAEMON_LIST_H
#define SHALE_DAEMON_LIST_H

#include "shm/base.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Also: puts @l before @head, whatever @head is. */
static inline void list_push_back(struct list *head, struct list *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

/* Harmless when @l is in no list. */
static inline void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

/* NULL when empty. */
static inline struct list *list_pop(struct list *head)
{
	struct list *l = head->next;

	if (l == head)
		return NULL;
	list_remove(l);
	return l;
}

#endif
