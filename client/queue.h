/*
 * queue.h - what the files of a queue share: operations, their lists, the areas of the arena.
 *
 *	            submit                  issue                     completion              collect
 *	FREE ──────────────────▶ PENDING ──────────────▶ FLYING ──────────────────▶ DONE ──────────────▶ FREE
 *	     └─ straight into the ring when there is room ─▲ │ │ ▲
 *	                             ▲────── daemon gone ────┘ └─┼▶ LATE: its deadline passed without an answer; DONE was told
 *	                                                         │  by another op; its area waits for the daemon's answer
 *
 * PENDING operations own a copy of their payload; FLYING ones have it in the arena, where it stays readable when the daemon has gone: so the usual
 * way copies once and allocates nothing, and a loss copies what has to be asked again.
 *
 * The arena is halved: slots of SLOT bytes for the usual small operations (taken from the top of a stack, so that a busy queue keeps using the same
 * few cache lines), and extents, first fit, for the rest.
 *
 *	0 ── slots ── slots_end ── extents ── size
 */
#ifndef SHALE_CLIENT_QUEUE_H
#define SHALE_CLIENT_QUEUE_H

#include "client/internal.h"

enum { QUEUE_SLOT = 4096 };

#define OP_NONE UINT32_MAX

enum op_state { OP_FREE, OP_PENDING, OP_FLYING, OP_LATE, OP_DONE };

/* Where an operation's payload and answer lie. */
struct area {
	size_t off, size; /* size 0: none */
};

struct op {
	void *user;
	uint32_t prev, next; /* of its list, by index; next alone for OP_DONE and OP_FREE */
	uint32_t round;      /* of its sqe.user_data: counts issues, so that no two share an id */
	uint32_t position;   /* FLYING: of its slot in the submission ring */
	uint8_t state;
	bool cancelled;      /* an OP_CANCEL was asked for it */
	bool cancel_waits;   /* and could not be sent yet */
	uint16_t opcode, flags;
	uint32_t in_len, extra_len;
	uint32_t out_need;      /* room that the answer is known to need */
	uint32_t room;          /* FLYING: that it was given */
	unsigned char *payload; /* PENDING: owned */
	struct area area;       /* FLYING, LATE */
	const struct shale_snapshot *snapshot; /* the caller's */
	uint64_t deadline_ns;
	void *buf; /* GET: the caller's, or NULL. MULTIGET: its struct shale_value[] */
	size_t cap;
	/* DONE: */
	int result;
	size_t len;
	void *value; /* owned until collected */
	uint64_t sequence;
};

struct op_list {
	uint32_t head, tail; /* OP_NONE: empty */
};

struct shale_queue {
	struct shale_db *db;
	struct channel ch;
	uint32_t in_flight_wanted, in_flight_limit;
	size_t arena_wanted, arena_asked; /* for the next session; of this one */

	struct op *ops; /* max + in_flight_wanted of them; the first `used` were ever used */
	uint32_t max, used, count; /* count: submitted and not collected */
	uint32_t free_head;
	struct op_list pending, done;
	uint32_t flying;  /* FLYING and LATE */
	uint32_t cancels; /* OP_CANCEL in flight */
	uint32_t cancels_waiting;
	uint32_t unpublished;
	uint32_t rounds;

	uint32_t *slots; /* free ones, a stack */
	uint32_t slot_count, slots_free;
	size_t slots_end;
	struct area *extents; /* taken ones, by offset */
	uint32_t extent_count;

	/* the daemon is gone: */
	uint64_t give_up_ns; /* 0: it has not been missed */
	uint64_t retry_ns;
	unsigned step_ms;

	uint64_t check_ns; /* no deadline is due before; UINT64_MAX: there is none */
	bool must_look;  /* this session is known to have ended */
	uint32_t idle_polls;
	uint64_t looked_ns; /* at the socket, last */

	int epoll, timer; /* the event descriptor; a timer in it */
	uint64_t timer_ns; /* what it is set to; 0: not */
	uint32_t ticket;
	bool armed;
};

/* ---- queue_areas.c ---- */

/* Lays out the arena of a fresh channel. */
void areas_reset(struct shale_queue *q);

/* An area of at least @size bytes. False: none is free now. */
bool area_take(struct shale_queue *q, size_t size, struct area *out);
void area_give(struct shale_queue *q, struct area *area);

/* Largest area there can be in this arena. */
size_t area_max(const struct shale_queue *q);

/* ---- queue_flight.c ---- */

void op_push_back(struct shale_queue *q, struct op_list *list, struct op *op);

/* A free one, all zero. There is always one for a submission below max, and one for each that is late. */
struct op *op_new(struct shale_queue *q);

/* Takes an op out of the pending list. */
void op_unlink(struct shale_queue *q, struct op *op);

/* Ends @op, which is in no list: its completion can be collected. */
void op_finish(struct shale_queue *q, struct op *op, int result);

/* Back to the free ones. */
void op_free(struct shale_queue *q, struct op *op);

/*
 * Puts @op, whose payload is gathered from @parts (or lies in op->payload with @count 0), into the ring. 0; -EAGAIN: no room now; or a
 * failure, which is the operation's.
 */
int flight_issue(struct shale_queue *q, struct op *op, const struct slice *parts, unsigned count);

/* Pending operations and cancels go into the ring as far as there is room; connects when there is no session. */
void flight_issue_pending(struct shale_queue *q);

/* Shows the daemon what was put into the ring. */
void flight_publish(struct shale_queue *q);

/* Reads completions until @max operations are done or there are none. Returns how many. */
uint32_t flight_collect(struct shale_queue *q, uint32_t max);

/* Looks whether the session still lives (@at_socket: by a system call) and deals with its end. */
void flight_look(struct shale_queue *q, bool at_socket);

/* The session is over: everything in flight completes or becomes pending again. @why: 0 (the daemon is gone), -SHALE_ESESSION, -SHALE_EKICKED. */
void flight_lost(struct shale_queue *q, int why);

/* Ends what is past its deadline. */
void flight_expire(struct shale_queue *q, uint64_t now_ns);

/* First handshake. 0 or a failure with words. */
int flight_open(struct shale_queue *q, struct err_info *err);

/* Asks the daemon to cancel a FLYING operation, now or when there is room. */
void flight_cancel(struct shale_queue *q, struct op *op);

#endif
