/*
 * What can be seen of a running daemon: levels, jobs and explanations in words and in JSON, also while it hangs; manual compactions from
 * the shell; LevelDB's property texts beside LevelDB's own.
 */
#include <jansson.h>
#include <leveldb/c.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char out[1 << 18];

/* Runs shalectl on the test's database directory; the exit code; stdout in `out`. */
#define ctl(words) proc_shell(out, sizeof(out), "%s/shalectl --db %s %s 2>/dev/null", proc_build(), d.database, words)
/* The same by its socket, for verbs that need an answer; stderr too. */
#define ask(words) proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>&1", proc_build(), d.socket, words)

static void end(void)
{
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* The answer of a verb, which must be one JSON value. */
static json_t *ctl_json(const char *verb)
{
	char words[64];
	json_error_t error;
	json_t *value;

	snprintf(words, sizeof(words), "--json %s", verb);
	ck_assert_int_eq(ctl(words), 0);
	value = json_loads(out, 0, &error);
	ck_assert_msg(value != NULL, "%s\n%s", error.text, out);
	return value;
}

static json_int_t number(const json_t *obj, const char *name)
{
	const json_t *value = json_object_get(obj, name);

	ck_assert_msg(json_is_integer(value), "no number %s", name);
	return json_integer_value(value);
}

static const char *text(const json_t *obj, const char *name)
{
	const char *value = json_string_value(json_object_get(obj, name));

	ck_assert_msg(value != NULL, "no text %s", name);
	return value;
}

/* Two flushes and a compaction with known entries: the counters of levels and the list of jobs say just that. */
START_TEST(levels_and_jobs)
{
	json_t *answer, *level, *job;
	json_int_t shadowed = 0, tombstones = 0, manual = 0, files = 0;
	struct shale_db *db;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	proc_put(db, "b", "1");
	ck_ok(shale_flush(db));
	proc_put(db, "a", "2");
	ck_ok(shale_delete(db, NULL, "b", 1));
	ck_ok(shale_flush(db));
	ck_ok(shale_compact_range(db, NULL, 0, NULL, 0));
	proc_stats(&d);

	answer = ctl_json("levels");
	ck_assert_str_eq(text(answer, "state"), "serving");
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "levels")), 7);
	for (size_t i = 0; i < 7; i++) {
		level = json_array_get(json_object_get(answer, "levels"), i);
		ck_assert_int_eq(number(level, "level"), (json_int_t)i);
		shadowed += number(level, "dropped_shadowed");
		tombstones += number(level, "dropped_tombstone");
		files += number(level, "files");
		manual += number(json_object_get(level, "by_reason"), "manual");
		ck_assert_int_eq(number(level, "busy_bytes"), 0);
	}
	ck_assert_int_eq(shadowed, 2);
	ck_assert_int_eq(tombstones, 1);
	ck_assert_int_eq(files, 1);
	ck_assert_int_gt(manual, 0);
	ck_assert(json_real_value(json_object_get(answer, "write_amplification")) > 1);
	json_decref(answer);

	answer = ctl_json("jobs");
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "running")), 0);
	ck_assert_uint_ge(json_array_size(json_object_get(answer, "last")), 3);
	job = json_array_get(json_object_get(answer, "last"), 0);
	ck_assert_str_eq(text(job, "reason"), "manual");
	ck_assert_int_eq(number(job, "result"), 0);
	ck_assert_int_eq(number(json_object_get(answer, "manual"), "requests"), 0);
	json_decref(answer);

	ck_assert_int_eq(ctl("levels"), 0);
	ck_assert_msg(strstr(out, "LEVEL") && strstr(out, "manual 1") && strstr(out, "debt"), "%s", out);
	ck_assert_int_eq(ctl("jobs"), 0);
	ck_assert_msg(strstr(out, "no job is running") && strstr(out, "flush") && strstr(out, "manual"), "%s", out);
	json_decref(ctl_json("stats"));
	shale_close(db);
	end();
}
END_TEST

/* A daemon that a signal stopped answers nobody, and still can be looked at; explain says so, and how to end it. */
START_TEST(a_stopped_daemon_is_seen)
{
	json_t *answer;

	proc_begin(&d);
	ck_assert_int_eq(kill(d.pid, SIGSTOP), 0);
	ck_assert_int_eq(ctl("levels"), 0);
	ck_assert_ptr_nonnull(strstr(out, "LEVEL"));
	json_decref(ctl_json("levels"));
	ck_assert_int_eq(ctl("jobs"), 0);
	ck_assert_int_eq(ctl("stats"), 0);
	/* The state in /proc follows the signal at once, but not in the same instant. */
	for (int i = 0; i < 500; i++, usleep(10000)) {
		answer = ctl_json("explain");
		if (strcmp(text(json_object_get(answer, "writes"), "cause"), "stopped") == 0)
			break;
		json_decref(answer);
	}
	ck_assert_str_eq(text(json_object_get(answer, "writes"), "cause"), "stopped");
	ck_assert_ptr_nonnull(strstr(text(json_object_get(answer, "writes"), "text"), "kill -CONT"));
	json_decref(answer);
	ck_assert_int_eq(kill(d.pid, SIGCONT), 0);
	end();
}
END_TEST

/* Space that a snapshot holds is laid at the door of the process that took it. */
START_TEST(explain_names_the_holder)
{
	struct shale_snapshot *snapshot;
	struct shale_db *db;
	char pid[32];
	json_t *answer;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	answer = ctl_json("explain");
	ck_assert_str_eq(text(json_object_get(answer, "writes"), "cause"), "none");
	ck_assert_str_eq(text(json_object_get(answer, "space"), "cause"), "none");
	json_decref(answer);
	ck_ok(shale_snapshot_take(db, &snapshot));
	proc_put(db, "a", "2");
	answer = ctl_json("explain");
	ck_assert_str_eq(text(json_object_get(answer, "space"), "cause"), "snapshot");
	snprintf(pid, sizeof(pid), "pid %d ", (int)getpid());
	ck_assert_msg(strstr(text(json_object_get(answer, "space"), "text"), pid) != NULL, "%s", out);
	json_decref(answer);
	shale_snapshot_release(db, snapshot);
	ck_assert_int_eq(ctl("explain"), 0);
	ck_assert_msg(!strstr(out, "snapshot"), "%s", out);
	shale_close(db);
	end();
}
END_TEST

/* Deleted data that no compaction is due for is told as such. */
START_TEST(explain_tells_of_deletions)
{
	struct shale_db *db;
	json_t *answer;

	proc_init(&d, NULL, "engine.tombstone_percent=0", NULL);
	proc_start(&d);
	db = proc_open(&d);
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 2000; i++) {
			char key[16];
			int n = snprintf(key, sizeof(key), "%08u", i);

			if (round == 0)
				ck_ok(shale_put(db, NULL, key, (size_t)n, key, 1));
			else
				ck_ok(shale_delete(db, NULL, key, (size_t)n));
		}
		ck_ok(shale_flush(db));
	}
	proc_stats(&d);
	answer = ctl_json("explain");
	ck_assert_msg(strcmp(text(json_object_get(answer, "space"), "cause"), "tombstones") == 0, "%s", out);
	json_decref(answer);
	ck_ok(shale_compact_range(db, NULL, 0, NULL, 0));
	for (int i = 0; i < 500; i++, usleep(10000)) {
		answer = ctl_json("explain");
		if (strcmp(text(json_object_get(answer, "space"), "cause"), "none") == 0)
			break;
		json_decref(answer);
	}
	ck_assert_str_eq(text(json_object_get(answer, "space"), "cause"), "none");
	json_decref(answer);
	shale_close(db);
	end();
}
END_TEST

/* Writers that outrun the flush are told from everything else: the cause, the number, the setting. */
static int write_much(void *arg)
{
	char value[4000];
	struct shale_db *db;

	(void)arg;
	memset(value, 'v', sizeof(value));
	if (shale_open(d.socket, NULL, &db) < 0)
		return 1;
	for (unsigned i = 0;; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "%08u", i * 2654435761u % 100000);

		if (shale_put(db, NULL, key, (size_t)n, value, sizeof(value)) < 0)
			return 1;
	}
}

START_TEST(explain_names_the_stall)
{
	bool seen = false;
	pid_t pid;

	proc_init(&d, NULL, "engine.write_buffer=64K", "engine.l0_compaction=2", "engine.l0_slowdown=2",
		  "engine.l0_stop=3", "service.slowdown_rate=4K", NULL);
	proc_start(&d);
	pid = proc_fork(write_much, NULL);
	for (int i = 0; i < 400 * PATIENCE && !seen; i++, usleep(20000)) {
		json_t *answer = ctl_json("explain"), *writes = json_object_get(answer, "writes");
		const char *words = text(writes, "text");

		if (strcmp(text(writes, "cause"), "none") != 0) {
			ck_assert_msg(strstr(words, "(engine.") || strstr(words, "service.") || strstr(words, "wal."),
				      "%s", words);
			seen = true;
		}
		json_decref(answer);
	}
	ck_assert_msg(seen, "a writer at full speed was never said to be slowed down");
	kill(pid, SIGKILL);
	proc_wait(pid);
	end();
}
END_TEST

/* The forms of compact: whole, range, level, not waited for; what cannot be is a usage error. */
START_TEST(compact_forms)
{
	struct shale_db *db;
	json_t *answer;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	ck_ok(shale_flush(db));
	ck_assert_int_eq(ask("compact --level 2"), 0);
	ck_assert_str_eq(out, ""); /* no bar without a terminal */
	proc_stats(&d);
	answer = ctl_json("levels");
	ck_assert_int_eq(number(json_array_get(json_object_get(answer, "levels"), 3), "files"), 1);
	json_decref(answer);
	ck_assert_int_eq(ask("compact --from a --to b --wait"), 0);
	ck_assert_int_eq(ask("compact --no-wait"), 0);
	ck_assert_int_eq(ask("compact --level 7"), 2);
	ck_assert_int_eq(ask("compact --level x"), 2);
	ck_assert_int_eq(ask("compact a --from b"), 2);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	for (int i = 0; i < 500; i++, usleep(10000)) {
		answer = ctl_json("jobs");
		if (number(json_object_get(answer, "manual"), "requests") == 0)
			break;
		json_decref(answer);
	}
	ck_assert_int_eq(number(json_object_get(answer, "manual"), "requests"), 0);
	json_decref(answer);
	shale_close(db);
	end();
}
END_TEST

static int always(void *context)
{
	++*(volatile int *)context;
	return 1;
}

static int compact_cancelled(void *arg)
{
	struct shale_compact_options options = SHALE_COMPACT_OPTIONS_INIT;
	struct shale_db *db;
	int *looks = arg, rc;

	if (shale_open(d.socket, NULL, &db) < 0 || shale_ping(db) < 0)
		return 1;
	kill(d.pid, SIGSTOP);
	options.watch = always;
	options.watch_context = looks;
	rc = shale_compact(db, &options, NULL, 0, NULL, 0);
	shale_close(db);
	return rc == -ECANCELED ? 0 : 2;
}

/*
 * A compaction that its caller gives up ends, and the daemon forgets it. The daemon is stopped until the cancellation lies in the ring behind the
 * request, so that it is taken before the compaction can be done.
 */
START_TEST(compact_is_cancelled)
{
	int *looks = proc_shared(sizeof(*looks));
	struct shale_db *db;
	pid_t pid;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "a", "1");
	pid = proc_fork(compact_cancelled, looks);
	for (int i = 0; i < 2000 && !*(volatile int *)looks; i++)
		usleep(10000);
	ck_assert_int_gt(*looks, 0);
	proc_await_sleep(pid); /* the cancellation follows the look, then it waits for the daemon */
	kill(d.pid, SIGCONT);
	ck_assert_int_eq(proc_wait(pid), 0);
	ck_assert_int_eq(*looks, 1);
	for (int i = 0; i < 1000 && proc_stats(&d).manual.requests; i++)
		usleep(10000);
	ck_assert_uint_eq(proc_stats(&d).manual.requests, 0);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	ck_ok(shale_compact_range(db, NULL, 0, NULL, 0));
	shale_close(db);
	end();
}
END_TEST

/* ---- LevelDB's properties ---- */

static leveldb_t *stock_open(const char *path, leveldb_options_t **options_out)
{
	leveldb_options_t *options = leveldb_options_create();
	char *error = NULL;
	leveldb_t *db;

	leveldb_options_set_create_if_missing(options, 1);
	db = leveldb_open(options, path, &error);
	ck_assert_msg(!error, "stock open: %s", error);
	*options_out = options;
	return db;
}

static const char *const properties[] = {"leveldb.num-files-at-level0",
					 "leveldb.num-files-at-level1",
					 "leveldb.num-files-at-level2",
					 "leveldb.num-files-at-level6",
					 "leveldb.sstables",
					 "leveldb.stats"};

static bool digits_only(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

/* The same directory, opened by LevelDB and then by shaled: the same texts, byte for byte, and the same names unknown. */
START_TEST(properties_are_leveldbs)
{
	static const char *const unknown[] = {"leveldb.num-files-at-level7", "leveldb.num-files-at-level",
					      "leveldb.nothing", "stats", "leveldb.num-files-at-level-1"};
	char *theirs[ARRAY_SIZE(properties)], *ours;
	leveldb_options_t *options;
	struct shale_db *db;
	leveldb_t *stock;

	proc_init(&d, NULL, NULL);
	stock_fill(d.database, 20000, 0, true, 10);
	stock = stock_open(d.database, &options);
	leveldb_compact_range(stock, NULL, 0, NULL, 0);
	leveldb_close(stock);
	leveldb_options_destroy(options);
	/* Two logs, each of which becomes a table of level 0 when it is replayed: the second one has the smaller keys. */
	stock_fill(d.database, 20, 15000, true, 10);
	stock_fill(d.database, 20, 500, true, 10);
	stock = stock_open(d.database, &options);
	leveldb_close(stock);
	leveldb_options_destroy(options);
	stock = stock_open(d.database, &options); /* counters at zero, nothing to replay */
	for (unsigned i = 0; i < ARRAY_SIZE(properties); i++) {
		theirs[i] = leveldb_property_value(stock, properties[i]);
		ck_assert_ptr_nonnull(theirs[i]);
	}
	ours = leveldb_property_value(stock, "leveldb.approximate-memory-usage");
	ck_assert(digits_only(ours));
	leveldb_free(ours);
	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		ck_assert_ptr_null(leveldb_property_value(stock, unknown[i]));
	leveldb_close(stock);
	leveldb_options_destroy(options);
	ck_assert_msg(strcmp(theirs[0], "0") != 0, "the test wants tables in level 0\n%s", theirs[4]);

	proc_start(&d);
	db = proc_open(&d);
	for (unsigned i = 0; i < ARRAY_SIZE(properties); i++) {
		ck_ok(shale_property(db, properties[i], &ours));
		ck_assert_msg(strcmp(ours, theirs[i]) == 0, "%s\nours:\n%s\ntheirs:\n%s", properties[i], ours,
			      theirs[i]);
		shale_free(ours);
		leveldb_free(theirs[i]);
	}
	ck_ok(shale_property(db, "leveldb.approximate-memory-usage", &ours));
	ck_assert(digits_only(ours));
	shale_free(ours);
	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		ck_assert_int_eq(shale_property(db, unknown[i], &ours), SHALE_NOTFOUND);
	shale_close(db);
	end();
}
END_TEST

TEST_MAIN("visibility", 60 * PATIENCE, levels_and_jobs, a_stopped_daemon_is_seen, explain_names_the_holder,
	  explain_tells_of_deletions, explain_names_the_stall, compact_forms, compact_is_cancelled,
	  properties_are_leveldbs)
