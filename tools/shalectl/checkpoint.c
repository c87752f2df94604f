/*
 * checkpoint.c - asks the daemon for a checkpoint, shows how far it is, and says what came of it.
 *
 * The daemon follows no symbolic links, so that nobody can lead it elsewhere; here they are followed, with the rights of who asks.
 */
#include <errno.h>
#include <inttypes.h>

#include "shm/error.h"
#include "shm/park.h"
#include "tools/shalectl/link.h"
#include "tools/shalectl/place.h"
#include "tools/shalectl/progress.h"

static const uint64_t LOOK_NS = UINT64_C(100000000), CANCEL_NS = UINT64_C(10000000000);
enum { ASK = 1, TAKE_BACK = 2 }; /* user_data */

static void show(const struct link *l, struct progress *p)
{
	struct region_stats s;

	if (!progress_due(p) || region_read_stats(&l->region, &s) < 0)
		return;
	for (unsigned i = 0; i < s.jobs_listed && i < REGION_RUNNING; i++) {
		const struct region_job *j = &s.running[i];

		if (j->kind == REGION_JOB_CHECKPOINT)
			progress_show(p, j->bytes_done, j->bytes[0] + j->bytes[1], "step", "checkpoint");
	}
}

/* Waits for the answer, or after Ctrl-C for the end that it leads to. 1 and *@out, or as link_wait. */
static int await(struct link *l, struct progress *p, struct cqe *out)
{
	uint64_t give_up = UINT64_MAX;
	int rc;

	do {
		if (progress_interrupted() && give_up == UINT64_MAX) {
			const struct sqe cancel = {.user_data = TAKE_BACK, .op = OP_CANCEL, .sequence = ASK};

			give_up = monotonic_ns() + CANCEL_NS;
			rc = link_submit(l, &cancel);
			if (rc < 0)
				return rc;
		}
		show(l, p);
		rc = link_wait(l, monotonic_ns() + LOOK_NS, out);
		if (rc > 0 && out->user_data == TAKE_BACK)
			rc = 0;
	} while (rc == 0 && monotonic_ns() < give_up);
	return rc;
}

static int failed(const struct link *l, const struct cqe *c, size_t at)
{
	int len = (int)min_size(c->len, l->arena_size - at);

	if (len)
		complain("checkpoint: %.*s", len, (const char *)l->arena + at);
	else
		complain("checkpoint: %s", shale_strerror(c->res));
	return EXIT_FAILED;
}

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
	struct checkpoint_answer answer;
	struct sqe ask = {.user_data = ASK, .op = OP_CHECKPOINT};
	struct progress progress;
	char path[PATH_MAX];
	struct link l;
	struct cqe cqe;
	int code = place_path("checkpoint", ctl->args[0], path), rc;

	if (code == EXIT_OK)
		code = link_open(ctl, &l);
	if (code != EXIT_OK)
		return code;
	progress_begin(&progress, ctl);
	ask.in_len = (uint32_t)strlen(path);
	ask.out_off = PATH_MAX;
	ask.out_len = PATH_MAX;
	memcpy(l.arena, path, ask.in_len); /* the smallest arena is larger than both */
	rc = link_submit(&l, &ask);
	if (rc == 0)
		rc = await(&l, &progress, &cqe);
	progress_clear(&progress);
	if (rc > 0 && cqe.res == 0 && cqe.len == sizeof(answer)) {
		memcpy(&answer, l.arena + ask.out_off, sizeof(answer));
		code = done(ctl, path, &answer);
	} else if (rc > 0) {
		code = failed(&l, &cqe, ask.out_off);
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
