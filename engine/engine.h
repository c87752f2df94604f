/*
 * engine.h - the LSM engine: one database directory, no thread and no clock of its own.
 *
 *	service thread                         workers
 *	engine_write, engine_pump              engine_next_job → engine_run_job
 *	engine_view, engine_get, engine_scan   (flush, compaction, next log, deletion of obsolete files)
 *
 * The host (shaled; a test; the simulator) brings the threads, the memory and the wake-ups. One lock guards versions, memtable list and job
 * state; it is held for short memory-only sections, never across I/O, so the service thread may take it.
 *
 * "Service thread" means: calls so marked come from one thread at a time. In tests one thread may play all parts.
 */
#ifndef SHALE_ENGINE_ENGINE_H
#define SHALE_ENGINE_ENGINE_H

#include "engine/compact_pick.h"
#include "engine/memtable.h"
#include "engine/source.h"
#include "shm/histogram.h"
#include "shm/batch.h"
#include "shm/error.h"

struct engine;
struct job;

struct engine_options {
	size_t write_buffer_bytes;      /* memtable size; 16 MiB */
	unsigned max_immutables;        /* memtables that may wait for a flush; 2 */
	size_t wal_ring_bytes;          /* power of two; 8 MiB */
	size_t block_cache_bytes;       /* 64 MiB */
	unsigned max_open_tables;       /* 1000 */
	struct table_options table;     /* block size, restarts, filter, compression */
	bool compression_by_level;      /* level_compression instead of table.compression */
	enum compression level_compression[LEVELS];
	struct version_set_options levels;
	unsigned l0_slowdown_trigger;   /* files: 8 */
	unsigned l0_stop_trigger;       /* files: 12 */
	bool seek_compaction;           /* compact files that cost reads a block in vain too often; off */
	uint64_t background_rate;       /* bytes a second that compactions, copies and checks may read and write; 0: no limit */
	struct batch_limits limits;     /* of keys and values */
	size_t max_batch_bytes;         /* 64 MiB, and what frames one value of that size. May be larger than the WAL's ring */
	bool create_if_missing;
	bool error_if_exists;
	bool paranoid;                  /* a corrupt log record fails the open instead of ending the log there */
	bool best_effort;               /* tables that are missing, cut or unreadable do not fail the open: reads of their keys fail */
};

void engine_options_default(struct engine_options *o);

/* What the host does for the engine. Callbacks come from any thread, may be called with the engine's lock held, must not block or call back. */
struct engine_host {
	void (*jobs_ready)(struct engine_host *h); /* engine_next_job may have something: wake workers */
	void (*progress)(struct engine_host *h);   /* a job ended: stalled writes, flushes and compactions may go on: wake the service thread */
	void (*log)(struct engine_host *h, int priority, const char *text); /* syslog priorities; a line without newline */
	void (*recovering)(struct engine_host *h, const char *text); /* engine_open has got on: "replaying 000012.log: 14 of 64 MiB". May be NULL */
	void (*key_changes)(struct engine_host *h, struct slice user_key); /* service thread: a write of it is in the memtable, and will be seen next. May be NULL */
	struct memory_provider *memory;            /* for memtables */
	void *window;                              /* memory of the WAL window, wal_window_size(wal_ring_bytes) bytes; NULL: the heap */
	size_t window_size;
};

/* What engine_open found and did, for logs and tests. */
struct engine_recovery {
	bool created;
	uint64_t window_bytes;   /* completed from the WAL window */
	uint64_t log_bytes;      /* replayed */
	uint64_t records;        /* batches replayed */
	uint64_t dropped_bytes;  /* of log after a bad record: each drop was logged */
	uint64_t tables_written;
	uint64_t micros;
	uint64_t damaged_tables; /* with best_effort: cannot be read. Each was logged */
	struct err_info damage;  /* words for all of them together; empty when there are none */
};

/*
 * engine_open - opens or creates the database in @env (borrowed until engine_close), which this call locks (LOCK).
 *
 * @queue: the service thread's, borrowed. Blocks: reads MANIFEST, completes logs from the window, replays them into level-0 tables, sweeps strays.
 * Returns 0; -SHALE_ELOCKED, -SHALE_ENODATABASE, -EEXIST, -SHALE_ECORRUPT, -SHALE_ECOMPARATOR, -SHALE_EMISSING, -ENOSPC, …, with words. The files are unharmed after a failure.
 */
int engine_open(struct io_env *env, struct io_queue *queue, const struct engine_options *options, struct engine_host *host,
		struct engine_recovery *recovery_out, struct engine **out, struct err_info *err);

/* Drains and syncs the log, frees. No job may be running. The memtable is not flushed: the log holds it. 0 or the WAL's error. */
int engine_close(struct engine *e);

/* As if the process were killed now: frees memory, touches neither files nor the window. For crash tests. */
void engine_abandon(struct engine *e);

/* ---- writing: service thread ---- */

/*
 * Applies one batch. @batch may lie in memory that somebody else changes at the same time: it is read once, into the window (or
 * private memory), and only that copy is checked and used. On success the batch is in the WAL window and the memtable, visible to views
 * made afterwards, and survives the death of this process.
 *
 * Returns 0, *@sequence_out (of its last record), *@position_out (WAL position to wait for when sync is wanted);
 * -EAGAIN with *@why_out (DELAY_… bits of shm/layout.h): cannot be taken now, try again after progress; -EBADMSG, -E2BIG: refused;
 * -ENOSPC: the disk is full; -SHALE_EFAILED: stopped after an I/O error.
 *
 * WRITE_UNDERWAY: the batch is larger than the WAL's ring holds, or has more records than can be inserted at once. It was copied and checked, and is the engine's now; @batch is not looked at again. Each
 * engine_pump() takes it further: room in log and memtable, then through the ring as that drains, then visible. Until engine_write_result()
 * has told its end, every other write and every flush is answered -EAGAIN (DELAY_LOG): so nothing comes between.
 */
enum { WRITE_UNDERWAY = 1 };
int engine_write(struct engine *e, const void *batch, size_t size, uint64_t *sequence_out, uint64_t *position_out,
		 uint16_t *why_out);

/*
 * What became of the write under way: WRITE_UNDERWAY while it is; then, once, 0 with *@sequence_out and *@position_out as engine_write
 * gives them, or the failure, after which nothing of it is visible (-ENOSPC, -ENOMEM, -E2BIG: no memtable holds so many records, -SHALE_EFAILED). -ENOENT when there is none.
 */
int engine_write_result(struct engine *e, uint64_t *sequence_out, uint64_t *position_out);

/* True while the write under way needs nothing but engine_pump() to get on: no time to sleep. */
bool engine_write_busy(const struct engine *e);

/* Makes positions up to @position durable as soon as may be; engine_synced tells when. */
void engine_want_sync(struct engine *e, uint64_t position);
uint64_t engine_synced(const struct engine *e);

/* Drives log draining; call once per pass of the loop, with @eager before going to sleep. 0, or why the engine failed. */
int engine_pump(struct engine *e, bool eager);
bool engine_wal_idle(const struct engine *e); /* nothing left to drain or sync */

/* True while writes should be paced (level 0 past its slowdown trigger). */
bool engine_slowdown(const struct engine *e);

/* Starts a flush of everything written so far. 0 and a ticket for engine_flush_done; -EAGAIN (no free memtable slot or log: try again after progress); failure. */
int engine_flush_start(struct engine *e, uint64_t *ticket_out);
/* 1 done, 0 not yet, negative: failed. */
int engine_flush_done(struct engine *e, uint64_t ticket);

/* Starts a manual compaction of user keys [begin, end] (NULL: open), all levels. One at a time; further ones queue. Any thread. 0 and a ticket, or -ENOMEM. */
int engine_compact_start(struct engine *e, const struct slice *begin, const struct slice *end, uint64_t *ticket_out);
/* The same for one level: what it holds of the range goes into the next one; the last level is rewritten. Also -EINVAL: no such level. */
int engine_compact_level(struct engine *e, unsigned level, const struct slice *begin, const struct slice *end, uint64_t *ticket_out);
/*
 * The merge that runs for it stops within a few hundred entries and leaves its tables as they were; engine_compact_done says -ECANCELED, unless the last piece was
 * just being installed. What earlier pieces did stays. Any thread. 0, or -ENOENT: it has ended.
 */
int engine_compact_cancel(struct engine *e, uint64_t ticket);
/* 1 done, 0 not yet, negative: failed. After a final answer the ticket is forgotten. */
int engine_compact_done(struct engine *e, uint64_t ticket);

/* ---- reading: service thread ---- */

/* Memtables, version and what is needed to read them, pinned. */
struct view;

/* The newest view; a reference for the caller (view_unref, same thread). Cheap when nothing changed. */
struct view *engine_view(struct engine *e);
void view_unref(struct view *v); /* NULL is fine */

/* The sequence to read the newest state at; take the view first, this second: then the read is linearizable. */
uint64_t engine_last_sequence(const struct engine *e);

/* For read_ctx_init. */
struct read_shared *engine_read_shared(struct engine *e);

/* Newest entry of @key at or below @sequence. 0 and *@value_out (valid while view and ctx pins are held), SHALE_NOTFOUND, READ_MISS (read_ctx_fetch, then again), failure. */
int engine_get(struct view *v, struct read_ctx *ctx, uint64_t sequence, struct slice key, struct slice *value_out);

/* The same; *@entry_out (may be NULL) gets the sequence of the entry that was found. */
int engine_get_entry(struct view *v, struct read_ctx *ctx, uint64_t sequence, struct slice key, struct slice *value_out,
		     uint64_t *entry_out);

/* One chunk of a scan. */
struct scan {
	/* the question */
	uint64_t sequence;
	bool reverse;
	bool exclusive;             /* skip the start key itself */
	bool has_start, has_limit;
	struct slice start, limit;  /* user keys. forward: start <= key < limit; reverse: limit <= key <= start */
	uint32_t max_count;         /* entries; 0: no limit */
	unsigned char *out;         /* entries are written here, never read back (may be shared memory) */
	size_t out_size;
	/* the answer so far; survives READ_MISS, so call again with the same struct */
	uint32_t count;
	size_t used;                /* bytes of @out */
	bool more;                  /* the range goes on */
	size_t needed;              /* when the first entry does not fit: bytes that it needs */
	size_t passed;              /* private: bytes of entries that are not in the chunk, since the scan last gave way; */
	size_t passed_before_last;  /* of these, before `last`: what comes after it is passed again after a miss */
	struct key_buf last;        /* private: last key written; scan_fini frees it */
};

/*
 * Appends entries as (varint32 key length, varint32 value length, key, value) until the chunk is full or the range ends.
 * 0: chunk done (scan->more says whether to go on); READ_MISS: fetch, then call again; failure.
 */
int engine_scan(struct view *v, struct read_ctx *ctx, struct scan *scan);
void scan_fini(struct scan *scan);

/* Pins: compaction keeps what any pinned sequence can see. Returns the newest sequence, pinned. Any thread. -ENOMEM as 0 < 0: see rc. */
int engine_snapshot_take(struct engine *e, uint64_t *sequence_out);
void engine_snapshot_release(struct engine *e, uint64_t sequence);
/* True while @sequence is pinned. */
bool engine_snapshot_held(struct engine *e, uint64_t sequence);

/* LevelDB's properties ("leveldb.stats", …) as malloc'ed text. 0, SHALE_NOTFOUND, -ENOMEM. */
int engine_property(struct engine *e, struct slice name, char **text_out);

/* Approximate bytes on disk of user keys [start, limit). */
uint64_t engine_approximate_size(struct engine *e, struct slice start, struct slice limit);

/* ---- background jobs: workers ---- */

enum job_kind {
	JOB_LOG = 1 << 0,     /* prepare the next log file */
	JOB_FLUSH = 1 << 1,   /* immutable memtable → table */
	JOB_COMPACT = 1 << 2, /* merge or move tables */
	JOB_DELETE = 1 << 3,  /* unlink obsolete files */
	JOB_CHECKPOINT = 1 << 4, /* copy the database as it is (checkpoint.h); may take long, so it wants a worker of its own */
	JOB_CHECK = 1 << 5,      /* read the database and hold it against its invariants (check.h); likewise */
};

/* The most urgent job of @kinds that may start now, claimed, or NULL. Any thread. */
struct job *engine_next_job(struct engine *e, unsigned kinds);
enum job_kind job_kind(const struct job *j);

/* Runs and frees it, with I/O on @queue (the worker's own; blocks). 0 or the failure (already recorded and logged). */
int engine_run_job(struct engine *e, struct job *j, struct io_queue *queue);

/*
 * For a worker that engine_next_job gave nothing: learns of a few tables that an earlier process wrote what they tell of themselves, with I/O on
 * @queue. True when there is more to learn.
 */
bool engine_survey(struct engine *e, struct io_queue *queue);

/* Asks running jobs to end soon, unfinished; no new ones start. For a clean shutdown. */
void engine_stop_jobs(struct engine *e);

/*
 * After -ENOSPC background work pauses; the host calls this now and then (each second) to try again. Compactions that were set aside, because
 * their tables could not be read, want it as well (each minute): they are tried at the second call, then after ever more. True when
 * something was waiting.
 */
bool engine_retry(struct engine *e);

/* There are compactions set aside. Any thread. */
bool engine_set_aside(struct engine *e);

/*
 * Changes options of the running engine: background_rate, and tombstone_percent, which counts the tables that are there anew. Any thread.
 */
void engine_tune(struct engine *e, uint64_t background_rate, unsigned tombstone_percent);

/* ---- looking ---- */

struct engine_level_stats {
	uint64_t files, bytes, compactions, bytes_read, bytes_written, micros, moved;
	double score;
	uint64_t target_bytes;                          /* of level 1 and below */
	uint64_t busy_files, busy_bytes;                /* inputs of what runs now */
	uint64_t entries_in, dropped_shadowed, dropped_tombstone; /* of merges and flushes into this level */
	uint64_t dead_bytes;                            /* estimate: deletions, and versions that a newer one of the same table hides */
	uint64_t by_reason[REASON_COUNT];               /* jobs that put something into this level */
};

/* The manual compaction that is being worked on. */
struct engine_manual_stats {
	uint64_t requests;               /* that wait or run */
	uint64_t level, last_level;      /* it reads this one, and ends with that one */
	uint64_t pieces;                 /* done */
	uint64_t bytes_done, bytes_total; /* total: as it looked when it began, an estimate */
};

struct engine_stats {
	uint64_t last_sequence, memtable_bytes, immutables, snapshots;
	uint64_t flushes, flush_bytes, compactions, trivial_moves, compaction_bytes_read, compaction_bytes_written;
	uint64_t dropped_shadowed, dropped_tombstone;
	uint64_t bytes_read_by_reason[REASON_COUNT], bytes_written_by_reason[REASON_COUNT]; /* by merges: what each trigger cost */
	uint64_t jobs_running, jobs_failed, jobs_ever;
	uint64_t wal_bytes, wal_syncs, log_number, manifest_number;
	uint64_t wal_appended, wal_drained, wal_synced, wal_ring; /* positions, and the size of what is between them at most */
	struct histogram wal_sync_times; /* each fdatasync of the log */
	uint64_t live_files, live_bytes, obsolete_waiting, tables_open;
	uint64_t live_versions;         /* more than one: something still reads an older state */
	uint64_t debt_bytes;            /* over the targets of their levels: what compactions will have to move */
	/*
	 * Tables written for each byte that was flushed, since the open; 0 before the first flush. The log adds one more.
	 * Bytes of all tables for each byte of the largest sorted run (a level from 1 on, or a level-0 table), which holds each key about
	 * once: never below the truth as long as few of its entries are deletions; 0 without tables.
	 */
	double write_amplification, space_amplification;
	struct engine_manual_stats manual;
	struct block_cache_stats cache;
	struct engine_level_stats level[LEVELS];
};

/* Service thread. */
void engine_stats(struct engine *e, struct engine_stats *out);

/* 0 healthy; -ENOSPC, -EDQUOT, -EFBIG, -ENOMEM, -EMFILE or -ENFILE: paused, heals by itself; another negative code: stopped for good. Words in @err. */
int engine_state(struct engine *e, struct err_info *err);

/* Invariants of the current version and the memtables. 0 or -SHALE_ECORRUPT with words. */
int engine_check(struct engine *e, struct err_info *err);

#endif
