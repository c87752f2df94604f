/*
 * metrics.c - the stats page as OpenMetrics, for whatever collects them; from the region alone, so that they come while the daemon hangs.
 *
 * One table makes the simple families: rows of the same name are one family, whose head comes with its first row. Histograms are shown with a bound for each power
 * of two, every second one of those that the page has. Each sample carries the label db, so that several daemons of a machine go into one collector.
 *
 * With --text the older text format of Prometheus, which node_exporter's textfile collector reads: there a counter's family has its suffix in its name, and
 * there are no units, infos and sets of states.
 */
#include <inttypes.h>

#include "shm/park.h"
#include "tools/shalectl/metrics.h"

static const char *const type_names[] = {"counter", "gauge", "histogram", "info", "stateset"};

static void print_head(const struct metrics *m, const char *name, enum metric_type type, const char *help)
{
	const char *suffix = m->text && type == METRIC_COUNTER ? "_total"
			     : m->text && type == METRIC_INFO  ? "_info"
							       : "";
	const char *type_name = type_names[m->text && type > METRIC_HISTOGRAM ? METRIC_GAUGE : type];
	size_t n = strlen(name);

	printf("# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix, type_name);
	if (m->text)
		return;
	for (const char *const *unit = (const char *const[]){"seconds", "bytes", NULL}; *unit; unit++)
		if (n > strlen(*unit) && strcmp(name + n - strlen(*unit), *unit) == 0)
			printf("# UNIT %s %s\n", name, *unit);
}

static void print_sample(const struct metrics *m, const char *name, const char *suffix, const char *label,
			 const char *value, double number)
{
	printf("%s%s{db=\"%s\"", name, suffix, m->db);
	if (label)
		printf(",%s=\"%s\"", label, value);
	printf("} %.15g\n", number);
}

/* ---- the families of the table ---- */

static double row_value(const struct region_stats *s, const struct metric_row *row)
{
	uint64_t v;
	double d;

	if (row->scale == SCALE_DOUBLE) {
		memcpy(&d, (const char *)s + row->offset, sizeof(d));
		return d;
	}
	memcpy(&v, (const char *)s + row->offset, sizeof(v));
	return row->scale == SCALE_MICROS ? (double)v / 1e6 : row->scale == SCALE_NANOS ? (double)v / 1e9 : (double)v;
}

static void print_rows(const struct metrics *m, const struct region_stats *s)
{
	const char *before = "";

	for (size_t i = 0; i < metric_row_count; i++) {
		const struct metric_row *row = &metric_rows[i];
		const char *suffix = row->type == METRIC_COUNTER ? "_total" : "";
		char level[4];

		if (strcmp(before, row->name) != 0)
			print_head(m, before = row->name, row->type, row->help);
		if (row->known_if && !row_value(s, &(struct metric_row){.offset = row->known_if}))
			continue;
		if (!row->per_level) {
			print_sample(m, row->name, suffix, row->label, row->value, row_value(s, row));
			continue;
		}
		for (unsigned l = 0; l < REGION_LEVELS; l++) {
			struct metric_row of_level = *row;

			of_level.offset += offsetof(struct region_stats, level) + l * sizeof(struct region_level);
			snprintf(level, sizeof(level), "%u", l);
			print_sample(m, row->name, suffix, "level", level, row_value(s, &of_level));
		}
	}
}

/* ---- histograms ---- */

enum { LE_FIRST = 9, LE_LAST = 36 }; /* bounds: 512 ns to 69 s */

static void print_histogram(const struct metrics *m, const char *name, const char *label, const char *value,
			    const struct histogram *h)
{
	char labels[64] = "";
	uint64_t below = 0;
	unsigned b = 0;

	if (label)
		snprintf(labels, sizeof(labels), ",%s=\"%s\"", label, value);
	for (unsigned log2 = LE_FIRST; log2 <= LE_LAST; log2++) {
		for (; histogram_end(b) <= UINT64_C(1) << log2; b++)
			below += h->bucket[b];
		printf("%s_bucket{db=\"%s\"%s,le=\"%.10g\"} %" PRIu64 "\n", name, m->db, labels,
		       (double)(UINT64_C(1) << log2) / 1e9, below);
	}
	printf("%s_bucket{db=\"%s\"%s,le=\"+Inf\"} %" PRIu64 "\n", name, m->db, labels, histogram_count(h));
	printf("%s_sum{db=\"%s\"%s} %.15g\n", name, m->db, labels, (double)h->sum_ns / 1e9);
	printf("%s_count{db=\"%s\"%s} %" PRIu64 "\n", name, m->db, labels, histogram_count(h));
}

static void print_histograms(const struct metrics *m, const struct region_stats *s)
{
	static const char *const ops[] = {"get", "write", "sync_write", "scan", "multiget", "job", "other"};
	static const char *const parts[] = {"read", "stall", "sync", "job"};

	static_assert(ARRAY_SIZE(ops) <= REGION_OPS && ARRAY_SIZE(parts) == REGION_PARTS, "a name for each row");
	print_head(m, "shale_operation_duration_seconds", METRIC_HISTOGRAM,
		   "From being taken from the ring to the answer. Without waiting: the length of that pass, an upper "
		   "bound.");
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		print_histogram(m, "shale_operation_duration_seconds", "operation", ops[i], &s->op_times[i]);
	print_head(m, "shale_operation_failures", METRIC_COUNTER, "Answered with an error code.");
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		print_sample(m, "shale_operation_failures", "_total", "operation", ops[i], (double)s->failed[i]);
	print_head(m, "shale_wait_seconds", METRIC_HISTOGRAM,
		   "What requests waited for: block reads, a place in line (stall), the fdatasync that covers them, a "
		   "background job.");
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		print_histogram(m, "shale_wait_seconds", "part", parts[i], &s->part_times[i]);
	print_head(m, "shale_wal_sync_duration_seconds", METRIC_HISTOGRAM, "Each fdatasync of the log by itself.");
	print_histogram(m, "shale_wal_sync_duration_seconds", NULL, NULL, &s->wal_sync_times);
	print_head(
		m, "shale_service_pass_duration_seconds", METRIC_HISTOGRAM,
		"Passes of the service loop that had something to do: what one request can keep another waiting for.");
	print_histogram(m, "shale_service_pass_duration_seconds", NULL, NULL, &s->pass_times);
}

/* ---- what is not on the stats page ---- */

static void print_one(const struct metrics *m, const char *name, enum metric_type type, const char *help, double value)
{
	print_head(m, name, type, help);
	print_sample(m, name, type == METRIC_COUNTER ? "_total" : "", NULL, NULL, value);
}

static void print_state(const struct metrics *m, const struct picture *p)
{
	static const char *const states[] = {"starting", "serving", "stopping", "stopped", "failed", "dead"};
	const struct region_header *h = p->region.header;
	uint64_t now = monotonic_ns(), since = p->stats.stall_since_ns;
	char version[sizeof(h->version)];

	metrics_label(version, sizeof(version), h->version, sizeof(h->version));
	print_head(m, "shale_build", METRIC_INFO, "The daemon's release and the way in which it does I/O.");
	printf("shale_build_info{db=\"%s\",version=\"%s\",io=\"%s\"} 1\n", m->db, version,
	       p->stats.io_uring ? "io_uring" : "posix");
	print_one(m, "shale_up", METRIC_GAUGE, "1: the daemon runs and serves.", strcmp(state_name(p), "serving") == 0);
	print_head(m, "shale_state", METRIC_STATESET, "What the daemon is doing; dead: it was killed.");
	for (unsigned i = 0; i < ARRAY_SIZE(states); i++)
		print_sample(m, "shale_state", "", "shale_state", states[i], strcmp(state_name(p), states[i]) == 0);
	print_one(m, "shale_start_time_seconds", METRIC_GAUGE, "When the daemon started, in seconds since 1970.",
		  (double)h->started_realtime_ns / 1e9);
	print_one(m, "shale_heartbeat_age_seconds", METRIC_GAUGE,
		  "Since the service loop last said that it runs. It says nothing while nobody asks for anything.",
		  p->idle_s);
	print_one(m, "shale_stalled_seconds", METRIC_GAUGE,
		  "How long the write that has waited for longest has waited; 0: none waits.",
		  since && now > since && p->alive ? (double)(now - since) / 1e9 : 0);
	print_one(m, "shale_wal_window_used_bytes", METRIC_GAUGE, "Acknowledged and not in the log's file yet.",
		  (double)(p->stats.wal_appended - p->stats.wal_drained));
	print_one(m, "shale_wal_unsynced_bytes", METRIC_GAUGE, "Acknowledged and not on the disk yet.",
		  p->stats.wal_appended > p->stats.wal_synced ? (double)(p->stats.wal_appended - p->stats.wal_synced)
							      : 0);
	print_one(m, "shale_events", METRIC_COUNTER, "Events told of; shalectl events shows the last ones.",
		  (double)region_newest_event(&p->region));
}

void metrics_label(char *buf, size_t cap, const char *text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < size && text[i] && used + 3 < cap; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\\' || c == '"' || c == '\n') {
			buf[used++] = '\\';
			buf[used++] = c == '\n' ? 'n' : (char)c;
		} else {
			buf[used++] = (char)c;
		}
	}
	buf[used] = '\0';
}

static void print_metrics(struct ctl *ctl, const struct picture *p)
{
	struct metrics m = {.text = ctl->text};
	const char *path = p->region.header->database;
	size_t size = strnlen(path, sizeof(p->region.header->database));
	/* The format is UTF-8; a path need not be. */
	json_t *checked = json_stringn(path, size);

	metrics_label(m.db, sizeof(m.db), checked ? path : "(not UTF-8)", size);
	json_decref(checked);
	print_state(&m, p);
	print_rows(&m, &p->stats);
	print_histograms(&m, &p->stats);
	if (!m.text)
		puts("# EOF");
}

int cmd_metrics(struct ctl *ctl)
{
	struct picture p = {0};
	int code;

	if (ctl->json) {
		complain("metrics have a format of their own; shalectl stats --json has the same numbers");
		return EXIT_USAGE;
	}
	code = take_picture(ctl, &p);
	if (code != EXIT_OK)
		return code;
	print_metrics(ctl, &p);
	code = ctl_finish_output();
	region_close(&p.region, false);
	return code; /* also of a daemon that is dead: shale_up says so */
}
