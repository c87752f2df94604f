/*
 * hello.c - the library in one page: writes, reads, a batch, a snapshot, a scan.
 *
 *	cc hello.c $(pkg-config --cflags --libs shale) -o hello && ./hello [SOCKET or DATABASE DIRECTORY]
 */
#include <shale.h>

#include <stdio.h>
#include <string.h>

static int say(const struct shale_db *db, const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, shale_last_error(db));
	return rc < 0 ? 1 : 0;
}

static int scan(struct shale_db *db, const struct shale_snapshot *snapshot)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_iter *it;
	int rc;

	options.snapshot = snapshot;
	options.prefix = "planet/";
	options.prefix_len = strlen("planet/");
	rc = shale_iter_open(db, &options, &it);
	if (rc < 0)
		return say(db, "scan", rc);
	for (shale_iter_seek_first(it); shale_iter_valid(it); shale_iter_next(it)) {
		size_t key_len, value_len;
		const char *key = shale_iter_key(it, &key_len), *value = shale_iter_value(it, &value_len);

		printf("  %.*s = %.*s\n", (int)key_len, key, (int)value_len, value);
	}
	rc = shale_iter_error(it);
	shale_iter_close(it);
	return rc < 0 ? say(db, "scan", rc) : 0;
}

static int use(struct shale_db *db)
{
	struct shale_batch *batch = shale_batch_new();
	struct shale_snapshot *before;
	char value[64];
	size_t len;
	int rc;

	/* Together or not at all. */
	shale_batch_put(batch, "planet/3", 8, "Earth", 5);
	shale_batch_put(batch, "planet/4", 8, "Mars", 4);
	shale_batch_put(batch, "planet/9", 8, "Pluto", 5);
	rc = shale_write(db, NULL, batch, NULL);
	shale_batch_free(batch);
	if (rc < 0)
		return say(db, "write", rc);

	rc = shale_get(db, NULL, "planet/4", 8, value, sizeof(value), &len);
	if (rc < 0)
		return say(db, "get", rc);
	printf("planet/4 is %.*s\n", (int)len, value);

	rc = shale_snapshot_take(db, &before);
	if (rc < 0)
		return say(db, "snapshot", rc);
	shale_delete(db, NULL, "planet/9", 8);
	printf("before:\n");
	rc = scan(db, before);
	printf("now:\n");
	if (rc == 0)
		rc = scan(db, NULL);
	shale_snapshot_release(db, before);
	return rc;
}

int main(int argc, char **argv)
{
	struct shale_db *db;
	int rc = shale_open(argc > 1 ? argv[1] : NULL, NULL, &db);

	if (rc < 0)
		return say(NULL, "open", rc);
	rc = use(db);
	shale_close(db);
	return rc;
}
