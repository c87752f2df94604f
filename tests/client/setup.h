/*
 * setup.h - the usual surroundings of a client test: a scratch directory, a fake daemon, an open handle.
 */
#ifndef SHALE_TESTS_CLIENT_SETUP_H
#define SHALE_TESTS_CLIENT_SETUP_H

#include "client/shale.h"
#include "tests/client/fake_daemon.h"

struct setup {
	char *dir, *path; /* scratch directory, and the socket in it */
	struct fake *fake;
	struct shale_db *db;
};

/* A running fake and a handle to it that waits a short while for daemons. */
struct setup setup_new(void);

/* The same with the fake not started and no handle. */
struct setup setup_dark(void);

void setup_open(struct setup *s, const struct shale_options *options);
void setup_free(struct setup *s);

/* Text keys and values. */
int put(struct shale_db *db, const char *key, const char *value);

/* Fails the test unless @key reads as @value (NULL: not found). */
void expect(struct shale_db *db, const struct shale_snapshot *snapshot, const char *key, const char *value);

/* Waits until *@word is @value, for at most five seconds; then the test fails. */
void eventually(const _Atomic unsigned *word, unsigned value);

/* Fails the test unless the last error of @db contains @part. */
void expect_words(const struct shale_db *db, const char *part);

#endif
