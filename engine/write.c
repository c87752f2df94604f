/*
 * write.c - batches in, memtable switches, flush tickets. All of it is the service thread's.
 *
 * The way of one batch:
 *	1. admit     the engine is healthy; the memtable has not reached its size, else switch (below)
 *	2. reserve   room for the record in the WAL window
 *	3. copy      the batch is read once: straight to its place in the window where that is contiguous, else into scratch
 *	4. check     that private copy: well-formed, within limits, fits the memtable; nothing is appended yet, so a refusal leaves no trace
 *	5. commit    sequences go into the copy's header; the WAL publishes the record: from here it survives the process
 *	6. insert    into the memtable; then publish last_sequence
 *
 * A switch needs three things, asked for in LevelDB's order, and each lack has its own DELAY_ bit: a free slot for the immutable memtable, level 0
 * below its stop limit, and a log file that a worker made ready. None of them is waited for: the answer is -EAGAIN, the batch stays with its client.
 *
 * A batch larger than an ordinary memtable gets one of its own size; one that the window's ring cannot hold goes through it in parts, and one of many
 * records into the memtable (write_large.c).
 */
#include "engine/engine_internal.h"

#include <stdlib.h>

#include "engine/kill_point.h"
#include "shm/layout.h" /* DELAY_… */

enum { INSERT_MAX = 2048 }; /* records of a batch that are inserted at once */

size_t memtable_arena(const struct engine_options *o)
{
	/* Beyond the size at which it counts as full, so that the batch that crosses the line fits as a rule. */
	return align_up(o->write_buffer_bytes + o->write_buffer_bytes / 4 + (64 << 10), 4096);
}

uint64_t log_reserve(const struct engine_options *o)
{
	return align_up(o->write_buffer_bytes + o->write_buffer_bytes / 10 + (64 << 10), 4096);
}

uint64_t engine_last_sequence(const struct engine *e)
{
	/* Acquire: the entries before their number. Pairs with the release in write_publish. */
	return atomic_load_explicit(&e->versions.last_sequence, memory_order_acquire);
}

/* ---- switching memtables ---- */

/* Replaces a memtable that is still empty by one of @arena bytes: the same log, nothing to flush. */
static int memtable_replace(struct engine *e, size_t arena)
{
	struct memtable *fresh, *old = e->mem;
	struct view *view = view_alloc(e);
	int rc;

	if (!view)
		return -ENOMEM;
	rc = memtable_new(e->memory, arena, memtable_log_number(old), &fresh);
	if (rc < 0) {
		view_unref(view);
		return rc;
	}
	pthread_mutex_lock(&e->lock);
	e->mem = fresh;
	view_changed(e);
	view_fill(view);
	pthread_mutex_unlock(&e->lock);
	view_install(e, view);
	memtable_unref(old);
	return 0;
}

/* What a switch lacks: 0, or -EAGAIN with the reason, or why it will never come. */
static int switch_obstacle(struct engine *e, bool heed_l0, uint16_t *why)
{
	unsigned l0 = atomic_load_explicit(&e->l0_files, memory_order_relaxed);

	if (e->immutable_count >= e->options.max_immutables)
		*why = DELAY_MEMTABLE;
	else if (heed_l0 && l0 >= e->options.l0_stop_trigger)
		*why = DELAY_L0;
	else if (!e->next_log)
		*why = DELAY_LOG;
	else
		return 0;
	if (atomic_load_explicit(&e->paused, memory_order_relaxed))
		return atomic_load_explicit(&e->paused, memory_order_relaxed);
	/* Level 0 is full, and what would empty it cannot be read: waiting would be for ever. */
	if (*why == DELAY_L0 && e->quarantine && !e->compactions_running)
		return -SHALE_EFAILED;
	return -EAGAIN;
}

static void switch_install(struct engine *e, struct memtable *fresh, uint64_t log_number, struct view *view)
{
	pthread_mutex_lock(&e->lock);
	e->immutables[e->immutable_count++] = (struct immutable){
		.mem = e->mem, .ordinal = e->mem_ordinal, .next_log = log_number, .last = engine_last_sequence(e)};
	e->next_log = NULL;
	e->next_mem = NULL;
	e->mem = fresh;
	e->mem_ordinal++;
	view_changed(e);
	view_fill(view);
	engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
	view_install(e, view);
}

/* Makes the memtable immutable and begins another of @arena bytes with its own log. */
static int memtable_switch(struct engine *e, size_t arena, bool heed_l0, uint16_t *why)
{
	struct memtable *ready, *fresh = NULL;
	struct view *view = NULL;
	struct wal_log *log;
	int rc;

	pthread_mutex_lock(&e->lock);
	rc = switch_obstacle(e, heed_l0, why);
	log = e->next_log;
	ready = e->next_mem;
	if (rc == -EAGAIN)
		engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
	if (rc < 0)
		return rc;

	/* Without the lock: what was free stays free, only this thread takes it. All that can fail comes first. */
	view = view_alloc(e);
	if (!view)
		return -ENOMEM;
	rc = 0;
	if (arena <= memtable_capacity(ready))
		fresh = ready;
	else
		rc = memtable_new(e->memory, arena, log->number, &fresh);
	if (rc == 0) {
		uint64_t number = log->number;

		rc = wal_switch(e->wal, log); /* takes the log */
		if (rc == 0)
			switch_install(e, fresh, number, view);
	}
	if (rc < 0) {
		if (rc == -EAGAIN) /* too many old logs still drain */
			*why = DELAY_LOG;
		view_unref(view);
	}
	if (fresh != ready) /* the one that is not in use; after a failure the ready one stays with its log */
		memtable_unref(rc == 0 ? ready : fresh);
	return rc;
}

/* ---- one batch ---- */

/* A private place for @size bytes, kept for the next time unless it is large. */
static unsigned char *scratch_get(struct engine *e, size_t size)
{
	if (size > e->scratch_size) {
		unsigned char *grown = malloc(size);

		if (!grown)
			return NULL;
		free(e->scratch);
		e->scratch = grown;
		e->scratch_size = size;
	}
	return e->scratch;
}

static void scratch_trim(struct engine *e)
{
	if (e->scratch_size > (256 << 10)) {
		free(e->scratch);
		e->scratch = NULL;
		e->scratch_size = 0;
	}
}

static int admit(struct engine *e, size_t size, uint16_t *why)
{
	if (unlikely(atomic_load_explicit(&e->failed, memory_order_relaxed)))
		return -SHALE_EFAILED;
	if (size < BATCH_HEADER_SIZE)
		return -EBADMSG;
	if (size > e->options.max_batch_bytes)
		return -E2BIG;
	if (unlikely(e->large.state != LARGE_NONE)) { /* nothing comes between the parts of its record */
		*why = DELAY_LOG;
		return -EAGAIN;
	}
	if (likely(memtable_used(e->mem) < e->options.write_buffer_bytes))
		return 0;
	return memtable_switch(e, memtable_arena(&e->options), true, why);
}

/* wal_reserve, with the engine's meaning of its answers. */
static int reserve(struct engine *e, size_t size, uint16_t *why)
{
	int rc = wal_reserve(e->wal, size);

	if (rc == -EAGAIN)
		*why = DELAY_LOG;
	return rc;
}

int write_make_room(struct engine *e, const struct batch_info *info, uint16_t *why)
{
	size_t arena = memtable_space(info->count, info->key_bytes, info->value_bytes) + 4096;

	arena = max_size(align_up(arena, 4096), memtable_arena(&e->options));
	if (memtable_entries(e->mem) == 0)
		return memtable_replace(e, arena);
	return memtable_switch(e, arena, true, why);
}

void write_publish(struct engine *e, uint64_t sequence)
{
	/* Release: the entries before their number. Pairs with engine_last_sequence. */
	atomic_store_explicit(&e->versions.last_sequence, sequence, memory_order_release);
}

void write_add(struct engine *e, uint64_t sequence, const struct batch_record *record)
{
	memtable_add(e->mem, sequence, record->type, record->key, record->value);
	if (e->host->key_changes)
		e->host->key_changes(e->host, record->key);
}

static void write_insert(struct engine *e, struct slice batch, uint64_t first, uint32_t count)
{
	struct batch_reader reader;
	struct batch_record record;
	uint64_t sequence = first;

	batch_reader_init(&reader, batch);
	while (batch_reader_next(&reader, &record))
		write_add(e, sequence++, &record);
	assert(sequence == first + count);
	write_publish(e, sequence - 1);
}

/* @batch is to be taken as a large one. */
static int take_large(struct engine *e, const void *batch, size_t size, uint64_t *sequence_out, uint64_t *position_out,
		      uint16_t *why_out)
{
	int rc = large_take(e, batch, size, why_out);

	if (rc == 0) { /* an empty one */
		*sequence_out = engine_last_sequence(e);
		*position_out = wal_appended(e->wal);
	}
	return rc;
}

/* The same of a copy that is checked, but of too many records. */
static int take_from_copy(struct engine *e, const unsigned char *copy, size_t size, uint64_t *sequence_out,
			  uint64_t *position_out, uint16_t *why_out)
{
	int rc = take_large(e, copy, size, sequence_out, position_out, why_out);

	if (copy == e->scratch)
		scratch_trim(e);
	return rc;
}

int engine_write(struct engine *e, const void *batch, size_t size, uint64_t *sequence_out, uint64_t *position_out,
		 uint16_t *why_out)
{
	uint64_t last = atomic_load_explicit(&e->versions.last_sequence, memory_order_relaxed);
	struct batch_info info;
	unsigned char *copy, *place;
	int rc = admit(e, size, why_out);

	if (unlikely(rc == 0 && size > wal_record_max(e->options.wal_ring_bytes)))
		return take_large(e, batch, size, sequence_out, position_out, why_out);
	if (rc == 0)
		rc = reserve(e, size, why_out);
	if (rc < 0)
		return rc;
	place = wal_place(e->wal, size);
	copy = place ? place : scratch_get(e, size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, batch, size); /* the one look at the caller's bytes */
	rc = batch_check(slice_of(copy, size), &e->options.limits, &info);
	if (rc < 0)
		return rc;
	if (unlikely(info.count == 0)) {
		*sequence_out = last;
		*position_out = wal_appended(e->wal);
		return 0;
	}
	if (unlikely(last + info.count > SEQUENCE_MAX))
		return -EOVERFLOW;
	if (unlikely(info.count > INSERT_MAX)) /* its place in the ring is not taken: nothing was committed */
		return take_from_copy(e, copy, size, sequence_out, position_out, why_out);
	if (unlikely(!memtable_has_room(e->mem, info.count, info.key_bytes, info.value_bytes))) {
		if (copy ==
		    place) { /* its place is about to belong to the old log: the copy moves, the original is not read again */
			copy = scratch_get(e, size);
			if (!copy)
				return -ENOMEM;
			memcpy(copy, place, size);
		}
		rc = write_make_room(e, &info, why_out);
		if (rc == 0)
			rc = reserve(e, size, why_out);
		if (rc < 0)
			return rc;
		assert(memtable_has_room(e->mem, info.count, info.key_bytes, info.value_bytes));
	}
	batch_set_sequence(copy, last + 1);
	KILL_POINT("write_numbered");
	*position_out = wal_commit(e->wal, copy, size);
	KILL_POINT("write_committed");
	write_insert(e, slice_of(copy, size), last + 1, info.count);
	*sequence_out = last + info.count;
	if (copy == e->scratch)
		scratch_trim(e);
	return 0;
}

bool engine_slowdown(const struct engine *e)
{
	return atomic_load_explicit(&e->l0_files, memory_order_relaxed) >= e->options.l0_slowdown_trigger;
}

/* ---- the WAL's faces ---- */

void engine_want_sync(struct engine *e, uint64_t position)
{
	wal_want_sync(e->wal, position);
}

uint64_t engine_synced(const struct engine *e)
{
	return wal_synced(e->wal);
}

bool engine_wal_idle(const struct engine *e)
{
	return wal_idle(e->wal);
}

/* Closing a log may take milliseconds: a worker does it. */
static void close_later(struct engine *e, struct io_file *file)
{
	pthread_mutex_lock(&e->lock);
	if (e->closing_count < CLOSING_MAX) {
		e->closing[e->closing_count++] = file;
		file = NULL;
		engine_wake_jobs(e);
	}
	pthread_mutex_unlock(&e->lock);
	io_close(file);
}

int engine_pump(struct engine *e, bool eager)
{
	struct io_file *retired;
	int rc;

	if (unlikely(e->large.state != LARGE_NONE))
		large_pump(e);
	rc = wal_pump(e->wal, eager);
	while (unlikely((retired = wal_take_retired(e->wal)) != NULL))
		close_later(e, retired);

	if (unlikely(rc < 0 && !atomic_load_explicit(&e->failed, memory_order_relaxed))) {
		struct err_info err;

		err_set(&err, rc,
			"the write-ahead log %06llu.log could not be written (%s): no write is accepted any more. "
			"Check the disk, then "
			"restart: what was acknowledged is recovered from the log and its window",
			(unsigned long long)wal_log_number(e->wal), shale_strerror(rc));
		engine_fail(e, rc, &err);
	}
	/* Acquire: pairs with the release in manual.c. */
	if (unlikely(atomic_load_explicit(&e->switch_wanted, memory_order_acquire)))
		write_serve_switch(e);
	view_refresh(e, eager); /* before a sleep, for it may be long: an old view keeps a memtable and files */
	return atomic_load_explicit(&e->failed, memory_order_relaxed);
}

/* ---- flushes that somebody asked for ---- */

int engine_flush_start(struct engine *e, uint64_t *ticket_out)
{
	uint16_t why;
	int rc;

	if (atomic_load_explicit(&e->failed, memory_order_relaxed))
		return -SHALE_EFAILED;
	if (e->large.state != LARGE_NONE)
		return -EAGAIN;
	if (memtable_entries(e->mem) > 0) {
		rc = memtable_switch(e, memtable_arena(&e->options), false, &why);
		if (rc < 0)
			return rc;
	}
	*ticket_out = e->mem_ordinal - 1; /* everything before the memtable of now */
	return 0;
}

int engine_flush_done(struct engine *e, uint64_t ticket)
{
	int rc;

	pthread_mutex_lock(&e->lock);
	rc = e->flushed >= ticket;
	pthread_mutex_unlock(&e->lock);
	if (rc == 1)
		return 1;
	if (atomic_load_explicit(&e->failed, memory_order_relaxed))
		return -SHALE_EFAILED;
	return atomic_load_explicit(&e->paused, memory_order_relaxed);
}

void write_serve_switch(struct engine *e)
{
	uint64_t ticket;
	int rc = engine_flush_start(e, &ticket);

	if (rc == -EAGAIN || failure_heals(rc))
		return; /* the next pass tries again */
	/* Relaxed: the flag is this thread's to clear; requests that come later set it anew under the lock below. */
	pthread_mutex_lock(&e->lock);
	atomic_store_explicit(&e->switch_wanted, false, memory_order_relaxed);
	if (rc == 0)
		manual_switched(e, ticket);
	pthread_mutex_unlock(&e->lock);
}
