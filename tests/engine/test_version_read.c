/* Reads through a version, over tables on a disk: gets and merged scans, what they note as missing, what they charge for. */
#include "engine/version.h"
#include "tests/engine/hand_made.h"
#include "tests/test.h"

#include <stdio.h>

#include "engine/filename.h"
#include "shm/error.h"

static struct hand h;
static struct edit e;

struct bed {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
	struct read_shared shared;
	struct read_ctx ctx;
	unsigned rounds; /* of fetching, by the last ask */
};

static void bed_init(struct bed *b)
{
	struct err_info err = {0};

	hand_init(&h);
	edit_init(&e);
	memset(b, 0, sizeof(*b));
	b->dir = test_tmpdir();
	ck_ok(io_env_open(b->dir, IO_BACKEND_AUTO, false, &b->env, &err));
	ck_ok(io_queue_new(b->env, 32, &b->q));
	b->shared.env = b->env;
	b->shared.queue = b->q;
	ck_ok(table_cache_new(100, &b->shared.tables));
	ck_ok(block_cache_new(1 << 20, &b->shared.blocks));
	read_ctx_init(&b->ctx, &b->shared);
}

static void bed_cold(struct bed *b)
{
	read_ctx_reset(&b->ctx);
	table_cache_free(b->shared.tables);
	block_cache_free(b->shared.blocks);
	ck_ok(table_cache_new(100, &b->shared.tables));
	ck_ok(block_cache_new(1 << 20, &b->shared.blocks));
}

static void bed_fini(struct bed *b)
{
	read_ctx_fini(&b->ctx);
	table_cache_free(b->shared.tables);
	block_cache_free(b->shared.blocks);
	io_queue_free(b->q);
	io_env_close(b->env);
	test_rmtree(b->dir);
	free(b->dir);
	hand_fini(&h);
}

static void fetched(struct read_ctx *ctx)
{
	(void)ctx;
}

static void fetch(struct bed *b)
{
	ck_ok(read_ctx_fetch(&b->ctx, fetched));
	while (b->ctx.in_flight)
		ck_assert_int_ge(io_queue_wait(b->q, UINT64_MAX), 0);
	b->rounds++;
}

/* One entry of the model. */
struct entry {
	char user[8];
	uint64_t sequence;
	unsigned type;
	uint64_t table; /* also its value */
	unsigned level;
};

static int entry_order(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = strcmp(x->user, y->user);

	return c ? c : (x->sequence < y->sequence) - (x->sequence > y->sequence);
}

static struct slice entry_key(const struct entry *x, unsigned char *buf)
{
	return ikey_make(buf, slice_str(x->user), x->sequence, x->type);
}

/* Writes entries (sorted) as table @number and adds it to the edit. */
static void write_table(struct bed *b, unsigned level, uint64_t number, const struct entry *entries, size_t count,
			unsigned bloom)
{
	struct table_options o = {.block_bytes = 128, .restart_interval = 4, .bloom_bits_per_key = bloom};
	struct table_builder *tb;
	char name[FILE_NAME_MAX];
	unsigned char first[32], last[32];
	struct file_meta *m;
	struct io_file *f;

	ck_ok(io_open(b->env, file_name(name, FILE_TABLE, number), IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	ck_ok(table_builder_new(b->q, f, &o, &tb));
	for (size_t i = 0; i < count; i++)
		ck_ok(table_builder_add(tb, entry_key(&entries[i], first), slice_of(&number, sizeof(number))));
	ck_ok(table_builder_finish(tb));
	m = file_meta_new(number, table_builder_size(tb), entry_key(&entries[0], first),
			  entry_key(&entries[count - 1], last));
	ck_ok(edit_add_file(&e, level, m));
	file_meta_unref(m);
	table_builder_free(tb);
	io_close(f);
}

static int get(struct bed *b, const char *user, uint64_t sequence, uint64_t *table_out, struct file_meta **charge_out)
{
	struct slice value = {0};
	int rc;

	b->rounds = 0;
	while ((rc = version_get(h.vs.current, &b->ctx, slice_str(user), sequence, &value, NULL, charge_out)) ==
	       READ_MISS)
		fetch(b);
	if (rc == 0) {
		ck_assert_uint_eq(value.size, sizeof(*table_out));
		memcpy(table_out, value.data, sizeof(*table_out));
	}
	return rc;
}

/* The newest value wins, wherever it lies; a tombstone hides what is below; an old sequence sees the old value. */
START_TEST(newest_entry_wins)
{
	const struct entry l2[] = {{"a", 1, 1, 1, 2}, {"b", 2, 1, 1, 2}, {"c", 3, 1, 1, 2}};
	const struct entry l1[] = {{"a", 11, 1, 2, 1}, {"b", 12, 0, 2, 1}};
	const struct entry old0[] = {{"a", 21, 0, 3, 0}, {"c", 23, 1, 3, 0}};
	const struct entry new0[] = {{"a", 31, 1, 4, 0}, {"d", 32, 1, 4, 0}};
	struct bed b;
	uint64_t t;

	bed_init(&b);
	write_table(&b, 2, 1, l2, 3, 10);
	write_table(&b, 1, 2, l1, 2, 10);
	write_table(&b, 0, 3, old0, 2, 10);
	write_table(&b, 0, 4, new0, 2, 10);
	hand_install(&h, &e);
	ck_assert_int_eq(get(&b, "a", 100, &t, NULL), 0);
	ck_assert_uint_eq(t, 4);
	ck_assert_int_eq(get(&b, "a", 30, &t, NULL), SHALE_NOTFOUND);
	ck_assert_int_eq(get(&b, "a", 20, &t, NULL), 0);
	ck_assert_uint_eq(t, 2);
	ck_assert_int_eq(get(&b, "a", 10, &t, NULL), 0);
	ck_assert_uint_eq(t, 1);
	ck_assert_int_eq(get(&b, "a", 0, &t, NULL), SHALE_NOTFOUND);
	ck_assert_int_eq(get(&b, "b", 100, &t, NULL), SHALE_NOTFOUND);
	ck_assert_int_eq(get(&b, "b", 11, &t, NULL), 0);
	ck_assert_int_eq(get(&b, "c", 100, &t, NULL), 0);
	ck_assert_uint_eq(t, 3);
	ck_assert_int_eq(get(&b, "bb", 100, &t, NULL), SHALE_NOTFOUND);
	ck_assert_int_eq(get(&b, "", 100, &t, NULL), SHALE_NOTFOUND);
	bed_fini(&b);
}
END_TEST

/* Values of one request stay readable while others are looked up through the same context, cold caches or not. */
START_TEST(values_stay_pinned)
{
	const struct entry x[] = {{"a", 1, 1, 1, 1}}, y[] = {{"b", 2, 1, 2, 1}};
	struct slice first = {0}, second = {0};
	struct bed b;
	int rc;

	bed_init(&b);
	write_table(&b, 1, 1, x, 1, 0);
	write_table(&b, 1, 2, y, 1, 0);
	hand_install(&h, &e);
	while ((rc = version_get(h.vs.current, &b.ctx, slice_str("a"), 9, &first, NULL, NULL)) == READ_MISS)
		fetch(&b);
	ck_ok(rc);
	block_cache_drop_table(b.shared.blocks, 1);
	while ((rc = version_get(h.vs.current, &b.ctx, slice_str("b"), 9, &second, NULL, NULL)) == READ_MISS)
		fetch(&b);
	ck_ok(rc);
	ck_assert_uint_eq(load_le64(first.data), 1);
	ck_assert_uint_eq(load_le64(second.data), 2);
	bed_fini(&b);
}
END_TEST

/* One round of fetching opens every table that may hold the key, not one table a round. */
START_TEST(missing_tables_are_noted_together)
{
	const struct entry same[] = {{"k", 1, 1, 1, 0}};
	struct slice value;
	struct bed b;
	uint64_t t;

	bed_init(&b);
	write_table(&b, 2, 1, same, 1, 10);
	write_table(&b, 0, 2, same, 1, 10);
	write_table(&b, 0, 3, same, 1, 10);
	write_table(&b, 0, 4, same, 1, 10);
	hand_install(&h, &e);
	ck_assert_int_eq(version_get(h.vs.current, &b.ctx, slice_str("k"), 9, &value, NULL, NULL), READ_MISS);
	ck_assert_uint_eq(b.ctx.miss_count, 4);
	ck_assert_int_eq(version_get(h.vs.current, &b.ctx, slice_str("other"), 9, &value, NULL, NULL), SHALE_NOTFOUND);
	bed_cold(&b);
	ck_assert_int_eq(get(&b, "k", 9, &t, NULL), 0);
	ck_assert_uint_eq(t, 4);
	ck_assert_uint_eq(b.rounds, 2); /* tables, then the block */
	bed_fini(&b);
}
END_TEST

/* The first table searched in vain is charged when a second one was searched; a filter that answers costs nobody anything. */
START_TEST(first_vain_probe_is_charged)
{
	const struct entry spread[] = {{"a", 5, 1, 1, 0}, {"z", 6, 1, 1, 0}}, hit[] = {{"k", 1, 1, 1, 0}};
	struct file_meta *charge = NULL;
	struct bed b;
	uint64_t t;

	bed_init(&b);
	write_table(&b, 2, 1, hit, 1, 0);
	write_table(&b, 1, 2, spread, 2, 0);
	write_table(&b, 0, 3, spread, 2, 0);
	hand_install(&h, &e);
	ck_assert_int_eq(get(&b, "k", 9, &t, &charge), 0);
	ck_assert_ptr_eq(charge, hand_file(&h, 3));
	ck_assert_int_eq(get(&b, "a", 9, &t, &charge), 0); /* found at once: one table only */
	ck_assert_ptr_null(charge);
	ck_assert_int_eq(get(&b, "j", 9, &t, &charge), SHALE_NOTFOUND);
	ck_assert_ptr_eq(charge, hand_file(&h, 3));
	ck_assert_int_eq(get(&b, "zz", 9, &t, &charge), SHALE_NOTFOUND);
	ck_assert_ptr_null(charge);
	bed_fini(&b);
	bed_init(&b);
	write_table(&b, 2, 1, hit, 1, 10);
	write_table(&b, 1, 2, spread, 2, 10);
	write_table(&b, 0, 3, spread, 2, 10);
	hand_install(&h, &e);
	charge = hand_file(&h, 1);
	ck_assert_int_eq(get(&b, "k", 9, &t, &charge), 0);
	ck_assert_ptr_null(charge);
	bed_fini(&b);
	bed_init(&b);
	write_table(&b, 1, 2, spread, 2, 10);
	write_table(&b, 0, 3, spread, 2, 0);
	hand_install(&h, &e);
	charge = hand_file(&h, 2);
	ck_assert_int_eq(get(&b, "k", 9, &t, &charge), SHALE_NOTFOUND); /* 3 was searched, 2 only asked its filter */
	ck_assert_ptr_null(charge);
	bed_fini(&b);
}
END_TEST

/* ---- a random version against a sorted array ---- */

enum { ENTRIES = 1200, KEYS = 150 };

struct model {
	struct entry entries[ENTRIES];
	size_t count;
};

/*
 * Sequences ascend from the deepest table to the newest, as in a real database; levels 1 and 2 are cut into tables anywhere, also between
 * two entries of one key.
 */
static void make_version(struct bed *b, struct model *m, uint64_t *seed)
{
	uint64_t number = 1, sequence = 1;

	m->count = 0;
	for (unsigned part = 0; part < 6; part++) {
		unsigned level = part == 0 ? 2 : part == 1 ? 1 : 0;
		struct entry *x = m->entries + m->count;
		size_t n = level ? 400 : 100, cut;

		for (size_t i = 0; i < n; i++) {
			snprintf(x[i].user, sizeof(x[i].user), "k%03u", (unsigned)(test_random(seed) % KEYS));
			x[i].sequence = sequence++;
			x[i].type = test_random(seed) % 4 != 0;
			x[i].level = level;
		}
		qsort(x, n, sizeof(*x), entry_order);
		for (size_t from = 0; from < n; from = cut, number++) {
			cut = level ? from + 1 + test_random(seed) % 60 : n;
			cut = min_size(cut, n);
			for (size_t i = from; i < cut; i++)
				x[i].table = number;
			write_table(b, level, number, x + from, cut - from, test_random(seed) % 2 ? 10 : 0);
		}
		m->count += n;
	}
	hand_install(&h, &e);
}

static const struct entry *model_get(const struct model *m, const char *user, uint64_t sequence)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		const struct entry *x = &m->entries[i];

		if (!strcmp(x->user, user) && x->sequence <= sequence && (!best || x->sequence > best->sequence))
			best = x;
	}
	return best;
}

/* Every lookup at any sequence equals a search of all entries ever written. */
START_TEST(random_gets_equal_model)
{
	uint64_t seed = test_seed(), t = 0;
	static struct model m;
	struct bed b;

	bed_init(&b);
	make_version(&b, &m, &seed);
	for (int i = 0; i < 6000; i++) {
		const struct entry *want;
		char user[8];
		uint64_t sequence = test_random(&seed) % (m.count + 2);
		int rc;

		snprintf(user, sizeof(user), "k%03u", (unsigned)(test_random(&seed) % (KEYS + 5)));
		want = model_get(&m, user, sequence);
		rc = get(&b, user, sequence, &t, NULL);
		if (want && want->type == IKEY_VALUE) {
			ck_assert_int_eq(rc, 0);
			ck_assert_uint_eq(t, want->table);
		} else {
			ck_assert_int_eq(rc, SHALE_NOTFOUND);
		}
		if (i % 50 == 0)
			bed_cold(&b);
		read_ctx_reset(&b.ctx);
	}
	bed_fini(&b);
}
END_TEST

static struct iter *version_merge(struct bed *b)
{
	struct iter *children[32], *it;
	unsigned count = 0;

	ck_assert_uint_le(h.vs.current->count[0] + LEVELS, ARRAY_SIZE(children));
	ck_ok(version_iters(h.vs.current, &b->ctx.source, children, &count));
	ck_ok(merge_iter_new(children, count, &it));
	return it;
}

/* Moves by @move (0 next, 1 prev), or again by seeking to @key of the entry where it should be, until nothing is missing. */
static void settle(struct bed *b, struct iter *it, struct slice key)
{
	while (it->status == READ_MISS) {
		ck_assert(!it->valid);
		fetch(b);
		iter_seek(it, key);
	}
	ck_assert_int_eq(it->status, 0);
}

/*
 * A merge over all levels walks all entries in order, both ways, and after each miss a seek to where it stood goes on without loss: tables are opened
 * as the walk reaches them.
 */
START_TEST(random_scans_equal_model)
{
	uint64_t seed = test_seed();
	static struct model m;
	unsigned char k[32];
	struct bed b;
	struct iter *it;
	size_t at;

	bed_init(&b);
	make_version(&b, &m, &seed);
	qsort(m.entries, m.count, sizeof(m.entries[0]), entry_order);
	it = version_merge(&b);
	iter_seek_first(it);
	for (at = 0; at < m.count; at++) {
		settle(&b, it, entry_key(&m.entries[at], k));
		ck_assert(it->valid);
		ck_assert(slice_equal(it->key, entry_key(&m.entries[at], k)));
		ck_assert_uint_eq(load_le64(it->value.data), m.entries[at].table);
		iter_next(it);
	}
	ck_assert(!it->valid && it->status == 0);
	iter_free(it);
	bed_cold(&b);
	it = version_merge(&b);
	for (int i = 0; i < 3000; i++) {
		if (i % 20 == 0 || !it->valid) {
			at = test_random(&seed) % m.count;
			iter_seek(it, entry_key(&m.entries[at], k));
		} else if (test_random(&seed) % 2) {
			iter_next(it);
			at++;
		} else {
			iter_prev(it);
			at--;
		}
		if (at >= m.count) {
			ck_assert(!it->valid && it->status == 0);
			continue;
		}
		settle(&b, it, entry_key(&m.entries[at], k));
		ck_assert(it->valid);
		ck_assert(slice_equal(it->key, entry_key(&m.entries[at], k)));
	}
	iter_free(it);
	bed_fini(&b);
}
END_TEST

/* A table that is gone from the disk is a failure of the read, with nothing else harmed. */
START_TEST(missing_table_is_a_failure)
{
	const struct entry x[] = {{"a", 1, 1, 1, 1}}, y[] = {{"b", 2, 1, 2, 1}};
	char name[FILE_NAME_MAX];
	struct iter *it;
	struct bed b;
	uint64_t t;

	bed_init(&b);
	write_table(&b, 1, 1, x, 1, 10);
	write_table(&b, 1, 2, y, 1, 10);
	hand_install(&h, &e);
	ck_ok(io_unlink(b.env, file_name(name, FILE_TABLE, 2)));
	ck_assert_int_lt(get(&b, "b", 9, &t, NULL), 0);
	read_ctx_reset(&b.ctx);
	ck_ok(get(&b, "a", 9, &t, NULL));
	it = version_merge(&b);
	iter_seek_last(it);
	while (it->status == READ_MISS) {
		fetch(&b);
		iter_seek_last(it);
	}
	ck_assert(!it->valid);
	ck_assert_int_lt(it->status, 0);
	iter_free(it);
	bed_fini(&b);
}
END_TEST

TEST_MAIN("version_read", 60, newest_entry_wins, values_stay_pinned, missing_tables_are_noted_together,
	  first_vain_probe_is_charged, random_gets_equal_model, random_scans_equal_model, missing_table_is_a_failure)
