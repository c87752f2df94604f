/*
 * doctor.c - is everything as shaled needs it? Each finding with what to do about it.
 *
 * It needs no daemon: without one it looks at what the next one would meet, with this program's own limits in place of the daemon's. With one it
 * asks nothing of it, as it may be the patient.
 */
#include "tools/shalectl/doctor.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/shalectl/explain.h"

void doctor_tell(struct doctor *d, enum verdict v, const char *check, const char *fix, const char *fmt, ...)
{
	static const char *const names[] = {"ok", "note", "PROBLEM"}, *const words[] = {"ok", "note", "problem"};
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->problems += v == PROBLEM;
	if (d->findings) {
		json_t *f = json_pack("{s:s,s:s}", "check", check, "verdict", words[v]);

		json_set_bytes(f, "text", slice_str(text));
		if (fix)
			json_set_bytes(f, "fix", slice_str(fix));
		json_array_append_new(d->findings, f);
		return;
	}
	printf("%-8s %-12s %s\n", names[v], check, text);
	if (fix)
		printf("%22sfix: %s\n", "", fix);
}

const char *small_file(const char *path, char *buf, size_t cap)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(buf, 1, cap - 1, f) : 0;

	if (f)
		fclose(f);
	buf[n] = '\0';
	buf[strcspn(buf, " \n")] = '\0';
	return buf;
}

/* ---- the daemon ---- */

/* A program that was replaced on disk after it was started. */
static bool old_program(unsigned pid)
{
	char path[64], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return n > 10 && strcmp(target + n - 10, " (deleted)") == 0;
}

static void look_at_version(struct doctor *d)
{
	const char *version = d->picture.region.header->version;

	if (strcmp(version, SHALE_VERSION) != 0)
		doctor_tell(
			d, NOTE, "version", "systemctl restart shaled",
			"the daemon has version %.31s, this program and its library %s; they speak the same protocol",
			version, SHALE_VERSION);
	else if (old_program(d->pid))
		doctor_tell(d, NOTE, "version", "systemctl restart shaled",
			    "shaled was replaced on disk after it was started: what runs is the old program");
	else
		doctor_tell(d, FINE, "version", NULL, "daemon, library and tool have version %s", SHALE_VERSION);
}

static void look_at_backend(struct doctor *d)
{
	const char *why = strchr(d->picture.stats.io_backend, ':');

	if (why)
		doctor_tell(d, PROBLEM, "io", "what is said about io_uring here, then: systemctl restart shaled",
			    "the daemon fell back to slower I/O: %s", d->picture.stats.io_backend);
	else
		doctor_tell(d, FINE, "io", NULL, "the daemon does its I/O by %s", d->picture.stats.io_backend);
}

static void look_at_daemon(struct doctor *d)
{
	const struct region_stats *s = &d->picture.stats;
	char age[32], fix[64];
	struct answer a;

	snprintf(fix, sizeof(fix), "kill -CONT %u", d->pid);
	if (is_stopped(d->pid)) {
		doctor_tell(d, PROBLEM, "daemon", fix, "a signal stopped the daemon (pid %u): nobody is served",
			    d->pid);
	} else if (d->picture.idle_s > 2 && (s->jobs_running || s->stalled_sessions)) {
		doctor_tell(d, PROBLEM, "daemon",
			    "gdb -p PID -batch -ex 'thread apply all bt' for a report, then restart it",
			    "pid %u hangs: its last heartbeat was %s ago although there is work", d->pid,
			    time_text((uint64_t)(d->picture.idle_s * 1e6), age));
	} else if (d->picture.state == REGION_FAILED) {
		doctor_tell(d, PROBLEM, "daemon", "remove the cause, then: systemctl restart shaled",
			    "an I/O error ended writing for good: %s", s->last_error);
	} else {
		explain_writes(&d->picture, &a);
		doctor_tell(d,
			    strcmp(a.cause, "none") != 0 ? PROBLEM
			    : *s->last_error		 ? NOTE
							 : FINE,
			    "daemon",
			    strcmp(a.cause, "none") != 0 ? "the setting that is named; shalectl top shows more" : NULL,
			    "pid %u, %s. %s%s%s", d->pid, state_name(&d->picture), a.text,
			    *s->last_error ? " Last error: " : "", s->last_error);
	}
	look_at_version(d);
	look_at_backend(d);
}

/* Without a word of its own: finding nothing is a finding. */
static int find_daemon(struct doctor *d, struct err_info *err)
{
	const char *path;
	int rc;

	if (d->ctl->database)
		return region_of_directory(d->ctl->database, &d->picture.region, err);
	if (ctl_where(d->ctl, &path) != EXIT_OK)
		return -ENOENT;
	rc = region_of_socket(path, &d->picture.region) ? 0
							: region_by_handshake(d->ctl, path, &d->picture.region, err);
	return rc;
}

static void examine_daemon(struct doctor *d)
{
	static const char start[] = "systemctl start shaled, or: shaled --db DIR";
	struct err_info err = {0};
	int rc = find_daemon(d, &err);

	d->database = d->ctl->database;
	if (rc == 0 && picture_refresh(&d->picture) == 0) {
		d->found = true;
		d->runs = d->picture.alive && d->picture.state != REGION_STOPPED;
		d->pid = d->runs ? d->picture.region.header->daemon_pid : 0;
		if (!d->database)
			d->database = d->picture.region.header->database;
	}
	if (d->runs)
		look_at_daemon(d);
	else if (d->found)
		doctor_tell(d, PROBLEM, "daemon", start, "the daemon of %s (pid %u) has ended without a clean stop",
			    d->database, d->picture.region.header->daemon_pid);
	else if (rc == -SHALE_EABI)
		doctor_tell(d, PROBLEM, "version", "install daemon and library of one release, and restart the daemon",
			    "%s", err.text);
	else if (rc == -ETIMEDOUT)
		doctor_tell(d, PROBLEM, "daemon", "shalectl --db DIR doctor, which asks nothing of it", "%s", err.text);
	else if (rc == -EACCES)
		doctor_tell(d, PROBLEM, "daemon", "usermod -aG shale USER, and log in anew; or access.mode", "%s",
			    err.text);
	else if (rc == 0 || rc == -ENOENT || rc == -ECONNREFUSED)
		doctor_tell(d, NOTE, "daemon", start, "no daemon runs%s%s", d->database ? " on " : "",
			    d->database ? d->database : "");
	else
		doctor_tell(d, PROBLEM, "daemon", NULL, "%s", *err.text ? err.text : shale_strerror(rc));
}

int cmd_doctor(struct ctl *ctl)
{
	struct doctor d = {.ctl = ctl, .findings = ctl->json ? json_array() : NULL};
	int code;

	examine_daemon(&d);
	doctor_host(&d);
	doctor_space(&d);
	if (ctl->json)
		print_json(json_pack("{s:b,s:i,s:o}", "daemon_runs", d.runs, "problems", (int)d.problems, "findings",
				     d.findings));
	else
		d.problems ? printf("%u problem%s\n", d.problems, d.problems == 1 ? "" : "s") : printf("no problem\n");
	code = ctl_finish_output();
	if (d.picture.region.header)
		region_close(&d.picture.region, false);
	return code != EXIT_OK ? code : d.problems ? EXIT_PROBLEM : EXIT_OK;
}
