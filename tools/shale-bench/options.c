/*
 * options.c - the command line. Numbers take k, M and G (thousands, millions, thousand millions), --num a list of them.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "tools/shale-bench/bench.h"

static const struct driver *const drivers[] = {
	&shale_driver,	 &direct_driver, &leveldb_driver,
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

struct number_option {
	const char *name;
	size_t offset;
	uint64_t min, max;
	const char *help;
};

static const struct number_option numbers[] = {
	{"reads", offsetof(struct bench_options, reads), 0, UINT64_C(1) << 40,
	 "reads of the reading ones; default as many"},
	{"value_size", offsetof(struct bench_options, value_bytes), 0, 1 << 20, "bytes of a value; default 100"},
	{"batch", offsetof(struct bench_options, batch), 1, 100000, "keys per batch of fillbatch; default 1000"},
	{"procs", offsetof(struct bench_options, procs), 1, MAX_WORKERS, "client processes; default 1"},
	{"threads", offsetof(struct bench_options, threads), 1, MAX_WORKERS, "threads of each; default 1"},
	{"depth", offsetof(struct bench_options, depth), 1, 4096,
	 "operations in flight, where an engine can; default 1"},
	{"rounds", offsetof(struct bench_options, rounds), 1, MAX_ROUNDS, "times that all is done; default 1"},
	{"duration", offsetof(struct bench_options, duration), 0, 86400, "seconds of overwrite; default N writes"},
	{"write_buffer_size", offsetof(struct bench_options, write_buffer_bytes), 64 << 10, 1 << 30, "default 4194304"},
	{"cache_size", offsetof(struct bench_options, cache_bytes), 64 << 10, UINT64_C(1) << 40, "default 8388608"},
	{"bloom_bits", offsetof(struct bench_options, bloom_bits), 0, 40, "default 10"},
};

enum {
	OPT_NUMBER = 1000,
	OPT_NUM = 1,
	OPT_ENGINE,
	OPT_BENCHMARKS,
	OPT_DB,
	OPT_JSON,
	OPT_VERIFY,
	OPT_NO_COMPRESSION,
	OPT_AMPLIFICATION,
	OPT_RENDER,
	OPT_MARKDOWN,
	OPT_SVG,
	OPT_HELP
};

static void usage(FILE *out)
{
	fprintf(out, "usage: shale-bench [options]\n  --engine=LIST       of");
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		fprintf(out, "%s %s", i ? "," : "", drivers[i]->name);
	fprintf(out, "; default shale,leveldb\n"
		     "  --num=LIST          keys; default 1M\n"
		     "  --benchmarks=LIST   of those below\n"
		     "  --db=DIR            where databases go; default $TMPDIR or /tmp\n"
		     "  --json --verify --no-compression\n"
		     "  --render=FILE --markdown=FILE --svg=FILE   makes these two of the JSON lines in the first\n"
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

/* "5", "20k", "10M". */
static int to_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v, unit = 1;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (end != text && *end && !end[1])
		unit = *end == 'k' ? 1000 : *end == 'M' ? 1000000 : *end == 'G' ? 1000000000 : 0;
	else if (*end)
		unit = 0;
	if (errno || end == text || !unit || v > max / unit || v * unit < min)
		return bad("not a fitting number", text);
	*out = v * unit;
	return 0;
}

static int take_number(struct bench_options *o, const struct number_option *n, const char *text)
{
	uint64_t v;
	int rc = to_number(text, n->min, n->max, &v);

	if (rc == 0)
		memcpy((char *)o + n->offset, &v, sizeof(v));
	return rc;
}

static int take_nums(struct bench_plan *p, char *list)
{
	char *save, *word = strtok_r(list, ",", &save);
	int rc = 0;

	for (p->num_count = 0; word && rc == 0; word = strtok_r(NULL, ",", &save)) {
		if (p->num_count == MAX_NUMS)
			return bad("too many numbers", word);
		rc = to_number(word, 1, UINT64_C(1) << 40, &p->nums[p->num_count++]);
	}
	return rc == 0 && !p->num_count ? bad("no number", "--num") : rc;
}

static int take_engines(struct bench_plan *p, char *list)
{
	char *save, *word = strtok_r(list, ",", &save);

	for (p->engines = 0; word; word = strtok_r(NULL, ",", &save)) {
		const struct driver *found = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
			if (strcmp(drivers[i]->name, word) == 0)
				found = drivers[i];
		if (!found || p->engines == MAX_ENGINES)
			return bad("no such engine", word);
		p->engine[p->engines++] = found;
	}
	return p->engines ? 0 : bad("no engine", "--engine");
}

static int take_benchmarks(struct bench_plan *p, char *list)
{
	char *save, *word = strtok_r(list, ",", &save);

	for (p->benchmarks = 0; word; word = strtok_r(NULL, ",", &save)) {
		const struct benchmark *found = benchmark_find(word);

		if (!found || p->benchmarks == MAX_BENCHMARKS)
			return bad("no such benchmark", word);
		p->benchmark[p->benchmarks++] = found;
	}
	return p->benchmarks ? 0 : bad("no benchmark", "--benchmarks");
}

static int parse(struct bench_plan *p, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(numbers) + 13] = {
		{"num", required_argument, NULL, OPT_NUM},
		{"engine", required_argument, NULL, OPT_ENGINE},
		{"benchmarks", required_argument, NULL, OPT_BENCHMARKS},
		{"db", required_argument, NULL, OPT_DB},
		{"json", no_argument, NULL, OPT_JSON},
		{"verify", no_argument, NULL, OPT_VERIFY},
		{"no-compression", no_argument, NULL, OPT_NO_COMPRESSION},
		{"amplification", no_argument, NULL, OPT_AMPLIFICATION},
		{"render", required_argument, NULL, OPT_RENDER},
		{"markdown", required_argument, NULL, OPT_MARKDOWN},
		{"svg", required_argument, NULL, OPT_SVG},
		{"help", no_argument, NULL, OPT_HELP},
	};
	int letter, rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		longs[12 + i] = (struct option){numbers[i].name, required_argument, NULL, OPT_NUMBER + (int)i};
	while (rc == 0 && (letter = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (letter >= OPT_NUMBER)
			rc = take_number(&p->o, &numbers[letter - OPT_NUMBER], optarg);
		else if (letter == OPT_NUM)
			rc = take_nums(p, optarg);
		else if (letter == OPT_ENGINE)
			rc = take_engines(p, optarg);
		else if (letter == OPT_BENCHMARKS)
			rc = take_benchmarks(p, optarg);
		else if (letter == OPT_RENDER)
			p->render = optarg;
		else if (letter == OPT_MARKDOWN)
			p->markdown = optarg;
		else if (letter == OPT_SVG)
			p->svg = optarg;
		else if (letter == OPT_DB)
			p->o.folder = optarg;
		else if (letter == OPT_JSON)
			p->o.json = true;
		else if (letter == OPT_VERIFY)
			p->o.verify = true;
		else if (letter == OPT_NO_COMPRESSION)
			p->o.compress = false;
		else if (letter == OPT_AMPLIFICATION)
			p->o.amplification = true;
		else
			rc = letter == OPT_HELP ? 1 : -EINVAL;
	}
	if (rc == 0 && optind < argc)
		rc = bad("not an option", argv[optind]);
	if (rc == 0 && p->o.procs * p->o.threads > MAX_WORKERS)
		rc = bad("too many workers", "--procs times --threads");
	if (rc == 0 && p->render && (!p->markdown || !p->svg))
		rc = bad("where to, by --markdown=FILE and --svg=FILE", "--render");
	return rc;
}

int options_parse(struct bench_plan *p, int argc, char **argv)
{
	char standard[] =
		"fillseq,fillbatch,fillsync,fillrandom,overwrite,compact,readrandom,readseq,readreverse,seekrandom";
	int rc;

	*p = (struct bench_plan){
		.o = {.value_bytes = 100,
		      .batch = 1000,
		      .write_buffer_bytes = 4 << 20,
		      .cache_bytes = 8 << 20,
		      .bloom_bits = 10,
		      .procs = 1,
		      .threads = 1,
		      .depth = 1,
		      .rounds = 1,
		      .compress = true},
		.nums = {1000000},
		.num_count = 1,
		.engine = {&shale_driver, &leveldb_driver},
		.engines = 2,
	};
	take_benchmarks(p, standard);
	rc = parse(p, argc, argv);
	if (rc)
		usage(rc > 0 ? stdout : stderr);
	return rc;
}
