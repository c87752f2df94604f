/*
 * config.h - every setting of shaled: one table of keys, read from a file and from --set, shown in words.
 *
 * A key is "section.key". The table in config_keys.c gives each its type, default, bounds, whether a reload changes it, and one line of
 * explanation; parsing, checking, printing and daemon/shaled.conf all follow it.
 */
#ifndef SHALE_DAEMON_CONFIG_H
#define SHALE_DAEMON_CONFIG_H

#include <stdio.h>
#include <sys/types.h>

#include "engine/engine.h"

struct err_info;

enum { CONFIG_UIDS = 64 };
struct config_uids {
	unsigned count;
	uid_t uid[CONFIG_UIDS];
};

/* How much more than others these users may have: the others' weight is 1. */
enum { CONFIG_WEIGHT_MAX = 1000 };
struct config_weights {
	unsigned count;
	uid_t uid[CONFIG_UIDS];
	unsigned weight[CONFIG_UIDS];
};

enum { CONFIG_KEYS = 51, CONFIG_ORIGIN = 128 };

enum window_kind { WINDOW_SHM, WINDOW_DIRECTORY };

struct config {
	/* engine */
	uint64_t write_buffer, block_cache, block_size, max_file_size, level1_size;
	uint64_t max_immutables, max_open_tables, bloom_bits, l0_compaction, l0_gather, l0_slowdown, l0_stop;
	uint64_t compaction_workers; /* as configured; config_workers() resolves 0 */
	uint64_t compression;	     /* enum compression */
	uint64_t compression_per_level; /* a nibble per level from the lowest, enum compression + 1; 0: no more */
	uint64_t level_multiplier, seek_compaction, tombstone_percent, background_rate;
	uint64_t create_if_missing, paranoid, best_effort;
	/* wal */
	uint64_t wal_ring, wal_window; /* enum window_kind */
	/* limits */
	uint64_t max_key, max_request, max_batch_records, sessions, sessions_per_uid, memory_per_uid, snapshots, handshake_ms;
	uint64_t snapshots_per_uid, snapshot_lease, in_flight_per_uid, write_rate_per_uid;
	/* fairness */
	uint64_t turn_requests, turn_bytes;
	struct config_weights weights;
	/* access */
	uint64_t mode;
	struct config_uids uids, read_only_uids;
	/* service */
	uint64_t spin_us, slowdown_rate, ring_entries, arena, row_cache, exit_when_unused;
	/* io */
	uint64_t backend; /* enum io_backend */
	/* log */
	uint64_t log_level; /* LOG_ERR + … */
	uint64_t log_file;

	/* Where each was set, in the order of config_keys[]: "file:line" (its end, when it is long) or "--set"; empty: nowhere. */
	char origin[CONFIG_KEYS][CONFIG_ORIGIN];
};

void config_default(struct config *c);

/*
 * Reads an INI file over @c. 0; -SHALE_ECONFIG with "file:line: …" (unknown key, with the nearest known one; bad value, with what is
 * allowed; a line that is no setting); or -errno with words.
 */
int config_read(struct config *c, const char *path, struct err_info *err);

/* One "section.key=value", as --set takes it. 0 or -SHALE_ECONFIG with words. */
int config_set(struct config *c, const char *assignment, struct err_info *err);

/* Checks what no single key can tell. Call when all is read. 0 or -SHALE_ECONFIG with words. */
int config_check(const struct config *c, struct err_info *err);

/*
 * Writes all settings as an INI file: as they are; as comments with their explanations, which is what shaled.conf is; or each with its origin
 * behind it as a comment.
 */
enum config_style { CONFIG_PLAIN, CONFIG_EXPLAINED, CONFIG_WITH_ORIGINS };
void config_write(const struct config *c, enum config_style style, FILE *out);

/* ---- all of it, as the command line says; and again on a reload (config_sources.c) ---- */

enum { CONFIG_FILES = 16, CONFIG_SETS = 128 };

/* The words of the command line, borrowed. */
struct config_sources {
	unsigned files, sets;
	const char *file[CONFIG_FILES]; /* a "-" before one: it may be missing */
	const char *set[CONFIG_SETS];
};

/*
 * Defaults, then each file and the FILE.d/<name>.conf beside it in the order of their names, then each --set, and the check of all together.
 * 0 and *@out, or a negative code with words; *@out is then half done.
 */
int config_gather(const struct config_sources *from, struct config *out, struct err_info *err);

/* A setting of which @asked says something else than @running. */
struct config_change {
	const char *section, *name;
	const char *before, *after; /* in words */
	const char *origin;	    /* of the new value */
	bool at_once;		    /* it takes effect now; else at the next start */
};

/*
 * *@next_out becomes @running with everything of @asked that can change at run time. @tell is called for each difference (NULL: for none).
 * Returns how many take effect, or -SHALE_ECONFIG with words: they do not go with those that cannot change.
 */
int config_merge(const struct config *running, const struct config *asked, struct config *next_out,
		 void (*tell)(void *context, const struct config_change *change), void *context, struct err_info *err);

/* The settings that differ from their defaults, as "engine.block_cache=256M (file:line), …", cut to @cap. */
void config_summary(const struct config *c, char *buf, size_t cap);

/* Compaction workers to start: as configured, or by the cores this process may run on. At least 1. */
unsigned config_workers(const struct config *c);
unsigned config_cores(void);

/* Both let the same users in, to do the same. */
bool config_same_access(const struct config *a, const struct config *b);

/* What fairness.weights gives @uid. */
unsigned config_weight(const struct config *c, uid_t uid);

void config_engine_options(const struct config *c, struct engine_options *out);

#endif
