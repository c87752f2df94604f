#include "tools/shalectl/errand.h"

#include "shm/error.h"
#include "shm/park.h"
#include "tools/shalectl/picture.h"

static const uint64_t LOOK_NS = UINT64_C(100000000), CANCEL_NS = UINT64_C(10000000000);
enum { ASK = 1, TAKE_BACK = 2 }; /* user_data */

static void show(const struct link *l, struct progress *p, enum region_job_kind job)
{
	struct region_stats s;

	if (!progress_due(p) || region_read_stats(&l->region, &s) < 0)
		return;
	for (unsigned i = 0; i < s.jobs_listed && i < REGION_RUNNING; i++) {
		const struct region_job *j = &s.running[i];

		if (j->kind == job)
			progress_show(p, j->bytes_done, j->bytes[0] + j->bytes[1], "step", job_kind_name(job));
	}
}

/* Waits for the answer, or after Ctrl-C for the end that it leads to. */
static int await(struct link *l, struct progress *p, enum region_job_kind job, struct cqe *out)
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
		show(l, p, job);
		rc = link_wait(l, monotonic_ns() + LOOK_NS, out);
		if (rc > 0 && out->user_data == TAKE_BACK)
			rc = 0;
	} while (rc == 0 && monotonic_ns() < give_up);
	return rc;
}

int errand_run(struct ctl *ctl, struct link *l, struct sqe *ask, enum region_job_kind job, struct cqe *out)
{
	struct progress progress;
	int rc;

	progress_begin(&progress, ctl);
	ask->user_data = ASK;
	rc = link_submit(l, ask);
	if (rc == 0)
		rc = await(l, &progress, job, out);
	progress_clear(&progress);
	return rc;
}

int errand_failed(const struct link *l, const struct sqe *ask, const struct cqe *c, const char *verb)
{
	int len = (int)min_size(c->len, ask->out_len);

	if (len)
		complain("%s: %.*s", verb, len, (const char *)l->arena + ask->out_off);
	else
		complain("%s: %s", verb, shale_strerror(c->res));
	return EXIT_FAILED;
}
