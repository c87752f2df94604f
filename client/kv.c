/*
 * kv.c - single reads and writes.
 *
 * A put is a batch of one record. Its few bytes of framing are made on the stack, and framing, key and value are gathered
 * straight into the arena: each byte is copied once, nothing is allocated.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"
#include "client/write.h"
#include "shm/batch.h"

int check_key(const struct shale_db *db, const char *what, const void *key, size_t key_len)
{
	size_t max = atomic_load_explicit(&db->max_key, memory_order_relaxed);

	if (unlikely(!key && key_len))
		return fail(db, -EINVAL, "%s: the key is NULL but %zu bytes long", what, key_len);
	if (unlikely(key_len > max))
		return fail(db, -E2BIG,
			    "%s: the key is %zu bytes, the daemon on %s takes at most %zu; shorten it, or raise "
			    "limits.max_key in "
			    "shaled.conf and restart shaled",
			    what, key_len, db->path, max);
	return 0;
}

int write_prepare(const struct shale_db *db, const char *what, const struct shale_write_options *options, size_t size,
		  struct shale_write_options *o, struct call *call)
{
	size_t max = atomic_load_explicit(&db->max_request, memory_order_relaxed);
	int rc = options_copy(db, o, sizeof(*o), options);

	if (unlikely(rc < 0))
		return rc;
	if (unlikely(db->read_only))
		return fail(db, -EROFS, "%s: this handle was opened with read_only", what);
	if (unlikely(size > max))
		return fail(db, -E2BIG,
			    "%s: the write is %zu bytes, the daemon on %s takes at most %zu at once "
			    "(max_request_bytes); split it, "
			    "or raise limits.max_request in shaled.conf and restart shaled",
			    what, size, db->path, max);
	*call = (struct call){
		.what = what,
		.op = OP_WRITE,
		.flags = (uint16_t)((o->sync ? SQE_SYNC : 0) | (o->no_slowdown ? SQE_NO_SLOWDOWN : 0)),
		.write = true,
		.deadline_us = o->deadline_us,
	};
	return 0;
}

size_t write_frame(unsigned char dst[FRAME_MAX], unsigned type, size_t key_len)
{
	unsigned char *p = batch_begin(dst);

	batch_set_count(dst, 1);
	*p++ = (unsigned char)type;
	return (size_t)(varint32_put(p, (uint32_t)key_len) - dst);
}

size_t write_put_size(size_t key_len, size_t value_len)
{
	return value_len > UINT32_MAX ? value_len : BATCH_HEADER_SIZE + batch_put_size(key_len, value_len);
}

int shale_put(struct shale_db *db, const struct shale_write_options *options, const void *key, size_t key_len,
	      const void *value, size_t value_len)
{
	unsigned char head[FRAME_MAX], middle[VARINT64_MAX];
	struct shale_write_options o;
	struct answer answer;
	struct call call;
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = check_key(db, "put", key, key_len);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(!value && value_len))
		return fail(db, -EINVAL, "put: the value is NULL but %zu bytes long", value_len);
	rc = write_prepare(db, "put", options, write_put_size(key_len, value_len), &o, &call);
	if (unlikely(rc < 0))
		return rc;
	call.part[0] = slice_of(head, write_frame(head, BATCH_PUT, key_len));
	call.part[1] = slice_of(key, key_len);
	call.part[2] = slice_of(middle, (size_t)(varint32_put(middle, (uint32_t)value_len) - middle));
	call.part[3] = slice_of(value, value_len);
	call.parts = 4;
	return call_run(db, &call, &answer);
}

int shale_delete(struct shale_db *db, const struct shale_write_options *options, const void *key, size_t key_len)
{
	unsigned char head[FRAME_MAX];
	struct shale_write_options o;
	struct answer answer;
	struct call call;
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = check_key(db, "delete", key, key_len);
	if (unlikely(rc < 0))
		return rc;
	rc = write_prepare(db, "delete", options, BATCH_HEADER_SIZE + batch_delete_size(key_len), &o, &call);
	if (unlikely(rc < 0))
		return rc;
	call.part[0] = slice_of(head, write_frame(head, BATCH_DELETE, key_len));
	call.part[1] = slice_of(key, key_len);
	call.parts = 2;
	return call_run(db, &call, &answer);
}

/* A value as the daemon or the row cache gives it. */
struct found {
	int res; /* 0, SHALE_NOTFOUND */
	size_t len;
	const unsigned char *bytes; /* in the arena, or in the caller's buffer; NULL: only the length was asked for */
	uint64_t sequence;
};

static int check_get(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len,
		     struct shale_read_options *o)
{
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = check_key(db, "get", key, key_len);
	if (unlikely(rc < 0))
		return rc;
	rc = options_copy(db, o, sizeof(*o), options);
	if (unlikely(rc < 0))
		return rc;
	if (o->snapshot && o->snapshot->sequence == 0)
		return SHALE_NOTFOUND; /* pinned before the first write; to the daemon 0 would mean the newest */
	return 0;
}

/* Looks where the daemon keeps what was read lately, into @buf. False: it has to be asked. */
static bool look_up(struct shale_db *db, const struct shale_read_options *o, struct slice key, void *buf, size_t cap,
		    struct found *out)
{
	const struct channel *ch;
	struct lane *lane;

	if (o->snapshot)
		return false;
	lane = lane_get(db);
	if (unlikely(!lane || lane->channel.socket < 0))
		return false;
	ch = &lane->channel;
	/* A session that was ended hears of it, however much of what it asks for could be had here. */
	if (unlikely(ring_client_state(&ch->ring) != CHANNEL_OPEN))
		return false;
	*out = (struct found){.bytes = buf};
	out->res = row_reader_get(&ch->rows, key, buf, cap, &out->len, &out->sequence);
	return out->res != ROW_MISS;
}

static int ask(struct shale_db *db, const struct shale_read_options *o, struct slice key, bool length_only,
	       struct found *out)
{
	struct answer answer;
	struct call call = {
		.what = "get",
		.op = OP_GET,
		.flags = o->no_fill_cache ? SQE_NO_FILL : 0,
		.length_only = length_only,
		.parts = 1,
		.part = {key},
		.out_want = SIZE_MAX,
		.snapshot = o->snapshot,
		.deadline_us = o->deadline_us,
	};
	int rc = call_run(db, &call, &answer);

	if (rc < 0)
		return rc;
	*out = (struct found){rc, answer.len, answer.bytes, answer.sequence};
	return rc;
}

int shale_get(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len, void *buf,
	      size_t cap, size_t *len_out)
{
	struct slice k = slice_of(key, key_len);
	struct shale_read_options o;
	struct found f;
	int rc = check_get(db, options, key, key_len, &o);

	if (rc)
		return rc;
	if (!look_up(db, &o, k, buf, cap, &f)) {
		rc = ask(db, &o, k, cap == 0, &f);
		if (rc < 0)
			return rc;
		if (rc == 0 && cap)
			memcpy(buf, f.bytes, min_size(f.len, cap));
	}
	if (f.res)
		return f.res;
	if (o.sequence_out)
		*o.sequence_out = f.sequence;
	*len_out = f.len;
	return 0;
}

int shale_get_alloc(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len,
		    void **value_out, size_t *len_out)
{
	unsigned char small[ROW_ENTRY_MAX], *value;
	struct slice k = slice_of(key, key_len);
	struct shale_read_options o;
	struct found f;
	int rc = check_get(db, options, key, key_len, &o);

	if (rc)
		return rc;
	if (!look_up(db, &o, k, small, sizeof(small), &f)) {
		rc = ask(db, &o, k, false, &f);
		if (rc < 0)
			return rc;
	}
	if (f.res)
		return f.res;
	value = malloc(f.len + 1);
	if (!value)
		return fail(db, -ENOMEM, "get: no memory for a value of %zu bytes", f.len);
	memcpy(value, f.bytes, f.len);
	value[f.len] = '\0';
	if (o.sequence_out)
		*o.sequence_out = f.sequence;
	*value_out = value;
	*len_out = f.len;
	return 0;
}

void shale_free(void *p)
{
	free(p);
}
