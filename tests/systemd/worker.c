/*
 * A client for the tests with systemd.
 *
 *	worker load SOCKET FILE     writes until SIGTERM, one call at a time, every eighth synced; reads what it was told to be there in between. Notes the numbers
 *	                            whose write was acknowledged in FILE. Fails when a read fails, or a write answers anything but 0 or -SHALE_EUNKNOWN
 *	worker verify SOCKET FILE   everything that FILE says must be there
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/shale.h"

enum { KEY = 24, PATIENCE_MS = 30000 };

static volatile sig_atomic_t ended;

static void on_term(int number)
{
	(void)number;
	ended = 1;
}

static void name_key(char key[KEY], unsigned long n)
{
	snprintf(key, KEY, "worker-%012lu", n);
}

static bool is_there(struct shale_db *db, unsigned long n)
{
	char key[KEY], value[64];
	size_t len = 0;
	int rc;

	name_key(key, n);
	rc = shale_get(db, NULL, key, strlen(key), value, sizeof(value), &len);
	if (rc == 0 && len == strlen(key) && memcmp(value, key, len) == 0)
		return true;
	fprintf(stderr, "%s: %s: %s\n", key, shale_strerror(rc),
		rc < 0 ? shale_last_error(db) : "not what was written");
	return false;
}

static int load(struct shale_db *db, FILE *notes)
{
	struct shale_write_options synced = SHALE_WRITE_OPTIONS_INIT;
	unsigned long acknowledged = 0, unknown = 0, reads = 0, last = 0;
	char key[KEY];
	bool ok = true;

	synced.sync = 1;
	for (unsigned long n = 1; ok && !ended; n++) {
		int rc;

		name_key(key, n);
		rc = shale_put(db, n % 8 ? NULL : &synced, key, strlen(key), key, strlen(key));
		if (rc == 0) {
			fprintf(notes, "%lu\n", n);
			acknowledged++;
			last = n;
		} else if (rc == -SHALE_EUNKNOWN) {
			unknown++;
		} else {
			fprintf(stderr, "write of %s: %s: %s\n", key, shale_strerror(rc), shale_last_error(db));
			ok = false;
		}
		if (ok && last) {
			ok = is_there(db, last);
			reads++;
		}
	}
	printf("%lu acknowledged, %lu unknown, %lu reads\n", acknowledged, unknown, reads);
	return ok && acknowledged ? 0 : 1;
}

static int verify(struct shale_db *db, FILE *notes)
{
	unsigned long n, count = 0;

	while (fscanf(notes, "%lu", &n) == 1) {
		if (!is_there(db, n))
			return 1;
		count++;
	}
	printf("%lu are there\n", count);
	return count ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	bool writes;
	FILE *notes;
	int rc;

	if (argc != 4 || (strcmp(argv[1], "load") && strcmp(argv[1], "verify"))) {
		fputs("usage: worker load|verify SOCKET FILE\n", stderr);
		return 2;
	}
	signal(SIGTERM, on_term);
	writes = !strcmp(argv[1], "load");
	notes = fopen(argv[3], writes ? "w" : "r");
	if (!notes) {
		perror(argv[3]);
		return 1;
	}
	options.connect_ms = options.reconnect_ms = PATIENCE_MS;
	rc = shale_open(argv[2], &options, &db);
	if (rc < 0) {
		fprintf(stderr, "%s: %s\n", argv[2], shale_last_error(NULL));
		return 1;
	}
	rc = writes ? load(db, notes) : verify(db, notes);
	shale_close(db);
	return fclose(notes) ? 1 : rc;
}
