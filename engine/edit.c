#include "engine/edit.h"

#include <stdlib.h>

#include "shm/error.h"

/* Tags of the fields of a version edit. 8 was never used in a released format. */
enum edit_tag {
	TAG_COMPARATOR = 1,
	TAG_LOG_NUMBER = 2,
	TAG_NEXT_FILE = 3,
	TAG_LAST_SEQUENCE = 4,
	TAG_COMPACT_POINTER = 5,
	TAG_DELETED_FILE = 6,
	TAG_NEW_FILE = 7,
	TAG_PREV_LOG_NUMBER = 9,
};

/* File numbers and sizes past this are nonsense; with the bound no sum or increment of them can overflow. */
#define NUMBER_MAX (UINT64_C(1) << 62)

/* ---- file_meta ---- */

struct file_meta *file_meta_new(uint64_t number, uint64_t size, struct slice smallest, struct slice largest)
{
	struct file_meta *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->refs = 1;
	m->number = number;
	m->size = size;
	file_meta_allow_seeks(m);
	if (key_buf_set(&m->smallest, smallest) < 0 || key_buf_set(&m->largest, largest) < 0) {
		file_meta_free(m);
		return NULL;
	}
	return m;
}

void file_meta_allow_seeks(struct file_meta *m)
{
	/* One seek costs about as much as compacting 40 KiB; 16 KiB a seek is LevelDB's cautious guess. */
	uint64_t seeks = m->size / 16384;

	atomic_store_explicit(&m->allowed_seeks,
			      seeks < 100	  ? 100
			      : seeks > INT32_MAX ? INT32_MAX
						  : (int32_t)seeks,
			      memory_order_relaxed);
}

void file_meta_free(struct file_meta *m)
{
	if (!m)
		return;
	key_buf_fini(&m->smallest);
	key_buf_fini(&m->largest);
	free(m);
}

void file_meta_unref(struct file_meta *m)
{
	if (!m)
		return;
	assert(m->refs > 0);
	if (--m->refs == 0)
		file_meta_free(m);
}

/* ---- putting an edit together ---- */

void edit_init(struct edit *e)
{
	memset(e, 0, sizeof(*e));
}

void edit_fini(struct edit *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->pointer_count; i++)
		key_buf_fini(&e->pointers[i].key);
	for (size_t i = 0; i < e->added_count; i++)
		file_meta_unref(e->added[i].meta);
	free(e->pointers);
	free(e->deleted);
	free(e->added);
	edit_init(e);
}

/* Room for one more element in an array of @count that was grown by this function alone: 8, 16, 32, … 0 or -ENOMEM. */
static int array_room(void **array_io, size_t count, size_t element_size)
{
	void *grown;

	if (count ? (count < 8 || !is_power_of_two(count)) : *array_io != NULL)
		return 0;
	grown = reallocarray(*array_io, count ? 2 * count : 8, element_size);
	if (!grown)
		return -ENOMEM;
	*array_io = grown;
	return 0;
}

int edit_add_file(struct edit *e, unsigned level, struct file_meta *meta)
{
	void *array = e->added;

	assert(level < LEVELS);
	if (array_room(&array, e->added_count, sizeof(*e->added)) < 0)
		return -ENOMEM;
	e->added = array;
	meta->refs++;
	e->added[e->added_count++] = (struct edit_file){.level = level, .meta = meta, .number = meta->number};
	return 0;
}

int edit_delete_file(struct edit *e, unsigned level, uint64_t number)
{
	void *array = e->deleted;

	assert(level < LEVELS);
	if (array_room(&array, e->deleted_count, sizeof(*e->deleted)) < 0)
		return -ENOMEM;
	e->deleted = array;
	e->deleted[e->deleted_count++] = (struct edit_file){.level = level, .number = number};
	return 0;
}

int edit_set_pointer(struct edit *e, unsigned level, struct slice ikey)
{
	void *array = e->pointers;
	struct key_buf key = {0};

	assert(level < LEVELS);
	if (array_room(&array, e->pointer_count, sizeof(*e->pointers)) < 0)
		return -ENOMEM;
	e->pointers = array;
	if (key_buf_set(&key, ikey) < 0)
		return -ENOMEM;
	e->pointers[e->pointer_count++] = (struct edit_pointer){.level = level, .key = key};
	return 0;
}

/* ---- encoding ---- */

static size_t encoded_bound(const struct edit *e)
{
	size_t n = 5 * (1 + VARINT64_MAX) + VARINT32_MAX + sizeof(e->comparator);

	for (size_t i = 0; i < e->pointer_count; i++)
		n += 1 + 2 * VARINT32_MAX + e->pointers[i].key.size;
	n += e->deleted_count * (1 + VARINT32_MAX + VARINT64_MAX);
	for (size_t i = 0; i < e->added_count; i++)
		n += 1 + 3 * VARINT32_MAX + 2 * VARINT64_MAX + e->added[i].meta->smallest.size +
		     e->added[i].meta->largest.size;
	return n;
}

static unsigned char *bytes_put(unsigned char *p, const void *data, size_t size)
{
	p = varint32_put(p, (uint32_t)size);
	if (size)
		memcpy(p, data, size);
	return p + size;
}

static unsigned char *number_put(unsigned char *p, enum edit_tag tag, uint64_t number)
{
	p = varint32_put(p, tag);
	return varint64_put(p, number);
}

static unsigned char *scalars_put(unsigned char *p, const struct edit *e)
{
	if (e->has_comparator) {
		p = varint32_put(p, TAG_COMPARATOR);
		p = bytes_put(p, e->comparator, strlen(e->comparator));
	}
	if (e->has_log_number)
		p = number_put(p, TAG_LOG_NUMBER, e->log_number);
	if (e->has_prev_log_number)
		p = number_put(p, TAG_PREV_LOG_NUMBER, e->prev_log_number);
	if (e->has_next_file)
		p = number_put(p, TAG_NEXT_FILE, e->next_file);
	if (e->has_last_sequence)
		p = number_put(p, TAG_LAST_SEQUENCE, e->last_sequence);
	return p;
}

int edit_encode(const struct edit *e, unsigned char **data_out, size_t *size_out)
{
	size_t bound = encoded_bound(e);
	unsigned char *data = malloc(bound), *p = data;

	if (!data)
		return -ENOMEM;
	p = scalars_put(p, e);
	for (size_t i = 0; i < e->pointer_count; i++) {
		p = number_put(p, TAG_COMPACT_POINTER, e->pointers[i].level);
		p = bytes_put(p, e->pointers[i].key.data, e->pointers[i].key.size);
	}
	for (size_t i = 0; i < e->deleted_count; i++) {
		p = number_put(p, TAG_DELETED_FILE, e->deleted[i].level);
		p = varint64_put(p, e->deleted[i].number);
	}
	for (size_t i = 0; i < e->added_count; i++) {
		const struct file_meta *m = e->added[i].meta;

		p = number_put(p, TAG_NEW_FILE, e->added[i].level);
		p = varint64_put(p, m->number);
		p = varint64_put(p, m->size);
		p = bytes_put(p, m->smallest.data, m->smallest.size);
		p = bytes_put(p, m->largest.data, m->largest.size);
	}
	assert((size_t)(p - data) <= bound);
	*data_out = data;
	*size_out = (size_t)(p - data);
	return 0;
}

/* ---- decoding: each getter moves the cursor, or names what is wrong and leaves it at the bad field ---- */

struct cursor {
	const unsigned char *p, *end;
	const char *wrong; /* NULL: nothing so far */
};

static bool bad(struct cursor *c, const char *what)
{
	c->wrong = what;
	return false;
}

static bool number_get(struct cursor *c, uint64_t max, const char *what, uint64_t *out)
{
	uint64_t v;
	const unsigned char *p = varint64_get(c->p, c->end, &v);

	if (!p || v > max)
		return bad(c, what);
	c->p = p;
	*out = v;
	return true;
}

static bool level_get(struct cursor *c, unsigned *out)
{
	uint64_t v;

	if (!number_get(c, LEVELS - 1, "the level is cut short or not between 0 and 6", &v))
		return false;
	*out = (unsigned)v;
	return true;
}

/*
 * An internal key. Its type byte is not judged: a compaction carries entries of unknown type along, so that one may
 * well be the first or last of a table.
 */
static bool ikey_get(struct cursor *c, const char *what, struct slice *out)
{
	struct slice key;
	const unsigned char *p = length_prefixed_get(c->p, c->end, &key);

	if (!p || key.size < IKEY_TRAILER)
		return bad(c, what);
	c->p = p;
	*out = key;
	return true;
}

/* A name too long for the field is kept cut short, and odd bytes as '?': it is foreign in any case, and only shown. */
static bool comparator_get(struct cursor *c, struct edit *e)
{
	struct slice name;
	const unsigned char *p = length_prefixed_get(c->p, c->end, &name);
	size_t n;

	if (!p)
		return bad(c, "the comparator's name is cut short");
	n = min_size(name.size, sizeof(e->comparator) - 1);
	for (size_t i = 0; i < n; i++)
		e->comparator[i] = name.data[i] > 0x20 && name.data[i] < 0x7f ? (char)name.data[i] : '?';
	e->comparator[n] = '\0';
	e->has_comparator = true;
	c->p = p;
	return true;
}

static int pointer_get(struct cursor *c, struct edit *e)
{
	unsigned level;
	struct slice key;

	if (!level_get(c, &level) || !ikey_get(c, "the compact pointer's key is cut short", &key))
		return -SHALE_ECORRUPT;
	return edit_set_pointer(e, level, key);
}

static int deleted_get(struct cursor *c, struct edit *e)
{
	unsigned level;
	uint64_t number;

	if (!level_get(c, &level) || !number_get(c, NUMBER_MAX, "the deleted file's number is unreadable", &number))
		return -SHALE_ECORRUPT;
	return edit_delete_file(e, level, number);
}

static int added_get(struct cursor *c, struct edit *e)
{
	unsigned level;
	uint64_t number, size;
	struct slice smallest, largest;
	struct file_meta *m;
	int rc;

	if (!level_get(c, &level) || !number_get(c, NUMBER_MAX, "the new file's number is unreadable", &number) ||
	    !number_get(c, NUMBER_MAX, "the new file's size is unreadable", &size) ||
	    !ikey_get(c, "the new file's smallest key is cut short", &smallest) ||
	    !ikey_get(c, "the new file's largest key is cut short", &largest))
		return -SHALE_ECORRUPT;
	if (ikey_compare(smallest, largest) > 0) {
		bad(c, "the new file's smallest key is after its largest");
		return -SHALE_ECORRUPT;
	}
	m = file_meta_new(number, size, smallest, largest);
	if (!m)
		return -ENOMEM;
	rc = edit_add_file(e, level, m);
	file_meta_unref(m);
	return rc;
}

/* One field. 0, -SHALE_ECORRUPT with c->wrong set, or -ENOMEM. */
static int field_get(struct cursor *c, struct edit *e)
{
	uint32_t tag = 0;
	const unsigned char *p = varint32_get(c->p, c->end, &tag);
	bool ok;

	if (!p) {
		bad(c, "a field's tag is cut short");
		return -SHALE_ECORRUPT;
	}
	c->p = p;
	switch (tag) {
	case TAG_COMPARATOR:
		return comparator_get(c, e) ? 0 : -SHALE_ECORRUPT;
	case TAG_LOG_NUMBER:
		ok = e->has_log_number = number_get(c, NUMBER_MAX, "the log number is unreadable", &e->log_number);
		break;
	case TAG_PREV_LOG_NUMBER:
		ok = e->has_prev_log_number =
			number_get(c, NUMBER_MAX, "the previous log number is unreadable", &e->prev_log_number);
		break;
	case TAG_NEXT_FILE:
		ok = e->has_next_file = number_get(c, NUMBER_MAX, "the next file number is unreadable", &e->next_file);
		break;
	case TAG_LAST_SEQUENCE:
		ok = e->has_last_sequence =
			number_get(c, SEQUENCE_MAX, "the last sequence is unreadable", &e->last_sequence);
		break;
	case TAG_COMPACT_POINTER:
		return pointer_get(c, e);
	case TAG_DELETED_FILE:
		return deleted_get(c, e);
	case TAG_NEW_FILE:
		return added_get(c, e);
	default:
		ok = bad(c, "the field's tag is none that LevelDB knows; it may come from a newer or another program");
	}
	return ok ? 0 : -SHALE_ECORRUPT;
}

int edit_decode(struct slice record, struct edit *out, struct err_info *err)
{
	struct cursor c = {.p = record.data, .end = record.size ? record.data + record.size : record.data};
	struct edit e;
	int rc = 0;

	edit_init(&e);
	while (rc == 0 && c.p < c.end)
		rc = field_get(&c, &e);
	if (rc < 0) {
		edit_fini(&e);
		if (rc == -SHALE_ECORRUPT)
			return err_set(err, rc, "version edit, byte %zu of %zu: %s", (size_t)(c.p - record.data),
				       record.size, c.wrong);
		return err_set(err, rc, "no memory to decode a version edit of %zu bytes", record.size);
	}
	*out = e;
	return 0;
}
