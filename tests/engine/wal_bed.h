/* wal_bed.h - a WAL on either backend, and a model of what was committed to it. */
#ifndef SHALE_TESTS_ENGINE_WAL_BED_H
#define SHALE_TESTS_ENGINE_WAL_BED_H

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/filename.h"
#include "engine/wal.h"
#include "engine/wal_impl.h"
#include "shm/error.h"
#include "tests/test.h"

enum { RING = 256 << 10, RECORDS_MAX = 20000, LOG_BYTES = 1 << 20 };

struct wal_bed {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
	void *window;
	size_t window_size;
	struct wal *wal;
	uint64_t next_number;
};

/* What was committed: record i is size[i] bytes of a pattern made from i, in log number[i]. */
struct wal_model {
	uint32_t size[RECORDS_MAX];
	uint64_t number[RECORDS_MAX];
	unsigned count;
};
extern struct wal_model wal_model;

extern const enum io_backend wal_bed_backends[2];

/* False: this kernel has no io_uring for us. */
bool wal_bed_make(struct wal_bed *b, enum io_backend backend);
void wal_bed_drop(struct wal_bed *b);

#define FOR_BACKENDS(bed)                                                                                              \
	for (size_t i_ = 0; i_ < 2; i_++)                                                           \
		if (wal_bed_make(&(bed), wal_bed_backends[i_]))

void wal_bed_start(struct wal_bed *b);
void wal_bed_switch(struct wal_bed *b, uint64_t bytes);
const unsigned char *wal_bed_pattern(unsigned i, size_t size);
/* Appends the next record of the model, in place or copied; drives the WAL while there is no room. */
uint64_t wal_bed_append(struct wal_bed *b, size_t size);
void wal_bed_random_step(struct wal_bed *b, uint64_t *seed);
/* The logs hold exactly the model's records. */
void wal_bed_check_logs(struct wal_bed *b);

#endif
