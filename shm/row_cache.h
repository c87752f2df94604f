/*
 * row_cache.h - entries that were read lately, where every client finds them without asking the daemon.
 *
 * One segment, written by the daemon's service thread alone, mapped read-only by each channel:
 *
 *	page 0   struct row_cache_header
 *	then     slot[sets][ROW_CACHE_WAYS]   a cache line to a set: where the entries of these hashes lie
 *	then     arena                        entries one behind the other, round and round; a power of two
 *
 *	slot     tag (16 bits of the hash, never 0) │ position ÷ 8 (48 bits); 0: empty
 *	entry    key bytes (32 bits), value bytes (32; ROW_ABSENT: there is no such key) │ sequence │ key │ value, each padded to 8
 *
 * A position counts the bytes ever given out; the entry lies at position modulo the arena's size. So no slot ever holds the same word twice.
 *
 * Invariants
 * 1. A slot names an entry only while it is the newest state of its key: the daemon empties the key's slots before a write of it can be seen by
 *    anybody, and fills one only with what a read at the newest sequence found.
 * 2. `head` is moved past an entry's successor in the arena before the first of its bytes is overwritten.
 * 3. Until then its bytes do not change.
 * So who copies an entry, and then finds the slot as it was and the head not yet a whole arena further, has copied a whole one, and it was the newest
 * state at the moment of that second look: the read is linearizable, without a store, a lock or a system call.
 *
 * A batch of several writes: all its keys' slots are empty before any of it is seen. Who has seen one of them new finds no other one old.
 *
 * A daemon that was killed could leave entries that its successor's clients have overwritten. So `owner` is a robust futex of the service thread: whatever
 * ends that thread, the kernel sets FUTEX_OWNER_DIED there before it gives back the database's lock, hence before there can be a successor.
 *
 * Rejected: keeping entries up to date in place. A writer would have to copy each value once more, and a batch could be seen half.
 */
#ifndef SHALE_SHM_ROW_CACHE_H
#define SHALE_SHM_ROW_CACHE_H

#include <stdatomic.h>

#include "shm/layout.h"
#include "shm/segment.h"

struct err_info;

#define ROW_CACHE_MAGIC UINT64_C(0x6568636163776f72) /* "rowcache" */
#define ROW_ABSENT UINT32_MAX

enum {
	ROW_CACHE_WAYS = 8,
	ROW_ENTRY_MAX = 4096,     /* bytes of an entry, head and padding included: what is larger is asked for */
	ROW_CACHE_MIN = 64 << 10, /* bytes of the smallest arena */
};

/* Written by the daemon's service thread, read by everybody. */
struct row_cache_header {
	/* Before the hand-over, then constant. */
	uint64_t magic;
	uint64_t sets;       /* power of two; 0: there is no cache */
	uint64_t arena_off, arena_size;
	uint64_t total_size;
	/* Seldom: the service thread's id; with FUTEX_OWNER_DIED, which the kernel or row_cache_disown() adds, nothing here holds any more. */
	_Alignas(SHM_LINE) _Atomic uint32_t owner;
	_Atomic uint32_t replaced; /* 1: there is another one to be had by a new handshake */
	/* Bytes ever given out. Moved before what it passes is overwritten. */
	_Alignas(SHM_LINE) _Atomic uint64_t head;
};

static_assert(offsetof(struct row_cache_header, owner) == 64 && offsetof(struct row_cache_header, head) == 128 &&
		      sizeof(struct row_cache_header) == 192,
	      "the row cache's header moved: bump SHM_ABI");

/* ---- the daemon's end: one thread ---- */

struct row_cache {
	struct segment segment;
	struct row_cache_header *header;
	_Atomic uint64_t *slots, *arena; /* of words */
	uint64_t sets, arena_size, head; /* private copies: the authority */
	uint64_t kept, dropped;          /* entries ever; of these, because of a write */
};

/*
 * Creates /shale.<instance>.rows, for its owner alone: clients get a descriptor. @bytes of arena, a power of two from ROW_CACHE_MIN on; 0: a cache that never
 * holds anything. 0 or -errno with words.
 */
int row_cache_create(struct row_cache *c, const char *instance, size_t bytes, struct err_info *err);

/* Unmaps and unlinks. Takes a zeroed one whose segment.fd is -1. */
void row_cache_close(struct row_cache *c);

/*
 * From now on the calling thread's end empties the cache for everybody. One cache a thread at a time; the thread uses no robust mutex of
 * pthreads besides. -ENOSYS where the kernel knows no robust futexes: the cache is then never looked at.
 */
int row_cache_own(struct row_cache *c);

/* Takes it out of use, for ever. @replaced: clients are to fetch another one. */
void row_cache_disown(struct row_cache *c, bool replaced);

/* Keeps what a read at the newest sequence found: @value, or NULL when there is no such key. What is too large is left out. */
void row_cache_put(struct row_cache *c, struct slice key, const struct slice *value, uint64_t sequence);

/* A write of @key is about to be seen. */
void row_cache_drop(struct row_cache *c, struct slice key);

/* ---- a client's end: one thread each ---- */

struct row_reader {
	void *base; /* NULL: none, all lookups miss */
	size_t size;
	const struct row_cache_header *header;
	const _Atomic uint64_t *slots, *arena;
	uint64_t sets, arena_size;
};

/* Maps what @fd (borrowed) shows, read-only. 0, -SHALE_ENOTSHALE (it does not add up) or -errno, with words. */
int row_reader_map(struct row_reader *r, int fd, struct err_info *err);
void row_reader_unmap(struct row_reader *r);

/*
 * Looks @key up. 0: found, at most @cap bytes of the value are in @buf and *@len_out is its length, *@sequence_out (may be NULL) its entry's sequence.
 * SHALE_NOTFOUND: there is no such key. ROW_MISS: ask the daemon; @buf may have been written to.
 */
enum { ROW_MISS = 100 };
int row_reader_get(const struct row_reader *r, struct slice key, void *buf, size_t cap, size_t *len_out, uint64_t *sequence_out);

#ifdef SHALE_DEBUG
extern __thread void (*row_reader_copied)(void); /* tests: called between the copy and the second look */
#endif

/* A new handshake would bring another cache in place of this one. */
bool row_reader_replaced(const struct row_reader *r);

#endif
