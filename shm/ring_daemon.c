/*
 * ring_daemon.c - the daemon's end of a channel: consumes submissions, produces completions.
 *
 * The client maps the whole channel and may write any byte of it at any time. Invariants that make this harmless:
 *
 *  1. Sizes, masks, pointers and our own indices live in struct ring_daemon. Our words in the channel are only ever
 *     written from it, never read back.
 *  2. The two words of the client that we use (sq_tail, cq_head) are read once per step into a local and checked
 *     against our own index; the difference must be within the ring.
 *  3. A submission is copied, each byte once, before anybody looks at it.
 *  4. in_flight <= entries, whatever the client does, so what one session can ask of us is bounded.
 *  5. The client's `parked` word decides only whether and how it is woken, and no wake blocks. It is compared with the last
 *     ticket and used for nothing else, so whatever it holds costs at most one wake for each publication.
 */
#include "shm/ring.h"

#include <errno.h>

#include "shm/park.h"

void ring_daemon_init(struct ring_daemon *ring, void *base, uint64_t session, uint32_t entries, size_t arena_size,
		      unsigned char **arena_out)
{
	const size_t total = channel_size(entries, arena_size);
	const uint64_t sq_off = 3 * SHM_PAGE;
	const uint64_t cq_off = sq_off + align_up(entries * sizeof(struct sqe), SHM_PAGE);
	const uint64_t arena_off = cq_off + align_up(2 * entries * sizeof(struct cqe), SHM_PAGE);
	unsigned char *bytes = base;

	assert(total);
	*(struct channel_const *)base = (struct channel_const){
		.magic = CHANNEL_MAGIC,
		.abi = SHM_ABI,
		.entries = entries,
		.session = session,
		.sq_off = sq_off,
		.cq_off = cq_off,
		.arena_off = arena_off,
		.arena_size = arena_size,
		.total_size = total,
	};
	*ring = (struct ring_daemon){
		.theirs = (struct channel_client *)(bytes + SHM_PAGE),
		.mine = (struct channel_daemon *)(bytes + 2 * SHM_PAGE),
		.sq = (const struct sqe *)(bytes + sq_off),
		.cq = (struct cqe *)(bytes + cq_off),
		.entries = entries,
	};
	*arena_out = bytes + arena_off;
}

int ring_sq_take(struct ring_daemon *ring, struct sqe *out, uint32_t max)
{
	/* Acquire: slots and payload after the tail. Pairs with the store in ring_sq_publish(). */
	uint32_t tail = atomic_load_explicit(&ring->theirs->sq_tail, memory_order_acquire);
	uint32_t n = tail - ring->sq_head;

	if (n > ring->entries)
		return -EPROTO;
	if (n > max)
		n = max;
	if (n > ring->entries - ring->in_flight)
		n = ring->entries - ring->in_flight;
	if (n == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		memcpy(&out[i], &ring->sq[(ring->sq_head + i) & (ring->entries - 1)], sizeof(out[i]));
	/* The compiler must not go back to the slot later: the client may have changed it by then. */
	__asm__ __volatile__("" ::: "memory");
	ring->sq_head += n;
	ring->in_flight += n;
	/* Release: the copy before the slots are given back. Pairs with the acquire in ring_sq_room(). */
	atomic_store_explicit(&ring->mine->sq_head, ring->sq_head, memory_order_release);
	return (int)n;
}

bool ring_sq_waiting(const struct ring_daemon *ring)
{
	/* Acquire for symmetry with ring_sq_take(), which loads it again and is the one that counts. */
	return atomic_load_explicit(&ring->theirs->sq_tail, memory_order_acquire) != ring->sq_head;
}

/* Looks how far the client has read its completions. 0, or -EPROTO. */
static int fetch_cq_head(struct ring_daemon *ring)
{
	/* Acquire: the client has read the slots before this. Pairs with the release in ring_cq_pop(). */
	uint32_t head = atomic_load_explicit(&ring->theirs->cq_head, memory_order_acquire);

	/* It may be anywhere from where it was to what has been shown, and nowhere else. */
	if (head - ring->cq_head > ring->cq_shown - ring->cq_head)
		return -EPROTO;
	ring->cq_head = head;
	return 0;
}

int ring_cq_room(struct ring_daemon *ring)
{
	const uint32_t size = 2 * ring->entries;

	if (size - (ring->cq_tail - ring->cq_head) - ring->in_flight < ring->entries && fetch_cq_head(ring) < 0)
		return -EPROTO;
	return (int)(size - (ring->cq_tail - ring->cq_head) - ring->in_flight);
}

int ring_cq_push(struct ring_daemon *ring, const struct cqe *cqe)
{
	const uint32_t size = 2 * ring->entries;

	assert(ring->in_flight > 0);
	if (ring->cq_tail - ring->cq_head >= ring->entries) {
		if (fetch_cq_head(ring) < 0)
			return -EPROTO;
		if (ring->cq_tail - ring->cq_head == size)
			return -EAGAIN;
	}
	ring->cq[ring->cq_tail & (size - 1)] = *cqe;
	ring->cq_tail++;
	ring->in_flight--;
	return 0;
}

static enum ring_wake how_to_wake(struct ring_daemon *ring)
{
	/* seq_cst: after the store of what is to be seen. Pairs with ring_client_park(), and with whoever asks for a byte. */
	uint32_t parked = atomic_load_explicit(&ring->theirs->parked, memory_order_seq_cst);

	if (likely(parked == PARK_AWAKE))
		return RING_WAKE_NONE;
	if (parked == PARK_FUTEX)
		return RING_WAKE_FUTEX;
	if (parked == ring->ticket)
		return RING_WAKE_NONE; /* its byte is on the way */
	ring->ticket = parked;
	return RING_WAKE_SOCKET;
}

enum ring_wake ring_cq_publish(struct ring_daemon *ring)
{
	if (ring->cq_shown == ring->cq_tail)
		return RING_WAKE_NONE;
	ring->cq_shown = ring->cq_tail;
	/*
	 * As a release: completions and answers before the tail; pairs with the acquire in ring_cq_peek().
	 * As seq_cst: the tail before the look at `parked`. Pairs with ring_client_park().
	 */
	atomic_store_explicit(&ring->mine->cq_tail, ring->cq_tail, memory_order_seq_cst);
	return how_to_wake(ring);
}

void ring_wake_client(struct ring_daemon *ring)
{
	futex_wake(
		&ring->mine->cq_tail,
		1); /* a ring has one consumer; a client with a thousand sleepers there wastes its own time, not ours */
}

bool ring_daemon_park(struct ring_daemon *ring)
{
	/*
	 * seq_cst twice: the flag before the look at the tail. Pairs with ring_sq_publish(), which stores the tail and
	 * then looks at the flag: either the client sees the flag and rings, or we see its tail and stay awake.
	 */
	atomic_store_explicit(&ring->mine->parked, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&ring->theirs->sq_tail, memory_order_seq_cst) == ring->sq_head)
		return true;
	ring_daemon_unpark(ring);
	return false;
}

void ring_daemon_unpark(struct ring_daemon *ring)
{
	/* Relaxed: a client that still sees 1 rings once for nothing. */
	atomic_store_explicit(&ring->mine->parked, 0, memory_order_relaxed);
}

enum ring_wake ring_daemon_set_state(struct ring_daemon *ring, uint32_t state)
{
	/* As a release: pairs with the acquire in ring_client_state(). seq_cst: before the look at `parked`. */
	atomic_store_explicit(&ring->mine->state, state, memory_order_seq_cst);
	ring_wake_client(ring);
	return how_to_wake(ring);
}

int ring_daemon_check(const struct ring_daemon *ring, const char **why_out)
{
	const char *why = NULL;

	if (!is_power_of_two(ring->entries) || ring->entries < RING_ENTRIES_MIN || ring->entries > RING_ENTRIES_MAX)
		why = "entries is no power of two within bounds";
	else if (ring->in_flight > ring->entries)
		why = "more in flight than the ring has entries";
	else if (ring->cq_tail - ring->cq_head > 2 * ring->entries)
		why = "more completions than slots";
	else if (ring->cq_tail - ring->cq_shown > ring->cq_tail - ring->cq_head)
		why = "the client has read completions that were not shown";
	else if (atomic_load_explicit(&ring->theirs->sq_tail, memory_order_relaxed) - ring->sq_head > ring->entries)
		why = "sq_tail is behind sq_head or past the ring";
	else if (atomic_load_explicit(&ring->theirs->cq_head, memory_order_relaxed) - ring->cq_head >
		 ring->cq_shown - ring->cq_head)
		why = "cq_head is not between what was read and what was shown";
	else if (atomic_load_explicit(&ring->mine->sq_head, memory_order_relaxed) != ring->sq_head)
		why = "somebody wrote the daemon's sq_head";
	else if (atomic_load_explicit(&ring->mine->cq_tail, memory_order_relaxed) != ring->cq_shown)
		why = "somebody wrote the daemon's cq_tail";
	if (!why)
		return 0;
	*why_out = why;
	return -EPROTO;
}
