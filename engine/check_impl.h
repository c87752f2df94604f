/* check_impl.h - what check.c, check_files.c and check_entries.c share. Nobody else includes it. */
#ifndef SHALE_ENGINE_CHECK_IMPL_H
#define SHALE_ENGINE_CHECK_IMPL_H

#include "engine/check.h"
#include "engine/engine_internal.h"

/* One check, on its way. */
struct checking {
	struct engine *engine;
	struct io_queue *queue;
	const struct errand *errand; /* may cancel it, and makes it heed the rate; NULL: nobody does */
	struct job_note *note;	     /* likewise */
	void (*found)(struct checking *c, const struct check_finding *f);
	struct check_result *result; /* counts; found() decides what becomes of findings */
	struct err_info *err;	     /* words for a failure */
	uint64_t bytes_read;
	/* pinned: one moment's */
	struct version *version;
	struct memtable *memtables[IMMUTABLES_MAX + 1]; /* newest first */
	unsigned memtable_count;
	uint64_t sequence; /* all that is pinned was given by then, but for what the first memtable got since */
};

/* A finding without keys about @file (NULL: none). */
void check_tell(struct checking *c, const char *kind, int code, int level, const char *file, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

void check_key_set(struct check_key *k, struct slice user);
/* From the first key of @a to the last of @b, where these are keys. */
void check_range_set(struct check_finding *f, const struct file_meta *a, const struct file_meta *b);

/* 0, or -ECANCELED. */
int check_over(const struct checking *c);

/* Each: 0, whatever was found; or a failure with words. */
int check_files(struct checking *c);
int check_entries(struct checking *c);

#endif
