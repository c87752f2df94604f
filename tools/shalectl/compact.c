/*
 * compact.c - compactions from the shell: a range, a level, with how far it is from the stats page, and Ctrl-C to end it.
 *
 * A compaction has no length that could be known before: the whole is what it would read if nothing were dropped on the way, so the bar may end
 * early, and never goes back.
 */
#include <errno.h>

#include "shm/error.h"
#include "tools/shalectl/picture.h"
#include "tools/shalectl/progress.h"

struct watch {
	struct progress progress;
	struct region region;
	bool looking; /* the region is open */
};

static int watch(void *context)
{
	struct watch *w = context;
	struct region_stats s;
	char step[64];

	if (w->looking && progress_due(&w->progress) && region_read_stats(&w->region, &s) == 0 && s.manual.requests) {
		snprintf(step, sizeof(step), "level %u of %u", (unsigned)s.manual.level, (unsigned)s.manual.last_level);
		progress_show(&w->progress, s.manual.bytes_done, s.manual.bytes_total, "step", step);
	}
	return progress_interrupted();
}

static int watch_open(struct ctl *ctl, struct watch *w)
{
	struct picture p = {0};
	int code;

	progress_begin(&w->progress, ctl);
	if (!w->progress.bar && !w->progress.json)
		return EXIT_OK;
	code = take_picture(ctl, &p);
	if (code == EXIT_OK) {
		w->region = p.region;
		w->looking = true;
	}
	return code;
}

static void watch_close(struct watch *w)
{
	progress_clear(&w->progress);
	if (w->looking)
		region_close(&w->region, false);
}

static int tell(struct ctl *ctl, struct shale_db *db, int rc)
{
	if (rc == -ECANCELED)
		complain("cancelled; what was compacted until then stays so");
	else if (rc < 0)
		return ctl_failed(db, "compact", rc);
	if (ctl->json)
		print_json(json_pack("{s:{s:s}}", "summary", "result",
				     rc < 0	    ? "cancelled"
				     : ctl->no_wait ? "begun"
						    : "done"));
	return rc < 0 ? EXIT_FAILED : ctl_finish_output();
}

int cmd_compact(struct ctl *ctl)
{
	struct shale_compact_options options = SHALE_COMPACT_OPTIONS_INIT;
	const char *start = ctl->nargs > 0 ? ctl->args[0] : ctl->from, *limit = ctl->nargs > 1 ? ctl->args[1] : ctl->to;
	struct watch w = {0};
	struct shale_db *db;
	int code, rc;

	if (ctl->nargs && (ctl->from || ctl->to)) {
		complain("the range is given twice; leave --from and --to out");
		return EXIT_USAGE;
	}
	code = ctl->no_wait ? EXIT_OK : watch_open(ctl, &w);
	if (code == EXIT_OK)
		code = ctl_open(ctl, false, &db);
	if (code != EXIT_OK) {
		watch_close(&w);
		return code;
	}
	options.no_wait = ctl->no_wait;
	options.one_level = ctl->has_level;
	options.level = ctl->level;
	if (!ctl->no_wait) {
		options.watch = watch;
		options.watch_context = &w;
	}
	rc = shale_compact(db, &options, start, start ? strlen(start) : 0, limit, limit ? strlen(limit) : 0);
	watch_close(&w);
	code = tell(ctl, db, rc);
	shale_close(db);
	return code;
}
