/* metrics_table.c - which number of the stats page is which metric. Names are for ever: dashboards and alerts hang on them. */
#include "tools/shalectl/metrics.h"

#define AT(field) offsetof(struct region_stats, field)
#define ONE(name, type, help, field)                                                                                   \
	{                                                                                                              \
		name, type, help, NULL, NULL, AT(field), SCALE_ONE, false, 0                                           \
	}
#define LABELLED(name, type, help, label, value, field, scale)                                                         \
	{                                                                                                              \
		name, type, help, label, value, AT(field), scale, false, 0                                             \
	}
#define LEVEL(name, type, help, field, scale)                                                                          \
	{                                                                                                              \
		name, type, help, NULL, NULL, offsetof(struct region_level, field), scale, true, 0                     \
	}
#define COUNTER METRIC_COUNTER
#define GAUGE METRIC_GAUGE

/* clang-format off */
const struct metric_row metric_rows[] = {
	/* what clients asked for */
	ONE("shale_keys_read", COUNTER, "Keys asked for, by get and multiget.", gets),
	LABELLED("shale_records_written", COUNTER, "Records of batches that were applied.", "type", "put", puts, SCALE_ONE),
	LABELLED("shale_records_written", COUNTER, NULL, "type", "delete", deletes, SCALE_ONE),
	ONE("shale_scan_entries", COUNTER, "Entries that scans returned.", scan_entries),
	ONE("shale_client_written_bytes", COUNTER, "Payload of writes that were applied.", bytes_written_by_clients),
	ONE("shale_client_read_bytes", COUNTER, "Payload of answers.", bytes_read_by_clients),
	/* sessions */
	ONE("shale_sessions", GAUGE, "Open sessions.", sessions),
	ONE("shale_sessions_parked", GAUGE, "Sessions that ask for nothing now.", sessions_parked),
	ONE("shale_sessions_opened", COUNTER, "Sessions opened.", sessions_ever),
	ONE("shale_sessions_broken", COUNTER, "Sessions ended because the client broke the protocol.", sessions_broken),
	LABELLED("shale_sessions_refused", COUNTER, "Connections refused.", "reason", "access", refused[REGION_REFUSED_ACCESS], SCALE_ONE),
	LABELLED("shale_sessions_refused", COUNTER, NULL, "reason", "quota", refused[REGION_REFUSED_QUOTA], SCALE_ONE),
	LABELLED("shale_sessions_refused", COUNTER, NULL, "reason", "protocol", refused[REGION_REFUSED_PROTOCOL], SCALE_ONE),
	LABELLED("shale_sessions_refused", COUNTER, NULL, "reason", "other", refused[REGION_REFUSED_OTHER], SCALE_ONE),
	ONE("shale_snapshots", GAUGE, "Snapshots held.", snapshots),
	ONE("shale_snapshots_ousted", COUNTER, "Snapshots whose lease ended.", snapshots_ousted),
	/* writes that wait */
	LABELLED("shale_write_stall_seconds", COUNTER, "Time that writes have waited, all together.", "reason", "slowdown", stall_slowdown_us, SCALE_MICROS),
	LABELLED("shale_write_stall_seconds", COUNTER, NULL, "reason", "l0", stall_l0_us, SCALE_MICROS),
	LABELLED("shale_write_stall_seconds", COUNTER, NULL, "reason", "memtable", stall_memtable_us, SCALE_MICROS),
	LABELLED("shale_write_stall_seconds", COUNTER, NULL, "reason", "log", stall_log_us, SCALE_MICROS),
	ONE("shale_write_stalls", COUNTER, "Times that writes began to wait.", stalls),
	ONE("shale_stalled_sessions", GAUGE, "Sessions whose writes wait now.", stalled_sessions),
	ONE("shale_writes_paced", GAUGE, "1: level 0 or debt is high, and writes go at service.slowdown_rate.", slowdown),
	/* the log */
	ONE("shale_write_groups", COUNTER, "Passes that took writes: each is one group for the disk.", groups),
	ONE("shale_wal_syncs", COUNTER, "fdatasyncs of the log.", wal_syncs),
	ONE("shale_wal_appended_bytes", COUNTER, "Bytes of log given out, with what rounds up each file.", wal_appended),
	ONE("shale_wal_window_bytes", GAUGE, "Size of the window between acknowledgement and file.", wal_ring),
	ONE("shale_wal_log_bytes", GAUGE, "Bytes in the current log.", wal_bytes),
	/* background work */
	ONE("shale_flushes", COUNTER, "Memtables written out.", flushes),
	ONE("shale_flush_written_bytes", COUNTER, "Bytes of tables that flushes made.", flush_bytes),
	LEVEL("shale_compactions", COUNTER, "Compactions into each level.", compactions, SCALE_ONE),
	LEVEL("shale_compaction_bytes_read", COUNTER, "Read by compactions into each level.", bytes_read, SCALE_ONE),
	LEVEL("shale_compaction_bytes_written", COUNTER, "Written into each level, by compactions and flushes.", bytes_written, SCALE_ONE),
	LEVEL("shale_compaction_seconds", COUNTER, "Time that compactions into each level took.", micros, SCALE_MICROS),
	LEVEL("shale_trivial_moves", COUNTER, "Tables moved into each level without reading them.", moved, SCALE_ONE),
	LABELLED("shale_entries_dropped", COUNTER, "Entries that compactions left out.", "cause", "shadowed", entries_dropped_shadowed, SCALE_ONE),
	LABELLED("shale_entries_dropped", COUNTER, NULL, "cause", "tombstone", entries_dropped_tombstone, SCALE_ONE),
	ONE("shale_jobs_running", GAUGE, "Background jobs that run now.", jobs_running),
	ONE("shale_jobs_failed", COUNTER, "Background jobs that failed.", jobs_failed),
	ONE("shale_background_halted", GAUGE, "0, or the error code for which background work waits (28: the disk is full) or has stopped.", background_state),
	ONE("shale_compaction_debt_bytes", GAUGE, "Over the targets of their levels.", debt_bytes),
	LABELLED("shale_write_amplification", GAUGE, "Bytes of tables written for each byte flushed, since the start.", NULL, NULL, write_amplification, SCALE_DOUBLE),
	LABELLED("shale_space_amplification", GAUGE, "Bytes of all tables for each byte of the largest sorted run.", NULL, NULL, space_amplification, SCALE_DOUBLE),
	/* levels and files */
	LEVEL("shale_level_files", GAUGE, "Tables of each level.", files, SCALE_ONE),
	LEVEL("shale_level_bytes", GAUGE, "Bytes of each level.", bytes, SCALE_ONE),
	LEVEL("shale_level_target_bytes", GAUGE, "What each level may hold; 0: it has no such limit.", target_bytes, SCALE_ONE),
	LEVEL("shale_level_dead_bytes", GAUGE, "Of entries that are known to be dead: an estimate.", dead_bytes, SCALE_ONE),
	LEVEL("shale_level_score", GAUGE, "From 1 on, the level wants a compaction.", score, SCALE_DOUBLE),
	ONE("shale_live_files", GAUGE, "Tables of the database.", live_files),
	ONE("shale_live_bytes", GAUGE, "Bytes of those.", live_bytes),
	ONE("shale_obsolete_files", GAUGE, "Files that wait for their deletion.", obsolete_files_waiting),
	ONE("shale_live_versions", GAUGE, "States of the table list that reads still use.", live_versions),
	ONE("shale_last_sequence", GAUGE, "The newest sequence number.", last_sequence),
	/* memory */
	ONE("shale_memtable_bytes", GAUGE, "Of all memtables.", memtable_bytes),
	ONE("shale_immutable_memtables", GAUGE, "Memtables that wait for their flush.", immutable_memtables),
	ONE("shale_row_cache_bytes", GAUGE, "service.row_cache.", row_cache_bytes),
	ONE("shale_row_cache_kept", COUNTER, "Entries put where clients read them without asking.", row_cache_kept),
	ONE("shale_row_cache_dropped", COUNTER, "Of these, entries dropped because their key was written.", row_cache_dropped),
	ONE("shale_block_cache_bytes", GAUGE, "Blocks in the cache.", block_cache_bytes),
	ONE("shale_block_cache_capacity_bytes", GAUGE, "engine.block_cache.", block_cache_capacity),
	ONE("shale_block_cache_hits", COUNTER, "Blocks that reads found in the cache.", block_cache_hits),
	ONE("shale_block_cache_misses", COUNTER, "Blocks that reads had to fetch.", block_cache_misses),
	ONE("shale_open_tables", GAUGE, "Tables that are held open.", tables_open),
	{"shale_heap_allocated_bytes", GAUGE, "The daemon's heap in use, as jemalloc counts it.", NULL, NULL, AT(heap_allocated), SCALE_ONE, false, AT(heap_allocated)},
	{"shale_heap_resident_bytes", GAUGE, "Memory that the daemon's heap takes.", NULL, NULL, AT(heap_resident), SCALE_ONE, false, AT(heap_resident)},
	/* disk */
	{"shale_disk_free_bytes", GAUGE, "Room that the database's file system has for the daemon.", NULL, NULL, AT(disk_free), SCALE_ONE, false, AT(disk_size)},
	{"shale_disk_size_bytes", GAUGE, "Size of the database's file system.", NULL, NULL, AT(disk_size), SCALE_ONE, false, AT(disk_size)},
	/* the last start */
	LABELLED("shale_recovery_seconds", GAUGE, "How long the start took to bring the database up to date.", NULL, NULL, recovery_us, SCALE_MICROS),
	LABELLED("shale_recovered_bytes", GAUGE, "Of log that the start replayed; window: of those, what an earlier process had only in memory.", "from", "log", recovered_log_bytes, SCALE_ONE),
	LABELLED("shale_recovered_bytes", GAUGE, NULL, "from", "window", recovered_window_bytes, SCALE_ONE),
};
/* clang-format on */
const size_t metric_row_count = ARRAY_SIZE(metric_rows);
