/*
 * LMDB, opened by each worker process. A write that need not survive a power failure goes without msync and fsync (MDB_NOSYNC; the kernel
 * writes it back later), as the others' unsynced writes do; a synced one calls mdb_env_sync. It has no cache, memtable, filter or compression to set.
 */
#ifdef HAVE_LMDB

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

struct session {
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *batch;	  /* of batch_put */
	MDB_txn *reading; /* reset between gets */
	MDB_cursor *cursor;
	MDB_val key, value; /* where the cursor is */
	bool valid;
	int rc; /* why it ended */
};

static char path[600];
static uint64_t map_bytes;

static int failed(int rc)
{
	if (rc == 0)
		return 0;
	fprintf(stderr, "shale-bench: lmdb: %s\n", mdb_strerror(rc));
	return rc > 0 ? -rc : -EIO;
}

static int start(const struct bench_options *o, const char *database)
{
	snprintf(path, sizeof(path), "%s", database);
	/* A tree of random inserts is two thirds full, and freed pages lie about. */
	map_bytes = (UINT64_C(64) << 20) + 6 * o->num * (KEY_BYTES + o->value_bytes + 16);
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int stop(void)
{
	return 0;
}

static void close_session(void *p)
{
	struct session *s = p;

	mdb_txn_abort(s->reading);
	mdb_env_close(s->env);
	free(s);
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));
	MDB_txn *txn = NULL;
	int rc;

	if (!s || failed(mdb_env_create(&s->env)) < 0) {
		free(s);
		return NULL;
	}
	mdb_env_set_mapsize(s->env, map_bytes);
	rc = mdb_env_open(s->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600);
	if (rc == 0)
		rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (rc == 0)
		rc = mdb_dbi_open(txn, NULL, 0, &s->dbi);
	if (rc == 0)
		rc = mdb_txn_commit(txn);
	if (rc == 0)
		rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reading);
	if (failed(rc) < 0) {
		close_session(s);
		return NULL;
	}
	mdb_txn_reset(s->reading);
	return s;
}

static MDB_val val(struct slice s)
{
	return (MDB_val){s.size, (void *)s.data};
}

/* Puts, or deletes when @value has no data; in a transaction of its own. */
static int write_one(struct session *s, struct slice key, struct slice value, bool sync)
{
	MDB_val k = val(key), v = val(value);
	MDB_txn *txn;
	int rc = mdb_txn_begin(s->env, NULL, 0, &txn);

	if (rc)
		return failed(rc);
	rc = value.data ? mdb_put(txn, s->dbi, &k, &v, 0) : mdb_del(txn, s->dbi, &k, NULL);
	if (rc == MDB_NOTFOUND)
		rc = 0;
	if (rc) {
		mdb_txn_abort(txn);
		return failed(rc);
	}
	rc = mdb_txn_commit(txn);
	if (rc == 0 && sync)
		rc = mdb_env_sync(s->env, 1);
	return failed(rc);
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	return write_one(p, key, value, sync);
}

static int del(void *p, struct slice key)
{
	return write_one(p, key, slice_of(NULL, 0), false);
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	struct session *s = p;
	MDB_val k = val(key), v = val(value);
	int rc = s->batch ? 0 : mdb_txn_begin(s->env, NULL, 0, &s->batch);

	return failed(rc ? rc : mdb_put(s->batch, s->dbi, &k, &v, 0));
}

static int batch_commit(void *p)
{
	struct session *s = p;
	int rc = s->batch ? mdb_txn_commit(s->batch) : 0;

	s->batch = NULL;
	return failed(rc);
}

static int get(void *p, struct slice key)
{
	struct session *s = p;
	MDB_val k = val(key), v;
	int rc = mdb_txn_renew(s->reading);

	if (rc)
		return failed(rc);
	rc = mdb_get(s->reading, s->dbi, &k, &v);
	mdb_txn_reset(s->reading);
	return rc == MDB_NOTFOUND ? 1 : failed(rc);
}

static int cursor_open(void *p, bool fill_cache)
{
	struct session *s = p;
	int rc = mdb_txn_renew(s->reading);

	(void)fill_cache;
	return failed(rc ? rc : mdb_cursor_open(s->reading, s->dbi, &s->cursor));
}

static void move_to(struct session *s, MDB_cursor_op op)
{
	s->rc = mdb_cursor_get(s->cursor, &s->key, &s->value, op);
	s->valid = s->rc == 0;
}

static void cursor_first(void *p)
{
	move_to(p, MDB_FIRST);
}

static void cursor_last(void *p)
{
	move_to(p, MDB_LAST);
}

static void cursor_seek(void *p, struct slice key)
{
	((struct session *)p)->key = val(key);
	move_to(p, MDB_SET_RANGE);
}

static void cursor_next(void *p)
{
	move_to(p, MDB_NEXT);
}

static void cursor_prev(void *p)
{
	move_to(p, MDB_PREV);
}

static bool cursor_valid(void *p)
{
	return ((struct session *)p)->valid;
}

static struct slice cursor_key(void *p)
{
	struct session *s = p;

	return slice_of(s->key.mv_data, s->key.mv_size);
}

static struct slice cursor_value(void *p)
{
	struct session *s = p;

	return slice_of(s->value.mv_data, s->value.mv_size);
}

static int cursor_close(void *p)
{
	struct session *s = p;

	mdb_cursor_close(s->cursor);
	mdb_txn_reset(s->reading);
	return s->rc == MDB_NOTFOUND ? 0 : failed(s->rc);
}

const struct driver lmdb_driver = {
	.name = "lmdb",
	.by_process = true,
	.start = start,
	.stop = stop,
	.open = open_session,
	.close = close_session,
	.put = put,
	.del = del,
	.batch_put = batch_put,
	.batch_commit = batch_commit,
	.get = get,
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
