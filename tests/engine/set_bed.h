/* set_bed.h - a version set over a scratch directory whose disk can be told to fail, and what its tests share. */
#ifndef SHALE_TESTS_SET_BED_H
#define SHALE_TESTS_SET_BED_H

#include "engine/filename.h"
#include "engine/version_set.h"
#include "shm/error.h"
#include "tests/engine/faulty_env.h"

struct bed {
	char *dir;
	struct faulty_env env;
	struct io_queue *q;
	pthread_mutex_t lock;
	struct version_set vs;
	struct version_set_options options;
	struct err_info err;
	unsigned gone; /* files made obsolete */
};

void bed_init(struct bed *b);
void bed_restart(struct bed *b); /* the set anew, as after a restart: nothing recovered yet */
void bed_fini(struct bed *b);

/* Each fails the test, with the set's words, when it does not succeed. */
void bed_create(struct bed *b);
void bed_recover(struct bed *b); /* after a restart */

/* Restarts, and fails unless recovery answers @want with all these words and takes nothing over. */
void expect_recovery(struct bed *b, int want, const char *const *words, size_t count);
#define EXPECT_RECOVERY(b, want, ...)                                                                                  \
	expect_recovery(b, want, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

char *path_of(const struct bed *b, const char *name); /* in memory that the next call reuses */
void write_file(const struct bed *b, const char *name, const void *data, size_t size);
unsigned char *read_whole(const struct bed *b, const char *name, size_t *size_out); /* owned: free() */

/* A stand-in for a table: right name, right size, no contents. */
void make_table(const struct bed *b, uint64_t number, uint64_t size);

/* Adds a new table to the edit, at level 1: number n, key "k<n>", size 100 + n. Returns n. */
uint64_t add_one(struct bed *b, struct edit *e);

/* Applies an edit that adds one such table and sets the log number to n. */
int apply_one(struct bed *b, uint64_t *number_out);
uint64_t must_apply(struct bed *b);

unsigned count_files(const struct bed *b, enum file_type type);

#endif
