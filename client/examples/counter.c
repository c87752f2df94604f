/*
 * counter.c - many processes add to one number, and none is lost: compare-and-set.
 *
 * Each reads the number and its sequence, and writes the next one under the condition that the entry is still the same. If
 * somebody was faster, nothing is written, and it tries again.
 *
 *	cc counter.c $(pkg-config --cflags --libs shale) -o counter && ./counter DIRECTORY [PROCESSES [TIMES]]
 *
 * The directory needs no daemon: one is started for it, and goes when the last process has gone.
 */
#include <shale.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char key[] = "counter";

static int failed(const char *what, const struct shale_db *db)
{
	fprintf(stderr, "%s: %s\n", what, shale_last_error(db));
	return -1;
}

/* Adds one. The number of attempts that somebody else spoiled, or -1. */
static int increment(struct shale_db *db, struct shale_batch *batch)
{
	for (int spoiled = 0;; spoiled++) {
		struct shale_read_options read = SHALE_READ_OPTIONS_INIT;
		uint64_t sequence = 0; /* of the entry that was read; 0: there is none */
		char text[32] = "";
		size_t len = 0;
		int rc;

		read.sequence_out = &sequence;
		rc = shale_get(db, &read, key, strlen(key), text, sizeof(text) - 1, &len);
		if (rc < 0)
			return failed("get", db);
		snprintf(text, sizeof(text), "%ld", strtol(text, NULL, 10) + 1);
		shale_batch_clear(batch);
		shale_batch_require_sequence(batch, key, strlen(key), sequence);
		shale_batch_put(batch, key, strlen(key), text, strlen(text));
		rc = shale_write(db, NULL, batch, NULL);
		if (rc == 0)
			return spoiled;
		if (rc != SHALE_MISMATCH)
			return failed("write", db);
	}
}

/* A process of its own: it must open the database itself. */
static int count(const char *directory, int times)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_batch *batch = shale_batch_new();
	struct shale_db *db;
	int rc = 0;

	options.autostart = 1;
	if (shale_open(directory, &options, &db) < 0)
		return failed("open", NULL);
	for (int i = 0; i < times && rc >= 0; i++)
		rc = increment(db, batch);
	shale_batch_free(batch);
	shale_close(db);
	return rc < 0 ? 1 : 0;
}

static int show(const char *directory)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	void *value;
	size_t len;

	options.autostart = 1;
	if (shale_open(directory, &options, &db) < 0)
		return failed("open", NULL);
	if (shale_get_alloc(db, NULL, key, strlen(key), &value, &len) == 0) {
		printf("counter = %s\n", (char *)value);
		shale_free(value);
	}
	shale_close(db);
	return 0;
}

int main(int argc, char **argv)
{
	int processes = argc > 2 ? atoi(argv[2]) : 4, times = argc > 3 ? atoi(argv[3]) : 250, status, bad = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: counter DIRECTORY [PROCESSES [TIMES]]\n");
		return 2;
	}
	for (int i = 0; i < processes; i++) {
		if (fork() == 0)
			_exit(count(argv[1], times) != 0);
	}
	while (wait(&status) > 0)
		bad |= status;
	return bad || show(argv[1]) ? 1 : 0;
}
