#include "tests/sim/sim.h"

#include <stdlib.h>

#include "engine/engine_internal.h"

enum { BATCH_MAX = 64 << 10, LARGE_MAX = 640 << 10, RECORDS_MAX = 6000, WAIT_STEPS = 4000, CHUNK = 20 << 10 };

/* A read on its way: what daemon/reads.c keeps in a request. */
struct parked {
	struct sim *sim;
	struct view *view;
	struct read_ctx ctx;
	uint64_t sequence;
	bool is_scan, ready;
	unsigned key;	      /* get */
	struct scan scan;     /* one chunk */
	unsigned next, limit; /* keys: the next that the scan may give; where it ends */
	unsigned char start_buf[ORACLE_KEY_MAX], limit_buf[ORACLE_KEY_MAX];
	unsigned char out[CHUNK];
};

static bool may_fail(const struct sim *s)
{
	return s->excused || s->flipped || s->env.struck || s->env.dead;
}

/* ---- writes ---- */

/* What a batch does, for the oracle. */
struct records {
	unsigned count;
	struct {
		unsigned key;
		bool put;
		uint32_t seed, size;
	} v[];
};

struct draft {
	unsigned char data[LARGE_MAX];
	size_t size;
	union {
		struct records records;
		unsigned char space[sizeof(struct records) + RECORDS_MAX * 16];
	};
};

/* What kind of batch: how many records, how large their values, when to stop. */
struct shape {
	unsigned records;
	uint32_t value_min, value_max;
	size_t bytes;
};

static struct shape shape_of(const struct sim *s, uint64_t *seed, unsigned most, unsigned flags)
{
	size_t ring = s->config.value[SET_RING];
	uint64_t r = next_random(seed);

	if (flags & WRITE_LARGE)
		return (struct shape){RECORDS_MAX, 8 << 10, ORACLE_VALUE_MAX, ring + r % ring};
	if (flags & WRITE_MANY)
		return (struct shape){2049 + (unsigned)(r % (RECORDS_MAX - 2049)), 0, 8, LARGE_MAX};
	return (struct shape){1 + (unsigned)(r % (most ? most : 1)), 0, (uint32_t)s->config.value[SET_VALUE_MAX],
			      BATCH_MAX};
}

static void compose(struct sim *s, uint64_t seed, unsigned most, unsigned flags, struct draft *d)
{
	unsigned char *p = batch_begin(d->data), key[ORACLE_KEY_MAX], value[ORACLE_VALUE_MAX];
	unsigned keys = s->oracle.keys, i;
	unsigned width = (flags >> 16 & 255) * keys / 256, start = (flags >> 8 & 255) * keys / 256;
	struct shape shape = shape_of(s, &seed, most, flags);

	for (i = 0; i < shape.records && i < RECORDS_MAX; i++) {
		uint64_t r = next_random(&seed);
		unsigned k = (unsigned)((r >> 40) % keys);
		uint32_t size = shape.value_min + (uint32_t)((r >> 8) % (shape.value_max - shape.value_min + 1));
		size_t after = (size_t)(p - d->data) + size + ORACLE_KEY_MAX + 32;
		bool put = r % 8 >= 2;

		if (flags >> 16)
			k = (start + k % (width + 1)) % keys;
		else if (r >> 60 < 4) /* some keys are written more often */
			k %= 4;
		if ((size_t)(p - d->data) >= shape.bytes || after > sizeof(d->data) ||
		    (shape.bytes == BATCH_MAX && after > BATCH_MAX))
			break;
		if (put) {
			oracle_value((uint32_t)r, size, value);
			p = batch_append_put(p, oracle_key(k, key), slice_of(value, size));
		} else {
			p = batch_append_delete(p, oracle_key(k, key));
		}
		d->records.v[i].key = k;
		d->records.v[i].put = put;
		d->records.v[i].seed = (uint32_t)r;
		d->records.v[i].size = size;
	}
	d->records.count = i;
	batch_set_count(d->data, i);
	d->size = (size_t)(p - d->data);
}

static void applied(struct sim *s, const struct records *r, uint64_t last)
{
	struct oracle *o = &s->oracle;
	uint64_t sequence = o->appended;

	if (last != o->appended + r->count) {
		violation(s, "a batch of %u got sequences up to %llu after %llu", r->count, (unsigned long long)last,
			  (unsigned long long)o->appended);
		return;
	}
	for (unsigned i = 0; i < r->count; i++)
		oracle_set(o, r->v[i].key, ++sequence, r->v[i].put, r->v[i].seed, r->v[i].size);
	oracle_batch(o, last);
}

static void acknowledge(struct sim *s, uint64_t last, bool synced)
{
	struct oracle *o = &s->oracle;

	if (last > o->acknowledged)
		o->acknowledged = last;
	if (synced && last > o->synced)
		o->synced = last;
}

/* Goes on with other things until a slot is free. False: the daemon is gone. */
static bool wait_for_slot(struct sim *s, const unsigned *count, unsigned max)
{
	while (s->e && *count == max && !s->violation[0]) {
		bool more = life_help(s);

		client_progress(s);
		life_over(s);
		if (!more && *count == max)
			return false;
	}
	return s->e && !s->violation[0];
}

/* It is in. Nobody hears of it when the process has died meanwhile. */
static void written(struct sim *s, const struct records *r, bool sync, uint64_t last, uint64_t position)
{
	s->ops += r->count;
	applied(s, r, last);
	s->oracle.accepted = last;
	if (s->env.dead)
		return;
	if (!sync) {
		acknowledge(s, last, false);
		return;
	}
	engine_want_sync(s->e, position);
	s->syncing[s->syncing_count].position = position;
	s->syncing[s->syncing_count++].last = last;
}

static void refused(struct sim *s, int rc)
{
	if (!may_fail(s) && !(rc == -ENOSPC && s->env.full))
		violation(s, "a write was refused (%d) though nothing was the matter", rc);
}

static void underway(struct sim *s, const struct draft *d, bool sync)
{
	size_t size = sizeof(*s->large) + d->records.count * sizeof(s->large->v[0]);

	s->large = malloc(size);
	if (!s->large)
		abort();
	memcpy(s->large, &d->records, size);
	s->large_sync = sync;
}

/* The outcome is unknown: it may be in the log, whole. */
static void large_unknown(struct sim *s)
{
	if (!s->large)
		return;
	applied(s, s->large, s->oracle.appended + s->large->count);
	free(s->large);
	s->large = NULL;
}

static void large_progress(struct sim *s)
{
	uint64_t last = 0, position = 0;
	int rc = engine_write_result(s->e, &last, &position);

	if (rc == WRITE_UNDERWAY)
		return;
	sim_note(s, (uint64_t)rc ^ last << 8);
	if (rc < 0)
		refused(s, rc);
	/* Refused before its first byte was in the log (level 0 cannot be emptied, say), or cut off by a failure for good? */
	if (rc == -SHALE_EFAILED && atomic_load_explicit(&s->e->failed, memory_order_relaxed)) {
		large_unknown(s);
		return;
	}
	/* The slot among those that wait for a sync is still free: no other write was taken meanwhile. */
	if (rc == 0)
		written(s, s->large, s->large_sync, last, position);
	free(s->large);
	s->large = NULL;
}

void client_write(struct sim *s, uint64_t seed, unsigned most, unsigned flags)
{
	uint64_t last = 0, position = 0;
	static struct draft d;
	uint16_t why = 0;
	int rc;

	if (!s->e || ((flags & WRITE_SYNC) && !wait_for_slot(s, &s->syncing_count, SYNCING_MAX)))
		return;
	compose(s, seed, most, flags, &d);
	rc = engine_write(s->e, d.data, d.size, &last, &position, &why);
	for (unsigned i = 0; rc == -EAGAIN && flags & WRITE_WAIT && i < WAIT_STEPS; i++) {
		bool more = life_help(s);

		client_progress(s);
		if (life_over(s) || s->violation[0])
			return;
		if (!more)
			break;
		rc = engine_write(s->e, d.data, d.size, &last, &position, &why);
	}
	sim_note(s, (uint64_t)rc ^ last << 8);
	if (rc == -EAGAIN && !why)
		violation(s, "a write must wait, and nobody says why");
	else if (rc == WRITE_UNDERWAY)
		underway(s, &d, flags & WRITE_SYNC);
	else if (rc == 0)
		written(s, &d.records, flags & WRITE_SYNC, last, position);
	else if (rc != -EAGAIN)
		refused(s, rc);
}

/* ---- reads ---- */

static struct parked *parked_new(struct sim *s)
{
	struct parked *p = s->spare;

	if (p) {
		s->spare = NULL;
	} else {
		p = malloc(sizeof(*p));
		if (!p)
			abort();
	}
	p->sim = s;
	p->ready = true;
	read_ctx_init(&p->ctx, engine_read_shared(s->e));
	return p;
}

static void parked_free(struct parked *p)
{
	struct sim *s = p->sim;

	read_ctx_fini(&p->ctx);
	if (p->is_scan)
		scan_fini(&p->scan);
	view_unref(p->view);
	if (s->spare)
		free(p);
	else
		s->spare = p;
}

static void fetched(struct read_ctx *ctx)
{
	container_of(ctx, struct parked, ctx)->ready = true;
}

/* View first, sequence second, as in the daemon. False: nothing is held at @where. */
static bool look_at(struct sim *s, struct parked *p, uint64_t where)
{
	const struct place *place = where ? &s->place[(where - 1) % PLACES] : NULL;

	if (place && place->kind == PLACE_EMPTY)
		return false;
	if (place && place->kind == PLACE_VIEW) {
		p->view = place->view;
		p->view->refs++;
	} else {
		p->view = engine_view(s->e);
	}
	p->sequence = place ? place->sequence : engine_last_sequence(s->e);
	return true;
}

static void failed_read(struct parked *p, const char *what, int rc)
{
	struct sim *s = p->sim;
	const struct err_info *err = read_ctx_error(&p->ctx);

	s->detected |= s->flipped;
	if (!may_fail(s))
		violation(s, "a %s at sequence %llu failed (%d): %s", what, (unsigned long long)p->sequence, rc,
			  err ? err->text : "");
}

static void check_got(struct parked *p, int rc, struct slice value)
{
	const struct oracle_entry *want = oracle_get(&p->sim->oracle, p->key, p->sequence);
	unsigned long long sequence = p->sequence;

	p->sim->ops++;
	if (rc == SHALE_NOTFOUND && want)
		violation(p->sim, "key %u is not found at sequence %llu; it was put at %llu", p->key, sequence,
			  (unsigned long long)want->sequence);
	else if (rc == 0 && !want)
		violation(p->sim, "key %u is found at sequence %llu, where it does not exist", p->key, sequence);
	else if (rc == 0 && !oracle_value_is(want->seed, want->size, value))
		violation(p->sim, "key %u at sequence %llu has another value than was put at %llu", p->key, sequence,
			  (unsigned long long)want->sequence);
}

/* Returns READ_MISS, or anything else when it is over. */
static int probe_get(struct parked *p)
{
	unsigned char key[ORACLE_KEY_MAX];
	struct slice value = {0};
	int rc = engine_get(p->view, &p->ctx, p->sequence, oracle_key(p->key, key), &value);

	if (rc == READ_MISS)
		return rc;
	if (rc < 0)
		failed_read(p, "get", rc);
	else
		check_got(p, rc, value);
	return 0;
}

/* The next key that the scan must give, or @limit when there is none. */
static unsigned expected(const struct parked *p)
{
	unsigned k = p->next;

	while (k != p->limit && !oracle_get(&p->sim->oracle, k, p->sequence))
		k += p->scan.reverse ? -1u : 1u;
	return k;
}

static const unsigned char *entry_at(const unsigned char *at, const unsigned char *end, struct slice *key,
				     struct slice *value)
{
	uint32_t k, v;

	at = varint32_get(at, end, &k);
	at = at ? varint32_get(at, end, &v) : NULL;
	if (!at || (size_t)k + v > (size_t)(end - at))
		return NULL;
	*key = slice_of(at, k);
	*value = slice_of(at + k, v);
	return at + k + v;
}

static bool check_chunk(struct parked *p)
{
	const unsigned char *at = p->out, *end = p->out + p->scan.used;
	unsigned char buf[ORACLE_KEY_MAX];

	while (at != end) {
		unsigned k = expected(p);
		const struct oracle_entry *want;
		struct slice key, value;

		at = entry_at(at, end, &key, &value);
		if (!at || k == p->limit || !slice_equal(key, oracle_key(k, buf))) {
			violation(p->sim, "a %s scan at sequence %llu gives another key where %u must come",
				  p->scan.reverse ? "reverse" : "forward", (unsigned long long)p->sequence, k);
			return false;
		}
		want = oracle_get(&p->sim->oracle, k, p->sequence);
		if (!oracle_value_is(want->seed, want->size, value)) {
			violation(p->sim, "a scan at sequence %llu gives key %u another value than was put at %llu",
				  (unsigned long long)p->sequence, k, (unsigned long long)want->sequence);
			return false;
		}
		p->next = k + (p->scan.reverse ? -1u : 1u);
	}
	return true;
}

/* The next chunk begins behind the last key. */
static void next_chunk(struct parked *p)
{
	bool reverse = p->scan.reverse;
	struct scan scan = p->scan;

	scan_fini(&p->scan);
	scan.last = (struct key_buf){0};
	scan.count = 0;
	scan.used = scan.needed = 0;
	scan.has_start = scan.exclusive = true;
	scan.start = oracle_key(reverse ? p->next + 1 : p->next - 1, p->start_buf);
	p->scan = scan;
}

static int probe_scan(struct parked *p)
{
	int rc = engine_scan(p->view, &p->ctx, &p->scan);

	if (rc == 0 && !p->scan.count && p->scan.needed > p->scan.out_size && p->scan.needed <= sizeof(p->out)) {
		p->scan.out_size = p->scan.needed;
		rc = engine_scan(p->view, &p->ctx, &p->scan);
	}
	if (rc == READ_MISS)
		return rc;
	if (rc < 0) {
		failed_read(p, "scan", rc);
		return 0;
	}
	p->sim->ops++;
	if (!check_chunk(p))
		return 0;
	if (p->scan.more && p->scan.count) {
		read_ctx_reset(&p->ctx);
		next_chunk(p);
		return probe_scan(p);
	}
	if (p->scan.more || expected(p) != p->limit)
		violation(p->sim, "a %s scan at sequence %llu ends before key %u",
			  p->scan.reverse ? "reverse" : "forward", (unsigned long long)p->sequence, expected(p));
	return 0;
}

/* Runs it; what misses is parked. Takes @p. */
static void probe(struct parked *p)
{
	struct sim *s = p->sim;
	int rc = p->is_scan ? probe_scan(p) : probe_get(p);

	if (rc == READ_MISS && !s->violation[0]) {
		p->ready = false;
		rc = read_ctx_fetch(&p->ctx, fetched);
		if (rc == 0) {
			s->parked[s->parked_count++] = p;
			return;
		}
		violation(s, "a read that missed has nothing to fetch (%d)", rc);
	}
	parked_free(p);
}

void client_get(struct sim *s, uint64_t key, uint64_t where)
{
	struct parked *p;

	if (!s->e || !wait_for_slot(s, &s->parked_count, PARKED_MAX))
		return;
	p = parked_new(s);
	p->is_scan = false;
	p->key = (unsigned)(key % s->oracle.keys);
	p->view = NULL;
	if (look_at(s, p, where))
		probe(p);
	else
		parked_free(p);
}

static void scan_of(struct sim *s, struct parked *p, uint64_t seed)
{
	unsigned keys = s->oracle.keys;

	p->is_scan = true;
	p->scan = (struct scan){
		.sequence = p->sequence, .out = p->out, .reverse = seed & 1, .out_size = 300 + (seed >> 8) % 4000};
	p->next = p->scan.reverse ? keys - 1 : 0;
	p->limit = p->scan.reverse ? -1u : keys;
	if (seed & 2) {
		p->next = (unsigned)((seed >> 20) % keys);
		p->scan.has_start = true;
		p->scan.start = oracle_key(p->next, p->start_buf);
	}
	if (seed &
	    4) { /* where it ends: the first key that it does not give, forwards; the last that it does, backwards */
		unsigned limit = (unsigned)((seed >> 32) % keys);

		p->scan.has_limit = true;
		p->scan.limit = oracle_key(limit, p->limit_buf);
		p->limit = p->scan.reverse ? limit - 1 : limit;
		if (p->scan.reverse ? limit > p->next : limit < p->next)
			p->limit = p->next; /* an empty range */
	}
}

void client_scan(struct sim *s, uint64_t seed, uint64_t where)
{
	struct parked *p;

	if (!s->e || !wait_for_slot(s, &s->parked_count, PARKED_MAX))
		return;
	p = parked_new(s);
	p->is_scan = false;
	p->view = NULL;
	if (!look_at(s, p, where)) {
		parked_free(p);
		return;
	}
	scan_of(s, p, seed);
	probe(p);
}

void client_check_all(struct sim *s)
{
	/* Forwards and backwards by turns; and a few gets, for a scan never asks a filter. */
	client_scan(s, (s->recoveries & 1) | UINT64_C(3000) << 8, 0);
	for (unsigned i = 0; s->e && i < 4 && !s->violation[0]; i++)
		client_get(s, mix64(s->recoveries * 4 + i), 0);
	while (s->e && s->parked_count && !s->violation[0]) {
		/* Only what reads wait for: what else there is to do keeps its order. */
		if (!sim_queue_ready(s->service))
			sim_queue_perform(s->service);
		io_queue_poll(s->service);
		client_progress(s);
		life_over(s);
	}
}

/* ---- snapshots, views ---- */

void client_drop(struct sim *s, uint64_t n)
{
	struct place *p = &s->place[n % PLACES];

	if (!s->e || p->kind == PLACE_EMPTY)
		return;
	if (p->kind == PLACE_SNAPSHOT)
		engine_snapshot_release(s->e, p->sequence);
	else
		view_unref(p->view);
	*p = (struct place){0};
}

void client_hold(struct sim *s, uint64_t n, bool view)
{
	struct place *p = &s->place[n % PLACES];

	if (!s->e)
		return;
	client_drop(s, n);
	s->ops++;
	if (view) {
		p->view = engine_view(s->e);
		p->sequence = engine_last_sequence(s->e);
		p->kind = PLACE_VIEW;
	} else if (engine_snapshot_take(s->e, &p->sequence) == 0) {
		p->kind = PLACE_SNAPSHOT;
	}
}

/* ---- flushes and compactions ---- */

void client_flush(struct sim *s)
{
	uint64_t ticket;

	if (s->e && !s->flush && engine_flush_start(s->e, &ticket) == 0) {
		s->flush = ticket + 1;
		s->flush_last = s->oracle.accepted;
		s->ops++;
	}
}

void client_compact(struct sim *s, uint64_t seed)
{
	unsigned char a[ORACLE_KEY_MAX], b[ORACLE_KEY_MAX];
	struct slice begin = oracle_key((unsigned)((seed >> 8) % s->oracle.keys), a);
	struct slice end = oracle_key((unsigned)((seed >> 32) % s->oracle.keys), b);
	const struct slice *from = seed & 1 ? &begin : NULL, *to = seed & 2 ? &end : NULL;
	uint64_t ticket;
	int rc;

	if (!s->e || s->compaction)
		return;
	if (seed & 4)
		rc = engine_compact_level(s->e, (unsigned)(seed >> 3) % 4, from, to, &ticket);
	else
		rc = engine_compact_start(s->e, from, to, &ticket);
	if (rc == 0)
		s->compaction = ticket;
	s->ops++;
}

/* ---- going on ---- */

static void synced(struct sim *s)
{
	uint64_t upto = engine_synced(s->e);
	unsigned n = 0;

	while (n < s->syncing_count && s->syncing[n].position <= upto)
		acknowledge(s, s->syncing[n++].last, true);
	if (!n)
		return;
	s->syncing_count -= n;
	memmove(s->syncing, s->syncing + n, s->syncing_count * sizeof(s->syncing[0]));
}

static void answered(struct sim *s)
{
	int rc = s->flush ? engine_flush_done(s->e, s->flush - 1) : 0;

	if (rc)
		s->flush = 0;
	if (rc < 0 && !may_fail(s) && !s->env.full)
		violation(s, "a flush failed: %d", rc);
	if (rc == 1) /* all that was written before it is in tables */
		acknowledge(s, s->flush_last, true);
	rc = s->compaction ? engine_compact_done(s->e, s->compaction) : 0;
	if (rc)
		s->compaction = 0;
	if (rc < 0 && !may_fail(s) && !s->env.full)
		violation(s, "a compaction failed: %d", rc);
}

void client_progress(struct sim *s)
{
	if (!s->e || s->env.dead)
		return;
	for (unsigned i = 0; i < s->parked_count;) {
		struct parked *p = s->parked[i];

		if (!p->ready) {
			i++;
			continue;
		}
		s->parked[i] = s->parked[--s->parked_count];
		probe(p);
	}
	if (s->large)
		large_progress(s);
	if (s->syncing_count)
		synced(s);
	if (s->flush || s->compaction)
		answered(s);
	/* A failure for good: whoever waits hears that the outcome is unknown. */
	if (s->env.struck && s->syncing_count && !failure_heals(engine_state(s->e, NULL)) && engine_state(s->e, NULL))
		s->syncing_count = 0;
}

void client_forget(struct sim *s)
{
	for (unsigned i = 0; i < s->parked_count; i++) {
		struct parked *p = s->parked[i];

		while (p->ctx.in_flight)
			io_queue_wait(s->service, UINT64_MAX);
		parked_free(p);
	}
	s->parked_count = 0;
	large_unknown(s);
	for (unsigned i = 0; i < PLACES; i++)
		client_drop(s, i);
	s->syncing_count = 0;
	s->flush = s->compaction = 0;
}
