/*
 * top.c - the verb top: looks, again and again, at the stats page and the session table, and shows what happened between two looks.
 *
 * The daemon is asked nothing, so this works while it hangs, and says so then. It publishes ten times a second while there is work and sleeps
 * without a heartbeat when there is none: an old heartbeat alone is no bad sign. Rates are taken between the times of the two pages, not of our looks. A
 * daemon that went may come back with another region; so a region whose daemon is gone is looked for anew.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/park.h"
#include "tools/shalectl/explain.h"
#include "tools/shalectl/top.h"

static const double HANGS_AFTER_S = 2, ASLEEP_AFTER_S = 1, STANDARD_INTERVAL_S = 1, ONCE_S = 0.5;

/* ---- looking ---- */

double top_rate(const struct top *t, uint64_t now, uint64_t before)
{
	return t->over_s > 0 && now > before ? (double)(now - before) / t->over_s : 0;
}

struct histogram top_gained(const struct histogram *now, const struct histogram *before)
{
	struct histogram gained = *now; /* the largest stays the largest ever: which one it was is not told */

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		gained.bucket[i] -= before->bucket[i] <= now->bucket[i] ? before->bucket[i] : 0;
	gained.sum_ns -= before->sum_ns <= now->sum_ns ? before->sum_ns : 0;
	return gained;
}

enum top_health top_health(const struct top *t)
{
	const struct picture *p = &t->now;

	if (!p->alive || p->state == REGION_STOPPED)
		return TOP_GONE;
	if (is_stopped(p->region.header->daemon_pid))
		return TOP_STOPPED;
	if (p->idle_s > HANGS_AFTER_S && (p->stats.jobs_running || p->stats.stalled_sessions))
		return TOP_HANGS;
	return p->idle_s > ASLEEP_AFTER_S ? TOP_ASLEEP : TOP_WELL;
}

static int busiest_first(const void *a, const void *b)
{
	const struct busy *x = a, *y = b;
	double bx = x->operations + (x->in + x->out) / 4096, by = y->operations + (y->in + y->out) / 4096;

	if (bx != by)
		return bx < by ? 1 : -1;
	return x->client.operations < y->client.operations ? 1 : x->client.operations > y->client.operations ? -1 : 0;
}

static void look_at_clients(struct top *t, double seconds)
{
	uint64_t now = monotonic_ns();

	t->count = 0;
	for (unsigned i = 0; i < REGION_SESSIONS; i++) {
		struct busy *b = &t->clients[t->count];
		struct client *was = &t->known[i];
		bool same;

		*b = (struct busy){0};
		if (!client_read(&t->now.region, i, now, &b->client)) {
			was->id = 0;
			continue;
		}
		same = was->id == b->client.id && seconds > 0;
		if (same) {
			b->operations = (double)(b->client.operations - was->operations) / seconds;
			b->in = (double)(b->client.bytes_in - was->bytes_in) / seconds;
			b->out = (double)(b->client.bytes_out - was->bytes_out) / seconds;
		}
		*was = b->client;
		t->count++;
	}
	qsort(t->clients, t->count, sizeof(*t->clients), busiest_first);
}

/* Quietly: whether there is a daemon again. */
static void look_for_successor(struct ctl *ctl, struct top *t)
{
	struct region r = {.segment.fd = -1};
	const char *path;

	if (ctl->database ? region_of_directory(ctl->database, &r, NULL) < 0
			  : ctl_where(ctl, &path) != EXIT_OK || !region_of_socket(path, &r))
		return;
	if (memcmp(r.header->boot_id, t->now.region.header->boot_id, sizeof(r.header->boot_id)) == 0) {
		region_close(&r, false);
		return;
	}
	region_close(&t->now.region, false);
	t->now.region = r;
	t->now.stats = (struct region_stats){0};
	memset(t->known, 0, REGION_SESSIONS * sizeof(*t->known));
}

static void look(struct ctl *ctl, struct top *t)
{
	uint64_t now;

	if (!t->now.alive || t->now.state == REGION_STOPPED)
		look_for_successor(ctl, t);
	t->before = t->now.stats;
	picture_refresh(&t->now); /* failing, it leaves the last page, which was published no time ago */
	now = monotonic_ns();
	t->over_s = t->before.published_monotonic_ns
			    ? (double)(t->now.stats.published_monotonic_ns - t->before.published_monotonic_ns) / 1e9
			    : 0;
	look_at_clients(t, t->looked_ns ? (double)(now - t->looked_ns) / 1e9 : 0);
	t->looked_ns = now;
}

static int top_open(struct ctl *ctl, struct top *t)
{
	int code;

	*t = (struct top){0};
	t->clients = calloc(REGION_SESSIONS, sizeof(*t->clients));
	t->known = calloc(REGION_SESSIONS, sizeof(*t->known));
	if (!t->clients || !t->known) {
		complain("no memory");
		return EXIT_FAILED;
	}
	code = take_picture(ctl, &t->now);
	if (code == EXIT_OK)
		look_at_clients(t, 0);
	t->looked_ns = monotonic_ns();
	return code;
}

static void top_close(struct top *t)
{
	if (t->now.region.header)
		region_close(&t->now.region, false);
	free(t->clients);
	free(t->known);
}

/* ---- JSON ---- */

static const char *health_name(const struct top *t)
{
	static const char *const names[] = {"well", "asleep", "stopped", "hangs", "gone"};

	return names[top_health(t)];
}

static json_t *times_json(const struct histogram *now, const struct histogram *before)
{
	struct histogram h = top_gained(now, before);
	uint64_t n = histogram_count(&h);

	return json_pack("{s:I,s:f,s:f,s:f,s:f}", "count", (json_int_t)n, "mean_s",
			 n ? (double)h.sum_ns / 1e9 / (double)n : 0, "p50_s", (double)histogram_quantile(&h, 0.5) / 1e9,
			 "p99_s", (double)histogram_quantile(&h, 0.99) / 1e9, "max_ever_s", (double)h.max_ns / 1e9);
}

static json_t *rates_json(const struct top *t)
{
	const struct region_stats *n = &t->now.stats, *b = &t->before;

#define RATE(field) top_rate(t, n->field, b->field)
	return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "gets", RATE(gets), "gets_found",
			 RATE(gets_found), "writes", RATE(writes), "writes_synced", RATE(write_batches_synced), "puts",
			 RATE(puts), "deletes", RATE(deletes), "scans", RATE(scans), "scan_entries", RATE(scan_entries),
			 "bytes_written_by_clients", RATE(bytes_written_by_clients), "bytes_read_by_clients",
			 RATE(bytes_read_by_clients), "wal_bytes", RATE(wal_appended), "compaction_bytes_read",
			 RATE(compaction_bytes_read), "compaction_bytes_written", RATE(compaction_bytes_written));
#undef RATE
}

static json_t *clients_json(const struct top *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->count; i++) {
		const struct busy *b = &t->clients[i];
		char id[17];
		json_t *row;

		snprintf(id, sizeof(id), "%llx", (unsigned long long)b->client.id);
		row = json_pack("{s:s,s:i,s:s,s:s,s:f,s:f,s:f,s:I,s:i}", "session", id, "pid", (int)b->client.pid,
				"user", b->client.user, "state", client_state(&b->client), "operations_per_s",
				b->operations, "bytes_in_per_s", b->in, "bytes_out_per_s", b->out, "in_flight",
				(json_int_t)b->client.in_flight, "snapshots", (int)b->client.snapshots);
		json_set_bytes(row, "command", slice_str(b->client.command));
		json_array_append_new(list, row);
	}
	return list;
}

static json_t *top_json(const struct top *t)
{
	const struct region_stats *s = &t->now.stats;
	json_t *obj = json_pack("{s:s,s:s,s:i,s:f,s:f,s:f}", "state", state_name(&t->now), "health", health_name(t),
				"pid", (int)t->now.region.header->daemon_pid, "uptime_s", (double)s->uptime_ns / 1e9,
				"heartbeat_age_s", t->now.idle_s, "over_s", t->over_s);
	json_t *times = json_object(), *parts = json_object();

	json_set_bytes(obj, "database", slice_str(t->now.region.header->database));
	json_object_set_new(obj, "per_second", rates_json(t));
	for (unsigned i = 0; i < REGION_OPS; i++)
		if (top_op_names[i])
			json_object_set_new(times, top_op_names[i],
					    times_json(&s->op_times[i], &t->before.op_times[i]));
	for (unsigned i = 0; i < REGION_PARTS; i++)
		json_object_set_new(parts, top_part_names[i], times_json(&s->part_times[i], &t->before.part_times[i]));
	json_object_set_new(obj, "latencies", times);
	json_object_set_new(obj, "waits", parts);
	json_object_set_new(obj, "memory",
			    json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "memtable_bytes", (json_int_t)s->memtable_bytes,
				      "immutable_memtables", (json_int_t)s->immutable_memtables, "block_cache_bytes",
				      (json_int_t)s->block_cache_bytes, "block_cache_capacity",
				      (json_int_t)s->block_cache_capacity, "block_cache_hits",
				      (json_int_t)s->block_cache_hits, "block_cache_misses",
				      (json_int_t)s->block_cache_misses));
	json_object_set_new(obj, "space",
			    json_pack("{s:I,s:I,s:I,s:I}", "live_bytes", (json_int_t)s->live_bytes, "debt_bytes",
				      (json_int_t)s->debt_bytes, "disk_free", (json_int_t)s->disk_free, "disk_size",
				      (json_int_t)s->disk_size));
	json_object_set_new(obj, "stalled_clients", json_integer((json_int_t)s->stalled_sessions));
	json_object_set_new(obj, "explain", explain_json(&t->now));
	json_object_set_new(obj, "levels", levels_json(s));
	json_object_set_new(obj, "jobs", jobs_json(&t->now));
	json_object_set_new(obj, "clients", clients_json(t));
	return obj;
}

/* ---- the verb ---- */

static void pause_until(uint64_t until_ns)
{
	uint64_t now = monotonic_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec wait = {(time_t)(left / 1000000000), (long)(left % 1000000000)};

	nanosleep(&wait, NULL);
}

static int print_looks(struct ctl *ctl, struct top *t, double interval_s, bool again)
{
	int code;

	do {
		if (top_health(t) != TOP_GONE || again)
			pause_until(t->looked_ns + (uint64_t)(interval_s * 1e9));
		look(ctl, t);
		if (ctl->json)
			print_json(top_json(t));
		else
			top_view(t, stdout, 0, 0, false);
		if (again && !ctl->json)
			putchar('\n');
		code = ctl_finish_output();
	} while (again && code == EXIT_OK);
	return code == EXIT_OK ? picture_exit(&t->now) : code;
}

static void draw(const struct top *t, bool colour)
{
	unsigned width, rows;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return;
	screen_size(&width, &rows);
	top_view(t, f, width, rows, colour);
	if (fclose(f) == 0)
		screen_show(text);
	free(text);
}

static int live(struct ctl *ctl, struct top *t, double interval_s)
{
	const char *no_color = getenv("NO_COLOR");
	bool colour = !no_color || !*no_color;
	enum screen_event event = SCREEN_TIME;
	int rc = screen_begin();

	if (rc < 0) {
		complain("the terminal: %s", shale_strerror(rc));
		return EXIT_FAILED;
	}
	/* The first rates come soon. */
	for (uint64_t next = t->looked_ns + (uint64_t)(ONCE_S * 1e9); event != SCREEN_QUIT;) {
		draw(t, colour);
		event = screen_wait(next);
		if (event != SCREEN_TIME)
			continue;
		look(ctl, t);
		next = t->looked_ns + (uint64_t)(interval_s * 1e9);
	}
	screen_end();
	return EXIT_OK;
}

int cmd_top(struct ctl *ctl)
{
	bool again = ctl->interval_s > 0 && !ctl->once;
	double interval_s = ctl->interval_s > 0 ? ctl->interval_s : ONCE_S;
	struct top t;
	int code = top_open(ctl, &t);

	if (code == EXIT_OK) {
		if (!ctl->json && !ctl->once && isatty(STDOUT_FILENO))
			code = live(ctl, &t, ctl->interval_s > 0 ? ctl->interval_s : STANDARD_INTERVAL_S);
		else
			code = print_looks(ctl, &t, interval_s, again);
	}
	top_close(&t);
	return code;
}
