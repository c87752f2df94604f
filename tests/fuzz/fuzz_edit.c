/*
 * A version edit from a MANIFEST: what decodes, encodes, and what that gives decodes to the same; what does not is refused with words.
 *
 * Input: the record.
 */
#include "engine/edit.h"

#include <errno.h>

#include "shm/error.h"
#include "tests/fuzz/fuzz.h"

static bool same_files(const struct edit_file *a, const struct edit_file *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i].level != b[i].level || a[i].number != b[i].number || a[i].level >= LEVELS)
			return false;
		if (a[i].meta &&
		    (a[i].meta->size != b[i].meta->size ||
		     !slice_equal(key_buf_slice(&a[i].meta->smallest), key_buf_slice(&b[i].meta->smallest)) ||
		     !slice_equal(key_buf_slice(&a[i].meta->largest), key_buf_slice(&b[i].meta->largest))))
			return false;
	}
	return true;
}

static void same(const struct edit *a, const struct edit *b)
{
	ENSURE(a->has_comparator == b->has_comparator && strcmp(a->comparator, b->comparator) == 0);
	ENSURE(a->has_log_number == b->has_log_number && a->log_number == b->log_number);
	ENSURE(a->has_prev_log_number == b->has_prev_log_number && a->prev_log_number == b->prev_log_number);
	ENSURE(a->has_next_file == b->has_next_file && a->next_file == b->next_file);
	ENSURE(a->has_last_sequence == b->has_last_sequence && a->last_sequence == b->last_sequence);
	ENSURE(a->pointer_count == b->pointer_count && a->deleted_count == b->deleted_count);
	ENSURE(a->added_count == b->added_count);
	for (size_t i = 0; i < a->pointer_count; i++)
		ENSURE(a->pointers[i].level == b->pointers[i].level &&
		       slice_equal(key_buf_slice(&a->pointers[i].key), key_buf_slice(&b->pointers[i].key)));
	ENSURE(same_files(a->deleted, b->deleted, a->deleted_count));
	ENSURE(same_files(a->added, b->added, a->added_count));
}

FUZZ_TARGET(edit)
{
	unsigned char *copy = input_copy(slice_of(data, size)), *bytes = NULL;
	struct err_info err = {0};
	struct edit edit, again;
	size_t length;
	int rc = edit_decode(slice_of(copy, size), &edit, &err);

	free(copy);
	if (rc < 0) {
		ENSURE(rc == -SHALE_ECORRUPT && err.text[0]);
		return 0;
	}
	ENSURE(edit_encode(&edit, &bytes, &length) == 0);
	ENSURE(edit_decode(slice_of(bytes, length), &again, &err) == 0);
	same(&edit, &again);
	free(bytes);
	edit_fini(&again);
	edit_fini(&edit);
	return 0;
}
