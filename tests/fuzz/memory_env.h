/* memory_env.h - a directory in memory: what the engine reads and writes in fuzz targets. One thread; every operation succeeds at once. */
#ifndef SHALE_TESTS_FUZZ_MEMORY_ENV_H
#define SHALE_TESTS_FUZZ_MEMORY_ENV_H

#include "engine/io.h"

struct memory_env {
	struct io_env base;
	struct memory_file *files;
	uint64_t bytes;	      /* of all files */
	bool imagined_tables; /* every table that is not there exists and has 100 + its number bytes */
};

void memory_env_init(struct memory_env *m);
void memory_env_fini(struct memory_env *m);

/* The file @name holds @data from now on. */
void memory_env_put(struct memory_env *m, const char *name, const void *data, size_t size);

struct io_queue *memory_queue(struct memory_env *m); /* io_queue_free() */

#endif
