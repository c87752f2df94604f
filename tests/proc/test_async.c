/*
 * Queues, conditions, leases and large values with a real daemon.
 */
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 60000) == 1;
}

/* A loop that sleeps on the event descriptor alone is woken for each completion, whether the daemon is busy or asleep. */
START_TEST(event_loop)
{
	enum { N = 20000 };
	struct shale_completion c[32];
	struct shale_queue *q;
	struct shale_db *db;
	uint64_t seed = test_seed();
	int sent = 0, done = 0, n;

	proc_begin(&d);
	db = proc_open(&d);
	ck_ok(shale_queue_open(db, NULL, &q));
	while (done < N) {
		int want = 1 + (int)(test_random(&seed) % 40);

		for (; want > 0 && sent < N; want--, sent++) {
			char key[16];
			int len = snprintf(key, sizeof(key), "%d", sent % 1000);

			if (sent % 2)
				ck_ok(shale_submit_put(q, NULL, key, (size_t)len, key, (size_t)len, NULL));
			else
				ck_ok(shale_submit_get(q, NULL, key, (size_t)len, NULL, 0, NULL));
		}
		if (test_random(&seed) % 200 == 0)
			usleep(3000); /* it goes to sleep */
		n = shale_poll(q, c, 1 + test_random(&seed) % 32);
		ck_assert_int_ge(n, 0);
		for (int i = 0; i < n; i++) {
			ck_assert_msg(c[i].result >= 0, "%s", shale_strerror(c[i].result));
			shale_free(c[i].value);
		}
		done += n;
		if (n == 0 && sent > done && shale_arm(q) == 0)
			ck_assert_msg(readable(shale_event_fd(q)), "slept for ever: %d of %d", done, sent);
	}
	shale_queue_close(q);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* The same in an io_uring of the caller's. */
START_TEST(caller_io_uring)
{
	struct shale_completion c[8];
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct shale_queue *q;
	struct shale_db *db;
	int rc = io_uring_queue_init(8, &ring, 0), done = 0;

	if (rc < 0) {
		printf("skipped: no io_uring here (%d)\n", rc);
		return;
	}
	proc_begin(&d);
	db = proc_open(&d);
	ck_ok(shale_queue_open(db, NULL, &q));
	while (done < 300) {
		int n;

		if (shale_queue_pending(q) == 0)
			ck_ok(shale_submit_put(q, NULL, "k", 1, "v", 1, NULL));
		n = shale_poll(q, c, 8);
		for (int i = 0; i < n; i++)
			ck_ok(c[i].result);
		done += n;
		if (n || shale_arm(q))
			continue;
		io_uring_prep_poll_add(io_uring_get_sqe(&ring), shale_event_fd(q), POLLIN);
		ck_assert_int_eq(io_uring_submit(&ring), 1);
		ck_ok(io_uring_wait_cqe(&ring, &cqe));
		ck_assert_int_ge(cqe->res, 0);
		io_uring_cqe_seen(&ring, cqe);
	}
	io_uring_queue_exit(&ring);
	shale_queue_close(q);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/*
 * The daemon is killed again and again under thousands of operations: each completes once; a write that was acknowledged is there, one that failed
 * for certain is not.
 */
START_TEST(killed_under_load)
{
	enum { N = 6000, WINDOW = 500 };
	static signed char told[N]; /* 0: nothing yet; 1: applied; 2: unknown */
	struct shale_options o = SHALE_OPTIONS_INIT;
	struct shale_completion c[64];
	struct shale_queue *q;
	struct shale_db *db;
	int sent = 0, done = 0, kills = 0;
	char key[16], value[64];

	proc_begin(&d);
	o.reconnect_ms = 60000;
	ck_ok(shale_open(d.socket, &o, &db));
	ck_ok(shale_queue_open(db, NULL, &q));
	while (done < N) {
		int n;

		for (; sent < N && sent - done < WINDOW; sent++) {
			snprintf(key, sizeof(key), "k%06d", sent);
			snprintf(value, sizeof(value), "value of %d", sent);
			ck_ok(shale_submit_put(q, NULL, key, strlen(key), value, strlen(value),
					       (void *)(intptr_t)sent));
		}
		if (done >= (kills + 1) * N / 5) {
			private_daemon_kill(&d);
			proc_start(&d);
			kills++;
		}
		n = shale_wait(q, c, 64, 60000000);
		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			intptr_t k = (intptr_t)c[i].user;

			ck_assert_int_eq(told[k], 0);
			ck_assert_msg(c[i].result == 0 || c[i].result == -SHALE_EUNKNOWN, "%s",
				      shale_strerror(c[i].result));
			told[k] = c[i].result == 0 ? 1 : 2;
		}
		done += n;
	}
	ck_assert_int_gt(kills, 2);
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "k%06d", i);
		snprintf(value, sizeof(value), "value of %d", i);
		if (told[i] == 1)
			ck_assert_str_eq(proc_get(db, key), value);
	}
	shale_queue_close(q);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A value of 64 MiB, by call and by queue, over channels that grow by themselves; one past the daemon's limit is refused in words. */
START_TEST(sixty_four_mebibytes)
{
	const size_t size = 64 << 20;
	char *value = malloc(size + (2 << 20)), *back = malloc(size);
	struct shale_completion c;
	struct shale_queue *q;
	struct shale_db *db;
	size_t len;

	proc_begin(&d);
	db = proc_open(&d);
	for (size_t i = 0; i < size; i += 4096)
		memset(value + i, (int)(i >> 12), 4096);
	ck_assert_msg(shale_put(db, NULL, "big", 3, value, size) == 0, "%s", shale_last_error(db));
	ck_assert_msg(shale_get(db, NULL, "big", 3, back, size, &len) == 0, "%s", shale_last_error(db));
	ck_assert_uint_eq(len, size);
	ck_assert_int_eq(memcmp(value, back, size), 0);
	ck_ok(shale_queue_open(db, NULL, &q));
	memset(back, 0, size);
	ck_ok(shale_submit_get(q, NULL, "big", 3, back, size, NULL));
	ck_ok(shale_submit_put(q, NULL, "big2", 4, value, size, NULL));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(shale_wait(q, &c, 1, 120000000), 1);
		ck_assert_msg(c.result == 0, "%s", shale_strerror(c.result));
	}
	ck_assert_int_eq(memcmp(value, back, size), 0);
	ck_assert_int_eq(shale_put(db, NULL, "big", 3, value, size + (2 << 20)), -E2BIG);
	ck_assert_ptr_nonnull(strstr(shale_last_error(db), "limits.max_request"));
	free(value);
	free(back);
	shale_queue_close(q);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Conditions against what is on disk as well as in memory, and many keys at once. */
START_TEST(conditions_and_multiget)
{
	enum { N = 2000 };
	static struct shale_slice keys[N];
	static struct shale_value v[N];
	static char name[N][16];
	struct shale_write_options o = SHALE_WRITE_OPTIONS_INIT;
	struct shale_batch *b = shale_batch_new();
	struct shale_db *db;
	uint64_t there = 0;
	size_t which = 99;
	void *memory;

	proc_begin(&d);
	db = proc_open(&d);
	for (int i = 0; i < N; i++) {
		snprintf(name[i], sizeof(name[i]), "key%d", i);
		keys[i] = (struct shale_slice){name[i], strlen(name[i])};
		if (i % 3)
			proc_put(db, name[i], name[i]);
		if (i == N / 2)
			ck_ok(shale_flush(db));
	}
	ck_ok(shale_multiget(db, NULL, N, keys, v, &memory));
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(v[i].result, i % 3 ? 0 : SHALE_NOTFOUND);
		if (i % 3)
			ck_assert_str_eq(v[i].data, name[i]);
	}
	o.mismatch_out = &which;
	o.mismatch_sequence_out = &there;
	ck_ok(shale_batch_require_sequence(b, name[1], strlen(name[1]), v[1].sequence));	  /* in a table */
	ck_ok(shale_batch_require_sequence(b, name[1999], strlen(name[1999]), v[1999].sequence)); /* in memory */
	ck_ok(shale_batch_require_value(b, name[2], strlen(name[2]), name[2], strlen(name[2])));
	ck_ok(shale_batch_require_absent(b, name[0], strlen(name[0])));
	ck_ok(shale_batch_require_present(b, name[4], strlen(name[4])));
	ck_ok(shale_batch_put(b, name[0], strlen(name[0]), "now", 3));
	ck_ok(shale_write(db, &o, b, NULL));
	ck_assert_int_eq(shale_write(db, &o, b, NULL), SHALE_MISMATCH);
	ck_assert_uint_eq(which, 3);
	ck_assert_uint_gt(there, v[1999].sequence);
	shale_free(memory);
	shale_batch_free(b);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A lease ends: its snapshot answers -SHALE_EOUSTED from then on, and not before. */
START_TEST(leases)
{
	struct shale_snapshot_options o = SHALE_SNAPSHOT_OPTIONS_INIT;
	struct shale_read_options read = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *shortly, *longer;
	struct shale_db *db;
	char buf[16];
	size_t len;
	int rc = 0;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "k", "old");
	o.lease_ms = 50;
	ck_ok(shale_snapshot_take_with(db, &o, &shortly));
	proc_put(db, "other", "x"); /* two pins of one state are one to a read */
	ck_ok(shale_snapshot_take(db, &longer));
	proc_put(db, "k", "new");
	read.snapshot = shortly;
	for (int i = 0; i < 60000 && rc == 0; i++, usleep(1000))
		rc = shale_get(db, &read, "k", 1, buf, sizeof(buf), &len);
	ck_assert_int_eq(rc, -SHALE_EOUSTED);
	ck_assert_str_ne(shale_last_error(db), "");
	read.snapshot = longer;
	ck_ok(shale_get(db, &read, "k", 1, buf, sizeof(buf), &len));
	ck_assert_int_eq(memcmp(buf, "old", 3), 0);
	shale_snapshot_release(db, shortly);
	shale_snapshot_release(db, longer);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("async", 120, event_loop, caller_io_uring, killed_under_load, sixty_four_mebibytes, conditions_and_multiget,
	  leases)
