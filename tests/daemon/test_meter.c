/*
 * What the stats page says of times, and which events the region tells of.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>

static uint64_t count(const struct region_stats *st, enum region_op op)
{
	return histogram_count(&st->op_times[op]);
}

/* Waits for a page that says so; fails after 8 s. A call now and then keeps the loop publishing. */
static struct region_stats await(struct client *c, bool (*says)(const struct region_stats *st))
{
	struct region_stats st = {0};

	for (int i = 0; i < 8000; i++) {
		ck_ok(region_read_stats(&rig.region, &st));
		if (says(&st))
			return st;
		ck_assert_int_eq(call(c, OP_NOP, 0, 0, NULL, 0).res, 0);
		nap();
	}
	ck_abort_msg("the stats page never said it");
	return st;
}

static bool all_counted(const struct region_stats *st)
{
	return count(st, REGION_OP_GET) == 3 && count(st, REGION_OP_WRITE) == 2 &&
	       count(st, REGION_OP_SYNC_WRITE) == 1 && count(st, REGION_OP_SCAN) == 1 &&
	       count(st, REGION_OP_MULTIGET) == 1 && count(st, REGION_OP_JOB) == 1;
}

/* Each operation is counted once, under its own kind; what waited also under what it waited for; a failure as one. */
START_TEST(every_operation_is_timed_once)
{
	static const unsigned char many[] = {1, 0, 0, 0, 1, 'b'};
	struct scan_args args = {0};
	struct region_stats st;
	struct client c;

	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "1");
	put(&c, 0, "b", "2");
	put(&c, SQE_SYNC, "c", "3");
	ck_get(&c, 0, "a", "1");
	ck_get(&c, 0, "no", NULL);
	ck_assert_int_eq(call(&c, OP_GET, 0, 4711, "a", 1).res, -SHALE_EOUSTED);
	ck_assert_int_eq(call(&c, OP_SCAN, 0, 0, &args, sizeof(args)).res, 0);
	ck_assert_int_eq(call(&c, OP_MULTIGET, 0, 0, many, sizeof(many)).res, 0);
	ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	st = await(&c, all_counted);
	ck_assert_uint_eq(st.failed[REGION_OP_GET], 1);
	ck_assert_uint_eq(st.failed[REGION_OP_WRITE], 0);
	ck_assert_uint_eq(histogram_count(&st.part_times[REGION_PART_SYNC]), 1);
	ck_assert_uint_eq(histogram_count(&st.part_times[REGION_PART_JOB]), 1);
	ck_assert_uint_le(st.part_times[REGION_PART_SYNC].sum_ns, st.op_times[REGION_OP_SYNC_WRITE].sum_ns);
	ck_assert_uint_gt(histogram_count(&st.wal_sync_times), 0);
	ck_assert_uint_eq(histogram_count(&st.wal_sync_times), st.wal_syncs);
	ck_assert_uint_gt(histogram_count(&st.pass_times), 0);
	ck_assert_uint_gt(st.op_times[REGION_OP_GET].max_ns, 0);
	ck_assert_uint_ge(st.groups, 1);
	ck_assert_uint_le(st.groups, st.writes);
	ck_assert_uint_le(st.wal_drained, st.wal_appended);
	ck_assert_uint_eq(st.wal_ring, rig.config.wal_ring);
	client_close(&c);
	rig_stop();
}
END_TEST

/* The newest event of a kind; fails when there is none. */
static struct region_event find(enum region_event_kind kind)
{
	struct region_event e;

	for (uint64_t n = region_newest_event(&rig.region); n; n--)
		if (region_read_event(&rig.region, n, &e) == 0 && e.kind == (uint32_t)kind)
			return e;
	ck_abort_msg("no event of kind %d", (int)kind);
	return e;
}

static bool stalled(const struct region_stats *st)
{
	return st->stalled_sessions > 0;
}

static bool stall_counted(const struct region_stats *st)
{
	return histogram_count(&st->part_times[REGION_PART_STALL]) > 0;
}

static bool told(const struct region_stats *st)
{
	struct region_event e;

	(void)st;
	for (uint64_t n = region_newest_event(&rig.region); n; n--)
		if (region_read_event(&rig.region, n, &e) == 0 && e.kind == REGION_EVENT_STALL_BEGUN)
			return true;
	return false;
}

/* Writes that wait because nothing is flushed are counted as a stall, told with the reason once they have waited for a while, and told again when they go on. */
START_TEST(a_stall_is_told_with_its_reason)
{
	unsigned char *batch, *end, *value = calloc(1, 700 << 10);
	struct region_stats st;
	struct client c, other;
	struct cqe cqe;

	rig.no_workers = true;
	rig_start();
	client_open_large(&c, 2 << 20);
	client_open(&other, false);
	batch = malloc(1 << 20);
	end = batch_begin(batch);
	end = batch_append_put(end, slice_str("k"), slice_of(value, 700 << 10));
	batch_set_count(batch, 1);
	for (int i = 0;; i++) {
		struct sqe *sqe = prepare(&c, 0, OP_WRITE);

		ck_assert_int_lt(i, 100);
		memcpy(c.arena, batch, (size_t)(end - batch));
		sqe->in_len = (uint32_t)(end - batch);
		publish(&c, 1);
		for (int look = 0; look < 300 && !ring_cq_peek(&c.ring); look++)
			nap();
		if (!ring_cq_peek(&c.ring))
			break; /* it waits */
		ck_assert_int_eq(take(&c).res, 0);
	}
	await(&other, stalled);
	await(&other, told);
	ck_assert_uint_eq(find(REGION_EVENT_STALL_BEGUN).severity, LOG_WARNING);
	rig_work();
	cqe = take(&c);
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_ne(cqe.delay & (DELAY_MEMTABLE | DELAY_LOG), 0);
	find(REGION_EVENT_STALL_ENDED);
	st = await(&other, stall_counted);
	ck_assert_uint_ge(st.stalls, 1);
	ck_assert_uint_ge(st.part_times[REGION_PART_STALL].max_ns, 100000000);
	client_close(&other);
	client_close(&c);
	free(batch);
	free(value);
	rig_stop();
}
END_TEST

/* A client that breaks the protocol, one that is kicked, and a failed sync are events; so is the end. */
START_TEST(sessions_and_failures_are_told)
{
	struct client c, hostile, victim;
	struct region_event e;

	rig_start();
	client_open(&c, false);
	client_open(&hostile, false);
	client_open(&victim, false);
	prepare(&hostile, 0, OP_NOP)->session++;
	publish(&hostile, 1);
	await_mail(hostile.s, SESSION_BROKEN);
	e = find(REGION_EVENT_BROKEN);
	ck_assert_msg(strstr(e.text, "another session"), "%s", e.text);
	ck_assert_uint_eq(e.severity, LOG_WARNING);
	ck_assert_int_eq(call(&c, OP_KICK, 0, victim.s->id, NULL, 0).res, 0);
	find(REGION_EVENT_KICKED);
	await_mail(victim.s, SESSION_BROKEN);
	client_close(&victim);
	client_close(&hostile);
	atomic_store(&rig.fail_sync, true);
	ck_assert_int_eq(put(&c, SQE_SYNC, "a", "1").res, -SHALE_EUNKNOWN);
	while (atomic_load(&rig.region.header->state) != REGION_FAILED)
		nap();
	e = find(REGION_EVENT_FAILED);
	ck_assert_uint_eq(e.severity, LOG_ERR);
	while (ring_client_state(&c.ring) != CHANNEL_CLOSING)
		nap();
	find(REGION_EVENT_STOPPING);
	rig_stop_as(-EBADF);
	session_free(c.s);
}
END_TEST

/* Whoever causes events as fast as it can pushes out none of another kind; how many were left out is told. */
START_TEST(one_kind_cannot_wash_out_the_others)
{
	struct region_event e;
	uint64_t newest;

	rig.still = true;
	rig_start();
	event_tell(&rig.service.events, REGION_EVENT_STARTED, LOG_NOTICE, "here");
	for (int i = 0; i < 1000; i++)
		event_tell(&rig.service.events, REGION_EVENT_REFUSED, LOG_NOTICE, "refused %d", i);
	newest = region_newest_event(&rig.region);
	ck_assert_uint_eq(newest, 1 + EVENT_BURST);
	ck_assert_str_eq(find(REGION_EVENT_STARTED).text, "here");
	rig.service.events.brake[REGION_EVENT_REFUSED].since_ns = 1; /* long ago */
	event_tell(&rig.service.events, REGION_EVENT_REFUSED, LOG_NOTICE, "again");
	ck_ok(region_read_event(&rig.region, newest + 1, &e));
	ck_assert_str_eq(e.text, "again (988 like it before were left out)");
	rig_stop();
}
END_TEST

TEST_MAIN("meter", 60, every_operation_is_timed_once, a_stall_is_told_with_its_reason, sessions_and_failures_are_told,
	  one_kind_cannot_wash_out_the_others)
