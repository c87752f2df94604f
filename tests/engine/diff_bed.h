/*
 * diff_bed.h - ours and stock LevelDB side by side, for test_differential.c.
 *
 *	diff_write.c    jobs at random moments, and batches that go to both
 *	diff_read.c     states to read at, and every question asked of both
 *
 * Everything fails the running test when the two differ.
 */
#ifndef SHALE_TESTS_ENGINE_DIFF_BED_H
#define SHALE_TESTS_ENGINE_DIFF_BED_H

#include "tests/engine/model.h"
#include "tests/engine/stock.h"

enum { PINS = 8, HELD = 3, BATCH_MAX = 64, BATCH_BYTES = 96 << 10 };

/* One state of the database that stays readable in both. */
struct pin {
	const leveldb_snapshot_t *stock;
	uint64_t sequence;
	struct view *view; /* ours is pinned by memtables and version; NULL: by a snapshot */
};

/* Where a run is: shared with the process that says so when it fails. */
struct progress {
	uint64_t seed, op, ops;
	bool done;
};

struct diff {
	struct progress *at;
	struct world w;
	struct stock s;
	char *stock_dir;
	bool snappy;
	int bloom_bits;
	uint64_t seed;
	unsigned keys, value_max;
	unsigned job_rate; /* of 1000 operations */
	struct pin pins[PINS];
	unsigned pin_count;
	struct job *held[HELD];
	unsigned held_count;
	uint64_t ticket;   /* of a manual compaction of ours; 0: none */
	bool cancelled;    /* it was */
	uint64_t position; /* in the log, of the last write */
	uint64_t manual, reopens, flushes, compactions, moves;
	unsigned levels; /* bits: levels that held a file when we looked */
};

/* A batch in both tongues. */
struct both {
	unsigned char ours[BATCH_BYTES + 8192], *end;
	unsigned count;
	leveldb_writebatch_t *stock;
};

/* Below @n. */
uint64_t diff_pick(struct diff *d, uint64_t n);
/* Mostly anywhere, often in a small region that wanders. */
unsigned diff_some_key(struct diff *d);

/* ---- diff_write.c ---- */

void diff_run_held(struct diff *d, unsigned i, bool may_cancel);
/* Claims one, or runs one that was claimed. False: there is nothing to do. */
bool diff_some_job(struct diff *d, unsigned kinds);
void diff_all_jobs(struct diff *d);
void diff_pump(struct diff *d, bool eager);

void both_begin(struct both *b);
void both_put(struct both *b, struct slice key, struct slice value);
void both_put_some(struct diff *d, struct both *b, unsigned key);
void both_delete(struct both *b, struct slice key);
void both_write(struct diff *d, struct both *b);
/* One entry or many; a key may come several times, and then its last entry counts. */
void diff_write_some(struct diff *d, unsigned max);
/* Keys in a row are written or deleted: tables that nothing overlaps, and runs of tombstones. */
void diff_write_run(struct diff *d);

/* ---- diff_read.c ---- */

/* One of the pinned states, or NULL: the newest. */
struct pin *diff_some_pin(struct diff *d);
void diff_pin(struct diff *d);
void diff_unpin(struct diff *d, unsigned i);
void diff_compare_get(struct diff *d, const struct pin *p, unsigned key);
/* A range somewhere, in chunks, either way. */
void diff_compare_range(struct diff *d);
/* Everything at the newest state, both ways, and at every pinned one; and our invariants, the slow ones too. */
void diff_compare_all(struct diff *d);

#endif
