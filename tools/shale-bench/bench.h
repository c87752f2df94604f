/*
 * bench.h - one loop for every engine.
 *
 *	main.c          options, the list of benchmarks, rounds, tables
 *	loop.c          the workloads, run by workers that begin together
 *	histogram.c     latencies
 *	amplification.c bytes that tables took for bytes that clients wrote, and room on disk for what is alive
 *	engine_*.c      one driver per engine
 *
 * A worker is a process for an engine that serves several (shale), and a thread for one that lives in a process
 * (leveldb). Workloads and names are those of LevelDB's db_bench.
 */
#ifndef SHALE_BENCH_H
#define SHALE_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "shm/base.h"

enum { KEY_BYTES = 16, MAX_WORKERS = 64, MAX_ENGINES = 6 };

struct bench_options {
	uint64_t num, reads; /* keys; reads of the random reads, 0: num */
	uint64_t value_bytes, batch;
	uint64_t write_buffer_bytes, cache_bytes, bloom_bits;
	uint64_t procs, rounds;
	uint64_t duration; /* seconds that overwrite lasts; 0: num writes */
	bool compress, json, verify, amplification;
	const char *folder; /* where databases go; NULL: $TMPDIR */
};

/* ---- histogram.c ---- */

enum { HISTOGRAM_SUB_BITS = 5, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS };

/* Log-linear: 32 buckets per power of two, so a quantile is right within 3 %. In nanoseconds. */
struct histogram {
	uint64_t count, sum, max;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value that @q (0 to 1) of all are below, in nanoseconds; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

/* ---- engines ---- */

struct driver {
	const char *name;
	bool by_process;
	/* Starts it on @database, which may not exist yet. Said why, when negative. */
	int (*start)(const struct bench_options *o, const char *database);
	/* Ends it, cleanly. */
	int (*stop)(void);
	/* Called now and then while workers run; NULL is fine. report tells what was seen. */
	void (*sample)(void);
	void (*report)(FILE *out);

	/* Bytes of tables written since start, by flushes and compactions; the log is not in it. 0 or negative. */
	int (*tables_written)(uint64_t *out);
	const char *tables_written_how;

	/* The process that serves, for its CPU time; NULL: the engine lives in the workers. */
	pid_t (*server_pid)(void);

	/* A worker's handle; NULL after having said why. */
	void *(*open)(void);
	void (*close)(void *s);
	/* What an engine does not have is NULL, and the benchmarks that need it are left out. */
	/* 0 or negative. Batches: add, then commit. */
	int (*put)(void *s, struct slice key, struct slice value, bool sync);
	int (*del)(void *s, struct slice key);
	int (*batch_put)(void *s, struct slice key, struct slice value);
	int (*batch_commit)(void *s);
	/* 0, 1 when there is none, negative. */
	int (*get)(void *s, struct slice key);
	int (*compact)(void *s);
	/* One cursor per handle. */
	int (*cursor_open)(void *s, bool fill_cache);
	void (*cursor_first)(void *s);
	void (*cursor_last)(void *s);
	void (*cursor_seek)(void *s, struct slice key);
	void (*cursor_next)(void *s);
	void (*cursor_prev)(void *s);
	bool (*cursor_valid)(void *s);
	struct slice (*cursor_key)(void *s);
	struct slice (*cursor_value)(void *s);
	int (*cursor_close)(void *s); /* 0, or what ended the walk early */
};

extern const struct driver shale_driver, direct_driver, leveldb_driver, rocksdb_driver, lmdb_driver, redis_driver;

/* ---- loop.c ---- */

struct benchmark;

/* What is there after a benchmark, once background work has come to rest. */
struct amplification {
	uint64_t user, tables; /* bytes that clients wrote, and that went into tables meanwhile */
	uint64_t live, disk;   /* bytes of keys and values that are there, and of the tables on disk */
};

/* What one run of one benchmark gave. */
struct result {
	uint64_t operations, found, bytes, errors;
	double seconds;
	struct histogram latency;
};

const struct benchmark *benchmark_find(const char *name);
const char *benchmark_name(const struct benchmark *b);
/* It begins with an empty database. */
bool benchmark_fresh(const struct benchmark *b);
/* What it counts as bytes was written. */
bool benchmark_writes(const struct benchmark *b);
void benchmark_list(FILE *out);

/* Allocates what workers share. 0 or -ENOMEM. */
int loop_init(const struct bench_options *o);

/* Forgets which keys were written: the database is empty again. */
void loop_forget(const struct bench_options *o);

/* Keys that were written since. */
uint64_t loop_keys(const struct bench_options *o);

/* Runs @b on a started engine. 0 and *@out, or negative after having said why. */
int loop_run(const struct driver *d, const struct bench_options *o, const struct benchmark *b, struct result *out);

/* ---- amplification.c ---- */

/* Waits until no table has been written for a while. 0 and the driver's number, or negative. */
int amplification_settle(const struct driver *d, uint64_t *tables_out);
/* Bytes of the tables in @database. */
uint64_t amplification_disk(const char *database);

#endif
