/*
 * fake_daemon.h - a daemon in a thread, over a sorted array, that can misbehave on demand.
 *
 * It speaks the real handshake and the real rings, so that libshale is tested alone, and against what a real
 * shaled never does on purpose. The store outlives fake_kill(), as the disk outlives shaled.
 */
#ifndef SHALE_TESTS_CLIENT_FAKE_DAEMON_H
#define SHALE_TESTS_CLIENT_FAKE_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>

#include "shm/handshake.h"
#include "shm/park.h"
#include "shm/region.h"
#include "shm/row_cache.h"
#include "shm/ring.h"

/* How it answers HELLO. */
enum fake_handshake {
	SHAKE_WELL,
	SHAKE_HANG_UP, /* closes at once */
	SHAKE_SILENT,  /* accepts and says nothing */
	SHAKE_GARBAGE, /* other bytes than WELCOME */
	SHAKE_OTHER_ABI,
	SHAKE_REFUSE, /* status -EACCES with words */
	SHAKE_NO_FDS, /* WELCOME without descriptors */
	SHAKE_FLAKY,  /* hangs up fake.misses times, then behaves */
	SHAKE_ENDING, /* the same, with a daemon's words that it is ending */
};

/* How it answers requests. */
enum fake_mood {
	MOOD_SERVE,
	MOOD_MUTE,	   /* takes nothing */
	MOOD_SWALLOW,	   /* takes and never answers */
	MOOD_LATE,	   /* takes, and answers only when the mood changes */
	MOOD_DIE_TAKEN,	   /* takes the next request that is not a NOP, does it, and dies without answering */
	MOOD_DIE_UNTAKEN,  /* dies when there is a request to take */
	MOOD_BREAK,	   /* declares the channel broken on the next request */
	MOOD_KICK,	   /* an administrator ends the session at the next request */
	MOOD_CLOSING,	   /* declares itself closing, completes what it took, dies */
	MOOD_GARBAGE_SCAN, /* chunks of random bytes */
	MOOD_CIRCLE_SCAN,  /* always the first chunk again */
	MOOD_EMPTY_MORE,   /* empty chunks that say there is more */
	MOOD_HUGE_LEN,	   /* answers longer than any room, without end */
	MOOD_WRONG_IDS,	   /* completions for requests that nobody made come before each answer */
	MOOD_FAIL,	   /* each request fails with fake.fail_code */
};

enum { FAKE_SESSIONS = 64, FAKE_PINS = 64, FAKE_HELD = 4096 };

struct fake_entry {
	struct slice key, value; /* owned */
	uint64_t sequence;
	bool deleted;
};

struct fake_session {
	int socket, doorbell;
	struct segment channel;
	struct ring_daemon ring;
	unsigned char *arena;
	size_t arena_size;
	bool connected; /* WELCOME was sent */
	bool read_only;
	bool broken; /* declared so; not served any more */
	uint64_t id, pins[FAKE_PINS];
	unsigned pin_count;
	struct sqe held[FAKE_HELD]; /* MOOD_LATE */
	unsigned held_count;
	uint32_t ticket; /* the last one that was answered by a byte */
};

struct fake {
	char *path;
	/* set before fake_start, or changed at any time where _Atomic */
	_Atomic int handshake, mood, fail_code, misses;
	size_t max_request, max_key, arena; /* as WELCOME tells them; arena: the default size */
	unsigned spin_us;
	int64_t clock_ahead; /* of its CLOCK_MONOTONIC, as in another time namespace */
	/* counted, for tests to look at */
	_Atomic uint64_t deadline_ns; /* of the last request */
	_Atomic unsigned sessions, handshakes, requests, writes, pins, largest_arena, last_lease;

	/* the thread's */
	pthread_t thread;
	bool running;
	_Atomic bool stop;
	int listener;
	struct region region;
	struct row_cache rows; /* one that never holds anything */
	struct fake_session session[FAKE_SESSIONS];
	struct fake_entry *entries; /* by key, then newest first */
	size_t entry_count, entry_room;
	uint64_t sequence, next_session;
};

/* fake_ops.c: does what @sqe asks for and fills @cqe but its user_data. */
void fake_request(struct fake *f, struct fake_session *s, const struct sqe *sqe, struct cqe *cqe);

/* Wrong answers to a scan, in the moods for it. */
void fake_bad_scan(struct fake *f, struct fake_session *s, const struct sqe *sqe, int mood, struct cqe *cqe);

/* A fake on @path with usual limits, not started. Freed by fake_free, which also stops it. */
struct fake *fake_new(const char *path);
void fake_free(struct fake *f);

/* Listens and serves, as a new run of the daemon (another boot id). */
void fake_start(struct fake *f);

/* Ends as if killed: sockets hang up, the socket file stays, nothing is answered any more. */
void fake_kill(struct fake *f);

#endif
