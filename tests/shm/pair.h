/* pair.h - both ends of one channel over ONE mapping, so that the thread sanitizer sees both. */
#ifndef SHALE_TESTS_SHM_PAIR_H
#define SHALE_TESTS_SHM_PAIR_H

#include "shm/ring.h"
#include "tests/test.h"

enum { ENTRIES = 16 };

#define SECOND_NS UINT64_C(1000000000)

/* For loops: Check writes a mark to a file at every assertion that holds, this only tests. */
#define must(cond)                                                                                                     \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			ck_abort_msg("%s does not hold", #cond);                                                       \
	} while (0)

struct pair {
	void *base;
	size_t size;
	struct ring_daemon daemon;
	struct ring_client client;
	unsigned char *arena;
	size_t arena_size;
};

void pair_init(struct pair *p, uint32_t entries);
void pair_fini(struct pair *p);

/* Moves every index of both ends to @start, as after that many requests. */
void pair_start_at(struct pair *p, uint32_t start);

/* Fails the test where the daemon's invariants do not hold. */
void pair_check(const struct pair *p);

/* Submits one request with @user_data; there must be room. True: the daemon sleeps. */
bool pair_submit(struct pair *p, uint64_t user_data);

/* As ring_cq_push(). */
int pair_complete(struct pair *p, uint64_t user_data);

#endif
