/*
 * CURRENT: a database opens only when it names a MANIFEST, that one, and ends with a newline; whatever else it holds is refused with words.
 *
 * Input: CURRENT.
 */
#include <errno.h>

#include "engine/engine.h"
#include "engine/version_set.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"

static void obsolete(void *context, struct file_meta *meta)
{
	(void)context;
	file_meta_free(meta);
}

/* Whether @s is MANIFEST-1 with any number of zeros, and a newline. */
static bool names_it(struct slice s)
{
	size_t at = 9;

	if (s.size < 11 || memcmp(s.data, "MANIFEST-", 9) != 0)
		return false;
	while (at < s.size && s.data[at] == '0')
		at++;
	return at + 2 == s.size && s.data[at] == '1' && s.data[at + 1] == '\n';
}

FUZZ_TARGET(current)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	unsigned char *copy = input_copy(slice_of(data, size));
	struct engine_options options;
	struct err_info err = {0};
	struct version_set vs;
	struct memory_env m;
	struct io_queue *q;
	int rc;

	engine_options_default(&options);
	memory_env_init(&m);
	q = memory_queue(&m);
	ENSURE(version_set_init(&vs, &m.base, &lock, &options.levels, obsolete, NULL) == 0);
	ENSURE(version_set_create(&vs, q, &err) == 0);
	version_set_fini(&vs);
	memory_env_put(&m, "CURRENT", copy, size);
	ENSURE(version_set_init(&vs, &m.base, &lock, &options.levels, obsolete, NULL) == 0);
	rc = version_set_recover(&vs, q, &err);
	ENSURE(rc == 0 ? names_it(slice_of(data, size)) : rc != -ENOMEM && err.text[0]);
	ENSURE(rc == 0 || size != 16 || memcmp(data, "MANIFEST-000001\n", 16) != 0);
	version_set_fini(&vs);
	free(copy);
	io_queue_free(q);
	memory_env_fini(&m);
	return 0;
}
