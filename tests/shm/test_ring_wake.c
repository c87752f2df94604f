/* Who is woken when, and how: one step at a time. Two threads that do it at once are in test_ring_threads.c. */
#include <errno.h>

#include "shm/park.h"
#include "tests/shm/pair.h"

static enum ring_wake answer_one(struct pair *p)
{
	struct sqe taken;

	pair_submit(p, 1);
	ck_assert_int_eq(ring_sq_take(&p->daemon, &taken, 1), 1);
	ck_ok(pair_complete(p, 1));
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
	ck_assert(!pair_submit(&p, 1));
	ck_assert(!ring_daemon_park(&p.daemon)); /* one is waiting */
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 2), 1);
	ck_assert(ring_daemon_park(&p.daemon));
	ck_assert(pair_submit(&p, 2));
	ring_daemon_unpark(&p.daemon);
	ck_assert(!pair_submit(&p, 3));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 2), 2);
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
	pair_submit(&p, 1);
	pair_submit(&p, 2);
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

TEST_MAIN("ring_wake", 60, wakes_as_asked, state_ends_the_sleep, doorbell_only_when_parked, armed_client_misses_nothing)
