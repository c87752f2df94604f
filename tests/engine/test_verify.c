/* verify.c and what it stands on: a sound database has no findings; every changed byte is one, and names its file. */
#include "engine/verify.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/engine/offline.h"

static struct world w;
static struct stored good;
static struct looked l;
static struct verify_result result;

static struct slice key_of(unsigned i)
{
	static char text[4][32];
	static unsigned at;
	char *t = text[at++ % 4];

	snprintf(t, 32, "key-%05u", i);
	return slice_str(t);
}

static void put_some(unsigned first, unsigned count, uint64_t *seed)
{
	unsigned char value[200];

	for (unsigned i = first; i < first + count; i++) {
		for (size_t k = 0; k < sizeof(value); k++)
			value[k] = i & 1 ? (unsigned char)test_random(seed) : (unsigned char)i;
		if (i % 7 == 3)
			world_delete(&w, key_of(i));
		else
			world_put(&w, key_of(i), slice_of(value, test_random(seed) % sizeof(value)));
	}
}

/* Tables in levels 0 to 2, and a log. */
static void begin(void)
{
	uint64_t seed = 7;

	test_in_memory();
	world_init(&w, IO_BACKEND_POSIX);
	w.options.table.block_bytes = 512;
	world_open(&w);
	put_some(0, 120, &seed);
	world_flush(&w);
	world_compact(&w, NULL, NULL);
	put_some(30, 40, &seed);
	world_flush(&w);
	put_some(10, 30, &seed);
	world_flush(&w);
	put_some(60, 10, &seed);
	world_close(&w);
	stored_take(&good, w.dir);
}

static void end(void)
{
	stored_free(&good);
	world_fini(&w);
}

static int verify(void)
{
	struct err_info err = {0};
	int rc;

	looked_open(&l, w.dir);
	rc = verify_database(&l.exam, &result, &err);
	ck_assert_msg(rc == 0 || *err.text, "no words");
	looked_close(&l);
	return rc;
}

/* Nothing is found in what the engine wrote, or stock rewrote; and everything was looked at. */
START_TEST(sound_database)
{
	begin();
	ck_ok(verify());
	ck_assert_msg(!l.exam.problems && !l.exam.notes, "%s", l.text);
	ck_assert_uint_ge(result.tables, 3);
	ck_assert_uint_eq(result.logs, 1);
	ck_assert_uint_eq(result.records, 10);
	ck_assert_uint_eq(result.last_sequence, 200);
	ck_assert(result.order_checked);
	end();
}
END_TEST

/* Any byte of any file, changed by one bit, is a finding that names the file (of CURRENT: or the MANIFEST that it then names). */
START_TEST(every_byte_counts)
{
	unsigned tried = 0;

	begin();
	for (size_t i = 0; i < good.count; i++) {
		struct stored_file *f = &good.at[i];

		for (size_t at = i % 3; at < f->size; at += 3) {
			flip_in(w.dir, f->name, at, (unsigned)(at * 5 + i) % 8);
			ck_ok(verify());
			ck_assert_msg(strstr(l.text, f->name) ||
					      (!strcmp(f->name, "CURRENT") && strstr(l.text, "MANIFEST")),
				      "%s, offset %zu: nothing found\n%s", f->name, at, l.text);
			overwrite(w.dir, f->name, f->bytes, f->size);
			tried++;
		}
	}
	printf("verify: flips tried=%u undetected=0\n", tried);
	end();
}
END_TEST

/* A damaged block: the keys around it are told, and the blocks beside it still count. */
START_TEST(ranges_of_keys)
{
	uint64_t entries;

	begin();
	ck_ok(verify());
	entries = result.entries;
	flip_in(w.dir, nth_file(w.dir, ".ldb", 0), 700, 3);
	ck_ok(verify());
	ck_assert_uint_eq(l.exam.problems, 1);
	ck_assert_msg(strstr(l.text, "problem checksum"), "%s", l.text);
	ck_assert_uint_lt(result.entries, entries);
	ck_assert_uint_gt(result.entries, entries - 40);
	end();
}
END_TEST

/* A table that was cut, one that is gone, one too many, a log that is gone: each by its kind. */
START_TEST(files_of_the_wrong_kind)
{
	struct stored_file *f;
	const char *name;

	begin();
	name = nth_file(w.dir, ".ldb", 0);
	f = stored_find(&good, name);
	overwrite(w.dir, name, f->bytes, f->size / 2);
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem size") && strstr(l.text, "problem footer"), "%s", l.text);
	ck_assert_uint_gt(result.entries, 0); /* by their checksums alone */

	stored_put(&good, w.dir);
	ck_ok(unlink(in_dir(w.dir, name)));
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem missing") && strstr(l.text, name), "%s", l.text);

	stored_put(&good, w.dir);
	overwrite(w.dir, "009999.ldb", f->bytes, f->size);
	ck_ok(verify());
	ck_assert_uint_eq(l.exam.problems, 0);
	ck_assert_msg(strstr(l.text, "note stray 009999.ldb"), "%s", l.text);

	stored_put(&good, w.dir);
	ck_ok(unlink(in_dir(w.dir, nth_file(w.dir, ".log", 0))));
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem missing"), "%s", l.text);
	end();
}
END_TEST

/* Without CURRENT or MANIFEST tables and logs are still looked at; an empty directory holds no database. */
START_TEST(without_a_manifest)
{
	begin();
	ck_ok(unlink(in_dir(w.dir, "CURRENT")));
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem missing CURRENT"), "%s", l.text);
	ck_assert_uint_ge(result.tables, 3);
	ck_assert_uint_eq(result.records, 10);
	ck_assert(!result.order_checked);
	stored_put(&good, w.dir);
	flip_in(w.dir, nth_file(w.dir, "MANIFEST", 0), 20, 1);
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem manifest MANIFEST-"), "%s", l.text);
	ck_assert_uint_ge(result.tables, 3);
	stored_free(&good);
	stored_put(&good, w.dir);
	ck_assert_int_eq(verify(), -SHALE_ENODATABASE);
	end();
}
END_TEST

/* An older version above a newer one: the engine would never notice, and answer the older. */
START_TEST(order_over_levels)
{
	struct stored_file *low, *high;
	const char *a, *b;

	begin();
	/* The two level-0 tables change names, and so their order. */
	a = nth_file(w.dir, ".ldb", 1);
	b = nth_file(w.dir, ".ldb", 2);
	ck_ok(verify());
	low = stored_find(&good, a);
	high = stored_find(&good, b);
	overwrite(w.dir, a, high->bytes, high->size);
	overwrite(w.dir, b, low->bytes, low->size);
	ck_ok(verify());
	ck_assert_msg(l.exam.problems > 0, "%s", l.text);
	ck_assert_msg(strstr(l.text, "sequence") || strstr(l.text, "range"), "%s", l.text);
	end();
}
END_TEST

static int calls_left;

static int give_up(struct exam *x, const char *file, uint64_t bytes)
{
	(void)x;
	ck_assert_ptr_nonnull(file);
	(void)bytes;
	return calls_left-- > 0 ? 0 : -ECANCELED;
}

/* Ctrl-C: ends wherever it is, with that code, and leaks nothing (under ASan); the lock is free again. */
START_TEST(ends_when_asked)
{
	struct err_info err;
	int rc = -ECANCELED;

	begin();
	for (int at = 0; rc == -ECANCELED; at++) {
		looked_open(&l, w.dir);
		l.exam.progress = give_up;
		calls_left = at;
		err = (struct err_info){0};
		rc = verify_database(&l.exam, &result, &err);
		looked_close(&l);
		ck_assert(rc == 0 || (rc == -ECANCELED && *err.text));
		ck_assert_int_lt(at, 100000);
	}
	ck_ok(rc);
	ck_assert_uint_eq(l.exam.problems, 0);
	end();
}
END_TEST

/*
 * A table whose index is gone and of which megabytes are zeros, as some file systems leave it: looked at in time that grows with its bytes (each
 * zero may begin a block, so trying them one by one took minutes), and the blocks behind the zeros are found.
 */
START_TEST(megabytes_of_zeros)
{
	enum { ZEROS = 4 << 20, FRONT = 700 };
	struct stored_file *f;
	unsigned char *bytes;
	uint64_t whole;

	begin();
	ck_ok(verify());
	whole = result.entries;
	f = stored_find(&good, nth_file(w.dir, ".ldb", 0));
	bytes = calloc(1, f->size + ZEROS);
	memcpy(bytes, f->bytes, FRONT);
	memcpy(bytes + FRONT + ZEROS, f->bytes + FRONT, f->size - FRONT);
	overwrite(w.dir, f->name, bytes, f->size + ZEROS / 2); /* nothing behind them */
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem footer") && strstr(l.text, "problem checksum"), "%s", l.text);
	overwrite(w.dir, f->name, bytes, f->size + ZEROS - 48); /* all but the footer */
	ck_ok(verify());
	ck_assert_msg(strstr(l.text, "problem checksum"), "%s", l.text);
	ck_assert_uint_lt(result.entries, whole);
	ck_assert_uint_gt(result.entries, whole - 20); /* at most two blocks of 512 bytes are lost */
	free(bytes);
	end();
}
END_TEST

/* Random bytes where a file was: found, and nothing worse. */
START_TEST(garbage)
{
	uint64_t seed = test_seed();

	begin();
	for (unsigned round = 0; round < 60; round++) {
		struct stored_file *f = &good.at[test_random(&seed) % good.count];
		/* Never only cut: a log that ends with a whole record is a log. */
		size_t size = 32 + test_random(&seed) % (f->size + 200), from = test_random(&seed) % (size / 2);
		unsigned char *bytes = malloc(size + 1);

		if (!strcmp(f->name, "LOCK")) {
			free(bytes);
			continue;
		}
		for (size_t i = 0; i < size; i++)
			bytes[i] = i < from && i < f->size ? f->bytes[i] : (unsigned char)test_random(&seed);
		overwrite(w.dir, f->name, bytes, size);
		ck_ok(verify());
		ck_assert_msg(l.exam.problems || l.exam.notes, "%s: %zu bytes, garbage from %zu", f->name, size, from);
		overwrite(w.dir, f->name, f->bytes, f->size);
		free(bytes);
	}
	end();
}
END_TEST

TEST_MAIN("verify", 120, sound_database, every_byte_counts, ranges_of_keys, files_of_the_wrong_kind, without_a_manifest,
	  order_over_levels, ends_when_asked, megabytes_of_zeros, garbage)
