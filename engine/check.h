/*
 * check.h - is a running database what it should be? The invariants that no read notices when they break.
 *
 *	levels     tables of the version are newest first (level 0) or sorted and disjoint, no table is there twice        version.c
 *	files      each table of the version is in the directory; each table, log and MANIFEST there is somebody's        check_files.c
 *	entries    each table can be read, begins and ends where the MANIFEST says, its keys ascend, and of each user
 *	           key a newer place (memtable, level 0 newest first, level 1, …) holds the newer sequences               check_entries.c
 *
 * All of it runs beside writers, flushes and compactions, over a pinned version and pinned memtables. Reading fills no cache.
 */
#ifndef SHALE_ENGINE_CHECK_H
#define SHALE_ENGINE_CHECK_H

#include "shm/base.h"
#include "shm/error.h"

struct engine;
struct io_queue;
struct job_note;

enum {
	CHECK_FINDINGS = 32, /* are kept, and all are counted */
	CHECK_KEY_SHOWN = 96,
};

/* A user key, or how it begins. */
struct check_key {
	uint32_t size; /* of all of it */
	unsigned char bytes[CHECK_KEY_SHOWN];
};

/* One thing that is not as it should be. */
struct check_finding {
	/* Words that stay: "overlap", "twice", "level" (the version); "missing", "stray" (files); "read", "range", "order", "sequence" (entries). */
	char kind[12];
	int code;        /* -SHALE_ECORRUPT, or why a table cannot be read */
	int level;       /* -1: none */
	char file[24];   /* "": in memory */
	char what[256];
	bool has_range;  /* of the keys that it touches, both included */
	struct check_key first, last;
};

struct check_result {
	uint64_t sequence;            /* what was looked at holds everything up to this one */
	uint64_t tables, table_bytes; /* of the version */
	uint64_t memtables, entries;  /* entries: of memtables and tables */
	uint64_t files;               /* of the directory, that have LevelDB's names */
	uint64_t problems;
	bool entries_checked;         /* false: the levels are wrong, so there is no order to hold them to */
	unsigned kept;
	struct check_finding finding[CHECK_FINDINGS];
};

/*
 * Begins a check, which a worker makes (JOB_CHECK), one at a time, at options.background_rate. Any thread. 0 and a ticket; -EBUSY: one is under way; -ENOMEM;
 * -SHALE_EFAILED.
 */
int engine_check_start(struct engine *e, uint64_t *ticket_out);

/*
 * 1 and *@out: all was looked at, and out->problems says what came of it; 0: not yet; negative, with words: it could not be done.
 * After a final answer the ticket is forgotten.
 */
int engine_check_done(struct engine *e, uint64_t ticket, struct check_result *out, struct err_info *err);

/* It ends soon with -ECANCELED. Any thread. 0, or -ENOENT: it has ended. */
int engine_check_cancel(struct engine *e, uint64_t ticket);

/*
 * Files alone. Any thread, also while jobs run; not under the lock. After a failure for good, or once a deletion failed,
 * nothing is said about strays. 0; -SHALE_ECORRUPT with words; -ENOMEM, or why the directory cannot be listed.
 */
int engine_check_files(struct engine *e, struct err_info *err);

/*
 * All of it, here and now, through @queue. Any thread that may wait. 0; -SHALE_ECORRUPT with words for the first thing that is wrong;
 * failures of reading, with words.
 */
int engine_check_deep(struct engine *e, struct io_queue *queue, struct err_info *err);

/* ---- for jobs.c ---- */

/* Under the lock: one waits; it is claimed, and @note says what is to be done. */
bool check_claim(struct engine *e, struct job_note *note);
/* Worker. 0, also with findings, or why it could not be done, with words. */
int check_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err);

#endif
