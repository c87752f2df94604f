/*
 * main.c - the simulation from the command line; see tests/sim/README.md.
 *
 *	sim [--seed N] [--seconds S] [--most N] [--jobs N] [--failures DIR]
 *	sim --replay FILE
 *	sim --exhaustive OPERATIONS
 *	sim --bugs [--scripts DIR] [--keep-scripts]     (a build with SHALE_PLANT; --bug NAME plants one, for the other modes)
 *
 * Exit code: 0, 1 for a violation (or a planted bug that was not found), 2 for a usage error, or when somebody ended a process.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim/exhaustive.h"
#include "tests/sim/isolate.h"
#include "tests/sim/plants.h"
#include "tests/sim/shrink.h"

enum { SHRINK_SECONDS = 60 };

struct settings {
	uint64_t seed, most;
	double seconds;
	unsigned jobs, exhaustive;
	const char *replay, *failures, *scripts;
	bool bugs, keep;
};

#if defined(__SANITIZE_ADDRESS__)
/* Runs are short and many: a small quarantine and short stacks cost half the time. ASAN_OPTIONS overrides. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
	return "quarantine_size_mb=4:malloc_context_size=8";
}
#endif

static void print_sum(const struct sim_result *r)
{
	printf("sim: seeds=%" PRIu64 " ops=%" PRIu64 " crashes=%" PRIu64 " violations=%d\n", r->seeds, r->ops,
	       r->crashes, r->violation[0] ? 1 : 0);
}

/* What failed, made short, as a file that can be replayed. */
static void keep(const struct settings *o, uint64_t seed, struct sim_script *script, const struct sim_result *found)
{
	struct sim_result result = *found;
	size_t before = script->count;
	char path[512];
	FILE *f;

	printf("seed %" PRIu64 ": %s\nshrinking it…\n", seed, found->violation);
	fflush(stdout);
	if (!shrink(script, SHRINK_SECONDS, false, &result))
		printf("its script alone does not fail: something besides the seed decided\n");
	mkdir(o->failures, 0777);
	snprintf(path, sizeof(path), "%s/seed-%" PRIu64 ".sim", o->failures, seed);
	f = fopen(path, "w");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return;
	}
	fprintf(f, "# seed %" PRIu64 ", %zu commands of %zu: %s\n", seed, script->count, before, result.violation);
	script_write(f, script);
	fclose(f);
	printf("shrunk from %zu to %zu commands: %s\nreplay with: make sim REPLAY=%s\n", before, script->count,
	       result.violation, path);
}

static int run_seeds(const struct settings *o)
{
	struct sim_script script = {0};
	struct sim_result sum;
	uint64_t failed = 0;
	double begin = seconds_now();

	isolate_seeds(o->seed, o->most, o->seconds, o->jobs, true, &sum, &failed, &script);
	if (sum.violation[0])
		keep(o, failed, &script, &sum);
	if (sum.stopped)
		printf("a signal from outside (%d) ended a process: no verdict\n", sum.stopped);
	printf("from seed %" PRIu64 ", %.1f s, %u processes: %" PRIu64 " crashes during recovery, %" PRIu64
	       " faults, %" PRIu64 " commands; %" PRIu64 " worlds broken off at the end\n",
	       o->seed, seconds_now() - begin, o->jobs, sum.recovery_crashes, sum.faults, sum.commands, sum.broken_off);
	printf("bits damaged: flips=%" PRIu64 " detected=%" PRIu64 " harmless=%" PRIu64 "\n", sum.flips, sum.detected,
	       sum.flips - sum.detected);
	script_fini(&script);
	print_sum(&sum);
	return sum.violation[0] ? 1 : sum.stopped ? 2 : 0;
}

static int replay(const char *path)
{
	struct sim_script script;
	struct sim_result result;
	FILE *f = fopen(path, "r");
	unsigned line = 0;
	int rc;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 2;
	}
	rc = script_read(f, &script, &line);
	fclose(f);
	if (rc < 0) {
		fprintf(stderr, "%s:%u: no such command or setting\n", path, line);
		return 2;
	}
	isolate_script(&script, 600, true, &result);
	printf("hash %016" PRIx64 "%s%s\n", result.hash, result.violation[0] ? ": " : "", result.violation);
	print_sum(&result);
	script_fini(&script);
	return result.violation[0] != 0;
}

static int usage(void)
{
	fputs("usage: sim [--seed N] [--seconds S] [--most SEEDS] [--jobs N] [--failures DIR]\n"
	      "       sim --replay FILE | --exhaustive OPERATIONS | --bugs [--scripts DIR] [--keep-scripts]\n",
	      stderr);
	return 2;
}

/* Where failures go unless told: into the build folder, with the program. */
static const char *beside_program(void)
{
	static char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	strcpy(slash ? slash + 1 : path, "sim-failures");
	return path;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", 1, NULL, 's'},	      {"seconds", 1, NULL, 't'},      {"most", 1, NULL, 'm'},
		{"jobs", 1, NULL, 'j'},	      {"replay", 1, NULL, 'r'},	      {"failures", 1, NULL, 'f'},
		{"exhaustive", 1, NULL, 'x'}, {"bugs", 0, NULL, 'b'},	      {"bug", 1, NULL, 'p'},
		{"scripts", 1, NULL, 'd'},    {"keep-scripts", 0, NULL, 'k'}, {0}};
	struct settings o = {.seed = 1, .most = UINT64_MAX / 2, .seconds = 60, .scripts = "tests/sim/corpus/plants"};
	int c;

	o.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			o.seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			o.seconds = strtod(optarg, NULL);
			break;
		case 'm':
			o.most = strtoull(optarg, NULL, 0);
			break;
		case 'j':
			o.jobs = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			o.replay = optarg;
			break;
		case 'f':
			o.failures = optarg;
			break;
		case 'x':
			o.exhaustive = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case 'p':
			if (!plants_choose(optarg))
				return usage();
			break;
		case 'd':
			o.scripts = optarg;
			break;
		case 'k':
			o.keep = true;
			break;
		case 'b':
			o.bugs = true;
			break;
		default:
			return usage();
		}
	}
	if (optind < argc)
		return usage();
	if (!o.failures)
		o.failures = beside_program();
	if (o.replay)
		return replay(o.replay);
	if (o.bugs)
		return plants_run(o.scripts, o.keep, o.seed, o.seconds, o.jobs);
	if (o.exhaustive) {
		struct sim_result sum;

		exhaustive_run(o.exhaustive, o.jobs, &sum);
		if (sum.violation[0])
			printf("%s\n", sum.violation);
		print_sum(&sum);
		return sum.violation[0] != 0;
	}
	return run_seeds(&o);
}
