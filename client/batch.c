/*
 * batch.c - a batch in the making: LevelDB's encoding in one growing buffer, sent as it is.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/write.h"
#include "shm/batch.h"

enum { BATCH_FIRST_ROOM = 256 };

struct shale_batch {
	unsigned char *data; /* the encoding, header first */
	size_t size, room;
	uint32_t count;
};

struct shale_batch *shale_batch_new(void)
{
	struct shale_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->data = malloc(BATCH_FIRST_ROOM);
	if (!b->data) {
		free(b);
		return NULL;
	}
	b->room = BATCH_FIRST_ROOM;
	shale_batch_clear(b);
	return b;
}

void shale_batch_free(struct shale_batch *batch)
{
	if (!batch)
		return;
	free(batch->data);
	free(batch);
}

void shale_batch_clear(struct shale_batch *batch)
{
	batch->size = (size_t)(batch_begin(batch->data) - batch->data);
	batch->count = 0;
}

/* Sees to room for @more bytes; 0, -ENOMEM or -E2BIG. */
static int reserve(struct shale_batch *b, size_t more)
{
	unsigned char *data;
	size_t room;

	if (more > UINT32_MAX - b->size || b->count == UINT32_MAX)
		return -E2BIG; /* lengths and counts in the format are 32 bits wide */
	if (b->size + more <= b->room)
		return 0;
	room = max_size(b->room * 2, b->size + more);
	data = realloc(b->data, room);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->room = room;
	return 0;
}

static void added(struct shale_batch *b, const unsigned char *end)
{
	b->size = (size_t)(end - b->data);
	batch_set_count(b->data, ++b->count);
}

int shale_batch_put(struct shale_batch *batch, const void *key, size_t key_len, const void *value, size_t value_len)
{
	int rc;

	if (key_len > UINT32_MAX || value_len > UINT32_MAX)
		return -E2BIG;
	rc = reserve(batch, batch_put_size(key_len, value_len));
	if (rc < 0)
		return rc;
	added(batch, batch_append_put(batch->data + batch->size, slice_of(key, key_len), slice_of(value, value_len)));
	return 0;
}

int shale_batch_delete(struct shale_batch *batch, const void *key, size_t key_len)
{
	int rc;

	if (key_len > UINT32_MAX)
		return -E2BIG;
	rc = reserve(batch, batch_delete_size(key_len));
	if (rc < 0)
		return rc;
	added(batch, batch_append_delete(batch->data + batch->size, slice_of(key, key_len)));
	return 0;
}

size_t shale_batch_count(const struct shale_batch *batch)
{
	return batch->count;
}

size_t shale_batch_bytes(const struct shale_batch *batch)
{
	return batch->size;
}

int shale_write(struct shale_db *db, const struct shale_write_options *options, const struct shale_batch *batch,
		uint64_t *sequence_out)
{
	struct answer answer;
	struct call call;
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = write_prepare(db, "write", options, batch->size, &call);
	if (unlikely(rc < 0))
		return rc;
	call.part[0] = slice_of(batch->data, batch->size);
	call.parts = 1;
	rc = call_run(db, &call, &answer);
	if (rc == 0 && sequence_out)
		*sequence_out = answer.sequence;
	return rc;
}
