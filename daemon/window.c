#include "daemon/window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "engine/wal.h"
#include "shm/error.h"

static const char segment_what[] = "wal", file_name[] = "SHALE.window";

static int map_file(struct window *w, int fd, size_t size, struct err_info *err)
{
	void *base;
	int rc = posix_fallocate(fd, 0, (off_t)size);

	if (rc)
		return err_set(err, -rc, "no room for the log window %s (%zu KiB) in the database directory: %s",
			       file_name, size >> 10, shale_strerror(-rc));
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return err_set(err, -errno, "the log window %s cannot be mapped: %s", file_name,
			       shale_strerror(-errno));
	w->segment.fd = fd;
	w->segment.base = base;
	w->segment.size = size;
	w->kind = WINDOW_DIRECTORY;
	return 0;
}

/* @size 0: only one that is there; -ENOENT without words when it is not. */
static int open_file(struct window *w, size_t size, struct err_info *err)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (size ? O_CREAT | O_EXCL : 0);
	int fd = openat(w->dirfd, file_name, flags, 0600), rc;
	struct stat st;

	if (fd < 0 && errno == ENOENT && !size)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = err_set(err, -errno, "the log window %s: %s", file_name, shale_strerror(-errno));
	} else if (!size && (!S_ISREG(st.st_mode) || st.st_size == 0)) {
		rc = -ENOENT; /* killed before it was made: nothing is in it */
	} else {
		rc = map_file(w, fd, size ? size : (size_t)st.st_size, err);
		if (rc == 0)
			return 0;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

static bool plausible(const struct window *w, size_t *ring_out)
{
	for (size_t ring = 4096; ring <= w->segment.size; ring *= 2)
		if (wal_window_size(ring) == w->segment.size) {
			*ring_out = ring;
			return true;
		}
	return false;
}

static int find(struct window *w, const char *instance, struct err_info *err)
{
	int rc = segment_open(instance, segment_what, &w->segment, err);

	if (rc == 0)
		w->kind = WINDOW_SHM;
	return rc == -ENOENT ? open_file(w, 0, err) : rc;
}

static int create(struct window *w, const struct config *config, const char *instance, struct err_info *err)
{
	size_t size = wal_window_size(config->wal_ring);

	w->kind = (enum window_kind)config->wal_window;
	w->ring_bytes = config->wal_ring;
	if (w->kind == WINDOW_SHM)
		return segment_create(instance, segment_what, size, 0600, true, &w->segment, err);
	unlinkat(w->dirfd, file_name, 0); /* an empty or impossible one: find() did not want it */
	return open_file(w, size, err);
}

int window_open(struct window *w, const struct config *config, int dirfd, const char *instance, struct err_info *err)
{
	int rc;

	*w = (struct window){.dirfd = dirfd, .segment.fd = -1};
	rc = find(w, instance, err);
	if (rc == 0 && plausible(w, &w->ring_bytes)) {
		w->found = true;
		if (w->ring_bytes != config->wal_ring || w->kind != (enum window_kind)config->wal_window)
			log_line(LOG_NOTICE,
				 "a log window of an earlier run is there (%s, %zu KiB); it is used until the next "
				 "clean end, "
				 "and wal.ring and wal.window hold from then on",
				 w->kind == WINDOW_SHM ? "shared memory" : "in the directory", w->ring_bytes >> 10);
		return 0;
	}
	if (rc == 0) {
		log_line(LOG_WARNING,
			 "a log window of an impossible size (%zu bytes) is there; no shaled made it, and it is "
			 "replaced",
			 w->segment.size);
		w->ring_bytes = 0;
		window_close(w, false);
		w->dirfd = dirfd;
	} else if (rc != -ENOENT) {
		return rc;
	}
	return create(w, config, instance, err);
}

void window_close(struct window *w, bool remove)
{
	if (!w->segment.base)
		return;
	if (remove && w->kind == WINDOW_SHM)
		segment_unlink(&w->segment);
	else if (remove)
		unlinkat(w->dirfd, file_name, 0);
	segment_close(&w->segment);
}
