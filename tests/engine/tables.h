/*
 * tables.h - what the tests of tables share: a scratch environment, entries made from a seed, tables built by us and by stock LevelDB, and
 * a queue that fails or counts.
 */
#ifndef SHALE_TESTS_ENGINE_TABLES_H
#define SHALE_TESTS_ENGINE_TABLES_H

#include "engine/ikey.h"
#include "engine/iter.h"
#include "engine/source.h"
#include "shm/error.h"
#include "tests/test.h"

/* A directory with an environment and a queue over it. */
struct place {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
};

void place_make(struct place *p, enum io_backend backend);
void place_open(struct place *p, enum io_backend backend); /* p->dir is set */
void place_drop(struct place *p);

/* Sorted entries: internal keys and values, owned. */
struct entry_list {
	struct test_entry {
		struct slice key, value;
	} * at;
	size_t count, cap;
};

void entries_add(struct entry_list *l, struct slice ikey, struct slice value);
void entries_add_user(struct entry_list *l, const char *key, uint64_t sequence, unsigned type, struct slice value);
void entries_sort(struct entry_list *l);
void entries_free(struct entry_list *l);
/* Random user keys with shared prefixes, several versions of some; values of 0 to @max_value bytes, half compressible. */
void entries_random(struct entry_list *l, uint64_t *seed, size_t count, size_t max_value);

/* Builds %06llu.ldb and returns its size. */
uint64_t table_make(struct place *p, uint64_t number, const struct table_options *o, const struct entry_list *l);

/* All that the iterator gives must be exactly @l, both ways. */
void same_entries(struct iter *it, const struct entry_list *l);

/* Makes a database with stock LevelDB, whose tables hold everything (nothing is left in a log). */
struct stock_options {
	bool snappy;
	int bloom_bits;			  /* 0: none */
	size_t block_bytes, write_buffer; /* stock raises block_bytes to 1024, write_buffer to 64 KiB */
	int restart_interval;
};
void stock_make(const char *path, const struct stock_options *o, const struct entry_list *l, size_t batch);

/* Numbers and sizes of the tables in p->dir; returns how many. */
struct table_file {
	uint64_t number, size;
};
size_t place_tables(struct place *p, struct table_file *out, size_t max);

/* Whole file, owned. */
unsigned char *file_bytes(const struct place *p, uint64_t number, size_t *size_out);
void file_write(const struct place *p, uint64_t number, const void *bytes, size_t size);

/*
 * A queue before another one: counts what passes, and lets the operations of @fail_op from number @fail_at on (counted from 1; 0: never) end
 * with @fail_with.
 */
struct odd_queue {
	struct io_queue base;
	struct io_queue *real;
	unsigned ops[IO_EVENT + 1];
	enum io_op fail_op;
	unsigned fail_at;
	int64_t fail_with;
};

struct io_queue *odd_queue_init(struct odd_queue *o, struct io_queue *real);

#endif
