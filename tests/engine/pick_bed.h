/* pick_bed.h - one version set made by hand (hand_made.h), and what tests of picking do with it. */
#ifndef SHALE_TESTS_PICK_BED_H
#define SHALE_TESTS_PICK_BED_H

#include "tests/engine/hand_made.h"
#include "tests/test.h"

#include "shm/error.h"

extern struct hand hand;
extern struct edit next; /* files to be there, until hand_install */

void pick_begin(void);
/* Ends @c (NULL: none), which must be the last that runs, and the set. */
void pick_end(struct compaction *c);

/* The next by size; NULL: none. */
struct compaction *pick_size(void);

/* Fails unless @c merges just these files ("3 5 9") of @level and the next one. */
void pick_expect(const struct compaction *c, unsigned level, const char *inputs0, const char *inputs1);

#endif
