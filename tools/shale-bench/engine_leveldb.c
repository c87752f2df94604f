#include <errno.h>
#include <leveldb/c.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shale-bench/bench.h"

struct session {
	leveldb_writebatch_t *batch;
	leveldb_iterator_t *it;
};

static leveldb_t *db;
static leveldb_options_t *options;
static leveldb_cache_t *cache;
static leveldb_filterpolicy_t *filter;
static leveldb_writeoptions_t *unsynced, *synced;
static leveldb_readoptions_t *reading, *reading_past_cache;

/* Says and frees an error. */
static int failed(char *error)
{
	if (!error)
		return 0;
	fprintf(stderr, "shale-bench: leveldb: %s\n", error);
	leveldb_free(error);
	return -EIO;
}

static int start(const struct bench_options *o, const char *database)
{
	char *error = NULL;

	options = leveldb_options_create();
	cache = leveldb_cache_create_lru(o->cache_bytes);
	filter = o->bloom_bits ? leveldb_filterpolicy_create_bloom((int)o->bloom_bits) : NULL;
	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_write_buffer_size(options, o->write_buffer_bytes);
	leveldb_options_set_cache(options, cache);
	leveldb_options_set_filter_policy(options, filter);
	leveldb_options_set_compression(options, o->compress ? leveldb_snappy_compression : leveldb_no_compression);
	unsynced = leveldb_writeoptions_create();
	synced = leveldb_writeoptions_create();
	leveldb_writeoptions_set_sync(synced, 1);
	reading = leveldb_readoptions_create();
	reading_past_cache = leveldb_readoptions_create();
	leveldb_readoptions_set_fill_cache(reading_past_cache, 0);
	/* shaled checks every block that it reads; so shall this. */
	leveldb_readoptions_set_verify_checksums(reading, 1);
	leveldb_readoptions_set_verify_checksums(reading_past_cache, 1);
	db = leveldb_open(options, database, &error);
	return failed(error);
}

static int stop(void)
{
	if (db)
		leveldb_close(db);
	leveldb_options_destroy(options);
	leveldb_cache_destroy(cache);
	if (filter)
		leveldb_filterpolicy_destroy(filter);
	leveldb_writeoptions_destroy(unsynced);
	leveldb_writeoptions_destroy(synced);
	leveldb_readoptions_destroy(reading);
	leveldb_readoptions_destroy(reading_past_cache);
	db = NULL;
	return 0;
}

/* "leveldb.stats": after a line of dashes one line per level; the last column is MiB written into it. */
static int tables_written(uint64_t *out)
{
	char *text = leveldb_property_value(db, "leveldb.stats"), *save, *line;
	double files, size, seconds, read, written, sum = 0;
	unsigned level;

	if (!text)
		return -EIO;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%u %lf %lf %lf %lf %lf", &level, &files, &size, &seconds, &read, &written) == 6)
			sum += written;
	leveldb_free(text);
	*out = (uint64_t)(sum * 1048576);
	return 0;
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s)
		s->batch = leveldb_writebatch_create();
	return s;
}

static void close_session(void *p)
{
	struct session *s = p;

	leveldb_writebatch_destroy(s->batch);
	free(s);
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	char *error = NULL;

	(void)p;
	leveldb_put(db, sync ? synced : unsynced, (const char *)key.data, key.size, (const char *)value.data,
		    value.size, &error);
	return failed(error);
}

static int del(void *p, struct slice key)
{
	char *error = NULL;

	(void)p;
	leveldb_delete(db, unsynced, (const char *)key.data, key.size, &error);
	return failed(error);
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	leveldb_writebatch_put(((struct session *)p)->batch, (const char *)key.data, key.size, (const char *)value.data,
			       value.size);
	return 0;
}

static int batch_commit(void *p)
{
	struct session *s = p;
	char *error = NULL;

	leveldb_write(db, unsynced, s->batch, &error);
	leveldb_writebatch_clear(s->batch);
	return failed(error);
}

static int get(void *p, struct slice key)
{
	char *error = NULL, *value;
	size_t len;

	(void)p;
	value = leveldb_get(db, reading, (const char *)key.data, key.size, &len, &error);
	if (!value)
		return error ? failed(error) : 1;
	leveldb_free(value);
	return 0;
}

static int compact(void *p)
{
	(void)p;
	leveldb_compact_range(db, NULL, 0, NULL, 0);
	return 0;
}

static int cursor_open(void *p, bool fill_cache)
{
	((struct session *)p)->it = leveldb_create_iterator(db, fill_cache ? reading : reading_past_cache);
	return 0;
}

static void cursor_first(void *p)
{
	leveldb_iter_seek_to_first(((struct session *)p)->it);
}

static void cursor_last(void *p)
{
	leveldb_iter_seek_to_last(((struct session *)p)->it);
}

static void cursor_seek(void *p, struct slice key)
{
	leveldb_iter_seek(((struct session *)p)->it, (const char *)key.data, key.size);
}

static void cursor_next(void *p)
{
	leveldb_iter_next(((struct session *)p)->it);
}

static void cursor_prev(void *p)
{
	leveldb_iter_prev(((struct session *)p)->it);
}

static bool cursor_valid(void *p)
{
	return leveldb_iter_valid(((struct session *)p)->it);
}

static struct slice cursor_key(void *p)
{
	struct slice k;

	k.data = (const unsigned char *)leveldb_iter_key(((struct session *)p)->it, &k.size);
	return k;
}

static struct slice cursor_value(void *p)
{
	struct slice v;

	v.data = (const unsigned char *)leveldb_iter_value(((struct session *)p)->it, &v.size);
	return v;
}

static int cursor_close(void *p)
{
	struct session *s = p;
	char *error = NULL;

	leveldb_iter_get_error(s->it, &error);
	leveldb_iter_destroy(s->it);
	s->it = NULL;
	return failed(error);
}

const struct driver leveldb_driver = {
	.name = "leveldb",
	.by_process = false,
	.start = start,
	.stop = stop,
	.tables_written = tables_written,
	.tables_written_how = "last column of leveldb.stats, whole MiB per level",
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
