/*
 * compact.c - compactions from the shell: a range, a level, with a bar that shows how far it is, and Ctrl-C to end it.
 *
 * The bar is drawn from the stats page on standard error, when that is a terminal. A compaction has no length that could be known before: the
 * whole is what it would read if nothing were dropped on the way, so the bar may end early, and never goes back.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/shalectl/picture.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

struct bar {
	struct region region;
	bool shown;
	double done;
};

static void draw(struct bar *b)
{
	static const char full[] = "########################################";
	const int width = (int)sizeof(full) - 1;
	struct region_stats s;
	char done[32], total[32];

	if (region_read_stats(&b->region, &s) < 0)
		return;
	if (s.manual.bytes_total) {
		double now = (double)s.manual.bytes_done / (double)s.manual.bytes_total;

		b->done = now > b->done ? now : b->done;
	}
	b->done = b->done > 1 ? 1 : b->done;
	fprintf(stderr, "\r[%-*.*s] %3.0f%%  level %u of %u, %s of about %s\033[K", width, (int)(b->done * width), full,
		100 * b->done, (unsigned)s.manual.level, (unsigned)s.manual.last_level,
		size_text(s.manual.bytes_done, done), size_text(s.manual.bytes_total, total));
	fflush(stderr);
}

static int watch(void *context)
{
	struct bar *b = context;

	if (b->shown)
		draw(b);
	return interrupted;
}

static int bar_open(struct ctl *ctl, struct bar *b)
{
	struct picture p = {0};
	int code;

	if (!isatty(STDERR_FILENO))
		return EXIT_OK;
	code = take_picture(ctl, &p);
	if (code == EXIT_OK) {
		b->region = p.region;
		b->shown = true;
	}
	return code;
}

static void bar_close(struct bar *b)
{
	if (!b->shown)
		return;
	fputs("\r\033[K", stderr);
	region_close(&b->region, false);
}

int cmd_compact(struct ctl *ctl)
{
	struct shale_compact_options options = SHALE_COMPACT_OPTIONS_INIT;
	const char *start = ctl->nargs > 0 ? ctl->args[0] : ctl->from, *limit = ctl->nargs > 1 ? ctl->args[1] : ctl->to;
	struct sigaction action = {.sa_handler = on_interrupt};
	struct bar bar = {0};
	struct shale_db *db;
	int code, rc;

	if (ctl->nargs && (ctl->from || ctl->to)) {
		complain("the range is given twice; leave --from and --to out");
		return EXIT_USAGE;
	}
	code = ctl->no_wait ? EXIT_OK : bar_open(ctl, &bar);
	if (code == EXIT_OK)
		code = ctl_open(ctl, false, &db);
	if (code != EXIT_OK) {
		bar_close(&bar);
		return code;
	}
	options.no_wait = ctl->no_wait;
	options.one_level = ctl->has_level;
	options.level = ctl->level;
	if (!ctl->no_wait) {
		sigaction(SIGINT, &action, NULL);
		options.watch = watch;
		options.watch_context = &bar;
	}
	rc = shale_compact(db, &options, start, start ? strlen(start) : 0, limit, limit ? strlen(limit) : 0);
	bar_close(&bar);
	if (rc == -ECANCELED) {
		complain("cancelled; what was compacted until then stays so");
		code = EXIT_FAILED;
	} else if (rc < 0) {
		code = ctl_failed(db, "compact", rc);
	}
	shale_close(db);
	return code;
}
