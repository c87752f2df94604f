/* hand_made.h - version sets put together by hand, without a disk: for tests of versions and of picking. */
#ifndef SHALE_TESTS_HAND_MADE_H
#define SHALE_TESTS_HAND_MADE_H

#include "engine/compact_pick.h"
#include "engine/version_set.h"

struct hand {
	pthread_mutex_t lock;
	struct version_set vs;
	struct running running;
	uint64_t gone[64]; /* numbers given to obsolete(), in order */
	size_t gone_count;
};

/* max_file_bytes 1000, level 1 target 10,000, ten times more per level, 4 files of level 0. */
void hand_init(struct hand *h);
void hand_fini(struct hand *h);

/* Adds file @number to an edit: user keys [smallest, largest], the smallest with sequence 100, the largest with 1. */
struct file_meta *hand_add(struct edit *e, unsigned level, uint64_t number, uint64_t size, const char *smallest, const char *largest);
struct file_meta *hand_add_at(struct edit *e, unsigned level, uint64_t number, uint64_t size, const char *smallest,
			      uint64_t smallest_sequence, const char *largest, uint64_t largest_sequence);

/* Builds and installs the next version, and ends the edit. */
void hand_install(struct hand *h, struct edit *e);

/* The live file @number; fails the test when there is none. */
struct file_meta *hand_file(struct hand *h, uint64_t number);

/* Numbers of @files as text, "3 5 9", in memory that the next call but three reuses. */
const char *hand_numbers(struct file_meta *const *files, size_t count);

/* Fails unless @files are, in any order, the numbers of @want ("3 5 9"). */
void hand_expect(struct file_meta *const *files, size_t count, const char *want);

#endif
