/*
 * source.h - where reading code gets its blocks: it asks, it never reads.
 *
 * Two sources:
 *	read_ctx       of one request on the service thread: answers from the caches; what is not there is noted as a miss, fetched
 *	               with all other misses of the request at once, pinned, and the request runs again from the start
 *	direct_source  of a worker (compaction, recovery): reads through the worker's own queue, waits, reads ahead, fills no cache
 *
 * Both hand out references that the asker returns (table_unref, block_unref).
 */
#ifndef SHALE_ENGINE_SOURCE_H
#define SHALE_ENGINE_SOURCE_H

#include "engine/cache.h"
#include "engine/table.h"

struct block_source {
	/* The open table of file @number. 0, READ_MISS, or a failure. */
	int (*table)(struct block_source *src, uint64_t number, uint64_t file_size, struct table **out);
	/* One data block. 0, READ_MISS, or a failure. */
	int (*block)(struct block_source *src, struct table *t, struct block_handle h, struct block **out);
};

/* ---- read_ctx ---- */

/* What all requests of a service thread share. */
struct read_shared {
	struct io_env *env;
	struct io_queue *queue; /* the service thread's */
	struct table_cache *tables;
	struct block_cache *blocks;
};

enum {
	READ_MISSES_MAX = 64, /* noted in one round; more are noted by the next */
	READ_HELD = 4,	      /* pins that need no allocation: a get takes one */
};

/*
 * One request's reading state. Lives in the caller's request; init is cheap (no allocation on the hit path). Pins keep values valid:
 * every slice that a probe returned through this source stays valid until read_ctx_reset or read_ctx_fini.
 */
struct read_ctx {
	struct block_source source; /* pass &ctx.source to probes */
	struct read_shared *shared;
	bool no_fill;		       /* do not insert fetched blocks into the cache (they stay pinned here) */
	unsigned readahead;	       /* bytes to read beyond a missed block, for scans; 0: none */
	struct block *held[READ_HELD]; /* the first blocks that results point into; more are in pins */
	unsigned held_count;
	struct read_pins *pins; /* what was fetched for this request; NULL until something is */
	struct fetch *misses;	/* noted, not yet fetched */
	struct fetch *failed;	/* fetches that failed: the next ask for the same table or block gets the error */
	unsigned miss_count, in_flight;
	size_t bytes;  /* of memory that pins of what was fetched keep alive, and that reads under way fill */
	size_t wanted; /* stored bytes of the blocks noted */
	int error;     /* of the fetches: the first failure */
	void (*fetched)(struct read_ctx *ctx);
};

void read_ctx_init(struct read_ctx *ctx, struct read_shared *shared);

/* Keeps @b alive until reset: used for blocks whose bytes a result points into. Takes the reference. 0 or -ENOMEM (reference dropped). */
int read_ctx_pin(struct read_ctx *ctx, struct block *b);

/* Words for ctx->error, valid until reset; NULL when no fetch failed. */
const struct err_info *read_ctx_error(const struct read_ctx *ctx);

/*
 * After a probe said READ_MISS: submits all noted misses (table opens and block reads; several in parallel). When the last is in,
 * @fetched is called from the queue's poll or wait (which also flush), and the caller probes again. A failure is reported by that probe:
 * -EIO, -SHALE_ECORRUPT, -SHALE_EMISSING, … 0; -EINVAL when nothing was noted.
 */
int read_ctx_fetch(struct read_ctx *ctx, void (*fetched)(struct read_ctx *ctx));

/*
 * For a probe that must not go on for now: drops pins (nothing of an earlier answer may be in use) and notes a fetch of nothing, so that the
 * caller comes back by way of the queue, after others had their turn. READ_MISS, or -ENOMEM.
 */
int read_ctx_yield(struct read_ctx *ctx);

/*
 * Lets go of the blocks that the last answers point into: they were copied. What was fetched stays pinned. For requests that ask for
 * many keys.
 */
void read_ctx_release(struct read_ctx *ctx);

/* Lets go of what was fetched as well; it is fetched anew when it is asked for again and no cache has it. Nothing may be in flight. */
void read_ctx_unpin(struct read_ctx *ctx);

/* Forgets what was noted: the probe will be repeated anyway, and until then it takes memory. */
void read_ctx_forget(struct read_ctx *ctx);

/* Drops pins, ready for another request. Nothing may be in flight. */
void read_ctx_reset(struct read_ctx *ctx);

/* As reset, and frees what was allocated. A request whose client is gone waits for in_flight == 0 first. */
void read_ctx_fini(struct read_ctx *ctx);

/* ---- direct_source ---- */

struct direct_source; /* embeds a block_source */

/* @readahead: bytes read at once when a table is read in order (e.g. 256 KiB). Opened tables go into and come from @tables (may be NULL). */
int direct_source_new(struct io_env *env, struct io_queue *q, struct table_cache *tables, size_t readahead,
		      struct direct_source **out);
struct block_source *direct_source_base(struct direct_source *s);
uint64_t direct_source_bytes_read(const struct direct_source *s);
/* Words for the last failure that this source returned. */
const struct err_info *direct_source_error(const struct direct_source *s);
void direct_source_free(struct direct_source *s); /* NULL is fine */

#endif
