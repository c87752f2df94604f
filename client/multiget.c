/*
 * multiget.c - many keys in one round trip.
 *
 *	request   le32 count, then count × ( varint32 length, key )
 *	answer    count × ( le32 result, le32 length, le64 sequence, value )
 *
 * An answer for which the largest arena is too small comes in pieces: the keys are halved until each half fits, all read at one pinned
 * sequence, so that the caller still sees one moment.
 */
#include "client/multiget.h"

#include <errno.h>
#include <stdlib.h>

#include "client/write.h"

enum { HEAD_SIZE = 16 };

int multiget_size(const struct shale_db *db, size_t count, const struct shale_slice *keys, size_t *size_out)
{
	size_t size = sizeof(uint32_t);

	if (count > UINT32_MAX)
		return fail(db, -E2BIG, "multiget: %zu keys are too many", count);
	for (size_t i = 0; i < count; i++) {
		int rc = check_key(db, "multiget", keys[i].data, keys[i].size);

		if (rc < 0)
			return rc;
		size += varint_length(keys[i].size) + keys[i].size;
	}
	*size_out = size;
	return 0;
}

void multiget_encode(unsigned char *dst, size_t count, const struct shale_slice *keys)
{
	store_le32(dst, (uint32_t)count);
	dst += sizeof(uint32_t);
	for (size_t i = 0; i < count; i++) {
		dst = varint32_put(dst, (uint32_t)keys[i].size);
		if (keys[i].size)
			memcpy(dst, keys[i].data, keys[i].size);
		dst += keys[i].size;
	}
}

int multiget_decode(const unsigned char *bytes, size_t len, size_t count, struct shale_value *values, void **memory_out)
{
	const unsigned char *p = bytes, *end = bytes + len;
	unsigned char *memory, *to;

	for (size_t i = 0; i < count; i++) {
		if ((size_t)(end - p) < HEAD_SIZE || load_le32(p + 4) > (size_t)(end - p) - HEAD_SIZE)
			return -SHALE_ENOTSHALE;
		p += HEAD_SIZE + load_le32(p + 4);
	}
	if (p != end)
		return -SHALE_ENOTSHALE;
	to = memory = malloc(len + 1); /* each head makes room for a NUL */
	if (!memory)
		return -ENOMEM;
	p = bytes;
	for (size_t i = 0; i < count; i++) {
		struct shale_value *v = &values[i];

		*v = (struct shale_value){.result = (int32_t)load_le32(p)};
		if (v->result == 0) {
			v->size = load_le32(p + 4);
			v->sequence = load_le64(p + 8);
			v->data = to;
			memcpy(to, p + HEAD_SIZE, v->size);
			to[v->size] = '\0';
			to += v->size + 1;
		}
		p += HEAD_SIZE + load_le32(p + 4);
	}
	*memory_out = memory;
	return 0;
}

/* One request for all keys. -E2BIG: they, or their values, are too many or too much for one. */
static int ask(struct shale_db *db, const struct shale_read_options *o, size_t count, const struct shale_slice *keys,
	       struct shale_value *values, void **memory_out)
{
	struct call call = {
		.what = "multiget",
		.op = OP_MULTIGET,
		.flags = o->no_fill_cache ? SQE_NO_FILL : 0,
		.parts = 1,
		.out_want = SIZE_MAX,
		.snapshot = o->snapshot,
		.deadline_us = o->deadline_us,
	};
	struct answer answer;
	unsigned char *in;
	size_t size;
	int rc = count > MULTIGET_MAX ? -E2BIG : multiget_size(db, count, keys, &size);

	if (rc < 0)
		return rc;
	in = malloc(size);
	if (!in)
		return fail(db, -ENOMEM, "multiget: no memory for %zu keys", count);
	multiget_encode(in, count, keys);
	call.part[0] = slice_of(in, size);
	rc = call_run(db, &call, &answer);
	free(in);
	if (rc != 0)
		return rc;
	rc = multiget_decode(answer.bytes, answer.len, count, values, memory_out);
	if (rc < 0)
		fail(db, rc, "multiget: %s",
		     rc == -ENOMEM ? "no memory for the values" : "the daemon's answer does not decode");
	return rc;
}

/* Puts the blocks of two halves together: @values point into either. Takes both blocks. */
static int join(struct shale_db *db, struct shale_value *values, size_t count, void *left, void *right,
		void **memory_out)
{
	unsigned char *memory, *to;
	size_t total = 1;

	for (size_t i = 0; i < count; i++)
		total += values[i].data ? values[i].size + 1 : 0;
	to = memory = malloc(total);
	for (size_t i = 0; memory && i < count; i++) {
		if (!values[i].data)
			continue;
		memcpy(to, values[i].data, values[i].size + 1);
		values[i].data = to;
		to += values[i].size + 1;
	}
	free(left);
	free(right);
	if (!memory)
		return fail(db, -ENOMEM, "multiget: no memory for the values");
	*memory_out = memory;
	return 0;
}

static int in_halves(struct shale_db *db, const struct shale_read_options *o, size_t count,
		     const struct shale_slice *keys, struct shale_value *values, void **memory_out)
{
	void *left = NULL, *right = NULL;
	size_t half = count / 2;
	int rc = ask(db, o, count, keys, values, memory_out);

	if (rc != -E2BIG || count < 2)
		return rc;
	rc = in_halves(db, o, half, keys, values, &left);
	if (rc == 0)
		rc = in_halves(db, o, count - half, keys + half, values + half, &right);
	if (rc == 0)
		return join(db, values, count, left, right, memory_out);
	free(left);
	return rc;
}

int shale_multiget(struct shale_db *db, const struct shale_read_options *options, size_t count,
		   const struct shale_slice *keys, struct shale_value *values, void **memory_out)
{
	struct shale_snapshot *pin = NULL;
	struct shale_read_options o;
	size_t size;
	int rc = check_fork(db);

	if (rc == 0)
		rc = options_copy(db, &o, sizeof(o), options);
	if (rc == 0)
		rc = multiget_size(db, count, keys, &size); /* a key over the limit is no matter of halves */
	if (rc < 0)
		return rc;
	rc = ask(db, &o, count, keys, values, memory_out);
	if (rc != -E2BIG || count < 2)
		return rc;
	if (!o.snapshot) {
		rc = shale_snapshot_take(db, &pin);
		o.snapshot = pin;
	} else {
		rc = 0;
	}
	if (rc == 0)
		rc = in_halves(db, &o, count, keys, values, memory_out);
	shale_snapshot_release(db, pin);
	return rc;
}
