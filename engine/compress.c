#include "engine/compress.h"

#include <pthread.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zstd.h>

#include "shm/error.h"

/*
 * The densest thing that Snappy can say is a copy of 64 bytes in 3 bytes of input (2-byte copies give 11), so a stream that claims to be
 * longer than this lies, and is refused before memory is taken for it.
 */
enum { SNAPPY_MAX_RATIO = 22, ZSTD_LEVEL = 1 /* LevelDB HEAD's default */ };

struct compressor {
	ZSTD_CCtx *zstd;
	unsigned char *scratch;
	size_t cap;
};

int compressor_new(struct compressor **out)
{
	struct compressor *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*out = c;
	return 0;
}

void compressor_free(struct compressor *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->zstd);
	free(c->scratch);
	free(c);
}

static bool scratch_reserve(struct compressor *c, size_t need)
{
	unsigned char *grown;

	if (need <= c->cap)
		return true;
	grown = realloc(c->scratch, need);
	if (!grown)
		return false;
	c->scratch = grown;
	c->cap = need;
	return true;
}

/* Each returns the compressed size in c->scratch, or 0 when it did not work. */
static size_t snappy_try(struct compressor *c, struct slice raw)
{
	size_t size = snappy_max_compressed_length(raw.size);

	if (!scratch_reserve(c, size))
		return 0;
	if (snappy_compress((const char *)raw.data, raw.size, (char *)c->scratch, &size) != SNAPPY_OK)
		return 0;
	return size;
}

static size_t zstd_try(struct compressor *c, struct slice raw)
{
	size_t size;

	if (!c->zstd)
		c->zstd = ZSTD_createCCtx();
	if (!c->zstd || !scratch_reserve(c, ZSTD_compressBound(raw.size)))
		return 0;
	/* The one-shot call writes the content size into the frame, which readers need. */
	size = ZSTD_compressCCtx(c->zstd, c->scratch, c->cap, raw.data, raw.size, ZSTD_LEVEL);
	return ZSTD_isError(size) ? 0 : size;
}

enum compression compress_block(struct compressor *c, enum compression want, struct slice raw, struct slice *out)
{
	size_t size = 0;

	if (want == COMPRESS_SNAPPY)
		size = snappy_try(c, raw);
	else if (want == COMPRESS_ZSTD)
		size = zstd_try(c, raw);
	if (size == 0 || size >= raw.size - raw.size / 8) {
		*out = raw;
		return COMPRESS_NONE;
	}
	*out = slice_of(c->scratch, size);
	return want;
}

int decompressed_size(enum compression type, struct slice stored, size_t max, size_t *size_out)
{
	unsigned long long frame;
	size_t size;

	switch (type) {
	case COMPRESS_NONE:
		size = stored.size;
		break;
	case COMPRESS_SNAPPY:
		if (snappy_uncompressed_length((const char *)stored.data, stored.size, &size) != SNAPPY_OK ||
		    size / SNAPPY_MAX_RATIO > stored.size)
			return -SHALE_ECORRUPT;
		break;
	case COMPRESS_ZSTD:
		frame = ZSTD_getFrameContentSize(stored.data, stored.size);
		if (frame == ZSTD_CONTENTSIZE_UNKNOWN || frame == ZSTD_CONTENTSIZE_ERROR || frame > max)
			return -SHALE_ECORRUPT;
		size = (size_t)frame;
		break;
	default:
		return -SHALE_ECORRUPT;
	}
	if (size > max)
		return -SHALE_ECORRUPT;
	*size_out = size;
	return 0;
}

/* A zstd context costs far more to make than a block to decompress, so each thread keeps one. */
static pthread_key_t zstd_key;
static pthread_once_t zstd_once = PTHREAD_ONCE_INIT;
static bool zstd_key_made;

static void zstd_context_free(void *context)
{
	ZSTD_freeDCtx(context);
}

static void zstd_key_make(void)
{
	zstd_key_made = pthread_key_create(&zstd_key, zstd_context_free) == 0;
}

static int zstd_decompress(struct slice stored, unsigned char *dst, size_t size)
{
	ZSTD_DCtx *context = NULL;
	size_t got;

	pthread_once(&zstd_once, zstd_key_make);
	if (zstd_key_made) {
		context = pthread_getspecific(zstd_key);
		if (!context && (context = ZSTD_createDCtx()) && pthread_setspecific(zstd_key, context) != 0) {
			ZSTD_freeDCtx(context);
			context = NULL;
		}
	}
	if (context)
		got = ZSTD_decompressDCtx(context, dst, size, stored.data, stored.size);
	else
		got = ZSTD_decompress(dst, size, stored.data, stored.size);
	return !ZSTD_isError(got) && got == size ? 0 : -SHALE_ECORRUPT;
}

int decompress_block(enum compression type, struct slice stored, unsigned char *dst, size_t size)
{
	size_t got = size;

	switch (type) {
	case COMPRESS_NONE:
		if (stored.size != size)
			return -SHALE_ECORRUPT;
		if (size)
			memcpy(dst, stored.data, size);
		return 0;
	case COMPRESS_SNAPPY:
		if (snappy_uncompress((const char *)stored.data, stored.size, (char *)dst, &got) != SNAPPY_OK ||
		    got != size)
			return -SHALE_ECORRUPT;
		return 0;
	case COMPRESS_ZSTD:
		return zstd_decompress(stored, dst, size);
	}
	return -SHALE_ECORRUPT;
}
