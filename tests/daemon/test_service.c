/*
 * The service loop with real sessions: what each operation answers, what ends a session, what the end of a session or of the
 * daemon leaves behind.
 */
#include "tests/daemon/rig.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Every operation through the ring does what layout.h says of it. */
START_TEST(operations)
{
	static const unsigned char range[] = {1, 'a', 1, 'z'}, everything[] = {0, 0};
	static const unsigned char many[] = {2, 0, 0, 0, 1, 'b', 2, 'n', 'o'};
	struct scan_args args = {0};
	struct client c;
	struct cqe cqe;
	uint64_t before;

	rig_start();
	client_open(&c, false);
	ck_assert_int_eq(call(&c, OP_NOP, 0, 0, NULL, 0).res, 0);
	ck_get(&c, 0, "a", NULL);
	ck_assert_uint_eq(put(&c, 0, "a", "one").sequence, 1);
	ck_assert_uint_eq(put(&c, 0, "b", "two").sequence, 2);
	ck_get(&c, 0, "a", "one");
	cqe = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0);
	ck_assert_int_eq(cqe.res, 0);
	before = cqe.sequence;
	ck_assert_int_eq(put(&c, 0, "a", NULL).res, 0);
	ck_assert_int_eq(put(&c, 0, "b", "three").res, 0);
	ck_get(&c, 0, "a", NULL);
	ck_get(&c, before, "a", "one");
	ck_get(&c, before, "b", "two");
	ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	ck_get(&c, before, "a", "one");
	ck_get(&c, 0, "b", "three");

	cqe = call(&c, OP_SCAN, 0, 0, &args, sizeof(args));
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_eq(cqe.len, 8);
	ck_assert_int_eq(memcmp(answer(&c), "\1\5bthree", 8), 0);
	ck_assert_uint_eq(cqe.flags & CQE_MORE, 0);
	args.max_count = 1;
	cqe = call(&c, OP_SCAN, SQE_REVERSE, before, &args, sizeof(args));
	ck_assert_int_eq(memcmp(answer(&c), "\1\3btwo", 6), 0);
	ck_assert_uint_eq(cqe.flags & CQE_MORE, CQE_MORE);

	cqe = call(&c, OP_MULTIGET, 0, 0, many, sizeof(many));
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_eq(cqe.len, 16 + 5 + 16);
	ck_assert_int_eq(
		memcmp(answer(&c), "\0\0\0\0\5\0\0\0\4\0\0\0\0\0\0\0three\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 37), 0);

	ck_assert_int_eq(call(&c, OP_RELEASE, 0, before, NULL, 0).res, 0);
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, before, NULL, 0).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_GET, 0, before, "a", 1).res, -SHALE_EOUSTED);
	ck_assert_int_eq(call(&c, OP_COMPACT, 0, 0, everything, sizeof(everything)).res, 0);
	ck_get(&c, 0, "b", "three");
	ck_assert_int_eq(call(&c, OP_SIZES, 0, 0, range, sizeof(range)).res, 0);
	cqe = call(&c, OP_PROPERTY, 0, 0, "leveldb.num-files-at-level0", 27);
	ck_assert_int_eq(cqe.res, 0);
	cqe = call(&c, OP_PROPERTY, 0, 0, "shale.config", 12);
	ck_assert_ptr_nonnull(memmem(answer(&c), cqe.len, "write_buffer = 1M", 17));
	ck_assert_int_eq(call(&c, OP_PROPERTY, 0, 0, "no.such", 7).res, SHALE_NOTFOUND);
	ck_assert_int_eq(call(&c, OP_CANCEL, 0, 4711, NULL, 0).res, -ENOENT);
	client_close(&c);
	rig_stop();
}
END_TEST

/* A snapshot of the empty database must stay empty, although its sequence, 0, means "the latest" in a submission. */
START_TEST(snapshot_of_nothing)
{
	struct client c;
	uint64_t empty;

	rig_start();
	client_open(&c, false);
	empty = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).sequence;
	ck_assert_uint_ne(empty, 0);
	put(&c, 0, "a", "one");
	ck_get(&c, empty, "a", NULL);
	ck_get(&c, 0, "a", "one");
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, empty, NULL, 0).res, 0);
	client_close(&c);
	rig_stop();
}
END_TEST

/* A synced write is answered, and says that it waited for the disk. */
START_TEST(synced_write)
{
	struct client c;
	struct cqe cqe;

	rig_start();
	client_open(&c, false);
	cqe = put(&c, SQE_SYNC, "a", "one");
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_eq(cqe.delay & DELAY_SYNC, DELAY_SYNC);
	ck_assert_uint_eq(cqe.sequence, 1);
	client_close(&c);
	rig_stop();
}
END_TEST

/* What a program may ask by mistake is refused with a code, and its session lives on. */
START_TEST(mistakes_are_refused_with_a_code)
{
	unsigned char big[128 << 10] = {0};
	struct scan_args args = {.start_len = 5};
	struct client c, reader;
	struct sqe *sqe;

	rig_start();
	client_open(&c, false);
	ck_assert_int_eq(call(&c, OP_GET, 0, 0, big, sizeof(big)).res, -E2BIG);
	ck_assert_int_eq(call(&c, OP_WRITE, 0, 0, big, 5).res, -EBADMSG);
	ck_assert_int_eq(call(&c, OP_WRITE, 0, 0, big, 100).res, -EBADMSG);
	ck_assert_int_eq(call(&c, OP_GET, SQE_SYNC, 0, "a", 1).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_SCAN, 0, 0, &args, 3).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_SCAN, SQE_HAS_START, 0, &args, sizeof(args)).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_COMPACT, 0, 0, "\5a", 2).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_MULTIGET, 0, 0, "\377\377\377\377\1a", 6).res, -E2BIG);
	ck_assert_int_eq(call(&c, OP_GET, 0, UINT64_C(1) << 60, "a", 1).res, -SHALE_EOUSTED);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).res, 0);
	ck_assert_int_eq(call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).res, -ENOSPC);
	sqe = prepare(&c, 0, OP_NOP);
	sqe->deadline_ns = 1;
	publish(&c, 1);
	ck_assert_int_eq(take(&c).res, -ETIMEDOUT);
	ck_assert_int_eq(put(&c, 0, "a", "one").res, 0);

	client_open(&reader, true);
	ck_assert_int_eq(put(&reader, 0, "a", "two").res, -EROFS);
	ck_assert_int_eq(call(&reader, OP_FLUSH, 0, 0, NULL, 0).res, -EROFS);
	ck_get(&reader, 0, "a", "one");
	client_close(&reader);
	client_close(&c);
	rig_stop();
}
END_TEST

/* What no library of ours would send ends that session, with CHANNEL_BROKEN; all others go on. */
START_TEST(violations_end_only_their_session)
{
	struct client good, bad;

	rig_start();
	client_open(&good, false);
	put(&good, 0, "a", "one");
	for (int i = 0; i < 9; i++) {
		struct sqe *sqe;

		client_open(&bad, false);
		ck_assert_int_eq(call(&bad, OP_NOP, 0, 0, NULL, 0).res, 0);
		sqe = prepare(&bad, 0, i == 5 ? OP_WRITE : OP_GET);
		sqe->in_len = 1;
		switch (i) {
		case 0:
			sqe->session++;
			break;
		case 1:
			sqe->op = OP_COUNT;
			break;
		case 2:
			sqe->flags = 0x8000;
			break;
		case 3:
			sqe->extra_len = 2; /* more than the payload */
			break;
		case 4:
			sqe->in_off = bad.arena_size;
			break;
		case 5:
			sqe->in_off = UINT64_MAX - 3; /* offset + length overflows */
			sqe->in_len = 16;
			break;
		case 6:
			sqe->out_off = 8;
			sqe->out_len = (uint32_t)bad.arena_size - 7;
			break;
		case 7: /* more published than the ring holds */
			bad.ring.sq_tail += 100;
			break;
		case 8: /* completions read that were never there */
			atomic_store(&bad.ring.mine->cq_head, 1000);
			for (int j = 0; j < 20; j++) { /* it is looked at when completions might be many */
				while (!ring_sq_room(&bad.ring))
					nap();
				prepare(&bad, 0, OP_NOP);
				publish(&bad, 1);
			}
			while (!ring_sq_room(&bad.ring))
				nap();
			prepare(&bad, 0, OP_NOP);
			break;
		}
		publish(&bad, 1);
		await_mail(bad.s, SESSION_BROKEN);
		ck_assert_uint_eq(atomic_load(&bad.ring.theirs->state), CHANNEL_BROKEN);
		client_close(&bad);
		ck_get(&good, 0, "a", "one");
	}
	client_close(&good);
	rig_stop();
}
END_TEST

/* A client that takes its channel's pages away raises SIGBUS in the daemon: its session ends, the daemon does not. */
START_TEST(truncated_channel)
{
	struct client good, bad;

	rig_start();
	client_open(&good, false);
	put(&good, 0, "a", "one");
	for (int i = 0; i < 2; i++) {
		client_open(&bad, false);
		call(&bad, OP_NOP, 0, 0, NULL, 0);
		prepare(&bad, 0, OP_GET)->in_len = 3;
		/* First everything, then only the arena: the fault hits the ring, and then a copy. */
		ck_ok(ftruncate(bad.s->channel.fd, i == 0 ? 0 : bad.arena - (unsigned char *)bad.s->channel.base));
		if (i == 0)
			service_ring(bad.s->doorbell);
		else
			publish(&bad, 1);
		await_mail(bad.s, SESSION_BROKEN);
		client_close(&bad);
		ck_get(&good, 0, "a", "one");
	}
	client_close(&good);
	rig_stop();
}
END_TEST

/* A client that reads no completions is left alone, loses none of them, and is served again when it reads. */
START_TEST(unread_completions_are_kept)
{
	enum { TOTAL = 100 };
	struct client c, other;
	unsigned sent = 0, got = 0;

	rig_start();
	client_open(&c, false);
	client_open(&other, false);
	for (int tries = 0; tries < 50; tries++) {
		while (sent < TOTAL && ring_sq_room(&c.ring)) {
			prepare(&c, 0, OP_NOP);
			publish(&c, 1);
			sent++;
		}
		call(&other, OP_NOP, 0, 0, NULL, 0);
	}
	ck_assert_uint_ge(sent, 3 * 16); /* completions fill their ring, submissions theirs */
	ck_assert_uint_lt(sent, TOTAL);
	while (got < TOTAL) {
		ck_assert_uint_eq(take(&c).user_data, ++got);
		while (sent < TOTAL && ring_sq_room(&c.ring)) {
			prepare(&c, 0, OP_NOP);
			publish(&c, 1);
			sent++;
		}
	}
	client_close(&other);
	client_close(&c);
	rig_stop();
}
END_TEST

/* A large value is copied bit by bit, so that others are served meanwhile: it arrives whole, cut where the room ends, and a client may go in the middle. */
START_TEST(large_values_come_in_slices)
{
	enum { SIZE = 3 << 20, ROOM = 8 << 20 };
	struct client c, other;
	unsigned char *value = malloc(SIZE), *end;
	struct sqe *sqe;
	struct cqe cqe;

	rig_start();
	client_open_large(&c, ROOM);
	client_open(&other, false);
	for (size_t i = 0; i < SIZE; i++)
		value[i] = (unsigned char)(i * 31 >> 3);
	end = batch_append_put(batch_begin(c.arena), slice_str("big"), slice_of(value, SIZE));
	batch_set_count(c.arena, 1);
	sqe = prepare(&c, 0, OP_WRITE);
	sqe->in_len = (uint32_t)(end - c.arena);
	publish(&c, 1);
	ck_assert_int_eq(take(&c).res, 0);
	for (int round = 0; round < 2; round++) {
		cqe = call(&c, OP_GET, 0, 0, "big", 3);
		ck_assert_int_eq(cqe.res, 0);
		ck_assert_uint_eq(cqe.len, SIZE);
		ck_assert_uint_eq(cqe.sequence, 1);
		ck_assert_int_eq(memcmp(answer(&c), value, SIZE), 0);
		sqe = prepare(&c, 0, OP_GET);
		sqe->in_len = 3;
		sqe->out_len = 1 << 20;
		memset(c.arena + sqe->out_off, 0, SIZE);
		publish(&c, 1);
		cqe = take(&c);
		ck_assert_uint_eq(cqe.len, SIZE);
		ck_assert_int_eq(memcmp(answer(&c), value, 1 << 20), 0);
		ck_assert_int_eq(answer(&c)[1 << 20], 0);
		ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0); /* from a table, the second time */
	}
	for (int i = 0; i < 8; i++) {
		sqe = prepare(&c, 0, OP_GET);
		memcpy(c.arena, "big", 3);
		sqe->in_len = 3;
		prepare(&c, 1, OP_CANCEL)->sequence = c.user_data - 1;
		publish(&c, i % 2 ? 2 : 1);
		if (i % 2)
			take(&c), take(&c);
		call(&other, OP_NOP, 0, 0, NULL, 0);
		client_close(&c);
		client_open_large(&c, ROOM);
	}
	ck_get(&other, 0, "no", NULL);
	client_close(&c);
	client_close(&other);
	rig_stop();
	free(value);
}
END_TEST

/* With its session go its pins and its row, so that a dead client holds nothing back. */
START_TEST(dead_session_holds_nothing)
{
	struct client c;
	uint64_t pinned;

	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "one");
	pinned = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).sequence;
	ck_assert(engine_snapshot_held(rig.engine, pinned));
	/* and a request in flight that nobody will fetch */
	prepare(&c, 0, OP_FLUSH);
	publish(&c, 1);
	client_close(&c);
	ck_assert(!engine_snapshot_held(rig.engine, pinned));
	for (int i = 0; i < REGION_SNAPSHOTS; i++)
		ck_assert_uint_eq(atomic_load(&rig.region.snapshots[i].sequence_plus_1), 0);
	for (int i = 0; i < REGION_SESSIONS; i++)
		ck_assert_uint_eq(atomic_load(&rig.region.sessions[i].session), 0);
	rig_stop();
}
END_TEST

/* A clean end answers what was published before it, and tells every client. */
START_TEST(clean_end_answers)
{
	unsigned char batch[64], *end = batch_append_put(batch_begin(batch), slice_str("k"), slice_str("v"));
	struct client c;

	rig_start();
	client_open(&c, false);
	call(&c, OP_NOP, 0, 0, NULL, 0);
	batch_set_count(batch, 1);
	memcpy(c.arena, batch, (size_t)(end - batch));
	for (unsigned i = 0; i < 16; i++) {
		struct sqe *sqe = prepare(&c, i, OP_WRITE);

		sqe->in_len = (uint32_t)(end - batch);
		sqe->flags = SQE_SYNC;
	}
	ring_sq_publish(&c.ring, 16); /* without the doorbell: the end itself must look */
	service_stop(&rig.service);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(take(&c).res, 0);
	while (atomic_load(&c.ring.theirs->state) != CHANNEL_CLOSING)
		nap();
	rig_stop();
	session_free(c.s);
}
END_TEST

/* Several threads write and read their own keys at once; each sees its last write. */
static void *hammer(void *arg)
{
	struct client *c = arg;
	char key[32], value[32];

	for (int i = 0; i < 400; i++) {
		snprintf(key, sizeof(key), "%p-%d", arg, i % 50);
		snprintf(value, sizeof(value), "%d", i);
		ck_assert_int_eq(put(c, i % 40 ? 0 : SQE_SYNC, key, value).res, 0);
		ck_get(c, 0, key, value);
		if (i % 100 == 99)
			ck_assert_int_eq(call(c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	}
	return NULL;
}

START_TEST(many_at_once)
{
	enum { CLIENTS = 6 };
	struct client clients[CLIENTS];
	pthread_t threads[CLIENTS];

	rig_start();
	for (int i = 0; i < CLIENTS; i++)
		client_open(&clients[i], false);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &clients[i]), 0);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < CLIENTS; i++)
		client_close(&clients[i]);
	rig_stop();
}
END_TEST

/* A client that polls its socket gets one byte for each time that it asks, and none when it does not. */
START_TEST(woken_by_the_socket)
{
	struct client c;
	char bytes[8];
	int ends[2];

	rig_start();
	ck_ok(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
	client_open_with(&c, false, ends[0]);
	ck_assert_int_eq(call(&c, OP_NOP, 0, 0, NULL, 0).res, 0);
	ck_assert_int_eq(recv(ends[1], bytes, sizeof(bytes), MSG_DONTWAIT), -1);
	for (uint32_t ticket = PARK_SOCKET; ticket < PARK_SOCKET + 3; ticket++) {
		struct pollfd poll_end = {.fd = ends[1], .events = POLLIN};

		atomic_store(&c.ring.mine->parked, ticket);
		prepare(&c, 0, OP_NOP);
		publish(&c, 1);
		ck_assert_int_eq(poll(&poll_end, 1, 8000), 1);
		ck_assert_int_eq(recv(ends[1], bytes, sizeof(bytes), 0), 1);
		ck_assert_ptr_nonnull(ring_cq_peek(&c.ring)); /* the byte comes after what it tells of */
		ring_cq_pop(&c.ring);
		prepare(&c, 0, OP_NOP);
		publish(&c, 1);
		while (!ring_cq_peek(&c.ring))
			nap();
		ring_cq_pop(&c.ring);
		ck_assert_int_eq(recv(ends[1], bytes, sizeof(bytes), MSG_DONTWAIT), -1);
	}
	/* One that never reads its socket keeps nobody: the byte that does not fit is not needed. */
	for (uint32_t ticket = 100; ticket < 1000; ticket++) {
		atomic_store(&c.ring.mine->parked, ticket);
		prepare(&c, 0, OP_NOP);
		publish(&c, 1);
		while (!ring_cq_peek(&c.ring))
			sched_yield();
		ring_cq_pop(&c.ring);
	}
	client_close(&c);
	close(ends[1]);
	rig_stop();
}
END_TEST

/* Random submissions and random indices: whatever comes, the daemon answers others and ends cleanly. */
START_TEST(random_bytes)
{
	uint64_t seed = test_seed();
	struct client good, bad;

	rig_start();
	client_open(&good, false);
	put(&good, 0, "a", "one");
	for (int round = 0; round < 60; round++) {
		client_open(&bad, false);
		for (int i = 0; i < 40; i++) {
			struct sqe *sqe = &bad.ring.sq[test_random(&seed) % 16];

			for (unsigned w = 0; w < 8; w++)
				((uint64_t *)sqe)[w] = test_random(&seed);
			if (test_random(&seed) % 8) { /* near enough to get past the first checks */
				sqe->session = bad.s->id;
				sqe->op = test_random(&seed) % (OP_COUNT + 1);
				sqe->flags = test_random(&seed) % 256 & (unsigned)test_random(&seed);
				sqe->extra_len = 0;
				sqe->in_off %= bad.arena_size;
				sqe->in_len %= 64;
				sqe->out_off %= bad.arena_size;
				sqe->out_len %= 256;
				sqe->sequence %= 4;
				sqe->deadline_ns = 0;
			}
			bad.arena[test_random(&seed) % bad.arena_size] = (unsigned char)test_random(&seed);
			if (test_random(&seed) % 100 == 0)
				bad.ring.sq_tail += (uint32_t)test_random(&seed) % 40;
			if (test_random(&seed) % 100 == 0)
				atomic_store(&bad.ring.mine->cq_head, (uint32_t)test_random(&seed) % 64);
			publish(&bad, (unsigned)(test_random(&seed) % 3));
		}
		service_ring(bad.s->doorbell);
		ck_get(&good, 0, "a", "one");
		service_post(&rig.service, bad.s, SESSION_END);
		await_mail(bad.s, SESSION_GONE);
		session_free(bad.s);
	}
	client_close(&good);
	rig_stop();
}
END_TEST

TEST_MAIN("service", 30, operations, snapshot_of_nothing, synced_write, mistakes_are_refused_with_a_code,
	  violations_end_only_their_session, truncated_channel, unread_completions_are_kept,
	  large_values_come_in_slices, dead_session_holds_nothing, clean_end_answers, many_at_once, woken_by_the_socket,
	  random_bytes)
