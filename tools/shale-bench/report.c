/*
 * report.c - what came out, as a table for eyes or as JSON lines for programs.
 *
 * The rate is the median of all rounds; the spread is the distance between the best and the worst of them, in percent of it.
 */
#include <jansson.h>
#include <stdlib.h>

#include "tools/shale-bench/bench.h"

void series_add(struct series *s, const struct result *r)
{
	struct result *sum = &s->sum;

	s->rate[s->n++] = r->seconds > 0 ? (double)r->operations / r->seconds : 0;
	sum->operations += r->operations;
	sum->found += r->found;
	sum->bytes += r->bytes;
	sum->seconds += r->seconds;
	sum->used.cpu_client += r->used.cpu_client;
	sum->used.cpu_server += r->used.cpu_server;
	sum->used.device_bytes += r->used.device_bytes;
	if (r->used.resident_bytes > sum->used.resident_bytes)
		sum->used.resident_bytes = r->used.resident_bytes;
	latency_merge(&sum->latency, &r->latency);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median; *@spread_out: (best - worst) / median. */
static double median_rate(const struct series *s, double *spread_out)
{
	double sorted[MAX_ROUNDS], median;

	*spread_out = 0;
	if (s->n == 0)
		return 0;
	memcpy(sorted, s->rate, sizeof(sorted));
	qsort(sorted, s->n, sizeof(sorted[0]), by_value);
	median = s->n % 2 ? sorted[s->n / 2] : (sorted[s->n / 2 - 1] + sorted[s->n / 2]) / 2;
	if (median > 0)
		*spread_out = (sorted[s->n - 1] - sorted[0]) / median;
	return median;
}

static void json_line(const struct bench_plan *p, uint64_t num, const struct benchmark *b, unsigned e,
		      const struct series *s)
{
	const struct latencies *h = &s->sum.latency;
	double spread, rate = median_rate(s, &spread);
	double seconds = s->sum.seconds > 0 ? s->sum.seconds : 1;
	json_t *line =
		json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f}", "engine", p->engine[e]->name, "benchmark",
			  benchmark_name(b), "num", (json_int_t)num, "value_size", (json_int_t)p->o.value_bytes,
			  "procs", (json_int_t)p->o.procs, "threads", (json_int_t)p->o.threads, "depth",
			  (json_int_t)p->o.depth, "rounds", (json_int_t)s->n, "ops_per_second", rate, "spread", spread,
			  "mb_per_second", (double)s->sum.bytes / seconds / 1e6);

	json_object_update_new(
		line,
		json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:I,s:I}", "p50_us",
			  (double)latency_quantile(h, 0.5) / 1e3, "p99_us", (double)latency_quantile(h, 0.99) / 1e3,
			  "p999_us", (double)latency_quantile(h, 0.999) / 1e3, "max_us", (double)h->max / 1e3,
			  "cpu_client_s", s->sum.used.cpu_client, "cpu_daemon_s", s->sum.used.cpu_server,
			  "bytes_written", (json_int_t)s->sum.used.device_bytes, "resident_bytes",
			  (json_int_t)s->sum.used.resident_bytes, "operations", (json_int_t)s->sum.operations, "found",
			  (json_int_t)s->sum.found, "bytes", (json_int_t)s->sum.bytes));
	if (p->o.amplification)
		json_object_update_new(line,
				       json_pack("{s:I,s:I,s:I,s:I}", "user_bytes", (json_int_t)s->cost.user,
						 "table_bytes", (json_int_t)s->cost.tables, "live_bytes",
						 (json_int_t)s->cost.live, "disk_bytes", (json_int_t)s->cost.disk));
	json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(line);
}

void report_head(const struct bench_plan *p, uint64_t num)
{
	if (p->o.json)
		return;
	if (p->num_count > 1)
		printf("%s%llu keys\n", num == p->nums[0] ? "" : "\n", (unsigned long long)num);
	printf("%-16s %-8s %9s %11s %6s %9s %9s %9s %10s %9s %9s", "benchmark", "engine", "us/op", "ops/s", "spread",
	       "p50 us", "p99 us", "p99.9 us", "max us", "cpu us", "daemon us");
	printf(p->engines > 1 ? "  %s/this\n" : "\n", p->engine[0]->name);
}

static void row(const struct bench_plan *p, const struct benchmark *b, unsigned e, const struct series *of_engine)
{
	const struct series *s = &of_engine[e];
	const struct latencies *h = &s->sum.latency;
	double spread, unused, rate = median_rate(s, &spread), first = median_rate(&of_engine[0], &unused);
	double ops = s->sum.operations ? (double)s->sum.operations : 1;

	printf("%-16s %-8s %9.3f %11.0f %5.0f%% %9.2f %9.2f %9.2f %10.1f %9.2f %9.2f", benchmark_name(b),
	       p->engine[e]->name, rate > 0 ? 1e6 / rate : 0, rate, 100 * spread,
	       (double)latency_quantile(h, 0.5) / 1e3, (double)latency_quantile(h, 0.99) / 1e3,
	       (double)latency_quantile(h, 0.999) / 1e3, (double)h->max / 1e3, s->sum.used.cpu_client / ops * 1e6,
	       s->sum.used.cpu_server / ops * 1e6);
	if (e > 0 && rate > 0 && of_engine[0].n)
		printf("  %.2f", first / rate);
	putchar('\n');
}

void report_benchmark(const struct bench_plan *p, uint64_t num, const struct benchmark *b,
		      const struct series *of_engine)
{
	for (unsigned e = 0; e < p->engines; e++) {
		if (!of_engine[e].n)
			continue;
		if (p->o.json)
			json_line(p, num, b, e, &of_engine[e]);
		else
			row(p, b, e, of_engine);
	}
}

void report_amplification_head(const struct bench_plan *p)
{
	(void)p;
	printf("\n%-16s %-8s %11s %11s %9s %11s %11s %9s\n", "benchmark", "engine", "user MiB", "tables MiB",
	       "write amp", "live MiB", "disk MiB", "space amp");
}

void report_amplification(const struct bench_plan *p, const struct benchmark *b, const struct series *of_engine)
{
	const double mib = 1 << 20;

	for (unsigned e = 0; e < p->engines; e++) {
		const struct amplification *c = &of_engine[e].cost;

		if (of_engine[e].n)
			printf("%-16s %-8s %11.1f %11.1f %9.2f %11.1f %11.1f %9.3f\n", benchmark_name(b),
			       p->engine[e]->name, (double)c->user / mib, (double)c->tables / mib,
			       c->user ? (double)c->tables / (double)c->user : 0, (double)c->live / mib,
			       (double)c->disk / mib, c->live ? (double)c->disk / (double)c->live : 0);
	}
}
