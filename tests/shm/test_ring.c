#include "shm/ring.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/park.h"
#include "tests/test.h"

enum { ENTRIES = 16 };

#define SECOND_NS UINT64_C(1000000000)
#define STRESS_NS (2 * SECOND_NS) /* a loaded machine tests less, not longer */

/* For loops: Check writes a mark to a file at every assertion that holds, this only tests. */
#define must(cond)                                                                                                     \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			ck_abort_msg("%s does not hold", #cond);                                                       \
	} while (0)

/* Both ends of one channel over ONE mapping, so that the thread sanitizer sees both. */
struct pair {
	void *base;
	size_t size;
	struct ring_daemon daemon;
	struct ring_client client;
	unsigned char *arena;
	size_t arena_size;
};

static void pair_init(struct pair *p, uint32_t entries)
{
	unsigned char *arena;
	uint64_t session;

	p->size = channel_size(entries, ARENA_SIZE_MIN);
	p->base = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(p->base, MAP_FAILED);
	ring_daemon_init(&p->daemon, p->base, 0x5e55, entries, ARENA_SIZE_MIN, &arena);
	ck_ok(ring_client_init(&p->client, p->base, p->size, &session, &p->arena, &p->arena_size));
	ck_assert_uint_eq(session, 0x5e55);
	ck_assert_ptr_eq(arena, p->arena);
	ck_assert_uint_eq(p->arena_size, ARENA_SIZE_MIN);
}

static void pair_fini(struct pair *p)
{
	munmap(p->base, p->size);
}

/* Moves every index of both ends to @start, as after that many requests. */
static void pair_start_at(struct pair *p, uint32_t start)
{
	p->client.sq_tail = p->client.sq_head = p->client.cq_head = start;
	p->daemon.sq_head = p->daemon.cq_tail = p->daemon.cq_shown = p->daemon.cq_head = start;
	p->daemon.mine->sq_head = p->daemon.mine->cq_tail = start;
	p->client.mine->sq_tail = p->client.mine->cq_head = start;
}

static void check(const struct pair *p)
{
	const char *why = "";

	ck_assert_msg(ring_daemon_check(&p->daemon, &why) == 0, "%s", why);
}

/* Submits one request with @user_data; there must be room. */
static bool submit(struct pair *p, uint64_t user_data)
{
	ck_assert_uint_gt(ring_sq_room(&p->client), 0);
	*ring_sq_slot(&p->client, 0) = (struct sqe){.user_data = user_data};
	return ring_sq_publish(&p->client, 1);
}

static int complete(struct pair *p, uint64_t user_data)
{
	struct cqe cqe = {.user_data = user_data};

	return ring_cq_push(&p->daemon, &cqe);
}

/* Sizes out of bounds are no channel, so that nobody can be talked into a tiny ring or a huge segment. */
START_TEST(sizes_are_bounded)
{
	ck_assert_uint_eq(channel_size(RING_ENTRIES_MIN, ARENA_SIZE_MIN), (3 + 1 + 1 + 16) * SHM_PAGE);
	ck_assert_uint_eq(channel_size(256, 1 << 20), (3 + 4 + 4 + 256) * SHM_PAGE);
	ck_assert_uint_gt(channel_size(RING_ENTRIES_MAX, ARENA_SIZE_MAX), 0);
	ck_assert_uint_eq(channel_size(0, ARENA_SIZE_MIN), 0);
	ck_assert_uint_eq(channel_size(RING_ENTRIES_MIN / 2, ARENA_SIZE_MIN), 0);
	ck_assert_uint_eq(channel_size(RING_ENTRIES_MAX * 2, ARENA_SIZE_MIN), 0);
	ck_assert_uint_eq(channel_size(24, ARENA_SIZE_MIN), 0);
	ck_assert_uint_eq(channel_size(UINT32_MAX, ARENA_SIZE_MIN), 0);
	ck_assert_uint_eq(channel_size(16, ARENA_SIZE_MIN - 1), 0);
	ck_assert_uint_eq(channel_size(16, (size_t)ARENA_SIZE_MAX + 1), 0);
	ck_assert_uint_eq(channel_size(16, SIZE_MAX), 0);
	/* An odd arena gets whole pages of its own. */
	ck_assert_uint_eq(channel_size(16, ARENA_SIZE_MIN + 1), channel_size(16, ARENA_SIZE_MIN) + SHM_PAGE);
}
END_TEST

/* A constant page with any field off is refused by the client: a wrong offset would be a wild pointer. */
START_TEST(constant_page_is_checked)
{
	uint64_t rng = test_seed(), session;
	struct pair p;
	struct channel_const *c, good;
	unsigned char *arena;
	size_t arena_size;

	pair_init(&p, ENTRIES);
	c = p.base;
	good = *c;
	ck_assert_int_eq(ring_client_init(&p.client, p.base, p.size - 1, &session, &arena, &arena_size), -EPROTO);
	ck_assert_int_eq(ring_client_init(&p.client, p.base, 0, &session, &arena, &arena_size), -EPROTO);
	for (int round = 0; round < 20000; round++) {
		size_t at = test_random(&rng) % sizeof(good);

		((unsigned char *)c)[at] ^= (unsigned char)(1 + test_random(&rng) % 255);
		/*
		 * The layout does not depend on the session's number; and small rings of several sizes fill one page.
		 */
		if (at < offsetof(struct channel_const, entries) || at >= offsetof(struct channel_const, sq_off))
			ck_assert_int_eq(ring_client_init(&p.client, p.base, p.size, &session, &arena, &arena_size),
					 -EPROTO);
		*c = good;
	}
	pair_fini(&p);
}
END_TEST

/* Requests and completions come through whole and in order, also where the 32-bit indices wrap. */
static void pass_through(uint32_t start)
{
	struct pair p;
	struct sqe taken[ENTRIES];
	uint64_t sent = 0, served = 0, seen = 0;
	uint64_t rng = 88172645463325252;

	pair_init(&p, ENTRIES);
	pair_start_at(&p, start);
	while (seen < 5000) {
		uint32_t room = ring_sq_room(&p.client), n = (uint32_t)(test_random(&rng) % (room + 1));
		const struct cqe *cqe;
		int got;

		for (uint32_t i = 0; i < n; i++)
			*ring_sq_slot(&p.client, i) = (struct sqe){.user_data = sent++, .in_off = ~sent};
		if (n)
			ring_sq_publish(&p.client, n);
		got = ring_sq_take(&p.daemon, taken, (uint32_t)(test_random(&rng) % (ENTRIES + 1)));
		ck_assert_int_ge(got, 0);
		for (int i = 0; i < got; i++) {
			ck_assert_uint_eq(taken[i].user_data, served++);
			ck_ok(complete(&p, taken[i].user_data));
		}
		ring_cq_publish(&p.daemon);
		check(&p);
		while ((cqe = ring_cq_peek(&p.client)) != NULL) {
			ck_assert_uint_eq(cqe->user_data, seen++);
			ring_cq_pop(&p.client);
		}
	}
	pair_fini(&p);
}

START_TEST(in_order_and_whole)
{
	pass_through(0);
}
END_TEST

/* Free-running indices must survive 2^32 requests, which a busy client makes within the hour. */
START_TEST(indices_wrap)
{
	pass_through(UINT32_MAX - 1000);
	pass_through(UINT32_MAX);
	pass_through(INT32_MAX - 500);
}
END_TEST

/*
 * A client that submits without reading answers is held to `entries` in flight, and its completions are never
 * overwritten.
 */
START_TEST(undrained_client_is_held_back)
{
	struct pair p;
	struct sqe taken[4 * ENTRIES];
	uint64_t next = 0;
	const struct cqe *cqe;

	pair_init(&p, ENTRIES);
	for (int i = 0; i < ENTRIES; i++)
		submit(&p, (uint64_t)i);
	ck_assert_uint_eq(ring_sq_room(&p.client), 0);
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), ENTRIES);
	for (int i = 0; i < ENTRIES; i++)
		submit(&p, (uint64_t)(ENTRIES + i));
	/* All in flight: nothing more is taken, though the client has more. */
	ck_assert(ring_sq_waiting(&p.daemon));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), 0);
	for (int i = 0; i < ENTRIES; i++)
		ck_ok(complete(&p, (uint64_t)i));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), ENTRIES);
	for (int i = 0; i < ENTRIES; i++)
		ck_ok(complete(&p, (uint64_t)(ENTRIES + i)));
	ring_cq_publish(&p.daemon);
	/* 2 × entries unread: the ring is full. One more request can run, its completion must be kept. */
	submit(&p, 2 * ENTRIES);
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 1), 1);
	ck_assert_int_eq(complete(&p, 2 * ENTRIES), -EAGAIN);
	ck_assert_uint_eq(p.daemon.in_flight, 1);
	check(&p);
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	ring_cq_pop(&p.client);
	next++;
	ck_ok(complete(&p, 2 * ENTRIES));
	ring_cq_publish(&p.daemon);
	while ((cqe = ring_cq_peek(&p.client)) != NULL) {
		ck_assert_uint_eq(cqe->user_data, next++);
		ring_cq_pop(&p.client);
	}
	ck_assert_uint_eq(next, 2 * ENTRIES + 1);
	pair_fini(&p);
}
END_TEST

static enum ring_wake answer_one(struct pair *p)
{
	struct sqe taken;

	submit(p, 1);
	ck_assert_int_eq(ring_sq_take(&p->daemon, &taken, 1), 1);
	ck_ok(complete(p, 1));
	return ring_cq_publish(&p->daemon);
}

/* A client is woken in the way that it asks for, by its socket once for each ticket, and one that asks for nothing costs no system call. */
START_TEST(wakes_as_asked)
{
	struct pair p;

	pair_init(&p, ENTRIES);
	ck_assert_int_eq(answer_one(&p), RING_WAKE_NONE);
	atomic_store(&p.client.mine->parked, PARK_FUTEX);
	ck_assert_int_eq(answer_one(&p), RING_WAKE_FUTEX);
	ck_assert_int_eq(answer_one(&p), RING_WAKE_FUTEX);
	for (uint32_t ticket = PARK_SOCKET; ticket < PARK_SOCKET + 3; ticket++) {
		atomic_store(&p.client.mine->parked, ticket);
		ck_assert_int_eq(answer_one(&p), RING_WAKE_SOCKET);
		ck_assert_int_eq(answer_one(&p), RING_WAKE_NONE);
		ck_assert_int_eq(ring_cq_publish(&p.daemon), RING_WAKE_NONE); /* nothing is new */
	}
	atomic_store(&p.client.mine->parked, UINT32_MAX);
	ck_assert_int_eq(ring_daemon_set_state(&p.daemon, CHANNEL_CLOSING), RING_WAKE_SOCKET);
	ck_assert_int_eq(answer_one(&p), RING_WAKE_NONE);
	atomic_store(&p.client.mine->parked, PARK_AWAKE);
	ck_assert_int_eq(answer_one(&p), RING_WAKE_NONE);
	pair_fini(&p);
}
END_TEST

/* As many submissions may be taken as there is room for completions, and a client that reads nothing is taken nothing more from. */
START_TEST(room_for_completions)
{
	struct pair p;
	struct sqe taken;

	pair_init(&p, ENTRIES);
	ck_assert_int_eq(ring_cq_room(&p.daemon), 2 * ENTRIES);
	for (int i = 0; i < 2 * ENTRIES; i++) {
		submit(&p, 1);
		ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
		ck_assert_int_eq(ring_cq_room(&p.daemon), 2 * ENTRIES - i - 1); /* it is in flight */
		ck_ok(complete(&p, 1));
		ck_assert_int_eq(ring_cq_room(&p.daemon), 2 * ENTRIES - i - 1);
	}
	ring_cq_publish(&p.daemon);
	ck_assert_int_eq(ring_cq_room(&p.daemon), 0);
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	ring_cq_pop(&p.client);
	ck_assert_int_eq(ring_cq_room(&p.daemon), 1);
	atomic_store(&p.client.mine->cq_head, 4711);
	ck_assert_int_eq(ring_cq_room(&p.daemon), -EPROTO);
	pair_fini(&p);
}
END_TEST

/* Pushed is not published: a group's completions become visible together. */
START_TEST(publish_makes_visible)
{
	struct pair p;
	struct sqe taken;

	pair_init(&p, ENTRIES);
	submit(&p, 1);
	ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
	ck_ok(complete(&p, 1));
	ck_assert_ptr_null(ring_cq_peek(&p.client));
	ck_assert(!ring_cq_publish(&p.daemon));
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	pair_fini(&p);
}
END_TEST

/* sq_tail backwards, past the ring, or anywhere at random: refused, and the daemon's own state does not move. */
START_TEST(hostile_tail_is_refused)
{
	uint64_t rng = test_seed();
	struct pair p;
	struct sqe taken[ENTRIES];

	pair_init(&p, ENTRIES);
	for (int round = 0; round < 100000; round++) {
		uint32_t head = (uint32_t)test_random(&rng), tail = (uint32_t)test_random(&rng), max = ENTRIES;
		int rc;

		if (round % 4 == 0)
			tail = head - 1 - (uint32_t)(test_random(&rng) % ENTRIES);
		if (round % 4 == 1)
			tail = head + ENTRIES + 1;
		if (round % 4 == 2)
			tail = head + (uint32_t)(test_random(&rng) % (ENTRIES + 1));
		pair_start_at(&p, head);
		p.daemon.in_flight = (uint32_t)(test_random(&rng) % (ENTRIES + 1));
		max = (uint32_t)min_size(tail - head, ENTRIES - p.daemon.in_flight);
		p.daemon.theirs->sq_tail = tail;
		rc = ring_sq_take(&p.daemon, taken, ENTRIES);
		if (tail - head > ENTRIES) {
			must(rc == -EPROTO);
			must(p.daemon.sq_head == head);
			must(ring_sq_waiting(&p.daemon));
			must(!ring_daemon_park(&p.daemon)); /* or the breach would sleep unseen */
		} else {
			must(rc == (int)max);
			must(p.daemon.sq_head == head + max);
		}
		must(p.daemon.in_flight <= ENTRIES);
	}
	pair_fini(&p);
}
END_TEST

/*
 * cq_head somewhere else than between "read" and "shown" ends the session at the latest when the ring seems half full.
 */
START_TEST(hostile_head_is_refused)
{
	uint64_t rng = test_seed();

	for (int round = 0; round < 2000; round++) {
		struct pair p;
		struct sqe taken;
		uint32_t start = (uint32_t)test_random(&rng), head = (uint32_t)test_random(&rng);
		int rc = 0;

		if (round % 2)
			head = start - 1 - (uint32_t)(test_random(&rng) % 100);
		pair_init(&p, ENTRIES);
		pair_start_at(&p, start);
		p.daemon.theirs->cq_head = head;
		for (int i = 0; rc == 0 && i < 2 * ENTRIES + 1; i++) {
			submit(&p, 1);
			ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
			rc = complete(&p, 1);
			if (rc == 0)
				ring_cq_publish(&p.daemon);
		}
		ck_assert_int_eq(rc, head - start <= 2 * ENTRIES ? -EAGAIN : -EPROTO);
		pair_fini(&p);
	}
}
END_TEST

/* The daemon is trusted, but a wrong index of its must not take the client out of its ring, nor make it spin. */
START_TEST(wrong_daemon_index_is_survived)
{
	struct pair p;

	pair_init(&p, ENTRIES);
	for (int i = 0; i < ENTRIES / 2; i++)
		submit(&p, 1);
	p.daemon.mine->sq_head = 77777;
	ck_assert_uint_eq(ring_sq_room(&p.client), 0);
	p.daemon.mine->cq_tail = 2 * ENTRIES + 1;
	ck_assert_ptr_null(ring_cq_peek(&p.client));
	ck_assert_int_eq(ring_client_park(&p.client, 1000000), -ETIMEDOUT);
	p.daemon.mine->cq_tail = UINT32_MAX;
	ck_assert_ptr_null(ring_cq_peek(&p.client));
	pair_fini(&p);
}
END_TEST

/* The whole shared segment random, again and again: the daemon's end answers with codes and stays within itself. */
START_TEST(scribbled_channel_is_survived)
{
	uint64_t rng = test_seed();
	struct pair p;

	pair_init(&p, ENTRIES);
	for (int round = 0; round < 3000; round++) {
		struct sqe taken[ENTRIES];
		struct ring_daemon fresh = p.daemon;
		uint64_t *words = p.base;
		int got = 0;

		for (size_t i = 0; i < 5 * SHM_PAGE / sizeof(*words); i += 1 + test_random(&rng) % 8)
			words[i] = test_random(&rng);
		if (test_random(&rng) % 2) /* else nothing would ever be taken */
			p.daemon.theirs->sq_tail = p.daemon.sq_head + (uint32_t)(test_random(&rng) % ENTRIES);
		got = ring_sq_take(&p.daemon, taken, ENTRIES);
		ck_assert_int_le(got, ENTRIES);
		for (int i = 0; i < got; i++) {
			if (complete(&p, taken[i].user_data) < 0)
				p.daemon.in_flight--;
		}
		ring_cq_publish(&p.daemon);
		ring_daemon_park(&p.daemon);
		ring_daemon_set_state(&p.daemon, CHANNEL_BROKEN);
		ck_assert_uint_le(p.daemon.in_flight, ENTRIES);
		ck_assert_uint_eq(p.daemon.entries, fresh.entries);
		ck_assert_ptr_eq(p.daemon.cq, fresh.cq);
	}
	pair_fini(&p);
}
END_TEST

/*
 * A change of state ends a client's sleep: BROKEN at each call, CLOSING once, so that it may sleep on for what is in
 * flight.
 */
START_TEST(state_ends_the_sleep)
{
	struct pair p;

	pair_init(&p, ENTRIES);
	ck_assert_int_eq(ring_client_park(&p.client, 0), -ETIMEDOUT);
	ring_daemon_set_state(&p.daemon, CHANNEL_CLOSING);
	ck_ok(ring_client_park(&p.client, UINT64_MAX));
	ck_assert_int_eq(ring_client_park(&p.client, 1000000), -ETIMEDOUT);
	ring_daemon_set_state(&p.daemon, CHANNEL_BROKEN);
	ck_ok(ring_client_park(&p.client, UINT64_MAX));
	ck_ok(ring_client_park(&p.client, UINT64_MAX));
	ck_assert_uint_eq(ring_client_state(&p.client), CHANNEL_BROKEN);
	pair_fini(&p);
}
END_TEST

/* Parked, the daemon hears of a submission through the publisher's answer; not parked, no doorbell is asked for. */
START_TEST(doorbell_only_when_parked)
{
	struct pair p;
	struct sqe taken[2];

	pair_init(&p, ENTRIES);
	ck_assert(!submit(&p, 1));
	ck_assert(!ring_daemon_park(&p.daemon)); /* one is waiting */
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 2), 1);
	ck_assert(ring_daemon_park(&p.daemon));
	ck_assert(submit(&p, 2));
	ring_daemon_unpark(&p.daemon);
	ck_assert(!submit(&p, 3));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 2), 2);
	pair_fini(&p);
}
END_TEST

/* ---- two threads ---- */

struct stress {
	struct pair pair;
	_Atomic uint64_t requests; /* how many; the client stops earlier when its time is over */
	uint64_t seed;
	int doorbell;
	bool sleepy;		/* one request at a time, and both sides go to sleep at any moment */
	_Atomic bool lost;	/* somebody slept through a wake */
	uint64_t sleeps, dozes; /* daemon, client */
};

/* What the arena holds for request @i, so that payload and slot can be seen to travel together. */
static uint64_t payload(uint64_t i)
{
	return i * UINT64_C(0x9e3779b97f4a7c15);
}

/* A short spin, then the core: the other thread may need it. */
static void wait_a_moment(void)
{
	static _Thread_local unsigned spins;

	if (++spins % 64)
		cpu_relax();
	else
		sched_yield();
}

static void wait_for_doorbell(struct stress *s)
{
	uint64_t n;

	/* Sleeps until rung; a lost doorbell hangs here until the test's time limit. */
	must(read(s->doorbell, &n, sizeof(n)) == sizeof(n));
}

/*
 * Ties the calling thread to the @nth core that it may use: woken threads are else put on the waker's core and never
 * meet.
 */
static void pin(int nth)
{
	cpu_set_t allowed, one;
	int n;

	ck_ok(sched_getaffinity(0, sizeof(allowed), &allowed));
	nth %= CPU_COUNT(&allowed);
	for (n = 0; !CPU_ISSET(n, &allowed) || nth-- > 0; n++)
		;
	CPU_ZERO(&one);
	CPU_SET(n, &one);
	ck_ok(sched_setaffinity(0, sizeof(one), &one));
}

/* Up to some 100 ns: brings the two sides' steps across each other in every order. */
static void dawdle(uint64_t *rng)
{
	for (uint64_t n = test_random(rng) % 8; n > 0; n--)
		cpu_relax();
}

static void *serve(void *arg)
{
	struct stress *s = arg;
	struct ring_daemon *ring = &s->pair.daemon;
	uint64_t rng = s->seed ^ 0xdae, served = 0;
	struct sqe taken[64];

	pin(0);
	while (served < s->requests) {
		int n = ring_sq_take(ring, taken, (uint32_t)(1 + test_random(&rng) % ARRAY_SIZE(taken)));

		must(n >= 0);
		if (n == 0) {
			dawdle(&rng);
			if (s->sleepy && test_random(&rng) % 2 && ring_daemon_park(ring)) {
				s->sleeps++;
				wait_for_doorbell(s);
				ring_daemon_unpark(ring);
			} else {
				wait_a_moment();
			}
			continue;
		}
		for (int i = 0; i < n; i++, served++) {
			uint64_t *word = (uint64_t *)(s->pair.arena + taken[i].in_off);
			struct cqe cqe = {.user_data = taken[i].user_data, .sequence = *word};

			must(taken[i].user_data == served);
			*word = ~*word; /* the answer, in the client's memory */
			while (ring_cq_push(ring, &cqe) == -EAGAIN) {
				if (ring_cq_publish(ring))
					ring_wake_client(ring);
				sched_yield();
			}
			if (s->sleepy)
				dawdle(&rng);
		}
		if (ring_cq_publish(ring))
			ring_wake_client(ring);
	}
	return NULL;
}

static void drive(struct stress *s)
{
	struct ring_client *ring = &s->pair.client;
	const uint64_t places = 2 * ring->entries; /* words in the arena, used in turn */
	const uint64_t end_ns = monotonic_ns() + STRESS_NS;
	uint64_t rng = s->seed ^ 0xc11, sent = 0, seen = 0, one = 1, turns = 0;

	while (seen < atomic_load_explicit(&s->requests, memory_order_relaxed)) {
		const struct cqe *cqe;
		bool idle = true;
		uint32_t n;

		/* Before deciding how many to send: the other side ends at what `requests` says. */
		if (++turns % 1024 == 0 && monotonic_ns() > end_ns)
			atomic_store(&s->requests, sent);
		n = (uint32_t)min_size(ring_sq_room(ring), s->requests - sent);
		n = n ? (uint32_t)(test_random(&rng) % (n + 1)) : 0;
		if (s->sleepy) /* a later request would hide that the wake for this one was lost */
			n = sent == seen && s->requests > sent;
		n = (uint32_t)min_size(n, places - (sent - seen));
		for (uint32_t i = 0; i < n; i++, sent++) {
			uint64_t off = sent % places * sizeof(uint64_t);

			*(uint64_t *)(s->pair.arena + off) = payload(sent);
			*ring_sq_slot(ring, i) = (struct sqe){.user_data = sent, .in_off = off};
		}
		if (n && ring_sq_publish(ring, n))
			must(write(s->doorbell, &one, sizeof(one)) == sizeof(one));
		while ((cqe = ring_cq_peek(ring)) != NULL) {
			must(cqe->user_data == seen);
			must(cqe->sequence == payload(seen));
			must(*(uint64_t *)(s->pair.arena + seen % places * sizeof(uint64_t)) == ~payload(seen));
			ring_cq_pop(ring);
			seen++;
			idle = false;
		}
		if (!idle || seen == sent || (n && !s->sleepy))
			continue;
		dawdle(&rng);
		if (s->sleepy && test_random(&rng) % 2) {
			s->dozes++;
			/*
			 * Something is in flight, so this must be woken; ten seconds are no delay that a scheduler
			 * makes.
			 */
			if (ring_client_park(ring, 10 * SECOND_NS) == -ETIMEDOUT)
				atomic_store(&s->lost, true);
			ck_assert_msg(!atomic_load(&s->lost), "a wake was lost");
		} else {
			wait_a_moment();
		}
	}
	/* When the time was over, the other side may sleep, with nothing more to come. */
	must(write(s->doorbell, &one, sizeof(one)) == sizeof(one));
}

static void stress(uint32_t entries, uint64_t requests, bool sleepy, uint32_t start)
{
	struct stress s = {
		.requests = requests, .sleepy = sleepy, .seed = test_seed(), .doorbell = eventfd(0, EFD_CLOEXEC)};
	pthread_t thread;

	ck_assert_int_ge(s.doorbell, 0);
	pair_init(&s.pair, entries);
	pair_start_at(&s.pair, start);
	ck_ok(pthread_create(&thread, NULL, serve, &s));
	pin(1); /* after the thread was made, which inherits */
	drive(&s);
	ck_ok(pthread_join(thread, NULL));
	check(&s.pair);
	if (sleepy)
		ck_assert_uint_gt(s.sleeps + s.dozes, 0); /* the point of the test was reached */
	pair_fini(&s.pair);
	close(s.doorbell);
}

/*
 * Two threads, two million requests, across the wrap: slots and payload arrive whole and in order. TSan judges the
 * ordering.
 */
START_TEST(two_threads_pass_two_million)
{
	stress(1024, 2000000, false, UINT32_MAX - 1000000);
}
END_TEST

/* Both sides go to sleep at any moment: no wake is lost, or somebody sleeps for ten seconds and the test fails. */
START_TEST(no_wake_is_lost)
{
	stress(ENTRIES, 100000, true, 0);
}
END_TEST

/* One step of two threads at the same moment, many times over. */
struct litmus {
	struct pair pair;
	_Atomic uint64_t go,
		done; /* round that is started (UINT64_MAX: no more); round that the other thread has ended */
	bool parked;
};

static void *park_each_round(void *arg)
{
	struct litmus *l = arg;

	pin(0);
	for (uint64_t round = 1;; round++) {
		uint64_t go;

		while ((go = atomic_load_explicit(&l->go, memory_order_acquire)) < round)
			wait_a_moment();
		if (go == UINT64_MAX)
			return NULL;
		l->parked = ring_daemon_park(&l->pair.daemon);
		atomic_store_explicit(&l->done, round, memory_order_release);
	}
}

/*
 * Publishing and parking at the same instant: the client sees the flag, or the daemon sees the tail. Both missing each
 * other is what a mere release would allow, within the nanoseconds of a store buffer, which the sleeping test above
 * cannot hit.
 */
START_TEST(publish_and_park_see_each_other)
{
	const uint64_t end_ns = monotonic_ns() + STRESS_NS;
	struct litmus l = {0};
	struct sqe taken;
	pthread_t thread;

	pair_init(&l.pair, ENTRIES);
	ck_ok(pthread_create(&thread, NULL, park_each_round, &l));
	pin(1);
	for (uint64_t round = 1; round <= 500000 && (round % 64 || monotonic_ns() < end_ns); round++) {
		bool ring_it;

		*ring_sq_slot(&l.pair.client, 0) = (struct sqe){.user_data = round};
		atomic_store_explicit(&l.go, round, memory_order_release);
		for (uint64_t n = round % 64; n > 0; n--)
			__asm__ __volatile__("");
		ring_it = ring_sq_publish(&l.pair.client, 1);
		while (atomic_load_explicit(&l.done, memory_order_acquire) != round)
			wait_a_moment();
		must(ring_it || !l.parked);
		ring_daemon_unpark(&l.pair.daemon);
		must(ring_sq_take(&l.pair.daemon, &taken, 1) == 1);
		l.pair.daemon.in_flight = 0;
	}
	atomic_store(&l.go, UINT64_MAX);
	ck_ok(pthread_join(thread, NULL));
	pair_fini(&l.pair);
}
END_TEST

/* The check that debug builds run names each thing that can be wrong, so that whoever sees it knows where to look. */
START_TEST(check_names_what_is_wrong)
{
	const char *why = "";
	struct ring_daemon good;
	struct pair p;

	pair_init(&p, ENTRIES);
	pair_start_at(&p, UINT32_MAX - 2); /* sound also where indices wrap */
	check(&p);
	good = p.daemon;
#define WRONG(words)                                                                                                   \
	ck_assert_int_eq(ring_daemon_check(&p.daemon, &why), -EPROTO);                                                 \
	ck_assert_msg(strstr(why, words) != NULL, "'%s' does not say '%s'", why, words);                               \
	p.daemon = good
	p.daemon.entries = ENTRIES - 1;
	WRONG("power of two");
	p.daemon.entries = RING_ENTRIES_MIN / 2;
	WRONG("power of two");
	p.daemon.entries = 2 * RING_ENTRIES_MAX;
	WRONG("power of two");
	p.daemon.in_flight = ENTRIES + 1;
	WRONG("in flight");
	p.daemon.cq_tail += 2 * ENTRIES + 1;
	WRONG("more completions than slots");
	p.daemon.cq_shown -= 1;
	WRONG("completions that were not shown");
	atomic_store(&p.client.mine->sq_tail, good.sq_head - 1);
	WRONG("sq_tail");
	atomic_store(&p.client.mine->sq_tail, good.sq_head);
	atomic_store(&p.client.mine->cq_head, good.cq_head + 1);
	WRONG("cq_head");
	atomic_store(&p.client.mine->cq_head, good.cq_head);
	atomic_store(&p.daemon.mine->sq_head, good.sq_head + 1);
	WRONG("somebody wrote the daemon's sq_head");
	atomic_store(&p.daemon.mine->sq_head, good.sq_head);
	atomic_store(&p.daemon.mine->cq_tail, good.cq_tail + 1);
	WRONG("somebody wrote the daemon's cq_tail");
	atomic_store(&p.daemon.mine->cq_tail, good.cq_tail);
	check(&p);
	pair_fini(&p);
}
END_TEST

/*
 * A client that asks to be woken over its socket is either told at once that there is something, and then asked for nothing, or the daemon
 * sees its ticket with the next completion, or with the next change of state.
 */
START_TEST(armed_client_misses_nothing)
{
	struct cqe cqe = {.user_data = 1};
	struct sqe taken[2];
	struct pair p;

	pair_init(&p, ENTRIES);
	submit(&p, 1);
	submit(&p, 2);
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 2), 2);
	ck_assert(ring_client_arm(&p.client, PARK_SOCKET));
	ck_ok(ring_cq_push(&p.daemon, &cqe));
	ck_assert_int_eq(ring_cq_publish(&p.daemon), RING_WAKE_SOCKET);
	/* It did not read: the next ask says so, and takes itself back. */
	ck_assert(!ring_client_arm(&p.client, PARK_SOCKET + 1));
	ck_assert_uint_eq(atomic_load(&p.client.mine->parked), PARK_AWAKE);
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	ring_cq_pop(&p.client);
	ck_ok(ring_cq_push(&p.daemon, &cqe));
	ck_assert_int_eq(ring_cq_publish(&p.daemon), RING_WAKE_NONE);
	ring_cq_pop(&p.client);
	/* The state: once when it comes while armed, and at once when it came before. */
	ck_assert(ring_client_arm(&p.client, PARK_SOCKET + 2));
	ck_assert_int_eq(ring_daemon_set_state(&p.daemon, CHANNEL_CLOSING), RING_WAKE_SOCKET);
	ck_assert(!ring_client_arm(&p.client, PARK_SOCKET + 3));
	ck_assert(ring_client_arm(&p.client, PARK_SOCKET + 4));
	ck_assert_int_eq(ring_daemon_set_state(&p.daemon, CHANNEL_BROKEN), RING_WAKE_SOCKET);
	ck_assert(!ring_client_arm(&p.client, PARK_SOCKET + 5));
	ck_assert(!ring_client_arm(&p.client, PARK_SOCKET + 6)); /* broken is news for ever */
	pair_fini(&p);
}
END_TEST

TEST_MAIN("ring", 60, sizes_are_bounded, constant_page_is_checked, in_order_and_whole, indices_wrap,
	  undrained_client_is_held_back, publish_makes_visible, wakes_as_asked, room_for_completions,
	  hostile_tail_is_refused, hostile_head_is_refused, wrong_daemon_index_is_survived,
	  scribbled_channel_is_survived, state_ends_the_sleep, doorbell_only_when_parked, two_threads_pass_two_million,
	  no_wake_is_lost, publish_and_park_see_each_other, check_names_what_is_wrong, armed_client_misses_nothing)
