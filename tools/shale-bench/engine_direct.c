/*
 * The engine in this process, without daemon, ring or client library: what is left of a call when nobody is crossed. The workers are
 * the daemon's own; the service thread's part is played by the one worker. (The lock is for the thread that reads statistics.)
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "daemon/config.h"
#include "daemon/worker.h"
#include "shm/error.h"
#include "tools/shale-bench/bench.h"

enum { PUMP_EVERY = 32, CHUNK_BYTES = 64 << 10, CHUNK_FIRST = 1 << 10 };

struct session {
	struct read_ctx ctx;
	unsigned char *batch; /* batch_put's, and that of a single write */
	size_t batch_size, batch_cap;
	uint32_t batch_count;
	/* the cursor */
	struct view *view;
	uint64_t sequence;
	bool fill_cache, reverse, more;
	int rc;
	unsigned char *chunk;
	size_t chunk_cap, chunk_used;
	struct entry {
		uint32_t key, key_size, value_size; /* key: offset in the chunk; its value follows */
	} * entries;
	size_t count, at, entries_cap;
};

static struct {
	struct io_env *env;
	struct io_queue *queue;
	struct engine_host host;
	struct engine *engine;
	struct workers workers;
	pthread_mutex_t lock;
	unsigned since_pump;
} db;

static void jobs_ready(struct engine_host *h)
{
	(void)h;
	workers_wake(&db.workers);
}

static void progress(struct engine_host *h)
{
	(void)h;
}

static void say(struct engine_host *h, int priority, const char *text)
{
	(void)h;
	if (priority <= 4)
		fprintf(stderr, "shale-bench: engine: %s\n", text);
}

static int failed(int rc, const char *words)
{
	if (rc < 0)
		fprintf(stderr, "shale-bench: engine: %s\n", *words ? words : shale_strerror(rc));
	return rc;
}

static int start(const struct bench_options *o, const char *database)
{
	struct engine_options options;
	struct err_info err = {0};
	struct config config;
	int rc;

	config_default(&config); /* as shaled would run it */
	config_engine_options(&config, &options);
	options.write_buffer_bytes = o->write_buffer_bytes;
	options.block_cache_bytes = o->cache_bytes;
	options.table.bloom_bits_per_key = (unsigned)o->bloom_bits;
	options.table.compression = o->compress ? COMPRESS_SNAPPY : COMPRESS_NONE;
	db.host = (struct engine_host){.jobs_ready = jobs_ready, .progress = progress, .log = say};
	pthread_mutex_init(&db.lock, NULL);
	workers_init(&db.workers);
	rc = io_env_open(database, IO_BACKEND_AUTO, true, &db.env, &err);
	if (rc == 0)
		rc = io_queue_new(db.env, 256, &db.queue);
	if (rc == 0)
		rc = engine_open(db.env, db.queue, &options, &db.host, NULL, &db.engine, &err);
	if (rc == 0)
		rc = workers_start(&db.workers, db.env, db.engine, config_workers(&config), &err);
	return failed(rc, err.text);
}

static int stop(void)
{
	int rc;

	workers_stop(&db.workers);
	rc = engine_close(db.engine);
	io_queue_free(db.queue);
	io_env_close(db.env);
	pthread_mutex_destroy(&db.lock);
	return failed(rc, "");
}

static int tables_written(uint64_t *out)
{
	struct engine_stats stats;

	pthread_mutex_lock(&db.lock);
	engine_stats(db.engine, &stats);
	pthread_mutex_unlock(&db.lock);
	*out = stats.flush_bytes + stats.compaction_bytes_written;
	return 0;
}

/* ---- the service thread's part: with the lock ---- */

static int pump(bool eager)
{
	int rc = io_queue_poll(db.queue);

	db.since_pump = 0;
	return rc < 0 ? rc : engine_pump(db.engine, eager);
}

/* Something is awaited: let it come, for a moment at most, so that workers' progress is seen, too. */
static int await(void)
{
	int rc = pump(true);

	if (rc == 0)
		rc = io_queue_wait(db.queue, 1000000);
	return rc < 0 ? rc : 0;
}

static int await_sync(uint64_t position)
{
	int rc = 0;

	engine_want_sync(db.engine, position);
	while (rc == 0 && engine_synced(db.engine) < position)
		rc = await();
	return rc;
}

static int apply(const void *batch, size_t size, bool sync)
{
	uint64_t sequence, position = 0;
	uint16_t why;
	int rc;

	pthread_mutex_lock(&db.lock);
	while ((rc = engine_write(db.engine, batch, size, &sequence, &position, &why)) == -EAGAIN)
		if ((rc = await()) < 0)
			break;
	while (rc == WRITE_UNDERWAY)
		if ((rc = await()) == 0)
			rc = engine_write_result(db.engine, &sequence, &position);
	if (rc == 0 && sync)
		rc = await_sync(position);
	else if (rc == 0 && ++db.since_pump >= PUMP_EVERY)
		rc = pump(false);
	pthread_mutex_unlock(&db.lock);
	return failed(rc, "");
}

static void fetched(struct read_ctx *ctx)
{
	(void)ctx;
}

static int fetch(struct read_ctx *ctx)
{
	int rc = read_ctx_fetch(ctx, fetched);

	while (rc == 0 && ctx->in_flight)
		rc = io_queue_wait(db.queue, UINT64_MAX) < 0 ? -EIO : 0;
	return rc;
}

/* ---- sessions ---- */

static void close_session(void *p)
{
	struct session *s = p;

	pthread_mutex_lock(&db.lock);
	read_ctx_fini(&s->ctx);
	/* An io_queue may change threads only while nothing is in flight, and the next worker is another thread. */
	while (db.queue->in_flight || !engine_wal_idle(db.engine))
		if (await() < 0)
			break;
	pthread_mutex_unlock(&db.lock);
	free(s->batch);
	free(s->chunk);
	free(s->entries);
	free(s);
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	read_ctx_init(&s->ctx, engine_read_shared(db.engine));
	s->chunk_cap = CHUNK_BYTES;
	s->chunk = malloc(s->chunk_cap);
	s->batch_cap = CHUNK_BYTES;
	s->batch = malloc(s->batch_cap);
	if (s->chunk && s->batch)
		return s;
	close_session(s);
	return NULL;
}

/* ---- calls ---- */

static int grow(struct session *s, size_t more)
{
	size_t cap = s->batch_cap;
	unsigned char *grown;

	while (cap < s->batch_size + more)
		cap *= 2;
	grown = cap > s->batch_cap ? realloc(s->batch, cap) : s->batch;
	if (!grown)
		return -ENOMEM;
	s->batch = grown;
	s->batch_cap = cap;
	return 0;
}

static int batch_add(struct session *s, struct slice key, const struct slice *value)
{
	unsigned char *p;
	int rc = grow(s, BATCH_HEADER_SIZE + batch_put_size(key.size, value ? value->size : 0));

	if (rc < 0)
		return rc;
	if (!s->batch_count)
		s->batch_size = (size_t)(batch_begin(s->batch) - s->batch);
	p = s->batch + s->batch_size;
	p = value ? batch_append_put(p, key, *value) : batch_append_delete(p, key);
	s->batch_size = (size_t)(p - s->batch);
	batch_set_count(s->batch, ++s->batch_count);
	return 0;
}

static int flush_batch(struct session *s, bool sync)
{
	int rc = s->batch_count ? apply(s->batch, s->batch_size, sync) : 0;

	s->batch_count = 0;
	s->batch_size = 0;
	return rc;
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	int rc = batch_add(p, key, &value);

	return rc < 0 ? rc : flush_batch(p, sync);
}

static int del(void *p, struct slice key)
{
	int rc = batch_add(p, key, NULL);

	return rc < 0 ? rc : flush_batch(p, false);
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	return batch_add(p, key, &value);
}

static int batch_commit(void *p)
{
	return flush_batch(p, false);
}

static int get(void *p, struct slice key)
{
	struct session *s = p;
	struct slice value;
	struct view *view;
	int rc;

	pthread_mutex_lock(&db.lock);
	view = engine_view(db.engine);
	while ((rc = engine_get(view, &s->ctx, engine_last_sequence(db.engine), key, &value)) == READ_MISS)
		if ((rc = fetch(&s->ctx)) < 0)
			break;
	if (rc == 0) /* as a caller wants it: a copy of its own */
		memcpy(s->chunk, value.data, min_size(value.size, s->chunk_cap));
	read_ctx_reset(&s->ctx);
	view_unref(view);
	pthread_mutex_unlock(&db.lock);
	return rc == SHALE_NOTFOUND ? 1 : failed(rc, "");
}

static int compact(void *p)
{
	uint64_t ticket;
	int rc, done = 0;

	(void)p;
	pthread_mutex_lock(&db.lock);
	rc = engine_compact_start(db.engine, NULL, NULL, &ticket);
	while (rc == 0 && (done = engine_compact_done(db.engine, ticket)) == 0)
		rc = await();
	pthread_mutex_unlock(&db.lock);
	return failed(rc < 0 ? rc : done < 0 ? done : 0, "");
}

/* ---- the cursor: chunks, as the library asks for them ---- */

static int decode_chunk(struct session *s)
{
	const unsigned char *p = s->chunk, *end = s->chunk + s->chunk_used;

	for (s->count = 0; p < end; s->count++) {
		struct entry *e;

		if (s->count == s->entries_cap) {
			size_t cap = s->entries_cap ? 2 * s->entries_cap : 256;
			struct entry *grown = realloc(s->entries, cap * sizeof(*grown));

			if (!grown)
				return -ENOMEM;
			s->entries = grown;
			s->entries_cap = cap;
		}
		e = &s->entries[s->count];
		p = varint32_get(p, end, &e->key_size);
		p = p ? varint32_get(p, end, &e->value_size) : NULL;
		if (!p)
			return -EPROTO;
		e->key = (uint32_t)(p - s->chunk);
		p += e->key_size + e->value_size;
	}
	return 0;
}

static struct slice entry_key(const struct session *s, size_t i)
{
	return slice_of(s->chunk + s->entries[i].key, s->entries[i].key_size);
}

/* The next chunk in the cursor's direction, from @start (NULL: the end where it begins). */
static void load(struct session *s, const struct slice *start, bool exclusive, size_t bytes)
{
	struct scan scan = {.sequence = s->sequence, .reverse = s->reverse, .exclusive = exclusive, .out = s->chunk};
	unsigned char *key = NULL;

	if (start) { /* it may lie in the chunk that is about to be replaced */
		key = malloc(start->size + 1);
		memcpy(key, start->data, start->size);
		scan.has_start = true;
		scan.start = slice_of(key, start->size);
	}
	scan.out_size = bytes;
	pthread_mutex_lock(&db.lock);
	s->ctx.no_fill = !s->fill_cache;
	s->ctx.readahead = bytes > CHUNK_FIRST ? (unsigned)bytes : 0;
	while ((s->rc = engine_scan(s->view, &s->ctx, &scan)) == READ_MISS)
		if ((s->rc = fetch(&s->ctx)) < 0)
			break;
	read_ctx_reset(&s->ctx);
	s->ctx.no_fill = false;
	s->ctx.readahead = 0;
	pthread_mutex_unlock(&db.lock);
	s->chunk_used = scan.used;
	s->more = scan.more;
	if (s->rc == 0 && scan.count == 0 && scan.more)
		s->rc = -E2BIG; /* an entry larger than the chunk: no benchmark asks for that */
	if (s->rc == 0)
		s->rc = decode_chunk(s);
	if (s->rc < 0)
		s->count = 0;
	s->at = 0;
	scan_fini(&scan);
	free(key);
}

static int cursor_open(void *p, bool fill_cache)
{
	struct session *s = p;

	pthread_mutex_lock(&db.lock);
	s->view = engine_view(
		db.engine); /* keeps tables; old versions within them are kept by nobody, which this cursor need not mind */
	s->sequence = engine_last_sequence(db.engine);
	pthread_mutex_unlock(&db.lock);
	s->fill_cache = fill_cache;
	s->count = s->at = 0;
	s->rc = 0;
	return 0;
}

static void begin(struct session *s, bool reverse, const struct slice *start)
{
	s->reverse = reverse;
	load(s, start, false, CHUNK_FIRST);
}

static void cursor_first(void *p)
{
	begin(p, false, NULL);
}

static void cursor_last(void *p)
{
	begin(p, true, NULL);
}

static void cursor_seek(void *p, struct slice key)
{
	begin(p, false, &key);
}

static void advance(struct session *s, bool reverse)
{
	struct slice last = entry_key(s, s->at);

	if (s->reverse != reverse) { /* turns round: a chunk of the other kind */
		s->reverse = reverse;
		load(s, &last, true, CHUNK_FIRST);
	} else if (++s->at == s->count && s->more) {
		last = entry_key(s, s->count - 1);
		load(s, &last, true, CHUNK_BYTES);
	}
}

static void cursor_next(void *p)
{
	advance(p, false);
}

static void cursor_prev(void *p)
{
	advance(p, true);
}

static bool cursor_valid(void *p)
{
	return ((struct session *)p)->at < ((struct session *)p)->count;
}

static struct slice cursor_key(void *p)
{
	return entry_key(p, ((struct session *)p)->at);
}

static struct slice cursor_value(void *p)
{
	struct session *s = p;
	const struct entry *e = &s->entries[s->at];

	return slice_of(s->chunk + e->key + e->key_size, e->value_size);
}

static int cursor_close(void *p)
{
	struct session *s = p;

	pthread_mutex_lock(&db.lock);
	view_unref(s->view);
	pthread_mutex_unlock(&db.lock);
	return failed(s->rc, "");
}

const struct driver direct_driver = {
	.name = "engine",
	.by_process = false,
	.max_workers = 1,
	.start = start,
	.stop = stop,
	.tables_written = tables_written,
	.tables_written_how = "bytes of flushes and compactions as the engine counts them",
	.open = open_session,
	.close = close_session,
	.put = put,
	.del = del,
	.batch_put = batch_put,
	.batch_commit = batch_commit,
	.get = get,
	.compact = compact,
	.cursor_open = cursor_open,
	.cursor_first = cursor_first,
	.cursor_last = cursor_last,
	.cursor_seek = cursor_seek,
	.cursor_next = cursor_next,
	.cursor_prev = cursor_prev,
	.cursor_valid = cursor_valid,
	.cursor_key = cursor_key,
	.cursor_value = cursor_value,
	.cursor_close = cursor_close,
};
