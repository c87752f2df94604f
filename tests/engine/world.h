/*
 * world.h - an engine in one thread for tests: the test is the service thread, the workers and the clock.
 *
 * Everything fails the running test when it goes wrong, so that tests read as stories.
 */
#ifndef SHALE_TESTS_ENGINE_WORLD_H
#define SHALE_TESTS_ENGINE_WORLD_H

#include "engine/engine.h"
#include "engine/io.h"
#include "tests/test.h"

enum { JOBS_ALL = JOB_LOG | JOB_FLUSH | JOB_COMPACT | JOB_DELETE };

struct world {
	char *dir;
	enum io_backend backend;
	struct engine_options options;
	struct engine_host host;
	void *window; /* kept across reopening: what shared memory is to the daemon */
	struct io_env *env;
	struct io_queue *service, *worker;
	struct engine *e;
	struct engine_recovery recovery;
	unsigned logged[8]; /* lines by priority */
	char last_log[1024];
};

/* Small sizes, so that a few thousand writes fill several levels. */
void world_init(struct world *w, enum io_backend backend);
void world_fini(struct world *w); /* abandons what is open, removes the directory */

int world_try_open(struct world *w, struct err_info *err);
void world_open(struct world *w);
void world_close(struct world *w);	 /* as a clean shutdown does it */
void world_abandon(struct world *w);	 /* as a kill does it; the window stays */
void world_lose_window(struct world *w); /* as a power failure does it: what was in memory only is gone */

/* Writes, running jobs whenever the engine says -EAGAIN. Returns the batch's last sequence. */
uint64_t world_write(struct world *w, const void *batch, size_t size);
uint64_t world_put(struct world *w, struct slice key, struct slice value);
uint64_t world_delete(struct world *w, struct slice key);
void world_sync(struct world *w); /* everything written so far is durable afterwards */

bool world_run_one(struct world *w, unsigned kinds); /* false: nothing to do */
void world_run_all(struct world *w, unsigned kinds); /* until nothing is to do */
void world_flush(struct world *w);		     /* a flush of everything, waited for */
void world_compact(struct world *w, const struct slice *begin, const struct slice *end);

/* After READ_MISS: reads what is missing, and waits. */
void world_fetch(struct world *w, struct read_ctx *ctx);
/* 0 and a malloc'ed copy, SHALE_NOTFOUND, or failure. */
int world_get(struct world *w, struct slice key, uint64_t sequence, unsigned char **value_out, size_t *size_out);

/* Runs one chunk to its end, through all its misses. */
int world_scan(struct world *w, struct scan *s);
/* Calls @each for every entry of the database at @sequence, in chunks of @chunk bytes. Returns the number of entries. */
size_t world_scan_all(struct world *w, uint64_t sequence, bool reverse, size_t chunk,
		      void (*each)(void *context, struct slice key, struct slice value), void *context);
/* The next entry of a chunk; false at its end. */
bool scan_entry(const unsigned char **at, const unsigned char *end, struct slice *key_out, struct slice *value_out);

unsigned world_files(struct world *w, unsigned level);
void world_check(struct world *w); /* engine_check */
void world_check_deep(struct world *w);

#endif
