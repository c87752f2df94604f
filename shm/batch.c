/*
 * batch.c - encode, check and walk write batches.
 */
#include "shm/batch.h"

#include <errno.h>

static unsigned char *append_slice(unsigned char *dst, struct slice s)
{
	dst = varint32_put(dst, (uint32_t)s.size);
	if (s.size)
		memcpy(dst, s.data, s.size);
	return dst + s.size;
}

unsigned char *batch_begin(unsigned char *dst)
{
	memset(dst, 0, BATCH_HEADER_SIZE);
	return dst + BATCH_HEADER_SIZE;
}

unsigned char *batch_append_put(unsigned char *dst, struct slice key, struct slice value)
{
	*dst++ = BATCH_PUT;
	return append_slice(append_slice(dst, key), value);
}

unsigned char *batch_append_delete(unsigned char *dst, struct slice key)
{
	*dst++ = BATCH_DELETE;
	return append_slice(dst, key);
}

void batch_set_count(unsigned char *batch, uint32_t count)
{
	store_le32(batch + 8, count);
}

int batch_check(struct slice batch, const struct batch_limits *limits, struct batch_info *info_out)
{
	const size_t max_key = limits ? limits->max_key : SIZE_MAX;
	const size_t max_value = limits ? limits->max_value : SIZE_MAX;
	const unsigned char *p, *end;
	struct batch_info info = {0};
	struct slice s;

	if (batch.size < BATCH_HEADER_SIZE)
		return -EBADMSG;
	info.count = batch_count(batch.data);
	if (limits && limits->max_count && info.count > limits->max_count)
		return -E2BIG;
	p = batch.data + BATCH_HEADER_SIZE;
	end = batch.data + batch.size;
	for (uint32_t i = 0; i < info.count; i++) {
		unsigned type;

		if (p == end)
			return -EBADMSG;
		type = *p++;
		if (type != BATCH_PUT && type != BATCH_DELETE)
			return -EBADMSG;
		p = length_prefixed_get(p, end, &s);
		if (!p)
			return -EBADMSG;
		if (s.size > max_key)
			return -E2BIG;
		info.key_bytes += s.size;
		if (type == BATCH_DELETE)
			continue;
		p = length_prefixed_get(p, end, &s);
		if (!p)
			return -EBADMSG;
		if (s.size > max_value)
			return -E2BIG;
		info.value_bytes += s.size;
	}
	if (p != end)
		return -EBADMSG;
	if (info_out)
		*info_out = info;
	return 0;
}

void batch_reader_init(struct batch_reader *r, struct slice batch)
{
	assert(batch.size >= BATCH_HEADER_SIZE);
	r->next = batch.data + BATCH_HEADER_SIZE;
	r->end = batch.data + batch.size;
}

bool batch_reader_next(struct batch_reader *r, struct batch_record *out)
{
	const unsigned char *p = r->next;

	if (p == r->end)
		return false;
	out->type = *p++;
	out->value = slice_of(NULL, 0);
	p = length_prefixed_get(p, r->end, &out->key);
	if (p && out->type == BATCH_PUT)
		p = length_prefixed_get(p, r->end, &out->value);
	assert(p); /* batch_check() saw to it */
	r->next = p;
	return true;
}
