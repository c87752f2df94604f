/*
 * joblog.h - what background jobs are doing and have done, for people who ask why the database is busy.
 *
 * Each job carries a note. What the job will do is written down when it is claimed, what it did when it ends, both under the engine's lock;
 * between the two the worker only moves `done`, so that looking at progress costs the job nothing. Notes of flushes and compactions, and of
 * whatever failed, go into a ring of the last JOBLOG_KEEP.
 */
#ifndef SHALE_ENGINE_JOBLOG_H
#define SHALE_ENGINE_JOBLOG_H

#include <stdatomic.h>

#include "engine/engine.h"

enum { JOBLOG_KEEP = 64 };

struct job_record {
	uint64_t id; /* 1, 2, … as they are claimed; 0: none */
	enum job_kind kind;
	enum compaction_reason reason; /* flushes and compactions */
	bool trivial;		       /* a table moved without being read */
	unsigned level, output_level;  /* a flush learns both when its table is placed */
	uint64_t files[2], bytes[2];   /* inputs of level and output_level. A flush: bytes[0] of memtable. A deletion: files[0] */
	uint64_t done;		       /* of bytes[0] + bytes[1], while it runs */
	uint64_t begin_ns, micros;     /* as io_now_ns; micros: from then to the end */
	uint64_t bytes_read, bytes_written, entries_in, dropped_shadowed, dropped_tombstone;
	int result; /* 0 or a negative code */
};

struct job_note {
	struct job_record record; /* the engine's lock, but for done */
	_Atomic uint64_t done;	  /* relaxed, both sides: a reader wants a recent number, nothing else hangs on it */
	struct job_note *next;	  /* of the running ones */
};

struct joblog {
	struct job_note *running; /* newest first */
	uint64_t ids, ended;	  /* given out; put into `last` */
	struct job_record last[JOBLOG_KEEP];
};

/* The worker has read so much of its inputs. */
static inline void job_note_done(struct job_note *n, uint64_t bytes)
{
	atomic_store_explicit(&n->done, bytes, memory_order_relaxed);
}

/* What is done of the inputs; read-ahead and indices never make it more than the whole. */
static inline uint64_t job_note_progress(const struct job_note *n)
{
	uint64_t done = atomic_load_explicit(&n->done, memory_order_relaxed);
	uint64_t all = n->record.bytes[0] + n->record.bytes[1];

	return done < all ? done : all;
}

/* Under the lock: the job was claimed; record.kind, reason and inputs are set. */
void joblog_begin(struct joblog *log, struct job_note *n, uint64_t now_ns);
/* What @c will read and write, into a note. Under the lock. */
void joblog_describe(struct job_note *n, const struct compaction *c);
/* Under the lock: it ended with @rc. */
void joblog_end(struct joblog *log, struct job_note *n, uint64_t now_ns, int rc);

/* Under the lock: @did (its reads, writes and entries) is what the job of @n, which wrote to @level, has done and installed. */
void joblog_count(struct engine *e, struct job_note *n, unsigned level, const struct job_record *did);

/* Running jobs, oldest first, and those that ended, newest first. Returns the number of running ones (at most @cap are copied). Any thread. */
unsigned engine_jobs(struct engine *e, struct job_record *running, unsigned cap, struct job_record last[JOBLOG_KEEP]);

#endif
