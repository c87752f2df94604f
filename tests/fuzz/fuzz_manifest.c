/*
 * A MANIFEST from the disk: when its records add up, the version that they make passes its own check, can be written down as a new MANIFEST,
 * and is the same when that is read; when they do not, there are words, and nothing is taken over.
 *
 * Input: a byte (bit 0: checksums are put right first), then MANIFEST-000001. Tables exist where asked for: number n has 100 + n bytes.
 */
#include <errno.h>

#include "engine/engine.h"
#include "engine/version_set.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/seal.h"

static void obsolete(void *context, struct file_meta *meta)
{
	(void)context;
	file_meta_free(meta);
}

static int recover(struct version_set *vs, pthread_mutex_t *lock, struct memory_env *m, struct io_queue *q)
{
	struct engine_options options;
	struct err_info err = {0};
	int rc;

	engine_options_default(&options);
	ENSURE(version_set_init(vs, &m->base, lock, &options.levels, obsolete, NULL) == 0);
	vs->tables_sequence = UINT64_MAX;
	rc = version_set_recover(vs, q, &err);
	if (rc < 0) {
		ENSURE(rc != -ENOMEM && err.text[0] && !vs->manifest_number && !vs->log_number &&
		       !vs->current->count[0]);
		return rc;
	}
	ENSURE(version_check(vs->current, &err) == 0);
	ENSURE(vs->next_file > vs->manifest_number && vs->next_file > vs->log_number);
	return 0;
}

static void same(const struct version_set *a, const struct version_set *b)
{
	ENSURE(a->last_sequence == b->last_sequence && a->log_number == b->log_number);
	for (unsigned level = 0; level < LEVELS; level++) {
		ENSURE(a->current->count[level] == b->current->count[level]);
		ENSURE(slice_equal(key_buf_slice(&a->compact_pointer[level]),
				   key_buf_slice(&b->compact_pointer[level])));
		for (size_t i = 0; i < a->current->count[level]; i++)
			ENSURE(a->current->files[level][i]->number == b->current->files[level][i]->number);
	}
}

FUZZ_TARGET(manifest)
{
	struct input in = {data, data + size};
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool seal = input_byte(&in) & 1;
	struct slice bytes = input_slice(&in, 1 << 20);
	unsigned char *copy = input_copy(bytes);
	struct version_set vs, again;
	struct err_info err = {0};
	struct memory_env m;
	struct io_queue *q;
	struct edit nothing;

	memory_env_init(&m);
	m.imagined_tables = true;
	q = memory_queue(&m);
	if (seal)
		seal_log(copy, bytes.size);
	memory_env_put(&m, "MANIFEST-000001", copy, bytes.size);
	memory_env_put(&m, "CURRENT", "MANIFEST-000001\n", 16);
	if (recover(&vs, &lock, &m, q) == 0) {
		edit_init(&nothing);
		ENSURE(version_set_apply(&vs, &nothing, q, &err) == 0);
		edit_fini(&nothing);
		ENSURE(recover(&again, &lock, &m, q) == 0);
		same(&vs, &again);
		version_set_fini(&again);
	}
	version_set_fini(&vs);
	free(copy);
	io_queue_free(q);
	memory_env_fini(&m);
	return 0;
}
