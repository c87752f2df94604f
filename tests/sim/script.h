/*
 * script.h - a simulation as text: a configuration and a list of commands. The same script gives the same run, to the last I/O.
 *
 *	set keys 40
 *	write 7123 3 1
 *	io 2
 *	crash power 14 99
 *
 * Every decision is in a command, so a failing script is made shorter by leaving commands out (shrink.h): one that finds nothing to do does nothing.
 */
#ifndef SHALE_TESTS_SIM_SCRIPT_H
#define SHALE_TESTS_SIM_SCRIPT_H

#include <stdio.h>

#include "shm/base.h"

enum sim_op {
	OP_WRITE,    /* seed, most records, flags: WRITE_… | first key << 8 | width << 16, both in 256ths of all keys; width 0: all */
	OP_GET,	     /* key, where: 0 newest, n the n-th held place */
	OP_SCAN,     /* seed, where */
	OP_HOLD,     /* place, kind: 0 a snapshot, 1 a view: reads at it must not change. Replaces what was held there */
	OP_DROP,     /* place */
	OP_PUMP,     /* eager */
	OP_POLL,     /* what is done reaches the service thread */
	OP_IO,	     /* n: the n-th operation in flight is performed */
	OP_JOB,	     /* kinds, 1: run it to its end; 0: as a coroutine */
	OP_RESUME,   /* n: the n-th coroutine, if what it waits for is done */
	OP_SURVEY,   /* */
	OP_FLUSH,    /* */
	OP_COMPACT,  /* seed */
	OP_TICK,     /* milliseconds; then as once a second in the daemon */
	OP_FAULT,    /* kind, countdown */
	OP_SPACE,    /* free bytes; 0: no limit */
	OP_KILL,     /* n: the daemon dies at the n-th kill point from now (engine/kill_point.h; nothing where the build has none) */
	OP_CRASH,    /* 0 the daemon, 1 the machine; events until then; seed */
	OP_OPEN,     /* events until the next crash, 0: none; 0 the daemon, 1 the machine; seed */
	OP_CLOSE,    /* events until the next crash, 0: none; 0 the daemon, 1 the machine; seed */
	OP_SETTLE,   /* everything comes to rest */
	OP_CHECK,    /* depth: 0 all keys, 1 the engine's invariants, too */
	OP_FLIP,     /* seed: one bit of one file; the world ends soon after */
	OPS
};

/* _LARGE: more bytes than the WAL's ring has; _MANY: more records than are inserted at once. Both pass through the engine in parts. */
enum { WRITE_SYNC = 1, WRITE_WAIT = 2, WRITE_LARGE = 4, WRITE_MANY = 8 };

struct sim_command {
	enum sim_op op;
	uint64_t a, b, c;
};

enum sim_setting {
	SET_KEYS,
	SET_VALUE_MAX,
	SET_WRITE_BUFFER,
	SET_IMMUTABLES,
	SET_BLOCK,
	SET_RESTART,
	SET_FILE_BYTES,
	SET_LEVEL1,
	SET_MULTIPLIER,
	SET_L0_TRIGGER,
	SET_L0_STOP,
	SET_CACHE,
	SET_TABLES,
	SET_RING,
	SET_MANIFEST,
	SET_BLOOM,
	SET_COMPRESSION,
	SET_TOMBSTONES,
	SET_SEEKS,
	SET_GATHER,
	SET_SEED,
	SETTINGS
};

struct sim_config {
	uint64_t value[SETTINGS];
};

struct sim_script {
	struct sim_config config;
	struct sim_command *v;
	size_t count, cap;
	bool endless; /* more is generated as it runs */
};

void sim_config_default(struct sim_config *c);
void script_add(struct sim_script *s, struct sim_command c);
void script_fini(struct sim_script *s);

/* 0 or -errno; a line that makes no sense is -EINVAL, its number in *@line_out. */
int script_read(FILE *f, struct sim_script *s, unsigned *line_out);
int script_write(FILE *f, const struct sim_script *s);

#endif
