/*
 * shale.h - one LevelDB database for every process of a machine: the client library.
 *
 *	struct shale_db *db;
 *	int rc = shale_open(NULL, NULL, &db);          // $SHALE_SOCKET, else the system's daemon
 *	rc = shale_put(db, NULL, "key", 3, "value", 5);
 *	shale_close(db);
 *
 * Conventions of every call
 *	Returns   0 done; positive another answer (SHALE_NOTFOUND); negative a failure: -errno or -SHALE_E… below.
 *	          shale_strerror(rc) gives words; shale_last_error(db) the whole story of this thread's last failure.
 *	Memory    keys and values passed in are borrowed for the length of the call. What is returned says who frees it.
 *	Threads   a struct shale_db may be used by any number of threads at once; each gets a channel of its own at
 *	          its first call, released when the thread ends. An iterator, a batch or a queue belongs to one thread at a time.
 *	fork      a handle does not survive fork(): in the child every call answers -SHALE_EFORKED; open a new one.
 *	Daemon    when shaled restarts, calls wait for it up to options.reconnect_ms. Reads are then repeated. A write
 *	          whose fate is not known answers -SHALE_EUNKNOWN and is never repeated behind your back. Snapshots and
 *	          iterators of the old daemon answer -SHALE_EOUSTED.
 *
 * Keys are ordered bytewise (memcmp; a prefix comes first), as LevelDB's default comparator does.
 */
#ifndef SHALE_H
#define SHALE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exactly what is declared here is exported; the library itself is compiled with everything hidden. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define SHALE_VERSION "0.1.0"

#define SHALE_NOTFOUND 1 /* no such key: an answer, not a failure */
#define SHALE_MISMATCH 2 /* a condition of a write does not hold, so nothing was applied: an answer, too */

#define SHALE_ECORRUPT 5001    /* bytes on disk fail their check */
#define SHALE_EUNKNOWN 5002    /* the daemon went while a write was in flight: it may or may not have been applied */
#define SHALE_EABI 5003        /* library and daemon do not speak the same protocol version */
#define SHALE_EOUSTED 5004     /* the snapshot is gone: its lease ended, or the daemon restarted */
#define SHALE_EFAILED 5005     /* the daemon stopped writing after an I/O error; a restart is needed */
#define SHALE_ECOMPARATOR 5006 /* the database was made with another comparator */
#define SHALE_ENOTSHALE 5007   /* what answers on the socket is not shaled */
#define SHALE_EFORKED 5008     /* the handle was opened by the parent process; open one in the child */
#define SHALE_ELOCKED 5009     /* another process has this database open */
#define SHALE_ECONFIG 5010     /* the configuration has an unknown key or a bad value */
#define SHALE_EMISSING 5011    /* a file that the MANIFEST names is not there */
#define SHALE_ESESSION 5012    /* the daemon ended this session: the channel's contents broke the protocol */
#define SHALE_ENODATABASE 5013 /* the directory holds no database and creating one was not asked for */
#define SHALE_EKICKED 5014     /* an administrator ended this session; the next call opens a new one */

#define SHALE_DEFAULT_SOCKET "/run/shale/shale.sock"

struct shale_db;       /* a connection to one daemon */
struct shale_batch;    /* writes that are applied together or not at all */
struct shale_iter;     /* a cursor over a consistent state of the database */
struct shale_snapshot; /* a pinned state of the database */
struct shale_queue;    /* many operations under way at once */

/* Bytes somewhere. */
struct shale_slice {
	const void *data;
	size_t size;
};

/* Set struct_size to sizeof(struct shale_options), the rest to 0 for the defaults (or use SHALE_OPTIONS_INIT). */
struct shale_options {
	size_t struct_size;
	unsigned connect_ms;   /* how long to wait for a daemon at open, also for one that is not there yet; 0: 5000 for
	                          its answer, and -ENOENT or -ECONNREFUSED at once when nobody listens */
	unsigned reconnect_ms; /* how long a call waits for a daemon that went away; 0: 10000 */
	unsigned spin_us;      /* longest spin before sleeping; 0: what the daemon suggests */
	int read_only;         /* refuse writes on this handle */
	size_t arena_bytes;    /* payload memory per channel; 0: the daemon's default. Grows by itself when needed */
	int autostart;         /* where names a directory that nobody serves: start a private shaled on it (see shale_open) */
	uint64_t deadline_us;  /* for each read, write, snapshot and ping that has none of its own; 0: none */
};
#define SHALE_OPTIONS_INIT {sizeof(struct shale_options), 0, 0, 0, 0, 0, 0, 0}

struct shale_write_options {
	size_t struct_size;
	int sync;             /* return only after the data is on disk */
	int no_slowdown;      /* -EAGAIN instead of waiting when the engine is behind */
	uint64_t deadline_us; /* give up waiting after this long: -ETIMEDOUT; 0: never. A write that the daemon took
	                         before may still be applied, as with -SHALE_EUNKNOWN */
	/* shale_write only, may be NULL; filled when it returns SHALE_MISMATCH: */
	size_t *mismatch_out;            /* which condition, counted from 0 in the order in which they were added */
	uint64_t *mismatch_sequence_out; /* the sequence number of that key's entry now; 0: the key is absent */
};
#define SHALE_WRITE_OPTIONS_INIT {sizeof(struct shale_write_options), 0, 0, 0, NULL, NULL}

struct shale_read_options {
	size_t struct_size;
	const struct shale_snapshot *snapshot; /* read this state; NULL: the newest */
	int no_fill_cache;                     /* do not keep the blocks read: for big scans */
	uint64_t deadline_us;                  /* as above */
	/* Iterators only: keys in [lower, upper). NULL: open. Borrowed until the iterator is closed. */
	const void *lower;
	size_t lower_len;
	const void *upper;
	size_t upper_len;
	/* Iterators only: keys that begin with these bytes, beside the bounds. NULL: all. Copied. */
	const void *prefix;
	size_t prefix_len;
	/* shale_get and shale_get_alloc only: the sequence number of the entry found, for shale_batch_require_sequence. May be NULL. */
	uint64_t *sequence_out;
};
#define SHALE_READ_OPTIONS_INIT {sizeof(struct shale_read_options), NULL, 0, 0, NULL, 0, NULL, 0, NULL, 0, NULL}

/*
 * shale_open - connect to a daemon.
 *
 * @where: a socket path; a database directory served by a running daemon (its socket is found by name); or NULL for
 * $SHALE_SOCKET, else SHALE_DEFAULT_SOCKET. @options may be NULL.
 *
 * With options->autostart and a directory that no daemon serves, a private shaled is started for it: the program named by $SHALED, else
 * the one installed with this library, else the one in $PATH. It makes the database where there is none, serves whoever opens that directory, and
 * ends by itself when its last client is gone. Of several processes that start one at the same time, all end up with the same daemon. It says what
 * it has to say in the file shaled.log of the directory. SIGCHLD, signal masks and children of the caller are not touched. In a set-user-ID program
 * the environment counts for nothing here.
 *
 * Returns 0 and *@db_out, to be closed by shale_close; -ENOENT or -ECONNREFUSED (no daemon there), -EACCES,
 * -SHALE_ENOTSHALE, -SHALE_EABI, -ETIMEDOUT; with autostart also -SHALE_EFAILED (shaled cannot be started, or ends at once: the words say
 * why) and -SHALE_ELOCKED (another program has the database open).
 * *@db_out is untouched on failure; shale_last_error(NULL) has the words.
 * Blocks up to options->connect_ms.
 */
int shale_open(const char *where, const struct shale_options *options, struct shale_db **db_out);

/* Frees the handle and every channel. No other thread may be inside a call. Open iterators, snapshots and queues must be closed before. NULL is fine. */
void shale_close(struct shale_db *db);

/*
 * shale_put, shale_delete - one write. Deleting a key that is not there is no error.
 *
 * Blocks until the daemon has applied it (or, with sync, until it is on disk).
 * Returns 0; -E2BIG (key or value over the daemon's limit), -EAGAIN (no_slowdown), -ENOSPC (disk full: nothing was applied),
 * -EROFS (read-only handle or session), -ETIMEDOUT, -SHALE_EUNKNOWN, -SHALE_EFAILED, -EPIPE (the daemon is gone and did not come back).
 * -SHALE_ESESSION (this process broke the protocol), -SHALE_EKICKED (an administrator ended the session): as with
 * -SHALE_EUNKNOWN, the write may have been applied.
 */
int shale_put(struct shale_db *db, const struct shale_write_options *options, const void *key, size_t key_len,
	      const void *value, size_t value_len);
int shale_delete(struct shale_db *db, const struct shale_write_options *options, const void *key, size_t key_len);

/*
 * shale_get - read one key.
 *
 * Stores the value's full length in *@len_out (bytes) and copies at most @cap bytes of it to @buf;
 * *@len_out > @cap means that the copy was cut short. What is in @buf beyond the value, or when there is none, is undefined.
 * A key that was read lately, by any process, and not written since is found in shared memory without a word to the daemon: as new as its answer would be.
 * Returns 0, SHALE_NOTFOUND, -ETIMEDOUT, -SHALE_ECORRUPT, -EIO, -SHALE_EOUSTED, -SHALE_EKICKED, -EPIPE.
 */
int shale_get(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len, void *buf,
	      size_t cap, size_t *len_out);

/* As shale_get, but the value is returned in memory of its own, owned by the caller: shale_free(). One spare NUL byte follows it. */
int shale_get_alloc(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len,
		    void **value_out, size_t *len_out);
void shale_free(void *p);

/* What became of one key of shale_multiget. */
struct shale_value {
	int result;        /* 0, SHALE_NOTFOUND, or a failure of this key alone (-SHALE_ECORRUPT, -EIO) */
	size_t size;
	const void *data;  /* the value; a spare NUL byte follows it. NULL unless result is 0 */
	uint64_t sequence; /* of the entry; 0 unless result is 0 */
};

/*
 * shale_multiget - read @count keys as of one moment, in one round trip; what has to come from disk is fetched all at once.
 *
 * Fills @values[0 … count-1]. Their data lies in one block of memory, *@memory_out, owned by the caller: shale_free() when they are not
 * needed any more. What is too much for one request is read in several, of the same moment.
 * Returns 0 when every key has its result, or a failure as of shale_get (-E2BIG: a key over the limit); *@memory_out is untouched then.
 */
int shale_multiget(struct shale_db *db, const struct shale_read_options *options, size_t count,
		   const struct shale_slice *keys, struct shale_value *values, void **memory_out);

/* ---- batches ---- */

/* Returns an empty batch, or NULL when memory is short. shale_batch_free takes NULL. */
struct shale_batch *shale_batch_new(void);
void shale_batch_free(struct shale_batch *batch);
void shale_batch_clear(struct shale_batch *batch);

/* Append a write (bytes are copied). Later writes of the same key win. 0, -ENOMEM or -E2BIG (over 4 GiB). */
int shale_batch_put(struct shale_batch *batch, const void *key, size_t key_len, const void *value, size_t value_len);
int shale_batch_delete(struct shale_batch *batch, const void *key, size_t key_len);

/*
 * Conditions: shale_write applies the batch only if all of them hold, judged together with the write at one moment, at the newest state. So
 * a batch is a compare-and-set over any keys, across processes, in one round trip.
 *
 *	absent      there is no such key
 *	present     there is one, whatever its value
 *	value       it has this value
 *	sequence    its entry is still the one of that sequence number, which a get tells (shale_read_options.sequence_out); 0: absent
 *
 * Bytes are copied. A condition counts as it is in the database, not as the batch would make it. 0, -ENOMEM or -E2BIG (more than 1024).
 */
int shale_batch_require_absent(struct shale_batch *batch, const void *key, size_t key_len);
int shale_batch_require_present(struct shale_batch *batch, const void *key, size_t key_len);
int shale_batch_require_value(struct shale_batch *batch, const void *key, size_t key_len, const void *value, size_t value_len);
int shale_batch_require_sequence(struct shale_batch *batch, const void *key, size_t key_len, uint64_t sequence);

/* Writes in the batch, and its encoded size in bytes, conditions included. */
size_t shale_batch_count(const struct shale_batch *batch);
size_t shale_batch_bytes(const struct shale_batch *batch);

/*
 * shale_write - apply a batch: all of it becomes visible at once, or none of it ever. The batch is unchanged and may be used again.
 * *@sequence_out (may be NULL) is the sequence number of its last write. Returns as shale_put does, and
 * SHALE_MISMATCH   a condition does not hold, nothing was applied; options->mismatch_out and mismatch_sequence_out tell which, and why.
 */
int shale_write(struct shale_db *db, const struct shale_write_options *options, const struct shale_batch *batch,
		uint64_t *sequence_out);

/* ---- snapshots ---- */

/*
 * Pins the present state. It holds disk space until it is released; so does a process that is stopped while holding one.
 * 0 and *@snapshot_out (shale_snapshot_release), -ENOSPC (too many pinned), -EPIPE.
 */
int shale_snapshot_take(struct shale_db *db, struct shale_snapshot **snapshot_out);

struct shale_snapshot_options {
	size_t struct_size;
	unsigned lease_ms;    /* how long it is wanted at most; 0, or more than the daemon allows: as long as that allows */
	uint64_t deadline_us; /* as in shale_read_options */
};
#define SHALE_SNAPSHOT_OPTIONS_INIT {sizeof(struct shale_snapshot_options), 0, 0}

/* The same with options, which may be NULL. Once its lease has ended, reads of it answer -SHALE_EOUSTED, unless the same
 * state is pinned by another one; it is released all the same. */
int shale_snapshot_take_with(struct shale_db *db, const struct shale_snapshot_options *options,
			     struct shale_snapshot **snapshot_out);
void shale_snapshot_release(struct shale_db *db, struct shale_snapshot *snapshot);
uint64_t shale_snapshot_sequence(const struct shale_snapshot *snapshot);

/* ---- iterators ---- */

/*
 * A cursor over one consistent state (options->snapshot, else the state now). It is not positioned: seek first.
 * Entries come in chunks; memory is bounded by the arena. While a cursor goes on in one direction, its next chunk is on its way before it
 * is needed. 0 and *@iter_out (shale_iter_close), or a failure.
 * Closing never waits for the daemon: what it cannot be told at once it is told with a later snapshot or iterator, or by the end of the handle.
 */
int shale_iter_open(struct shale_db *db, const struct shale_read_options *options, struct shale_iter **iter_out);
void shale_iter_close(struct shale_iter *iter);

/* Position. shale_iter_seek: at the first key >= @key. Afterwards shale_iter_valid says whether there is an entry. */
void shale_iter_seek_first(struct shale_iter *iter);
void shale_iter_seek_last(struct shale_iter *iter);
void shale_iter_seek(struct shale_iter *iter, const void *key, size_t key_len);

/* Move; the iterator must be valid. Changing direction is allowed. */
void shale_iter_next(struct shale_iter *iter);
void shale_iter_prev(struct shale_iter *iter);

/* 1 at an entry; 0 past either end or after a failure (shale_iter_error tells which: 0 at an end). */
int shale_iter_valid(const struct shale_iter *iter);
int shale_iter_error(const struct shale_iter *iter);

/* The entry's bytes, valid until the iterator moves or closes. The iterator must be valid. */
const void *shale_iter_key(const struct shale_iter *iter, size_t *len_out);
const void *shale_iter_value(const struct shale_iter *iter, size_t *len_out);

/* ---- many operations at once ---- */

/*
 * A queue has a session of its own, and thousands of operations under way in it: submit them, go on, collect completions.
 *
 *	shale_submit_get(queue, NULL, key, key_len, buf, sizeof(buf), &request);
 *	…
 *	n = shale_wait(queue, done, 64, UINT64_MAX);         // or shale_poll, when there is other work to do
 *
 * Each operation that was submitted (the call returned 0) gets exactly one completion, whatever happens: when the daemon goes away, reads are
 * repeated with the next one, for reconnect_ms at most (-EPIPE); a write whose fate is not known completes with -SHALE_EUNKNOWN.
 * Writes of one queue are applied in the order in which they were submitted. Reads may overtake them, and each other.
 *
 * Sleeping in a loop of one's own (epoll, poll, io_uring): 1. shale_poll until it returns 0; 2. shale_arm: when that returns 1, there is
 * something already: back to 1; 3. wait until shale_event_fd is readable: back to 1. No wake-up is lost: after shale_arm has returned
 * 0, the descriptor becomes readable with the next completion, and stays so until shale_poll or shale_arm is called.
 *
 * One thread at a time per queue. Nothing is allocated per operation in the usual case.
 */
struct shale_queue_options {
	size_t struct_size;
	unsigned in_flight; /* operations that the daemon works on at a time; 0: 256; 4000 at most */
	unsigned max_pending; /* operations submitted and not yet collected, one more answers -EAGAIN; 0: 16384 */
	size_t arena_bytes; /* shared memory for their payloads; 0: what in_flight operations of 4 KiB need. Grows by itself */
};
#define SHALE_QUEUE_OPTIONS_INIT {sizeof(struct shale_queue_options), 0, 0, 0}

struct shale_completion {
	void *user;        /* as given when it was submitted */
	int result;        /* what the call without a queue would return */
	size_t len;        /* get: bytes of the value, which may be more than cap; SHALE_MISMATCH: which condition, from 0 */
	void *value;       /* get without buf: the value, and multiget: the memory of its values. Owned by the caller: shale_free */
	uint64_t sequence; /* get: of the entry found; write: of its last record; SHALE_MISMATCH: of that key's entry */
	uint64_t reserved[2];
};

/* A queue on @db. 0 and *@queue_out (shale_queue_close), -ENOMEM, -EINVAL, or why no session could be had. @options may be NULL. */
int shale_queue_open(struct shale_db *db, const struct shale_queue_options *options, struct shale_queue **queue_out);

/* Ends its session. What was not collected is lost, and its writes may or may not have been applied. NULL is fine. */
void shale_queue_close(struct shale_queue *queue);

/*
 * Submit. Keys, values, batches and options are copied: they may be changed or freed when the call returns. options->snapshot must stay until the
 * completion, and so must @buf, @values: the answer is stored there until its completion is collected. Deadlines count from now.
 *
 * @buf NULL: the value comes in memory of its own (completion.value). sequence_out and mismatch_out must be NULL: the completion tells.
 * A multiget whose values are too much for one request completes with -E2BIG: split it.
 * They never block. An operation begins at the latest with the next shale_poll, shale_wait or shale_arm.
 * Returns 0: there will be a completion; -EAGAIN: max_pending is reached, collect first; -E2BIG (also a multiget of more than 4096 keys), -EINVAL, -EROFS, -ENOMEM, -SHALE_EFORKED: there
 * will be none.
 */
int shale_submit_get(struct shale_queue *queue, const struct shale_read_options *options, const void *key,
		     size_t key_len, void *buf, size_t cap, void *user);
int shale_submit_multiget(struct shale_queue *queue, const struct shale_read_options *options, size_t count,
			  const struct shale_slice *keys, struct shale_value *values, void *user);
int shale_submit_put(struct shale_queue *queue, const struct shale_write_options *options, const void *key,
		     size_t key_len, const void *value, size_t value_len, void *user);
int shale_submit_delete(struct shale_queue *queue, const struct shale_write_options *options, const void *key,
			size_t key_len, void *user);
int shale_submit_write(struct shale_queue *queue, const struct shale_write_options *options,
		       const struct shale_batch *batch, void *user);
int shale_submit_ping(struct shale_queue *queue, void *user);

/*
 * Collect: at most @max completions go to @out. The number, 0 when there is none now. shale_poll does not block, except for a
 * handshake when it finds the daemon back after a restart. With @max 0 it only sets going what was submitted.
 */
int shale_poll(struct shale_queue *queue, struct shale_completion *out, size_t max);

/*
 * As shale_poll, but waits for the first one: up to @timeout_us (UINT64_MAX: as long as it takes). 0 when the time is over, or when nothing is under
 * way. -SHALE_EFORKED.
 */
int shale_wait(struct shale_queue *queue, struct shale_completion *out, size_t max, uint64_t timeout_us);

/* A descriptor to wait on, the same for the queue's whole life. It is the queue's: do not read it, do not close it. */
int shale_event_fd(const struct shale_queue *queue);

/* Before waiting on shale_event_fd. 1: there may be completions now, so poll instead of waiting. 0: wait. -SHALE_EFORKED. */
int shale_arm(struct shale_queue *queue);

/*
 * Asks that operations with this @user end early. Each still gets its one completion: -ECANCELED, or what came of it if it was too late.
 * Returns how many were asked.
 */
int shale_cancel(struct shale_queue *queue, const void *user);

/* Operations submitted and not yet collected. */
size_t shale_queue_pending(const struct shale_queue *queue);

/* ---- the database as a whole ---- */

/* A no-op round trip through the ring: is the daemon there and serving? */
int shale_ping(struct shale_db *db);

/* Writes memtables out as SSTables; returns when what was written before the call is in them. */
int shale_flush(struct shale_db *db);

struct shale_compact_options {
	size_t struct_size;
	int one_level; /* only what `level` (0 to 6) holds of the range, into the next one; the last is rewritten */
	int level;
	int no_wait;   /* return when it is begun; it goes on without this process */
	int (*watch)(void *context); /* called about ten times a second while the call waits; not 0 cancels */
	void *watch_context;
	uint64_t deadline_us; /* stop waiting after this long: -ETIMEDOUT; what was done until then stays; 0: never */
};
#define SHALE_COMPACT_OPTIONS_INIT {sizeof(struct shale_compact_options), 0, 0, 0, NULL, NULL, 0}

/*
 * shale_compact - compacts the range [start, limit) down to the deepest level that holds any of it; NULL for open ends.
 *
 * Returns 0 when done (or begun); -ECANCELED when options->watch said so: what was done until then stays, and nothing is lost; -EINVAL, -E2BIG,
 * -ENOSPC, -SHALE_ECORRUPT, -SHALE_EFAILED, -EPIPE. A daemon that restarts meanwhile is asked again. @options may be NULL.
 */
int shale_compact(struct shale_db *db, const struct shale_compact_options *options, const void *start, size_t start_len,
		  const void *limit, size_t limit_len);

/* The same without options. */
int shale_compact_range(struct shale_db *db, const void *start, size_t start_len, const void *limit, size_t limit_len);

/*
 * A property by LevelDB's name ("leveldb.stats", "leveldb.num-files-at-level0", "leveldb.sstables",
 * "leveldb.approximate-memory-usage") as text; *@text_out is NUL-terminated and owned by the caller (shale_free).
 * SHALE_NOTFOUND for a name that is not known.
 */
int shale_property(struct shale_db *db, const char *name, char **text_out);

/* Approximate bytes on disk of [start, limit). */
int shale_approximate_size(struct shale_db *db, const void *start, size_t start_len, const void *limit, size_t limit_len,
			   uint64_t *bytes_out);

/*
 * Largest key, and largest write, that the daemon takes, in bytes. A write counts as it is encoded: shale_batch_bytes(); a single
 * put is its key, its value and at most 23 bytes around them.
 */
void shale_limits(const struct shale_db *db, size_t *max_key_out, size_t *max_request_out);

/* Words for a code, positive or negative. Never NULL; lives for ever. */
const char *shale_strerror(int code);

/*
 * The whole story of the calling thread's last failure on @db (NULL: of its last shale_open): what, where, likely
 * cause, next step. "" when there was none. Valid until the thread's next failing call.
 */
const char *shale_last_error(const struct shale_db *db);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
