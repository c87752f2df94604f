#include "tests/engine/diff_bed.h"

/* ---- states to read at ---- */

struct pin *diff_some_pin(struct diff *d)
{
	return d->pin_count && diff_pick(d, 3) == 0 ? &d->pins[diff_pick(d, d->pin_count)] : NULL;
}

void diff_pin(struct diff *d)
{
	struct pin *p = &d->pins[d->pin_count];

	if (d->pin_count == PINS)
		return;
	p->stock = leveldb_create_snapshot(d->s.db);
	p->view = diff_pick(d, 4) ? NULL : engine_view(d->w.e);
	if (p->view)
		p->sequence = engine_last_sequence(d->w.e);
	else
		ck_ok(engine_snapshot_take(d->w.e, &p->sequence));
	d->pin_count++;
}

void diff_unpin(struct diff *d, unsigned i)
{
	leveldb_release_snapshot(d->s.db, d->pins[i].stock);
	if (d->pins[i].view)
		view_unref(d->pins[i].view);
	else
		engine_snapshot_release(d->w.e, d->pins[i].sequence);
	d->pins[i] = d->pins[--d->pin_count];
}

/* What a read needs on our side. @p may be NULL: the newest state. */
struct reading {
	struct view *view;
	uint64_t sequence;
	struct read_ctx ctx;
	bool own_view;
};

static void reading_begin(struct diff *d, struct reading *r, const struct pin *p)
{
	r->own_view = !p || !p->view;
	r->view = r->own_view ? engine_view(d->w.e) : p->view;
	r->sequence = p ? p->sequence : engine_last_sequence(d->w.e);
	read_ctx_init(&r->ctx, engine_read_shared(d->w.e));
}

static void reading_end(struct reading *r)
{
	read_ctx_fini(&r->ctx);
	if (r->own_view)
		view_unref(r->view);
}

/* ---- reading, and comparing ---- */

void diff_compare_get(struct diff *d, const struct pin *p, unsigned key)
{
	unsigned char key_buf[MODEL_KEY_MAX];
	struct slice k = model_key(key, key_buf), ours;
	char *error = NULL, *stock;
	struct reading r;
	size_t size;
	int rc;

	leveldb_readoptions_set_snapshot(d->s.read, p ? p->stock : NULL);
	stock = leveldb_get(d->s.db, d->s.read, (const char *)k.data, k.size, &size, &error);
	stock_must(error, "get");
	reading_begin(d, &r, p);
	while ((rc = engine_get(r.view, &r.ctx, r.sequence, k, &ours)) == READ_MISS)
		world_fetch(&d->w, &r.ctx);
	ck_assert_msg(rc == (stock ? 0 : SHALE_NOTFOUND), "get of key %u at %llu: ours answers %d, stock has %s", key,
		      (unsigned long long)r.sequence, rc, stock ? "a value" : "none");
	ck_assert_msg(!stock || slice_equal(ours, slice_of(stock, size)), "get of key %u at %llu: another value", key,
		      (unsigned long long)r.sequence);
	leveldb_free(stock);
	reading_end(&r);
}

static struct slice stock_key(const leveldb_iterator_t *it)
{
	struct slice k;

	k.data = (const unsigned char *)leveldb_iter_key(it, &k.size);
	return k;
}

static struct slice stock_value(const leveldb_iterator_t *it)
{
	struct slice v;

	v.data = (const unsigned char *)leveldb_iter_value(it, &v.size);
	return v;
}

/* Puts stock's iterator where scan @s begins. */
static void stock_begin(leveldb_iterator_t *it, const struct scan *s)
{
	if (!s->has_start && s->reverse) {
		leveldb_iter_seek_to_last(it);
	} else if (!s->has_start) {
		leveldb_iter_seek_to_first(it);
	} else {
		leveldb_iter_seek(it, (const char *)s->start.data, s->start.size);
		if (s->reverse && !leveldb_iter_valid(it))
			leveldb_iter_seek_to_last(it);
		else if (s->reverse && slice_compare(stock_key(it), s->start) > 0)
			leveldb_iter_prev(it);
		if (s->exclusive && leveldb_iter_valid(it) && slice_equal(stock_key(it), s->start))
			(s->reverse ? leveldb_iter_prev : leveldb_iter_next)(it);
	}
}

/* True while stock's iterator is inside the range of @s. */
static bool stock_inside(const leveldb_iterator_t *it, const struct scan *s)
{
	int c;

	if (!leveldb_iter_valid(it))
		return false;
	c = s->has_limit ? slice_compare(stock_key(it), s->limit) : 0;
	return !s->has_limit || (s->reverse ? c >= 0 : c < 0);
}

/* The entries of one chunk against stock's next ones. *@last_out: the last one's key. */
static void compare_chunk(leveldb_iterator_t *it, const struct scan *s, struct key_buf *last_out)
{
	const unsigned char *at = s->out;
	struct slice key = {0}, value;

	while (scan_entry(&at, s->out + s->used, &key, &value)) {
		ck_assert_msg(stock_inside(it, s), "a scan at %llu gives an entry where stock's range ends",
			      (unsigned long long)s->sequence);
		ck_assert_msg(slice_equal(key, stock_key(it)), "a scan at %llu gives another key",
			      (unsigned long long)s->sequence);
		ck_assert_msg(slice_equal(value, stock_value(it)), "a scan at %llu gives another value",
			      (unsigned long long)s->sequence);
		(s->reverse ? leveldb_iter_prev : leveldb_iter_next)(it);
	}
	if (s->count)
		ck_ok(key_buf_set(last_out, key));
	ck_assert_msg(s->more || !stock_inside(it, s), "a scan at %llu ends too early",
		      (unsigned long long)s->sequence);
}

/* @question from its start to its end in chunks of @chunk bytes, at most @chunks of them (0: all). */
static void compare_scan(struct diff *d, const struct pin *p, struct scan question, size_t chunk, unsigned chunks)
{
	unsigned char *out = malloc(chunk);
	leveldb_iterator_t *it;
	struct key_buf at = {0};
	char *error = NULL;
	struct reading r;
	bool more = true;

	leveldb_readoptions_set_snapshot(d->s.read, p ? p->stock : NULL);
	it = leveldb_create_iterator(d->s.db, d->s.read);
	stock_begin(it, &question);
	reading_begin(d, &r, p);
	for (unsigned n = 0; more && (!chunks || n < chunks); n++) {
		struct scan s = question;
		int rc;

		s.sequence = r.sequence;
		s.out = out;
		s.out_size = chunk;
		while ((rc = engine_scan(r.view, &r.ctx, &s)) == READ_MISS)
			world_fetch(&d->w, &r.ctx);
		ck_assert_msg(rc == 0, "engine_scan: %d", rc);
		compare_chunk(it, &s, &at);
		more = s.more;
		if (s.count) {
			question.has_start = question.exclusive = true;
			question.start = key_buf_slice(&at);
		} else if (more) {
			ck_assert_uint_gt(s.needed, chunk);
			chunk = s.needed;
			out = realloc(out, chunk);
		}
		scan_fini(&s);
		read_ctx_reset(&r.ctx);
	}
	leveldb_iter_get_error(it, &error);
	stock_must(error, "scan");
	leveldb_iter_destroy(it);
	reading_end(&r);
	key_buf_fini(&at);
	free(out);
}

void diff_compare_range(struct diff *d)
{
	unsigned char start[MODEL_KEY_MAX], limit[MODEL_KEY_MAX];
	unsigned a = diff_some_key(d), b = diff_pick(d, 2) ? diff_some_key(d) : (a + 50) % d->keys;
	struct scan s = {.reverse = diff_pick(d, 2),
			 .exclusive = diff_pick(d, 2),
			 .has_start = diff_pick(d, 8),
			 .has_limit = diff_pick(d, 4),
			 .max_count = diff_pick(d, 2) ? 1 + (uint32_t)diff_pick(d, 30) : 0};

	if ((a > b) != s.reverse && diff_pick(d, 8)) { /* now and then a range that is empty */
		unsigned t = a;

		a = b;
		b = t;
	}
	s.start = model_key(a, start);
	s.limit = model_key(b, limit);
	compare_scan(d, diff_some_pin(d), s, 200 + diff_pick(d, 2000), 1 + (unsigned)diff_pick(d, 4));
}

/* Everything, both ways, at the newest state and at every pinned one; and our invariants, the slow ones too. */
void diff_compare_all(struct diff *d)
{
	world_check_deep(&d->w);
	for (unsigned i = 0; i <= d->pin_count; i++) {
		const struct pin *p = i < d->pin_count ? &d->pins[i] : NULL;

		compare_scan(d, p, (struct scan){.reverse = false}, 2000 + diff_pick(d, 20000), 0);
		if (!p)
			compare_scan(d, p, (struct scan){.reverse = true}, 2000 + diff_pick(d, 20000), 0);
	}
	for (unsigned i = 0; i < d->keys; i += 1 + (unsigned)diff_pick(d, 20))
		diff_compare_get(d, diff_some_pin(d), i);
}
