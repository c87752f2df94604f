/*
 * verify.c - is everything there? Asked of shaled, key by key, and then of stock LevelDB, which reads the directory
 * from end to end.
 *
 * A value is compared with its file. A file that changed since it was written cannot serve; then length and hash, which
 * the journal holds, must do, and it is counted.
 */
#include <errno.h>
#include <leveldb/c.h>
#include <stdlib.h>

#include "tools/demo/demo.h"

/* True when @value is what was written for @f. */
static bool value_right(const struct plan *p, const struct file *f, struct slice value, struct verdict *v)
{
	uint32_t len = atomic_load_explicit(&f->value_len, memory_order_relaxed);
	uint64_t hash = atomic_load_explicit(&f->value_hash, memory_order_relaxed);
	unsigned char head[HEAD_BYTES];
	long n = file_read_head((const char *)file_path(p, f).data, head);

	if (n >= 0 && slice_equal(slice_of(head, (size_t)n), value))
		return true;
	if (n >= 0 && (size_t)n == len && hash_bytes(slice_of(head, len)) == hash)
		return false; /* the file is as it was: the value is not */
	v->changed++;
	return value.size == len && hash_bytes(value) == hash;
}

/* Counts and says the first few mismatches. */
static void mismatch(struct verdict *v, const char *reader, const char *what, struct slice key)
{
	if (v->mismatches++ < 5)
		note("%s: %s: %.*s", reader, what, (int)key.size, (const char *)key.data);
}

int verify_shale(const struct plan *p, struct verdict *out)
{
	unsigned char value[HEAD_BYTES];
	struct verdict v = {0};
	struct shale_db *db;
	size_t len;
	int rc = shale_open(p->socket, NULL, &db);

	for (uint32_t i = 0; i < p->nfiles && rc >= 0; i++) {
		const struct file *f = &p->files[i];
		struct slice path = file_path(p, f);

		if (file_state(f) != FILE_ACKNOWLEDGED)
			continue;
		rc = shale_get(db, NULL, path.data, path.size, value, sizeof(value), &len);
		if (rc < 0)
			break;
		v.compared++;
		if (rc == SHALE_NOTFOUND)
			mismatch(&v, "shaled", "acknowledged, and gone", path);
		else if (len > sizeof(value) || !value_right(p, f, slice_of(value, len), &v))
			mismatch(&v, "shaled", "another value", path);
	}
	if (rc < 0) {
		const char *story = shale_last_error(db);

		note("reading back: %s", *story ? story : shale_strerror(rc));
		v.mismatches++;
	}
	shale_close(db);
	*out = v;
	return rc < 0 ? rc : 0;
}

/* Walks stock's iterator beside the sorted files. */
static void walk_stock(const struct plan *p, leveldb_iterator_t *it, struct verdict *v)
{
	uint32_t i = 0;

	for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it)) {
		struct slice key, value;
		int order = 1;

		key.data = (const unsigned char *)leveldb_iter_key(it, &key.size);
		value.data = (const unsigned char *)leveldb_iter_value(it, &value.size);
		for (; i < p->nfiles; i++) {
			order = slice_compare(file_path(p, &p->files[i]), key);
			if (order >= 0)
				break;
			if (file_state(&p->files[i]) == FILE_ACKNOWLEDGED)
				mismatch(v, "stock LevelDB", "acknowledged, and gone", file_path(p, &p->files[i]));
		}
		if (order != 0) {
			mismatch(v, "stock LevelDB", "a key that nobody wrote", key);
			continue;
		}
		v->compared++;
		if (!value_right(p, &p->files[i], value, v))
			mismatch(v, "stock LevelDB", "another value", key);
		i++;
	}
	for (; i < p->nfiles; i++)
		if (file_state(&p->files[i]) == FILE_ACKNOWLEDGED)
			mismatch(v, "stock LevelDB", "acknowledged, and gone", file_path(p, &p->files[i]));
}

int verify_stock(const struct plan *p, const char *database, struct verdict *out)
{
	leveldb_options_t *options = leveldb_options_create();
	leveldb_readoptions_t *read = leveldb_readoptions_create();
	struct verdict v = {0};
	char *error = NULL;
	leveldb_t *db;

	leveldb_options_set_create_if_missing(options, 0);
	leveldb_options_set_paranoid_checks(options, 1);
	leveldb_readoptions_set_verify_checksums(read, 1);
	leveldb_readoptions_set_fill_cache(read, 0);
	db = leveldb_open(options, database, &error);
	if (db) {
		leveldb_iterator_t *it = leveldb_create_iterator(db, read);

		walk_stock(p, it, &v);
		leveldb_iter_get_error(it, &error);
		leveldb_iter_destroy(it);
		leveldb_close(db);
	}
	if (error) {
		note("stock LevelDB: %s", error);
		v.mismatches++;
	}
	leveldb_readoptions_destroy(read);
	leveldb_options_destroy(options);
	*out = v;
	if (error) {
		leveldb_free(error);
		return -EIO;
	}
	return 0;
}
