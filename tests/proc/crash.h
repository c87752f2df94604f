/*
 * crash.h - a load whose result after any crash is known, and the judge who looks.
 *
 * CRASH_WRITERS processes write batches, one after the other, until the daemon is gone. Batch n of a writer sets its counter to
 * n and rewrites (or deletes) the keys of slot n % CRASH_SLOTS, so what the database must hold follows from the counters alone. Each
 * writer keeps a journal in memory that the daemon cannot reach: "sent" before a batch is submitted, the answer before the next one.
 *
 * crash_judge() holds a recovered database against the journals:
 *	whole        the keys are just those that the batches up to each counter made: no batch is half there, none is there out of
 *	             turn, no deleted key is back
 *	kept         daemon killed: every acknowledged batch; power loss: every one that was acknowledged as synced before the power began to
 *	             go. (A file system that is being shut down answers OK to an fdatasync under way at that moment, and has lost what it was for:
 *	             seen on ext4 and XFS, by a program of thirty lines. With real power nobody would be left to hear of it.)
 *	a prefix     of the acknowledged order: what is there has sequence numbers up to the recovered one, what is not there has higher ones
 *	not refused  what was refused with an error that says "not applied" is not there
 *	numbered     no sequence number that was recovered, or given in this life, is given again
 */
#ifndef SHALE_TESTS_CRASH_H
#define SHALE_TESTS_CRASH_H

#include "tests/proc/proc.h"

enum { CRASH_WRITERS = 3, CRASH_SLOTS = 48, CRASH_KEYS = 4 };

enum crash_kind { CRASH_KILLED, CRASH_POWER };

struct crash_journal;

struct crash {
	struct private_daemon *d;
	struct crash_journal *journal;
	uint64_t seed;
	uint64_t slot[CRASH_WRITERS][CRASH_SLOTS]; /* the newest batch of each slot that is in the database; 0: none */
	uint64_t counter[CRASH_WRITERS];
	uint64_t last_sequence;			   /* recovered */
	uint64_t cut_ns;			   /* when the power began to go: CRASH_POWER */
	pid_t pid[CRASH_WRITERS];
	unsigned cycles, kills, shutdowns, lost;
	uint64_t batches;
};

/* On a daemon that serves an empty database. */
void crash_begin(struct crash *c, struct private_daemon *d, uint64_t seed);

/* Starts the writers. They end when the daemon does. */
void crash_load(struct crash *c);

/* Waits for them, the daemon being gone, or going. */
void crash_join(struct crash *c);

/* The daemon serves again: looks, adds violations (told on stdout) to c->lost, and prepares the next cycle. */
void crash_judge(struct crash *c, enum crash_kind kind);

/* Prints the line that `make crash` adds up; the test fails when anything was lost. */
void crash_end(struct crash *c);

/* How often to repeat: @often when $SHALE_CRASH is set, as `make crash` does, else @seldom. */
unsigned crash_rounds(unsigned seldom, unsigned often);

#endif
