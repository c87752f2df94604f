/*
 * bench.h - one loop for every engine.
 *
 *	main.c          rounds: engines in turn, so that a machine that drifts drifts for all
 *	options.c       the command line
 *	loop.c          workers that begin together, and what they cost
 *	workload.h      what a workload sees: keys, values, random numbers
 *	workloads.c     db_bench's workloads by db_bench's names
 *	ycsb.c          YCSB A to F
 *	usage.c         CPU time, memory, bytes that reached the disk
 *	amplification.c bytes that tables took for bytes that clients wrote, and room on disk for what is alive
 *	latency.c       latencies
 *	report.c        tables and JSON lines
 *	render.c        JSON lines of many runs as Markdown and SVG
 *	engine_*.c      one driver per engine
 *
 * An engine that serves several processes gets procs processes of `threads` threads each; one that lives in a process gets
 * as many threads.
 */
#ifndef SHALE_BENCH_H
#define SHALE_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "shm/base.h"

enum { KEY_BYTES = 16, MAX_WORKERS = 64, MAX_ENGINES = 6, MAX_BENCHMARKS = 40, MAX_ROUNDS = 9, MAX_NUMS = 4 };

struct driver;
struct benchmark;

struct bench_options {
	uint64_t num, reads; /* keys; reads of the random reads, 0: num */
	uint64_t value_bytes, batch;
	uint64_t write_buffer_bytes, cache_bytes, bloom_bits;
	uint64_t procs, threads, depth; /* depth: operations in flight per worker, where the engine can */
	uint64_t rounds;
	uint64_t duration; /* seconds that overwrite lasts; 0: num writes */
	bool compress, json, verify, amplification;
	const char *folder; /* where databases go; NULL: $TMPDIR */
};

/* The whole command line. */
struct bench_plan {
	struct bench_options o;
	uint64_t nums[MAX_NUMS]; /* o.num is each of them in turn */
	unsigned num_count;
	const struct driver *engine[MAX_ENGINES];
	unsigned engines;
	const struct benchmark *benchmark[MAX_BENCHMARKS];
	unsigned benchmarks;
	const char *render, *markdown, *svg; /* render: no run, but these two files from that one */
};

/* ---- latency.c ---- */

enum { LATENCY_SUB_BITS = 5, LATENCY_BUCKETS = (64 - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS };

/* Log-linear: 32 buckets per power of two, so a quantile is right within 3 %. In nanoseconds. */
struct latencies {
	uint64_t count, sum, max;
	uint64_t bucket[LATENCY_BUCKETS];
};

void latency_add(struct latencies *h, uint64_t ns);
void latency_merge(struct latencies *into, const struct latencies *from);
/* The value that @q (0 to 1) of all are below, in nanoseconds; 0 when empty. */
uint64_t latency_quantile(const struct latencies *h, double q);

/* ---- engines ---- */

struct driver {
	const char *name;
	bool by_process; /* workers may be processes */
	unsigned max_workers; /* 0: any number */
	/* Starts it on @database, which may not exist yet. Said why, when negative. */
	int (*start)(const struct bench_options *o, const char *database);
	/* Ends it, cleanly. */
	int (*stop)(void);
	/* Called now and then while workers run; NULL is fine. report tells what was seen. */
	void (*sample)(void);
	void (*report)(FILE *out);

	/* Bytes of tables written since start, by flushes and compactions; the log is not in it. 0 or negative. NULL: it has no tables. */
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
	/* A call that does nothing, there and back. */
	int (*nop)(void *s);
	int (*compact)(void *s);
	/*
	 * Several in flight: submit copies what it needs; reap waits until at most @left are in flight and counts what ended and what was found.
	 * A negative answer ends the run.
	 */
	int (*submit_get)(void *s, struct slice key);
	int (*submit_put)(void *s, struct slice key, struct slice value);
	int (*reap)(void *s, unsigned left, uint64_t *ended, uint64_t *found);
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

/* ---- usage.c ---- */

struct usage {
	double cpu_client, cpu_server; /* seconds; an engine that lives in the workers counts as client, background work included */
	uint64_t device_bytes;	       /* written to the file system's block device, by anybody; 0: not to be known */
	uint64_t resident_bytes;       /* of the server, or of this process */
};

/* Where databases lie; for device_bytes. */
void usage_init(const char *folder);
/* What was used so far. @server: 0 for none. */
void usage_now(pid_t server, struct usage *out);
/* Writes back what the kernel holds of the folder, so that device_bytes is whole. */
void usage_settle(void);

/* ---- loop.c ---- */

/* What is there after a benchmark, once background work has come to rest. */
struct amplification {
	uint64_t user, tables; /* bytes that clients wrote, and that went into tables meanwhile */
	uint64_t live, disk;   /* bytes of keys and values that are there, and of the tables on disk */
};

/* What one run of one benchmark gave. */
struct result {
	uint64_t operations, found, bytes, errors;
	double seconds, cpu;
	struct usage used;
	struct latencies latency;
};

/* Allocates what workers share. 0 or -ENOMEM. */
int loop_init(uint64_t max_num);

/* Forgets which keys were written: the database is empty again. */
void loop_forget(void);

/* Keys that were written since. */
uint64_t loop_keys(void);

/* Runs @b on a started engine. 0 and *@out, or negative after having said why. */
int loop_run(const struct driver *d, const struct bench_options *o, const struct benchmark *b, struct result *out);

/* ---- workloads.c ---- */

const struct benchmark *benchmark_find(const char *name);
const char *benchmark_name(const struct benchmark *b);
/* It begins with an empty database. */
bool benchmark_fresh(const struct benchmark *b);
/* What it counts as bytes was written. */
bool benchmark_writes(const struct benchmark *b);
/* @d has all that it needs. */
bool benchmark_possible(const struct benchmark *b, const struct driver *d);
void benchmark_list(FILE *out);

/* ---- amplification.c ---- */

/* Waits until no table has been written for a while. 0 and the driver's number, or negative. */
int amplification_settle(const struct driver *d, uint64_t *tables_out);
/* Bytes of the tables in @database. */
uint64_t amplification_disk(const char *database);

/* ---- report.c ---- */

/* All rounds of one benchmark by one engine with one number of keys. */
struct series {
	double rate[MAX_ROUNDS]; /* operations per second */
	unsigned n;
	struct result sum;	   /* latencies and counts of all rounds */
	struct amplification cost; /* user and tables of all rounds, live and disk of the last */
};

void series_add(struct series *s, const struct result *r);
void report_head(const struct bench_plan *p, uint64_t num);
/* A row, or a line of JSON, per engine that ran @b. */
void report_benchmark(const struct bench_plan *p, uint64_t num, const struct benchmark *b, const struct series *of_engine);
void report_amplification_head(const struct bench_plan *p);
void report_amplification(const struct bench_plan *p, const struct benchmark *b, const struct series *of_engine);

/* ---- render.c ---- */

/* Reads JSON lines and writes both files. 0 or negative after having said why. */
int render(const char *results, const char *markdown, const char *svg);

/* ---- options.c ---- */

/* 0; 1 when help was asked for and given; negative after having said why. */
int options_parse(struct bench_plan *p, int argc, char **argv);

#endif
