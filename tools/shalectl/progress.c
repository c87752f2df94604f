#include "tools/shalectl/progress.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "shm/park.h"
#include "tools/shalectl/picture.h"

static const uint64_t SHOW_NS = UINT64_C(200000000), SHOW_JSON_NS = UINT64_C(500000000);
static const double TELLING = 0.01; /* of the work, before the time left is worth saying */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

void progress_begin(struct progress *p, const struct ctl *ctl)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	uint64_t now = monotonic_ns();

	*p = (struct progress){
		.bar = !ctl->json && isatty(STDERR_FILENO), .json = ctl->json, .begun_ns = now, .shown_ns = now};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

bool progress_due(const struct progress *p)
{
	return (p->bar || p->json) && monotonic_ns() - p->shown_ns >= (p->bar ? SHOW_NS : SHOW_JSON_NS);
}

/* Microseconds that the rest takes if it goes on like this; 0: cannot be told yet. */
static uint64_t time_left(const struct progress *p, uint64_t now)
{
	if (p->part < TELLING || p->part >= 1)
		return 0;
	return (uint64_t)((double)(now - p->begun_ns) / 1e3 * (1 - p->part) / p->part);
}

static void draw(const struct progress *p, uint64_t done, uint64_t total, uint64_t left_us, const char *what)
{
	static const char full[] = "########################################";
	const int width = (int)sizeof(full) - 1;
	char a[32], b[32], left[32], line[512];
	struct winsize size;

	snprintf(line, sizeof(line), "[%-*.*s] %3.0f%%  %s of about %s%s%s, %s", width, (int)(p->part * width), full,
		 100 * p->part, size_text(done, a), size_text(total, b), left_us ? ", left " : "",
		 left_us ? time_text(left_us, left) : "", what);
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && size.ws_col <= strlen(line))
		line[size.ws_col - 1] = '\0'; /* a line that wraps could not be drawn over */
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, const char *name, const char *what)
{
	double part = total ? (double)done / (double)total : 0;
	uint64_t now = monotonic_ns(), left;

	if (!progress_due(p))
		return;
	p->shown_ns = now;
	part = part > 1 ? 1 : part;
	p->part = part > p->part ? part : p->part;
	left = time_left(p, now);
	if (p->bar) {
		draw(p, done, total, left, what);
		return;
	}
	print_json(json_pack("{s:{s:I,s:I,s:o,s:s}}", "progress", "bytes", (json_int_t)done, "of_about",
			     (json_int_t)total, "left_s", left ? json_real((double)left / 1e6) : json_null(), name,
			     what));
	fflush(stdout);
}

void progress_clear(const struct progress *p)
{
	if (p->bar)
		fputs("\r\033[K", stderr);
}

bool progress_interrupted(void)
{
	return interrupted;
}
