/*
 * doctor.h - what doctor looks at, and how its parts tell what they find.
 */
#ifndef SHALE_SHALECTL_DOCTOR_H
#define SHALE_SHALECTL_DOCTOR_H

#include "tools/shalectl/picture.h"

enum verdict { FINE, NOTE, PROBLEM };

struct doctor {
	struct ctl *ctl;
	struct picture picture;
	bool found;	      /* the picture holds; its daemon may be gone */
	bool runs;	      /* and it is not */
	unsigned pid;	      /* of the daemon that runs, or 0: then limits are this program's */
	const char *database; /* NULL: none is known */
	unsigned problems;
	json_t *findings; /* with --json */
};

/*
 * One finding: @check is a word that stays, the sentence says what is so. @fix says what to do, as a command or a setting; NULL where there
 * is nothing to do.
 */
void doctor_tell(struct doctor *d, enum verdict v, const char *check, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The first word of a small file, or "" (also: no such file). */
const char *small_file(const char *path, char *buf, size_t cap);

/* ---- doctor_host.c: the machine ---- */
void doctor_host(struct doctor *d);

/* ---- doctor_space.c: disk, shared memory, what lies there ---- */
void doctor_space(struct doctor *d);

#endif
