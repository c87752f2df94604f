/*
 * write.h - what single writes and batches have in common.
 */
#ifndef SHALE_CLIENT_WRITE_H
#define SHALE_CLIENT_WRITE_H

#include "client/internal.h"

/* Refuses a key that is NULL with a length, or over the daemon's limit, without asking it. 0 or a failure with words. */
int check_key(const struct shale_db *db, const char *what, const void *key, size_t key_len);

/* Checks options and @size (bytes of payload) and fills everything of @call but its parts. 0 or a failure with words. */
int write_prepare(const struct shale_db *db, const char *what, const struct shale_write_options *options, size_t size,
		  struct call *call);

#endif
