/*
 * table_cache.c - open tables by number: a hash for finding, a list for forgetting (least recently used last).
 *
 * The cache holds one reference of each table; dropping it closes the file only when nobody else reads it. Files are closed outside the lock.
 */
#include <pthread.h>
#include <stdlib.h>

#include "engine/table.h"
#include "shm/error.h"

struct cached_table {
	struct table *table;
	struct cached_table *chain;	    /* of its bucket */
	struct cached_table *newer, *older; /* circular through table_cache.uses */
};

struct table_cache {
	pthread_mutex_t lock; /* guards all below; innermost */
	unsigned capacity, count;
	unsigned bucket_count; /* power of two */
	struct cached_table **buckets;
	struct cached_table uses; /* list head: .older is the most recently used, .newer the least */
};

int table_cache_new(unsigned capacity, struct table_cache **out)
{
	struct table_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->bucket_count = 16;
	while (c->bucket_count < capacity && c->bucket_count < 1u << 20)
		c->bucket_count *= 2;
	c->buckets = calloc(c->bucket_count, sizeof(struct cached_table *));
	if (!c->buckets) {
		free(c);
		return -ENOMEM;
	}
	pthread_mutex_init(&c->lock, NULL);
	c->capacity = capacity;
	c->uses.newer = c->uses.older = &c->uses;
	*out = c;
	return 0;
}

/* The link that points at the entry of @number, or at the NULL that ends its chain. */
static struct cached_table **find(struct table_cache *c, uint64_t number)
{
	struct cached_table **link =
		&c->buckets[number & (c->bucket_count - 1)]; /* numbers are handed out one by one */

	while (*link && table_number((*link)->table) != number)
		link = &(*link)->chain;
	return link;
}

static void list_remove(struct cached_table *e)
{
	e->newer->older = e->older;
	e->older->newer = e->newer;
}

static void list_add_newest(struct table_cache *c, struct cached_table *e)
{
	e->newer = &c->uses;
	e->older = c->uses.older;
	e->older->newer = e;
	c->uses.older = e;
}

/* Takes the entry at @link out; the caller frees it once unlocked. */
static struct cached_table *take_out(struct table_cache *c, struct cached_table **link)
{
	struct cached_table *e = *link;

	*link = e->chain;
	list_remove(e);
	c->count--;
	return e;
}

static void entry_free(struct cached_table *e)
{
	if (!e)
		return;
	table_unref(e->table);
	free(e);
}

void table_cache_free(struct table_cache *c)
{
	if (!c)
		return;
	while (c->uses.older != &c->uses)
		entry_free(take_out(c, find(c, table_number(c->uses.older->table))));
	pthread_mutex_destroy(&c->lock);
	free(c->buckets);
	free(c);
}

struct table *table_cache_get(struct table_cache *c, uint64_t number)
{
	struct table *t = NULL;
	struct cached_table *e;

	pthread_mutex_lock(&c->lock);
	e = *find(c, number);
	if (e) {
		t = table_ref(e->table);
		if (c->uses.older != e) {
			list_remove(e);
			list_add_newest(c, e);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return t;
}

void table_cache_put(struct table_cache *c, struct table *t)
{
	struct cached_table *e, *oldest = NULL, **link;

	if (c->capacity == 0)
		return;
	e = malloc(sizeof(*e));
	if (!e)
		return; /* it is only a cache */
	pthread_mutex_lock(&c->lock);
	link = find(c, table_number(t));
	if (*link) {
		pthread_mutex_unlock(&c->lock);
		free(e);
		return;
	}
	e->table = table_ref(t);
	e->chain = NULL;
	*link = e;
	list_add_newest(c, e);
	if (++c->count > c->capacity)
		oldest = take_out(c, find(c, table_number(c->uses.newer->table)));
	pthread_mutex_unlock(&c->lock);
	entry_free(oldest);
}

void table_cache_drop(struct table_cache *c, uint64_t number)
{
	struct cached_table *e = NULL, **link;

	pthread_mutex_lock(&c->lock);
	link = find(c, number);
	if (*link)
		e = take_out(c, link);
	pthread_mutex_unlock(&c->lock);
	entry_free(e);
}

unsigned table_cache_count(struct table_cache *c)
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	n = c->count;
	pthread_mutex_unlock(&c->lock);
	return n;
}
