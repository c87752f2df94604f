/*
 * write_large.c - a batch that is larger than the WAL window's ring, or has so many records that their insertion would keep the loop from others.
 *
 *	NONE ─engine_write─▶ TAKEN ─room in memtable and log─▶ PASSING ─last part in the ring─▶ INSERTING ─all visible─▶ ENDED ─told─▶ NONE
 *	                       └───── no disk space, no memory ─────┴── engine failed ──▶ failed: ENDED
 *
 * The batch is copied once, into private memory, and checked there, as any other; from then on it is the engine's, whatever becomes of its client. Its record
 * is framed into the ring as the ring drains, whole fragments at a time. Everything that can be refused is settled before the first of them (the
 * memtable, the log's space), so a record that was begun is always ended, unless the engine fails or the process dies: then it is the torn end of
 * the last log, which recovery drops, and nobody was told that it is there. For the same reason nothing else is written
 * meanwhile: LevelDB's format has no room for another record inside of one.
 *
 * Its entries go into the memtable some at a time, so that reads are served meanwhile. Nobody sees any of them until the last is there: their sequences
 * are beyond the one that readers begin at. (Millions of deletions fit into one batch; inserted in one go they stopped the daemon for ten seconds.)
 *
 * Rejected: a ring as large as the largest batch. It would take 128 MiB of /dev/shm from everybody for what few ever write.
 */
#include "engine/engine_internal.h"
#include "engine/kill_point.h"
#include "engine/plant.h"

#include <stdlib.h>

#include "shm/layout.h" /* DELAY_… */

/* Of the memtable's insertions in one engine_pump: about a millisecond, unless one value is larger than a slice; a record goes in whole. */
enum { SLICE_RECORDS = 512, SLICE_BYTES = 1 << 20 };

static void end(struct engine *e, int result)
{
	struct large_write *lw = &e->large;

	free(lw->copy);
	lw->copy = NULL;
	lw->result = result;
	lw->state = LARGE_ENDED;
}

int large_take(struct engine *e, const void *batch, size_t size, uint16_t *why)
{
	struct large_write *lw = &e->large;
	unsigned char *copy;
	int rc;

	/* What would keep it waiting is known beforehand as a rule, and then it is not worth a copy yet. */
	pthread_mutex_lock(&e->lock);
	rc = e->immutable_count >= e->options.max_immutables ? -EAGAIN : 0;
	pthread_mutex_unlock(&e->lock);
	if (rc < 0) {
		*why = DELAY_MEMTABLE;
		return rc;
	}
	copy = malloc(size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, batch, size); /* the one look at the caller's bytes */
	rc = batch_check(slice_of(copy, size), &e->options.limits, &lw->info);
	if (rc == 0 && lw->info.count > SEQUENCE_MAX - engine_last_sequence(e))
		rc = -EOVERFLOW;
	if (rc < 0 || lw->info.count == 0) {
		free(copy);
		return rc;
	}
	*lw = (struct large_write){
		.state = LARGE_TAKEN, .copy = copy, .size = size, .info = lw->info, .rest = slice_of(copy, size)};
	return WRITE_UNDERWAY;
}

/* Room in the memtable, then in its log, then the sequences. True when the record may begin. */
static bool prepare(struct engine *e)
{
	struct large_write *lw = &e->large;
	uint16_t why;
	int rc = 0;

	if (!memtable_has_room(e->mem, lw->info.count, lw->info.key_bytes, lw->info.value_bytes))
		rc = write_make_room(e, &lw->info, &why);
	if (rc == 0)
		rc = wal_reserve_large(e->wal, lw->size);
	if (rc == -EAGAIN)
		return false;
	if (rc < 0) {
		end(e, rc);
		return false;
	}
	lw->sequence = engine_last_sequence(e) + lw->info.count;
	batch_set_sequence(lw->copy, engine_last_sequence(e) + 1);
	lw->state = LARGE_PASSING;
	return true;
}

static void insert_some(struct engine *e)
{
	struct large_write *lw = &e->large;
	const unsigned char *begin = lw->reader.next;
	struct batch_record record;
	unsigned n = 0;

	while (n < SLICE_RECORDS && lw->reader.next - begin < SLICE_BYTES && batch_reader_next(&lw->reader, &record)) {
		write_add(e, lw->next++, &record);
		n++;
	}
	if (PLANT("slice-visible"))
		write_publish(e, lw->next - 1);
	if (lw->next <= lw->sequence)
		return;
	write_publish(e, lw->sequence);
	end(e, 0);
}

void large_pump(struct engine *e)
{
	struct large_write *lw = &e->large;

	if (lw->state == LARGE_ENDED)
		return;
	/* Also after a failure: its record is whole, so recovery will apply it, and what this process shows must not be less. */
	if (lw->state == LARGE_INSERTING) {
		insert_some(e);
		return;
	}
	if (atomic_load_explicit(&e->failed, memory_order_relaxed)) {
		end(e, -SHALE_EFAILED);
		return;
	}
	if (lw->state == LARGE_TAKEN && !prepare(e))
		return;
	if (!wal_commit_part(e->wal, &lw->rest, &lw->begun)) {
		KILL_POINT("large_part_framed");
		return;
	}
	KILL_POINT("large_committed");
	lw->position = wal_appended(e->wal);
	lw->next = lw->sequence - lw->info.count + 1;
	batch_reader_init(&lw->reader, slice_of(lw->copy, lw->size));
	lw->state = LARGE_INSERTING;
}

bool engine_write_busy(const struct engine *e)
{
	return e->large.state == LARGE_INSERTING;
}

int engine_write_result(struct engine *e, uint64_t *sequence_out, uint64_t *position_out)
{
	struct large_write *lw = &e->large;

	if (lw->state == LARGE_NONE)
		return -ENOENT;
	if (lw->state != LARGE_ENDED)
		return WRITE_UNDERWAY;
	lw->state = LARGE_NONE;
	if (lw->result == 0) {
		*sequence_out = lw->sequence;
		*position_out = lw->position;
	}
	return lw->result;
}

int large_finish(struct engine *e)
{
	/* One that waits for a worker is not begun, and nobody was told that it would be applied. */
	while (e->large.state == LARGE_PASSING || e->large.state == LARGE_INSERTING) {
		int rc = engine_pump(e, true);

		/* A full disk may stay so for ever: as wal_close, which meets the same, this gives up. */
		if (rc == 0 && e->large.state == LARGE_PASSING && wal_refused(e->wal))
			rc = -ENOSPC;
		if (rc == 0 && e->large.state == LARGE_PASSING)
			rc = io_queue_wait(e->queue, UINT64_MAX) < 0 ? -EIO : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}
