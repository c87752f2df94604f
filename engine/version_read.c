#include "engine/version.h"

#include <stdlib.h>

#include "engine/plant.h"
#include "shm/error.h"

/* ---- one key ---- */

/* A probe of a version on its way down, newest table first. */
struct probe {
	struct read_ctx *ctx;
	struct slice user, ikey;
	struct slice value;
	uint64_t sequence;		 /* of the entry found */
	bool missed;			 /* something is not in memory: from here on only note what else is missing */
	unsigned reads;			 /* tables in which a block was searched */
	struct file_meta *first_in_vain; /* the first of those */
};

enum { PROBE_ON = 3 }; /* this table says nothing about the key: look further down */

/* What the entry that was found means. Takes the reference in @pin. */
static int judge(struct probe *p, struct block *pin, uint64_t trailer, struct slice value)
{
	int rc;

	switch (trailer & 0xff) {
	case IKEY_DELETION:
		block_unref(pin);
		return SHALE_NOTFOUND;
	case IKEY_VALUE:
		rc = read_ctx_pin(p->ctx, pin);
		if (rc == 0) {
			p->value = value;
			p->sequence = trailer >> 8;
		}
		return rc;
	default:
		block_unref(pin);
		return -SHALE_ECORRUPT;
	}
}

/*
 * One table. 0, SHALE_NOTFOUND, PROBE_ON, or a failure. After a first miss the answer is unknown, and tables further down are
 * only asked for, so that those not open are opened in the same round; their blocks are not, because the one that
 * is missing most likely ends the search.
 */
static int probe_table(struct probe *p, struct file_meta *m)
{
	struct block_source *src = &p->ctx->source;
	struct slice value = {0};
	struct block *pin = NULL;
	struct table *t = NULL;
	uint64_t trailer = 0;
	bool read = false;
	int rc = src->table(src, m->number, m->size, &t);

	if (p->missed) {
		if (rc == 0)
			table_unref(t);
		return PROBE_ON;
	}
	if (rc == 0) {
		rc = table_get(t, src, p->ikey, &pin, &trailer, &value, &read);
		table_unref(t);
	}
	if (rc == READ_MISS) {
		p->missed = true;
		return PROBE_ON;
	}
	if (rc < 0)
		return rc;
	p->reads += read;
	if (rc == 0)
		return judge(p, pin, trailer, value);
	if (read && !p->first_in_vain)
		p->first_in_vain = m;
	return PROBE_ON;
}

static int probe_level0(struct probe *p, const struct version *v)
{
	int rc = PROBE_ON;

	for (size_t n = 0; n < v->count[0] && rc == PROBE_ON; n++) {
		size_t i = PLANT("level-0-order") ? v->count[0] - 1 - n : n;

		struct file_meta *m = v->files[0][i];

		if (slice_compare(p->user, ikey_user(key_buf_slice(&m->smallest))) >= 0 &&
		    slice_compare(p->user, ikey_user(key_buf_slice(&m->largest))) <= 0)
			rc = probe_table(p, m);
	}
	return rc;
}

static int probe_version(struct probe *p, const struct version *v)
{
	int rc = probe_level0(p, v);

	for (unsigned level = 1; level < LEVELS && rc == PROBE_ON; level++) {
		size_t i = v->count[level] ? version_find_file(v, level, p->ikey) : 0;

		if (i < v->count[level] &&
		    slice_compare(p->user, ikey_user(key_buf_slice(&v->files[level][i]->smallest))) >= 0)
			rc = probe_table(p, v->files[level][i]);
	}
	if (rc != PROBE_ON)
		return rc;
	return p->missed ? READ_MISS : SHALE_NOTFOUND;
}

int version_get(const struct version *v, struct read_ctx *ctx, struct slice user_key, uint64_t sequence,
		struct slice *value_out, uint64_t *entry_out, struct file_meta **charge_out)
{
	unsigned char space[256], *buffer = space;
	struct probe p = {.ctx = ctx, .user = user_key};
	int rc;

	if (user_key.size > sizeof(space) - IKEY_TRAILER) {
		buffer = malloc(user_key.size + IKEY_TRAILER);
		if (!buffer)
			return -ENOMEM;
	}
	p.ikey = ikey_make(buffer, user_key, sequence, IKEY_SEEK);
	rc = probe_version(&p, v);
	if (buffer != space)
		free(buffer);
	if (rc == 0) {
		*value_out = p.value;
		if (entry_out)
			*entry_out = p.sequence;
	}
	if (charge_out && (rc == 0 || rc == SHALE_NOTFOUND))
		*charge_out = p.reads > 1 ? p.first_in_vain : NULL;
	return rc;
}

/* ---- one level ---- */

struct level_iter {
	struct iter base;
	struct file_meta *const *files;
	size_t count;
	size_t at; /* whose table is open, when one is */
	struct block_source *src;
	struct iter *data; /* of the open table; NULL: none */
};

static void close_table(struct level_iter *l)
{
	iter_free(l->data);
	l->data = NULL;
}

/* Opens the table of file @at (kept when it is open already). 0, or the status that ends the iteration. */
static int open_table(struct level_iter *l, size_t at)
{
	struct table *t = NULL;
	int rc;

	if (l->data && l->at == at)
		return 0;
	close_table(l);
	rc = l->src->table(l->src, l->files[at]->number, l->files[at]->size, &t);
	if (rc)
		return rc;
	rc = table_iter_new(t, l->src, &l->data);
	table_unref(t);
	l->at = at;
	return rc;
}

static void stop(struct level_iter *l, int status)
{
	l->base.valid = false;
	l->base.status = status;
}

/* Shows where the open table's iterator stands. False when it ran off its end, so that the neighbour is next. */
static bool publish(struct level_iter *l)
{
	if (l->data->valid) {
		l->base.valid = true;
		l->base.status = 0;
		l->base.key = l->data->key;
		l->base.value = l->data->value;
		return true;
	}
	stop(l, l->data->status);
	return l->data->status != 0;
}

/* From the first entry of file @at, or of the next one that has any. */
static void forward_from(struct level_iter *l, size_t at)
{
	int rc;

	for (; at < l->count; at++) {
		rc = open_table(l, at);
		if (rc) {
			stop(l, rc);
			return;
		}
		iter_seek_first(l->data);
		if (publish(l))
			return;
	}
	close_table(l);
	stop(l, 0);
}

/* From the last entry of the file before @end, or of the previous one that has any. */
static void backward_from(struct level_iter *l, size_t end)
{
	int rc;

	while (end-- > 0) {
		rc = open_table(l, end);
		if (rc) {
			stop(l, rc);
			return;
		}
		iter_seek_last(l->data);
		if (publish(l))
			return;
	}
	close_table(l);
	stop(l, 0);
}

static void level_seek_first(struct iter *it)
{
	forward_from(container_of(it, struct level_iter, base), 0);
}

static void level_seek_last(struct iter *it)
{
	struct level_iter *l = container_of(it, struct level_iter, base);

	backward_from(l, l->count);
}

static void level_seek(struct iter *it, struct slice ikey)
{
	struct level_iter *l = container_of(it, struct level_iter, base);
	size_t low = 0, high = l->count;
	int rc;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ikey_compare(key_buf_slice(&l->files[middle]->largest), ikey) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == l->count) {
		close_table(l);
		stop(l, 0);
		return;
	}
	rc = open_table(l, low);
	if (rc) {
		stop(l, rc);
		return;
	}
	iter_seek(l->data, ikey);
	if (!publish(l))
		forward_from(l, low + 1);
}

static void level_next(struct iter *it)
{
	struct level_iter *l = container_of(it, struct level_iter, base);

	assert(it->valid);
	iter_next(l->data);
	if (!publish(l))
		forward_from(l, l->at + 1);
}

static void level_prev(struct iter *it)
{
	struct level_iter *l = container_of(it, struct level_iter, base);

	assert(it->valid);
	iter_prev(l->data);
	if (!publish(l))
		backward_from(l, l->at);
}

static void level_free(struct iter *it)
{
	struct level_iter *l = container_of(it, struct level_iter, base);

	close_table(l);
	free(l);
}

static const struct iter_ops level_ops = {
	.seek_first = level_seek_first,
	.seek_last = level_seek_last,
	.seek = level_seek,
	.next = level_next,
	.prev = level_prev,
	.free = level_free,
};

int level_iter_new(struct file_meta *const *files, size_t count, struct block_source *src, struct iter **out)
{
	struct level_iter *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->base.ops = &level_ops;
	l->files = files;
	l->count = count;
	l->src = src;
	*out = &l->base;
	return 0;
}

int version_iters(struct version *v, struct block_source *src, struct iter **children, unsigned *count_io)
{
	unsigned first = *count_io, n = first;
	int rc = 0;

	/* A level-0 file is a run of one, so its table, too, is opened at the first move only. */
	for (size_t i = 0; i < v->count[0] && rc == 0; i++) {
		rc = level_iter_new(&v->files[0][i], 1, src, &children[n]);
		n += rc == 0;
	}
	for (unsigned level = 1; level < LEVELS && rc == 0; level++) {
		if (!v->count[level])
			continue;
		rc = level_iter_new(v->files[level], v->count[level], src, &children[n]);
		n += rc == 0;
	}
	if (rc < 0) {
		while (n > first)
			iter_free(children[--n]);
		return rc;
	}
	*count_io = n;
	return 0;
}
