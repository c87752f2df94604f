#include "tests/engine/model.h"

#include <stdio.h>
#include <string.h>

void model_init(struct model *m, unsigned keys)
{
	m->keys = keys;
	m->history = calloc(keys, sizeof(*m->history));
	m->count = calloc(keys, sizeof(*m->count));
	m->cap = calloc(keys, sizeof(*m->cap));
}

void model_fini(struct model *m)
{
	for (unsigned i = 0; i < m->keys; i++)
		free(m->history[i]);
	free(m->history);
	free(m->count);
	free(m->cap);
}

/* The order is decided by the first four bytes; what follows is variety in length and bytes. */
struct slice model_key(unsigned i, unsigned char buf[MODEL_KEY_MAX])
{
	size_t n = 4;

	if (i == 0)
		return slice_of(buf, 0);
	buf[0] = (unsigned char)(i >> 16);
	buf[1] = (unsigned char)(i >> 8);
	buf[2] = (unsigned char)i;
	buf[3] = i % 3 == 0 ? 0xff : 0;
	for (unsigned k = 0; k < i % 29; k++)
		buf[n++] = (unsigned char)(k % 5 ? 'a' + k % 7 : 0xff);
	return slice_of(buf, n);
}

struct slice model_value(uint32_t seed, uint32_t size, unsigned char buf[MODEL_VALUE_MAX])
{
	uint64_t state = (uint64_t)seed * 2654435761u + 1;

	for (uint32_t i = 0; i < size; i++)
		buf[i] = i < size / 2 ? (unsigned char)test_random(&state) : (unsigned char)('a' + seed % 26);
	return slice_of(buf, size);
}

void model_set(struct model *m, unsigned key, uint64_t sequence, bool present, uint32_t seed, uint32_t size)
{
	if (m->count[key] == m->cap[key]) {
		m->cap[key] = m->cap[key] ? 2 * m->cap[key] : 4;
		m->history[key] = realloc(m->history[key], m->cap[key] * sizeof(**m->history));
	}
	m->history[key][m->count[key]++] = (struct model_entry){sequence, present, seed, size};
}

const struct model_entry *model_get(const struct model *m, unsigned key, uint64_t sequence)
{
	size_t n = m->count[key];

	while (n && m->history[key][n - 1].sequence > sequence)
		n--;
	return n && m->history[key][n - 1].present ? &m->history[key][n - 1] : NULL;
}

size_t model_count(const struct model *m, uint64_t sequence)
{
	size_t n = 0;

	for (unsigned i = 0; i < m->keys; i++)
		n += model_get(m, i, sequence) != NULL;
	return n;
}

void model_write(struct model *m, struct world *w, uint64_t *seed, unsigned max, uint32_t max_value)
{
	static unsigned char batch[64 * (MODEL_VALUE_MAX + MODEL_KEY_MAX + 16)];
	unsigned char key_buf[MODEL_KEY_MAX], value_buf[MODEL_VALUE_MAX], *p = batch_begin(batch);
	unsigned count = 1 + (unsigned)(test_random(seed) % max), keys[64];
	uint64_t last;

	ck_assert_uint_le(max, 64);
	for (unsigned i = 0; i < count; i++) {
		bool present = test_random(seed) % 4 != 0;
		uint32_t value_seed = (uint32_t)test_random(seed),
			 size = (uint32_t)(test_random(seed) % (max_value + 1));

		keys[i] = (unsigned)(test_random(seed) % m->keys);
		if (present)
			p = batch_append_put(p, model_key(keys[i], key_buf), model_value(value_seed, size, value_buf));
		else
			p = batch_append_delete(p, model_key(keys[i], key_buf));
		model_set(m, keys[i], 0, present, value_seed, size);
	}
	batch_set_count(batch, count);
	last = world_write(w, batch, (size_t)(p - batch));
	/* The sequences are known only now. One key may come several times: its newest entries are the last ones. */
	for (unsigned i = count; i-- > 0;) {
		struct model_entry *h = m->history[keys[i]];
		size_t n = m->count[keys[i]];

		while (h[n - 1].sequence != 0)
			n--;
		h[n - 1].sequence = last - (count - 1 - i);
	}
}

static void check_value(const struct model_entry *want, unsigned key, struct slice got)
{
	unsigned char buf[MODEL_VALUE_MAX];

	ck_assert_msg(slice_equal(model_value(want->seed, want->size, buf), got),
		      "key %u: the value of sequence %llu (%u bytes) differs: %zu bytes read", key,
		      (unsigned long long)want->sequence, want->size, got.size);
}

void model_check_get(struct model *m, struct world *w, unsigned key, uint64_t sequence)
{
	const struct model_entry *want = model_get(m, key, sequence);
	unsigned char buf[MODEL_KEY_MAX], *value;
	size_t size;
	int rc = world_get(w, model_key(key, buf), sequence, &value, &size);

	if (!want) {
		ck_assert_msg(rc == SHALE_NOTFOUND, "key %u at %llu: %d instead of not found", key,
			      (unsigned long long)sequence, rc);
		return;
	}
	ck_assert_msg(rc == 0, "key %u at %llu: %d instead of the value of %llu", key, (unsigned long long)sequence, rc,
		      (unsigned long long)want->sequence);
	check_value(want, key, slice_of(value, size));
	free(value);
}

struct compare {
	struct model *m;
	uint64_t sequence;
	bool reverse;
	unsigned next; /* keys already passed */
};

static unsigned nth(const struct compare *c, unsigned n)
{
	return c->reverse ? c->m->keys - 1 - n : n;
}

static void skip_absent(struct compare *c)
{
	while (c->next < c->m->keys && !model_get(c->m, nth(c, c->next), c->sequence))
		c->next++;
}

static void compare_entry(void *context, struct slice key, struct slice value)
{
	struct compare *c = context;
	unsigned char buf[MODEL_KEY_MAX];
	unsigned i;

	skip_absent(c);
	ck_assert_msg(c->next < c->m->keys, "a scan gives more than there is");
	i = nth(c, c->next);
	ck_assert_msg(slice_equal(model_key(i, buf), key),
		      "a scan at %llu does not give key %u (or gives another before it)",
		      (unsigned long long)c->sequence, i);
	check_value(model_get(c->m, i, c->sequence), i, value);
	c->next++;
}

void model_check_scan(struct model *m, struct world *w, uint64_t sequence, bool reverse, size_t chunk)
{
	struct compare c = {.m = m, .sequence = sequence, .reverse = reverse};

	world_scan_all(w, sequence, reverse, chunk, compare_entry, &c);
	skip_absent(&c);
	ck_assert_msg(c.next == m->keys, "a scan at %llu ends before key %u", (unsigned long long)sequence,
		      nth(&c, c.next));
}
