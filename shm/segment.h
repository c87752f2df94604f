/*
 * segment.h - named POSIX shared-memory segments: create, map, hand over, sweep.
 *
 * Only the daemon creates. A segment is allocated in full (posix_fallocate) before it is mapped, so that a full
 * /dev/shm is a clean -ENOSPC at creation and never a SIGBUS later. Names are "/shale.<instance>.<what>", where
 * the instance is 16 hex digits made from the device and inode of the database directory: one daemon per
 * directory (the LOCK sees to that), so a daemon may sweep what a dead predecessor of the same instance left.
 */
#ifndef SHALE_SHM_SEGMENT_H
#define SHALE_SHM_SEGMENT_H

#include <sys/types.h>

#include "shm/base.h"

struct err_info;

enum { SEGMENT_NAME_MAX = 64, INSTANCE_LEN = 16 };

struct segment {
	int fd;        /* read-write; -1 when not open */
	void *base;    /* mapped shared, page aligned; NULL when not mapped */
	size_t size;   /* bytes, a multiple of the page size */
	char name[SEGMENT_NAME_MAX]; /* "" once unlinked or when it never had one */
};

/* Writes the 16 hex digits and NUL for the open directory @dirfd. Returns 0 or -errno. */
int segment_instance(int dirfd, char instance_out[INSTANCE_LEN + 1]);

/*
 * segment_create - a new segment /shale.<instance>.<what>, O_EXCL, @mode (no umask), zero-filled, allocated, mapped.
 * A left-over of the same name is replaced when @replace. @size is rounded up to pages.
 * Returns 0 and an open *@out (segment_close), or -errno with words in @err: -ENOSPC names /dev/shm and its size.
 */
int segment_create(const char *instance, const char *what, size_t size, mode_t mode, bool replace,
		   struct segment *out, struct err_info *err);

/* Opens and maps an existing one read-write. 0, -ENOENT (no words), or -errno with words. */
int segment_open(const char *instance, const char *what, struct segment *out, struct err_info *err);

/* A second descriptor of the same segment, read-only, close-on-exec, to hand over. >= 0 or -errno. */
int segment_reopen_readonly(const struct segment *s);

/* Removes the name; the memory stays until the last mapping goes. Idempotent. */
void segment_unlink(struct segment *s);

/* Unmaps and closes; keeps the name unless segment_unlink was called. Takes zeroed and half-built ones. */
void segment_close(struct segment *s);

/*
 * Unlinks every /shale.<instance>.* except those whose <what> is in the NULL-terminated list @keep (may be NULL).
 * Returns how many went, or -errno.
 */
int segment_sweep(const char *instance, const char *const *keep);

#endif
