#include "shm/batch.h"
#include "shm/condition.h"
#include "shm/handshake.h"
#include "shm/layout.h"
#include "tests/test.h"

/* One field of a shared struct: where it has always been. */
struct pin {
	const char *name;
	size_t offset, want_offset, size, want_size;
};

#define PIN(type, field, offset, size)                                                                                 \
	{                                                                                                              \
#type "." #field, offsetof(struct type, field), offset, sizeof(((struct type *)0)->field), size        \
	}

static void check_pins(const struct pin *pins, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ck_assert_msg(pins[i].offset == pins[i].want_offset,
			      "%s is at %zu, was at %zu: give SHM_ABI a new number", pins[i].name, pins[i].offset,
			      pins[i].want_offset);
		ck_assert_msg(pins[i].size == pins[i].want_size, "%s has %zu bytes, had %zu: give SHM_ABI a new number",
			      pins[i].name, pins[i].size, pins[i].want_size);
	}
}

/* What lies in a channel, byte for byte: two releases that differ here would read each other's fields as others. */
START_TEST(channel_is_pinned)
{
	static const struct pin pins[] = {
		PIN(sqe, user_data, 0, 8),
		PIN(sqe, session, 8, 8),
		PIN(sqe, op, 16, 2),
		PIN(sqe, flags, 18, 2),
		PIN(sqe, in_len, 20, 4),
		PIN(sqe, in_off, 24, 8),
		PIN(sqe, out_off, 32, 8),
		PIN(sqe, out_len, 40, 4),
		PIN(sqe, extra_len, 44, 4),
		PIN(sqe, sequence, 48, 8),
		PIN(sqe, deadline_ns, 56, 8),
		PIN(cqe, user_data, 0, 8),
		PIN(cqe, sequence, 8, 8),
		PIN(cqe, res, 16, 4),
		PIN(cqe, len, 20, 4),
		PIN(cqe, delay, 24, 2),
		PIN(cqe, flags, 26, 2),
		PIN(cqe, delayed_us, 28, 4),
		PIN(scan_args, start_len, 0, 4),
		PIN(scan_args, limit_len, 4, 4),
		PIN(scan_args, max_count, 8, 4),
		PIN(scan_args, max_bytes, 12, 4),
		PIN(channel_const, magic, 0, 8),
		PIN(channel_const, abi, 8, 4),
		PIN(channel_const, entries, 12, 4),
		PIN(channel_const, session, 16, 8),
		PIN(channel_const, sq_off, 24, 8),
		PIN(channel_const, cq_off, 32, 8),
		PIN(channel_const, arena_off, 40, 8),
		PIN(channel_const, arena_size, 48, 8),
		PIN(channel_const, total_size, 56, 8),
		PIN(channel_client, sq_tail, 0, 4),
		PIN(channel_client, cq_head, 64, 4),
		PIN(channel_client, parked, 128, 4),
		PIN(channel_daemon, sq_head, 0, 4),
		PIN(channel_daemon, cq_tail, 64, 4),
		PIN(channel_daemon, parked, 128, 4),
		PIN(channel_daemon, state, 192, 4),
	};

	check_pins(pins, ARRAY_SIZE(pins));
}
END_TEST

/* The region, as far as clients find their way by it. */
START_TEST(region_is_pinned)
{
	static const struct pin pins[] = {
		PIN(region_header, magic, 0, 8),
		PIN(region_header, abi, 8, 4),
		PIN(region_header, daemon_pid, 12, 4),
		PIN(region_header, fingerprint, 16, 8),
		PIN(region_header, total_size, 24, 8),
		PIN(region_header, boot_id, 32, 16),
		PIN(region_header, snapshots_off, 48, 8),
		PIN(region_header, sessions_off, 56, 8),
		PIN(region_header, stats_off, 64, 8),
		PIN(region_header, started_realtime_ns, 72, 8),
		PIN(region_header, database, 80, 1024),
		PIN(region_header, version, 1104, 32),
		PIN(region_header, events_off, 1136, 8),
		PIN(region_header, socket, 1144, 1024),
		PIN(region_header, state, 2176, 4),
		PIN(region_header, heartbeat_ns, 2240, 8),
		PIN(region_header, last_sequence, 2304, 8),
		PIN(region_snapshot, sequence_plus_1, 0, 8),
		PIN(region_snapshot, session, 8, 8),
		PIN(region_snapshot, taken_monotonic_ns, 16, 8),
		PIN(region_snapshot, lease_until_ns, 24, 8),
		PIN(region_session, session, 0, 8),
		PIN(region_session, pid, 8, 4),
		PIN(region_session, uid, 12, 4),
		PIN(region_session, connected_monotonic_ns, 16, 8),
		PIN(region_session, active_monotonic_ns, 56, 8),
		PIN(region_session, in_flight, 64, 8),
		PIN(region_session, bytes_held, 72, 8),
		PIN(region_session, throttled_us, 80, 8),
		PIN(region_session, channel_bytes, 88, 8),
		PIN(region_session, ousted, 96, 8),
		PIN(region_session, command, 104, 32),
		PIN(region_level, score, 56, 8),
		PIN(region_level, target_bytes, 64, 8),
		PIN(region_level, entries_in, 88, 8),
		PIN(region_level, dead_bytes, 112, 8),
		PIN(region_level, by_reason, 120, 64),
		PIN(region_job, id, 0, 8),
		PIN(region_job, kind, 8, 4),
		PIN(region_job, reason, 12, 4),
		PIN(region_job, level, 16, 4),
		PIN(region_job, output_level, 20, 4),
		PIN(region_job, files, 24, 16),
		PIN(region_job, bytes, 40, 16),
		PIN(region_job, bytes_done, 56, 8),
		PIN(region_job, begin_monotonic_ns, 64, 8),
		PIN(region_job, micros, 72, 8),
		PIN(region_job, left_us, 80, 8),
		PIN(region_job, result, 128, 8),
		PIN(histogram, sum_ns, 0, 8),
		PIN(histogram, max_ns, 8, 8),
		PIN(histogram, bucket, 16, 496),
		PIN(region_event, number, 0, 8),
		PIN(region_event, realtime_ns, 8, 8),
		PIN(region_event, kind, 16, 4),
		PIN(region_event, severity, 20, 4),
		PIN(region_event, text, 24, 232),
		PIN(region_events, newest, 0, 8),
		PIN(region_events, row, 64, 128 * 256),
		PIN(region_stats_page, published, 0, 8),
		PIN(region_stats_page, copy, 64, 2 * sizeof(struct region_stats)),
	};

	check_pins(pins, ARRAY_SIZE(pins));
	ck_assert_uint_eq(sizeof(struct region_job), 136);
	ck_assert_uint_eq(sizeof(struct region_level), 184);
	ck_assert_uint_eq(sizeof(struct region_snapshot), 32);
	ck_assert_uint_eq(sizeof(struct region_session), 136);
}
END_TEST

/* HELLO and WELCOME: the first 16 bytes are for ever, so that any two releases can refuse each other in words. */
START_TEST(handshake_is_pinned)
{
	static const struct pin pins[] = {
		PIN(hello, magic, 0, 4),
		PIN(hello, size, 4, 4),
		PIN(hello, abi, 8, 4),
		PIN(hello, flags, 12, 4),
		PIN(hello, fingerprint, 16, 8),
		PIN(hello, ring_entries, 24, 4),
		PIN(hello, arena_size, 32, 8),
		PIN(welcome, magic, 0, 4),
		PIN(welcome, size, 4, 4),
		PIN(welcome, abi, 8, 4),
		PIN(welcome, status, 12, 4),
		PIN(welcome, fingerprint, 16, 8),
		PIN(welcome, session, 24, 8),
		PIN(welcome, boot_id, 32, 16),
		PIN(welcome, channel_size, 48, 8),
		PIN(welcome, region_size, 56, 8),
		PIN(welcome, rows_size, 64, 8),
		PIN(welcome, max_request_bytes, 72, 8),
		PIN(welcome, max_key_bytes, 80, 8),
		PIN(welcome, spin_us, 88, 4),
		PIN(welcome, monotonic_ns, 96, 8),
		PIN(welcome, text, 104, 512),
	};

	check_pins(pins, ARRAY_SIZE(pins));
}
END_TEST

/* Numbers that travel. */
START_TEST(numbers_are_pinned)
{
	ck_assert_int_eq(SHM_ABI, 6);
	ck_assert_int_eq(OP_NOP, 0);
	ck_assert_int_eq(OP_GET, 1);
	ck_assert_int_eq(OP_WRITE, 2);
	ck_assert_int_eq(OP_SCAN, 3);
	ck_assert_int_eq(OP_SNAPSHOT, 4);
	ck_assert_int_eq(OP_RELEASE, 5);
	ck_assert_int_eq(OP_PROPERTY, 6);
	ck_assert_int_eq(OP_SIZES, 7);
	ck_assert_int_eq(OP_FLUSH, 8);
	ck_assert_int_eq(OP_COMPACT, 9);
	ck_assert_int_eq(OP_MULTIGET, 10);
	ck_assert_int_eq(OP_CANCEL, 11);
	ck_assert_int_eq(OP_KICK, 12);
	ck_assert_int_eq(OP_CHECKPOINT, 13);
	ck_assert_int_eq(OP_CHECK, 14);
	ck_assert_int_eq(CHECK_ROWS, 32);
	ck_assert_uint_eq(sizeof(struct checkpoint_answer), 64);
	ck_assert_int_eq(CONDITION_SEQUENCE, 3);
	ck_assert_int_eq(PARK_SOCKET, 2);
	ck_assert_int_eq(CHANNEL_KICKED, 3);
	ck_assert_int_eq(SQE_FLAGS_KNOWN, 0xff);
	ck_assert_int_eq(CQE_MORE, 1);
	ck_assert_int_eq(DELAY_JOB, 64);
	ck_assert_int_eq(CHANNEL_BROKEN, 1);
	ck_assert_int_eq(CHANNEL_CLOSING, 2);
	ck_assert_int_eq(REGION_FAILED, 4);
	ck_assert_int_eq(REGION_JOB_LOG, 1);
	ck_assert_int_eq(REGION_JOB_DELETE, 5);
	ck_assert_int_eq(REGION_OP_OTHER, 6);
	ck_assert_int_eq(REGION_PART_JOB, 3);
	ck_assert_int_eq(REGION_REFUSED_OTHER, 3);
	ck_assert_int_eq(REGION_EVENT_STOPPED, 17);
	ck_assert_int_eq(SQE_NO_WAIT, 128);
	ck_assert_uint_eq(SEQUENCE_EMPTY, UINT64_C(1) << 63);
	ck_assert_int_eq(BATCH_PUT, 1);
	ck_assert_int_eq(BATCH_DELETE, 0);
	ck_assert_mem_eq(&(uint64_t){CHANNEL_MAGIC}, "lschannl", 8);
	ck_assert_mem_eq(&(uint64_t){REGION_MAGIC}, "lsregion", 8);
	ck_assert_mem_eq(&(uint32_t){HELLO_MAGIC}, "Shlo", 4);
	ck_assert_mem_eq(&(uint32_t){WELCOME_MAGIC}, "Shlc", 4);
}
END_TEST

/* Client-written and daemon-written words share no cache line, or each side's stores would stall the other. */
START_TEST(lines_are_apart)
{
	ck_assert_uint_ge(offsetof(struct channel_client, cq_head) - offsetof(struct channel_client, sq_tail),
			  SHM_LINE);
	ck_assert_uint_ge(offsetof(struct channel_client, parked) - offsetof(struct channel_client, cq_head), SHM_LINE);
	ck_assert_uint_ge(offsetof(struct channel_daemon, cq_tail) - offsetof(struct channel_daemon, sq_head),
			  SHM_LINE);
	ck_assert_uint_eq(offsetof(struct region_header, last_sequence) % SHM_LINE, 0);
	ck_assert_uint_eq(_Alignof(struct channel_client), SHM_LINE);
	ck_assert_uint_ne(layout_fingerprint(), 0);
}
END_TEST

TEST_MAIN("layout", 10, channel_is_pinned, region_is_pinned, handshake_is_pinned, numbers_are_pinned, lines_are_apart)
