/*
 * A daemon that is stopped (by a debugger, in a frozen container): what must not wait for it does not.
 */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum { RING = 8, ITERATORS = 3 * RING };

static struct private_daemon d;

/* Snapshots in the daemon's region, which can be read whatever the daemon does. */
static unsigned pins(void)
{
	char instance[INSTANCE_LEN + 1];
	struct region region;
	unsigned n = 0;

	ck_ok(private_daemon_instance(&d, instance));
	ck_ok(region_open(&region, instance, NULL));
	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++)
		n += atomic_load(&region.snapshots[i].sequence_plus_1) != 0;
	region_close(&region, false);
	return n;
}

static void await_pins(unsigned n)
{
	for (int i = 0; i < 1000 * PATIENCE && pins() != n; i++)
		usleep(10000);
	ck_assert_uint_eq(pins(), n);
}

static struct shale_iter *open_at_first(struct shale_db *db)
{
	struct shale_iter *it;

	ck_ok(shale_iter_open(db, NULL, &it));
	shale_iter_seek_first(it);
	ck_assert(shale_iter_valid(it));
	return it;
}

/*
 * Iterators can be closed, more than the ring takes; once the daemon goes on, the next one tells it of all, so that no pin is left. Without a next one they
 * go with the handle.
 */
START_TEST(iterators_close)
{
	struct shale_iter *it[ITERATORS];
	struct shale_db *db;

	proc_init(&d, NULL, "service.ring_entries=8", NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "k", "v");
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < ITERATORS; i++)
			it[i] = open_at_first(db);
		ck_assert_uint_eq(pins(), ITERATORS);
		ck_assert_int_eq(kill(d.pid, SIGSTOP), 0);
		for (unsigned i = 0; i < ITERATORS; i++)
			shale_iter_close(it[i]);
		if (round)
			shale_close(db);
		ck_assert_uint_eq(pins(), ITERATORS);
		ck_assert_int_eq(kill(d.pid, SIGCONT), 0);
		if (!round)
			shale_iter_close(open_at_first(db));
		await_pins(0);
	}
	proc_stop(&d);
}
END_TEST

static void *take_snapshot(void *arg)
{
	struct shale_snapshot *snapshot;

	ck_ok(shale_snapshot_take(arg, &snapshot));
	shale_snapshot_release(arg, snapshot);
	return NULL;
}

/* Nor does closing wait for another thread that waits: the thread tells the daemon when it is through. */
START_TEST(iterators_close_beside_a_waiting_thread)
{
	struct shale_iter *it[2];
	struct shale_db *db;
	pthread_t thread;

	proc_init(&d, NULL, NULL);
	proc_start(&d);
	db = proc_open(&d);
	proc_put(db, "k", "v");
	for (unsigned i = 0; i < 2; i++)
		it[i] = open_at_first(db);
	ck_assert_int_eq(kill(d.pid, SIGSTOP), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, take_snapshot, db), 0);
	usleep(20000); /* so that it most likely waits by now: what is tested holds in any case */
	for (unsigned i = 0; i < 2; i++)
		shale_iter_close(it[i]);
	ck_assert_uint_eq(pins(), 2);
	ck_assert_int_eq(kill(d.pid, SIGCONT), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	await_pins(0);
	shale_close(db);
	proc_stop(&d);
}
END_TEST

TEST_MAIN("stopped", 60, iterators_close, iterators_close_beside_a_waiting_thread)
