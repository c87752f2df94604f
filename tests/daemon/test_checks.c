/* CHECK: what the service thread adds to what a worker finds, who may ask, and what ends one early. */
#include "tests/daemon/rig.h"

#include <string.h>
#include <unistd.h>

#include "shm/park.h"

static struct check_answer head;
static struct check_row rows[CHECK_ROWS];

/* An answer that adds up, in `head` and `rows`. */
static void check(struct client *c)
{
	struct cqe cqe = call(c, OP_CHECK, 0, 0, NULL, 0);

	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_ge(cqe.len, sizeof(head));
	memcpy(&head, answer(c), sizeof(head));
	ck_assert_uint_le(head.rows, CHECK_ROWS);
	ck_assert_uint_eq(cqe.len, sizeof(head) + head.rows * sizeof(rows[0]));
	memcpy(rows, answer(c) + sizeof(head), head.rows * sizeof(rows[0]));
}

static void must_be_clean(struct client *c)
{
	check(c);
	ck_assert_msg(!head.problems, "%s: %s", rows[0].kind, rows[0].what);
}

static void must_tell(const char *kind, const char *words)
{
	for (unsigned i = 0; i < head.rows; i++)
		if (strcmp(rows[i].kind, kind) == 0 && strstr(rows[i].what, words))
			return;
	ck_abort_msg("nothing of kind %s says \"%s\"; the first of %u is %s: %s", kind, words, (unsigned)head.rows,
		     rows[0].kind, rows[0].what);
}

/* Rings, pins, and what the region shows of them: each that is not as the daemon has it is told, with its session; put right, all is well. */
START_TEST(memory)
{
	struct client c, other;
	_Atomic uint32_t *word;
	_Atomic uint64_t *row;
	uint64_t was;

	rig_start();
	client_open(&c, true);
	client_open(&other, false);
	put(&other, 0, "a", "one");
	ck_assert_int_eq(call(&other, OP_SNAPSHOT, 0, 0, NULL, 0).res, 0);
	must_be_clean(&c);
	ck_assert_uint_eq(head.sessions, 2);
	ck_assert_uint_eq(head.snapshots, 1);
	ck_assert_uint_eq(head.entries, 1);
	ck_assert_uint_eq(head.sequence, 1);
	/* a client that writes where only the daemon may */
	word = &other.ring.theirs->sq_head;
	atomic_fetch_add(word, 1);
	check(&c);
	ck_assert_uint_eq(head.problems, 1);
	must_tell("ring", "somebody wrote the daemon's sq_head");
	atomic_fetch_sub(word, 1);
	must_be_clean(&c);
	/* pins that the region does not show, or shows as another's */
	row = &rig.region.snapshots[other.s->snapshots[0].row].sequence_plus_1;
	was = atomic_exchange(row, 0);
	check(&c);
	must_tell("region", "a snapshot that it holds is not in the region");
	must_tell("region", "the region shows snapshots that no session holds");
	atomic_store(row, was);
	row = &rig.region.sessions[other.s->row].session;
	was = atomic_exchange(row, 1);
	check(&c);
	ck_assert_uint_eq(head.problems, 1);
	must_tell("region", "its row in the region is another session's");
	atomic_store(row, was);
	must_be_clean(&c);
	client_close(&other);
	client_close(&c);
	rig_stop();
}
END_TEST

/* A client that took its channel's pages away is no alarm: its session ends when it is looked at. */
START_TEST(channel_gone)
{
	struct client c, other;

	rig_start();
	client_open(&c, false);
	client_open(&other, false);
	put(&other, 0, "a", "one");
	put(&other, 0, "b", "one");
	for (int i = 0; i < 8000 && !atomic_load(&other.ring.theirs->parked); i++)
		nap();
	ck_assert_int_eq(ftruncate(other.s->channel.fd, 0), 0);
	must_be_clean(&c);
	client_close(&other);
	client_close(&c);
	rig_stop();
}
END_TEST

/* As for a checkpoint. */
START_TEST(for_root_and_the_daemons_user)
{
	static const char words[] = "only root";
	struct client c;
	struct cqe cqe;

	rig_start();
	client_open_as(&c, geteuid() + 1);
	cqe = call(&c, OP_CHECK, 0, 0, NULL, 0);
	ck_assert_int_eq(cqe.res, -EPERM);
	ck_assert_uint_gt(cqe.len, sizeof(words));
	ck_assert_mem_eq(answer(&c), words, sizeof(words) - 1);
	client_close(&c);
	client_open_as(&c, 0);
	must_be_clean(&c);
	client_close(&c);
	rig_stop();
}
END_TEST

/* One at a time; cancelled, timed out, or without its session, one is gone, and the next can begin. */
START_TEST(ends_early)
{
	struct client c, other;
	struct sqe *sqe;
	struct cqe cqe;
	uint64_t asked;

	rig.no_workers = true;
	rig_start();
	client_open(&c, false);
	client_open(&other, false);
	prepare(&c, 0, OP_CHECK);
	publish(&c, 1);
	asked = c.user_data;
	ck_assert_int_eq(call(&c, OP_NOP, 0, 0, NULL, 0).res, 0); /* so the one before it was taken */
	ck_assert_int_eq(call(&other, OP_CHECK, 0, 0, NULL, 0).res, -EBUSY);
	sqe = prepare(&c, 0, OP_CANCEL);
	sqe->sequence = asked;
	publish(&c, 1);
	for (unsigned i = 0; i < 2; i++) {
		cqe = take(&c);
		ck_assert_int_eq(cqe.res, cqe.user_data == asked ? -ECANCELED : 0);
	}
	/* a deadline */
	sqe = prepare(&c, 0, OP_CHECK);
	sqe->deadline_ns = monotonic_ns() + 20000000;
	publish(&c, 1);
	ck_assert_int_eq(take(&c).res, -ETIMEDOUT);
	/* the asker goes */
	prepare(&c, 0, OP_CHECK);
	publish(&c, 1);
	ck_assert_int_eq(call(&c, OP_NOP, 0, 0, NULL, 0).res, 0);
	client_close(&c);
	prepare(&other, 0, OP_CHECK);
	publish(&other, 1);
	rig_work();
	cqe = take(&other);
	ck_assert_int_eq(cqe.res, 0);
	ck_assert(cqe.delay & DELAY_JOB);
	client_close(&other);
	rig_stop();
}
END_TEST

TEST_MAIN("checks", 30, memory, channel_gone, for_root_and_the_daemons_user, ends_early)
