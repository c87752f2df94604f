/*
 * Opening a database while something is short: each allocation, each open, each look at a size and each read fails in turn, once. An open
 * that fails must say so with the right code and words, leave everything as it was for the next try, and leak nothing; the one that succeeds at last must find all
 * that was acknowledged: tables, logs, and what a killed process left in its WAL window.
 */
#include "tests/engine/world.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/edit.h"
#include "engine/io_real.h"
#include "engine/log_format.h"
#include "engine/version_set.h"
#include "tests/engine/set_bed.h"

/* ---- what fails ---- */

enum fault { FAULT_NONE, FAULT_MEMORY, FAULT_OPEN, FAULT_SIZE, FAULT_READ };

static struct {
	enum fault kind;
	long countdown; /* operations of the kind until one fails */
	bool hit;
} fault;

static bool fails(enum fault kind)
{
	if (fault.kind != kind || fault.countdown < 0 || fault.countdown-- > 0)
		return false;
	fault.hit = true;
	return true;
}

static void arm(enum fault kind, long n)
{
	fault.hit = false;
	fault.countdown = n;
	fault.kind = kind;
}

static void disarm(void)
{
	fault.kind = FAULT_NONE;
}

/* A sanitizer has the allocator for itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEMORY_CAN_FAIL = 0 };
#else
enum { MEMORY_CAN_FAIL = 1 };

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static void *denied(void)
{
	errno = ENOMEM;
	return NULL;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return fails(FAULT_MEMORY) ? denied() : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
	return fails(FAULT_MEMORY) ? denied() : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	return fails(FAULT_MEMORY) ? denied() : __libc_realloc(p, size);
}

__attribute__((visibility("default"))) void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (fails(FAULT_MEMORY) || __builtin_mul_overflow(n, size, &bytes))
		return denied();
	return __libc_realloc(p, bytes);
}
#endif

/* The posix backend's doors, with the fault before them. */
static const struct io_env_ops *env_ops;
static const struct io_queue_ops *queue_ops;

static int odd_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	return fails(FAULT_OPEN) ? -EMFILE : env_ops->open(env, name, flags, out);
}

static int odd_size(struct io_file *file, uint64_t *size_out)
{
	return fails(FAULT_SIZE) ? -EIO : env_ops->size(file, size_out);
}

static void odd_submit(struct io_queue *q, struct io_req *req)
{
	static struct io_file closed = {.fd = -1};

	if (req->op == IO_READ && fails(FAULT_READ))
		req->file = &closed; /* is answered -EBADF */
	queue_ops->submit(q, req);
}

static void wrap(struct io_env *env, struct io_queue *q)
{
	static struct io_env_ops odd_env;
	static struct io_queue_ops odd_queue;

	env_ops = env->ops;
	odd_env = *env_ops;
	odd_env.open = odd_open;
	odd_env.size = odd_size;
	env->ops = &odd_env;
	queue_ops = q->ops;
	odd_queue = *queue_ops;
	odd_queue.submit = odd_submit;
	q->ops = &odd_queue;
}

/* ---- a database ---- */

enum { KEYS = 600 };

static struct slice key_of(unsigned i, char buf[16])
{
	snprintf(buf, 16, "key%05u", i * 7919 % KEYS);
	return slice_str(buf);
}

/* Tables on two levels, compact pointers, several logs, a record over more than one block, and bytes in the window only. */
static void make_database(struct world *w)
{
	static unsigned char large[70000];
	char key[16];

	world_open(w);
	for (unsigned i = 0; i < KEYS; i++) {
		world_put(w, key_of(i, key), slice_of(large, 100 + i % 300));
		if (i % 200 == 150)
			world_flush(w);
	}
	world_run_all(w, JOBS_ALL);
	world_compact(w, NULL, NULL);
	for (unsigned i = 0; i < KEYS / 2; i++)
		world_put(w, key_of(i, key), slice_str("again"));
	world_sync(w);
	for (unsigned i = 0; i < 50; i++)
		world_put(w, key_of(i, key), slice_str("in the window"));
	world_abandon(w);
}

static int try_open(struct world *w, enum fault kind, long n, struct err_info *err)
{
	int rc;

	ck_ok(io_env_open(w->dir, IO_BACKEND_POSIX, false, &w->env, err));
	ck_ok(io_queue_new(w->env, 64, &w->service));
	ck_ok(io_queue_new(w->env, 64, &w->worker));
	wrap(w->env, w->service);
	arm(kind, n);
	rc = engine_open(w->env, w->service, &w->options, &w->host, &w->recovery, &w->e, err);
	disarm();
	w->env->ops = env_ops;
	w->service->ops = queue_ops;
	if (rc == 0)
		return 0;
	ck_assert_uint_eq(w->service->in_flight, 0);
	io_queue_free(w->service);
	io_queue_free(w->worker);
	io_env_close(w->env);
	w->env = NULL;
	w->e = NULL;
	return rc;
}

static void expect_all(struct world *w)
{
	char key[16];

	for (unsigned i = 0; i < KEYS; i++) {
		unsigned char *value = NULL;
		const char *want = i < 50 ? "in the window" : i < KEYS / 2 ? "again" : NULL;
		size_t size;

		ck_ok(world_get(w, key_of(i, key), engine_last_sequence(w->e), &value, &size));
		if (want)
			ck_assert(size == strlen(want) && memcmp(value, want, size) == 0);
		else
			ck_assert_uint_eq(size, 100 + i % 300);
		free(value);
	}
	world_check_deep(w);
}

/* What an open may answer to each fault. */
static bool right_code(enum fault kind, int rc)
{
	switch (kind) {
	case FAULT_MEMORY:
		return rc == -ENOMEM;
	case FAULT_OPEN:
		return rc == -EMFILE;
	case FAULT_SIZE:
		return rc == -EIO;
	default:
		return rc == -EBADF;
	}
}

/* Fails operation after operation of @kind until an open comes through without meeting the fault. */
static void each_in_turn(enum fault kind)
{
	unsigned failed = 0;
	struct world w;
	long n = 0;

	world_init(&w, IO_BACKEND_POSIX);
	make_database(&w);
	for (;; n++) {
		struct err_info err = {0};
		int rc = try_open(&w, kind, n, &err);

		if (rc == 0 && !fault.hit)
			break;
		if (rc == 0) { /* what was missing was not needed: everything must be there all the same */
			expect_all(&w);
			world_abandon(&w);
			continue;
		}
		failed++;
		ck_assert_msg(fault.hit, "fault %d, %ld: failed by itself: %d, %s", kind, n, rc, err.text);
		ck_assert_msg(right_code(kind, rc), "fault %d, %ld: answered %d, %s", kind, n, rc, err.text);
		ck_assert_msg(err.text[0], "fault %d, %ld: %d without words", kind, n, rc);
	}
	ck_assert_uint_gt(failed, 0);
	expect_all(&w);
	world_close(&w);
	printf("fault %d: %ld operations, %u opens failed\n", kind, n, failed);
	world_fini(&w);
}

START_TEST(each_allocation_of_an_open_fails)
{
	if (MEMORY_CAN_FAIL)
		each_in_turn(FAULT_MEMORY);
}
END_TEST

START_TEST(each_open_of_an_open_fails)
{
	each_in_turn(FAULT_OPEN);
}
END_TEST

START_TEST(each_size_of_an_open_fails)
{
	each_in_turn(FAULT_SIZE);
}
END_TEST

START_TEST(each_read_of_an_open_fails)
{
	each_in_turn(FAULT_READ);
}
END_TEST

/* ---- the version set alone ---- */

/* An edit that cannot be made durable for want of memory changes nothing, neither here nor on the disk, and does not poison; tried again it is there. */
START_TEST(each_allocation_of_an_edit_fails)
{
	unsigned done = 20;
	struct bed b;
	long n = 0;

	if (!MEMORY_CAN_FAIL)
		return;
	bed_init(&b);
	bed_create(&b);
	for (unsigned i = 0; i < done; i++)
		must_apply(&b);
	for (;; n++) {
		size_t before = b.vs.current->count[1];
		struct edit e;
		int rc;

		edit_init(&e);
		add_one(&b, &e);
		ck_ok(edit_set_pointer(&e, 1, key_buf_slice(&e.added[0].meta->largest)));
		arm(FAULT_MEMORY, n);
		rc = version_set_apply(&b.vs, &e, b.q, &b.err);
		disarm();
		edit_fini(&e);
		ck_assert_uint_eq(b.vs.current->count[1], before + (rc == 0));
		if (rc == 0)
			done++;
		if (rc == 0 && !fault.hit)
			break;
		ck_assert(rc == 0 || rc == -ENOMEM);
		ck_assert_int_eq(b.vs.failed, 0);
	}
	ck_assert_uint_gt(n, 3);
	bed_restart(&b);
	bed_recover(&b);
	ck_assert_uint_eq(b.vs.current->count[1], done);
	bed_fini(&b);
}
END_TEST

/* Whatever allocation of a decoder or an encoder fails, it says so and leaves nothing. */
START_TEST(each_allocation_of_an_edits_bytes_fails)
{
	struct err_info err = {0};
	struct edit e, back;
	unsigned char *data, key[32];
	size_t size;
	long n;
	int rc;

	if (!MEMORY_CAN_FAIL)
		return;
	for (n = 0;; n++) {
		arm(FAULT_MEMORY, n);
		edit_init(&e);
		rc = 0;
		for (unsigned i = 0; i < 20 && rc == 0; i++) {
			struct slice k = ikey_make(key, slice_str("key"), i + 1, IKEY_VALUE);
			struct file_meta *m = file_meta_new(i + 1, 100, k, k);

			rc = m ? edit_add_file(&e, i % LEVELS, m) : -ENOMEM;
			file_meta_unref(m);
			if (rc == 0)
				rc = edit_delete_file(&e, 0, 100 + i);
			if (rc == 0)
				rc = edit_set_pointer(&e, i % LEVELS, k);
		}
		if (rc == 0)
			rc = edit_encode(&e, &data, &size);
		if (rc == 0) {
			rc = edit_decode(slice_of(data, size), &back, &err);
			disarm();
			free(data);
		}
		disarm();
		edit_fini(&e);
		if (rc == 0)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert(!fault.hit && n > 50 && back.added_count == 20 && back.deleted_count == 20 &&
		  back.pointer_count == 20);
	edit_fini(&back);
}
END_TEST

/* ---- the log reader alone ---- */

enum { RECORDS = 8, RECORD_BYTES = 100000 };

/* Records over several blocks and more than one buffer; then a record that fails its check, and a long way of nothing behind it. */
static size_t make_log(struct bed *b)
{
	static unsigned char log[2 << 20], payload[RECORD_BYTES];
	const struct log_dest dest = {.base = log, .mask = UINT64_MAX};
	uint64_t end = 0;

	memset(log, 0, sizeof(log));
	memset(payload, 'x', sizeof(payload));
	for (unsigned i = 0; i < RECORDS; i++)
		end = log_frame(&dest, end, slice_of(payload, sizeof(payload)));
	log_frame(&dest, end, slice_of(payload, 1000));
	log[end + 100] ^= 1;
	write_file(b, "000009.log", log, sizeof(log));
	return sizeof(log);
}

/* Reads it all. How many records; what the last call answered in *@rc_out. */
static unsigned read_log(struct bed *b, struct io_queue *q, enum fault kind, long n, int *rc_out)
{
	struct log_reader *r;
	struct slice record;
	struct io_file *f;
	unsigned records = 0;

	ck_ok(io_open(&b->env.base, "000009.log", IO_OPEN_READ, &f));
	ck_ok(log_reader_new(q, f, &r));
	arm(kind, n);
	while ((*rc_out = log_reader_next(r, &record)) == 0)
		records += record.size == RECORD_BYTES; /* no assertion yet: Check allocates, too */
	disarm();
	if (*rc_out < 0) {
		ck_assert(log_reader_reason(r)[0]);
		/* No failure but corruption can be skipped, and what failed stays failed. */
		ck_ok(log_reader_skip(r));
		ck_assert_int_eq(log_reader_next(r, &record), *rc_out);
	}
	log_reader_free(r);
	io_close(f);
	return records;
}

/* A read or an allocation that fails is no end of the log: a recovery that took it for one would drop what was acknowledged. */
START_TEST(failing_reads_end_no_log)
{
	const enum fault kinds[] = {FAULT_READ, FAULT_MEMORY};
	struct io_queue *q;
	struct bed b;

	bed_init(&b);
	make_log(&b);
	for (unsigned k = 0; k < 1 + MEMORY_CAN_FAIL; k++) {
		long n = 0;
		int rc;

		for (;; n++) {
			unsigned records;

			ck_ok(io_queue_new(&b.env.base, 8, &q));
			wrap(&b.env.base, q);
			records = read_log(&b, q, kinds[k], n, &rc);
			b.env.base.ops = env_ops;
			q->ops = queue_ops;
			io_queue_free(q);
			if (!fault.hit) {
				ck_assert_int_eq(rc, LOG_END);
				ck_assert_uint_eq(records, RECORDS);
				break;
			}
			ck_assert_int_eq(rc, kinds[k] == FAULT_READ ? -EBADF : -ENOMEM);
			ck_assert_uint_le(records, RECORDS);
		}
		ck_assert_int_gt(n, 0);
	}
	bed_fini(&b);
}
END_TEST

TEST_MAIN("open_faults", 60, each_allocation_of_an_open_fails, each_open_of_an_open_fails, each_size_of_an_open_fails,
	  each_read_of_an_open_fails, each_allocation_of_an_edit_fails, each_allocation_of_an_edits_bytes_fails,
	  failing_reads_end_no_log)
