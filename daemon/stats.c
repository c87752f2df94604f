#include "daemon/stats.h"

#include <stdio.h>

#include "daemon/gauges.h"
#include "daemon/rows.h"
#include "engine/joblog.h"
#include "shm/error.h"

void stats_settings(struct service *svc)
{
	svc->stats.settings = (struct region_settings){
		.write_buffer = svc->config->write_buffer,
		.max_immutables = svc->config->max_immutables,
		.l0_compaction = svc->config->l0_compaction,
		.l0_slowdown = svc->config->l0_slowdown,
		.l0_stop = svc->config->l0_stop,
		.slowdown_rate = svc->config->slowdown_rate,
		.wal_ring = svc->config->wal_ring,
		.compaction_workers = config_workers(svc->config),
		.tombstone_percent = svc->config->tombstone_percent,
		.background_rate = svc->config->background_rate,
	};
	svc->stats_changed = true;
}

void stats_init(struct service *svc, const struct engine_recovery *recovery, const struct io_env *env)
{
	struct region_stats *st = &svc->stats;

	st->recovered_log_bytes = recovery->log_bytes;
	st->recovered_window_bytes = recovery->window_bytes;
	st->recovery_us = recovery->micros;
	st->block_cache_capacity = svc->config->block_cache;
	st->io_uring = !strcmp(env->backend, "io_uring");
	snprintf(st->io_backend, sizeof(st->io_backend), "%s%s%s", env->backend, *env->reason ? ": " : "", env->reason);
	stats_settings(svc);
	for (unsigned i = 0; i < REASON_COUNT; i++)
		snprintf(st->reason_names[i], sizeof(st->reason_names[i]), "%s",
			 compaction_reason_name((enum compaction_reason)i));
	svc->standing_error = recovery->damage.text;
	snprintf(st->last_error, sizeof(st->last_error), "%.*s", (int)sizeof(st->last_error) - 1, svc->standing_error);
	svc->stats_changed = true;
}

static struct region_job job_row(const struct job_record *r, uint64_t now_ns)
{
	uint64_t total = r->bytes[0] + r->bytes[1];
	struct region_job row = {
		.id = r->id,
		.kind = r->kind == JOB_LOG	    ? REGION_JOB_LOG
			: r->kind == JOB_FLUSH	    ? REGION_JOB_FLUSH
			: r->kind == JOB_DELETE	    ? REGION_JOB_DELETE
			: r->kind == JOB_CHECKPOINT ? REGION_JOB_CHECKPOINT
			: r->kind == JOB_CHECK	    ? REGION_JOB_CHECK
			: r->trivial		    ? REGION_JOB_MOVE
						    : REGION_JOB_COMPACT,
		.reason = r->reason,
		.level = r->level,
		.output_level = r->output_level,
		.files = {r->files[0], r->files[1]},
		.bytes = {r->bytes[0], r->bytes[1]},
		.bytes_done = r->done,
		.begin_monotonic_ns = r->begin_ns,
		.micros = r->micros,
		.bytes_read = r->bytes_read,
		.bytes_written = r->bytes_written,
		.entries_in = r->entries_in,
		.dropped_shadowed = r->dropped_shadowed,
		.dropped_tombstone = r->dropped_tombstone,
		.result = r->result,
	};

	if (now_ns > r->begin_ns) { /* it runs */
		row.micros = (now_ns - r->begin_ns) / 1000;
		if (r->done)
			row.left_us = (uint64_t)((double)row.micros * (double)(total - r->done) / (double)r->done);
	}
	return row;
}

/* A line for a flush or a compaction, as people look for in LOG; failures were told by the engine. */
static void log_job(const struct job_record *r)
{
	const struct log_about about = {.job = r->id};

	if (r->kind == JOB_FLUSH)
		log_event(&about, LOG_INFO,
			  "job %llu: flushed %llu KiB of memtable into %llu KiB of level %u in %llu ms",
			  (unsigned long long)r->id, (unsigned long long)(r->bytes[0] >> 10),
			  (unsigned long long)(r->bytes_written >> 10), r->output_level,
			  (unsigned long long)(r->micros / 1000));
	else if (r->kind == JOB_COMPACT && r->trivial)
		log_event(&about, LOG_INFO, "job %llu: moved %llu table%s (%llu KiB) from level %u to %u (%s)",
			  (unsigned long long)r->id, (unsigned long long)r->files[0], r->files[0] == 1 ? "" : "s",
			  (unsigned long long)(r->bytes[0] >> 10), r->level, r->output_level,
			  compaction_reason_name(r->reason));
	else if (r->kind == JOB_COMPACT)
		log_event(&about, LOG_INFO,
			  "job %llu: compacted %llu + %llu tables of levels %u + %u (%llu KiB) into %llu KiB in %llu "
			  "ms (%s)",
			  (unsigned long long)r->id, (unsigned long long)r->files[0], (unsigned long long)r->files[1],
			  r->level, r->output_level, (unsigned long long)((r->bytes[0] + r->bytes[1]) >> 10),
			  (unsigned long long)(r->bytes_written >> 10), (unsigned long long)(r->micros / 1000),
			  compaction_reason_name(r->reason));
}

static void tell_failure(struct service *svc, const struct job_record *r)
{
	const char *what = r->kind == JOB_LOG	   ? "preparing the next log"
			   : r->kind == JOB_FLUSH  ? "a flush"
			   : r->kind == JOB_DELETE ? "a deletion of old files"
						   : "background work";

	if (r->kind == JOB_COMPACT)
		event_tell(&svc->events, REGION_EVENT_JOB_FAILED, LOG_ERR,
			   "job %llu: a compaction of levels %u and %u failed: %s", (unsigned long long)r->id, r->level,
			   r->output_level, shale_strerror(r->result));
	else
		event_tell(&svc->events, REGION_EVENT_JOB_FAILED, LOG_ERR, "job %llu: %s failed: %s",
			   (unsigned long long)r->id, what, shale_strerror(r->result));
}

/* @last: newest first. */
static void log_jobs(struct service *svc, const struct job_record last[JOBLOG_KEEP])
{
	unsigned n = 0;

	while (n < JOBLOG_KEEP && last[n].id && last[n].id != svc->job_told)
		n++;
	svc->job_told = last[0].id;
	while (n--) {
		if (last[n].result >= 0)
			log_job(&last[n]);
		else if (last[n].result != -ECANCELED)
			tell_failure(svc, &last[n]);
	}
}

static void fill_jobs(struct service *svc, const struct engine_stats *es)
{
	struct region_stats *st = &svc->stats;
	struct job_record running[REGION_RUNNING], last[JOBLOG_KEEP];
	unsigned count;

	if (es->jobs_ever == svc->jobs_seen && !es->jobs_running && !st->jobs_listed)
		return;
	svc->jobs_seen = es->jobs_ever;
	count = engine_jobs(svc->engine, running, REGION_RUNNING, last);
	log_jobs(svc, last);
	st->jobs_listed = min_size(count, REGION_RUNNING);
	for (unsigned i = 0; i < REGION_RUNNING; i++)
		st->running[i] = i < st->jobs_listed ? job_row(&running[i], monotonic_ns()) : (struct region_job){0};
	for (unsigned i = 0; i < REGION_LAST_JOBS; i++)
		st->last_jobs[i] = last[i].id ? job_row(&last[i], 0) : (struct region_job){0};
}
static_assert((int)JOBLOG_KEEP == (int)REGION_LAST_JOBS, "the stats page has a row for each ended job");
static_assert((int)REASON_COUNT <= (int)REGION_REASONS, "the stats page has room for each reason");

/* Who waits, and for what. */
static void fill_stalls(struct service *svc)
{
	struct region_stats *st = &svc->stats;
	int state = engine_state(svc->engine, NULL);

	st->stalled_sessions = 0;
	for (struct list *l = svc->stalled.next; l != &svc->stalled; l = l->next)
		st->stalled_sessions++;
	st->stall_why = st->stalled_sessions ? svc->stall_why : 0;
	st->stall_since_ns = st->stalled_sessions ? svc->stall_since_ns : 0;
	st->slowdown = engine_slowdown(svc->engine);
	st->background_state = state < 0 ? (uint64_t)-state : 0;
}

static void fill_engine(struct region_stats *st, const struct engine_stats *es)
{
	st->last_sequence = es->last_sequence;
	st->memtable_bytes = es->memtable_bytes;
	st->immutable_memtables = es->immutables;
	st->snapshots = es->snapshots;
	st->flushes = es->flushes;
	st->flush_bytes = es->flush_bytes;
	st->compactions = es->compactions;
	st->trivial_moves = es->trivial_moves;
	st->compaction_bytes_read = es->compaction_bytes_read;
	st->compaction_bytes_written = es->compaction_bytes_written;
	st->entries_dropped_shadowed = es->dropped_shadowed;
	st->entries_dropped_tombstone = es->dropped_tombstone;
	st->jobs_running = es->jobs_running;
	st->jobs_failed = es->jobs_failed;
	st->wal_bytes = es->wal_bytes;
	st->wal_syncs = es->wal_syncs;
	st->wal_appended = es->wal_appended;
	st->wal_drained = es->wal_drained;
	st->wal_synced = es->wal_synced;
	st->wal_ring = es->wal_ring;
	st->wal_sync_times = es->wal_sync_times;
	st->log_number = es->log_number;
	st->manifest_number = es->manifest_number;
	st->live_files = es->live_files;
	st->live_bytes = es->live_bytes;
	st->obsolete_files_waiting = es->obsolete_waiting;
	st->tables_open = es->tables_open;
	st->block_cache_bytes = es->cache.bytes;
	st->block_cache_hits = es->cache.hits;
	st->block_cache_misses = es->cache.misses;
	st->live_versions = es->live_versions;
	st->debt_bytes = es->debt_bytes;
	st->write_amplification = es->write_amplification;
	st->space_amplification = es->space_amplification;
	st->manual = (struct region_manual){
		.requests = es->manual.requests,
		.level = es->manual.level,
		.last_level = es->manual.last_level,
		.pieces = es->manual.pieces,
		.bytes_done = es->manual.bytes_done,
		.bytes_total = es->manual.bytes_total,
	};
	for (unsigned i = 0; i < LEVELS; i++) {
		const struct engine_level_stats *from = &es->level[i];

		st->level[i] = (struct region_level){
			.files = from->files,
			.bytes = from->bytes,
			.compactions = from->compactions,
			.bytes_read = from->bytes_read,
			.bytes_written = from->bytes_written,
			.micros = from->micros,
			.moved = from->moved,
			.score = from->score,
			.target_bytes = from->target_bytes,
			.busy_files = from->busy_files,
			.busy_bytes = from->busy_bytes,
			.entries_in = from->entries_in,
			.dropped_shadowed = from->dropped_shadowed,
			.dropped_tombstone = from->dropped_tombstone,
			.dead_bytes = from->dead_bytes,
		};
		memcpy(st->level[i].by_reason, from->by_reason, sizeof(from->by_reason));
	}
}
static_assert((int)LEVELS == (int)REGION_LEVELS, "the stats page has a row for each level");

static void fill_rows(struct region_stats *st, const struct row_cache *rows)
{
	st->row_cache_bytes = rows->arena_size;
	st->row_cache_kept = rows->kept;
	st->row_cache_dropped = rows->dropped;
}

void stats_publish(struct service *svc)
{
	struct engine_stats es;

	engine_stats(svc->engine, &es);
	fill_engine(&svc->stats, &es);
	fill_jobs(svc, &es);
	fill_stalls(svc);
	if (svc->rows)
		fill_rows(&svc->stats, &svc->rows->cache);
	gauges_fill(svc->gauges, svc->now_ns, &svc->stats);
	for (unsigned i = 0; i < REGION_REFUSALS; i++)
		svc->stats.refused[i] = atomic_load_explicit(&svc->refused[i], memory_order_relaxed);
	svc->stats.sessions = svc->session_count;
	svc->stats.sessions_parked = svc->session_count - svc->active_count;
	svc->stats.published_monotonic_ns = svc->now_ns;
	svc->stats.uptime_ns = svc->now_ns - svc->started_ns;
	region_publish_stats(svc->region, &svc->stats);
	/* Relaxed: a reader wants to know that we live, no more. */
	atomic_store_explicit(&svc->region->header->heartbeat_ns, svc->now_ns, memory_order_relaxed);
	for (struct list *l = svc->active.next; l != &svc->active; l = l->next)
		stats_session(svc, container_of(l, struct session, link));
	svc->stats_ns = svc->now_ns;
	svc->stats_changed = false;
}

void stats_session(struct service *svc, const struct session *s)
{
	struct region_session *row;

	if (s->row < 0)
		return;
	row = &svc->region->sessions[s->row];
	/* Relaxed: readers tolerate a torn row. */
	atomic_store_explicit(&row->operations, s->operations, memory_order_relaxed);
	atomic_store_explicit(&row->bytes_in, s->bytes_in, memory_order_relaxed);
	atomic_store_explicit(&row->bytes_out, s->bytes_out, memory_order_relaxed);
	atomic_store_explicit(&row->snapshots, s->pinned, memory_order_relaxed);
	atomic_store_explicit(&row->state,
			      s->clogged  ? SESSION_STATE_CLOGGED
			      : s->parked ? SESSION_STATE_IDLE
					  : SESSION_STATE_ACTIVE,
			      memory_order_relaxed);
	atomic_store_explicit(&row->active_monotonic_ns, s->busy_ns, memory_order_relaxed);
	atomic_store_explicit(&row->in_flight, s->ring.in_flight, memory_order_relaxed);
	atomic_store_explicit(&row->bytes_held, s->held + s->room_used, memory_order_relaxed);
	atomic_store_explicit(&row->throttled_us, s->throttled_us, memory_order_relaxed);
	atomic_store_explicit(&row->channel_bytes, s->channel.size, memory_order_relaxed);
	atomic_store_explicit(&row->ousted, s->ousted, memory_order_relaxed);
}
