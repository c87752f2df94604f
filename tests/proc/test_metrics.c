/*
 * shalectl metrics and shalectl events, as a collector and an administrator see them; and what tools/grafana says of the former.
 */
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char out[1 << 18];

/* By directory, which asks nobody. */
#define ctl(words) proc_shell(out, sizeof(out), "%s/shalectl --db %s %s", proc_build(), d.database, words)

/* A daemon that has done a little of everything. */
static void begin(void)
{
	struct shale_db *db;

	proc_begin(&d);
	db = proc_open(&d);
	for (int i = 0; i < 10; i++)
		proc_put(db, "key", "value");
	ck_assert_str_eq(proc_get(db, "key"), "value");
	ck_assert_ptr_null(proc_get(db, "none"));
	ck_ok(shale_flush(db));
	shale_close(db);
	proc_stats(&d);
}

static void end(void)
{
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* The number of a sample whose line begins so; fails when there is none. */
static double sample(const char *name)
{
	char line[1100], *at;

	snprintf(line, sizeof(line), "\n%s", name);
	at = strstr(out, line);
	ck_assert_msg(at != NULL, "no sample %s", name);
	at = strchr(at + 1, '}');
	ck_assert_ptr_nonnull(at);
	return strtod(at + 1, NULL);
}

/* The same of the daemon's database, with further labels. */
static double value(const char *name, const char *labels)
{
	char full[1024];

	snprintf(full, sizeof(full), "%s{db=\"%s\"%s%s}", name, d.database, *labels ? "," : "", labels);
	return sample(full);
}

/* ---- the format ---- */

/* The family that the last "# TYPE" line began. */
struct family {
	char name[100], type[16], help[100], unit[100];
	double bucket, count; /* of the histogram that goes by; bucket: its last one */
	unsigned samples;
};

static bool ends_with(const char *word, const char *end)
{
	size_t a = strlen(word), b = strlen(end);

	return a >= b && strcmp(word + a - b, end) == 0;
}

/* One sample of @f, whose line begins with a name. */
static void check_sample(struct family *f, const char *line)
{
	size_t n = strcspn(line, "{"), base = strlen(f->name);
	const char *labels_end = strrchr(line, '}');
	char suffix[32], *rest;
	double v;

	ck_assert_msg(strncmp(line, f->name, base) == 0 && n >= base && n - base < sizeof(suffix), "%s within %s", line,
		      f->name);
	snprintf(suffix, sizeof(suffix), "%.*s", (int)(n - base), line + base);
	ck_assert_msg(labels_end && labels_end[1] == ' ', "%s", line);
	v = strtod(labels_end + 2, &rest);
	ck_assert_msg(*rest == '\0' && isfinite(v), "%s", line);
	f->samples++;
	if (strcmp(f->type, "counter") == 0) {
		ck_assert_msg(strcmp(suffix, "_total") == 0 && v >= 0, "%s", line);
	} else if (strcmp(f->type, "info") == 0) {
		ck_assert_msg(strcmp(suffix, "_info") == 0 && v == 1, "%s", line);
	} else if (strcmp(f->type, "histogram") == 0) {
		if (strcmp(suffix, "_bucket") == 0) {
			ck_assert_msg(v >= f->bucket && strstr(line, ",le=\""), "%s", line);
			f->bucket = v;
		} else if (strcmp(suffix, "_count") == 0) {
			ck_assert_msg(v == f->bucket, "%s: the buckets have %g", line, f->bucket);
			f->bucket = 0;
		} else {
			ck_assert_msg(strcmp(suffix, "_sum") == 0, "%s", line);
		}
	} else {
		ck_assert_msg(!*suffix && (strcmp(f->type, "gauge") == 0 || strcmp(f->type, "stateset") == 0), "%s",
			      line);
	}
}

/* Every line is part of a family: HELP, TYPE, UNIT where the name has one, samples of just that family; no family comes twice; "# EOF" ends it. */
START_TEST(openmetrics_are_well_formed)
{
	char *copy, *line, *save = NULL, seen[8192] = "\n";
	struct family f = {0};
	unsigned families = 0;

	begin();
	ck_assert_int_eq(ctl("metrics"), 0);
	ck_assert_msg(ends_with(out, "\n# EOF\n"), "no end");
	copy = strdup(out);
	for (line = strtok_r(copy, "\n", &save); strcmp(line, "# EOF") != 0; line = strtok_r(NULL, "\n", &save)) {
		char name[100] = "", type[16] = "", word[102];

		if (sscanf(line, "# HELP %99s", name) == 1) {
			ck_assert_msg(!families || !ends_with(f.name, "_seconds") || strcmp(f.unit, f.name) == 0,
				      "%s: no unit", f.name);
			ck_assert_msg(!families || !ends_with(f.name, "_bytes") || strcmp(f.unit, f.name) == 0,
				      "%s: no unit", f.name);
			snprintf(word, sizeof(word), "\n%s\n", name);
			ck_assert_msg(!strstr(seen, word), "%s comes twice", name);
			strcat(seen, word + 1);
			f = (struct family){0};
			strcpy(f.help, name);
		} else if (sscanf(line, "# TYPE %99s %15s", name, type) == 2) {
			ck_assert_str_eq(name, f.help);
			strcpy(f.name, name);
			strcpy(f.type, type);
			families++;
		} else if (sscanf(line, "# UNIT %99s %15s", name, type) == 2) {
			ck_assert_str_eq(name, f.name);
			ck_assert_msg(ends_with(name, type) && !f.samples, "%s", line);
			strcpy(f.unit, name);
		} else {
			check_sample(&f, line);
		}
	}
	ck_assert_ptr_null(strtok_r(NULL, "\n", &save));
	ck_assert_uint_gt(families, 60);
	free(copy);
	end();
}
END_TEST

/* Names and types are for ever: dashboards hang on them. A new one is added to the golden file, an old one is not changed. */
START_TEST(names_and_types_stay)
{
	begin();
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "%s/shalectl --db %s metrics | grep '^# TYPE' | LC_ALL=C sort | diff "
				    "tests/golden/metrics.types -",
				    proc_build(), d.database),
			 0);
	end();
}
END_TEST

/* What Prometheus itself says: of the text format by its linter, of OpenMetrics by its parser (which wants a time for each sample). */
START_TEST(promtool_agrees)
{
	begin();
	if (proc_shell(out, sizeof(out), "command -v promtool") != 0) {
		printf("promtool (Debian: prometheus) is not installed: not checked by it\n");
		end();
		return;
	}
	ck_assert_msg(proc_shell(out, sizeof(out), "%s/shalectl --db %s metrics --text | promtool check metrics",
				 proc_build(), d.database) == 0,
		      "%s", out);
	ck_assert_str_eq(out, "");
	ck_assert_msg(proc_shell(out, sizeof(out),
				 "cd %s && %s/shalectl --db %s metrics | sed '/^#/!s/$/ 1700000000/' >om && "
				 "promtool tsdb create-blocks-from openmetrics om blocks",
				 d.scratch, proc_build(), d.database) == 0,
		      "%s", out);
	ck_assert_msg(proc_shell(out, sizeof(out), "promtool check rules tools/grafana/alerts.yml") == 0, "%s", out);
	end();
}
END_TEST

/* ---- the numbers ---- */

/* What clients did is what the metrics say, in seconds and bytes. */
START_TEST(numbers_are_those_of_the_clients)
{
	begin();
	ck_assert_int_eq(ctl("metrics"), 0);
	ck_assert(value("shale_up", "") == 1);
	ck_assert(value("shale_state", "shale_state=\"serving\"") == 1);
	ck_assert(value("shale_state", "shale_state=\"dead\"") == 0);
	ck_assert(value("shale_records_written_total", "type=\"put\"") == 10);
	ck_assert(value("shale_keys_read_total", "") == 2);
	ck_assert(value("shale_operation_duration_seconds_count", "operation=\"write\"") == 10);
	ck_assert(value("shale_operation_duration_seconds_count", "operation=\"get\"") == 2);
	ck_assert(value("shale_operation_duration_seconds_count", "operation=\"job\"") == 1);
	ck_assert(value("shale_operation_duration_seconds_sum", "operation=\"get\"") > 0);
	ck_assert(value("shale_operation_duration_seconds_sum", "operation=\"get\"") < 60);
	ck_assert(value("shale_wait_seconds_count", "part=\"job\"") == 1);
	ck_assert(value("shale_flushes_total", "") == 1);
	ck_assert(value("shale_level_files", "level=\"0\"") + value("shale_level_files", "level=\"1\"") +
			  value("shale_level_files", "level=\"2\"") ==
		  1);
	ck_assert(value("shale_live_bytes", "") > 0);
	ck_assert(value("shale_disk_size_bytes", "") >= value("shale_disk_free_bytes", ""));
	ck_assert(value("shale_disk_free_bytes", "") > 0);
	ck_assert(value("shale_wal_window_bytes", "") >= 1 << 18);
	ck_assert(value("shale_start_time_seconds", "") > 1.6e9);
	ck_assert(value("shale_events_total", "") >= 2);
	end();
}
END_TEST

/* They come while the daemon hangs, and of one that was killed; where there was none the exit code says so. --json has another verb. */
START_TEST(without_an_answer)
{
	begin();
	kill(d.pid, SIGSTOP);
	ck_assert_int_eq(ctl("metrics"), 0);
	ck_assert(value("shale_up", "") == 1);
	ck_assert_int_eq(ctl("events"), 0);
	ck_assert_msg(strstr(out, "started"), "%s", out);
	kill(d.pid, SIGCONT);
	ck_assert_int_eq(ctl("metrics --json 2>&1"), 2);
	ck_assert_msg(strstr(out, "stats --json"), "%s", out);
	private_daemon_kill(&d);
	ck_assert_int_eq(ctl("metrics"), 0);
	ck_assert(value("shale_up", "") == 0);
	ck_assert(value("shale_state", "shale_state=\"dead\"") == 1);
	ck_assert_int_eq(ctl("events 2>&1"), 3);
	ck_assert_msg(strstr(out, "started") && strstr(out, "last events"), "%s", out);
	proc_start(&d);
	proc_stop(&d);
	ck_assert_int_eq(ctl("metrics 2>/dev/null"), 3);
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(ctl("events 2>&1"), 3);
	ck_assert_msg(strstr(out, "journal"), "%s", out);
	private_daemon_fini(&d);
}
END_TEST

/* Who is refused is counted by reason, and is an event that names the process and why. */
START_TEST(refusals_are_counted_and_told)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char answer[1024];
	struct shale_db *db;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	begin();
	ck_assert_uint_lt(strlen(d.socket), sizeof(at.sun_path));
	strcpy(at.sun_path, d.socket);
	ck_ok(connect(fd, (struct sockaddr *)&at, sizeof(at)));
	ck_assert_int_eq(send(fd, "nonsense", 8, 0), 8);
	ck_assert_int_gt(recv(fd, answer, sizeof(answer), 0),
			 0); /* counted before or after this: a later page has it */
	close(fd);
	db = proc_open(&d);
	for (int i = 0; i < 800 * PATIENCE; i++) {
		proc_put(db, "key", "value"); /* the page is renewed while something is done */
		if (proc_stats(&d).refused[REGION_REFUSED_PROTOCOL])
			break;
	}
	shale_close(db);
	ck_assert_int_eq(ctl("metrics"), 0);
	ck_assert(value("shale_sessions_refused_total", "reason=\"protocol\"") == 1);
	ck_assert(value("shale_sessions_refused_total", "reason=\"access\"") == 0);
	ck_assert_int_eq(ctl("events --json"), 0);
	snprintf(answer, sizeof(answer), "refused process %ld ", (long)getpid());
	ck_assert_msg(strstr(out, "\"kind\":\"refused\"") && strstr(out, answer), "%s", out);
	end();
}
END_TEST

/* ---- tools/grafana ---- */

/* Every metric that the dashboard and the alert rules ask for is one that shalectl prints. */
START_TEST(dashboard_and_alerts_name_what_there_is)
{
	char *metrics, *save = NULL;
	unsigned names = 0;
	json_error_t error;
	json_t *dashboard = json_load_file("tools/grafana/shale.json", 0, &error);

	ck_assert_msg(dashboard != NULL, "%s (line %d)", error.text, error.line);
	ck_assert_str_eq(json_string_value(json_object_get(dashboard, "uid")), "shale");
	json_decref(dashboard);
	begin();
	ck_assert_int_eq(ctl("metrics --text"), 0);
	metrics = strdup(out);
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "cat tools/grafana/shale.json tools/grafana/alerts.yml | "
				    "grep -oE '\\bshale_[a-z0-9_]+' | sort -u"),
			 0);
	for (char *name = strtok_r(out, "\n", &save); name; name = strtok_r(NULL, "\n", &save), names++) {
		char as_sample[120], as_type[120];

		snprintf(as_sample, sizeof(as_sample), "\n%s{", name);
		snprintf(as_type, sizeof(as_type), "\n# TYPE %s ",
			 name); /* there may be no sample: no jemalloc in this build */
		ck_assert_msg(strstr(metrics, as_sample) || strstr(metrics, as_type), "%s is no metric", name);
	}
	ck_assert_uint_gt(names, 50);
	free(metrics);
	end();
}
END_TEST

/* ---- events ---- */

/* Follows until the line comes; fails after 8 s. */
static void await_line(const char *path, const char *words)
{
	for (int i = 0; i < 800 * PATIENCE; i++) {
		if (proc_shell(out, sizeof(out), "grep -q '%s' %s", words, path) == 0)
			return;
		usleep(10000);
	}
	proc_shell(out, sizeof(out), "cat %s", path);
	ck_abort_msg("no line with \"%s\" in\n%s", words, out);
}

static int follow(void *arg)
{
	return proc_shell(out, sizeof(out), "%s/shalectl --db %s events --follow --json >%s 2>&1", proc_build(),
			  d.database, (const char *)arg);
}

/* Who follows sees a reload as it happens, and the end; then it ends itself, with the code that says why. */
START_TEST(events_are_followed)
{
	char path[128];
	pid_t follower;
	json_t *row;

	begin();
	snprintf(path, sizeof(path), "%s/followed", d.scratch);
	follower = proc_fork(follow, path);
	await_line(path, "\"kind\":\"recovered\"");
	kill(d.pid, SIGHUP);
	await_line(path, "\"kind\":\"reloaded\"");
	ck_assert_int_eq(private_daemon_stop(&d), 0);
	ck_assert_int_eq(proc_wait(follower), 3);
	await_line(path, "\"kind\":\"stopping\"");
	await_line(path, "\"kind\":\"stopped\"");
	await_line(path, "the daemon has ended");
	ck_assert_int_eq(proc_shell(out, sizeof(out), "head -1 %s", path), 0);
	row = json_loads(out, 0, NULL);
	ck_assert_ptr_nonnull(row);
	ck_assert_int_eq(json_integer_value(json_object_get(row, "number")), 1);
	ck_assert_str_eq(json_string_value(json_object_get(row, "kind")), "started");
	ck_assert_str_eq(json_string_value(json_object_get(row, "severity")), "notice");
	ck_assert_msg(strstr(json_string_value(json_object_get(row, "text")), "shaled"), "%s", out);
	ck_assert_uint_eq(strlen(json_string_value(json_object_get(row, "time"))), strlen("2026-11-21T09:43:34.154Z"));
	json_decref(row);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("metrics", 60 * PATIENCE, openmetrics_are_well_formed, names_and_types_stay, promtool_agrees,
	  numbers_are_those_of_the_clients, refusals_are_counted_and_told, without_an_answer,
	  dashboard_and_alerts_name_what_there_is, events_are_followed)
