/*
 * A compaction whose tables cannot be read is set aside, and everything else goes on. The loop asks for it again now and then: nobody else
 * would, since the fault may be over (a disk that came back, a file that was restored) without a word to us.
 */
#include "tests/daemon/rig.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

static struct client c;

static unsigned level0_files(void)
{
	static const char name[] = "leveldb.num-files-at-level0";
	struct cqe cqe = call(&c, OP_PROPERTY, 0, 0, name, strlen(name));
	char text[16] = "";

	ck_assert_int_eq(cqe.res, 0);
	memcpy(text, answer(&c), cqe.len < sizeof(text) ? cqe.len : sizeof(text) - 1);
	return (unsigned)atoi(text);
}

static void one_table(const char *value)
{
	for (int i = 0; i < 3; i++) {
		char key[16];

		sprintf(key, "key%d", i);
		ck_assert_int_eq(put(&c, 0, key, value).res, 0);
	}
	ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
}

/* Flips bits of the newest table's first block; the same again restores it. */
static void flip(const char *path)
{
	FILE *f = fopen(path, "r+b");
	int byte;

	ck_assert_ptr_nonnull(f);
	fseek(f, 5, SEEK_SET);
	byte = fgetc(f);
	fseek(f, 5, SEEK_SET);
	fputc(byte ^ 0x55, f);
	fclose(f);
}

static void newest_table(char path[512])
{
	char pattern[300];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/*.ldb", rig.dir);
	ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0); /* sorted; numbers have six digits */
	snprintf(path, 512, "%s", found.gl_pathv[found.gl_pathc - 1]);
	globfree(&found);
}

/* The loop's own view, from outside: it publishes the statistics when a job has ended. */
static uint64_t failed_jobs(void)
{
	struct region_stats stats;

	ck_ok(region_read_stats(&rig.region, &stats));
	return stats.jobs_failed;
}

START_TEST(tried_again)
{
	char path[512];

	rig.setting = "engine.l0_compaction=2";
	rig.set_aside_every_ns = 1000000;
	rig_start();
	client_open(&c, false);
	/* A memtable goes down to level 2 where nothing overlaps: the first two tables are at 2 and 1, then level 0 begins. */
	one_table("first");
	one_table("second");
	one_table("third");
	ck_assert_uint_eq(level0_files(), 1);
	newest_table(path);
	flip(path);
	one_table("fourth");
	for (int i = 0; i < 8000 && !failed_jobs(); i++)
		nap();
	ck_assert_uint_gt(failed_jobs(), 0);
	ck_assert_uint_eq(level0_files(), 2);
	ck_get(&c, 0, "key1", "fourth");
	ck_assert_int_eq(put(&c, 0, "other", "goes on").res, 0);
	flip(path);
	for (int i = 0; i < 20000 && level0_files(); i++)
		nap();
	ck_assert_uint_eq(level0_files(), 0);
	ck_get(&c, 0, "key1", "fourth");
	client_close(&c);
	rig_stop();
}
END_TEST

TEST_MAIN("set_aside", 60, tried_again)
