/* stock.h - the LevelDB that the system ships, for tests that hold ours against it. */
#ifndef SHALE_TESTS_ENGINE_STOCK_H
#define SHALE_TESTS_ENGINE_STOCK_H

#include <leveldb/c.h>
#include <stdbool.h>

struct stock {
	leveldb_t *db;
	leveldb_options_t *options;
	leveldb_filterpolicy_t *filter;
	leveldb_readoptions_t *read;
	leveldb_writeoptions_t *write;
};

/* Fails the running test when @error is set: what stock LevelDB said about @what. */
void stock_must(char *error, const char *what);

/* Memtables of 1 MiB (with less it compacts all the time, and this is not its test), every check switched on. */
void stock_open(struct stock *s, const char *dir, bool create, bool snappy, int bloom_bits);
void stock_close(struct stock *s);

#endif
