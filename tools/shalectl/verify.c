/* verify.c - is this database what it should be? Exit code 0: yes; EXIT_PROBLEM: no, and each finding says where. */
#include "engine/verify.h"

#include <inttypes.h>

#include "tools/shalectl/offline.h"

static void summary_json(const struct offline *o, const struct verify_result *r)
{
	print_json(json_pack("{s:{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b}}", "summary", "result",
			     o->exam.problems ? "problems" : "clean", "problems", (json_int_t)o->exam.problems, "notes",
			     (json_int_t)o->exam.notes, "tables", (json_int_t)r->tables, "table_bytes",
			     (json_int_t)r->bytes, "entries", (json_int_t)r->entries, "logs", (json_int_t)r->logs,
			     "log_records", (json_int_t)r->records, "order_checked", (int)r->order_checked));
}

static void summary(const struct offline *o, const struct verify_result *r)
{
	char bytes[32];

	printf("%s: %" PRIu64 " tables (%s, %" PRIu64 " entries), %" PRIu64 " logs (%" PRIu64
	       " records), up to sequence %" PRIu64 ": ",
	       o->ctl->database, r->tables, size_text(r->bytes, bytes), r->entries, r->logs, r->records,
	       r->last_sequence);
	if (o->exam.problems)
		printf("%" PRIu64 " problem%s\n", o->exam.problems, o->exam.problems == 1 ? "" : "s");
	else
		printf("clean\n");
}

int cmd_verify(struct ctl *ctl)
{
	struct verify_result result;
	struct err_info err = {0};
	struct offline o;
	int code = offline_open(ctl, "verify", &o), rc;

	if (code != EXIT_OK)
		return code;
	if (o.window && !ctl->json)
		fprintf(stderr, "a killed shaled left writes in memory that are not in the log yet; the next start "
				"completes it\n");
	rc = verify_database(&o.exam, &result, &err);
	if (rc < 0) {
		code = offline_failed(&o, rc, &err);
		offline_close(&o);
		return code;
	}
	offline_bar_clear(&o);
	if (ctl->json)
		summary_json(&o, &result);
	else
		summary(&o, &result);
	offline_close(&o);
	code = ctl_finish_output();
	return code == EXIT_OK && o.exam.problems ? EXIT_PROBLEM : code;
}
