/*
 * Whose request and whose write is next. The service stands still and its parts are called one by one, so what is counted here depends on nothing
 * that happens beside.
 */
#include "tests/daemon/rig.h"

#include <string.h>

#include "daemon/pending.h"
#include "daemon/reads.h"
#include "daemon/shares.h"
#include "daemon/turns.h"
#include "shm/condition.h"
#include "shm/park.h"

enum { VALUE = 1000 };

static struct service *const svc = &rig.service;

static void begin(const char *setting)
{
	rig.still = rig.no_workers = true;
	rig.setting = setting;
	rig_start();
	svc->now_ns = monotonic_ns();
}

static void close_all(struct client *clients, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		client_close(&clients[i]);
	rig_stop();
}

/* Publishes until the ring is full: @c floods. */
static void fill_ring(struct client *c, unsigned op)
{
	while (ring_sq_room(&c->ring)) {
		prepare(c, 0, op);
		ring_sq_publish(&c->ring, 1);
	}
}

/* Reads what is shown. */
static unsigned drain(struct client *c)
{
	unsigned n = 0;

	for (; ring_cq_peek(&c->ring); n++)
		ring_cq_pop(&c->ring);
	return n;
}

/* @n rounds in which the clients keep their rings full; what each of them got, in @got. */
static void flood(struct client *clients, unsigned count, unsigned rounds, unsigned *got)
{
	memset(got, 0, count * sizeof(*got));
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < count; i++)
			fill_ring(&clients[i], OP_NOP);
		turns_take(svc);
		while (!list_empty(&svc->dirty))
			service_show(svc, container_of(svc->dirty.next, struct session, dirty));
		for (unsigned i = 0; i < count; i++)
			got[i] += drain(&clients[i]);
	}
}

static void ck_near(unsigned a, unsigned b)
{
	ck_assert_msg(10 * a >= 9 * b && 10 * b >= 9 * a, "%u and %u should be about the same", a, b);
}

/* Sessions of one user that all flood get the same; so do users, however many sessions each of them has. */
START_TEST(turns_are_equal)
{
	struct client c[6];
	unsigned got[6];

	begin(NULL);
	for (unsigned i = 0; i < 3; i++)
		client_open_as(&c[i], 1001);
	flood(c, 3, 100, got);
	ck_near(got[0], got[1]);
	ck_near(got[0], got[2]);
	for (unsigned i = 3; i < 5; i++)
		client_open_as(&c[i], 1001);
	client_open_as(&c[5], 1002);
	flood(c, 6, 100, got);
	for (unsigned i = 1; i < 5; i++)
		ck_near(got[0], got[i]);
	/* The sixth alone is a user, but a ring of 16 is all that it can have in a round. */
	ck_assert_uint_ge(got[5], 15 * 100);
	ck_assert_uint_le(got[0] + got[1] + got[2] + got[3] + got[4], 34 * 100);
	close_all(c, 6);
}
END_TEST

/* A weight is what it says. */
START_TEST(turns_have_weights)
{
	struct client c[6];
	unsigned got[6];

	begin("fairness.weights=1001:3");
	for (unsigned i = 0; i < 6; i++)
		client_open_as(&c[i], i < 5 ? 1001 : 1002);
	svc->turn_cost /= 4; /* so that a ring holds more than a turn */
	flood(c, 6, 100, got);
	ck_near(got[0] + got[1] + got[2] + got[3] + got[4], 3 * got[5]);
	close_all(c, 6);
}
END_TEST

/*
 * Somebody who asks for one thing at a time waits for one visit of a flooder and not for a round of all: it is looked at between their visits, and its
 * answer is shown before theirs.
 */
START_TEST(light_is_looked_at_between_visits)
{
	struct client c[5], *light = &c[4];
	unsigned got[5];

	begin(NULL);
	for (unsigned i = 0; i < 5; i++)
		client_open_as(&c[i], 1001);
	flood(c, 4, 3, got); /* by now they are known to be heavy, and the fifth is not */
	for (unsigned i = 0; i < 4; i++) {
		ck_assert(list_empty(&c[i].s->light));
		fill_ring(&c[i], OP_NOP);
	}
	ck_assert(!list_empty(&light->s->light));
	prepare(light, 0, OP_NOP);
	ring_sq_publish(&light->ring, 1);
	turns_take(svc);
	/* Shown at once, while what the others got waits for the end of the pass. */
	ck_assert_ptr_nonnull(ring_cq_peek(&light->ring));
	ck_assert_ptr_null(ring_cq_peek(&c[0].ring));
	drain(light);
	while (!list_empty(&svc->dirty))
		service_show(svc, container_of(svc->dirty.next, struct session, dirty));
	for (unsigned i = 0; i < 4; i++)
		drain(&c[i]);
	close_all(c, 5);
}
END_TEST

/* Many sessions that each look as if they asked for little are still one user: another one's turn is not taken by them. */
START_TEST(many_light_ones_are_one_user)
{
	struct client c[41];
	unsigned of_many = 0, rounds = 50;

	begin(NULL);
	for (unsigned i = 0; i < 41; i++)
		client_open_as(&c[i], i < 40 ? 1001 : 1002);
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < 40; i++) {
			while (ring_sq_room(&c[i].ring) > 12) { /* four at a time */
				prepare(&c[i], 0, OP_NOP);
				ring_sq_publish(&c[i].ring, 1);
			}
		}
		fill_ring(&c[40], OP_NOP);
		turns_take(svc);
		while (!list_empty(&svc->dirty))
			service_show(svc, container_of(svc->dirty.next, struct session, dirty));
		for (unsigned i = 0; i < 40; i++)
			of_many += drain(&c[i]);
		ck_assert_uint_ge(drain(&c[40]), 8);
	}
	ck_assert_uint_le(
		of_many, rounds * 40); /* 160 are there in each round: 32 are theirs, and what a visit takes too much */
	close_all(c, 41);
}
END_TEST

/* Who brings large payloads pays by turns: beside it, a client with small ones gets many more requests, and neither gets none. */
START_TEST(bytes_count)
{
	struct client c[2];
	unsigned big = 0, small = 0;

	begin("fairness.turn_bytes=64K");
	client_open_as(&c[0], 1001);
	client_open_as(&c[1], 1002);
	for (unsigned round = 0; round < 200; round++) {
		while (ring_sq_room(
			&c[0].ring)) { /* a property is small, its answer is, too; what counts is what it might bring */
			struct sqe *sqe = prepare(&c[0], 0, OP_WRITE);
			unsigned char *batch = c[0].arena, *end;
			static const unsigned char value[20000];

			end = batch_append_put(batch_begin(batch), slice_str("k"), slice_of(value, sizeof(value)));
			batch_set_count(batch, 1);
			sqe->in_len = (uint32_t)(end - batch);
			sqe->flags = SQE_NO_SLOWDOWN; /* refused, once memory is full */
			ring_sq_publish(&c[0].ring, 1);
		}
		fill_ring(&c[1], OP_NOP);
		turns_take(svc);
		while (!list_empty(&svc->dirty))
			service_show(svc, container_of(svc->dirty.next, struct session, dirty));
		if (engine_last_sequence(rig.engine) < 40)
			big = (unsigned)engine_last_sequence(rig.engine);
		if (engine_last_sequence(rig.engine) < 40)
			small += drain(&c[1]);
		drain(&c[0]);
		drain(&c[1]);
	}
	ck_assert_uint_gt(big, 0);
	ck_assert_msg(small > 4 * big, "%u large ones, %u small ones", big, small);
	close_all(c, 2);
}
END_TEST

/* The conditions of a write are searches, and paid for as such, also when one fails and nothing is written. */
START_TEST(conditions_count)
{
	enum { CONDITIONS = 500, ROUNDS = 20 };
	struct client c[2];
	unsigned judged = 0, small = 0;

	begin(NULL);
	for (unsigned i = 0; i < 2; i++)
		client_open_as(&c[i], 1001 + i);
	for (unsigned round = 0; round < ROUNDS; round++) {
		while (ring_sq_room(&c[0].ring)) {
			struct sqe *sqe = prepare(&c[0], 0, OP_WRITE);
			unsigned char *p = c[0].arena + CONDITION_HEADER_SIZE, *end;

			store_le32(c[0].arena, CONDITIONS);
			for (unsigned i = 0; i < CONDITIONS; i++) {
				struct condition absent = {.type = CONDITION_ABSENT, .key = slice_str("none")};

				absent.type = i == CONDITIONS - 1 ? CONDITION_PRESENT : CONDITION_ABSENT;
				p = condition_append(p, &absent);
			}
			end = batch_append_put(batch_begin(p), slice_str("k"), slice_str("v"));
			batch_set_count(p, 1);
			sqe->in_len = (uint32_t)(end - c[0].arena);
			sqe->extra_len = (uint32_t)(p - c[0].arena);
			ring_sq_publish(&c[0].ring, 1);
		}
		fill_ring(&c[1], OP_NOP);
		turns_take(svc);
		while (!list_empty(&svc->dirty))
			service_show(svc, container_of(svc->dirty.next, struct session, dirty));
		for (const struct cqe *cqe; (cqe = ring_cq_peek(&c[0].ring)); judged++) {
			ck_assert_int_eq(cqe->res, SHALE_MISMATCH);
			ring_cq_pop(&c[0].ring);
		}
		small += drain(&c[1]);
	}
	ck_assert_uint_gt(judged, 0);
	ck_assert_msg(small > 4 * judged, "%u judged, %u small ones", judged, small);
	close_all(c, 2);
}
END_TEST

/* ---- writes ---- */

static void publish_write(struct client *c, size_t size)
{
	static const unsigned char value[64 << 10];
	struct sqe *sqe = prepare(c, 0, OP_WRITE);
	unsigned char *end = batch_append_put(batch_begin(c->arena), slice_str("k"), slice_of(value, size));

	batch_set_count(c->arena, 1);
	sqe->in_len = (uint32_t)(end - c->arena);
	ring_sq_publish(&c->ring, 1);
}

static void take_all(void)
{
	for (int i = 0; i < 8; i++)
		turns_take(svc);
	while (!list_empty(&svc->dirty))
		service_show(svc, container_of(svc->dirty.next, struct session, dirty));
}

/* While all writes wait, those of who has written little go first, whatever came first: not one behind another's backlog. */
START_TEST(backlog_is_not_in_the_way)
{
	struct session *order[7];
	struct client c[3];

	begin(NULL);
	client_open_as(&c[0], 1001);
	client_open_as(&c[1], 1001);
	client_open_as(&c[2], 1002);
	for (int i = 0; i < 200 && !svc->stalled_count; i++) {
		publish_write(&c[0], 60 << 10);
		take_all();
		drain(&c[0]);
	}
	ck_assert_uint_eq(svc->stalled_count, 1);
	for (int i = 0; i < 3; i++) /* a backlog, then two that come late */
		publish_write(&c[0], 60 << 10);
	publish_write(&c[1], VALUE);
	publish_write(&c[2], VALUE);
	take_all();
	ck_assert_uint_eq(svc->stalled_count, 3);
	for (int i = 0; i < 3; i++) {
		uint64_t ready;

		order[i] = share_next(svc, &ready);
		ck_assert_ptr_nonnull(order[i]);
		share_charge(svc, order[i], 70 << 10); /* as if its write had gone */
	}
	/* The other user's, then the other session of the same user, then the flood. */
	ck_assert_ptr_eq(order[0], c[2].s);
	ck_assert_ptr_eq(order[1], c[1].s);
	close_all(c, 3);
}
END_TEST

/* Of two users who both have a backlog each gets its part by bytes, and by weight. */
START_TEST(shares_by_weight)
{
	struct client c[2];
	uint64_t bytes[2] = {0};

	begin("fairness.weights=1001:3");
	client_open_as(&c[0], 1001);
	client_open_as(&c[1], 1002);
	for (int i = 0; i < 200 && !svc->stalled_count; i++) {
		publish_write(&c[0], 60 << 10);
		take_all();
		drain(&c[0]);
	}
	publish_write(&c[1], VALUE);
	take_all();
	ck_assert_uint_eq(svc->stalled_count, 2);
	for (int i = 0; i < 4000; i++) {
		uint64_t ready;
		struct session *s = share_next(svc, &ready);
		unsigned which = s == c[1].s;

		share_charge(svc, s, which ? 1000 : 10000);
		bytes[which] += which ? 1000 : 10000;
	}
	ck_near((unsigned)(bytes[0] / 1000), (unsigned)(3 * bytes[1] / 1000));
	close_all(c, 2);
}
END_TEST

/* A user's limit of bytes per second holds for all of its sessions together, says when the next write may go, and touches nobody else. */
START_TEST(rate_of_a_user)
{
	struct client c[3];
	uint64_t at, again;

	begin("limits.write_rate_per_uid=1M");
	for (unsigned i = 0; i < 3; i++)
		client_open_as(&c[i], i < 2 ? 1001 : 1002);
	for (int i = 0; i < 3; i++) {
		publish_write(&c[0], 60 << 10);
		take_all();
	}
	ck_assert_uint_eq(svc->stalled_count, 1);
	publish_write(&c[1], VALUE);
	publish_write(&c[2], VALUE);
	take_all();
	ck_assert_uint_eq(svc->stalled_count, 2);
	ck_assert_uint_eq(drain(&c[2]), 1); /* it has not waited */
	pending_retry_stalled(svc);
	at = pending_next_ns(svc);
	ck_assert_uint_gt(at, svc->now_ns);
	ck_assert_uint_lt(at, svc->now_ns + UINT64_C(1000000000));
	for (again = 0; svc->stalled_count && again < 1000; again++) {
		svc->now_ns = at;
		pending_retry_stalled(svc);
		at = pending_next_ns(svc);
	}
	ck_assert_uint_eq(svc->stalled_count, 0);
	take_all();
	ck_assert_uint_ge(drain(&c[0]) + drain(&c[1]), 3);
	ck_assert_uint_gt(c[0].s->throttled_us, 1000);
	close_all(c, 3);
}
END_TEST

/* One large value is not behind all those that another user, or another session, has asked for: their slices alternate. */
START_TEST(slices_alternate)
{
	enum { SIZE = 700 << 10, SLICES = 3, MANY = 8 };
	struct client c[3];
	unsigned char *end;
	struct sqe *sqe;
	unsigned n = 0;

	begin(NULL);
	for (unsigned i = 0; i < 3; i++)
		client_open_large_as(&c[i], i < 2 ? 1001 : 1002, 2 << 20);
	end = batch_append_put(batch_begin(c[0].arena), slice_str("big"), slice_of(c[0].arena + (1 << 20), SIZE));
	batch_set_count(c[0].arena, 1);
	sqe = prepare(&c[0], 0, OP_WRITE);
	sqe->in_len = (uint32_t)(end - c[0].arena);
	ring_sq_publish(&c[0].ring, 1);
	take_all();
	ck_assert_uint_eq(drain(&c[0]), 1);
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned k = 0; k < (i < 2 ? MANY : 1); k++) {
			sqe = prepare(&c[i], 0, OP_GET);
			memcpy(c[i].arena, "big", 3);
			sqe->in_len = 3;
			ring_sq_publish(&c[i].ring, 1);
			turns_take(svc);
		}
	}
	take_all();
	for (; !ring_cq_peek(&c[2].ring); n++) {
		ck_assert_uint_eq(read_answer_on(svc), 1);
		take_all();
	}
	ck_assert_uint_le(n, 2 * SLICES);
	ck_assert_uint_eq(drain(&c[2]), 1);
	for (; !ring_cq_peek(&c[1].ring); n++) {
		ck_assert_uint_eq(read_answer_on(svc), 1);
		take_all();
	}
	ck_assert_uint_le(n, 3 * SLICES);
	client_close(&c[1]); /* with answers on their way */
	for (; read_answer_on(svc); n++)
		take_all();
	take_all();
	ck_assert_uint_eq(drain(&c[0]), MANY);
	ck_assert(list_empty(&svc->answering));
	client_close(&c[2]);
	client_close(&c[0]);
	rig_stop();
}
END_TEST

/* However many sessions of a user wait for its rate, another user's write that may go is found behind them. */
START_TEST(rate_holds_nobody_else)
{
	enum { MANY = 300 };
	static struct client c[MANY + 1];
	struct client *other = &c[MANY];

	begin("limits.write_rate_per_uid=1M");
	for (unsigned i = 0; i <= MANY; i++)
		client_open_as(&c[i], i < MANY ? 1001 : 1002);
	publish_write(&c[0], VALUE); /* from now on their rates are counted */
	publish_write(other, VALUE);
	take_all();
	share_charge(svc, c[0].s, 100 << 20); /* the one user has to wait for minutes, the other for a moment */
	share_charge(svc, other->s, 100 << 10);
	for (unsigned i = 0; i <= MANY; i++) {
		publish_write(&c[i], VALUE);
		take_all();
	}
	ck_assert_uint_eq(svc->stalled_count, MANY + 1);
	for (unsigned i = 0; i < 1000 && svc->stalled_count > MANY; i++) {
		svc->now_ns += 1000000;
		pending_retry_stalled(svc);
	}
	ck_assert_uint_eq(svc->stalled_count, MANY);
	ck_assert(list_empty(&other->s->stalled));
	close_all(c, MANY + 1);
}
END_TEST

TEST_MAIN("fairness", 30, turns_are_equal, turns_have_weights, light_is_looked_at_between_visits,
	  many_light_ones_are_one_user, bytes_count, conditions_count, backlog_is_not_in_the_way, shares_by_weight,
	  rate_of_a_user, slices_alternate, rate_holds_nobody_else)
