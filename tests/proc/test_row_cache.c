/*
 * Reads that are answered from shared memory: when they are, that they are never older than what anybody has seen, and what becomes of them when the daemon
 * stops, dies, or takes away the right to read.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;

static uint64_t gets(void)
{
	return proc_stats(&d).gets;
}

static void put_number(struct shale_db *db, const char *key, uint64_t n)
{
	char value[32];

	snprintf(value, sizeof(value), "%llu", (unsigned long long)n);
	proc_put(db, key, value);
}

static uint64_t get_number(struct shale_db *db, const char *key)
{
	const char *value = proc_get(db, key);

	return value ? strtoull(value, NULL, 10) : 0;
}

/* The second read of a key asks nobody, by whichever process; a write makes the next one ask again. The same of a key that is not there. */
START_TEST(asks_once)
{
	const struct shale_read_options plain = SHALE_READ_OPTIONS_INIT;
	struct shale_read_options o = plain;
	struct shale_db *a, *b;
	uint64_t before, sequence = 0, other = 0;
	char buf[16];
	size_t len = 0;

	proc_begin(&d);
	a = proc_open(&d);
	b = proc_open(&d);
	proc_put(a, "k", "one");
	ck_assert_str_eq(proc_get(a, "k"), "one");
	ck_assert_ptr_null(proc_get(b, "none"));
	before = gets();
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_str_eq(proc_get(a, "k"), "one");
		ck_assert_str_eq(proc_get(b, "k"), "one");
		ck_assert_ptr_null(proc_get(b, "none"));
	}
	ck_assert_uint_eq(gets() - before, 0);
	proc_put(b, "k", "two");
	proc_put(b, "none", "some");
	ck_assert_str_eq(proc_get(a, "k"), "two");
	ck_assert_str_eq(proc_get(a, "none"), "some");
	ck_assert_uint_eq(gets() - before, 2);
	ck_assert_int_eq(shale_delete(a, NULL, "k", 1), 0);
	ck_assert_ptr_null(proc_get(b, "k"));
	/* The sequence that conditions want is the entry's, and a short buffer gets a part. */
	proc_put(a, "s", "0123456789");
	o.sequence_out = &sequence;
	ck_assert_int_eq(shale_get(a, &o, "s", 1, buf, 4, &len), 0);
	o.sequence_out = &other;
	ck_assert_int_eq(shale_get(a, &o, "s", 1, buf, 4, &len), 0);
	ck_assert_uint_eq(len, 10);
	ck_assert_uint_ne(sequence, 0);
	ck_assert_uint_eq(sequence, other);
	shale_close(a);
	shale_close(b);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A queue looks there, too: such a get is done when it is submitted. */
START_TEST(queues_look_there)
{
	struct shale_completion done[4];
	struct shale_queue *q;
	struct shale_db *db;
	char buf[2][16] = {{0}};
	uint64_t before;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "k", "v");
	ck_assert_str_eq(proc_get(db, "k"), "v");
	ck_assert_ptr_null(proc_get(db, "none"));
	before = gets();
	ck_assert_int_eq(shale_queue_open(db, NULL, &q), 0);
	ck_assert_int_eq(shale_submit_get(q, NULL, "k", 1, buf[0], sizeof(buf[0]), buf[0]), 0);
	ck_assert_int_eq(shale_submit_get(q, NULL, "none", 4, buf[1], sizeof(buf[1]), buf[1]), 0);
	ck_assert_uint_eq(shale_queue_pending(q), 2);
	ck_assert_int_eq(shale_arm(q), 1);
	ck_assert_int_eq(shale_poll(q, done, 4), 2);
	ck_assert_ptr_eq(done[0].user, buf[0]);
	ck_assert_int_eq(done[0].result, 0);
	ck_assert_uint_eq(done[0].len, 1);
	ck_assert_uint_ne(done[0].sequence, 0);
	ck_assert_int_eq(buf[0][0], 'v');
	ck_assert_int_eq(done[1].result, SHALE_NOTFOUND);
	ck_assert_uint_eq(gets() - before, 0);
	ck_assert_int_eq(shale_submit_put(q, NULL, "k", 1, "w", 1, NULL), 0);
	ck_assert_int_eq(shale_wait(q, done, 4, UINT64_MAX), 1);
	ck_assert_int_eq(shale_submit_get(q, NULL, "k", 1, buf[0], sizeof(buf[0]), NULL), 0);
	ck_assert_int_eq(shale_wait(q, done, 4, UINT64_MAX), 1);
	ck_assert_int_eq(buf[0][0], 'w');
	ck_assert_uint_eq(gets() - before, 1);
	shale_queue_close(q);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A snapshot sees its own state, whatever was read lately. */
START_TEST(snapshots_do_not_look_there)
{
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	struct shale_db *db;
	char buf[16];
	size_t len = 0;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "k", "old");
	ck_assert_int_eq(shale_snapshot_take(db, &snapshot), 0);
	proc_put(db, "k", "new");
	ck_assert_str_eq(proc_get(db, "k"), "new");
	ck_assert_str_eq(proc_get(db, "k"), "new");
	o.snapshot = snapshot;
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(shale_get(db, &o, "k", 1, buf, sizeof(buf), &len), 0);
		ck_assert_uint_eq(len, 3);
		ck_assert_mem_eq(buf, "old", 3);
		ck_assert_str_eq(proc_get(db, "k"), "new");
	}
	shale_snapshot_release(db, snapshot);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A stopped daemon still answers what was read lately; nothing can be newer. */
START_TEST(daemon_is_stopped)
{
	struct shale_db *db;

	proc_begin(&d);
	db = proc_open(&d);
	proc_put(db, "k", "v");
	ck_assert_str_eq(proc_get(db, "k"), "v");
	kill(d.pid, SIGSTOP);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_str_eq(proc_get(db, "k"), "v");
	kill(d.pid, SIGCONT);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* ---- never older than what is known ---- */

enum { KEYS = 8, READERS = 2, RUN_MS = 1500 };

static struct {
	_Atomic uint64_t acknowledged[KEYS], sent[KEYS];
	_Atomic bool stop;
	_Atomic uint64_t reads;
} * shared;

static const char *key_name(unsigned k)
{
	static char name[16];

	snprintf(name, sizeof(name), "key-%u", k);
	return name;
}

/* Overwrites the keys in turn: alone, in batches of pairs, and now and then in one that is larger than can be inserted at once. */
static int write_on(void *arg)
{
	struct shale_batch *b = shale_batch_new();
	struct shale_db *db;

	(void)arg;
	if (!b || shale_open(d.socket, NULL, &db) < 0)
		return 1;
	for (uint64_t n = 1; !atomic_load(&shared->stop); n++) {
		unsigned k = (unsigned)(n % KEYS), pair = (k + 1) % KEYS;
		bool both = n % 3 == 0;
		char value[32];

		snprintf(value, sizeof(value), "%llu", (unsigned long long)n);
		shale_batch_clear(b);
		shale_batch_put(b, key_name(k), strlen(key_name(k)), value, strlen(value));
		if (both)
			shale_batch_put(b, key_name(pair), strlen(key_name(pair)), value, strlen(value));
		for (unsigned i = 0; n % 64 == 0 && i < 3000; i++) {
			char other[32];

			snprintf(other, sizeof(other), "other-%u", i);
			shale_batch_put(b, other, strlen(other), value, strlen(value));
		}
		atomic_store(&shared->sent[k], n);
		if (both)
			atomic_store(&shared->sent[pair], n);
		if (shale_write(db, NULL, b, NULL) < 0)
			return 2;
		atomic_store(&shared->acknowledged[k], n);
		if (both)
			atomic_store(&shared->acknowledged[pair], n);
	}
	shale_batch_free(b);
	shale_close(db);
	return 0;
}

/* What is read is at least what was acknowledged before, at most what was sent, and never goes back, not between two keys of one batch either. */
static int read_on(void *arg)
{
	uint64_t seen[KEYS] = {0};
	struct shale_db *db;

	(void)arg;
	if (shale_open(d.socket, NULL, &db) < 0)
		return 1;
	for (uint64_t i = 0; !atomic_load(&shared->stop); i++) {
		unsigned k = (unsigned)(i % KEYS), pair = (k + 1) % KEYS;
		uint64_t low = atomic_load(&shared->acknowledged[k]), n = get_number(db, key_name(k)), m;

		if (n < low || n < seen[k] || n > atomic_load(&shared->sent[k])) {
			fprintf(stderr, "%s: %llu, but %llu was acknowledged and %llu seen\n", key_name(k),
				(unsigned long long)n, (unsigned long long)low, (unsigned long long)seen[k]);
			return 3;
		}
		seen[k] = n;
		/* A batch of both that wrote k wrote its pair as well; that may be newer by now, not older. */
		m = get_number(db, key_name(pair));
		if (n % 3 == 0 && n % KEYS == k && m < n) {
			fprintf(stderr, "half a batch: %s is %llu, its pair %llu\n", key_name(k), (unsigned long long)n,
				(unsigned long long)m);
			return 4;
		}
		seen[pair] = m > seen[pair] ? m : seen[pair];
		atomic_fetch_add(&shared->reads, 2);
	}
	shale_close(db);
	return 0;
}

/* One writer, several readers, each a process. The cache is as small as may be, the memtable too, so that entries come and go and reads wait for blocks. */
START_TEST(reads_are_linearizable)
{
	pid_t writer, readers[READERS];

	proc_init(&d, NULL, "service.row_cache=64K", "engine.write_buffer=64K", "engine.block_cache=64K", NULL);
	proc_start(&d);
	shared = proc_shared(sizeof(*shared));
	writer = proc_fork(write_on, NULL);
	for (unsigned i = 0; i < READERS; i++)
		readers[i] = proc_fork(read_on, NULL);
	usleep(RUN_MS * 1000);
	atomic_store(&shared->stop, true);
	ck_assert_int_eq(proc_wait(writer), 0);
	for (unsigned i = 0; i < READERS; i++)
		ck_assert_int_eq(proc_wait(readers[i]), 0);
	printf("%llu reads, %llu of them asked the daemon\n", (unsigned long long)atomic_load(&shared->reads),
	       (unsigned long long)gets());
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A client of a killed daemon may not go on with what that one left, once a successor takes writes. */
START_TEST(killed_daemon_leaves_nothing)
{
	struct shale_db *old, *fresh;

	proc_begin(&d);
	old = proc_open(&d);
	for (uint64_t n = 1; n <= 5; n++) {
		put_number(old, "k", 2 * n);
		for (unsigned i = 0; i < 10; i++)
			ck_assert_uint_eq(get_number(old, "k"), 2 * n);
		private_daemon_kill(&d);
		proc_start(&d);
		fresh = proc_open(&d);
		put_number(fresh, "k", 2 * n + 1);
		ck_assert_uint_eq(get_number(old, "k"), 2 * n + 1);
		ck_assert_uint_eq(get_number(fresh, "k"), 2 * n + 1);
		shale_close(fresh);
	}
	shale_close(old);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* The segment has values in it: nobody but its owner may open it by name. */
START_TEST(has_no_name_for_others)
{
	char instance[INSTANCE_LEN + 1], path[80];
	struct stat st;

	proc_init(&d, NULL, "access.mode=0666", NULL);
	proc_start(&d);
	ck_assert_int_eq(private_daemon_instance(&d, instance), 0);
	snprintf(path, sizeof(path), "/dev/shm/shale.%s.rows", instance);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A reload that changes who may read: those who still may go on, with another cache; the former one holds nothing any more. */
START_TEST(access_changes)
{
	char setting[400], config[300];
	struct shale_db *db;
	uint64_t before;
	FILE *f;

	proc_init(&d, NULL, NULL);
	snprintf(config, sizeof(config), "%s/conf", d.scratch);
	f = fopen(config, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	snprintf(setting, sizeof(setting), "%s", config);
	private_daemon_arg(&d, "--config");
	private_daemon_arg(&d, setting);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "k", "v");
	ck_assert_str_eq(proc_get(db, "k"), "v");
	f = fopen(config, "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "[access]\nuids = %u\n", (unsigned)geteuid());
	fclose(f);
	kill(d.pid, SIGHUP);
	/* It is asked once more, by a new session with a new cache, which then answers. */
	before = gets();
	for (unsigned ms = 0; gets() == before; ms++) {
		ck_assert_msg(ms < 60000, "the cache was not replaced: %s", proc_log_tail(&d));
		ck_assert_str_eq(proc_get(db, "k"), "v");
		usleep(1000);
	}
	before = gets();
	for (unsigned i = 0; i < 100; i++)
		ck_assert_str_eq(proc_get(db, "k"), "v");
	ck_assert_uint_eq(gets() - before, 0);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("row_cache", 60 * PATIENCE, asks_once, queues_look_there, snapshots_do_not_look_there, daemon_is_stopped,
	  reads_are_linearizable, killed_daemon_leaves_nothing, has_no_name_for_others, access_changes)
