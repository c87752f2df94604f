/*
 * compress.h - block compression by type byte: 0 none, 1 Snappy, 2 zstd.
 *
 * 0 and 1 are what stock LevelDB 1.23 reads; 2 is LevelDB HEAD's number for zstd (a frame that carries its content size).
 */
#ifndef SHALE_ENGINE_COMPRESS_H
#define SHALE_ENGINE_COMPRESS_H

#include "shm/base.h"

enum compression { COMPRESS_NONE = 0, COMPRESS_SNAPPY = 1, COMPRESS_ZSTD = 2 };

struct compressor; /* contexts and scratch of one thread */

int compressor_new(struct compressor **out); /* 0 or -ENOMEM */
void compressor_free(struct compressor *c);  /* NULL is fine */

/*
 * Compresses @raw. Returns the type that the result in *@out really has: @want, or COMPRESS_NONE with *@out = @raw when that
 * saves less than 1/8 or fails. *@out is valid until the next call on @c.
 */
enum compression compress_block(struct compressor *c, enum compression want, struct slice raw, struct slice *out);

/* The size that @stored has once decompressed; refuses sizes over @max. 0, -SHALE_ECORRUPT. */
int decompressed_size(enum compression type, struct slice stored, size_t max, size_t *size_out);

/* Into @dst, which has exactly the size told above. 0, -SHALE_ECORRUPT. Any thread. */
int decompress_block(enum compression type, struct slice stored, unsigned char *dst, size_t size);

#endif
