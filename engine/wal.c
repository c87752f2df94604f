#include "engine/wal_impl.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "engine/filename.h"
#include "engine/kill_point.h"
#include "shm/error.h"

size_t wal_window_size(size_t ring_bytes)
{
	return WINDOW_PAGE + ring_bytes;
}

size_t wal_record_max(size_t ring_bytes)
{
	/* Padding before the record, and a header for each block that it touches, one of them only just. */
	size_t blocks = ring_bytes / LOG_BLOCK + 2;

	return ring_bytes - WINDOW_PROOF - WAL_BASE_ALIGN - (LOG_HEADER - 1) - blocks * LOG_HEADER;
}

/* ---- open and close ---- */

static void window_init(struct wal *w)
{
	struct wal_window *win = w->window;
	struct wal_identity id;

	wal_identity(w->env, &id);
	/*
	 * What was trusted is distrusted before any of it changes (acquire: the stores below stay below), and the other way round at
	 * the end. Pairs with recovery's acquire.
	 */
	atomic_exchange_explicit(&win->magic, 0, memory_order_acq_rel);
	KILL_POINT("window_distrusted");
	memset((char *)win + sizeof(win->magic), 0, WINDOW_PAGE - sizeof(win->magic));
	win->version = WINDOW_VERSION;
	win->log_slots = WINDOW_LOGS;
	win->ring_size = w->ring_size;
	win->dir_dev = id.dev;
	win->dir_ino = id.ino;
	win->salt = io_random(w->env);
	memcpy(win->boot_id, id.boot_id, sizeof(win->boot_id));
	atomic_store_explicit(&win->magic, WINDOW_MAGIC, memory_order_release);
}

int wal_open(struct io_env *env, struct io_queue *q, void *memory, size_t size, struct wal **out, struct err_info *err)
{
	struct wal *w;

	if (size < WAL_WINDOW_MIN || !is_power_of_two(size - WINDOW_PAGE))
		return err_set(err, -EINVAL,
			       "the WAL window has %zu bytes; it needs 4096 and a power of two of at least 256 KiB",
			       size);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->env = env;
	w->q = q;
	w->window = window_of(memory);
	w->ring = ring_of(memory);
	w->ring_size = size - WINDOW_PAGE;
	window_init(w);
	*out = w;
	return 0;
}

static void wal_free(struct wal *w)
{
	for (unsigned i = 0; i < w->files; i++)
		io_close(w->file[i].file);
	while (w->retired_count)
		io_close(wal_take_retired(w));
	free(w);
}

/* Waits until nothing of ours is in flight. */
static int settle(struct wal *w)
{
	while (w->flying) {
		int rc = io_queue_wait(w->q, UINT64_MAX);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Drains and syncs all. 0 or why not. */
static int finish(struct wal *w)
{
	wal_want_sync(w, w->appended);
	for (;;) {
		int rc = wal_pump(w, true);

		if (rc < 0)
			return rc;
		if (wal_idle(w))
			return 0;
		/* Not idle, and nothing to wait for: writes that the full disk refused. */
		if (!w->flying || w->retries)
			return -ENOSPC;
		rc = io_queue_wait(w->q, UINT64_MAX);
		if (rc < 0)
			return rc;
	}
}

int wal_close(struct wal *w)
{
	int rc, waited;

	if (!w)
		return 0;
	rc = finish(w);
	waited = settle(w);
	rc = rc ? rc : waited;
	/* Space reserved but not used goes back, and stock finds no zeros behind the last record. */
	if (!rc && w->files)
		rc = io_truncate(wal_current(w)->file, w->appended - wal_current(w)->base);
	KILL_POINT("close_truncated");
	if (!rc)
		atomic_store_explicit(&w->window->magic, 0, memory_order_release);
	KILL_POINT("close_window_emptied");
	if (waited < 0)
		return rc; /* the queue is broken and may still write to us: leak rather than free */
	wal_free(w);
	return rc;
}

void wal_abandon(struct wal *w)
{
	if (!w)
		return;
	w->abandoned = true;
	if (!settle(w))
		wal_free(w);
}

/* ---- logs ---- */

int wal_log_prepare(struct io_env *env, struct io_queue *q, uint64_t number, uint64_t bytes, struct wal_log **out)
{
	struct wal_log *log = calloc(1, sizeof(*log));
	char name[FILE_NAME_MAX];
	int rc;

	if (!log)
		return -ENOMEM;
	log->number = number;
	rc = io_open(env, file_name(name, FILE_LOG, number), IO_OPEN_WRITE | IO_OPEN_CREATE, &log->file);
	if (rc < 0) {
		free(log);
		return rc;
	}
	log->inode = wal_file_inode(log->file);
	log->allocated = bytes;
	rc = bytes ? io_allocate(q, log->file, 0, bytes) : 0;
	if (rc == -EOPNOTSUPP || rc == -ENOSYS) {
		log->allocated = UINT64_MAX;
		rc = 0;
	}
	KILL_POINT("log_allocated");
	if (!rc)
		rc = io_sync_dir(env);
	if (rc < 0) {
		wal_log_discard(env, log);
		return rc;
	}
	*out = log;
	return 0;
}

void wal_log_discard(struct io_env *env, struct wal_log *log)
{
	char name[FILE_NAME_MAX];

	if (!log)
		return;
	io_close(log->file);
	io_unlink(env, file_name(name, FILE_LOG, log->number));
	free(log);
}

void wal_log_forget(struct wal_log *log)
{
	if (!log)
		return;
	io_close(log->file);
	free(log);
}

static void window_enter(struct wal *w, const struct wal_file *f, uint64_t inode)
{
	struct wal_window_log *entry = &w->window->log[f->slot];

	entry->number = f->number;
	entry->base = f->base;
	entry->inode = inode;
	entry->check = wal_entry_check(w->window->salt, entry);
	KILL_POINT("log_entry_filled");
	atomic_store_explicit(&entry->end, LOG_OPEN, memory_order_relaxed);
	/* Release: the entry before "used". Pairs with recovery's acquire. */
	atomic_store_explicit(&entry->used, 1, memory_order_release);
}

/* Closes the current log at what is appended, and moves to the next base. */
static void end_current(struct wal *w)
{
	struct wal_file *old = wal_current(w);

	old->end = w->appended;
	/* Release: the end before the next entry, so that recovery never takes the gap for bytes of the log. */
	atomic_store_explicit(&w->window->log[old->slot].end, old->end, memory_order_release);
	KILL_POINT("log_ended");
	w->appended = align_up(w->appended, WAL_BASE_ALIGN);
	/* Release, and before the next entry: recovery knows no entry whose base lies beyond it. */
	atomic_store_explicit(&w->window->appended, w->appended, memory_order_release);
}

int wal_switch(struct wal *w, struct wal_log *log)
{
	struct wal_file *f;
	unsigned slot = 0;

	assert(!w->partial);
	if (w->error)
		return -SHALE_EFAILED;
	if (w->files == WINDOW_LOGS)
		return -EAGAIN;
	if (w->files)
		end_current(w);
	KILL_POINT("log_gap_published");
	while (atomic_load_explicit(&w->window->log[slot].used, memory_order_relaxed) && slot < WINDOW_LOGS - 1)
		slot++;
	f = &w->file[w->files++];
	*f = (struct wal_file){
		.number = log->number,
		.file = log->file,
		.base = w->appended,
		.end = LOG_OPEN,
		.allocated = log->allocated,
		.chunk = wal_chunk(log->allocated),
		.slot = slot,
	};
	window_enter(w, f, log->inode);
	w->reserved = 0;
	w->space_wanted = 0;
	free(log);
	return 0;
}

/* ---- appending ---- */

/* Reserved space for @framed more bytes of the current log? Otherwise wal_pump is asked for it. */
static int has_space(struct wal *w, uint64_t framed)
{
	struct wal_file *f = wal_current(w);
	uint64_t end = w->appended - f->base + framed;

	if (likely(end <= f->allocated))
		return 0;
	w->space_wanted = end;
	return w->space_full && align_up(end, WAL_BASE_ALIGN) >= w->space_refused ? -ENOSPC : -EAGAIN;
}

int wal_reserve(struct wal *w, size_t size)
{
	size_t framed;
	int rc;

	assert(w->files && !w->partial);
	if (unlikely(w->error))
		return -SHALE_EFAILED;
	if (unlikely(size > wal_record_max(w->ring_size)))
		return -E2BIG;
	framed = log_framed_size(w->appended - wal_current(w)->base, size);
	rc = has_space(w, framed);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(w->appended + framed - w->drained > w->ring_size - WINDOW_PROOF))
		return w->retries ? -ENOSPC : -EAGAIN;
	w->reserved = framed;
	return 0;
}

int wal_reserve_large(struct wal *w, size_t size)
{
	assert(w->files && !w->partial);
	if (w->error)
		return -SHALE_EFAILED;
	return has_space(w, log_framed_size(w->appended - wal_current(w)->base, size));
}

static struct log_dest destination(struct wal *w)
{
	return (struct log_dest){w->ring, w->ring_size - 1, wal_current(w)->base};
}

unsigned char *wal_place(struct wal *w, size_t size)
{
	struct log_dest dest = destination(w);

	assert(w->reserved);
	return log_frame_reserve(&dest, w->appended - wal_current(w)->base, size);
}

uint64_t wal_commit(struct wal *w, const unsigned char *payload, size_t size)
{
	struct log_dest dest = destination(w);
	uint64_t base = wal_current(w)->base, offset = w->appended - base, end;

	if (payload && payload == log_frame_reserve(&dest, offset, size))
		end = log_frame_finish(&dest, offset, size);
	else
		end = log_frame(&dest, offset, slice_of(payload, size));
	assert(end - offset <= w->reserved);
	KILL_POINT("record_framed");
	w->reserved = 0;
	w->appended = base + end;
	/* Release: the record's bytes before the position. Pairs with recovery's acquire, in another life. */
	atomic_store_explicit(&w->window->appended, w->appended, memory_order_release);
	return w->appended;
}

bool wal_commit_part(struct wal *w, struct slice *rest, bool *begun)
{
	struct log_dest dest = destination(w);
	uint64_t base = wal_current(w)->base, most = w->ring_size - WINDOW_PROOF, used = w->appended - w->drained;
	bool done;

	if (w->error)
		return false;
	w->appended =
		base + log_frame_part(&dest, w->appended - base, used < most ? most - used : 0, rest, begun, &done);
	assert(w->appended - base <= wal_current(w)->allocated);
	w->partial = !done;
	/* Release: as in wal_commit. */
	atomic_store_explicit(&w->window->appended, w->appended, memory_order_release);
	return done;
}

/* ---- looking ---- */

uint64_t wal_appended(const struct wal *w)
{
	return w->appended;
}

uint64_t wal_drained(const struct wal *w)
{
	return w->drained;
}

uint64_t wal_synced(const struct wal *w)
{
	return w->synced;
}

uint64_t wal_syncs(const struct wal *w)
{
	return w->syncs;
}

bool wal_refused(const struct wal *w)
{
	return w->retries;
}

const struct histogram *wal_sync_times(const struct wal *w)
{
	return &w->sync_times;
}

uint64_t wal_ring_size(const struct wal *w)
{
	return w->ring_size;
}

int wal_error(const struct wal *w)
{
	return w->error;
}

bool wal_idle(const struct wal *w)
{
	return w->drained == w->appended && !w->flying && w->sync_wanted <= w->synced && w->files <= 1;
}

uint64_t wal_log_number(const struct wal *w)
{
	return w->files ? w->file[w->files - 1].number : 0;
}

uint64_t wal_log_bytes(const struct wal *w)
{
	return w->files ? w->appended - w->file[w->files - 1].base : 0;
}
