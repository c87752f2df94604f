/*
 * repair_merge.c - several damaged tables in, sound ones out.
 *
 * Entries come in the order of internal keys; the sources are stepped one by one, so that for each entry its table is known. What is not written:
 *
 *	twice the same     an internal key exists once in a database; two tables that share one are a compaction's input and its output
 *	superseded         of those two, the one with the higher number is the output. Up to its last key it holds all that counted of its inputs, so
 *	                   what the input has there and the output has not, was dropped for a reason: a deletion that is in no file any more.
 *	                   Only without a MANIFEST: with one, inputs are not among the tables
 *	withheld           a newer place has lost an entry that may have been of this key
 *
 * All versions of a user key go into one table.
 */
#include "engine/repair_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/ikey.h"

enum { FILE_BYTES = 2 << 20, LEVEL0_FILE_BYTES = 64 << 20 };

/* ---- sources ---- */

/* Tables that share no user key, in the order of their keys: one of them is open at a time. */
struct run {
	struct iter *it;
	struct item **items;
	struct table_exam **tables;
	size_t count;
};

struct sources {
	struct run *runs;
	size_t count;
	size_t tables;
};

static struct slice user_of(const struct key_buf *ikey)
{
	return ikey_user(key_buf_slice(ikey));
}

static void sources_fini(struct sources *s)
{
	for (size_t i = 0; s->runs && i < s->count; i++) {
		iter_free(s->runs[i].it);
		free(s->runs[i].items);
		free(s->runs[i].tables);
	}
	free(s->runs);
}

static int by_smallest(const void *a, const void *b)
{
	const struct item *const *x = a, *const *y = b;

	return ikey_compare(key_buf_slice(&(*x)->t->smallest), key_buf_slice(&(*y)->t->smallest));
}

/* Into the first run that it does not overlap; @room: tables that a run may get. */
static int run_add(struct sources *s, struct item *item, size_t room)
{
	struct run *run = s->runs;

	while (run < s->runs + s->count &&
	       slice_compare(user_of(&run->tables[run->count - 1]->largest), user_of(&item->t->smallest)) >= 0)
		run++;
	if (run == s->runs + s->count) {
		s->count++;
		run->items = calloc(room, sizeof(struct item *));
		run->tables = calloc(room, sizeof(struct table_exam *));
		if (!run->items || !run->tables)
			return -ENOMEM;
	}
	run->items[run->count] = item;
	run->tables[run->count++] = item->t;
	s->tables++;
	return 0;
}

static int sources_init(struct repair *r, struct item *const *items, size_t count, struct sources *s)
{
	struct item **sorted = calloc(count + 1, sizeof(struct item *));
	size_t n = 0;
	int rc = 0;

	*s = (struct sources){.runs = calloc(count + 1, sizeof(struct run))};
	for (size_t i = 0; sorted && i < count; i++)
		if (items[i]->t && items[i]->t->block_count)
			sorted[n++] = items[i];
	if (!s->runs || !sorted)
		rc = -ENOMEM;
	else
		qsort(sorted, n, sizeof(struct item *), by_smallest);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = run_add(s, sorted[i], n);
	for (size_t i = 0; i < s->count && rc == 0; i++) {
		rc = exam_iter_new(r->x, s->runs[i].tables, s->runs[i].count, &s->runs[i].it);
		if (rc == 0)
			iter_seek_first(s->runs[i].it);
	}
	free(sorted);
	if (rc < 0)
		sources_fini(s);
	return rc;
}

/* Where the merge stands: an entry, and the table that has it. */
struct step {
	struct iter *it; /* NULL: all are done */
	struct item *item;
};

/* The smallest key; of equal ones that of the table with the highest number. 0 or a failure of reading. */
static int sources_least(const struct sources *s, struct step *out)
{
	struct step least = {0};

	for (size_t i = 0; i < s->count; i++) {
		struct iter *it = s->runs[i].it;
		struct item *item;
		int c;

		if (!it->valid && it->status < 0)
			return it->status;
		if (!it->valid)
			continue;
		item = s->runs[i].items[exam_iter_table(it)];
		c = least.it ? ikey_compare(it->key, least.it->key) : -1;
		if (c < 0 || (c == 0 && item->t->number > least.item->t->number))
			least = (struct step){it, item};
	}
	*out = least;
	return 0;
}

/* ---- what may be believed ---- */

static bool may_hold(const struct lost_range *l, struct slice user)
{
	return l->item->t ? table_hole_may_hold(l->item->t, &l->hole, user)
			  : slice_compare(user, key_buf_slice(&l->hole.after)) >= 0 &&
				    slice_compare(user, key_buf_slice(&l->hole.before)) <= 0;
}

/* Versions of one key may stand in two blocks, the older ones in the second: @user is where a hole ends. */
static bool at_end_of(const struct lost_range *l, struct slice user)
{
	return l->hole.has_before && slice_equal(user, key_buf_slice(&l->hole.before));
}

/*
 * Without levels nobody knows which table is the newer one, so @user is withheld from all of them or from none. A table that has the key beside its hole
 * has all versions of it there. @s stands on the first entry of the key wherever there is one.
 */
static bool withheld_everywhere(const struct repair *r, const struct sources *s, struct slice user)
{
	for (size_t i = 0; i < r->lost_count && !r->o->keep_older; i++) {
		const struct lost_range *l = &r->lost[i];
		bool beside = false;

		if (!may_hold(l, user))
			continue;
		for (size_t k = 0; k < s->count && !beside; k++) {
			const struct iter *it = s->runs[k].it;

			beside = it->valid && s->runs[k].items[exam_iter_table(it)] == l->item &&
				 slice_equal(ikey_user(it->key), user);
		}
		if (!beside || at_end_of(l, user))
			return true;
	}
	return false;
}

/* An entry of @item, with levels: something newer, or the part of its own table before it, has lost what may have been of this key. */
static bool withheld(const struct repair *r, const struct item *item, struct slice user)
{
	if (r->o->keep_older)
		return false;
	for (size_t i = 0; i < r->lost_count; i++) {
		const struct lost_range *l = &r->lost[i];

		if (l->item == item ? at_end_of(l, user) : l->item->rank <= item->rank && may_hold(l, user))
			return true;
	}
	return false;
}

static bool superseded(const struct item *item, struct slice user)
{
	return item->superseded.data && slice_compare(user, key_buf_slice(&item->superseded)) <= 0;
}

int repair_must_rewrite(struct repair *r, struct item *item)
{
	struct sources s;
	struct step at;
	int rc, must = 0;

	if (!r->lost_count && !item->superseded.data)
		return 0;
	rc = sources_init(r, &item, 1, &s);
	if (rc < 0)
		return err_set(r->err, rc, "%s: no memory", item->t->name);
	while (!must && (rc = sources_least(&s, &at)) == 0 && at.it) {
		struct slice user = ikey_user(at.it->key);

		must = superseded(item, user) ||
		       (r->levels_known ? withheld(r, item, user) : withheld_everywhere(r, &s, user));
		iter_next(at.it);
	}
	sources_fini(&s);
	return rc < 0 ? err_set(r->err, rc, "%s: reading it again: %s", item->t->name, shale_strerror(rc)) : must;
}

int repair_supersede(struct repair *r, struct item *const *items, size_t count)
{
	struct key_buf last = {0};
	struct item *holder = NULL;
	struct sources s;
	struct step at;
	int rc = sources_init(r, items, count, &s);

	if (rc < 0)
		return err_set(r->err, rc, "no memory to compare tables");
	while (rc == 0 && (rc = sources_least(&s, &at)) == 0 && at.it) {
		if (holder && slice_equal(at.it->key, key_buf_slice(&last))) {
			struct slice upto = user_of(&holder->t->largest);

			if (!superseded(at.item, upto))
				rc = key_buf_set(&at.item->superseded, upto);
		} else {
			holder = at.item; /* of equal keys, the highest number comes first */
			rc = key_buf_set(&last, at.it->key);
		}
		iter_next(at.it);
	}
	sources_fini(&s);
	key_buf_fini(&last);
	return rc < 0 ? err_set(r->err, rc, "comparing tables: %s", shale_strerror(rc)) : 0;
}

/* ---- writing ---- */

struct making {
	struct repair *r;
	unsigned level;
	struct table_options options;
	uint64_t number;
	char name[FILE_NAME_MAX];
	struct io_file *file;
	struct table_builder *builder;
	struct key_buf smallest, largest;
	struct key_buf user; /* key in hand */
	bool has_user, user_withheld;
	/* withheld */
	struct key_buf first, last;
	uint64_t withheld, withheld_bytes, low, high;
};

static int making_failed(struct making *m, int rc, const char *doing)
{
	return err_set(m->r->err, rc,
		       "%s: %s: %s. Nothing was changed; remove the cause (free space?) and run it again", m->name,
		       doing, shale_strerror(rc));
}

static int making_begin(struct making *m)
{
	int rc;

	m->number = m->r->next_number++;
	file_name(m->name, FILE_TABLE, m->number);
	rc = io_open(m->r->x->env, m->name, IO_OPEN_WRITE | IO_OPEN_CREATE, &m->file);
	if (rc == 0)
		rc = table_builder_new(m->r->x->q, m->file, &m->options, &m->builder);
	return rc < 0 ? making_failed(m, rc, "creating it") : 0;
}

static void making_close(struct making *m)
{
	table_builder_free(m->builder);
	io_close(m->file);
	m->builder = NULL;
	m->file = NULL;
}

/* Finished, synced, read back, and in the edit. */
static int making_end(struct making *m)
{
	struct file_meta *meta;
	struct table *back;
	uint64_t size;
	int rc = table_builder_finish(m->builder);

	if (rc == 0)
		rc = io_fdatasync(m->r->x->q, m->file);
	if (rc < 0)
		return making_failed(m, rc, "writing it");
	size = table_builder_size(m->builder);
	m->r->r->entries += table_builder_entries(m->builder);
	m->r->r->written++;
	making_close(m);
	rc = table_open(m->r->x->env, m->r->x->q, m->number, size, &back, m->r->err);
	if (rc < 0)
		return rc;
	table_unref(back);
	meta = file_meta_new(m->number, size, key_buf_slice(&m->smallest), key_buf_slice(&m->largest));
	rc = meta ? edit_add_file(&m->r->edit, m->level, meta) : -ENOMEM;
	file_meta_unref(meta);
	return rc < 0 ? making_failed(m, rc, "describing it") : 0;
}

static int making_add(struct making *m, struct slice ikey, struct slice value)
{
	bool new_user = m->builder && !slice_equal(ikey_user(ikey), ikey_user(key_buf_slice(&m->largest)));
	uint64_t limit = m->level ? FILE_BYTES : LEVEL0_FILE_BYTES;
	int rc = 0;

	if (new_user && table_builder_size(m->builder) >= limit)
		rc = making_end(m);
	if (rc == 0 && !m->builder) {
		rc = making_begin(m);
		if (rc == 0)
			rc = key_buf_set(&m->smallest, ikey);
	}
	if (rc == 0 && key_buf_set(&m->largest, ikey) < 0)
		rc = making_failed(m, -ENOMEM, "writing it");
	if (rc == 0) {
		rc = table_builder_add(m->builder, ikey, value);
		if (rc < 0)
			making_failed(m, rc, "writing it");
	}
	return rc;
}

static int hold_back(struct making *m, struct slice ikey, struct slice value)
{
	uint64_t sequence = ikey_sequence(ikey);
	int rc = m->withheld ? 0 : key_buf_set(&m->first, ikey_user(ikey));

	m->low = !m->withheld || sequence < m->low ? sequence : m->low;
	m->high = sequence > m->high ? sequence : m->high;
	m->withheld++;
	m->withheld_bytes += ikey.size + value.size;
	return rc == 0 ? key_buf_set(&m->last, ikey_user(ikey)) : rc;
}

static void tell_withheld(struct making *m, const char *file, size_t count)
{
	struct slice first = key_buf_slice(&m->first), last = key_buf_slice(&m->last);
	struct repair_loss l = {.kind = "withheld",
				.file = file,
				.bytes = m->withheld_bytes,
				.entries = m->withheld,
				.has_range = true,
				.first = &first,
				.last = &last,
				.sequence_low = m->low,
				.sequence_high = m->high};

	if (!m->withheld)
		return;
	m->r->r->withheld += m->withheld;
	snprintf(l.what, sizeof(l.what),
		 "%" PRIu64 " sound entries%s are withheld: a lost entry may have deleted or replaced them",
		 m->withheld, count > 1 ? " of this and other tables" : "");
	repair_tell(m->r, &l);
}

/* One entry of @item; @s still stands on it. */
static int judge(struct making *m, const struct sources *s, struct item *item, struct slice ikey, struct slice value)
{
	struct slice user = ikey_user(ikey);
	bool new_user = !m->has_user || !slice_equal(user, key_buf_slice(&m->user));

	if (new_user && key_buf_set(&m->user, user) < 0)
		return -ENOMEM;
	m->has_user = true;
	if (new_user && !m->r->levels_known)
		m->user_withheld = withheld_everywhere(m->r, s, user);
	if (superseded(item, user))
		return 0;
	if (m->r->levels_known ? withheld(m->r, item, user) : m->user_withheld)
		return hold_back(m, ikey, value);
	return m->r->o->dry_run ? 0 : making_add(m, ikey, value);
}

int repair_merge(struct repair *r, struct item *const *items, size_t count, unsigned level)
{
	struct making m = {.r = r,
			   .level = level,
			   .options = {.block_bytes = 4096,
				       .restart_interval = 16,
				       .bloom_bits_per_key = 10,
				       .compression = COMPRESS_SNAPPY,
				       .with_counts = true}};
	struct key_buf last = {0};
	const char *file = count && items[0]->t ? items[0]->t->name : "";
	struct sources s;
	struct step at;
	int rc = sources_init(r, items, count, &s);

	if (rc < 0)
		return err_set(r->err, rc, "no memory to put tables together");
	while (rc == 0 && (rc = sources_least(&s, &at)) == 0 && at.it) {
		bool twice = last.size && slice_equal(at.it->key, key_buf_slice(&last));

		if (!twice)
			rc = key_buf_set(&last, at.it->key);
		if (rc == 0 && !twice)
			rc = judge(&m, &s, at.item, at.it->key, at.it->value);
		iter_next(at.it);
	}
	if (rc < 0 && !r->err->code)
		err_set(r->err, rc, "putting tables together: %s", shale_strerror(rc));
	if (rc == 0 && m.builder)
		rc = making_end(&m);
	if (rc == 0)
		tell_withheld(&m, file, s.tables);
	making_close(&m);
	sources_fini(&s);
	key_buf_fini(&m.smallest);
	key_buf_fini(&m.largest);
	key_buf_fini(&m.user);
	key_buf_fini(&m.first);
	key_buf_fini(&m.last);
	key_buf_fini(&last);
	return rc;
}
