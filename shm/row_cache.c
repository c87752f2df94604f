/*
 * row_cache.c - both ends of the cache; row_cache.h has the layout and why it is right.
 *
 * Slots and arena are moved as 64-bit atomics: release stores keep what is written behind what must be seen first, acquire loads keep the second look behind
 * the copy. On x86 these are plain moves.
 */
#include "shm/row_cache.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/hash.h"

enum {
	WORD = 8,
	ENTRY_HEAD = 2, /* words */
	BYTES_PER_SLOT = 128,
};

static const uint64_t POSITION_MASK = (UINT64_C(1) << 48) - 1;

static_assert(sizeof(struct row_cache_header) <= SHM_PAGE, "the header has one page");

static size_t sets_for(size_t arena)
{
	return arena / (BYTES_PER_SLOT * ROW_CACHE_WAYS);
}

static uint64_t arena_at(uint64_t sets)
{
	return align_up(SHM_PAGE + sets * ROW_CACHE_WAYS * WORD, SHM_PAGE);
}

static uint64_t tag_of(uint64_t hash)
{
	return hash >> 48 ? hash >> 48 : 1;
}

static uint64_t words_of(uint64_t bytes)
{
	return (bytes + WORD - 1) / WORD;
}

/* ---- the daemon's end ---- */

int row_cache_create(struct row_cache *c, const char *instance, size_t bytes, struct err_info *err)
{
	struct row_cache made = {.segment.fd = -1, .sets = sets_for(bytes), .arena_size = bytes};
	unsigned char *base;
	int rc;

	assert(bytes == 0 || (is_power_of_two(bytes) && bytes >= ROW_CACHE_MIN));
	rc = segment_create(instance, "rows", arena_at(made.sets) + bytes, 0600, true, &made.segment, err);
	if (rc < 0)
		return rc;
	base = made.segment.base;
	made.header = made.segment.base;
	made.slots = (_Atomic uint64_t *)(base + SHM_PAGE);
	made.arena = (_Atomic uint64_t *)(base + arena_at(made.sets));
	made.head = bytes; /* so that every position that is given out is at least one arena, and no slot is 0 */
	made.header->magic = ROW_CACHE_MAGIC;
	made.header->sets = made.sets;
	made.header->arena_off = arena_at(made.sets);
	made.header->arena_size = bytes;
	made.header->total_size = made.segment.size;
	atomic_store_explicit(&made.header->owner, FUTEX_OWNER_DIED, memory_order_relaxed);
	atomic_store_explicit(&made.header->head, made.head, memory_order_relaxed);
	*c = made;
	return 0;
}

void row_cache_close(struct row_cache *c)
{
	if (c->header)
		row_cache_disown(c, false); /* the kernel would not find the word once it is unmapped */
	segment_unlink(&c->segment);
	segment_close(&c->segment);
	*c = (struct row_cache){.segment.fd = -1};
}

/* What the kernel walks when the thread ends: one entry, which stands for the word at futex_offset from it. */
static __thread struct {
	struct robust_list_head head;
	struct robust_list entry;
} robust;

int row_cache_own(struct row_cache *c)
{
	robust.head = (struct robust_list_head){
		.list.next = &robust.entry,
		.futex_offset = (char *)&c->header->owner - (char *)&robust.entry,
	};
	robust.entry.next = &robust.head.list;
	if (syscall(SYS_set_robust_list, &robust.head, sizeof(robust.head)) < 0)
		return -errno;
	/* Release: a cache that holds nothing yet before the word that says it may be used. Pairs with row_reader_get(). */
	atomic_store_explicit(&c->header->owner, (uint32_t)gettid(), memory_order_release);
	return 0;
}

void row_cache_disown(struct row_cache *c, bool replaced)
{
	uint32_t owner = atomic_load_explicit(&c->header->owner, memory_order_relaxed);

	atomic_store_explicit(&c->header->replaced, replaced, memory_order_relaxed);
	/* Release: `replaced` before the word that makes readers look at it. */
	atomic_store_explicit(&c->header->owner, owner | FUTEX_OWNER_DIED, memory_order_release);
	if (owner == (uint32_t)gettid())
		robust.head.list.next = &robust.head.list;
}

static _Atomic uint64_t *set_of(const struct row_cache *c, uint64_t hash)
{
	return c->slots + (hash & (c->sets - 1)) * ROW_CACHE_WAYS;
}

/* Release: who sees a word sees the head that was moved before it. Pairs with the acquire loads of the reader. */
static uint64_t write_bytes(_Atomic uint64_t *to, struct slice from)
{
	size_t i = 0;

	for (; (i + 1) * WORD <= from.size; i++)
		atomic_store_explicit(&to[i], load_le64(from.data + i * WORD), memory_order_release);
	if (i * WORD < from.size) {
		uint64_t last = 0;

		memcpy(&last, from.data + i * WORD, from.size - i * WORD);
		atomic_store_explicit(&to[i++], last, memory_order_release);
	}
	return i;
}

/* Gives out @size bytes of arena that do not wrap. Returns their position. */
static uint64_t take(struct row_cache *c, uint64_t size)
{
	uint64_t at = c->head, offset = at & (c->arena_size - 1);

	if (offset + size > c->arena_size)
		at += c->arena_size - offset;
	c->head = at + size;
	atomic_store_explicit(&c->header->head, c->head, memory_order_relaxed);
	return at;
}

/* The slot of @set for a new entry: one of the same tag, else an empty one, else the one whose entry was made first. */
static _Atomic uint64_t *place(_Atomic uint64_t *set, uint64_t tag)
{
	_Atomic uint64_t *best = set;
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < ROW_CACHE_WAYS; i++) {
		uint64_t slot = atomic_load_explicit(&set[i], memory_order_relaxed);

		if (slot >> 48 == tag)
			return &set[i];
		if ((slot & POSITION_MASK) < oldest) {
			oldest = slot & POSITION_MASK;
			best = &set[i];
		}
	}
	return best;
}

void row_cache_put(struct row_cache *c, struct slice key, const struct slice *value, uint64_t sequence)
{
	uint64_t words, position, hash, tag;
	_Atomic uint64_t *entry, *slot;

	if (!c->sets || key.size > ROW_ENTRY_MAX || (value && value->size > ROW_ENTRY_MAX))
		return;
	words = ENTRY_HEAD + words_of(key.size) + (value ? words_of(value->size) : 0);
	if (words * WORD > ROW_ENTRY_MAX)
		return;
	hash = hash_key(key);
	tag = tag_of(hash);
	slot = place(set_of(c, hash), tag);
	position = take(c, words * WORD);
	entry = c->arena + (position & (c->arena_size - 1)) / WORD;
	atomic_store_explicit(&entry[0], key.size | (value ? (uint64_t)value->size : ROW_ABSENT) << 32,
			      memory_order_release);
	atomic_store_explicit(&entry[1], sequence, memory_order_release);
	entry += ENTRY_HEAD;
	entry += write_bytes(entry, key);
	if (value)
		write_bytes(entry, *value);
	/* Release: the entry before the slot that names it. Pairs with the acquire in row_reader_get(). */
	atomic_store_explicit(slot, tag << 48 | (position / WORD & POSITION_MASK), memory_order_release);
	c->kept++;
}

void row_cache_drop(struct row_cache *c, struct slice key)
{
	uint64_t hash, tag;
	_Atomic uint64_t *set;

	if (!c->sets)
		return;
	hash = hash_key(key);
	tag = tag_of(hash);
	set = set_of(c, hash);
	for (unsigned i = 0; i < ROW_CACHE_WAYS; i++) {
		if (likely(atomic_load_explicit(&set[i], memory_order_relaxed) >> 48 != tag))
			continue;
		/* Relaxed: what makes the write known, a completion or last_sequence, is released after this. */
		atomic_store_explicit(&set[i], 0, memory_order_relaxed);
		c->dropped++;
	}
}

/* ---- a client's end ---- */

int row_reader_map(struct row_reader *r, int fd, struct err_info *err)
{
	struct row_reader m = {0};
	const struct row_cache_header *h;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "looking at the row cache: %m");
	if (st.st_size < SHM_PAGE)
		return err_set(err, -SHALE_ENOTSHALE, "the row cache is cut short");
	m.size = (size_t)st.st_size;
	m.base = mmap(NULL, m.size, PROT_READ, MAP_SHARED, fd, 0);
	if (m.base == MAP_FAILED)
		return err_set(err, -errno, "mapping the row cache: %m");
	m.header = h = m.base;
	m.sets = h->sets;
	m.arena_size = h->arena_size;
	m.slots = (const _Atomic uint64_t *)((const unsigned char *)m.base + SHM_PAGE);
	m.arena = (const _Atomic uint64_t *)((const unsigned char *)m.base + arena_at(m.sets));
	/* The sizes follow from one number; all others must be those that follow. */
	if (h->magic != ROW_CACHE_MAGIC || m.arena_size > m.size || m.sets != sets_for(m.arena_size) ||
	    (m.arena_size && !is_power_of_two(m.arena_size)) || h->arena_off != arena_at(m.sets) ||
	    h->total_size != arena_at(m.sets) + m.arena_size || h->total_size > m.size) {
		munmap(m.base, m.size);
		return err_set(err, -SHALE_ENOTSHALE, "the row cache does not add up: not shaled, or a damaged one");
	}
	madvise(m.base, m.size, MADV_DONTFORK);
	*r = m;
	return 0;
}

void row_reader_unmap(struct row_reader *r)
{
	if (r->base)
		munmap(r->base, r->size);
	*r = (struct row_reader){0};
}

/* Acquire: the second look comes after the copy, and sees at least the head that was there when a word was overwritten. */
static uint64_t word_at(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static bool key_is(const _Atomic uint64_t *at, struct slice key)
{
	size_t i = 0;
	uint64_t last = 0;

	for (; (i + 1) * WORD <= key.size; i++)
		if (word_at(&at[i]) != load_le64(key.data + i * WORD))
			return false;
	if (i * WORD == key.size)
		return true;
	memcpy(&last, key.data + i * WORD, key.size - i * WORD);
	return word_at(&at[i]) == last;
}

static void read_bytes(const _Atomic uint64_t *from, unsigned char *to, size_t size)
{
	size_t i = 0;

	for (; (i + 1) * WORD <= size; i++)
		store_le64(to + i * WORD, word_at(&from[i]));
	if (i * WORD < size) {
		uint64_t last = word_at(&from[i]);

		memcpy(to + i * WORD, &last, size - i * WORD);
	}
}

/* What @slot names, if that is @key. As row_reader_get. */
static int read_entry(const struct row_reader *r, uint64_t slot, struct slice key, void *buf, size_t cap,
		      size_t *len_out, uint64_t *sequence_out)
{
	uint64_t offset = (slot & POSITION_MASK) * WORD & (r->arena_size - 1), room = r->arena_size - offset;
	const _Atomic uint64_t *entry = r->arena + offset / WORD;
	uint64_t sizes = word_at(entry), value_size = sizes >> 32, key_words = words_of(key.size);

	/* The sizes may be of another entry by now: nothing is read that is not there. */
	if ((uint32_t)sizes != key.size || (ENTRY_HEAD + key_words) * WORD > room || !key_is(entry + ENTRY_HEAD, key))
		return ROW_MISS;
	if (sequence_out)
		*sequence_out = word_at(&entry[1]);
	if (value_size == ROW_ABSENT)
		return SHALE_NOTFOUND;
	if (value_size > ROW_ENTRY_MAX || (ENTRY_HEAD + key_words + words_of(value_size)) * WORD > room)
		return ROW_MISS;
	read_bytes(entry + ENTRY_HEAD + key_words, buf, min_size(value_size, cap));
	*len_out = value_size;
	return 0;
}

#ifdef SHALE_DEBUG
__thread void (*row_reader_copied)(void);
#define COPIED() (row_reader_copied ? row_reader_copied() : (void)0)
#else
#define COPIED() ((void)0)
#endif

/* Whether what @slot named was there, whole and the newest, until now. */
static bool still_holds(const struct row_reader *r, const _Atomic uint64_t *at, uint64_t slot)
{
	uint64_t begin = (slot & POSITION_MASK) * WORD, head;

	COPIED();
	head = atomic_load_explicit(&r->header->head, memory_order_relaxed);
	/* Modulo 2^51, as positions in slots are. */
	if (((head - begin) & (POSITION_MASK * WORD)) > r->arena_size)
		return false;
	return atomic_load_explicit(at, memory_order_relaxed) == slot;
}

int row_reader_get(const struct row_reader *r, struct slice key, void *buf, size_t cap, size_t *len_out,
		   uint64_t *sequence_out)
{
	const _Atomic uint64_t *set;
	uint64_t hash, tag;

	/* Acquire: pairs with row_cache_own(). A daemon that dies after this look leaves what was the newest state at the time of this look. */
	if (!r->sets || (atomic_load_explicit(&r->header->owner, memory_order_acquire) & FUTEX_OWNER_DIED))
		return ROW_MISS;
	hash = hash_key(key);
	tag = tag_of(hash);
	set = r->slots + (hash & (r->sets - 1)) * ROW_CACHE_WAYS;
	for (unsigned i = 0; i < ROW_CACHE_WAYS; i++) {
		uint64_t slot = word_at(&set[i]);
		int rc;

		if (slot >> 48 != tag)
			continue;
		rc = read_entry(r, slot, key, buf, cap, len_out, sequence_out);
		if (rc != ROW_MISS)
			return still_holds(r, &set[i], slot) ? rc : ROW_MISS;
	}
	return ROW_MISS;
}

bool row_reader_replaced(const struct row_reader *r)
{
	/* Acquire: pairs with row_cache_disown(). */
	return r->base && (atomic_load_explicit(&r->header->owner, memory_order_acquire) & FUTEX_OWNER_DIED) &&
	       atomic_load_explicit(&r->header->replaced, memory_order_relaxed);
}
