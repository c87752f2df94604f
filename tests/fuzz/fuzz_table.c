/*
 * A table from the disk: opening, iterating either way, seeking, getting and reading its counts end with an answer or with words, whatever the bytes;
 * what an iteration gives are internal keys.
 *
 * Input: a byte (bit 0: checksums are put right first, so that all behind them is reached), then the file.
 */
#include "engine/table.h"

#include <errno.h>

#include "engine/ikey.h"
#include "engine/source.h"
#include "shm/error.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/seal.h"

enum { NUMBER = 5, STEPS = 20000 };

static void walk(struct table *t, struct block_source *src)
{
	unsigned steps = 0;
	struct iter *it;

	ENSURE(table_iter_new(t, src, &it) == 0);
	for (iter_seek_first(it); it->valid && steps < STEPS; iter_next(it), steps++)
		ENSURE(it->key.size >= IKEY_TRAILER);
	ENSURE(it->valid || it->status == 0 || it->status == -SHALE_ECORRUPT);
	for (steps = 0, iter_seek_last(it); it->valid && steps < STEPS; iter_prev(it), steps++)
		ENSURE(it->key.size >= IKEY_TRAILER);
	ENSURE(it->valid || it->status == 0 || it->status == -SHALE_ECORRUPT);
	iter_free(it);
}

/* Asks for the keys that an iteration gives, and for one after each. */
static void ask(struct table *t, struct block_source *src)
{
	struct iter *it, *seeker;
	unsigned steps = 0;

	ENSURE(table_iter_new(t, src, &it) == 0 && table_iter_new(t, src, &seeker) == 0);
	for (iter_seek_first(it); it->valid && steps < 64; iter_next(it), steps++) {
		unsigned char *key = input_copy(it->key);
		struct slice ikey = slice_of(key, it->key.size), value;
		struct block *pin = NULL;
		uint64_t trailer;
		bool read;
		int rc = table_get(t, src, ikey, &pin, &trailer, &value, &read);

		ENSURE(rc == 0 || rc == TABLE_ABSENT || rc == -SHALE_ECORRUPT);
		if (rc == 0)
			free(input_copy(value)); /* reads all of it */
		block_unref(pin);
		table_offset_of(t, ikey);
		key[0]++;
		iter_seek(seeker, ikey);
		if (seeker->valid)
			iter_prev(seeker);
		free(key);
	}
	iter_free(seeker);
	iter_free(it);
}

static void look(struct memory_env *m, struct io_queue *q, uint64_t size)
{
	struct direct_source *source;
	struct err_info err = {0};
	struct table *t;
	int rc = table_open(&m->base, q, NUMBER, size, &t, &err);

	if (rc < 0) {
		ENSURE(rc == -SHALE_ECORRUPT && err.text[0]);
		return;
	}
	ENSURE(direct_source_new(&m->base, q, NULL, 4096, &source) == 0);
	walk(t, direct_source_base(source));
	ask(t, direct_source_base(source));
	direct_source_free(source);
	table_unref(t);
}

FUZZ_TARGET(table)
{
	struct input in = {data, data + size};
	bool seal = input_byte(&in) & 1;
	struct slice bytes = input_slice(&in, 1 << 20);
	unsigned char *copy = input_copy(bytes);
	struct table_counts counts;
	struct err_info err = {0};
	struct memory_env m;
	struct io_queue *q;

	memory_env_init(&m);
	q = memory_queue(&m);
	if (seal)
		seal_table(copy, bytes.size);
	memory_env_put(&m, "000005.ldb", copy, bytes.size);
	look(&m, q, bytes.size);
	if (table_read_counts(&m.base, q, NUMBER, bytes.size, &counts, &err) == 0)
		ENSURE(table_dead_percent(&counts) <= 100);
	free(copy);
	io_queue_free(q);
	memory_env_fini(&m);
	return 0;
}
