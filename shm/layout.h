/*
 * layout.h - every byte that two processes share, and who may write it.
 *
 * Two kinds of segment are mapped by clients:
 *
 *	region    written by the daemon, read-only for any client: header, last sequence, snapshot table,
 *	          session table, stats page, recent events
 *	channel   one per session, written by that client and the daemon:
 *
 *	          page 0   channel_const    daemon writes once, before the hand-over
 *	          page 1   channel_client   client writes: sq_tail, cq_head, parked
 *	          page 2   channel_daemon   daemon writes: sq_head, cq_tail, parked, state
 *	          then     sq[entries]      client writes 64-byte submissions
 *	          then     cq[2 × entries]  daemon writes 32-byte completions
 *	          then     arena            client owns; the daemon writes answers where a request told it to
 *
 * Nothing that lies in a channel is believed: what a client writes is a hint, and the daemon's private copy of
 * indices, sizes and identity is the authority. Everything is position independent: offsets, never pointers.
 *
 * A changed field here needs a new SHM_ABI; the asserts at the end and layout_fingerprint() see to it that a
 * forgotten one cannot pass the handshake.
 */
#ifndef SHALE_SHM_LAYOUT_H
#define SHALE_SHM_LAYOUT_H

#include <stdatomic.h>

#include "shm/base.h"
#include "shm/histogram.h"

enum {
	SHM_ABI = 6,
	SHM_PAGE = 4096,
	SHM_LINE = 64,
};

#define REGION_MAGIC UINT64_C(0x6e6f69676572736c)  /* "lsregion" */
#define CHANNEL_MAGIC UINT64_C(0x6c6e6e616863736c) /* "lschannl" */

static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2, "shared atomics must be plain lock-free words");

/* ---- channel ---- */

/* What a submission asks for. */
enum shm_op {
	OP_NOP = 0,
	OP_GET = 1,       /* in: key. out: value */
	OP_WRITE = 2,     /* in: extra_len bytes of conditions (shm/condition.h), then a batch (shm/batch.h) */
	OP_SCAN = 3,      /* in: struct scan_args + start key + limit key. out: chunk (see shm/README.md) */
	OP_SNAPSHOT = 4,  /* sequence: lease in milliseconds, 0 for the daemon's longest. The completion's is the pinned one */
	OP_RELEASE = 5,   /* sequence: a snapshot of this session */
	OP_PROPERTY = 6,  /* in: property name. out: text */
	OP_SIZES = 7,     /* in: varint32 length-prefixed start and limit key. out: le64 bytes */
	OP_FLUSH = 8,     /* completes when what was written before is in SSTables */
	OP_COMPACT = 9,   /* in: length-prefixed start and limit key, either empty for an open end */
	OP_MULTIGET = 10, /* in: le32 count, then length-prefixed keys. out: per key le32 res, le32 length, le64 sequence, value */
	OP_CANCEL = 11,   /* sequence: the user_data of the request to cancel */
	OP_KICK = 12,     /* sequence: the id of the session to end. For the daemon's own user and root */
	OP_CHECKPOINT = 13, /* in: absolute path of the directory. out: struct checkpoint_answer, or words when it failed. As KICK, for whom */
	OP_CHECK = 14,    /* out: struct check_answer and its rows, or words when it could not be done. As KICK, for whom */
	OP_COUNT
};

/* Flags of a submission. */
enum {
	SQE_SYNC = 1 << 0,        /* WRITE: complete after the fdatasync that covers it */
	SQE_NO_SLOWDOWN = 1 << 1, /* WRITE: -EAGAIN instead of waiting for a stall */
	SQE_REVERSE = 1 << 2,     /* SCAN: towards smaller keys */
	SQE_EXCLUSIVE = 1 << 3,   /* SCAN: do not return the start key itself */
	SQE_NO_FILL = 1 << 4,     /* GET, SCAN: do not keep the blocks in the cache */
	SQE_HAS_START = 1 << 5,   /* SCAN: there is a start key (else the first, or last when reversed) */
	SQE_HAS_LIMIT = 1 << 6,   /* SCAN: stop before the limit key (forward: key >= limit; reverse: key < limit) */
	SQE_NO_WAIT = 1 << 7,     /* COMPACT: complete when it is begun; it goes on without the session */
	SQE_FLAGS_KNOWN = (1 << 8) - 1,
};

/*
 * One submission, written by the client. The daemon copies it once, checks the copy, uses the copy.
 * Offsets and lengths are bytes within the arena; `off <= arena && len <= arena - off` is required of both
 * ranges, and extra_len <= in_len.
 */
struct sqe {
	uint64_t user_data;   /* echoed in the completion */
	uint64_t session;     /* the id from WELCOME; another one is refused */
	uint16_t op;          /* enum shm_op */
	uint16_t flags;       /* SQE_… */
	uint32_t in_len;      /* the request's payload: */
	uint64_t in_off;
	uint64_t out_off;     /* where the answer may go: */
	uint32_t out_len;
	uint32_t extra_len;   /* WRITE: conditions at the beginning of the payload; else 0 */
	uint64_t sequence;    /* reads: snapshot to read at, 0 for the latest; COMPACT: 1 + the only level, 0 for all */
	uint64_t deadline_ns; /* the daemon's CLOCK_MONOTONIC; 0 for none */
};

/*
 * In sqe.sequence and cqe.sequence: a snapshot of sequence 0, pinned before the first write. Plain 0 means "the
 * newest", and no sequence number reaches this bit (LevelDB gives them 56).
 */
#define SEQUENCE_EMPTY (UINT64_C(1) << 63)

/* What a checkpoint holds, and how it came about. */
struct checkpoint_answer {
	uint64_t sequence;             /* everything up to this one, and nothing after it */
	uint64_t tables, bytes;
	uint64_t linked, copied, kept; /* tables; kept: from the checkpoint that was there before */
	uint64_t bytes_written;        /* copies, and a table of what was in memory */
	uint64_t removed;              /* files of the checkpoint that was there before */
};

/* What a check saw. The rows of what it found follow, as many as @rows says. */
struct check_answer {
	uint64_t sequence;            /* up to which it looked */
	uint64_t tables, table_bytes; /* of the version */
	uint64_t memtables, entries;  /* entries: of memtables and tables */
	uint64_t files;               /* in the directory */
	uint64_t sessions, snapshots;
	uint64_t entries_checked;     /* 0: the levels are wrong, so there is no order to hold entries to */
	uint64_t problems, rows;      /* problems: of which rows are told */
};

enum { CHECK_ROWS = 32, CHECK_ROW_KEY = 96 };

/* One thing that is not as it should be. Texts are NUL-terminated. */
struct check_row {
	int32_t code, level;          /* negative code; level -1: none */
	char kind[16];                /* a word that stays: engine/check.h; "ring", "region", "snapshot", "session" */
	char file[24];                /* "": it is about none */
	char what[256];
	uint32_t has_range;           /* 1: keys from first to last, both included, are touched */
	uint32_t first_len, last_len; /* of the whole keys; what is longer than there is room for is cut */
	uint32_t reserved;
	unsigned char first[CHECK_ROW_KEY], last[CHECK_ROW_KEY];
};

enum { MULTIGET_MAX = 4096 }; /* keys in one request: each costs the daemon a read, and others wait meanwhile. More: -E2BIG */

/* What delayed a request: bits of cqe.delay. */
enum {
	DELAY_READ = 1 << 0,     /* waited for a block from disk */
	DELAY_SYNC = 1 << 1,     /* waited for fdatasync */
	DELAY_SLOWDOWN = 1 << 2, /* paced: level 0 or compaction debt is high */
	DELAY_L0 = 1 << 3,       /* stalled: level 0 is at its stop limit */
	DELAY_MEMTABLE = 1 << 4, /* stalled: every memtable is full and waits for a flush */
	DELAY_LOG = 1 << 5,      /* stalled: no room in the WAL window or in the log's allocated space */
	DELAY_JOB = 1 << 6,      /* waited for a flush or compaction that it asked for */
};

/* Flags of a completion. */
enum {
	CQE_MORE = 1 << 0, /* SCAN: the range goes on after this chunk */
};

/* One completion, written by the daemon. */
struct cqe {
	uint64_t user_data;
	uint64_t sequence;   /* WRITE: last sequence given; SNAPSHOT: the pinned one; GET: of the entry found, 0 if none; other
	                        reads: the sequence read at. A WRITE whose condition failed: of that key's entry, 0 if none */
	int32_t res;         /* 0, positive answers, or a negative code (shm/error.h) */
	uint32_t len;        /* bytes of the answer; larger than out_len when it did not fit. SHALE_MISMATCH: which condition, from 0 */
	uint16_t delay;      /* DELAY_… */
	uint16_t flags;      /* CQE_… */
	uint32_t delayed_us; /* time between being taken from the ring and completion, when delay != 0 */
};

/* At the start of a SCAN's payload, before start key and limit key. */
struct scan_args {
	uint32_t start_len; /* bytes of the start key that follows */
	uint32_t limit_len; /* bytes of the limit key that follows it */
	uint32_t max_count; /* entries in the chunk at most; 0 for as many as fit */
	uint32_t max_bytes; /* bytes of the chunk at most, though one larger entry may come alone; 0 for out_len */
};

/* Page 0: written by the daemon once, before the client has the descriptor. */
struct channel_const {
	uint64_t magic; /* CHANNEL_MAGIC */
	uint32_t abi;   /* SHM_ABI */
	uint32_t entries; /* submissions; power of two. Completions: twice as many */
	uint64_t session;
	uint64_t sq_off; /* byte offsets within the segment */
	uint64_t cq_off;
	uint64_t arena_off;
	uint64_t arena_size;
	uint64_t total_size;
};

/* Page 1: written by the client only. */
struct channel_client {
	_Atomic uint32_t sq_tail; /* seq_cst, after the slots it covers. Pairs with ring_sq_take(), ring_daemon_park() */
	_Alignas(SHM_LINE) _Atomic uint32_t cq_head; /* release, after its slots were read. Pairs with ring_cq_push() */
	/*
	 * How to wake the client: enum park_how, or from PARK_SOCKET on a ticket: send one byte over the session's socket, once for
	 * each new value. Written by the client, which takes the next ticket whenever it asks anew.
	 */
	_Alignas(SHM_LINE) _Atomic uint32_t parked;
};

enum park_how {
	PARK_AWAKE = 0,
	PARK_FUTEX = 1,  /* a thread sleeps on channel_daemon.cq_tail */
	PARK_SOCKET = 2, /* and above: somebody polls the socket */
};

/* Why a session ended; channel_daemon.state. */
enum channel_state {
	CHANNEL_OPEN = 0,
	CHANNEL_BROKEN = 1,  /* the client broke the protocol: -SHALE_ESESSION */
	CHANNEL_CLOSING = 2, /* the daemon shuts down cleanly: what is in flight still completes */
	CHANNEL_KICKED = 3,  /* an administrator ended the session: -SHALE_EKICKED */
};

/* Page 2: written by the daemon only. */
struct channel_daemon {
	_Atomic uint32_t sq_head; /* release, after the slots were copied. Pairs with the acquire in ring_sq_room() */
	_Alignas(SHM_LINE) _Atomic uint32_t cq_tail; /* seq_cst, after its slots. Also the client's futex word */
	_Alignas(SHM_LINE) _Atomic uint32_t parked;  /* 1: ring the doorbell (eventfd) after publishing */
	_Alignas(SHM_LINE) _Atomic uint32_t state;   /* enum channel_state */
};

/* ---- region ---- */

enum region_state {
	REGION_STARTING = 0, /* recovering; not yet serving */
	REGION_SERVING = 1,
	REGION_STOPPING = 2, /* clean shutdown under way */
	REGION_STOPPED = 3,  /* shut down cleanly; never changes again */
	REGION_FAILED = 4,   /* an I/O error stopped writes; see the stats page for words */
};

enum {
	REGION_SNAPSHOTS = 1024, /* slots of the snapshot table */
	REGION_SESSIONS = 4096,  /* slots of the session table */
	REGION_LEVELS = 7,
	REGION_REASONS = 8, /* why a job ran: names are in the stats page */
	REGION_RUNNING = 16, /* jobs listed while they run */
	REGION_LAST_JOBS = 64,
	REGION_EVENTS = 128, /* rows of the table of events: the last so many */
};

/* First page. Constant after creation, except for state and heartbeat. Written by the daemon only. */
struct region_header {
	uint64_t magic; /* REGION_MAGIC */
	uint32_t abi;   /* SHM_ABI */
	uint32_t daemon_pid;
	uint64_t fingerprint; /* layout_fingerprint() */
	uint64_t total_size;
	unsigned char boot_id[16]; /* of this run of the daemon, random: a client that sees another one reconnects */
	uint64_t snapshots_off;
	uint64_t sessions_off;
	uint64_t stats_off;
	uint64_t started_realtime_ns;
	char database[1024]; /* absolute path, NUL-terminated */
	char version[32];
	uint64_t events_off;
	char socket[1024]; /* absolute path where clients connect, NUL-terminated; set before the state leaves REGION_STARTING */
	_Alignas(SHM_LINE) _Atomic uint32_t state; /* enum region_state */
	_Alignas(SHM_LINE) _Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the loop's last pass before it parked or published */
	/* The newest sequence visible to readers; on its own line. release after the memtable insert. */
	_Alignas(SHM_LINE) _Atomic uint64_t last_sequence;
};

/* A pinned snapshot. Written by the daemon's service thread only; a slot is free when sequence_plus_1 is 0. */
struct region_snapshot {
	_Atomic uint64_t sequence_plus_1; /* release last when taken, first when released */
	_Atomic uint64_t session;
	_Atomic uint64_t taken_monotonic_ns;
	_Atomic uint64_t lease_until_ns; /* CLOCK_MONOTONIC; 0: none */
};

/* One session, for shalectl. Written by the daemon only; readers tolerate a torn row. free when session is 0. */
struct region_session {
	_Atomic uint64_t session;
	_Atomic uint32_t pid, uid;
	_Atomic uint64_t connected_monotonic_ns;
	_Atomic uint64_t operations, bytes_in, bytes_out;
	_Atomic uint32_t snapshots, state;       /* state: enum session_state */
	_Atomic uint64_t active_monotonic_ns;    /* when it last had work */
	_Atomic uint64_t in_flight, bytes_held;  /* requests taken and not yet completed; payload of those that wait, and what they pin */
	_Atomic uint64_t throttled_us;           /* how long its writes waited for its own or its user's share */
	_Atomic uint64_t channel_bytes;          /* shared memory that it takes */
	_Atomic uint64_t ousted;                 /* snapshots whose lease ended */
	char command[32];                        /* comm of the process at connect */
};

enum session_state {
	SESSION_STATE_ACTIVE = 0,
	SESSION_STATE_IDLE = 1,
	SESSION_STATE_CLOGGED = 2, /* does not take its completions */
};

/*
 * The stats page: two copies and a count of publications, whose lowest bit says which copy holds; so a reader finds a whole one at
 * any time, also when the daemon was stopped or killed in the middle of writing the other. Written by the service thread
 * (region_publish_stats), read by any client (region_read_stats). Only fixed-width plain fields: they are copied by words.
 */
struct region_level {
	uint64_t files, bytes;
	uint64_t compactions, bytes_read, bytes_written, micros; /* into this level, since the daemon started */
	uint64_t moved;                                          /* trivial moves into this level */
	double score;                                            /* 1: at its target */
	uint64_t target_bytes;                                   /* of level 1 and below; 0: none */
	uint64_t busy_files, busy_bytes;                         /* being compacted now */
	uint64_t entries_in;                                     /* of merges and flushes into this level, since the start: */
	uint64_t dropped_shadowed, dropped_tombstone;            /* for a newer entry; a deletion that hides nothing any more */
	uint64_t dead_bytes;                                     /* estimate: deletions, and versions hidden by one of the same table */
	uint64_t by_reason[REGION_REASONS];                      /* jobs that put something into this level, moves included */
};

enum region_job_kind {
	REGION_JOB_LOG = 1,     /* prepares the next log */
	REGION_JOB_FLUSH = 2,   /* memtable to table */
	REGION_JOB_COMPACT = 3, /* merges tables */
	REGION_JOB_MOVE = 4,    /* moves a table to the next level without reading it */
	REGION_JOB_DELETE = 5,  /* unlinks obsolete files */
	REGION_JOB_CHECKPOINT = 6, /* copies the database elsewhere */
	REGION_JOB_CHECK = 7,      /* holds the database against its invariants */
};

/* A background job, running or ended. */
struct region_job {
	uint64_t id; /* 1, 2, … as they begin; 0: an empty row */
	uint32_t kind, reason; /* enum region_job_kind; index of reason_names, of flushes and compactions */
	uint32_t level, output_level;
	uint64_t files[2], bytes[2]; /* inputs of level and output_level; a flush: bytes[0] of memtable; a deletion: files[0] */
	uint64_t bytes_done;         /* of bytes[0] + bytes[1] */
	uint64_t begin_monotonic_ns;
	uint64_t micros;             /* running: so far */
	uint64_t left_us;            /* running: estimated from what is done; 0: unknown */
	uint64_t bytes_read, bytes_written, entries_in, dropped_shadowed, dropped_tombstone; /* when it has ended well */
	int64_t result;              /* 0 or a negative code */
};

/* The manual compaction that is being worked on. */
struct region_manual {
	uint64_t requests; /* that wait or run */
	uint64_t level, last_level;
	uint64_t pieces;   /* done */
	uint64_t bytes_done, bytes_total; /* total: an estimate made when it began */
};

/* Settings that explain numbers above. */
struct region_settings {
	uint64_t write_buffer, max_immutables, l0_compaction, l0_slowdown, l0_stop, slowdown_rate, wal_ring;
	uint64_t compaction_workers, tombstone_percent, background_rate;
};

/* Operations, as their times are told apart. */
enum region_op {
	REGION_OP_GET,
	REGION_OP_WRITE,
	REGION_OP_SYNC_WRITE, /* with SQE_SYNC: answered when it is on the disk */
	REGION_OP_SCAN,       /* one chunk */
	REGION_OP_MULTIGET,
	REGION_OP_JOB,        /* flush, compact, and whatever else waits for background work */
	REGION_OP_OTHER,
	REGION_OPS = 8,       /* one row to spare */
};

/* What a request can wait for, once it is taken from its ring. */
enum region_part {
	REGION_PART_READ,  /* blocks from the disk, each round of them */
	REGION_PART_STALL, /* in line, for the engine, the log's room or its user's share */
	REGION_PART_SYNC,  /* the fdatasync that covers it, and the one before that */
	REGION_PART_JOB,   /* a flush or a compaction */
	REGION_PARTS,
};

/* Why a connection was refused. */
enum region_refusal {
	REGION_REFUSED_ACCESS,   /* its user may not */
	REGION_REFUSED_QUOTA,    /* its user, or all together, have as much as they may */
	REGION_REFUSED_PROTOCOL, /* it is no libshale of this release */
	REGION_REFUSED_OTHER,    /* too late, too many at once, no memory, the daemon is ending */
	REGION_REFUSALS,
};

struct region_stats {
	uint64_t published_monotonic_ns;
	uint64_t uptime_ns;
	/* operations since start */
	uint64_t gets, gets_found, writes, write_batches_synced, puts, deletes, scans, scan_entries, nops;
	uint64_t bytes_written_by_clients, bytes_read_by_clients;
	uint64_t protocol_errors, sessions_broken;
	/* write path */
	uint64_t groups, wal_bytes, wal_syncs;
	uint64_t stall_slowdown_us, stall_l0_us, stall_memtable_us, stall_log_us;
	/* engine */
	uint64_t last_sequence, memtable_bytes, immutable_memtables, snapshots;
	uint64_t flushes, flush_bytes, compactions, trivial_moves, compaction_bytes_read, compaction_bytes_written;
	uint64_t entries_dropped_shadowed, entries_dropped_tombstone;
	uint64_t jobs_running, jobs_failed;
	uint64_t row_cache_bytes, row_cache_kept, row_cache_dropped; /* its arena; entries ever; of these, dropped because of a write. Hits ask nobody, so nobody counts them */
	uint64_t block_cache_bytes, block_cache_capacity, block_cache_hits, block_cache_misses, tables_open;
	uint64_t live_files, live_bytes, obsolete_files_waiting, manifest_number, log_number;
	uint64_t recovered_log_bytes, recovered_window_bytes, recovery_us;
	/* daemon */
	uint64_t sessions, sessions_ever, sessions_parked;
	uint64_t io_uring; /* 1: io_uring, 0: posix */
	/* how things stand: writes */
	uint64_t stalled_sessions;                   /* with writes that wait now */
	uint64_t stall_why;                          /* DELAY_… of what they wait for */
	uint64_t stall_since_ns;                     /* CLOCK_MONOTONIC of the oldest of those waits; 0: none waits */
	uint64_t slowdown;                           /* 1: writes are paced */
	uint64_t background_state;                   /* 0, or the positive errno or SHALE_E… that halts background work */
	/* space */
	uint64_t live_versions;                      /* more than one: reads hold an older state */
	uint64_t debt_bytes;                         /* over the targets of their levels */
	double write_amplification;                  /* table bytes written for each byte flushed; 0: nothing was */
	double space_amplification;                  /* bytes of all tables for each of the largest sorted run; 0: no tables */
	/*
	 * Times. From being taken from the ring to the answer: a request that never waited counts with the length of the pass that took and answered it, so with
	 * an upper bound; one that waited with its own time, from the beginning of the pass that took it.
	 */
	struct histogram op_times[REGION_OPS];       /* enum region_op */
	struct histogram part_times[REGION_PARTS];   /* enum region_part */
	struct histogram wal_sync_times;             /* each fdatasync of the log by itself */
	struct histogram pass_times;                 /* passes of the service loop that had something to do */
	uint64_t failed[REGION_OPS];                 /* answered with a negative code */
	uint64_t refused[REGION_REFUSALS];           /* connections; enum region_refusal */
	uint64_t snapshots_ousted;                   /* whose lease ended */
	uint64_t stalls;                             /* times that writes began to wait */
	/* the log's window */
	uint64_t wal_appended, wal_drained, wal_synced; /* positions, in bytes of one stream */
	uint64_t wal_ring;                           /* bytes of the window that is in use */
	/* memory of the process, as jemalloc counts it; 0: it is not linked. And of its file system; 0: unknown */
	uint64_t heap_allocated, heap_resident;
	uint64_t disk_free, disk_size;               /* bytes; free: for the daemon's user */
	uint64_t measured_monotonic_ns;              /* when those four were looked at */
	struct region_manual manual;
	struct region_settings settings;
	char reason_names[REGION_REASONS][16];
	uint64_t jobs_listed;                        /* rows of running[]; jobs_running may be more */
	struct region_job running[REGION_RUNNING];   /* oldest first */
	struct region_job last_jobs[REGION_LAST_JOBS]; /* newest first: flushes, compactions, and what failed */
	struct region_level level[REGION_LEVELS];
	char io_backend[160];   /* name, and why a fall-back was taken */
	char last_error[512];   /* empty when all is well */
};

/*
 * One recent event. Row number % REGION_EVENTS holds event `number`, which counts from 1. Written by the daemon, one thread at a time (region_add_event): number 0 while
 * the row is being written. Readers find the row of the newest and go back (region_read_event).
 */
struct region_event {
	uint64_t number;
	uint64_t realtime_ns;
	uint32_t kind;     /* enum region_event_kind */
	uint32_t severity; /* as in syslog: 3 error, 4 warning, 5 notice, 6 info */
	char text[232];
};

enum region_event_kind {
	REGION_EVENT_STARTED = 1,
	REGION_EVENT_RECOVERED = 2,    /* what the start found */
	REGION_EVENT_STALL_BEGUN = 3,  /* writes have waited for a tenth of a second */
	REGION_EVENT_STALL_ENDED = 4,
	REGION_EVENT_JOB_FAILED = 5,   /* flush, compaction, … */
	REGION_EVENT_PAUSED = 6,       /* background work waits: a full disk, or what the system is short of */
	REGION_EVENT_RESUMED = 7,
	REGION_EVENT_SET_ASIDE = 8,    /* a compaction whose tables cannot be read */
	REGION_EVENT_DAMAGE = 9,       /* a read failed */
	REGION_EVENT_BROKEN = 10,      /* a session that broke the protocol */
	REGION_EVENT_KICKED = 11,      /* a session that an administrator ended */
	REGION_EVENT_REFUSED = 12,     /* a connection */
	REGION_EVENT_OUSTED = 13,      /* snapshots whose lease ended */
	REGION_EVENT_RELOADED = 14,    /* the configuration was read again */
	REGION_EVENT_FAILED = 15,      /* an I/O error: nothing is written any more */
	REGION_EVENT_STOPPING = 16,    /* a clean end was asked for */
	REGION_EVENT_STOPPED = 17,
	REGION_EVENT_KINDS
};

struct region_events {
	_Atomic uint64_t newest; /* number of the newest event; 0: none yet. Release, after its row */
	_Alignas(SHM_LINE) struct region_event row[REGION_EVENTS];
};

struct region_stats_page {
	_Atomic uint64_t published; /* how often; 0: never, and copy[0] is all zero */
	_Alignas(SHM_LINE) struct region_stats copy[2];
};

/* ---- pinned layout ---- */

#define LAYOUT(type, field, off) static_assert(offsetof(type, field) == (off), #type "." #field " moved: bump SHM_ABI")

static_assert(sizeof(struct sqe) == 64, "a submission is one cache line");
static_assert(sizeof(struct cqe) == 32, "two completions to a cache line");
LAYOUT(struct sqe, op, 16);
LAYOUT(struct sqe, in_off, 24);
LAYOUT(struct sqe, out_off, 32);
LAYOUT(struct sqe, extra_len, 44);
LAYOUT(struct sqe, sequence, 48);
LAYOUT(struct sqe, deadline_ns, 56);
LAYOUT(struct cqe, sequence, 8);
LAYOUT(struct cqe, res, 16);
LAYOUT(struct cqe, delay, 24);
LAYOUT(struct channel_const, arena_size, 48);
LAYOUT(struct channel_client, cq_head, 64);
LAYOUT(struct channel_client, parked, 128);
LAYOUT(struct channel_daemon, cq_tail, 64);
LAYOUT(struct channel_daemon, parked, 128);
LAYOUT(struct channel_daemon, state, 192);
LAYOUT(struct region_header, events_off, 1136);
static_assert(sizeof(struct region_event) == 256, "region_event moved: bump SHM_ABI");
static_assert(sizeof(struct check_row) == 512 && sizeof(struct check_answer) == 88, "check_answer moved: bump SHM_ABI");
static_assert(sizeof(struct scan_args) == 16, "scan_args moved: bump SHM_ABI");
static_assert(sizeof(struct channel_const) <= SHM_PAGE && sizeof(struct channel_client) <= SHM_PAGE &&
		      sizeof(struct channel_daemon) <= SHM_PAGE,
	      "each side's words have a page of their own");

/*
 * A hash of every offset and size above, compared in the handshake before anything is mapped, so that two
 * builds that disagree on the layout find out in words instead of in corrupted memory.
 */
static inline uint64_t layout_fingerprint(void)
{
	const uint64_t parts[] = {
		SHM_ABI, sizeof(struct sqe), sizeof(struct cqe), sizeof(struct scan_args), sizeof(struct channel_const),
		sizeof(struct channel_client), sizeof(struct channel_daemon), sizeof(struct region_header),
		offsetof(struct region_header, state), offsetof(struct region_header, last_sequence),
		sizeof(struct region_snapshot), sizeof(struct region_session), sizeof(struct region_stats),
		sizeof(struct region_level), sizeof(struct region_job), offsetof(struct region_stats, running),
		offsetof(struct region_stats, level), OP_COUNT, SQE_FLAGS_KNOWN, REGION_SNAPSHOTS, REGION_SESSIONS,
		sizeof(struct region_events), offsetof(struct region_stats, op_times), offsetof(struct region_stats, wal_appended),
		REGION_EVENT_KINDS, sizeof(struct check_answer), sizeof(struct check_row),
	};
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a over the words */

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		h = (h ^ parts[i]) * UINT64_C(0x100000001b3);
	return h;
}

#endif
