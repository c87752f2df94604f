/*
 * shalectl.h - what the parts of shalectl share: the parsed command line, how answers and failures go out.
 *
 *	main.c     the way in and out, words for failures
 *	commands.c the tables of verbs and options; parse.c help.c completion.c follow them
 *	keys.c     get put del scan            through libshale
 *	admin.c    ping flush version          through libshale
 *	compact.c  compact                     through libshale, with progress from the region
 *	progress.c                             how far long work is; Ctrl-C
 *	status.c levels.c jobs.c explain.c     from the region alone, so that they work while the daemon hangs; the verbs
 *	                                       of these names, and stats
 *	top.c top_view.c screen.c              from the region, live
 *	doctor.c doctor_host.c doctor_space.c  what shaled needs of a machine
 *	config.c                               settings, by the daemon's own code
 *	clients.c                              from the region, too: clients, snapshots
 *	events.c metrics.c metrics_table.c     from the region: recent events; all numbers as OpenMetrics
 *	kick.c checkpoint.c check.c            through a session by hand (link.c), which may take long (errand.c)
 *	restore.c place.c                      a database from a checkpoint; directories that appear whole
 *	export.c export_leveldb.c load.c kvfile.c
 *	                                       all entries out and in, through libshale
 *	dump.c dump_log.c                      one file, by the engine's code
 *	verify.c repair.c offline.c            a directory that nobody serves, by the engine's code; these need no daemon
 *	where.c                                which daemon is meant
 *	picture.c tables.c                     one look at the region; tables
 *	text.c     escaping, base64, sizes, "did you mean"
 *
 * Data goes to stdout, all else to stderr.
 */
#ifndef SHALE_SHALECTL_H
#define SHALE_SHALECTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/shale.h"
#include "shm/base.h"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_RUNNING = 3,
	EXIT_NOT_FOUND = 4,
	EXIT_PROBLEM = 5, /* check, verify, repair, dump: the database is not what it should be */
};

/* The command line, parsed. Strings point into argv. */
struct ctl {
	const char *socket, *database; /* NULL when not given */
	bool json;
	unsigned timeout_ms;
	/* options of single verbs */
	bool sync, hex, reverse, keys_only, no_wait, has_level, yes, dry_run, keep_older, scdoc, once, follow, text;
	bool link, binary, leveldb, uncompressed;
	int level;
	const char *from, *to, *prefix;
	uint64_t limit, pid;
	double interval_s; /* 0: not given */
	/* operands after the verb */
	char **args;
	int nargs;
};

int cmd_get(struct ctl *ctl);
int cmd_put(struct ctl *ctl);
int cmd_del(struct ctl *ctl);
int cmd_scan(struct ctl *ctl);
int cmd_ping(struct ctl *ctl);
int cmd_flush(struct ctl *ctl);
int cmd_compact(struct ctl *ctl);
int cmd_status(struct ctl *ctl);
int cmd_stats(struct ctl *ctl);
int cmd_levels(struct ctl *ctl);
int cmd_jobs(struct ctl *ctl);
int cmd_clients(struct ctl *ctl);
int cmd_snapshots(struct ctl *ctl);
int cmd_kick(struct ctl *ctl);
int cmd_explain(struct ctl *ctl);
int cmd_top(struct ctl *ctl);
int cmd_events(struct ctl *ctl);
int cmd_metrics(struct ctl *ctl);
int cmd_doctor(struct ctl *ctl);
int cmd_config(struct ctl *ctl);
int cmd_checkpoint(struct ctl *ctl);
int cmd_check(struct ctl *ctl);
int cmd_restore(struct ctl *ctl);
int cmd_export(struct ctl *ctl);
int cmd_load(struct ctl *ctl);
int cmd_dump(struct ctl *ctl);
int cmd_repair(struct ctl *ctl);
int cmd_verify(struct ctl *ctl);
int cmd_version(struct ctl *ctl);

/* Prints "shalectl: …" and a newline to stderr. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Connects as the command line says. EXIT_OK and *@db_out, or the exit code after having said why. */
int ctl_open(struct ctl *ctl, bool read_only, struct shale_db **db_out);

/* The socket of the daemon that the command line means. EXIT_OK and *@path_out (valid until the next call), or the exit code after having said why. */
int ctl_where(const struct ctl *ctl, const char **path_out);

/* Says @story (empty: words for @rc) and, where there is one, the next thing to do; returns the exit code for @rc. */
int ctl_refused(int rc, const char *story);

/* Says why a call failed and returns the exit code for it. */
int ctl_failed(struct shale_db *db, const char *what, int rc);

/* EXIT_OK, or EXIT_FAILED when stdout did not take all: with a word for a full disk, without for a pipe that its reader closed. */
int ctl_finish_output(void);

/* ---- text.c ---- */

/* Writes @bytes as one line's worth of text: UTF-8 stays, control characters and other bytes as \t \n \\ \xNN. */
void print_escaped(FILE *out, struct slice bytes);

/* Sets obj.@name to the string, or obj.@name_base64 when the bytes are no UTF-8. */
void json_set_bytes(json_t *obj, const char *name, struct slice bytes);

/* Prints and frees a JSON value, one line. */
void print_json(json_t *value);

/* "3.4 MiB" in a buffer of the caller's, which is returned. */
const char *size_text(uint64_t bytes, char buf[32]);

/* The name of @names (NULL-terminated) nearest to @word, or NULL when none is near. */
const char *did_you_mean(const char *word, const char *const *names);

#endif
