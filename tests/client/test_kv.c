#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/client/setup.h"
#include "tests/test.h"

/* What was put is read; what was deleted is not; an empty key, an empty value and NUL bytes are as good as any. */
START_TEST(put_get_delete)
{
	struct setup s = setup_new();
	char buf[8];
	size_t len = 99;

	ck_ok(put(s.db, "a", "1"));
	ck_ok(put(s.db, "b", ""));
	ck_ok(put(s.db, "", "empty key"));
	ck_ok(shale_put(s.db, NULL, "x\0y", 3, "\0\0", 2));
	expect(s.db, NULL, "a", "1");
	expect(s.db, NULL, "b", "");
	expect(s.db, NULL, "", "empty key");
	expect(s.db, NULL, "x", NULL);
	ck_ok(shale_get(s.db, NULL, "x\0y", 3, buf, sizeof(buf), &len));
	ck_assert_uint_eq(len, 2);
	ck_ok(shale_delete(s.db, NULL, "a", 1));
	ck_ok(shale_delete(s.db, NULL, "never there", 11));
	expect(s.db, NULL, "a", NULL);
	ck_assert_str_eq(shale_last_error(s.db), ""); /* not found is no failure */
	setup_free(&s);
}
END_TEST

/* A buffer that is too small gets the beginning, and the full length is told; a buffer of 0 asks for the length alone. */
START_TEST(get_cuts_short)
{
	struct setup s = setup_new();
	char buf[4] = "----";
	size_t len = 0;

	ck_ok(put(s.db, "k", "123456"));
	ck_ok(shale_get(s.db, NULL, "k", 1, buf, 3, &len));
	ck_assert_uint_eq(len, 6);
	ck_assert_mem_eq(buf, "123-", 4);
	len = 0;
	ck_ok(shale_get(s.db, NULL, "k", 1, NULL, 0, &len));
	ck_assert_uint_eq(len, 6);
	len = 77;
	ck_assert_int_eq(shale_get(s.db, NULL, "none", 4, buf, 3, &len), SHALE_NOTFOUND);
	ck_assert_uint_eq(len, 77); /* outputs stay untouched */
	setup_free(&s);
}
END_TEST

/* A request or an answer that outgrows the arena gets a larger channel by itself, up to the daemon's limit and no further. */
START_TEST(channel_grows_to_the_limit)
{
	struct setup s = setup_new();
	size_t size = s.fake->max_request - 100, len;
	char *value = malloc(size + 200);
	struct shale_db *other;
	void *got;
	unsigned before;

	memset(value, 'v', size + 200);
	ck_ok(shale_put(s.db, NULL, "big", 3, value, size));
	/* Another handle has a small arena: its answer does not fit at first. */
	ck_ok(shale_open(s.path, NULL, &other));
	ck_ok(shale_get(other, NULL, "big", 3, NULL, 0, &len));
	ck_assert_uint_eq(len, size);
	ck_ok(shale_get_alloc(other, NULL, "big", 3, &got, &len));
	ck_assert_uint_eq(len, size);
	ck_assert_mem_eq(got, value, size);
	shale_free(got);
	shale_close(other);
	/* Past the limit the daemon is not even asked. */
	before = atomic_load(&s.fake->requests);
	ck_assert_int_eq(shale_put(s.db, NULL, "big", 3, value, size + 200), -E2BIG);
	expect_words(s.db, "limits.max_request");
	ck_assert_int_eq(shale_put(s.db, NULL, value, s.fake->max_key + 1, "", 0), -E2BIG);
	expect_words(s.db, "limits.max_key");
	ck_assert_uint_eq(atomic_load(&s.fake->requests), before);
	free(value);
	setup_free(&s);
}
END_TEST

/* A batch applies its writes in order, as one, and may be sent again. */
START_TEST(batch_in_order)
{
	struct setup s = setup_new();
	struct shale_batch *b = shale_batch_new();
	uint64_t sequence = 0;

	ck_assert_ptr_nonnull(b);
	ck_ok(shale_batch_put(b, "a", 1, "1", 1));
	ck_ok(shale_batch_put(b, "b", 1, "1", 1));
	ck_ok(shale_batch_put(b, "a", 1, "2", 1));
	ck_ok(shale_batch_delete(b, "b", 1));
	ck_assert_uint_eq(shale_batch_count(b), 4);
	ck_ok(shale_write(s.db, NULL, b, &sequence));
	ck_assert_uint_eq(sequence, 4);
	expect(s.db, NULL, "a", "2");
	expect(s.db, NULL, "b", NULL);
	ck_ok(shale_write(s.db, NULL, b, &sequence));
	ck_assert_uint_eq(sequence, 8);
	ck_assert_uint_eq(atomic_load(&s.fake->writes), 2);
	shale_batch_clear(b);
	ck_assert_uint_eq(shale_batch_count(b), 0);
	ck_assert_uint_eq(shale_batch_bytes(b), 12);
	shale_batch_free(b);
	shale_batch_free(NULL);
	setup_free(&s);
}
END_TEST

/* A batch of many writes grows, and its size is what the format says. */
START_TEST(batch_grows)
{
	struct setup s = setup_new();
	struct shale_batch *b = shale_batch_new();
	char key[16];

	for (int i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "%08d", i);
		ck_ok(shale_batch_put(b, key, 8, key, 8));
	}
	ck_assert_uint_eq(shale_batch_bytes(b), 12 + 5000 * (1 + 1 + 8 + 1 + 8));
	ck_assert_int_eq(shale_batch_put(b, "k", 1, "", (size_t)UINT32_MAX + 1), -E2BIG);
	ck_ok(shale_write(s.db, NULL, b, NULL));
	expect(s.db, NULL, "00004999", "00004999");
	shale_batch_free(b);
	setup_free(&s);
}
END_TEST

/* A snapshot sees what was there when it was taken and nothing later; the very first state is one, too. */
START_TEST(snapshots_stand_still)
{
	struct setup s = setup_new();
	struct shale_snapshot *nothing, *one;

	ck_ok(shale_snapshot_take(s.db, &nothing));
	ck_ok(put(s.db, "k", "1"));
	ck_ok(shale_snapshot_take(s.db, &one));
	ck_assert_uint_eq(shale_snapshot_sequence(one), 1);
	ck_ok(put(s.db, "k", "2"));
	expect(s.db, nothing, "k", NULL);
	expect(s.db, one, "k", "1");
	expect(s.db, NULL, "k", "2");
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 2);
	shale_snapshot_release(s.db, one);
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 1); /* at once: release waits for the daemon */
	shale_snapshot_release(s.db, nothing);
	shale_snapshot_release(s.db, NULL);
	ck_assert_uint_eq(atomic_load(&s.fake->pins), 0);
	setup_free(&s);
}
END_TEST

/* The calls about the whole database bring the daemon's answers back. */
START_TEST(admin_calls)
{
	struct setup s = setup_new();
	size_t max_key, max_request;
	uint64_t bytes = 0;
	char *text = NULL;

	ck_ok(shale_ping(s.db));
	ck_ok(shale_flush(s.db));
	ck_ok(shale_compact_range(s.db, NULL, 0, "z", 1));
	ck_ok(shale_approximate_size(s.db, "a", 1, "b", 1, &bytes));
	ck_assert_uint_eq(bytes, 4711);
	ck_ok(shale_property(s.db, "leveldb.stats", &text));
	ck_assert_str_eq(text, "all is well\n");
	shale_free(text);
	ck_assert_int_eq(shale_property(s.db, "leveldb.nonsense", &text), SHALE_NOTFOUND);
	shale_limits(s.db, &max_key, &max_request);
	ck_assert_uint_eq(max_key, s.fake->max_key);
	ck_assert_uint_eq(max_request, s.fake->max_request);
	setup_free(&s);
}
END_TEST

/* A read-only handle refuses writes by itself, and tells the daemon so that it would as well. */
START_TEST(read_only_handle)
{
	struct setup s = setup_dark();
	struct shale_options o = SHALE_OPTIONS_INIT;
	unsigned before;

	fake_start(s.fake);
	o.read_only = 1;
	setup_open(&s, &o);
	expect(s.db, NULL, "k", NULL);
	before = atomic_load(&s.fake->requests);
	ck_assert_int_eq(put(s.db, "k", "v"), -EROFS);
	ck_assert_int_eq(shale_delete(s.db, NULL, "k", 1), -EROFS);
	ck_assert_uint_eq(atomic_load(&s.fake->requests), before);
	expect_words(s.db, "read_only");
	setup_free(&s);
}
END_TEST

/* Options of an older or newer caller: missing fields are defaults, unknown ones are refused when they say something. */
START_TEST(options_of_other_releases)
{
	struct setup s = setup_new();
	struct {
		struct shale_write_options known;
		uint64_t unknown;
	} newer = {{.struct_size = sizeof(newer)}, 0};
	struct shale_write_options older = SHALE_WRITE_OPTIONS_INIT;

	ck_ok(shale_put(s.db, &newer.known, "k", 1, "v", 1));
	newer.unknown = 1;
	ck_assert_int_eq(shale_put(s.db, &newer.known, "k", 1, "v", 1), -EINVAL);
	older.struct_size = sizeof(size_t) + sizeof(int);
	older.deadline_us = 1; /* past the end: not looked at */
	ck_ok(shale_put(s.db, &older, "k", 1, "v", 1));
	older.struct_size = 0;
	ck_assert_int_eq(shale_put(s.db, &older, "k", 1, "v", 1), -EINVAL);
	expect_words(s.db, "struct_size");
	older.struct_size = SIZE_MAX / 2; /* never set: nothing of that size is looked through */
	ck_assert_int_eq(shale_put(s.db, &older, "k", 1, "v", 1), -EINVAL);
	expect_words(s.db, "struct_size");
	setup_free(&s);
}
END_TEST

/* A failure that the daemon reports keeps its code, and the words name the call, the socket and a next step. */
START_TEST(daemon_failures_have_words)
{
	struct setup s = setup_new();

	ck_ok(put(s.db, "k", "v"));
	atomic_store(&s.fake->fail_code, -ENOSPC);
	atomic_store(&s.fake->mood, MOOD_FAIL);
	ck_assert_int_eq(put(s.db, "k", "v"), -ENOSPC);
	expect_words(s.db, "put");
	expect_words(s.db, s.path);
	expect_words(s.db, "free space");
	atomic_store(&s.fake->fail_code, -SHALE_ECORRUPT);
	ck_assert_int_eq(shale_get(s.db, NULL, "k", 1, NULL, 0, &(size_t){0}), -SHALE_ECORRUPT);
	expect_words(s.db, "SHALE_ECORRUPT");
	setup_free(&s);
}
END_TEST

TEST_MAIN("kv", 20, put_get_delete, get_cuts_short, channel_grows_to_the_limit, batch_in_order, batch_grows,
	  snapshots_stand_still, admin_calls, read_only_handle, options_of_other_releases, daemon_failures_have_words)
