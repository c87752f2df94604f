/*
 * What ends a session or its snapshots early, and what a user may hold at most: leases, kick, quotas.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint64_t MS = 1000000;

static struct region_session *row_of(const struct client *c)
{
	for (int i = 0; i < REGION_SESSIONS; i++)
		if (atomic_load(&rig.region.sessions[i].session) == c->s->id)
			return &rig.region.sessions[i];
	ck_abort_msg("the session has no row");
}

static unsigned pinned_rows(void)
{
	unsigned n = 0;

	for (int i = 0; i < REGION_SNAPSHOTS; i++)
		n += atomic_load(&rig.region.snapshots[i].sequence_plus_1) != 0;
	return n;
}

static void await_oust(const struct client *c, uint64_t n)
{
	for (int i = 0; i < 8000 && atomic_load(&row_of(c)->ousted) < n; i++)
		nap();
	ck_assert_uint_eq(atomic_load(&row_of(c)->ousted), n);
}

/* A lease ends by itself, though nobody does anything: reads say so, the pin is gone, others stay. */
START_TEST(lease_ends)
{
	struct client c;
	uint64_t leased, kept;

	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "one");
	leased = call(&c, OP_SNAPSHOT, 0, 50, NULL, 0).sequence;
	put(&c, 0, "a", "two");
	kept = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).sequence;
	ck_assert_uint_eq(pinned_rows(), 2);
	put(&c, 0, "a", "three");
	await_oust(&c, 1);
	ck_assert_int_eq(call(&c, OP_GET, 0, leased, "a", 1).res, -SHALE_EOUSTED);
	ck_assert(!engine_snapshot_held(rig.engine, leased));
	ck_assert_uint_eq(pinned_rows(), 1);
	ck_assert_uint_eq(atomic_load(&row_of(&c)->snapshots), 1);
	ck_get(&c, kept, "a", "two");
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, leased, NULL, 0).res, 0);
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, leased, NULL, 0).res, -EINVAL);
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, kept, NULL, 0).res, 0);
	client_close(&c);
	rig_stop();
}
END_TEST

/* Two snapshots of one state with different leases: the longer one is not ended with the shorter. */
START_TEST(leases_of_one_sequence)
{
	struct client c;
	uint64_t at;

	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "one");
	at = call(&c, OP_SNAPSHOT, 0, 30, NULL, 0).sequence;
	ck_assert_uint_eq(call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).sequence, at);
	put(&c, 0, "a", "two");
	await_oust(&c, 1);
	ck_get(&c, at, "a", "one");
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, at, NULL, 0).res, 0);
	ck_get(&c, at, "a", "one");
	ck_assert_int_eq(call(&c, OP_RELEASE, 0, at, NULL, 0).res, 0);
	ck_assert_int_eq(call(&c, OP_GET, 0, at, "a", 1).res, -SHALE_EOUSTED);
	client_close(&c);
	rig_stop();
}
END_TEST

/* The daemon's longest lease holds for those who ask for none, or for more. One that has not ended does not keep the daemon awake. */
START_TEST(longest_lease)
{
	struct client c;
	uint64_t before, until[2];
	unsigned n = 0;

	rig.setting = "limits.snapshot_lease=3600000";
	rig_start();
	client_open(&c, false);
	before = monotonic_ns();
	call(&c, OP_SNAPSHOT, 0, 0, NULL, 0);
	call(&c, OP_SNAPSHOT, 0, UINT64_MAX, NULL, 0);
	for (int i = 0; i < REGION_SNAPSHOTS; i++)
		if (atomic_load(&rig.region.snapshots[i].sequence_plus_1))
			until[n++] = atomic_load(&rig.region.snapshots[i].lease_until_ns);
	ck_assert_uint_eq(n, 2);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_uint_ge(until[i], before + 3600000 * MS - 1000 * MS);
		ck_assert_uint_le(until[i], monotonic_ns() + 3600000 * MS);
	}
	client_close(&c);
	ck_assert_uint_eq(pinned_rows(), 0);
	rig_stop();
}
END_TEST

/* A kicked session ends with its own word, and what it held goes; the one who kicked lives on. Others than root and the daemon's user may not. */
START_TEST(kick)
{
	struct client admin, victim, stranger;

	rig_start();
	client_open(&admin, true);
	client_open(&victim, false);
	stranger = victim;
	put(&victim, 0, "a", "one");
	call(&victim, OP_SNAPSHOT, 0, 0, NULL, 0);
	ck_assert_int_eq(call(&admin, OP_KICK, 0, 4711, NULL, 0).res, -ESRCH);
	ck_assert_int_eq(call(&admin, OP_KICK, 0, victim.s->id, NULL, 0).res, 0);
	await_mail(victim.s, SESSION_BROKEN);
	ck_assert_uint_eq(ring_client_state(&victim.ring), CHANNEL_KICKED);
	ck_assert_uint_eq(pinned_rows(), 0);
	ck_assert_int_eq(call(&admin, OP_KICK, 0, victim.s->id, NULL, 0).res, -ESRCH);
	client_close(&victim);
	ck_get(&admin, 0, "a", "one");
	client_open_as(&stranger, 54321);
	ck_assert_int_eq(call(&stranger, OP_KICK, 0, admin.s->id, NULL, 0).res, -EPERM);
	ck_get(&admin, 0, "a", "one");
	client_close(&stranger);
	client_close(&admin);
	rig_stop();
}
END_TEST

/* Snapshots are counted per user: one user's do not keep another from having some, and there is room again when they go. */
START_TEST(snapshots_of_a_user)
{
	struct client mine[3], other;
	uint64_t at;

	rig.setting = "limits.snapshots_per_uid=6";
	rig_start();
	for (int i = 0; i < 3; i++)
		client_open_as(&mine[i], 1001);
	client_open_as(&other, 1002);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(call(&mine[i / 3], OP_SNAPSHOT, 0, 0, NULL, 0).res, 0);
	ck_assert_int_eq(call(&mine[2], OP_SNAPSHOT, 0, 0, NULL, 0).res, -EDQUOT);
	ck_assert_int_eq(call(&other, OP_SNAPSHOT, 0, 0, NULL, 0).res, 0);
	client_close(&mine[0]);
	at = call(&mine[2], OP_SNAPSHOT, 0, 0, NULL, 0).sequence;
	ck_assert_uint_ne(at, 0);
	client_close(&mine[1]);
	client_close(&mine[2]);
	client_close(&other);
	rig_stop();
}
END_TEST

/* What waits is counted per user, too: more is refused with a code, another user is not touched, and the refused one may try again. */
START_TEST(waiting_payload_of_a_user)
{
	static const unsigned char value[60 << 10] = {1};
	struct client mine[2], other;
	struct cqe cqe = {0};
	uint32_t size;

	rig.no_workers = true;
	rig.setting = "limits.in_flight_per_uid=100K";
	rig_start();
	for (int i = 0; i < 2; i++)
		client_open_as(&mine[i], 1001);
	client_open_as(&other, 1002);
	for (int i = 0; i < 2; i++) {
		unsigned char *end =
			batch_append_put(batch_begin(mine[i].arena), slice_str("k"), slice_of(value, sizeof(value)));

		batch_set_count(mine[i].arena, 1);
		size = (uint32_t)(end - mine[i].arena);
	}
	for (int i = 0; i < 400 && cqe.res == 0; i++) { /* until the engine takes no more */
		struct sqe *sqe = prepare(&mine[0], 0, OP_WRITE);

		sqe->in_len = size;
		sqe->flags = SQE_NO_SLOWDOWN;
		publish(&mine[0], 1);
		cqe = take(&mine[0]);
	}
	ck_assert_int_eq(cqe.res, -EAGAIN);
	prepare(&mine[0], 0, OP_WRITE)->in_len = size;
	prepare(&mine[0], 1, OP_NOP);
	publish(&mine[0], 2);
	ck_assert_uint_eq(take(&mine[0]).user_data, mine[0].user_data); /* the write waits */
	prepare(&mine[1], 0, OP_WRITE)->in_len = size;
	publish(&mine[1], 1);
	ck_assert_int_eq(take(&mine[1]).res, -EDQUOT);
	ck_get(&mine[1], 0, "no", NULL); /* small ones still fit */
	memcpy(other.arena, mine[1].arena, size);
	prepare(&other, 0, OP_WRITE)->in_len = size;
	prepare(&other, 1, OP_NOP);
	publish(&other, 2);
	ck_assert_int_eq(take(&other).res, 0);
	rig_work();
	ck_assert_int_eq(take(&mine[0]).res, 0);
	ck_assert_int_eq(take(&other).res, 0);
	prepare(&mine[1], 0, OP_WRITE)->in_len = size;
	publish(&mine[1], 1);
	ck_assert_int_eq(take(&mine[1]).res, 0);
	client_close(&mine[0]);
	client_close(&mine[1]);
	client_close(&other);
	rig_stop();
}
END_TEST

TEST_MAIN("pins", 30, lease_ends, leases_of_one_sequence, longest_lease, kick, snapshots_of_a_user,
	  waiting_payload_of_a_user)
