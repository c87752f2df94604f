/*
 * Batches that are larger than the WAL's ring: they pass through it in parts, and are there whole or not at all. The ring has 256 KiB here.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine_internal.h"
#include "shm/layout.h"
#include "tests/engine/stock.h"
#include "tests/engine/world.h"

enum { LARGE = 3 << 20, SMALL = 100 };

/* A batch of one value with @size bytes, which its key and @salt determine. */
struct one {
	unsigned char *batch, *value;
	size_t size, value_size;
	struct slice key;
};

static void fill(unsigned char *p, size_t size, uint64_t salt)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(((i + salt) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static struct one one_new(const char *key, size_t value_size, uint64_t salt)
{
	struct one o = {.key = slice_str(key), .value_size = value_size};
	unsigned char *p;

	o.value = malloc(value_size);
	fill(o.value, value_size, salt);
	o.batch = malloc(BATCH_HEADER_SIZE + batch_put_size(o.key.size, value_size));
	p = batch_append_put(batch_begin(o.batch), o.key, slice_of(o.value, value_size));
	batch_set_count(o.batch, 1);
	o.size = (size_t)(p - o.batch);
	return o;
}

static void one_free(struct one *o)
{
	free(o->batch);
	free(o->value);
}

static void check_one(struct world *w, const struct one *o)
{
	unsigned char *value;
	size_t size;

	ck_ok(world_get(w, o->key, engine_last_sequence(w->e), &value, &size));
	ck_assert_uint_eq(size, o->value_size);
	ck_assert_int_eq(memcmp(value, o->value, size), 0);
	free(value);
}

static void check_absent(struct world *w, const struct one *o)
{
	unsigned char *value;
	size_t size;

	ck_assert_int_eq(world_get(w, o->key, engine_last_sequence(w->e), &value, &size), SHALE_NOTFOUND);
}

static void begin(struct world *w, enum io_backend backend)
{
	world_init(w, backend);
	w->options.max_batch_bytes = 8 << 20;
	world_open(w);
}

/* Takes the batch, whatever must be done before. */
static void take(struct world *w, const struct one *o)
{
	uint64_t sequence, position;
	uint16_t why;
	int rc;

	while ((rc = engine_write(w->e, o->batch, o->size, &sequence, &position, &why)) == -EAGAIN) {
		ck_assert_int_ge(io_queue_poll(w->service), 0);
		ck_ok(engine_pump(w->e, true));
		world_run_one(w, JOBS_ALL);
	}
	ck_assert_int_eq(rc, WRITE_UNDERWAY);
}

/* One turn of the loop; true when the write has ended with *@rc_out. */
static bool step(struct world *w, int *rc_out)
{
	uint64_t sequence, position;

	ck_assert_int_ge(io_queue_poll(w->service), 0);
	*rc_out = engine_pump(w->e, true);
	world_run_one(w, JOB_LOG | JOB_FLUSH);
	*rc_out = engine_write_result(w->e, &sequence, &position);
	return *rc_out != WRITE_UNDERWAY;
}

/* Read back from the memtable, from a table, after a compaction, after a restart; and by the LevelDB that the system has. */
START_TEST(comes_back_from_everywhere)
{
	struct one large = one_new("large", LARGE, 1), small = one_new("small", SMALL, 2);
	char *error = NULL, *got;
	struct stock stock;
	struct world w;
	size_t size;

	begin(&w, IO_BACKEND_AUTO);
	world_write(&w, small.batch, small.size);
	ck_assert_uint_eq(world_write(&w, large.batch, large.size), 2);
	check_one(&w, &large);
	world_close(&w); /* in a log of its own, replayed */
	world_open(&w);
	check_one(&w, &large);
	world_flush(&w);
	check_one(&w, &large);
	world_compact(&w, NULL, NULL);
	check_one(&w, &large);
	check_one(&w, &small);
	world_check_deep(&w);
	ck_assert_uint_eq(world_write(&w, large.batch, large.size), 3);
	world_close(&w);
	stock_open(&stock, w.dir, false, true, 10);
	got = leveldb_get(stock.db, stock.read, "large", 5, &size, &error);
	stock_must(error, "reading a large value");
	ck_assert_uint_eq(size, LARGE);
	ck_assert_int_eq(memcmp(got, large.value, size), 0);
	leveldb_free(got);
	stock_close(&stock);
	world_fini(&w);
	one_free(&large);
	one_free(&small);
}
END_TEST

/* While its record passes nothing else is written, flushed or visible, and the client's bytes are not looked at again. */
START_TEST(nothing_comes_between)
{
	struct one large = one_new("large", LARGE, 3), small = one_new("small", SMALL, 4);
	uint64_t sequence = 0, position, ticket;
	unsigned turns = 0;
	struct world w;
	uint16_t why;
	int rc;

	begin(&w, IO_BACKEND_AUTO);
	ck_assert_int_eq(engine_write_result(w.e, &sequence, &position), -ENOENT);
	take(&w, &large);
	memset(large.batch, 0xee, large.size);
	do {
		why = 0;
		ck_assert_int_eq(engine_write(w.e, small.batch, small.size, &sequence, &position, &why), -EAGAIN);
		ck_assert_uint_eq(why, DELAY_LOG);
		ck_assert_int_eq(engine_flush_start(w.e, &ticket), -EAGAIN);
		ck_assert_uint_eq(engine_last_sequence(w.e), 0);
		check_absent(&w, &large);
		ck_assert_int_ge(io_queue_wait(w.service, 1000000), 0);
		ck_ok(engine_pump(w.e, true));
		world_run_one(&w, JOBS_ALL);
		ck_assert_uint_lt(turns++, 100000);
	} while (engine_last_sequence(w.e) == 0);
	ck_assert_uint_gt(turns, LARGE / w.options.wal_ring_bytes / 2);
	ck_ok(engine_write_result(w.e, &sequence, &position));
	ck_assert_uint_eq(sequence, 1);
	ck_assert_int_eq(engine_write_result(w.e, &sequence, &position), -ENOENT);
	engine_want_sync(w.e, position);
	while (engine_synced(w.e) < position) {
		ck_ok(engine_pump(w.e, true));
		ck_assert_int_ge(io_queue_wait(w.service, 1000000), 0);
	}
	ck_assert_uint_eq(world_write(&w, small.batch, small.size), 2);
	check_one(&w, &large);
	check_one(&w, &small);
	rc = engine_flush_start(w.e, &ticket);
	ck_assert(rc == 0 || rc == -EAGAIN);
	world_fini(&w);
	one_free(&large);
	one_free(&small);
}
END_TEST

/*
 * The process dies after each number of turns: what was written before is there, the large batch is there whole if it was visible and gone
 * otherwise, recovery has nothing to complain of, and writing goes on with the next sequence. Both with the window and without it.
 */
START_TEST(torn_by_a_kill)
{
	struct one large = one_new("large", LARGE, 5), small = one_new("small", SMALL, 6),
		   after = one_new("after", SMALL, 7);
	bool visible = false;

	for (unsigned turns = 0; !visible; turns += 3) {
		bool window = turns % 2 == 0;
		struct world w;
		int rc;

		begin(&w, IO_BACKEND_POSIX);
		world_write(&w, small.batch, small.size);
		world_sync(&w);
		take(&w, &large);
		for (unsigned i = 0; i < turns && !step(&w, &rc); i++)
			;
		visible = engine_last_sequence(w.e) == 2;
		world_abandon(&w);
		if (!window)
			world_lose_window(&w);
		memset(w.logged, 0, sizeof(w.logged));
		world_open(&w);
		ck_assert_uint_eq(w.logged[3] + w.logged[4], 0);
		check_one(&w, &small);
		if (visible && window)
			check_one(&w, &large);
		else if (!visible)
			check_absent(&w, &large);
		ck_assert_uint_eq(world_write(&w, after.batch, after.size), engine_last_sequence(w.e));
		world_check(&w);
		world_close(&w);
		world_open(&w);
		check_one(&w, &small);
		check_one(&w, &after);
		world_fini(&w);
	}
	one_free(&large);
	one_free(&small);
	one_free(&after);
}
END_TEST

/* A clean end carries a record that was begun to its end. */
START_TEST(close_ends_what_was_begun)
{
	struct one large = one_new("large", LARGE, 8);
	struct world w;
	int rc;

	begin(&w, IO_BACKEND_AUTO);
	take(&w, &large);
	while (!w.e->large.begun)
		ck_assert(!step(&w, &rc)); /* until space is reserved and the first part is in the ring */
	world_close(&w);
	world_open(&w);
	check_one(&w, &large);
	world_fini(&w);
	one_free(&large);
}
END_TEST

/* A batch of many records is inserted some at a time, and none of them is seen before the last; a close in between finishes it. */
START_TEST(many_records_go_in_slices)
{
	enum { COUNT = 5000 };
	unsigned char *batch = malloc(BATCH_HEADER_SIZE + COUNT * 32), *p = batch_begin(batch), *got;
	uint64_t sequence, position;
	unsigned turns = 0;
	struct world w;
	uint16_t why;
	size_t size;
	char key[16];

	begin(&w, IO_BACKEND_AUTO);
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(key, sizeof(key), "key%05u", i);
		p = batch_append_put(p, slice_str(key), slice_str("v"));
	}
	batch_set_count(batch, COUNT);
	for (unsigned round = 0; round < 2; round++) {
		while (engine_write(w.e, batch, (size_t)(p - batch), &sequence, &position, &why) == -EAGAIN) {
			ck_assert_int_ge(io_queue_poll(w.service), 0);
			ck_ok(engine_pump(w.e, true));
			world_run_one(&w, JOBS_ALL);
		}
		memset(batch + BATCH_HEADER_SIZE, round, BATCH_HEADER_SIZE); /* it has been copied */
		while (!engine_write_busy(w.e)) {
			ck_assert_int_ge(io_queue_poll(w.service), 0);
			ck_ok(engine_pump(w.e, true));
			world_run_one(&w, JOBS_ALL);
		}
		for (; round == 0 && engine_write_busy(w.e); turns++) {
			ck_assert_uint_eq(engine_last_sequence(w.e), 0);
			ck_assert_int_eq(world_get(&w, slice_str("key00000"), engine_last_sequence(w.e), &got, &size),
					 SHALE_NOTFOUND);
			ck_ok(engine_pump(w.e, true));
		}
		if (round == 0) {
			ck_assert_uint_ge(turns, 8);
			ck_ok(engine_write_result(w.e, &sequence, &position));
			ck_assert_uint_eq(sequence, COUNT);
			p = batch_begin(batch);
			for (unsigned i = 0; i < COUNT; i++) {
				snprintf(key, sizeof(key), "key%05u", i);
				p = batch_append_put(p, slice_str(key), slice_str("w"));
			}
			batch_set_count(batch, COUNT);
		}
	}
	world_close(&w);
	world_open(&w);
	ck_assert_uint_eq(engine_last_sequence(w.e), 2 * COUNT);
	for (unsigned i = 0; i < COUNT; i += 99) {
		snprintf(key, sizeof(key), "key%05u", i);
		ck_ok(world_get(&w, slice_str(key), engine_last_sequence(w.e), &got, &size));
		ck_assert_mem_eq(got, "w", 1);
		free(got);
	}
	world_fini(&w);
	free(batch);
}
END_TEST

/*
 * The engine fails while records go into the memtable: the whole of it is in the log by then, so it is ended, acknowledged and shown, as it is after a
 * restart. One that fails before its last part was in the log is in neither.
 */
START_TEST(failure_on_the_way)
{
	enum { COUNT = 5000 };
	struct one large = one_new("large", LARGE, 11);
	unsigned char *batch = malloc(BATCH_HEADER_SIZE + COUNT * 32), *p = batch_begin(batch), *got;
	uint64_t sequence = 0, position;
	struct world w;
	uint16_t why;
	size_t size;
	char key[16];
	int rc;

	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(key, sizeof(key), "key%05u", i);
		p = batch_append_put(p, slice_str(key), slice_str("v"));
	}
	batch_set_count(batch, COUNT);
	begin(&w, IO_BACKEND_AUTO);
	while ((rc = engine_write(w.e, batch, (size_t)(p - batch), &sequence, &position, &why)) == -EAGAIN)
		step(&w, &rc);
	ck_assert_int_eq(rc, WRITE_UNDERWAY);
	while (!engine_write_busy(w.e))
		ck_assert(!step(&w, &rc));
	engine_fail(w.e, -EIO, NULL);
	while ((rc = engine_write_result(w.e, &sequence, &position)) == WRITE_UNDERWAY)
		engine_pump(w.e, true);
	ck_ok(rc);
	ck_assert_uint_eq(sequence, COUNT);
	ck_ok(world_get(&w, slice_str("key04999"), engine_last_sequence(w.e), &got, &size));
	free(got);
	ck_assert_int_eq(engine_write(w.e, batch, (size_t)(p - batch), &sequence, &position, &why), -SHALE_EFAILED);
	world_abandon(&w);
	world_open(&w);
	ck_assert_uint_eq(engine_last_sequence(w.e), COUNT);

	take(&w, &large);
	while (!w.e->large.begun)
		ck_assert(!step(&w, &rc));
	engine_fail(w.e, -EIO, NULL);
	while ((rc = engine_write_result(w.e, &sequence, &position)) == WRITE_UNDERWAY)
		engine_pump(w.e, true);
	ck_assert_int_eq(rc, -SHALE_EFAILED);
	check_absent(&w, &large);
	world_abandon(&w);
	world_open(&w);
	check_absent(&w, &large);
	ck_assert_uint_eq(engine_last_sequence(w.e), COUNT);
	world_fini(&w);
	one_free(&large);
	free(batch);
}
END_TEST

/* So many records that no memtable can hold them are refused, once; before, other writes waited for them for ever. */
START_TEST(more_than_any_memtable_holds)
{
	enum { COUNT = 66 << 20 };
	size_t size = BATCH_HEADER_SIZE + 2 * (size_t)COUNT;
	unsigned char *batch = calloc(1, size); /* deletions of the empty key: two zero bytes each */
	uint64_t sequence, position;
	struct one small = one_new("small", SMALL, 12);
	struct world w;
	uint16_t why;
	int rc;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.max_batch_bytes = size;
	w.options.limits.max_count = 0;
	world_open(&w);
	batch_set_count(batch, COUNT);
	ck_assert_int_eq(engine_write(w.e, batch, size, &sequence, &position, &why), WRITE_UNDERWAY);
	free(batch);
	for (unsigned turns = 0; (rc = engine_write_result(w.e, &sequence, &position)) == WRITE_UNDERWAY; turns++) {
		ck_assert_uint_lt(turns, 1000);
		step(&w, &rc);
		if (rc != WRITE_UNDERWAY)
			break;
	}
	ck_assert_int_eq(rc, -E2BIG);
	ck_assert_uint_eq(world_write(&w, small.batch, small.size), 1);
	check_one(&w, &small);
	world_fini(&w);
	one_free(&small);
}
END_TEST

/* ---- a full disk ---- */

static struct {
	struct io_queue_ops ops;
	const struct io_queue_ops *real;
} full;

static void submit_to_full(struct io_queue *q, struct io_req *req)
{
	if (req->op == IO_WRITE) {
		req->result = -ENOSPC;
		req->done(req);
		return;
	}
	full.real->submit(q, req);
}

/* A clean end does not wait for space that never comes: what was acknowledged stays in the window, and what was on its way was not. */
START_TEST(close_on_a_full_disk)
{
	struct one large = one_new("large", LARGE, 13), small = one_new("small", SMALL, 14);
	struct world w;
	int rc;

	begin(&w, IO_BACKEND_POSIX);
	world_write(&w, small.batch, small.size);
	take(&w, &large);
	while (!w.e->large.begun)
		ck_assert(!step(&w, &rc));
	full.real = w.service->ops;
	full.ops = *w.service->ops;
	full.ops.submit = submit_to_full;
	w.service->ops = &full.ops;
	engine_stop_jobs(w.e);
	ck_assert_int_eq(engine_close(w.e), -ENOSPC);
	w.e = NULL;
	w.service->ops = full.real;
	io_queue_free(w.service);
	io_queue_free(w.worker);
	io_env_close(w.env);
	w.service = w.worker = NULL;
	w.env = NULL;
	world_open(&w);
	check_one(&w, &small);
	check_absent(&w, &large);
	world_fini(&w);
	one_free(&large);
	one_free(&small);
}
END_TEST

/* Many records in one large batch take their sequences in order; what is malformed or over a limit is refused before anything is taken. */
START_TEST(batches_of_many_and_refusals)
{
	enum { EACH = 1000, COUNT = 700 };
	unsigned char *batch = malloc(BATCH_HEADER_SIZE + COUNT * (EACH + 32)), *p = batch_begin(batch);
	unsigned char value[EACH], *got;
	uint64_t sequence, position;
	struct world w;
	uint16_t why;
	size_t size;
	char key[16];

	begin(&w, IO_BACKEND_AUTO);
	for (unsigned i = 0; i < COUNT; i++) {
		fill(value, sizeof(value), i);
		snprintf(key, sizeof(key), "key%05u", i % 500);
		p = batch_append_put(p, slice_str(key), slice_of(value, sizeof(value)));
	}
	batch_set_count(batch, COUNT + 1);
	ck_assert_int_eq(engine_write(w.e, batch, (size_t)(p - batch), &sequence, &position, &why), -EBADMSG);
	batch_set_count(batch, COUNT);
	ck_assert_int_eq(engine_write_result(w.e, &sequence, &position), -ENOENT);
	ck_assert_uint_eq(world_write(&w, batch, (size_t)(p - batch)), COUNT);
	for (unsigned i = 0; i < 500; i += 7) {
		fill(value, sizeof(value), i + 500 < COUNT ? i + 500 : i);
		snprintf(key, sizeof(key), "key%05u", i);
		ck_ok(world_get(&w, slice_str(key), COUNT, &got, &size));
		ck_assert_mem_eq(got, value, EACH);
		free(got);
	}
	ck_assert_int_eq(engine_write(w.e, batch, w.options.max_batch_bytes + 1, &sequence, &position, &why), -E2BIG);
	world_fini(&w);
	free(batch);
}
END_TEST

/* One value of 64 MiB with the sizes that the daemon has. */
START_TEST(sixty_four_mebibytes)
{
	struct one large = one_new("large", 64 << 20, 9);
	struct world w;

	world_init(&w, IO_BACKEND_AUTO);
	engine_options_default(&w.options);
	munmap(w.window, w.host.window_size);
	w.host.window_size = wal_window_size(w.options.wal_ring_bytes);
	w.host.window = w.window =
		mmap(NULL, w.host.window_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	world_open(&w);
	ck_assert_uint_eq(world_write(&w, large.batch, large.size), 1);
	check_one(&w, &large);
	world_abandon(&w);
	world_open(&w);
	check_one(&w, &large);
	world_flush(&w);
	check_one(&w, &large);
	world_fini(&w);
	one_free(&large);
}
END_TEST

TEST_MAIN("large", 60, comes_back_from_everywhere, nothing_comes_between, torn_by_a_kill, close_ends_what_was_begun,
	  many_records_go_in_slices, failure_on_the_way, more_than_any_memtable_holds, close_on_a_full_disk,
	  batches_of_many_and_refusals, sixty_four_mebibytes)
