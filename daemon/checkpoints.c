/*
 * checkpoints.c - CHECKPOINT.
 *
 * The daemon writes where the client says, with the daemon's rights. So only root and the daemon's own user may ask: they can do all that already. No
 * descriptor is taken from a client, as everywhere; the path is walked by the engine, which follows no link and fills no directory that is another user's.
 *
 * The answer is struct checkpoint_answer; that of a failure is its words.
 */
#include "daemon/checkpoints.h"

#include <limits.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/ops.h"
#include "daemon/pending.h"
#include "engine/checkpoint.h"
#include "shm/error.h"

static int start(struct service *svc, struct request *r, char path[PATH_MAX], struct err_info *err)
{
	uid_t uid = r->session->uid;
	int rc;

	if (uid != 0 && uid != geteuid())
		return err_set(err, -EPERM, "only root and the user that the daemon runs as may make checkpoints");
	if (r->sqe.in_len >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "the path is too long");
	rc = ops_copy_payload(r);
	if (rc < 0)
		return err_set(err, rc, "the daemon has no memory for this");
	memcpy(path, r->in, r->sqe.in_len);
	path[r->sqe.in_len] = '\0';
	if (strlen(path) != r->sqe.in_len)
		return err_set(err, -EINVAL, "the path has a zero byte in it");
	rc = engine_checkpoint_start(svc->engine, path, &r->ticket);
	if (rc == -EBUSY)
		return err_set(err, rc, "another checkpoint is being made; shalectl jobs shows how far it is");
	return rc < 0 ? err_set(err, rc, "the checkpoint cannot begin: %s", shale_strerror(rc)) : 0;
}

void checkpoint_begin(struct service *svc, struct request *r)
{
	struct err_info err = {0};
	char path[PATH_MAX];

	if (start(svc, r, path, &err) < 0) {
		ops_refuse(svc, r, &err);
		return;
	}
	log_line(LOG_NOTICE, "checkpoint into %s begun for process %ld (%s, user %u)", path, (long)r->session->pid,
		 r->session->command, (unsigned)r->session->uid);
	r->delay |= DELAY_JOB;
	request_wait(svc, r, REQUEST_JOB, &svc->errands);
	svc->jobs_look = true;
}

static void answer(struct service *svc, struct request *r, const struct checkpoint_result *c)
{
	const struct checkpoint_answer a = {
		.sequence = c->sequence,
		.tables = c->tables,
		.bytes = c->bytes,
		.linked = c->linked,
		.copied = c->copied,
		.kept = c->kept,
		.bytes_written = c->bytes_copied,
		.removed = c->removed,
	};

	log_line(LOG_NOTICE,
		 "checkpoint made, up to sequence %llu: %llu tables, of which %llu linked, %llu copied, %llu kept",
		 (unsigned long long)c->sequence, (unsigned long long)c->tables, (unsigned long long)c->linked,
		 (unsigned long long)c->copied, (unsigned long long)c->kept);
	if (r->session)
		ops_answer(svc, r, &a, sizeof(a));
	else
		request_complete(svc, r, 0, 0);
}

bool checkpoint_ended(struct service *svc, struct request *r)
{
	struct checkpoint_result result;
	struct err_info err = {0};
	int rc = engine_checkpoint_done(svc->engine, r->ticket, &result, &err);

	if (!rc)
		return false;
	if (rc > 0) {
		answer(svc, r, &result);
		return true;
	}
	if (!err.code)
		err_set(&err, rc, "%s", shale_strerror(rc));
	log_line(LOG_WARNING, "no checkpoint: %s", err.text);
	ops_refuse(svc, r, &err);
	return true;
}
