#include "engine/version.h"

#include <stdlib.h>

#include "shm/error.h"

static struct slice smallest_user(const struct file_meta *m)
{
	return ikey_user(key_buf_slice(&m->smallest));
}

static struct slice largest_user(const struct file_meta *m)
{
	return ikey_user(key_buf_slice(&m->largest));
}

size_t version_find_file(const struct version *v, unsigned level, struct slice ikey)
{
	size_t low = 0, high = v->count[level];

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ikey_compare(key_buf_slice(&v->files[level][middle]->largest), ikey) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* First file of a sorted level whose largest user key >= @user; all of them when NULL. */
static size_t find_user(const struct version *v, unsigned level, const struct slice *user)
{
	size_t low = 0, high = user ? v->count[level] : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (slice_compare(largest_user(v->files[level][middle]), *user) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool file_overlaps(const struct file_meta *m, const struct slice *smallest, const struct slice *largest)
{
	return (!smallest || slice_compare(largest_user(m), *smallest) >= 0) &&
	       (!largest || slice_compare(smallest_user(m), *largest) <= 0);
}

bool version_overlaps(const struct version *v, unsigned level, const struct slice *smallest,
		      const struct slice *largest)
{
	size_t i;

	if (level > 0) {
		i = find_user(v, level, smallest);
		return i < v->count[level] && file_overlaps(v->files[level][i], smallest, largest);
	}
	for (i = 0; i < v->count[0]; i++) {
		if (file_overlaps(v->files[0][i], smallest, largest))
			return true;
	}
	return false;
}

/*
 * Level 0: a file that reaches beyond the range makes the range larger, and larger ranges meet more files, until
 * nothing is added. Otherwise a newer entry could go down while an older one of the same key stays above it.
 */
static size_t closure(const struct version *v, const struct slice *begin, const struct slice *end,
		      struct file_meta **out)
{
	struct slice low = begin ? *begin : slice_of(NULL, 0), high = end ? *end : slice_of(NULL, 0);
	size_t count;
	bool grew;

	do {
		count = 0;
		grew = false;
		for (size_t i = 0; i < v->count[0]; i++) {
			struct file_meta *m = v->files[0][i];

			if (!file_overlaps(m, begin ? &low : NULL, end ? &high : NULL))
				continue;
			out[count++] = m;
			if (begin && slice_compare(smallest_user(m), low) < 0) {
				low = smallest_user(m);
				grew = true;
			}
			if (end && slice_compare(largest_user(m), high) > 0) {
				high = largest_user(m);
				grew = true;
			}
		}
	} while (grew);
	return count;
}

int version_overlapping(const struct version *v, unsigned level, const struct slice *begin, const struct slice *end,
			struct file_meta ***files_out, size_t *count_out)
{
	size_t first = level ? find_user(v, level, begin) : 0, last = first, count;
	struct file_meta **files;

	if (level) {
		while (last < v->count[level] && file_overlaps(v->files[level][last], begin, end))
			last++;
	} else {
		last = v->count[0];
	}
	if (first == last) {
		*files_out = NULL;
		*count_out = 0;
		return 0;
	}
	files = malloc((last - first) * sizeof(*files));
	if (!files)
		return -ENOMEM;
	if (level) {
		count = last - first;
		memcpy(files, v->files[level] + first, count * sizeof(*files));
	} else {
		count = closure(v, begin, end, files);
		if (!count) {
			free(files);
			files = NULL;
		}
	}
	*files_out = files;
	*count_out = count;
	return 0;
}

uint64_t version_offset_of(const struct version *v, struct slice ikey, struct table_cache *tables)
{
	uint64_t sum = 0;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			const struct file_meta *m = v->files[level][i];
			struct table *t;

			if (ikey_compare(key_buf_slice(&m->largest), ikey) <= 0) {
				sum += m->size;
			} else if (ikey_compare(key_buf_slice(&m->smallest), ikey) > 0) {
				if (level > 0)
					break; /* all further ones lie behind, too */
			} else {
				t = tables ? table_cache_get(tables, m->number) : NULL;
				sum += t ? table_offset_of(t, ikey) : m->size / 2;
				table_unref(t);
			}
		}
	}
	return sum;
}

/* ---- invariants ---- */

static int by_number(const void *a, const void *b)
{
	const struct file_meta *x = *(struct file_meta *const *)a, *y = *(struct file_meta *const *)b;

	return (x->number > y->number) - (x->number < y->number);
}

/* A file may be in one level only, and there once. */
static int check_unique(const struct version *v, struct version_fault *fault, struct err_info *err)
{
	size_t count = 0, n = 0;
	struct file_meta **files;
	int rc = 0;

	for (unsigned level = 0; level < LEVELS; level++)
		count += v->count[level];
	files = malloc((count + 1) * sizeof(*files));
	if (!files)
		return err_set(err, -ENOMEM, "no memory to check a version");
	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++)
			files[n++] = v->files[level][i];
	}
	qsort(files, n, sizeof(*files), by_number);
	for (size_t i = 1; i < n && rc == 0; i++) {
		if (files[i - 1]->number == files[i]->number) {
			*fault = (struct version_fault){"twice", -1, files[i], NULL};
			rc = err_set(err, -SHALE_ECORRUPT, "table %06llu is in the version twice",
				     (unsigned long long)files[i]->number);
		}
	}
	free(files);
	return rc;
}

static int check_file(const struct file_meta *m, unsigned level, struct version_fault *fault, struct err_info *err)
{
	*fault = (struct version_fault){"level", (int)level, m, NULL};
	if (m->refs == 0)
		return err_set(err, -SHALE_ECORRUPT, "table %06llu of level %u is in a version but has no reference",
			       (unsigned long long)m->number, level);
	if (m->smallest.size < IKEY_TRAILER || m->largest.size < IKEY_TRAILER)
		return err_set(err, -SHALE_ECORRUPT,
			       "table %06llu of level %u has a key that is too short to be an internal key",
			       (unsigned long long)m->number, level);
	if (ikey_compare(key_buf_slice(&m->smallest), key_buf_slice(&m->largest)) > 0)
		return err_set(err, -SHALE_ECORRUPT, "table %06llu of level %u has its smallest key after its largest",
			       (unsigned long long)m->number, level);
	return 0;
}

static int check_neighbours(const struct file_meta *a, const struct file_meta *b, unsigned level,
			    struct version_fault *fault, struct err_info *err)
{
	*fault = (struct version_fault){"level", (int)level, a, b};
	if (level == 0 && a->number <= b->number)
		return err_set(err, -SHALE_ECORRUPT, "tables %06llu and %06llu of level 0 are not newest first",
			       (unsigned long long)a->number, (unsigned long long)b->number);
	fault->kind = "overlap";
	if (level > 0 && ikey_compare(key_buf_slice(&a->largest), key_buf_slice(&b->smallest)) >= 0)
		return err_set(err, -SHALE_ECORRUPT, "tables %06llu and %06llu of level %u overlap",
			       (unsigned long long)a->number, (unsigned long long)b->number, level);
	return 0;
}

int version_check_at(const struct version *v, struct version_fault *fault, struct err_info *err)
{
	int rc;

	for (unsigned level = 0; level < LEVELS; level++) {
		uint64_t bytes = 0;

		for (size_t i = 0; i < v->count[level]; i++) {
			rc = check_file(v->files[level][i], level, fault, err);
			if (rc == 0 && i > 0)
				rc = check_neighbours(v->files[level][i - 1], v->files[level][i], level, fault, err);
			if (rc < 0)
				return rc;
			bytes += v->files[level][i]->size;
		}
		if (bytes != v->bytes[level]) {
			*fault = (struct version_fault){"level", (int)level, NULL, NULL};
			return err_set(err, -SHALE_ECORRUPT, "level %u counts %llu bytes, its tables hold %llu", level,
				       (unsigned long long)v->bytes[level], (unsigned long long)bytes);
		}
	}
	return check_unique(v, fault, err);
}

int version_check(const struct version *v, struct err_info *err)
{
	struct version_fault fault;

	return version_check_at(v, &fault, err);
}
