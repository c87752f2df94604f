/*
 * shale-bench - db_bench's workloads, the same loop for every engine, side by side.
 *
 * With several engines each benchmark sequence is run by one after the other, `rounds` times in turn, because on a shared
 * machine absolute times drift; the ratio of medians within one run is what stays.
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

enum { MAX_BENCHMARKS = 32, MAX_ROUNDS = 9 };

static const struct driver *const drivers[] = {
	&shale_driver, &direct_driver, &leveldb_driver,
#ifdef HAVE_ROCKSDB
	&rocksdb_driver,
#endif
#ifdef HAVE_LMDB
	&lmdb_driver,
#endif
#ifdef HAVE_REDIS
	&redis_driver,
#endif
};

/* All rounds of one benchmark by one engine. */
struct series {
	double rate[MAX_ROUNDS]; /* operations per second */
	unsigned n;
	struct result sum;	   /* latencies and counts of all rounds */
	struct amplification cost; /* user and tables of all rounds, live and disk of the last */
};

struct bench {
	struct bench_options o;
	const struct driver *engine[MAX_ENGINES];
	unsigned engines;
	const struct benchmark *benchmark[MAX_BENCHMARKS];
	unsigned benchmarks;
	struct series series[MAX_BENCHMARKS][MAX_ENGINES];
	char folder[512];
};

/* ---- a round ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void add_result(struct bench *b, unsigned which, unsigned engine, const struct result *r)
{
	struct series *s = &b->series[which][engine];

	s->rate[s->n++] = r->seconds > 0 ? (double)r->operations / r->seconds : 0;
	s->sum.operations += r->operations;
	s->sum.found += r->found;
	s->sum.bytes += r->bytes;
	s->sum.seconds += r->seconds;
	histogram_merge(&s->sum.latency, &r->latency);
}

/* @tables_io: what the engine had written into tables before, and has now. */
static int add_cost(struct bench *b, unsigned which, unsigned engine, const char *path, const struct result *r,
		    uint64_t *tables_io)
{
	struct amplification *cost = &b->series[which][engine].cost;
	uint64_t tables;
	int rc = amplification_settle(b->engine[engine], &tables);

	if (rc < 0)
		return rc;
	cost->user += benchmark_writes(b->benchmark[which]) ? r->bytes : 0;
	cost->tables += tables - *tables_io;
	cost->live = loop_keys(&b->o) * (KEY_BYTES + b->o.value_bytes);
	cost->disk = amplification_disk(path);
	*tables_io = tables;
	return 0;
}

/* All benchmarks in their order by one engine. */
static int run_engine(struct bench *b, unsigned engine)
{
	const struct driver *d = b->engine[engine];
	static struct result r; /* large, for the histogram */
	bool running = false;
	uint64_t tables = 0;
	char path[600];
	int rc = 0;

	snprintf(path, sizeof(path), "%s/%s", b->folder, d->name);
	for (unsigned i = 0; i < b->benchmarks && rc == 0; i++) {
		if (running && benchmark_fresh(b->benchmark[i])) {
			rc = d->stop();
			running = false;
			nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
			loop_forget(&b->o);
		}
		if (rc == 0 && !running) {
			running = true;
			rc = d->start(&b->o, path);
			tables = 0;
		}
		if (rc == 0)
			rc = loop_run(d, &b->o, b->benchmark[i], &r);
		if (rc == 0)
			add_result(b, i, engine, &r);
		if (rc == 0 && b->o.amplification)
			rc = add_cost(b, i, engine, path, &r, &tables);
		if (rc == 0 && isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K%s %s", d->name, benchmark_name(b->benchmark[i]));
		if (rc < 0)
			fprintf(stderr, "shale-bench: %s %s failed\n", d->name, benchmark_name(b->benchmark[i]));
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (rc == 0 && d->report)
		d->report(stderr);
	if (running && d->stop() < 0)
		rc = -EIO;
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	loop_forget(&b->o);
	return rc;
}

/* ---- what came out ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_rate(const struct series *s)
{
	double sorted[MAX_ROUNDS];

	if (s->n == 0)
		return 0;
	memcpy(sorted, s->rate, sizeof(sorted));
	qsort(sorted, s->n, sizeof(sorted[0]), by_value);
	return s->n % 2 ? sorted[s->n / 2] : (sorted[s->n / 2 - 1] + sorted[s->n / 2]) / 2;
}

static void print_table(const struct bench *b)
{
	printf("%-12s %-8s %10s %12s %9s %9s %9s %10s", "benchmark", "engine", "us/op", "ops/s", "p50 us", "p99 us",
	       "p99.9 us", "max us");
	printf(b->engines > 1 ? "  %s/%s\n" : "\n", b->engine[0]->name, b->engine[b->engines - 1]->name);
	for (unsigned i = 0; i < b->benchmarks; i++)
		for (unsigned e = 0; e < b->engines; e++) {
			const struct series *s = &b->series[i][e];
			const struct histogram *h = &s->sum.latency;
			double rate = median_rate(s), other = median_rate(&b->series[i][b->engines - 1]);

			printf("%-12s %-8s %10.3f %12.0f %9.2f %9.2f %9.2f %10.1f", benchmark_name(b->benchmark[i]),
			       b->engine[e]->name, rate > 0 ? 1e6 / rate : 0, rate,
			       (double)histogram_quantile(h, 0.5) / 1e3, (double)histogram_quantile(h, 0.99) / 1e3,
			       (double)histogram_quantile(h, 0.999) / 1e3, (double)h->max / 1e3);
			if (b->engines > 1 && e == 0 && other > 0)
				printf("  %.2f", rate / other);
			putchar('\n');
		}
}

static void print_amplification(const struct bench *b)
{
	const double mib = 1 << 20;

	printf("\n%-12s %-8s %11s %11s %9s %11s %11s %9s\n", "benchmark", "engine", "user MiB", "tables MiB",
	       "write amp", "live MiB", "disk MiB", "space amp");
	for (unsigned i = 0; i < b->benchmarks; i++)
		for (unsigned e = 0; e < b->engines; e++) {
			const struct amplification *c = &b->series[i][e].cost;

			printf("%-12s %-8s %11.1f %11.1f %9.2f %11.1f %11.1f %9.3f\n", benchmark_name(b->benchmark[i]),
			       b->engine[e]->name, (double)c->user / mib, (double)c->tables / mib,
			       c->user ? (double)c->tables / (double)c->user : 0, (double)c->live / mib,
			       (double)c->disk / mib, c->live ? (double)c->disk / (double)c->live : 0);
		}
	for (unsigned e = 0; e < b->engines; e++)
		printf("tables of %s: %s\n", b->engine[e]->name, b->engine[e]->tables_written_how);
}

static void print_json(const struct bench *b)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < b->benchmarks; i++)
		for (unsigned e = 0; e < b->engines; e++) {
			const struct series *s = &b->series[i][e];
			const struct histogram *h = &s->sum.latency;
			double rate = median_rate(s);

			json_array_append_new(
				all,
				json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
					  "benchmark", benchmark_name(b->benchmark[i]), "engine", b->engine[e]->name,
					  "procs", (json_int_t)b->o.procs, "rounds", (json_int_t)s->n, "operations",
					  (json_int_t)s->sum.operations, "found", (json_int_t)s->sum.found,
					  "ops_per_second", rate, "bytes", (json_int_t)s->sum.bytes, "p50_ns",
					  (json_int_t)histogram_quantile(h, 0.5), "p99_ns",
					  (json_int_t)histogram_quantile(h, 0.99), "p999_ns",
					  (json_int_t)histogram_quantile(h, 0.999), "max_ns", (json_int_t)h->max,
					  "user_bytes", (json_int_t)s->cost.user, "table_bytes",
					  (json_int_t)s->cost.tables, "live_bytes", (json_int_t)s->cost.live,
					  "disk_bytes", (json_int_t)s->cost.disk));
		}
	json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(all);
}

/* ---- the command line ---- */

struct number_option {
	const char *name;
	size_t offset;
	uint64_t min, max;
	const char *help;
};

static const struct number_option numbers[] = {
	{"num", offsetof(struct bench_options, num), 1, UINT64_C(1) << 40, "keys; default 1000000"},
	{"reads", offsetof(struct bench_options, reads), 0, UINT64_C(1) << 40,
	 "reads of the reading ones; default as many"},
	{"value_size", offsetof(struct bench_options, value_bytes), 0, 1 << 20, "bytes of a value; default 100"},
	{"batch", offsetof(struct bench_options, batch), 1, 100000, "keys per batch of fillbatch; default 1000"},
	{"procs", offsetof(struct bench_options, procs), 1, MAX_WORKERS, "workers; default 1"},
	{"rounds", offsetof(struct bench_options, rounds), 1, MAX_ROUNDS, "times that all is done; default 1"},
	{"duration", offsetof(struct bench_options, duration), 0, 86400, "seconds of overwrite; default N writes"},
	{"write_buffer_size", offsetof(struct bench_options, write_buffer_bytes), 64 << 10, 1 << 30, "default 4194304"},
	{"cache_size", offsetof(struct bench_options, cache_bytes), 64 << 10, UINT64_C(1) << 40, "default 8388608"},
	{"bloom_bits", offsetof(struct bench_options, bloom_bits), 0, 40, "default 10"},
};

enum {
	OPT_NUMBER = 1000,
	OPT_ENGINE = 1,
	OPT_BENCHMARKS,
	OPT_DB,
	OPT_JSON,
	OPT_VERIFY,
	OPT_NO_COMPRESSION,
	OPT_AMPLIFICATION,
	OPT_HELP
};

static void usage(FILE *out)
{
	fprintf(out, "usage: shale-bench [options]\n"
		     "  --engine=LIST       of shale, leveldb; default shale,leveldb\n"
		     "  --benchmarks=LIST   of those below\n"
		     "  --db=DIR            where databases go; default $TMPDIR or /tmp\n"
		     "  --json --verify --no-compression\n"
		     "  --amplification     also waits for background work, and tells what tables took\n");
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		fprintf(out, "  --%s=N%*s%s\n", numbers[i].name, (int)(16 - strlen(numbers[i].name)), "",
			numbers[i].help);
	fprintf(out, "benchmarks\n");
	benchmark_list(out);
}

static int bad(const char *what, const char *word)
{
	fprintf(stderr, "shale-bench: %s: %s\n", what, word);
	return -EINVAL;
}

static int take_number(struct bench_options *o, const struct number_option *n, const char *text)
{
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || end == text || v < n->min || v > n->max)
		return bad("not a fitting number", text);
	memcpy((char *)o + n->offset, &v, sizeof(v));
	return 0;
}

static int take_engines(struct bench *b, char *list)
{
	char *save, *word = strtok_r(list, ",", &save);

	for (b->engines = 0; word; word = strtok_r(NULL, ",", &save)) {
		const struct driver *found = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
			if (strcmp(drivers[i]->name, word) == 0)
				found = drivers[i];
		if (!found || b->engines == MAX_ENGINES)
			return bad("no such engine", word);
		b->engine[b->engines++] = found;
	}
	return b->engines ? 0 : bad("no engine", "--engine");
}

static int take_benchmarks(struct bench *b, char *list)
{
	char *save, *word = strtok_r(list, ",", &save);

	for (b->benchmarks = 0; word; word = strtok_r(NULL, ",", &save)) {
		const struct benchmark *found = benchmark_find(word);

		if (!found || b->benchmarks == MAX_BENCHMARKS)
			return bad("no such benchmark", word);
		b->benchmark[b->benchmarks++] = found;
	}
	return b->benchmarks ? 0 : bad("no benchmark", "--benchmarks");
}

/* 0, 1 when help was asked for, or negative. */
static int parse(struct bench *b, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(numbers) + 9] = {
		{"engine", required_argument, NULL, OPT_ENGINE},
		{"benchmarks", required_argument, NULL, OPT_BENCHMARKS},
		{"db", required_argument, NULL, OPT_DB},
		{"json", no_argument, NULL, OPT_JSON},
		{"verify", no_argument, NULL, OPT_VERIFY},
		{"no-compression", no_argument, NULL, OPT_NO_COMPRESSION},
		{"amplification", no_argument, NULL, OPT_AMPLIFICATION},
		{"help", no_argument, NULL, OPT_HELP},
	};
	int letter, rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		longs[8 + i] = (struct option){numbers[i].name, required_argument, NULL, OPT_NUMBER + (int)i};
	while (rc == 0 && (letter = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (letter >= OPT_NUMBER)
			rc = take_number(&b->o, &numbers[letter - OPT_NUMBER], optarg);
		else if (letter == OPT_ENGINE)
			rc = take_engines(b, optarg);
		else if (letter == OPT_BENCHMARKS)
			rc = take_benchmarks(b, optarg);
		else if (letter == OPT_DB)
			b->o.folder = optarg;
		else if (letter == OPT_JSON)
			b->o.json = true;
		else if (letter == OPT_VERIFY)
			b->o.verify = true;
		else if (letter == OPT_NO_COMPRESSION)
			b->o.compress = false;
		else if (letter == OPT_AMPLIFICATION)
			b->o.amplification = true;
		else
			rc = letter == OPT_HELP ? 1 : -EINVAL;
	}
	if (rc == 0 && optind < argc)
		rc = bad("not an option", argv[optind]);
	return rc;
}

int main(int argc, char **argv)
{
	static struct bench b = {
		.o = {.num = 1000000,
		      .value_bytes = 100,
		      .batch = 1000,
		      .write_buffer_bytes = 4 << 20,
		      .cache_bytes = 8 << 20,
		      .bloom_bits = 10,
		      .procs = 1,
		      .rounds = 1,
		      .compress = true},
		.engine = {&shale_driver, &leveldb_driver},
		.engines = 2,
	};
	char standard[] =
		"fillseq,fillbatch,fillsync,fillrandom,overwrite,compact,readrandom,readseq,readreverse,seekrandom";
	const char *base = getenv("TMPDIR");
	int rc;

	take_benchmarks(&b, standard);
	rc = parse(&b, argc, argv);
	if (rc) {
		usage(rc > 0 ? stdout : stderr);
		return rc > 0 ? 0 : 2;
	}
	snprintf(b.folder, sizeof(b.folder), "%s/shale-bench.XXXXXX",
		 b.o.folder	 ? b.o.folder
		 : base && *base ? base
				 : "/tmp");
	if (!mkdtemp(b.folder) || loop_init(&b.o) < 0) {
		fprintf(stderr, "shale-bench: %s: %m\n", b.folder);
		return 1;
	}
	for (unsigned round = 0; round < b.o.rounds && rc == 0; round++)
		for (unsigned e = 0; e < b.engines && rc == 0; e++)
			rc = run_engine(&b, e);
	nftw(b.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (rc < 0)
		return 1;
	if (b.o.json)
		print_json(&b);
	else
		print_table(&b);
	if (!b.o.json && b.o.amplification)
		print_amplification(&b);
	return 0;
}
