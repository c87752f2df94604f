/*
 * A client's batch: what batch_check accepts, batch_reader walks to its end and finds what the check counted; encoded anew it is accepted again
 * and says the same.
 *
 * Input: a byte each that limit key and value (0: no limits), then the batch.
 */
#include <errno.h>

#include "shm/batch.h"
#include "tests/fuzz/fuzz.h"

static unsigned char *append(unsigned char *end, const struct batch_record *r)
{
	return r->type == BATCH_PUT ? batch_append_put(end, r->key, r->value) : batch_append_delete(end, r->key);
}

static void walk(struct slice batch, const struct batch_info *info, const struct batch_limits *limits)
{
	/* Lengths in their shortest form never take more room. */
	unsigned char *copy = malloc(batch.size), *end;
	struct batch_info found = {0}, again = {0};
	struct batch_reader r, s;
	struct batch_record rec, rec2;

	ENSURE(copy);
	end = batch_begin(copy);
	batch_reader_init(&r, batch);
	for (; batch_reader_next(&r, &rec); found.count++) {
		ENSURE(rec.type == BATCH_PUT || rec.type == BATCH_DELETE);
		ENSURE(!limits || (rec.key.size <= limits->max_key && rec.value.size <= limits->max_value));
		found.key_bytes += rec.key.size;
		found.value_bytes += rec.value.size;
		end = append(end, &rec);
		ENSURE((size_t)(end - copy) <= batch.size);
	}
	ENSURE(r.next == r.end && found.count == info->count && found.count == batch_count(batch.data));
	ENSURE(found.key_bytes == info->key_bytes && found.value_bytes == info->value_bytes);
	batch_set_count(copy, found.count);
	ENSURE(batch_check(slice_of(copy, (size_t)(end - copy)), limits, &again) == 0);
	ENSURE(again.key_bytes == found.key_bytes && again.value_bytes == found.value_bytes);
	batch_reader_init(&r, batch);
	batch_reader_init(&s, slice_of(copy, (size_t)(end - copy)));
	while (batch_reader_next(&r, &rec)) {
		ENSURE(batch_reader_next(&s, &rec2) && rec.type == rec2.type);
		ENSURE(slice_equal(rec.key, rec2.key) && slice_equal(rec.value, rec2.value));
	}
	ENSURE(!batch_reader_next(&s, &rec2));
	free(copy);
}

FUZZ_TARGET(batch)
{
	struct input in = {data, data + size};
	struct batch_limits limits = {.max_key = input_byte(&in), .max_value = input_byte(&in)};
	const struct batch_limits *used = limits.max_key || limits.max_value ? &limits : NULL;
	struct slice rest = input_slice(&in, SIZE_MAX);
	struct slice batch = {.data = input_copy(rest), .size = rest.size};
	struct batch_info info;
	int rc = batch_check(batch, used, &info);

	ENSURE(rc == 0 || rc == -EBADMSG || (rc == -E2BIG && used));
	ENSURE(batch_check(batch, used, NULL) == rc);
	if (rc == 0)
		walk(batch, &info, used);
	free((void *)batch.data);
	return 0;
}
