/*
 * The tools as a shell sees them: what goes to stdout, and the exit codes.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char out[1 << 16];

/* Runs shalectl on the test's daemon with the words given; returns the exit code; stdout in `out`. */
#define ctl(words) proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>/dev/null", proc_build(), d.socket, words)

/* The same, stderr only. */
#define ctl_words(words)                                                                                               \
	proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>&1 >/dev/null", proc_build(), d.socket, words)

static void begin(void)
{
	proc_begin(&d);
}

static void end(void)
{
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* put, get, del and their exit codes; bytes come out as they went in. */
START_TEST(keys)
{
	begin();
	ck_assert_int_eq(ctl("put apple red"), 0);
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(ctl("get apple"), 0);
	ck_assert_str_eq(out, "red");
	ck_assert_int_eq(ctl("get --hex apple"), 0);
	ck_assert_str_eq(out, "726564\n");
	ck_assert_int_eq(ctl("get --json apple"), 0);
	ck_assert_str_eq(out, "{\"key\":\"apple\",\"value\":\"red\"}\n");
	ck_assert_int_eq(ctl("get pear"), 4);
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(proc_shell(out, sizeof(out), "printf 'a\\0\\377b' | %s/shalectl --socket %s put --sync bin -",
				    proc_build(), d.socket),
			 0);
	ck_assert_int_eq(ctl("get --hex bin"), 0);
	ck_assert_str_eq(out, "6100ff62\n");
	ck_assert_int_eq(ctl("get bin --json"), 0);
	ck_assert_str_eq(out, "{\"key\":\"bin\",\"value_base64\":\"YQD/Yg==\"}\n");
	ck_assert_int_eq(ctl("del apple bin"), 0);
	ck_assert_int_eq(ctl("get bin"), 4);
	ck_assert_int_eq(ctl("put -- -dash 1"), 0);
	ck_assert_int_eq(ctl("get -- -dash"), 0);
	end();
}
END_TEST

/* Ranges, prefixes, directions and limits; one line an entry, whatever is in it. */
START_TEST(scans)
{
	begin();
	for (const char *const *k = (const char *const[]){"a1", "a2", "b1", "b2", "c1", NULL}; *k; k++) {
		char words[64];

		snprintf(words, sizeof(words), "put %s v%s", *k, *k);
		ck_assert_int_eq(ctl(words), 0);
	}
	ck_assert_int_eq(ctl("scan"), 0);
	ck_assert_str_eq(out, "a1\tva1\na2\tva2\nb1\tvb1\nb2\tvb2\nc1\tvc1\n");
	ck_assert_int_eq(ctl("scan --prefix b --keys-only"), 0);
	ck_assert_str_eq(out, "b1\nb2\n");
	ck_assert_int_eq(ctl("scan --from a2 --to b2 --keys-only --reverse"), 0);
	ck_assert_str_eq(out, "b1\na2\n");
	ck_assert_int_eq(ctl("scan --limit 2 --json"), 0);
	ck_assert_str_eq(out, "{\"key\":\"a1\",\"value\":\"va1\"}\n{\"key\":\"a2\",\"value\":\"va2\"}\n");
	ck_assert_int_eq(ctl("scan --prefix x"), 0);
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(ctl("put \"$(printf 'z\\tz\\nz')\" \"$(printf '\\303\\244\\377\\\\')\""), 0);
	ck_assert_int_eq(ctl("scan --prefix z"), 0);
	ck_assert_str_eq(out, "z\\tz\\nz\t\xc3\xa4\\xff\\\\\n");
	end();
}
END_TEST

/* flush and compact act; ping, status and stats answer in words and in JSON that parses. */
START_TEST(looking)
{
	json_t *status, *levels;
	json_error_t error;

	begin();
	ck_assert_int_eq(ctl("put a 1"), 0);
	ck_assert_int_eq(ctl("flush"), 0);
	ck_assert_int_eq(ctl("compact"), 0);
	ck_assert_int_eq(ctl("compact a b"), 0);
	ck_assert_int_eq(ctl("ping"), 0);
	ck_assert_int_eq(ctl("status"), 0);
	ck_assert_msg(strstr(out, "serving") && strstr(out, d.database), "%s", out);
	ck_assert_int_eq(ctl("stats"), 0);
	ck_assert_msg(strstr(out, "flushes") != NULL, "%s", out);
	ck_assert_int_eq(ctl("status --json"), 0);
	status = json_loads(out, 0, &error);
	ck_assert_msg(status != NULL, "%s\n%s", error.text, out);
	ck_assert_str_eq(json_string_value(json_object_get(status, "state")), "serving");
	levels = json_object_get(status, "levels");
	ck_assert_uint_eq(json_array_size(levels), 7);
	json_decref(status);
	ck_assert_int_eq(ctl("stats --json"), 0);
	status = json_loads(out, 0, &error);
	ck_assert_msg(status != NULL, "%s\n%s", error.text, out);
	ck_assert_int_gt(json_integer_value(json_object_get(
				 json_object_get(json_object_get(status, "counters"), "compaction"), "flushes")),
			 0);
	json_decref(status);
	end();
}
END_TEST

/* A daemon that hangs is seen by its directory; one that was killed is told from one that never ran. */
START_TEST(status_without_answer)
{
	begin();
	ck_assert_int_eq(ctl("ping"), 0); /* clients are let in a moment before the loop runs and says that it serves */
	kill(d.pid, SIGSTOP);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "%s/shalectl --db %s status", proc_build(), d.database), 0);
	ck_assert_msg(strstr(out, "serving") != NULL, "%s", out);
	ck_assert_int_eq(ctl("--timeout 100 ping"), 1);
	kill(d.pid, SIGCONT);
	private_daemon_kill(&d);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "%s/shalectl --db %s status", proc_build(), d.database), 3);
	ck_assert_msg(strstr(out, "dead") != NULL, "%s", out);
	proc_start(&d);
	end();
	proc_init(&d, NULL, NULL);
	ck_assert_int_eq(ctl("ping"), 3);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out), "%s/shalectl --db %s status 2>/dev/null", proc_build(), d.scratch), 3);
	private_daemon_fini(&d);
}
END_TEST

/* Usage errors are 2, with a suggestion where one is near. */
START_TEST(usage)
{
	proc_init(&d, NULL, NULL);
	ck_assert_int_eq(ctl_words("stauts"), 2);
	ck_assert_ptr_nonnull(strstr(out, "did you mean"));
	ck_assert_int_eq(ctl_words("scan --prefx a"), 2);
	ck_assert_ptr_nonnull(strstr(out, "--prefix"));
	ck_assert_int_eq(ctl_words("get"), 2);
	ck_assert_int_eq(ctl_words("put a"), 2);
	ck_assert_int_eq(ctl_words("scan --limit many"), 2);
	ck_assert_int_eq(ctl_words("--db /tmp ping"), 2);
	ck_assert_int_eq(ctl_words(""), 2);
	ck_assert_int_eq(ctl("help"), 0);
	ck_assert_ptr_nonnull(strstr(out, "compact"));
	ck_assert_int_eq(ctl("version"), 0);
	private_daemon_fini(&d);
}
END_TEST

#define run(words) proc_shell(out, sizeof(out), "%s/shale-run %s 2>/dev/null", proc_build(), words)

/* shale-run: the command finds the daemon, its status is passed on, nothing stays behind. */
START_TEST(shale_run)
{
	char words[700];

	ck_assert_int_eq(run("-- sh -c 'exit 7'"), 7);
	ck_assert_int_eq(run("-- sh -c 'kill -9 $$'"), 128 + 9);
	ck_assert_int_eq(run("-- /no/such/program"), 127);
	ck_assert_int_eq(run(""), 2);
	snprintf(words, sizeof(words),
		 "-- sh -c '%s/shalectl put k v && %s/shalectl get k && echo && dirname $SHALE_SOCKET'", proc_build(),
		 proc_build());
	ck_assert_int_eq(run(words), 0);
	ck_assert_msg(strncmp(out, "v\n/", 3) == 0, "%s", out);
	out[strcspn(out + 2, "\n") + 2] = 0;
	ck_assert_msg(access(out + 2, F_OK) < 0, "%s is still there", out + 2);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out), "%s/shale-run --set engine.nonsense=1 -- true 2>&1", proc_build()), 1);
	ck_assert_ptr_nonnull(strstr(out, "nonsense"));

	/* A named directory is kept, and found again. */
	proc_init(&d, NULL, NULL);
	snprintf(words, sizeof(words), "--db %s/kept -- %s/shalectl put k v", d.scratch, proc_build());
	ck_assert_int_eq(run(words), 0);
	snprintf(words, sizeof(words), "--db %s/kept --set engine.write_buffer=1M -- %s/shalectl get k", d.scratch,
		 proc_build());
	ck_assert_int_eq(run(words), 0);
	ck_assert_str_eq(out, "v");
	private_daemon_fini(&d);
}
END_TEST

/* A signal sent to shale-run reaches the command, and its end is told as a shell would. */
START_TEST(shale_run_forwards_signals)
{
	char line[600];

	snprintf(line, sizeof(line),
		 "%s/shale-run -- sh -c 'echo ready; exec sleep 30' >%s.ready 2>/dev/null & p=$!; "
		 "while ! grep -qs ready %s.ready; do sleep 0.05; done; kill -TERM $p; wait $p; echo $?; rm %s.ready",
		 proc_build(), "/tmp/shale-test-run", "/tmp/shale-test-run", "/tmp/shale-test-run");
	ck_assert_int_eq(proc_shell(out, sizeof(out), "%s", line), 0);
	ck_assert_int_eq(atoi(out), 128 + SIGTERM);
}
END_TEST

TEST_MAIN("tools", 60 * PATIENCE, keys, scans, looking, status_without_answer, usage, shale_run,
	  shale_run_forwards_signals)
