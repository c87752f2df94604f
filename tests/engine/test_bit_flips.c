/*
 * One bit flipped at every byte offset of every file of a small database: the open or the reads say so, with the file's name; or every answer
 * is what it was before. Never a wrong answer, never a crash.
 *
 * What counts as an answer
 *	open refused        a typed code, and words that name the file
 *	reads fail          -SHALE_ECORRUPT or the like for some keys, words that name the file; all other keys as before
 *	a shorter log       a log may end early: then the engine has said so, naming the log, and the state is exactly the one that the database had
 *	                    some writes ago. In the last record of the last log nothing can tell a flipped bit from a write that a
 *	                    power failure tore: there is no record behind it to contradict. It is reported in both cases. Everywhere else
 *	                    in a log, what follows (a record, or the next log's first sequence) gives the damage away
 *
 * SHALE_FLIP_ALL=1 tries all eight bits of every byte (make bit-flips), SHALE_FLIP_STEP=n every n-th byte.
 */
#include <stdio.h>
#include <string.h>

#include "shm/error.h"
#include "tests/engine/offline.h"

enum { KEYS = 90, OPS_MAX = 400, VALUE_MAX = 200 };

/* A sanitizer makes each open several times slower: then every fourth byte, of which each run without one tries all. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEP = 4 };
#else
enum { STEP = 1 };
#endif

/* Every write of the database, in order: states are prefixes of it. */
static struct op {
	unsigned key;
	bool put;
	size_t size;
	unsigned char value[VALUE_MAX];
} ops[OPS_MAX];
static size_t op_count, flushed_ops; /* the first ones are in tables */

static struct stored files;

static struct tally {
	unsigned tried, refused, read_errors, cut, harmless;
} tally;

static struct slice key_of(unsigned i)
{
	static char text[4][32];
	static unsigned at;
	char *t = text[at++ % 4];

	snprintf(t, 32, "some/common/prefix/%04u", i);
	return slice_str(t);
}

/* ---- the database ---- */

static void write_op(struct world *w, uint64_t *seed, bool put)
{
	struct op *op = &ops[op_count++];

	ck_assert_uint_le(op_count, OPS_MAX);
	op->key = (unsigned)(test_random(seed) % KEYS);
	op->put = put;
	op->size = put ? test_random(seed) % VALUE_MAX : 0;
	/* Half of them compress, so that blocks are stored both ways. */
	for (size_t i = 0; i < op->size; i++)
		op->value[i] = op->key % 64 < 32 ? (unsigned char)test_random(seed) : (unsigned char)op->key;
	if (put)
		world_put(w, key_of(op->key), slice_of(op->value, op->size));
	else
		world_delete(w, key_of(op->key));
}

/* Tables of two levels with deletions between them, and two logs, the first of which ended with its memtable. */
static void make_database(struct world *w)
{
	uint64_t seed = 20240607, ticket;

	world_open(w);
	for (int i = 0; i < 60; i++)
		write_op(w, &seed, true);
	world_flush(w);
	world_compact(w, NULL, NULL);
	for (int i = 0; i < 30; i++)
		write_op(w, &seed, i % 3 != 0);
	world_flush(w);
	flushed_ops = op_count;
	for (int i = 0; i < 8; i++)
		write_op(w, &seed, i % 4 != 0);
	world_run_all(w, JOB_LOG | JOB_DELETE);
	ck_ok(engine_flush_start(w->e, &ticket)); /* a new log; the flush itself is not run */
	for (int i = 0; i < 8; i++)
		write_op(w, &seed, i % 4 != 0);
	world_sync(w);
	world_abandon(w);
	world_lose_window(w);
	stored_take(&files, w->dir);
}

/* ---- what it answers ---- */

/* The value of @key after the first @count writes; NULL: none. */
static const struct op *state_of(unsigned key, size_t count)
{
	const struct op *found = NULL;

	for (size_t i = 0; i < count; i++)
		if (ops[i].key == key)
			found = &ops[i];
	return found && found->put ? found : NULL;
}

struct answers {
	int code[KEYS]; /* 0, SHALE_NOTFOUND or a failure */
	unsigned char *value[KEYS];
	size_t size[KEYS];
	unsigned failed;
	char words[768];
};

static void ask(struct world *w, struct answers *a)
{
	struct view *v = engine_view(w->e);

	for (unsigned k = 0; k < KEYS; k++) {
		struct read_ctx ctx;
		struct slice value = {0};
		int rc;

		read_ctx_init(&ctx, engine_read_shared(w->e));
		while ((rc = engine_get(v, &ctx, engine_last_sequence(w->e), key_of(k), &value)) == READ_MISS)
			world_fetch(w, &ctx);
		a->code[k] = rc;
		if (rc == 0) {
			a->value[k] = malloc(value.size + 1);
			memcpy(a->value[k], value.data, value.size);
			a->size[k] = value.size;
		} else if (rc < 0) {
			const struct err_info *why = read_ctx_error(&ctx);

			a->failed++;
			if (why)
				snprintf(a->words, sizeof(a->words), "%s", why->text);
		}
		read_ctx_fini(&ctx);
	}
	view_unref(v);
}

static bool same_state(const struct answers *a, size_t count)
{
	for (unsigned k = 0; k < KEYS; k++) {
		const struct op *want = state_of(k, count);

		if (a->code[k] < 0)
			continue;
		if (a->code[k] != (want ? 0 : SHALE_NOTFOUND))
			return false;
		if (want && (a->size[k] != want->size || memcmp(a->value[k], want->value, want->size)))
			return false;
	}
	return true;
}

/* A whole scan gives the state after @count writes, or fails where a read failed: what came before is right. True: it failed. */
static bool scan_is(struct world *w, size_t count, bool reverse)
{
	static unsigned char out[KEYS * (VALUE_MAX + 64)];
	struct scan s = {
		.sequence = engine_last_sequence(w->e), .reverse = reverse, .out = out, .out_size = sizeof(out)};
	const unsigned char *at = out;
	struct slice key, value;
	int rc = world_scan(w, &s), k = reverse ? KEYS - 1 : 0, step = reverse ? -1 : 1;

	ck_assert_msg(rc <= 0, "scan: %d", rc);
	ck_assert_msg(rc == 0 || rc == -SHALE_ECORRUPT, "scan: %s", shale_strerror(rc));
	while (scan_entry(&at, out + s.used, &key, &value)) {
		const struct op *want;

		while (k >= 0 && k < KEYS && !state_of((unsigned)k, count))
			k += step;
		ck_assert_msg(k >= 0 && k < KEYS, "a key too many: %.*s", (int)key.size, (const char *)key.data);
		want = state_of((unsigned)k, count);
		ck_assert_msg(slice_equal(key, key_of((unsigned)k)), "%.*s instead of %u", (int)key.size,
			      (const char *)key.data, k);
		ck_assert_msg(slice_equal(value, slice_of(want->value, want->size)), "the value of %u", k);
		k += step;
	}
	while (rc == 0 && k >= 0 && k < KEYS)
		ck_assert_msg(!state_of((unsigned)k, count), "key %u is not in the scan", k), k += step;
	scan_fini(&s);
	return rc < 0;
}

/* The words name the file that was damaged; of CURRENT also the MANIFEST that it then named. */
static bool names(const char *words, const struct stored_file *f)
{
	return strstr(words, f->name) || (!strcmp(f->name, "CURRENT") && strstr(words, "MANIFEST"));
}

static const struct stored_file *now;
static char all_logged[8192];

static void note_log(struct engine_host *h, int priority, const char *text)
{
	size_t used = strlen(all_logged);

	(void)h;
	if (priority <= 5)
		snprintf(all_logged + used, sizeof(all_logged) - used, "%s\n", text);
}

static void judge_open(struct world *w, size_t offset)
{
	struct answers a = {0};
	bool failed;
	size_t count = op_count;

	ask(w, &a);
	while (!same_state(&a, count)) {
		ck_assert_msg(count > flushed_ops, "%s, offset %zu: a wrong answer\n%s", now->name, offset, all_logged);
		count--;
	}
	ck_assert_msg(count == op_count || names(all_logged, now),
		      "%s, offset %zu: %zu writes are gone, not a word\n%s", now->name, offset, op_count - count,
		      all_logged);
	ck_assert_msg(!a.failed || names(a.words, now), "%s, offset %zu: %s", now->name, offset, a.words);
	failed = scan_is(w, count, false);
	failed |= scan_is(w, count, true);
	if (count != op_count)
		tally.cut++;
	else if (a.failed || failed)
		tally.read_errors++;
	else
		tally.harmless++;
	for (unsigned k = 0; k < KEYS; k++)
		free(a.value[k]);
}

static void flip(struct world *w, const struct stored_file *f, size_t offset, unsigned bit)
{
	struct err_info err = {0};
	int rc;

	now = f;
	all_logged[0] = 0;
	stored_put(&files, w->dir);
	flip_in(w->dir, f->name, offset, bit);
	world_lose_window(w);
	rc = world_try_open(w, &err);
	tally.tried++;
	if (rc < 0) {
		ck_assert_msg(rc == -SHALE_ECORRUPT || rc == -SHALE_EMISSING || rc == -SHALE_ECOMPARATOR,
			      "%s, offset %zu: %s: %s", f->name, offset, shale_strerror(rc), err.text);
		ck_assert_msg(names(err.text, f), "%s, offset %zu: %s", f->name, offset, err.text);
		tally.refused++;
		return;
	}
	judge_open(w, offset);
	world_abandon(w);
}

START_TEST(bit_flips)
{
	const char *all = getenv("SHALE_FLIP_ALL"), *step_text = getenv("SHALE_FLIP_STEP");
	size_t step = step_text ? strtoul(step_text, NULL, 10) : STEP;
	struct world w;

	test_in_memory();
	world_init(&w, IO_BACKEND_POSIX);
	w.options.table.block_bytes = 512;
	w.options.wal_ring_bytes = 256 << 10;
	make_database(&w);
	w.host.log = note_log;
	for (size_t i = 0; i < files.count; i++) {
		for (size_t at = i % step; at < files.at[i].size; at += step) {
			for (unsigned bit = 0; all && bit < 8; bit++)
				flip(&w, &files.at[i], at, bit);
			if (!all)
				flip(&w, &files.at[i], at, (unsigned)(at * 5 + i) % 8);
		}
	}
	printf("bit flips: tried=%u detected=%u harmless=%u wrong=0 (open refused %u, reads failed %u, log ended early "
	       "and "
	       "said so %u)\n",
	       tally.tried, tally.refused + tally.read_errors + tally.cut, tally.harmless, tally.refused,
	       tally.read_errors, tally.cut);
	ck_assert_uint_gt(tally.refused, 0);
	ck_assert_uint_gt(tally.read_errors, 0);
	ck_assert_uint_gt(tally.cut, 0);
	stored_free(&files);
	world_fini(&w);
}
END_TEST

TEST_MAIN("bit_flips", 1800, bit_flips)
