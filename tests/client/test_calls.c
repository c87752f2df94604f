/*
 * Conditions, many keys at once, prefixes, leases, default deadlines, channels that grow and shrink.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/client/setup.h"
#include "tests/test.h"

/* One condition each way: what it takes, and what a mismatch tells. */
START_TEST(conditions)
{
	struct setup s = setup_new();
	struct shale_write_options o = SHALE_WRITE_OPTIONS_INIT;
	struct shale_read_options read = SHALE_READ_OPTIONS_INIT;
	struct shale_batch *b = shale_batch_new();
	uint64_t sequence = 0, there = 0, written = 0;
	size_t which = 99, len, plain;
	char buf[16];

	o.mismatch_out = &which;
	o.mismatch_sequence_out = &there;
	read.sequence_out = &sequence;

	plain = shale_batch_bytes(b);
	ck_ok(shale_batch_require_absent(b, "k", 1));
	ck_assert_uint_gt(shale_batch_bytes(b), plain);
	ck_ok(shale_batch_put(b, "k", 1, "one", 3));
	ck_assert_uint_eq(shale_batch_count(b), 1);
	ck_ok(shale_write(s.db, &o, b, &written));
	ck_assert_int_eq(shale_write(s.db, &o, b, NULL), SHALE_MISMATCH);
	ck_assert_uint_eq(which, 0);
	ck_assert_uint_eq(there, written);
	ck_ok(shale_get(s.db, &read, "k", 1, buf, sizeof(buf), &len));
	ck_assert_uint_eq(sequence, written);

	shale_batch_clear(b);
	ck_assert_uint_eq(shale_batch_bytes(b), plain);
	ck_ok(shale_batch_require_present(b, "k", 1));
	ck_ok(shale_batch_require_value(b, "k", 1, "one", 3));
	ck_ok(shale_batch_require_sequence(b, "k", 1, sequence));
	ck_ok(shale_batch_require_sequence(b, "none", 4, 0)); /* 0: absent */
	ck_ok(shale_batch_put(b, "k", 1, "two", 3));
	ck_ok(shale_write(s.db, &o, b, NULL));
	which = 99;
	ck_assert_int_eq(shale_write(s.db, &o, b, NULL), SHALE_MISMATCH);
	ck_assert_uint_eq(which, 1); /* the first that fails */
	ck_assert_uint_gt(there, sequence);
	expect(s.db, NULL, "k", "two");

	shale_batch_clear(b);
	ck_ok(shale_batch_require_present(b, "none", 4));
	ck_ok(shale_batch_delete(b, "k", 1));
	ck_assert_int_eq(shale_write(s.db, &o, b, NULL), SHALE_MISMATCH);
	ck_assert_uint_eq(there, 0);
	ck_assert_int_eq(shale_write(s.db, NULL, b, NULL), SHALE_MISMATCH); /* outputs are optional */
	ck_assert_str_ne(shale_strerror(SHALE_MISMATCH), "");

	shale_batch_clear(b);
	for (int i = 0; i < 1024; i++)
		ck_ok(shale_batch_require_absent(b, "none", 4));
	ck_assert_int_eq(shale_batch_require_absent(b, "none", 4), -E2BIG);
	shale_batch_free(b);
	setup_free(&s);
}
END_TEST

/* All keys in one answer, in their order, each with its own result; empty sets, empty values, keys twice, snapshots. */
START_TEST(multiget)
{
	struct setup s = setup_new();
	const struct shale_slice keys[] = {{"b", 1}, {"none", 4}, {"a", 1}, {"empty", 5}, {"b", 1}};
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *before;
	struct shale_value v[5];
	void *memory = NULL;
	unsigned requests;

	ck_ok(put(s.db, "a", "alpha"));
	ck_ok(put(s.db, "b", "beta"));
	ck_ok(put(s.db, "empty", ""));
	ck_ok(shale_snapshot_take(s.db, &before));
	requests = atomic_load(&s.fake->requests);
	ck_ok(shale_multiget(s.db, NULL, 5, keys, v, &memory));
	ck_assert_uint_eq(atomic_load(&s.fake->requests), requests + 1);
	ck_assert_str_eq(v[0].data, "beta");
	ck_assert_uint_eq(v[0].size, 4);
	ck_assert_uint_eq(v[0].sequence, 2);
	ck_assert_int_eq(v[1].result, SHALE_NOTFOUND);
	ck_assert_ptr_null(v[1].data);
	ck_assert_str_eq(v[2].data, "alpha");
	ck_assert_int_eq(v[3].result, 0);
	ck_assert_uint_eq(v[3].size, 0);
	ck_assert_ptr_nonnull(v[3].data);
	ck_assert_str_eq(v[4].data, "beta");
	shale_free(memory);
	ck_ok(put(s.db, "b", "newer"));
	o.snapshot = before;
	ck_ok(shale_multiget(s.db, &o, 5, keys, v, &memory));
	ck_assert_str_eq(v[0].data, "beta");
	shale_free(memory);
	ck_ok(shale_multiget(s.db, NULL, 0, NULL, NULL, &memory));
	shale_free(memory);
	shale_snapshot_release(s.db, before);
	setup_free(&s);
}
END_TEST

/* Values that no arena can hold together come in pieces, all of one moment; the pin for that is gone afterwards. */
START_TEST(multiget_in_pieces)
{
	enum { N = 40, SIZE = 300000 };
	struct setup s = setup_new();
	struct shale_slice keys[N];
	struct shale_value v[N];
	static char name[N][16];
	char *value = malloc(SIZE);
	void *memory;

	for (int i = 0; i < N; i++) {
		memset(value, 'a' + i % 26, SIZE);
		snprintf(name[i], sizeof(name[i]), "k%d", i);
		keys[i] = (struct shale_slice){name[i], strlen(name[i])};
		ck_ok(shale_put(s.db, NULL, keys[i].data, keys[i].size, value, SIZE));
	}
	ck_ok(shale_multiget(s.db, NULL, N, keys, v, &memory)); /* 12 MB where 4 are the limit */
	for (int i = 0; i < N; i++) {
		memset(value, 'a' + i % 26, SIZE);
		ck_ok(v[i].result);
		ck_assert_uint_eq(v[i].size, SIZE);
		ck_assert_int_eq(memcmp(v[i].data, value, SIZE), 0);
	}
	shale_free(memory);
	eventually(&s.fake->pins, 0);
	free(value);
	setup_free(&s);
}
END_TEST

static unsigned walk(struct shale_db *db, const char *prefix, size_t prefix_len, const char *lower, const char *upper,
		     bool backwards)
{
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_iter *it;
	unsigned n = 0;
	size_t len;

	o.prefix = prefix;
	o.prefix_len = prefix_len;
	o.lower = lower;
	o.lower_len = lower ? strlen(lower) : 0;
	o.upper = upper;
	o.upper_len = upper ? strlen(upper) : 0;
	ck_ok(shale_iter_open(db, &o, &it));
	for ((backwards ? shale_iter_seek_last : shale_iter_seek_first)(it); shale_iter_valid(it);
	     (backwards ? shale_iter_prev : shale_iter_next)(it), n++) {
		const char *key = shale_iter_key(it, &len);

		ck_assert(len >= prefix_len && memcmp(key, prefix, prefix_len) == 0);
	}
	ck_ok(shale_iter_error(it));
	shale_iter_close(it);
	return n;
}

/* A prefix is a range, whatever its last bytes are; bounds narrow it further, in both directions. */
START_TEST(prefixes)
{
	static const char *const keys[] = {"a", "b", "b/", "b/1", "b/2", "b/3", "b0", "\xff", "\xff\xff", "\xff\xffz"};
	struct setup s = setup_new();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		ck_ok(put(s.db, keys[i], "v"));
	for (int backwards = 0; backwards < 2; backwards++) {
		ck_assert_uint_eq(walk(s.db, "b/", 2, NULL, NULL, backwards), 4);
		ck_assert_uint_eq(walk(s.db, "b", 1, NULL, NULL, backwards), 6);
		ck_assert_uint_eq(walk(s.db, "b/", 2, "b/2", NULL, backwards), 2);
		ck_assert_uint_eq(walk(s.db, "b/", 2, "a", "b/2", backwards), 2);
		ck_assert_uint_eq(walk(s.db, "b/", 2, "c", NULL, backwards), 0);
		ck_assert_uint_eq(walk(s.db, "\xff\xff", 2, NULL, NULL, backwards), 2);
		ck_assert_uint_eq(walk(s.db, "\xff", 1, NULL, NULL, backwards), 3);
		ck_assert_uint_eq(walk(s.db, "c", 1, NULL, NULL, backwards), 0);
		ck_assert_uint_eq(walk(s.db, "", 0, NULL, NULL, backwards), 10);
	}
	setup_free(&s);
}
END_TEST

/* The lease that was asked for reaches the daemon. */
START_TEST(leases)
{
	struct setup s = setup_new();
	struct shale_snapshot_options o = SHALE_SNAPSHOT_OPTIONS_INIT;
	struct shale_snapshot *snapshot;

	o.lease_ms = 1234;
	ck_ok(shale_snapshot_take_with(s.db, &o, &snapshot));
	ck_assert_uint_eq(atomic_load(&s.fake->last_lease), 1234);
	shale_snapshot_release(s.db, snapshot);
	ck_ok(shale_snapshot_take(s.db, &snapshot));
	ck_assert_uint_eq(atomic_load(&s.fake->last_lease), 0);
	shale_snapshot_release(s.db, snapshot);
	setup_free(&s);
}
END_TEST

/* The handle's deadline holds for calls that have none, and not for those that are meant to take long. */
START_TEST(default_deadline)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;
	size_t len;

	o.deadline_us = 20000;
	fake_start(s.fake);
	setup_open(&s, &o);
	ck_ok(put(s.db, "k", "v"));
	atomic_store(&s.fake->mood, MOOD_SWALLOW);
	ck_assert_int_eq(shale_get(s.db, NULL, "k", 1, NULL, 0, &len), -ETIMEDOUT);
	ck_assert_int_eq(put(s.db, "k", "v"), -ETIMEDOUT);
	expect_words(s.db, "20000 us");
	setup_free(&s);
}
END_TEST

/*
 * What the daemon was told, as a moment of our clock: at most what WELCOME took too early, never late. @opening_ns, @asking_ns: before the session was made, and
 * before the call.
 */
static void ck_deadline(const struct setup *s, uint64_t opening_ns, uint64_t asking_ns)
{
	const uint64_t minute_ns = UINT64_C(60000000000), now = monotonic_ns();
	uint64_t told = atomic_load(&s->fake->deadline_ns) - (uint64_t)s->fake->clock_ahead;

	ck_assert_uint_le(told, now + minute_ns);
	ck_assert_uint_ge(told, asking_ns + minute_ns - (s->fake->clock_ahead ? now - opening_ns : 0));
}

/* A daemon in another time namespace is told deadlines in its own clock. */
START_TEST(deadlines_by_the_daemons_clock)
{
	const int64_t ahead[] = {0, INT64_C(3600000000000), -(int64_t)monotonic_ns() / 2};

	for (unsigned i = 0; i < ARRAY_SIZE(ahead); i++) {
		struct setup s = setup_dark();
		struct shale_options o = SHALE_OPTIONS_INIT;
		uint64_t opening_ns = monotonic_ns(), asking_ns;
		struct shale_completion done;
		struct shale_queue *q;

		o.deadline_us = 60000000;
		s.fake->clock_ahead = ahead[i];
		fake_start(s.fake);
		setup_open(&s, &o);
		asking_ns = monotonic_ns();
		ck_ok(put(s.db, "k", "v"));
		ck_deadline(&s, opening_ns, asking_ns);
		ck_ok(shale_queue_open(s.db, NULL, &q));
		asking_ns = monotonic_ns();
		ck_ok(shale_submit_put(q, NULL, "k", 1, "w", 1, NULL));
		ck_assert_int_eq(shale_wait(q, &done, 1, UINT64_MAX), 1);
		ck_ok(done.result);
		ck_deadline(&s, opening_ns, asking_ns);
		shale_queue_close(q);
		setup_free(&s);
	}
}
END_TEST

/* One large value makes the channel grow; after many small calls it is small again, and grows anew when it must. */
START_TEST(grows_and_shrinks)
{
	struct setup s = setup_new();
	char *big = calloc(1, 3 << 20);
	unsigned handshakes;

	ck_ok(put(s.db, "k", "v"));
	handshakes = atomic_load(&s.fake->handshakes);
	ck_ok(shale_put(s.db, NULL, "big", 3, big, 3 << 20));
	ck_assert_uint_eq(atomic_load(&s.fake->handshakes), handshakes + 1);
	for (int i = 0; i < 900; i++)
		ck_ok(put(s.db, "k", "v"));
	ck_assert_uint_eq(atomic_load(&s.fake->handshakes), handshakes + 1);
	for (int i = 0; i < 300; i++)
		ck_ok(put(s.db, "k", "v"));
	ck_assert_uint_eq(atomic_load(&s.fake->handshakes), handshakes + 2);
	ck_ok(shale_put(s.db, NULL, "big", 3, big, 3 << 20));
	ck_assert_uint_eq(atomic_load(&s.fake->handshakes), handshakes + 3);
	free(big);
	setup_free(&s);
}
END_TEST

TEST_MAIN("calls", 60, conditions, multiget, multiget_in_pieces, prefixes, leases, default_deadline,
	  deadlines_by_the_daemons_clock, grows_and_shrinks)
