/*
 * engine_internal.h - what the engine's own files share: the engine itself, views, jobs. Nobody else includes it.
 *
 *	engine.c    open, close, state, statistics     write.c      engine_write, memtable switch, flush tickets
 *	recover.c   directory → memory                 read.c       engine_get
 *	view.c      views                              scan.c       engine_scan
 *	snapshot.c  pinned sequences, what survives    jobs.c       which job runs next, and why
 *	output.c    one table being written            flush.c      memtable → table
 *	property.c  texts and sizes                    compaction.c tables → tables
 *	check.c     invariants of a running database   manual.c     compactions that somebody asked for
 *	errand.c    jobs that are asked for            checkpoint.c a copy of it all
 */
#ifndef SHALE_ENGINE_ENGINE_INTERNAL_H
#define SHALE_ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/errand.h"
#include "engine/filename.h"
#include "engine/joblog.h"
#include "engine/wal.h"

enum { IMMUTABLES_MAX = 16, CLOSING_MAX = 8 };

/* syslog's priorities, which host->log takes. */
enum { PRIORITY_ERROR = 3, PRIORITY_WARNING = 4, PRIORITY_NOTICE = 5, PRIORITY_INFO = 6 };

/* A full memtable on its way to a table. */
struct immutable {
	struct memtable *mem;
	uint64_t ordinal;  /* memtables are numbered from 1 as they are begun: flush tickets */
	uint64_t next_log; /* of the memtable after it: once this one is a table, logs below are not needed */
	uint64_t last;	   /* its highest sequence */
};

/* A file to be unlinked. */
struct obsolete {
	enum file_type type;
	uint64_t number;
};

/* One request of engine_compact_start; see manual.c. */
struct manual;

/* A compaction that could not read its inputs. It stays in `running`, so that nothing picks them again, until engine_retry. */
struct quarantined {
	struct compaction *compaction;
	struct quarantined *next;
};

/* A batch that is larger than the WAL's ring, on its way (write_large.c). The service thread's alone. */
struct large_write {
	enum { LARGE_NONE, LARGE_TAKEN, LARGE_PASSING, LARGE_INSERTING, LARGE_ENDED } state;
	unsigned char *copy; /* owned until it is visible or has failed */
	size_t size;
	struct batch_info info;
	struct slice rest; /* of the copy: not yet in the ring */
	bool begun;	   /* some of it is */
	int result;	   /* ENDED */
	uint64_t sequence, position;
	struct batch_reader reader; /* INSERTING: what is not in the memtable yet, */
	uint64_t next;		    /* and the first of its sequences */
};

struct engine {
	/* set once by engine_open */
	struct io_env *env;
	struct io_queue *queue; /* the service thread's */
	struct engine_host *host;
	struct memory_provider *memory;
	struct engine_options options;
	struct read_shared shared;
	void *own_window; /* when the host gave none */
	void *window;
	size_t window_size;

	/* the service thread's alone */
	struct wal *wal;
	struct view *view;	/* the cached newest view; one reference */
	unsigned char *scratch; /* a batch that cannot be copied straight to its place in the window */
	size_t scratch_size;
	struct large_write large;
	int64_t sample_left; /* bytes that scans read before the next sample (seek.c) */
	uint64_t sample_random;

	/* atomics that the service thread looks at without the lock; written under it */
	_Atomic uint64_t generation; /* release after a change of memtables or version; acquire in engine_view */
	_Atomic unsigned l0_files;   /* relaxed: a hint for pacing */
	_Atomic int
		failed; /* sticky: 0 or the negative code that stopped the engine; relaxed, words are under the lock */
	_Atomic uint64_t background_rate; /* options.background_rate, until engine_tune; relaxed */
	_Atomic int paused; /* -ENOSPC and the like: background work waits for engine_retry; relaxed */
	_Atomic bool
		switch_wanted; /* a manual compaction waits for a memtable switch: release in manual.c, acquire in engine_pump */
	_Atomic uint64_t seek_file; /* a file whose seeks ran out, until it is compacted; 0: none. Relaxed: see seek.c */
	_Atomic bool stopping; /* engine_stop_jobs; relaxed: jobs notice soon */
	_Atomic bool leftovers; /* a deletion failed: there are files that nobody knows of; relaxed, for engine_check_files */

	pthread_mutex_t lock; /* everything below; and the fields of version_set that say so. After manifest_lock */
	struct version_set versions;

	struct memtable *mem; /* replaced by the service thread only, which may read the pointer without the lock */
	uint64_t mem_ordinal;
	struct immutable immutables[IMMUTABLES_MAX]; /* oldest first */
	unsigned immutable_count;
	bool flushing;	  /* a job has immutables[0] */
	uint64_t flushed; /* ordinals up to this one are tables */

	struct wal_log *next_log;  /* made ready by JOB_LOG, and the memtable that goes with it: both or neither */
	struct memtable *next_mem;
	bool log_preparing;

	uint64_t *snapshots; /* ascending; one entry for each take */
	size_t snapshot_count, snapshot_cap;

	struct running running;
	uint64_t pace_paid; /* see pace.c */
	bool surveying, surveyed; /* see reclaim.c */
	struct quarantined *quarantine;
	unsigned quarantines, retries; /* failed reads ever; calls of engine_retry since the last: the back-off */
	struct manual *manuals;	       /* oldest first */
	uint64_t manual_tickets;

	struct errand *errands[ERRAND_KINDS]; /* asked for, running, or ended and not yet asked about; NULL: none */
	uint64_t errand_tickets;

	struct obsolete *obsolete;
	size_t obsolete_count, obsolete_cap;
	bool deleting;
	const struct obsolete *in_deletion; /* what the JOB_DELETE that runs took from there */
	size_t in_deletion_count;
	struct io_file *closing[CLOSING_MAX]; /* logs left behind, which JOB_DELETE closes */
	unsigned closing_count;
	struct memtable *gone[IMMUTABLES_MAX]; /* nobody refers to them; JOB_DELETE gives their memory back */
	unsigned gone_count;
	uint64_t manifest_seen; /* the MANIFEST whose successor makes it obsolete */
	uint64_t *pending;	/* tables that are being written, or are not yet in a version */
	size_t pending_count, pending_cap;

	struct err_info error; /* words for failed, paused or the last read error */
	unsigned compactions_running;
	struct engine_stats stats; /* the counters of it that only ever grow */
	struct joblog jobs;
};

/* ---- view.c ---- */

struct view {
	uint32_t refs; /* the service thread's; no atomics */
	struct engine *engine;
	uint64_t generation;	 /* of the state that it shows */
	struct version *version; /* a reference, returned under the lock */
	struct memtable *mem;
	unsigned immutable_count;
	struct memtable *immutables[IMMUTABLES_MAX]; /* newest first */
};

/* Under the lock: tells the service thread that its cached view is old. */
void view_changed(struct engine *e);

/* Service thread. In three steps, so that a memtable switch can fail before it has begun and not after. */
struct view *view_alloc(struct engine *e); /* empty, one reference; NULL: no memory */
void view_fill(struct view *v);		   /* under the lock: pins the present state */
void view_install(struct engine *e,
		  struct view *v); /* not under the lock: the cached view from now on; takes the reference */
/* Replaces the cached view if it is old, so that it does not keep memtables and tables that nobody reads. Without @wait only if the lock is free. */
void view_refresh(struct engine *e, bool wait);

/* ---- engine.c ---- */

void engine_log(struct engine *e, int priority, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Stops the engine for good: nothing is written or deleted any more. Keeps the first cause. Returns @code. Not under the lock. */
int engine_fail(struct engine *e, int code, const struct err_info *err);

/* True for failures that go away by themselves: no space, memory or descriptors. */
bool failure_heals(int code);

/* Background work waits for engine_retry. Not under the lock. */
void engine_pause(struct engine *e, int code, const struct err_info *err);

/* Under the lock: a job ended or something changed; wakes whom it may concern. */
void engine_wake_jobs(struct engine *e);
void engine_wake_service(struct engine *e);

/* Frees everything that engine_open made, half-built or whole; the WAL was closed or abandoned before. */
void engine_destroy(struct engine *e);

/* ---- recover.c ---- */

/* From the locked directory to a version set, replayed and swept, and a new log (*@log_out, the caller's) for the first memtable. */
int engine_recover(struct engine *e, struct io_queue *q, struct engine_recovery *r, struct wal_log **log_out,
		   struct err_info *err);

/* ---- write.c ---- */

/* Arena bytes of an ordinary memtable, and room to reserve in a new log file. */
size_t memtable_arena(const struct engine_options *o);
uint64_t log_reserve(const struct engine_options *o);
/* The service thread's half of a manual compaction: the switch that it waits for. */
void write_serve_switch(struct engine *e);
/* Makes the memtable one that a batch fits which does not fit the present one. 0; -EAGAIN with the reason; failure. */
int write_make_room(struct engine *e, const struct batch_info *info, uint16_t *why);
/* Puts one record into the memtable, where nobody sees it yet, and tells the host. */
void write_add(struct engine *e, uint64_t sequence, const struct batch_record *record);
/* Makes entries up to @sequence, which are in the memtable, visible. */
void write_publish(struct engine *e, uint64_t sequence);

/* ---- write_large.c ---- */

/* Takes a batch that the ring cannot hold, or of many records: WRITE_UNDERWAY, or 0 (an empty one), -EAGAIN with the reason, or a refusal. Nothing is under way. */
int large_take(struct engine *e, const void *batch, size_t size, uint16_t *why);
/* One step on, as far as it goes now. */
void large_pump(struct engine *e);
/* Carries on to the end, waiting for the disk: for a clean close. 0, or what keeps it from ending. */
int large_finish(struct engine *e);

/* ---- snapshot.c ---- */

/*
 * Which entries a merge keeps. Entries of one user key come newest first; snapshots cut the sequences into stripes, and of each
 * stripe only the newest entry can ever be seen.
 */
struct survivor {
	uint64_t *snapshots; /* ascending, own copy */
	size_t count;
	struct key_buf user;
	bool has_user;
	size_t stripe; /* of the entry before, same user key */
};

enum verdict { VERDICT_KEEP, VERDICT_SHADOWED, VERDICT_TOMBSTONE };

int survivor_init(struct survivor *s, struct engine *e); /* takes the lock. 0 or -ENOMEM */
void survivor_fini(struct survivor *s);
/*
 * Judges the next entry. VERDICT_TOMBSTONE: a deletion that nobody needs provided that no deeper level holds the key, which the
 * caller asks. *@new_user_out: it begins a new user key. 0 or -ENOMEM.
 */
int survivor_judge(struct survivor *s, struct slice ikey, enum verdict *out, bool *new_user_out);

/* ---- seek.c ---- */

/* Service thread: @m, pinned by a view, cost a read a block in vain. */
void seek_charge(struct engine *e, struct file_meta *m);
/* Service thread: scans have read what was left until the next sample, the last of it at @ikey. */
void seek_sample(struct view *v, struct slice ikey);
/* Under the lock: the compaction of a file whose seeks ran out, or NULL. */
struct compaction *seek_next(struct engine *e);

/* ---- reclaim.c ---- */

/* Under the lock: a compaction of files that hold mostly dead entries, or NULL. */
struct compaction *reclaim_next(struct engine *e);
/* Under the lock: there are such files, which may have to wait for a snapshot. */
bool reclaim_waiting(const struct engine *e);

/* ---- pace.c ---- */

/* A worker took @bytes from the disk's time, and waits (with its queue) until they are paid for, or it is @cancelled. Not under the lock. */
void pace(struct engine *e, struct io_queue *q, uint64_t bytes, const _Atomic bool *cancelled);

/* ---- output.c ---- */

/* One table being written: by flush, recovery and compaction. */
struct output {
	struct engine *engine;
	struct io_queue *queue;
	uint64_t number;
	struct io_file *file;
	struct table_builder *builder;
	struct key_buf smallest, largest;
	bool has_smallest;
};

/* Creates the file, with the settings for @level. The number is taken here, so call order is number order. */
int output_open(struct output *o, struct engine *e, unsigned level, struct io_queue *q, struct err_info *err);
int output_add(struct output *o, struct slice ikey, struct slice value, struct err_info *err);
bool output_is_open(const struct output *o);
/* Finishes, syncs, closes and reads it back. 0 and *@meta_out with one reference (file_meta_free), or failure: then output_drop. */
int output_finish(struct output *o, struct file_meta **meta_out, struct err_info *err);
/* Closes and removes what output_open made. Harmless when nothing is open. */
void output_drop(struct output *o);

/* Failures of these two stop the engine: they return as usual, and engine_fail was called. */
int directory_sync(struct engine *e, struct err_info *err);
int edit_apply(struct engine *e, struct edit *edit, struct io_queue *q, struct err_info *err);
/* Ends @edit, and returns the references that output_finish gave; tables that were not @installed are removed, unless the engine failed. */
void outputs_release(struct engine *e, struct edit *edit, struct file_meta **metas, size_t count, bool installed);

/* ---- jobs.c, flush.c, compaction.c, manual.c ---- */

struct job {
	struct engine *engine;
	enum job_kind kind;
	enum compaction_reason reason;
	struct compaction *compaction;
	struct manual *manual;
	struct obsolete *obsolete; /* JOB_DELETE: taken from the engine's list */
	size_t obsolete_count;
	struct io_file *closing[CLOSING_MAX]; /* likewise */
	unsigned closing_count;
	struct memtable *gone[IMMUTABLES_MAX]; /* likewise */
	unsigned gone_count;
	struct job_note note;
};

/*
 * A table of @mem's entries, not yet installed; *@meta_out is NULL when there are none. For flush and recovery. @note: to be told how
 * far it is, or NULL. *@did_out: entries in and dropped.
 */
int flush_build(struct engine *e, struct io_queue *q, struct memtable *mem, struct job_note *note,
		struct file_meta **meta_out, struct job_record *did_out, struct err_info *err);
int flush_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err);
/* *@reading_out: it failed because its inputs could not be read. */
int compaction_run(struct engine *e, struct compaction *c, struct job_note *note, struct io_queue *q,
		   bool *reading_out, struct err_info *err);

/* After a job installed a version, not under the lock: in debug builds the directory must hold just what the engine knows of. */
void check_installed(struct engine *e);

/* Under the lock: a file to delete later. Out of memory leaves it for the sweep at the next open. */
void obsolete_add(struct engine *e, enum file_type type, uint64_t number);
/* Unlinks; not under the lock. */
void obsolete_remove(struct engine *e, const struct obsolete *list, size_t count);
/* Under the lock, after version_set_apply: what the new state tells us. */
void version_installed(struct engine *e);
/* Under the lock: ends all quarantines. */
void quarantine_clear(struct engine *e);

/* Under the lock: the next piece of work of the oldest request that can go on, claimed, or NULL. */
struct compaction *manual_next(struct engine *e, struct manual **manual_out);
/* Under the lock, before compaction_end: the piece is done (or failed with @rc). */
void manual_piece_done(struct engine *e, struct manual *m, const struct compaction *c, int rc);
/* The service thread switched memtables (or had nothing to switch): requests that waited for it now wait for @ticket. Under the lock. */
void manual_switched(struct engine *e, uint64_t ticket);
/* Under the lock. */
void manual_stats(const struct engine *e, struct engine_manual_stats *out);
void manual_free_all(struct engine *e);

#endif
