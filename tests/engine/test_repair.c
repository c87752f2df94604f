/*
 * repair.c: what it makes of damaged databases. The oracle is the history of every key: after a repair a key answers what it did, or nothing; never
 * what it had before, and never again what was deleted. Ours and stock LevelDB must open the result and agree.
 */
#include "engine/repair.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/verify.h"
#include "tests/engine/faulty_env.h"
#include "tests/engine/offline.h"
#include "tests/engine/stock.h"

enum { KEYS = 300, OPS_MAX = 4000, VALUE = 60 };

static struct world w;
static struct stored good;
static unsigned now[KEYS];	  /* the write that each key shows, 0: none */
static unsigned history[OPS_MAX]; /* key + 1, negative bit 31: a deletion */
static unsigned writes, flushed_writes;

static struct slice key_of(unsigned i)
{
	static char text[4][32];
	static unsigned at;
	char *t = text[at++ % 4];

	snprintf(t, 32, "key-%05u", i * 7);
	return slice_str(t);
}

/* A value tells which write it is of. */
static struct slice value_of(unsigned write)
{
	static char text[VALUE + 1];
	uint64_t seed = write + 1;

	snprintf(text, sizeof(text), "%08u", write);
	for (int i = 8; i < VALUE; i++)
		text[i] = (char)('a' + test_random(&seed) % 20);
	return slice_of(text, VALUE);
}

static void write_one(unsigned key, bool delete)
{
	ck_assert_uint_lt(++writes, OPS_MAX);
	history[writes] = key + 1 + (delete ? 1u << 31 : 0);
	now[key] = delete ? 0 : writes;
	if (delete)
		world_delete(&w, key_of(key));
	else
		world_put(&w, key_of(key), value_of(writes));
}

static void state_after(unsigned count, unsigned out[KEYS])
{
	memset(out, 0, KEYS * sizeof(*out));
	for (unsigned i = 1; i <= count; i++)
		out[(history[i] & ~(1u << 31)) - 1] = history[i] >> 31 ? 0 : i;
}

static void write_many(unsigned count, uint64_t *seed)
{
	for (unsigned i = 0; i < count; i++)
		write_one((unsigned)(test_random(seed) % KEYS), test_random(seed) % 3 == 0);
}

/* Tables in three levels, each key written and deleted several times, and a log. @filters: Bloom bits. */
static void begin(uint64_t seed, unsigned filters)
{
	test_in_memory();
	writes = 0;
	memset(now, 0, sizeof(now));
	world_init(&w, IO_BACKEND_POSIX);
	w.options.table.block_bytes = 512;
	w.options.table.bloom_bits_per_key = filters;
	w.options.levels.max_file_bytes = 4 << 10;
	w.options.levels.tombstone_percent = 0;
	world_open(&w);
	for (int round = 0; round < 3; round++) {
		write_many(350, &seed);
		world_flush(&w);
		if (round < 2)
			world_run_all(&w, JOBS_ALL);
		if (round == 0)
			world_compact(&w, NULL, NULL);
	}
	write_many(120, &seed);
	world_flush(&w);
	flushed_writes = writes;
	write_many(40, &seed);
	world_run_all(&w, JOB_LOG | JOB_DELETE);
	world_close(&w);
	stored_take(&good, w.dir);
}

static void end(void)
{
	stored_free(&good);
	world_fini(&w);
}

/* ---- repairing ---- */

struct mending {
	struct repair_options options;
	const char *dir;
	unsigned losses, unknown;
	char text[1 << 15];
	struct faulty_env *faulty; /* keeping counts as an operation that may be the last */
};

static int keep(struct repair_options *o, const char *name)
{
	struct mending *m = container_of(o, struct mending, options);
	char from[1024], to[1024];
	struct stat a, b;

	if (m->faulty && m->faulty->dies && m->faulty->countdown >= 0 && m->faulty->countdown-- == 0)
		_exit(FAULTY_EXIT);
	snprintf(from, sizeof(from), "%s/%s", m->dir, name);
	snprintf(to, sizeof(to), "%s/lost", m->dir);
	mkdir(to, 0700);
	for (unsigned i = 0;; i++) {
		snprintf(to, sizeof(to), "%s/lost/%s.%u", m->dir, name, i);
		if (link(from, to) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
		if (!stat(from, &a) && !stat(to, &b) && a.st_ino == b.st_ino)
			return 0;
	}
}

static void lost(struct repair_options *o, const struct repair_loss *l)
{
	struct mending *m = container_of(o, struct mending, options);
	size_t used = strlen(m->text);

	m->losses++;
	m->unknown += !strcmp(l->kind, "unknown");
	ck_assert(*l->what && *l->file);
	snprintf(m->text + used, sizeof(m->text) - used, "%s %s %s\n", l->kind, l->file, l->what);
}

static struct mending m;
static struct repair_result result;
static struct looked l;

static int try_repair(bool dry_run, bool keep_older)
{
	struct err_info err = {0};
	int rc;

	m = (struct mending){.options = {.dry_run = dry_run, .keep_older = keep_older, .keep = keep, .lost = lost},
			     .dir = w.dir};
	looked_open(&l, w.dir);
	rc = repair_database(&l.exam, &m.options, &result, &err);
	looked_close(&l);
	ck_assert_msg(rc == 0 || *err.text, "no words");
	return rc;
}

static void repair(void)
{
	int rc = try_repair(false, false);

	ck_assert_msg(rc == 0, "repair: %d", rc);
}

/* Nothing is wrong any more. */
static void must_be_clean(void)
{
	static struct looked after;
	struct verify_result r;
	struct err_info err = {0};

	looked_open(&after, w.dir);
	ck_assert_msg(verify_database(&after.exam, &r, &err) == 0, "%s", err.text);
	looked_close(&after);
	ck_assert_msg(!after.exam.problems, "after the repair:\n%s\nbefore:\n%s%s", after.text, l.text, m.text);
}

/* ---- what it answers then ---- */

/* Every key: as in @state, or nothing. How many of those that were there are still there; *@of_out: were there. */
static unsigned same_or_gone(const unsigned state[KEYS], unsigned *of_out)
{
	unsigned there = 0, of = 0;

	w.options.paranoid = true; /* a repaired database needs no mercy */
	world_open(&w);
	for (unsigned k = 0; k < KEYS; k++) {
		unsigned char *value;
		size_t size;
		int rc = world_get(&w, key_of(k), engine_last_sequence(w.e), &value, &size);

		ck_assert_msg(rc == 0 || rc == SHALE_NOTFOUND, "key %u: %d", k, rc);
		of += state[k] != 0;
		if (rc == SHALE_NOTFOUND)
			continue;
		ck_assert_msg(state[k], "key %u was deleted, and is back as %.8s\n%s%s", k, value, l.text, m.text);
		ck_assert_msg(slice_equal(slice_of(value, size), value_of(state[k])),
			      "key %u is %.8s, should be %u\n%s%s", k, value, state[k], l.text, m.text);
		free(value);
		there++;
	}
	ck_assert_uint_eq(world_scan_all(&w, engine_last_sequence(w.e), false, 4096, NULL, NULL), there);
	world_check_deep(&w);
	/* It is a database like any other: it takes writes, and compacts. */
	world_put(&w, slice_str("zz"), slice_str("new"));
	world_compact(&w, NULL, NULL);
	ck_assert_uint_eq(world_scan_all(&w, engine_last_sequence(w.e), false, 4096, NULL, NULL), there + 1);
	world_delete(&w, slice_str("zz"));
	world_close(&w);
	*of_out = of;
	return there;
}

static unsigned stock_count(void)
{
	leveldb_iterator_t *it;
	struct stock s;
	unsigned n = 0;
	char *error = NULL;

	stock_open(&s, w.dir, false, true, 10);
	it = leveldb_create_iterator(s.db, s.read);
	for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it))
		n++;
	leveldb_iter_get_error(it, &error);
	stock_must(error, "scanning a repaired database");
	leveldb_iter_destroy(it);
	stock_close(&s);
	return n;
}

/* Repairs what is there, and checks all of it: first with stock, which is the stricter one. */
static unsigned repair_and_check(const unsigned state[KEYS], unsigned *of_out)
{
	unsigned there, by_stock;

	repair();
	must_be_clean();
	by_stock = stock_count();
	must_be_clean();
	there = same_or_gone(state, of_out);
	ck_assert_uint_eq(by_stock, there);
	return there;
}

/* ---- tests ---- */

/* A sound database: nothing is done, whatever else lies there goes to lost/. */
START_TEST(nothing_to_do)
{
	unsigned of;

	begin(1, 10);
	repair();
	ck_assert(result.nothing);
	ck_assert_uint_eq(result.moved, 0);
	ck_assert_int_ne(access(in_dir(w.dir, "lost"), F_OK), 0);
	overwrite(w.dir, "777777.ldb", "no table", 8);
	repair();
	ck_assert(result.nothing);
	ck_assert_uint_eq(result.moved, 1);
	ck_assert_int_eq(access(in_dir(w.dir, "lost/777777.ldb.0"), F_OK), 0);
	ck_assert_uint_eq(repair_and_check(now, &of), of);
	end();
}
END_TEST

/* Random damage to tables, with and without filters: no answer that is older than what was there, and most of it kept. */
START_TEST(damaged_tables)
{
	uint64_t seed = test_seed();
	unsigned there = 0, were = 0, rounds = 24;

	for (unsigned round = 0; round < rounds; round++) {
		unsigned of, hits = 1 + (unsigned)(test_random(&seed) % 3);

		begin(test_random(&seed), round % 4 == 0 ? 0 : 10);
		for (unsigned i = 0; i < hits; i++) {
			struct stored_file *f;

			do
				f = &good.at[test_random(&seed) % good.count];
			while (!strstr(f->name, ".ldb"));
			switch (test_random(&seed) % 8) {
			case 0:
				unlink(in_dir(w.dir, f->name));
				break;
			case 1:
				if (access(in_dir(w.dir, f->name), F_OK) == 0)
					ck_ok(truncate(in_dir(w.dir, f->name), (off_t)(test_random(&seed) % f->size)));
				break;
			default:
				if (access(in_dir(w.dir, f->name), F_OK) == 0) {
					struct stat st;

					ck_ok(stat(in_dir(w.dir, f->name), &st));
					if (st.st_size)
						flip_in(w.dir, f->name, test_random(&seed) % (uint64_t)st.st_size,
							(unsigned)(test_random(&seed) % 8));
				}
			}
		}
		there += repair_and_check(now, &of);
		were += of;
		end();
	}
	printf("repair: damaged tables: rounds=%u keys kept=%u of %u, resurrected=0\n", rounds, there, were);
	ck_assert_uint_gt(there, were / 2);
}
END_TEST

/* One block: with a filter hardly more is withheld than what was in it; without one, the range of its keys is. */
START_TEST(filter_makes_holes_small)
{
	unsigned kept[2], of;

	for (unsigned filters = 0; filters < 2; filters++) {
		begin(5, filters * 10);
		flip_in(w.dir, nth_file(w.dir, ".ldb", 1), 100, 2);
		kept[filters] = repair_and_check(now, &of);
		ck_assert_uint_gt(m.losses, 0);
		end();
	}
	ck_assert_uint_ge(kept[1], kept[0]);
	ck_assert_uint_ge(kept[1], of * 9 / 10);
}
END_TEST

/* No MANIFEST, or none that can be read: sequence numbers put sound tables together as they were, whatever their level. */
START_TEST(without_a_manifest)
{
	static const char *const gone[] = {"CURRENT", "MANIFEST", NULL};
	unsigned of;

	begin(11, 10);
	for (int i = 0; i < 4; i++) {
		stored_put(&good, w.dir);
		if (i == 0)
			ck_ok(unlink(in_dir(w.dir, "CURRENT")));
		else if (i == 1)
			ck_ok(unlink(in_dir(w.dir, nth_file(w.dir, gone[1], 0))));
		else if (i == 2)
			flip_in(w.dir, nth_file(w.dir, gone[1], 0), 30, 4);
		else
			overwrite(w.dir, "CURRENT", "garbage", 7);
		ck_assert_uint_eq(repair_and_check(now, &of), of);
		ck_assert(result.levels_known == (i == 0 || i == 3));
		ck_assert_int_eq(access(in_dir(w.dir, "lost"), F_OK), 0);
	}
	end();
}
END_TEST

/*
 * Without a MANIFEST, and with a compaction's inputs still in the directory beside its outputs: what the compaction dropped does not come
 * back, although the deletion that dropped it is in no file any more.
 */
START_TEST(inputs_beside_outputs)
{
	struct stored before = {0};
	unsigned of;

	test_in_memory();
	world_init(&w, IO_BACKEND_POSIX);
	writes = 0;
	memset(now, 0, sizeof(now));
	world_open(&w);
	for (unsigned k = 0; k < KEYS; k++)
		write_one(k, false);
	world_flush(&w);
	stored_take(&before, w.dir);
	for (unsigned k = 1; k + 1 < KEYS; k += 3)
		write_one(k, true);
	world_flush(&w);
	world_compact(&w, NULL, NULL);
	world_close(&w);
	for (size_t i = 0; i < before.count; i++)
		if (strstr(before.at[i].name, ".ldb"))
			overwrite(w.dir, before.at[i].name, before.at[i].bytes, before.at[i].size);
	ck_ok(unlink(in_dir(w.dir, nth_file(w.dir, "MANIFEST", 0))));
	ck_assert_uint_eq(repair_and_check(now, &of), of);
	stored_free(&before);
	world_fini(&w);
}
END_TEST

/* No MANIFEST, and tables are damaged or gone: what is known to be lost brings nothing back. */
START_TEST(damaged_without_a_manifest)
{
	uint64_t seed = test_seed();
	unsigned of;

	for (unsigned round = 0; round < 8; round++) {
		const char *name;

		begin(test_random(&seed), 10);
		name = nth_file(w.dir, ".ldb", (unsigned)(test_random(&seed) % 6));
		ck_ok(unlink(in_dir(w.dir, nth_file(w.dir, "MANIFEST", 0))));
		flip_in(w.dir, name, test_random(&seed) % stored_find(&good, name)->size, 5);
		repair_and_check(now, &of);
		ck_assert(!result.levels_known);
		end();
	}
}
END_TEST

/* A damaged record of the log: the state is exactly the one before it. A log that is gone: that of the tables. */
START_TEST(damaged_log)
{
	unsigned state[KEYS], of, there;
	const char *name;
	struct stored_file *f;

	begin(31, 10);
	name = nth_file(w.dir, ".log", 0);
	f = stored_find(&good, name);
	for (size_t at = 100; at + 400 < f->size; at += 499) {
		unsigned count;

		stored_put(&good, w.dir);
		flip_in(w.dir, name, at, 3);
		repair();
		ck_assert_uint_gt(result.log_bytes, 0);
		must_be_clean();
		ck_assert_uint_gt(stock_count(), 0);
		count = (unsigned)result.last_sequence;
		ck_assert_uint_ge(count, flushed_writes);
		ck_assert_uint_lt(count, writes);
		state_after(count, state);
		there = same_or_gone(state, &of);
		ck_assert_uint_eq(there, of);
	}
	stored_put(&good, w.dir);
	ck_ok(unlink(in_dir(w.dir, name)));
	state_after(flushed_writes, state);
	ck_assert_uint_eq(repair_and_check(state, &of), of);
	end();
}
END_TEST

/* Level 0 in the wrong order, as after another repairer: sequence numbers win. */
START_TEST(wrong_order)
{
	char *error = NULL;
	leveldb_options_t *o = leveldb_options_create();
	unsigned state[KEYS], of;

	begin(41, 10);
	leveldb_repair_db(o, w.dir, &error);
	stock_must(error, "repairing with stock");
	leveldb_options_destroy(o);
	/* Stock's repair itself loses the order; where no deletion was in a file of its own, what is newest is still newest by sequence. */
	state_after(writes, state);
	repair();
	must_be_clean();
	same_or_gone(state, &of);
	end();
}
END_TEST

/* --keep-older: more is kept, and told. --dry-run: nothing changes. */
START_TEST(switches)
{
	struct stored before = {0}, after = {0};
	unsigned of, strict;

	begin(51, 0);
	unlink(in_dir(w.dir, nth_file(w.dir, ".ldb", 3)));
	stored_take(&before, w.dir);
	ck_ok(try_repair(true, false));
	ck_assert(!result.nothing);
	ck_assert_uint_gt(m.losses, 0);
	stored_take(&after, w.dir);
	ck_assert_uint_eq(before.count, after.count);
	for (size_t i = 0; i < before.count; i++) {
		ck_assert_str_eq(before.at[i].name, after.at[i].name);
		ck_assert_uint_eq(before.at[i].size, after.at[i].size);
		ck_assert_mem_eq(before.at[i].bytes, after.at[i].bytes, before.at[i].size);
	}
	strict = repair_and_check(now, &of);
	stored_put(&before, w.dir);
	ck_ok(try_repair(false, true));
	must_be_clean();
	ck_assert_uint_ge(stock_count(), strict);
	ck_assert_uint_eq(result.withheld, 0);
	stored_free(&before);
	stored_free(&after);
	end();
}
END_TEST

static void damage_for_kills(unsigned kind)
{
	stored_put(&good, w.dir);
	flip_in(w.dir, nth_file(w.dir, ".ldb", 1), 300, 1);
	flip_in(w.dir, nth_file(w.dir, ".ldb", 4), 200, 1);
	if (kind)
		flip_in(w.dir, nth_file(w.dir, "MANIFEST", 0), 33, 1);
	flip_in(w.dir, nth_file(w.dir, ".log", 0), 900, 2);
}

/* A child that repairs, and dies at its @at-th change of the disk. True: it was done before that. */
static bool repair_until(long at)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct faulty_env f;
		struct mending mend = {.options = {.keep = keep}, .dir = w.dir, .faulty = &f};
		struct repair_result r;
		struct exam x = {0};

		faulty_env_init(&f, w.dir);
		f.dies = true;
		f.countdown = at;
		x.env = &f.base;
		if (io_queue_new(&f.base, 8, &x.q) < 0)
			_exit(1);
		_exit(repair_database(&x, &mend.options, &r, NULL) == 0 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULTY_EXIT),
		      "status %#x", status);
	return WEXITSTATUS(status) == 0;
}

/* Killed at each of its changes in turn, then run again: the same answers as when it was not killed, and every original still somewhere. */
START_TEST(killed_at_every_step)
{
	unsigned state[KEYS], of, whole, kills = 0;

	begin(61, 10);
	for (unsigned kind = 0; kind < 2; kind++) {
		damage_for_kills(kind);
		repair();
		state_after((unsigned)result.last_sequence, state);
		must_be_clean();
		whole = same_or_gone(state, &of);
		for (long at = 0;; at++) {
			struct stored originals = {0}, there = {0}, in_lost = {0};
			char lost_dir[1024];
			unsigned again;

			snprintf(lost_dir, sizeof(lost_dir), "%s/lost", w.dir);
			damage_for_kills(kind);
			stored_take(&originals, w.dir);
			if (repair_until(at)) {
				stored_free(&originals);
				break;
			}
			kills++;
			repair();
			stored_take(&there, w.dir);
			stored_take(&in_lost, lost_dir);
			for (size_t i = 0; i < originals.count; i++) {
				struct stored_file *f = &originals.at[i], *kept = stored_find(&there, f->name);
				bool same = kept && kept->size == f->size && !memcmp(kept->bytes, f->bytes, f->size);

				for (size_t k = 0; k < in_lost.count && !same; k++)
					same = in_lost.at[k].size == f->size &&
					       !memcmp(in_lost.at[k].bytes, f->bytes, f->size);
				ck_assert_msg(same, "killed at %ld: %s is nowhere", at, f->name);
			}
			must_be_clean();
			again = same_or_gone(state, &of);
			ck_assert_msg(again == whole, "killed at %ld: %u keys instead of %u", at, again, whole);
			stored_free(&originals);
			stored_free(&there);
			stored_free(&in_lost);
		}
	}
	printf("repair: killed at %u steps, each run again to the same end\n", kills);
	ck_assert_uint_gt(kills, 20);
	end();
}
END_TEST

TEST_MAIN("repair", 120, nothing_to_do, damaged_tables, filter_makes_holes_small, without_a_manifest,
	  inputs_beside_outputs, damaged_without_a_manifest, damaged_log, wrong_order, switches, killed_at_every_step)
