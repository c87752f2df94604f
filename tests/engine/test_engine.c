/* The whole engine against a model: one thread plays service thread, workers, clock and the hand that kills. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/layout.h"
#include "tests/engine/model.h"

enum { PINS_MAX = 6 };

struct play {
	struct world w;
	struct model m;
	uint64_t seed;
	uint64_t pins[PINS_MAX];
	unsigned pin_count;
	uint64_t ticket; /* of a manual compaction under way; 0: none */
};

static uint64_t pick(struct play *p, uint64_t n)
{
	return test_random(&p->seed) % n;
}

static uint64_t some_sequence(struct play *p)
{
	if (p->pin_count && pick(p, 2))
		return p->pins[pick(p, p->pin_count)];
	return engine_last_sequence(p->w.e);
}

static void unpin(struct play *p, unsigned i)
{
	ck_assert(engine_snapshot_held(p->w.e, p->pins[i]));
	engine_snapshot_release(p->w.e, p->pins[i]);
	p->pins[i] = p->pins[--p->pin_count];
}

/* A chunk of a range with random ends, compared with the model. */
static void scan_range(struct play *p)
{
	unsigned char start[MODEL_KEY_MAX], limit[MODEL_KEY_MAX], out[3000];
	unsigned a = (unsigned)pick(p, p->m.keys), b = (unsigned)pick(p, p->m.keys);
	const unsigned char *at = out;
	struct slice key, value;
	struct scan s = {.sequence = some_sequence(p),
			 .reverse = pick(p, 2),
			 .exclusive = pick(p, 2),
			 .has_start = pick(p, 4),
			 .has_limit = pick(p, 4),
			 .max_count = pick(p, 2) ? (uint32_t)pick(p, 20) : 0,
			 .out = out,
			 .out_size = sizeof(out)};
	long i, step = s.reverse ? -1 : 1, end;

	if ((a > b) != s.reverse) {
		unsigned t = a;

		a = b;
		b = t;
	}
	s.start = model_key(a, start);
	s.limit = model_key(b, limit);
	ck_ok(world_scan(&p->w, &s));
	i = s.has_start ? a : s.reverse ? (long)p->m.keys - 1 : 0;
	if (s.has_start && s.exclusive)
		i += step;
	end = !s.has_limit ? (s.reverse ? -1 : (long)p->m.keys) : s.reverse ? (long)b - 1 : (long)b;
	while (scan_entry(&at, out + s.used, &key, &value)) {
		unsigned char buf[MODEL_KEY_MAX], vbuf[MODEL_VALUE_MAX];
		const struct model_entry *want;

		while (i != end && (step > 0 ? i < end : i > end) && !model_get(&p->m, (unsigned)i, s.sequence))
			i += step;
		ck_assert(step > 0 ? i < end : i > end);
		want = model_get(&p->m, (unsigned)i, s.sequence);
		ck_assert(slice_equal(model_key((unsigned)i, buf), key));
		ck_assert(slice_equal(model_value(want->seed, want->size, vbuf), value));
		i += step;
	}
	while ((step > 0 ? i < end : i > end) && !model_get(&p->m, (unsigned)i, s.sequence))
		i += step;
	if (!s.more)
		ck_assert_msg(step > 0 ? i >= end : i <= end, "a range ends too early");
	if (s.max_count)
		ck_assert_uint_le(s.count, s.max_count);
	scan_fini(&s);
}

static void check_all(struct play *p)
{
	uint64_t last = engine_last_sequence(p->w.e);

	world_check(&p->w);
	model_check_scan(&p->m, &p->w, last, false, 4000 + pick(&*p, 8000));
	model_check_scan(&p->m, &p->w, last, true, 4000 + pick(&*p, 8000));
	for (unsigned i = 0; i < p->pin_count; i++)
		model_check_scan(&p->m, &p->w, p->pins[i], i & 1, 10000);
	for (unsigned i = 0; i < p->m.keys; i += 7)
		model_check_get(&p->m, &p->w, i, last);
}

static void reopen(struct play *p)
{
	uint64_t last = engine_last_sequence(p->w.e);
	bool kill = pick(p, 2);

	while (p->pin_count) /* pins do not outlive the engine */
		unpin(p, 0);
	p->ticket = 0;
	if (kill)
		world_abandon(&p->w);
	else
		world_close(&p->w);
	world_open(&p->w);
	/* Nothing that was acknowledged is lost, not even what was in the window only; no number is given out again. */
	ck_assert_uint_ge(engine_last_sequence(p->w.e), last);
	ck_assert_uint_eq(p->w.recovery.dropped_bytes, 0);
	check_all(p);
}

static void manual(struct play *p)
{
	unsigned char a[MODEL_KEY_MAX], b[MODEL_KEY_MAX];
	struct slice begin = model_key((unsigned)pick(p, p->m.keys), a),
		     end = model_key((unsigned)pick(p, p->m.keys), b);
	int rc;

	if (p->ticket) {
		rc = engine_compact_done(p->w.e, p->ticket);
		ck_assert_int_ge(rc, 0);
		if (rc == 1)
			p->ticket = 0;
		return;
	}
	if (slice_compare(begin, end) > 0) {
		struct slice t = begin;

		begin = end;
		end = t;
	}
	ck_ok(engine_compact_start(p->w.e, pick(p, 3) ? &begin : NULL, pick(p, 3) ? &end : NULL, &p->ticket));
}

static void one_step(struct play *p)
{
	uint64_t dice = pick(p, 1000), ticket;

	if (dice < 600) {
		model_write(&p->m, &p->w, &p->seed, pick(p, 10) ? 4 : 64, pick(p, 50) ? 200 : MODEL_VALUE_MAX);
	} else if (dice < 740) {
		model_check_get(&p->m, &p->w, (unsigned)pick(p, p->m.keys), some_sequence(p));
	} else if (dice < 790) {
		scan_range(p);
	} else if (dice < 920) {
		world_run_one(&p->w, pick(p, 2) ? JOBS_ALL : 1u << pick(p, 4));
	} else if (dice < 950) {
		ck_assert_int_ge(io_queue_poll(p->w.service), 0);
		ck_ok(engine_pump(p->w.e, pick(p, 2)));
	} else if (dice < 960) {
		if (p->pin_count < PINS_MAX)
			ck_ok(engine_snapshot_take(p->w.e, &p->pins[p->pin_count++]));
	} else if (dice < 970) {
		if (p->pin_count)
			unpin(p, (unsigned)pick(p, p->pin_count));
	} else if (dice < 980) {
		int rc = engine_flush_start(p->w.e, &ticket);

		ck_assert(rc == 0 || rc == -EAGAIN);
	} else if (dice < 988) {
		manual(p);
	} else if (dice < 994) {
		world_sync(&p->w);
	} else if (dice < 996) {
		check_all(p);
	} else if (dice < 998) {
		reopen(p);
	}
}

static void play(enum io_backend backend, unsigned steps, unsigned keys)
{
	struct play p = {.seed = test_seed()};
	struct engine_stats stats;

	world_init(&p.w, backend);
	if (pick(&p, 2))
		p.w.options.table.compression = COMPRESS_NONE;
	p.w.options.max_immutables = 1 + (unsigned)pick(&p, 3);
	model_init(&p.m, keys);
	world_open(&p.w);
	ck_assert(p.w.recovery.created);
	for (unsigned i = 0; i < steps; i++)
		one_step(&p);
	world_run_all(&p.w, JOBS_ALL);
	check_all(&p);
	engine_stats(p.w.e, &stats);
	ck_assert_msg(stats.jobs_failed == 0, "jobs failed: %s", p.w.last_log);
	ck_assert_uint_eq(stats.jobs_running, 0);
	ck_assert_uint_gt(stats.jobs_ever, 0);
	reopen(&p);
	/* With no snapshot left, a compaction of everything leaves exactly one version of each key. */
	world_compact(&p.w, NULL, NULL);
	world_run_all(&p.w, JOBS_ALL);
	check_all(&p);
	world_close(&p.w);
	model_fini(&p.m);
	world_fini(&p.w);
}

/* Whatever is done in whatever order, reads at any pinned sequence equal the model; io_uring where it is to be had. */
START_TEST(random_work_equals_model)
{
	play(IO_BACKEND_AUTO, 3500, 1500);
}
END_TEST

/* The same on plain system calls, where completions come in another order. */
START_TEST(random_work_equals_model_on_posix)
{
	play(IO_BACKEND_POSIX, 3500, 1500);
}
END_TEST

/* Few keys and many versions of each: snapshots, shadowed entries and tombstones meet in every merge. */
START_TEST(random_work_on_few_keys_equals_model)
{
	play(IO_BACKEND_POSIX, 3500, 40);
}
END_TEST

static void put_string(struct world *w, const char *key, const char *value)
{
	world_put(w, slice_str(key), slice_str(value));
}

/* A batch that is malformed or over a limit is refused as a whole, and the sequence does not move. */
START_TEST(bad_batches_leave_no_trace)
{
	unsigned char batch[64] = {0}, *p = batch_begin(batch);
	uint64_t sequence, position, last;
	uint16_t why;
	struct world w;
	size_t size;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.limits.max_key = 8;
	world_open(&w);
	put_string(&w, "a", "1");
	last = engine_last_sequence(w.e);
	p = batch_append_put(p, slice_str("b"), slice_str("2"));
	batch_set_count(batch, 2); /* says two, holds one */
	size = (size_t)(p - batch);
	ck_assert_int_eq(engine_write(w.e, batch, size, &sequence, &position, &why), -EBADMSG);
	ck_assert_int_eq(engine_write(w.e, batch, 3, &sequence, &position, &why), -EBADMSG);
	p = batch_append_put(batch_begin(batch), slice_str("longer than 8"), slice_str(""));
	batch_set_count(batch, 1);
	ck_assert_int_eq(engine_write(w.e, batch, (size_t)(p - batch), &sequence, &position, &why), -E2BIG);
	ck_assert_uint_eq(engine_last_sequence(w.e), last);
	world_abandon(&w);
	world_open(&w);
	ck_assert_uint_eq(w.recovery.records, 1);
	world_fini(&w);
}
END_TEST

/* A batch without records succeeds and appends nothing: LevelDB's clients send such ones to sync. */
START_TEST(empty_batch_changes_nothing)
{
	unsigned char batch[BATCH_HEADER_SIZE];
	uint64_t sequence, position;
	uint16_t why;
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	put_string(&w, "a", "1");
	batch_begin(batch);
	batch_set_count(batch, 0);
	ck_ok(engine_write(w.e, batch, sizeof(batch), &sequence, &position, &why));
	ck_assert_uint_eq(sequence, 1);
	ck_assert_uint_eq(engine_last_sequence(w.e), 1);
	world_fini(&w);
}
END_TEST

/* A batch larger than a memtable gets a memtable of its own size; one larger than the limit is refused. */
START_TEST(large_batches)
{
	size_t size = 200 << 10;
	unsigned char *value = calloc(1, size), *batch = malloc(size + 64), *big = calloc(1, 1 << 20), *p, *got;
	uint64_t sequence, position;
	uint16_t why;
	struct world w;
	size_t got_size;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.max_batch_bytes = 1 << 19;
	world_open(&w);
	for (unsigned round = 0; round < 3; round++) { /* into an empty memtable, then behind other entries */
		memset(value, 'a' + (int)round, size);
		p = batch_append_put(batch_begin(batch), slice_str("big"), slice_of(value, size));
		batch_set_count(batch, 1);
		world_write(&w, batch, (size_t)(p - batch));
		put_string(&w, "small", "1");
		ck_ok(world_get(&w, slice_str("big"), engine_last_sequence(w.e), &got, &got_size));
		ck_assert(got_size == size && memcmp(got, value, size) == 0);
		free(got);
	}
	ck_assert_int_eq(engine_write(w.e, big, 1 << 20, &sequence, &position, &why), -E2BIG);
	world_run_all(&w, JOBS_ALL);
	world_abandon(&w);
	world_open(&w);
	ck_ok(world_get(&w, slice_str("big"), engine_last_sequence(w.e), &got, &got_size));
	ck_assert(got_size == size && memcmp(got, value, size) == 0);
	free(got);
	world_fini(&w);
	free(value);
	free(batch);
	free(big);
}
END_TEST

/* A view shows the state of its making for ever, whatever is flushed, compacted and deleted meanwhile. */
START_TEST(views_stay)
{
	struct world w;
	struct model m;
	struct view *v;
	uint64_t seed = test_seed(), sequence;
	unsigned char key[MODEL_KEY_MAX], buf[MODEL_VALUE_MAX];

	world_init(&w, IO_BACKEND_POSIX);
	model_init(&m, 300);
	world_open(&w);
	for (unsigned i = 0; i < 600; i++)
		model_write(&m, &w, &seed, 4, 200);
	v = engine_view(w.e);
	sequence = engine_last_sequence(w.e);
	for (unsigned i = 0; i < 1200; i++)
		model_write(&m, &w, &seed, 4, 200);
	world_compact(&w, NULL, NULL);
	world_run_all(&w, JOBS_ALL);
	for (unsigned i = 0; i < m.keys; i++) {
		const struct model_entry *want = model_get(&m, i, sequence);
		struct read_ctx ctx;
		struct slice value;
		int rc;

		read_ctx_init(&ctx, engine_read_shared(w.e));
		while ((rc = engine_get(v, &ctx, sequence, model_key(i, key), &value)) == READ_MISS)
			world_fetch(&w, &ctx);
		ck_assert_int_eq(rc, want ? 0 : SHALE_NOTFOUND);
		if (want)
			ck_assert(slice_equal(model_value(want->seed, want->size, buf), value));
		read_ctx_fini(&ctx);
	}
	view_unref(v);
	model_fini(&m);
	world_fini(&w);
}
END_TEST

/* LevelDB's property texts, as its tools and bindings parse them. */
START_TEST(properties)
{
	struct world w;
	char *text;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	put_string(&w, "k\x01", "1");
	world_flush(&w);
	ck_ok(engine_property(w.e, slice_str("leveldb.num-files-at-level2"), &text));
	ck_assert_str_eq(text, "1");
	free(text);
	ck_ok(engine_property(w.e, slice_str("leveldb.stats"), &text));
	ck_assert_ptr_nonnull(strstr(text, "Level  Files Size(MB) Time(sec) Read(MB) Write(MB)\n"));
	free(text);
	ck_ok(engine_property(w.e, slice_str("leveldb.sstables"), &text));
	ck_assert_ptr_nonnull(strstr(text, "--- level 2 ---\n "));
	ck_assert_ptr_nonnull(strstr(text, "['k\\x01' @ 1 : 1 .. 'k\\x01' @ 1 : 1]\n"));
	free(text);
	ck_ok(engine_property(w.e, slice_str("leveldb.approximate-memory-usage"), &text));
	ck_assert_int_gt(atoi(text), 0);
	free(text);
	ck_assert_int_eq(engine_property(w.e, slice_str("leveldb.num-files-at-level7"), &text), SHALE_NOTFOUND);
	ck_assert_int_eq(engine_property(w.e, slice_str("leveldb.num-files-at-level"), &text), SHALE_NOTFOUND);
	ck_assert_int_eq(engine_property(w.e, slice_str("leveldb.other"), &text), SHALE_NOTFOUND);
	ck_assert_int_eq(engine_property(w.e, slice_str("stats"), &text), SHALE_NOTFOUND);
	world_fini(&w);
}
END_TEST

/* Sizes grow with the range, and a range without anything in it has none. */
START_TEST(approximate_sizes)
{
	struct world w;
	uint64_t half, all;
	char key[16];
	unsigned char value[500];
	uint64_t seed = 7;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.table.compression = COMPRESS_NONE;
	world_open(&w);
	for (unsigned i = 0; i < 1000; i++) {
		for (size_t k = 0; k < sizeof(value); k++)
			value[k] = (unsigned char)test_random(&seed);
		snprintf(key, sizeof(key), "%06u", i);
		world_put(&w, slice_str(key), slice_of(value, sizeof(value)));
	}
	world_flush(&w);
	world_run_all(&w, JOBS_ALL);
	all = engine_approximate_size(w.e, slice_str("0"), slice_str("9"));
	half = engine_approximate_size(w.e, slice_str("000000"), slice_str("000500"));
	ck_assert_uint_gt(all, 400000);
	ck_assert_uint_lt(all, 700000);
	ck_assert_uint_gt(half, all / 3);
	ck_assert_uint_lt(half, all * 2 / 3);
	ck_assert_uint_eq(engine_approximate_size(w.e, slice_str("x"), slice_str("y")), 0);
	ck_assert_uint_eq(engine_approximate_size(w.e, slice_str("9"), slice_str("0")), 0);
	world_fini(&w);
}
END_TEST

/* Options that cannot work are refused with words, before anything is touched. */
START_TEST(impossible_options_are_refused)
{
	struct err_info err = {0};
	struct world w;

	world_init(&w, IO_BACKEND_POSIX);
	w.options.wal_ring_bytes = 300000;
	ck_assert_int_eq(world_try_open(&w, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "wal_ring_bytes"));
	w.options.wal_ring_bytes = 256 << 10;
	w.options.max_immutables = 0;
	ck_assert_int_eq(world_try_open(&w, &err), -EINVAL);
	w.options.max_immutables = 1;
	w.options.create_if_missing = false;
	ck_assert_int_eq(world_try_open(&w, &err), -SHALE_ENODATABASE);
	w.options.create_if_missing = true;
	world_open(&w);
	world_close(&w);
	w.options.error_if_exists = true;
	ck_assert_int_eq(world_try_open(&w, &err), -EEXIST);
	world_fini(&w);
}
END_TEST

/* A directory has one owner at a time. */
START_TEST(second_engine_is_refused)
{
	struct world w, other;
	struct err_info err = {0};
	char *dir;

	world_init(&w, IO_BACKEND_POSIX);
	world_open(&w);
	world_init(&other, IO_BACKEND_POSIX);
	dir = other.dir;
	other.dir = w.dir;
	ck_assert_int_eq(world_try_open(&other, &err), -SHALE_ELOCKED);
	ck_assert_str_ne(err.text, "");
	other.dir = dir;
	world_fini(&other);
	put_string(&w, "a", "1");
	world_fini(&w);
}
END_TEST

TEST_MAIN("engine", 60, random_work_equals_model, random_work_equals_model_on_posix,
	  random_work_on_few_keys_equals_model, bad_batches_leave_no_trace, empty_batch_changes_nothing, large_batches,
	  views_stay, properties, approximate_sizes, impossible_options_are_refused, second_engine_is_refused)
