/*
 * checkpoint.h - a copy of the whole database as it was at one sequence, made while everybody goes on.
 *
 * Asked for by anybody, made by a worker (JOB_CHECKPOINT), one at a time. Real directories only.
 */
#ifndef SHALE_ENGINE_CHECKPOINT_H
#define SHALE_ENGINE_CHECKPOINT_H

#include "engine/engine.h"

struct job_note;

/* Says that a directory is a checkpoint, and of what. */
#define CHECKPOINT_MARKER "SHALE.checkpoint"

struct checkpoint_result {
	uint64_t sequence;		/* it holds everything up to this one, and nothing after it */
	uint64_t tables, bytes;		/* of all of it, the memtables' table included */
	uint64_t linked, copied, kept;	/* tables: kept ones were there from the checkpoint before */
	uint64_t bytes_copied;		/* and written for the memtables */
	uint64_t removed;		/* files of the checkpoint before */
};

/*
 * Begins a checkpoint into @path (absolute, without symbolic links; copied): a new directory, or an earlier checkpoint of this database, which
 * becomes the new one. Everything that is visible when this is called will be in it. Any thread. 0 and a ticket; -EBUSY: one is under way;
 * -ENAMETOOLONG; -ENOMEM; -EOPNOTSUPP: the disk is not a real one; -SHALE_EFAILED.
 */
int engine_checkpoint_start(struct engine *e, const char *path, uint64_t *ticket_out);

/* 1 and *@out: done and on disk; 0: not yet; negative, with words: failed, and the place is as it was. After a final answer the ticket is forgotten. */
int engine_checkpoint_done(struct engine *e, uint64_t ticket, struct checkpoint_result *out, struct err_info *err);

/* It ends soon with -ECANCELED, unless it is being completed just now. Any thread. 0, or -ENOENT: it has ended. */
int engine_checkpoint_cancel(struct engine *e, uint64_t ticket);

/* ---- for jobs.c and engine.c ---- */

/* Under the lock: one waits; it is claimed, and @note says what is to be done. */
bool checkpoint_claim(struct engine *e, struct job_note *note);
/* Worker. 0 or the failure, which is the asker's alone, with words. */
int checkpoint_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err);

#endif
