/* Reading settings, checking them together, printing them. What there is: config_keys.c. */
#include "daemon/config_keys.h"

#include <ctype.h>
#include <ini.h>
#include <sched.h>
#include <stdlib.h>

#include "shm/error.h"
#include "shm/row_cache.h"

/* The end of a long one: that tells files of a folder apart. */
static void keep_origin(struct config *c, const struct config_key *k, const char *where)
{
	char *to = c->origin[k - config_keys];
	size_t n = strlen(where);

	memset(to, 0, CONFIG_ORIGIN);
	if (n < CONFIG_ORIGIN)
		memcpy(to, where, n);
	else
		snprintf(to, CONFIG_ORIGIN, "…%s", where + n - (CONFIG_ORIGIN - 4));
}

/* @where: "file:line" or "--set". */
static int assign(struct config *c, const char *where, const char *section, const char *name, const char *value,
		  struct err_info *err)
{
	const struct config_key *k = config_key_find(section, name);
	char allowed[256], why[128] = "";

	if (!k) {
		k = config_key_nearest(section, name);
		if (k)
			return err_set(err, -SHALE_ECONFIG,
				       "%s: there is no setting \"%s.%s\"; did you mean \"%s.%s\"?", where, section,
				       name, k->section, k->name);
		return err_set(err, -SHALE_ECONFIG,
			       "%s: there is no setting \"%s.%s\"; `shaled --explain-config` lists all of them", where,
			       section, name);
	}
	if (config_value_parse(c, k, value, why)) {
		keep_origin(c, k, where);
		return 0;
	}
	config_value_allowed(allowed, sizeof(allowed), k);
	return err_set(err, -SHALE_ECONFIG, "%s: %s.%s cannot be \"%.100s\": allowed is %s%s%s", where, section, name,
		       value, allowed, *why ? "; " : "", why);
}

/* ---- reading ---- */

struct reading {
	struct config *config;
	struct err_info *err;
	const char *path;
	FILE *file;
	char *line; /* getline's */
	size_t cap;
	unsigned number; /* of the last line handed to libinih */
	int rc;
};

/*
 * fgets for libinih, which neither counts lines for its handler nor tells a long line apart. Leading blanks go, because libinih
 * would take an indented setting for a continuation of the one before.
 */
static char *next_line(char *buf, int cap, void *stream)
{
	struct reading *r = stream;
	ssize_t n = getline(&r->line, &r->cap, r->file);
	const char *s = r->line;

	if (n < 0 || r->rc < 0)
		return NULL;
	r->number++;
	while (*s == ' ' || *s == '\t')
		s++;
	if (strlen(s) >= (size_t)cap) {
		r->rc = err_set(r->err, -SHALE_ECONFIG, "%s:%u: the line is longer than %d bytes", r->path, r->number,
				cap - 1);
		return NULL;
	}
	return strcpy(buf, s);
}

static int on_setting(void *context, const char *section, const char *name, const char *value)
{
	struct reading *r = context;
	char where[512];

	if (r->rc < 0)
		return 1; /* the first error is the one told */
	snprintf(where, sizeof(where), "%.480s:%u", r->path, r->number);
	r->rc = assign(r->config, where, section, name, value, r->err);
	return 1;
}

int config_read(struct config *c, const char *path, struct err_info *err)
{
	struct reading r = {.config = c, .err = err, .path = path};
	int bad;

	r.file = fopen(path, "re");
	if (!r.file) {
		int code = -errno;

		return err_set(err, code, "cannot read the configuration %s: %s", path, shale_strerror(code));
	}
	bad = ini_parse_stream(next_line, &r, on_setting, &r);
	if (r.rc == 0 && ferror(r.file))
		r.rc = err_set(err, -EIO, "cannot read the configuration %s", path);
	else if (r.rc == 0 && bad)
		r.rc = err_set(err, -SHALE_ECONFIG, "%s:%d: neither \"key = value\" nor \"[section]\"", path, bad);
	fclose(r.file);
	free(r.line);
	return r.rc;
}

int config_set(struct config *c, const char *assignment, struct err_info *err)
{
	const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
	char section[64], name[64];

	if (!dot || !equals || dot > equals || dot == assignment || dot + 1 == equals ||
	    (size_t)(dot - assignment) >= sizeof(section) || (size_t)(equals - dot - 1) >= sizeof(name))
		return err_set(err, -SHALE_ECONFIG,
			       "--set %.100s: it must look like section.key=value, as in engine.block_cache=256M",
			       assignment);
	snprintf(section, sizeof(section), "%.*s", (int)(dot - assignment), assignment);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), dot + 1);
	return assign(c, "--set", section, name, equals + 1, err);
}

int config_check(const struct config *c, struct err_info *err)
{
	if (!is_power_of_two(c->wal_ring))
		return err_set(err, -SHALE_ECONFIG, "wal.ring must be a power of two, as 8M, 16M or 32M are");
	if (c->row_cache && (!is_power_of_two(c->row_cache) || c->row_cache < ROW_CACHE_MIN))
		return err_set(err, -SHALE_ECONFIG,
			       "service.row_cache must be 0 or a power of two from 64K on, as 8M or 64M are");
	if (!is_power_of_two(c->ring_entries))
		return err_set(err, -SHALE_ECONFIG,
			       "service.ring_entries must be a power of two, as 64, 128 or 256 are");
	if (c->turn_bytes / c->turn_requests < 1024)
		return err_set(err, -SHALE_ECONFIG,
			       "fairness.turn_bytes must be at least 1K for each of fairness.turn_requests: a request "
			       "costs more than its bytes");
	if (c->max_key > c->max_request / 2)
		return err_set(err, -SHALE_ECONFIG, "limits.max_key must be at most half of limits.max_request");
	if (c->l0_slowdown < c->l0_compaction || c->l0_stop < c->l0_slowdown)
		return err_set(err, -SHALE_ECONFIG,
			       "engine.l0_compaction <= engine.l0_slowdown <= engine.l0_stop must hold: writes would "
			       "wait for a compaction "
			       "that does not start");
	return 0;
}

/* ---- the rest ---- */

static bool same_uids(const struct config_uids *a, const struct config_uids *b)
{
	return a->count == b->count && !memcmp(a->uid, b->uid, a->count * sizeof(a->uid[0]));
}

bool config_same_access(const struct config *a, const struct config *b)
{
	return same_uids(&a->uids, &b->uids) && same_uids(&a->read_only_uids, &b->read_only_uids);
}

void config_default(struct config *c)
{
	char why[128];

	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < CONFIG_KEYS; i++) {
		bool ok = config_value_parse(c, &config_keys[i], config_keys[i].standard, why);

		assert(ok);
		(void)ok;
	}
}

void config_write(const struct config *c, enum config_style style, FILE *out)
{
	const char *section = "", *comment = style == CONFIG_EXPLAINED ? "#" : "";
	char value[CONFIG_VALUE], allowed[256];

	for (unsigned i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *k = &config_keys[i];

		if (strcmp(section, k->section)) {
			fprintf(out, "%s[%s]\n", i ? "\n" : "", k->section);
			section = k->section;
		}
		config_value_print(c, k, value, sizeof(value));
		if (style == CONFIG_EXPLAINED) {
			config_value_allowed(allowed, sizeof(allowed), k);
			fprintf(out, "\n# %c%s.\n# Allowed: %s. %s\n", toupper((unsigned char)k->doc[0]), k->doc + 1,
				allowed, k->effect == AT_ONCE ? "A reload changes it." : "Needs a restart.");
		}
		fprintf(out, "%s%s =%s%s", comment, k->name, *value ? " " : "", value);
		if (style == CONFIG_WITH_ORIGINS)
			fprintf(out, " ; %s", *c->origin[i] ? c->origin[i] : "default");
		putc('\n', out);
	}
}

unsigned config_weight(const struct config *c, uid_t uid)
{
	for (unsigned i = 0; i < c->weights.count; i++)
		if (c->weights.uid[i] == uid)
			return c->weights.weight[i];
	return 1;
}

unsigned config_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : (unsigned)n;
}

unsigned config_workers(const struct config *c)
{
	unsigned cores = config_cores();

	if (c->compaction_workers)
		return (unsigned)c->compaction_workers;
	return cores > 1 ? cores - 1 : 1;
}

void config_engine_options(const struct config *c, struct engine_options *out)
{
	struct engine_options o;

	engine_options_default(&o);
	o.write_buffer_bytes = c->write_buffer;
	o.max_immutables = (unsigned)c->max_immutables;
	o.wal_ring_bytes = c->wal_ring;
	o.block_cache_bytes = c->block_cache;
	o.max_open_tables = (unsigned)c->max_open_tables;
	o.table.block_bytes = c->block_size;
	o.table.bloom_bits_per_key = (unsigned)c->bloom_bits;
	o.table.compression = (enum compression)c->compression;
	o.compression_by_level = c->compression_per_level != 0;
	for (unsigned level = 0, named = 1; level < LEVELS; level++) {
		unsigned next = c->compression_per_level >> (4 * level) & 15;

		named = next ? next : named;
		o.level_compression[level] = (enum compression)(named - 1);
	}
	o.levels.max_file_bytes = c->max_file_size;
	o.levels.level1_bytes = c->level1_size;
	o.levels.level_multiplier = (unsigned)c->level_multiplier;
	o.levels.tombstone_percent = (unsigned)c->tombstone_percent;
	o.seek_compaction = c->seek_compaction;
	o.background_rate = c->background_rate;
	o.levels.l0_compaction_trigger = (unsigned)c->l0_compaction;
	o.levels.l0_gather_files = (unsigned)c->l0_gather;
	o.l0_slowdown_trigger = (unsigned)c->l0_slowdown;
	o.l0_stop_trigger = (unsigned)c->l0_stop;
	o.limits.max_key = c->max_key;
	o.limits.max_count = (uint32_t)c->max_batch_records;
	o.limits.max_value = c->max_request;
	o.max_batch_bytes = c->max_request;
	o.create_if_missing = c->create_if_missing;
	o.paranoid = c->paranoid;
	o.best_effort = c->best_effort;
	*out = o;
}
