/*
 * service_bed.h - the middle of the daemon for fuzz targets: a service without its loop, an engine over a directory in memory, one session. The target
 * plays the client and, by bed_settle(), the loop and the workers: all in one thread.
 */
#ifndef SHALE_TESTS_FUZZ_SERVICE_BED_H
#define SHALE_TESTS_FUZZ_SERVICE_BED_H

#include "daemon/service.h"
#include "shm/error.h"
#include "tests/fuzz/memory_env.h"

enum { BED_ENTRIES = 8, BED_ARENA = 64 << 10 };

struct bed {
	struct memory_env memory;
	struct io_queue *queue, *worker;
	struct config config;
	struct engine_host host;
	struct engine *engine;
	struct region region;
	struct service service;
	struct session *s; /* NULL after it broke, until bed_ready() */
	struct ring_client ring;
	unsigned char *arena;
	unsigned inputs; /* since the engine was made */
};

extern struct bed bed;

/* Makes what is missing: the service on its first call and after many inputs, a session when the last one broke. */
void bed_ready(void);

/* As service.c's visit(): takes what the client published, and executes it. False: the session was ended. */
bool bed_visit(void);

/* Runs jobs, reads and syncs until every request that was taken is answered, which takes few rounds. */
void bed_settle(void);

/* Ends the session if it has not ended, and checks that nothing of it is left. */
void bed_end_session(void);

#endif
