#include "tests/sim/plants.h"

#include <stdio.h>

#include "engine/plant.h"
#include "tests/sim/shrink.h"

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
	{"slice-visible", "readers see the first thousands of records of a batch while the others are inserted"},
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

enum { SCRIPT_SECONDS = 20, SHRINK_SECONDS = 60 };

static bool read_script(const char *path, struct sim_script *out)
{
	FILE *f = fopen(path, "r");
	unsigned line;
	int rc;

	if (!f)
		return false;
	rc = script_read(f, out, &line);
	fclose(f);
	if (rc < 0)
		printf("%s:%u: no such command or setting\n", path, line);
	return rc == 0;
}

/* What is known to find it. */
static bool by_script(const char *path)
{
	struct sim_result result = {0};
	struct sim_script script;

	if (!read_script(path, &script))
		return false;
	isolate_script(&script, SCRIPT_SECONDS, false, &result);
	script_fini(&script);
	return result.violation[0] != 0;
}

/* Shortens what found it, and keeps it, if it is the plant's doing: without it the script must pass. */
static void keep_script(const char *path, const char *words, struct sim_script *script)
{
	const char *planted = plant_chosen;
	struct sim_result with, without;
	FILE *f;

	if (!shrink(script, SHRINK_SECONDS, true, &with))
		return;
	plant_chosen = NULL;
	isolate_script(script, SCRIPT_SECONDS, false, &without);
	plant_chosen = planted;
	f = without.violation[0] ? NULL : fopen(path, "w");
	if (!f) {
		printf("%s is not kept%s%s\n", path, without.violation[0] ? ": it fails without the bug, too: " : "",
		       without.violation);
		return;
	}
	fprintf(f, "# %s\n", words);
	script_write(f, script);
	fclose(f);
	printf("%s: %zu commands\n", path, script->count);
}

/* True: it was found, one way or the other. */
static bool run_plant(const char *folder, bool keep, unsigned i, uint64_t seed, double seconds, unsigned jobs)
{
	double begin = seconds_now(), first;
	struct sim_script script = {0};
	struct sim_result sum;
	char path[512];
	bool known;
	uint64_t failed;

	plant_chosen = plants[i].name;
	snprintf(path, sizeof(path), "%s/%s.sim", folder, plants[i].name);
	known = by_script(path);
	first = seconds_now();
	isolate_seeds(seed, UINT64_MAX / 2, seconds, jobs, false, &sum, &failed, &script);
	printf("%-24s script %-9s %4.1f s   seeds %-9s %5.1f s %4llu  %.100s\n", plants[i].name,
	       known ? "found it," : "NOT", first - begin, sum.violation[0] ? "found it," : "NOT",
	       seconds_now() - first, (unsigned long long)sum.seeds,
	       sum.violation[0] ? sum.violation : plants[i].words);
	fflush(stdout);
	if (keep && !known && sum.violation[0])
		keep_script(path, plants[i].words, &script);
	script_fini(&script);
	return known || sum.violation[0];
}

int plants_run(const char *folder, bool keep, uint64_t seed, double seconds, unsigned jobs)
{
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(plants); i++)
		found += run_plant(folder, keep, i, seed, seconds, jobs);
	printf("sim-bugs: planted=%zu found=%u\n", ARRAY_SIZE(plants), found);
	return found != ARRAY_SIZE(plants);
}

#else

bool plants_choose(const char *name)
{
	(void)name;
	return false;
}

int plants_run(const char *folder, bool keep, uint64_t seed, double seconds, unsigned jobs)
{
	(void)folder, (void)keep, (void)seed, (void)seconds, (void)jobs;
	fputs("this build has no planted bugs: make sim-bugs\n", stderr);
	return 2;
}

#endif
