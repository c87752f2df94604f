#include "tests/engine/diff_bed.h"

uint64_t diff_pick(struct diff *d, uint64_t n)
{
	return test_random(&d->seed) % n;
}

/* ---- jobs ---- */

void diff_run_held(struct diff *d, unsigned i, bool may_cancel)
{
	struct job *j = d->held[i];
	int rc;

	d->held[i] = d->held[--d->held_count];
	rc = engine_run_job(d->w.e, j, d->w.worker);
	ck_assert_msg(rc == 0 || ((may_cancel || d->cancelled) && rc == -ECANCELED), "a job failed: %d, %s", rc,
		      d->w.last_log);
}

/* Claims one, or runs one that was claimed. False: there is nothing to do. */
bool diff_some_job(struct diff *d, unsigned kinds)
{
	struct job *j;

	if (d->held_count == HELD || (d->held_count && diff_pick(d, 2))) {
		diff_run_held(d, (unsigned)diff_pick(d, d->held_count), false);
		return true;
	}
	j = engine_next_job(d->w.e, kinds);
	if (j) {
		d->held[d->held_count++] = j;
		return true;
	}
	if (d->held_count)
		diff_run_held(d, (unsigned)diff_pick(d, d->held_count), false);
	return d->held_count;
}

void diff_pump(struct diff *d, bool eager)
{
	ck_assert_int_ge(io_queue_poll(d->w.service), 0);
	ck_ok(engine_pump(d->w.e, eager));
}

void diff_all_jobs(struct diff *d)
{
	do
		diff_pump(d, true);
	while (diff_some_job(d, JOBS_ALL) || d->held_count);
}

/* ---- writing ---- */

void both_begin(struct both *b)
{
	b->end = batch_begin(b->ours);
	b->count = 0;
	b->stock = leveldb_writebatch_create();
}

void both_put(struct both *b, struct slice key, struct slice value)
{
	b->end = batch_append_put(b->end, key, value);
	b->count++;
	leveldb_writebatch_put(b->stock, (const char *)key.data, key.size, (const char *)value.data, value.size);
}

void both_delete(struct both *b, struct slice key)
{
	b->end = batch_append_delete(b->end, key);
	b->count++;
	leveldb_writebatch_delete(b->stock, (const char *)key.data, key.size);
}

void both_write(struct diff *d, struct both *b)
{
	char *error = NULL;
	uint64_t sequence;
	uint16_t why;
	int rc;

	batch_set_count(b->ours, b->count);
	for (unsigned tries = 0;; tries++) {
		rc = engine_write(d->w.e, b->ours, (size_t)(b->end - b->ours), &sequence, &d->position, &why);
		if (rc != -EAGAIN)
			break;
		ck_assert_msg(tries < 100000, "stalled for ever: why %#x", why);
		diff_pump(d, true);
		diff_some_job(d, JOBS_ALL);
	}
	ck_assert_msg(rc == 0, "engine_write: %d", rc);
	leveldb_write(d->s.db, d->s.write, b->stock, &error);
	stock_must(error, "write");
	leveldb_writebatch_destroy(b->stock);
}

/* Mostly anywhere, often in a small region that wanders. */
unsigned diff_some_key(struct diff *d)
{
	unsigned hot = (unsigned)(d->at->op / 2000 * 97 % d->keys);

	return diff_pick(d, 4) ? (unsigned)diff_pick(d, d->keys) : (hot + (unsigned)diff_pick(d, 100)) % d->keys;
}

void both_put_some(struct diff *d, struct both *b, unsigned key)
{
	unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX];
	uint32_t size = (uint32_t)diff_pick(d, diff_pick(d, 200) ? d->value_max + 1 : MODEL_VALUE_MAX);

	both_put(b, model_key(key, key_buf), model_value((uint32_t)diff_pick(d, UINT32_MAX), size, value_buf));
}

/* One entry or many; a key may come several times, and then its last entry counts. */
void diff_write_some(struct diff *d, unsigned max)
{
	static struct both b;
	unsigned char key_buf[MODEL_KEY_MAX];

	both_begin(&b);
	for (unsigned n = 1 + (unsigned)diff_pick(d, max); n && b.end - b.ours < BATCH_BYTES; n--) {
		if (diff_pick(d, 4))
			both_put_some(d, &b, diff_some_key(d));
		else
			both_delete(&b, model_key(diff_some_key(d), key_buf));
	}
	both_write(d, &b);
}

/* Keys in a row are written or deleted: tables that nothing overlaps, and runs of tombstones. */
void diff_write_run(struct diff *d)
{
	static struct both b;
	unsigned char key_buf[MODEL_KEY_MAX];
	unsigned first = (unsigned)diff_pick(d, d->keys);
	bool put = diff_pick(d, 2);

	both_begin(&b);
	for (unsigned i = 0; i < BATCH_MAX && first + i < d->keys && b.end - b.ours < BATCH_BYTES; i++) {
		if (put)
			both_put_some(d, &b, first + i);
		else
			both_delete(&b, model_key(first + i, key_buf));
	}
	both_write(d, &b);
}
