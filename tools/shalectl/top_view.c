/* top_view.c - what top shows, as lines of text that fit. */
#include <inttypes.h>
#include <stdarg.h>

#include "tools/shalectl/explain.h"
#include "tools/shalectl/top.h"

const char *const top_op_names[REGION_OPS] = {
	[REGION_OP_GET] = "get",    [REGION_OP_WRITE] = "write",       [REGION_OP_SYNC_WRITE] = "sync_write",
	[REGION_OP_SCAN] = "scan",  [REGION_OP_MULTIGET] = "multiget", [REGION_OP_JOB] = "job",
	[REGION_OP_OTHER] = "other"};
const char *const top_part_names[REGION_PARTS] = {[REGION_PART_READ] = "read",
						  [REGION_PART_STALL] = "stall",
						  [REGION_PART_SYNC] = "sync",
						  [REGION_PART_JOB] = "job"};

enum { LINE = 1024, BAR = 20 };

struct view {
	FILE *out;
	unsigned width, rows, used; /* 0: no limit */
	bool colour;
};

static bool is_full(const struct view *v)
{
	return v->rows && v->used >= v->rows;
}

/* How many bytes of @text make at most @width columns; every character of UTF-8 is taken for one. What would move the cursor becomes '?'. */
static size_t fitting(char *text, unsigned width)
{
	size_t n = 0;

	for (unsigned columns = 0; text[n]; n++) {
		unsigned char c = (unsigned char)text[n];

		if ((c & 0xc0) != 0x80 && width && ++columns > width)
			break;
		if (c < 0x20 || c == 0x7f)
			text[n] = '?';
	}
	return n;
}

/* @style: of ANSI's, as in "1;31"; NULL for none. */
static void line(struct view *v, const char *style, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void line(struct view *v, const char *style, const char *fmt, ...)
{
	char text[LINE];
	va_list ap;
	size_t n;

	if (is_full(v))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = fitting(text, v->width);
	while (n && text[n - 1] == ' ')
		n--;
	if (v->colour && style)
		fprintf(v->out, "\033[%sm%.*s\033[0m\n", style, (int)n, text);
	else
		fprintf(v->out, "%.*s\n", (int)n, text);
	v->used++;
}

static const char *const bold = "1", *const bad = "1;31", *const good = "32", *const heading = "7";

/* "12.3k" */
static const char *count_text(double n, char buf[32])
{
	static const char *const units[] = {"", "k", "M", "G"};
	unsigned u = 0;

	while (n >= 9999.5 && u + 1 < ARRAY_SIZE(units))
		n /= 1000, u++;
	snprintf(buf, 32, u ? "%.1f%s" : "%.0f%s", n, units[u]);
	return buf;
}

static const char *bar(double part, char buf[BAR + 3])
{
	unsigned full;

	part = part < 0 ? 0 : part > 1 ? 1 : part;
	full = (unsigned)(part * BAR + 0.5);
	buf[0] = '[';
	for (unsigned i = 0; i < BAR; i++)
		buf[1 + i] = i < full ? '#' : '.';
	buf[BAR + 1] = ']';
	buf[BAR + 2] = '\0';
	return buf;
}

static double part_of(uint64_t n, uint64_t whole)
{
	return whole ? (double)n / (double)whole : 0;
}

/* ---- the head ---- */

static void head(struct view *v, const struct top *t)
{
	static const char *const how[] = {
		[TOP_WELL] = "",
		[TOP_ASLEEP] = ": it sleeps, having no work",
		[TOP_STOPPED] = ": A SIGNAL STOPPED IT, NOBODY IS SERVED (kill -CONT)",
		[TOP_HANGS] = ": IT HANGS, THERE IS WORK",
		[TOP_GONE] = ": the daemon is gone; this is its last word",
	};
	const struct picture *p = &t->now;
	enum top_health health = top_health(t);
	bool ill = health != TOP_WELL && health != TOP_ASLEEP;
	char up[32], beat[32];

	line(v, ill || p->state == REGION_FAILED ? bad : bold, "shaled %s  %s  pid %u  up %s  %s",
	     p->region.header->version, state_name(p), p->region.header->daemon_pid,
	     time_text(p->stats.uptime_ns / 1000, up), p->region.header->database);
	line(v, ill ? bad : NULL, "heartbeat  %s ago%s", time_text((uint64_t)(p->idle_s * 1e6), beat), how[health]);
	if (*p->stats.last_error)
		line(v, bad, "error      %s", p->stats.last_error);
}

static void rates(struct view *v, const struct top *t)
{
	const struct region_stats *n = &t->now.stats, *b = &t->before;
	char x[7][32];

#define COUNT_OF(i, field) count_text(top_rate(t, n->field, b->field), x[i])
#define BYTES_OF(i, field) size_text((uint64_t)top_rate(t, n->field, b->field), x[i])
	line(v, NULL, "a second   %s gets (%s found)  %s writes (%s synced): %s puts, %s deletes  %s scans",
	     COUNT_OF(0, gets), COUNT_OF(1, gets_found), COUNT_OF(2, writes), COUNT_OF(3, write_batches_synced),
	     COUNT_OF(4, puts), COUNT_OF(5, deletes), COUNT_OF(6, scans));
	line(v, NULL, "           %s from clients, %s to them  %s to the log  tables: %s read, %s written",
	     BYTES_OF(0, bytes_written_by_clients), BYTES_OF(1, bytes_read_by_clients), BYTES_OF(2, wal_appended),
	     BYTES_OF(3, compaction_bytes_read), BYTES_OF(4, compaction_bytes_written));
#undef COUNT_OF
#undef BYTES_OF
}

static void latency(struct view *v, const char *what, const char *name, const struct histogram *now,
		    const struct histogram *before)
{
	struct histogram h = top_gained(now, before);
	uint64_t n = histogram_count(&h);
	char count[32], half[32], most[32], all[32];

	if (!n)
		return;
	line(v, NULL, "%-10s %-10s %8s times   half within %-9s 99 %% within %-9s 99.9 %% within %s", what, name,
	     count_text((double)n, count), time_text(histogram_quantile(&h, 0.5) / 1000, half),
	     time_text(histogram_quantile(&h, 0.99) / 1000, most),
	     time_text(histogram_quantile(&h, 0.999) / 1000, all));
}

static void latencies(struct view *v, const struct top *t)
{
	const struct region_stats *n = &t->now.stats, *b = &t->before;

	for (unsigned i = 0; i < REGION_OPS; i++)
		if (top_op_names[i])
			latency(v, "latency", top_op_names[i], &n->op_times[i], &b->op_times[i]);
	for (unsigned i = 0; i < REGION_PARTS; i++)
		latency(v, "waited for", top_part_names[i], &n->part_times[i], &b->part_times[i]);
}

static void stalls(struct view *v, const struct top *t)
{
	struct answer a;

	explain_writes(&t->now, &a);
	line(v, strcmp(a.cause, "none") != 0 ? bad : good, "writes     %s", a.text);
}

static void memory_and_space(struct view *v, const struct top *t)
{
	const struct region_stats *s = &t->now.stats, *b = &t->before;
	uint64_t room = s->settings.write_buffer * (1 + s->settings.max_immutables);
	uint64_t hits = s->block_cache_hits - b->block_cache_hits,
		 misses = s->block_cache_misses - b->block_cache_misses;
	char x[6][32], fill[BAR + 3];

	line(v, NULL, "memtables  %s %s of %s, %" PRIu64 " wait for their flush",
	     bar(part_of(s->memtable_bytes, room), fill), size_text(s->memtable_bytes, x[0]), size_text(room, x[1]),
	     s->immutable_memtables);
	if (s->wal_ring)
		line(v, NULL, "log        %s %s of %s not yet in its file",
		     bar(part_of(s->wal_appended - s->wal_drained, s->wal_ring), fill),
		     size_text(s->wal_appended - s->wal_drained, x[0]), size_text(s->wal_ring, x[1]));
	snprintf(x[2], 32, "%.1f %% hits", 100 * part_of(hits, hits + misses));
	line(v, NULL, "cache      %s %s of %s, %s", bar(part_of(s->block_cache_bytes, s->block_cache_capacity), fill),
	     size_text(s->block_cache_bytes, x[0]), size_text(s->block_cache_capacity, x[1]),
	     hits + misses ? x[2] : "not asked");
	line(v, NULL, "space      %s in %" PRIu64 " files, %s over their levels' targets%s%s%s%s",
	     size_text(s->live_bytes, x[0]), s->live_files, size_text(s->debt_bytes, x[1]),
	     s->disk_size ? "; disk " : "", s->disk_size ? size_text(s->disk_free, x[2]) : "",
	     s->disk_size ? " free of " : "", s->disk_size ? size_text(s->disk_size, x[3]) : "");
}

/* ---- tables ---- */

static void levels(struct view *v, const struct top *t)
{
	const struct region_stats *s = &t->now.stats, *b = &t->before;
	unsigned deepest = 0;

	for (unsigned i = 0; i < REGION_LEVELS; i++)
		deepest = s->level[i].files ? i : deepest;
	line(v, heading, "LEVEL   FILES       SIZE      TARGET  %-*s   READ/S  WRITTEN/S       BUSY", BAR + 7, "SCORE");
	for (unsigned i = 0; i <= deepest; i++) {
		const struct region_level *l = &s->level[i];
		char x[5][32], fill[BAR + 3];

		if (i == 0)
			snprintf(x[0], 32, "%" PRIu64 " files", s->settings.l0_compaction);
		else
			size_text(l->target_bytes, x[0]);
		line(v, NULL, "%-5u %7" PRIu64 " %10s %11s  %s %5.2f %9s %10s %10s", i, l->files,
		     size_text(l->bytes, x[1]), i == 0 || l->target_bytes ? x[0] : "none", bar(l->score, fill),
		     l->score, size_text((uint64_t)top_rate(t, l->bytes_read, b->level[i].bytes_read), x[2]),
		     size_text((uint64_t)top_rate(t, l->bytes_written, b->level[i].bytes_written), x[3]),
		     size_text(l->busy_bytes, x[4]));
	}
}

static void jobs(struct view *v, const struct top *t)
{
	const struct region_stats *s = &t->now.stats;

	line(v, heading, "JOB       KIND     REASON      LEVELS  %-*s  DONE    TIME    LEFT", BAR + 2, "PROGRESS");
	for (unsigned i = 0; i < s->jobs_listed && i < REGION_RUNNING; i++) {
		const struct region_job *j = &s->running[i];
		char fill[BAR + 3], took[32], left[32] = "?", where[16] = "";
		double part = job_done(j);

		if (j->kind == REGION_JOB_COMPACT || j->kind == REGION_JOB_MOVE)
			snprintf(where, sizeof(where), "%u > %u", j->level, j->output_level);
		if (j->left_us)
			time_text(j->left_us, left);
		line(v, NULL, "%-9" PRIu64 " %-8s %-11s %-7s %s %3.0f %%  %-7s %s", j->id, job_kind_name(j->kind),
		     job_reason(s, j), where, bar(part, fill), 100 * (part > 1 ? 1 : part), time_text(j->micros, took),
		     left);
	}
	if (!s->jobs_listed)
		line(v, NULL, "(none runs)");
}

static void clients(struct view *v, const struct top *t)
{
	line(v, heading,
	     "CLIENT               PID      USER         OPS/S       IN/S      OUT/S  IN FLIGHT  SNAPSHOTS  STATE");
	for (unsigned i = 0; i < t->count; i++) {
		const struct busy *b = &t->clients[i];
		char x[3][32];

		if (v->rows && v->used + 1 == v->rows && i + 1 < t->count) {
			line(v, NULL, "(and %u more)", t->count - i);
			return;
		}
		line(v, b->client.stopped || b->client.state == SESSION_STATE_CLOGGED ? bad : NULL,
		     "%-20.20s %-8u %-10.10s %7s %10s %10s %10" PRIu64 " %10u  %s", b->client.command, b->client.pid,
		     b->client.user, count_text(b->operations, x[0]), size_text((uint64_t)b->in, x[1]),
		     size_text((uint64_t)b->out, x[2]), b->client.in_flight, b->client.snapshots,
		     client_state(&b->client));
	}
	if (!t->count)
		line(v, NULL, "(none is connected)");
}

void top_view(const struct top *t, FILE *out, unsigned width, unsigned rows, bool colour)
{
	struct view v = {.out = out, .width = width, .rows = rows, .colour = colour};

	head(&v, t);
	rates(&v, t);
	stalls(&v, t);
	memory_and_space(&v, t);
	latencies(&v, t);
	line(&v, NULL, " ");
	levels(&v, t);
	line(&v, NULL, " ");
	jobs(&v, t);
	line(&v, NULL, " ");
	clients(&v, t);
}
