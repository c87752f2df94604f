/*
 * ring.h - the two single-producer single-consumer rings of a channel, from either side.
 *
 *	client:  ring_sq_room → fill ring_sq_slot → ring_sq_publish → (ring the doorbell if it says so)
 *	daemon:  ring_sq_take (copies) → … → ring_cq_push → ring_cq_publish → (wake as it says: futex, or a byte on the socket)
 *	client:  ring_cq_peek → read → ring_cq_pop
 *
 * Each side keeps its own indices, masks and sizes in private memory (struct ring_client, struct ring_daemon) and reads
 * the other side's index at most once per step. Indices are free-running uint32; `produced - consumed` is the fill. A
 * consumer's index is fetched anew only when the copy seen last says that half of the ring is taken: it lies on a line
 * that the other core writes all the time, and fetching it at each step would cost two line transfers per round trip.
 * The memory-order argument of publish, park and wake is in shm/README.md.
 */
#ifndef SHALE_SHM_RING_H
#define SHALE_SHM_RING_H

#include "shm/layout.h"

/* The client's private end. One thread at a time. */
struct ring_client {
	struct channel_client *mine;
	struct channel_daemon *theirs;
	struct sqe *sq;
	struct cqe *cq;
	uint32_t entries;    /* submissions; completions are twice as many */
	uint32_t sq_tail;    /* next slot to fill */
	uint32_t sq_head;    /* the daemon's sq_head as last fetched; never ahead of the truth */
	uint32_t cq_head;    /* next completion to read */
	uint32_t state_seen; /* enum channel_state that ring_client_park() has reported */
};

/* The daemon's private end. The service thread only. */
struct ring_daemon {
	struct channel_client *theirs;
	struct channel_daemon *mine;
	const struct sqe *sq;
	struct cqe *cq;
	uint32_t entries;
	uint32_t sq_head;   /* next submission to take */
	uint32_t cq_tail;   /* next completion slot */
	uint32_t cq_shown;  /* cq_tail as last published */
	uint32_t cq_head;   /* the client's cq_head as last fetched */
	uint32_t in_flight; /* taken and not yet completed; <= entries */
	uint32_t ticket;    /* PARK_SOCKET: the client's `parked` word that a byte was sent for last */
};

/* Bounds that both sides hold a channel's sizes to. */
enum {
	RING_ENTRIES_MIN = 8,
	RING_ENTRIES_MAX = 4096,
	ARENA_SIZE_MIN = 64 << 10,
	ARENA_SIZE_MAX = (1 << 30) + (64 << 20), /* a request of 1 GiB, and what frames it */
};

/*
 * Bytes that a channel with these sizes takes: pages, rings, arena, each on pages of its own. 0 when the sizes are
 * out of bounds or @entries is no power of two.
 */
size_t channel_size(uint32_t entries, size_t arena_size);

/*
 * Daemon: lays out a fresh, zeroed channel of @size bytes at @base and fills its constant page and @ring.
 * @entries and @arena_size must have been checked. Also returns the arena through *@arena_out.
 */
void ring_daemon_init(struct ring_daemon *ring, void *base, uint64_t session, uint32_t entries, size_t arena_size,
		      unsigned char **arena_out);

/*
 * Client: attaches to a mapped channel and checks its constant page against @size.
 * Returns 0, or -EPROTO when the page does not add up.
 */
int ring_client_init(struct ring_client *ring, void *base, size_t size, uint64_t *session_out,
		     unsigned char **arena_out, size_t *arena_size_out);

/* ---- client ---- */

/* Free submission slots: at least so many; exact whenever fewer than half of the ring are free. */
uint32_t ring_sq_room(struct ring_client *ring);

/* The slot @ahead places after the tail (0 is the next); ring_sq_room() > @ahead must hold. */
struct sqe *ring_sq_slot(struct ring_client *ring, uint32_t ahead);

/* Makes @count filled slots visible. Returns true when the daemon is parked: write 1 to the doorbell. */
bool ring_sq_publish(struct ring_client *ring, uint32_t count);

/* The oldest unread completion, or NULL. Valid until ring_cq_pop. */
const struct cqe *ring_cq_peek(struct ring_client *ring);
void ring_cq_pop(struct ring_client *ring);

/* enum channel_state as the daemon last set it. */
uint32_t ring_client_state(const struct ring_client *ring);

/*
 * Sleeps until a completion may be there, the daemon changes the state, or @timeout_ns passes (0: no sleep).
 * Sets parked, re-checks, waits on cq_tail by futex. Returns 0 when woken or there is work, -ETIMEDOUT.
 * CHANNEL_CLOSING is reported once, so that a client can go on sleeping for what is in flight; CHANNEL_BROKEN always.
 *
 * Sleep in bounded slices, and look at the socket between them: a killed daemon wakes nobody, and a change of state
 * that falls between the re-check and the sleep is seen at the next slice (completions are never missed).
 */
int ring_client_park(struct ring_client *ring, uint64_t timeout_ns);

/*
 * Asks to be woken over the socket (PARK_SOCKET) with @ticket, which must be a new one: one byte comes when a completion does. True: it will. False: there is
 * something to read, or news of the state, now, and nothing was asked for. ring_client_disarm takes it back; a byte may come all the same.
 */
bool ring_client_arm(struct ring_client *ring, uint32_t ticket);
void ring_client_disarm(struct ring_client *ring);

/* ---- daemon ---- */

/*
 * Copies at most @max submissions to @out (private memory) and hands their slots back. Never takes more than entries -
 * in_flight, so that a client which drains its completions always finds room for them. Returns how many; 0 when none;
 * -EPROTO when the client's tail runs backwards or past the ring (the session is then broken for good).
 */
int ring_sq_take(struct ring_daemon *ring, struct sqe *out, uint32_t max);

/* True when the client has submissions waiting, judged by one acquire load (a broken index also says true). */
bool ring_sq_waiting(const struct ring_daemon *ring);

/*
 * Puts a completion into the ring, not yet visible; one request is no longer in flight. Returns 0, -EAGAIN when the
 * client has not drained its ring (keep the completion, publish, stop taking from this session), -EPROTO when its head,
 * looked at once the ring seems half full, is out of bounds.
 */
int ring_cq_push(struct ring_daemon *ring, const struct cqe *cqe);

/*
 * Completions that the ring has room for besides those of requests in flight: as many submissions may be taken, so that a completion never
 * finds the ring full. -EPROTO as ring_cq_push().
 */
int ring_cq_room(struct ring_daemon *ring);

/* How a client wants to be woken. */
enum ring_wake {
	RING_WAKE_NONE = 0,
	RING_WAKE_FUTEX = 1,  /* a thread of it sleeps: call ring_wake_client() */
	RING_WAKE_SOCKET = 2, /* it polls the session's socket: send one byte. Said once for each ticket */
};

/* Makes pushed completions visible. */
enum ring_wake ring_cq_publish(struct ring_daemon *ring);

/* Wakes a client that sleeps on cq_tail. Never blocks. */
void ring_wake_client(struct ring_daemon *ring);

/*
 * Parks this session: from now on the client rings the doorbell. Returns true when parked; false when a submission
 * came in between (the flag is taken back).
 */
bool ring_daemon_park(struct ring_daemon *ring);
void ring_daemon_unpark(struct ring_daemon *ring);

/* Tells the client that its session is over (enum channel_state), and wakes it by futex. RING_WAKE_SOCKET: it also needs the byte. */
enum ring_wake ring_daemon_set_state(struct ring_daemon *ring, uint32_t state);

/* Invariants, for debug builds and tests. 0, or -EPROTO with words for what is wrong through *@why_out. */
int ring_daemon_check(const struct ring_daemon *ring, const char **why_out);

#endif
