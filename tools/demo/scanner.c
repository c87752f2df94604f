/*
 * scanner.c - the process that looks: now and then a snapshot, scanned whole, twice.
 *
 * Between the two scans writers write, memtables are flushed and tables are merged; the snapshot must not notice.
 * Keys ascend strictly; both scans are equal byte for byte; and everything that was acknowledged before the snapshot
 * was taken is in it. A snapshot that the daemon's death took away is counted, not an error.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/demo/demo.h"

enum { TAPE_HEADER = 8, SCAN_DIFFERS = 1 };

/* A scan, recorded: (le32 key length, le32 value length, key, value)*. */
struct tape {
	unsigned char *bytes;
	size_t size, cap;
	size_t last; /* offset of the last entry; meaningless while empty */
	uint64_t entries;
};

static int tape_record(struct tape *t, struct slice key, struct slice value)
{
	size_t need = TAPE_HEADER + key.size + value.size;
	unsigned char *p;

	if (t->cap - t->size < need) {
		size_t cap = (t->cap + need) * 2;

		p = realloc(t->bytes, cap);
		if (!p)
			return -ENOMEM;
		t->bytes = p;
		t->cap = cap;
	}
	if (t->entries) {
		struct slice last = slice_of(t->bytes + t->last + TAPE_HEADER, load_le32(t->bytes + t->last));

		if (slice_compare(last, key) >= 0)
			return SCAN_DIFFERS;
	}
	p = t->bytes + t->size;
	store_le32(p, (uint32_t)key.size);
	store_le32(p + 4, (uint32_t)value.size);
	memcpy(p + TAPE_HEADER, key.data, key.size);
	if (value.size)
		memcpy(p + TAPE_HEADER + key.size, value.data, value.size);
	t->last = t->size;
	t->size += need;
	t->entries++;
	return 0;
}

/* Compares an entry with the one at *@at and moves on. */
static int tape_compare(const struct tape *t, size_t *at, struct slice key, struct slice value)
{
	const unsigned char *p = t->bytes + *at;

	if (*at == t->size || load_le32(p) != key.size || load_le32(p + 4) != value.size)
		return SCAN_DIFFERS;
	p += TAPE_HEADER;
	if (!slice_equal(slice_of(p, key.size), key) || !slice_equal(slice_of(p + key.size, value.size), value))
		return SCAN_DIFFERS;
	*at += TAPE_HEADER + key.size + value.size;
	return 0;
}

/* Scans all of @snapshot: onto the empty tape, or against the recorded one. 0, SCAN_DIFFERS or a failure. */
static int scan_whole(struct shale_db *db, const struct shale_snapshot *snapshot, struct tape *t)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	bool compare = t->entries > 0;
	struct slice key, value;
	struct shale_iter *it;
	size_t at = 0;
	int rc;

	options.snapshot = snapshot;
	options.no_fill_cache = 1;
	rc = shale_iter_open(db, &options, &it);
	if (rc < 0)
		return rc;
	for (shale_iter_seek_first(it); rc == 0 && shale_iter_valid(it); shale_iter_next(it)) {
		key.data = shale_iter_key(it, &key.size);
		value.data = shale_iter_value(it, &value.size);
		rc = compare ? tape_compare(t, &at, key, value) : tape_record(t, key, value);
	}
	if (rc == 0)
		rc = shale_iter_error(it);
	if (rc == 0 && compare && at != t->size)
		rc = SCAN_DIFFERS;
	shale_iter_close(it);
	return rc;
}

static uint64_t acknowledged(const struct plan *p)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < p->nfiles; i++)
		n += file_state(&p->files[i]) == FILE_ACKNOWLEDGED;
	return n;
}

/* One snapshot, two scans. 0, SCAN_DIFFERS (said), or a failure. */
static int look(struct plan *p, struct shale_db *db, struct tape *t)
{
	uint64_t before = acknowledged(p);
	struct shale_snapshot *snapshot;
	int rc = shale_snapshot_take(db, &snapshot);

	if (rc < 0)
		return rc;
	t->size = 0;
	t->entries = 0;
	rc = scan_whole(db, snapshot, t);
	if (rc == SCAN_DIFFERS)
		note("scan: keys out of order");
	if (rc == 0 && t->entries < before) {
		note("scan: %llu entries, but %llu were acknowledged before the snapshot",
		     (unsigned long long)t->entries, (unsigned long long)before);
		rc = SCAN_DIFFERS;
	}
	if (rc == 0 && t->entries) {
		rc = scan_whole(db, snapshot, t);
		if (rc == SCAN_DIFFERS)
			note("scan: two scans of one snapshot differ");
	}
	shale_snapshot_release(db, snapshot);
	if (rc == 0) {
		tally_add(&p->scans, 2);
		tally_add(&p->scanned_entries, 2 * t->entries);
	}
	return rc;
}

void scanner_run(struct plan *p)
{
	struct tape tape = {0};
	struct shale_db *db = NULL;
	int rc = shale_open(p->socket, NULL, &db);
	bool stop = false;

	while (rc >= 0 && !stop) {
		/* Looked at first, so that the last scan begins after the last write. */
		stop = atomic_load_explicit(&p->stop, memory_order_acquire);
		rc = look(p, db, &tape);
		if (rc == SCAN_DIFFERS) {
			tally_add(&p->scan_mismatches, 1);
		} else if (rc == -SHALE_EOUSTED) {
			tally_add(&p->ousted, 1);
			rc = 0;
			stop = false;
		}
		if (!stop)
			usleep(100000);
	}
	if (rc < 0) {
		const char *story = shale_last_error(db);

		note("scanner: %s", *story ? story : shale_strerror(rc));
	}
	shale_close(db);
	free(tape.bytes);
	_exit(rc < 0 ? 1 : 0);
}
