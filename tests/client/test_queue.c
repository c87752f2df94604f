/*
 * Queues: each operation gets exactly one completion, whatever happens to the daemon, and nobody sleeps through it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/client/setup.h"
#include "tests/test.h"

enum { LONG_US = 20 * 1000 * 1000 };

static struct shale_queue *open_queue(struct setup *s, unsigned in_flight, unsigned max_pending)
{
	struct shale_queue_options o = SHALE_QUEUE_OPTIONS_INIT;
	struct shale_queue *q;
	int rc;

	o.in_flight = in_flight;
	o.max_pending = max_pending;
	rc = shale_queue_open(s->db, &o, &q);
	ck_assert_msg(rc == 0, "queue: %d, %s", rc, shale_last_error(s->db));
	return q;
}

static struct shale_completion one(struct shale_queue *q)
{
	struct shale_completion c;

	ck_assert_int_eq(shale_wait(q, &c, 1, LONG_US), 1);
	return c;
}

static int submit_put(struct shale_queue *q, const char *key, const char *value, void *user)
{
	return shale_submit_put(q, NULL, key, strlen(key), value, strlen(value), user);
}

/* Every kind of operation answers what the call without a queue would, under the caller's pointer. */
START_TEST(each_operation)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 0, 0);
	const struct shale_slice keys[3] = {{"a", 1}, {"none", 4}, {"b", 1}};
	struct shale_batch *batch = shale_batch_new();
	struct shale_value values[3];
	struct shale_completion c;
	uint64_t sequence;
	char buf[2];
	int me;

	ck_ok(submit_put(q, "a", "alpha", &me));
	c = one(q);
	ck_assert_ptr_eq(c.user, &me);
	ck_ok(c.result);
	sequence = c.sequence;
	ck_assert_uint_gt(sequence, 0);

	ck_ok(shale_submit_get(q, NULL, "a", 1, NULL, 0, &s));
	c = one(q);
	ck_assert_ptr_eq(c.user, &s);
	ck_ok(c.result);
	ck_assert_str_eq(c.value, "alpha");
	ck_assert_uint_eq(c.len, 5);
	ck_assert_uint_eq(c.sequence, sequence);
	shale_free(c.value);

	ck_ok(shale_submit_get(q, NULL, "a", 1, buf, sizeof(buf), NULL)); /* cut short, as shale_get does */
	c = one(q);
	ck_ok(c.result);
	ck_assert_uint_eq(c.len, 5);
	ck_assert_int_eq(memcmp(buf, "al", 2), 0);
	ck_assert_ptr_null(c.value);

	ck_ok(shale_batch_require_sequence(batch, "a", 1, sequence));
	ck_ok(shale_batch_put(batch, "b", 1, "beta", 4));
	ck_ok(shale_submit_write(q, NULL, batch, NULL));
	ck_ok(one(q).result);
	ck_ok(submit_put(q, "a", "other", NULL));
	ck_ok(one(q).result);
	ck_ok(shale_submit_write(q, NULL, batch, NULL));
	c = one(q);
	ck_assert_int_eq(c.result, SHALE_MISMATCH);
	ck_assert_uint_eq(c.len, 0);
	ck_assert_uint_gt(c.sequence, sequence);

	ck_ok(shale_submit_multiget(q, NULL, 3, keys, values, NULL));
	c = one(q);
	ck_ok(c.result);
	ck_assert_str_eq(values[0].data, "other");
	ck_assert_int_eq(values[1].result, SHALE_NOTFOUND);
	ck_assert_str_eq(values[2].data, "beta");
	shale_free(c.value);

	ck_ok(shale_submit_delete(q, NULL, "a", 1, NULL));
	ck_ok(one(q).result);
	ck_ok(shale_submit_get(q, NULL, "a", 1, NULL, 0, NULL));
	ck_assert_int_eq(one(q).result, SHALE_NOTFOUND);
	ck_ok(shale_submit_ping(q, NULL));
	ck_ok(one(q).result);
	ck_assert_uint_eq(shale_queue_pending(q), 0);
	ck_assert_int_eq(shale_wait(q, &c, 1, UINT64_MAX), 0); /* nothing is under way: it does not wait for ever */
	shale_batch_free(batch);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* Thousands more than the ring has entries wait in the library; past the bound comes -EAGAIN; each completes once, writes in order. */
START_TEST(thousands_under_way)
{
	enum { N = 5000 };
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 32, N);
	static unsigned char seen[N];
	static struct shale_completion c[64];
	char key[16], value[16];
	int n, done = 0;

	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof(key), "k%d", i % 100);
		snprintf(value, sizeof(value), "%d", i);
		ck_ok(submit_put(q, key, value, &seen[i]));
	}
	ck_assert_int_eq(submit_put(q, "k", "v", NULL), -EAGAIN);
	expect_words(s.db, "max_pending");
	ck_assert_uint_eq(shale_queue_pending(q), N);
	while (done < N) {
		n = shale_wait(q, c, 64, LONG_US);
		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			ck_ok(c[i].result);
			ck_assert_uint_eq(*(unsigned char *)c[i].user, 0);
			*(unsigned char *)c[i].user = 1;
			ck_assert_ptr_eq(c[i].user, &seen[done + i]); /* one ring, one writer: also told in order */
		}
		done += n;
	}
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		snprintf(value, sizeof(value), "%d", N - 100 + i);
		expect(s.db, NULL, key, value);
	}
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* Values past a slot, past the room of a first answer, and past the whole arena, which grows by itself; past the daemon's limit: -E2BIG. */
START_TEST(large_values)
{
	static const size_t sizes[] = {1, 4000, 4096, 5000, 70000, 1 << 20, 3 << 20};
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 16, 0);
	char *big = calloc(1, 4 << 20), *back = malloc(4 << 20), key[8];
	struct shale_completion c;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(big, 'a' + (int)i, sizes[i]);
		snprintf(key, sizeof(key), "%zu", i);
		ck_ok(shale_submit_put(q, NULL, key, 1, big, sizes[i], NULL));
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		ck_ok(one(q).result);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(key, sizeof(key), "%zu", i);
		ck_ok(shale_submit_get(q, NULL, key, 1, i % 2 ? back : NULL, 4 << 20, (void *)i));
		c = one(q);
		ck_ok(c.result);
		ck_assert_uint_eq(c.len, sizes[i]);
		memset(big, 'a' + (int)i, sizes[i]);
		ck_assert_int_eq(memcmp(i % 2 ? back : c.value, big, sizes[i]), 0);
		shale_free(c.value);
	}
	ck_assert_int_eq(shale_submit_put(q, NULL, "k", 1, big, 5 << 20, NULL), -E2BIG);
	ck_assert_uint_gt(atomic_load(&s.fake->largest_arena), 3u << 20);
	free(big);
	free(back);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

static bool readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

/* The event descriptor: silent while nothing comes, readable from the completion on until it is collected, and again the next time. */
START_TEST(event_descriptor)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 0, 0);
	struct epoll_event event = {.events = EPOLLIN};
	int mine = epoll_create1(EPOLL_CLOEXEC);
	struct shale_completion c;

	ck_assert_int_eq(epoll_ctl(mine, EPOLL_CTL_ADD, shale_event_fd(q), &event), 0);
	for (int i = 0; i < 50; i++) {
		atomic_store(&s.fake->mood, MOOD_LATE);
		ck_ok(shale_submit_ping(q, NULL));
		ck_assert_int_eq(shale_poll(q, &c, 1), 0);
		ck_assert_int_eq(shale_arm(q), 0);
		ck_assert(!readable(mine, 0));
		atomic_store(&s.fake->mood, MOOD_SERVE);
		ck_assert(readable(mine, 10000));
		ck_assert(readable(shale_event_fd(q), 0)); /* and stays so */
		ck_assert_int_eq(shale_poll(q, &c, 1), 1);
		ck_assert_int_eq(shale_poll(q, &c, 1), 0);
		ck_assert_int_eq(shale_arm(q), 0); /* nothing is left behind in it */
		ck_assert(!readable(mine, 0));
	}
	close(mine);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* A loop that sleeps on the descriptor alone never sleeps through a completion, whatever the moment at which it comes. */
START_TEST(no_lost_wakeup)
{
	enum { N = 20000 };
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 8, 64);
	struct shale_completion c[16];
	uint64_t seed = test_seed();
	int sent = 0, done = 0, n;

	while (done < N) {
		for (uint64_t k = test_random(&seed) % 4; sent < N && k > 0 && sent - done < 60; k--, sent++)
			ck_ok(shale_submit_ping(q, NULL));
		n = shale_poll(q, c, 1 + test_random(&seed) % 16);
		ck_assert_int_ge(n, 0);
		done += n;
		if (n == 0 && sent > done && shale_arm(q) == 0)
			ck_assert_msg(readable(shale_event_fd(q), 20000), "slept for ever: %d of %d", done, sent);
	}
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* The daemon dies with everything in flight: taken writes are unknown, the rest is done by the next one, in order; each tells once. */
START_TEST(death_with_operations_in_flight)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 16, 0);
	int unknown = 0, well = 0;
	char key[16], value[16];

	ck_ok(put(s.db, "r", "read"));
	atomic_store(&s.fake->mood, MOOD_MUTE);
	for (intptr_t i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "k%d", (int)i / 2);
		snprintf(value, sizeof(value), "%d", (int)i);
		ck_ok(submit_put(q, key, value, (void *)i));
		ck_ok(shale_submit_get(q, NULL, "r", 1, NULL, 0, (void *)(intptr_t)-1));
	}
	ck_assert_int_eq(shale_poll(q, NULL, 0), 0);
	atomic_store(&s.fake->mood, MOOD_DIE_TAKEN);
	for (int i = 0; i < 5000 && s.fake->listener >= 0 && access(s.path, F_OK) == 0 &&
			atomic_load(&s.fake->mood) == MOOD_DIE_TAKEN && shale_queue_pending(q) == 80;
	     i++) {
		struct shale_completion c;

		if (shale_poll(q, &c, 1) == 0) {
			usleep(1000);
			continue;
		}
		ck_assert_ptr_ne(c.user, (void *)(intptr_t)-1); /* no read fails */
		ck_assert_int_eq(c.result, -SHALE_EUNKNOWN);
		unknown++;
	}
	fake_kill(s.fake);
	atomic_store(&s.fake->mood, MOOD_SERVE);
	fake_start(s.fake);
	while (shale_queue_pending(q)) {
		struct shale_completion c = one(q);

		if (c.user == (void *)(intptr_t)-1) {
			ck_ok(c.result);
			ck_assert_str_eq(c.value, "read");
			shale_free(c.value);
		} else if (c.result == 0) {
			well++;
		} else {
			ck_assert_int_eq(c.result, -SHALE_EUNKNOWN);
			ck_assert_int_eq(well, 0); /* those came first */
			unknown++;
		}
	}
	ck_assert_int_eq(unknown + well, 40);
	ck_assert_int_gt(unknown, 0);
	ck_assert_int_gt(well, 0);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		snprintf(value, sizeof(value), "%d", 2 * i + 1);
		expect(s.db, NULL, key, value); /* in order across the death, too */
	}
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* A daemon that does not come back: -EPIPE for all, told over the event descriptor as well; when it is there again, the queue works again. */
START_TEST(nobody_comes_back)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;
	struct shale_queue *q;

	fake_start(s.fake);
	o.reconnect_ms = 200;
	setup_open(&s, &o);
	q = open_queue(&s, 8, 0);
	fake_kill(s.fake);
	for (int i = 0; i < 20; i++)
		ck_ok(shale_submit_get(q, NULL, "k", 1, NULL, 0, NULL));
	for (int done = 0; done < 20;) {
		struct shale_completion c[4];
		int n = shale_poll(q, c, 4);

		for (int i = 0; i < n; i++)
			ck_assert_int_eq(c[i].result, -EPIPE);
		done += n;
		if (n == 0 && shale_arm(q) == 0)
			ck_assert(readable(shale_event_fd(q), 20000));
	}
	ck_ok(submit_put(q, "k", "v", NULL));
	fake_start(s.fake);
	ck_ok(one(q).result);
	expect(s.db, NULL, "k", "v");
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* Deadlines hold for what waits in the library, and for what a daemon took and never answers; its answer that comes too late goes nowhere. */
START_TEST(deadlines)
{
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 4, 0);
	char buf[8] = "before";

	o.deadline_us = 20000;
	ck_ok(put(s.db, "k", "after"));
	atomic_store(&s.fake->mood, MOOD_LATE);
	for (int i = 0; i < 10; i++)
		ck_ok(shale_submit_get(q, &o, "k", 1, buf, sizeof(buf), NULL));
	for (int done = 0; done < 10;) { /* by the event descriptor alone */
		struct shale_completion c[4];
		int n = shale_poll(q, c, 4);

		for (int i = 0; i < n; i++)
			ck_assert_int_eq(c[i].result, -ETIMEDOUT);
		done += n;
		if (n == 0 && shale_arm(q) == 0)
			ck_assert(readable(shale_event_fd(q), 20000));
	}
	ck_assert_uint_eq(shale_queue_pending(q), 0);
	atomic_store(&s.fake->mood, MOOD_SERVE);
	for (int i = 0; i < 30; i++) {
		ck_ok(shale_submit_ping(q, NULL));
		ck_ok(one(q).result);
	}
	ck_assert_str_eq(buf, "before");
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* Cancel reaches what waits in the library and what waits in the daemon, and more of it than the ring keeps entries for. */
START_TEST(cancel)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 40, 0);
	int stay, go, cancelled = 0, well = 0;

	atomic_store(&s.fake->mood, MOOD_LATE);
	for (int i = 0; i < 100; i++)
		ck_ok(submit_put(q, "k", "v", i % 2 ? &go : &stay));
	ck_assert_int_eq(shale_cancel(q, &go), 50);
	ck_assert_int_eq(shale_cancel(q, &go), 0);
	while (cancelled < 50) {
		struct shale_completion c = one(q);

		ck_assert_ptr_eq(c.user, &go);
		ck_assert_int_eq(c.result, -ECANCELED);
		cancelled++;
	}
	atomic_store(&s.fake->mood, MOOD_SERVE);
	for (; well < 50; well++) {
		struct shale_completion c = one(q);

		ck_assert_ptr_eq(c.user, &stay);
		ck_ok(c.result);
	}
	ck_assert_uint_eq(shale_queue_pending(q), 0);
	ck_assert_uint_eq(atomic_load(&s.fake->writes), 50);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* A session that an administrator, or a broken protocol, ended: its code for what was in flight, a new session for what comes next. */
START_TEST(ended_sessions)
{
	static const struct {
		int mood, code;
	} cases[] = {{MOOD_KICK, -SHALE_EKICKED}, {MOOD_BREAK, -SHALE_ESESSION}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct setup s = setup_new();
		struct shale_queue *q = open_queue(&s, 0, 0);

		atomic_store(&s.fake->mood, cases[i].mood);
		ck_ok(submit_put(q, "k", "v", NULL));
		ck_assert_int_eq(one(q).result, cases[i].code);
		ck_ok(submit_put(q, "k", "v", NULL));
		ck_ok(one(q).result);
		shale_queue_close(q);

		ck_ok(shale_ping(s.db)); /* the same for the call without a queue */
		atomic_store(&s.fake->mood, cases[i].mood);
		ck_assert_int_eq(put(s.db, "k", "v"), cases[i].code);
		expect_words(s.db, "session");
		ck_ok(put(s.db, "k", "v"));
		setup_free(&s);
	}
}
END_TEST

/* Reads of a snapshot; of one that went with the old daemon: -SHALE_EOUSTED. */
START_TEST(snapshots)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 0, 0);
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	struct shale_completion c;

	ck_ok(put(s.db, "k", "old"));
	ck_ok(shale_snapshot_take(s.db, &snapshot));
	ck_ok(put(s.db, "k", "new"));
	o.snapshot = snapshot;
	ck_ok(shale_submit_get(q, &o, "k", 1, NULL, 0, NULL));
	c = one(q);
	ck_assert_str_eq(c.value, "old");
	shale_free(c.value);
	fake_kill(s.fake);
	fake_start(s.fake);
	ck_ok(shale_submit_get(q, &o, "k", 1, NULL, 0, NULL));
	ck_assert_int_eq(one(q).result, -SHALE_EOUSTED);
	shale_snapshot_release(s.db, snapshot);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

/* Closing with operations in every state leaks nothing (the address sanitizer looks), and a child of fork() is told to open its own. */
START_TEST(ends)
{
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 8, 0);
	struct shale_completion c;
	int status;
	pid_t pid;

	ck_ok(put(s.db, "k", "value"));
	for (int i = 0; i < 50; i++)
		ck_ok(shale_submit_get(q, NULL, "k", 1, NULL, 0, NULL));
	c = one(q);
	shale_free(c.value);
	pid = fork();
	if (pid == 0) { /* no assertion here: the fake's thread may have held Check's lock */
		bool told = shale_poll(q, &c, 1) == -SHALE_EFORKED && submit_put(q, "k", "v", NULL) == -SHALE_EFORKED &&
			    shale_arm(q) == -SHALE_EFORKED;

		shale_queue_close(q);
		_exit(!told);
	}
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	c = one(q); /* the child's close did not end our session */
	ck_ok(c.result);
	shale_free(c.value);
	atomic_store(&s.fake->mood, MOOD_SWALLOW);
	for (int i = 0; i < 20; i++)
		ck_ok(submit_put(q, "k", "v", NULL));
	shale_poll(q, NULL, 0);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

struct tracked {
	int completions, key, number;
	bool write;
};

/* Random operations, sizes, kills, deadlines and cancels: exactly one completion each, and what reads see was written. */
START_TEST(exactly_one_completion)
{
	enum { N = 3000 };
	struct setup s = setup_new();
	struct shale_queue *q = open_queue(&s, 12, 200);
	static struct tracked t[N];
	uint64_t seed = test_seed();
	static char value[20000];
	int sent = 0, done = 0;

	memset(value, 'v', sizeof(value));
	while (done < N) {
		uint64_t r = test_random(&seed);
		struct shale_completion c[32];
		int n;

		if (sent < N && r % 3) {
			struct shale_write_options w = SHALE_WRITE_OPTIONS_INIT;
			char key[16];
			int rc;

			t[sent].write = r % 3 == 1;
			t[sent].key = (int)(r >> 8) % 20;
			w.deadline_us = r % 50 == 0 ? 1 + r % 1000 : 0;
			snprintf(key, sizeof(key), "%d", t[sent].key);
			rc = t[sent].write ? shale_submit_put(q, &w, key, strlen(key), value, (r >> 20) % sizeof(value),
							      &t[sent])
					   : shale_submit_get(q, NULL, key, strlen(key), NULL, 0, &t[sent]);
			ck_assert(rc == 0 || rc == -EAGAIN);
			sent += rc == 0;
			if (r % 97 == 0)
				shale_cancel(q, &t[sent > 0 ? sent - 1 : 0]);
			if (r % 700 == 0) {
				fake_kill(s.fake);
				fake_start(s.fake);
			}
			if (sent < N && r % 4)
				continue;
		}
		n = shale_wait(q, c, 32, r % 5 ? LONG_US : 0);
		for (int i = 0; i < n; i++) {
			struct tracked *op = c[i].user;

			ck_assert_int_eq(op->completions++, 0);
			ck_assert(c[i].result == 0 || c[i].result == -ECANCELED || c[i].result == -ETIMEDOUT ||
				  (op->write ? c[i].result == -SHALE_EUNKNOWN : c[i].result == SHALE_NOTFOUND));
			if (!op->write && c[i].result == 0)
				ck_assert_mem_eq(c[i].value, value, c[i].len);
			shale_free(c[i].value);
		}
		done += n;
	}
	ck_assert_uint_eq(shale_queue_pending(q), 0);
	shale_queue_close(q);
	setup_free(&s);
}
END_TEST

TEST_MAIN("queue", 60, each_operation, thousands_under_way, large_values, event_descriptor, no_lost_wakeup,
	  death_with_operations_in_flight, nobody_comes_back, deadlines, cancel, ended_sessions, snapshots, ends,
	  exactly_one_completion)
