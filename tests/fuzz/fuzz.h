/*
 * fuzz.h - what the fuzz targets share. One target per fuzz_*.c:
 *
 *	FUZZ_TARGET(batch) { … data, size … return 0; }
 *
 * The same function is fuzzed by libFuzzer (make fuzz) and fed with every file of corpus/batch/ by test_corpus.c (make check, any
 * compiler). A target says more than "no crash": what must hold of every input, it checks with ENSURE.
 */
#ifndef SHALE_TESTS_FUZZ_H
#define SHALE_TESTS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "shm/base.h"

#ifdef FUZZ_LIBFUZZER
#define FUZZ_ENTRY(name)                                                                                               \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                                                  \
	__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)            \
	{                                                                                                              \
		return fuzz_##name(data, size);                                                                        \
	}
#else
#define FUZZ_ENTRY(name)
#endif

#define FUZZ_TARGET(name)                                                                                              \
	int fuzz_##name(const uint8_t *data, size_t size);                                                             \
	FUZZ_ENTRY(name)                                                                                               \
	int fuzz_##name(const uint8_t *data, size_t size)

#define ENSURE(holds)                                                                                                  \
	do {                                                                                                           \
		if (!(holds)) {                                                                                        \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds);                     \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Takes an input apart. Past its end there are zeros. */
struct input {
	const uint8_t *p, *end;
};

static inline size_t input_left(const struct input *in)
{
	return (size_t)(in->end - in->p);
}

static inline unsigned input_byte(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

static inline uint64_t input_number(struct input *in, unsigned bytes)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < bytes; i++)
		n |= (uint64_t)input_byte(in) << 8 * i;
	return n;
}

/* At most @max bytes of it. */
static inline struct slice input_slice(struct input *in, size_t max)
{
	struct slice s = slice_of(in->p, min_size(max, input_left(in)));

	in->p += s.size;
	return s;
}

/* A copy of exactly its size, so that the sanitizer sees a read past its end. Never NULL; free(). */
static inline unsigned char *input_copy(struct slice s)
{
	unsigned char *copy = calloc(1, s.size ? s.size : 1);

	ENSURE(copy);
	if (s.size)
		memcpy(copy, s.data, s.size);
	return copy;
}

#endif
