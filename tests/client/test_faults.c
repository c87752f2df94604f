#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/client/setup.h"
#include "tests/test.h"

/* ---- opening ---- */

static int open_fails(const struct setup *s, unsigned connect_ms)
{
	struct shale_options o = SHALE_OPTIONS_INIT;
	struct shale_db *db = (void *)0x1;
	int rc;

	o.connect_ms = connect_ms;
	rc = shale_open(s->path, &o, &db);
	ck_assert_int_lt(rc, 0);
	ck_assert_ptr_eq(db, (void *)0x1); /* untouched */
	expect_words(NULL, s->path);
	return rc;
}

/* Each way of not being a usable shaled has its own code, at once, and words that name the socket. */
START_TEST(open_says_what_is_wrong)
{
	static const struct {
		int shake, rc;
	} cases[] = {
		{SHAKE_HANG_UP, -SHALE_ENOTSHALE}, {SHAKE_GARBAGE, -SHALE_ENOTSHALE}, {SHAKE_OTHER_ABI, -SHALE_EABI},
		{SHAKE_SILENT, -ETIMEDOUT},	   {SHAKE_NO_FDS, -EPROTO},
	};
	struct setup s = setup_dark();
	struct shale_db *db;

	ck_assert_int_eq(open_fails(&s, 0), -ENOENT);
	fake_start(s.fake);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		atomic_store(&s.fake->handshake, cases[i].shake);
		ck_assert_int_eq(open_fails(&s, cases[i].rc == -ETIMEDOUT ? 100 : 60000), cases[i].rc);
	}
	atomic_store(&s.fake->handshake, SHAKE_REFUSE);
	ck_assert_int_eq(shale_open(s.path, NULL, &db), -EACCES);
	expect_words(NULL, "4711"); /* the daemon's own words */
	fake_kill(s.fake);
	ck_assert_int_eq(open_fails(&s, 0), -ECONNREFUSED);
	setup_free(&s);
}
END_TEST

static void *start_later(void *fake)
{
	usleep(50000);
	fake_start(fake);
	return NULL;
}

/* With connect_ms given, open waits for a daemon that is not there yet; one that dies in a handshake is looked at again. */
START_TEST(open_waits_when_told)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;
	pthread_t t;

	atomic_store(&s.fake->handshake, SHAKE_FLAKY);
	atomic_store(&s.fake->misses, 2);
	pthread_create(&t, NULL, start_later, s.fake);
	o.connect_ms = 5000;
	setup_open(&s, &o);
	pthread_join(t, NULL);
	ck_ok(put(s.db, "k", "v"));
	setup_free(&s);
}
END_TEST

/* A directory means the socket in it; no argument means $SHALE_SOCKET. */
START_TEST(where_is_found)
{
	struct setup s = setup_new();
	struct shale_db *db;

	ck_ok(shale_open(s.dir, NULL, &db));
	shale_close(db);
	setenv("SHALE_SOCKET", s.path, 1);
	ck_ok(shale_open(NULL, NULL, &db));
	ck_ok(shale_ping(db));
	shale_close(db);
	shale_close(NULL);
	/* A relative path keeps its meaning when the program changes its directory. */
	ck_assert_int_eq(chdir(s.dir), 0);
	ck_ok(shale_open("shale.sock", NULL, &db));
	ck_assert_int_eq(chdir("/"), 0);
	ck_ok(shale_ping(db));
	shale_close(db);
	eventually(&s.fake->sessions, 1);
	setup_free(&s);
}
END_TEST

/* ---- a daemon that goes away ---- */

/* As a supervisor does: when the fake has died of itself, start it anew in a good mood. */
static void *restart_when_dead(void *arg)
{
	struct fake *f = arg;

	pthread_join(f->thread, NULL);
	f->running = false;
	region_close(&f->region, true);
	usleep(20000);
	atomic_store(&f->mood, MOOD_SERVE);
	fake_start(f);
	return NULL;
}

/* A write that was taken and not answered is not repeated: its fate is not known. The next call finds the new daemon. */
START_TEST(taken_write_is_unknown)
{
	struct setup s = setup_new();
	pthread_t t;

	ck_ok(put(s.db, "k", "old"));
	atomic_store(&s.fake->mood, MOOD_DIE_TAKEN);
	pthread_create(&t, NULL, restart_when_dead, s.fake);
	ck_assert_int_eq(put(s.db, "k", "new"), -SHALE_EUNKNOWN);
	expect_words(s.db, "may or may not");
	expect(s.db, NULL, "k", "new"); /* here it had been applied */
	pthread_join(t, NULL);
	ck_assert_uint_eq(atomic_load(&s.fake->writes), 2);
	setup_free(&s);
}
END_TEST

/* A write that the dead daemon never took cannot have been applied: it is repeated, once, and the caller notices nothing. */
START_TEST(untaken_write_is_repeated)
{
	struct setup s = setup_new();
	pthread_t t;

	ck_ok(put(s.db, "a", "1"));
	atomic_store(&s.fake->mood, MOOD_DIE_UNTAKEN);
	pthread_create(&t, NULL, restart_when_dead, s.fake);
	ck_ok(put(s.db, "b", "2"));
	pthread_join(t, NULL);
	expect(s.db, NULL, "b", "2");
	ck_assert_uint_eq(atomic_load(&s.fake->writes), 2);
	setup_free(&s);
}
END_TEST

/* Reads are repeated, whether the old daemon had taken them or not. */
START_TEST(reads_are_repeated)
{
	static const int moods[] = {MOOD_DIE_TAKEN, MOOD_DIE_UNTAKEN};
	struct setup s = setup_new();
	pthread_t t;

	ck_ok(put(s.db, "k", "v"));
	for (size_t i = 0; i < ARRAY_SIZE(moods); i++) {
		atomic_store(&s.fake->mood, moods[i]);
		pthread_create(&t, NULL, restart_when_dead, s.fake);
		expect(s.db, NULL, "k", "v");
		pthread_join(t, NULL);
	}
	setup_free(&s);
}
END_TEST

/* A daemon that was killed while nothing was under way, and came back, is not noticed at all. */
START_TEST(idle_restart_is_not_noticed)
{
	struct setup s = setup_new();

	ck_ok(put(s.db, "k", "v"));
	fake_kill(s.fake);
	fake_start(s.fake);
	ck_ok(put(s.db, "k", "w"));
	fake_kill(s.fake);
	fake_start(s.fake);
	expect(s.db, NULL, "k", "w");
	setup_free(&s);
}
END_TEST

/* While the old daemon still refuses because it is ending, or dies in the handshake, a call goes on trying. */
START_TEST(reconnect_outlasts_refusals)
{
	static const int shakes[] = {SHAKE_ENDING, SHAKE_FLAKY};
	struct setup s = setup_new();

	for (size_t i = 0; i < ARRAY_SIZE(shakes); i++) {
		ck_ok(put(s.db, "k", "v"));
		fake_kill(s.fake);
		atomic_store(&s.fake->handshake, shakes[i]);
		atomic_store(&s.fake->misses, 6);
		fake_start(s.fake);
		expect(s.db, NULL, "k", "v");
		ck_assert_int_lt(atomic_load(&s.fake->misses), 0);
	}
	setup_free(&s);
}
END_TEST

/* A clean shutdown answers what it took; the next call waits for the successor. */
START_TEST(closing_completes_first)
{
	struct setup s = setup_new();
	pthread_t t;

	ck_ok(shale_ping(s.db));
	atomic_store(&s.fake->mood, MOOD_CLOSING);
	pthread_create(&t, NULL, restart_when_dead, s.fake);
	ck_ok(put(s.db, "k", "v"));
	ck_ok(put(s.db, "k", "w"));
	pthread_join(t, NULL);
	ck_assert_uint_eq(atomic_load(&s.fake->writes), 2);
	setup_free(&s);
}
END_TEST

/* A put by a handle with so little patience that a daemon whose thread has no core for a while seems gone. */
static int put_patiently(struct shale_db *db, const char *key, const char *value)
{
	int rc = -EPIPE;

	for (unsigned tries = 0; rc == -EPIPE && tries < 200; tries++)
		rc = put(db, key, value);
	return rc;
}

/* A daemon that does not come back: -EPIPE after reconnect_ms, with words; once it is back, the handle works again. */
START_TEST(gone_for_good)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;

	fake_start(s.fake);
	o.reconnect_ms = 50;
	setup_open(&s, &o);
	ck_ok(put_patiently(s.db, "k", "v"));
	fake_kill(s.fake);
	ck_assert_int_eq(put(s.db, "k", "w"), -EPIPE);
	expect_words(s.db, "did not come back");
	expect_words(s.db, s.path);
	ck_assert_int_eq(shale_snapshot_take(s.db, &(struct shale_snapshot *){NULL}), -EPIPE);
	fake_start(s.fake);
	ck_ok(put_patiently(s.db, "k", "x"));
	setup_free(&s);
}
END_TEST

/* Snapshots and iterators of the old daemon answer -SHALE_EOUSTED, although the new one has the same sequences. */
START_TEST(restart_ousts_snapshots)
{
	struct setup s = setup_new();
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *old, *fresh;
	struct shale_iter *it;

	ck_ok(put(s.db, "k", "v"));
	ck_ok(shale_snapshot_take(s.db, &old));
	ck_ok(shale_iter_open(s.db, NULL, &it));
	fake_kill(s.fake);
	fake_start(s.fake);
	ck_ok(shale_snapshot_take(s.db, &fresh)); /* pins the same sequence */
	o.snapshot = old;
	ck_assert_int_eq(shale_get(s.db, &o, "k", 1, NULL, 0, &(size_t){0}), -SHALE_EOUSTED);
	expect_words(s.db, "take a new snapshot");
	shale_iter_seek_first(it);
	ck_assert(!shale_iter_valid(it));
	ck_assert_int_eq(shale_iter_error(it), -SHALE_EOUSTED);
	expect(s.db, fresh, "k", "v");
	shale_snapshot_release(s.db, old);
	shale_iter_close(it);
	ck_ok(shale_ping(s.db));
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 1); /* the releases of old ones did not hit the new pin */
	shale_snapshot_release(s.db, fresh);
	setup_free(&s);
}
END_TEST

/* Releasing a snapshot of a daemon that is gone does not wait for another one. */
START_TEST(release_does_not_wait)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;
	struct shale_snapshot *snapshot;

	fake_start(s.fake);
	o.reconnect_ms = 60000; /* far beyond the test's time limit */
	setup_open(&s, &o);
	ck_ok(shale_snapshot_take(s.db, &snapshot));
	fake_kill(s.fake);
	shale_snapshot_release(s.db, snapshot);
	setup_free(&s);
}
END_TEST

/* ---- a daemon that misbehaves ---- */

/* A channel declared broken fails one call with its own code; the next has a new session. */
START_TEST(broken_session_is_told_once)
{
	struct setup s = setup_new();

	ck_ok(put(s.db, "k", "v"));
	atomic_store(&s.fake->mood, MOOD_BREAK);
	ck_assert_int_eq(put(s.db, "k", "w"), -SHALE_ESESSION);
	expect_words(s.db, "protocol");
	ck_ok(put(s.db, "k", "w"));
	setup_free(&s);
}
END_TEST

/* A daemon that hangs: the deadline ends the call, whether the request was taken or not, and the next call has a clean channel. */
START_TEST(deadline_ends_a_hang)
{
	static const int moods[] = {MOOD_MUTE, MOOD_SWALLOW, MOOD_LATE};
	struct setup s = setup_new();
	struct shale_read_options r = SHALE_READ_OPTIONS_INIT;
	struct shale_write_options w = SHALE_WRITE_OPTIONS_INIT;

	r.deadline_us = w.deadline_us = 20000;
	ck_ok(put(s.db, "k", "v"));
	for (size_t i = 0; i < ARRAY_SIZE(moods); i++) {
		atomic_store(&s.fake->mood, moods[i]);
		ck_assert_int_eq(shale_get(s.db, &r, "k", 1, NULL, 0, &(size_t){0}), -ETIMEDOUT);
		atomic_store(&s.fake->mood, MOOD_SERVE);
		ck_ok(shale_ping(s.db));
		atomic_store(&s.fake->mood, moods[i]);
		ck_assert_int_eq(shale_put(s.db, &w, "other", 5, "v", 1), -ETIMEDOUT);
		expect_words(s.db, "may still be applied");
		atomic_store(&s.fake->mood, MOOD_SERVE);
		expect(s.db, NULL, "k", "v");
	}
	eventually(&s.fake->sessions, 2); /* main and this thread's: the given-up ones are gone */
	setup_free(&s);
}
END_TEST

/* A pin that comes after its caller gave up is released again. */
START_TEST(late_pin_is_released)
{
	struct setup s = setup_new();
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	struct shale_iter *it;

	ck_ok(put(s.db, "k", "v"));
	o.deadline_us = 10000;
	atomic_store(&s.fake->mood, MOOD_LATE);
	ck_assert_int_eq(shale_iter_open(s.db, &o, &it), -ETIMEDOUT);
	ck_assert_int_eq(shale_iter_open(s.db, &o, &it), -ETIMEDOUT);
	atomic_store(&s.fake->mood, MOOD_SERVE);
	eventually(&s.fake->pins, 2);
	ck_ok(shale_snapshot_take(s.db, &snapshot)); /* meets the late answers */
	eventually(&s.fake->pins, 1);
	expect(s.db, snapshot, "k", "v");
	shale_snapshot_release(s.db, snapshot);
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 0);
	setup_free(&s);
}
END_TEST

/* Chunks that do not decode, go round in circles or promise more without giving end the iterator with an error. */
START_TEST(bad_chunks_end_the_iterator)
{
	static const int moods[] = {MOOD_GARBAGE_SCAN, MOOD_CIRCLE_SCAN, MOOD_EMPTY_MORE};
	struct setup s = setup_new();
	struct shale_iter *it;
	char key[16];

	for (int i = 0; i < 10; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ck_ok(put(s.db, key, "value"));
	}
	for (size_t i = 0; i < ARRAY_SIZE(moods); i++) {
		unsigned steps = 0;

		ck_ok(shale_iter_open(s.db, NULL, &it));
		atomic_store(&s.fake->mood, moods[i]);
		for (shale_iter_seek_first(it); shale_iter_valid(it); shale_iter_next(it))
			ck_assert_uint_lt(steps++, 100);
		ck_assert_int_eq(shale_iter_error(it), -SHALE_ENOTSHALE);
		atomic_store(&s.fake->mood, MOOD_SERVE);
		shale_iter_close(it);
	}
	setup_free(&s);
}
END_TEST

/* Answers that are longer than any room end in an error; completions of requests that nobody made are dropped. */
START_TEST(wild_completions)
{
	struct setup s = setup_new();
	void *value;
	size_t len;

	ck_ok(put(s.db, "k", "v"));
	atomic_store(&s.fake->mood, MOOD_HUGE_LEN);
	ck_assert_int_lt(shale_get_alloc(s.db, NULL, "k", 1, &value, &len), 0);
	atomic_store(&s.fake->mood, MOOD_WRONG_IDS);
	for (int i = 0; i < 100; i++)
		expect(s.db, NULL, "k", "v");
	setup_free(&s);
}
END_TEST

/* ---- fork ---- */

/* In a child every call says so; closing there leaves the parent's sessions alone; the child may open its own. */
START_TEST(handles_do_not_survive_fork)
{
	struct setup s = setup_new();
	struct shale_snapshot *snapshot;
	struct shale_iter *it;
	int status;
	pid_t child;

	ck_ok(put(s.db, "k", "v"));
	ck_ok(shale_snapshot_take(s.db, &snapshot));
	ck_ok(shale_iter_open(s.db, NULL, &it));
	child = fork();
	if (child == 0) {
		struct shale_db *own;
		int bad = 0;

		bad |= shale_put(s.db, NULL, "k", 1, "w", 1) != -SHALE_EFORKED;
		bad |= !strstr(shale_last_error(s.db), "fork");
		bad |= (shale_get(s.db, NULL, "k", 1, NULL, 0, &(size_t){0}) != -SHALE_EFORKED) << 1;
		shale_iter_seek_first(it);
		bad |= (shale_iter_error(it) != -SHALE_EFORKED) << 2;
		shale_iter_close(it);
		shale_snapshot_release(s.db, snapshot);
		shale_close(s.db);
		bad |= (shale_open(s.path, NULL, &own) != 0) << 3;
		bad |= (shale_put(own, NULL, "child", 5, "1", 1) != 0) << 4;
		shale_close(own);
		_exit(bad);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %#x", status);
	expect(s.db, snapshot, "k", "v");
	expect(s.db, NULL, "child", "1");
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 2);
	shale_iter_close(it);
	shale_snapshot_release(s.db, snapshot);
	setup_free(&s);
}
END_TEST

TEST_MAIN("faults", 20, open_says_what_is_wrong, open_waits_when_told, where_is_found, taken_write_is_unknown,
	  untaken_write_is_repeated, reads_are_repeated, idle_restart_is_not_noticed, reconnect_outlasts_refusals,
	  closing_completes_first, gone_for_good, restart_ousts_snapshots, release_does_not_wait,
	  broken_session_is_told_once, deadline_ends_a_hang, late_pin_is_released, bad_chunks_end_the_iterator,
	  wild_completions, handles_do_not_survive_fork)
