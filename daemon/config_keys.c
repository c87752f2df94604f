/*
 * One table, `config_keys`, says everything about every setting. Each value is kept as a uint64_t in struct config (lists of users
 * apart), so that reading, bounding and printing need no code per key.
 */
#include "daemon/config_keys.h"

#include "shm/layout.h"
#include "shm/ring.h"

static const char *const compressions[] = {"none", "snappy", "zstd", NULL};
static const char *const windows[] = {"shm", "directory", NULL};
static const char *const priorities[] = {"error", "warning", "notice", "info", "debug", NULL}; /* LOG_ERR + … */
static const char *const backends[] = {"auto", "io_uring", "posix", NULL};
static_assert(COMPRESS_NONE == 0 && COMPRESS_SNAPPY == 1 && COMPRESS_ZSTD == 2, "choices are in the order of the enum");
static_assert(WINDOW_SHM == 0 && WINDOW_DIRECTORY == 1, "choices are in the order of the enum");
static_assert(IO_BACKEND_AUTO == 0 && IO_BACKEND_URING == 1 && IO_BACKEND_POSIX == 2,
	      "choices are in the order of the enum");

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)
#define AT(field) offsetof(struct config, field)

const struct config_key config_keys[] = {
	{"engine", "write_buffer", T_SIZE, AT_START, AT(write_buffer), "16M", 64 * K, 1 * G, NULL,
	 "memory of one memtable; when it is full it is written out as a table"},
	{"engine", "max_immutables", T_COUNT, AT_START, AT(max_immutables), "2", 1, 16, NULL,
	 "full memtables that may wait for their flush before writers have to"},
	{"engine", "block_cache", T_SIZE, AT_START, AT(block_cache), "64M", 64 * K, 1024 * G, NULL,
	 "memory for decompressed blocks of tables"},
	{"engine", "max_open_tables", T_COUNT, AT_START, AT(max_open_tables), "1000", 16, 1000000, NULL,
	 "tables kept open, with their index and filter in memory"},
	{"engine", "block_size", T_SIZE, AT_START, AT(block_size), "4K", 256, 4 * M, NULL,
	 "uncompressed size of a table's blocks"},
	{"engine", "bloom_bits", T_COUNT, AT_START, AT(bloom_bits), "10", 0, 40, NULL,
	 "bits per key of the Bloom filters; 0 for none"},
	{"engine", "compression", T_CHOICE, AT_START, AT(compression), "snappy", 0, 0, compressions,
	 "of new tables; stock LevelDB reads none and snappy"},
	{"engine", "compression_per_level", T_LEVELS, AT_START, AT(compression_per_level), "", 0, 0, compressions,
	 "compression of level 0, 1, …, instead of the one above; the last one named goes for all deeper levels; a "
	 "memtable is written with that of level 0"},
	{"engine", "max_file_size", T_SIZE, AT_START, AT(max_file_size), "2M", 64 * K, 1 * G, NULL,
	 "size at which a table ends and the next begins"},
	{"engine", "level1_size", T_SIZE, AT_START, AT(level1_size), "10M", 256 * K, 1024 * G, NULL,
	 "target size of level 1"},
	{"engine", "level_multiplier", T_COUNT, AT_START, AT(level_multiplier), "10", 2, 1000, NULL,
	 "how many times larger the target of each further level is"},
	{"engine", "l0_compaction", T_COUNT, AT_START, AT(l0_compaction), "4", 1, 1000, NULL,
	 "files of level 0 that start a compaction"},
	{"engine", "l0_gather", T_COUNT, AT_START, AT(l0_gather), "6", 0, 1000, NULL,
	 "files that level 0 gathers at most while they are small beside level 1, which then may hold as much as they "
	 "do; 0: as LevelDB"},
	{"engine", "seek_compaction", T_BOOL, AT_START, AT(seek_compaction), "no", 0, 1, NULL,
	 "compact files that cost reads a block in vain too often, as LevelDB does; it writes when nobody else does, "
	 "and "
	 "pays where a seek costs milliseconds"},
	{"engine", "tombstone_percent", T_COUNT, AT_ONCE, AT(tombstone_percent), "50", 0, 100, NULL,
	 "compact a file with so many deleted or replaced entries in a hundred, though its level is not full; 0: "
	 "never"},
	{"engine", "background_rate", T_SIZE, AT_ONCE, AT(background_rate), "0", 0, 64 * G, NULL,
	 "bytes per second that compactions, copies and checks may read and write, except while level 0 is past "
	 "l0_slowdown; 0: no limit"},
	{"engine", "l0_slowdown", T_COUNT, AT_START, AT(l0_slowdown), "8", 1, 1000, NULL,
	 "files of level 0 from which on writes are paced (service.slowdown_rate)"},
	{"engine", "l0_stop", T_COUNT, AT_START, AT(l0_stop), "12", 1, 1000, NULL,
	 "files of level 0 from which on writes wait for a compaction"},
	{"engine", "create_if_missing", T_BOOL, AT_START, AT(create_if_missing), "yes", 0, 1, NULL,
	 "make a new database where there is none"},
	{"engine", "paranoid", T_BOOL, AT_START, AT(paranoid), "no", 0, 1, NULL,
	 "refuse to start on a bad log record, instead of recovering what is before it"},
	{"engine", "best_effort", T_BOOL, AT_START, AT(best_effort), "no", 0, 1, NULL,
	 "serve what can be read when tables are missing or unreadable: their keys answer an error, the rest is "
	 "served"},
	{"engine", "compaction_workers", T_COUNT, AT_START, AT(compaction_workers), "0", 0, 64, NULL,
	 "threads that compact; 0: one less than there are cores, at least one"},
	{"wal", "ring", T_SIZE, AT_START, AT(wal_ring), "16M", 256 * K, 1 * G, NULL,
	 "memory for log bytes that are not yet written to their file; a power of two"},
	{"wal", "window", T_CHOICE, AT_START, AT(wal_window), "shm", 0, 0, windows,
	 "where that memory lies: shared memory, or a file in the database directory where /dev/shm does not outlive "
	 "the daemon"},
	{"limits", "max_batch_records", T_COUNT, AT_START, AT(max_batch_records), "131072", 1, UINT32_MAX, NULL,
	 "records of one batch: while they are inserted, other writes wait"},
	{"limits", "max_key", T_SIZE, AT_START, AT(max_key), "64K", 16, 16 * M, NULL, "longest key"},
	{"limits", "max_request", T_SIZE, AT_START, AT(max_request), "65M", 4 * K, 1 * G, NULL,
	 "largest write as it is encoded (a value of 64M fits the default); one that wal.ring cannot hold keeps "
	 "others waiting while it passes"},
	{"limits", "sessions", T_COUNT, AT_START, AT(sessions), "4096", 1, REGION_SESSIONS, NULL,
	 "connected sessions (a thread of a client has one)"},
	{"limits", "sessions_per_uid", T_COUNT, AT_ONCE, AT(sessions_per_uid), "2048", 1, REGION_SESSIONS, NULL,
	 "of those, sessions of one user"},
	{"limits", "memory_per_uid", T_SIZE, AT_ONCE, AT(memory_per_uid), "2G", 256 * K, 1024 * G, NULL,
	 "shared memory (in /dev/shm) of all sessions of one user"},
	{"limits", "snapshots", T_COUNT, AT_ONCE, AT(snapshots), "256", 1, REGION_SNAPSHOTS, NULL,
	 "snapshots that one session may hold at a time"},
	{"limits", "snapshots_per_uid", T_COUNT, AT_ONCE, AT(snapshots_per_uid), "512", 1, REGION_SNAPSHOTS, NULL,
	 "snapshots that all sessions of one user may hold"},
	{"limits", "snapshot_lease", T_COUNT, AT_ONCE, AT(snapshot_lease), "0", 0, UINT64_C(1000000000000), NULL,
	 "milliseconds after which a snapshot ends by itself, unless its client asked for less; 0: when its session "
	 "ends"},
	{"limits", "in_flight_per_uid", T_SIZE, AT_ONCE, AT(in_flight_per_uid), "1G", 64 * K, 1024 * G, NULL,
	 "payload of all waiting requests of one user; one more is refused. Reads wait when it and the blocks that "
	 "they "
	 "need are more"},
	{"limits", "write_rate_per_uid", T_SIZE, AT_ONCE, AT(write_rate_per_uid), "0", 0, 64 * G, NULL,
	 "bytes of writes per second that one user may have taken; more of them wait; 0: no limit"},
	{"limits", "handshake_ms", T_COUNT, AT_ONCE, AT(handshake_ms), "2000", 10, 600000, NULL,
	 "milliseconds that a new connection has to say hello"},
	{"fairness", "turn_requests", T_COUNT, AT_ONCE, AT(turn_requests), "32", 4, 4096, NULL,
	 "requests that are taken of one user before it is the next one's turn"},
	{"fairness", "turn_bytes", T_SIZE, AT_ONCE, AT(turn_bytes), "256K", 4 * K, 64 * M, NULL,
	 "bytes that these requests may bring and get; large ones are paid for by later turns"},
	{"fairness", "weights", T_WEIGHTS, AT_ONCE, AT(weights), "", 0, 0, NULL,
	 "users (names or numbers) with larger turns and larger shares of the write path than others, who have 1, "
	 "as in \"alice:4 1000:2\""},
	{"access", "mode", T_MODE, AT_START, AT(mode), "0660", 0, 0777, NULL, "of the socket: who may connect at all"},
	{"access", "uids", T_UIDS, AT_ONCE, AT(uids), "", 0, 0, NULL,
	 "users (names or numbers) that may read and write; empty: everybody who can connect"},
	{"access", "read_only_uids", T_UIDS, AT_ONCE, AT(read_only_uids), "", 0, 0, NULL, "users that may only read"},
	{"service", "spin_us", T_COUNT, AT_ONCE, AT(spin_us), "50", 0, 100000, NULL,
	 "microseconds to look for work before sleeping, and what clients are told to spin"},
	{"service", "slowdown_rate", T_SIZE, AT_ONCE, AT(slowdown_rate), "8M", 4 * K, 64 * G, NULL,
	 "bytes of writes taken per second while level 0 is past l0_slowdown"},
	{"service", "ring_entries", T_COUNT, AT_ONCE, AT(ring_entries), "128", RING_ENTRIES_MIN, RING_ENTRIES_MAX, NULL,
	 "requests in flight per session, when the client does not say; a power of two"},
	{"service", "arena", T_SIZE, AT_ONCE, AT(arena), "1M", ARENA_SIZE_MIN, 1 * G, NULL,
	 "payload memory per session, when the client does not say"},
	{"service", "row_cache", T_SIZE, AT_START, AT(row_cache), "8M", 0, 16 * G, NULL,
	 "shared memory for entries that were read lately, where clients find them without asking the daemon; a power "
	 "of two, 64K at least; 0: none"},
	{"service", "exit_when_unused", T_COUNT, AT_ONCE, AT(exit_when_unused), "0", 0, 86400000, NULL,
	 "milliseconds without a client after which shaled ends by itself; 0: it stays"},
	{"io", "backend", T_CHOICE, AT_START, AT(backend), "auto", 0, 0, backends,
	 "how to reach the disk; auto tries io_uring and says why when it takes posix"},
	{"log", "level", T_CHOICE, AT_ONCE, AT(log_level), "notice", 0, 0, priorities,
	 "how much is told on stderr or in the journal"},
	{"log", "file", T_BOOL, AT_START, AT(log_file), "yes", 0, 1, NULL,
	 "write the file LOG in the database directory, too, where LevelDB has it: with a line for each flush and "
	 "compaction"},
};
static_assert(ARRAY_SIZE(config_keys) == CONFIG_KEYS, "struct config keeps an origin for each");

/* ---- finding keys ---- */

const struct config_key *config_key_find(const char *section, const char *name)
{
	for (unsigned i = 0; i < CONFIG_KEYS; i++)
		if (!strcmp(section, config_keys[i].section) && !strcmp(name, config_keys[i].name))
			return &config_keys[i];
	return NULL;
}

/* Levenshtein's distance, for names up to 63 bytes. */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[64];

	if (la > 63 || lb > 63)
		return 1000;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned corner = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned up = row[j], best = corner + (a[i - 1] != b[j - 1]);

			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			corner = up;
			row[j] = best;
		}
	}
	return row[lb];
}

const struct config_key *config_key_nearest(const char *section, const char *name)
{
	const struct config_key *best = NULL;
	unsigned best_distance = 1000;

	for (unsigned i = 0; i < CONFIG_KEYS; i++) {
		unsigned by_name = distance(name, config_keys[i].name),
			 by_section = distance(section, config_keys[i].section);
		unsigned d = 2 * by_name + (by_section < 3 ? by_section : 3);

		if (by_name <= 1 + strlen(config_keys[i].name) / 3 && d < best_distance) {
			best = &config_keys[i];
			best_distance = d;
		}
	}
	return best;
}
