/*
 * explain.c - one sentence each: why writes are slow now, and why space is not free; with the number and the setting.
 *
 * Everything comes from the stats page, the snapshot table and the session table. The causes are asked in the order in which they
 * hide each other: a daemon that does not run delays everything; who waits now tells more than what may make somebody wait.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "shm/error.h"
#include "shm/park.h"
#include "tools/shalectl/explain.h"

static void say(struct answer *a, const char *cause, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct answer *a, const char *cause, const char *fmt, ...)
{
	va_list ap;

	a->cause = cause;
	va_start(ap, fmt);
	vsnprintf(a->text, sizeof(a->text), fmt, ap);
	va_end(ap);
}

/* ---- writes ---- */

bool is_stopped(uint32_t pid)
{
	char path[64], line[512] = "";
	const char *after;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	after = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return after && after[1] == ' ' && (after[2] == 'T' || after[2] == 't');
}

/* Nobody serves, or nothing is accepted. False: it does not explain anything. */
static bool explain_daemon(const struct picture *p, struct answer *a)
{
	const struct region_stats *s = &p->stats;
	uint32_t pid = p->region.header->daemon_pid;

	if (!p->alive || p->state == REGION_STOPPED)
		say(a, "not-running",
		    "No write is taken because the daemon (pid %u) has ended; start shaled on %s again.", pid,
		    p->region.header->database);
	else if (p->state == REGION_FAILED)
		say(a, "failed", "No write is taken because an I/O error stopped the daemon: %.512s", s->last_error);
	else if (is_stopped(pid))
		say(a, "stopped",
		    "No write is taken because a signal stopped the daemon, last seen %.1f s ago; kill -CONT %u lets "
		    "it go on.",
		    p->idle_s, pid);
	else if (p->idle_s > 2 && (s->jobs_running || s->stalled_sessions))
		say(a, "hangs",
		    "No write is taken because the daemon's loop has not run for %.1f s although there is work.",
		    p->idle_s);
	else if (s->background_state)
		say(a, "background-halted",
		    "Writes wait, or soon will, because background work is halted: %s (%.400s).",
		    shale_strerror(-(int)s->background_state), s->last_error);
	else
		return false;
	return true;
}

/* What compactions of level 0 are doing about it. */
static const char *level0_job(const struct region_stats *s, char buf[160])
{
	char left[32], rate[32], limit[72] = "";

	if (s->settings.background_rate)
		snprintf(limit, sizeof(limit), ", at most %s a second (engine.background_rate)",
			 size_text(s->settings.background_rate, rate));

	for (unsigned i = 0; i < s->jobs_listed && i < REGION_RUNNING; i++) {
		const struct region_job *j = &s->running[i];

		if (j->kind != REGION_JOB_COMPACT || j->level != 0)
			continue;
		if (j->left_us)
			snprintf(buf, 160, "; job %" PRIu64 " moves it down and needs about %s more%s", j->id,
				 time_text(j->left_us, left), limit);
		else
			snprintf(buf, 160, "; job %" PRIu64 " moves it down%s", j->id, limit);
		return buf;
	}
	return "; no job moves it down now";
}

static void explain_stall(const struct region_stats *s, struct answer *a)
{
	const struct region_settings *set = &s->settings;
	char how[160], waited[32], size[32], job[160];

	time_text((monotonic_ns() - s->stall_since_ns) / 1000, waited);
	snprintf(how, sizeof(how), "Writes of %" PRIu64 " clients wait now, the first for %s, because",
		 s->stalled_sessions, waited);
	if (s->stall_why & DELAY_L0)
		say(a, "level0", "%s level 0 holds %" PRIu64 " files and stops them at %" PRIu64 " (engine.l0_stop)%s.",
		    how, s->level[0].files, set->l0_stop, level0_job(s, job));
	else if (s->stall_why & DELAY_MEMTABLE)
		say(a, "memtables",
		    "%s %" PRIu64 " full memtables of %s wait for their flush and there may be %" PRIu64
		    " (engine.max_immutables, engine.write_buffer).",
		    how, s->immutable_memtables, size_text(set->write_buffer, size), set->max_immutables);
	else if (s->stall_why & DELAY_LOG)
		say(a, "log",
		    "%s the log's window of %s (wal.ring) is full: the disk takes the log more slowly than it comes.",
		    how, size_text(set->wal_ring, size));
	else
		say(a, "slowdown",
		    "%s they are paced to %s a second (service.slowdown_rate): level 0 holds %" PRIu64
		    " files and paces them from %" PRIu64 " on (engine.l0_slowdown)%s.",
		    how, size_text(set->slowdown_rate, size), s->level[0].files, set->l0_slowdown, level0_job(s, job));
}

void explain_writes(const struct picture *p, struct answer *a)
{
	const struct region_stats *s = &p->stats;
	const uint64_t waited[] = {s->stall_l0_us, s->stall_memtable_us, s->stall_slowdown_us, s->stall_log_us};
	static const char *const what[] = {"level 0 at its stop limit (engine.l0_stop)",
					   "full memtables (engine.max_immutables)",
					   "pacing (engine.l0_slowdown, service.slowdown_rate)", "the log (wal.ring)"};
	char size[32], job[160], time[32];
	unsigned most = 0;

	if (explain_daemon(p, a))
		return;
	if (s->stalled_sessions) {
		explain_stall(s, a);
		return;
	}
	if (s->slowdown) {
		say(a, "slowdown",
		    "Writes are paced to %s a second (service.slowdown_rate) because level 0 holds %" PRIu64
		    " files, and from %" PRIu64 " on (engine.l0_slowdown) they are%s.",
		    size_text(s->settings.slowdown_rate, size), s->level[0].files, s->settings.l0_slowdown,
		    level0_job(s, job));
		return;
	}
	for (unsigned i = 1; i < ARRAY_SIZE(waited); i++)
		most = waited[i] > waited[most] ? i : most;
	if (waited[most])
		say(a, "none", "No write waits now; since the daemon started they waited longest for %s: %s in all.",
		    what[most], time_text(waited[most], time));
	else
		say(a, "none", "No write waits now, and none has waited since the daemon started.");
}

/* ---- space ---- */

struct holder {
	uint64_t sequence, session, taken_ns;
	uint32_t pid;
	char command[sizeof(((struct region_session *)0)->command) + 1];
};

/* The oldest pin that later writes lie behind, and whose it is. */
static bool oldest_snapshot(const struct region *r, struct holder *out)
{
	bool found = false;

	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++) {
		const struct region_snapshot *row = &r->snapshots[i];
		/* Acquire: the row was filled before its sequence was set. */
		uint64_t seq = atomic_load_explicit(&row->sequence_plus_1, memory_order_acquire);

		if (!seq || (found && seq - 1 >= out->sequence))
			continue;
		found = true;
		*out = (struct holder){.sequence = seq - 1,
				       .session = atomic_load_explicit(&row->session, memory_order_relaxed),
				       .taken_ns =
					       atomic_load_explicit(&row->taken_monotonic_ns, memory_order_relaxed)};
	}
	for (unsigned i = 0; found && i < REGION_SESSIONS; i++) {
		const struct region_session *row = &r->sessions[i];

		if (atomic_load_explicit(&row->session, memory_order_acquire) != out->session)
			continue;
		out->pid = atomic_load_explicit(&row->pid, memory_order_relaxed);
		memcpy(out->command, row->command, sizeof(row->command));
	}
	return found && atomic_load_explicit(&r->header->last_sequence, memory_order_relaxed) > out->sequence;
}

static unsigned most_over_target(const struct region_stats *s)
{
	unsigned most = 0;

	for (unsigned i = 1; i < REGION_LEVELS; i++)
		most = s->level[i].score > s->level[most].score ? i : most;
	return most;
}

static unsigned compactions(const struct region_stats *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->jobs_listed && i < REGION_RUNNING; i++)
		n += s->running[i].kind == REGION_JOB_COMPACT || s->running[i].kind == REGION_JOB_MOVE;
	return n;
}

static void explain_space(const struct picture *p, struct answer *a)
{
	const struct region_stats *s = &p->stats;
	uint64_t last = atomic_load_explicit(&p->region.header->last_sequence, memory_order_relaxed),
		 now = monotonic_ns();
	char live[32], debt[32], age[32];
	struct holder h = {0};
	uint64_t dead = 0;
	unsigned level;

	for (unsigned i = 0; i < REGION_LEVELS; i++)
		dead += s->level[i].dead_bytes;

	size_text(s->live_bytes, live);
	if (oldest_snapshot(&p->region, &h)) {
		time_text((now - h.taken_ns) / 1000, age);
		say(a, "snapshot",
		    "A snapshot of pid %u (%s), held for %s, keeps what %" PRIu64
		    " later writes replaced or deleted; it goes when that process releases it or ends.",
		    h.pid, h.command, age, last - h.sequence);
	} else if (s->obsolete_files_waiting) {
		say(a, "obsolete", "%" PRIu64 " obsolete files wait to be deleted%s.", s->obsolete_files_waiting,
		    s->background_state ? ", and background work is halted" : "");
	} else if (s->live_versions > 1) {
		say(a, "readers", "Reads or jobs that are under way hold the files of %" PRIu64 " older states.",
		    s->live_versions - 1);
	} else if (s->debt_bytes) {
		level = most_over_target(s);
		say(a, "debt",
		    "%s of %s lie above their levels' targets and have not been merged yet, most of all in level %u "
		    "(score %.2f); "
		    "compactions running: %u, on %" PRIu64 " workers (engine.compaction_workers).",
		    size_text(s->debt_bytes, debt), live, level, s->level[level].score, compactions(s),
		    s->settings.compaction_workers);
	} else if (dead > s->live_bytes / 10) {
		say(a, "tombstones",
		    "About %s of %s are deletions and what they or newer versions hide; a table is compacted for them "
		    "when they are "
		    "%" PRIu64 "%% of it (engine.tombstone_percent), and shalectl compact drops them now.",
		    size_text(dead, debt), live, s->settings.tombstone_percent);
	} else if (s->space_amplification > 1.1) {
		say(a, "not-compacted",
		    "Up to %s of the tables' %s may be replaced entries and deletions, the tables being %.2f times "
		    "their largest "
		    "sorted run, but every level is within its target (engine.level1_size), so no compaction is due; "
		    "shalectl "
		    "compact merges them now.",
		    size_text((uint64_t)((double)s->live_bytes * (1 - 1 / s->space_amplification)), debt), live,
		    s->space_amplification);
	} else {
		say(a, "none", "No space waits to be freed: the tables take %s, %.2f times their largest sorted run.",
		    live, s->space_amplification);
	}
}

/* ---- the verb ---- */

static void print_both(const struct picture *p)
{
	struct answer writes, space;

	explain_writes(p, &writes);
	explain_space(p, &space);
	puts(writes.text);
	puts(space.text);
}

json_t *explain_json(const struct picture *p)
{
	struct answer writes, space;

	explain_writes(p, &writes);
	explain_space(p, &space);
	return json_pack("{s:{s:s,s:s},s:{s:s,s:s}}", "writes", "cause", writes.cause, "text", writes.text, "space",
			 "cause", space.cause, "text", space.text);
}

int cmd_explain(struct ctl *ctl)
{
	return show_picture(ctl, print_both, explain_json);
}
