#include "tests/sim/plants.h"

#include <stdio.h>

#include "engine/plant.h"
#include "tests/sim/isolate.h"

#ifdef SHALE_PLANT

const char *plant_chosen;

static const struct {
	const char *name, *words;
} plants[] = {
	{"ack-before-sync", "a sync write is acknowledged when its bytes are written, not synced"},
	{"sync-not-in-order", "a newer log is synced and acknowledged while an older one is not"},
	{"fsync-retried", "a failed fdatasync of the log is simply tried again"},
	{"drained-early", "bytes count as written when their write is submitted"},
	{"window-ignored", "what a killed process left in its window is not completed"},
	{"window-wrap", "the window's ring is completed as if it did not wrap"},
	{"directory-sync-skipped", "a table's name is not made durable before the MANIFEST names it"},
	{"current-sync-skipped", "the rename of CURRENT is not made durable before the old MANIFEST goes"},
	{"table-sync-skipped", "a table is not synced before the MANIFEST names it"},
	{"manifest-sync-skipped", "an edit is not synced before what it replaces is deleted"},
	{"crc-skipped", "replay takes records whose checksum does not match"},
	{"stale-tail", "replay goes on behind a record that is bad"},
	{"batch-half-applied", "replay applies half of a batch"},
	{"log-number-early", "a flush gives up the logs of memtables that are not flushed"},
	{"tombstone-early", "a tombstone is dropped while a deeper level holds its key"},
	{"snapshot-ignored", "a merge keeps the newest entry only, whatever snapshots need"},
	{"oldest-snapshot-only", "a merge keeps what the oldest snapshot sees, and drops what others do"},
	{"in-flight-overlap", "a flush goes to a level where a running compaction writes across its range"},
	{"deleted-in-use", "a merge's inputs are deleted while somebody still reads them"},
	{"level-0-order", "level 0 is read oldest first"},
};

bool plants_choose(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++) {
		if (strcmp(plants[i].name, name) == 0)
			plant_chosen = plants[i].name;
	}
	return plant_chosen != NULL;
}

int plants_run(uint64_t seed, double seconds, unsigned jobs)
{
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++) {
		struct sim_script script = {0};
		double begin = seconds_now();
		struct sim_result sum;
		uint64_t failed;

		plant_chosen = plants[i].name;
		isolate_seeds(seed, UINT64_MAX / 2, seconds, jobs, false, &sum, &failed, &script);
		found += sum.violation[0] != 0;
		printf("%-24s %-9s %6.1f s %6llu seeds  %s\n", plants[i].name, sum.violation[0] ? "found" : "NOT FOUND",
		       seconds_now() - begin, (unsigned long long)sum.seeds,
		       sum.violation[0] ? sum.violation : plants[i].words);
		script_fini(&script);
	}
	printf("sim-bugs: planted=%zu found=%u\n", ARRAY_SIZE(plants), found);
	return found != ARRAY_SIZE(plants);
}

#else

bool plants_choose(const char *name)
{
	(void)name;
	return false;
}

int plants_run(uint64_t seed, double seconds, unsigned jobs)
{
	(void)seed, (void)seconds, (void)jobs;
	fputs("this build has no planted bugs: make sim-bugs\n", stderr);
	return 2;
}

#endif
