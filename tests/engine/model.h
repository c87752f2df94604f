/*
 * model.h - what a database must hold: for every key of a small key space the whole history of its values.
 *
 * So any sequence can be asked for, snapshots included, and a scan can be compared entry by entry. Key i is made by model_key, sorted as i is,
 * with an empty key, common prefixes, zero bytes and 0xff among them; a value is made from a seed.
 */
#ifndef SHALE_TESTS_ENGINE_MODEL_H
#define SHALE_TESTS_ENGINE_MODEL_H

#include "shm/base.h"
#include "tests/engine/world.h"

enum { MODEL_KEY_MAX = 64, MODEL_VALUE_MAX = 4096 };

struct model_entry {
	uint64_t sequence;
	bool present;
	uint32_t seed, size; /* of the value */
};

struct model {
	unsigned keys;
	struct model_entry **history; /* by key: ascending sequences */
	size_t *count, *cap;
};

void model_init(struct model *m, unsigned keys);
void model_fini(struct model *m);

struct slice model_key(unsigned i, unsigned char buf[MODEL_KEY_MAX]);
/* Half of it random, half compressible. */
struct slice model_value(uint32_t seed, uint32_t size, unsigned char buf[MODEL_VALUE_MAX]);

void model_set(struct model *m, unsigned key, uint64_t sequence, bool present, uint32_t seed, uint32_t size);
/* What a reader at @sequence sees: NULL for no such key. */
const struct model_entry *model_get(const struct model *m, unsigned key, uint64_t sequence);
size_t model_count(const struct model *m, uint64_t sequence);

/* Writes a random batch of at most @max operations to both. */
void model_write(struct model *m, struct world *w, uint64_t *seed, unsigned max, uint32_t max_value);
/* One key, or all by a scan, must be the same in both. */
void model_check_get(struct model *m, struct world *w, unsigned key, uint64_t sequence);
void model_check_scan(struct model *m, struct world *w, uint64_t sequence, bool reverse, size_t chunk);

#endif
