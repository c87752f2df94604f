/*
 * cache.c - the block cache.
 *
 *	shard   lock | hash buckets ─▶ chains of entries | entries[] = the clock's face | hand
 *
 * An entry's place in entries[] is its place on the clock. A hit sets `used` and moves nothing. To make room the hand goes
 * round: a used entry loses its mark and stays, an unmarked one goes. A new entry comes unmarked into a place the hand has just left or never
 * seen, so a scan's blocks, which nobody asks for twice, push out one another rather than what is hit.
 *
 * Locks: one mutex a shard, innermost of the engine's; nothing is freed under it, as far as VICTIMS reaches.
 */
#include "engine/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "shm/error.h"

enum {
	SHARDS_MAX = 16,
	SHARD_BYTES_MIN = 4 << 20, /* fewer shards rather than ones that a few large blocks fill */
	BUCKETS_MIN = 64,
	VICTIMS = 64,
	OVERHEAD = 64, /* charged per block for entry, chain and malloc */
};

#define NONE UINT32_MAX

struct cache_entry {
	uint64_t table, offset;
	struct block *block; /* NULL: a free place, linked by `next` */
	uint32_t next;	     /* in its hash chain */
	bool used;
};

struct shard {
	_Alignas(64) pthread_mutex_t lock; /* guards all below */
	uint32_t *buckets;
	uint32_t bucket_count; /* power of two, or 0 */
	struct cache_entry *entries;
	uint32_t entry_count, entry_cap; /* ever used; room */
	uint32_t free_head, hand;
	uint64_t blocks, bytes, capacity;
	uint64_t hits, misses, evicted;
};

struct block_cache {
	unsigned shard_count; /* power of two */
	struct shard shards[SHARDS_MAX];
};

/* Blocks to be released once the lock is: freeing under it would make others wait for malloc. */
struct victims {
	struct block *blocks[VICTIMS];
	unsigned count;
};

static void victim_add(struct victims *v, struct block *b)
{
	if (v->count < VICTIMS)
		v->blocks[v->count++] = b;
	else
		block_unref(b);
}

static void victims_release(struct victims *v)
{
	for (unsigned i = 0; i < v->count; i++)
		block_unref(v->blocks[i]);
}

static uint64_t charge(const struct block *b)
{
	return sizeof(*b) + b->size + OVERHEAD;
}

static uint64_t hash(uint64_t table, uint64_t offset)
{
	uint64_t h = (table * UINT64_C(0x9e3779b97f4a7c15)) ^ (offset * UINT64_C(0xc2b2ae3d27d4eb4f));

	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 32;
}

/* The shard by the hash's low bits, the bucket by higher ones. */
static struct shard *shard_of(struct block_cache *c, uint64_t h)
{
	return &c->shards[h & (c->shard_count - 1)];
}

static uint32_t bucket_of(const struct shard *s, uint64_t h)
{
	return (uint32_t)(h >> 8) & (s->bucket_count - 1);
}

int block_cache_new(size_t capacity_bytes, struct block_cache **out)
{
	struct block_cache *c = aligned_alloc(64, sizeof(*c));
	unsigned shards = 1;

	if (!c)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	while (shards < SHARDS_MAX && capacity_bytes / (shards * 2) >= SHARD_BYTES_MIN)
		shards *= 2;
	c->shard_count = shards;
	for (unsigned i = 0; i < shards; i++) {
		struct shard *s = &c->shards[i];

		pthread_mutex_init(&s->lock, NULL);
		s->capacity = capacity_bytes / shards;
		s->free_head = NONE;
	}
	*out = c;
	return 0;
}

void block_cache_free(struct block_cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->shard_count; i++) {
		struct shard *s = &c->shards[i];

		for (uint32_t e = 0; e < s->entry_count; e++)
			block_unref(s->entries[e].block);
		free(s->entries);
		free(s->buckets);
		pthread_mutex_destroy(&s->lock);
	}
	free(c);
}

/* ---- one shard, locked ---- */

static struct cache_entry *find(struct shard *s, uint64_t h, uint64_t table, uint64_t offset)
{
	if (s->bucket_count == 0)
		return NULL;
	for (uint32_t i = s->buckets[bucket_of(s, h)]; i != NONE; i = s->entries[i].next) {
		struct cache_entry *e = &s->entries[i];

		if (e->offset == offset && e->table == table)
			return e;
	}
	return NULL;
}

static void chain(struct shard *s, uint32_t i)
{
	uint32_t *head = &s->buckets[bucket_of(s, hash(s->entries[i].table, s->entries[i].offset))];

	s->entries[i].next = *head;
	*head = i;
}

static void unchain(struct shard *s, uint32_t i)
{
	uint32_t *link = &s->buckets[bucket_of(s, hash(s->entries[i].table, s->entries[i].offset))];

	while (*link != i)
		link = &s->entries[*link].next;
	*link = s->entries[i].next;
}

static void remove_entry(struct shard *s, uint32_t i, struct victims *victims)
{
	struct cache_entry *e = &s->entries[i];

	unchain(s, i);
	s->bytes -= charge(e->block);
	s->blocks--;
	victim_add(victims, e->block);
	e->block = NULL;
	e->next = s->free_head;
	s->free_head = i;
}

/* The hand goes round until @need more bytes fit; at most twice, since the first round takes all marks. */
static void make_room(struct shard *s, uint64_t need, struct victims *victims)
{
	while (s->bytes + need > s->capacity) {
		struct cache_entry *e;

		if (s->hand >= s->entry_count)
			s->hand = 0;
		e = &s->entries[s->hand];
		if (e->block && !e->used) {
			remove_entry(s, s->hand, victims);
			s->evicted++;
		}
		e->used = false;
		s->hand++;
	}
}

/* As many buckets as places, so that chains stay short. False: no memory, nothing changed. */
static bool grow(struct shard *s)
{
	uint32_t cap = s->entry_cap ? s->entry_cap * 2 : BUCKETS_MIN;
	struct cache_entry *entries;
	uint32_t *buckets;

	if (cap <= s->entry_cap)
		return false;
	buckets = malloc(cap * sizeof(*buckets));
	entries = realloc(s->entries, cap * sizeof(*entries));
	if (entries)
		s->entries = entries;
	if (!buckets || !entries) {
		free(buckets);
		return false;
	}
	memset(buckets, 0xff, cap * sizeof(*buckets)); /* NONE everywhere */
	free(s->buckets);
	s->buckets = buckets;
	s->bucket_count = cap;
	s->entry_cap = cap;
	for (uint32_t i = 0; i < s->entry_count; i++)
		if (s->entries[i].block)
			chain(s, i);
	return true;
}

static void insert(struct shard *s, uint64_t table, uint64_t offset, struct block *b)
{
	uint32_t i = s->free_head;

	if (i != NONE)
		s->free_head = s->entries[i].next;
	else if (s->entry_count < s->entry_cap || grow(s))
		i = s->entry_count++;
	else
		return;
	s->entries[i] = (struct cache_entry){.table = table, .offset = offset, .block = block_ref(b)};
	chain(s, i);
	s->bytes += charge(b);
	s->blocks++;
}

/* ---- all of it ---- */

struct block *block_cache_get(struct block_cache *c, uint64_t table, uint64_t offset)
{
	uint64_t h = hash(table, offset);
	struct shard *s = shard_of(c, h);
	struct block *b = NULL;
	struct cache_entry *e;

	pthread_mutex_lock(&s->lock);
	e = find(s, h, table, offset);
	if (e) {
		e->used = true;
		b = block_ref(e->block);
		s->hits++;
	} else {
		s->misses++;
	}
	pthread_mutex_unlock(&s->lock);
	return b;
}

bool block_cache_has(struct block_cache *c, uint64_t table, uint64_t offset)
{
	uint64_t h = hash(table, offset);
	struct shard *s = shard_of(c, h);
	bool there;

	pthread_mutex_lock(&s->lock);
	there = find(s, h, table, offset) != NULL;
	pthread_mutex_unlock(&s->lock);
	return there;
}

void block_cache_put(struct block_cache *c, uint64_t table, uint64_t offset, struct block *b)
{
	uint64_t h = hash(table, offset);
	struct shard *s = shard_of(c, h);
	struct victims victims = {.count = 0};

	pthread_mutex_lock(&s->lock);
	if (charge(b) <= s->capacity && !find(s, h, table, offset)) {
		make_room(s, charge(b), &victims);
		insert(s, table, offset, b);
	}
	pthread_mutex_unlock(&s->lock);
	victims_release(&victims);
}

void block_cache_drop_table(struct block_cache *c, uint64_t table)
{
	for (unsigned n = 0; n < c->shard_count; n++) {
		struct shard *s = &c->shards[n];
		struct victims victims = {.count = 0};

		pthread_mutex_lock(&s->lock);
		for (uint32_t i = 0; i < s->entry_count; i++)
			if (s->entries[i].block && s->entries[i].table == table)
				remove_entry(s, i, &victims);
		pthread_mutex_unlock(&s->lock);
		victims_release(&victims);
	}
}

void block_cache_stats(struct block_cache *c, struct block_cache_stats *out)
{
	struct block_cache_stats sum = {0};

	for (unsigned i = 0; i < c->shard_count; i++) {
		struct shard *s = &c->shards[i];

		pthread_mutex_lock(&s->lock);
		sum.bytes += s->bytes;
		sum.capacity += s->capacity;
		sum.blocks += s->blocks;
		sum.hits += s->hits;
		sum.misses += s->misses;
		sum.evicted += s->evicted;
		pthread_mutex_unlock(&s->lock);
	}
	*out = sum;
}
