#include "tests/sim/generate.h"

static uint64_t draw(struct generator *g, uint64_t n)
{
	return next_random(&g->random) % n;
}

/* One of two or more, evenly. */
#define PICK(g, ...)                                                                                                   \
	((const uint64_t[]){__VA_ARGS__}[draw(g, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

static void draw_config(struct generator *g, struct sim_config *c)
{
	uint64_t *v = c->value;

	sim_config_default(c);
	v[SET_SEED] = draw(g, 1u << 30);
	v[SET_KEYS] = PICK(g, 3, 12, 40, 100, 300);
	v[SET_VALUE_MAX] = PICK(g, 0, 20, 60, 60, 100, 300, 2000);
	v[SET_WRITE_BUFFER] = PICK(g, 4096, 4096, 8192, 16384, 65536);
	v[SET_IMMUTABLES] = PICK(g, 1, 2, 2, 4);
	v[SET_BLOCK] = PICK(g, 128, 512, 1024, 4096);
	v[SET_RESTART] = PICK(g, 1, 4, 16);
	v[SET_FILE_BYTES] = PICK(g, 2048, 4096, 16384);
	v[SET_LEVEL1] = PICK(g, 4096, 16384, 65536);
	v[SET_MULTIPLIER] = PICK(g, 2, 4, 10);
	v[SET_L0_TRIGGER] = PICK(g, 2, 4, 4);
	v[SET_L0_STOP] = v[SET_L0_TRIGGER] + PICK(g, 1, 4, 8);
	v[SET_CACHE] = PICK(g, 0, 4096, 65536, 1 << 20);
	v[SET_TABLES] = PICK(g, 1, 4, 100);
	v[SET_MANIFEST] = PICK(g, 256, 2048, 65536);
	v[SET_BLOOM] = PICK(g, 0, 10, 10);
	v[SET_COMPRESSION] = PICK(g, 0, 0, 1);
	v[SET_TOMBSTONES] = PICK(g, 0, 30, 50);
	v[SET_SEEKS] = PICK(g, 0, 0, 1);
	v[SET_GATHER] = PICK(g, 0, 6);
}

static void draw_weights(struct generator *g)
{
	unsigned *w = g->weight;

	w[OP_WRITE] = (unsigned)PICK(g, 200, 400, 800);
	w[OP_GET] = (unsigned)PICK(g, 100, 600, 1600);
	w[OP_SCAN] = (unsigned)PICK(g, 2, 10, 20);
	w[OP_HOLD] = (unsigned)PICK(g, 0, 4, 20);
	w[OP_DROP] = (unsigned)PICK(g, 2, 10);
	w[OP_PUMP] = (unsigned)PICK(g, 20, 100);
	w[OP_POLL] = (unsigned)PICK(g, 50, 100);
	w[OP_IO] = (unsigned)PICK(g, 50, 100, 200);
	w[OP_JOB] = (unsigned)PICK(g, 20, 60);
	w[OP_RESUME] = (unsigned)PICK(g, 100, 200);
	w[OP_SURVEY] = 1;
	w[OP_FLUSH] = (unsigned)PICK(g, 0, 1, 10, g->cluster_every ? 60 : 10);
	w[OP_COMPACT] = (unsigned)PICK(g, 0, 1, 5);
	w[OP_TICK] = 2;
	w[OP_FAULT] = g->faults ? (unsigned)PICK(g, 2, 20) : 0;
	w[OP_SPACE] = g->space ? 3 : 0;
	w[OP_SETTLE] = (unsigned)PICK(g, 0, 0, 1);
	w[OP_CHECK] = (unsigned)PICK(g, 0, 1);
	w[OP_CLOSE] = (unsigned)PICK(g, 0, 1);
	w[OP_FLIP] = 0;
	g->weights = 0;
	for (unsigned i = 0; i < OPS; i++)
		g->weights += w[i];
}

static void plan(struct generator *g, enum sim_op op, uint64_t a, uint64_t b, uint64_t c)
{
	assert(g->planned < PLAN_MAX);
	g->plan[g->planned++] = (struct sim_command){op, a, b, c};
}

/* A table of its own for what is written at @start (256ths of all keys). */
static void plan_island(struct generator *g, unsigned start)
{
	unsigned cluster = start | 2 << 8;

	plan(g, OP_JOB, JOB_LOG, 1, 0);
	plan(g, OP_WRITE, next_random(&g->random) >> 16, 4, WRITE_WAIT | cluster << 8);
	plan(g, OP_FLUSH, 0, 0, 0);
	plan(g, OP_PUMP, 0, 0, 0);
	plan(g, OP_JOB, JOB_FLUSH, 1, 0);
}

/*
 * Two islands on two levels, a merge of them that stands still, and a table in the gap between them, for which no level but theirs is in the way:
 *
 *	level 1  [a]  ·  [b]   ──merge──▶
 *	level 2  [a]  ·  [b]               [a ·· gap? ·· b]
 */
static void plan_gap(struct generator *g)
{
	unsigned a = (unsigned)draw(g, 60), gap = a + 20 + (unsigned)draw(g, 60), b = gap + 20 + (unsigned)draw(g, 60);

	g->planned = g->plan_at = 0;
	for (unsigned i = 0; i < 2; i++) {
		plan_island(g, a);
		plan_island(g, b);
	}
	plan(g, OP_JOB, JOB_LOG, 1, 0);
	plan(g, OP_COMPACT, 4 | 1 << 3, 0, 0);
	plan(g, OP_PUMP, 0, 0, 0);
	plan(g, OP_JOB, JOB_FLUSH, 1, 0);
	plan(g, OP_JOB, JOB_COMPACT, 0, 0);
	for (uint64_t i = draw(g, 4); i; i--) {
		plan(g, OP_IO, 0, 0, 0);
		plan(g, OP_RESUME, 0, 0, 0);
	}
	plan_island(g, gap);
}

/* Small tables far apart, with gaps between them. Elsewhere tables soon cover all keys, and nothing ever falls into a gap. */
static void draw_islands(struct generator *g, struct sim_config *c)
{
	static const unsigned weight[OPS] = {
		[OP_WRITE] = 100, [OP_GET] = 400,    [OP_SCAN] = 5, [OP_PUMP] = 20, [OP_POLL] = 40,
		[OP_IO] = 100,	  [OP_RESUME] = 60,  [OP_JOB] = 60, [OP_TICK] = 1,  [OP_FLUSH] = 40,
		[OP_HOLD] = 2,	  [OP_COMPACT] = 10, [OP_DROP] = 2,
	};

	c->value[SET_KEYS] = 300;
	c->value[SET_VALUE_MAX] = 200;
	c->value[SET_FILE_BYTES] = 4096;
	c->value[SET_LEVEL1] = 65536;
	c->value[SET_L0_TRIGGER] = 4;
	c->value[SET_L0_STOP] = 12;
	c->value[SET_GATHER] = 0;
	g->islands = true;
	g->cluster_every = 0;
	g->inline_percent =
		(unsigned)PICK(g, 0, 20, 50); /* at 50 a flush often runs through while a merge stands still */
	g->most = 2;
	g->crash_every = 300;
	g->left = 1000;
	memcpy(g->weight, weight, sizeof(weight));
	g->weights = 0;
	for (unsigned i = 0; i < OPS; i++)
		g->weights += weight[i];
	plan_gap(g);
}

/*
 * Writes that pass through the ring in parts, and writes whose records become visible only when thousands of them are inserted. Tables are large enough that
 * what these leave behind is soon merged.
 */
static void draw_large(struct generator *g, struct sim_config *c)
{
	c->value[SET_KEYS] = PICK(g, 12, 40);
	c->value[SET_VALUE_MAX] = PICK(g, 20, 60);
	c->value[SET_FILE_BYTES] = 65536;
	c->value[SET_LEVEL1] = 1 << 20;
	c->value[SET_WRITE_BUFFER] = PICK(g, 16384, 65536);
	c->value[SET_BLOCK] = 4096;
	c->value[SET_MANIFEST] = 65536;
	g->large_every = (unsigned)PICK(g, 4, 15);
	g->crash_every = (unsigned)PICK(g, 20, 80);
	g->left = 600;
}

/* Sync writes, a large memtable, so that only the log has them, syncs that fail, and a power loss soon after. */
static void draw_failing_syncs(struct generator *g, struct sim_config *c)
{
	unsigned fault = g->weights / 30;

	c->value[SET_WRITE_BUFFER] = 65536;
	g->faults = 1u << FAULT_SYNC;
	g->sync_percent = 60;
	g->power_percent = 90;
	g->crash_every = 50;
	g->weights += fault - g->weight[OP_FAULT];
	g->weight[OP_FAULT] = fault;
}

void generator_init(struct generator *g, uint64_t seed, struct sim_config *config)
{
	memset(g, 0, sizeof(*g));
	g->random = mix64(seed ^ UINT64_C(0x7368616c65));
	draw_config(g, config);
	/* Half of all worlds have no faults but crashes: what fails there has no excuse. */
	if (draw(g, 2)) {
		g->faults = (unsigned)draw(g, 1u << FAULTS);
		g->space = draw(g, 4) == 0;
	}
	g->flips = draw(g, 10) == 0;
	g->inline_percent = (unsigned)PICK(g, 0, 50, 90, 100);
	g->most = (unsigned)PICK(g, 1, 4, 12, 60);
	g->sync_percent = (unsigned)PICK(g, 0, 10, 50);
	g->power_percent = (unsigned)PICK(g, 0, 50, 80, 100);
	g->crash_every = (unsigned)PICK(g, 20, 80, 200, 400, 1000);
	/* A hundred tiny tables on seven levels are merged all the time, and show nothing that a dozen do not. */
	if (config->value[SET_KEYS] * config->value[SET_VALUE_MAX] > 40000) {
		config->value[SET_FILE_BYTES] = 16384;
		config->value[SET_LEVEL1] = 65536;
		config->value[SET_WRITE_BUFFER] = 65536;
		g->most = g->most < 12 ? g->most : 12;
	}
	g->cluster_every = (unsigned)PICK(g, 0, 0, 10, 50);
	g->left = PICK(g, 500, 2000, 3000, 6000);
	draw_weights(g);
	g->events_most = 40000;
	g->kill_percent = (unsigned)PICK(g, 0, 20, 60);
	switch (draw(g, 12)) {
	case 0:
	case 1:
		draw_islands(g, config);
		break;
	case 2:
		draw_failing_syncs(g, config);
		break;
	case 3:
		draw_large(g, config);
		break;
	default:
		break;
	}
}

/* Mostly soon, now and then late. */
static uint64_t draw_events(struct generator *g)
{
	return draw(g, PICK(g, 4, 20, 100)) + 1;
}

static bool draw_percent(struct generator *g, unsigned percent)
{
	return draw(g, 100) < percent;
}

static void draw_crash(struct generator *g, struct sim_command *out)
{
	out->a = draw_percent(g, g->power_percent);
	if (!out->a && draw_percent(g, g->kill_percent)) {
		out->op = OP_KILL;
		out->a = draw(g, 2) ? draw(g, 4) : draw(g, 60);
		return;
	}
	out->op = OP_CRASH;
	out->b = draw(g, 4) ? draw_events(g) : 0;
	out->c = next_random(&g->random);
}

/* No daemon runs. One in three recoveries is interrupted, or one in so many that one in four crashes is. */
static void draw_open(struct generator *g, const struct sim *s, struct sim_command *out)
{
	bool again = g->recovery_depth < 5 && s->recovery_crashes * 4 < s->crashes + 4 && draw(g, 2);

	if (g->flips && g->left < 60 && !s->flipped) {
		*out = (struct sim_command){.op = OP_FLIP, .a = next_random(&g->random)};
		return;
	}
	if (s->disk.capacity != UINT64_MAX && draw(g, 2)) {
		*out = (struct sim_command){.op = OP_SPACE};
		return;
	}
	if (g->faults && draw(g, 20) == 0) {
		*out = (struct sim_command){.op = OP_FAULT, .a = draw(g, FAULTS), .b = draw(g, 20)};
		if (g->faults >> out->a & 1)
			return;
	}
	if (draw(g, 20) == 0) {
		*out = (struct sim_command){.op = OP_CRASH, .a = 1, .c = next_random(&g->random)};
		return;
	}
	if (again && draw_percent(g, g->kill_percent / 2)) {
		*out = (struct sim_command){.op = OP_KILL, .a = draw(g, 4)};
		return;
	}
	*out = (struct sim_command){.op = OP_OPEN, .c = next_random(&g->random)};
	g->recovery_depth = again ? g->recovery_depth + 1 : 0;
	if (again) {
		out->a = 1 + draw(g, PICK(g, 6, 30));
		out->b = draw_percent(g, g->power_percent);
	}
}

static unsigned draw_cluster(struct generator *g)
{
	return (unsigned)(draw(g, 250) | PICK(g, 1, 4, 30) << 8);
}

static void fill(struct generator *g, struct sim_command *c)
{
	c->a = next_random(&g->random);
	switch (c->op) {
	case OP_WRITE:
		c->a >>= 16;
		c->b = g->most;
		c->c = (draw_percent(g, g->sync_percent) ? WRITE_SYNC : 0) | (draw(g, 10) ? WRITE_WAIT : 0);
		if (g->cluster_every && draw(g, g->cluster_every) == 0)
			g->cluster = draw_cluster(g);
		if (g->large_every && draw(g, g->large_every) == 0)
			c->c |= draw(g, 2) ? WRITE_LARGE : WRITE_MANY;
		else
			c->c |= (uint64_t)g->cluster << 8;
		break;
	case OP_GET:
	case OP_SCAN:
		c->a >>= 16;
		c->b = draw(g, 3) ? 0 : 1 + draw(g, PLACES);
		break;
	case OP_HOLD:
		c->a %= PLACES;
		c->b = draw(g, 2);
		break;
	case OP_DROP:
		c->a %= PLACES;
		break;
	case OP_PUMP:
	case OP_CHECK:
		c->a %= 2;
		break;
	case OP_IO:
	case OP_RESUME:
		c->a %= 64;
		break;
	case OP_JOB:
		c->a = PICK(g, JOBS_ALL, JOBS_ALL, JOB_COMPACT, JOB_LOG | JOB_FLUSH, JOB_DELETE);
		c->b = draw_percent(g, g->inline_percent);
		break;
	case OP_TICK:
		c->a %= 2000;
		break;
	case OP_SPACE:
		c->a = draw(g, 2) ? 0 : draw(g, 1 << 19);
		break;
	case OP_FAULT:
		c->a %= FAULTS;
		while (!(g->faults >> c->a & 1))
			c->a = (c->a + 1) % FAULTS;
		c->b = draw(g, c->a == FAULT_SYNC || c->a == FAULT_SYNC_DIR ? 4 : 30);
		break;
	case OP_CLOSE:
		c->a = draw(g, 3) ? 0 : draw_events(g);
		c->b = draw_percent(g, g->power_percent);
		c->c = next_random(&g->random);
		break;
	default:
		break;
	}
}

bool generator_next(struct generator *g, const struct sim *s, struct sim_command *out)
{
	uint64_t r;

	if (!g->left-- || s->all_events + (s->e ? s->env.events : 0) > g->events_most)
		return false;
	memset(out, 0, sizeof(*out));
	if (!s->e) {
		draw_open(g, s, out);
		return true;
	}
	g->recovery_depth = 0;
	if (g->flips && g->left == 50) {
		*out = (struct sim_command){.op = OP_FLIP, .a = next_random(&g->random)};
		return true;
	}
	/* After a failure for good the daemon exits and is started again. */
	if (s->env.struck && engine_state(s->e, NULL) && draw(g, 4) == 0) {
		out->op = OP_CLOSE;
		return true;
	}
	if (g->plan_at < g->planned) {
		*out = g->plan[g->plan_at++];
		return true;
	}
	if (g->islands && draw(g, 200) == 0)
		plan_gap(g);
	if (s->env.die_in < 0 && draw(g, g->crash_every) == 0) {
		draw_crash(g, out);
		return true;
	}
	do {
		r = draw(g, g->weights);
		for (out->op = 0; r >= g->weight[out->op]; out->op++)
			r -= g->weight[out->op];
	} while (out->op == OP_IO && !s->env.flying);
	fill(g, out);
	if (out->op == OP_FLUSH && g->islands) {
		/* One island for each table. */
		if (s->flush)
			out->op = OP_RESUME;
		else
			g->cluster = draw_cluster(g);
	}
	return true;
}

bool generator_play(uint64_t seed, struct sim *s, struct sim_script *script, bool (*go_on)(void *), void *context)
{
	struct generator g;
	struct sim_command c;

	script->count = 0;
	generator_init(&g, seed, &script->config);
	sim_init(s, &script->config);
	while (generator_next(&g, s, &c)) {
		if (go_on && !go_on(context))
			return false;
		script_add(script, c);
		if (!sim_run(s, &c))
			return true;
	}
	sim_end(s);
	return true;
}
