/*
 * wal.h - the write-ahead log: a window of memory in front of log files.
 *
 * Records are framed into the window (a ring of bytes in memory that the host gives: for shaled a POSIX shared-memory
 * segment that survives its death) and are then acknowledged; io_uring drains the window to the log file behind it. Positions are
 * bytes of one endless stream, virtual positions: each log begins at a base that is a multiple of 4096, the byte at file
 * offset o of that log has position base + o, and lies at ring[position % ring size].
 *
 *	          drained                     appended
 *	             │                           │
 *	  ───────────┼───────────────────────────┼──────────────▶ position
 *	  in the file│ only in the window        │ free
 *
 * Invariants
 *	1. drained <= appended <= drained + ring size.
 *	2. Everything below `appended` is whole records, except that the last one may be under way (wal_commit_part): then whole fragments of it, as
 *	   in a log whose end is torn. It is published (release) after the bytes.
 *	3. `drained` moves only after the write of those bytes completed, `synced` only after an fdatasync that was submitted after it.
 *	4. A byte is appended only inside space that IO_ALLOCATE has reserved in its file.
 *	5. Logs are synced in order: no sync of a newer log is acknowledged while an older one has unsynced bytes.
 *	6. After a failed write, allocate (other than ENOSPC) or sync the WAL is poisoned: nothing is acknowledged any more.
 *
 * Threads: everything here is the service thread's, except wal_log_prepare (a worker). Crash of the process: wal_window_recover
 * writes [drained, appended) into the files at open, before the logs are replayed. It trusts a window only when magic, boot id,
 * directory, log file identity and the last drained bytes all match the directory.
 */
#ifndef SHALE_ENGINE_WAL_H
#define SHALE_ENGINE_WAL_H

#include "engine/io.h"
#include "engine/log_format.h"
#include "shm/histogram.h"

struct err_info;
struct wal;

/* Memory for a window: page aligned; at least WAL_WINDOW_MIN bytes; the first page is the header, the rest (power of two) the ring. */
enum { WAL_WINDOW_MIN = 4096 + (256 << 10) };

/* Bytes of memory for a ring of @ring_bytes (power of two). */
size_t wal_window_size(size_t ring_bytes);

/*
 * The largest payload that a ring of @ring_bytes takes at any offset: framing needs room, too, and the last 4 KiB that were drained
 * stay in the ring, as the proof by which recovery knows its file. A host's limit for batches must not be above it.
 */
size_t wal_record_max(size_t ring_bytes);

/* What wal_window_recover found. */
struct wal_recovery {
	bool ignored;	/* a window was there but did not belong to this directory: `why` says so */
	uint64_t bytes; /* written into log files */
	char why[256];
};

/*
 * Before replay: completes log files from the window a killed process left in @memory (which may be all zero: nothing to do).
 * 0 or a negative code with words.
 */
int wal_window_recover(struct io_env *env, struct io_queue *q, void *memory, size_t size, struct wal_recovery *out,
		       struct err_info *err);

/*
 * A WAL over @memory (borrowed until wal_close; re-initialised, so recover first). @q is the service thread's queue.
 * The first log must be given by wal_switch before any append.
 */
int wal_open(struct io_env *env, struct io_queue *q, void *memory, size_t size, struct wal **out, struct err_info *err);

/*
 * Drains and syncs everything, cuts files to their exact size, and marks the window empty; then frees. NULL is fine. 0 or the WAL's error;
 * then, and with -ENOSPC, the window is left as it is, so that the next wal_window_recover completes the files.
 */
int wal_close(struct wal *w);

/* Frees without touching files or window: what a test does to play a killed process. Waits for I/O in flight. */
void wal_abandon(struct wal *w);

/* ---- logs ---- */

/* A log file made ahead of need. */
struct wal_log {
	uint64_t number;
	struct io_file *file;
	uint64_t allocated; /* bytes reserved in the file; UINT64_MAX where the file system cannot reserve */
	uint64_t inode;	    /* its identity in the window */
};

/* Worker: creates %06llu.log, reserves @bytes, syncs the directory. On failure nothing is left. -ENOSPC when the disk is full. */
int wal_log_prepare(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t bytes, struct wal_log **out);
void wal_log_discard(struct io_env *env, struct wal_log *log); /* one that was never used: unlinks it. NULL is fine */
void wal_log_forget(struct wal_log *log); /* the file stays, and is empty to whoever finds it. NULL is fine */

/* From now on records go to @log (taken). The old log is drained and synced behind it, then closed. -EAGAIN when too many old logs still drain. */
int wal_switch(struct wal *w, struct wal_log *log);

/*
 * The file of a log that was left behind and is durable, for the caller to close in a worker, or NULL. The last close of a file that was unlinked
 * meanwhile frees its space, which takes milliseconds. What nobody takes is closed by wal_close.
 */
struct io_file *wal_take_retired(struct wal *w);

/* ---- appending ---- */

/*
 * Step 1: room for a record of @size payload bytes. Returns 0; -EAGAIN (window full, or space not yet reserved: wal_pump goes on
 * with it); -ENOSPC when the disk is full (goes away by itself when there is space: keep calling wal_pump); -SHALE_EFAILED
 * when poisoned; -E2BIG when it never fits (wal_record_max).
 */
int wal_reserve(struct wal *w, size_t size);

/*
 * Step 2: where the payload may be written in place, or NULL when it must be built elsewhere (it would be split).
 * Step 3: wal_commit frames it: @payload is the address from wal_place, or other memory. Publishes `appended`. Returns the position
 * after the record. Between 1 and 3 the caller may also walk away: nothing was appended.
 */
unsigned char *wal_place(struct wal *w, size_t size);
uint64_t wal_commit(struct wal *w, const unsigned char *payload, size_t size);

/*
 * A record of any size, in parts; the caller keeps @rest (at first the payload) and *@begun (false). wal_reserve_large asks for the file space of
 * all of it, with wal_reserve's answers. Then each wal_commit_part takes as much as the window has room for, and says true when the record is
 * whole: its end is wal_appended(). Nothing else is appended, and no log is switched, between the first part and the last.
 */
int wal_reserve_large(struct wal *w, size_t size);
bool wal_commit_part(struct wal *w, struct slice *rest, bool *begun);

/*
 * Drives draining: submits writes for what is appended (when @eager, or enough has gathered to be worth a write), a sync
 * when one is wanted, and more reserved space ahead of need. Never blocks; progress comes with io_queue_poll. Returns 0 or the WAL's error.
 */
int wal_pump(struct wal *w, bool eager);

/* Asks for everything up to @position to be made durable. */
void wal_want_sync(struct wal *w, uint64_t position);

uint64_t wal_appended(const struct wal *w);
uint64_t wal_drained(const struct wal *w);
uint64_t wal_synced(const struct wal *w);
uint64_t wal_syncs(const struct wal *w);      /* fdatasyncs done */
const struct histogram *wal_sync_times(const struct wal *w); /* of each of them */
uint64_t wal_ring_size(const struct wal *w);
bool wal_refused(const struct wal *w);	      /* writes that met a full disk wait for another try */
int wal_error(const struct wal *w);	      /* 0, or the negative code that poisoned it */
bool wal_idle(const struct wal *w);	      /* nothing to drain, nothing in flight, no sync wanted */
uint64_t wal_log_number(const struct wal *w); /* of the current log */
uint64_t wal_log_bytes(const struct wal *w);  /* in the current log */

#endif
