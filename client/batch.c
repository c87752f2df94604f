/*
 * batch.c - a batch in the making: LevelDB's encoding in one growing buffer, sent as it is, and its conditions in another.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/write.h"
#include "shm/batch.h"
#include "shm/condition.h"

enum { BATCH_FIRST_ROOM = 256 };

struct shale_batch {
	unsigned char *data; /* the encoding, header first */
	size_t size, room;
	uint32_t count;
	unsigned char *conditions; /* encoded, count first; NULL: there was none yet */
	size_t conditions_size, conditions_room;
	uint32_t condition_count;
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
	free(batch->conditions);
	free(batch);
}

void shale_batch_clear(struct shale_batch *batch)
{
	batch->size = (size_t)(batch_begin(batch->data) - batch->data);
	batch->count = 0;
	batch->conditions_size = 0;
	batch->condition_count = 0;
}

/* Sees to room for @more bytes in a buffer; 0, -ENOMEM or -E2BIG. */
static int grow(unsigned char **data, size_t size, size_t *room, size_t more)
{
	unsigned char *larger;
	size_t want;

	if (more > UINT32_MAX - size)
		return -E2BIG; /* lengths in the format are 32 bits wide */
	if (size + more <= *room)
		return 0;
	want = max_size(*room * 2, size + more);
	larger = realloc(*data, want);
	if (!larger)
		return -ENOMEM;
	*data = larger;
	*room = want;
	return 0;
}

static int reserve(struct shale_batch *b, size_t more)
{
	return b->count == UINT32_MAX ? -E2BIG : grow(&b->data, b->size, &b->room, more);
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

/* ---- conditions ---- */

static int require(struct shale_batch *b, const struct condition *c)
{
	size_t start = b->condition_count ? 0 : CONDITION_HEADER_SIZE;
	int rc;

	if (c->key.size > UINT32_MAX || c->value.size > UINT32_MAX || b->condition_count == CONDITIONS_MAX)
		return -E2BIG;
	rc = grow(&b->conditions, b->conditions_size, &b->conditions_room, start + condition_size(c));
	if (rc < 0)
		return rc;
	b->conditions_size += start;
	b->conditions_size = (size_t)(condition_append(b->conditions + b->conditions_size, c) - b->conditions);
	store_le32(b->conditions, ++b->condition_count);
	return 0;
}

int shale_batch_require_absent(struct shale_batch *batch, const void *key, size_t key_len)
{
	return require(batch, &(struct condition){.type = CONDITION_ABSENT, .key = slice_of(key, key_len)});
}

int shale_batch_require_present(struct shale_batch *batch, const void *key, size_t key_len)
{
	return require(batch, &(struct condition){.type = CONDITION_PRESENT, .key = slice_of(key, key_len)});
}

int shale_batch_require_value(struct shale_batch *batch, const void *key, size_t key_len, const void *value,
			      size_t value_len)
{
	return require(batch, &(struct condition){.type = CONDITION_EQUAL,
						  .key = slice_of(key, key_len),
						  .value = slice_of(value, value_len)});
}

int shale_batch_require_sequence(struct shale_batch *batch, const void *key, size_t key_len, uint64_t sequence)
{
	/* 0 is no entry's number, and what a completion tells of a key that is absent. */
	return require(batch, &(struct condition){.type = sequence ? CONDITION_SEQUENCE : CONDITION_ABSENT,
						  .key = slice_of(key, key_len),
						  .sequence = sequence});
}

struct slice batch_conditions(const struct shale_batch *batch)
{
	return slice_of(batch->conditions, batch->conditions_size);
}

struct slice batch_writes(const struct shale_batch *batch)
{
	return slice_of(batch->data, batch->size);
}

size_t shale_batch_count(const struct shale_batch *batch)
{
	return batch->count;
}

size_t shale_batch_bytes(const struct shale_batch *batch)
{
	return batch->conditions_size + batch->size;
}

int shale_write(struct shale_db *db, const struct shale_write_options *options, const struct shale_batch *batch,
		uint64_t *sequence_out)
{
	struct shale_write_options o;
	struct answer answer;
	struct call call;
	int rc = check_fork(db);

	if (unlikely(rc < 0))
		return rc;
	rc = write_prepare(db, "write", options, shale_batch_bytes(batch), &o, &call);
	if (unlikely(rc < 0))
		return rc;
	call.part[0] = batch_conditions(batch);
	call.part[1] = batch_writes(batch);
	call.parts = 2;
	call.extra_len = (uint32_t)batch->conditions_size;
	rc = call_run(db, &call, &answer);
	if (rc == 0 && sequence_out)
		*sequence_out = answer.sequence;
	if (rc == SHALE_MISMATCH && o.mismatch_out)
		*o.mismatch_out = answer.len;
	if (rc == SHALE_MISMATCH && o.mismatch_sequence_out)
		*o.mismatch_sequence_out = answer.sequence;
	return rc;
}
