/*
 * oracle.h - what the database must hold.
 *
 * A log of batches (what was submitted and what of it was acknowledged) and, for every key of a small key space, the history of its values. So the state at
 * any sequence is known, and after a crash the state that was recovered is named by one number, its last sequence: it must be the end of a
 * batch, not before what was promised, and every key must read as the history says at that number.
 */
#ifndef SHALE_TESTS_SIM_ORACLE_H
#define SHALE_TESTS_SIM_ORACLE_H

#include "shm/base.h"

enum { ORACLE_KEY_MAX = 64, ORACLE_VALUE_MAX = 16 << 10 };

struct oracle_entry {
	uint64_t sequence;
	bool present;
	uint32_t seed, size; /* of the value */
};

struct oracle_key {
	struct oracle_entry *v;
	size_t count, cap;
};

struct oracle {
	unsigned keys;
	struct oracle_key *key;
	uint64_t *batch; /* the last sequence of each batch, ascending */
	size_t batches, cap;
	/* Last sequences: of what may be there; of what the engine said is in; of what its client heard of. */
	uint64_t appended, accepted, acknowledged, synced;
};

void oracle_init(struct oracle *o, unsigned keys);
void oracle_fini(struct oracle *o);

/* Key i; sorted as i is, the empty key and common prefixes among them. */
struct slice oracle_key(unsigned i, unsigned char buf[ORACLE_KEY_MAX]);
void oracle_value(uint32_t seed, uint32_t size, unsigned char *buf);
bool oracle_value_is(uint32_t seed, uint32_t size, struct slice value);

/* One record of the batch that is being applied. */
void oracle_set(struct oracle *o, unsigned key, uint64_t sequence, bool present, uint32_t seed, uint32_t size);
/* The batch is in: its last sequence. */
void oracle_batch(struct oracle *o, uint64_t last);

/* What a reader at @sequence sees: NULL for no such key. */
const struct oracle_entry *oracle_get(const struct oracle *o, unsigned key, uint64_t sequence);

/* @sequence is 0 or the end of a batch. */
bool oracle_is_boundary(const struct oracle *o, uint64_t sequence);
/* The world went back to @sequence, and what it holds is durable. */
void oracle_cut(struct oracle *o, uint64_t sequence);

#endif
