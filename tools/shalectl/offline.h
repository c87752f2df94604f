/*
 * offline.h - what the verbs share that work on a directory while nobody serves it: verify and repair.
 */
#ifndef SHALE_SHALECTL_OFFLINE_H
#define SHALE_SHALECTL_OFFLINE_H

#include "engine/exam.h"
#include "tools/shalectl/progress.h"

/* A directory that is ours: LOCK held until offline_close. */
struct offline {
	struct exam exam;
	struct ctl *ctl;
	const char *verb;
	struct progress progress;
	bool quiet;        /* findings are counted, not printed */
	uint64_t done;     /* bytes looked at */
	bool window;       /* a killed shaled left acknowledged writes in memory: logs are not complete without them */
};

/*
 * Opens ctl->database and takes its LOCK; Ctrl-C then ends exams with -ECANCELED. EXIT_OK, or the exit code after having said why:
 * a directory that somebody serves is refused with his name.
 */
int offline_open(struct ctl *ctl, const char *verb, struct offline *o);
void offline_close(struct offline *o);

void offline_bar_clear(struct offline *o);

/* Says why a verb failed; returns the exit code. */
int offline_failed(struct offline *o, int rc, const struct err_info *err);

/* One finding: in words on stdout, or as the members of an object. @next: what to do about a problem. */
void finding_print(const struct finding *f, const char *next);
json_t *finding_json(const struct finding *f, const char *next);

/* obj.first and obj.last, null where open. */
void json_set_range(json_t *obj, const struct slice *first, const struct slice *last);
/* "from … to …" */
void print_range(FILE *out, const struct slice *first, const struct slice *last);

#endif
