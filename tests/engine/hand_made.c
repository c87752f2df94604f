#include "tests/engine/hand_made.h"

#include <stdio.h>

#include "engine/version_builder.h"
#include "shm/error.h"
#include "tests/test.h"

static void note_gone(void *context, struct file_meta *meta)
{
	struct hand *h = context;

	ck_assert_uint_lt(h->gone_count, ARRAY_SIZE(h->gone));
	h->gone[h->gone_count++] = meta->number;
	file_meta_free(meta);
}

void hand_init(struct hand *h)
{
	static const struct version_set_options options = {
		.l0_compaction_trigger = 4,
		.level1_bytes = 10000,
		.level_multiplier = 10,
		.max_file_bytes = 1000,
		.max_manifest_bytes = 1 << 20,
	};

	memset(h, 0, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	ck_ok(version_set_init(&h->vs, NULL, &h->lock, &options, note_gone, h));
}

void hand_fini(struct hand *h)
{
	version_set_fini(&h->vs);
	pthread_mutex_destroy(&h->lock);
}

struct file_meta *hand_add_at(struct edit *e, unsigned level, uint64_t number, uint64_t size, const char *smallest,
			      uint64_t smallest_sequence, const char *largest, uint64_t largest_sequence)
{
	unsigned char a[128], b[128];
	struct file_meta *m =
		file_meta_new(number, size, ikey_make(a, slice_str(smallest), smallest_sequence, IKEY_VALUE),
			      ikey_make(b, slice_str(largest), largest_sequence, IKEY_VALUE));

	ck_assert_ptr_nonnull(m);
	ck_ok(edit_add_file(e, level, m));
	file_meta_unref(m);
	return m;
}

struct file_meta *hand_add(struct edit *e, unsigned level, uint64_t number, uint64_t size, const char *smallest,
			   const char *largest)
{
	return hand_add_at(e, level, number, size, smallest, 100, largest, 1);
}

void hand_install(struct hand *h, struct edit *e)
{
	struct err_info err = {0};
	struct version *next = NULL;
	int rc = version_build(h->vs.current, e, &next, &err);

	ck_assert_msg(rc == 0, "%s", err.text);
	version_install(&h->vs, next);
	edit_fini(e);
	rc = version_check(h->vs.current, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
}

struct file_meta *hand_file(struct hand *h, uint64_t number)
{
	const struct version *v = h->vs.current;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			if (v->files[level][i]->number == number)
				return v->files[level][i];
		}
	}
	ck_abort_msg("no file %llu", (unsigned long long)number);
	return NULL;
}

const char *hand_numbers(struct file_meta *const *files, size_t count)
{
	static char text[3][1024];
	static unsigned turn;
	char *t = text[turn++ % 3];
	size_t at = 0;

	t[0] = '\0';
	for (size_t i = 0; i < count; i++)
		at += (size_t)snprintf(t + at, sizeof(text[0]) - at, "%s%llu", i ? " " : "",
				       (unsigned long long)files[i]->number);
	return t;
}

void hand_expect(struct file_meta *const *files, size_t count, const char *want)
{
	const char *at = want;
	size_t n = 0;
	char *end;

	for (;; at = end, n++) {
		uint64_t number = strtoull(at, &end, 10);
		bool found = false;

		if (end == at)
			break;
		for (size_t i = 0; i < count; i++)
			found |= files[i]->number == number;
		ck_assert_msg(found, "want {%s}, have {%s}", want, hand_numbers(files, count));
	}
	ck_assert_msg(n == count, "want {%s}, have {%s}", want, hand_numbers(files, count));
}
