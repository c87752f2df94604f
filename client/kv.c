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

/* Asks for the value; @answer borrows the arena. */
static int get(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len,
	       bool length_only, struct answer *answer)
{
	struct shale_read_options o;
	struct call call;
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = check_key(db, "get", key, key_len);
	if (unlikely(rc < 0))
		return rc;
	rc = options_copy(db, &o, sizeof(o), options);
	if (unlikely(rc < 0))
		return rc;
	if (o.snapshot && o.snapshot->sequence == 0)
		return SHALE_NOTFOUND; /* pinned before the first write; to the daemon 0 would mean the newest */
	call = (struct call){
		.what = "get",
		.op = OP_GET,
		.flags = o.no_fill_cache ? SQE_NO_FILL : 0,
		.length_only = length_only,
		.parts = 1,
		.part = {slice_of(key, key_len)},
		.out_want = SIZE_MAX,
		.snapshot = o.snapshot,
		.deadline_us = o.deadline_us,
	};
	rc = call_run(db, &call, answer);
	if (rc == 0 && o.sequence_out)
		*o.sequence_out = answer->sequence;
	return rc;
}

int shale_get(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len, void *buf,
	      size_t cap, size_t *len_out)
{
	struct answer answer;
	int rc = get(db, options, key, key_len, cap == 0, &answer);

	if (rc != 0)
		return rc;
	if (cap)
		memcpy(buf, answer.bytes, min_size(answer.len, cap));
	*len_out = answer.len;
	return 0;
}

int shale_get_alloc(struct shale_db *db, const struct shale_read_options *options, const void *key, size_t key_len,
		    void **value_out, size_t *len_out)
{
	struct answer answer;
	unsigned char *value;
	int rc = get(db, options, key, key_len, false, &answer);

	if (rc != 0)
		return rc;
	value = malloc(answer.len + 1);
	if (!value)
		return fail(db, -ENOMEM, "get: no memory for a value of %zu bytes", answer.len);
	memcpy(value, answer.bytes, answer.len);
	value[answer.len] = '\0';
	*value_out = value;
	*len_out = answer.len;
	return 0;
}

void shale_free(void *p)
{
	free(p);
}
