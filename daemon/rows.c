#include "daemon/rows.h"

#include <fcntl.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/service.h"
#include "shm/error.h"

/* Makes the cache that is next, and shows it to the control thread. */
static int make(struct rows *r, size_t bytes, struct err_info *err)
{
	struct row_cache made;
	int rc = row_cache_create(&made, r->instance, bytes, err), fd;

	if (rc < 0)
		return rc;
	fd = segment_reopen_readonly(&made.segment);
	if (fd < 0) {
		row_cache_close(&made);
		return err_set(err, fd, "the row cache cannot be opened for reading: %s", shale_strerror(fd));
	}
	pthread_mutex_lock(&r->lock);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = fd;
	r->fd_size = made.segment.size;
	pthread_mutex_unlock(&r->lock);
	r->cache = made;
	return 0;
}

/* One that holds nothing, rather than none at all: nothing depends on it but speed. */
static int make_or_empty(struct rows *r, struct err_info *err)
{
	int rc = make(r, r->bytes, err);

	if (rc >= 0 || r->bytes == 0)
		return rc;
	log_event(&(struct log_about){.event = EVENT_FALLBACK}, LOG_WARNING,
		  "no row cache, reads of hot keys are not answered from shared memory: %s", err->text);
	return make(r, 0, err);
}

int rows_open(struct rows *r, const char *instance, size_t bytes, struct err_info *err)
{
	*r = (struct rows){.cache.segment.fd = -1, .bytes = bytes, .fd = -1};
	memcpy(r->instance, instance, sizeof(r->instance));
	pthread_mutex_init(&r->lock, NULL);
	return make_or_empty(r, err);
}

void rows_close(struct rows *r)
{
	if (!r->cache.header)
		return;
	row_cache_close(&r->cache);
	if (r->fd >= 0)
		close(r->fd);
	pthread_mutex_destroy(&r->lock);
	memset(r, 0, sizeof(*r));
}

void rows_own(struct rows *r)
{
	int rc = row_cache_own(&r->cache);

	if (rc < 0)
		log_event(&(struct log_about){.event = EVENT_FALLBACK}, LOG_WARNING,
			  "the row cache is not used: the kernel cannot tell clients of this process's end "
			  "(set_robust_list: %s)",
			  shale_strerror(rc));
}

void rows_replace(struct rows *r)
{
	struct row_cache old = r->cache;
	struct err_info err = {0};

	if (!old.sets)
		return;
	if (make_or_empty(r, &err) < 0) { /* it goes on for those who have it mapped: emptied, and out of use */
		log_line(LOG_WARNING, "no new row cache: %s", err.text);
		row_cache_disown(&r->cache, false);
		memset(old.arena, 0, old.arena_size);
		r->cache.sets = 0;
		return;
	}
	r->cache.kept = old.kept;
	r->cache.dropped = old.dropped;
	row_cache_disown(&old, true);
	memset(old.arena, 0, old.arena_size); /* nobody looks there for an answer any more */
	segment_close(&old.segment);	      /* its name is the new one's */
	rows_own(r);
}

int rows_descriptor(struct rows *r, uint64_t *size_out)
{
	int fd;

	pthread_mutex_lock(&r->lock);
	fd = fcntl(r->fd, F_DUPFD_CLOEXEC, 0);
	*size_out = r->fd_size;
	pthread_mutex_unlock(&r->lock);
	return fd < 0 ? -errno : fd;
}

void rows_offer(struct service *svc, const struct request *r, uint64_t at, const struct slice *value, uint64_t entry)
{
	/* Of a large write that is under way some keys have been dropped already, and none of it is to be seen yet: what is read now must not come back in. */
	if (!svc->rows || r->sqe.sequence || r->ctx.no_fill || svc->large_underway ||
	    at != engine_last_sequence(svc->engine))
		return;
	row_cache_put(&svc->rows->cache, slice_of(r->in, r->sqe.in_len), value, entry);
}
