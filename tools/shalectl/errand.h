/*
 * errand.h - one long request to the daemon, waited for: a bar or progress objects meanwhile, and Ctrl-C takes it back.
 */
#ifndef SHALE_SHALECTL_ERRAND_H
#define SHALE_SHALECTL_ERRAND_H

#include "tools/shalectl/link.h"
#include "tools/shalectl/progress.h"

/*
 * Submits @ask, whose user_data is given here, and waits for its end. @job: as what it is found among the running jobs, to show how far it is. After Ctrl-C
 * it is cancelled, and its end waited for. 1 and *@out; 0: no answer after Ctrl-C; negative: the session has ended.
 */
int errand_run(struct ctl *ctl, struct link *l, struct sqe *ask, enum region_job_kind job, struct cqe *out);

/* Says why @verb failed, by the words of the daemon's answer in @l's arena or by its code. EXIT_FAILED. */
int errand_failed(const struct link *l, const struct sqe *ask, const struct cqe *c, const char *verb);

#endif
