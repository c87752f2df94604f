/*
 * events.c - the recent events that a daemon told of, from its region: while it hangs, and after it was killed as long as no other has taken its place.
 */
#include <inttypes.h>
#include <poll.h>
#include <syslog.h>
#include <time.h>

#include "tools/shalectl/picture.h"

enum { LOOK_MS = 200 };

static const char *kind_name(uint32_t kind)
{
	static const char *const names[REGION_EVENT_KINDS] = {
		[REGION_EVENT_STARTED] = "started",	    [REGION_EVENT_RECOVERED] = "recovered",
		[REGION_EVENT_STALL_BEGUN] = "stall-begun", [REGION_EVENT_STALL_ENDED] = "stall-ended",
		[REGION_EVENT_JOB_FAILED] = "job-failed",   [REGION_EVENT_PAUSED] = "paused",
		[REGION_EVENT_RESUMED] = "resumed",	    [REGION_EVENT_SET_ASIDE] = "set-aside",
		[REGION_EVENT_DAMAGE] = "damage",	    [REGION_EVENT_BROKEN] = "broken",
		[REGION_EVENT_KICKED] = "kicked",	    [REGION_EVENT_REFUSED] = "refused",
		[REGION_EVENT_OUSTED] = "ousted",	    [REGION_EVENT_RELOADED] = "reloaded",
		[REGION_EVENT_FAILED] = "failed",	    [REGION_EVENT_STOPPING] = "stopping",
		[REGION_EVENT_STOPPED] = "stopped",
	};

	return kind < ARRAY_SIZE(names) && names[kind] ? names[kind] : "unknown";
}

static const char *severity_name(uint32_t severity)
{
	return severity <= LOG_ERR	 ? "error"
	       : severity == LOG_WARNING ? "warning"
	       : severity == LOG_NOTICE	 ? "notice"
					 : "info";
}

static void print_event(const struct ctl *ctl, const struct region_event *e)
{
	time_t seconds = (time_t)(e->realtime_ns / 1000000000);
	unsigned millis = (unsigned)(e->realtime_ns / 1000000 % 1000);
	struct slice text = slice_of(e->text, strlen(e->text));
	char day[32], zone[8];
	struct tm tm;

	if (!ctl->json) {
		localtime_r(&seconds, &tm);
		strftime(day, sizeof(day), "%F %T", &tm);
		printf("%s.%03u  %-7s  %-11s  ", day, millis, severity_name(e->severity), kind_name(e->kind));
		print_escaped(stdout, text);
		putchar('\n');
		return;
	}
	gmtime_r(&seconds, &tm);
	strftime(day, sizeof(day), "%FT%T", &tm);
	snprintf(zone, sizeof(zone), ".%03uZ", millis);
	{
		json_t *obj = json_pack("{s:I,s:s+,s:s,s:s}", "number", (json_int_t)e->number, "time", day, zone,
					"severity", severity_name(e->severity), "kind", kind_name(e->kind));

		json_set_bytes(obj, "text", text);
		print_json(obj);
	}
}

/* Prints what came after @seen, as far as it is still there. Returns the newest. */
static uint64_t print_after(const struct ctl *ctl, const struct region *r, uint64_t seen)
{
	uint64_t newest = region_newest_event(r), from = seen + 1;
	struct region_event e;

	if (newest > REGION_EVENTS && from <= newest - REGION_EVENTS) {
		if (seen)
			complain("%" PRIu64 " events went by unseen", newest - REGION_EVENTS - seen);
		from = newest - REGION_EVENTS + 1;
	}
	for (; from <= newest; from++)
		if (region_read_event(r, from, &e) == 0)
			print_event(ctl, &e);
	return newest;
}

/* Whether more may come. */
static bool goes_on(const struct region *r)
{
	/* Acquire: with the state, the last events are seen. */
	return atomic_load_explicit(&r->header->state, memory_order_acquire) != REGION_STOPPED && region_served(r);
}

static int follow(const struct ctl *ctl, const struct region *r, uint64_t seen)
{
	bool more = true;

	while (more && ctl_finish_output() == EXIT_OK) {
		struct pollfd out = {.fd = fileno(stdout)};

		/* Also when nothing happens it is noticed that nobody reads any more. */
		if (poll(&out, 1, LOOK_MS) > 0 && out.revents & (POLLERR | POLLNVAL))
			return EXIT_OK;
		more = goes_on(r);
		seen = print_after(ctl, r, seen);
	}
	if (ctl_finish_output() != EXIT_OK)
		return EXIT_FAILED;
	complain("the daemon has ended");
	return EXIT_NOT_RUNNING;
}

int cmd_events(struct ctl *ctl)
{
	struct picture p = {0};
	int code = take_picture(ctl, &p), out;
	uint64_t seen;

	if (code == EXIT_NOT_RUNNING && ctl->database)
		complain("its events went with its shared memory; the journal and the file LOG in the directory have "
			 "more");
	if (code != EXIT_OK)
		return code;
	seen = print_after(ctl, &p.region, 0);
	out = ctl_finish_output();
	if (strcmp(state_name(&p), "dead") == 0)
		complain("the daemon was killed, and no other has taken its place: these are its last events");
	code = ctl->follow && out == EXIT_OK ? follow(ctl, &p.region, seen) : out != EXIT_OK ? out : picture_exit(&p);
	region_close(&p.region, false);
	return code;
}
