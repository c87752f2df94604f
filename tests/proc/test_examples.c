/*
 * The examples of client/examples: compiled as a user would, run against a real daemon, and what they print is what they should. Tests
 * run in the root of the sources.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static char out[1 << 16], programs[512];
static struct private_daemon d;

/* With the header alone, and the build's library. */
static void compile(const char *name)
{
	static const char *const sanitize =
#if defined(__SANITIZE_ADDRESS__)
		"-fsanitize=address,undefined";
#elif defined(__SANITIZE_THREAD__)
		"-fsanitize=thread";
#else
		"";
#endif
	int rc;

	if (!*programs) {
		char *dir = test_tmpdir();

		snprintf(programs, sizeof(programs), "%s", dir);
		free(dir);
	}
	rc = proc_shell(out, sizeof(out),
			"exec 2>&1; gcc -std=gnu17 -Wall -Wextra -Werror -O1 -g %s -I client client/examples/%s.c -L "
			"%s -lshale "
			"-Wl,-rpath,%s -o %s/%s",
			sanitize, name, proc_build(), proc_build(), programs, name);
	ck_assert_msg(rc == 0, "%s", out);
}

static void run(const char *fmt, const char *name, const char *more, const char *expected)
{
	int rc = proc_shell(out, sizeof(out), fmt, programs, name, more);

	ck_assert_msg(rc == 0, "%s: exit %d\n%s", name, rc, out);
	ck_assert_str_eq(out, expected);
}

/* What the README shows. */
START_TEST(hello)
{
	proc_begin(&d);
	compile("hello");
	run("%s/%s %s", "hello", d.socket,
	    "planet/4 is Mars\nbefore:\n  planet/3 = Earth\n  planet/4 = Mars\n  planet/9 = Pluto\n"
	    "now:\n  planet/3 = Earth\n  planet/4 = Mars\n");
	proc_stop(&d);
	private_daemon_fini(&d);
	test_rmtree(programs);
}
END_TEST

/* Several processes, none of whose additions is lost; on a directory without a daemon. */
START_TEST(counter)
{
	char more[600], shaled[600], *dir = test_tmpdir();

	compile("counter");
	snprintf(shaled, sizeof(shaled), "%s/shaled", proc_build());
	setenv("SHALED", shaled, 1);
	snprintf(more, sizeof(more), "%s/db 5 40", dir);
	run("%s/%s %s", "counter", more, "counter = 200\n");
	run("%s/%s %s", "counter", more, "counter = 400\n");
	usleep(700000); /* its daemon goes by itself, and the directory is removed below */
	test_rmtree(dir);
	test_rmtree(programs);
	free(dir);
}
END_TEST

static int ends[2];

static int exec_watch(void *program)
{
	dup2(ends[1], STDOUT_FILENO);
	execl(program, program, d.socket, "w/", "1000000", "10", NULL);
	return 127;
}

/* A batch is seen whole, between two looks; other keys are not told. */
START_TEST(watch)
{
	struct shale_batch *batch = shale_batch_new();
	struct shale_db *db;
	char line[128], program[600];
	pid_t pid;
	FILE *f;

	proc_begin(&d);
	compile("watch");
	db = proc_open(&d);
	proc_put(db, "w/gone", "1");
	proc_put(db, "w/kept", "1");
	proc_put(db, "w/changed", "1");
	snprintf(program, sizeof(program), "%s/watch", programs);
	ck_assert_int_eq(pipe(ends), 0);
	pid = proc_fork(exec_watch, program);
	close(ends[1]);
	f = fdopen(ends[0], "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, "watching w/\n");
	shale_batch_delete(batch, "w/gone", 6);
	shale_batch_put(batch, "w/changed", 9, "2", 1);
	shale_batch_put(batch, "w/new", 5, "3", 1);
	shale_batch_put(batch, "x/other", 7, "4", 1);
	ck_ok(shale_write(db, NULL, batch, NULL));
	shale_batch_free(batch);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, "* w/changed = 2\n");
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, "- w/gone = 1\n");
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, "+ w/new = 3\n");
	proc_put(db, "w/kept", "5");
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
	ck_assert_str_eq(line, "* w/kept = 5\n");
	shale_close(db);
	kill(pid, SIGTERM);
	ck_assert_int_eq(proc_wait(pid), -SIGTERM);
	fclose(f);
	proc_stop(&d);
	private_daemon_fini(&d);
	test_rmtree(programs);
}
END_TEST

/* An epoll loop that sleeps only after shale_arm said so. */
START_TEST(pipeline)
{
	char more[128];

	proc_begin(&d);
	compile("pipeline");
	snprintf(more, sizeof(more), "%s 20000", d.socket);
	run("%s/%s %s", "pipeline", more, "20000 written, 20000 read back right, 0 failed\n");
	proc_stop(&d);
	private_daemon_fini(&d);
	test_rmtree(programs);
}
END_TEST

TEST_MAIN("examples", 120, hello, counter, watch, pipeline)
