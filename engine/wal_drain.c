/*
 * wal_drain.c - from the ring to the files.
 *
 * Each wal_pump does, in this order:
 *
 *	1. drain     writes of what is appended, log by log, up to WAL_WRITES in flight; `drained` follows in order
 *	2. retire    logs that are ended, drained and synced: out of the window, their files to be closed. Before the sync, which is the oldest log's: one
 *	             that was durable already when it ended gives way at once
 *	3. sync      one fdatasync at a time: of the oldest log that has unsynced bytes, once it is ended and drained, or once what
 *	             was wanted is drained. So logs become durable in order (invariant 5), and the next group of writers
 *	             gathers while one sync is under way
 *	4. reserve   space ahead of the current log
 *
 * A full disk is the one failure that heals: what failed is tried again, at most every RETRY_NS. Any other failure of a write or a sync
 * poisons the WAL: the kernel may have dropped the pages, and a second sync would call them safe.
 */
#include "engine/plant.h"
#include "engine/wal_impl.h"
#include "shm/probe.h"

#include "engine/kill_point.h"

enum {
	DRAIN_PIECE = 1 << 20,
	DRAIN_ENOUGH = 64 << 10,
	DRAIN_ALIGN = 4096,
};

static const uint64_t RETRY_NS = 100000000;

static void poison(struct wal *w, int64_t rc)
{
	if (!w->error)
		w->error = (int)rc;
}

/* ---- draining ---- */

/* Moves a position that has reached its log's end to the next log's base. */
static uint64_t over_gap(const struct wal *w, uint64_t position)
{
	for (unsigned i = 0; i + 1 < w->files; i++)
		if (position == w->file[i].end)
			position = w->file[i + 1].base;
	return position;
}

static void advance_drained(struct wal *w)
{
	while (w->writes && w->write[w->write_first].state == WRITE_DONE) {
		w->drained = w->write[w->write_first].end;
		w->write_first = (w->write_first + 1) % WAL_WRITES;
		w->writes--;
	}
	w->drained = over_gap(w, w->drained);
	/* Release: only after the writes completed, which the queue's completion ordered. Pairs with recovery's acquire. */
	atomic_store_explicit(&w->window->drained, w->drained, memory_order_release);
}

static void write_done(struct io_req *req)
{
	struct wal_write *wr = req->context;
	struct wal *w = wr->wal;

	w->flying--;
	if (w->abandoned)
		return;
	if (is_full(req->result)) {
		wr->state = WRITE_RETRY;
		w->retries++;
		w->write_retry_at = io_now_ns(w->env) + RETRY_NS;
		return;
	}
	if (req->result < 0) {
		poison(w, req->result);
		return;
	}
	wr->state = WRITE_DONE;
	KILL_POINT("log_written");
	advance_drained(w);
}

static void submit_write(struct wal *w, struct wal_write *wr)
{
	wr->state = WRITE_FLYING;
	w->flying++;
	io_submit(w->q, &wr->req);
}

/* One write from `submitted` on, @size bytes, not around the ring's end. */
static void start_write(struct wal *w, const struct wal_file *f, uint64_t size)
{
	struct wal_write *wr = &w->write[(w->write_first + w->writes++) % WAL_WRITES];
	uint64_t start = w->submitted;

	wr->wal = w;
	wr->end = w->submitted = start + size;
	if (PLANT("drained-early"))
		atomic_store_explicit(&w->window->drained, w->submitted, memory_order_release);
	wr->req = (struct io_req){
		.op = IO_WRITE,
		.file = f->file,
		.buf = w->ring + (start & (w->ring_size - 1)),
		.len = (size_t)size,
		.offset = start - f->base,
		.done = write_done,
		.context = wr,
	};
	submit_write(w, wr);
}

static void drain(struct wal *w, bool eager)
{
	eager |= w->sync_wanted > w->synced;
	while (w->writes < WAL_WRITES) {
		struct wal_file *f = &w->file[w->draining];
		bool ended = f->end != LOG_OPEN;
		uint64_t limit = ended ? f->end : w->appended, size = limit - w->submitted;
		uint64_t to_ring_end = w->ring_size - (w->submitted & (w->ring_size - 1));

		if (!size && ended) {
			w->submitted = w->file[++w->draining].base;
			/* A log may end with nothing of it left to write. */
			if (!w->writes)
				advance_drained(w);
			continue;
		}
		if (!size || (!eager && !ended && size < DRAIN_ENOUGH))
			break;
		size = size < to_ring_end ? size : to_ring_end;
		size = size < DRAIN_PIECE ? size : DRAIN_PIECE;
		/* Whole pages while more is to come: a page that is written twice costs twice. */
		if (!eager && !ended && size >= DRAIN_ALIGN)
			size -= (w->submitted + size) % DRAIN_ALIGN;
		start_write(w, f, size);
	}
}

static void retry_writes(struct wal *w)
{
	if (io_now_ns(w->env) < w->write_retry_at)
		return;
	w->retries = 0;
	for (unsigned i = 0; i < w->writes; i++) {
		struct wal_write *wr = &w->write[(w->write_first + i) % WAL_WRITES];

		if (wr->state == WRITE_RETRY)
			submit_write(w, wr);
	}
}

/* ---- syncing ---- */

void wal_want_sync(struct wal *w, uint64_t position)
{
	position = position < w->appended ? position : w->appended;
	if (position > w->sync_wanted)
		w->sync_wanted = position;
}

static void sync_done(struct io_req *req)
{
	struct wal *w = req->context;
	uint64_t took_ns;

	w->flying--;
	w->syncing = false;
	if (w->abandoned)
		return;
	if (req->result < 0 && PLANT("fsync-retried") && w->syncs++ % 2 == 0)
		return;
	if (req->result < 0) {
		poison(w, req->result);
		return;
	}
	KILL_POINT("log_synced");
	w->syncs++;
	w->synced = w->sync_covers;
	took_ns = io_now_ns(w->env) - w->sync_began_ns;
	histogram_add(&w->sync_times, took_ns, 1);
	PROBE2(sync__end, w->synced, took_ns);
}

static void start_sync(struct wal *w)
{
	struct wal_file *f = &w->file[0];
	bool ended = f->end != LOG_OPEN;

	if (w->syncing)
		return;
	/* A target of its own: `sync_wanted` moves on all the time, and what waits first must not wait for that. */
	if (w->sync_target <= w->synced)
		w->sync_target = w->sync_wanted;
	if (ended ? w->drained < f->end || w->synced >= f->end
		  : w->sync_target <= w->synced || w->drained < w->sync_target)
		return;
	w->sync_covers = w->drained < f->end ? w->drained : f->end;
	if (PLANT("ack-before-sync"))
		w->synced = w->sync_covers;
	if (PLANT("sync-not-in-order"))
		f = wal_current(w);
	w->sync = (struct io_req){.op = IO_FDATASYNC, .file = f->file, .done = sync_done, .context = w};
	w->syncing = true;
	w->flying++;
	w->sync_began_ns = io_now_ns(w->env);
	PROBE1(sync__begin, w->sync_covers);
	io_submit(w->q, &w->sync);
}

/* Lets go of logs that are ended and durable. */
static void retire(struct wal *w)
{
	while (w->files > 1 && w->synced >= w->file[0].end && w->draining) {
		struct wal_file *f = &w->file[0];

		if (w->syncing || (w->allocating && w->allocating_number == f->number))
			return; /* its descriptor is in use */
		/* Release: everything of it is in its file. Pairs with recovery's acquire. */
		atomic_store_explicit(&w->window->log[f->slot].used, 0, memory_order_release);
		KILL_POINT("log_retired");
		if (w->retired_count < WINDOW_LOGS)
			w->retired[w->retired_count++] = f->file;
		else
			io_close(f->file);
		w->synced = w->synced > f[1].base ? w->synced : f[1].base;
		w->files--;
		w->draining--;
		memmove(w->file, w->file + 1, w->files * sizeof(w->file[0]));
	}
}

struct io_file *wal_take_retired(struct wal *w)
{
	return w->retired_count ? w->retired[--w->retired_count] : NULL;
}

/* ---- space ahead ---- */

static void allocate_done(struct io_req *req)
{
	struct wal *w = req->context;
	struct wal_file *f = wal_current(w);
	int64_t rc = req->result;

	w->flying--;
	w->allocating = false;
	if (w->abandoned)
		return;
	if (is_full(rc)) {
		w->space_full = true;
		w->space_refused = req->offset + req->len;
		w->space_wanted = 0; /* who still wants it asks again: a large write that gave up does not */
		w->space_retry_at = io_now_ns(w->env) + RETRY_NS;
		return;
	}
	if (rc == -EOPNOTSUPP || rc == -ENOSYS)
		rc = 0;
	if (rc < 0) {
		poison(w, rc);
		return;
	}
	w->space_full = false;
	/* The log may have ended meanwhile: then its space is nobody's need. */
	if (f->number == w->allocating_number)
		f->allocated = req->result < 0 ? UINT64_MAX : req->offset + req->len;
	w->space_wanted = 0;
}

static void reserve_ahead(struct wal *w)
{
	struct wal_file *f = wal_current(w);
	uint64_t used = w->appended - f->base, want = w->space_wanted, upto;

	if (w->allocating || f->allocated == UINT64_MAX)
		return;
	if (f->allocated >= used + f->chunk / 4 && want <= f->allocated)
		return;
	upto = (want > f->allocated ? want : f->allocated) + f->chunk;
	if (w->space_full) {
		bool less = want > f->allocated && align_up(want, WAL_BASE_ALIGN) < w->space_refused;

		if (!less && io_now_ns(w->env) < w->space_retry_at)
			return;
		/*
		 * When somebody asks, only as much as is needed, for the last free bytes serve, too. When nobody does, it is tried all the
		 * same: else the first who asks after the disk was cleaned up would be told that it is full.
		 */
		if (want > f->allocated)
			upto = want;
	}
	upto = align_up(upto, WAL_BASE_ALIGN);
	w->allocate = (struct io_req){
		.op = IO_ALLOCATE,
		.file = f->file,
		.offset = f->allocated,
		.len = (size_t)(upto - f->allocated),
		.done = allocate_done,
		.context = w,
	};
	w->allocating = true;
	w->allocating_number = f->number;
	w->flying++;
	io_submit(w->q, &w->allocate);
}

int wal_pump(struct wal *w, bool eager)
{
	if (w->error || !w->files)
		return w->error;
	if (unlikely(w->retries))
		retry_writes(w);
	drain(w, eager);
	retire(w);
	start_sync(w);
	reserve_ahead(w);
	return w->error;
}
