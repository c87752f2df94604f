/*
 * session.h - one connected client thread: its channel, its ring, its requests, its snapshots.
 *
 *	control thread                 service thread
 *	session_new, WELCOME ──ADOPT─▶ polled, served
 *	hang-up, pidfd ────────END───▶ ending: answers nothing any more
 *	hang up ◀────────────BROKEN──  the client broke the protocol, or was kicked (END follows)
 *	session_free ◀────────GONE───  its doorbell is not being read any more
 *
 * A session belongs to the control thread until ADOPT is posted and after GONE is; between them the fields below the line are the service
 * thread's alone. What is above the line is constant.
 *
 * The socket's descriptor is open from before ADOPT until after GONE. To hang up, the control thread shuts the connection down and does not close it, so the
 * service thread may send on it at any time between the two: on a connection that is down that fails, and can never hit another's descriptor. It does so
 * after BROKEN, or closes after GONE: a client that sees a hang-up knows that nothing more is taken from its ring, and may ask elsewhere for what was not.
 */
#ifndef SHALE_DAEMON_SESSION_H
#define SHALE_DAEMON_SESSION_H

#include "daemon/mailbox.h"
#include "daemon/request.h"
#include "daemon/user.h"
#include "engine/io.h"
#include "shm/region.h"
#include "shm/ring.h"
#include "shm/segment.h"

/* Bits of mails to the service thread, and from it. */
enum { SESSION_ADOPT = 1 << 0, SESSION_END = 1 << 1 };
enum { SESSION_BROKEN = 1 << 0, SESSION_GONE = 1 << 1 }; /* BROKEN: hang up */

struct session_snapshot {
	uint64_t sequence;
	uint64_t until_ns; /* CLOCK_MONOTONIC; 0: no lease */
	int row;	   /* in the region's table; -1: its lease is over, and it pins nothing any more */
};

struct session {
	uint64_t id; /* slot | generation << 32 */
	pid_t pid;
	uid_t uid;
	char command[32]; /* comm of the process at connect */
	bool read_only;
	struct segment channel; /* without a name: unlinked */
	unsigned char *arena;
	size_t arena_size;
	int doorbell;	 /* eventfd; the client has a copy */
	int socket;	 /* non-blocking; -1 in tests */
	struct mail in;	 /* to the service thread: SESSION_ADOPT, SESSION_END */
	struct mail out; /* to the control thread: SESSION_BROKEN, SESSION_GONE */

	/* ---- the control thread's ---- */
	int pidfd; /* -1 when closed */
	bool hung_up;
	struct session *next, **place; /* control.sessions, and what points to it there */

	/* ---- the service thread's ---- */
	struct service *service;
	struct ring_daemon ring;
	struct list link;	  /* service.active, .parked, .clogged or .ending */
	struct list dirty;	  /* service.dirty: completions that are not yet shown */
	struct list stalled_link; /* service.stalled, while `stalled` is not empty */
	struct list stalled;	  /* writes in their order */
	struct request *fetching; /* a write before all of those: its conditions wait for blocks */
	struct list requests;	  /* all that wait */
	struct list answering;	  /* its reads of large values, in their order */
	struct list answer_link;  /* user.answering, from when there is one until none was found */
	size_t held;		  /* bytes of payload that they have in the arena */
	struct list crowd;	  /* room.c: reads that wait for room */
	struct list crowd_link;	  /* user.crowded, while there is one */
	size_t room_used;	  /* bytes that its reads pin */
	unsigned readers;	  /* of those, that are at it */
	bool active, parked, clogged, ending;
	bool end_seen;		  /* SESSION_END came: only then may it be GONE, so that no mail is left behind */
	unsigned closing_left;	  /* submissions still taken once the daemon is closing */
	uint64_t busy_ns;	  /* when it last had work */
	uint64_t clogged_wait_ns; /* how long to leave it alone before the next look */
	int guard;		  /* SIGBUS guard; -1: none */
	int row;		  /* in the region's session table; -1: none */
	uint64_t operations, bytes_in, bytes_out, throttled_us, ousted;

	struct user *user;
	struct list turn;     /* user.polled, while it is active */
	struct list light;    /* service.light, while it is active and asks for little */
	uint64_t light_round; /* when it was looked at last */
	int64_t deficit;      /* what it may cost in this visit; negative: a debt */
	bool large;	      /* its last request cost much */
	uint64_t write_tag;   /* shares.c: virtual time at which its next write begins */
	int64_t pace_left;    /* its part of the paced rate, in bytes */
	uint64_t pace_ns, pace_round;

	struct io_req bell; /* reads the doorbell */
	bool bell_armed;
	uint64_t bell_count;
	struct session_snapshot *snapshots;
	unsigned snapshot_count, snapshot_cap;
	unsigned pinned;	/* of those, that are not over */
	struct list leased;	/* service.leased, while one of them has a lease */
};

/* What a client asked for, already bounded. */
struct session_wish {
	uint32_t entries; /* power of two */
	size_t arena_size;
	bool read_only;
};

/*
 * Control thread: makes the channel, its doorbell and the session. Nothing refers to it yet. 0 and *@out, or a negative code with words (for the client, so
 * without paths).
 */
int session_new(const char *instance, uint64_t id, const struct session_wish *wish, struct session **out,
		struct err_info *err);
void session_free(struct session *s); /* NULL is fine; closes everything */

/* Wakes the client in the way that it asked for. Never blocks. */
void session_wake(struct session *s, enum ring_wake how);

/* Tells the client a state of its channel. */
void session_tell(struct session *s, enum channel_state state);

/* What it asked for, or was answered, cost so much. */
static inline void session_charge(struct session *s, uint64_t cost)
{
	s->deficit -= (int64_t)cost;
	s->user->credit -= (int64_t)cost;
}

#endif
