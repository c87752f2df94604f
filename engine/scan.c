/*
 * scan.c - one chunk of a range: what a reader at one sequence sees, over the merge of memtables and tables.
 *
 * The merge gives internal keys: of each user key all versions, newest first. Of these a reader at `sequence` sees the newest at or below it, and
 * nothing when that is a tombstone.
 *
 *	forward   the first version at or below the sequence decides; the key is then remembered in scan->last and all else of it skipped
 *	reverse   going back, versions come oldest first, so the decision is known only when the next user key (or an end) is reached. Until then
 *	          the newest visible one so far is written at the end of @out without being counted: overwritten by a newer one, forgotten on a tombstone
 *
 * A miss needs no state but scan->last, which survives in the question: keys up to it are decided, so the next call seeks there and goes on. It is an
 * internal key whose trailer is a mark of ours: DECIDED, or PENDING: this key was being looked at, begin with it again.
 *
 * What is skipped has no bound: a million tombstones may lie before the next entry. After SKIP_MAX of them the scan gives way (read_ctx_yield), as if it
 * had missed a block: others have their turn, blocks that it pinned are let go, and it goes on behind scan->last. It does so earlier when those
 * blocks are large: values of many megabytes that nobody sees would otherwise all be held at once.
 *
 * @out may be memory that somebody else writes too: it is written, never read.
 */
#include "engine/engine_internal.h"

#include <stdlib.h>

enum { READAHEAD_FIRST = 64 << 10, READAHEAD_MAX = 256 << 10 };
enum { SKIP_MAX = 16 << 10, PASSED_MAX = 4 << 20, GIVE_WAY = READ_MISS + 1 };
enum {
	DECIDED = 0,
	PENDING = 1
}; /* trailers of scan->last; DECIDED also sorts after every version of the key, to seek past them */

/* ---- iterators over a view ---- */

static int view_iters(struct view *v, struct block_source *src, struct iter **children, unsigned *count_out)
{
	unsigned n = 0;
	int rc = memtable_iter_new(v->mem, &children[n]);

	n += rc == 0;
	for (unsigned i = 0; rc == 0 && i < v->immutable_count; i++) {
		rc = memtable_iter_new(v->immutables[i], &children[n]);
		n += rc == 0;
	}
	if (rc == 0)
		rc = version_iters(v->version, src, children, &n);
	*count_out = n;
	return rc;
}

static int view_merge(struct view *v, struct block_source *src, struct iter **out)
{
	struct iter *space[32], **children = space;
	size_t room = 1 + v->immutable_count + v->version->count[0] + LEVELS;
	unsigned count = 0;
	int rc;

	if (room > ARRAY_SIZE(space)) {
		children = malloc(room * sizeof(*children));
		if (!children)
			return -ENOMEM;
	}
	rc = view_iters(v, src, children, &count);
	if (rc == 0) {
		rc = merge_iter_new(children, count, out);
	} else {
		while (count)
			iter_free(children[--count]);
	}
	if (children != space)
		free(children);
	return rc;
}

/* ---- writing entries ---- */

/* Writes an entry at the end of what counts; the caller counts it. Its size, or 0 when it does not fit (*@needed_out). */
static size_t put_entry(const struct scan *s, struct slice key, struct slice value, size_t *needed_out)
{
	size_t size = varint_length(key.size) + varint_length(value.size) + key.size + value.size;
	unsigned char head[2 * VARINT64_MAX], *p;

	if (size > s->out_size - s->used) {
		*needed_out = size;
		return 0;
	}
	p = varint64_put(varint64_put(head, key.size), value.size);
	memcpy(s->out + s->used, head, (size_t)(p - head));
	p = s->out + s->used + (p - head);
	if (key.size)
		memcpy(p, key.data, key.size);
	if (value.size)
		memcpy(p + key.size, value.data, value.size);
	return size;
}

/* The chunk ends before an entry of @needed bytes. */
static void chunk_full(struct scan *s, size_t needed)
{
	s->more = true;
	if (s->count == 0)
		s->needed = needed;
}

/* An entry was read: what seek compaction samples (seek.c). */
static void was_read(struct view *v, const struct iter *it)
{
	v->engine->sample_left -= (int64_t)(it->key.size + it->value.size);
	if (unlikely(v->engine->sample_left < 0))
		seek_sample(v, it->key);
}

static bool count_reached(struct scan *s)
{
	if (!s->max_count || s->count < s->max_count)
		return false;
	s->more = true;
	return true;
}

static bool seen_before(const struct scan *s, struct slice user)
{
	return s->last.size && slice_equal(ikey_user(key_buf_slice(&s->last)), user);
}

/* ---- forward ---- */

static int seek_forward(struct scan *s, struct iter *it)
{
	struct key_buf target = {0};
	int rc = 0;

	if (s->last.size && ikey_trailer(key_buf_slice(&s->last)) == PENDING) {
		rc = key_buf_set_internal(&target, ikey_user(key_buf_slice(&s->last)), s->sequence, IKEY_SEEK);
		if (rc == 0)
			iter_seek(it, key_buf_slice(&target));
		key_buf_fini(&target);
	} else if (s->last.size) {
		iter_seek(it, key_buf_slice(&s->last)); /* DECIDED: behind every version of it */
	} else if (s->has_start) {
		/* Behind every version of the start key, or before those that can be seen. */
		rc = s->exclusive ? key_buf_set_internal(&target, s->start, 0, IKEY_DELETION)
				  : key_buf_set_internal(&target, s->start, s->sequence, IKEY_SEEK);
		if (rc == 0)
			iter_seek(it, key_buf_slice(&target));
		key_buf_fini(&target);
	} else {
		iter_seek_first(it);
	}
	return rc;
}

static bool decided(const struct scan *s, struct slice user)
{
	return seen_before(s, user) && ikey_trailer(key_buf_slice(&s->last)) == DECIDED;
}

/* The chunk goes on later, at @user or behind it. GIVE_WAY or -ENOMEM. */
static int give_way(struct scan *s, struct slice user)
{
	int rc = decided(s, user) ? 0 : key_buf_set_internal(&s->last, user, 0, PENDING);

	return rc < 0 ? rc : GIVE_WAY;
}

/*
 * After so many entries, or bytes of them, that are not in the chunk. What was passed counts, not what is pinned: that is also what was read ahead in
 * each table, megabytes that a scan of no_fill would read again every few entries.
 */
static bool enough(const struct scan *s, unsigned skipped)
{
	return unlikely(skipped >= SKIP_MAX || s->passed > PASSED_MAX);
}

static void pass(struct scan *s, const struct iter *it)
{
	s->passed += it->key.size + it->value.size;
}

static int scan_forward(struct scan *s, struct view *v, struct iter *it)
{
	unsigned skipped = 0;
	int rc = seek_forward(s, it);

	for (; rc == 0 && it->valid; iter_next(it)) {
		struct slice user = ikey_user(it->key);
		bool hidden = ikey_sequence(it->key) > s->sequence;
		size_t size, needed;

		was_read(v, it);
		if (hidden || decided(s, user)) {
			if (hidden && s->has_limit && slice_compare(user, s->limit) >= 0)
				return 0;
			pass(s, it);
			if (enough(s, ++skipped))
				return give_way(s, user);
			continue;
		}
		if (s->has_limit && slice_compare(user, s->limit) >= 0)
			return 0;
		if (ikey_kind(it->key) == IKEY_VALUE) {
			if (count_reached(s))
				return 0;
			size = put_entry(s, user, it->value, &needed);
			if (!size) {
				chunk_full(s, needed);
				return 0;
			}
			s->used += size;
			s->count++;
		} else {
			skipped++;
		}
		rc = key_buf_set_internal(&s->last, user, 0, DECIDED);
		s->passed_before_last = s->passed;
		if (rc == 0 && enough(s, skipped))
			rc = GIVE_WAY;
	}
	return rc ? rc : it->status;
}

/* ---- reverse ---- */

/* Onto the last entry whose user key is < @user, or <= when @inclusive. */
static int seek_before(struct iter *it, struct slice user, bool inclusive)
{
	struct key_buf target = {0};
	int rc;

	if (inclusive) {					/* the first key after @user is @user and a zero byte */
		rc = key_buf_set_internal(&target, user, 0, 0); /* only for its room: user key, then eight zero bytes */
		if (rc == 0) {
			struct key_buf next = {0};

			rc = key_buf_set_internal(&next, slice_of(target.data, user.size + 1), SEQUENCE_MAX, IKEY_SEEK);
			key_buf_fini(&target);
			target = next;
		}
	} else {
		rc = key_buf_set_internal(&target, user, SEQUENCE_MAX, IKEY_SEEK);
	}
	if (rc == 0) {
		iter_seek(it, key_buf_slice(&target));
		if (it->valid)
			iter_prev(it);
		else if (it->status == 0)
			iter_seek_last(it);
	}
	key_buf_fini(&target);
	return rc;
}

static int seek_reverse(struct scan *s, struct iter *it)
{
	if (s->last.size)
		return seek_before(it, ikey_user(key_buf_slice(&s->last)),
				   ikey_trailer(key_buf_slice(&s->last)) == PENDING);
	if (s->has_start)
		return seek_before(it, s->start, !s->exclusive);
	iter_seek_last(it);
	return 0;
}

/* What is known of the key being looked at. */
struct candidate {
	bool visible; /* the newest version so far is a value */
	size_t size;  /* of its entry, written but not counted; 0: does not fit */
	size_t needed;
};

/* The key in scan->last is done. False: the chunk ends before it. */
static bool decide(struct scan *s, const struct candidate *c)
{
	if (c->visible && !c->size) {
		chunk_full(s, c->needed);
		return false;
	}
	if (c->visible) {
		s->used += c->size;
		s->count++;
	}
	store_le64(s->last.data + s->last.size - IKEY_TRAILER, DECIDED);
	return true;
}

static int scan_reverse(struct scan *s, struct view *v, struct iter *it)
{
	struct candidate now = {0};
	unsigned looked_at = 0;
	bool looking = false;
	int rc = seek_reverse(s, it);

	for (; rc == 0 && it->valid; iter_prev(it)) {
		struct slice user = ikey_user(it->key);

		was_read(v, it);
		if (looking && !seen_before(s, user)) {
			if (!decide(s, &now))
				return 0;
			looking = false;
			if (enough(s, looked_at)) /* between keys only: all versions of one are seen at once */
				return GIVE_WAY;
		}
		if (!looking) {
			if (s->has_limit && slice_compare(user, s->limit) < 0)
				return 0;
			if (count_reached(s))
				return 0;
			rc = key_buf_set_internal(&s->last, user, 0, PENDING);
			if (rc < 0)
				break;
			s->passed_before_last = s->passed;
			now = (struct candidate){0};
			looking = true;
		}
		looked_at++;
		pass(s, it);
		if (ikey_sequence(it->key) > s->sequence)
			continue;
		now.visible = ikey_kind(it->key) == IKEY_VALUE;
		now.size = now.visible ? put_entry(s, user, it->value, &now.needed) : 0;
	}
	if (rc < 0 || it->status)
		return rc < 0 ? rc : it->status; /* READ_MISS: last is PENDING, the key is looked at again */
	if (looking)
		decide(s, &now);
	return 0;
}

/*
 * Reading ahead pays forward, where the next blocks of the file are the next keys, and only for a scan that is seen to go on: a seek that
 * wants one entry must not read sixteen blocks. Nor does a chunk need more than it has room for.
 */
static void read_ahead(struct read_ctx *ctx, const struct scan *s)
{
	size_t grown = ctx->readahead ? 2 * (size_t)ctx->readahead : READAHEAD_FIRST;

	ctx->readahead = (unsigned)min_size(min_size(grown, READAHEAD_MAX), s->out_size - s->used);
}

int engine_scan(struct view *v, struct read_ctx *ctx, struct scan *s)
{
	struct iter *it;
	int rc = view_merge(v, &ctx->source, &it);

	if (rc < 0)
		return rc;
	s->more = false;
	s->passed = s->passed_before_last;
	rc = s->reverse ? scan_reverse(s, v, it) : scan_forward(s, v, it);
	iter_free(it);
	if (unlikely(rc == GIVE_WAY)) {
		s->passed_before_last = 0;
		return read_ctx_yield(ctx);
	}
	if (rc == READ_MISS && !s->reverse && s->last.size)
		read_ahead(ctx, s);
	return rc;
}

void scan_fini(struct scan *s)
{
	key_buf_fini(&s->last);
}
