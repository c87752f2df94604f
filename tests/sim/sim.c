#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/check.h"
#include "engine/kill_point.h"
#include "engine/wal.h"

void violation(struct sim *s, const char *fmt, ...)
{
	va_list args;

	if (s->violation[0])
		return;
	va_start(args, fmt);
	vsnprintf(s->violation, sizeof(s->violation), fmt, args);
	va_end(args);
}

void sim_note(struct sim *s, uint64_t word)
{
	s->hash = mix64(s->hash ^ word);
}

static void log_line(struct engine_host *h, int priority, const char *text)
{
	struct sim *s = container_of(h, struct sim, host);

	s->complaints += priority <= 5;
	s->detected |= s->flipped && priority <= 4;
	snprintf(s->log, sizeof(s->log), "%s", text);
	if (getenv("SHALE_SIM_LOG"))
		fprintf(stderr, "%8llu <%d> %s\n", (unsigned long long)s->commands, priority, text);
}

#ifdef SHALE_DEBUG
static struct sim *hooked; /* whose engine runs in this process */

/* The process dies here: what it still does to its window on its way out never happened. */
static void at_kill_point(const char *name)
{
	struct sim *s = hooked;

	(void)name;
	s->kill_points++;
	if (s->env.dead || (s->kill_points != s->kill_at && (s->kill_in < 0 || s->kill_in-- > 0)))
		return;
	memcpy(s->window_then, s->window, s->window_size);
	s->killed = true;
	s->crash_power = false;
	sim_env_die(&s->env);
}
#endif

static void *window_new(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

void sim_init(struct sim *s, const struct sim_config *config)
{
	memset(s, 0, sizeof(*s));
	s->config = *config;
	s->holder = -1;
	s->kill_in = -1;
#ifdef SHALE_DEBUG
	hooked = s;
	kill_point_hook = at_kill_point;
#endif
	for (unsigned i = 0; i < FAULTS; i++)
		s->next_fault[i] = -1;
	disk_init(&s->disk);
	oracle_init(&s->oracle, (unsigned)config->value[SET_KEYS]);
	for (unsigned i = 0; i < WORKERS; i++)
		s->worker[i].sim = s;
	s->host.log = log_line;
	s->host.window_size = s->window_size = wal_window_size(config->value[SET_RING]);
	s->window = window_new(s->window_size);
	s->window_then = window_new(s->window_size);
	s->host.window = s->window;
}

void sim_fini(struct sim *s)
{
	/* A world that was broken off may be doomed: now it is. */
	s->env.die_in = s->kill_in = -1;
	if (s->e)
		life_crash(s, false, 0, 0);
	disk_fini(&s->disk);
	oracle_fini(&s->oracle);
	free(s->spare);
	munmap(s->window, s->window_size);
	munmap(s->window_then, s->window_size);
}

/* ---- the commands that are neither life's nor a client's ---- */

static void check(struct sim *s, bool deep)
{
	struct err_info err = {0};
	int rc;

	if (!s->e)
		return;
	client_check_all(s);
	if (!deep || !s->e || s->violation[0] || s->holder >= 0)
		return;
	rc = engine_check_deep(s->e, s->worker[0].co ? s->service : s->worker[0].queue, &err);
	s->detected |= s->flipped && rc < 0;
	if (rc == -SHALE_ECORRUPT ? !s->flipped : rc < 0 && !s->env.struck && !s->flipped && !s->env.dead)
		violation(s, "the engine's own check fails (%d): %s", rc, err.text);
}

static void fault(struct sim *s, uint64_t kind, uint64_t in)
{
	if (s->e)
		s->env.fault_in[kind % FAULTS] = (int64_t)in;
	else
		s->next_fault[kind % FAULTS] = (int64_t)in;
}

static void flip(struct sim *s, uint64_t seed)
{
	const struct disk_names *n = &s->disk.names;
	const struct disk_name *name = n->count ? &n->v[mix64(seed) % n->count] : NULL;

	if (!name || !name->inode->size)
		return;
	s->flipped |= disk_flip(&s->disk, name->name, mix64(seed + 1) % name->inode->size, (unsigned)(seed % 8));
}

static void execute(struct sim *s, const struct sim_command *c)
{
	switch (c->op) {
	case OP_WRITE:
		client_write(s, c->a, (unsigned)c->b, (unsigned)c->c);
		break;
	case OP_GET:
		client_get(s, c->a, c->b);
		break;
	case OP_SCAN:
		client_scan(s, c->a, c->b);
		break;
	case OP_HOLD:
		client_hold(s, c->a, c->b & 1);
		break;
	case OP_DROP:
		client_drop(s, c->a);
		break;
	case OP_PUMP:
		if (s->e)
			engine_pump(s->e, c->a & 1);
		break;
	case OP_POLL:
		if (s->e)
			io_queue_poll(s->service);
		break;
	case OP_IO:
		if (s->e)
			sim_env_perform(&s->env, c->a);
		break;
	case OP_JOB:
		life_job(s, (unsigned)c->a, c->b & 1);
		break;
	case OP_RESUME:
		life_resume(s, c->a);
		break;
	case OP_SURVEY:
		if (s->e && !s->worker[0].co)
			engine_survey(s->e, s->worker[0].queue);
		break;
	case OP_FLUSH:
		client_flush(s);
		break;
	case OP_COMPACT:
		client_compact(s, c->a);
		break;
	case OP_TICK:
		s->now += c->a % 10000 * 1000000;
		if (s->e)
			engine_retry(s->e);
		break;
	case OP_FAULT:
		fault(s, c->a, c->b);
		break;
	case OP_SPACE:
		s->disk.capacity = c->a ? s->disk.used + c->a : UINT64_MAX;
		break;
	case OP_KILL:
		life_kill(s, c->a);
		break;
	case OP_CRASH:
		life_crash(s, c->a & 1, c->b, c->c);
		break;
	case OP_OPEN:
		life_open(s, c->a, c->b & 1, c->c);
		break;
	case OP_CLOSE:
		life_close(s, c->a, c->b & 1, c->c);
		break;
	case OP_SETTLE:
		life_settle(s);
		break;
	case OP_CHECK:
		check(s, c->a & 1);
		break;
	case OP_FLIP:
		flip(s, c->a);
		break;
	case OPS:
		break;
	}
}

bool sim_run(struct sim *s, const struct sim_command *c)
{
	if (s->violation[0] || s->over)
		return false;
	s->commands++;
	sim_note(s, c->op + s->env.events);
	execute(s, c);
	client_progress(s);
	life_over(s);
	life_check_health(s);
	return !s->violation[0] && !s->over;
}

/* Opens, whatever it takes; faults are off. */
static bool open_again(struct sim *s)
{
	for (unsigned i = 0; i < 3 && !s->e && !s->violation[0] && !s->over; i++)
		life_open(s, 0, false, 0);
	if (!s->e && !s->violation[0] && !s->over)
		violation(s, "it does not open, although nothing is the matter any more");
	return s->e && !s->violation[0] && !s->over;
}

static bool fresh_start(struct sim *s)
{
	life_close(s, 0, false, 0);
	life_over(s); /* a death that was armed before */
	return open_again(s);
}

void sim_end(struct sim *s)
{
	if (s->violation[0] || s->over)
		return;
	s->env.die_in = s->kill_in = -1;
	s->disk.capacity = UINT64_MAX;
	for (unsigned i = 0; i < FAULTS; i++)
		s->next_fault[i] = s->env.fault_in[i] = -1;
	if (!open_again(s))
		return;
	if (s->flipped) {
		check(s, true);
		return;
	}
	if ((s->env.struck || s->env.full) && !fresh_start(s))
		return;
	life_settle(s);
	if (!s->violation[0])
		check(s, true);
	if (s->violation[0] || !fresh_start(s))
		return;
	life_close(s, 0, false, 0);
	life_crash(s, true, 0, s->hash);
	s->crashes--; /* nothing ran */
	if (!s->violation[0] && open_again(s))
		check(s, true);
	life_close(s, 0, false, 0);
}

void sim_play(struct sim *s, const struct sim_script *script)
{
	for (size_t i = 0; i < script->count; i++) {
		if (!sim_run(s, &script->v[i]))
			return;
	}
	sim_end(s);
}
