/*
 * Clients that die, stop, fork or go mad in the middle of something: at named points, for longer than their lease, with a second thread that
 * writes into everything. And crowds that connect and say nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

static struct scene s;

/* ---- killed at a named point ---- */

enum { LARGE = 24 << 20 };

enum point {
	BEFORE_PUBLISH,	       /* slot and payload are written */
	BETWEEN_TAIL_AND_BELL, /* published, and the daemon not woken */
	AFTER_BELL,	       /* published; nobody will take the completion */
	HALF_A_BATCH,	       /* published, while its payload is still being written */
	HALF_A_RING,	       /* many published, some answered, none taken */
	HOLDING_SNAPSHOTS,     /* and an open cursor */
	LARGE_VALUE,	       /* which passes the log in parts */
	LARGE_ANSWER,	       /* which is being copied into an arena that goes away */
	POINTS
};

struct victim {
	enum point point;
	char value[16];
};

static void die(void)
{
	raise(SIGKILL);
	for (;;)
		pause();
}

static void die_with_library(void)
{
	struct shale_snapshot *snapshot;
	struct shale_iter *it;
	struct shale_db *db;

	if (shale_open(s.d.socket, NULL, &db) < 0)
		_exit(1);
	for (unsigned i = 0; i < 20; i++)
		if (shale_snapshot_take(db, &snapshot) < 0)
			_exit(2);
	if (shale_iter_open(db, NULL, &it) < 0)
		_exit(3);
	shale_iter_seek_first(it);
	if (!shale_iter_valid(it))
		_exit(4);
	die();
}

static int victim_run(void *arg)
{
	const struct victim *v = arg;
	struct hello hello = raw_hello();
	struct raw_client r;
	uint32_t n;

	if (v->point == HOLDING_SNAPSHOTS)
		die_with_library();
	if (v->point == LARGE_VALUE || v->point == LARGE_ANSWER)
		hello.arena_size = 2 * LARGE;
	if (raw_try(s.d.socket, &hello, &r) < 0)
		return 1;
	usleep(2000); /* so that the daemon sleeps, now and then */
	n = raw_batch(&r, 0, "victim", v->value);
	switch (v->point) {
	case BEFORE_PUBLISH:
		raw_prepare(&r, 0, (struct sqe){.op = OP_WRITE, .in_len = n});
		break;
	case BETWEEN_TAIL_AND_BELL:
		raw_prepare(&r, 0, (struct sqe){.op = OP_WRITE, .in_len = n});
		ring_sq_publish(&r.ring, 1);
		break;
	case HALF_A_BATCH:
		memset(r.arena + n / 2, 0, n - n / 2);
		/* fall through */
	case AFTER_BELL:
		raw_submit(&r, (struct sqe){.op = OP_WRITE, .in_len = n});
		break;
	case HALF_A_RING:
		for (uint32_t i = 0; i < r.ring.entries; i++)
			raw_prepare(&r, i, (struct sqe){.op = OP_WRITE, .in_len = n, .flags = i % 8 ? 0 : SQE_SYNC});
		raw_publish(&r, r.ring.entries);
		break;
	case LARGE_VALUE:
	case LARGE_ANSWER: {
		unsigned char *value = calloc(1, LARGE), *end;

		end = batch_append_put(batch_begin(r.arena), slice_str("large"), slice_of(value, LARGE));
		batch_set_count(r.arena, 1);
		raw_submit(&r, (struct sqe){.op = OP_WRITE, .in_len = (uint32_t)(end - r.arena)});
		if (v->point == LARGE_ANSWER) {
			if (raw_take(&r).res != 0)
				return 2;
			memcpy(r.arena, "large", 5);
			raw_submit(&r, (struct sqe){.op = OP_GET, .in_len = 5, .out_off = 4096, .out_len = LARGE});
		}
		break;
	}
	default:
		break;
	}
	die();
	return 0;
}

static void before_victim(void)
{
	struct shale_db *db = proc_open(&s.d);

	proc_put(db, "victim", "before");
	shale_close(db);
}

/* What it wrote is there whole or not at all. */
static void look_after(const struct victim *v)
{
	struct shale_db *db = proc_open(&s.d);
	const char *value = proc_get(db, "victim");
	void *large;
	size_t len;
	int rc;

	ck_assert_ptr_nonnull(value);
	if (v->point == BEFORE_PUBLISH || v->point == HALF_A_BATCH || v->point >= HOLDING_SNAPSHOTS)
		ck_assert_str_eq(value, "before");
	else
		ck_assert_msg(!strcmp(value, "before") || !strcmp(value, v->value), "%s", value);
	rc = shale_get_alloc(db, NULL, "large", 5, &large, &len);
	if (rc == 0) {
		ck_assert_uint_eq(len, LARGE);
		shale_free(large);
		ck_ok(shale_delete(db, NULL, "large", 5));
	} else {
		ck_assert_int_eq(rc, SHALE_NOTFOUND);
	}
	shale_close(db);
}

/* Wherever a client is killed, its write is there whole or not at all, and all that it held is given back. */
START_TEST(killed_at_each_point)
{
	struct victim v;

	scene_begin(&s, "limits.memory_per_uid=1G", NULL);
	for (unsigned i = 0; i < 3 * POINTS; i++) {
		v = (struct victim){.point = (enum point)(i % POINTS)};
		snprintf(v.value, sizeof(v.value), "after %u", i);
		before_victim();
		ck_assert_int_eq(proc_wait(proc_fork(victim_run, &v)), -SIGKILL);
		scene_check(&s);
		look_after(&v);
		scene_check(&s);
	}
	witness_stop(&s.witness, 20000);
	proc_stop(&s.d);
	private_daemon_fini(&s.d);
}
END_TEST

/* ---- stopped ---- */

struct sleeper {
	_Atomic int step;
};

/* Takes a snapshot with a lease, says so, and goes on when it is told to (it will have been stopped). */
static int sleeper_run(void *arg)
{
	struct shale_snapshot_options lease = SHALE_SNAPSHOT_OPTIONS_INIT;
	struct shale_read_options at = SHALE_READ_OPTIONS_INIT;
	struct sleeper *sl = arg;
	struct shale_snapshot *snapshot;
	struct shale_db *db;
	char buf[16];
	size_t len;

	lease.lease_ms = 400;
	if (shale_open(s.d.socket, NULL, &db) < 0 || shale_snapshot_take_with(db, &lease, &snapshot) < 0)
		return 1;
	at.snapshot = snapshot;
	atomic_store(&sl->step, 1);
	while (atomic_load(&sl->step) < 2)
		usleep(1000);
	if (shale_get(db, &at, "k", 1, buf, sizeof(buf), &len) != -SHALE_EOUSTED)
		return 2;
	if (shale_get(db, NULL, "k", 1, buf, sizeof(buf), &len) != 0 || shale_put(db, NULL, "k2", 2, "v", 1) != 0)
		return 3;
	shale_snapshot_release(db, snapshot);
	shale_close(db);
	return 0;
}

/* Who is stopped for longer than its lease finds its snapshot gone, by a code of its own, and its session alive; meanwhile what it pinned was free. */
START_TEST(stopped_past_its_lease)
{
	struct sleeper *sl = proc_shared(sizeof(*sl));
	struct shale_db *db;
	pid_t pid;

	scene_begin(&s, NULL);
	db = proc_open(&s.d);
	proc_put(db, "k", "v");
	shale_close(db);
	for (unsigned round = 0; round < 2; round++) {
		atomic_store(&sl->step, 0);
		pid = proc_fork(sleeper_run, sl);
		for (int i = 0; atomic_load(&sl->step) < 1; i++, usleep(1000))
			ck_assert_int_lt(i, 20000 * PATIENCE);
		kill(pid, SIGSTOP);
		usleep(1000000); /* longer than the lease, whatever else the machine does */
		witness_progress(&s.witness, 100);
		for (int i = 0; proc_stats(&s.d).snapshots > 1; i++, usleep(10000))
			ck_assert_int_lt(i, 2000 * PATIENCE);
		atomic_store(&sl->step, 2);
		kill(pid, SIGCONT);
		ck_assert_int_eq(proc_wait(pid), 0);
	}
	scene_end(&s);
}
END_TEST

/* ---- forked ---- */

static int ring_twin(void *arg)
{
	struct raw_client *r = arg;

	for (unsigned i = 0; i < 3000; i++) {
		raw_prepare(r, 0,
			    (struct sqe){.op = i % 2 ? OP_GET : OP_NOP,
					 .in_len = i % 2 ? 8 : 0,
					 .out_off = 4096,
					 .out_len = 64});
		raw_publish(r, 1);
		while (ring_cq_peek(&r->ring))
			ring_cq_pop(&r->ring);
	}
	return 0;
}

/* A child that goes on with its parent's rings, by hand, at the same time: two writers of one index can only hurt that session. */
START_TEST(child_on_its_parents_rings)
{
	scene_begin(&s, NULL);
	for (unsigned i = 0; i < 10; i++) {
		struct raw_client r;
		pid_t pid;

		raw_open(s.d.socket, &r);
		pid = proc_fork(ring_twin, &r);
		ring_twin(&r);
		ck_assert_int_eq(proc_wait(pid), 0);
		raw_close(&r);
	}
	scene_end(&s);
}
END_TEST

static int uses_handle(void *arg)
{
	struct shale_db *db = arg;
	struct shale_snapshot *snapshot;
	char buf[512];
	size_t len;
	FILE *maps = fopen("/proc/self/maps", "re");

	while (fgets(buf, sizeof(buf), maps))
		if (strstr(buf, ".chan."))
			return 2;
	fclose(maps);
	for (unsigned i = 0; i < 100; i++) {
		if (shale_put(db, NULL, "forked", 6, "child", 5) != -SHALE_EFORKED ||
		    shale_get(db, NULL, "forked", 6, buf, sizeof(buf), &len) != -SHALE_EFORKED ||
		    shale_snapshot_take(db, &snapshot) != -SHALE_EFORKED)
			return 1;
	}
	return 0;
}

/* A child that uses its parent's handle is told so at each call, and has no mapping of the rings; the parent's session, in use at the time, does not notice. */
START_TEST(child_with_its_parents_handle)
{
	struct shale_db *db;

	scene_begin(&s, NULL);
	db = proc_open(&s.d);
	proc_put(db, "forked", "parent");
	for (unsigned i = 0; i < 10; i++) {
		pid_t pid = proc_fork(uses_handle, db);

		for (unsigned k = 0; k < 200; k++)
			ck_assert_str_eq(proc_get(db, "forked"), "parent");
		ck_assert_int_eq(proc_wait(pid), 0);
	}
	ck_assert_str_eq(proc_get(db, "forked"), "parent");
	shale_close(db);
	scene_end(&s);
}
END_TEST

/* ---- mad ---- */

struct scribbler {
	struct raw_client *r;
	uint64_t seed;
	_Atomic bool stop;
};

static void *scribble(void *arg)
{
	struct scribbler *sc = arg;
	size_t heads = (size_t)(sc->r->arena - sc->r->base) + 4096;

	while (!atomic_load(&sc->stop)) {
		uint64_t v = test_random(&sc->seed);
		size_t at = (v & 3 ? v % heads : v % sc->r->size) & ~(size_t)7;

		*(volatile uint64_t *)(sc->r->base + at) = test_random(&sc->seed);
	}
	return NULL;
}

/* Random bytes in every shared word, from a second thread, while work goes on in the first. */
START_TEST(scribbled_while_working)
{
	uint64_t seed = test_seed();

	scene_begin(&s, NULL);
	for (unsigned round = 0; round < 100; round++) {
		struct raw_client r;
		struct scribbler sc = {.r = &r, .seed = test_random(&seed) | 1};
		uint64_t until = monotonic_ns() + (round % 10) * 1000000 + 100000;
		pthread_t thread;

		raw_open(s.d.socket, &r);
		ck_assert_int_eq(pthread_create(&thread, NULL, scribble, &sc), 0);
		while (monotonic_ns() < until) {
			uint32_t n = raw_batch(&r, 0, "scribbled", "value");

			for (uint32_t k = 0; k < 16; k++)
				raw_prepare(&r, k,
					    (struct sqe){.op = k % 2 ? OP_WRITE : OP_GET,
							 .in_len = n,
							 .out_off = 65536,
							 .out_len = 64});
			raw_publish(&r, 16);
			raw_ring(&r);
			while (ring_cq_peek(&r.ring) && monotonic_ns() < until)
				ring_cq_pop(&r.ring);
		}
		atomic_store(&sc.stop, true);
		pthread_join(thread, NULL);
		raw_close(&r);
		if (round % 20 == 19)
			scene_check(&s);
	}
	scene_end(&s);
}
END_TEST

/* ---- silent ---- */

/* Two thousand connections that say nothing: most are refused, none stays for longer than it may, and whoever has a session is served as before. */
START_TEST(silent_crowd)
{
	enum { CROWD = 2000 };
	struct rlimit files;
	struct shale_db *db = NULL;
	static int fd[CROWD];
	int rc = -EAGAIN;

	ck_ok(getrlimit(RLIMIT_NOFILE, &files));
	files.rlim_cur = files.rlim_max;
	ck_ok(setrlimit(RLIMIT_NOFILE, &files));
	if (files.rlim_cur < CROWD + 100) {
		printf("%llu descriptors are not enough: skipped\n", (unsigned long long)files.rlim_cur);
		return;
	}
	scene_begin(&s, NULL);
	for (unsigned i = 0; i < CROWD; i++) {
		fd[i] = raw_connect(s.d.socket, SOCK_SEQPACKET);
		ck_assert_int_ge(fd[i], 0);
	}
	witness_progress(&s.witness, 100);
	scene_alive(&s);
	/* They are still there, and the daemon has told them to go. */
	for (int i = 0; i < 2000 * PATIENCE && (rc = shale_open(s.d.socket, NULL, &db)) == -EAGAIN; i++)
		usleep(10000);
	ck_ok(rc);
	ck_ok(shale_ping(db));
	shale_close(db);
	scene_check(&s);
	for (unsigned i = 0; i < CROWD; i++)
		close(fd[i]);
	scene_end(&s);
}
END_TEST

TEST_MAIN("hostile_deaths", 100 * PATIENCE, killed_at_each_point, stopped_past_its_lease, child_on_its_parents_rings,
	  child_with_its_parents_handle, scribbled_while_working, silent_crowd)
