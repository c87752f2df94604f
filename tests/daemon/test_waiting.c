/*
 * Requests that have to wait: for a memtable, for level 0, for the disk. What ends the waiting, what does not wait, and what a failed
 * sync answers.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>

#include "shm/park.h"

enum { VALUE = 90 << 10 };

/* A write of VALUE bytes at @at in the arena. Returns its size. */
static uint32_t encode(struct client *c, size_t at, const char *key)
{
	static unsigned char value[VALUE];
	unsigned char *batch = c->arena + at, *end;
	static uint64_t seed = 88172645463325252;

	for (size_t i = 0; i < sizeof(value); i += sizeof(seed)) { /* so that tables are as large as what was written */
		uint64_t word = test_random(&seed);

		memcpy(value + i, &word, sizeof(word));
	}
	end = batch_append_put(batch_begin(batch), slice_str(key), slice_of(value, sizeof(value)));
	batch_set_count(batch, 1);
	return (uint32_t)(end - batch);
}

static struct sqe *prepare_write(struct client *c, unsigned ahead, unsigned flags, size_t at)
{
	struct sqe *sqe = prepare(c, ahead, OP_WRITE);

	sqe->flags = (uint16_t)flags;
	sqe->in_off = at;
	sqe->in_len = encode(c, at, "big");
	sqe->out_len = 0;
	sqe->out_off = 0;
	return sqe;
}

static struct cqe big_put(struct client *c, unsigned flags)
{
	prepare_write(c, 0, flags, 0);
	publish(c, 1);
	return take(c);
}

/* Writes until the engine takes no more. Returns the refusal. */
static struct cqe fill(struct client *c)
{
	struct cqe cqe = {0};

	for (int i = 0; i < 400 && cqe.res == 0; i++)
		cqe = big_put(c, SQE_NO_SLOWDOWN);
	ck_assert_int_eq(cqe.res, -EAGAIN);
	return cqe;
}

/* Without a flush the memtables fill up. Writes then wait, or are refused where they may not; all else goes on. */
START_TEST(full_memtables)
{
	struct client c;
	struct sqe *sqe;
	struct cqe cqe;

	rig.no_workers = true;
	rig_start();
	client_open(&c, false);
	put(&c, 0, "small", "one");
	cqe = fill(&c);
	ck_assert(cqe.delay & (DELAY_MEMTABLE | DELAY_LOG));
	/* One that waits, and one behind it that may not: the second is answered first. */
	prepare_write(&c, 0, 0, 0);
	prepare_write(&c, 1, SQE_NO_SLOWDOWN, VALUE + 4096);
	publish(&c, 2);
	cqe = take(&c);
	ck_assert_uint_eq(cqe.user_data, c.user_data);
	ck_assert_int_eq(cqe.res, -EAGAIN);
	ck_assert_uint_ne(cqe.delay, 0);
	/* A deadline ends the waiting of one, behind the first that has none. */
	sqe = prepare_write(&c, 0, 0, VALUE + 4096);
	sqe->deadline_ns = monotonic_ns() + 20000000;
	publish(&c, 1);
	cqe = take(&c);
	ck_assert_uint_eq(cqe.user_data, c.user_data);
	ck_assert_int_eq(cqe.res, -ETIMEDOUT);
	ck_assert_uint_ne(cqe.delay, 0);
	/* One that is over already is not begun. */
	sqe = prepare(&c, 0, OP_NOP);
	sqe->deadline_ns = 1;
	publish(&c, 1);
	ck_assert_int_eq(take(&c).res, -ETIMEDOUT);
	rig_work();
	cqe = take(&c);
	ck_assert_uint_eq(cqe.user_data, c.user_data - 3);
	ck_assert_int_eq(cqe.res, 0);
	ck_assert(cqe.delay & (DELAY_MEMTABLE | DELAY_LOG));
	ck_assert_uint_ne(cqe.delayed_us, 0);
	ck_get(&c, 0, "small", "one");
	client_close(&c);
	rig_stop();
}
END_TEST

/* A synced write that had to wait leaves the line when it waits for the disk instead: its session has nothing left there to be looked at. */
START_TEST(stalled_and_synced)
{
	struct client c, other;

	rig.no_workers = true;
	rig_start();
	client_open(&c, false);
	client_open(&other, false);
	fill(&c);
	prepare_write(&c, 0, SQE_SYNC, 0);
	publish(&c, 1);
	prepare_write(&other, 0, SQE_SYNC, 0);
	publish(&other, 1);
	call(&c, OP_NOP, 0, 0, NULL, 0);
	rig_work();
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(take(&c).res, 0);
		prepare_write(&c, 0, SQE_SYNC, 0);
		publish(&c, 1);
	}
	ck_assert_int_eq(take(&c).res, 0);
	ck_assert_int_eq(take(&other).res, 0);
	client_close(&c);
	client_close(&other);
	rig_stop();
}
END_TEST

/* A waiting write can be taken back, and is then not applied. */
START_TEST(cancelled)
{
	struct client c, other;
	uint64_t waiting;
	struct cqe cqe;

	rig.no_workers = true;
	rig_start();
	client_open(&c, false);
	client_open(&other, false);
	fill(&c);
	prepare_write(&c, 0, 0, 0);
	waiting = c.user_data;
	prepare(&c, 1, OP_CANCEL)->sequence = waiting;
	prepare(&c, 2, OP_CANCEL)->sequence = waiting;
	publish(&c, 3);
	cqe = take(&c);
	ck_assert_uint_eq(cqe.user_data, waiting);
	ck_assert_int_eq(cqe.res, -ECANCELED);
	ck_assert_int_eq(take(&c).res, 0);
	ck_assert_int_eq(take(&c).res, -ENOENT);
	/* A client that dies with writes waiting takes them along; the daemon goes on with those of others. */
	prepare_write(&c, 0, 0, 0);
	publish(&c, 1);
	call(&other, OP_NOP, 0, 0, NULL, 0);
	prepare_write(&other, 0, 0, 0);
	publish(&other, 1);
	client_close(&c);
	rig_work();
	ck_assert_int_eq(take(&other).res, 0);
	client_close(&other);
	rig_stop();
}
END_TEST

/* Requests that wait keep private copies: all of them together may not claim more payload than one arena holds. */
START_TEST(payloads_are_bounded)
{
	struct client c, good;

	rig.no_workers = true;
	rig_start();
	client_open(&c, false);
	client_open(&good, false);
	fill(&c);
	for (unsigned i = 0; i < 2; i++)
		prepare_write(&c, i, 0, i * (VALUE + 4096));
	publish(&c, 2);
	call(&good, OP_NOP, 0, 0, NULL, 0);
	ck_assert_uint_eq(ring_client_state(&c.ring), CHANNEL_OPEN);
	for (unsigned i = 0; i < 4; i++)
		prepare_write(&c, i, 0, 0);
	publish(&c, 4);
	await_mail(c.s, SESSION_BROKEN);
	ck_assert_uint_eq(ring_client_state(&c.ring), CHANNEL_BROKEN);
	client_close(&c);
	ck_assert_int_eq(call(&good, OP_NOP, 0, 0, NULL, 0).res, 0);
	client_close(&good);
	rig_work();
	rig_stop();
}
END_TEST

/* Runs flushes, and no compaction. */
static void flush_once(struct client *c, struct io_queue *queue)
{
	struct job *job;

	prepare(c, 0, OP_FLUSH);
	publish(c, 1);
	while (!ring_cq_peek(&c->ring)) {
		job = engine_next_job(rig.engine, JOB_LOG | JOB_FLUSH | JOB_DELETE);
		if (job)
			ck_ok(engine_run_job(rig.engine, job, queue));
		else
			nap();
	}
	ck_assert_int_eq(take(c).res, 0);
}

/* Past level 0's first limit writes are paced at the rate that is set, and not stopped for what was written before it. */
START_TEST(pacing)
{
	struct io_queue *queue;
	struct client c;
	struct cqe cqe = {0};

	rig.no_workers = true;
	rig.setting = "service.slowdown_rate=256K";
	rig_start();
	ck_ok(io_queue_new(rig.env, 16, &queue));
	client_open(&c, false);
	for (int file = 0; file < 20 && !engine_slowdown(rig.engine); file++) {
		for (int i = 0; i < 8; i++)
			ck_assert_int_eq(big_put(&c, 0).res, 0);
		flush_once(&c, queue);
	}
	ck_assert(engine_slowdown(rig.engine));
	for (int i = 0; i < 100 && cqe.res == 0; i++)
		cqe = big_put(&c, SQE_NO_SLOWDOWN);
	ck_assert_int_eq(cqe.res, -EAGAIN);
	ck_assert_uint_eq(cqe.delay, DELAY_SLOWDOWN);
	/* take() would give up long before the 5 MB written at full speed were paid off at this rate */
	cqe = big_put(&c, 0);
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_eq(cqe.delay, DELAY_SLOWDOWN);
	io_queue_free(queue);
	client_close(&c);
	rig_stop();
}
END_TEST

/* After a failed sync nobody knows what is on the disk: the write says so, the loop ends with the failure, nothing is retried. */
START_TEST(failed_sync)
{
	struct region_stats stats;
	struct client c, idle;

	rig_start();
	client_open(&c, false);
	client_open(&idle, false);
	ck_assert_int_eq(put(&c, SQE_SYNC, "a", "safe").res, 0);
	ck_assert_int_eq(call(&idle, OP_NOP, 0, 0, NULL, 0).res, 0);
	atomic_store(&rig.fail_sync, true);
	ck_assert_int_eq(put(&c, SQE_SYNC, "b", "unknown").res, -SHALE_EUNKNOWN);
	while (atomic_load(&rig.region.header->state) != REGION_FAILED)
		nap();
	while (ring_client_state(&c.ring) != CHANNEL_CLOSING || ring_client_state(&idle.ring) != CHANNEL_CLOSING)
		nap();
	ck_ok(region_read_stats(&rig.region, &stats));
	ck_assert_str_ne(stats.last_error, "");
	rig_stop_as(-EBADF);
	session_free(c.s);
	session_free(idle.s);
}
END_TEST

TEST_MAIN("waiting", 30, full_memtables, stalled_and_synced, cancelled, payloads_are_bounded, pacing, failed_sync)
