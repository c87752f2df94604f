#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/base.h"
#include "tests/client/setup.h"
#include "tests/test.h"

enum { UNIVERSE = 400 };

/* Which of the keys k000 … k399 are there, and how long each value is. */
struct model {
	bool there[UNIVERSE];
	unsigned length[UNIVERSE];
	int lower, upper; /* bounds in effect: [lower, upper) */
};

static void key_of(int i, char out[8])
{
	snprintf(out, 8, "k%03u", (unsigned)i % 1000);
}

static void fill(struct shale_db *db, struct model *m, uint64_t *random)
{
	static char value[20000];
	struct shale_batch *b = shale_batch_new();
	char key[8];

	for (int i = 0; i < UNIVERSE; i++) {
		m->there[i] = test_random(random) % 3 != 0;
		/* Now and then a value that fills a first chunk, or does not fit it. */
		m->length[i] = (unsigned)(test_random(random) % 20 ? test_random(random) % 60
								   : test_random(random) % sizeof(value));
		memset(value, i & 0xff, m->length[i]);
		key_of(i, key);
		if (m->there[i])
			ck_ok(shale_batch_put(b, key, 4, value, m->length[i]));
	}
	ck_ok(shale_write(db, NULL, b, NULL));
	shale_batch_free(b);
}

/* The next key that is there from @i on in @step's direction, -1 when there is none in bounds. */
static int walk(const struct model *m, int i, int step)
{
	for (; i >= m->lower && i < m->upper; i += step) {
		if (m->there[i])
			return i;
	}
	return -1;
}

static void check(const struct shale_iter *it, const struct model *m, int at)
{
	const unsigned char *value;
	const char *key;
	char want[8];
	size_t len;

	ck_assert_int_eq(shale_iter_error(it), 0);
	ck_assert_int_eq(shale_iter_valid(it), at >= 0);
	if (at < 0)
		return;
	key_of(at, want);
	key = shale_iter_key(it, &len);
	ck_assert_uint_eq(len, 4);
	ck_assert_msg(memcmp(key, want, 4) == 0, "at %.4s, not %s", key, want);
	value = shale_iter_value(it, &len);
	ck_assert_uint_eq(len, m->length[at]);
	ck_assert(len == 0 || (value[0] == (at & 0xff) && value[len - 1] == (at & 0xff)));
}

/* One random move of iterator and model. */
static int step(struct shale_iter *it, const struct model *m, int at, uint64_t *random)
{
	unsigned move = (unsigned)(test_random(random) % 40);
	char key[8];
	int target;

	if (move == 0) {
		shale_iter_seek_first(it);
		return walk(m, m->lower, 1);
	}
	if (move == 1) {
		shale_iter_seek_last(it);
		return walk(m, m->upper - 1, -1);
	}
	if (move == 2 || at < 0) {
		target = (int)(test_random(random) % (UNIVERSE + 20)) - 10;
		key_of(target < 0 ? 0 : target, key);
		if (target < 0)
			shale_iter_seek(it, "a", 1); /* before all */
		else
			shale_iter_seek(it, key, 4);
		if (target < m->lower)
			target = m->lower;
		return walk(m, target, 1);
	}
	/* Runs in one direction with a change now and then: the way is told by the upper half of the number. */
	if (move < 24) {
		shale_iter_next(it);
		return walk(m, at + 1, 1);
	}
	shale_iter_prev(it);
	return walk(m, at - 1, -1);
}

/* Any walk (seeks, both directions, changes between them, with and without bounds) visits what a sorted array says. */
START_TEST(random_walks_match_a_model)
{
	struct setup s = setup_new();
	struct model m = {.lower = 0, .upper = UNIVERSE};
	uint64_t random = test_seed();
	char lower[8], upper[8];

	fill(s.db, &m, &random);
	for (int round = 0; round < 20; round++) {
		struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
		struct shale_iter *it;
		int at = -1;

		m.lower = round % 2 ? (int)(test_random(&random) % UNIVERSE) : 0;
		m.upper = round % 4 > 1 ? (int)(test_random(&random) % UNIVERSE) : UNIVERSE;
		key_of(m.lower, lower);
		key_of(m.upper, upper);
		o.lower = round % 2 ? lower : NULL;
		o.upper = round % 4 > 1 ? upper : NULL;
		o.lower_len = o.upper_len = 4;
		ck_ok(shale_iter_open(s.db, &o, &it));
		for (int i = 0; i < 300; i++) {
			at = step(it, &m, at, &random);
			check(it, &m, at);
		}
		shale_iter_close(it);
	}
	setup_free(&s);
}
END_TEST

/* A full walk each way sees every entry once, in few chunks, and writes made meanwhile are not seen. */
START_TEST(full_walks_both_ways)
{
	struct setup s = setup_new();
	struct model m = {.lower = 0, .upper = UNIVERSE};
	uint64_t random = test_seed();
	struct shale_iter *it;
	unsigned before;
	int at;

	fill(s.db, &m, &random);
	ck_ok(shale_iter_open(s.db, NULL, &it));
	before = atomic_load(&s.fake->requests);
	shale_iter_seek_first(it);
	for (at = walk(&m, 0, 1); at >= 0; at = walk(&m, at + 1, 1)) {
		check(it, &m, at);
		shale_iter_next(it);
	}
	check(it, &m, -1);
	ck_assert_uint_lt(atomic_load(&s.fake->requests) - before, 40);
	ck_ok(put(s.db, "k9", "later"));
	shale_iter_seek_last(it);
	for (at = walk(&m, UNIVERSE - 1, -1); at >= 0; at = walk(&m, at - 1, -1)) {
		check(it, &m, at);
		ck_ok(shale_ping(s.db)); /* other calls between two moves disturb nothing */
		shale_iter_prev(it);
	}
	check(it, &m, -1);
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 1);
	shale_iter_close(it);
	shale_iter_close(NULL);
	eventually(&s.fake->pins, 0);
	setup_free(&s);
}
END_TEST

/* An iterator over a given snapshot reads that, and does not release it. */
START_TEST(given_snapshot_is_kept)
{
	struct setup s = setup_new();
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *empty, *one;
	struct shale_iter *it;
	size_t len;

	ck_ok(shale_snapshot_take(s.db, &empty));
	ck_ok(put(s.db, "k", "1"));
	ck_ok(shale_snapshot_take(s.db, &one));
	ck_ok(put(s.db, "k", "2"));
	o.snapshot = one;
	ck_ok(shale_iter_open(s.db, &o, &it));
	shale_iter_seek(it, "a", 1);
	ck_assert(shale_iter_valid(it));
	ck_assert_mem_eq(shale_iter_value(it, &len), "1", 1);
	shale_iter_close(it);
	o.snapshot = empty; /* sequence 0: nothing, and not the newest */
	ck_ok(shale_iter_open(s.db, &o, &it));
	shale_iter_seek_last(it);
	ck_assert(!shale_iter_valid(it));
	ck_ok(shale_iter_error(it));
	shale_iter_close(it);
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 2);
	shale_snapshot_release(s.db, one);
	shale_snapshot_release(s.db, empty);
	setup_free(&s);
}
END_TEST

/* An entry larger than the arena is walked over like any other: the channel grows under the iterator. */
START_TEST(entry_larger_than_the_arena)
{
	struct setup s = setup_new();
	size_t size = 1 << 20, len;
	char *value = malloc(size);
	struct shale_db *other;
	struct shale_iter *it;

	memset(value, 'x', size);
	ck_ok(put(s.db, "a", "1"));
	ck_ok(shale_put(s.db, NULL, "b", 1, value, size));
	ck_ok(put(s.db, "c", "3"));
	ck_ok(shale_open(s.path, NULL, &other));
	ck_ok(shale_iter_open(other, NULL, &it));
	shale_iter_seek_first(it);
	shale_iter_next(it);
	ck_assert(shale_iter_valid(it));
	shale_iter_value(it, &len);
	ck_assert_uint_eq(len, size);
	shale_iter_next(it);
	ck_assert(shale_iter_valid(it));
	shale_iter_prev(it);
	shale_iter_prev(it);
	ck_assert_mem_eq(shale_iter_key(it, &len), "a", 1);
	shale_iter_close(it);
	shale_close(other);
	free(value);
	setup_free(&s);
}
END_TEST

enum { AHEAD_KEYS = 3000, AHEAD_VALUE = 200 };

static void fill_for_ahead(struct setup *s)
{
	char key[16], value[AHEAD_VALUE];
	struct shale_batch *b = shale_batch_new();

	for (int i = 0; i < AHEAD_KEYS; i++) {
		snprintf(key, sizeof(key), "k%05d", i);
		memset(value, 'a' + i % 26, sizeof(value));
		ck_ok(shale_batch_put(b, key, strlen(key), value, sizeof(value)));
	}
	ck_ok(shale_write(s->db, NULL, b, NULL));
	shale_batch_free(b);
}

/* A cursor that goes on has its next chunk before it needs it: a daemon that does not answer any more is noticed a whole chunk later. */
START_TEST(next_chunk_comes_ahead)
{
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct setup s = setup_new();
	struct shale_iter *it;
	unsigned requests = 0, steps = 0;

	fill_for_ahead(&s);
	o.deadline_us = 300000;
	ck_ok(shale_iter_open(s.db, &o, &it));
	shale_iter_seek_first(it);
	for (int i = 0; i < 1000; i++)
		shale_iter_next(it);
	for (int i = 0; i < 100 && atomic_load(&s.fake->requests) != requests; i++) {
		requests = atomic_load(&s.fake->requests);
		usleep(50000);
	}
	atomic_store(&s.fake->mood, MOOD_MUTE);
	for (; shale_iter_valid(it); shale_iter_next(it))
		steps++;
	ck_assert_int_eq(shale_iter_error(it), -ETIMEDOUT);
	ck_assert_uint_gt(steps, 130); /* a chunk has about so many entries, a quarter of the arena */
	shale_iter_close(it);
	setup_free(&s);
}
END_TEST

/* Several cursors of one thread, gets, large answers and turns between them: each sees its own entries in order, whoever's chunk came ahead. */
START_TEST(chunks_ahead_of_many_cursors)
{
	enum { CURSORS = 4 };
	struct setup s = setup_new();
	struct shale_iter *it[CURSORS];
	int at[CURSORS];
	uint64_t seed = test_seed();
	char *big = calloc(1, 400000), key[16];

	fill_for_ahead(&s);
	ck_ok(shale_put(s.db, NULL, "zbig", 4, big, 100000));
	for (int i = 0; i < CURSORS; i++) {
		ck_ok(shale_iter_open(s.db, NULL, &it[i]));
		at[i] = -1;
	}
	for (int turn = 0; turn < 400; turn++) {
		uint64_t r = test_random(&seed);
		int i = (int)(r % CURSORS), step = r >> 8 & 7 ? 1 : -1;
		size_t len;

		if (r >> 12 & 15 && at[i] >= 0) {
			for (int n = (int)(r >> 20 & 511); n > 0 && at[i] + step >= 0 && at[i] + step < AHEAD_KEYS;
			     n--) {
				(step > 0 ? shale_iter_next : shale_iter_prev)(it[i]);
				at[i] += step;
			}
		} else {
			at[i] = (int)(r >> 20) % AHEAD_KEYS;
			at[i] = at[i] < 0 ? 0 : at[i];
			snprintf(key, sizeof(key), "k%05d", at[i]);
			shale_iter_seek(it[i], key, strlen(key));
		}
		ck_assert_msg(shale_iter_valid(it[i]), "%d: %s", shale_iter_error(it[i]), shale_last_error(s.db));
		snprintf(key, sizeof(key), "k%05d", at[i]);
		ck_assert_int_eq(memcmp(shale_iter_key(it[i], &len), key, 6), 0);
		ck_assert_int_eq(*(const char *)shale_iter_value(it[i], &len), 'a' + at[i] % 26);
		if (r >> 40 & 1)
			expect(s.db, NULL, "none", NULL);
		if ((r >> 41 & 15) == 0) { /* more than is left beside the chunks */
			ck_ok(shale_get(s.db, NULL, "zbig", 4, big, 400000, &len));
			ck_assert_uint_eq(len, 100000);
		}
	}
	for (int i = 0; i < CURSORS; i++)
		shale_iter_close(it[i]);
	free(big);
	setup_free(&s);
}
END_TEST

TEST_MAIN("iter", 30, random_walks_match_a_model, full_walks_both_ways, given_snapshot_is_kept,
	  entry_larger_than_the_arena, next_chunk_comes_ahead, chunks_ahead_of_many_cursors)
