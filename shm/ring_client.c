/*
 * ring_client.c - the client's end of a channel: produces submissions, consumes completions.
 *
 * The daemon is trusted, yet no index that it shows is used unchecked: a wrong one makes the ring look empty or full,
 * the call runs into its time limit, and nothing outside the ring is touched.
 */
#include "shm/ring.h"

#include <errno.h>

#include "shm/park.h"

size_t channel_size(uint32_t entries, size_t arena_size)
{
	if (!is_power_of_two(entries) || entries < RING_ENTRIES_MIN || entries > RING_ENTRIES_MAX)
		return 0;
	if (arena_size < ARENA_SIZE_MIN || arena_size > ARENA_SIZE_MAX)
		return 0;
	return 3 * SHM_PAGE + align_up(entries * sizeof(struct sqe), SHM_PAGE) +
	       align_up(2 * entries * sizeof(struct cqe), SHM_PAGE) + align_up(arena_size, SHM_PAGE);
}

int ring_client_init(struct ring_client *ring, void *base, size_t size, uint64_t *session_out,
		     unsigned char **arena_out, size_t *arena_size_out)
{
	struct channel_const c;
	unsigned char *bytes = base;

	if (size < SHM_PAGE)
		return -EPROTO;
	memcpy(&c, base, sizeof(c));
	if (c.magic != CHANNEL_MAGIC || c.abi != SHM_ABI || c.total_size > size || c.arena_size > SIZE_MAX)
		return -EPROTO;
	/* The layout follows from two numbers; the offsets must be the ones that follow. */
	if (c.total_size == 0 || c.total_size != channel_size(c.entries, (size_t)c.arena_size) ||
	    c.sq_off != 3 * SHM_PAGE || c.cq_off != c.sq_off + align_up(c.entries * sizeof(struct sqe), SHM_PAGE) ||
	    c.arena_off != c.cq_off + align_up(2 * c.entries * sizeof(struct cqe), SHM_PAGE))
		return -EPROTO;
	*ring = (struct ring_client){
		.mine = (struct channel_client *)(bytes + SHM_PAGE),
		.theirs = (struct channel_daemon *)(bytes + 2 * SHM_PAGE),
		.sq = (struct sqe *)(bytes + c.sq_off),
		.cq = (struct cqe *)(bytes + c.cq_off),
		.entries = c.entries,
	};
	*session_out = c.session;
	*arena_out = bytes + c.arena_off;
	*arena_size_out = (size_t)c.arena_size;
	return 0;
}

uint32_t ring_sq_room(struct ring_client *ring)
{
	uint32_t used = ring->sq_tail - ring->sq_head;

	if (used >= ring->entries / 2) {
		/* Acquire: the daemon has copied the slots before this. Pairs with ring_sq_take(). */
		uint32_t head = atomic_load_explicit(&ring->theirs->sq_head, memory_order_acquire);

		if (ring->sq_tail - head > ring->entries)
			return 0;
		ring->sq_head = head;
		used = ring->sq_tail - head;
	}
	return ring->entries - used;
}

struct sqe *ring_sq_slot(struct ring_client *ring, uint32_t ahead)
{
	return &ring->sq[(ring->sq_tail + ahead) & (ring->entries - 1)];
}

bool ring_sq_publish(struct ring_client *ring, uint32_t count)
{
	ring->sq_tail += count;
	/*
	 * As a release: slot and payload bytes before the tail; pairs with the acquire in ring_sq_take().
	 * As seq_cst: the tail before the look at `parked`, which a release would not order. Pairs with
	 * ring_daemon_park(), which does the same two steps crosswise: one of us sees the other.
	 */
	atomic_store_explicit(&ring->mine->sq_tail, ring->sq_tail, memory_order_seq_cst);
	return atomic_load_explicit(&ring->theirs->parked, memory_order_seq_cst) != 0;
}

/* Completions that @tail says are there; none when it cannot be. */
static uint32_t unread(const struct ring_client *ring, uint32_t tail)
{
	uint32_t n = tail - ring->cq_head;

	return n > 2 * ring->entries ? 0 : n;
}

const struct cqe *ring_cq_peek(struct ring_client *ring)
{
	/* Acquire: the completion and its answer in the arena after the tail. Pairs with ring_cq_publish(). */
	uint32_t tail = atomic_load_explicit(&ring->theirs->cq_tail, memory_order_acquire);

	if (!unread(ring, tail))
		return NULL;
	return &ring->cq[ring->cq_head & (2 * ring->entries - 1)];
}

void ring_cq_pop(struct ring_client *ring)
{
	ring->cq_head++;
	/* Release: the slot was read before it is given back. Pairs with the acquire in ring_cq_push(). */
	atomic_store_explicit(&ring->mine->cq_head, ring->cq_head, memory_order_release);
}

uint32_t ring_client_state(const struct ring_client *ring)
{
	/* Acquire: pairs with ring_daemon_set_state(). */
	return atomic_load_explicit(&ring->theirs->state, memory_order_acquire);
}

static bool state_is_news(struct ring_client *ring)
{
	uint32_t state = ring_client_state(ring);
	bool news = state != ring->state_seen || state == CHANNEL_BROKEN;

	ring->state_seen = state;
	return news;
}

int ring_client_park(struct ring_client *ring, uint64_t timeout_ns)
{
	uint32_t tail;
	int rc;

	if (ring_cq_peek(ring) || state_is_news(ring))
		return 0;
	if (timeout_ns == 0)
		return -ETIMEDOUT;
	/*
	 * seq_cst twice: the flag before the second look at the tail. Pairs with ring_cq_publish(), which stores the
	 * tail and then looks at the flag: either it sees the flag and wakes, or we see its tail and do not sleep. A
	 * tail that moves after our look differs from `tail`, so the futex refuses to sleep.
	 */
	atomic_store_explicit(&ring->mine->parked, 1, memory_order_seq_cst);
	tail = atomic_load_explicit(&ring->theirs->cq_tail, memory_order_seq_cst);
	if (unread(ring, tail) || state_is_news(ring))
		rc = 0;
	else
		rc = futex_wait(&ring->theirs->cq_tail, tail, timeout_ns);
	/* Relaxed: a daemon that still sees 1 makes one futile wake, no more. */
	atomic_store_explicit(&ring->mine->parked, 0, memory_order_relaxed);
	return rc;
}

bool ring_client_arm(struct ring_client *ring, uint32_t ticket)
{
	uint32_t tail;

	assert(ticket >= PARK_SOCKET);
	/* seq_cst twice, as in ring_client_park(): either the daemon sees the ticket and sends, or we see its tail. */
	atomic_store_explicit(&ring->mine->parked, ticket, memory_order_seq_cst);
	tail = atomic_load_explicit(&ring->theirs->cq_tail, memory_order_seq_cst);
	if (!unread(ring, tail) && !state_is_news(ring))
		return true;
	ring_client_disarm(ring);
	return false;
}

void ring_client_disarm(struct ring_client *ring)
{
	/* Relaxed: a daemon that still sees the ticket sends a byte that is drained with the next one. */
	atomic_store_explicit(&ring->mine->parked, PARK_AWAKE, memory_order_relaxed);
}
