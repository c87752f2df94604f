/*
 * The daemon is killed with SIGKILL at random moments, under load from several writer processes. What must hold after
 * every restart: each acknowledged batch is there, synced or not; each batch whose fate is not known is there as a
 * whole or not at all; a reader sees no half of one at any time.
 *
 * Batch n of a writer puts PER_BATCH keys "w<writer>-<slot>-<i>" with value "n", where slot = n % SLOTS: so keys are
 * overwritten, deleted (every 5th batch) and compacted, and a lost or half batch shows as an old or uneven value.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum { WRITERS = 3, PER_BATCH = 8, SLOTS = 400, KILLS = 24 };

/* One slot of one writer, written by it alone. */
struct slot {
	_Atomic uint64_t acknowledged; /* number of the newest acknowledged batch; 0: none */
	_Atomic uint64_t sent;	       /* of the newest one sent */
};

struct journal {
	_Atomic uint32_t stop, failed;
	_Atomic uint64_t unknown, batches;
	struct slot slots[WRITERS][SLOTS];
};

struct writer {
	struct journal *j;
	unsigned number;
	const char *socket;
	uint64_t seed;
};

static struct private_daemon d;

static int key_of(char *buf, unsigned writer, unsigned slot, unsigned i)
{
	return sprintf(buf, "w%u-%04u-%u", writer, slot, i);
}

static bool deletes(uint64_t n)
{
	return n % 5 == 0;
}

static void make_batch(struct shale_batch *batch, unsigned writer, uint64_t n)
{
	char key[32], value[200] = {0};

	shale_batch_clear(batch);
	sprintf(value, "%llu", (unsigned long long)n);
	for (unsigned i = 0; i < PER_BATCH; i++) {
		size_t len = (size_t)key_of(key, writer, (unsigned)(n % SLOTS), i);

		if (deletes(n))
			shale_batch_delete(batch, key, len);
		else
			shale_batch_put(batch, key, len, value, sizeof(value));
	}
}

static int write_until_stopped(void *arg)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	struct shale_batch *batch = shale_batch_new();
	struct writer *w = arg;
	struct shale_db *db;
	int rc = shale_open(w->socket, NULL, &db);

	for (uint64_t n = 1; rc == 0 && !atomic_load(&w->j->stop); n++) {
		struct slot *s = &w->j->slots[w->number][n % SLOTS];

		make_batch(batch, w->number, n);
		options.sync = test_random(&w->seed) % 32 == 0;
		atomic_store(&s->sent, n);
		rc = shale_write(db, &options, batch, NULL);
		if (rc == 0)
			atomic_store(&s->acknowledged, n);
		if (rc == -SHALE_EUNKNOWN) {
			atomic_fetch_add(&w->j->unknown, 1);
			rc = 0;
		}
		atomic_fetch_add(&w->j->batches, 1);
	}
	if (rc < 0) {
		fprintf(stderr, "writer %u: %s\n", w->number, shale_last_error(db));
		atomic_store(&w->j->failed, 1);
	}
	shale_batch_free(batch);
	shale_close(db);
	return rc < 0;
}

/* What one slot holds at a snapshot: the batch's number, or 0 when all its keys are deleted. Fails when it is uneven. */
static uint64_t read_slot(struct shale_db *db, const struct shale_read_options *options, unsigned writer, unsigned slot)
{
	unsigned long long first = 0, n;
	char key[32], buf[256];
	size_t len;

	for (unsigned i = 0; i < PER_BATCH; i++) {
		int kn = key_of(key, writer, slot, i),
		    rc = shale_get(db, options, key, (size_t)kn, buf, sizeof(buf) - 1, &len);

		ck_assert_msg(rc >= 0, "get %s: %s", key, shale_last_error(db));
		n = 0;
		if (rc == 0) {
			ck_assert_uint_eq(len, 200);
			n = strtoull(buf, NULL, 10);
		}
		if (i == 0)
			first = n;
		ck_assert_msg(n == first, "half a batch: %s is of batch %llu, its first key of %llu", key, n, first);
	}
	return first;
}

/* Holds every slot (or one in @step) against the journal. */
static void check(struct shale_db *db, struct journal *j, unsigned step)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snapshot;
	uint64_t before[WRITERS][SLOTS];

	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned s = 0; s < SLOTS; s++)
			before[w][s] = atomic_load(&j->slots[w][s].acknowledged);
	ck_ok(shale_snapshot_take(db, &snapshot));
	options.snapshot = snapshot;
	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned s = 0; s < SLOTS; s += step) {
			uint64_t n = read_slot(db, &options, w, s), sent = atomic_load(&j->slots[w][s].sent);

			if (n == 0) /* deleted, or never written */
				ck_assert_msg(before[w][s] == 0 || deletes(before[w][s]) || sent > before[w][s],
					      "writer %u slot %u: batch %llu was acknowledged and is gone", w, s,
					      (unsigned long long)before[w][s]);
			else
				ck_assert_msg(n >= before[w][s] && n <= sent,
					      "writer %u slot %u: batch %llu, but %llu was acknowledged and %llu sent",
					      w, s, (unsigned long long)n, (unsigned long long)before[w][s],
					      (unsigned long long)sent);
		}
	shale_snapshot_release(db, snapshot);
}

/* At least 20 times: kill, restart, look. */
START_TEST(nothing_acknowledged_is_lost)
{
	struct journal *j = proc_shared(sizeof(*j));
	struct writer writers[WRITERS];
	uint64_t seed = test_seed();
	double worst = 0, sum = 0;
	pid_t pids[WRITERS];
	struct shale_db *db;

	proc_init(&d, NULL, "engine.write_buffer=256K", "engine.level1_size=512K", "engine.max_file_size=128K",
		  "wal.ring=1M", "limits.max_request=128K", NULL);
	proc_start(&d);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){j, i, d.socket, seed + i + 1};
		pids[i] = proc_fork(write_until_stopped, &writers[i]);
	}
	for (unsigned kill = 0; kill < KILLS; kill++) {
		double ms;

		usleep((useconds_t)(test_random(&seed) % 150000));
		private_daemon_kill(&d);
		ms = proc_start(&d);
		sum += ms;
		if (ms > worst)
			worst = ms;
		ck_assert(!atomic_load(&j->failed));
		db = proc_open(&d);
		check(db, j, 16);
		shale_close(db);
	}
	atomic_store(&j->stop, 1);
	for (unsigned i = 0; i < WRITERS; i++)
		ck_assert_int_eq(proc_wait(pids[i]), 0);
	private_daemon_kill(&d); /* once more, with everything at rest */
	proc_start(&d);
	db = proc_open(&d);
	check(db, j, 1);
	shale_close(db);
	printf("%u kills, %llu batches, %llu of unknown fate; restart %.0f ms on average, %.0f ms at worst\n",
	       KILLS + 1, (unsigned long long)atomic_load(&j->batches), (unsigned long long)atomic_load(&j->unknown),
	       sum / KILLS, worst);
	ck_assert_uint_gt(atomic_load(&j->batches), KILLS * 10);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Killed again while it recovers: recovery must be repeatable at any point. */
START_TEST(killed_while_recovering)
{
	struct journal *j = proc_shared(sizeof(*j));
	struct writer writer;
	uint64_t seed = test_seed();
	struct err_info err;
	struct shale_db *db;
	pid_t pid;

	proc_init(&d, NULL, "engine.write_buffer=4M", "wal.ring=1M", "limits.max_request=128K", NULL);
	proc_start(&d);
	writer = (struct writer){j, 0, d.socket, seed + 1};
	pid = proc_fork(write_until_stopped, &writer);
	for (unsigned round = 0; round < 8; round++) {
		usleep((useconds_t)(50000 + test_random(&seed) % 50000));
		private_daemon_kill(&d);
		for (unsigned again = 0; again < 3; again++) {
			ck_ok(private_daemon_spawn(&d, &err));
			usleep((useconds_t)(test_random(&seed) % 20000));
			private_daemon_kill(&d);
		}
		proc_start(&d);
		db = proc_open(&d);
		check(db, j, 8);
		shale_close(db);
	}
	atomic_store(&j->stop, 1);
	ck_assert_int_eq(proc_wait(pid), 0);
	db = proc_open(&d);
	check(db, j, 1);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("kill_daemon", 120, nothing_acknowledged_is_lost, killed_while_recovering)
