/*
 * writer.c - one of the writers: every WRITERS-th file that is not acknowledged yet, in batches.
 *
 * The journal is exact: a file is marked acknowledged only after the batch that holds it was. A writer that was killed
 * begins anew with what its predecessor had not marked; so does the batch whose fate the daemon's death left unknown:
 * writing the same value again is harmless.
 */
#include <errno.h>
#include <unistd.h>

#include "tools/demo/demo.h"

struct writer {
	struct plan *plan;
	struct tally *tally;
	struct shale_db *db;
	struct shale_batch *batch;
	uint32_t members[BATCH_FILES]; /* indices into plan->files */
	unsigned count;
	uint64_t bytes; /* of values */
};

static void mark(struct file *f, uint32_t state)
{
	/* Release: length and hash before the state. Pairs with the acquire in file_state(). */
	atomic_store_explicit(&f->state, state, memory_order_release);
}

/* Puts one file into the batch. */
static int add_file(struct writer *w, uint32_t index)
{
	struct file *f = &w->plan->files[index];
	struct slice path = file_path(w->plan, f);
	unsigned char head[HEAD_BYTES];
	long n = file_read_head((const char *)path.data, head);

	if (n < 0) {
		mark(f, FILE_EXCLUDED);
		return 0;
	}
	atomic_store_explicit(&f->value_len, (uint32_t)n, memory_order_relaxed);
	atomic_store_explicit(&f->value_hash, hash_bytes(slice_of(head, (size_t)n)), memory_order_relaxed);
	mark(f, FILE_SENT);
	w->members[w->count++] = index;
	w->bytes += (uint64_t)n;
	return shale_batch_put(w->batch, path.data, path.size, head, (size_t)n);
}

static int send_batch(struct writer *w)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	int rc;

	if (w->count == 0)
		return 0;
	options.sync = tally_get(&w->tally->batches) % 16 == 15;
	while ((rc = shale_write(w->db, &options, w->batch, NULL)) == -SHALE_EUNKNOWN)
		tally_add(&w->tally->unknown, 1);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < w->count; i++)
		mark(&w->plan->files[w->members[i]], FILE_ACKNOWLEDGED);
	tally_add(&w->tally->files, w->count);
	tally_add(&w->tally->bytes, w->bytes);
	tally_add(&w->tally->batches, 1);
	shale_batch_clear(w->batch);
	w->count = 0;
	w->bytes = 0;
	return 0;
}

void writer_run(struct plan *p, unsigned number)
{
	struct writer w = {.plan = p, .tally = &p->writer[number], .batch = shale_batch_new()};
	int rc = w.batch ? shale_open(p->socket, NULL, &w.db) : -ENOMEM;

	for (uint32_t i = number; i < p->nfiles && rc == 0; i += WRITERS) {
		uint32_t state = file_state(&p->files[i]);

		if (state == FILE_ACKNOWLEDGED || state == FILE_EXCLUDED)
			continue;
		rc = add_file(&w, i);
		if (rc == 0 && (w.count == BATCH_FILES || w.bytes >= BATCH_BYTES))
			rc = send_batch(&w);
	}
	if (rc == 0)
		rc = send_batch(&w);
	if (rc < 0) {
		const char *story = shale_last_error(w.db);

		tally_add(&w.tally->errors, 1);
		note("writer %u: %s", number, *story ? story : shale_strerror(rc));
	}
	shale_batch_free(w.batch);
	shale_close(w.db);
	_exit(rc < 0 ? 1 : 0);
}
