#include "tests/sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The simulation has no use for running on without memory. */
static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- inodes ---- */

struct disk_inode *disk_ref(struct disk_inode *i)
{
	i->refs++;
	return i;
}

static void drop_pending(struct disk_inode *i)
{
	while (i->pending) {
		struct disk_write *w = i->pending;

		i->pending = w->next;
		free(w);
	}
	i->tail = &i->pending;
	i->pending_count = 0;
}

void disk_unref(struct disk *d, struct disk_inode *i)
{
	if (!i || --i->refs)
		return;
	d->used -= i->allocated;
	drop_pending(i);
	free(i->cache);
	free(i->durable);
	free(i);
}

/* Sets the length of @bytes; what is new is zero. */
static void resize(unsigned char **bytes, uint64_t *size, uint64_t *cap, uint64_t to)
{
	if (to > *cap) {
		*cap = to + to / 2 + 256;
		*bytes = must(realloc(*bytes, *cap));
	}
	if (to > *size)
		memset(*bytes + *size, 0, to - *size);
	*size = to;
}

static void put_bytes(unsigned char **bytes, uint64_t *size, uint64_t *cap, const void *data, size_t len,
		      uint64_t offset)
{
	if (!len)
		return;
	if (offset + len > *size)
		resize(bytes, size, cap, offset + len);
	memcpy(*bytes + offset, data, len);
}

static struct disk_write *write_new(struct disk *d, const void *data, size_t len, uint64_t offset)
{
	struct disk_write *w = must(malloc(sizeof(*w) + len));

	*w = (struct disk_write){.id = ++d->next_write, .offset = offset, .len = len};
	if (len)
		memcpy(w->data, data, len);
	return w;
}

static void add_pending(struct disk_inode *i, struct disk_write *w)
{
	w->next = NULL;
	*i->tail = w;
	i->tail = &w->next;
	i->pending_count++;
}

/* ---- bytes ---- */

size_t disk_read(const struct disk_inode *i, void *buf, size_t len, uint64_t offset)
{
	if (offset >= i->size)
		return 0;
	len = len < i->size - offset ? len : (size_t)(i->size - offset);
	memcpy(buf, i->cache + offset, len);
	return len;
}

int disk_allocate(struct disk *d, struct disk_inode *i, uint64_t end)
{
	uint64_t more;

	end = align_up(end, DISK_BLOCK);
	if (end <= i->allocated)
		return 0;
	more = end - i->allocated;
	if (d->used + more > d->capacity)
		return -ENOSPC;
	d->used += more;
	i->allocated = end;
	return 0;
}

int disk_write(struct disk *d, struct disk_inode *i, const void *buf, size_t len, uint64_t offset)
{
	int rc = disk_allocate(d, i, offset + len);

	if (rc < 0)
		return rc;
	put_bytes(&i->cache, &i->size, &i->cap, buf, len, offset);
	add_pending(i, write_new(d, buf, len, offset));
	return 0;
}

void disk_truncate(struct disk *d, struct disk_inode *i, uint64_t size)
{
	struct disk_write *w = write_new(d, NULL, 0, size);

	w->truncate = true;
	add_pending(i, w);
	resize(&i->cache, &i->size, &i->cap, size);
	d->used -= i->allocated;
	i->allocated = align_up(size, DISK_BLOCK);
	d->used += i->allocated;
}

static void apply(struct disk_inode *i, const struct disk_write *w)
{
	if (w->truncate)
		resize(&i->durable, &i->durable_size, &i->durable_cap, w->offset);
	else
		put_bytes(&i->durable, &i->durable_size, &i->durable_cap, w->data, w->len, w->offset);
}

static void pop_pending(struct disk_inode *i)
{
	struct disk_write *w = i->pending;

	i->pending = w->next;
	if (!i->pending)
		i->tail = &i->pending;
	i->pending_count--;
	free(w);
}

void disk_sync(struct disk *d, struct disk_inode *i, uint64_t upto)
{
	(void)d;
	while (i->pending && i->pending->id <= upto) {
		apply(i, i->pending);
		pop_pending(i);
	}
}

void disk_lose(struct disk *d, struct disk_inode *i, uint64_t upto, uint64_t seed)
{
	(void)d;
	while (i->pending && i->pending->id <= upto) {
		if (mix64(seed ^ i->pending->id) & 1)
			apply(i, i->pending);
		pop_pending(i);
	}
}

/* ---- names ---- */

static struct disk_name *lookup(const struct disk_names *n, const char *name)
{
	for (size_t i = 0; i < n->count; i++) {
		if (strcmp(n->v[i].name, name) == 0)
			return &n->v[i];
	}
	return NULL;
}

static void names_set(struct disk *d, struct disk_names *n, const char *name, struct disk_inode *inode)
{
	struct disk_name *found = lookup(n, name);

	if (inode)
		disk_ref(inode);
	if (found) {
		disk_unref(d, found->inode);
		found->inode = inode;
		if (!inode)
			*found = n->v[--n->count];
		return;
	}
	if (!inode)
		return;
	if (n->count == n->cap) {
		n->cap = n->cap ? 2 * n->cap : 16;
		n->v = must(reallocarray(n->v, n->cap, sizeof(*n->v)));
	}
	found = &n->v[n->count++];
	snprintf(found->name, sizeof(found->name), "%s", name);
	found->inode = inode;
}

static void names_apply(struct disk *d, struct disk_names *n, const struct disk_change *c)
{
	struct disk_name *at;

	switch (c->kind) {
	case CHANGE_LINK:
		names_set(d, n, c->name, c->inode);
		break;
	case CHANGE_UNLINK:
		names_set(d, n, c->name, NULL);
		break;
	case CHANGE_RENAME:
		names_set(d, n, c->to, c->inode);
		at = lookup(n, c->name);
		if (at && at->inode == c->inode)
			names_set(d, n, c->name, NULL);
		break;
	}
}

static void change(struct disk *d, int kind, const char *name, const char *to, struct disk_inode *inode)
{
	struct disk_change *c;

	if (d->change_count == d->change_cap) {
		d->change_cap = d->change_cap ? 2 * d->change_cap : 16;
		d->changes = must(reallocarray(d->changes, d->change_cap, sizeof(*d->changes)));
	}
	c = &d->changes[d->change_count++];
	c->kind = kind;
	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->to, sizeof(c->to), "%s", to);
	c->inode = disk_ref(inode);
	names_apply(d, &d->names, c);
}

static void drop_changes(struct disk *d)
{
	for (size_t i = 0; i < d->change_count; i++)
		disk_unref(d, d->changes[i].inode);
	d->change_count = 0;
}

struct disk_inode *disk_find(const struct disk *d, const char *name)
{
	struct disk_name *n = lookup(&d->names, name);

	return n ? n->inode : NULL;
}

struct disk_inode *disk_create(struct disk *d, const char *name)
{
	struct disk_inode *i = must(calloc(1, sizeof(*i)));

	i->number = ++d->next_inode;
	i->tail = &i->pending;
	change(d, CHANGE_LINK, name, "", i);
	return i;
}

int disk_unlink(struct disk *d, const char *name)
{
	struct disk_inode *i = disk_find(d, name);

	if (!i)
		return -ENOENT;
	change(d, CHANGE_UNLINK, name, "", i);
	return 0;
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
	struct disk_inode *i = disk_find(d, from);

	if (!i)
		return -ENOENT;
	change(d, CHANGE_RENAME, from, to, i);
	return 0;
}

void disk_sync_names(struct disk *d)
{
	for (size_t i = 0; i < d->change_count; i++)
		names_apply(d, &d->durable, &d->changes[i]);
	drop_changes(d);
}

void disk_lose_names(struct disk *d, uint64_t seed)
{
	unsigned mode = (unsigned)(mix64(seed) % 3); /* none, all, or each by itself */

	for (size_t i = 0; i < d->change_count; i++) {
		if (mode == 1 || (mode == 2 && mix64(seed + i) & 1))
			names_apply(d, &d->durable, &d->changes[i]);
	}
	drop_changes(d);
}

/* ---- ends ---- */

void disk_add_late(struct disk *d, struct disk_inode *i, const void *buf, size_t len, uint64_t offset)
{
	struct disk_late *l = must(malloc(sizeof(*l)));

	*l = (struct disk_late){disk_ref(i), write_new(d, buf, len, offset), d->late};
	d->late = l;
}

void disk_land(struct disk *d, uint64_t seed)
{
	while (d->late) {
		struct disk_late *l = d->late;
		uint64_t r = mix64(seed ^ l->write->id);
		size_t len = r & 1 ? l->write->len : r & 2 ? 0 : (size_t)(r >> 2) % (l->write->len + 1);

		if (len)
			disk_write(d, l->inode, l->write->data, len, l->write->offset);
		d->late = l->next;
		free(l->write);
		disk_unref(d, l->inode);
		free(l);
	}
}

/* Applies @w, the @index-th of @count, to those sectors of which more than @index writes reached the platter. */
static void apply_torn(struct disk_inode *i, const struct disk_write *w, unsigned index, unsigned count, uint64_t seed)
{
	size_t done = 0;

	while (done < w->len) {
		uint64_t at = w->offset + done, sector = at / DISK_SECTOR;
		size_t n = (size_t)(DISK_SECTOR - at % DISK_SECTOR);

		n = n < w->len - done ? n : w->len - done;
		if (mix64(seed ^ (sector * 2 + 1)) % (count + 1) > index)
			put_bytes(&i->durable, &i->durable_size, &i->durable_cap, w->data + done, n, at);
		done += n;
	}
}

static void lose_pending(struct disk_inode *i, uint64_t seed)
{
	uint64_t r = mix64(seed ^ i->number);
	unsigned mode = (unsigned)(r % 8), count = i->pending_count, index = 0;
	unsigned whole = count ? (unsigned)(r >> 8) % (count + 1) : 0;

	for (struct disk_write *w = i->pending; w; w = w->next, index++) {
		if (mode == 0)
			break; /* nothing was written back */
		if (mode == 1 || (mode < 4 && index < whole) || w->truncate)
			apply(i, w);
		else if (mode >= 4 || index == whole)
			apply_torn(i, w, mode >= 4 ? index : 0, mode >= 4 ? count : 1, r);
	}
	/* A size may be on the platter before its data. */
	if ((r >> 4) % 4 == 0 && i->durable_size < i->size)
		resize(&i->durable, &i->durable_size, &i->durable_cap, i->size);
	drop_pending(i);
	resize(&i->cache, &i->size, &i->cap, 0);
	put_bytes(&i->cache, &i->size, &i->cap, i->durable, i->durable_size, 0);
}

void disk_power_loss(struct disk *d, uint64_t seed)
{
	disk_land(d, seed);
	disk_lose_names(d, seed ^ 0x5eed);
	while (d->names.count)
		names_set(d, &d->names, d->names.v[0].name, NULL);
	for (size_t i = 0; i < d->durable.count; i++) {
		struct disk_inode *inode = d->durable.v[i].inode;

		names_set(d, &d->names, d->durable.v[i].name, inode);
		lose_pending(inode, seed);
	}
}

bool disk_flip(struct disk *d, const char *name, uint64_t offset, unsigned bit)
{
	struct disk_inode *i = disk_find(d, name);

	if (!i || offset >= i->size)
		return false;
	i->cache[offset] ^= (unsigned char)(1u << (bit % 8));
	if (offset < i->durable_size)
		i->durable[offset] ^= (unsigned char)(1u << (bit % 8));
	return true;
}

void disk_init(struct disk *d)
{
	memset(d, 0, sizeof(*d));
	d->capacity = UINT64_MAX;
}

void disk_fini(struct disk *d)
{
	disk_land(d, 0);
	drop_changes(d);
	free(d->changes);
	while (d->names.count)
		names_set(d, &d->names, d->names.v[0].name, NULL);
	while (d->durable.count)
		names_set(d, &d->durable, d->durable.v[0].name, NULL);
	free(d->names.v);
	free(d->durable.v);
	assert(d->used == 0);
}
