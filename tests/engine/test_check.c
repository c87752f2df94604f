/* The slow invariants: each kind of damage is found, and named; a healthy database, jobs under way or not, passes. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/check.h"
#include "engine/engine_internal.h"
#include "tests/engine/world.h"

static struct slice text(const char *s)
{
	return slice_of(s, strlen(s));
}

/* Two tables of level 0 or deeper, of which the newer one lies inside the range of the older one and overwrites "m". */
static void two_tables(struct world *w)
{
	world_init(w, IO_BACKEND_POSIX);
	world_open(w);
	world_put(w, text("a"), text("1"));
	world_put(w, text("m"), text("old"));
	world_put(w, text("z"), text("1"));
	world_flush(w);
	world_put(w, text("m"), text("new"));
	world_flush(w);
	world_run_all(w, JOB_DELETE);
}

static struct file_meta *newest_table(struct world *w, unsigned *level_out)
{
	struct version *v = w->e->versions.current;
	struct file_meta *found = NULL;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			if (!found || v->files[level][i]->number > found->number) {
				found = v->files[level][i];
				*level_out = level;
			}
		}
	}
	ck_assert_ptr_nonnull(found);
	return found;
}

static void must_find(struct world *w, const char *words)
{
	struct err_info err = {0};

	ck_assert_int_eq(engine_check_deep(w->e, w->worker, &err), -SHALE_ECORRUPT);
	ck_assert_msg(strstr(err.text, words), "\"%s\" is not in \"%s\"", words, err.text);
}

/* Nothing is wrong with memtables, tables at several levels, and jobs that are claimed and not yet run. */
START_TEST(healthy_passes)
{
	struct job *held;
	char key[32];
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "%08u", i * 7919 % 5000);
		world_put(&w, text(key), text(key));
		if (i % 2000 == 0)
			world_check_deep(&w);
	}
	held = engine_next_job(w.e, JOBS_ALL);
	world_check_deep(&w);
	if (held)
		ck_ok(engine_run_job(w.e, held, w.worker));
	world_run_all(&w, JOBS_ALL);
	world_check_deep(&w);
	world_fini(&w);
}
END_TEST

/* An older entry in a place that is read first: no reader and no checksum notices, so this must. */
START_TEST(newer_entry_below_older_one_is_found)
{
	struct err_info err = {0};
	struct file_meta *newer;
	struct edit edit;
	struct world w;
	unsigned level;

	two_tables(&w);
	world_check_deep(&w);
	newer = newest_table(&w, &level);
	edit_init(&edit);
	ck_ok(edit_delete_file(&edit, level, newer->number));
	ck_ok(edit_add_file(&edit, LEVELS - 1, newer));
	ck_ok(edit_apply(w.e, &edit, w.worker, &err));
	pthread_mutex_lock(&w.e->lock);
	edit_fini(&edit);
	version_installed(w.e);
	pthread_mutex_unlock(&w.e->lock);
	must_find(&w, "which is read first");
	world_fini(&w);
}
END_TEST

/* A file that nobody knows of is room on disk that never comes back. */
START_TEST(stray_table_is_found)
{
	char path[300];
	struct world w;
	int fd;

	two_tables(&w);
	snprintf(path, sizeof(path), "%s/000999.ldb", w.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	must_find(&w, "000999.ldb is in the directory, but nobody knows of it");
	ck_ok(unlink(path));
	world_check_deep(&w);
	world_fini(&w);
}
END_TEST

/* A table may be gone while its descriptor in our cache still reads well. */
START_TEST(missing_table_is_found)
{
	char path[300];
	struct world w;
	unsigned level;

	two_tables(&w);
	snprintf(path, sizeof(path), "%s/%06llu.ldb", w.dir, (unsigned long long)newest_table(&w, &level)->number);
	ck_ok(unlink(path));
	must_find(&w, "is not in the directory");
	world_fini(&w);
}
END_TEST

/* The bounds in the MANIFEST steer every read: a table with other ends is found. */
START_TEST(table_with_other_ends_is_found)
{
	unsigned level;
	struct world w;

	two_tables(&w);
	newest_table(&w, &level)->largest.data[0] = 'n';
	must_find(&w, "begins or ends elsewhere");
	world_fini(&w);
}
END_TEST

TEST_MAIN("check", 60, healthy_passes, newer_entry_below_older_one_is_found, stray_table_is_found,
	  missing_table_is_found, table_with_other_ends_is_found)
