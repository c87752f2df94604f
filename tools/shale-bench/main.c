/*
 * shale-bench - db_bench's workloads and YCSB's, the same loop for every engine, side by side.
 *
 * With several engines the whole list of benchmarks is run by one after the other, `rounds` times in turn, because on a shared
 * machine absolute times drift; the ratio of medians within one run is what stays.
 */
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

struct bench {
	struct bench_plan plan;
	struct series series[MAX_BENCHMARKS][MAX_ENGINES];
	char folder[512];
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* @tables_io: what the engine had written into tables before, and has now. */
static int add_cost(struct bench *b, unsigned which, unsigned engine, const char *path, const struct result *r,
		    uint64_t *tables_io)
{
	struct amplification *cost = &b->series[which][engine].cost;
	const struct bench_options *o = &b->plan.o;
	uint64_t tables;
	int rc = amplification_settle(b->plan.engine[engine], &tables);

	if (rc < 0)
		return rc;
	cost->user += benchmark_writes(b->plan.benchmark[which]) ? r->bytes : 0;
	cost->tables += tables - *tables_io;
	cost->live = loop_keys() * (KEY_BYTES + o->value_bytes);
	cost->disk = amplification_disk(path);
	*tables_io = tables;
	return 0;
}

/* Runs the @which-th benchmark on a started engine and keeps what it gave. */
static int run_one(struct bench *b, unsigned which, unsigned engine, const char *path, uint64_t *tables_io)
{
	const struct driver *d = b->plan.engine[engine];
	const struct benchmark *benchmark = b->plan.benchmark[which];
	static struct result r; /* large, for the histogram */
	struct usage before, after;
	pid_t server = d->server_pid ? d->server_pid() : 0;
	int rc;

	usage_settle();
	usage_now(server, &before);
	rc = loop_run(d, &b->plan.o, benchmark, &r);
	if (rc < 0)
		return rc;
	usage_settle();
	usage_now(server, &after);
	r.used.device_bytes = after.device_bytes - before.device_bytes;
	series_add(&b->series[which][engine], &r);
	if (b->plan.o.amplification && d->tables_written)
		rc = add_cost(b, which, engine, path, &r, tables_io);
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s %s", d->name, benchmark_name(benchmark));
	return rc;
}

/* All benchmarks in their order by one engine. */
static int run_engine(struct bench *b, unsigned engine)
{
	const struct driver *d = b->plan.engine[engine];
	bool running = false;
	uint64_t tables = 0;
	char path[600];
	int rc = 0;

	if (d->max_workers && b->plan.o.procs * b->plan.o.threads > d->max_workers)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", b->folder, d->name);
	for (unsigned i = 0; i < b->plan.benchmarks && rc == 0; i++) {
		const struct benchmark *benchmark = b->plan.benchmark[i];

		if (!benchmark_possible(benchmark, d))
			continue;
		if (running && benchmark_fresh(benchmark)) {
			rc = d->stop();
			running = false;
			remove_all(path);
			loop_forget();
		}
		if (rc == 0 && !running) {
			running = true;
			rc = d->start(&b->plan.o, path);
			tables = 0;
		}
		if (rc == 0)
			rc = run_one(b, i, engine, path, &tables);
		if (rc < 0)
			fprintf(stderr, "shale-bench: %s %s failed\n", d->name, benchmark_name(benchmark));
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (rc == 0 && running && d->report)
		d->report(stderr);
	if (running && d->stop() < 0)
		rc = -EIO;
	remove_all(path);
	loop_forget();
	return rc;
}

static void report(const struct bench *b)
{
	const struct bench_plan *p = &b->plan;

	report_head(p, p->o.num);
	for (unsigned i = 0; i < p->benchmarks; i++)
		report_benchmark(p, p->o.num, p->benchmark[i], b->series[i]);
	if (p->o.json || !p->o.amplification)
		return;
	report_amplification_head(p);
	for (unsigned i = 0; i < p->benchmarks; i++)
		report_amplification(p, p->benchmark[i], b->series[i]);
	for (unsigned e = 0; e < p->engines; e++)
		if (p->engine[e]->tables_written)
			printf("tables of %s: %s\n", p->engine[e]->name, p->engine[e]->tables_written_how);
}

/* All rounds with one number of keys. */
static int run_num(struct bench *b, uint64_t num)
{
	int rc = 0;

	b->plan.o.num = num;
	memset(b->series, 0, sizeof(b->series));
	for (unsigned round = 0; round < b->plan.o.rounds && rc == 0; round++)
		for (unsigned e = 0; e < b->plan.engines && rc == 0; e++)
			rc = run_engine(b, e);
	if (rc == 0)
		report(b);
	fflush(stdout);
	return rc;
}

int main(int argc, char **argv)
{
	static struct bench b;
	const char *base = getenv("TMPDIR");
	uint64_t most = 0;
	int rc = options_parse(&b.plan, argc, argv);

	if (rc)
		return rc > 0 ? 0 : 2;
	if (b.plan.render)
		return render(b.plan.render, b.plan.markdown, b.plan.svg) < 0;
	for (unsigned i = 0; i < b.plan.num_count; i++)
		most = b.plan.nums[i] > most ? b.plan.nums[i] : most;
	snprintf(b.folder, sizeof(b.folder), "%s/shale-bench.XXXXXX",
		 b.plan.o.folder ? b.plan.o.folder
		 : base && *base ? base
				 : "/tmp");
	if (!mkdtemp(b.folder) || loop_init(most) < 0) {
		fprintf(stderr, "shale-bench: %s: %m\n", b.folder);
		return 1;
	}
	usage_init(b.folder);
	for (unsigned i = 0; i < b.plan.num_count && rc == 0; i++)
		rc = run_num(&b, b.plan.nums[i]);
	remove_all(b.folder);
	return rc < 0;
}
