#include "tests/sim/oracle.h"

#include <stdlib.h>

#include "tests/sim/disk.h"

static void *grown(void *p, size_t count, size_t *cap, size_t item)
{
	if (count < *cap)
		return p;
	*cap = *cap ? 2 * *cap : 8;
	p = reallocarray(p, *cap, item);
	if (!p)
		abort();
	return p;
}

void oracle_init(struct oracle *o, unsigned keys)
{
	memset(o, 0, sizeof(*o));
	o->keys = keys;
	o->key = calloc(keys, sizeof(*o->key));
	if (!o->key)
		abort();
}

void oracle_fini(struct oracle *o)
{
	for (unsigned i = 0; i < o->keys; i++)
		free(o->key[i].v);
	free(o->key);
	free(o->batch);
	memset(o, 0, sizeof(*o));
}

struct slice oracle_key(unsigned i, unsigned char buf[ORACLE_KEY_MAX])
{
	size_t n = 0;

	if (!i)
		return slice_of(buf, 0);
	buf[n++] = 'k';
	buf[n++] = (unsigned char)(i >> 8);
	buf[n++] = (unsigned char)i;
	if (i % 5 == 3)
		buf[n++] = 0xff;
	if (i % 7 == 2) {
		memset(buf + n, i % 2 ? 0 : 'x', 24);
		n += 24;
	}
	return slice_of(buf, n);
}

/* A quarter random, the rest compressible. */
void oracle_value(uint32_t seed, uint32_t size, unsigned char *buf)
{
	uint64_t word = mix64(seed);
	uint32_t head = size / 4 < 8 ? (size < 8 ? size : 8) : size / 4, at = 0;

	for (; at + 8 <= head; at += 8) {
		memcpy(buf + at, &word, 8);
		word = word * UINT64_C(0x9e3779b97f4a7c15) + 1;
	}
	if (at < size)
		memset(buf + at, (int)(seed & 0xff), size - at);
	if (size < 8)
		memcpy(buf, &word, size);
}

bool oracle_value_is(uint32_t seed, uint32_t size, struct slice value)
{
	unsigned char want[ORACLE_VALUE_MAX];

	if (value.size != size)
		return false;
	oracle_value(seed, size, want);
	return !size || memcmp(value.data, want, size) == 0;
}

void oracle_set(struct oracle *o, unsigned key, uint64_t sequence, bool present, uint32_t seed, uint32_t size)
{
	struct oracle_key *k = &o->key[key];

	k->v = grown(k->v, k->count, &k->cap, sizeof(*k->v));
	k->v[k->count++] = (struct oracle_entry){sequence, present, seed, size};
}

void oracle_batch(struct oracle *o, uint64_t last)
{
	o->batch = grown(o->batch, o->batches, &o->cap, sizeof(*o->batch));
	o->batch[o->batches++] = last;
	o->appended = last;
}

/* How many entries of @k are at or below @sequence. */
static size_t upto(const struct oracle_key *k, uint64_t sequence)
{
	size_t low = 0, high = k->count;

	if (high && k->v[high - 1].sequence <= sequence)
		return high;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (k->v[mid].sequence <= sequence)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct oracle_entry *oracle_get(const struct oracle *o, unsigned key, uint64_t sequence)
{
	const struct oracle_key *k = &o->key[key];
	size_t n = upto(k, sequence);

	return n && k->v[n - 1].present ? &k->v[n - 1] : NULL;
}

bool oracle_is_boundary(const struct oracle *o, uint64_t sequence)
{
	size_t low = 0, high = o->batches;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (o->batch[mid] < sequence)
			low = mid + 1;
		else
			high = mid;
	}
	return sequence == 0 || (low < o->batches && o->batch[low] == sequence);
}

void oracle_cut(struct oracle *o, uint64_t sequence)
{
	for (unsigned i = 0; i < o->keys; i++)
		o->key[i].count = upto(&o->key[i], sequence);
	while (o->batches && o->batch[o->batches - 1] > sequence)
		o->batches--;
	o->appended = o->accepted = o->acknowledged = o->synced = sequence;
}
