/*
 * condition.c - encode, check and walk the conditions of a write.
 */
#include "shm/condition.h"

#include <errno.h>

#include "shm/batch.h"

size_t condition_size(const struct condition *c)
{
	size_t size = 1 + varint_length(c->key.size) + c->key.size;

	if (c->type == CONDITION_EQUAL)
		size += varint_length(c->value.size) + c->value.size;
	return size + (c->type == CONDITION_SEQUENCE ? 8 : 0);
}

static unsigned char *append_slice(unsigned char *dst, struct slice s)
{
	dst = varint32_put(dst, (uint32_t)s.size);
	if (s.size)
		memcpy(dst, s.data, s.size);
	return dst + s.size;
}

unsigned char *condition_append(unsigned char *dst, const struct condition *c)
{
	*dst++ = (unsigned char)c->type;
	dst = append_slice(dst, c->key);
	if (c->type == CONDITION_EQUAL)
		dst = append_slice(dst, c->value);
	if (c->type == CONDITION_SEQUENCE) {
		store_le64(dst, c->sequence);
		dst += 8;
	}
	return dst;
}

/* The condition at @p, or NULL when there is no whole one before @end. */
static const unsigned char *decode(const unsigned char *p, const unsigned char *end, struct condition *out)
{
	struct condition c = {0};

	if (p == end || *p > CONDITION_SEQUENCE)
		return NULL;
	c.type = *p++;
	p = length_prefixed_get(p, end, &c.key);
	if (p && c.type == CONDITION_EQUAL)
		p = length_prefixed_get(p, end, &c.value);
	if (p && c.type == CONDITION_SEQUENCE) {
		if (end - p < 8)
			return NULL;
		c.sequence = load_le64(p);
		p += 8;
	}
	if (p)
		*out = c;
	return p;
}

int conditions_check(struct slice bytes, const struct batch_limits *limits, uint32_t *count_out)
{
	const unsigned char *p, *end;
	struct condition c;
	uint32_t count;

	if (bytes.size < CONDITION_HEADER_SIZE)
		return -EBADMSG;
	count = load_le32(bytes.data);
	if (count > CONDITIONS_MAX)
		return -E2BIG;
	p = bytes.data + CONDITION_HEADER_SIZE;
	end = bytes.data + bytes.size;
	for (uint32_t i = 0; i < count; i++) {
		p = decode(p, end, &c);
		if (!p)
			return -EBADMSG;
		if (limits && (c.key.size > limits->max_key || c.value.size > limits->max_value))
			return -E2BIG;
	}
	if (p != end)
		return -EBADMSG;
	*count_out = count;
	return 0;
}

void condition_reader_init(struct condition_reader *r, struct slice bytes)
{
	r->next = bytes.data + CONDITION_HEADER_SIZE;
	r->end = bytes.data + bytes.size;
}

bool condition_reader_next(struct condition_reader *r, struct condition *out)
{
	const unsigned char *p = r->next == r->end ? NULL : decode(r->next, r->end, out);

	if (!p)
		return false;
	r->next = p;
	return true;
}
