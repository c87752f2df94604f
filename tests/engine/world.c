#include "tests/engine/world.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/check.h"
#include "engine/wal.h"

static void log_line(struct engine_host *h, int priority, const char *text)
{
	struct world *w = container_of(h, struct world, host);

	w->logged[priority & 7]++;
	snprintf(w->last_log, sizeof(w->last_log), "%s", text);
	if (getenv("SHALE_TEST_LOG"))
		fprintf(stderr, "<%d> %s\n", priority, text);
}

void world_init(struct world *w, enum io_backend backend)
{
	memset(w, 0, sizeof(*w));
	w->dir = test_tmpdir();
	w->backend = backend;
	engine_options_default(&w->options);
	w->options.write_buffer_bytes = 32 << 10;
	w->options.wal_ring_bytes = 256 << 10;
	w->options.block_cache_bytes = 64 << 10;
	w->options.max_open_tables = 16;
	w->options.table.block_bytes = 1024;
	w->options.levels.max_file_bytes = 16 << 10;
	w->options.levels.level1_bytes = 64 << 10;
	w->options.levels.level_multiplier = 4;
	w->host.log = log_line;
	w->host.window_size = wal_window_size(w->options.wal_ring_bytes);
	w->window = mmap(NULL, w->host.window_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert(w->window != MAP_FAILED);
	w->host.window = w->window;
}

int world_try_open(struct world *w, struct err_info *err)
{
	int rc;

	ck_ok(io_env_open(w->dir, w->backend, false, &w->env, err));
	ck_ok(io_queue_new(w->env, 64, &w->service));
	ck_ok(io_queue_new(w->env, 64, &w->worker));
	rc = engine_open(w->env, w->service, &w->options, &w->host, &w->recovery, &w->e, err);
	if (rc < 0) {
		io_queue_free(w->service);
		io_queue_free(w->worker);
		io_env_close(w->env);
		w->env = NULL;
	}
	return rc;
}

void world_open(struct world *w)
{
	struct err_info err = {0};
	int rc = world_try_open(w, &err);

	ck_assert_msg(rc == 0, "engine_open: %d, %s", rc, err.text);
}

static void shut(struct world *w)
{
	w->e = NULL;
	io_queue_free(w->service);
	io_queue_free(w->worker);
	io_env_close(w->env);
	w->env = NULL;
}

void world_close(struct world *w)
{
	engine_stop_jobs(w->e);
	ck_ok(engine_close(w->e));
	shut(w);
}

void world_abandon(struct world *w)
{
	engine_abandon(w->e);
	shut(w);
}

void world_lose_window(struct world *w)
{
	memset(w->window, 0, w->host.window_size);
}

void world_fini(struct world *w)
{
	if (w->e)
		world_abandon(w);
	munmap(w->window, w->host.window_size);
	test_rmtree(w->dir);
	free(w->dir);
}

/* ---- writing ---- */

static void pump(struct world *w)
{
	ck_assert_int_ge(io_queue_poll(w->service), 0);
	ck_ok(engine_pump(w->e, true));
	ck_assert_int_ge(io_queue_poll(w->service), 0);
}

uint64_t world_write(struct world *w, const void *batch, size_t size)
{
	uint64_t sequence, position;
	uint16_t why;
	int rc;

	for (unsigned tries = 0;; tries++) {
		why = 0;
		rc = engine_write(w->e, batch, size, &sequence, &position, &why);
		if (rc != -EAGAIN)
			break;
		ck_assert_uint_ne(why, 0);
		ck_assert_msg(tries < 100000, "stalled for ever: why %#x", why);
		pump(w);
		world_run_one(w, JOBS_ALL);
	}
	while (rc == WRITE_UNDERWAY) {
		pump(w);
		world_run_one(w, JOBS_ALL);
		rc = engine_write_result(w->e, &sequence, &position);
	}
	ck_assert_msg(rc == 0, "engine_write: %d", rc);
	return sequence;
}

static uint64_t write_one(struct world *w, bool put, struct slice key, struct slice value)
{
	unsigned char *batch = malloc(BATCH_HEADER_SIZE + batch_put_size(key.size, value.size)), *p;
	uint64_t sequence;

	p = batch_begin(batch);
	p = put ? batch_append_put(p, key, value) : batch_append_delete(p, key);
	batch_set_count(batch, 1);
	sequence = world_write(w, batch, (size_t)(p - batch));
	free(batch);
	return sequence;
}

uint64_t world_put(struct world *w, struct slice key, struct slice value)
{
	return write_one(w, true, key, value);
}

uint64_t world_delete(struct world *w, struct slice key)
{
	return write_one(w, false, key, slice_of(NULL, 0));
}

void world_sync(struct world *w)
{
	unsigned char empty[BATCH_HEADER_SIZE];
	uint64_t sequence, position;
	uint16_t why;

	batch_begin(empty);
	batch_set_count(empty, 0);
	for (;;) {
		int rc = engine_write(w->e, empty, sizeof(empty), &sequence, &position, &why);

		if (rc == 0)
			break;
		ck_assert_int_eq(rc, -EAGAIN);
		pump(w);
		world_run_one(w, JOBS_ALL);
	}
	engine_want_sync(w->e, position);
	while (engine_synced(w->e) < position) {
		pump(w);
		if (engine_synced(w->e) < position)
			ck_assert_int_ge(io_queue_wait(w->service, UINT64_C(1000000)), 0);
	}
}

/* ---- jobs ---- */

bool world_run_one(struct world *w, unsigned kinds)
{
	struct job *j = engine_next_job(w->e, kinds);

	if (!j)
		return false;
	ck_ok(engine_run_job(w->e, j, w->worker));
	return true;
}

void world_run_all(struct world *w, unsigned kinds)
{
	do
		pump(w);
	while (world_run_one(w, kinds));
}

void world_flush(struct world *w)
{
	uint64_t ticket;
	int rc;

	while ((rc = engine_flush_start(w->e, &ticket)) == -EAGAIN) {
		pump(w);
		world_run_one(w, JOBS_ALL);
	}
	ck_ok(rc);
	while ((rc = engine_flush_done(w->e, ticket)) == 0) {
		pump(w);
		world_run_one(w, JOB_LOG | JOB_FLUSH);
	}
	ck_assert_int_eq(rc, 1);
}

void world_compact(struct world *w, const struct slice *begin, const struct slice *end)
{
	uint64_t ticket;
	int rc;

	ck_ok(engine_compact_start(w->e, begin, end, &ticket));
	for (unsigned i = 0; (rc = engine_compact_done(w->e, ticket)) == 0; i++) {
		ck_assert_msg(i < 100000, "a manual compaction never ends");
		pump(w);
		world_run_one(w, JOBS_ALL);
	}
	ck_assert_int_eq(rc, 1);
}

/* ---- reading ---- */

static void fetched(struct read_ctx *ctx)
{
	(void)ctx;
}

void world_fetch(struct world *w, struct read_ctx *ctx)
{
	ck_ok(read_ctx_fetch(ctx, fetched));
	while (ctx->in_flight)
		ck_assert_int_ge(io_queue_wait(w->service, UINT64_MAX), 0);
}

int world_get(struct world *w, struct slice key, uint64_t sequence, unsigned char **value_out, size_t *size_out)
{
	struct view *v = engine_view(w->e);
	struct read_ctx ctx;
	struct slice value;
	int rc;

	read_ctx_init(&ctx, engine_read_shared(w->e));
	while ((rc = engine_get(v, &ctx, sequence, key, &value)) == READ_MISS)
		world_fetch(w, &ctx);
	if (rc == 0) {
		*value_out = malloc(value.size + 1);
		memcpy(*value_out, value.data, value.size);
		*size_out = value.size;
	}
	read_ctx_fini(&ctx);
	view_unref(v);
	return rc;
}

int world_scan(struct world *w, struct scan *s)
{
	struct view *v = engine_view(w->e);
	struct read_ctx ctx;
	int rc;

	read_ctx_init(&ctx, engine_read_shared(w->e));
	while ((rc = engine_scan(v, &ctx, s)) == READ_MISS)
		world_fetch(w, &ctx);
	read_ctx_fini(&ctx);
	view_unref(v);
	return rc;
}

bool scan_entry(const unsigned char **at, const unsigned char *end, struct slice *key_out, struct slice *value_out)
{
	uint32_t key, value;
	const unsigned char *p = *at;

	if (p == end)
		return false;
	p = varint32_get(p, end, &key);
	ck_assert_ptr_nonnull(p);
	p = varint32_get(p, end, &value);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_le((size_t)key + value, (size_t)(end - p));
	*key_out = slice_of(p, key);
	*value_out = slice_of(p + key, value);
	*at = p + key + value;
	return true;
}

size_t world_scan_all(struct world *w, uint64_t sequence, bool reverse, size_t chunk,
		      void (*each)(void *context, struct slice key, struct slice value), void *context)
{
	unsigned char *out = malloc(chunk), *last = NULL;
	size_t entries = 0, last_size = 0;
	bool more = true;

	while (more) {
		struct scan s = {.sequence = sequence, .reverse = reverse, .out = out, .out_size = chunk};
		const unsigned char *at = out;
		struct slice key = {0}, value;
		uint32_t n = 0;

		if (last) {
			s.has_start = s.exclusive = true;
			s.start = slice_of(last, last_size);
		}
		ck_ok(world_scan(w, &s));
		while (scan_entry(&at, out + s.used, &key, &value)) {
			if (each)
				each(context, key, value);
			n++;
		}
		ck_assert_uint_eq(n, s.count);
		more = s.more;
		ck_assert_msg(!more || n || s.needed, "a chunk without entries says that there is more");
		if (more && !n) {
			ck_assert_uint_gt(s.needed, chunk);
			chunk = s.needed;
			out = realloc(out, chunk);
		} else if (n) {
			unsigned char *copy = malloc(key.size + 1);

			memcpy(copy, key.data, key.size);
			free(last);
			last = copy;
			last_size = key.size;
		}
		entries += n;
		scan_fini(&s);
	}
	free(last);
	free(out);
	return entries;
}

unsigned world_files(struct world *w, unsigned level)
{
	struct engine_stats stats;

	engine_stats(w->e, &stats);
	return (unsigned)stats.level[level].files;
}

void world_check(struct world *w)
{
	struct err_info err = {0};
	int rc = engine_check(w->e, &err);

	ck_assert_msg(rc == 0, "engine_check: %d, %s", rc, err.text);
}

void world_check_deep(struct world *w)
{
	struct err_info err = {0};
	int rc = engine_check_deep(w->e, w->worker, &err);

	ck_assert_msg(rc == 0, "engine_check_deep: %d, %s", rc, err.text);
}
