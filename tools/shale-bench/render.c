/*
 * render.c - JSON lines of earlier runs as a Markdown page and as an SVG chart.
 *
 * Lines that agree in num, value_size, procs, threads and depth make one table. Its ratios are those of shale to each other engine: above 1 shale
 * is faster. The chart shows every engine beside LevelDB, on a logarithmic axis, since factors are what is compared.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "tools/shale-bench/bench.h"

enum { MAX_LINES = 2000 };

struct line {
	const char *engine, *benchmark;
	uint64_t num, value_size, procs, threads, depth;
	double rate, spread, p50, p999, cpu;
};

struct page {
	json_t *json[MAX_LINES]; /* holds the lines' strings */
	struct line line[MAX_LINES];
	unsigned count;
};

static double number(const json_t *o, const char *name)
{
	return json_number_value(json_object_get(o, name));
}

static int load(struct page *p, const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t cap = 0;
	int rc = 0;

	if (!f) {
		fprintf(stderr, "shale-bench: %s: %m\n", path);
		return -errno;
	}
	while (rc == 0 && p->count < MAX_LINES && getline(&text, &cap, f) > 0) {
		json_error_t error;
		json_t *o = json_loads(text, 0, &error);
		double ops = number(o, "operations");

		p->json[p->count] = o;
		p->line[p->count] = (struct line){
			.engine = json_string_value(json_object_get(o, "engine")),
			.benchmark = json_string_value(json_object_get(o, "benchmark")),
			.num = (uint64_t)number(o, "num"),
			.value_size = (uint64_t)number(o, "value_size"),
			.procs = (uint64_t)number(o, "procs"),
			.threads = (uint64_t)number(o, "threads"),
			.depth = (uint64_t)number(o, "depth"),
			.rate = number(o, "ops_per_second"),
			.spread = number(o, "spread"),
			.p50 = number(o, "p50_us"),
			.p999 = number(o, "p999_us"),
			.cpu = ops > 0 ? (number(o, "cpu_client_s") + number(o, "cpu_daemon_s")) / ops * 1e6 : 0,
		};
		if (!p->line[p->count].engine || !p->line[p->count].benchmark) {
			fprintf(stderr, "shale-bench: %s: not a line of results: %.60s\n", path, text);
			rc = -EINVAL;
		}
		p->count++;
	}
	free(text);
	fclose(f);
	return rc;
}

static bool same_run(const struct line *a, const struct line *b)
{
	return a->num == b->num && a->value_size == b->value_size && a->procs == b->procs && a->threads == b->threads &&
	       a->depth == b->depth;
}

/* The line of @like's run that has this engine and benchmark, or NULL. */
static const struct line *find(const struct page *p, const struct line *like, const char *engine, const char *benchmark)
{
	for (unsigned i = 0; i < p->count; i++) {
		const struct line *l = &p->line[i];

		if (same_run(l, like) && strcmp(l->engine, engine) == 0 && strcmp(l->benchmark, benchmark) == 0)
			return l;
	}
	return NULL;
}

static bool first_of_run(const struct page *p, unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (same_run(&p->line[j], &p->line[i]))
			return false;
	return true;
}

/* Engines, or benchmarks, of @like's run in the order of their first line. */
static unsigned names(const struct page *p, const struct line *like, bool benchmarks, const char **out, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->count; i++) {
		const char *name = benchmarks ? p->line[i].benchmark : p->line[i].engine;
		unsigned j = 0;

		while (j < n && strcmp(out[j], name) != 0)
			j++;
		if (same_run(&p->line[i], like) && j == n && n < max)
			out[n++] = name;
	}
	return n;
}

static void run_title(FILE *out, const struct line *l)
{
	fprintf(out, "%llu keys, values of %llu bytes, ", (unsigned long long)l->num,
		(unsigned long long)l->value_size);
	if (l->procs * l->threads == 1)
		fprintf(out, "one client");
	else if (l->threads == 1)
		fprintf(out, "%llu clients", (unsigned long long)l->procs);
	else
		fprintf(out, "%llu clients of %llu threads", (unsigned long long)l->procs,
			(unsigned long long)l->threads);
	if (l->depth > 1)
		fprintf(out, ", %llu operations in flight each", (unsigned long long)l->depth);
}

/* ---- Markdown ---- */

static void table(FILE *out, const struct page *p, const struct line *like)
{
	const char *engine[MAX_ENGINES], *benchmark[MAX_BENCHMARKS];
	unsigned engines = names(p, like, false, engine, MAX_ENGINES);
	unsigned benchmarks = names(p, like, true, benchmark, MAX_BENCHMARKS);

	fprintf(out, "\n### ");
	run_title(out, like);
	fprintf(out, "\n\n| benchmark | shale ops/s | spread | p50 µs | p99.9 µs | CPU µs |");
	for (unsigned e = 0; e < engines; e++)
		if (strcmp(engine[e], "shale") != 0)
			fprintf(out, " ÷ %s |", engine[e]);
	fprintf(out, "\n|---|--:|--:|--:|--:|--:|");
	for (unsigned e = 1; e < engines; e++)
		fprintf(out, "--:|");
	fprintf(out, "\n");
	for (unsigned b = 0; b < benchmarks; b++) {
		const struct line *ours = find(p, like, "shale", benchmark[b]);

		if (!ours)
			continue;
		fprintf(out, "| %s | %.0f | %.0f %% | %.2f | %.1f | %.2f |", benchmark[b], ours->rate,
			100 * ours->spread, ours->p50, ours->p999, ours->cpu);
		for (unsigned e = 0; e < engines; e++) {
			const struct line *other = find(p, like, engine[e], benchmark[b]);

			if (strcmp(engine[e], "shale") == 0)
				continue;
			if (other && other->rate > 0)
				fprintf(out, " %.2f |", ours->rate / other->rate);
			else
				fprintf(out, " |");
		}
		fprintf(out, "\n");
	}
}

/* ---- SVG ---- */

enum { BAR = 9, GAP = 10, LEFT = 150, WIDTH = 560, TITLE = 30, AXIS = 26, LEGEND = 26 };

static const char *color_of(const char *engine)
{
	static const char *const colors[][2] = {{"shale", "#2f5d8a"},	{"engine", "#8fb3d6"}, {"leveldb", "#9a9a9a"},
						{"rocksdb", "#d9a441"}, {"lmdb", "#5f9e6e"},   {"redis", "#b5544d"}};

	for (size_t i = 0; i < ARRAY_SIZE(colors); i++)
		if (strcmp(colors[i][0], engine) == 0)
			return colors[i][1];
	return "#000000";
}

/* 1/100 to 100 times LevelDB. */
static double x_of(double factor)
{
	double decades = log10(factor < 0.01 ? 0.01 : factor > 100 ? 100 : factor);

	return LEFT + WIDTH * (decades + 2) / 4;
}

/* One run's bars from @y on; returns where they end. With @out NULL only measures. */
static unsigned bars(FILE *out, const struct page *p, const struct line *like, unsigned y)
{
	const char *engine[MAX_ENGINES], *benchmark[MAX_BENCHMARKS];
	unsigned engines = names(p, like, false, engine, MAX_ENGINES), top = y + TITLE;
	unsigned benchmarks = names(p, like, true, benchmark, MAX_BENCHMARKS);

	if (out) {
		fprintf(out, "<text x=\"%d\" y=\"%u\" font-weight=\"bold\">", LEFT, y + 20);
		run_title(out, like);
		fprintf(out, "</text>\n");
	}
	y = top;
	for (unsigned b = 0; b < benchmarks; b++) {
		const struct line *base = find(p, like, "leveldb", benchmark[b]);
		unsigned begin = y;

		if (!base || base->rate <= 0)
			continue;
		for (unsigned e = 0; e < engines; e++) {
			const struct line *l = find(p, like, engine[e], benchmark[b]);
			double x, one = x_of(1);

			if (!l || l == base || l->rate <= 0)
				continue;
			x = x_of(l->rate / base->rate);
			if (out)
				fprintf(out,
					"<rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%d\" fill=\"%s\"><title>%s "
					"%s: %.2f times leveldb</title></rect>\n",
					x < one ? x : one, y, fabs(x - one) < 1 ? 1 : fabs(x - one), BAR - 1,
					color_of(engine[e]), engine[e], benchmark[b], l->rate / base->rate);
			y += BAR;
		}
		if (out)
			fprintf(out, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">%s</text>\n", LEFT - 8,
				(begin + y) / 2 + 4, benchmark[b]);
		y += GAP;
	}
	for (int decade = -2; out && decade <= 2; decade++) {
		double x = x_of(pow(10, decade));

		fprintf(out, "<line x1=\"%.1f\" y1=\"%u\" x2=\"%.1f\" y2=\"%u\" stroke=\"%s\"/>\n", x, top, x, y,
			decade ? "#dddddd" : "#444444");
		fprintf(out, "<text x=\"%.1f\" y=\"%u\" text-anchor=\"middle\">%g×</text>\n", x, y + 14,
			pow(10, decade));
	}
	return y + AXIS;
}

static void chart(FILE *out, const struct page *p)
{
	const char *engine[MAX_ENGINES];
	unsigned y = LEGEND, engines;

	for (unsigned i = 0; i < p->count; i++)
		if (first_of_run(p, i))
			y = bars(NULL, p, &p->line[i], y);
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" font-family=\"sans-serif\" "
		"font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		LEFT + WIDTH + 40, y + 10);
	engines = p->count ? names(p, &p->line[0], false, engine, MAX_ENGINES) : 0;
	for (unsigned e = 0, x = LEFT; e < engines; e++) {
		if (strcmp(engine[e], "leveldb") == 0)
			continue;
		fprintf(out,
			"<rect x=\"%u\" y=\"8\" width=\"10\" height=\"10\" fill=\"%s\"/><text x=\"%u\" "
			"y=\"17\">%s</text>\n",
			x, color_of(engine[e]), x + 14, engine[e]);
		x += 84;
	}
	fprintf(out, "<text x=\"%d\" y=\"17\" text-anchor=\"end\">ops/s ÷ leveldb</text>\n", LEFT - 8);
	y = LEGEND;
	for (unsigned i = 0; i < p->count; i++)
		if (first_of_run(p, i))
			y = bars(out, p, &p->line[i], y);
	fprintf(out, "</svg>\n");
}

int render(const char *results, const char *markdown, const char *svg)
{
	static struct page p;
	FILE *out;
	int rc = load(&p, results);

	out = rc == 0 ? fopen(markdown, "w") : NULL;
	for (unsigned i = 0; out && i < p.count; i++)
		if (first_of_run(&p, i))
			table(out, &p, &p.line[i]);
	if (out && fclose(out) != 0)
		rc = -errno;
	if (rc == 0 && out)
		out = fopen(svg, "w");
	if (rc == 0 && out) {
		chart(out, &p);
		if (fclose(out) != 0)
			rc = -errno;
	}
	if (rc < 0 || !out)
		fprintf(stderr, "shale-bench: cannot write %s and %s: %m\n", markdown, svg);
	for (unsigned i = 0; i < p.count; i++)
		json_decref(p.json[i]);
	return rc < 0 || !out ? -EIO : 0;
}
