/*
 * top.h - two looks at the stats page and what happened between them, for the verb top.
 */
#ifndef SHALE_SHALECTL_TOP_H
#define SHALE_SHALECTL_TOP_H

#include "tools/shalectl/clients.h"

/* A client, and what it did since the last look, per second. */
struct busy {
	struct client client;
	double operations, in, out;
};

struct top {
	struct picture now;
	struct region_stats before;
	uint64_t looked_ns; /* CLOCK_MONOTONIC of the last look */
	double over_s;	    /* seconds between the two published pages; 0: nothing new was published */
	/* clients, busiest first */
	struct busy *clients; /* [REGION_SESSIONS] */
	unsigned count;
	/* by slot of the session table, as of the last look */
	struct client *known; /* [REGION_SESSIONS] */
};

/* A part of a second's worth of something that grew from @before to @now. */
double top_rate(const struct top *t, uint64_t now, uint64_t before);

/* What a histogram gained between the two looks; all of it when nothing was published. */
struct histogram top_gained(const struct histogram *now, const struct histogram *before);

enum top_health { TOP_WELL, TOP_ASLEEP, TOP_STOPPED, TOP_HANGS, TOP_GONE };

/* How the daemon is, as far as can be seen without asking it. */
enum top_health top_health(const struct top *t);

/* ---- top_view.c ---- */

/* The names of op_times and part_times; NULL: a row to spare. */
extern const char *const top_op_names[REGION_OPS], *const top_part_names[REGION_PARTS];

/* Writes the view to @out, @width columns at most; @rows: as many lines as there are, 0 for all. */
void top_view(const struct top *t, FILE *out, unsigned width, unsigned rows, bool colour);

/* ---- screen.c: the terminal ---- */

/* Takes the terminal: alternate screen, no echo, keys at once. 0, or -errno. What ends us gives it back. */
int screen_begin(void);
void screen_end(void);
void screen_size(unsigned *width_out, unsigned *rows_out);
/* Shows lines that fit. */
void screen_show(const char *text);

enum screen_event { SCREEN_TIME, SCREEN_QUIT, SCREEN_REDRAW };
/* Waits until @until_ns, a key, or a change of size. */
enum screen_event screen_wait(uint64_t until_ns);

#endif
