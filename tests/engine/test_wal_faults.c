#include "tests/engine/wal_bed.h"

/* ---- failing disks ---- */

/* An env that fails the operations asked for; all else goes to the real one. */
static struct {
	struct io_queue_ops ops;
	const struct io_queue_ops *real;
	enum io_op op;
	int result;
	uint64_t room; /* reservations up to this file offset do not fail; 0: all do */
} fault;

static void faulty_submit(struct io_queue *q, struct io_req *req)
{
	if (fault.result && req->op == fault.op && (!fault.room || req->offset + req->len > fault.room)) {
		/* Fails by what the kernel says of a bad descriptor; done() then sees the result that was asked for. */
		req->result = fault.result;
		q->in_flight++;
		q->in_flight--;
		req->done(req);
		return;
	}
	fault.real->submit(q, req);
}

static void faults_on(struct wal_bed *b)
{
	fault.real = b->q->ops;
	fault.ops = *b->q->ops;
	fault.ops.submit = faulty_submit;
	fault.result = 0;
	fault.room = 0;
	b->q->ops = &fault.ops;
}

/* A failed write or sync ends all acknowledging, for good: the kernel may have forgotten the pages. */
START_TEST(failure_poisons)
{
	static const enum io_op ops[] = {IO_WRITE, IO_FDATASYNC, IO_ALLOCATE};
	struct wal_bed b;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		uint64_t end, drained, synced;

		ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
		faults_on(&b);
		wal_bed_start(&b);
		if (ops[i] == IO_ALLOCATE) /* a log that was made with little looks for more at once */
			wal_bed_switch(&b, 8192);
		end = wal_bed_append(&b, 1000);
		fault.op = ops[i];
		fault.result = -EIO;
		wal_want_sync(b.wal, end);
		for (int pass = 0; pass < 5 && !wal_error(b.wal); pass++) {
			wal_pump(b.wal, true);
			io_queue_poll(b.q);
		}
		ck_assert_int_eq(wal_error(b.wal), -EIO);
		fault.result = 0;
		drained = wal_drained(b.wal);
		synced = wal_synced(b.wal);
		ck_assert_int_eq(wal_pump(b.wal, true), -EIO);
		ck_assert_int_ge(io_queue_poll(b.q), 0);
		ck_assert_uint_eq(wal_synced(b.wal), synced);
		ck_assert_uint_ge(wal_drained(b.wal), drained);
		if (ops[i] != IO_ALLOCATE)
			ck_assert_uint_lt(synced, end);
		ck_assert_int_eq(wal_reserve(b.wal, 10), -SHALE_EFAILED);
		ck_assert_int_eq(wal_close(b.wal), -EIO);
		wal_bed_drop(&b);
	}
}
END_TEST

/* A full disk refuses writes before they are acknowledged, once reserved space is used up, and heals by itself. */
START_TEST(full_disk_heals)
{
	struct wal_bed b;
	int rc;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	wal_bed_start(&b);
	fault.op = IO_ALLOCATE;
	fault.result = -ENOSPC;
	for (;;) {
		while ((rc = wal_reserve(b.wal, 10000)) == -EAGAIN) {
			ck_ok(wal_pump(b.wal, true));
			ck_assert_int_ge(io_queue_poll(b.q), 0);
		}
		if (rc)
			break;
		wal_bed_append(&b, 10000);
		ck_assert_uint_le(wal_log_bytes(b.wal), LOG_BYTES);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_uint_gt(wal_log_bytes(b.wal), LOG_BYTES - 20000);
	ck_ok(wal_pump(b.wal, true)); /* reads and what was acknowledged go on */
	fault.result = 0;
	while ((rc = wal_reserve(b.wal, 10000)) == -ENOSPC) {
		usleep(5000);
		ck_ok(wal_pump(b.wal, false));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	wal_bed_append(&b, 10000);
	ck_ok(wal_close(b.wal));
	wal_bed_check_logs(&b);
	wal_bed_drop(&b);
}
END_TEST

/* Space that came back while nobody asked for it: the next writer is not told that the disk is full. */
START_TEST(full_disk_heals_unasked)
{
	struct wal_bed b;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	wal_bed_start(&b);
	wal_bed_append(&b, 10000);
	fault.op = IO_ALLOCATE;
	fault.result = -ENOSPC;
	ck_ok(wal_pump(b.wal, true)); /* less than what is kept ahead: asks for more, in vain */
	ck_assert_int_ge(io_queue_poll(b.q), 0);
	fault.result = 0;
	usleep(110000);
	while (wal_log_bytes(b.wal) < LOG_BYTES + 20000) {
		int rc;

		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
		rc = wal_reserve(b.wal, 10000);
		ck_assert_int_ne(rc, -ENOSPC);
		if (rc == 0)
			wal_bed_append(&b, 10000);
	}
	ck_ok(wal_close(b.wal));
	wal_bed_check_logs(&b);
	wal_bed_drop(&b);
}
END_TEST

/* What is too large for what is left of the disk does not keep smaller writes from it: they are refused when nothing is left for them. */
START_TEST(refused_space_serves_smaller_writes)
{
	struct wal_bed b;
	int rc;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	wal_bed_start(&b);
	fault.op = IO_ALLOCATE;
	fault.result = -ENOSPC;
	fault.room = LOG_BYTES + 200000;
	while ((rc = wal_reserve_large(b.wal, 8 << 20)) == -EAGAIN) {
		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	while ((rc = wal_reserve(b.wal, 10000)) != -ENOSPC) {
		if (rc == 0)
			wal_bed_append(&b, 10000);
		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	ck_assert_uint_gt(wal_log_bytes(b.wal), LOG_BYTES + 200000 - 20000);
	ck_ok(wal_close(b.wal));
	wal_bed_check_logs(&b);
	wal_bed_drop(&b);
}
END_TEST

/* Where the file system cannot reserve space, a full disk shows in the write; that is tried again, and nothing is lost. */
START_TEST(full_disk_without_reservation)
{
	struct wal_recovery found;
	struct wal_bed b;
	int rc;

	ck_assert(wal_bed_make(&b, IO_BACKEND_POSIX));
	faults_on(&b);
	fault.op = IO_ALLOCATE;
	fault.result = -EOPNOTSUPP;
	wal_bed_start(&b);
	wal_bed_append(&b, 10000);
	fault.op = IO_WRITE;
	fault.result = -ENOSPC;
	while ((rc = wal_reserve(b.wal, 10000)) == 0) {
		wal_bed_append(&b, 10000);
		ck_ok(wal_pump(b.wal, true));
		ck_assert_int_ge(io_queue_poll(b.q), 0);
	}
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_int_eq(wal_error(b.wal), 0);
	fault.result = 0;
	usleep(110000);
	ck_ok(wal_pump(b.wal, true));
	fault.op = IO_WRITE;
	fault.result = -ENOSPC;
	wal_bed_append(&b, 500);
	ck_assert_int_eq(wal_close(b.wal), -ENOSPC); /* and the window keeps what the disk refused */
	fault.result = 0;
	ck_ok(wal_window_recover(b.env, b.q, b.window, b.window_size, &found, NULL));
	ck_assert_uint_gt(found.bytes, 0);
	wal_bed_check_logs(&b);
	wal_bed_drop(&b);
}
END_TEST

TEST_MAIN("wal_faults", 60, failure_poisons, full_disk_heals, full_disk_heals_unasked,
	  refused_space_serves_smaller_writes, full_disk_without_reservation)
