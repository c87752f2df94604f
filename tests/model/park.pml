/*
 * park.pml - publish, park and wake of one channel, in both directions, and of the service thread, on a machine with store buffers.
 * Verified by run.sh; the argument in words is in shm/README.md, "Memory order of publish, park and wake".
 *
 *	client                                  service thread
 *	  publish: ring_sq_publish, doorbell      pass: ring_sq_take, ring_cq_push, ring_cq_publish
 *	  wait: ring_client_park (futex), or        wake: futex, or one byte for each new ticket
 *	    ring_client_arm and a poll            rest: ring_daemon_park, service_sleep
 *	poster, with -DPOSTER (the control thread, a worker)
 *	  service_post: inbox, then service_wake
 *
 * The machine. Each shared word has one writer, whose stores go through a buffer of its own and reach memory later, in their order (TSO, as on
 * x86). STORE is a relaxed or release store; STORE_SC waits until the buffer is empty, and this is all that seq_cst means here:
 * the load behind it is not served before the store is seen. Spin alone would interleave sequentially consistent threads and find
 * the missing fence harmless. (Weaker machines may also reorder loads; there the C11 argument in the README counts, which needs no more.)
 *
 * The kernel. futex_wait compares and queues in one step, a wake empties the queue. Doorbell, event and socket are counters that stay
 * until they are read.
 *
 * Time limits are left out, so that no wake may be owed to one, except with SLICES: a futex sleep may end at any time. Only changes of state
 * need that (CLOSE, KILL), and only of a client that sleeps by futex.
 *
 * What must hold
 *	no lost wake            every request is answered, every mail taken: neither client nor poster is blocked for ever. Spin reports it
 *	                        as an invalid end state; only the service thread may end asleep
 *	nothing lost or double  the completions that were seen are those that were pushed
 *	close                   -DCLOSE: the daemon ends the session at any moment; the client notices. -DKILL: it dies at any moment
 *
 * Faults, each of which must be found: see run.sh.
 */
#ifndef REQUESTS
#define REQUESTS 2
#endif

/* Words; [writer]. */
#define SQ_TAIL 0  /* [client] */
#define C_PARKED 1 /* [client] 0 awake, 1 futex, from 2 on a ticket */
#define CQ_TAIL 2  /* [daemon] */
#define D_PARKED 3 /* [daemon] */
#define STATE 4    /* [daemon] 0 open, 1 broken */
#define INBOX 5    /* [poster]; taken back by the daemon with a locked exchange */
#define SLEEPING 6 /* [daemon]; the poster clears it with a locked exchange */
byte mem[7];

chan c_buf = [2] of { byte, byte };
chan d_buf = [2] of { byte, byte };
chan p_buf = [2] of { byte, byte };

#define LOAD(word) mem[word]
#define STORE(buf, word, v) buf!word,v
#define STORE_SC(buf, word, v) buf!word,v; empty(buf)

/* Where a fence was taken out, the store stays in the buffer. */
#ifdef NO_FENCE_CLIENT_PUBLISH
#define STORE_SQ_TAIL(v) STORE(c_buf, SQ_TAIL, v)
#else
#define STORE_SQ_TAIL(v) STORE_SC(c_buf, SQ_TAIL, v)
#endif
#ifdef NO_FENCE_CLIENT_PARK
#define STORE_C_PARKED(v) STORE(c_buf, C_PARKED, v)
#else
#define STORE_C_PARKED(v) STORE_SC(c_buf, C_PARKED, v)
#endif
#ifdef NO_FENCE_DAEMON_PUBLISH
#define STORE_CQ_TAIL(v) STORE(d_buf, CQ_TAIL, v)
#else
#define STORE_CQ_TAIL(v) STORE_SC(d_buf, CQ_TAIL, v)
#endif
#ifdef NO_FENCE_DAEMON_PARK
#define STORE_D_PARKED(v) STORE(d_buf, D_PARKED, v)
#else
#define STORE_D_PARKED(v) STORE_SC(d_buf, D_PARKED, v)
#endif
#ifdef NO_FENCE_STATE
#define STORE_STATE(v) STORE(d_buf, STATE, v)
#else
#define STORE_STATE(v) STORE_SC(d_buf, STATE, v)
#endif
#ifdef NO_FENCE_SLEEP
#define STORE_SLEEPING(v) STORE(d_buf, SLEEPING, v)
#else
#define STORE_SLEEPING(v) STORE_SC(d_buf, SLEEPING, v)
#endif

/* The kernel's. */
bool queued;          /* the client, in the futex's queue */
byte bell, event;     /* eventfds */
byte sock;            /* bytes in the socket towards the client */
bool hung_up;

byte pushed, seen;    /* completions; seen by the client */
bool mail_taken;

/* Buffers drain whenever they like. */
active proctype client_buffer()
{
	byte word, v;
end:	do
	:: atomic { c_buf?word,v -> mem[word] = v }
	od
}

active proctype daemon_buffer()
{
	byte word, v;
end:	do
	:: atomic { d_buf?word,v -> mem[word] = v }
	od
}

#ifdef POSTER
active proctype poster_buffer()
{
	byte word, v;
end:	do
	:: atomic { p_buf?word,v -> mem[word] = v }
	od
}
#endif

/* ---- client ---- */

byte sq_tail, cq_head, ticket = 1; /* the client's private ones; the first ticket is 2 */
bool over;                         /* the session is: broken, or its daemon gone */

/* ring_sq_publish, and the doorbell. */
inline publish()
{
	sq_tail++;
#ifdef LOOK_BEFORE_CLIENT_PUBLISH
	p = LOAD(D_PARKED);
	STORE_SQ_TAIL(sq_tail);
#else
	STORE_SQ_TAIL(sq_tail);
	p = LOAD(D_PARKED);
#endif
	if
	:: p != 0 -> bell++
	:: else
	fi
}

/* take_completion: all that are there. */
inline take_completions()
{
	tail = LOAD(CQ_TAIL);
	atomic {
		assert(tail <= pushed && tail - cq_head <= REQUESTS);
		seen = seen + (tail - cq_head);
		cq_head = tail
	}
}

/* Between sleeps, and where a poll ends: the state, and whether the socket hung up. */
inline look_at_state()
{
	over = (LOAD(STATE) != 0) || hung_up
}

/* ring_client_park. */
inline park_by_futex()
{
	STORE_C_PARKED(1);
	tail = LOAD(CQ_TAIL);
	if
#ifndef NO_RECHECK_CLIENT
	:: tail != cq_head || LOAD(STATE) != 0
#endif
	:: else ->
#ifdef NO_COMPARE
		queued = true;
#else
		atomic {
			if
			:: LOAD(CQ_TAIL) == tail -> queued = true
			:: else
			fi
		};
#endif
		do
		:: !queued -> break
#ifdef SLICES
		:: atomic { queued -> queued = false; break }
#endif
		od
	fi;
	STORE(c_buf, C_PARKED, 0);
	look_at_state()
}

/*
 * shale_arm, then a poll: drain the socket, take a new ticket (ring_client_arm), look; nothing there: poll. Drained later than the look, the byte that
 * this ticket brought could be eaten.
 */
inline wait_by_socket()
{
#ifndef DRAIN_LAST
	sock = 0;
#endif
#ifdef NO_RECHECK_SOCKET
	tail = LOAD(CQ_TAIL);
#endif
#ifndef ONE_TICKET
	ticket++;
#else
	ticket = 2;
#endif
	STORE_C_PARKED(ticket);
#ifndef NO_RECHECK_SOCKET
	tail = LOAD(CQ_TAIL);
#endif
	over = LOAD(STATE) != 0;
#ifdef DRAIN_LAST
	sock = 0;
#endif
	if
	:: tail != cq_head || over
	:: else ->
		if
		:: sock > 0
		:: hung_up
		fi
	fi;
	STORE(c_buf, C_PARKED, 0); /* ring_client_disarm */
	look_at_state()
}

active proctype client()
{
	byte p, tail;

	do
	:: sq_tail < REQUESTS && !over -> publish()
	:: sq_tail > seen && !over ->
		take_completions();
		if
		:: seen == sq_tail
		:: else ->
			if
#ifndef SOCKET_ONLY
			:: park_by_futex()
#endif
#ifndef FUTEX_ONLY
			:: wait_by_socket()
#endif
			fi
		fi
	:: sq_tail == REQUESTS && seen == sq_tail -> break
	:: over ->
		take_completions(); /* what was completed before the end is not lost */
#ifndef KILL
		assert(seen == pushed);
#endif
		break
	od;
	assert(seen <= REQUESTS);
#ifndef KILL
#ifndef CLOSE
	assert(seen == REQUESTS && seen == pushed)
#endif
#endif
}

/* ---- service thread ---- */

byte sq_head, cq_tail, served, pending; /* private; the ticket that was served last; requests taken and not yet completed */

/* how_to_wake, ring_wake_client, the byte. */
inline wake_as_asked()
{
	if
	:: q == 0
	:: q == 1 -> queued = false
	:: q > 1 && q == served
	:: q > 1 && q != served -> served = q; sock++
	fi
}

/* ring_cq_push of one or all that are pending, ring_cq_publish. */
inline complete_some()
{
	if
	:: n = 1
	:: n = pending
	fi;
	atomic {
		pending = pending - n;
		cq_tail = cq_tail + n;
		pushed = pushed + n
	};
#ifdef LOOK_BEFORE_DAEMON_PUBLISH
	q = LOAD(C_PARKED);
	STORE_CQ_TAIL(cq_tail);
#else
	STORE_CQ_TAIL(cq_tail);
	q = LOAD(C_PARKED);
#endif
	wake_as_asked()
}

/* session_break: what is answered is shown before; the state; both kinds of wake. */
inline break_session()
{
	STORE_STATE(1);
	queued = false;
	q = LOAD(C_PARKED);
	wake_as_asked()
}

active proctype daemon()
{
	byte q, n;
	bool parked, mail;

	do
	/* one pass */
	:: LOAD(INBOX) != 0 -> atomic { mem[INBOX] = 0; mail_taken = true }
	:: bell > 0 && parked -> /* on_bell, session_activate */
		bell = 0;
		STORE(d_buf, D_PARKED, 0);
		parked = false
	:: !parked && LOAD(SQ_TAIL) != sq_head ->
		atomic { pending = pending + (LOAD(SQ_TAIL) - sq_head); sq_head = LOAD(SQ_TAIL) }
	:: pending > 0 -> complete_some()
	/* rest: park_all */
	:: !parked ->
		STORE_D_PARKED(1);
		if
#ifndef NO_RECHECK_DAEMON
		:: LOAD(SQ_TAIL) != sq_head -> STORE(d_buf, D_PARKED, 0)
		:: else -> parked = true
#else
		:: parked = true
#endif
		fi
	/* service_sleep; I/O that comes in is the pending ones' completion */
	:: parked ->
		STORE_SLEEPING(1);
#ifndef NO_RECHECK_SLEEP
		mail = LOAD(INBOX) != 0;
#endif
		if
		:: mail
		:: else ->
end_asleep:		if
			:: bell > 0
			:: event > 0 -> event = 0
			:: pending > 0
#ifdef CLOSE
			:: true -> break_session(); goto gone
#endif
#ifdef KILL
			:: true -> goto killed
#endif
			fi
		fi;
		STORE(d_buf, SLEEPING, 0)
#ifdef CLOSE
	:: true -> break_session(); goto gone
#endif
#ifdef KILL
	:: true -> goto killed
#endif
	od;
#ifdef KILL
killed:	empty(d_buf); /* its stores are all visible once the kernel has hung up its socket */
	hung_up = true;
	mail_taken = true
#endif
#ifdef CLOSE
gone:	mail_taken = true
#endif
}

#ifdef POSTER
/* ---- poster ---- */

active proctype poster()
{
	bool asleep;
#ifdef NO_FENCE_POST
	STORE(p_buf, INBOX, 1);
	asleep = LOAD(SLEEPING);
	if
	:: asleep -> event++
	:: else
	fi;
#else
	STORE_SC(p_buf, INBOX, 1);
	/* atomic_exchange: a locked instruction. */
	atomic { empty(p_buf); asleep = LOAD(SLEEPING); mem[SLEEPING] = 0 };
	if
	:: asleep -> event++
	:: else
	fi;
#endif
	mail_taken
}
#endif
