/*
 * table_exam.c - what a table holds when nothing in it is believed.
 *
 *	footer ─▶ metaindex ─▶ filter          each with its checksum; what fails is reported, and the rest goes on without it
 *	      └─▶ index ─▶ data blocks         in the order of their keys: a block that fails is a hole between two index keys
 *	          no index: data blocks are found by their checksums alone (table_find.c), from the front of the file
 *
 * A hole matters beyond the table: an entry that is gone may have been a deletion, or newer than one further down. Its range of keys is what
 * repair must not believe in older tables; the filter, if that is whole, makes it small.
 */
#include "engine/table_exam.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/crc32c.h"
#include "engine/filter.h"
#include "engine/table_find.h"
#include "engine/table_impl.h"

enum { BLOCK_BYTES_MAX = 1 << 30 };

struct index_entry {
	struct key_buf key;
	struct block_handle h;
};

struct look {
	struct exam *x;
	struct table_exam *t;
	const struct file_meta *meta;
	struct slice meta_first, meta_last; /* user keys */
	struct table_watch *watch;
	unsigned char *bytes;
	size_t size;
	bool footer;
	struct block_handle metaindex_at, index_at, filter_at;
	bool has_filter;
	struct index_entry *index;
	size_t index_count, index_cap;
	bool index_whole, filter_lies;
	struct key_buf last; /* internal key: the last one of the blocks so far */
	int rc;		     /* -ENOMEM ends it all */
};

/* ---- reporting ---- */

static struct finding finding_at(const struct look *l, const char *kind, const char *cause, uint64_t offset,
				 uint64_t size)
{
	l->t->sound = false;
	return (struct finding){.kind = kind,
				.file = l->t->name,
				.cause = cause,
				.has_offset = true,
				.offset = offset,
				.size = size,
				.has_range = l->meta != NULL, /* all of the table, unless told better */
				.first = l->meta ? &l->meta_first : NULL,
				.last = l->meta ? &l->meta_last : NULL};
}

static void report(struct look *l, const char *kind, const char *cause, struct block_handle h, const char *part,
		   const char *why)
{
	struct finding f = finding_at(l, kind, cause, h.offset, h.size + BLOCK_TRAILER);

	snprintf(f.what, sizeof(f.what), "the %s (%" PRIu64 " bytes): %s", part, h.size, why);
	exam_found(l->x, &f);
}

static void told(const struct look *l, const char *kind, struct block_handle h, size_t size, size_t entries)
{
	if (l->watch && l->watch->block)
		l->watch->block(l->watch, kind, h, l->bytes[h.offset + h.size], size, entries);
}

/* ---- blocks ---- */

const char *block_judge(const unsigned char *stored, size_t size, bool entries, struct block **out, int *rc_out)
{
	enum compression type = stored[size];
	struct block *b;
	size_t raw;

	*rc_out = 0;
	if (crc32c(stored, size + 1) != crc32c_unmask(load_le32(stored + size + 1)))
		return "its checksum does not match";
	if (type > COMPRESS_ZSTD)
		return "it is compressed in a way that this version does not know";
	if (decompressed_size(type, slice_of(stored, size), BLOCK_BYTES_MAX, &raw) < 0)
		return "it cannot be decompressed";
	b = block_new(raw);
	if (!b) {
		*rc_out = -ENOMEM;
		return "no memory";
	}
	if (decompress_block(type, slice_of(stored, size), b->data, raw) == 0) {
		if (!entries || block_check(b) == 0) {
			*out = b;
			return NULL;
		}
		block_unref(b);
		return "its restart points do not make sense";
	}
	block_unref(b);
	return "it cannot be decompressed";
}

/* A block that the footer or the metaindex points at. NULL: it was reported. */
static struct block *take_block(struct look *l, struct block_handle h, const char *kind, const char *part, bool entries)
{
	struct block *b = NULL;
	int rc;
	const char *why = block_judge(l->bytes + h.offset, h.size, entries, &b, &rc);

	if (rc < 0)
		l->rc = rc;
	else if (why)
		report(l, kind, cause_rot, h, part, why);
	return b;
}

/* What one data block adds to what is known of its table. */
struct block_sum {
	uint64_t entries, bytes, sequence_low, sequence_high;
};

/* Every entry: an internal key, behind all before it, let through by the filter. Why not, or NULL; l->last is moved only if it is good. */
static const char *check_entries(struct look *l, struct block *b, struct block_handle h, struct block_sum *sum)
{
	struct key_buf last = {0};
	const char *why = NULL;
	struct block_iter it;
	bool denied = false;

	*sum = (struct block_sum){.sequence_low = UINT64_MAX};
	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	for (iter_seek_first(&it.base); it.base.valid && !why; iter_next(&it.base)) {
		struct slice before = key_buf_slice(sum->entries ? &last : &l->last);

		if (!ikey_valid(it.base.key)) {
			l->t->foreign_keys = true;
			why = "it holds a key that is no internal key";
		} else if (before.size && ikey_compare(before, it.base.key) >= 0) {
			why = "its keys are not in order";
		} else if (key_buf_set(&last, it.base.key) < 0) {
			l->rc = -ENOMEM;
			why = "no memory";
		} else {
			uint64_t sequence = ikey_sequence(it.base.key);

			sum->entries++;
			sum->bytes += it.base.key.size + it.base.value.size;
			sum->sequence_low = sequence < sum->sequence_low ? sequence : sum->sequence_low;
			sum->sequence_high = sequence > sum->sequence_high ? sequence : sum->sequence_high;
			if (l->t->filter && !filter_may_contain(slice_of(l->t->filter->data, l->t->filter->size),
								h.offset, ikey_user(it.base.key)))
				denied = true;
		}
	}
	if (!why && it.base.status)
		why = "its entries do not add up";
	block_iter_fini(&it);
	if (!why && denied && !l->filter_lies) {
		report(l, "filter", cause_bug, l->filter_at, "filter",
		       "it denies keys that the table holds, so reads miss them");
		l->filter_lies = true;
	}
	if (!why && sum->entries) {
		key_buf_fini(&l->last);
		l->last = last;
	} else {
		key_buf_fini(&last);
	}
	return why;
}

static int push_block(struct table_exam *t, struct block_handle h)
{
	if (t->block_count == t->block_cap) {
		size_t cap = t->block_cap ? 2 * t->block_cap : 256;
		struct block_handle *grown = reallocarray(t->blocks, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		t->blocks = grown;
		t->block_cap = cap;
	}
	t->blocks[t->block_count++] = h;
	return 0;
}

static void tell_entries(struct look *l, struct block *b, struct block_handle h)
{
	struct block_iter it;

	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	for (iter_seek_first(&it.base); it.base.valid; iter_next(&it.base))
		l->watch->entry(l->watch, it.base.key, it.base.value, h);
	block_iter_fini(&it);
}

/* A data block whose entries may count. NULL: it does; else why it is a hole. */
static const char *take_data(struct look *l, struct block_handle h, struct block *b)
{
	struct table_exam *t = l->t;
	struct block_sum sum;
	struct block_iter it;
	const char *why = check_entries(l, b, h, &sum);

	if (why || !sum.entries)
		return why;
	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	iter_seek_first(&it.base);
	if (!t->entries && key_buf_set(&t->smallest, it.base.key) < 0)
		l->rc = -ENOMEM;
	block_iter_fini(&it);
	if (key_buf_set(&t->largest, key_buf_slice(&l->last)) < 0 || push_block(t, h) < 0)
		l->rc = -ENOMEM;
	t->entries += sum.entries;
	t->bytes += sum.bytes;
	t->sequence_low = sum.sequence_low < t->sequence_low ? sum.sequence_low : t->sequence_low;
	t->sequence_high = sum.sequence_high > t->sequence_high ? sum.sequence_high : t->sequence_high;
	told(l, "data", h, b->size, sum.entries);
	if (l->watch && l->watch->entry)
		tell_entries(l, b, h);
	return NULL;
}

/* ---- holes ---- */

static int set_end(bool *has, struct key_buf *k, const struct slice *user)
{
	*has = user != NULL;
	return user ? key_buf_set(k, *user) : 0;
}

/* Opens a hole behind everything that was read so far. @h.size 0: its end is not known. */
static struct table_hole *hole_begin(struct look *l, struct block_handle h, const struct slice *after, bool one_block)
{
	struct table_exam *t = l->t;
	struct table_hole *hole;

	if (t->hole_count == t->hole_cap) {
		size_t cap = t->hole_cap ? 2 * t->hole_cap : 8;
		struct table_hole *grown = reallocarray(t->holes, cap, sizeof(*grown));

		if (!grown) {
			l->rc = -ENOMEM;
			return NULL;
		}
		t->holes = grown;
		t->hole_cap = cap;
	}
	if (!after && l->meta)
		after = &l->meta_first;
	hole = &t->holes[t->hole_count++];
	*hole = (struct table_hole){
		.offset = h.offset, .size = h.size ? h.size + BLOCK_TRAILER : 0, .one_block = one_block};
	if (set_end(&hole->has_after, &hole->after, after) < 0)
		l->rc = -ENOMEM;
	return hole;
}

/* Ends it and reports it. NULL @before: the table's end. */
static void hole_end(struct look *l, struct table_hole *hole, const struct slice *before, const char *kind,
		     const char *cause, const char *why)
{
	struct finding f = finding_at(l, kind, cause, hole->offset, hole->size);
	struct slice first, last;

	/* An index key is shortened: behind the last block it may lie behind the table's last key, and other tables begin there. */
	if (l->meta && (!before || slice_compare(*before, l->meta_last) > 0))
		before = &l->meta_last;
	if (set_end(&hole->has_before, &hole->before, before) < 0)
		l->rc = -ENOMEM;
	first = key_buf_slice(&hole->after);
	last = key_buf_slice(&hole->before);
	f.has_range = true;
	f.first = hole->has_after ? &first : NULL;
	f.last = hole->has_before ? &last : NULL;
	if (hole->size)
		snprintf(f.what, sizeof(f.what), "the data block of %" PRIu64 " bytes: %s", hole->size - BLOCK_TRAILER,
			 why);
	else
		snprintf(f.what, sizeof(f.what), "data from here on: %s", why);
	exam_found(l->x, &f);
}

bool table_hole_may_hold(const struct table_exam *t, const struct table_hole *hole, struct slice user)
{
	if (hole->has_after && slice_compare(user, key_buf_slice(&hole->after)) < 0)
		return false;
	if (hole->has_before && slice_compare(user, key_buf_slice(&hole->before)) > 0)
		return false;
	return !t->filter || !hole->one_block ||
	       filter_may_contain(slice_of(t->filter->data, t->filter->size), hole->offset, user);
}

/* ---- footer, metaindex, filter, index ---- */

static void take_footer(struct look *l)
{
	uint64_t at = l->size < TABLE_FOOTER ? 0 : l->size - TABLE_FOOTER;
	const unsigned char *footer = l->bytes + at, *end = footer + TABLE_FOOTER - 8, *p;
	struct finding f;

	if (l->size < TABLE_FOOTER) {
		f = finding_at(l, "footer", cause_hands, 0, l->size);
		snprintf(f.what, sizeof(f.what), "the file has %zu bytes: too short to be a table", l->size);
	} else if (load_le64(end) != TABLE_MAGIC) {
		f = finding_at(l, "footer", cause_rot, at, TABLE_FOOTER);
		snprintf(f.what, sizeof(f.what),
			 "there is no table's magic number at the end: the file was cut short, or overwritten");
	} else {
		p = block_handle_get(slice_of(footer, (size_t)(end - footer)), l->size, &l->metaindex_at);
		if (p)
			p = block_handle_get(slice_of(p, (size_t)(end - p)), l->size, &l->index_at);
		l->footer = p != NULL;
		while (p && p < end && !*p)
			p++;
		if (p == end)
			return;
		if (p) {
			f = finding_at(l, "footer", cause_rot, (uint64_t)(p - l->bytes), 1);
			f.note = l->t->sound = true;
			snprintf(f.what, sizeof(f.what), "a byte of the footer that means nothing is not zero");
			exam_found(l->x, &f);
			return;
		}
		f = finding_at(l, "footer", cause_rot, at, TABLE_FOOTER);
		snprintf(f.what, sizeof(f.what), "the footer points outside the file");
	}
	exam_found(l->x, &f);
}

static void take_metaindex(struct look *l)
{
	struct block *b = take_block(l, l->metaindex_at, "metaindex", "metaindex", true);
	struct block_iter it;
	size_t entries = 0;

	if (!b)
		return;
	block_iter_init(&it);
	block_iter_set(&it, b, true, false);
	for (iter_seek_first(&it.base); it.base.valid; iter_next(&it.base), entries++) {
		if (l->watch && l->watch->meta)
			l->watch->meta(l->watch, it.base.key, it.base.value);
		if (!slice_equal(it.base.key, slice_str(FILTER_META_KEY)))
			continue;
		l->has_filter = block_handle_get(it.base.value, l->size, &l->filter_at) != NULL;
		if (!l->has_filter)
			report(l, "metaindex", cause_bug, l->metaindex_at, "metaindex",
			       "the filter's place lies outside the file");
	}
	if (it.base.status)
		report(l, "metaindex", cause_bug, l->metaindex_at, "metaindex", "its entries do not add up");
	told(l, "metaindex", l->metaindex_at, b->size, entries);
	block_iter_fini(&it);
	if (!l->has_filter)
		return;
	l->t->filter = take_block(l, l->filter_at, "filter", "filter", false);
	if (l->t->filter)
		told(l, "filter", l->filter_at, l->t->filter->size, 0);
}

static int push_index(struct look *l, struct slice key, struct block_handle h)
{
	if (l->index_count == l->index_cap) {
		size_t cap = l->index_cap ? 2 * l->index_cap : 256;
		struct index_entry *grown = reallocarray(l->index, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->index = grown;
		l->index_cap = cap;
	}
	l->index[l->index_count] = (struct index_entry){.h = h};
	return key_buf_set(&l->index[l->index_count++].key, key);
}

static void take_index(struct look *l)
{
	struct block *b = take_block(l, l->index_at, "index", "index", true);
	const char *why = NULL;
	struct block_iter it;
	uint64_t end = 0;

	if (!b)
		return;
	block_iter_init(&it);
	block_iter_set(&it, b, true, true);
	for (iter_seek_first(&it.base); it.base.valid && !why && l->rc == 0; iter_next(&it.base)) {
		struct block_handle h = {0};

		if (!ikey_valid(it.base.key))
			why = "it holds a key that is no internal key";
		else if (!block_handle_get(it.base.value, l->size, &h) || h.offset < end)
			why = "an entry points outside the file, or before the one in front of it";
		else if (l->index_count &&
			 ikey_compare(key_buf_slice(&l->index[l->index_count - 1].key), it.base.key) >= 0)
			why = "its keys are not in order";
		else if (push_index(l, it.base.key, h) < 0)
			l->rc = -ENOMEM;
		end = h.offset + h.size + BLOCK_TRAILER;
		if (!why && l->watch && l->watch->index)
			l->watch->index(l->watch, it.base.key, h);
	}
	if (!why && it.base.status)
		why = "its entries do not add up";
	if (why)
		report(l, "index", cause_bug, l->index_at, "index", why);
	l->index_whole = !why;
	told(l, "index", l->index_at, b->size, l->index_count);
	block_iter_fini(&it);
}

/* ---- data ---- */

/* The index key of block @i must lie between its last key and the first of the next, or reads go to the wrong block. */
static void check_separator(struct look *l, size_t i)
{
	struct slice key = key_buf_slice(&l->index[i].key);

	if (l->last.size && ikey_compare(key_buf_slice(&l->last), key) > 0)
		report(l, "index", cause_bug, l->index_at, "index",
		       "a data block holds keys behind its index key, so reads do not find them");
}

static bool below_separator(struct look *l, size_t i, struct block *b)
{
	struct block_iter it;
	bool bad = false;

	if (i == 0)
		return false;
	block_iter_init(&it);
	block_iter_set(&it, b, false, true);
	iter_seek_first(&it.base);
	bad = it.base.valid && ikey_valid(it.base.key) &&
	      ikey_compare(it.base.key, key_buf_slice(&l->index[i - 1].key)) <= 0;
	block_iter_fini(&it);
	return bad;
}

static void walk_index(struct look *l)
{
	uint64_t end = 0;

	for (size_t i = 0; i < l->index_count && l->rc == 0; i++) {
		struct block_handle h = l->index[i].h;
		struct block *b = NULL;
		const char *why = block_judge(l->bytes + h.offset, h.size, true, &b, &l->rc), *kind = "checksum";
		const char *cause = cause_rot;

		if (h.offset != end) {
			struct finding f = finding_at(l, "gap", cause_bug, end, h.offset - end);

			f.note = true;
			snprintf(f.what, sizeof(f.what), "%" PRIu64 " bytes between two blocks belong to none",
				 h.offset - end);
			exam_found(l->x, &f);
		}
		end = h.offset + h.size + BLOCK_TRAILER;
		if (!why && below_separator(l, i, b)) {
			report(l, "index", cause_bug, l->index_at, "index",
			       "a data block begins before the index key of the one in front of it, so reads do not "
			       "find its keys");
		}
		if (!why) {
			why = take_data(l, h, b);
			kind = "order";
			cause = cause_bug;
		}
		if (!why)
			check_separator(l, i);
		if (why && l->rc == 0) {
			struct slice after, before = ikey_user(key_buf_slice(&l->index[i].key));
			struct table_hole *hole;

			if (i)
				after = ikey_user(key_buf_slice(&l->index[i - 1].key));
			hole = hole_begin(l, h, i ? &after : NULL, true);
			if (hole)
				hole_end(l, hole, &before, kind, cause, why);
		}
		block_unref(b);
	}
}

/* True when the bytes at @h are the block that comes after all data: filter or metaindex. */
static bool ends_data(struct look *l, struct block_handle h, struct block **data_out)
{
	struct block_iter it;
	bool data;
	int rc;

	*data_out = NULL;
	if (block_judge(l->bytes + h.offset, h.size, true, data_out, &rc))
		return true;
	block_iter_init(&it);
	block_iter_set(&it, *data_out, false, true);
	iter_seek_first(&it.base);
	data = it.base.valid && ikey_valid(it.base.key) &&
	       (!l->last.size || ikey_compare(key_buf_slice(&l->last), it.base.key) < 0);
	block_iter_fini(&it);
	if (data)
		return false;
	block_unref(*data_out);
	*data_out = NULL;
	return true;
}

static struct table_hole *blind_hole(struct look *l, uint64_t at)
{
	struct slice after = l->last.size ? ikey_user(key_buf_slice(&l->last)) : slice_of(NULL, 0);

	return hole_begin(l, (struct block_handle){at, 0}, l->last.size ? &after : NULL, false);
}

/* Without an index: block after block, by their checksums. */
static void walk_blind(struct look *l)
{
	uint64_t end = l->footer ? l->metaindex_at.offset : l->size, at = 0;
	struct table_hole *hole = NULL;
	bool whole = false;

	while (at < end && l->rc == 0) {
		struct block_handle h;
		struct block *b = NULL;
		struct slice first;
		struct block_iter it;

		if (!table_find_block(l->bytes, l->size, at, &h)) {
			int rc = -ENOMEM;

			hole = hole ? hole : blind_hole(l, at);
			if (hole)
				rc = table_find_next_block(l->bytes, l->size, at, &h);
			l->rc = rc < 0 ? rc : 0;
			if (rc <= 0)
				break;
		}
		if (ends_data(l, h, &b)) {
			whole = !hole || l->footer;
			break;
		}
		block_iter_init(&it);
		block_iter_set(&it, b, false, true);
		iter_seek_first(&it.base);
		first = ikey_user(it.base.key);
		if (hole) {
			hole->size = h.offset - hole->offset;
			hole_end(l, hole, &first, "checksum", cause_rot,
				 "no block's checksum matches, and the index is damaged, too");
			hole = NULL;
		}
		block_iter_fini(&it);
		if (take_data(l, h, b) && l->rc == 0)
			hole = blind_hole(l, h.offset);
		block_unref(b);
		at = h.offset + h.size + BLOCK_TRAILER;
	}
	if (l->rc < 0)
		return;
	if (!hole && !whole && !(l->footer && at >= end))
		hole = blind_hole(l, at);
	if (hole)
		hole_end(l, hole, NULL, "checksum", cause_rot,
			 "nothing that could be a block was found, and the index is damaged or gone, too");
}

/* ---- against the MANIFEST ---- */

static void check_range(struct look *l)
{
	struct table_exam *t = l->t;
	struct finding f = {.kind = "range", .file = t->name, .cause = cause_bug};
	struct slice first, last;
	bool same;

	if (!l->meta || t->hole_count || l->rc < 0)
		return;
	same = t->entries && slice_equal(key_buf_slice(&t->smallest), key_buf_slice(&l->meta->smallest)) &&
	       slice_equal(key_buf_slice(&t->largest), key_buf_slice(&l->meta->largest));
	if (same)
		return;
	t->sound = false;
	first = t->entries ? ikey_user(key_buf_slice(&t->smallest)) : slice_of(NULL, 0);
	last = t->entries ? ikey_user(key_buf_slice(&t->largest)) : slice_of(NULL, 0);
	f.has_range = t->entries > 0;
	f.first = &first;
	f.last = &last;
	snprintf(f.what, sizeof(f.what), "it begins or ends with other keys than the MANIFEST says%s",
		 t->entries ? "" : ": it holds none");
	exam_found(l->x, &f);
}

static void check_size(struct look *l)
{
	struct finding f;

	if (!l->meta || l->meta->size == l->size)
		return;
	f = finding_at(l, "size", cause_hands, l->size, 0);
	snprintf(f.what, sizeof(f.what), "it is %zu bytes long, the MANIFEST says %" PRIu64 ": it was cut or replaced",
		 l->size, l->meta->size);
	exam_found(l->x, &f);
}

static void look_at(struct look *l)
{
	check_size(l);
	take_footer(l);
	if (l->footer && l->rc == 0)
		take_metaindex(l);
	if (l->footer && l->rc == 0)
		take_index(l);
	if (l->rc < 0)
		return;
	if (l->index_whole)
		walk_index(l);
	else
		walk_blind(l);
	check_range(l);
	/* It is only good for making holes smaller. */
	if (l->filter_lies || !l->t->hole_count) {
		block_unref(l->t->filter);
		l->t->filter = NULL;
	}
}

int table_examine(struct exam *x, const char *name, uint64_t number, const struct file_meta *meta,
		  struct table_watch *watch, struct table_exam **out, struct err_info *err)
{
	struct table_exam *t = calloc(1, sizeof(*t));
	struct look l = {.x = x, .t = t, .meta = meta, .watch = watch};

	if (!t)
		return err_set(err, -ENOMEM, "%s: no memory", name);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->number = number;
	t->sequence_low = UINT64_MAX;
	t->sound = true;
	if (meta) {
		l.meta_first = ikey_user(key_buf_slice(&meta->smallest));
		l.meta_last = ikey_user(key_buf_slice(&meta->largest));
	}
	l.rc = exam_read(x, name, &l.bytes, &l.size, err);
	if (l.rc == 0) {
		t->size = l.size;
		look_at(&l);
		if (l.rc < 0)
			err_set(err, l.rc, "%s: %s", name, shale_strerror(l.rc));
	}
	for (size_t i = 0; i < l.index_count; i++)
		key_buf_fini(&l.index[i].key);
	free(l.index);
	free(l.bytes);
	key_buf_fini(&l.last);
	if (l.rc < 0) {
		table_exam_free(t);
		return l.rc;
	}
	*out = t;
	return 0;
}

void table_exam_free(struct table_exam *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->hole_count; i++) {
		key_buf_fini(&t->holes[i].after);
		key_buf_fini(&t->holes[i].before);
	}
	free(t->holes);
	free(t->blocks);
	block_unref(t->filter);
	key_buf_fini(&t->smallest);
	key_buf_fini(&t->largest);
	free(t);
}
