#include "tests/engine/tables.h"

#include <dirent.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/filename.h"

/* ---- places ---- */

void place_open(struct place *p, enum io_backend backend)
{
	struct err_info err = {0};
	int rc = io_env_open(p->dir, backend, false, &p->env, &err);

	ck_assert_msg(rc == 0, "%s: %s", p->dir, err.text);
	ck_ok(io_queue_new(p->env, 64, &p->q));
}

void place_make(struct place *p, enum io_backend backend)
{
	p->dir = test_tmpdir();
	place_open(p, backend);
}

void place_drop(struct place *p)
{
	io_queue_free(p->q);
	io_env_close(p->env);
	test_rmtree(p->dir);
	free(p->dir);
}

/* ---- entries ---- */

static struct slice copy(struct slice s)
{
	unsigned char *p = malloc(s.size + 1);

	ck_assert_ptr_nonnull(p);
	if (s.size)
		memcpy(p, s.data, s.size);
	return slice_of(p, s.size);
}

void entries_add(struct entry_list *l, struct slice ikey, struct slice value)
{
	if (l->count == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		l->at = realloc(l->at, l->cap * sizeof(*l->at));
		ck_assert_ptr_nonnull(l->at);
	}
	l->at[l->count++] = (struct test_entry){copy(ikey), copy(value)};
}

void entries_add_user(struct entry_list *l, const char *key, uint64_t sequence, unsigned type, struct slice value)
{
	unsigned char buf[512];

	ck_assert_uint_lt(strlen(key) + IKEY_TRAILER, sizeof(buf));
	entries_add(l, ikey_make(buf, slice_str(key), sequence, type), value);
}

static int compare(const void *a, const void *b)
{
	return ikey_compare(((const struct test_entry *)a)->key, ((const struct test_entry *)b)->key);
}

void entries_sort(struct entry_list *l)
{
	if (l->count)
		qsort(l->at, l->count, sizeof(*l->at), compare);
}

void entries_free(struct entry_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free((void *)l->at[i].key.data);
		free((void *)l->at[i].value.data);
	}
	free(l->at);
	*l = (struct entry_list){0};
}

void entries_random(struct entry_list *l, uint64_t *seed, size_t count, size_t max_value)
{
	unsigned char *value = malloc(max_value + 1);
	char key[320];

	for (size_t i = 0; i < count; i++) {
		size_t size = max_value ? test_random(seed) % (max_value + 1) : 0, n;
		bool dense = test_random(seed) & 1, erase = test_random(seed) % 8 == 0;

		n = (size_t)snprintf(key, sizeof(key), "key/%llu/%llu", (unsigned long long)(test_random(seed) % 16),
				     (unsigned long long)(test_random(seed) % (count + 1)));
		if (test_random(seed) % 16 == 0) { /* longer than an iterator's inline room */
			memset(key + n, 'x', 200);
			key[n + 200] = 0;
		}
		for (size_t j = 0; j < size; j++)
			value[j] = dense ? (unsigned char)test_random(seed) : (unsigned char)('a' + j % 7);
		entries_add_user(l, key, i + 1, erase ? IKEY_DELETION : IKEY_VALUE, slice_of(value, erase ? 0 : size));
	}
	free(value);
	entries_sort(l);
}

/* ---- our tables ---- */

uint64_t table_make(struct place *p, uint64_t number, const struct table_options *o, const struct entry_list *l)
{
	char name[FILE_NAME_MAX];
	struct table_builder *b;
	struct io_file *f;
	uint64_t size;

	ck_ok(io_open(p->env, file_name(name, FILE_TABLE, number), IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	ck_ok(table_builder_new(p->q, f, o, &b));
	for (size_t i = 0; i < l->count; i++)
		ck_ok(table_builder_add(b, l->at[i].key, l->at[i].value));
	ck_ok(table_builder_finish(b));
	ck_assert_uint_eq(table_builder_entries(b), l->count);
	size = table_builder_size(b);
	table_builder_free(b);
	io_close(f);
	return size;
}

static void same_entry(const struct iter *it, const struct test_entry *e, size_t i)
{
	ck_assert_msg(it->valid, "entry %zu is not there (status %d)", i, it->status);
	ck_assert_msg(slice_equal(it->key, e->key), "key %zu differs", i);
	ck_assert_msg(slice_equal(it->value, e->value), "value %zu differs", i);
}

void same_entries(struct iter *it, const struct entry_list *l)
{
	size_t i = 0;

	for (iter_seek_first(it); it->valid; iter_next(it), i++) {
		ck_assert_uint_lt(i, l->count);
		same_entry(it, &l->at[i], i);
	}
	ck_assert_int_eq(it->status, 0);
	ck_assert_uint_eq(i, l->count);
	for (iter_seek_last(it); it->valid; iter_prev(it)) {
		ck_assert_uint_gt(i, 0);
		i--;
		same_entry(it, &l->at[i], i);
	}
	ck_assert_int_eq(it->status, 0);
	ck_assert_uint_eq(i, 0);
}

/* ---- stock LevelDB ---- */

static void no_error(char *error)
{
	ck_assert_msg(!error, "stock LevelDB: %s", error);
}

void stock_make(const char *path, const struct stock_options *o, const struct entry_list *l, size_t batch)
{
	leveldb_filterpolicy_t *bloom = o->bloom_bits ? leveldb_filterpolicy_create_bloom(o->bloom_bits) : NULL;
	leveldb_options_t *options = leveldb_options_create();
	leveldb_writeoptions_t *write = leveldb_writeoptions_create();
	leveldb_writebatch_t *b = leveldb_writebatch_create();
	char *error = NULL;
	leveldb_t *db;

	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_compression(options, o->snappy ? leveldb_snappy_compression : leveldb_no_compression);
	if (bloom)
		leveldb_options_set_filter_policy(options, bloom);
	if (o->block_bytes)
		leveldb_options_set_block_size(options, o->block_bytes);
	if (o->write_buffer)
		leveldb_options_set_write_buffer_size(options, o->write_buffer);
	if (o->restart_interval)
		leveldb_options_set_block_restart_interval(options, o->restart_interval);
	db = leveldb_open(options, path, &error);
	no_error(error);
	for (size_t i = 0; i < l->count; i++) {
		struct slice user = ikey_user(l->at[i].key), value = l->at[i].value;

		if (ikey_kind(l->at[i].key) == IKEY_VALUE)
			leveldb_writebatch_put(b, (const char *)user.data, user.size, (const char *)value.data,
					       value.size);
		else
			leveldb_writebatch_delete(b, (const char *)user.data, user.size);
		if (i % batch == batch - 1 || i == l->count - 1) {
			leveldb_write(db, write, b, &error);
			no_error(error);
			leveldb_writebatch_clear(b);
		}
	}
	leveldb_close(db);
	db = leveldb_open(options, path, &error); /* recovery turns what is left in the log into a table */
	no_error(error);
	leveldb_close(db);
	leveldb_writebatch_destroy(b);
	leveldb_writeoptions_destroy(write);
	leveldb_options_destroy(options);
	if (bloom)
		leveldb_filterpolicy_destroy(bloom);
}

/* ---- files ---- */

static void path_of(const struct place *p, uint64_t number, char *out, size_t size)
{
	char name[FILE_NAME_MAX];

	snprintf(out, size, "%s/%s", p->dir, file_name(name, FILE_TABLE, number));
}

size_t place_tables(struct place *p, struct table_file *out, size_t max)
{
	DIR *d = opendir(p->dir);
	struct dirent *e;
	size_t n = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)) != NULL) {
		char path[512];
		enum file_type type;
		uint64_t number;
		struct stat st;

		if (!file_parse(e->d_name, &type, &number) || type != FILE_TABLE)
			continue;
		ck_assert_uint_lt(n, max);
		path_of(p, number, path, sizeof(path));
		ck_assert_int_eq(stat(path, &st), 0);
		out[n++] = (struct table_file){number, (uint64_t)st.st_size};
	}
	closedir(d);
	return n;
}

unsigned char *file_bytes(const struct place *p, uint64_t number, size_t *size_out)
{
	unsigned char *bytes;
	char path[512];
	long size;
	FILE *f;

	path_of(p, number, path, sizeof(path));
	f = fopen(path, "rb");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
	size = ftell(f);
	rewind(f);
	bytes = malloc((size_t)size + 1);
	ck_assert_uint_eq(fread(bytes, 1, (size_t)size, f), (size_t)size);
	fclose(f);
	*size_out = (size_t)size;
	return bytes;
}

/* Overwrites in place: a file emptied and rewritten is flushed at close by ext4, and the tests do this thousands of times. */
void file_write(const struct place *p, uint64_t number, const void *bytes, size_t size)
{
	char path[512];
	int fd;

	path_of(p, number, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, size, 0), (ssize_t)size);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* ---- the odd queue ---- */

/* A request that is to fail goes through the real queue as one that does nothing, and gets its result on the way back. */
struct doomed {
	struct io_req req;
	struct io_req *asked;
	int64_t result;
};

static void doomed_done(struct io_req *req)
{
	struct doomed *d = container_of(req, struct doomed, req);
	struct io_req *asked = d->asked;

	asked->result = d->result;
	free(d);
	asked->done(asked);
}

static void odd_submit(struct io_queue *q, struct io_req *req)
{
	struct odd_queue *o = container_of(q, struct odd_queue, base);
	struct doomed *d;

	o->ops[req->op]++;
	if (!o->fail_at || req->op != o->fail_op || o->ops[req->op] < o->fail_at) {
		io_submit(o->real, req);
		return;
	}
	d = malloc(sizeof(*d));
	*d = (struct doomed){.req = {.op = IO_NOP, .done = doomed_done}, .asked = req, .result = o->fail_with};
	io_submit(o->real, &d->req);
}

static int odd_flush(struct io_queue *q)
{
	return io_queue_flush(container_of(q, struct odd_queue, base)->real);
}

static int odd_poll(struct io_queue *q)
{
	return io_queue_poll(container_of(q, struct odd_queue, base)->real);
}

static int odd_wait(struct io_queue *q, uint64_t timeout_ns)
{
	return io_queue_wait(container_of(q, struct odd_queue, base)->real, timeout_ns);
}

static void odd_free(struct io_queue *q)
{
	(void)q;
}

struct io_queue *odd_queue_init(struct odd_queue *o, struct io_queue *real)
{
	static const struct io_queue_ops ops = {
		.submit = odd_submit, .flush = odd_flush, .poll = odd_poll, .wait = odd_wait, .free = odd_free};

	*o = (struct odd_queue){.base = {.ops = &ops, .env = real->env}, .real = real};
	return &o->base;
}
