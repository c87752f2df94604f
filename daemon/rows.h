/*
 * rows.h - the row cache (shm/row_cache.h) as the daemon keeps it: who fills it, and when another one takes its place.
 *
 * The service thread fills and empties it; the control thread hands it to new sessions. Values lie in it, not only numbers as in the region. So it has no name that
 * others may open, and when somebody loses the right to read, a new one takes its place.
 */
#ifndef SHALE_DAEMON_ROWS_H
#define SHALE_DAEMON_ROWS_H

#include <pthread.h>

#include "shm/row_cache.h"

struct request;
struct service;

struct rows {
	/* The service thread's, once it runs. */
	struct row_cache cache;
	char instance[INSTANCE_LEN + 1];
	size_t bytes;

	/* Under `lock`: what new sessions get. */
	pthread_mutex_t lock;
	int fd; /* read-only; -1: none */
	uint64_t fd_size;
};

/* Makes it, of @bytes (service.row_cache). Where there is no memory for so much it holds nothing, and the log says so. 0 or -errno with words. */
int rows_open(struct rows *r, const char *instance, size_t bytes, struct err_info *err);

/* After service_run. Takes what rows_open did not make, if it is zeroed. */
void rows_close(struct rows *r);

/* Service thread, before it serves: its end is to be known to all readers. */
void rows_own(struct rows *r);

/* Service thread: somebody may not read any more. What others have mapped is of no use from now on; they fetch the new one. */
void rows_replace(struct rows *r);

/* Any thread: a descriptor to hand over, owned by the caller, and its size; or -errno. */
int rows_descriptor(struct rows *r, uint64_t *size_out);

/* Service thread: the GET @r, run at sequence @at, found @value (NULL: no such key) of sequence @entry. */
void rows_offer(struct service *svc, const struct request *r, uint64_t at, const struct slice *value, uint64_t entry);

#endif
