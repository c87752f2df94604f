/* Submissions and completions: what goes in comes out, where the rings end, and how much is in flight. */
#include <errno.h>

#include "tests/shm/pair.h"

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
			ck_ok(pair_complete(&p, taken[i].user_data));
		}
		ring_cq_publish(&p.daemon);
		pair_check(&p);
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
		pair_submit(&p, (uint64_t)i);
	ck_assert_uint_eq(ring_sq_room(&p.client), 0);
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), ENTRIES);
	for (int i = 0; i < ENTRIES; i++)
		pair_submit(&p, (uint64_t)(ENTRIES + i));
	/* All in flight: nothing more is taken, though the client has more. */
	ck_assert(ring_sq_waiting(&p.daemon));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), 0);
	for (int i = 0; i < ENTRIES; i++)
		ck_ok(pair_complete(&p, (uint64_t)i));
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 4 * ENTRIES), ENTRIES);
	for (int i = 0; i < ENTRIES; i++)
		ck_ok(pair_complete(&p, (uint64_t)(ENTRIES + i)));
	ring_cq_publish(&p.daemon);
	/* 2 × entries unread: the ring is full. One more request can run, its completion must be kept. */
	pair_submit(&p, 2 * ENTRIES);
	ck_assert_int_eq(ring_sq_take(&p.daemon, taken, 1), 1);
	ck_assert_int_eq(pair_complete(&p, 2 * ENTRIES), -EAGAIN);
	ck_assert_uint_eq(p.daemon.in_flight, 1);
	pair_check(&p);
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	ring_cq_pop(&p.client);
	next++;
	ck_ok(pair_complete(&p, 2 * ENTRIES));
	ring_cq_publish(&p.daemon);
	while ((cqe = ring_cq_peek(&p.client)) != NULL) {
		ck_assert_uint_eq(cqe->user_data, next++);
		ring_cq_pop(&p.client);
	}
	ck_assert_uint_eq(next, 2 * ENTRIES + 1);
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
		pair_submit(&p, 1);
		ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
		ck_assert_int_eq(ring_cq_room(&p.daemon), 2 * ENTRIES - i - 1); /* it is in flight */
		ck_ok(pair_complete(&p, 1));
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
	pair_submit(&p, 1);
	ck_assert_int_eq(ring_sq_take(&p.daemon, &taken, 1), 1);
	ck_ok(pair_complete(&p, 1));
	ck_assert_ptr_null(ring_cq_peek(&p.client));
	ck_assert(!ring_cq_publish(&p.daemon));
	ck_assert_ptr_nonnull(ring_cq_peek(&p.client));
	pair_fini(&p);
}
END_TEST

TEST_MAIN("ring", 60, sizes_are_bounded, constant_page_is_checked, in_order_and_whole, indices_wrap,
	  undrained_client_is_held_back, publish_makes_visible, room_for_completions)
