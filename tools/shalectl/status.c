/* status.c - the verbs status and stats, from one look at the daemon's region. */
#include <inttypes.h>

#include "shm/park.h"
#include "tools/shalectl/picture.h"

/* ---- the counters ---- */

enum unit { COUNT, BYTES, MICROS };

static const struct counter {
	const char *group, *name;
	size_t offset;
	enum unit unit;
} counters[] = {
#define COUNTER(group, field, unit)                                                                                    \
	{                                                                                                              \
		group, #field, offsetof(struct region_stats, field), unit                                              \
	}
	COUNTER("operations", gets, COUNT),
	COUNTER("operations", gets_found, COUNT),
	COUNTER("operations", writes, COUNT),
	COUNTER("operations", write_batches_synced, COUNT),
	COUNTER("operations", puts, COUNT),
	COUNTER("operations", deletes, COUNT),
	COUNTER("operations", scans, COUNT),
	COUNTER("operations", scan_entries, COUNT),
	COUNTER("operations", nops, COUNT),
	COUNTER("operations", bytes_written_by_clients, BYTES),
	COUNTER("operations", bytes_read_by_clients, BYTES),
	COUNTER("sessions", sessions, COUNT),
	COUNTER("sessions", sessions_ever, COUNT),
	COUNTER("sessions", sessions_parked, COUNT),
	COUNTER("sessions", sessions_broken, COUNT),
	COUNTER("sessions", protocol_errors, COUNT),
	COUNTER("log", groups, COUNT),
	COUNTER("log", wal_bytes, BYTES),
	COUNTER("log", wal_syncs, COUNT),
	COUNTER("log", log_number, COUNT),
	COUNTER("stalls", stall_slowdown_us, MICROS),
	COUNTER("stalls", stall_l0_us, MICROS),
	COUNTER("stalls", stall_memtable_us, MICROS),
	COUNTER("stalls", stall_log_us, MICROS),
	COUNTER("stalls", stalled_sessions, COUNT),
	COUNTER("memory", memtable_bytes, BYTES),
	COUNTER("memory", immutable_memtables, COUNT),
	COUNTER("memory", row_cache_bytes, BYTES),
	COUNTER("memory", row_cache_kept, COUNT),
	COUNTER("memory", row_cache_dropped, COUNT),
	COUNTER("memory", block_cache_bytes, BYTES),
	COUNTER("memory", block_cache_capacity, BYTES),
	COUNTER("memory", block_cache_hits, COUNT),
	COUNTER("memory", block_cache_misses, COUNT),
	COUNTER("memory", tables_open, COUNT),
	COUNTER("compaction", flushes, COUNT),
	COUNTER("compaction", flush_bytes, BYTES),
	COUNTER("compaction", compactions, COUNT),
	COUNTER("compaction", trivial_moves, COUNT),
	COUNTER("compaction", compaction_bytes_read, BYTES),
	COUNTER("compaction", compaction_bytes_written, BYTES),
	COUNTER("compaction", entries_dropped_shadowed, COUNT),
	COUNTER("compaction", entries_dropped_tombstone, COUNT),
	COUNTER("compaction", debt_bytes, BYTES),
	COUNTER("compaction", jobs_running, COUNT),
	COUNTER("compaction", jobs_failed, COUNT),
	COUNTER("files", last_sequence, COUNT),
	COUNTER("files", snapshots, COUNT),
	COUNTER("files", live_files, COUNT),
	COUNTER("files", live_bytes, BYTES),
	COUNTER("files", obsolete_files_waiting, COUNT),
	COUNTER("files", live_versions, COUNT),
	COUNTER("files", manifest_number, COUNT),
	COUNTER("recovery", recovered_log_bytes, BYTES),
	COUNTER("recovery", recovered_window_bytes, BYTES),
	COUNTER("recovery", recovery_us, MICROS),
#undef COUNTER
};

static uint64_t counter_value(const struct region_stats *s, const struct counter *c)
{
	uint64_t v;

	memcpy(&v, (const char *)s + c->offset, sizeof(v));
	return v;
}

static void print_counters(const struct region_stats *s)
{
	const char *group = "";
	char buf[32];

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		const struct counter *c = &counters[i];
		uint64_t v = counter_value(s, c);

		if (strcmp(group, c->group) != 0)
			printf("\n%s\n", group = c->group);
		printf("  %-26s %16" PRIu64, c->name, v);
		if (c->unit == BYTES && v >= 1024)
			printf("  %s", size_text(v, buf));
		if (c->unit == MICROS && v >= 1000)
			printf("  %.3f s", (double)v / 1e6);
		putchar('\n');
	}
}

/* ---- sessions ---- */

/* Calls @each for every session row that is in use. */
static void for_sessions(const struct region *r, void (*each)(const struct region_session *s, void *arg), void *arg)
{
	for (unsigned i = 0; i < REGION_SESSIONS; i++)
		if (atomic_load_explicit(&r->sessions[i].session, memory_order_acquire))
			each(&r->sessions[i], arg);
}

static uint64_t relaxed(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static uint32_t relaxed32(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void session_row(const struct region_session *s, void *arg)
{
	char text[7][CELL];

	snprintf(text[0], CELL, "%.*s", (int)sizeof(s->command), s->command);
	snprintf(text[1], CELL, "%u", relaxed32(&s->pid));
	snprintf(text[2], CELL, "%u", relaxed32(&s->uid));
	snprintf(text[3], CELL, "%" PRIu64, relaxed(&s->operations));
	size_text(relaxed(&s->bytes_in), text[4]);
	size_text(relaxed(&s->bytes_out), text[5]);
	snprintf(text[6], CELL, "%s", relaxed32(&s->state) ? "parked" : "active");
	table_row(arg, text, 7);
}

static void print_sessions(const struct region *r)
{
	static const char *const columns[] = {"CLIENT", "PID", "UID", "OPERATIONS", "IN", "OUT", "STATE"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), SIZE_MAX);

	if (t)
		for_sessions(r, session_row, t);
	putchar('\n');
	table_print(t);
}

static void print_snapshots(const struct region *r)
{
	uint64_t now = monotonic_ns();

	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++) {
		/* Acquire: the row was filled before its sequence was set. */
		uint64_t seq = atomic_load_explicit(&r->snapshots[i].sequence_plus_1, memory_order_acquire);

		if (seq)
			printf("snapshot %" PRIu64 " of session %" PRIx64 ", %.1f s old\n", seq - 1,
			       relaxed(&r->snapshots[i].session),
			       (double)(now - relaxed(&r->snapshots[i].taken_monotonic_ns)) / 1e9);
	}
}

/* ---- JSON ---- */

static void session_json(const struct region_session *s, void *arg)
{
	char command[sizeof(s->command) + 1] = {0};
	json_t *row;

	memcpy(command, s->command, sizeof(s->command));
	row = json_pack("{s:I,s:I,s:I,s:I,s:I,s:s}", "pid", (json_int_t)relaxed32(&s->pid), "uid",
			(json_int_t)relaxed32(&s->uid), "operations", (json_int_t)relaxed(&s->operations), "bytes_in",
			(json_int_t)relaxed(&s->bytes_in), "bytes_out", (json_int_t)relaxed(&s->bytes_out), "state",
			relaxed32(&s->state) ? "parked" : "active");
	json_set_bytes(row, "command", slice_str(command));
	json_array_append_new(arg, row);
}

static json_t *status_json(const struct picture *p)
{
	json_t *obj =
		json_pack("{s:s,s:I,s:s*,s:f,s:f,s:I,s:I,s:I,s:I,s:I}", "state", state_name(p), "pid",
			  (json_int_t)p->region.header->daemon_pid, "version", p->region.header->version, "uptime_s",
			  (double)p->stats.uptime_ns / 1e9, "heartbeat_age_s", p->idle_s, "last_sequence",
			  (json_int_t)relaxed(&p->region.header->last_sequence), "sessions",
			  (json_int_t)p->stats.sessions, "snapshots", (json_int_t)p->stats.snapshots, "live_files",
			  (json_int_t)p->stats.live_files, "live_bytes", (json_int_t)p->stats.live_bytes);

	json_set_bytes(obj, "database", slice_str(p->region.header->database));
	json_set_bytes(obj, "io", slice_str(p->stats.io_backend));
	json_set_bytes(obj, "last_error", slice_str(p->stats.last_error));
	json_object_set_new(obj, "levels", levels_json(&p->stats));
	return obj;
}

static json_t *stats_json(const struct picture *p)
{
	json_t *obj = status_json(p), *groups = json_object(), *sessions = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		json_t *group = json_object_get(groups, counters[i].group);

		if (!group)
			json_object_set_new(groups, counters[i].group, group = json_object());
		json_object_set_new(group, counters[i].name,
				    json_integer((json_int_t)counter_value(&p->stats, &counters[i])));
	}
	for_sessions(&p->region, session_json, sessions);
	json_object_set_new(obj, "counters", groups);
	json_object_set_new(obj, "clients", sessions);
	return obj;
}

/* ---- the verbs ---- */

static void print_status(const struct picture *p)
{
	const struct region_stats *s = &p->stats;
	char live[32], mem[32], used[32], cap[32];

	printf("state       %s, pid %u, up %.0f s\n", state_name(p), p->region.header->daemon_pid,
	       (double)s->uptime_ns / 1e9);
	printf("database    %s (%s in %" PRIu64 " files)\n", p->region.header->database, size_text(s->live_bytes, live),
	       s->live_files);
	printf("version     %s\n", p->region.header->version);
	printf("sequence    %" PRIu64 "\n", relaxed(&p->region.header->last_sequence));
	printf("clients     %" PRIu64 " sessions, %" PRIu64 " parked, %" PRIu64 " snapshots\n", s->sessions,
	       s->sessions_parked, s->snapshots);
	printf("memory      %s in memtables, %s of %s block cache\n", size_text(s->memtable_bytes, mem),
	       size_text(s->block_cache_bytes, used), size_text(s->block_cache_capacity, cap));
	printf("jobs        %" PRIu64 " running, %" PRIu64 " flushes, %" PRIu64 " compactions, %" PRIu64 " failed\n",
	       s->jobs_running, s->flushes, s->compactions, s->jobs_failed);
	printf("I/O         %s\n", s->io_backend);
	if (*s->last_error)
		printf("last error  %s\n", s->last_error);
	putchar('\n');
	print_levels(s);
}

int cmd_status(struct ctl *ctl)
{
	return show_picture(ctl, print_status, status_json);
}

static void print_stats(const struct picture *p)
{
	print_status(p);
	print_counters(&p->stats);
	print_sessions(&p->region);
	print_snapshots(&p->region);
}

int cmd_stats(struct ctl *ctl)
{
	return show_picture(ctl, print_stats, stats_json);
}
