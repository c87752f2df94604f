/*
 * picture.h - the daemon's region as one look at it, and tables to show it in: for the verbs that ask nobody.
 */
#ifndef SHALE_SHALECTL_PICTURE_H
#define SHALE_SHALECTL_PICTURE_H

#include <libsmartcols/libsmartcols.h>

#include "shm/region.h"
#include "tools/shalectl/shalectl.h"

struct picture {
	struct region region;
	struct region_stats stats;
	uint32_t state;
	bool alive;    /* the daemon's process is there */
	double idle_s; /* since the service loop last said that it runs */
};

/* Maps the region and copies the stats page. EXIT_OK (region_close then), or the exit code after having said why. */
int take_picture(struct ctl *ctl, struct picture *p);
/* Looks again at a region that is open. 0, or -EAGAIN: the daemon is renewing its page all the time. */
int picture_refresh(struct picture *p);
const char *state_name(const struct picture *p);

/* Asks the daemon on @path for its region, without a word on failure. 0, or as handshake_connect and region_map. */
int region_by_handshake(struct ctl *ctl, const char *path, struct region *r, struct err_info *err);

/* The exit code of a verb that only looks: it tells whether the daemon runs. */
int picture_exit(const struct picture *p);

/* Takes a picture, shows it with @text or @json (which returns a new value) as the command line says, and ends. */
int show_picture(struct ctl *ctl, void (*text)(const struct picture *p), json_t *(*json)(const struct picture *p));

/* ---- where.c ---- */

/*
 * Maps the region of a directory's daemon, which need not answer, nor live. 0 (region_close); -ENOENT: nobody serves it; -ENOTDIR: no
 * directory; -EACCES: the segment of that name is somebody else's; or as region_map. With words.
 */
int region_of_directory(const char *directory, struct region *r, struct err_info *err);

/* The same of the daemon that listens on @socket, if it runs and is found without asking it. */
bool region_of_socket(const char *socket, struct region *r);

/* Whether the process that made the region is there. */
bool region_served(const struct region *r);

/* ---- tables.c ---- */

enum { CELL = 64 };

/* A table whose first column is aligned to the left, as the columns from @left on (SIZE_MAX: none). NULL: no memory. */
struct libscols_table *table_new(const char *const *columns, size_t n, size_t left);
/* Adds a row of @n cells; the table copies their text. NULL is fine. */
void table_row(struct libscols_table *t, char cells[][CELL], size_t n);
/* Prints and frees it. */
void table_print(struct libscols_table *t);

/* "1.5 s", "3 ms", "2 min 5 s" */
const char *time_text(uint64_t micros, char buf[32]);

/* ---- levels.c, jobs.c ---- */

void print_levels(const struct region_stats *s);
json_t *levels_json(const struct region_stats *s);
const char *reason_name(const struct region_stats *s, uint64_t reason);
json_t *jobs_json(const struct picture *p);
const char *job_kind_name(uint32_t kind);
/* Why it runs; "" of kinds that need no reason. */
const char *job_reason(const struct region_stats *s, const struct region_job *j);
/* How much of its inputs it has read: 0 to 1, about. */
double job_done(const struct region_job *j);

#endif
