#include "engine/ikey.h"

#include <errno.h>
#include <stdlib.h>

/* Puts the trailer that sorts before every entry of its user key behind the @user_size bytes of @key. */
static void finish_shortened(unsigned char *key, size_t user_size, size_t *size)
{
	store_le64(key + user_size, ikey_pack(SEQUENCE_MAX, IKEY_SEEK));
	*size = user_size + IKEY_TRAILER;
}

void ikey_shorten_separator(unsigned char *start, size_t *size, struct slice limit)
{
	size_t user_size = *size - IKEY_TRAILER;
	struct slice bound = ikey_user(limit);
	size_t shorter = min_size(user_size, bound.size);
	size_t at = 0;

	while (at < shorter && start[at] == bound.data[at])
		at++;
	/* One a prefix of the other, or no room between the two bytes, or nothing gained. */
	if (at == shorter || start[at] == 0xff || start[at] + 1 >= bound.data[at] || at + 1 >= user_size)
		return;
	start[at]++;
	finish_shortened(start, at + 1, size);
}

void ikey_shorten_successor(unsigned char *key, size_t *size)
{
	size_t user_size = *size - IKEY_TRAILER;
	size_t at = 0;

	while (at < user_size && key[at] == 0xff)
		at++;
	if (at + 1 >= user_size)
		return;
	key[at]++;
	finish_shortened(key, at + 1, size);
}

/* Sets @k to @head and @tail_size bytes of @tail; @head may lie in @k itself. */
static int key_buf_join(struct key_buf *k, struct slice head, const unsigned char *tail, size_t tail_size)
{
	size_t need = head.size + tail_size;
	unsigned char *data = k->data;

	if (need > k->cap) {
		size_t cap = max_size(64, align_up(need + need / 2, 16));

		data = malloc(cap);
		if (!data)
			return -ENOMEM;
		k->cap = cap;
	}
	if (head.size)
		memmove(data, head.data, head.size);
	if (tail_size)
		memcpy(data + head.size, tail, tail_size);
	if (data != k->data)
		free(k->data);
	k->data = data;
	k->size = need;
	return 0;
}

int key_buf_set(struct key_buf *k, struct slice s)
{
	return key_buf_join(k, s, NULL, 0);
}

int key_buf_set_internal(struct key_buf *k, struct slice user, uint64_t sequence, unsigned type)
{
	unsigned char trailer[IKEY_TRAILER];

	store_le64(trailer, ikey_pack(sequence, type));
	return key_buf_join(k, user, trailer, sizeof(trailer));
}

void key_buf_fini(struct key_buf *k)
{
	free(k->data);
	*k = (struct key_buf){0};
}
