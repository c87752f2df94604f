/*
 * wal_impl.h - private to engine/wal*.c: the window's layout (specified in engine/FORMAT.md, "WAL window") and the state of a WAL.
 *
 *	wal.c           open, close, logs, appending
 *	wal_drain.c     from the ring to the files: writes, syncs, reserved space
 *	wal_recover.c   what a killed process left
 */
#ifndef SHALE_ENGINE_WAL_IMPL_H
#define SHALE_ENGINE_WAL_IMPL_H

#include "engine/wal.h"

#include <errno.h>
#include <stdatomic.h>

enum {
	WINDOW_PAGE = 4096,
	WINDOW_VERSION = 1,
	WINDOW_LOGS = 8,
	WINDOW_PROOF = 4096, /* drained bytes that stay in the ring */
	WAL_BASE_ALIGN = 4096,
};

#define WINDOW_MAGIC UINT64_C(0x776f646e69572153) /* never zero: zero memory is no window */
#define LOG_OPEN UINT64_MAX			  /* end of the log that is still appended to */

/*
 * The first page. Only the process that holds the database's lock writes it. The words that say "this is here" (magic, in_use) are
 * stored last, so that a kill between any two stores leaves a window that is right or absent.
 */
struct wal_window {
	_Atomic uint64_t magic;
	uint32_t version;
	uint32_t log_slots;
	uint64_t ring_size;
	uint64_t dir_dev, dir_ino;
	uint64_t salt;	  /* of this incarnation; part of each entry's check */
	char boot_id[40]; /* of the machine; as /proc/sys/kernel/random/boot_id, NUL-terminated */
	/* Release stores after the bytes (appended) or after their write completed (drained); read by wal_window_recover. */
	_Alignas(64) _Atomic uint64_t drained;
	_Atomic uint64_t appended;
	_Alignas(64) struct wal_window_log {
		uint64_t number;
		uint64_t base;
		uint64_t inode;
		uint64_t check;	       /* wal_entry_check() of the three above */
		_Atomic uint64_t end;  /* LOG_OPEN until the next log begins */
		_Atomic uint64_t used; /* 1, or 0: nothing here */
	} log[WINDOW_LOGS];
};

static_assert(sizeof(struct wal_window) <= WINDOW_PAGE, "the header is one page");
static_assert(offsetof(struct wal_window, drained) == 128, "window layout moved: bump WINDOW_VERSION");
static_assert(offsetof(struct wal_window, log) == 192, "window layout moved: bump WINDOW_VERSION");
static_assert(sizeof(struct wal_window_log) == 48, "window layout moved: bump WINDOW_VERSION");

uint64_t wal_entry_check(uint64_t salt, const struct wal_window_log *entry);

/* What ties a window to a machine and a directory; dev and ino are zero on the simulated disk. An empty @boot_id: not to be had. */
struct wal_identity {
	uint64_t dev, ino;
	char boot_id[40];
};

void wal_identity(struct io_env *env, struct wal_identity *out);
uint64_t wal_file_inode(const struct io_file *file);

static inline struct wal_window *window_of(void *memory)
{
	return memory;
}

static inline unsigned char *ring_of(void *memory)
{
	return (unsigned char *)memory + WINDOW_PAGE;
}

/* ---- a running WAL ---- */

enum { WAL_WRITES = 8 };

/* A log that has bytes to drain or sync, or is appended to. */
struct wal_file {
	uint64_t number;
	struct io_file *file;
	uint64_t base, end;
	uint64_t allocated; /* file offset up to which space is reserved */
	uint64_t chunk;	    /* bytes reserved at a time beyond what the log was made with */
	unsigned slot;	    /* in the window */
};

/* One write from the ring to a file. */
struct wal_write {
	struct io_req req;
	struct wal *wal;
	uint64_t end; /* position after it */
	enum { WRITE_FLYING, WRITE_DONE, WRITE_RETRY } state;
};

struct wal {
	struct io_env *env;
	struct io_queue *q;
	struct wal_window *window;
	unsigned char *ring;
	uint64_t ring_size;
	int error;	 /* poisoned by */
	bool abandoned;	 /* completions touch nothing any more */
	unsigned flying; /* requests in flight */

	/* Positions: synced <= drained <= submitted <= appended. */
	uint64_t appended, submitted, drained, synced;
	size_t reserved; /* framed bytes that wal_reserve granted */
	bool partial;	 /* the last record is under way: only wal_commit_part appends */

	/* Oldest first; the last is the one appended to. file[draining] holds @submitted. */
	struct wal_file file[WINDOW_LOGS];
	unsigned files, draining;
	struct io_file *retired[WINDOW_LOGS]; /* wait for wal_take_retired */
	unsigned retired_count;

	/* Writes in flight, in order of position: a ring from write_first. */
	struct wal_write write[WAL_WRITES];
	unsigned write_first, writes;

	struct io_req sync;
	bool syncing;
	uint64_t sync_covers; /* position that the sync in flight makes durable */
	uint64_t sync_wanted, sync_target;
	uint64_t syncs;
	uint64_t sync_began_ns;
	struct histogram sync_times;

	struct io_req allocate;
	bool allocating;
	uint64_t allocating_number; /* log that it is for */
	uint64_t space_wanted;	    /* file offset that wal_reserve could not have; 0: none */

	bool space_full;	 /* the last allocation met ENOSPC, */
	uint64_t space_refused;	 /* for space up to this file offset … */
	uint64_t space_retry_at; /* … and may be tried again then (ns) */
	unsigned retries;	 /* writes that met ENOSPC and wait for another try … */
	uint64_t write_retry_at; /* … then */
};

static inline struct wal_file *wal_current(struct wal *w)
{
	return &w->file[w->files - 1];
}

/* In proportion to what its log was made with: small memtables have many small logs, none of which shall take megabytes. */
static inline uint64_t wal_chunk(uint64_t made_with)
{
	enum { CHUNK_MIN = 64 << 10, CHUNK_MAX = 4 << 20 };

	return made_with / 4 < CHUNK_MIN ? CHUNK_MIN : made_with / 4 > CHUNK_MAX ? CHUNK_MAX : made_with / 4;
}

static inline bool is_full(int64_t rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

#endif
