#include "tests/sim/isolate.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/generate.h"

/* CPU for one world; time for one command when the run is over; what a dying process says is looked for in so many bytes. */
enum { SEED_SECONDS = 40, GRACE_SECONDS = 5, WORDS_MAX = 8192, JOBS_MAX = 64 };

/* What a child tells its parent. */
struct report {
	struct sim_result sum;
	uint64_t seed; /* that runs now */
	struct sim_script script;
	struct sim_command commands[SCRIPT_MAX];
};

struct shared {
	_Atomic uint64_t next; /* seed; relaxed: only the counter matters */
	_Atomic bool stop;     /* relaxed: soon is enough */
	struct report report[];
};

double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct shared *shared_new(unsigned reports)
{
	size_t size = sizeof(struct shared) + reports * sizeof(struct report);
	struct shared *sh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (sh == MAP_FAILED)
		abort();
	return sh;
}

static void shared_free(struct shared *sh, unsigned reports)
{
	munmap(sh, sizeof(*sh) + reports * sizeof(struct report));
}

static void add_up(struct sim_result *sum, const struct sim *s)
{
	sum->seeds++;
	sum->ops += s->ops;
	sum->crashes += s->crashes;
	sum->recovery_crashes += s->recovery_crashes;
	sum->faults += s->faults;
	sum->commands += s->commands;
	sum->flips += s->flipped;
	sum->detected += s->detected;
	sum->hash = mix64(sum->hash ^ s->hash);
	snprintf(sum->violation, sizeof(sum->violation), "%s", s->violation);
}

void limit_cpu(unsigned seconds)
{
	setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

/* A child: no output unless @loud, or output into @words (-1: none); and it does not outlive its parent. */
static void become_child(bool loud, int words)
{
	int to = loud ? -1 : words >= 0 ? words : open("/dev/null", O_WRONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (to >= 0)
		dup2(to, 2);
}

/* The line that tells what happened, of what the child wrote into @words: "" if there is none. */
static void last_words(int words, char *out, size_t size)
{
	static const char *const marks[] = {"Assertion", "runtime error:", "Sanitizer:"};
	static char text[WORDS_MAX + 1];
	ssize_t n = words >= 0 ? pread(words, text, WORDS_MAX, 0) : 0;

	*out = 0;
	text[n > 0 ? n : 0] = 0;
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
			if (strstr(line, marks[i])) {
				snprintf(out, size, ": %s", line);
				return;
			}
		}
	}
}

static bool is_from_outside(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGKILL;
}

static void how_it_died(int status, int words, struct sim_result *out)
{
	char why[300];

	if (out->violation[0] || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	if (WIFSIGNALED(status) && is_from_outside(WTERMSIG(status))) {
		out->stopped = WTERMSIG(status);
		return;
	}
	last_words(words, why, sizeof(why));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
		snprintf(out->violation, sizeof(out->violation), "it runs for ever");
	else if (WIFSIGNALED(status))
		snprintf(out->violation, sizeof(out->violation), "the process died of signal %d%s", WTERMSIG(status),
			 why);
	else
		snprintf(out->violation, sizeof(out->violation), "the process ended with %d%s", WEXITSTATUS(status),
			 why);
}

/* ---- one script ---- */

void isolate_script(const struct sim_script *script, unsigned seconds, bool loud, struct sim_result *out)
{
	int status, words = loud ? -1 : memfd_create("words", MFD_CLOEXEC);
	struct shared *sh = shared_new(1);
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		static struct sim s;

		limit_cpu(seconds);
		become_child(loud, words);
		sim_init(&s, &script->config);
		sim_play(&s, script);
		add_up(&sh->report[0].sum, &s);
		if (!s.violation[0])
			sim_fini(&s);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	*out = sh->report[0].sum;
	how_it_died(status, words, out);
	if (words >= 0)
		close(words);
	shared_free(sh, 1);
}

/* ---- many seeds ---- */

struct limits {
	struct shared *sh;
	double until;
};

static bool go_on(void *context)
{
	const struct limits *l = context;

	/* Relaxed: see struct shared. */
	return !atomic_load_explicit(&l->sh->stop, memory_order_relaxed) && seconds_now() < l->until;
}

static void run_seeds(struct shared *sh, struct report *r, uint64_t end, double until)
{
	struct limits limits = {sh, until};
	static struct sim s;

	r->script.v = r->commands;
	r->script.cap = SCRIPT_MAX;
	while (go_on(&limits)) {
		/* Relaxed: see struct shared. */
		r->seed = atomic_fetch_add_explicit(&sh->next, 1, memory_order_relaxed);
		if (r->seed >= end)
			return;
		limit_cpu(SEED_SECONDS);
		if (!generator_play(r->seed, &s, &r->script, go_on, &limits)) {
			r->sum.broken_off++;
			r->sum.seeds--; /* what it did counts, it does not */
		}
		add_up(&r->sum, &s);
		if (s.violation[0])
			return;
		sim_fini(&s);
	}
}

static void copy_script(struct sim_script *to, const struct report *from)
{
	memset(to, 0, sizeof(*to));
	to->config = from->script.config;
	for (size_t i = 0; i < from->script.count; i++)
		script_add(to, from->commands[i]);
}

static void sum_up(struct sim_result *sum, const struct sim_result *r)
{
	sum->seeds += r->seeds;
	sum->ops += r->ops;
	sum->crashes += r->crashes;
	sum->recovery_crashes += r->recovery_crashes;
	sum->faults += r->faults;
	sum->commands += r->commands;
	sum->flips += r->flips;
	sum->detected += r->detected;
	sum->broken_off += r->broken_off;
	if (r->stopped)
		sum->stopped = r->stopped;
}

/* Waits for one of the children. One that is in the middle of a command long after @until is ended: *@late_out. */
static unsigned wait_for_child(const pid_t *pid, const bool *gone, unsigned jobs, double until, int *status_out,
			       bool *late_out)
{
	*late_out = false;
	for (;;) {
		double now = seconds_now();

		for (unsigned k = 0; k < jobs; k++) {
			if (gone[k])
				continue;
			if (now > until + GRACE_SECONDS) {
				*late_out = true;
				kill(pid[k], SIGKILL);
			}
			if (waitpid(pid[k], status_out, *late_out ? 0 : WNOHANG) == pid[k])
				return k;
		}
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void begin_seeds(struct shared *sh, pid_t *pid, unsigned jobs, bool loud, uint64_t end, double until)
{
	fflush(NULL);
	for (unsigned i = 0; i < jobs; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			abort();
		if (pid[i])
			continue;
		become_child(loud, -1);
		run_seeds(sh, &sh->report[i], end, until);
		if (sh->report[i].sum.violation[0])
			_exit(0);
		exit(0); /* LeakSanitizer has a look */
	}
}

void isolate_seeds(uint64_t seed, uint64_t most, double seconds, unsigned jobs, bool loud, struct sim_result *out,
		   uint64_t *failed_out, struct sim_script *script_out)
{
	double until = seconds_now() + seconds;
	bool gone[JOBS_MAX] = {0}, late;
	pid_t pid[JOBS_MAX] = {0};
	struct shared *sh;

	jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs;
	sh = shared_new(jobs);
	memset(out, 0, sizeof(*out));
	atomic_store_explicit(&sh->next, seed, memory_order_relaxed); /* before the children are */
	begin_seeds(sh, pid, jobs, loud, seed + most, until);
	for (unsigned i = 0; i < jobs; i++) {
		int status;
		unsigned k = wait_for_child(pid, gone, jobs, until, &status, &late);
		struct report *r = &sh->report[k];

		gone[k] = true;
		if (late)
			r->sum.broken_off++;
		else
			how_it_died(status, -1, &r->sum);
		sum_up(out, &r->sum);
		if (!r->sum.violation[0] || out->violation[0])
			continue;
		atomic_store_explicit(&sh->stop, true, memory_order_relaxed);
		strcpy(out->violation, r->sum.violation);
		*failed_out = r->seed;
		copy_script(script_out, r);
	}
	shared_free(sh, jobs);
}
