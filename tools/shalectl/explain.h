/*
 * explain.h - why writes are slow and space is not free, in words, for explain and top.
 */
#ifndef SHALE_SHALECTL_EXPLAIN_H
#define SHALE_SHALECTL_EXPLAIN_H

#include "tools/shalectl/picture.h"

struct answer {
	const char *cause; /* a word for programs; "none": nothing delays writes */
	char text[1024];
};

void explain_writes(const struct picture *p, struct answer *a);

/* {"writes": {"cause", "text"}, "space": …}, a new value. */
json_t *explain_json(const struct picture *p);

/* Whether a signal stopped the process: the letter after the name in /proc/PID/stat. */
bool is_stopped(uint32_t pid);

#endif
