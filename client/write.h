/*
 * write.h - what single writes, batches and queues have in common.
 */
#ifndef SHALE_CLIENT_WRITE_H
#define SHALE_CLIENT_WRITE_H

#include "client/internal.h"
#include "shm/batch.h"

/* Refuses a key that is NULL with a length, or over the daemon's limit, without asking it. 0 or a failure with words. */
int check_key(const struct shale_db *db, const char *what, const void *key, size_t key_len);

/* Checks options and @size (bytes of payload) and fills *@o and everything of @call but its parts. 0 or a failure with words. */
int write_prepare(const struct shale_db *db, const char *what, const struct shale_write_options *options, size_t size,
		  struct shale_write_options *o, struct call *call);

/* Batch header and the start of its only record, as far as the key, at @dst. Returns their length. */
enum { FRAME_MAX = BATCH_HEADER_SIZE + 1 + VARINT64_MAX };
size_t write_frame(unsigned char dst[FRAME_MAX], unsigned type, size_t key_len);

/* Bytes of a batch with this one put; enough of them to be refused when the sum would overflow. */
size_t write_put_size(size_t key_len, size_t value_len);

/* What a batch is sent as: conditions (maybe empty), then writes. Valid until the batch changes. */
struct slice batch_conditions(const struct shale_batch *batch);
struct slice batch_writes(const struct shale_batch *batch);

#endif
