/*
 * memtable.h - the newest writes, sorted: a skiplist in one contiguous, position-independent arena.
 *
 * Every link is a 32-bit offset from the arena's base, so the same bytes can later be read from another process's
 * mapping. The memory comes from a provider (the daemon may give shared segments; tests give the heap), is never
 * moved, and holds at most 4 GiB.
 *
 * Threads: one writer (the service thread). Readers at any time, in any thread that holds a reference: links are
 * published with release stores. Height 12, branching 4 (LevelDB 1.23, db/skiplist.h).
 */
#ifndef SHALE_ENGINE_MEMTABLE_H
#define SHALE_ENGINE_MEMTABLE_H

#include "engine/ikey.h"
#include "engine/iter.h"

struct memtable;

/* Where memtables get their memory. Calls come from any thread. */
struct memory_provider {
	/* @size bytes, page aligned, zero-filled; NULL with errno on failure. */
	void *(*map)(struct memory_provider *p, size_t size);
	void (*unmap)(struct memory_provider *p, void *base, size_t size);
};

extern struct memory_provider memory_provider_anonymous; /* mmap(MAP_ANONYMOUS) */

/* A memtable of @capacity arena bytes with one reference. @log_number: the log that holds its writes. 0, -ENOMEM, or -E2BIG: offsets do not reach that far (4 GiB). */
int memtable_new(struct memory_provider *p, size_t capacity, uint64_t log_number, struct memtable **out);
struct memtable *memtable_ref(struct memtable *m);
void memtable_unref(struct memtable *m); /* NULL is fine; the last one unmaps */

/*
 * The same in two steps, for a thread that must not wait while the kernel takes megabytes back: true when @m (not NULL) has lost its last reference and
 * somebody, anywhere, owes it memtable_free.
 */
bool memtable_let_go(struct memtable *m);
void memtable_free(struct memtable *m);

/* True when @count more entries with this many key and value bytes are sure to fit. */
bool memtable_has_room(const struct memtable *m, uint32_t count, size_t key_bytes, size_t value_bytes);

/* Arena bytes that so many entries take at most: for sizing a memtable for one huge batch. */
size_t memtable_space(uint32_t count, size_t key_bytes, size_t value_bytes);

/* Inserts one entry; room was checked. No two entries have the same sequence and user key... a later one of a batch has a later sequence. */
void memtable_add(struct memtable *m, uint64_t sequence, unsigned type, struct slice user_key, struct slice value);

/*
 * The newest entry of @user_key at or below @sequence: 0, *@value_out (into the arena) and *@entry_out (its sequence; may be NULL),
 * SHALE_NOTFOUND for a tombstone, MEMTABLE_ABSENT when the memtable says nothing about the key.
 */
#define MEMTABLE_ABSENT 3
int memtable_get(const struct memtable *m, struct slice user_key, uint64_t sequence, struct slice *value_out, uint64_t *entry_out);

/* An iterator over internal keys; holds a reference. 0 or -ENOMEM. */
int memtable_iter_new(struct memtable *m, struct iter **out);

size_t memtable_used(const struct memtable *m); /* arena bytes */
size_t memtable_capacity(const struct memtable *m);
uint64_t memtable_entries(const struct memtable *m);
uint64_t memtable_log_number(const struct memtable *m);

/* Every level in order, every node inside the arena, the count right. 0 or -SHALE_ECORRUPT. Slow; not beside the writer. */
int memtable_check(const struct memtable *m);

#endif
