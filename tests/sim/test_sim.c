/* The simulation itself: it repeats, its scripts say all, and what it once found stays found. A longer run is `make sim`, the proof that it finds things `make sim-bugs`. */
#include <dirent.h>
#include <stdio.h>

#include "tests/sim/exhaustive.h"
#include "tests/sim/generate.h"
#include "tests/sim/isolate.h"
#include "tests/test.h"

enum { REPEATED = 6, CHECKED = 20 };

static uint64_t hash_of_script(const struct sim_script *script)
{
	static struct sim s;
	uint64_t hash;

	sim_init(&s, &script->config);
	sim_play(&s, script);
	ck_assert_msg(!s.violation[0], "%s", s.violation);
	hash = s.hash;
	sim_fini(&s);
	return hash;
}

/* Nothing but the seed decides: the same seed twice, and the script that it left, go the same way to the last I/O. Else no failure could be repeated. */
START_TEST(same_seed_same_trace)
{
	static struct sim s;

	for (uint64_t seed = 1; seed <= REPEATED; seed++) {
		struct sim_script script = {0};
		uint64_t hash;

		generator_play(seed, &s, &script, NULL, NULL);
		ck_assert_msg(!s.violation[0], "seed %llu: %s", (unsigned long long)seed, s.violation);
		hash = s.hash;
		sim_fini(&s);
		ck_assert_uint_eq(hash_of_script(&script), hash);
		ck_assert_uint_eq(hash_of_script(&script), hash);
		script_fini(&script);
	}
}
END_TEST

/* A script that was written and read back is the same run. */
START_TEST(scripts_survive_as_text)
{
	static struct sim s;
	struct sim_script script = {0}, back;
	FILE *f = tmpfile();
	unsigned line;
	uint64_t hash;

	generator_play(3, &s, &script, NULL, NULL);
	hash = s.hash;
	sim_fini(&s);
	ck_ok(script_write(f, &script));
	rewind(f);
	ck_assert_msg(script_read(f, &back, &line) == 0, "line %u makes no sense", line);
	ck_assert_uint_eq(back.count, script.count);
	ck_assert_uint_eq(hash_of_script(&back), hash);
	script_fini(&back);
	script_fini(&script);
	fclose(f);
}
END_TEST

/* What is no script is refused, with its line. */
START_TEST(bad_scripts_are_refused)
{
	char text[] = "# words\nset keys 3\nopen\nfly 1 2\n";
	FILE *f = fmemopen(text, sizeof(text) - 1, "r");
	struct sim_script s;
	unsigned line = 0;

	ck_assert_int_lt(script_read(f, &s, &line), 0);
	ck_assert_uint_eq(line, 4);
	fclose(f);
}
END_TEST

static unsigned replay_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned count = 0;
	struct dirent *d;

	ck_assert_msg(dir != NULL, "there is no folder %s", folder);
	while ((d = readdir(dir))) {
		struct sim_script script;
		struct sim_result result;
		char path[512];
		unsigned line;
		FILE *f;

		if (!strstr(d->d_name, ".sim"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, d->d_name);
		f = fopen(path, "r");
		ck_assert_msg(f && script_read(f, &script, &line) == 0, "%s cannot be read", path);
		fclose(f);
		isolate_script(&script, 60, false, &result);
		ck_assert_msg(!result.violation[0], "%s: %s", path, result.violation);
		script_fini(&script);
		count++;
	}
	closedir(dir);
	return count;
}

static const char *corpus(const char *below)
{
	static char path[256];
	const char *folder = getenv("SHALE_SIM_CORPUS");

	snprintf(path, sizeof(path), "%s%s", folder ? folder : "tests/sim/corpus", below);
	return path;
}

/* Every script under corpus/ failed once. */
START_TEST(corpus_passes)
{
	ck_assert_uint_ge(replay_folder(corpus("")), 1);
}
END_TEST

/* What finds a planted bug must find nothing where there is none: else it is no proof. */
START_TEST(scripts_of_plants_pass_without_them)
{
	ck_assert_uint_ge(replay_folder(corpus("/plants")), 21);
}
END_TEST

/* A few worlds with all that may happen, and no violation; the seeds are fixed, so that this test says the same everywhere. */
START_TEST(worlds_hold)
{
	struct sim_script script = {0};
	struct sim_result sum;
	uint64_t failed = 0;

	isolate_seeds(100, CHECKED, 60, 1, true, &sum, &failed, &script);
	ck_assert_msg(!sum.violation[0], "seed %llu: %s", (unsigned long long)failed, sum.violation);
	ck_assert_uint_ge(sum.crashes, 1);
	ck_assert_uint_ge(sum.recovery_crashes * 8, sum.crashes); /* recovery is interrupted often enough */
	script_fini(&script);
}
END_TEST

/* Every sequence of two operations, with a crash at every I/O. */
START_TEST(every_crash_of_short_sequences)
{
	struct sim_result sum;

	exhaustive_run(2, 1, &sum);
	ck_assert_msg(!sum.violation[0], "%s", sum.violation);
	ck_assert_uint_ge(sum.crashes, 1000);
}
END_TEST

TEST_MAIN("sim", 120, same_seed_same_trace, scripts_survive_as_text, bad_scripts_are_refused, corpus_passes,
	  scripts_of_plants_pass_without_them, worlds_hold, every_crash_of_short_sequences)
