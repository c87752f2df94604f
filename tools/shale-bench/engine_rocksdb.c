/* RocksDB in this process, by its C API. Background threads as many as cores; the rest as shaled is set. */
#ifdef HAVE_ROCKSDB

#include <errno.h>
#include <rocksdb/c.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

struct session {
	rocksdb_writebatch_t *batch;
	rocksdb_iterator_t *it;
};

static rocksdb_t *db;
static rocksdb_options_t *options;
static rocksdb_block_based_table_options_t *tables;
static rocksdb_cache_t *cache;
static rocksdb_writeoptions_t *unsynced, *synced;
static rocksdb_readoptions_t *reading, *reading_past_cache;

/* Says and frees an error. */
static int failed(char *error)
{
	if (!error)
		return 0;
	fprintf(stderr, "shale-bench: rocksdb: %s\n", error);
	rocksdb_free(error);
	return -EIO;
}

static int start(const struct bench_options *o, const char *database)
{
	char *error = NULL;

	options = rocksdb_options_create();
	tables = rocksdb_block_based_options_create();
	cache = rocksdb_cache_create_lru(o->cache_bytes);
	rocksdb_block_based_options_set_block_cache(tables, cache);
	if (o->bloom_bits) /* takes the policy */
		rocksdb_block_based_options_set_filter_policy(
			tables, rocksdb_filterpolicy_create_bloom_full((double)o->bloom_bits));
	rocksdb_options_set_block_based_table_factory(options, tables);
	rocksdb_options_set_create_if_missing(options, 1);
	rocksdb_options_set_write_buffer_size(options, o->write_buffer_bytes);
	rocksdb_options_increase_parallelism(options, (int)sysconf(_SC_NPROCESSORS_ONLN));
	rocksdb_options_set_compression(options, o->compress ? rocksdb_snappy_compression : rocksdb_no_compression);
	unsynced = rocksdb_writeoptions_create();
	synced = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(synced, 1);
	reading = rocksdb_readoptions_create();
	reading_past_cache = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(reading_past_cache, 0);
	db = rocksdb_open(options, database, &error);
	return failed(error);
}

static int stop(void)
{
	if (db)
		rocksdb_close(db);
	db = NULL;
	rocksdb_options_destroy(options);
	rocksdb_block_based_options_destroy(tables);
	rocksdb_cache_destroy(cache);
	rocksdb_writeoptions_destroy(unsynced);
	rocksdb_writeoptions_destroy(synced);
	rocksdb_readoptions_destroy(reading);
	rocksdb_readoptions_destroy(reading_past_cache);
	return 0;
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s)
		s->batch = rocksdb_writebatch_create();
	return s;
}

static void close_session(void *p)
{
	struct session *s = p;

	rocksdb_writebatch_destroy(s->batch);
	free(s);
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	char *error = NULL;

	(void)p;
	rocksdb_put(db, sync ? synced : unsynced, (const char *)key.data, key.size, (const char *)value.data,
		    value.size, &error);
	return failed(error);
}

static int del(void *p, struct slice key)
{
	char *error = NULL;

	(void)p;
	rocksdb_delete(db, unsynced, (const char *)key.data, key.size, &error);
	return failed(error);
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	rocksdb_writebatch_put(((struct session *)p)->batch, (const char *)key.data, key.size, (const char *)value.data,
			       value.size);
	return 0;
}

static int batch_commit(void *p)
{
	struct session *s = p;
	char *error = NULL;

	rocksdb_write(db, unsynced, s->batch, &error);
	rocksdb_writebatch_clear(s->batch);
	return failed(error);
}

static int get(void *p, struct slice key)
{
	rocksdb_pinnableslice_t *value;
	char *error = NULL;

	(void)p;
	value = rocksdb_get_pinned(db, reading, (const char *)key.data, key.size, &error);
	if (!value)
		return error ? failed(error) : 1;
	rocksdb_pinnableslice_destroy(value);
	return 0;
}

static int compact(void *p)
{
	(void)p;
	rocksdb_compact_range(db, NULL, 0, NULL, 0);
	return 0;
}

static int cursor_open(void *p, bool fill_cache)
{
	((struct session *)p)->it = rocksdb_create_iterator(db, fill_cache ? reading : reading_past_cache);
	return 0;
}

static void cursor_first(void *p)
{
	rocksdb_iter_seek_to_first(((struct session *)p)->it);
}

static void cursor_last(void *p)
{
	rocksdb_iter_seek_to_last(((struct session *)p)->it);
}

static void cursor_seek(void *p, struct slice key)
{
	rocksdb_iter_seek(((struct session *)p)->it, (const char *)key.data, key.size);
}

static void cursor_next(void *p)
{
	rocksdb_iter_next(((struct session *)p)->it);
}

static void cursor_prev(void *p)
{
	rocksdb_iter_prev(((struct session *)p)->it);
}

static bool cursor_valid(void *p)
{
	return rocksdb_iter_valid(((struct session *)p)->it);
}

static struct slice cursor_key(void *p)
{
	struct slice k;

	k.data = (const unsigned char *)rocksdb_iter_key(((struct session *)p)->it, &k.size);
	return k;
}

static struct slice cursor_value(void *p)
{
	struct slice v;

	v.data = (const unsigned char *)rocksdb_iter_value(((struct session *)p)->it, &v.size);
	return v;
}

static int cursor_close(void *p)
{
	struct session *s = p;
	char *error = NULL;

	rocksdb_iter_get_error(s->it, &error);
	rocksdb_iter_destroy(s->it);
	s->it = NULL;
	return failed(error);
}

const struct driver rocksdb_driver = {
	.name = "rocksdb",
	.by_process = false,
	.start = start,
	.stop = stop,
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

#endif
