/*
 * status.c - status and stats, read from the daemon's region without asking the daemon.
 *
 * With --db the region is opened by name, so both verbs work while the daemon hangs, and still show the last state of
 * one that was killed. Without it the handshake hands the region over, which needs a daemon that answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/park.h"
#include "shm/region.h"
#include "tools/shalectl/shalectl.h"

/* What status and stats show: copies, taken once. */
struct picture {
	struct region region;
	struct region_stats stats;
	uint32_t state;
	bool alive;    /* the daemon's process is there */
	double idle_s; /* since the service loop last said that it runs */
};

/* ---- getting at the region ---- */

static int region_by_directory(struct ctl *ctl, struct region *r, struct err_info *err)
{
	char instance[INSTANCE_LEN + 1];
	int fd = open(ctl->database, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0) {
		complain("%s: %m", ctl->database);
		return EXIT_FAILED;
	}
	rc = segment_instance(fd, instance);
	close(fd);
	if (rc == 0)
		rc = region_open(r, instance, err);
	if (rc == 0)
		return EXIT_OK;
	if (rc == -ENOENT) {
		complain("no shaled serves %s", ctl->database);
		return EXIT_NOT_RUNNING;
	}
	complain("%s", *err->text ? err->text : shale_strerror(rc));
	return EXIT_FAILED;
}

static int region_by_socket(struct ctl *ctl, struct region *r, struct err_info *err)
{
	struct hello hello = {
		.magic = HELLO_MAGIC,
		.size = sizeof(hello),
		.abi = SHM_ABI,
		.flags = HELLO_READ_ONLY,
		.fingerprint = layout_fingerprint(),
	};
	const char *path = ctl->socket ? ctl->socket : getenv("SHALE_SOCKET");
	struct welcome welcome;
	int fds[WELCOME_FDS], sock, rc;

	rc = handshake_connect(path && *path ? path : SHALE_DEFAULT_SOCKET, &hello, ctl->timeout_ms, &sock, &welcome,
			       fds, err);
	if (rc == 0) {
		rc = region_map(r, fds[1], err);
		for (int i = 0; i < WELCOME_FDS; i++)
			close(fds[i]);
		close(sock);
	}
	if (rc == 0)
		return EXIT_OK;
	complain("%s", *err->text ? err->text : shale_strerror(rc));
	if (rc == -ETIMEDOUT)
		complain("the daemon may hang; shalectl --db DIR status looks without asking it");
	return rc == -ENOENT || rc == -ECONNREFUSED ? EXIT_NOT_RUNNING : EXIT_FAILED;
}

static int take_picture(struct ctl *ctl, struct picture *p)
{
	struct err_info err = {0};
	uint64_t now, beat;
	int code = ctl->database ? region_by_directory(ctl, &p->region, &err) : region_by_socket(ctl, &p->region, &err);

	if (code != EXIT_OK)
		return code;
	if (region_read_stats(&p->region, &p->stats) < 0) {
		complain("the stats page is half written: the daemon died while it wrote");
		region_close(&p->region, false);
		return EXIT_FAILED;
	}
	now = monotonic_ns();
	/* Acquire: what the daemon wrote before it changed the state is seen with it. */
	p->state = atomic_load_explicit(&p->region.header->state, memory_order_acquire);
	beat = atomic_load_explicit(&p->region.header->heartbeat_ns, memory_order_relaxed);
	p->idle_s = now > beat ? (double)(now - beat) / 1e9 : 0;
	p->alive = kill((pid_t)p->region.header->daemon_pid, 0) == 0 || errno == EPERM;
	return EXIT_OK;
}

static const char *state_name(const struct picture *p)
{
	static const char *const names[] = {"starting", "serving", "stopping", "stopped", "failed"};

	if (!p->alive && p->state != REGION_STOPPED)
		return "dead";
	return p->state < ARRAY_SIZE(names) ? names[p->state] : "unknown";
}

static int picture_exit(const struct picture *p)
{
	return !p->alive || p->state == REGION_STOPPED ? EXIT_NOT_RUNNING
	       : p->state == REGION_FAILED	       ? EXIT_FAILED
						       : EXIT_OK;
}

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
	COUNTER("memory", memtable_bytes, BYTES),
	COUNTER("memory", immutable_memtables, COUNT),
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
	COUNTER("compaction", jobs_running, COUNT),
	COUNTER("compaction", jobs_failed, COUNT),
	COUNTER("files", last_sequence, COUNT),
	COUNTER("files", snapshots, COUNT),
	COUNTER("files", live_files, COUNT),
	COUNTER("files", live_bytes, BYTES),
	COUNTER("files", obsolete_files_waiting, COUNT),
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

/* ---- tables ---- */

/* Adds a row of @n cells; the table copies their text. */
static void add_row(struct libscols_table *t, const char *const *cells, size_t n)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);

	for (size_t i = 0; line && i < n; i++)
		scols_line_set_data(line, i, cells[i]);
}

static struct libscols_table *new_table(const char *const *columns, size_t n)
{
	struct libscols_table *t = scols_new_table();

	for (size_t i = 0; t && i < n; i++)
		scols_table_new_column(t, columns[i], 0, i ? SCOLS_FL_RIGHT : 0);
	return t;
}

static void finish_table(struct libscols_table *t)
{
	if (!t)
		return;
	putchar('\n');
	fflush(stdout);
	scols_print_table(t);
	scols_unref_table(t);
}

static void print_levels(const struct region_stats *s)
{
	static const char *const columns[] = {"LEVEL", "FILES",	  "SIZE",  "SCORE",  "COMPACTIONS",
					      "READ",  "WRITTEN", "MOVED", "SECONDS"};
	struct libscols_table *t = new_table(columns, ARRAY_SIZE(columns));
	char text[ARRAY_SIZE(columns)][32];
	const char *cells[ARRAY_SIZE(columns)];

	for (unsigned i = 0; t && i < REGION_LEVELS; i++) {
		const struct region_level *l = &s->level[i];

		if (!l->files && !l->compactions && !l->moved)
			continue;
		snprintf(text[0], 32, "%u", i);
		snprintf(text[1], 32, "%" PRIu64, l->files);
		size_text(l->bytes, text[2]);
		snprintf(text[3], 32, "%.2f", l->score);
		snprintf(text[4], 32, "%" PRIu64, l->compactions);
		size_text(l->bytes_read, text[5]);
		size_text(l->bytes_written, text[6]);
		snprintf(text[7], 32, "%" PRIu64, l->moved);
		snprintf(text[8], 32, "%.1f", (double)l->micros / 1e6);
		for (size_t k = 0; k < ARRAY_SIZE(cells); k++)
			cells[k] = text[k];
		add_row(t, cells, ARRAY_SIZE(cells));
	}
	if (t && scols_table_get_nlines(t) == 0) {
		scols_unref_table(t);
		return;
	}
	finish_table(t);
}

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
	char text[7][40];
	const char *cells[7];

	snprintf(text[0], 40, "%.*s", (int)sizeof(s->command), s->command);
	snprintf(text[1], 40, "%u", relaxed32(&s->pid));
	snprintf(text[2], 40, "%u", relaxed32(&s->uid));
	snprintf(text[3], 40, "%" PRIu64, relaxed(&s->operations));
	size_text(relaxed(&s->bytes_in), text[4]);
	size_text(relaxed(&s->bytes_out), text[5]);
	snprintf(text[6], 40, "%s", relaxed32(&s->state) ? "parked" : "active");
	for (size_t k = 0; k < 7; k++)
		cells[k] = text[k];
	add_row(arg, cells, 7);
}

static void print_sessions(const struct region *r)
{
	static const char *const columns[] = {"CLIENT", "PID", "UID", "OPERATIONS", "IN", "OUT", "STATE"};
	struct libscols_table *t = new_table(columns, ARRAY_SIZE(columns));

	if (t)
		for_sessions(r, session_row, t);
	finish_table(t);
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

static json_t *levels_json(const struct region_stats *s)
{
	json_t *levels = json_array();

	for (unsigned i = 0; i < REGION_LEVELS; i++) {
		const struct region_level *l = &s->level[i];

		json_array_append_new(levels, json_pack("{s:i,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:I}", "level", (int)i,
							"files", (json_int_t)l->files, "bytes", (json_int_t)l->bytes,
							"score", l->score, "compactions", (json_int_t)l->compactions,
							"bytes_read", (json_int_t)l->bytes_read, "bytes_written",
							(json_int_t)l->bytes_written, "moved", (json_int_t)l->moved,
							"micros", (json_int_t)l->micros));
	}
	return levels;
}

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
	print_levels(s);
}

int cmd_status(struct ctl *ctl)
{
	struct picture p = {0};
	int code = take_picture(ctl, &p), out;

	if (code != EXIT_OK)
		return code;
	if (ctl->json)
		print_json(status_json(&p));
	else
		print_status(&p);
	out = ctl_finish_output();
	code = out != EXIT_OK ? out : picture_exit(&p);
	region_close(&p.region, false);
	return code;
}

int cmd_stats(struct ctl *ctl)
{
	struct picture p = {0};
	int code = take_picture(ctl, &p), out;

	if (code != EXIT_OK)
		return code;
	if (ctl->json) {
		print_json(stats_json(&p));
	} else {
		print_status(&p);
		print_counters(&p.stats);
		print_sessions(&p.region);
		print_snapshots(&p.region);
	}
	out = ctl_finish_output();
	code = out != EXIT_OK ? out : picture_exit(&p);
	region_close(&p.region, false);
	return code;
}
