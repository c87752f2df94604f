#include "tests/sim/isolate.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/generate.h"

enum { SEED_SECONDS = 60, JOBS_MAX = 64 };

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
	sum->hash = mix64(sum->hash ^ s->hash);
	snprintf(sum->violation, sizeof(sum->violation), "%s", s->violation);
}

void limit_cpu(unsigned seconds)
{
	setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

static void quiet(bool loud)
{
	int null = loud ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		dup2(null, 2);
}

static void how_it_died(int status, struct sim_result *out)
{
	if (out->violation[0] || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
		snprintf(out->violation, sizeof(out->violation), "it runs for ever");
	else if (WIFSIGNALED(status))
		snprintf(out->violation, sizeof(out->violation), "the process died of signal %d (an assertion?)",
			 WTERMSIG(status));
	else
		snprintf(out->violation, sizeof(out->violation), "the process ended with %d (a sanitizer?)",
			 WEXITSTATUS(status));
}

/* ---- one script ---- */

void isolate_script(const struct sim_script *script, unsigned seconds, bool loud, struct sim_result *out)
{
	struct shared *sh = shared_new(1);
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		static struct sim s;

		limit_cpu(seconds);
		quiet(loud);
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
	how_it_died(status, out);
	shared_free(sh, 1);
}

/* ---- many seeds ---- */

static void run_seeds(struct shared *sh, struct report *r, uint64_t end, double until)
{
	static struct sim s;

	r->script.v = r->commands;
	r->script.cap = SCRIPT_MAX;
	/* Relaxed: see struct shared. */
	while (!atomic_load_explicit(&sh->stop, memory_order_relaxed) && seconds_now() < until) {
		r->seed = atomic_fetch_add_explicit(&sh->next, 1, memory_order_relaxed);
		if (r->seed >= end)
			return;
		limit_cpu(SEED_SECONDS);
		generator_play(r->seed, &s, &r->script);
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
}

void isolate_seeds(uint64_t seed, uint64_t most, double seconds, unsigned jobs, bool loud, struct sim_result *out,
		   uint64_t *failed_out, struct sim_script *script_out)
{
	double until = seconds_now() + seconds;
	pid_t pid[JOBS_MAX] = {0};
	struct shared *sh;

	jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs;
	sh = shared_new(jobs);
	memset(out, 0, sizeof(*out));
	atomic_store_explicit(&sh->next, seed, memory_order_relaxed); /* before the children are */
	fflush(NULL);
	for (unsigned i = 0; i < jobs; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			abort();
		if (pid[i])
			continue;
		quiet(loud);
		run_seeds(sh, &sh->report[i], seed + most, until);
		if (sh->report[i].sum.violation[0])
			_exit(0);
		exit(0); /* LeakSanitizer has a look */
	}
	for (unsigned i = 0; i < jobs; i++) {
		int status;
		pid_t done = wait(&status);
		unsigned k = 0;

		while (k < jobs - 1 && pid[k] != done)
			k++;
		how_it_died(status, &sh->report[k].sum);
		sum_up(out, &sh->report[k].sum);
		if (!sh->report[k].sum.violation[0] || out->violation[0])
			continue;
		atomic_store_explicit(&sh->stop, true, memory_order_relaxed);
		strcpy(out->violation, sh->report[k].sum.violation);
		*failed_out = sh->report[k].seed;
		copy_script(script_out, &sh->report[k]);
	}
	shared_free(sh, jobs);
}

/* ---- shrinking ---- */

static bool still_fails(const struct sim_script *script, struct sim_result *result)
{
	struct sim_result r;

	isolate_script(script, 10, false, &r);
	if (!r.violation[0])
		return false;
	*result = r;
	return true;
}

void shrink(struct sim_script *script, double seconds, struct sim_result *result)
{
	double until = seconds_now() + seconds;
	struct sim_script trial = {.config = script->config};

	if (!still_fails(script, result))
		return;
	for (size_t piece = script->count / 2 + 1; piece; piece = piece == 1 ? 0 : (piece + 1) / 2) {
		for (size_t at = script->count; at && seconds_now() < until;) {
			size_t from = at > piece ? at - piece : 0;

			trial.count = 0;
			for (size_t i = 0; i < script->count; i++) {
				if (i < from || i >= at)
					script_add(&trial, script->v[i]);
			}
			if (still_fails(&trial, result)) {
				memcpy(script->v, trial.v, trial.count * sizeof(*trial.v));
				script->count = trial.count;
			}
			at = from;
		}
	}
	script_fini(&trial);
}
