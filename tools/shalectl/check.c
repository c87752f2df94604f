/*
 * check.c - asks the daemon to hold what it serves against its invariants. Exit code 0: all is well; EXIT_PROBLEM: not, and each finding says where.
 *
 * A row's bytes come from the daemon, which we trust no further than to be the one that was meant: texts are cut at their arrays' ends.
 */
#include <inttypes.h>
#include <limits.h>

#include "tools/shalectl/errand.h"
#include "tools/shalectl/offline.h"

static const char hands[] = "somebody put it there, or it was left over; nothing refers to it";
static const char client[] = "the client wrote over words of its channel that are not its own, or a fault in shale";
static const char memory[] = "a fault in shale, or memory that does not hold what was stored";

/* Likely cause, and what to do: with the directory between two parts, unless the second is NULL. */
struct advice {
	const char *kind, *cause, *head, *tail;
};

static const char offline[] = "stop the daemon, then shalectl verify --db ";
static const char report[] = "restart the daemon, and report this with the lines of its log";

static const struct advice advices[] = {
	{"missing", cause_hands, "put the file back into ",
	 " from a backup: without it the next start is refused, or needs shalectl repair"},
	{"read", cause_rot, "restore a backup, or stop the daemon, then shalectl repair --db ", " --dry-run"},
	{"stray", hands, "look at it; the next start of the daemon removes it from ", ""},
	{"ring", client, "shalectl clients tells what it does, shalectl kick ends its session", NULL},
	{"session", memory, report, NULL},
	{"snapshot", memory, report, NULL},
	{"region", memory, report, NULL},
	{"", cause_bug, offline, ", and report this"}, /* all others */
};

static const struct advice *advice_for(const char *kind)
{
	const struct advice *a = advices;

	while (*a->kind && strcmp(a->kind, kind) != 0)
		a++;
	return a;
}

static struct slice key_of(const unsigned char bytes[CHECK_ROW_KEY], uint32_t len)
{
	return slice_of(bytes, min_size(len, CHECK_ROW_KEY));
}

static void print_row(struct ctl *ctl, const char *database, struct check_row *row)
{
	struct slice first = key_of(row->first, row->first_len), last = key_of(row->last, row->last_len);
	struct finding f = {.kind = row->kind, .has_range = row->has_range, .first = &first, .last = &last};
	char next[PATH_MAX + 256];
	const struct advice *a;

	row->kind[sizeof(row->kind) - 1] = row->file[sizeof(row->file) - 1] = row->what[sizeof(row->what) - 1] = '\0';
	a = advice_for(row->kind);
	f.cause = a->cause;
	f.file = *row->file ? row->file : "in memory";
	if (row->level >= 0 && !ctl->json)
		snprintf(f.what, sizeof(f.what), "level %d: %s", row->level, row->what);
	else
		snprintf(f.what, sizeof(f.what), "%s", row->what);
	snprintf(next, sizeof(next), "%s%s%s", a->head, a->tail ? database : "", a->tail ? a->tail : "");
	if (ctl->json) {
		json_t *j = finding_json(&f, next);

		json_object_set_new(j, "level", row->level >= 0 ? json_integer(row->level) : json_null());
		json_object_set_new(j, "keys_cut",
				    json_boolean(row->first_len > CHECK_ROW_KEY || row->last_len > CHECK_ROW_KEY));
		print_json(json_pack("{s:o}", "finding", j));
		return;
	}
	finding_print(&f, next);
}

static void summary_json(const struct check_answer *a, const char *database)
{
	print_json(json_pack("{s:{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b}}", "summary", "result",
			     a->problems ? "problems" : "clean", "database", database, "problems",
			     (json_int_t)a->problems, "sequence", (json_int_t)a->sequence, "tables",
			     (json_int_t)a->tables, "table_bytes", (json_int_t)a->table_bytes, "memtables",
			     (json_int_t)a->memtables, "entries", (json_int_t)a->entries, "files", (json_int_t)a->files,
			     "sessions", (json_int_t)a->sessions, "snapshots", (json_int_t)a->snapshots,
			     "entries_checked", (int)a->entries_checked));
}

static void summary(const struct check_answer *a, const char *database)
{
	char bytes[32];

	printf("%s: %" PRIu64 " tables (%s), %" PRIu64 " memtable%s, %" PRIu64 " entries, %" PRIu64 " files, %" PRIu64
	       " session%s, up to sequence %" PRIu64 ": ",
	       database, a->tables, size_text(a->table_bytes, bytes), a->memtables, a->memtables == 1 ? "" : "s",
	       a->entries, a->files, a->sessions, a->sessions == 1 ? "" : "s", a->sequence);
	if (!a->problems)
		puts("clean");
	else
		printf("%" PRIu64 " problem%s%s\n", a->problems, a->problems == 1 ? "" : "s",
		       a->entries_checked ? "" : "; entries were not looked at");
}

static int tell(struct ctl *ctl, const struct link *l, const unsigned char *at, size_t size)
{
	const char *database = l->region.header->database;
	struct check_answer answer;
	struct check_row row;
	int code;

	memcpy(&answer, at, sizeof(answer));
	if (answer.rows > CHECK_ROWS || size != sizeof(answer) + answer.rows * sizeof(row)) {
		complain("check: the daemon's answer does not add up");
		return EXIT_FAILED;
	}
	for (unsigned i = 0; i < answer.rows; i++) {
		memcpy(&row, at + sizeof(answer) + i * sizeof(row), sizeof(row));
		print_row(ctl, database, &row);
	}
	if (ctl->json)
		summary_json(&answer, database);
	else
		summary(&answer, database);
	code = ctl_finish_output();
	return code == EXIT_OK && answer.problems ? EXIT_PROBLEM : code;
}

int cmd_check(struct ctl *ctl)
{
	struct sqe ask = {.op = OP_CHECK,
			  .out_len = sizeof(struct check_answer) + CHECK_ROWS * sizeof(struct check_row)};
	struct link l;
	struct cqe cqe;
	int code = link_open(ctl, &l), rc;

	if (code != EXIT_OK)
		return code;
	rc = errand_run(ctl, &l, &ask, REGION_JOB_CHECK, &cqe);
	if (rc > 0 && cqe.res == 0 && cqe.len >= sizeof(struct check_answer) && cqe.len <= ask.out_len) {
		code = tell(ctl, &l, l.arena, cqe.len);
	} else if (rc > 0) {
		code = errand_failed(&l, &ask, &cqe, "check");
	} else if (rc == 0) {
		complain("check: the daemon does not answer; the check ends when it gets to it");
		code = EXIT_FAILED;
	} else {
		complain("check: the daemon has ended, or this session with it; nothing was changed");
		code = EXIT_NOT_RUNNING;
	}
	link_close(&l);
	return code;
}
static_assert((size_t)ARENA_SIZE_MIN >= sizeof(struct check_answer) + CHECK_ROWS * sizeof(struct check_row),
	      "room for an answer");
