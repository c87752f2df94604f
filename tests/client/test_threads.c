#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/client/setup.h"
#include "tests/test.h"

enum { THREADS = 6, ROUNDS = 200 };

struct worker {
	struct shale_db *db, *other;
	int number;
	struct shale_snapshot *left; /* taken by the worker, used after its end */
};

/* Each thread writes keys of its own, reads them back at once, and scans them now and then. */
static void *work(void *arg)
{
	struct worker *w = arg;
	char key[32], value[32];

	for (int i = 0; i < ROUNDS; i++) {
		snprintf(key, sizeof(key), "t%d-%04d", w->number, i);
		snprintf(value, sizeof(value), "%d", i);
		ck_ok(put(i % 2 ? w->db : w->other, key, value));
		expect(w->db, NULL, key, value);
		if (i % 50 == 49) {
			struct shale_iter *it;
			char prefix[8];
			size_t len;
			int n = 0;

			snprintf(prefix, sizeof(prefix), "t%d-", w->number);
			ck_ok(shale_iter_open(w->db, NULL, &it));
			for (shale_iter_seek(it, prefix, 3);
			     shale_iter_valid(it) && !memcmp(shale_iter_key(it, &len), prefix, 3); shale_iter_next(it))
				n++;
			ck_ok(shale_iter_error(it));
			ck_assert_int_eq(n, i + 1);
			shale_iter_close(it);
		}
	}
	ck_ok(shale_snapshot_take(w->db, &w->left));
	return NULL;
}

/*
 * Threads share handles without locks of their own; each gets a session for each handle and gives it back at its end; snapshots
 * outlive the threads that took them.
 */
START_TEST(a_channel_for_each_thread)
{
	struct setup s = setup_new();
	struct worker w[THREADS];
	pthread_t t[THREADS];
	struct shale_db *other;

	ck_ok(shale_open(s.path, NULL, &other));
	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.db = s.db, .other = other, .number = i};
		ck_assert_int_eq(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	eventually(&s.fake->sessions, 2); /* the two main ones */
	ck_assert_uint_eq(atomic_load(&s.fake->pins), THREADS);
	for (int i = 0; i < THREADS; i++) {
		char key[24];

		snprintf(key, sizeof(key), "t%d-0000", i); /* its own: another thread may have begun later */
		expect(s.db, w[i].left, key, "0");
		shale_snapshot_release(s.db, w[i].left);
	}
	shale_close(other);
	setup_free(&s);
}
END_TEST

struct gate {
	struct shale_db *db;
	pthread_barrier_t used, closed;
};

static void *linger(void *arg)
{
	struct gate *g = arg;
	struct shale_db *db;

	ck_ok(shale_ping(g->db));
	pthread_barrier_wait(&g->used);
	pthread_barrier_wait(&g->closed);
	/* The handle is gone; this thread's dead lane must not be looked through by the next handle, wherever it lies. */
	ck_ok(shale_open(NULL, NULL, &db));
	ck_ok(shale_ping(db));
	shale_close(db);
	return NULL;
}

/* shale_close ends the sessions of threads that live on, and those threads may open again and end in peace. */
START_TEST(close_before_threads_end)
{
	struct setup s = setup_new();
	struct gate g = {.db = s.db};
	pthread_t t[2];

	setenv("SHALE_SOCKET", s.path, 1);
	pthread_barrier_init(&g.used, NULL, 3);
	pthread_barrier_init(&g.closed, NULL, 3);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, linger, &g);
	pthread_barrier_wait(&g.used);
	eventually(&s.fake->sessions, 3);
	shale_close(s.db);
	s.db = NULL;
	eventually(&s.fake->sessions, 0);
	pthread_barrier_wait(&g.closed);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	eventually(&s.fake->sessions, 0);
	setup_free(&s);
}
END_TEST

static void *churn(void *arg)
{
	struct worker *w = arg;
	char key[32];

	for (int i = 0; i < ROUNDS; i++) {
		int rc;

		snprintf(key, sizeof(key), "c%d-%d", w->number, i);
		rc = put(w->db, key, key);
		ck_assert_msg(rc == 0 || rc == -SHALE_EUNKNOWN, "%d, %s", rc, shale_last_error(w->db));
		expect(w->db, NULL, "anchor", "holds");
		if (rc == 0)
			expect(w->db, NULL, key, key);
		usleep(500);
	}
	return NULL;
}

/* Under a daemon that is killed and restarted again and again, threads see no failure but unknown writes, and lose none. */
START_TEST(restarts_under_load)
{
	struct setup s = setup_new();
	struct worker w[3];
	pthread_t t[3];

	ck_ok(put(s.db, "anchor", "holds"));
	for (int i = 0; i < 3; i++) {
		w[i] = (struct worker){.db = s.db, .number = i};
		pthread_create(&t[i], NULL, churn, &w[i]);
	}
	for (int i = 0; i < 10; i++) {
		usleep(15000);
		fake_kill(s.fake);
		usleep(2000);
		fake_start(s.fake);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	setup_free(&s);
}
END_TEST

/* Each thread hears of its own failures alone. */
static void *fail_alone(void *arg)
{
	struct shale_db *db = arg;

	ck_assert_str_eq(shale_last_error(db), "");
	ck_assert_int_eq(shale_put(db, NULL, NULL, 5, "", 0), -EINVAL);
	expect_words(db, "NULL");
	return NULL;
}

START_TEST(last_error_is_per_thread)
{
	struct setup s = setup_new();
	pthread_t t;

	pthread_create(&t, NULL, fail_alone, s.db);
	pthread_join(t, NULL);
	ck_assert_str_eq(shale_last_error(s.db), "");
	setup_free(&s);
}
END_TEST

TEST_MAIN("threads", 30, a_channel_for_each_thread, close_before_threads_end, restarts_under_load,
	  last_error_is_per_thread)
