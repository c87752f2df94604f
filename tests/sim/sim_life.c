#include "tests/sim/sim.h"

#include <stdlib.h>

#include "engine/check.h"
#include "engine/engine_internal.h"
#include "tests/sim/co.h"

enum { SETTLE_STEPS = 400000, CLOSE_STEPS = 100000 };

/* ---- health ---- */

static bool heals(int rc)
{
	return rc == 0 || failure_heals(rc);
}

static bool excused(const struct sim *s)
{
	return s->excused || s->flipped || s->env.struck || s->env.dead;
}

void life_check_health(struct sim *s)
{
	struct err_info err = {0};
	int rc = s->e ? engine_state(s->e, &err) : 0;

	if (rc == 0 || excused(s) || (rc == -ENOSPC && s->env.full))
		return;
	violation(s, "the engine failed (%d) though nothing was the matter: %s", rc, err.text);
}

/* ---- opening ---- */

static void options_of(const struct sim_config *c, struct engine_options *o)
{
	const uint64_t *v = c->value;

	engine_options_default(o);
	o->write_buffer_bytes = v[SET_WRITE_BUFFER];
	o->max_immutables = (unsigned)v[SET_IMMUTABLES];
	o->wal_ring_bytes = v[SET_RING];
	o->block_cache_bytes = v[SET_CACHE];
	o->max_open_tables = (unsigned)v[SET_TABLES];
	o->table.block_bytes = (unsigned)v[SET_BLOCK];
	o->table.restart_interval = (unsigned)v[SET_RESTART];
	o->table.bloom_bits_per_key = (unsigned)v[SET_BLOOM];
	o->table.compression = (enum compression)v[SET_COMPRESSION];
	o->levels.max_file_bytes = v[SET_FILE_BYTES];
	o->levels.level1_bytes = v[SET_LEVEL1];
	o->levels.level_multiplier = (unsigned)v[SET_MULTIPLIER];
	o->levels.l0_compaction_trigger = (unsigned)v[SET_L0_TRIGGER];
	o->levels.max_manifest_bytes = v[SET_MANIFEST];
	o->levels.tombstone_percent = (unsigned)v[SET_TOMBSTONES];
	o->levels.l0_gather_files = (unsigned)v[SET_GATHER];
	o->l0_slowdown_trigger = (unsigned)v[SET_L0_TRIGGER] + 2;
	o->l0_stop_trigger = (unsigned)v[SET_L0_STOP];
	o->seek_compaction = v[SET_SEEKS] != 0;
}

static void arm(struct sim *s, uint64_t die_in, bool power, uint64_t seed)
{
	if (die_in)
		s->env.die_in = (int64_t)die_in - 1;
	s->crash_power = power;
	s->crash_seed = seed;
}

/* What was recovered must be a prefix of what was written, and hold what was promised. */
static void check_recovered(struct sim *s)
{
	const struct oracle *o = &s->oracle;
	uint64_t last = engine_last_sequence(s->e), least = s->power_lost ? o->synced : o->acknowledged;

	if (last > o->appended)
		violation(s, "recovered up to sequence %llu; only %llu were ever given", (unsigned long long)last,
			  (unsigned long long)o->appended);
	else if (!oracle_is_boundary(o, last))
		violation(s, "recovered up to sequence %llu, in the middle of a batch", (unsigned long long)last);
	else if (last < least && !(s->flipped && s->complaints))
		violation(s, "recovered up to sequence %llu; up to %llu was acknowledged%s%s", (unsigned long long)last,
			  (unsigned long long)least, s->power_lost ? " as synced" : "",
			  s->flipped ? " (a bit was flipped, and nobody said a word)" : "");
	s->detected |= s->flipped && last < least;
	sim_note(s, last);
	if (s->violation[0])
		return;
	oracle_cut(&s->oracle, last);
	s->power_lost = false;
}

static void let_go(struct sim *s)
{
	s->faults += s->env.struck;
	s->all_events += s->env.events;
	for (unsigned i = 0; i < WORKERS; i++)
		io_queue_free(s->worker[i].queue);
	io_queue_free(s->service);
	sim_env_fini(&s->env);
	s->e = NULL;
	s->holder = -1;
	s->kill_in = -1;
}

/* What becomes of a dead process's disk and memory. */
static void bury(struct sim *s)
{
	let_go(s);
	s->crashes++;
	if (s->killed)
		memcpy(s->window, s->window_then, s->window_size);
	s->killed = false;
	if (s->crash_power) {
		disk_power_loss(&s->disk, s->crash_seed);
		memset(s->window, 0, 4096);
		s->power_lost = true;
	}
	sim_note(s, s->env.events);
}

static int try_open(struct sim *s, struct err_info *err)
{
	struct engine_options options;
	int rc;

	sim_env_init(&s->env, &s->disk, s->config.value[SET_SEED] + 77 * ++s->opens, &s->now);
	s->excused = false;
	s->complaints = 0;
	options_of(&s->config, &options);
	io_queue_new(&s->env.base, 64, &s->service);
	for (unsigned i = 0; i < WORKERS; i++)
		io_queue_new(&s->env.base, 64, &s->worker[i].queue);
	arm(s, s->crash_at > s->all_events ? s->crash_at - s->all_events : s->open_die_in, s->crash_power,
	    s->crash_seed);
	for (unsigned i = 0; i < FAULTS && !s->disk.late; i++) {
		s->env.fault_in[i] = s->next_fault[i];
		s->next_fault[i] = -1;
	}
	rc = engine_open(&s->env.base, s->service, &options, &s->host, NULL, &s->e, err);
	if (rc < 0)
		s->e = NULL;
	return rc;
}

void life_open(struct sim *s, uint64_t die_in, bool power, uint64_t seed)
{
	struct err_info err = {0};
	int rc;

	if (s->e)
		return;
	s->open_die_in = 0;
	if (s->disk.late && seed & 1) {
		rc = try_open(s, &err);
		let_go(s);
		if (rc != -SHALE_ELOCKED) {
			violation(s, "opened (%d) while a write of the killed process may still land", rc);
			return;
		}
	}
	disk_land(&s->disk, seed);
	s->crash_power = power;
	s->crash_seed = seed;
	s->open_die_in = die_in;
	rc = try_open(s, &err);
	sim_note(s, (uint64_t)rc);
	if (s->env.dead && rc < 0) {
		s->recovery_crashes++;
		bury(s);
		return;
	}
	if (rc < 0) {
		bool may = excused(s) || (rc == -ENOSPC && s->env.full);

		let_go(s);
		s->detected |= s->flipped;
		if (s->flipped)
			s->over = true; /* refused with words: that is the end of it */
		else if (!may)
			violation(s, "the open failed (%d): %s", rc, err.text);
		return;
	}
	s->recoveries++;
	check_recovered(s);
	if (!life_over(s) && !s->violation[0])
		client_check_all(s);
}

/* ---- dying ---- */

static void unwind(struct worker *w)
{
	while (w->co && !co_ended(w->co))
		co_resume(w->co);
	co_free(w->co);
	w->co = NULL;
	w->job = NULL;
}

bool life_over(struct sim *s)
{
	if (!s->e || !s->env.dead)
		return false;
	for (unsigned i = 0; i < WORKERS; i++)
		unwind(&s->worker[i]);
	client_forget(s);
	engine_abandon(s->e);
	bury(s);
	return true;
}

void life_crash(struct sim *s, bool power, uint64_t in, uint64_t seed)
{
	if (!s->e) {
		/* A daemon that is not there cannot be killed; the machine can. */
		if (power && !in) {
			disk_power_loss(&s->disk, seed);
			memset(s->window, 0, 4096);
			s->power_lost = true;
			s->crashes++;
		}
		return;
	}
	if (s->env.die_in >= 0 || s->kill_in >= 0)
		return; /* it is doomed already */
	arm(s, in, power, seed);
	if (!in) {
		sim_env_die(&s->env);
		life_over(s);
	}
}

void life_kill(struct sim *s, uint64_t n)
{
	if (!s->e || s->env.die_in < 0)
		s->kill_in = (int64_t)n;
}

/* ---- jobs ---- */

static bool manifest_is_free(struct sim *s)
{
	if (pthread_mutex_trylock(&s->e->versions.manifest_lock))
		return false;
	pthread_mutex_unlock(&s->e->versions.manifest_lock);
	return true;
}

static void run_job(void *arg)
{
	struct worker *w = arg;

	engine_run_job(w->sim->e, w->job, w->queue);
}

static bool resumable(const struct sim *s, const struct worker *w)
{
	/* Whoever waits for the MANIFEST's lock would stop the one thread there is. */
	return w->co && sim_queue_ready(w->queue) && (s->holder < 0 || s->holder == w - s->worker);
}

static void resume(struct sim *s, struct worker *w)
{
	co_resume(w->co);
	if (manifest_is_free(s))
		s->holder = -1;
	else if (s->holder < 0)
		s->holder = (int)(w - s->worker);
	if (!co_ended(w->co))
		return;
	co_free(w->co);
	w->co = NULL;
	w->job = NULL;
}

void life_resume(struct sim *s, uint64_t n)
{
	for (unsigned i = 0; s->e && i < WORKERS; i++) {
		struct worker *w = &s->worker[(n + i) % WORKERS];

		if (resumable(s, w)) {
			resume(s, w);
			return;
		}
	}
}

static struct worker *idle_worker(struct sim *s)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		if (!s->worker[i].co)
			return &s->worker[i];
	}
	return NULL;
}

/* True: a job was begun, or run. */
static bool start_job(struct sim *s, unsigned kinds, bool to_end)
{
	struct worker *w = s->e ? idle_worker(s) : NULL;

	if (s->holder >= 0)
		kinds &= JOB_LOG | JOB_DELETE; /* these never ask for the MANIFEST */
	if (!w || !kinds)
		return false;
	w->job = engine_next_job(s->e, kinds);
	if (!w->job)
		return false;
	sim_note(s, job_kind(w->job));
	if (to_end) {
		run_job(w);
		w->job = NULL;
	} else {
		w->co = co_new(run_job, w);
		resume(s, w);
	}
	return true;
}

void life_job(struct sim *s, unsigned kinds, bool to_end)
{
	start_job(s, kinds & JOBS_ALL, to_end);
}

/* ---- going on ---- */

bool life_help(struct sim *s)
{
	uint64_t r = next_random(&s->env.random);
	bool busy;

	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker *w = &s->worker[(r + i) % WORKERS];

		if (resumable(s, w)) {
			resume(s, w);
			return true;
		}
	}
	if (s->env.flying) {
		sim_env_perform(&s->env, r >> 8);
		io_queue_poll(s->service);
		return true;
	}
	if (io_queue_poll(s->service) > 0)
		return true;
	if (start_job(s, JOBS_ALL, true))
		return true;
	busy = engine_write_busy(s->e);
	engine_pump(s->e, true);
	return busy || s->env.flying > 0 || engine_write_busy(s->e);
}

/* As shaled does it once a second. */
static bool tick(struct sim *s)
{
	s->now += UINT64_C(1000000000);
	return engine_retry(s->e);
}

void life_settle(struct sim *s)
{
	unsigned steps = 0, quiet = 0;

	s->disk.capacity = UINT64_MAX;
	for (unsigned i = 0; i < FAULTS; i++)
		s->env.fault_in[i] = -1;
	while (s->e && quiet < 3 && !s->violation[0]) {
		bool more = life_help(s);

		client_progress(s);
		if (life_over(s))
			return;
		if (more) {
			quiet = 0;
		} else {
			tick(s);
			quiet++;
		}
		if (++steps > SETTLE_STEPS)
			violation(s, "it does not come to rest");
	}
	if (!s->e || s->violation[0] || !heals(engine_state(s->e, NULL)))
		return;
	if (excused(s))
		return;
	if (!engine_wal_idle(s->e))
		violation(s, "everything rests, but the log is not drained");
	if (s->syncing_count)
		violation(s, "everything rests, but a sync write waits");
	if (s->parked_count)
		violation(s, "everything rests, but a read waits");
	if (s->large)
		violation(s, "everything rests, but a large write waits");
	if (s->flush || s->compaction)
		violation(s, "everything rests, but a %s waits", s->flush ? "flush" : "compaction");
}

static bool any_busy(const struct sim *s)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		if (s->worker[i].co)
			return true;
	}
	return false;
}

void life_close(struct sim *s, uint64_t die_in, bool power, uint64_t seed)
{
	bool bad;
	int rc;

	if (!s->e)
		return;
	if (s->env.die_in < 0 && s->kill_in < 0)
		arm(s, die_in, power, seed);
	engine_stop_jobs(s->e);
	for (unsigned steps = 0; any_busy(s); steps++) {
		life_help(s);
		if (life_over(s))
			return;
		if (steps > CLOSE_STEPS) {
			violation(s, "a job does not end after it was asked to");
			return;
		}
	}
	client_progress(s);
	client_forget(s);
	if (life_over(s))
		return;
	bad = excused(s) || engine_state(s->e, NULL) != 0;
	rc = engine_close(s->e);
	sim_note(s, (uint64_t)rc);
	if (s->env.dead) {
		s->e = NULL;
		bury(s);
		return;
	}
	if (rc < 0 && !bad && !s->env.struck && !s->env.full)
		violation(s, "the close failed: %d", rc);
	if (rc == 0)
		s->oracle.synced = s->oracle.acknowledged = s->oracle.accepted;
	let_go(s);
	s->reopens++;
}
