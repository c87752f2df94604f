/*
 * What waiting reads may pin. The service stands still and its parts are called one by one, so that what each client holds can be looked at
 * whenever it changes.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>

#include "daemon/pending.h"
#include "daemon/reads.h"
#include "daemon/room.h"
#include "daemon/turns.h"
#include "shm/condition.h"
#include "shm/park.h"

enum { MIB = 1 << 20, VALUES = 24, SHARE = 8 * MIB };

static struct service *const svc = &rig.service;
static struct io_queue *worker;
static unsigned char value[MIB];

static void fill_value(unsigned n)
{
	uint64_t seed = 0x9e3779b97f4a7c15 * (n + 1);

	for (size_t i = 0; i < sizeof(value);
	     i += sizeof(seed)) { /* so that a block on the disk is as large as in memory */
		uint64_t word = test_random(&seed);

		memcpy(value + i, &word, sizeof(word));
	}
}

static void work(void)
{
	struct job *job;

	ck_ok(engine_pump(rig.engine, true));
	while ((job = engine_next_job(rig.engine, ~0u)))
		ck_ok(engine_run_job(rig.engine, job, worker));
	io_queue_wait(svc->queue, 1000000);
}

static void write_value(const char *key, struct slice v)
{
	static unsigned char batch[6 * MIB + 4096];
	unsigned char *end = batch_append_put(batch_begin(batch), slice_str(key), v);
	uint64_t sequence, position;
	uint16_t why;
	int rc;

	batch_set_count(batch, 1);
	while ((rc = engine_write(rig.engine, batch, (size_t)(end - batch), &sequence, &position, &why)) == -EAGAIN)
		work();
	while (rc == WRITE_UNDERWAY) {
		ck_ok(engine_pump(rig.engine, true));
		io_queue_wait(svc->queue, 1000000);
		rc = engine_write_result(rig.engine, &sequence, &position);
	}
	ck_ok(rc);
}

static void flush(void)
{
	uint64_t ticket;
	int rc;

	while ((rc = engine_flush_start(rig.engine, &ticket)) == -EAGAIN)
		work();
	ck_ok(rc);
	while (!engine_flush_done(rig.engine, ticket))
		work();
}

static const char *key_of(unsigned n)
{
	static char key[8];

	snprintf(key, sizeof(key), "v%02u", n);
	return key;
}

static void write_values(void)
{
	for (unsigned i = 0; i < VALUES; i++) {
		fill_value(i);
		write_value(key_of(i), slice_of(value, sizeof(value)));
	}
	write_value("small", slice_str("one"));
}

static void begin(const char *setting)
{
	rig.still = rig.no_workers = true;
	rig.setting = setting;
	rig_start();
	svc->now_ns = monotonic_ns();
	ck_ok(io_queue_new(rig.env, 16, &worker));
}

static void end(void)
{
	io_queue_free(worker);
	rig_stop();
}

/* What the reads of @s really have is what is counted; returns it. */
static size_t held_by(struct session *s)
{
	size_t bytes = 0;

	for (struct list *l = s->requests.next; l != &s->requests; l = l->next) {
		struct request *r = container_of(l, struct request, of_session);

		ck_assert_uint_ge(r->room, r->ctx.bytes);
		bytes += r->room;
	}
	ck_assert_uint_eq(bytes, s->room_used);
	return bytes;
}

static unsigned length(const struct list *head)
{
	unsigned n = 0;

	for (const struct list *l = head->next; l != head; l = l->next)
		n++;
	return n;
}

/* One pass over what waits, without taking anything new. */
static void step(void)
{
	ck_ok(io_queue_wait(svc->queue, 1000000) < 0 ? -EIO : 0);
	svc->now_ns = monotonic_ns();
	pending_run_ready(svc);
	read_answer_on(svc);
	if (svc->room_look)
		room_run(svc);
	pending_expire(svc);
	while (!list_empty(&svc->dirty))
		service_show(svc, container_of(svc->dirty.next, struct session, dirty));
}

/* Everything that is published is taken, also when the session was idle for long enough to be parked. */
static void take_all(struct client *c)
{
	session_activate(svc, c->s);
	while (ring_sq_waiting(&c->s->ring))
		turns_take(svc);
}

static void ask(struct client *c, unsigned op, const void *in, size_t size)
{
	size_t at = c->user_data % 8 * 1024; /* each has a payload of its own until it is taken */
	struct sqe *sqe = prepare(c, 0, op);

	memcpy(c->arena + at, in, size);
	sqe->in_off = at;
	sqe->in_len = (uint32_t)size;
	sqe->flags = op == OP_WRITE ? 0 : SQE_NO_FILL; /* so that every block is read from the disk */
	ring_sq_publish(&c->ring, 1);
	take_all(c);
}

static void ask_get(struct client *c, const char *key)
{
	ask(c, OP_GET, key, strlen(key));
}

static unsigned char *put_key(unsigned char *p, const char *key)
{
	p = varint32_put(p, (uint32_t)strlen(key));
	memcpy(p, key, strlen(key));
	return p + strlen(key);
}

/* Of @count values from @first on. */
static void ask_multiget(struct client *c, unsigned first, unsigned count)
{
	unsigned char in[512], *p = in + 4;

	store_le32(in, count);
	for (unsigned i = 0; i < count; i++)
		p = put_key(p, key_of(first + i));
	ask(c, OP_MULTIGET, in, (size_t)(p - in));
}

/* Steps until @n answers are there, all without failure. The most that its reads held. */
static size_t answers(struct client *c, unsigned n)
{
	size_t most = held_by(c->s);

	for (unsigned got = 0; got < n;) {
		const struct cqe *cqe;

		step();
		most = max_size(most, held_by(c->s));
		for (; (cqe = ring_cq_peek(&c->ring)); got++) {
			ck_assert_int_eq(cqe->res, 0);
			ring_cq_pop(&c->ring);
		}
	}
	return most;
}

static void ck_nothing_held(void)
{
	ck_assert(list_empty(&svc->crowded));
	for (struct list *l = svc->users.next; l != &svc->users; l = l->next) {
		const struct user *u = container_of(l, struct user, link);

		ck_assert_uint_eq(u->room_used, 0);
		ck_assert_uint_eq(u->readers, 0);
		ck_assert_ptr_null(u->first);
	}
}

/* Opens all tables, so that the first block that a read misses is the one it wants. */
static void open_tables(struct client *c)
{
	for (unsigned i = 0; i < VALUES; i++) {
		ask_get(c, key_of(i));
		answers(c, 1);
	}
}

/* A ring full of reads of large values pins its share and no more; each is answered in the end. Another session is served meanwhile. */
START_TEST(reads_wait_for_room)
{
	struct client flood, other;
	size_t most;

	begin(NULL);
	write_values();
	flush();
	client_open_as(&flood, 1001);
	client_open_as(&other, 1001);
	open_tables(&flood);
	for (unsigned i = 0; i < 16; i++)
		ask_get(&flood, key_of(i));
	ask_get(&other, key_of(20));
	ck_assert_uint_eq(other.s->readers, 1);
	ck_assert(list_empty(&other.s->crowd));
	ck_assert(!list_empty(&flood.s->crowd));
	most = answers(&flood, 16);
	ck_assert_uint_gt(most, 4 * MIB);
	ck_assert_uint_le(most, SHARE + flood.s->arena_size);
	answers(&other, ring_cq_peek(&other.ring) ? 0 : 1);
	ck_nothing_held();
	client_close(&flood);
	client_close(&other);
	end();
}
END_TEST

/* So does a ring full of MULTIGETs, however many blocks each of them needs; and one that needs more than a share is answered, in parts. */
START_TEST(multigets_wait_for_room)
{
	struct client flood, one;
	const unsigned char *p;
	size_t most;

	begin(NULL);
	write_values();
	flush();
	client_open(&flood, false);
	for (unsigned i = 0; i < 16; i++)
		ask_multiget(&flood, i % 8, 16);
	most = answers(&flood, 16);
	ck_assert_uint_gt(most, 4 * MIB);
	ck_assert_uint_le(most, SHARE + flood.s->arena_size + 10 * MIB);
	ck_nothing_held();
	client_open_large(&one, 64 * MIB);
	ask_multiget(&one, 0, VALUES);
	ck_assert_uint_le(answers(&one, 1), 10 * MIB);
	p = answer(&one);
	for (unsigned i = 0; i < VALUES; i++, p += 16 + MIB) {
		fill_value(i);
		ck_assert_int_eq((int32_t)load_le32(p), 0);
		ck_assert_uint_eq(load_le32(p + 4), MIB);
		ck_assert_int_eq(memcmp(p + 16, value, MIB), 0);
	}
	ck_nothing_held();
	client_close(&flood);
	client_close(&one);
	end();
}
END_TEST

/* The sessions of a user together pin what their user may; the one that waits longest is first; another user does not notice. */
START_TEST(users_have_a_share)
{
	struct client mine[4], other;

	begin("limits.in_flight_per_uid=2500K");
	write_values();
	flush();
	for (unsigned i = 0; i < 4; i++)
		client_open_as(&mine[i], 1001);
	client_open_as(&other, 1002);
	open_tables(&other);
	for (unsigned i = 0; i < 3; i++)
		ask_get(&mine[i], key_of(i));
	ck_assert_uint_eq(mine[0].s->readers + mine[1].s->readers, 2);
	ck_assert_uint_eq(length(&mine[2].s->crowd), 1);
	ck_assert_ptr_eq(mine[2].s->user->first, mine[2].s);
	ask_get(&mine[3], key_of(3)); /* it might fit, if it were small: but it is not before the third */
	ck_assert_uint_eq(length(&mine[3].s->crowd), 1);
	ask_get(&other, key_of(4));
	ck_assert_uint_eq(other.s->readers, 1);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_le(mine[i].s->user->room_used, 2500 << 10);
		answers(&mine[i], ring_cq_peek(&mine[i].ring) ? 0 : 1);
	}
	answers(&other, ring_cq_peek(&other.ring) ? 0 : 1);
	ck_nothing_held();
	for (unsigned i = 0; i < 4; i++)
		client_close(&mine[i]);
	client_close(&other);
	end();
}
END_TEST

/* Values that go out in slices are held meanwhile, also those that no disk was asked for. */
START_TEST(slices_wait_for_room)
{
	struct client flood, other;
	unsigned n = 0;

	begin("engine.write_buffer=64M");
	write_values(); /* they stay in the memtable */
	client_open_large_as(&flood, 1001, 2 * MIB);
	client_open_large_as(&other, 1001, 2 * MIB);
	for (unsigned i = 0; i < 16; i++)
		ask_get(&flood, key_of(i));
	ck_assert_uint_eq(flood.s->readers, 10);
	ck_assert_uint_eq(length(&flood.s->crowd), 6);
	ck_assert_uint_eq(held_by(flood.s), 10 * MIB);
	ask_get(&other, key_of(16));
	ck_assert_uint_eq(other.s->readers, 1);
	while (!ring_cq_peek(&other.ring)) {
		n += read_answer_on(svc);
		step();
	}
	ck_assert_uint_le(n, 16); /* it went by turns with the flood */
	ck_assert_uint_le(answers(&flood, 16), 10 * MIB);
	ck_nothing_held();
	client_close(&flood);
	client_close(&other);
	end();
}
END_TEST

/* Values of which little is stored are not all unpacked as soon as they are read: they wait for room like others. */
START_TEST(packed_values_wait_for_room)
{
	enum { LARGE = 6 };
	static unsigned char zeros[LARGE * MIB];
	struct client flood;
	size_t most;

	begin("engine.write_buffer=64M");
	for (unsigned i = 0; i < 8; i++)
		write_value(key_of(i), slice_of(zeros, sizeof(zeros)));
	flush();
	client_open_large(&flood, 16 * MIB); /* so that whole values fit into the answers */
	for (unsigned i = 0; i < 8; i++)
		ask_get(&flood, key_of(i));
	most = answers(&flood, 8);
	ck_assert_uint_gt(most, LARGE * MIB);
	ck_assert_uint_le(most, SHARE + flood.s->arena_size + LARGE * MIB);
	ck_nothing_held();
	client_close(&flood);
	end();
}
END_TEST

/* What waits for room can be taken back, times out, and goes with its session. */
START_TEST(waiting_ends)
{
	struct client c, other;
	struct cqe cqe;

	begin(NULL);
	write_values();
	flush();
	client_open_as(&c, 1001);
	client_open_as(&other, 1001);
	open_tables(&other);
	for (unsigned i = 0; i < 12; i++)
		ask_get(&c, key_of(i));
	ck_assert_uint_ge(length(&c.s->crowd), 3);
	prepare(&c, 0, OP_CANCEL)->sequence = 12;
	ring_sq_publish(&c.ring, 1);
	take_all(&c);
	step();
	for (;; ring_cq_pop(&c.ring)) { /* reads may have been answered by now */
		while (!ring_cq_peek(&c.ring))
			step();
		cqe = *ring_cq_peek(&c.ring);
		if (cqe.user_data >= 12)
			break;
	}
	ck_assert_uint_eq(cqe.user_data, 12);
	ck_assert_int_eq(cqe.res, -ECANCELED);
	client_close(&c); /* its reads under way are over later, and are its user's until then */
	ck_assert_uint_gt(other.s->user->readers, 0);
	ck_assert_uint_gt(other.s->user->room_used, 0);
	while (svc->pool.busy)
		step();
	ck_nothing_held();
	/* The last session of its user. */
	for (unsigned i = 0; i < 12; i++)
		ask_get(&other, key_of(i));
	client_close(&other);
	ck_assert(!list_empty(&svc->users));
	while (svc->pool.busy)
		step();
	ck_assert(list_empty(&svc->users));
	end();
}
END_TEST

static void ask_write_if(struct client *c, const char *const *keys, unsigned count)
{
	unsigned char in[512], *p = in + 4, *end;
	struct sqe *sqe = prepare(c, 0, OP_WRITE);

	store_le32(in, count);
	for (unsigned i = 0; i < count; i++)
		p = condition_append(p, &(struct condition){.type = CONDITION_PRESENT, .key = slice_str(keys[i])});
	sqe->extra_len = (uint32_t)(p - in);
	memcpy(c->arena, in, sqe->extra_len);
	end = batch_append_put(batch_begin(c->arena + sqe->extra_len), slice_str("k"), slice_str("new"));
	batch_set_count(c->arena + sqe->extra_len, 1);
	sqe->in_len = (uint32_t)(end - c->arena);
	ring_sq_publish(&c->ring, 1);
	take_all(c);
}

/* A write whose conditions look at blocks waits for room as well, with its session's later writes; one that alone needs more than its user's share is refused. */
START_TEST(conditions_wait_for_room)
{
	static const char *const keys[] = {"v09", "v10"}, *const others[] = {"v11", "v12", "v13"};
	struct client c;

	begin("limits.in_flight_per_uid=2500K");
	write_values();
	flush();
	client_open_as(&c, 1001);
	open_tables(&c);
	ask_get(&c, "v01");
	ask_get(&c, "v02");
	ask_write_if(&c, keys, 2);
	ck_assert_uint_eq(length(&c.s->crowd), 1);
	ck_assert_ptr_nonnull(c.s->fetching);
	answers(&c, 3);
	ck_nothing_held();
	ask_write_if(&c, others, 3);
	while (!ring_cq_peek(&c.ring))
		step();
	ck_assert_int_eq(ring_cq_peek(&c.ring)->res, -EDQUOT);
	ring_cq_pop(&c.ring);
	ck_nothing_held();
	client_close(&c);
	end();
}
END_TEST

/* A scan over large values that it does not return lets go of them on its way. */
START_TEST(scans_hold_little)
{
	struct scan_args args = {0};
	uint64_t sequence;
	struct client c;
	size_t most;

	begin("limits.snapshots=4");
	write_value("a", slice_str("1"));
	write_value("z", slice_str("26"));
	client_open(&c, false);
	prepare(&c, 0, OP_SNAPSHOT);
	ring_sq_publish(&c.ring, 1);
	take_all(&c);
	step();
	sequence = ring_cq_peek(&c.ring)->sequence;
	ring_cq_pop(&c.ring);
	write_values();
	flush();
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		struct sqe *sqe = prepare(&c, 0, OP_SCAN);

		memcpy(c.arena, &args, sizeof(args));
		sqe->in_len = sizeof(args);
		sqe->flags = SQE_NO_FILL | (reverse ? SQE_REVERSE : 0);
		sqe->sequence = sequence;
		ring_sq_publish(&c.ring, 1);
		take_all(&c);
		most = answers(&c, 1);
		ck_assert_uint_gt(most, 2 * MIB);
		ck_assert_uint_le(most, 8 * MIB);
		ck_assert_int_eq(memcmp(answer(&c), reverse ? "\1\2z26\1\1a1" : "\1\1a1\1\2z26", 9), 0);
	}
	ck_nothing_held();
	client_close(&c);
	end();
}
END_TEST

TEST_MAIN("room", 60, reads_wait_for_room, multigets_wait_for_room, users_have_a_share, slices_wait_for_room,
	  packed_values_wait_for_room, waiting_ends, conditions_wait_for_room, scans_hold_little)
