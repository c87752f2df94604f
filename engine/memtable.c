/*
 * memtable.c - the skiplist, its nodes, and a filter that answers most misses.
 *
 *	arena   0       64          64 + filter            head                                    used
 *	        │ empty │ filter    │ 12 links of the head │ node │ node │ …                       │ free …
 *
 *	node    link[height-1] … link[1] link[0] │ key size │ value size │ user key │ trailer │ value
 *	        4 bytes each, before the offset  ▲ 4          4            internal key: an iterator shows it in place
 *	                                         └ the node's offset
 *
 * Links stand before the node and the key right behind its sizes, so that a step of a search touches one or two cache lines: link,
 * sizes and the first bytes of the key lie together whatever the height.
 *
 * 1. An offset is 4-byte aligned; 0 means none. Offsets below 64 name nothing.
 * 2. A node's bytes never change after it is linked, but for its links.
 * 3. A node is linked from level 0 upwards by release stores, so who finds it (acquire) sees it whole.
 * 4. A key's filter bits are set before the node is linked. A reader takes its sequence (acquire) after the writer published it
 *    (release), so bits of every entry that it may see are there: a clear bit is proof of absence.
 *
 * Most writes of a bulk load come in key order: the writer remembers the predecessors of its last insert, and when the new key belongs
 * right behind that one, no search is made.
 */
#include "engine/memtable.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shm/error.h"
#include "shm/hash.h"

enum {
	MAX_HEIGHT = 12,
	HEAD_LINKS = MAX_HEIGHT * 4,
	NODE_SIZES = 8,
	ARENA_START = 64,
	FILTER_SHARE = 64, /* one byte of filter for so many of arena: 8 bits a key at about 64 bytes an entry */
	FILTER_MIN = 64,
	FILTER_MAX = 8 << 20,
	NODE_OVERHEAD = HEAD_LINKS + NODE_SIZES + IKEY_TRAILER + 3, /* at most, with padding */
};

static const size_t ARENA_MAX = ((size_t)1 << 32) - 4096;

struct memtable {
	/* constant */
	unsigned char *base;
	size_t size;
	uint64_t filter_mask; /* words of filter - 1 */
	uint32_t head;
	uint64_t log_number;
	struct memory_provider *provider;
	_Atomic unsigned refs;

	/* the writer's; others read used, entries and height as hints */
	_Alignas(64) _Atomic size_t used;
	_Atomic uint64_t entries;
	_Atomic unsigned height; /* levels in use. Relaxed: a reader that sees an old one only starts lower */
	uint64_t random;
	uint32_t last;		   /* last node inserted, 0: none */
	unsigned last_height;	   /* of it */
	uint32_t prev[MAX_HEIGHT]; /* its predecessors */
};

/* ---- memory ---- */

static void *anonymous_map(struct memory_provider *p, size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)p;
	return base == MAP_FAILED ? NULL : base;
}

static void anonymous_unmap(struct memory_provider *p, void *base, size_t size)
{
	(void)p;
	munmap(base, size);
}

struct memory_provider memory_provider_anonymous = {anonymous_map, anonymous_unmap};

/* Largest power of two that is at most the filter's share of @capacity. */
static size_t filter_bytes(size_t capacity)
{
	size_t n = FILTER_MIN;

	while (n < FILTER_MAX && n * 2 <= capacity / FILTER_SHARE)
		n *= 2;
	return n;
}

static size_t entries_space(uint32_t count, size_t key_bytes, size_t value_bytes)
{
	return (size_t)count * NODE_OVERHEAD + key_bytes + value_bytes;
}

size_t memtable_space(uint32_t count, size_t key_bytes, size_t value_bytes)
{
	size_t entries = ARENA_START + FILTER_MIN + HEAD_LINKS + entries_space(count, key_bytes, value_bytes);

	return align_up(entries + entries / (FILTER_SHARE - 1) + 1, 4096);
}

int memtable_new(struct memory_provider *p, size_t capacity, uint64_t log_number, struct memtable **out)
{
	size_t filter;
	struct memtable *m;

	if (capacity > ARENA_MAX)
		return -E2BIG;
	m = aligned_alloc(64, align_up(sizeof(*m), 64));
	if (!m)
		return -ENOMEM;
	memset(m, 0, sizeof(*m));
	m->size = align_up(max_size(capacity, 4096), 4096);
	m->base = p->map(p, m->size);
	if (!m->base) {
		free(m);
		return -ENOMEM;
	}
	filter = filter_bytes(m->size);
	m->filter_mask = filter / 8 - 1;
	m->head = (uint32_t)(ARENA_START + filter + HEAD_LINKS);
	m->provider = p;
	m->log_number = log_number;
	m->random = (log_number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
	atomic_init(&m->refs, 1);
	atomic_init(&m->used, m->head);
	atomic_init(&m->height, 1);
	*out = m;
	return 0;
}

struct memtable *memtable_ref(struct memtable *m)
{
	/* Relaxed: whoever refs holds a reference already. */
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

bool memtable_let_go(struct memtable *m)
{
	/* Release: our reads are over; acquire in the last one: so are everybody's. Pairs with itself. */
	return atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1;
}

void memtable_free(struct memtable *m)
{
	m->provider->unmap(m->provider, m->base, m->size);
	free(m);
}

void memtable_unref(struct memtable *m)
{
	if (m && memtable_let_go(m))
		memtable_free(m);
}

/* ---- nodes ---- */

static inline _Atomic uint32_t *link_at(const struct memtable *m, uint32_t node, unsigned level)
{
	return (_Atomic uint32_t *)(m->base + node) - (level + 1);
}

/* Pairs with the release in link_node. */
static inline uint32_t next_of(const struct memtable *m, uint32_t node, unsigned level)
{
	return atomic_load_explicit(link_at(m, node, level), memory_order_acquire);
}

static inline struct slice node_user(const struct memtable *m, uint32_t node)
{
	return slice_of(m->base + node + NODE_SIZES, load_le32(m->base + node));
}

static inline struct slice node_key(const struct memtable *m, uint32_t node)
{
	return slice_of(m->base + node + NODE_SIZES, (size_t)load_le32(m->base + node) + IKEY_TRAILER);
}

static inline struct slice node_value(const struct memtable *m, uint32_t node)
{
	struct slice key = node_key(m, node);

	return slice_of(key.data + key.size, load_le32(m->base + node + 4));
}

static inline void prefetch_node(const struct memtable *m, uint32_t node)
{
	__builtin_prefetch(m->base + node);
	__builtin_prefetch(m->base + node + 32);
}

static inline uint64_t load_be64(const unsigned char *p)
{
	return __builtin_bswap64(load_le64(p));
}

/* memcmp of @n bytes, without the call: keys are short, and this is the inner loop. */
static inline int compare_bytes(const unsigned char *a, const unsigned char *b, size_t n)
{
	while (n >= 8) {
		uint64_t x = load_be64(a), y = load_be64(b);

		if (x != y)
			return x < y ? -1 : 1;
		a += 8;
		b += 8;
		n -= 8;
	}
	for (; n; n--, a++, b++)
		if (*a != *b)
			return *a < *b ? -1 : 1;
	return 0;
}

/* Where @node stands against the internal key (@user, @trailer): as ikey_compare. */
static inline int compare_node(const struct memtable *m, uint32_t node, struct slice user, uint64_t trailer)
{
	struct slice k = node_user(m, node);
	int c = compare_bytes(k.data, user.data, min_size(k.size, user.size));
	uint64_t t;

	if (c)
		return c;
	if (k.size != user.size)
		return k.size < user.size ? -1 : 1;
	t = load_le64(k.data + k.size);
	return (t < trailer) - (t > trailer);
}

/* ---- searching ---- */

/* The first node >= (@user, @trailer), 0: none. @prev (may be NULL) gets the last node before it on each level in use. */
static inline uint32_t search(const struct memtable *m, struct slice user, uint64_t trailer, uint32_t *prev)
{
	unsigned level = atomic_load_explicit(&m->height, memory_order_relaxed) - 1;
	uint32_t at = m->head, beyond = 0;

	for (;;) {
		uint32_t next = next_of(m, at, level);

		/* While the key is compared, fetch where the search goes if it is too far. Not acquired: only an address. */
		if (level)
			prefetch_node(m, atomic_load_explicit(link_at(m, at, level - 1), memory_order_relaxed));
		/* A node that was too far one level up is too far here. */
		if (next && next != beyond && compare_node(m, next, user, trailer) < 0) {
			at = next;
			continue;
		}
		if (prev)
			prev[level] = at;
		if (!level)
			return next;
		beyond = next;
		level--;
	}
}

/* The last node, or the last before (@user, @trailer) when @user is given; 0: none. */
static uint32_t search_before(const struct memtable *m, const struct slice *user, uint64_t trailer)
{
	unsigned level = atomic_load_explicit(&m->height, memory_order_relaxed) - 1;
	uint32_t at = m->head;

	for (;;) {
		uint32_t next = next_of(m, at, level);

		if (next && (!user || compare_node(m, next, *user, trailer) < 0))
			at = next;
		else if (level)
			level--;
		else
			return at == m->head ? 0 : at;
	}
}

/* ---- the filter ---- */

/* A key has four bits in one word: one cache line tells. */
static inline uint64_t filter_bits(uint64_t hash)
{
	return UINT64_C(1) << (hash & 63) | UINT64_C(1) << (hash >> 6 & 63) | UINT64_C(1) << (hash >> 12 & 63) |
	       UINT64_C(1) << (hash >> 18 & 63);
}

static inline _Atomic uint64_t *filter_word(const struct memtable *m, uint64_t hash)
{
	return (_Atomic uint64_t *)(m->base + ARENA_START) + (hash >> 32 & m->filter_mask);
}

/* Relaxed, here and in filter_may_hold: invariant 4. */
static void filter_add(struct memtable *m, uint64_t hash)
{
	_Atomic uint64_t *word = filter_word(m, hash);
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	atomic_store_explicit(word, old | filter_bits(hash), memory_order_relaxed);
}

static bool filter_may_hold(const struct memtable *m, uint64_t hash)
{
	uint64_t bits = filter_bits(hash);

	return (atomic_load_explicit(filter_word(m, hash), memory_order_relaxed) & bits) == bits;
}

/* ---- writing ---- */

bool memtable_has_room(const struct memtable *m, uint32_t count, size_t key_bytes, size_t value_bytes)
{
	return entries_space(count, key_bytes, value_bytes) <= m->size - memtable_used(m);
}

/* 1 with probability 3/4, 2 with 3/16, … */
static unsigned random_height(struct memtable *m)
{
	uint64_t x = m->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	m->random = x;
	return 1 + (unsigned)__builtin_ctzll(x >> 20 | UINT64_C(1) << (2 * (MAX_HEIGHT - 1))) / 2;
}

static uint32_t make_node(struct memtable *m, unsigned height, uint64_t trailer, struct slice user, struct slice value)
{
	size_t used = memtable_used(m);
	size_t node = align_up(used, 4) + 4 * height;
	unsigned char *p = m->base + node;

	assert(node + NODE_SIZES + user.size + IKEY_TRAILER + value.size <= m->size);
	store_le32(p, (uint32_t)user.size);
	store_le32(p + 4, (uint32_t)value.size);
	p += NODE_SIZES;
	if (user.size)
		memcpy(p, user.data, user.size);
	p += user.size;
	store_le64(p, trailer);
	p += IKEY_TRAILER;
	if (value.size)
		memcpy(p, value.data, value.size);
	p += value.size;
	atomic_store_explicit(&m->used, (size_t)(p - m->base), memory_order_relaxed);
	return (uint32_t)node;
}

/* Fills m->prev for the place of the new key. */
static void find_place(struct memtable *m, struct slice user, uint64_t trailer)
{
	uint32_t next;

	if (m->last && compare_node(m, m->last, user, trailer) < 0) {
		next = next_of(m, m->last, 0);
		if (!next || compare_node(m, next, user, trailer) > 0) {
			/* Right behind the last one: no node of any level lies between. */
			for (unsigned level = 0; level < m->last_height; level++)
				m->prev[level] = m->last;
			return;
		}
	}
	next = search(m, user, trailer, m->prev);
	assert(!next || compare_node(m, next, user, trailer));
}

static void link_node(struct memtable *m, uint32_t node, unsigned height)
{
	for (unsigned level = 0; level < height; level++) {
		uint32_t next = next_of(m, m->prev[level], level);

		atomic_store_explicit(link_at(m, node, level), next, memory_order_relaxed);
		/* Release: the node's bytes and its link of this level before it can be found. Pairs with next_of. */
		atomic_store_explicit(link_at(m, m->prev[level], level), node, memory_order_release);
	}
}

void memtable_add(struct memtable *m, uint64_t sequence, unsigned type, struct slice user_key, struct slice value)
{
	uint64_t trailer = ikey_pack(sequence, type);
	unsigned height = random_height(m);
	unsigned levels = atomic_load_explicit(&m->height, memory_order_relaxed);
	uint32_t node;

	find_place(m, user_key, trailer);
	for (; levels < height; levels++)
		m->prev[levels] = m->head;
	atomic_store_explicit(&m->height, levels, memory_order_relaxed);
	node = make_node(m, height, trailer, user_key, value);
	filter_add(m, hash_key(user_key));
	link_node(m, node, height);
	m->last = node;
	m->last_height = height;
	/* One writer: a plain addition is enough. */
	atomic_store_explicit(&m->entries, memtable_entries(m) + 1, memory_order_relaxed);
}

/* ---- reading ---- */

int memtable_get(const struct memtable *m, struct slice user_key, uint64_t sequence, struct slice *value_out,
		 uint64_t *entry_out)
{
	struct slice found;
	uint32_t node;

	if (!filter_may_hold(m, hash_key(user_key)))
		return MEMTABLE_ABSENT;
	node = search(m, user_key, ikey_pack(sequence, IKEY_SEEK), NULL);
	if (!node || !slice_equal(node_user(m, node), user_key))
		return MEMTABLE_ABSENT;
	found = node_key(m, node);
	if (ikey_kind(found) == IKEY_DELETION)
		return SHALE_NOTFOUND;
	*value_out = node_value(m, node);
	if (entry_out)
		*entry_out = ikey_sequence(found);
	return 0;
}

struct memtable_iter {
	struct iter base;
	struct memtable *m;
	uint32_t node;
};

static struct memtable_iter *memtable_iter(struct iter *it)
{
	return container_of(it, struct memtable_iter, base);
}

static void show(struct memtable_iter *it, uint32_t node)
{
	it->node = node;
	it->base.valid = node != 0;
	if (node) {
		it->base.key = node_key(it->m, node);
		it->base.value = node_value(it->m, node);
	}
}

static void iter_to_first(struct iter *base)
{
	struct memtable_iter *it = memtable_iter(base);

	show(it, next_of(it->m, it->m->head, 0));
}

static void iter_to_last(struct iter *base)
{
	struct memtable_iter *it = memtable_iter(base);

	show(it, search_before(it->m, NULL, 0));
}

static void iter_to_key(struct iter *base, struct slice ikey)
{
	struct memtable_iter *it = memtable_iter(base);

	show(it, search(it->m, ikey_user(ikey), ikey_trailer(ikey), NULL));
}

static void iter_to_next(struct iter *base)
{
	struct memtable_iter *it = memtable_iter(base);
	uint32_t node = next_of(it->m, it->node, 0);

	show(it, node);
	/* A flush walks all: have the next on its way while the caller looks at this one. */
	if (node)
		prefetch_node(it->m, next_of(it->m, node, 0));
}

static void iter_to_prev(struct iter *base)
{
	struct memtable_iter *it = memtable_iter(base);
	struct slice user = ikey_user(base->key);

	show(it, search_before(it->m, &user, ikey_trailer(base->key)));
}

static void iter_release(struct iter *base)
{
	struct memtable_iter *it = memtable_iter(base);

	memtable_unref(it->m);
	free(it);
}

static const struct iter_ops memtable_iter_ops = {
	.seek_first = iter_to_first,
	.seek_last = iter_to_last,
	.seek = iter_to_key,
	.next = iter_to_next,
	.prev = iter_to_prev,
	.free = iter_release,
};

int memtable_iter_new(struct memtable *m, struct iter **out)
{
	struct memtable_iter *it = calloc(1, sizeof(*it));

	if (!it)
		return -ENOMEM;
	it->base.ops = &memtable_iter_ops;
	it->m = memtable_ref(m);
	*out = &it->base;
	return 0;
}

/* ---- looking ---- */

size_t memtable_used(const struct memtable *m)
{
	return atomic_load_explicit(&m->used, memory_order_relaxed);
}

size_t memtable_capacity(const struct memtable *m)
{
	return m->size;
}

uint64_t memtable_entries(const struct memtable *m)
{
	return atomic_load_explicit(&m->entries, memory_order_relaxed);
}

uint64_t memtable_log_number(const struct memtable *m)
{
	return m->log_number;
}

/* One level is in order and inside what is used; *@count_out: its nodes. */
static bool level_ok(const struct memtable *m, unsigned level, uint64_t *count_out)
{
	uint32_t last = 0, node;
	uint64_t count = 0;

	for (node = next_of(m, m->head, level); node; node = next_of(m, node, level)) {
		struct slice value;

		if (node <= m->head || node % 4 || node + NODE_SIZES > memtable_used(m))
			return false;
		value = node_value(m, node);
		if (value.size > memtable_used(m) || value.data + value.size > m->base + memtable_used(m))
			return false;
		if (last && ikey_compare(node_key(m, last), node_key(m, node)) >= 0)
			return false;
		last = node;
		count++;
	}
	*count_out = count;
	return true;
}

int memtable_check(const struct memtable *m)
{
	uint64_t count = 0, below = memtable_entries(m);

	for (unsigned level = 0; level < MAX_HEIGHT; level++) {
		if (!level_ok(m, level, &count) || count > below || (!level && count != below))
			return -SHALE_ECORRUPT;
		below = count;
	}
	return 0;
}
