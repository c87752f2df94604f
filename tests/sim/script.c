#include "tests/sim/script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static const char *const op_names[OPS] = {
	[OP_WRITE] = "write",	  [OP_GET] = "get",	  [OP_SCAN] = "scan",	  [OP_HOLD] = "hold",
	[OP_DROP] = "drop",	  [OP_PUMP] = "pump",	  [OP_POLL] = "poll",	  [OP_IO] = "io",
	[OP_JOB] = "job",	  [OP_RESUME] = "resume", [OP_SURVEY] = "survey", [OP_FLUSH] = "flush",
	[OP_COMPACT] = "compact", [OP_TICK] = "tick",	  [OP_FAULT] = "fault",	  [OP_SPACE] = "space",
	[OP_CRASH] = "crash",	  [OP_OPEN] = "open",	  [OP_CLOSE] = "close",	  [OP_SETTLE] = "settle",
	[OP_CHECK] = "check",	  [OP_FLIP] = "flip",	  [OP_KILL] = "kill",
};

static const struct {
	const char *name;
	uint64_t value;
} settings[SETTINGS] = {
	[SET_KEYS] = {"keys", 40},
	[SET_VALUE_MAX] = {"value_max", 100},
	[SET_WRITE_BUFFER] = {"write_buffer", 4096},
	[SET_IMMUTABLES] = {"immutables", 2},
	[SET_BLOCK] = {"block", 512},
	[SET_RESTART] = {"restart", 16},
	[SET_FILE_BYTES] = {"file_bytes", 4096},
	[SET_LEVEL1] = {"level1", 16384},
	[SET_MULTIPLIER] = {"multiplier", 4},
	[SET_L0_TRIGGER] = {"l0_trigger", 4},
	[SET_L0_STOP] = {"l0_stop", 12},
	[SET_CACHE] = {"cache", 16384},
	[SET_TABLES] = {"tables", 8},
	[SET_RING] = {"ring", 256 << 10},
	[SET_MANIFEST] = {"manifest", 2048},
	[SET_BLOOM] = {"bloom", 10},
	[SET_COMPRESSION] = {"compression", 0},
	[SET_TOMBSTONES] = {"tombstones", 50},
	[SET_SEEKS] = {"seeks", 0},
	[SET_GATHER] = {"gather", 6},
	[SET_SEED] = {"seed", 1},
};

void sim_config_default(struct sim_config *c)
{
	for (unsigned i = 0; i < SETTINGS; i++)
		c->value[i] = settings[i].value;
}

void script_add(struct sim_script *s, struct sim_command c)
{
	if (s->count == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 256;
		s->v = reallocarray(s->v, s->cap, sizeof(*s->v));
		if (!s->v)
			abort();
	}
	s->v[s->count++] = c;
}

void script_fini(struct sim_script *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

int script_write(FILE *f, const struct sim_script *s)
{
	for (unsigned i = 0; i < SETTINGS; i++) {
		if (s->config.value[i] != settings[i].value)
			fprintf(f, "set %s %" PRIu64 "\n", settings[i].name, s->config.value[i]);
	}
	for (size_t i = 0; i < s->count; i++)
		fprintf(f, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", op_names[s->v[i].op], s->v[i].a, s->v[i].b,
			s->v[i].c);
	return ferror(f) ? -EIO : 0;
}

static int read_line(const char *line, struct sim_script *s)
{
	struct sim_command c = {.op = OPS};
	char word[32], name[32];

	if (sscanf(line, "%31s", word) != 1 || word[0] == '#')
		return 0;
	if (strcmp(word, "set") == 0) {
		if (sscanf(line, "%*s %31s %" SCNu64, name, &c.a) != 2)
			return -EINVAL;
		for (unsigned i = 0; i < SETTINGS; i++) {
			if (strcmp(name, settings[i].name) == 0) {
				s->config.value[i] = c.a;
				return 0;
			}
		}
		return -EINVAL;
	}
	for (unsigned i = 0; i < OPS; i++) {
		if (strcmp(word, op_names[i]) == 0)
			c.op = (enum sim_op)i;
	}
	if (c.op == OPS)
		return -EINVAL;
	sscanf(line, "%*s %" SCNu64 " %" SCNu64 " %" SCNu64, &c.a, &c.b, &c.c);
	script_add(s, c);
	return 0;
}

int script_read(FILE *f, struct sim_script *s, unsigned *line_out)
{
	char line[256];
	unsigned n = 0;

	memset(s, 0, sizeof(*s));
	sim_config_default(&s->config);
	while (fgets(line, sizeof(line), f)) {
		n++;
		if (read_line(line, s) < 0) {
			*line_out = n;
			script_fini(s);
			return -EINVAL;
		}
	}
	return ferror(f) ? -EIO : 0;
}
