/* Two threads over one channel: nothing is lost, torn or slept through. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/park.h"
#include "tests/shm/pair.h"

#define STRESS_NS (2 * SECOND_NS) /* a loaded machine tests less, not longer */

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
	pair_check(&s.pair);
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

TEST_MAIN("ring_threads", 60, two_threads_pass_two_million, no_wake_is_lost, publish_and_park_see_each_other)
