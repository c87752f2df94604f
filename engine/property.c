/*
 * property.c - what stock LevelDB answers in text, byte for byte in its layout, because tools and bindings parse it; and approximate sizes.
 * Source: LevelDB 1.23, db/db_impl.cc and db/version_set.cc.
 */
#include "engine/engine_internal.h"

#include <stdio.h>
#include <stdlib.h>

static const char PREFIX[] = "leveldb.";
static const char FILES_AT_LEVEL[] = "num-files-at-level";

static void print_stats(FILE *f, struct engine *e)
{
	const struct version *v = e->versions.current;

	fputs("                               Compactions\n"
	      "Level  Files Size(MB) Time(sec) Read(MB) Write(MB)\n"
	      "--------------------------------------------------\n",
	      f);
	for (unsigned level = 0; level < LEVELS; level++) {
		const struct engine_level_stats *s = &e->stats.level[level];

		if (!s->micros && !v->count[level])
			continue;
		fprintf(f, "%3u %8zu %8.0f %9.0f %8.0f %9.0f\n", level, v->count[level],
			(double)v->bytes[level] / 1048576.0, (double)s->micros / 1e6, (double)s->bytes_read / 1048576.0,
			(double)s->bytes_written / 1048576.0);
	}
}

static void print_key(FILE *f, const struct key_buf *key)
{
	struct slice ikey = key_buf_slice(key), user = ikey_user(ikey);

	fputc('\'', f);
	for (size_t i = 0; i < user.size; i++) {
		if (user.data[i] >= ' ' && user.data[i] <= '~')
			fputc(user.data[i], f);
		else
			fprintf(f, "\\x%02x", user.data[i]);
	}
	fprintf(f, "' @ %llu : %u", (unsigned long long)ikey_sequence(ikey), ikey_kind(ikey));
}

static int by_smallest(const void *a, const void *b)
{
	const struct file_meta *x = *(struct file_meta *const *)a, *y = *(struct file_meta *const *)b;
	int order = ikey_compare(key_buf_slice(&x->smallest), key_buf_slice(&y->smallest));

	return order ? order : x->number < y->number ? -1 : x->number > y->number;
}

static void print_table(FILE *f, const struct file_meta *m)
{
	fprintf(f, " %llu:%llu[", (unsigned long long)m->number, (unsigned long long)m->size);
	print_key(f, &m->smallest);
	fputs(" .. ", f);
	print_key(f, &m->largest);
	fputs("]\n", f);
}

/* LevelDB lists level 0, too, by smallest key; ours is newest first. */
static int print_sstables(FILE *f, struct engine *e)
{
	const struct version *v = e->versions.current;
	struct file_meta **level0 = malloc((v->count[0] + 1) * sizeof(struct file_meta *));

	if (!level0)
		return -ENOMEM;
	if (v->count[0])
		memcpy(level0, v->files[0], v->count[0] * sizeof(struct file_meta *));
	qsort(level0, v->count[0], sizeof(struct file_meta *), by_smallest);
	for (unsigned level = 0; level < LEVELS; level++) {
		fprintf(f, "--- level %u ---\n", level);
		for (size_t i = 0; i < v->count[level]; i++)
			print_table(f, level ? v->files[level][i] : level0[i]);
	}
	free(level0);
	return 0;
}

static void print_memory(FILE *f, struct engine *e)
{
	struct block_cache_stats cache;
	uint64_t bytes = memtable_used(e->mem);

	for (unsigned i = 0; i < e->immutable_count; i++)
		bytes += memtable_used(e->immutables[i].mem);
	block_cache_stats(e->shared.blocks, &cache);
	fprintf(f, "%llu", (unsigned long long)(bytes + cache.bytes));
}

/* A level in decimal digits, as in "num-files-at-level2". */
static bool parse_level(struct slice digits, unsigned *level_out)
{
	unsigned level = 0;

	if (!digits.size)
		return false;
	for (size_t i = 0; i < digits.size; i++) {
		if (digits.data[i] < '0' || digits.data[i] > '9' || level >= LEVELS)
			return false;
		level = level * 10 + (digits.data[i] - '0');
	}
	*level_out = level;
	return level < LEVELS;
}

static bool strip(struct slice *name, const char *prefix)
{
	size_t n = strlen(prefix);

	if (name->size < n || memcmp(name->data, prefix, n))
		return false;
	*name = slice_of(name->data + n, name->size - n);
	return true;
}

static int print_property(FILE *f, struct engine *e, struct slice name)
{
	unsigned level;

	if (!strip(&name, PREFIX))
		return SHALE_NOTFOUND;
	if (strip(&name, FILES_AT_LEVEL)) {
		if (!parse_level(name, &level))
			return SHALE_NOTFOUND;
		fprintf(f, "%zu", e->versions.current->count[level]);
	} else if (slice_equal(name, slice_str("stats"))) {
		print_stats(f, e);
	} else if (slice_equal(name, slice_str("sstables"))) {
		return print_sstables(f, e);
	} else if (slice_equal(name, slice_str("approximate-memory-usage"))) {
		print_memory(f, e);
	} else {
		return SHALE_NOTFOUND;
	}
	return 0;
}

int engine_property(struct engine *e, struct slice name, char **text_out)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	int rc;

	if (!f)
		return -ENOMEM;
	pthread_mutex_lock(&e->lock);
	rc = print_property(f, e, name);
	pthread_mutex_unlock(&e->lock);
	if (fclose(f) != 0 && rc == 0)
		rc = -ENOMEM;
	if (rc) {
		free(text);
		return rc;
	}
	*text_out = text;
	return 0;
}

static uint64_t offset_of(struct engine *e, const struct version *v, struct slice user)
{
	struct key_buf ikey = {0};
	uint64_t offset = 0;

	if (key_buf_set_internal(&ikey, user, SEQUENCE_MAX, IKEY_SEEK) == 0)
		offset = version_offset_of(v, key_buf_slice(&ikey), e->shared.tables);
	key_buf_fini(&ikey);
	return offset;
}

uint64_t engine_approximate_size(struct engine *e, struct slice start, struct slice limit)
{
	struct view *v = engine_view(e);
	uint64_t from = offset_of(e, v->version, start), to = offset_of(e, v->version, limit);

	view_unref(v);
	return to > from ? to - from : 0;
}
