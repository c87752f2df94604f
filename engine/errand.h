/*
 * errand.h - a job that somebody asked for and waits for with a ticket: a checkpoint, a check. At most one of each kind at a time.
 *
 *	start ─▶ WAITING ──claim──▶ RUNNING ──end──▶ ENDED ──take──▶ forgotten
 *	            └────────────cancel──────────────▲
 *
 * Each kind has a struct of its own that begins with this one. The engine owns it from start until the answer is taken; the worker that claimed it
 * may use it until it says errand_end, because nobody replaces one that runs.
 */
#ifndef SHALE_ENGINE_ERRAND_H
#define SHALE_ENGINE_ERRAND_H

#include <stdatomic.h>

#include "shm/base.h"
#include "shm/error.h"

struct engine;

enum errand_kind { ERRAND_CHECKPOINT, ERRAND_CHECK, ERRAND_KINDS };

struct errand {
	enum errand_kind kind;
	uint64_t ticket;
	enum { ERRAND_WAITING, ERRAND_RUNNING, ERRAND_ENDED } state; /* the engine's lock */
	_Atomic bool cancelled;                                      /* relaxed: the worker sees it soon */
	int rc;
	struct err_info err;
};

/*
 * Takes @a (malloc'ed, zeroed but for its kind), also on failure. Any thread. 0 and a ticket; -EBUSY: one of its kind waits or runs; -SHALE_EFAILED: the
 * engine has stopped for good.
 */
int errand_start(struct engine *e, struct errand *a, uint64_t *ticket_out);

/* 1 and *@out, the caller's to free: done; 0: not yet; negative, with words: failed, or -ENOENT: no such ticket. After a final answer the ticket is forgotten. */
int errand_take(struct engine *e, enum errand_kind kind, uint64_t ticket, struct errand **out, struct err_info *err);

/* One that waits ends at once, one that runs soon. Any thread. 0, or -ENOENT: it has ended. */
int errand_cancel(struct engine *e, enum errand_kind kind, uint64_t ticket);

/* Under the lock: one of @kind waits, and is the caller's to run; or NULL. */
struct errand *errand_claim(struct engine *e, enum errand_kind kind);
/* Worker: it is to end unfinished. */
bool errand_is_over(const struct engine *e, const struct errand *a);
/* Under the lock: it has ended with @rc and, when that is negative, words in a->err. */
void errand_end(struct engine *e, struct errand *a, int rc);

void errands_free(struct engine *e);

#endif
