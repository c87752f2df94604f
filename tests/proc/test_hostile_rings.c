/*
 * Sessions whose client does what no library does: with indices, ids, offsets, memory, doorbell and socket. After each, the daemon and
 * the client beside are as they were, and everything is given back.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

static struct scene s;

/* ---- ids, offsets, indices ---- */

/* Ids that are not this session's end it: one that has ended, a neighbour's, the other slot or generation, none. */
START_TEST(other_sessions_ids)
{
	struct raw_client old, r, neighbour;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &old);
	raw_close(&old);
	raw_open(s.d.socket, &neighbour);
	for (unsigned i = 0; i < 7; i++) {
		const uint64_t ids[] = {old.session, neighbour.session, 0, UINT64_MAX, 1, UINT64_C(1) << 32, 0};
		uint64_t id = ids[i];

		raw_open(s.d.socket, &r);
		ck_assert_uint_ne(r.session, old.session);
		if (i >= 4)
			id = i == 6 ? r.session ^ UINT64_C(1) << 63 : r.session + ids[i];
		raw_prepare(&r, 0, (struct sqe){.op = OP_NOP})->session = id;
		raw_publish(&r, 1);
		ck_assert_msg(raw_take(&r).res == RAW_ENDED, "case %u", i);
		raw_close(&r);
	}
	ck_assert_int_eq(raw_call(&neighbour, (struct sqe){.op = OP_NOP}), 0);
	raw_close(&neighbour);
	scene_end(&s);
}
END_TEST

static bool inside(const struct raw_client *r, uint64_t off, uint32_t len)
{
	return off <= r->arena_size && len <= r->arena_size - off;
}

/* Ranges at every edge: what lies inside the arena is served or refused with a code, what does not ends the session. Sums that wrap do not pass. */
START_TEST(ranges_at_the_edges)
{
	struct raw_client r;
	unsigned ended = 0, answered = 0;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (unsigned i = 0; i < 12 * 9 * 2; i++) {
		const uint64_t n = r.arena_size;
		const uint64_t offs[] = {0,
					 1,
					 n - 1,
					 n,
					 n + 1,
					 UINT32_MAX,
					 1ull << 32,
					 (1ull << 32) + 1,
					 1ull << 63,
					 UINT64_MAX - n,
					 UINT64_MAX - 15,
					 UINT64_MAX};
		const uint32_t lens[] = {
			0, 1, 16, (uint32_t)n - 1, (uint32_t)n, (uint32_t)n + 1, 1u << 31, UINT32_MAX - 15, UINT32_MAX};
		uint64_t off = offs[i / 2 % 12];
		uint32_t len = lens[i / 2 / 12];
		struct sqe sqe = {.op = OP_GET, .in_len = 1, .out_len = 1};
		int32_t res;

		if (i % 2)
			sqe.out_off = off, sqe.out_len = len;
		else
			sqe.in_off = off, sqe.in_len = len;
		res = raw_call(&r, sqe);
		ck_assert_msg((res == RAW_ENDED) == !inside(&r, off, len), "offset %#llx, length %#x: %d",
			      (unsigned long long)off, len, res);
		answered += res != RAW_ENDED;
		if (res == RAW_ENDED) {
			ended++;
			raw_close(&r);
			raw_open(s.d.socket, &r);
		}
	}
	ck_assert_uint_gt(ended, 100);
	ck_assert_uint_gt(answered, 20);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* Indices that run backwards, leap, or promise what was not shown. */
START_TEST(indices_out_of_bounds)
{
	scene_begin(&s, NULL);
	for (unsigned i = 0; i < 9; i++) {
		struct raw_client r;
		_Atomic uint32_t *tail, *head;

		raw_open(s.d.socket, &r);
		tail = &r.ring.mine->sq_tail;
		head = &r.ring.mine->cq_head;
		for (unsigned k = 0; k < r.ring.entries + 3; k++)
			ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_NOP}), 0);
		for (unsigned k = 0; k < r.ring.entries; k++)
			raw_prepare(&r, k, (struct sqe){.op = OP_NOP});
		switch (i) {
		case 0:
			atomic_store(tail, r.ring.sq_tail - 1);
			break;
		case 1:
			atomic_store(tail, 0);
			break;
		case 2:
			atomic_store(tail, r.ring.sq_tail + r.ring.entries + 1);
			break;
		case 3:
			atomic_store(tail, r.ring.sq_tail + (1u << 31));
			break;
		case 4:
			atomic_store(tail, r.ring.sq_tail - r.ring.entries);
			break;
		default: /* the head is looked at only when the ring seems half full: submit until it is */
			atomic_store(head, i == 5   ? r.ring.cq_head + 1
					   : i == 6 ? r.ring.cq_head - r.ring.entries - 4
					   : i == 7 ? r.ring.cq_head + (1u << 31)
						    : r.ring.cq_head + 2 * r.ring.entries + 1);
			for (unsigned k = 0; k < 8 && !raw_hung_up(&r, 0); k++) {
				uint32_t taken = atomic_load(&r.ring.theirs->sq_head);

				for (unsigned n = 0; n < r.ring.entries; n++)
					raw_prepare(&r, n, (struct sqe){.op = OP_NOP});
				raw_publish(&r, r.ring.entries);
				for (int ms = 0; ms < 10 && atomic_load(&r.ring.theirs->sq_head) == taken; ms++)
					usleep(1000);
			}
		}
		raw_ring(&r);
		ck_assert_msg(raw_hung_up(&r, 20000), "case %u: the session goes on", i);
		raw_close(&r);
	}
	scene_end(&s);
}
END_TEST

/* The daemon writes its words and never reads them back: overwritten before each request, they change nothing about where it goes on. */
START_TEST(daemons_words_overwritten)
{
	struct raw_client r;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (uint32_t i = 0; i < 300; i++) {
		uint64_t begin = monotonic_ns();

		atomic_store(&r.ring.theirs->sq_head, i * 7919);
		atomic_store(&r.ring.theirs->cq_tail, i * 104729 + 1000000);
		atomic_store(&r.ring.theirs->state, CHANNEL_BROKEN);
		raw_prepare(&r, 0, (struct sqe){.op = OP_NOP});
		ring_sq_publish(&r.ring, 1);
		raw_ring(&r);
		while (atomic_load(&r.ring.theirs->cq_tail) != i + 1) {
			ck_assert(!raw_hung_up(&r, 0));
			ck_assert_uint_lt(monotonic_ns() - begin, UINT64_C(40000000000));
			usleep(50);
		}
		ck_assert_uint_eq(atomic_load(&r.ring.theirs->sq_head), i + 1);
		ck_assert_uint_eq(ring_cq_peek(&r.ring)->user_data, i + 1);
		ring_cq_pop(&r.ring);
	}
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* Who never takes completions is served until there is no room for more, costs nobody anything, and finds every one in order when it looks. */
START_TEST(completions_never_taken)
{
	struct raw_client r;
	uint32_t taken, submitted = 0, seen = 0;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t room = r.ring.entries - (r.ring.sq_tail - atomic_load(&r.ring.theirs->sq_head));

		for (uint32_t k = 0; k < room; k++)
			raw_prepare(&r, k, (struct sqe){.op = OP_NOP});
		raw_publish(&r, room);
		submitted += room;
		if (i % 100 == 0)
			usleep(1000);
	}
	witness_progress(&s.witness, 100);
	taken = atomic_load(&r.ring.theirs->sq_head);
	ck_assert_uint_le(taken, 2 * r.ring.entries);
	ck_assert_uint_ge(taken, r.ring.entries);
	ck_assert(!raw_hung_up(&r, 0));
	for (; seen < submitted; seen++) {
		struct cqe cqe = raw_take(&r);

		ck_assert_int_eq(cqe.res, 0);
		ck_assert_uint_eq(cqe.user_data, seen + 1);
	}
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* ---- memory ---- */

/* Pages that are taken away or added: the session goes on with zeros or ends; nobody else is touched. */
START_TEST(punched_channel)
{
	scene_begin(&s, NULL);
	for (unsigned i = 0; i < 6; i++) {
		struct raw_client r;
		size_t page = i < 3 ? i * SHM_PAGE : (size_t)(r.arena - r.base);

		raw_open(s.d.socket, &r);
		page = i < 3 ? i * SHM_PAGE : i == 3 ? 3 * SHM_PAGE : (size_t)(r.arena - r.base);
		for (unsigned k = 0; k < 200; k++) {
			uint32_t room = ring_sq_room(&r.ring) ? 1 : 0;

			if (room)
				raw_prepare(&r, 0,
					    (struct sqe){.op = OP_GET, .in_len = 8, .out_off = 4096, .out_len = 64});
			if (i == 5)
				ck_ok(ftruncate(r.fds[0], (off_t)(r.size + k * SHM_PAGE)));
			else
				ck_ok(fallocate(r.fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)page,
						SHM_PAGE));
			if (room)
				raw_publish(&r, room);
			while (ring_cq_peek(&r.ring))
				ring_cq_pop(&r.ring);
			raw_ring(&r);
		}
		raw_close(&r);
		scene_check(&s);
	}
	scene_end(&s);
}
END_TEST

/* Sizes at the edges in HELLO are bounded to what the daemon grants, and what one user takes is counted and comes back. */
START_TEST(huge_channels)
{
	static const uint64_t sizes[] = {1, 4095, UINT32_MAX, 1ull << 30, (1ull << 30) + 1, 1ull << 63, UINT64_MAX};
	struct raw_client r, many[64];
	unsigned n = 0;
	int rc = 0;

	scene_begin(&s, "limits.memory_per_uid=512M", NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct hello hello = raw_hello();

		hello.arena_size = sizes[i];
		hello.ring_entries = (uint32_t)(sizes[i] >> (i % 2 ? 0 : 32));
		rc = raw_try(s.d.socket, &hello, &r);
		if (rc < 0)
			continue;
		ck_assert_uint_le(r.arena_size, ARENA_SIZE_MAX);
		ck_assert_uint_le(r.ring.entries, RING_ENTRIES_MAX);
		memset(r.arena + r.arena_size - 8, 1, 8);
		ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_GET,
							   .in_off = r.arena_size - 8,
							   .in_len = 8,
							   .out_off = r.arena_size,
							   .out_len = 0}),
				 SHALE_NOTFOUND);
		raw_close(&r);
	}
	while (n < ARRAY_SIZE(many)) {
		struct hello hello = raw_hello();

		hello.arena_size = 64 << 20;
		rc = raw_try(s.d.socket, &hello, &many[n]);
		if (rc < 0)
			break;
		n++;
	}
	ck_assert_int_eq(rc, -EDQUOT);
	ck_assert_uint_gt(n, 0);
	witness_progress(&s.witness, 50);
	while (n)
		raw_close(&many[--n]);
	scene_end(&s);
}
END_TEST

/* ---- doorbell and socket ---- */

/* The doorbell is shared with the client: it may be read away, filled up, made non-blocking, rung without end. Only its own session may suffer. */
START_TEST(doorbell_abused)
{
	uint64_t most = UINT64_MAX - 1, value;

	scene_begin(&s, NULL);
	for (unsigned i = 0; i < 4; i++) {
		struct raw_client r;
		bool ended = false;

		raw_open(s.d.socket, &r);
		for (unsigned k = 0; k < 300 && !ended; k++) {
			if (k % 64 == 0)
				usleep(3000); /* it parks */
			if (i == 0 || i == 3)
				ck_ok(fcntl(r.fds[2], F_SETFL, k % 2 ? O_NONBLOCK : 0));
			if (i == 1) {
				fcntl(r.fds[2], F_SETFL, O_NONBLOCK);
				ck_assert(write(r.fds[2], &most, sizeof(most)) == sizeof(most) || errno == EAGAIN);
			}
			raw_prepare(&r, 0, (struct sqe){.op = OP_NOP});
			if (i == 2) { /* rung and read away at once */
				fcntl(r.fds[2], F_SETFL, O_NONBLOCK);
				raw_ring(&r);
				ck_assert(read(r.fds[2], &value, sizeof(value)) == sizeof(value) || errno == EAGAIN);
			}
			if (ring_sq_publish(&r.ring, 1)) {
				fcntl(r.fds[2], F_SETFL, O_NONBLOCK);
				value = 1;
				ck_assert(write(r.fds[2], &value, sizeof(value)) == sizeof(value) || errno == EAGAIN);
			}
			ended = raw_take(&r).res == RAW_ENDED;
		}
		raw_close(&r);
		scene_check(&s);
	}
	scene_end(&s);
}
END_TEST

/* A TCP socket whose last close lasts 20 s: its peer takes nothing, and it lingers. */
static int lingering_socket(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	static char bytes[1 << 20];
	socklen_t len = sizeof(a);

	ck_ok(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)));
	ck_ok(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	ck_ok(listen(listener, 1));
	ck_ok(getsockname(listener, (struct sockaddr *)&a, &len));
	ck_ok(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	ck_ok(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 20}, sizeof(struct linger)));
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

/* Whether the kernel can keep descriptors from being sent to a socket (SO_PASSRIGHTS, Linux 6.16). */
static bool kernel_refuses(void)
{
	enum { PASSRIGHTS = 83 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool can = setsockopt(fd, SOL_SOCKET, PASSRIGHTS, &(int){0}, sizeof(int)) == 0;

	close(fd);
	return can;
}

/* Descriptors that nobody asked for, with HELLO and afterwards: none of them is open in the daemon, and closing them holds nobody up (where the kernel can refuse them). */
START_TEST(unwanted_descriptors)
{
	struct hello hello = raw_hello();
	struct raw_client r;
	int sock, fd;

	scene_begin(&s, NULL);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < 50; i++) {
		sock = raw_connect(s.d.socket, SOCK_SEQPACKET);
		ck_assert_int_ge(sock, 0);
		raw_send(sock, &hello, sizeof(hello), fd);
		close(sock);
	}
	raw_open(s.d.socket, &r);
	for (unsigned i = 0; i < 50; i++)
		ck_assert(raw_send(r.sock, "x", 1, fd) == (kernel_refuses() ? -EPERM : 1));
	close(fd);
	raw_close(&r);
	scene_check(&s);
	if (!kernel_refuses()) {
		printf("this kernel cannot refuse descriptors: how long a close takes is not tried\n");
	} else {
		uint64_t begin = monotonic_ns();

		for (unsigned i = 0; i < 2; i++) {
			fd = lingering_socket();
			sock = raw_connect(s.d.socket, SOCK_SEQPACKET);
			ck_assert_int_ge(sock, 0);
			raw_send(sock, &hello, sizeof(hello), fd);
			close(sock);
			raw_open(s.d.socket, &r);
			raw_send(r.sock, "x", 1, fd);
			raw_close(&r);
			/* It must not linger here. */
			ck_ok(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
			close(fd);
			shale_close(proc_open(&s.d));
		}
		ck_assert_uint_lt(monotonic_ns() - begin, UINT64_C(15000000000));
	}
	scene_end(&s);
}
END_TEST

/* A client that talks on its socket after the handshake, much and without reading, is not listened to and holds nobody up. */
START_TEST(chatter)
{
	char bytes[4096] = {0};
	struct raw_client r;

	scene_begin(&s, NULL);
	for (unsigned i = 0; i < 20; i++) {
		raw_open(s.d.socket, &r);
		while (send(r.sock, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
		raw_submit(&r, (struct sqe){.op = OP_NOP});
		raw_take(&r);
		raw_close(&r);
	}
	scene_end(&s);
}
END_TEST

struct tickets {
	struct raw_client *r;
	_Atomic bool stop;
};

static void *new_tickets(void *arg)
{
	struct tickets *t = arg;

	for (uint32_t ticket = PARK_SOCKET; !atomic_load(&t->stop); ticket++)
		atomic_store(&t->r->ring.mine->parked, ticket);
	return NULL;
}

/* A byte for each new ticket, says the protocol: with one for each look, and a socket that nobody reads, completions come all the same. */
START_TEST(tickets_without_end)
{
	struct tickets t = {0};
	struct raw_client r;
	pthread_t thread;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	t.r = &r;
	ck_assert_int_eq(pthread_create(&thread, NULL, new_tickets, &t), 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t begin = monotonic_ns();

		raw_submit(&r, (struct sqe){.op = OP_NOP});
		while (!ring_cq_peek(&r.ring))
			ck_assert_msg(monotonic_ns() - begin < UINT64_C(40000000000), "no completion");
		ck_assert_int_eq(ring_cq_peek(&r.ring)->res, 0);
		ring_cq_pop(&r.ring);
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

TEST_MAIN("hostile_rings", 100 * PATIENCE, other_sessions_ids, ranges_at_the_edges, indices_out_of_bounds,
	  daemons_words_overwritten, completions_never_taken, punched_channel, huge_channels, doorbell_abused,
	  unwanted_descriptors, chatter, tickets_without_end)
