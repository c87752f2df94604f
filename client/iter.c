/*
 * iter.c - a cursor, kept wholly in the client.
 *
 * The daemon knows no iterators: it answers "a chunk of the range from this key on, at this sequence", and each chunk seeks anew. The
 * cursor is a pinned sequence, a direction, and a private copy of the last chunk; so a dead client leaves nothing but a
 * pin, which goes with its session.
 *
 *	chunk   entry entry entry …     entry = varint32 key length, varint32 value length, key, value
 *	        keys ascending (forward) or descending (reverse)
 *
 * The chunk is copied out of the arena in one piece, so that the thread's channel is free for other calls between two moves, and entries
 * are decoded where they lie. Moving on past its end asks for the next chunk, from the last key exclusively. Changing
 * direction asks anew from the current key. Chunks start small, for those who want one entry only, and grow
 * while the cursor keeps going. From the third in a row on, the next chunk is asked for as soon as one is there, so that daemon and
 * caller work at the same time.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"

enum {
	CHUNK_FIRST = 1 << 10,
	CHUNK_MAX = 256 << 10,
	CHUNK_GROWTH = 4,
	AHEAD_ROW = 3, /* chunks in a row: who has gone so far goes on */
};

struct shale_iter {
	struct shale_db *db;
	struct shale_snapshot *own;	       /* owned: pinned for this iterator; NULL: the caller's is read */
	const struct shale_snapshot *snapshot; /* what it reads */
	struct shale_read_options options;
	unsigned char *prefix; /* owned: the prefix, then the smallest key after all that begin with it; NULL: none */
	unsigned char *chunk;  /* owned */
	size_t chunk_len, chunk_room;
	size_t next;	 /* offset of the entry after the current one */
	size_t want;	 /* size of the next chunk to ask for */
	unsigned row;	 /* chunks in a row that were walked through in this direction */
	uint64_t ticket; /* of the chunk asked for ahead; 0: none */
	bool reverse;	 /* direction of the chunk */
	bool more;	 /* the range goes on after it */
	bool valid;
	int error;
	struct slice key, value; /* into the chunk */
};

static bool has_lower(const struct shale_iter *it)
{
	return it->options.lower != NULL;
}

static bool has_upper(const struct shale_iter *it)
{
	return it->options.upper != NULL;
}

static struct slice lower(const struct shale_iter *it)
{
	return slice_of(it->options.lower, it->options.lower_len);
}

static struct slice upper(const struct shale_iter *it)
{
	return slice_of(it->options.upper, it->options.upper_len);
}

static void stop(struct shale_iter *it, int error)
{
	it->valid = false;
	it->error = error;
	it->chunk_len = it->next = 0;
	it->more = false;
}

static int malformed(const struct shale_iter *it)
{
	return fail(it->db, -SHALE_ENOTSHALE,
		    "scan: the daemon on %s sent a chunk that is none: it does not decode, or not lead on",
		    it->db->path);
}

/* Decodes the entry at @p. The byte after it, or NULL when it does not fit. */
static const unsigned char *entry_decode(const unsigned char *p, const unsigned char *end, struct slice *key,
					 struct slice *value)
{
	uint32_t key_len, value_len;

	p = varint32_get(p, end, &key_len);
	if (p)
		p = varint32_get(p, end, &value_len);
	if (!p || key_len > (size_t)(end - p) || value_len > (size_t)(end - p) - key_len)
		return NULL;
	*key = slice_of(p, key_len);
	*value = slice_of(p + key_len, value_len);
	return p + key_len + value_len;
}

/* Enters the entry at it->next. 1: there is one; 0: the chunk is used up; negative: it is no chunk. */
static int decode(struct shale_iter *it)
{
	const unsigned char *p;

	if (it->next == it->chunk_len)
		return 0;
	p = entry_decode(it->chunk + it->next, it->chunk + it->chunk_len, &it->key, &it->value);
	if (unlikely(!p))
		return malformed(it);
	it->next = (size_t)(p - it->chunk);
	return 1;
}

/* A chunk that does not lead on from @start would have the caller walk in a circle. */
static bool leads_on(const struct shale_iter *it, const struct answer *answer, const struct slice *start,
		     bool exclusive)
{
	struct slice key, value;
	int order;

	if (answer->len == 0)
		return !(answer->flags & CQE_MORE);
	if (!entry_decode(answer->bytes, answer->bytes + answer->len, &key, &value))
		return false;
	if (!start)
		return true;
	order = slice_compare(key, *start);
	if (order == 0)
		return !exclusive;
	return it->reverse ? order < 0 : order > 0;
}

/* Keeps the answer's bytes: @start may lie in the old chunk and is dead afterwards. */
static int keep(struct shale_iter *it, const struct answer *answer)
{
	if (answer->len > it->chunk_room) {
		size_t room = max_size(answer->len, it->chunk_room * 2);
		unsigned char *chunk = malloc(room);

		if (!chunk)
			return fail(it->db, -ENOMEM, "scan: no memory for a chunk of %zu bytes", room);
		free(it->chunk);
		it->chunk = chunk;
		it->chunk_room = room;
	}
	if (answer->len)
		memcpy(it->chunk, answer->bytes, answer->len);
	it->chunk_len = answer->len;
	it->next = 0;
	it->more = answer->flags & CQE_MORE;
	return 0;
}

/* What asks for the chunk from @start (NULL: the range's end in that direction) on. @args is the caller's. */
static struct call chunk_call(const struct shale_iter *it, const struct slice *start, bool exclusive,
			      struct scan_args *args)
{
	bool limited = it->reverse ? has_lower(it) : has_upper(it);
	struct slice limit = !limited ? slice_of(NULL, 0) : it->reverse ? lower(it) : upper(it);
	*args = (struct scan_args){
		.start_len = start ? (uint32_t)start->size : 0,
		.limit_len = (uint32_t)limit.size,
		.max_bytes =
			(uint32_t)it->want, /* an entry larger than this may come alone: there is room for CHUNK_MAX */
	};
	return (struct call){
		.what = "scan",
		.op = OP_SCAN,
		.flags = (uint16_t)((it->reverse ? SQE_REVERSE : 0) | (exclusive ? SQE_EXCLUSIVE : 0) |
				    (it->options.no_fill_cache ? SQE_NO_FILL : 0) | (start ? SQE_HAS_START : 0) |
				    (limited ? SQE_HAS_LIMIT : 0)),
		.parts = 3,
		.part = {slice_of(args, sizeof(*args)), start ? *start : slice_of(NULL, 0), limit},
		.out_want = CHUNK_MAX,
		.snapshot = it->snapshot,
		.deadline_us = it->options.deadline_us,
	};
}

static void drop_ahead(struct shale_iter *it)
{
	if (it->ticket)
		call_ahead_drop(it->db, it->ticket);
	it->ticket = 0;
}

/* Asks for what comes after this chunk, to have it when the chunk is used up. */
static void look_ahead(struct shale_iter *it)
{
	static _Atomic uint64_t tickets;
	const unsigned char *p = it->chunk, *end = it->chunk + it->chunk_len;
	struct slice key = {0}, value;
	struct scan_args args;
	struct call call;

	while (p && p < end)
		p = entry_decode(p, end, &key, &value);
	if (!p || !it->chunk_len)
		return; /* malformed: moving on will tell */
	/* relaxed: a number of its own is all that is asked of it. */
	it->ticket = atomic_fetch_add_explicit(&tickets, 1, memory_order_relaxed) + 1;
	call = chunk_call(it, &key, true, &args);
	call_ahead(it->db, &call, it->ticket);
}

static int fetch(struct shale_iter *it, const struct slice *start, bool exclusive)
{
	struct scan_args args;
	struct call call = chunk_call(it, start, exclusive, &args);
	struct answer answer;
	int rc = check_fork(it->db); /* moving on may be the first call of a child */

	if (rc == 0 && !(it->ticket && call_ahead_answer(it->db, &call, it->ticket, &answer)))
		rc = call_run(it->db, &call, &answer);
	if (rc < 0)
		return rc;
	if (!leads_on(it, &answer, start, exclusive))
		return malformed(it);
	it->want = min_size(it->want * CHUNK_GROWTH, CHUNK_MAX);
	rc = keep(it, &answer);
	drop_ahead(it); /* its bytes are copied */
	if (rc == 0 && it->more && ++it->row >= AHEAD_ROW)
		look_ahead(it);
	return rc;
}

/* Goes to the first entry of the chunk from @start on. */
static void fetch_and_enter(struct shale_iter *it, const struct slice *start, bool exclusive)
{
	int rc;

	/* Sequence 0 was pinned before the first write, so there is nothing; to the daemon it would mean the newest. */
	if (it->snapshot->sequence == 0) {
		stop(it, 0);
		return;
	}
	rc = fetch(it, start, exclusive);
	if (rc == 0)
		rc = decode(it);
	if (rc <= 0)
		stop(it, rc);
	else
		it->valid = true;
}

/* ---- positioning ---- */

static void begin(struct shale_iter *it, bool reverse)
{
	it->reverse = reverse;
	it->want = CHUNK_FIRST;
	it->row = 0;
	it->error = check_fork(it->db);
	if (it->error == 0)
		drop_ahead(it);
	it->valid = false;
}

void shale_iter_seek_first(struct shale_iter *iter)
{
	struct slice from = lower(iter);

	begin(iter, false);
	if (iter->error == 0)
		fetch_and_enter(iter, has_lower(iter) ? &from : NULL, false);
}

void shale_iter_seek_last(struct shale_iter *iter)
{
	struct slice from = upper(iter);

	begin(iter, true);
	if (iter->error == 0)
		fetch_and_enter(iter, has_upper(iter) ? &from : NULL, has_upper(iter));
}

void shale_iter_seek(struct shale_iter *iter, const void *key, size_t key_len)
{
	struct slice from = slice_of(key, key_len);

	begin(iter, false);
	if (iter->error < 0)
		return;
	if (has_lower(iter) && slice_compare(from, lower(iter)) < 0)
		from = lower(iter);
	if (has_upper(iter) && slice_compare(from, upper(iter)) >= 0)
		stop(iter, 0); /* past the end, whatever the database holds */
	else
		fetch_and_enter(iter, &from, false);
}

/* One step in @reverse's direction from the current key. */
static void move(struct shale_iter *it, bool reverse)
{
	struct slice from = it->key;
	int rc;

	assert(it->valid);
	if (unlikely(it->reverse != reverse)) {
		begin(it, reverse);
		if (it->error == 0)
			fetch_and_enter(it, &from, true);
		return;
	}
	rc = decode(it);
	if (likely(rc > 0))
		return;
	it->valid = false;
	if (rc < 0 || !it->more)
		stop(it, rc);
	else
		fetch_and_enter(it, &from, true);
}

void shale_iter_next(struct shale_iter *iter)
{
	move(iter, false);
}

void shale_iter_prev(struct shale_iter *iter)
{
	move(iter, true);
}

/* ---- looking ---- */

int shale_iter_valid(const struct shale_iter *iter)
{
	return iter->valid;
}

int shale_iter_error(const struct shale_iter *iter)
{
	return iter->error;
}

const void *shale_iter_key(const struct shale_iter *iter, size_t *len_out)
{
	assert(iter->valid);
	*len_out = iter->key.size;
	return iter->key.data;
}

const void *shale_iter_value(const struct shale_iter *iter, size_t *len_out)
{
	assert(iter->valid);
	*len_out = iter->value.size;
	return iter->value.data;
}

/* ---- beginning and end ---- */

/* Narrows the bounds to the keys that begin with the prefix. */
static int apply_prefix(struct shale_iter *it)
{
	struct shale_read_options *o = &it->options;
	size_t n = o->prefix_len, after = n;

	if (!o->prefix || n == 0)
		return 0;
	it->prefix = malloc(2 * n);
	if (!it->prefix)
		return fail(it->db, -ENOMEM, "iterator: no memory for a prefix of %zu bytes", n);
	memcpy(it->prefix, o->prefix, n);
	memcpy(it->prefix + n, o->prefix, n);
	if (!o->lower || slice_compare(lower(it), slice_of(it->prefix, n)) < 0) {
		o->lower = it->prefix;
		o->lower_len = n;
	}
	while (after > 0 && it->prefix[n + after - 1] == 0xff)
		after--;
	if (after == 0)
		return 0; /* bytes of 0xff alone: nothing comes after them */
	it->prefix[n + after - 1]++;
	if (!o->upper || slice_compare(slice_of(it->prefix + n, after), upper(it)) < 0) {
		o->upper = it->prefix + n;
		o->upper_len = after;
	}
	return 0;
}

int shale_iter_open(struct shale_db *db, const struct shale_read_options *options, struct shale_iter **iter_out)
{
	struct shale_iter *it;
	int rc = check_fork(db);

	if (rc < 0)
		return rc;
	it = calloc(1, sizeof(*it));
	if (!it)
		return fail(db, -ENOMEM, "iterator: out of memory");
	it->db = db;
	rc = options_copy(db, &it->options, sizeof(it->options), options);
	if (rc < 0)
		goto fail;
	if (it->options.lower_len > UINT32_MAX || it->options.upper_len > UINT32_MAX ||
	    it->options.prefix_len > UINT32_MAX) {
		rc = fail(db, -E2BIG, "iterator: a bound or prefix is longer than 4 GiB");
		goto fail;
	}
	rc = apply_prefix(it);
	if (rc < 0)
		goto fail;
	it->snapshot = it->options.snapshot;
	if (!it->snapshot) {
		it->own = calloc(1, sizeof(*it->own));
		rc = it->own ? snapshot_take(db, 0, it->options.deadline_us, it->own)
			     : fail(db, -ENOMEM, "iterator: out of memory");
		if (rc < 0)
			goto fail;
		it->snapshot = it->own;
	}
	*iter_out = it;
	return 0;
fail:
	free(it->own);
	free(it->prefix);
	free(it);
	return rc;
}

void shale_iter_close(struct shale_iter *iter)
{
	if (!iter)
		return;
	if (check_fork(iter->db) < 0) {
		free(iter->own); /* the parent's session is not touched */
	} else {
		if (iter->own)
			snapshot_leave(iter->db, iter->own);
		drop_ahead(iter);
	}
	free(iter->chunk);
	free(iter->prefix);
	free(iter);
}
