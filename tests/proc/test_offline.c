/*
 * verify, repair and dump as a shell sees them: their exit codes, what they refuse, and what a daemon makes of the database afterwards. What
 * repair promises is tested in engine/test_repair; here it moves real files.
 */
#include <dirent.h>
#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char out[1 << 18];

#define ctl(...) shalectl("2>/dev/null", __VA_ARGS__)
#define ctl_words(...) shalectl("2>&1 >/dev/null", __VA_ARGS__)

__attribute__((format(printf, 2, 3))) static int shalectl(const char *where, const char *fmt, ...)
{
	char words[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	return proc_shell(out, sizeof(out), "%s/shalectl %s %s", proc_build(), words, where);
}

/* A database with tables in two places and a log, and nobody who serves it. */
static void begin(void)
{
	struct shale_db *db;
	char key[32], value[64];

	proc_init(&d, NULL, "engine.write_buffer=64K", NULL);
	proc_start(&d);
	db = proc_open(&d);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 2000; i++) {
			snprintf(key, sizeof(key), "key%05d", i);
			snprintf(value, sizeof(value), "value %d of round %d, and some more bytes", i, round);
			proc_put(db, key, value);
		}
		ck_ok(shale_flush(db));
	}
	proc_put(db, "in the log", "yes");
	shale_close(db);
	proc_stop(&d);
}

static void end(void)
{
	private_daemon_fini(&d);
}

static const char *file_like(const char *pattern)
{
	static char path[700];
	glob_t found;

	snprintf(path, sizeof(path), "%s/%s", d.database, pattern);
	ck_assert_msg(glob(path, 0, NULL, &found) == 0, "nothing like %s", path);
	snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
	globfree(&found);
	return path;
}

static void flip(const char *path, long offset)
{
	FILE *f = fopen(path, "r+");
	int c;

	ck_assert_ptr_nonnull(f);
	fseek(f, offset, SEEK_SET);
	c = fgetc(f);
	fseek(f, offset, SEEK_SET);
	fputc(c ^ 0x20, f);
	fclose(f);
}

/* Each line is an object with one member. The last one is {"summary": …}, owned by the caller. */
static json_t *summary(void)
{
	json_t *last = NULL;
	char *save = NULL;

	for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_decref(last);
		last = json_loads(line, 0, NULL);
		ck_assert_msg(last && json_object_size(last) == 1, "%s", line);
	}
	ck_assert_msg(json_object_get(last, "summary") != NULL, "no summary");
	return last;
}

static long number(const json_t *summary, const char *name)
{
	const json_t *v = json_object_get(json_object_get(summary, "summary"), name);

	ck_assert_msg(json_is_integer(v), "%s", name);
	return (long)json_integer_value(v);
}

/* Clean: 0. Damaged: 5, with file, offset, keys, cause and next command. No directory, none given: 1 and 2. */
START_TEST(verify_codes)
{
	json_t *j;

	begin();
	ck_assert_int_eq(ctl("verify --db %s", d.database), 0);
	ck_assert_msg(strstr(out, "clean"), "%s", out);
	ck_assert_int_eq(ctl("--json verify --db %s", d.database), 0);
	j = summary();
	ck_assert_int_eq(number(j, "problems"), 0);
	ck_assert_int_ge(number(j, "entries"), 4000);
	json_decref(j);
	flip(file_like("*.ldb"), 5000);
	ck_assert_int_eq(ctl("verify --db %s", d.database), 5);
	for (const char *const *w =
		     (const char *const[]){".ldb, offset", "checksum", "key0", "likely", "shalectl repair --db", NULL};
	     *w; w++)
		ck_assert_msg(strstr(out, *w), "no \"%s\" in:\n%s", *w, out);
	ck_assert_int_eq(ctl("verify --json --db %s", d.database), 5);
	j = summary();
	ck_assert_int_eq(number(j, "problems"), 1);
	json_decref(j);
	ck_assert_int_eq(ctl("verify"), 2);
	ck_assert_int_eq(ctl("verify --db /nowhere/at/all"), 1);
	ck_assert_int_eq(ctl_words("verify --db %s", d.scratch), 1);
	ck_assert_msg(strstr(out, "no database"), "%s", out);
	end();
}
END_TEST

/* A served directory is refused by both, with who serves it and what to do; it is not disturbed. */
START_TEST(served)
{
	struct shale_db *db;
	char pid[32];

	proc_begin(&d);
	snprintf(pid, sizeof(pid), "%d", (int)d.pid);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ctl_words("%s --db %s", i ? "repair --yes" : "verify", d.database), 1);
		ck_assert_msg(strstr(out, pid) && strstr(out, "stop the daemon"), "%s", out);
	}
	db = proc_open(&d);
	proc_put(db, "a", "1");
	shale_close(db);
	proc_stop(&d);
	end();
}
END_TEST

/* Refused without an answer; --dry-run changes nothing; done, the daemon serves what is left, and the original is in lost/. */
START_TEST(repair_codes)
{
	struct shale_db *db;
	char original[700], before[128];
	json_t *j;

	begin();
	ck_assert_int_eq(ctl("repair --db %s --yes", d.database), 0);
	ck_assert_msg(strstr(out, "nothing to repair"), "%s", out);
	strcpy(original, file_like("*.ldb"));
	flip(original, 5000);
	ck_assert_int_eq(proc_shell(before, sizeof(before), "md5sum %s/* | md5sum", d.database), 0);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out), "%s/shalectl repair --db %s 2>&1 </dev/null", proc_build(), d.database),
		2);
	ck_assert_msg(strstr(out, "--yes"), "%s", out);
	ck_assert_int_eq(ctl("repair --dry-run --db %s", d.database), 5);
	ck_assert_msg(strstr(out, "LOST") && strstr(out, "would be repaired"), "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "md5sum %s/* | md5sum", d.database), 0);
	ck_assert_str_eq(out, before);
	ck_assert_int_eq(proc_shell(before, sizeof(before), "md5sum <%s", original), 0);
	ck_assert_int_eq(ctl("repair --json --yes --db %s", d.database), 0);
	j = summary();
	ck_assert_int_gt(number(j, "losses"), 0);
	ck_assert_int_gt(number(j, "files_moved"), 0);
	json_decref(j);
	ck_assert_int_eq(access(original, F_OK), -1);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "md5sum <%s/lost/%s", d.database, strrchr(original, '/') + 1), 0);
	ck_assert_str_eq(out, before);
	ck_assert_int_eq(ctl("verify --db %s", d.database), 0);
	proc_start(&d);
	db = proc_open(&d);
	ck_assert_str_eq(proc_get(db, "in the log"), "yes");
	ck_assert_ptr_nonnull(strstr(proc_get(db, "key01999"), "round 1"));
	shale_close(db);
	proc_stop(&d);
	ck_assert_int_eq(access(file_like("lost/*.ldb"), F_OK), 0); /* a sweep at open leaves it alone */
	end();
}
END_TEST

/* After a kill acknowledged writes may be in memory only. A repair does not cut them off: the daemon finds them afterwards. */
START_TEST(repair_after_a_kill)
{
	struct shale_db *db;
	char key[32];

	proc_init(&d, NULL, NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "flushed", "yes");
	ck_ok(shale_flush(db));
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "key%05d", i);
		proc_put(db, key, "value");
	}
	private_daemon_kill(&d);
	shale_close(db);
	flip(file_like("*.ldb"), 10);
	ck_assert_int_eq(ctl_words("verify --db %s", d.database), 5);
	ck_assert_msg(strstr(out, "in memory"), "%s", out);
	ck_assert_int_eq(ctl("repair --yes --db %s", d.database), 0);
	proc_start(&d);
	db = proc_open(&d);
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "key%05d", i);
		ck_assert_str_eq(proc_get(db, key), "value");
	}
	shale_close(db);
	proc_stop(&d);
	end();
}
END_TEST

static bool logged(const char *words)
{
	return proc_shell(out, sizeof(out), "grep -qF -- '%s' %s", words, d.log) == 0;
}

/* Every key either is the newest it ever was, or an error; never the older one below. Returns how many fail; @which: one of these. */
static int newest_or_error(struct shale_db *db, int *which)
{
	char key[32], want[32], value[128];
	size_t len;
	int failed = 0;

	for (int i = 0; i < 2000; i++) {
		int rc;

		snprintf(key, sizeof(key), "key%05d", i);
		rc = shale_get(db, NULL, key, strlen(key), value, sizeof(value) - 1, &len);
		if (rc == -SHALE_ECORRUPT) {
			failed++;
			*which = i;
			continue;
		}
		ck_assert_msg(rc == 0, "%s: %d", key, rc);
		value[len] = 0;
		snprintf(want, sizeof(want), "value %d of round 1", i);
		ck_assert_msg(!strncmp(value, want, strlen(want)), "%s: %s", key, value);
	}
	return failed;
}

/* A table is gone. Without --best-effort: refused. With it: its keys fail, all else is served and written; log and status say so, loudly. */
START_TEST(best_effort)
{
	struct shale_db *db;
	char newest[700], name[32], away[800];
	char key[32], value[64];
	int failed, which = -1;

	begin();
	/* The highest number is what was flushed last: the newer values. */
	ck_assert_int_eq(proc_shell(newest, sizeof(newest), "ls %s/*.ldb | tail -1 | tr -d '\\n'", d.database), 0);
	snprintf(name, sizeof(name), "%.30s", strrchr(newest, '/') + 1);
	snprintf(away, sizeof(away), "%s/away", d.scratch);
	ck_ok(rename(newest, away));
	ck_assert_int_eq(proc_refused(&d, out, sizeof(out)), 6);
	ck_assert_msg(strstr(out, name) && strstr(out, "--best-effort"), "%s", out);
	private_daemon_arg(&d, "--best-effort");
	proc_start(&d);
	ck_assert(logged("best effort") && logged(name));
	db = proc_open(&d);
	failed = newest_or_error(db, &which);
	ck_assert_int_gt(failed, 0);
	ck_assert_str_eq(proc_get(db, "in the log"), "yes");
	snprintf(key, sizeof(key), "key%05d", which);
	snprintf(value, sizeof(value), "value %d of round 1, written anew", which);
	proc_put(db, key, value);
	ck_ok(shale_flush(db));
	ck_assert_int_eq(newest_or_error(db, &which), failed - 1);
	ck_assert_int_eq(ctl("--socket %s scan", d.socket), 1);
	ck_assert_int_eq(ctl("--socket %s status", d.socket), 0);
	ck_assert_msg(strstr(out, "best effort") && strstr(out, "cannot be read"), "%s", out);
	ck_assert(logged("a read failed"));
	shale_close(db);
	proc_stop(&d);
	ck_ok(rename(away, newest));
	proc_start(&d);
	db = proc_open(&d);
	ck_assert_int_eq(newest_or_error(db, &which), 0);
	shale_close(db);
	proc_stop(&d);
	end();
}
END_TEST

/* The dumps of files that are kept, sound and damaged ones, are what they were: text and JSON. A change of either is a change of this. */
START_TEST(golden_dumps)
{
	static const char folder[] = "tests/golden/dump";
	DIR *dir = opendir(folder);
	struct dirent *e;
	unsigned dumps = 0;

	ck_assert_msg(dir != NULL, "%s: run from the root of the repository", folder);
	while ((e = readdir(dir))) {
		const char *ext = strrchr(e->d_name, '.');
		bool json = ext && !strcmp(ext, ".json");
		int code, stem, want;

		if (!ext || (!json && strcmp(ext, ".txt") != 0))
			continue;
		stem = (int)(ext - e->d_name);
		want = strncmp(e->d_name, "damaged", 7) == 0 ? 5 : 0;
		code = proc_shell(out, sizeof(out), "%s/shalectl %s dump %s/%.*s >/dev/null", proc_build(),
				  json ? "--json" : "", folder, stem, e->d_name);
		ck_assert_msg(code == want, "%s: exit code %d\n%s", e->d_name, code, out);
		code = proc_shell(out, sizeof(out), "%s/shalectl %s dump %s/%.*s | diff %s/%s -", proc_build(),
				  json ? "--json" : "", folder, stem, e->d_name, folder, e->d_name);
		ck_assert_msg(code == 0, "%s:\n%s", e->d_name, out);
		dumps++;
	}
	closedir(dir);
	ck_assert_uint_ge(dumps, 16);
}
END_TEST

/* A directory as a whole, one of its tables under another name, and what there is nothing to say about. */
START_TEST(dump_of_anything)
{
	begin();
	ck_assert_int_eq(ctl("dump %s", d.database), 0);
	ck_assert_msg(strstr(out, "current manifest=MANIFEST-") && strstr(out, "database log=") &&
			      strstr(out, "table level="),
		      "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "cp %s %s/oddly-named", file_like("*.ldb"), d.scratch), 0);
	ck_assert_int_eq(ctl("dump --keys-only %s/oddly-named | tail -1", d.scratch), 0);
	ck_assert_msg(strstr(out, "table size="), "%s", out);
	ck_assert_int_eq(ctl("dump %s", file_like("LOCK")), 1);
	ck_assert_int_eq(ctl("dump /nowhere"), 1);
	ck_assert_int_eq(ctl("dump"), 2);
	end();
}
END_TEST

TEST_MAIN("offline", 60 * PATIENCE, verify_codes, served, repair_codes, repair_after_a_kill, best_effort, golden_dumps,
	  dump_of_anything)
