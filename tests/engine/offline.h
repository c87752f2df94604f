/* offline.h - a small database on disk, nobody's, for the tests of verify, repair and dump; and damage done to it. */
#ifndef SHALE_TESTS_ENGINE_OFFLINE_H
#define SHALE_TESTS_ENGINE_OFFLINE_H

#include "engine/exam.h"
#include "tests/engine/world.h"

enum { STORED_MAX = 64 };

/* Scratch directories lie in memory from now on, where there is such a place: thousands of opens, each with its syncs, need not reach a disk. */
void test_in_memory(void);

/* Files of a directory, in memory. */
struct stored {
	struct stored_file {
		char name[FILE_NAME_MAX + 24];
		unsigned char *bytes;
		size_t size;
	} at[STORED_MAX];
	size_t count;
};

void stored_take(struct stored *s, const char *dir);
void stored_free(struct stored *s);
/* Makes @dir hold just these files (folders in it are emptied and removed). */
void stored_put(const struct stored *s, const char *dir);
struct stored_file *stored_find(struct stored *s, const char *name); /* NULL: none */

char *in_dir(const char *dir, const char *name); /* a path, in memory that the next call but three reuses */
void overwrite(const char *dir, const char *name, const void *bytes, size_t size);
void flip_in(const char *dir, const char *name, size_t offset, unsigned bit);
/* The n-th file (from 0) that ends so, by name; the test fails without. In memory as in_dir's. */
const char *nth_file(const char *dir, const char *suffix, unsigned n);

/* An exam of @dir that keeps what it was told. */
struct looked {
	struct exam exam;
	char text[1 << 16]; /* a line for each finding: "problem|note kind file offset what" */
};

void looked_open(struct looked *l, const char *dir);
void looked_close(struct looked *l);

#endif
