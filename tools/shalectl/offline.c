/*
 * offline.c - a database directory without its daemon: the lock, findings as lines, how far it is, Ctrl-C.
 *
 * Findings go to stdout: in words, or with --json as one object a line, {"finding": …}; how far it is is told by progress.c.
 */
#include "tools/shalectl/offline.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shm/segment.h"

enum { QUEUE_DEPTH = 32 };
static const size_t KEY_SHOWN = 80;

/* ---- how far ---- */

void offline_bar_clear(struct offline *o)
{
	progress_clear(&o->progress);
}

static int progress(struct exam *x, const char *file, uint64_t bytes)
{
	struct offline *o = container_of(x, struct offline, exam);

	o->done += bytes;
	if (progress_interrupted())
		return -ECANCELED;
	progress_show(&o->progress, o->done, o->exam.total, "file", file);
	return 0;
}

/* ---- findings ---- */

static void print_key(FILE *out, struct slice key)
{
	putc('\'', out);
	print_escaped(out, slice_of(key.data, key.size > KEY_SHOWN ? KEY_SHOWN : key.size));
	fputs(key.size > KEY_SHOWN ? "'..." : "'", out);
}

void print_range(FILE *out, const struct slice *first, const struct slice *last)
{
	fputs("from ", out);
	if (first)
		print_key(out, *first);
	else
		fputs("the first key", out);
	fputs(" to ", out);
	if (last)
		print_key(out, *last);
	else
		fputs("the last key", out);
}

void json_set_range(json_t *obj, const struct slice *first, const struct slice *last)
{
	if (first)
		json_set_bytes(obj, "first_key", *first);
	else
		json_object_set_new(obj, "first_key", json_null());
	if (last)
		json_set_bytes(obj, "last_key", *last);
	else
		json_object_set_new(obj, "last_key", json_null());
}

json_t *finding_json(const struct finding *f, const char *next)
{
	json_t *j = json_pack("{s:s,s:s,s:s,s:s}", "severity", f->note ? "note" : "problem", "kind", f->kind, "file",
			      f->file, "what", f->what);

	if (f->has_offset)
		json_object_set_new(j, "offset", json_integer((json_int_t)f->offset));
	if (f->has_offset && f->size)
		json_object_set_new(j, "size", json_integer((json_int_t)f->size));
	if (f->has_range)
		json_set_range(j, f->first, f->last);
	if (f->cause)
		json_object_set_new(j, "cause", json_string(f->cause));
	if (!f->note)
		json_object_set_new(j, "next", json_string(next));
	return j;
}

void finding_print(const struct finding *f, const char *next)
{
	printf("%s: %s", f->note ? "note" : "PROBLEM", f->file);
	if (f->has_offset)
		printf(", offset %" PRIu64, f->offset);
	printf(": %s\n", f->what);
	if (f->has_range) {
		printf("    keys    ");
		print_range(stdout, f->first, f->last);
		putchar('\n');
	}
	if (f->cause)
		printf("    likely  %s\n", f->cause);
	if (!f->note)
		printf("    next    %s\n", next);
}

static void found(struct exam *x, const struct finding *f)
{
	struct offline *o = container_of(x, struct offline, exam);
	char next[PATH_MAX + 128];

	if (o->quiet)
		return;
	offline_bar_clear(o);
	snprintf(next, sizeof(next), "shalectl repair --db %s --dry-run%s", o->ctl->database,
		 o->ctl->json ? "" : " (or put the file back from a backup)");
	if (o->ctl->json)
		print_json(json_pack("{s:o}", "finding", finding_json(f, next)));
	else
		finding_print(f, next);
}

/* ---- the directory ---- */

/* Acknowledged writes may lie in the window that a killed shaled left, and only there. */
static bool window_left(struct io_env *env)
{
	char instance[INSTANCE_LEN + 1];
	struct segment s = {.fd = -1};
	bool there = !faccessat(io_env_dirfd(env), "SHALE.window", F_OK, 0);

	if (!there && segment_instance(io_env_dirfd(env), instance) == 0 &&
	    segment_open(instance, "wal", &s, NULL) == 0) {
		there = true;
		segment_close(&s);
	}
	return there;
}

int offline_failed(struct offline *o, int rc, const struct err_info *err)
{
	offline_bar_clear(o);
	if (rc == -ECANCELED)
		complain("%s: ended by Ctrl-C", o->verb);
	else
		complain("%s: %s", o->verb, *err->text ? err->text : shale_strerror(rc));
	if (rc == -SHALE_ELOCKED)
		complain("%s needs the directory for itself: stop the daemon that serves it (SIGTERM), then run "
			 "`shalectl %s --db %s` "
			 "again; `shalectl --db %s status` looks at it while it runs",
			 o->verb, o->verb, o->ctl->database, o->ctl->database);
	return EXIT_FAILED;
}

int offline_open(struct ctl *ctl, const char *verb, struct offline *o)
{
	struct err_info err = {0};
	struct rlimit files;
	int rc;

	*o = (struct offline){.ctl = ctl, .verb = verb};
	if (!ctl->database) {
		complain("which database? Give its directory: shalectl %s --db DIR", verb);
		return EXIT_USAGE;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	rc = io_env_open(ctl->database, IO_BACKEND_POSIX, false, &o->exam.env, &err);
	if (rc == 0)
		rc = io_lock(o->exam.env, "LOCK", &err);
	if (rc == 0)
		rc = io_queue_new(o->exam.env, QUEUE_DEPTH, &o->exam.q);
	if (rc < 0) {
		int code = offline_failed(o, rc, &err);

		offline_close(o);
		return code;
	}
	o->exam.found = found;
	o->exam.progress = progress;
	o->window = window_left(o->exam.env);
	progress_begin(&o->progress, ctl);
	return EXIT_OK;
}

void offline_close(struct offline *o)
{
	io_queue_free(o->exam.q);
	if (o->exam.env)
		io_env_close(o->exam.env);
	o->exam.q = NULL;
	o->exam.env = NULL;
}
