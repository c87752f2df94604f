/*
 * Each changing operation of the disk fails in turn: once with -EIO, once with -ENOSPC, and from there on for ever, as a kill looks to the disk.
 * After every one of them the next open gives exactly what was acknowledged: nothing less, nothing more, no sequence number twice.
 */
#include <stdio.h>
#include <string.h>

#include "engine/io_real.h"
#include "tests/engine/world.h"

/* ---- the disk ---- */

enum fault { FAULT_EIO, FAULT_ENOSPC, FAULT_KILL, FAULTS };

static struct {
	struct io_env_ops env, real_env;
	struct io_queue_ops queue, real_queue;
	long countdown; /* changing operations until the fault; negative: none */
	enum fault kind;
	long operations;
	uint64_t time; /* runs by itself, so that nobody waits for a second try */
	struct io_req *failed;
} disk;

static int turn(void)
{
	disk.operations++;
	if (disk.countdown < 0 || disk.countdown-- > 0)
		return 0;
	if (disk.kind == FAULT_KILL)
		disk.countdown = 0;
	return disk.kind == FAULT_ENOSPC ? -ENOSPC : -EIO;
}

static int disk_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	int rc = flags & IO_OPEN_CREATE ? turn() : 0;

	return rc ? rc : disk.real_env.open(env, name, flags, out);
}

static int disk_rename(struct io_env *env, const char *from, const char *to)
{
	int rc = turn();

	return rc ? rc : disk.real_env.rename(env, from, to);
}

static int disk_unlink(struct io_env *env, const char *name)
{
	int rc = turn();

	return rc ? rc : disk.real_env.unlink(env, name);
}

static int disk_truncate(struct io_file *file, uint64_t size)
{
	int rc = turn();

	return rc ? rc : disk.real_env.truncate(file, size);
}

/* Syncs cost time and show nothing here: the machine does not lose its power. */
static int disk_sync_dir(struct io_env *env)
{
	(void)env;
	return turn();
}

static uint64_t disk_now(struct io_env *env)
{
	(void)env;
	return disk.time += 10000000;
}

static void disk_submit(struct io_queue *q, struct io_req *req)
{
	bool changes = req->op == IO_WRITE || req->op == IO_FDATASYNC || req->op == IO_ALLOCATE;
	int rc = changes ? turn() : 0;

	if (!rc && req->op != IO_FDATASYNC) {
		disk.real_queue.submit(q, req);
		return;
	}
	req->result = rc;
	req->next = disk.failed;
	disk.failed = req;
	q->in_flight++;
}

static int answer(struct io_queue *q)
{
	int n = 0;

	while (disk.failed) {
		struct io_req *req = disk.failed;

		disk.failed = req->next;
		q->in_flight--;
		n++;
		req->done(req);
	}
	return n;
}

static int disk_poll(struct io_queue *q)
{
	int n = answer(q), rc = disk.real_queue.poll(q);

	return rc < 0 ? rc : rc + n;
}

static int disk_wait(struct io_queue *q, uint64_t timeout_ns)
{
	int n = answer(q);

	return n ? n : disk.real_queue.wait(q, timeout_ns);
}

static void wrap_queue(struct io_queue *q)
{
	disk.real_queue = *q->ops;
	disk.queue = *q->ops;
	disk.queue.submit = disk_submit;
	disk.queue.poll = disk_poll;
	disk.queue.wait = disk_wait;
	q->ops = &disk.queue;
}

static int try_open(struct world *w)
{
	struct err_info err = {0};
	int rc;

	ck_ok(io_env_open(w->dir, w->backend, false, &w->env, &err));
	ck_ok(io_queue_new(w->env, 64, &w->service));
	ck_ok(io_queue_new(w->env, 64, &w->worker));
	disk.real_env = *w->env->ops;
	disk.env = *w->env->ops;
	disk.env.open = disk_open;
	disk.env.rename = disk_rename;
	disk.env.unlink = disk_unlink;
	disk.env.truncate = disk_truncate;
	disk.env.sync_dir = disk_sync_dir;
	disk.env.now_ns = disk_now;
	w->env->ops = &disk.env;
	wrap_queue(w->service);
	wrap_queue(w->worker);
	rc = engine_open(w->env, w->service, &w->options, &w->host, &w->recovery, &w->e, &err);
	if (rc < 0) {
		ck_assert(err.text[0]);
		w->e = NULL;
	}
	return rc;
}

/* The process is gone; what was in flight is, too. */
static void die(struct world *w)
{
	if (w->e)
		engine_abandon(w->e);
	w->e = NULL;
	ck_assert_ptr_null(disk.failed);
	io_queue_free(w->service);
	io_queue_free(w->worker);
	io_env_close(w->env);
	w->env = NULL;
}

/* ---- what was acknowledged ---- */

enum { KEYS = 40, WRITES = 260, VALUE = 900 };

static struct {
	uint32_t value[KEYS]; /* 0: no such key */
	uint64_t sequence;
} acked;

static void expect_acked(struct world *w)
{
	struct err_info err = {0};
	unsigned present = 0;

	ck_assert_uint_ge(engine_last_sequence(w->e), acked.sequence);
	for (unsigned i = 0; i < KEYS; i++) {
		unsigned char *value;
		char key[8];
		size_t size;
		int rc;

		snprintf(key, sizeof(key), "%03u", i);
		rc = world_get(w, slice_str(key), engine_last_sequence(w->e), &value, &size);
		ck_assert_msg(rc == (acked.value[i] ? 0 : SHALE_NOTFOUND), "key %s: %d, should be %u", key, rc,
			      acked.value[i]);
		if (rc)
			continue;
		present++;
		ck_assert_uint_eq(size, VALUE);
		ck_assert_uint_eq(load_le32(value), acked.value[i]);
		free(value);
	}
	ck_assert_uint_eq(world_scan_all(w, engine_last_sequence(w->e), false, 4000, NULL, NULL), present);
	ck_assert_msg(engine_check(w->e, &err) == 0, "%s", err.text);
}

static void step(struct world *w)
{
	struct job *j;

	io_queue_poll(w->service);
	engine_pump(w->e, true);
	io_queue_poll(w->service);
	engine_retry(w->e);
	j = engine_next_job(w->e, JOBS_ALL);
	if (j)
		engine_run_job(w->e, j, w->worker);
}

/* One write, tried until it is taken or the engine is dead. False: dead. */
static bool put(struct world *w, unsigned i, uint32_t n)
{
	unsigned char batch[VALUE + 64], value[VALUE] = {0}, *p;
	uint64_t sequence, position;
	bool deletes = n % 7 == 0;
	char key[8];
	int rc;

	snprintf(key, sizeof(key), "%03u", i);
	store_le32(value, n);
	p = batch_begin(batch);
	p = deletes ? batch_append_delete(p, slice_str(key))
		    : batch_append_put(p, slice_str(key), slice_of(value, VALUE));
	batch_set_count(batch, 1);
	for (unsigned tries = 0;; tries++) {
		uint16_t why;

		ck_assert_msg(tries < 2000, "a write is never taken");
		rc = engine_write(w->e, batch, (size_t)(p - batch), &sequence, &position, &why);
		if (rc == -EAGAIN || rc == -ENOSPC)
			step(w);
		else
			break;
	}
	if (rc == -SHALE_EFAILED)
		return false;
	ck_assert_int_eq(rc, 0);
	ck_assert_uint_gt(sequence, acked.sequence);
	acked.sequence = sequence;
	acked.value[i] = deletes ? 0 : n;
	return true;
}

/* Writes, flushes, compactions, all of the range at the end, and a clean close. False when the engine died on the way. */
static bool work(struct world *w, uint32_t first)
{
	uint64_t ticket;
	int rc = 0;

	for (uint32_t n = first; n < first + WRITES; n++) {
		if (!put(w, n * 7 % KEYS, n))
			return false;
		if (n % 10 == 0)
			engine_want_sync(w->e, UINT64_MAX);
		if (n % 4 == 0)
			step(w);
	}
	ck_ok(engine_compact_start(w->e, NULL, NULL, &ticket));
	for (unsigned i = 0; rc == 0 && i < 3000; i++) {
		step(w);
		rc = engine_compact_done(w->e, ticket);
	}
	ck_assert_int_ne(rc, 0);
	return engine_state(w->e, NULL) == 0;
}

/* A life that begins with an open in which the @at-th changing operation fails, and goes on to whatever end. */
static void live(struct world *w, enum fault kind, long at, uint32_t first)
{
	disk.kind = kind;
	disk.countdown = at;
	if (try_open(w) == 0) {
		expect_acked(w);
		if (work(w, first))
			expect_acked(w);
		if (disk.kind != FAULT_KILL || disk.countdown) {
			engine_stop_jobs(w->e);
			engine_close(w->e);
			w->e = NULL;
		}
	}
	die(w);
}

static void run(enum fault kind, long at, uint64_t *seed)
{
	struct world w;

	memset(&acked, 0, sizeof(acked));
	world_init(&w, IO_BACKEND_POSIX);
	live(&w, kind, at, 1);
	/* A second fault, in the recovery or soon after it. */
	live(&w, FAULT_KILL, (long)(test_random(seed) % 60), 1001);
	disk.countdown = -1;
	ck_ok(try_open(&w));
	expect_acked(&w);
	ck_assert(put(&w, 3, 9999));
	die(&w);
	ck_ok(try_open(&w));
	expect_acked(&w);
	die(&w);
	world_fini(&w);
}

/* _i is the kind of fault. */
START_TEST(any_operation_may_fail)
{
	uint64_t seed = test_seed();
	long operations;

	disk.operations = 0;
	run(_i, -1, &seed);
	operations = disk.operations * 2 / 3;
	ck_assert_int_gt(operations, 100);
	for (long at = 0; at < operations; at++)
		run(_i, at, &seed);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("faults");
	TCase *t = tcase_create("faults");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, any_operation_may_fail, 0, FAULTS);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
