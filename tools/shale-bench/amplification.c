/*
 * amplification.c - what a benchmark cost the disk.
 *
 * The kernel's counts of a process (/proc/PID/io) miss io_uring's writes and mix in the log, so each driver tells what its engine
 * counts itself: bytes of finished tables. Work that a benchmark leaves behind is part of its price, hence the waiting.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

enum { POLL_US = 100000, QUIET_POLLS = 20 };

int amplification_settle(const struct driver *d, uint64_t *tables_out)
{
	uint64_t before, now;
	unsigned quiet = 0;
	int rc = d->tables_written(&before);

	for (; rc == 0 && quiet < QUIET_POLLS; before = now) {
		usleep(POLL_US);
		rc = d->tables_written(&now);
		quiet = rc == 0 && now == before ? quiet + 1 : 0;
	}
	if (rc == 0)
		*tables_out = before;
	return rc;
}

uint64_t amplification_disk(const char *database)
{
	DIR *dir = opendir(database);
	uint64_t bytes = 0;
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		const char *dot = strrchr(e->d_name, '.');
		struct stat st;

		if (dot && (strcmp(dot, ".ldb") == 0 || strcmp(dot, ".sst") == 0) &&
		    fstatat(dirfd(dir), e->d_name, &st, 0) == 0)
			bytes += (uint64_t)st.st_size;
	}
	if (dir)
		closedir(dir);
	return bytes;
}
