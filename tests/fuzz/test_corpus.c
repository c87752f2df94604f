/*
 * Replays every file of tests/fuzz/corpus/<target>/ through the target that it was kept for: whatever a fuzzer ever found stays found,
 * with any compiler. Run from the root of the tree, as make check does; SHALE_CORPUS names another place.
 */
#include "tests/test.h"

#include <dirent.h>
#include <stdio.h>

#include "tests/fuzz/fuzz.h"

#define TARGETS(each)                                                                                                  \
	each(arguments) each(batch) each(block) each(condition) each(config) each(current) each(edit) each(filter)     \
		each(hello) each(log) each(manifest) each(recovery) each(submission) each(table) each(welcome)

#define DECLARE(name) int fuzz_##name(const uint8_t *data, size_t size);
TARGETS(DECLARE)

static void replay_file(int (*target)(const uint8_t *data, size_t size), const char *path)
{
	static unsigned char bytes[2 << 20];
	FILE *f = fopen(path, "re");
	unsigned char *copy;
	size_t n;

	ck_assert_msg(f != NULL, "%s cannot be opened", path);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	/* Told before it runs: a crash names its input. */
	fprintf(stderr, "%s\n", path);
	copy = input_copy(slice_of(bytes, n));
	target(copy, n);
	free(copy);
}

static void replay(const char *name, int (*target)(const uint8_t *data, size_t size))
{
	const char *corpus = getenv("SHALE_CORPUS") ? getenv("SHALE_CORPUS") : "tests/fuzz/corpus";
	unsigned files = 0;
	char path[512];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", corpus, name);
	dir = opendir(path);
	ck_assert_msg(dir != NULL, "there is no corpus %s", path);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", corpus, name, entry->d_name);
		replay_file(target, path);
		files++;
	}
	closedir(dir);
	target((const uint8_t *)"", 0); /* and nothing at all */
	ck_assert_msg(files > 0, "the corpus of %s is empty", name);
}

#define DEFINE(name)                                                                                                   \
	START_TEST(replay_##name)                                                                                      \
	{                                                                                                              \
		replay(#name, fuzz_##name);                                                                            \
	}                                                                                                              \
	END_TEST
TARGETS(DEFINE)

#define LIST(name) replay_##name,
TEST_MAIN("corpus", 120, TARGETS(LIST))
