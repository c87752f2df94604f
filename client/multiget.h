/*
 * multiget.h - the encoding of a MULTIGET, for shale_multiget and for queues.
 */
#ifndef SHALE_CLIENT_MULTIGET_H
#define SHALE_CLIENT_MULTIGET_H

#include "client/internal.h"

/* Checks the keys and returns the bytes that the request takes in *@size_out. 0, -E2BIG, -EINVAL with words. */
int multiget_size(const struct shale_db *db, size_t count, const struct shale_slice *keys, size_t *size_out);

/* Encodes the request at @dst, which has multiget_size() bytes. */
void multiget_encode(unsigned char *dst, size_t count, const struct shale_slice *keys);

/*
 * Decodes an answer into @values, whose data lies in one fresh block, *@memory_out (owned by the caller). 0; -ENOMEM; -SHALE_ENOTSHALE
 * (it is none). Words are up to the caller; on failure nothing is stored.
 */
int multiget_decode(const unsigned char *bytes, size_t len, size_t count, struct shale_value *values, void **memory_out);

#endif
