/*
 * checkpoint.c - asks the daemon for a checkpoint, shows how far it is, and says what came of it.
 *
 * The daemon follows no symbolic links, so that nobody can lead it elsewhere; here they are followed, with the rights of who asks.
 */
#include <inttypes.h>

#include "tools/shalectl/errand.h"
#include "tools/shalectl/place.h"

static int done(struct ctl *ctl, const char *path, const struct checkpoint_answer *a)
{
	char all[32], written[32];

	if (ctl->json)
		print_json(json_pack("{s:{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "summary", "result", "done",
				     "path", path, "sequence", (json_int_t)a->sequence, "tables", (json_int_t)a->tables,
				     "bytes", (json_int_t)a->bytes, "linked", (json_int_t)a->linked, "copied",
				     (json_int_t)a->copied, "kept", (json_int_t)a->kept, "bytes_written",
				     (json_int_t)a->bytes_written, "removed", (json_int_t)a->removed));
	else
		printf("%s: everything up to sequence %" PRIu64 ": %" PRIu64 " tables (%s), of which %" PRIu64
		       " linked, %" PRIu64 " copied, %" PRIu64 " there already; %s written\n",
		       path, a->sequence, a->tables, size_text(a->bytes, all), a->linked, a->copied, a->kept,
		       size_text(a->bytes_written, written));
	return ctl_finish_output();
}

int cmd_checkpoint(struct ctl *ctl)
{
	struct sqe ask = {.op = OP_CHECKPOINT, .out_off = PATH_MAX, .out_len = PATH_MAX};
	struct checkpoint_answer answer;
	char path[PATH_MAX];
	struct link l;
	struct cqe cqe;
	int code = place_path("checkpoint", ctl->args[0], path), rc;

	if (code == EXIT_OK)
		code = link_open(ctl, &l);
	if (code != EXIT_OK)
		return code;
	ask.in_len = (uint32_t)strlen(path);
	memcpy(l.arena, path, ask.in_len); /* the smallest arena is larger than both */
	rc = errand_run(ctl, &l, &ask, REGION_JOB_CHECKPOINT, &cqe);
	if (rc > 0 && cqe.res == 0 && cqe.len == sizeof(answer)) {
		memcpy(&answer, l.arena + ask.out_off, sizeof(answer));
		code = done(ctl, path, &answer);
	} else if (rc > 0) {
		code = errand_failed(&l, &ask, &cqe, "checkpoint");
	} else if (rc == 0) {
		complain("checkpoint: the daemon does not answer; the checkpoint ends when it gets to it");
		code = EXIT_FAILED;
	} else {
		complain("checkpoint: the daemon has ended, or this session with it: %s is as it was, or whole", path);
		code = EXIT_NOT_RUNNING;
	}
	link_close(&l);
	return code;
}
static_assert((int)ARENA_SIZE_MIN >= 2 * PATH_MAX, "the path, and room for an answer");
