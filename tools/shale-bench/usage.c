/*
 * usage.c - what a run takes of the machine.
 *
 * Bytes are counted at the block device, after a sync, since the kernel's counts per process leave out what io_uring writes. Whatever else
 * writes to that device meanwhile is counted, too.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

static char device_stat[128];
static int folder_fd = -1;

void usage_init(const char *folder)
{
	struct stat st;

	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd >= 0 && fstat(folder_fd, &st) == 0)
		snprintf(device_stat, sizeof(device_stat), "/sys/dev/block/%u:%u/stat", major(st.st_dev),
			 minor(st.st_dev));
}

void usage_settle(void)
{
	if (folder_fd >= 0)
		syncfs(folder_fd);
}

/* The seventh number of a block device's stat: sectors of 512 bytes written. */
static uint64_t device_bytes(void)
{
	unsigned long long n[7];
	uint64_t bytes = 0;
	FILE *f = fopen(device_stat, "r");

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu %llu %llu %llu %llu %llu", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6]) == 7)
		bytes = n[6] * 512;
	fclose(f);
	return bytes;
}

static double seconds_of(clockid_t clock)
{
	struct timespec t;

	return clock_gettime(clock, &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec / 1e9 : 0;
}

static uint64_t resident_bytes(pid_t pid)
{
	unsigned long long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024;
}

void usage_now(pid_t server, struct usage *out)
{
	clockid_t clock;

	*out = (struct usage){
		.cpu_client = seconds_of(CLOCK_PROCESS_CPUTIME_ID),
		.cpu_server = server && clock_getcpuclockid(server, &clock) == 0 ? seconds_of(clock) : 0,
		.device_bytes = device_bytes(),
		.resident_bytes = resident_bytes(server ? server : getpid()),
	};
}
