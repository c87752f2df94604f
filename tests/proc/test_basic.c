#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static struct shale_db *db;

static void begin(void)
{
	proc_init(&d, NULL, "engine.write_buffer=256K", "engine.level1_size=1M", NULL);
	proc_start(&d);
	db = proc_open(&d);
}

static void end(void)
{
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}

/* What was put is there, what was overwritten is new, what was deleted is gone; an empty value is a value. */
START_TEST(put_get_delete)
{
	size_t len = 99;
	char buf[4];

	begin();
	ck_assert_ptr_null(proc_get(db, "a"));
	proc_put(db, "a", "one");
	proc_put(db, "b", "");
	ck_assert_str_eq(proc_get(db, "a"), "one");
	ck_assert_str_eq(proc_get(db, "b"), "");
	proc_put(db, "a", "another");
	ck_assert_str_eq(proc_get(db, "a"), "another");
	ck_ok(shale_get(db, NULL, "a", 1, buf, sizeof(buf), &len));
	ck_assert_uint_eq(len, 7); /* cut short, and said so */
	ck_assert_mem_eq(buf, "anot", 4);
	ck_ok(shale_delete(db, NULL, "a", 1));
	ck_ok(shale_delete(db, NULL, "never there", 11));
	ck_assert_ptr_null(proc_get(db, "a"));
	ck_ok(shale_put(db, NULL, "\0\xff", 2, "\0", 1));
	ck_ok(shale_get(db, NULL, "\0\xff", 2, buf, sizeof(buf), &len));
	ck_assert_uint_eq(len, 1);
	end();
}
END_TEST

/* Values larger than the channel's arena come and go whole: the library opens a larger channel by itself. */
START_TEST(large_values)
{
	size_t size = 5 << 20, len;
	unsigned char *big = malloc(size);
	void *back;

	for (size_t i = 0; i < size; i++)
		big[i] = (unsigned char)(i * 2654435761u >> 13);
	begin();
	ck_ok(shale_put(db, NULL, "big", 3, big, size));
	ck_ok(shale_get_alloc(db, NULL, "big", 3, &back, &len));
	ck_assert_uint_eq(len, size);
	ck_assert_int_eq(memcmp(back, big, size), 0);
	shale_free(back);
	ck_ok(shale_flush(db));
	ck_ok(shale_get_alloc(db, NULL, "big", 3, &back, &len));
	ck_assert_int_eq(memcmp(back, big, size), 0);
	shale_free(back);
	free(big);
	end();
}
END_TEST

/* A batch is applied in its order, as a whole, and tells its last sequence number. */
START_TEST(batches)
{
	struct shale_batch *batch = shale_batch_new();
	uint64_t first, second;

	begin();
	ck_ok(shale_batch_put(batch, "x", 1, "1", 1));
	ck_ok(shale_batch_put(batch, "y", 1, "2", 1));
	ck_ok(shale_batch_delete(batch, "x", 1));
	ck_assert_uint_eq(shale_batch_count(batch), 3);
	ck_ok(shale_write(db, NULL, batch, &first));
	ck_assert_ptr_null(proc_get(db, "x"));
	ck_assert_str_eq(proc_get(db, "y"), "2");
	ck_ok(shale_write(db, NULL, batch, &second));
	ck_assert_uint_eq(second, first + 3);
	shale_batch_clear(batch);
	ck_ok(shale_write(db, NULL, batch, NULL)); /* an empty one is no error */
	shale_batch_free(batch);
	end();
}
END_TEST

static void check_at(struct shale_iter *it, int n)
{
	char key[16];
	const void *p;
	size_t len;

	ck_assert_msg(shale_iter_valid(it), "no entry where %d should be: %s", n, shale_strerror(shale_iter_error(it)));
	snprintf(key, sizeof(key), "k%06d", n);
	p = shale_iter_key(it, &len);
	ck_assert_msg(len == 7 && memcmp(p, key, 7) == 0, "%.*s instead of %s", (int)len, (const char *)p, key);
	p = shale_iter_value(it, &len);
	ck_assert_uint_eq(len, 7 + (size_t)n % 50);
	ck_assert_mem_eq(p, key, 7);
}

static void fill(int n, int step)
{
	struct shale_batch *batch = shale_batch_new();
	char key[16], value[64] = {0};

	for (int i = 0; i < n; i += step) {
		snprintf(key, sizeof(key), "k%06d", i);
		memcpy(value, key, 7);
		ck_ok(shale_batch_put(batch, key, 7, value, 7 + (size_t)i % 50));
		if (shale_batch_count(batch) == 100 || i + step >= n) {
			ck_ok(shale_write(db, NULL, batch, NULL));
			shale_batch_clear(batch);
		}
	}
	shale_batch_free(batch);
}

/* Cursors walk both ways over memtable and tables, many chunks long, turn anywhere, and keep to their bounds. */
START_TEST(iterators)
{
	struct shale_read_options bounds = SHALE_READ_OPTIONS_INIT;
	const int n = 30000;
	struct shale_iter *it;

	begin();
	fill(n, 2);
	ck_ok(shale_flush(db));
	fill(n, 3); /* half of them over the tables' */
	ck_ok(shale_iter_open(db, NULL, &it));
	ck_assert(!shale_iter_valid(it));
	shale_iter_seek_first(it);
	for (int i = 0; i < n; i++)
		if (i % 2 == 0 || i % 3 == 0) {
			check_at(it, i);
			shale_iter_next(it);
		}
	ck_assert(!shale_iter_valid(it));
	ck_ok(shale_iter_error(it));
	shale_iter_seek_last(it);
	for (int i = n - 1; i >= 0; i--)
		if (i % 2 == 0 || i % 3 == 0) {
			check_at(it, i);
			shale_iter_prev(it);
		}
	ck_assert(!shale_iter_valid(it));
	shale_iter_seek(it, "k012345", 7); /* 3 divides it */
	check_at(it, 12345);
	shale_iter_next(it);
	check_at(it, 12346);
	shale_iter_prev(it);
	check_at(it, 12345);
	shale_iter_prev(it);
	check_at(it, 12344);
	shale_iter_next(it);
	check_at(it, 12345);
	shale_iter_seek(it, "z", 1);
	ck_assert(!shale_iter_valid(it));
	shale_iter_close(it);

	bounds.lower = "k000010", bounds.lower_len = 7;
	bounds.upper = "k000020", bounds.upper_len = 7;
	ck_ok(shale_iter_open(db, &bounds, &it));
	shale_iter_seek_first(it);
	check_at(it, 10);
	shale_iter_seek_last(it);
	check_at(it, 18);
	shale_iter_next(it);
	ck_assert(!shale_iter_valid(it));
	shale_iter_seek(it, "a", 1);
	check_at(it, 10);
	shale_iter_prev(it);
	ck_assert(!shale_iter_valid(it));
	shale_iter_close(it);
	end();
}
END_TEST

/* A snapshot and an open cursor see the state of their making, whatever is written, flushed and compacted since. */
START_TEST(snapshots)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	struct shale_iter *it;
	char buf[64];
	size_t len;

	begin();
	fill(2000, 1);
	ck_ok(shale_snapshot_take(db, &snapshot));
	options.snapshot = snapshot;
	ck_ok(shale_iter_open(db, &options, &it));
	for (int i = 0; i < 2000; i += 2) {
		snprintf(buf, sizeof(buf), "k%06d", i);
		ck_ok(shale_delete(db, NULL, buf, 7));
	}
	proc_put(db, "k000001", "new");
	proc_put(db, "k9", "new");
	ck_ok(shale_flush(db));
	ck_ok(shale_compact_range(db, NULL, 0, NULL, 0));
	ck_ok(shale_get(db, &options, "k000000", 7, buf, sizeof(buf), &len));
	ck_ok(shale_get(db, &options, "k000001", 7, buf, sizeof(buf), &len));
	ck_assert_uint_eq(len, 8);
	ck_assert_int_eq(shale_get(db, &options, "k9", 2, buf, sizeof(buf), &len), SHALE_NOTFOUND);
	shale_iter_seek_first(it);
	for (int i = 0; i < 2000; i++, shale_iter_next(it))
		check_at(it, i);
	ck_assert(!shale_iter_valid(it));
	shale_iter_close(it);
	ck_assert_ptr_null(proc_get(db, "k000000"));
	ck_assert_str_eq(proc_get(db, "k000001"), "new");
	shale_snapshot_release(db, snapshot);
	end();
}
END_TEST

struct thread_arg {
	unsigned number;
	int rc;
};

static void *thread_work(void *p)
{
	struct thread_arg *arg = p;
	char key[32], buf[32];
	size_t len;

	for (unsigned i = 0; i < 2000 && arg->rc == 0; i++) {
		int n = snprintf(key, sizeof(key), "t%u-%u", arg->number, i);

		arg->rc = shale_put(db, NULL, key, (size_t)n, key, (size_t)n);
		if (arg->rc == 0)
			arg->rc = shale_get(db, NULL, key, (size_t)n, buf, sizeof(buf), &len);
		if (arg->rc == 0 && (len != (size_t)n || memcmp(buf, key, len) != 0))
			arg->rc = -EBADMSG;
	}
	return NULL;
}

/* One handle serves many threads at once, each reads its own writes, and their channels go when they end. */
START_TEST(many_threads)
{
	struct thread_arg args[6] = {0};
	pthread_t threads[6];
	uint64_t before;

	begin();
	proc_put(db, "first", "one");
	before = proc_stats(&d).sessions;
	for (unsigned i = 0; i < 6; i++) {
		args[i].number = i;
		ck_ok(pthread_create(&threads[i], NULL, thread_work, &args[i]));
	}
	for (unsigned i = 0; i < 6; i++) {
		pthread_join(threads[i], NULL);
		ck_ok(args[i].rc);
	}
	proc_put(db, "last", "one");
	for (int i = 0; proc_stats(&d).sessions > before; i++, usleep(10000))
		ck_assert_int_lt(i, 200 * PATIENCE);
	end();
}
END_TEST

/* The handle of a parent says so in the child, and goes on in the parent. */
static int forked(void *arg)
{
	struct shale_db *own;
	size_t len;
	char buf[8];

	(void)arg;
	if (shale_get(db, NULL, "a", 1, buf, sizeof(buf), &len) != -SHALE_EFORKED)
		return 1;
	if (shale_open(d.socket, NULL, &own) < 0 || shale_get(own, NULL, "a", 1, buf, sizeof(buf), &len) != 0)
		return 2;
	shale_close(own);
	return 0;
}

START_TEST(fork_is_noticed)
{
	begin();
	proc_put(db, "a", "1");
	ck_assert_int_eq(proc_wait(proc_fork(forked, NULL)), 0);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	end();
}
END_TEST

/* A read-only handle reads and does not write. */
START_TEST(read_only_handle)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *reader;

	begin();
	proc_put(db, "a", "1");
	options.read_only = 1;
	ck_ok(shale_open(d.socket, &options, &reader));
	ck_assert_str_eq(proc_get(reader, "a"), "1");
	ck_assert_int_eq(shale_put(reader, NULL, "a", 1, "2", 1), -EROFS);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	shale_close(reader);
	end();
}
END_TEST

/* Properties and sizes answer as LevelDB's do; a name that is not known is an answer, too. */
START_TEST(properties_and_sizes)
{
	uint64_t bytes = 0;
	char *text;

	begin();
	fill(20000, 1);
	ck_ok(shale_flush(db));
	ck_ok(shale_property(db, "leveldb.stats", &text));
	ck_assert_ptr_nonnull(strstr(text, "Level"));
	shale_free(text);
	ck_assert_int_eq(shale_property(db, "leveldb.nothing", &text), SHALE_NOTFOUND);
	ck_ok(shale_approximate_size(db, "k", 1, "l", 1, &bytes));
	ck_assert_uint_gt(bytes, 10000);
	ck_ok(shale_approximate_size(db, "x", 1, "z", 1, &bytes));
	ck_assert_uint_eq(bytes, 0);
	ck_ok(shale_ping(db));
	end();
}
END_TEST

TEST_MAIN("basic", 60 * PATIENCE, put_get_delete, large_values, batches, iterators, snapshots, many_threads,
	  fork_is_noticed, read_only_handle, properties_and_sizes)
