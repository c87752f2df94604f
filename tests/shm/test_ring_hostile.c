/* What the other side may write: indices that cannot be, and any bytes whatever. */
#include <errno.h>

#include "tests/shm/pair.h"

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
			pair_submit(&p, 1);
			ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
			rc = pair_complete(&p, 1);
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
		pair_submit(&p, 1);
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
			if (pair_complete(&p, taken[i].user_data) < 0)
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

/* The check that debug builds run names each thing that can be wrong, so that whoever sees it knows where to look. */
START_TEST(check_names_what_is_wrong)
{
	const char *why = "";
	struct ring_daemon good;
	struct pair p;

	pair_init(&p, ENTRIES);
	pair_start_at(&p, UINT32_MAX - 2); /* sound also where indices wrap */
	pair_check(&p);
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
	pair_check(&p);
	pair_fini(&p);
}
END_TEST

TEST_MAIN("ring_hostile", 60, hostile_tail_is_refused, hostile_head_is_refused, wrong_daemon_index_is_survived,
	  scribbled_channel_is_survived, check_names_what_is_wrong)
