/*
 * progress.h - how far long work is: a bar with the time left on a terminal, or with --json one object a line; and Ctrl-C.
 *
 * The bar goes to standard error and is there only when that is a terminal; {"progress": …} goes to standard output among the verb's own lines.
 */
#ifndef SHALE_SHALECTL_PROGRESS_H
#define SHALE_SHALECTL_PROGRESS_H

#include "tools/shalectl/shalectl.h"

struct progress {
	bool bar, json;
	uint64_t begun_ns, shown_ns;
	double part; /* never goes back */
};

/* Begins, and makes Ctrl-C (SIGINT), SIGTERM and SIGHUP what progress_interrupted tells. */
void progress_begin(struct progress *p, const struct ctl *ctl);

/* False: nobody looks, so the numbers need not be found out; or the last ones are too fresh. */
bool progress_due(const struct progress *p);

/*
 * Shows @done of about @total bytes, at most five times a second (JSON: twice). @what is what is worked on, and @name its name in the JSON
 * object: "file", "000012.ldb".
 */
void progress_show(struct progress *p, uint64_t done, uint64_t total, const char *name, const char *what);

/* Takes the bar away: before other words, and at the end. */
void progress_clear(const struct progress *p);

/* Whether the user asked for the end: finish what must not be left half done, and return. */
bool progress_interrupted(void);

#endif
