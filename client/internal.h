/*
 * internal.h - what the files of libshale share.
 *
 *	shale_db ── lanes: one per thread that called ── channel ═ socket + rings + arena ═▶ shaled
 *	         └─ main: the session made by shale_open, which pins snapshots ── channel ═▶
 *
 * Everything that asks the daemon something is a struct call: pieces of payload that are gathered into an arena, and what is
 * wanted back. call.c sends it, waits, and deals with a daemon that went away; nobody else touches a ring.
 *
 * Locks, in this order: db->main_lock (the main session; held while it talks), db->left_lock (a list; held for a few pointer
 * moves), lanes_lock in lane.c (lists of lanes; likewise). A lane's channel is used by its thread alone, so the usual call takes no lock.
 */
#ifndef SHALE_CLIENT_INTERNAL_H
#define SHALE_CLIENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/autostart.h"
#include "client/shale.h"
#include "shm/error.h"
#include "shm/park.h"
#include "shm/region.h"
#include "shm/ring.h"
#include "shm/row_cache.h"

/*
 * A chunk that is on its way while an iterator's owner consumes the one before. It has a quarter of the arena, from its end on; so calls have at least
 * half of it, and all of it when nothing is asked for ahead.
 */
struct ahead {
	uint64_t owner;	  /* the iterator's ticket; 0: free; AHEAD_ABANDONED: nobody waits for it any more */
	uint64_t id;	  /* its user_data */
	bool done;
	size_t out_off;
	uint32_t out_len;
	struct cqe cqe;
};

#define AHEAD_ABANDONED UINT64_MAX
enum { AHEADS = 2 };

/* One session: socket, rings, arena. One thread at a time. */
struct channel {
	struct ring_client ring;
	unsigned char *arena;
	size_t arena_size;
	uint64_t session;
	uint64_t calls; /* made so far: user_data is this and the op, so that no two calls share one */
	struct spinner spin;
	int socket;   /* -1: not connected */
	int doorbell; /* eventfd */
	void *base;   /* mapping of the whole segment */
	size_t size;
	unsigned char boot_id[16]; /* which run of the daemon */
	int64_t clock_ahead;       /* of the daemon's CLOCK_MONOTONIC before ours: not 0 in another time namespace */
	size_t usual_arena;        /* what is usual on this handle; a larger one was needed once */
	unsigned small_calls;      /* so many in a row did not need it */
	struct row_reader rows;    /* of the session's daemon; the main session has none */
	struct ahead ahead[AHEADS];
};

/*
 * A thread's channel to one database. Two owners: the thread's list, walked by that thread alone, and the database's list;
 * the last of the two to let go frees it. @db and @refs are guarded by lanes_lock; @channel belongs to the thread, or to
 * shale_close, which runs alone; a lane that both lists have let go belongs to whoever let go last.
 */
struct lane {
	struct channel channel;
	struct shale_db *db; /* NULL: closed */
	uint64_t db_id;
	unsigned fork_count; /* the database's */
	unsigned refs;
	struct lane *next_of_thread;
	struct lane *next_of_db, **link_of_db;
};

struct shale_db {
	uint64_t id;	     /* never used twice in this process, unlike an address */
	unsigned fork_count; /* as it was at open; another value now means that this is a child */
	char *path;	     /* of the socket, absolute where possible */
	unsigned reconnect_ms;
	unsigned spin_us; /* 0: what the daemon suggests */
	bool read_only;
	bool one_core;			     /* a spin could only delay the daemon's answer */
	size_t arena_bytes;		     /* wanted; 0: the daemon's default */
	uint64_t deadline_us;		     /* of calls that have none; 0: none */
	_Atomic size_t usual_arena;	     /* what the daemon gives a lane that asks for nothing special. relaxed */
	_Atomic size_t max_key, max_request; /* bytes; from the last WELCOME. relaxed: each stands by itself */
	struct autostart autostart;
	struct lane *lanes;		     /* guarded by lanes_lock */

	pthread_mutex_t main_lock;
	struct channel main; /* guarded by main_lock, as is @region */
	struct region region;
	pthread_mutex_t left_lock;
	struct shale_snapshot *left; /* guarded by left_lock: let go of, and not yet released (snapshot.c) */
	_Atomic uint64_t
		main_count; /* main sessions so far; release after @main is made, pairs with snapshot_alive() */
};

struct shale_snapshot {
	uint64_t sequence;	   /* as in submissions */
	uint64_t main_count;	   /* the pin went with that main session, */
	unsigned char boot_id[16]; /* and with that run of the daemon */
	struct shale_snapshot *next; /* in db->left */
};

/* ---- error.c ---- */

/* Remembers the words of this thread's failure on @db (NULL: of an open) and returns @code. */
int fail(const struct shale_db *db, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same with words that @err holds already. */
int fail_info(const struct shale_db *db, const struct err_info *err);

/* Words for a negative answer @code of the daemon to @what. Returns @code. */
int fail_answer(struct shale_db *db, const char *what, int code);

/* ---- lane.c ---- */

/* Forks seen by this process since it loaded the library. */
extern _Atomic unsigned fork_count;

/* One-time set-up of thread-exit and fork handling. 0 or -errno. */
int lanes_setup(void);

/* The calling thread's lane, made at its first call (unconnected). NULL when memory is short. */
struct lane *lane_get(struct shale_db *db);

/* Closes every thread's channel to @db. No other thread may be inside a call. */
void lanes_close(struct shale_db *db);

/* Fails unless this process opened @db. */
static inline int check_fork(const struct shale_db *db)
{
	if (likely(atomic_load_explicit(&fork_count, memory_order_relaxed) == db->fork_count))
		return 0;
	return fail(db, -SHALE_EFORKED,
		    "this handle was opened before fork(); a child process must call shale_open itself");
}

/* ---- channel.c ---- */

/* The moment in CLOCK_MONOTONIC that is @us from now. */
static inline uint64_t deadline_after(uint64_t us)
{
	return monotonic_ns() + min_size(us, UINT64_MAX / 4000) * 1000;
}

/* What a submission says for the moment @deadline_ns of ours; 0: none. */
static inline uint64_t channel_deadline(const struct channel *ch, uint64_t deadline_ns)
{
	return deadline_ns ? deadline_ns + (uint64_t)ch->clock_ahead : 0;
}

/* A channel that is not connected. */
void channel_init(struct channel *ch);

/*
 * One handshake: connects @ch (not connected) with @entries (0: the default) and room for @arena_size bytes (0: the default), waiting
 * at most @timeout_ms. The main session also maps the region, replacing db->region. 0, or a failure with words; @ch is then still unconnected.
 */
int channel_connect(struct shale_db *db, struct channel *ch, uint32_t entries, size_t arena_size, unsigned timeout_ms,
		    struct err_info *err);

/* Ends the session. In a forked child (@forked) only this process's descriptors go: the parent's session is not touched. */
void channel_close(struct channel *ch, bool forked);

/* Unmaps the region (not in a forked child, which never had it). */
void region_drop(struct shale_db *db, bool forked);

/* True when the daemon's end of the socket is gone. A system call. */
bool channel_hung_up(const struct channel *ch);

/* Nobody listens there, or nobody yet: worth another try. */
bool connect_may_retry(int rc);

/* Arena that holds @need bytes, at most what the daemon gives: a power of two, or that limit. */
size_t arena_limit(const struct shale_db *db);
size_t arena_for(const struct shale_db *db, size_t need);

/* Writes the doorbell of a daemon that sleeps. */
void channel_ring(const struct channel *ch);

/* Sleeps for the backoff step *@step_ms (at most until @until_ns) and doubles it, up to 50 ms. */
void backoff(unsigned *step_ms, uint64_t until_ns);

/* ---- call.c ---- */

enum { CALL_PARTS = 5 };

/* A request. */
struct call {
	const char *what; /* "put", for words */
	uint16_t op, flags;
	bool write;	   /* must not be repeated once the daemon has taken it */
	bool length_only;  /* the answer's length is enough */
	bool takes_long;   /* the handle's deadline is not meant for it */
	bool same_session; /* of no use in a later session than the present one: -SHALE_EOUSTED instead of a reconnect */
	uint32_t extra_len; /* of the payload: conditions of a write */
	unsigned parts;
	struct slice part[CALL_PARTS]; /* gathered into the arena, in this order */
	size_t out_want;	       /* room for the answer that would be nice: taken as far as the arena goes */
	size_t out_need;	       /* room that must be; the arena grows to it */
	const struct shale_snapshot *snapshot;
	uint64_t sequence;    /* sqe.sequence, when there is no snapshot */
	uint64_t deadline_us; /* from now; 0: none */
	int (*watch)(void *context); /* called ten times a second while it waits, where a request may be cancelled: not 0 cancels */
	void *watch_context;
};

/* What came back. */
struct answer {
	int res;
	uint16_t flags;		    /* CQE_… */
	size_t len;		    /* bytes of the answer; SHALE_MISMATCH: which condition */
	const unsigned char *bytes; /* in the arena: valid until this thread's next call */
	uint64_t sequence;
};

/*
 * Asks over the calling thread's channel: connects, grows, waits, repeats after a restart of the daemon as far as that
 * is safe. Returns the daemon's answer (0 or positive, *@out filled), or a failure with words remembered.
 */
int call_run(struct shale_db *db, const struct call *call, struct answer *out);

/* The same over the main session; the caller holds main_lock. No payload either way. */
int call_main(struct shale_db *db, const struct call *call, struct answer *out);

/*
 * Asks over the calling thread's channel without waiting, for the iterator with @ticket. Nothing happens when that is not possible now: it is only ever a
 * gain. @call as for call_run, with out_want as the room that is enough.
 */
void call_ahead(struct shale_db *db, const struct call *call, uint64_t ticket);

/*
 * The answer to it, waiting for it if need be; valid until call_ahead_drop. False: there is none, or none of use; ask by call_run.
 */
bool call_ahead_answer(struct shale_db *db, const struct call *call, uint64_t ticket, struct answer *out);

/* Nobody will ask for it any more. */
void call_ahead_drop(struct shale_db *db, uint64_t ticket);

/* Sends OP_RELEASE for @snapshot over the main session and does not wait. False: the ring is full. The caller holds main_lock. */
bool call_release_nowait(struct shale_db *db, const struct shale_snapshot *snapshot);

/* True while the main session that pinned @snapshot lives, as far as this process knows. */
static inline bool snapshot_alive(const struct shale_db *db, const struct shale_snapshot *snapshot)
{
	return atomic_load_explicit(&db->main_count, memory_order_acquire) == snapshot->main_count;
}

/* ---- options ---- */

/*
 * Copies an options struct of a caller who may have been compiled with an older or a newer header: missing fields are 0,
 * unknown ones must be. @from may be NULL (all defaults). 0 or -EINVAL with words.
 */
int options_copy(const struct shale_db *db, void *to, size_t to_size, const void *from);

/* ---- snapshot.c ---- */

/* Pins the present state in the caller's memory, for @lease_ms at most (0: the daemon's longest). As shale_snapshot_take. */
int snapshot_take(struct shale_db *db, unsigned lease_ms, uint64_t deadline_us, struct shale_snapshot *out);

/* Takes @snapshot (of malloc), and releases it now or with a later call; never waits, neither for the daemon nor for a thread that does. */
void snapshot_leave(struct shale_db *db, struct shale_snapshot *snapshot);

#endif
