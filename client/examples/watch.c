/*
 * watch.c - tell what changes in a range of keys, by comparing one snapshot with the next.
 *
 *	cc watch.c $(pkg-config --cflags --libs shale) -o watch && ./watch SOCKET-OR-DIRECTORY PREFIX [ROUNDS [MILLISECONDS]]
 *
 * Both cursors walk side by side, each over a state that stands still, so that a batch is seen whole or not at all.
 */
#include <shale.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shale_iter *cursor(struct shale_db *db, const struct shale_snapshot *snapshot, const char *prefix)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_iter *it;

	options.snapshot = snapshot;
	options.prefix = prefix;
	options.prefix_len = strlen(prefix);
	if (shale_iter_open(db, &options, &it) < 0)
		return NULL;
	shale_iter_seek_first(it);
	return it;
}

/* Less than 0: @a comes first, or is the only one left. */
static int compare(const struct shale_iter *a, const struct shale_iter *b)
{
	const void *key[2];
	size_t len[2];
	int c;

	if (!shale_iter_valid(a) || !shale_iter_valid(b))
		return shale_iter_valid(b) - shale_iter_valid(a);
	key[0] = shale_iter_key(a, &len[0]);
	key[1] = shale_iter_key(b, &len[1]);
	c = memcmp(key[0], key[1], len[0] < len[1] ? len[0] : len[1]);
	return c ? c : (len[0] > len[1]) - (len[0] < len[1]);
}

static int same_value(const struct shale_iter *a, const struct shale_iter *b)
{
	const void *value[2];
	size_t len[2];

	value[0] = shale_iter_value(a, &len[0]);
	value[1] = shale_iter_value(b, &len[1]);
	return len[0] == len[1] && memcmp(value[0], value[1], len[0]) == 0;
}

static void tell(char what, const struct shale_iter *it)
{
	size_t key_len, value_len;
	const char *key = shale_iter_key(it, &key_len), *value = shale_iter_value(it, &value_len);

	printf("%c %.*s = %.*s\n", what, (int)key_len, key, (int)value_len, value);
}

/* 0, or the first failure of either cursor. */
static int differences(struct shale_iter *old, struct shale_iter *new)
{
	while (shale_iter_valid(old) || shale_iter_valid(new)) {
		int c = compare(old, new);

		if (c < 0)
			tell('-', old);
		else if (c > 0)
			tell('+', new);
		else if (!same_value(old, new))
			tell('*', new);
		if (c <= 0)
			shale_iter_next(old);
		if (c >= 0)
			shale_iter_next(new);
	}
	fflush(stdout);
	return shale_iter_error(old) ? shale_iter_error(old) : shale_iter_error(new);
}

static int look(struct shale_db *db, const struct shale_snapshot *before, const struct shale_snapshot *now,
		const char *prefix)
{
	struct shale_iter *old = cursor(db, before, prefix), *new = cursor(db, now, prefix);
	int rc = old && new ? differences(old, new) : -1;

	shale_iter_close(old);
	shale_iter_close(new);
	return rc;
}

static int watch(struct shale_db *db, const char *prefix, int rounds, int ms)
{
	struct shale_snapshot *before, *now;
	int rc = shale_snapshot_take(db, &before);

	if (rc < 0)
		return rc;
	printf("watching %s\n", prefix);
	fflush(stdout);
	for (int i = 0; i < rounds && rc == 0; i++) {
		usleep((useconds_t)ms * 1000);
		rc = shale_snapshot_take(db, &now);
		if (rc < 0)
			break;
		/* The same sequence: nothing was written since, anywhere. */
		if (shale_snapshot_sequence(now) != shale_snapshot_sequence(before))
			rc = look(db, before, now, prefix);
		shale_snapshot_release(db, before);
		before = now;
	}
	shale_snapshot_release(db, before);
	return rc;
}

int main(int argc, char **argv)
{
	struct shale_db *db;
	int rc;

	if (argc < 3) {
		fprintf(stderr, "usage: watch SOCKET-OR-DIRECTORY PREFIX [ROUNDS [MILLISECONDS]]\n");
		return 2;
	}
	rc = shale_open(argv[1], NULL, &db);
	if (rc < 0) {
		fprintf(stderr, "open: %s\n", shale_last_error(NULL));
		return 1;
	}
	rc = watch(db, argv[2], argc > 3 ? atoi(argv[3]) : 1000000, argc > 4 ? atoi(argv[4]) : 500);
	if (rc < 0)
		fprintf(stderr, "watch: %s\n", shale_last_error(db));
	shale_close(db);
	return rc < 0;
}
