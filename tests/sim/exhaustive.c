#include "tests/sim/exhaustive.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FATES = 2, LENGTH_MAX = 8, JOBS_MAX = 16, RUN_SECONDS = 20 };

/* The operations. Where one does not settle, what it began is still under way when the next comes. */
static const struct {
	const char *name;
	struct sim_command command[3];
	unsigned count;
} alphabet[] = {
	{"put", {{OP_WRITE, 11, 3, WRITE_WAIT}}, 1},
	{"put-drain", {{OP_WRITE, 12, 3, WRITE_WAIT}, {OP_PUMP, 1, 0, 0}, {OP_IO, 0, 0, 0}}, 3},
	{"put-sync", {{OP_WRITE, 13, 3, WRITE_WAIT | WRITE_SYNC}, {OP_SETTLE, 0, 0, 0}}, 2},
	{"flush", {{OP_FLUSH, 0, 0, 0}, {OP_SETTLE, 0, 0, 0}}, 2},
	{"flush-begun", {{OP_FLUSH, 0, 0, 0}, {OP_JOB, JOB_FLUSH, 0, 0}}, 2},
	{"compact", {{OP_COMPACT, 0, 0, 0}, {OP_SETTLE, 0, 0, 0}}, 2},
	{"reopen", {{OP_CLOSE, 0, 0, 0}, {OP_OPEN, 0, 0, 0}}, 2},
};

static const struct sim_command first[] = {{OP_OPEN, 0, 0, 0}, {OP_JOB, JOB_LOG, 1, 0}};
static const struct sim_command last[] = {
	{OP_SETTLE, 0, 0, 0}, {OP_OPEN, 0, 0, 0},  {OP_WRITE, 99, 2, WRITE_WAIT | WRITE_SYNC},
	{OP_SETTLE, 0, 0, 0}, {OP_CHECK, 1, 0, 0},
};

struct walk {
	unsigned op[LENGTH_MAX], length;
	uint64_t crash_at; /* I/O; 0: none */
	uint64_t kill_at;  /* kill point; 0: none */
	bool power;
	uint64_t fate;
};

static void tiny(struct sim_config *c)
{
	sim_config_default(c);
	c->value[SET_KEYS] = 4;
	c->value[SET_VALUE_MAX] = 700; /* so that records lie in more than one sector */
	c->value[SET_MANIFEST] = 128;  /* a new MANIFEST every few edits */
	c->value[SET_L0_TRIGGER] = 2;
}

static void run(struct sim *s, const struct sim_command *c, size_t count, const struct walk *w, uint64_t salt)
{
	for (size_t i = 0; i < count; i++) {
		struct sim_command command = c[i];

		if (command.op == OP_WRITE)
			command.a += salt * 1000;
		if (command.op == OP_OPEN || command.op == OP_CLOSE) {
			command.b = w->power;
			command.c = w->fate;
		}
		if (!sim_run(s, &command))
			return;
	}
}

/* Returns the number of I/Os, and that of kill points. */
static uint64_t play(const struct walk *w, struct sim_result *sum, uint64_t *kill_points_out)
{
	static struct sim s;
	struct sim_config config;
	uint64_t events;

	tiny(&config);
	sim_init(&s, &config);
	s.crash_at = w->crash_at;
	s.kill_at = w->kill_at;
	run(&s, first, ARRAY_SIZE(first), w, 0);
	for (unsigned i = 0; i < w->length; i++)
		run(&s, alphabet[w->op[i]].command, alphabet[w->op[i]].count, w, i + 1);
	run(&s, last, 1, w, 0);
	events = s.all_events + (s.e ? s.env.events : 0);
	*kill_points_out = s.kill_points;
	run(&s, last + 1, ARRAY_SIZE(last) - 1, w, 0);
	sum->seeds++;
	sum->ops += s.ops;
	sum->crashes += s.crashes;
	if (s.violation[0])
		strcpy(sum->violation, s.violation);
	else
		sim_fini(&s);
	return events;
}

static void describe(const struct walk *w, struct sim_result *sum)
{
	char text[sizeof(sum->violation)];
	size_t n = 0;

	for (unsigned i = 0; i < w->length; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s ", alphabet[w->op[i]].name);
	snprintf(text + n, sizeof(text) - n, "(%s at %s %llu, fate %llu): %.300s", w->power ? "power loss" : "kill",
		 w->kill_at ? "kill point" : "I/O", (unsigned long long)(w->kill_at ? w->kill_at : w->crash_at),
		 (unsigned long long)w->fate, sum->violation);
	strcpy(sum->violation, text);
}

/* Sequence number @n of @length operations: whole, then with every crash. False: a violation. */
static bool every_crash(unsigned length, uint64_t n, struct sim_result *sum)
{
	struct walk w = {.length = length};
	uint64_t events, points, unused;

	for (unsigned i = 0; i < length; i++, n /= ARRAY_SIZE(alphabet))
		w.op[i] = (unsigned)(n % ARRAY_SIZE(alphabet));
	limit_cpu(RUN_SECONDS);
	events = play(&w, sum, &points);
	for (uint64_t at = 1; at <= events && !sum->violation[0]; at++) {
		for (unsigned fate = 0; fate <= FATES && !sum->violation[0]; fate++) {
			w.crash_at = at;
			w.fate = fate;
			w.power = fate > 0;
			limit_cpu(RUN_SECONDS);
			play(&w, sum, &unused);
		}
	}
	for (uint64_t at = 1; at <= points && !sum->violation[0]; at++) {
		w.crash_at = w.fate = 0;
		w.power = false;
		w.kill_at = at;
		limit_cpu(RUN_SECONDS);
		play(&w, sum, &unused);
	}
	if (sum->violation[0])
		describe(&w, sum);
	return !sum->violation[0];
}

static void part(unsigned operations, unsigned index, unsigned jobs, struct sim_result *sum)
{
	uint64_t count = 1;

	for (unsigned length = 1; length <= operations; length++) {
		count *= ARRAY_SIZE(alphabet);
		for (uint64_t n = index; n < count; n += jobs) {
			if (!every_crash(length, n, sum))
				return;
		}
	}
}

void exhaustive_run(unsigned operations, unsigned jobs, struct sim_result *out)
{
	struct sim_result *sum =
		mmap(NULL, JOBS_MAX * sizeof(*sum), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[JOBS_MAX];

	jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs;
	operations = operations < LENGTH_MAX ? operations : LENGTH_MAX;
	if (sum == MAP_FAILED)
		abort();
	memset(out, 0, sizeof(*out));
	fflush(NULL);
	for (unsigned i = 0; i < jobs; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			abort();
		if (!pid[i]) {
			part(operations, i, jobs, &sum[i]);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < jobs; i++) {
		int status;

		if (waitpid(pid[i], &status, 0) != pid[i])
			abort();
		if (status && !sum[i].violation[0])
			snprintf(sum[i].violation, sizeof(sum[i].violation), "a process died with status %#x", status);
		out->seeds += sum[i].seeds;
		out->ops += sum[i].ops;
		out->crashes += sum[i].crashes;
		if (sum[i].violation[0])
			strcpy(out->violation, sum[i].violation);
	}
	munmap(sum, JOBS_MAX * sizeof(*sum));
}
