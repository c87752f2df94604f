#include "daemon/stats.h"

#include <stdio.h>

void stats_init(struct service *svc, const struct engine_recovery *recovery, const struct io_env *env)
{
	struct region_stats *st = &svc->stats;

	st->recovered_log_bytes = recovery->log_bytes;
	st->recovered_window_bytes = recovery->window_bytes;
	st->recovery_us = recovery->micros;
	st->block_cache_capacity = svc->config->block_cache;
	st->io_uring = !strcmp(env->backend, "io_uring");
	snprintf(st->io_backend, sizeof(st->io_backend), "%s%s%s", env->backend, *env->reason ? ": " : "", env->reason);
	svc->stats_changed = true;
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
	st->log_number = es->log_number;
	st->manifest_number = es->manifest_number;
	st->live_files = es->live_files;
	st->live_bytes = es->live_bytes;
	st->obsolete_files_waiting = es->obsolete_waiting;
	st->tables_open = es->tables_open;
	st->block_cache_bytes = es->cache.bytes;
	st->block_cache_hits = es->cache.hits;
	st->block_cache_misses = es->cache.misses;
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
		};
	}
}
static_assert((int)LEVELS == (int)REGION_LEVELS, "the stats page has a row for each level");

void stats_publish(struct service *svc)
{
	struct engine_stats es;

	engine_stats(svc->engine, &es);
	fill_engine(&svc->stats, &es);
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
	atomic_store_explicit(&row->snapshots, s->snapshot_count, memory_order_relaxed);
	atomic_store_explicit(&row->state, s->parked, memory_order_relaxed);
}
