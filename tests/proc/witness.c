/*
 * The well-behaved client of raw_client.h. It keeps a model of its keys: each key's version, from which its value follows.
 */
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

enum { KEYS = 128, VALUE_MAX = 700 };

struct model {
	uint32_t version[KEYS]; /* 0: absent */
};

/* The value of @version of key @k, in @out; returns its length. */
static size_t value_of(unsigned k, uint32_t version, char *out)
{
	uint64_t state = (uint64_t)k << 32 | version;
	size_t n = 8 + (version * 31 + k) % (VALUE_MAX - 16);

	for (size_t i = 0; i < n; i += 8)
		store_le64(out + i, test_random(&state));
	return n;
}

static size_t key_of(unsigned k, char *out)
{
	return (size_t)sprintf(out, "witness-%03u", k);
}

static void complain(struct witness *w, const char *what, unsigned k, int rc)
{
	if (w->complained)
		return;
	w->complained = true;
	snprintf(w->complaint, sizeof(w->complaint), "%s of key %u: %d (%s)", what, k, rc, shale_last_error(w->db));
}

static void timed(struct witness *w, uint64_t begin)
{
	uint64_t ns = monotonic_ns() - begin;

	if (ns > atomic_load(&w->slowest_ns))
		atomic_store(&w->slowest_ns, ns);
}

static void change(struct witness *w, struct model *m, unsigned k, bool remove, bool sync)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	char key[32], value[VALUE_MAX];
	size_t klen = key_of(k, key);
	uint64_t begin = monotonic_ns();
	uint32_t version = (uint32_t)atomic_load(&w->rounds) + 1;
	int rc;

	options.sync = sync;
	if (remove)
		rc = shale_delete(w->db, &options, key, klen);
	else
		rc = shale_put(w->db, &options, key, klen, value, value_of(k, version, value));
	timed(w, begin);
	if (rc < 0)
		complain(w, remove ? "delete" : "put", k, rc);
	m->version[k] = remove ? 0 : version;
}

static void compare(struct witness *w, unsigned k, uint32_t version, int rc, const char *got, size_t len)
{
	char want[VALUE_MAX];
	size_t n = version ? value_of(k, version, want) : 0;

	if (rc != (version ? 0 : SHALE_NOTFOUND))
		complain(w, version ? "get" : "get of what is deleted", k, rc);
	else if (version && (len != n || memcmp(got, want, n) != 0))
		complain(w, "wrong value", k, 0);
}

static void look(struct witness *w, const struct model *m, unsigned k, const struct shale_snapshot *snapshot)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	char key[32], value[VALUE_MAX];
	size_t klen = key_of(k, key), len = 0;
	uint64_t begin = monotonic_ns();
	int rc;

	options.snapshot = snapshot;
	rc = shale_get(w->db, &options, key, klen, value, sizeof(value), &len);
	timed(w, begin);
	compare(w, k, m->version[k], rc, value, len);
}

/* Every key of the model and no other, in order. */
static void walk(struct witness *w, const struct model *m)
{
	struct shale_iter *it;
	unsigned k = 0;
	int rc = shale_iter_open(w->db, NULL, &it);

	if (rc < 0) {
		complain(w, "iterator", 0, rc);
		return;
	}
	for (shale_iter_seek(it, "witness-", 8); shale_iter_valid(it) && !w->complained; shale_iter_next(it), k++) {
		size_t klen, vlen;
		const void *key = shale_iter_key(it, &klen), *value = shale_iter_value(it, &vlen);
		char want[32];

		if (klen < 8 || memcmp(key, "witness-", 8) != 0)
			break;
		while (k < KEYS && !m->version[k])
			k++;
		if (k == KEYS || klen != key_of(k, want) || memcmp(key, want, klen) != 0)
			complain(w, "scan: wrong key", k, 0);
		else
			compare(w, k, m->version[k], 0, value, vlen);
	}
	rc = shale_iter_error(it);
	while (k < KEYS && !m->version[k])
		k++;
	if (rc < 0 || k != KEYS)
		complain(w, "scan", k, rc);
	shale_iter_close(it);
}

static void remember(struct witness *w, struct model *m)
{
	struct model then = *m;
	struct shale_snapshot *snapshot;
	int rc = shale_snapshot_take(w->db, &snapshot);

	if (rc < 0) {
		complain(w, "snapshot", 0, rc);
		return;
	}
	for (unsigned i = 0; i < 4; i++)
		change(w, m, (unsigned)(test_random(&w->seed) % KEYS), i % 2, false);
	for (unsigned i = 0; i < 4; i++)
		look(w, &then, (unsigned)(test_random(&w->seed) % KEYS), snapshot);
	shale_snapshot_release(w->db, snapshot);
}

static void *witness_run(void *arg)
{
	struct witness *w = arg;
	struct model m = {0};

	while (!atomic_load(&w->stop) && !w->complained) {
		uint64_t r = test_random(&w->seed);

		change(w, &m, (unsigned)(r >> 8) % KEYS, r % 8 == 0, r % 128 == 0);
		look(w, &m, (unsigned)(r >> 32) % KEYS, NULL);
		if (r % 64 == 1)
			walk(w, &m);
		if (r % 64 == 2)
			remember(w, &m);
		atomic_fetch_add(&w->rounds, 1);
		if (r % 16 == 0)
			usleep(500); /* it need not be the load */
	}
	for (unsigned k = 0; k < KEYS; k++)
		look(w, &m, k, NULL);
	walk(w, &m);
	return NULL;
}

void witness_start(struct witness *w, const struct private_daemon *d, uint64_t seed)
{
	*w = (struct witness){.db = proc_open(d), .seed = seed};
	ck_assert_int_eq(pthread_create(&w->thread, NULL, witness_run, w), 0);
}

void witness_progress(struct witness *w, uint64_t rounds)
{
	uint64_t target = atomic_load(&w->rounds) + rounds, begin = monotonic_ns();

	while (atomic_load(&w->rounds) < target && !atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		if (monotonic_ns() - begin > UINT64_C(20000000000) * PATIENCE) {
			witness_stop(w, UINT32_MAX); /* tells what it complains of */
			ck_abort_msg("the client beside does not get on");
		}
		usleep(1000);
	}
}

void witness_stop(struct witness *w, unsigned limit_ms)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	ck_assert_msg(!w->complained, "the client beside: %s", w->complaint);
	ck_assert_msg(atomic_load(&w->slowest_ns) / 1000000 < (uint64_t)limit_ms * PATIENCE,
		      "a call of the client beside took %llu ms",
		      (unsigned long long)(atomic_load(&w->slowest_ns) / 1000000));
	shale_close(w->db);
}
