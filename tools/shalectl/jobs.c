/*
 * jobs.c - background jobs: those that run, with progress, and the last ones that ended.
 */
#include <inttypes.h>

#include "shm/error.h"
#include "tools/shalectl/picture.h"

const char *job_kind_name(uint32_t kind)
{
	static const char *const names[] = {"?", "log", "flush", "compact", "move", "delete", "checkpoint", "check"};

	return names[kind < ARRAY_SIZE(names) ? kind : 0];
}

static bool has_reason(const struct region_job *j)
{
	return j->kind == REGION_JOB_FLUSH || j->kind == REGION_JOB_COMPACT || j->kind == REGION_JOB_MOVE;
}

const char *job_reason(const struct region_stats *s, const struct region_job *j)
{
	return has_reason(j) ? reason_name(s, j->reason) : "";
}

/* "0 > 1", "> 2" for a flush that has found its place. */
static void levels_text(const struct region_job *j, bool running, char buf[CELL])
{
	*buf = 0;
	if (j->kind == REGION_JOB_COMPACT || j->kind == REGION_JOB_MOVE)
		snprintf(buf, CELL, "%u > %u", j->level, j->output_level);
	else if (j->kind == REGION_JOB_FLUSH && !running)
		snprintf(buf, CELL, "> %u", j->output_level);
}

static void inputs_text(const struct region_job *j, char buf[CELL])
{
	char a[32], b[32];

	*buf = 0;
	if (j->kind == REGION_JOB_FLUSH)
		snprintf(buf, CELL, "%s of memtable", size_text(j->bytes[0], a));
	else if (j->files[1])
		snprintf(buf, CELL, "%" PRIu64 " files %s + %" PRIu64 " files %s", j->files[0],
			 size_text(j->bytes[0], a), j->files[1], size_text(j->bytes[1], b));
	else if (j->kind != REGION_JOB_LOG)
		snprintf(buf, CELL, "%" PRIu64 " files%s%s", j->files[0], j->bytes[0] ? " " : "",
			 j->bytes[0] ? size_text(j->bytes[0], a) : "");
}

double job_done(const struct region_job *j)
{
	uint64_t total = j->bytes[0] + j->bytes[1];

	return total ? (double)j->bytes_done / (double)total : 0;
}

static void print_running(const struct region_stats *s)
{
	static const char *const columns[] = {"JOB", "KIND", "REASON", "LEVELS", "INPUTS", "DONE", "TIME", "LEFT"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), ARRAY_SIZE(columns));
	char text[ARRAY_SIZE(columns)][CELL];

	for (unsigned i = 0; t && i < s->jobs_listed && i < REGION_RUNNING; i++) {
		const struct region_job *j = &s->running[i];

		snprintf(text[0], CELL, "%" PRIu64, j->id);
		snprintf(text[1], CELL, "%s", job_kind_name(j->kind));
		snprintf(text[2], CELL, "%s", job_reason(s, j));
		levels_text(j, true, text[3]);
		inputs_text(j, text[4]);
		*text[5] = 0;
		if (j->bytes[0])
			snprintf(text[5], CELL, "%.0f%%", 100 * job_done(j));
		time_text(j->micros, text[6]);
		snprintf(text[7], CELL, "?");
		if (j->left_us)
			time_text(j->left_us, text[7]);
		table_row(t, text, ARRAY_SIZE(columns));
	}
	table_print(t);
}

static void print_last(const struct region_stats *s)
{
	static const char *const columns[] = {"JOB",	 "KIND",    "REASON",	"LEVELS",     "INPUTS", "READ",
					      "WRITTEN", "ENTRIES", "SHADOWED", "TOMBSTONES", "TIME",	"RESULT"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), ARRAY_SIZE(columns) - 1);
	char text[ARRAY_SIZE(columns)][CELL];

	for (unsigned i = 0; t && i < REGION_LAST_JOBS && s->last_jobs[i].id; i++) {
		const struct region_job *j = &s->last_jobs[i];

		snprintf(text[0], CELL, "%" PRIu64, j->id);
		snprintf(text[1], CELL, "%s", job_kind_name(j->kind));
		snprintf(text[2], CELL, "%s", job_reason(s, j));
		levels_text(j, false, text[3]);
		inputs_text(j, text[4]);
		size_text(j->bytes_read, text[5]);
		size_text(j->bytes_written, text[6]);
		snprintf(text[7], CELL, "%" PRIu64, j->entries_in);
		snprintf(text[8], CELL, "%" PRIu64, j->dropped_shadowed);
		snprintf(text[9], CELL, "%" PRIu64, j->dropped_tombstone);
		time_text(j->micros, text[10]);
		snprintf(text[11], CELL, "%s", j->result ? shale_strerror((int)j->result) : "done");
		table_row(t, text, ARRAY_SIZE(columns));
	}
	table_print(t);
}

static void print_jobs(const struct picture *p)
{
	const struct region_stats *s = &p->stats;
	const struct region_manual *m = &s->manual;
	char a[32], b[32];

	if (s->jobs_listed)
		print_running(s);
	else
		puts("no job is running");
	if (m->requests)
		printf("\nasked for: %" PRIu64 " compactions; the first reads level %" PRIu64 " of %" PRIu64
		       ", %s of about %s done in %" PRIu64 " pieces\n",
		       m->requests, m->level, m->last_level, size_text(m->bytes_done, a), size_text(m->bytes_total, b),
		       m->pieces);
	if (s->last_jobs[0].id) {
		puts("\nlast jobs, newest first");
		print_last(s);
	}
}

static json_t *job_json(const struct region_stats *s, const struct region_job *j, bool running)
{
	json_t *row =
		json_pack("{s:I,s:s,s:s,s:i,s:i,s:[I,I],s:[I,I],s:I}", "id", (json_int_t)j->id, "kind",
			  job_kind_name(j->kind), "reason", job_reason(s, j), "level", (int)j->level, "output_level",
			  (int)j->output_level, "files", (json_int_t)j->files[0], (json_int_t)j->files[1], "bytes",
			  (json_int_t)j->bytes[0], (json_int_t)j->bytes[1], "micros", (json_int_t)j->micros);

	if (running) {
		json_object_set_new(row, "bytes_done", json_integer((json_int_t)j->bytes_done));
		json_object_set_new(row, "left_us", j->left_us ? json_integer((json_int_t)j->left_us) : json_null());
		json_object_set_new(row, "begin_monotonic_ns", json_integer((json_int_t)j->begin_monotonic_ns));
		return row;
	}
	json_object_set_new(row, "bytes_read", json_integer((json_int_t)j->bytes_read));
	json_object_set_new(row, "bytes_written", json_integer((json_int_t)j->bytes_written));
	json_object_set_new(row, "entries_in", json_integer((json_int_t)j->entries_in));
	json_object_set_new(row, "dropped_shadowed", json_integer((json_int_t)j->dropped_shadowed));
	json_object_set_new(row, "dropped_tombstone", json_integer((json_int_t)j->dropped_tombstone));
	json_object_set_new(row, "result", json_integer((json_int_t)j->result));
	return row;
}

json_t *jobs_json(const struct picture *p)
{
	const struct region_stats *s = &p->stats;
	const struct region_manual *m = &s->manual;
	json_t *running = json_array(), *last = json_array();

	for (unsigned i = 0; i < s->jobs_listed && i < REGION_RUNNING; i++)
		json_array_append_new(running, job_json(s, &s->running[i], true));
	for (unsigned i = 0; i < REGION_LAST_JOBS && s->last_jobs[i].id; i++)
		json_array_append_new(last, job_json(s, &s->last_jobs[i], false));
	return json_pack("{s:s,s:o,s:o,s:{s:I,s:I,s:I,s:I,s:I,s:I}}", "state", state_name(p), "running", running,
			 "last", last, "manual", "requests", (json_int_t)m->requests, "level", (json_int_t)m->level,
			 "last_level", (json_int_t)m->last_level, "pieces", (json_int_t)m->pieces, "bytes_done",
			 (json_int_t)m->bytes_done, "bytes_total", (json_int_t)m->bytes_total);
}

int cmd_jobs(struct ctl *ctl)
{
	return show_picture(ctl, print_jobs, jobs_json);
}
