#include "engine/memtable.h"
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "shm/error.h"

enum { MODEL_MAX = 20000 };

/* One entry of the model, sorted as internal keys are. */
struct entry {
	struct slice key;
	struct slice value;
	unsigned char bytes[64];
};

static struct entry model[MODEL_MAX];
static struct entry *order[MODEL_MAX];

static int by_key(const void *a, const void *b)
{
	return ikey_compare((*(struct entry *const *)a)->key, (*(struct entry *const *)b)->key);
}

/* Few distinct bytes and lengths 0..12, so that prefixes, equal keys and zero bytes are common. */
static size_t random_key(uint64_t *seed, unsigned char *buf)
{
	size_t n = test_random(seed) % 13;

	for (size_t i = 0; i < n; i++)
		buf[i] = (unsigned char)((test_random(seed) % 3) * 0x7f);
	return n;
}

static struct memtable *fill_random(uint64_t *seed, unsigned count)
{
	struct memtable *m;

	ck_ok(memtable_new(&memory_provider_anonymous, 4 << 20, 7, &m));
	for (unsigned i = 0; i < count; i++) {
		struct entry *e = &model[i];
		unsigned char user[16];
		size_t n = random_key(seed, user);
		unsigned type = test_random(seed) % 4 ? IKEY_VALUE : IKEY_DELETION;

		e->key = ikey_make(e->bytes, slice_of(user, n), i + 1, type);
		e->value = slice_of(e->bytes + e->key.size, type == IKEY_VALUE ? test_random(seed) % 20 : 0);
		memset(e->bytes + e->key.size, (int)i, e->value.size);
		order[i] = e;
		memtable_add(m, i + 1, type, slice_of(user, n), e->value);
	}
	qsort(order, count, sizeof(order[0]), by_key);
	return m;
}

static void check_at(const struct iter *it, unsigned i, unsigned count)
{
	ck_assert_int_eq(it->valid, i < count);
	ck_assert_int_eq(it->status, 0);
	if (i < count) {
		ck_assert(slice_equal(it->key, order[i]->key));
		ck_assert(slice_equal(it->value, order[i]->value));
	}
}

/* Any order of inserts, walked both ways and sought anywhere, is the sorted model. */
START_TEST(iterator_equals_model)
{
	enum { N = 3000 };
	uint64_t seed = test_seed();
	struct memtable *m = fill_random(&seed, N);
	struct iter *it;

	ck_ok(memtable_check(m));
	ck_assert_uint_eq(memtable_entries(m), N);
	ck_assert_uint_eq(memtable_log_number(m), 7);
	ck_ok(memtable_iter_new(m, &it));
	ck_assert(!it->valid);
	memtable_unref(m); /* the iterator keeps it */
	iter_seek_first(it);
	for (unsigned i = 0; i <= N; i++) {
		check_at(it, i, N);
		if (i < N)
			iter_next(it);
	}
	iter_seek_last(it);
	for (unsigned i = N; i-- > 0;) {
		check_at(it, i, N);
		iter_prev(it);
	}
	ck_assert(!it->valid);
	for (unsigned probe = 0; probe < 2000; probe++) {
		unsigned char user[16], buf[32];
		struct slice key;
		unsigned i = 0;

		key = ikey_make(buf, slice_of(user, random_key(&seed, user)), test_random(&seed) % N, IKEY_VALUE);
		while (i < N && ikey_compare(order[i]->key, key) < 0)
			i++;
		iter_seek(it, key);
		check_at(it, i, N);
	}
	iter_free(it);
}
END_TEST

/* A get at any sequence sees the newest entry at or below it; tombstones and absence are different answers. */
START_TEST(get_equals_model)
{
	enum { N = 3000 };
	uint64_t seed = test_seed();
	struct memtable *m = fill_random(&seed, N);
	unsigned answers[4] = {0};

	for (unsigned probe = 0; probe < 5000; probe++) {
		uint64_t at = test_random(&seed) % (N + 2);
		struct slice value = slice_of("untouched", 9), expect = value;
		int rc, want = MEMTABLE_ABSENT;
		unsigned char user[16];
		struct slice key = slice_of(user, random_key(&seed, user));

		for (unsigned i = 0; i < N && i < at; i++) {
			if (!slice_equal(ikey_user(model[i].key), key))
				continue;
			want = ikey_kind(model[i].key) == IKEY_VALUE ? 0 : SHALE_NOTFOUND;
			expect = want ? slice_of("untouched", 9) : model[i].value;
		}
		rc = memtable_get(m, key, at, &value, NULL);
		ck_assert_int_eq(rc, want);
		ck_assert(slice_equal(value, expect));
		answers[rc]++;
	}
	ck_assert(answers[0] && answers[SHALE_NOTFOUND] && answers[MEMTABLE_ABSENT]);
	memtable_unref(m);
}
END_TEST

/* Ascending, descending and interleaved runs: the short cut for ascending keys must notice when it does not apply. */
START_TEST(runs_of_keys)
{
	enum { N = 4000 };
	struct memtable *m;
	struct iter *it;
	unsigned seen = 0;

	ck_ok(memtable_new(&memory_provider_anonymous, 1 << 20, 1, &m));
	for (unsigned i = 0; i < N; i++) {
		/* Two ascending runs turn about, then a descending one between their keys. */
		unsigned v = i < N / 2 ? (i / 16 % 2) * 100000 + i * 2 : 2 * N - i * 2 + 1;
		char user[16];

		snprintf(user, sizeof(user), "%08u", v);
		memtable_add(m, i + 1, IKEY_VALUE, slice_of(user, 8), slice_of(user, 8));
	}
	ck_ok(memtable_check(m));
	ck_ok(memtable_iter_new(m, &it));
	for (iter_seek_first(it); it->valid; seen++) {
		unsigned char last[16];

		memcpy(last, it->key.data, it->key.size);
		iter_next(it);
		if (it->valid)
			ck_assert_int_lt(ikey_compare(slice_of(last, 16), it->key), 0);
	}
	ck_assert_uint_eq(seen, N);
	/* A search finds each key, and prev the one before it. */
	for (iter_seek_last(it); it->valid; seen--) {
		struct slice value, user = ikey_user(it->key);
		unsigned char last[16];

		ck_assert_int_eq(memtable_get(m, user, N, &value, NULL), 0);
		ck_assert(slice_equal(value, user));
		memcpy(last, it->key.data, it->key.size);
		iter_seek(it, slice_of(last, 16));
		ck_assert(it->valid && slice_equal(it->key, slice_of(last, 16)));
		iter_prev(it);
		if (it->valid)
			ck_assert_int_lt(ikey_compare(it->key, slice_of(last, 16)), 0);
	}
	ck_assert_uint_eq(seen, 0);
	iter_free(it);
	memtable_unref(m);
}
END_TEST

/* What memtable_space promises is enough for as many entries, however small or uneven, and has_room never lies. */
START_TEST(room_is_sure)
{
	static const struct {
		uint32_t count;
		size_t key, value;
	} cases[] = {{1, 0, 0},	      {1000, 0, 0},   {5000, 1, 0},  {3000, 3, 1},
		     {1, 9, 3000000}, {200, 5000, 1}, {100000, 4, 4}};

	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		size_t keys = cases[c].count * cases[c].key, values = cases[c].count * cases[c].value;
		unsigned char *bytes = calloc(1, max_size(cases[c].key, cases[c].value) + 4);
		uint32_t more = 0;
		struct memtable *m;

		ck_ok(memtable_new(&memory_provider_anonymous, memtable_space(cases[c].count, keys, values), c, &m));
		ck_assert(memtable_has_room(m, cases[c].count, keys, values));
		for (uint32_t i = 0; i < cases[c].count; i++)
			memtable_add(m, i + 1, IKEY_VALUE, slice_of(bytes, cases[c].key),
				     slice_of(bytes, cases[c].value));
		while (memtable_has_room(m, 1, cases[c].key, cases[c].value))
			memtable_add(m, cases[c].count + ++more, IKEY_VALUE, slice_of(bytes, cases[c].key),
				     slice_of(bytes, cases[c].value));
		ck_assert_uint_le(memtable_used(m), memtable_capacity(m));
		ck_assert_uint_eq(memtable_entries(m), cases[c].count + more);
		memtable_unref(m);
		free(bytes);
	}
}
END_TEST

static void *map_none(struct memory_provider *p, size_t size)
{
	(void)p, (void)size;
	return NULL;
}

/* No memory is an answer. */
START_TEST(no_memory)
{
	struct memory_provider none = {.map = map_none};
	struct memtable *m = NULL;

	ck_assert_int_eq(memtable_new(&none, 1 << 20, 1, &m), -ENOMEM);
	ck_assert_ptr_null(m);
	memtable_unref(NULL);
}
END_TEST

struct race {
	struct memtable *m;
	_Atomic uint64_t last_sequence;
};

enum { RACE_N = 30000 };

static unsigned race_key(uint64_t sequence)
{
	return (unsigned)(sequence * 7919 % 10007);
}

static struct slice race_slice(char buf[16], unsigned key)
{
	snprintf(buf, 16, "%08u", key);
	return slice_of(buf, 8);
}

/* A reader sees all that was published before it looked, whole, and in order. */
static void *race_reader(void *context)
{
	struct race *r = context;
	uint64_t at, seed = 77, got;
	char buf[16];

	do {
		struct slice value;
		struct iter *it;
		unsigned steps = 0;

		/* Pairs with the writer's release. */
		at = atomic_load_explicit(&r->last_sequence, memory_order_acquire);
		if (at) {
			uint64_t s = 1 + test_random(&seed) % at;

			ck_assert_int_eq(memtable_get(r->m, race_slice(buf, race_key(s)), s, &value, NULL), 0);
			memcpy(&got, value.data, 8);
			ck_assert_uint_eq(got, s);
		}
		ck_ok(memtable_iter_new(r->m, &it));
		for (iter_seek(it, ikey_make((unsigned char[32]){0}, race_slice(buf, race_key(at)), at, IKEY_VALUE));
		     it->valid && steps < 10; steps++) {
			memcpy(&got, it->value.data, 8);
			ck_assert_uint_eq(got, ikey_sequence(it->key));
			iter_next(it);
		}
		iter_free(it);
	} while (at < RACE_N);
	memtable_unref(r->m);
	return NULL;
}

START_TEST(readers_beside_a_writer)
{
	struct race r = {0};
	pthread_t threads[2];
	char buf[16];

	ck_ok(memtable_new(&memory_provider_anonymous, 8 << 20, 1, &r.m));
	for (int i = 0; i < 2; i++) {
		memtable_ref(r.m);
		ck_assert_int_eq(pthread_create(&threads[i], NULL, race_reader, &r), 0);
	}
	for (uint64_t s = 1; s <= RACE_N; s++) {
		memtable_add(r.m, s, IKEY_VALUE, race_slice(buf, race_key(s)), slice_of(&s, 8));
		/* Release: the entry before its sequence. Pairs with the readers' acquire. */
		atomic_store_explicit(&r.last_sequence, s, memory_order_release);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	memtable_unref(r.m);
}
END_TEST

TEST_MAIN("memtable", 30, iterator_equals_model, get_equals_model, runs_of_keys, room_is_sure, no_memory,
	  readers_beside_a_writer)
