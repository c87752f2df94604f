/*
 * shalectl check: a live daemon held against its invariants. No false alarm while files come and go; a true one when somebody removes a file; nobody is
 * left waiting, and nothing is left running, however the asker ends.
 */
#include <jansson.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum { WRITERS = 2, KEYS = 3000, ROUNDS = 12 };

static struct private_daemon d;
static char out[1 << 16], *place;

struct counts {
	_Atomic uint64_t written;
	_Atomic bool stop;
};
static struct counts *counts;

#define ctl(...) shell_ctl(__VA_ARGS__)
static int shell_ctl(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* stdout and stderr in `out`. */
static int shell_ctl(const char *fmt, ...)
{
	char words[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	return proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>&1", proc_build(), d.socket, words);
}

static void begin(const char *database, const char *setting)
{
	proc_init(&d, database, "engine.write_buffer=64K", "engine.max_file_size=64K", "engine.level1_size=256K",
		  "wal.ring=256K", "limits.max_request=1M", setting, NULL);
	proc_start(&d);
}

static void end(void)
{
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* ---- the load ---- */

static int write_on(void *arg)
{
	uint64_t seed = 88172645463325252 + *(const unsigned *)arg;
	char key[32], value[200];
	struct shale_db *db;

	if (shale_open(d.socket, NULL, &db) < 0)
		return 1;
	while (!atomic_load(&counts->stop)) {
		snprintf(key, sizeof(key), "%08u", (unsigned)(test_random(&seed) % KEYS));
		for (size_t i = 0; i < sizeof(value); i += 8)
			snprintf(value + i, 9 < sizeof(value) - i ? 9 : sizeof(value) - i, "%08x",
				 (unsigned)test_random(&seed));
		if (shale_put(db, NULL, key, strlen(key), value, sizeof(value)) < 0)
			return 2;
		atomic_fetch_add(&counts->written, 1);
	}
	shale_close(db);
	return 0;
}

static void load_begin(pid_t pids[WRITERS])
{
	static unsigned numbers[WRITERS];

	counts = proc_shared(sizeof(*counts));
	for (unsigned i = 0; i < WRITERS; i++) {
		numbers[i] = i;
		pids[i] = proc_fork(write_on, &numbers[i]);
	}
}

static void load_end(const pid_t pids[WRITERS])
{
	atomic_store(&counts->stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		ck_assert_int_eq(proc_wait(pids[i]), 0);
}

static void load_until(uint64_t written)
{
	for (unsigned ms = 0; atomic_load(&counts->written) < written; ms++) {
		ck_assert_msg(ms < 60000 * PATIENCE, "the writers stand still: %s", proc_log_tail(&d));
		usleep(1000);
	}
}

/* No job runs, and the directory holds the tables that are in use and no others. */
static void settle(void)
{
	for (unsigned ms = 0;; ms += 10) {
		struct region_stats s = proc_stats(&d);

		ck_assert_int_eq(proc_shell(out, sizeof(out), "ls %s | grep -c ldb", d.database), 0);
		if (!s.jobs_running && !s.obsolete_files_waiting && strtoull(out, NULL, 10) == s.live_files)
			return;
		ck_assert_msg(ms < 60000 * PATIENCE, "it does not come to rest: %s", proc_log_tail(&d));
		usleep(10000);
	}
}

static void fill(void)
{
	pid_t pids[WRITERS];

	load_begin(pids);
	load_until(8000);
	load_end(pids);
	ck_assert_int_eq(ctl("flush"), 0);
	ck_assert_int_eq(ctl("compact"), 0);
	settle();
}

/* ---- what it says ---- */

/* The object of this name in the lines of JSON in `out`, from the n-th on; NULL: there is none. The caller's. */
static json_t *said(const char *name, unsigned n)
{
	char *copy = strdup(out), *save = NULL;
	json_t *found = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line && !found; line = strtok_r(NULL, "\n", &save)) {
		json_t *whole = json_loads(line, 0, NULL), *it = json_object_get(whole, name);

		if (it && n-- == 0)
			found = json_incref(it);
		json_decref(whole);
	}
	free(copy);
	return found;
}

static json_int_t number(const json_t *from, const char *name)
{
	const json_t *it = json_object_get(from, name);

	ck_assert_msg(json_is_integer(it), "%s is no number in: %s", name, out);
	return json_integer_value(it);
}

static const char *word(const json_t *from, const char *name)
{
	const char *it = json_string_value(json_object_get(from, name));

	ck_assert_msg(it, "%s is no text in: %s", name, out);
	return it;
}

/* ---- under load ---- */

/* Writers, flushes, compactions and deletions go on meanwhile: what the checks see is whole, and no file that comes or goes is an alarm. */
START_TEST(beside_writers)
{
	struct region_stats before, after;
	pid_t pids[WRITERS];
	unsigned checks = 0;

	begin(NULL, NULL);
	load_begin(pids);
	load_until(2000);
	before = proc_stats(&d);
	do {
		uint64_t written = atomic_load(&counts->written);
		json_t *summary;
		int code = ctl("--json check");

		ck_assert_msg(code == 0, "%d: %s", code, out);
		summary = said("summary", 0);
		ck_assert_str_eq(word(summary, "result"), "clean");
		ck_assert_uint_ge((uint64_t)number(summary, "sequence"), written);
		ck_assert_int_ge(number(summary, "entries"), number(summary, "tables"));
		ck_assert_int_ge(number(summary, "files"), 3);		/* a log, the MANIFEST, tables */
		ck_assert_int_gt(number(summary, "sessions"), WRITERS); /* and ours */
		ck_assert(json_is_true(json_object_get(summary, "entries_checked")));
		json_decref(summary);
		after = proc_stats(&d);
		ck_assert_msg(++checks < 5000, "nothing was flushed and compacted beside %u checks", checks);
	} while (checks < ROUNDS || after.flushes < before.flushes + 4 || after.compactions < before.compactions + 4);
	load_end(pids);
	ck_assert_int_eq(ctl("check"), 0);
	ck_assert_msg(strstr(out, ": clean"), "%s", out);
	ck_assert_int_eq(ctl("jobs"), 0);
	ck_assert_msg(strstr(out, "check"), "%s", out);
	end();
}
END_TEST

/* Snapshots are looked at on both sides: in the session's list and in the region. */
START_TEST(with_snapshots)
{
	struct shale_db *db;
	struct shale_snapshot *snap[3];
	json_t *summary;

	begin(NULL, NULL);
	db = proc_open(&d);
	for (unsigned i = 0; i < ARRAY_SIZE(snap); i++) {
		proc_put(db, "k", "v");
		ck_assert_int_eq(shale_snapshot_take(db, &snap[i]), 0);
	}
	ck_assert_msg(ctl("--json check") == 0, "%s", out);
	summary = said("summary", 0);
	ck_assert_int_eq(number(summary, "snapshots"), ARRAY_SIZE(snap));
	ck_assert_int_ge(number(summary, "sessions"), 2);
	json_decref(summary);
	for (unsigned i = 0; i < ARRAY_SIZE(snap); i++)
		shale_snapshot_release(db, snap[i]);
	shale_close(db);
	end();
}
END_TEST

/* ---- damage ---- */

/*
 * A table that somebody removes is told, with its level and keys, although the daemon may have it open and read it well; and so is a file that somebody put there.
 * Back in its place, all is well again. In words, as JSON, in the log and among the events.
 */
START_TEST(table_removed)
{
	char name[64], kept[300], *nl;
	json_t *finding, *summary;

	begin(NULL, NULL);
	place = test_tmpdir();
	fill();
	ck_assert_msg(ctl("check") == 0, "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "ls %s | grep ldb | head -1", d.database), 0);
	nl = strchr(out, '\n');
	ck_assert_ptr_nonnull(nl);
	*nl = '\0';
	ck_assert_uint_lt(strlen(out), sizeof(name));
	strcpy(name, out);
	snprintf(kept, sizeof(kept), "%s/%s", place, name);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "mv %s/%s %s", d.database, name, kept), 0);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "touch %s/999999.ldb", d.database), 0);
	ck_assert_msg(ctl("check") == 5, "%s", out);
	ck_assert_msg(strstr(out, "PROBLEM") && strstr(out, name) && strstr(out, "not in the directory") &&
			      strstr(out, "keys    from '0") && strstr(out, "likely") && strstr(out, "next") &&
			      strstr(out, "2 problems"),
		      "%s", out);
	ck_assert_msg(strstr(out, "999999.ldb") && strstr(out, "nobody knows of it"), "%s", out);
	ck_assert_int_eq(ctl("--json check"), 5);
	finding = said("finding", 0);
	ck_assert_str_eq(word(finding, "kind"), "missing");
	ck_assert_str_eq(word(finding, "file"), name);
	ck_assert_int_ge(number(finding, "level"), 0);
	ck_assert_int_eq(strlen(word(finding, "first_key")), 8);
	ck_assert_ptr_nonnull(strstr(word(finding, "next"), d.database));
	json_decref(finding);
	finding = said("finding", 1);
	ck_assert_str_eq(word(finding, "kind"), "stray");
	json_decref(finding);
	summary = said("summary", 0);
	ck_assert_str_eq(word(summary, "result"), "problems");
	ck_assert_int_eq(number(summary, "problems"), 2);
	json_decref(summary);
	ck_assert_int_eq(ctl("events"), 0);
	ck_assert_msg(strstr(out, "a check found 2 problems"), "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "grep -c 'check: .*not in the directory' %s", d.log), 0);
	/* reading goes on; so does the daemon */
	ck_assert_int_eq(ctl("put a b"), 0);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out), "mv %s %s/%s; rm %s/999999.ldb", kept, d.database, name, d.database), 0);
	ck_assert_msg(ctl("check") == 0, "%s", out);
	test_rmtree(place);
	free(place);
	end();
}
END_TEST

/* ---- how it ends ---- */

/* A check that the rate makes slow is under way, its output in @place/said: pid in `out`. */
static void slow_check(void)
{
	/* The shell is gone when this returns, and what it began goes on. */
	ck_assert_int_eq(
		proc_shell(out, sizeof(out),
			   "rm -f %s/said; %s/shalectl --json --socket %s check >%s/said 2>&1 & "
			   "pid=$!; n=0; while ! grep -qs progress %s/said && kill -0 $pid && [ $n -lt %d ]; do "
			   "sleep 0.1; n=$((n+1)); done; "
			   "echo $pid; kill -0 $pid && grep -q progress %s/said",
			   place, proc_build(), d.socket, place, place, 600 * PATIENCE, place),
		0);
}

/* No check is under way any more; what the daemon does about it takes a moment. */
static void none_left(void)
{
	for (unsigned ms = 0;; ms += 10) {
		struct region_stats s = proc_stats(&d);
		bool some = false;

		for (unsigned i = 0; i < s.jobs_listed && i < REGION_RUNNING; i++)
			some |= s.running[i].kind == REGION_JOB_CHECK;
		if (!some)
			return;
		ck_assert_msg(ms < 30000 * PATIENCE, "the check goes on without its asker");
		usleep(10000);
	}
}

/* A database that a check at this rate cannot read within a test's time. */
static void begin_slowly(void)
{
	static char database[512];

	begin(NULL, NULL);
	place = test_tmpdir();
	snprintf(database, sizeof(database), "%s/db", place);
	fill();
	proc_stop(&d);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "cp -a %s %s", d.database, database), 0);
	private_daemon_fini(&d);
	begin(database, "engine.background_rate=1K");
}

static void end_slowly(void)
{
	end();
	test_rmtree(place);
	free(place);
}

/* Ctrl-C: the check ends, exit code 1; it has said how far it was. One at a time: another asker is told so. */
START_TEST(interrupted)
{
	pid_t pid;

	begin_slowly();
	slow_check();
	pid = (pid_t)atoi(out);
	ck_assert_int_eq(ctl("check"), 1);
	ck_assert_msg(strstr(out, "another check is under way"), "%s", out);
	ck_assert_int_eq(ctl("put a b"), 0);
	ck_assert_int_eq(kill(pid, SIGINT), 0);
	none_left();
	/* Its exit code is what the shell that waits for it hears. */
	ck_assert_int_eq(
		proc_shell(out, sizeof(out),
			   "%s/shalectl --socket %s check >%s/said 2>&1 & pid=$!; n=0; while ! %s/shalectl --socket "
			   "%s jobs | grep -q 'check .*%%'; do sleep 0.1; n=$((n+1)); [ $n -lt %d ] || break; done; "
			   "kill -INT $pid; wait $pid; code=$?; cat %s/said; exit $code",
			   proc_build(), d.socket, place, proc_build(), d.socket, 600 * PATIENCE, place),
		1);
	ck_assert_msg(strstr(out, "cancelled"), "%s", out);
	none_left();
	end_slowly();
}
END_TEST

/* An asker that is killed leaves nothing running, and nothing behind. */
START_TEST(asker_killed)
{
	begin_slowly();
	slow_check();
	ck_assert_int_eq(kill((pid_t)atoi(out), SIGKILL), 0);
	none_left();
	/* The place is free: the next one is begun, not refused. */
	slow_check();
	ck_assert_int_eq(kill((pid_t)atoi(out), SIGKILL), 0);
	none_left();
	end_slowly();
}
END_TEST

/* A daemon that is killed ends the wait with exit code 3; one that ends cleanly does not wait for the check, and the database is whole. */
START_TEST(daemon_ends)
{
	begin_slowly();
	slow_check();
	private_daemon_kill(&d);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out),
			   "n=0; while ! grep -q 'has ended' %s/said; do sleep 0.1; n=$((n+1)); [ $n -lt %d ] || exit "
			   "1; done",
			   place, 300 * PATIENCE),
		0);
	proc_start(&d);
	slow_check();
	proc_stop(&d);
	proc_start(&d);
	end_slowly();
}
END_TEST

/* ---- who may ---- */

static int as_stranger(void *arg)
{
	(void)arg;
	if (setgid(65533) < 0 || setuid(65533) < 0)
		return 77;
	if (proc_shell(out, sizeof(out), "test -x %s/shalectl", proc_build()) != 0) {
		fprintf(stderr, "skipped: another user cannot reach %s\n", proc_build());
		return 0;
	}
	if (ctl("check") == 1 && strstr(out, "only root"))
		return 0;
	fprintf(stderr, "a stranger was told: %s\n", out);
	return 1;
}

/* Root and the daemon's user; others are told so. */
START_TEST(strangers)
{
	begin(NULL, "access.mode=0666");
	if (geteuid() == 0 && chmod(d.scratch, 0711) == 0)
		ck_assert_int_eq(proc_wait(proc_fork(as_stranger, NULL)), 0);
	ck_assert_int_eq(ctl("check"), 0);
	ck_assert_int_eq(ctl("check all"), 2);
	end();
}
END_TEST

TEST_MAIN("check", 180 * PATIENCE, beside_writers, with_snapshots, table_removed, interrupted, asker_killed,
	  daemon_ends, strangers)
