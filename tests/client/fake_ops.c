/*
 * fake_ops.c - the fake daemon's store, and what each operation does with it.
 */
#include <errno.h>
#include <stdlib.h>

#include "shm/batch.h"
#include "shm/condition.h"
#include "shm/error.h"
#include "tests/client/fake_daemon.h"
#include "tests/test.h"

/* ---- the store: every version of every key, by key, newest first ---- */

static struct slice copy(struct slice s)
{
	unsigned char *p = malloc(s.size + 1);

	ck_assert_ptr_nonnull(p);
	if (s.size)
		memcpy(p, s.data, s.size);
	return slice_of(p, s.size);
}

/* The first entry with a key >= @key. */
static size_t lower_bound(const struct fake *f, struct slice key)
{
	size_t lo = 0, hi = f->entry_count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (slice_compare(f->entries[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void store(struct fake *f, struct slice key, struct slice value, bool deleted)
{
	size_t at = lower_bound(f, key);

	if (f->entry_count == f->entry_room) {
		f->entry_room = f->entry_room ? f->entry_room * 2 : 64;
		f->entries = realloc(f->entries, f->entry_room * sizeof(*f->entries));
		ck_assert_ptr_nonnull(f->entries);
	}
	memmove(&f->entries[at + 1], &f->entries[at], (f->entry_count - at) * sizeof(*f->entries));
	f->entries[at] = (struct fake_entry){copy(key), copy(value), ++f->sequence, deleted};
	f->entry_count++;
}

/* The version of the key at @at that @sequence sees, or NULL. */
static const struct fake_entry *visible(const struct fake *f, size_t at, uint64_t sequence)
{
	struct slice key = f->entries[at].key;

	for (; at < f->entry_count && slice_equal(f->entries[at].key, key); at++) {
		if (f->entries[at].sequence <= sequence)
			return f->entries[at].deleted ? NULL : &f->entries[at];
	}
	return NULL;
}

/* ---- answering ---- */

static void answer_bytes(struct fake_session *s, const struct sqe *sqe, struct slice bytes, struct cqe *cqe)
{
	cqe->len = (uint32_t)bytes.size;
	if (bytes.size && bytes.size <= sqe->out_len)
		memcpy(s->arena + sqe->out_off, bytes.data, bytes.size);
}

static void do_get(struct fake *f, struct fake_session *s, const struct sqe *sqe, uint64_t sequence, struct cqe *cqe)
{
	struct slice key = slice_of(s->arena + sqe->in_off, sqe->in_len);
	size_t at = lower_bound(f, key);
	const struct fake_entry *e = NULL;

	if (at < f->entry_count && slice_equal(f->entries[at].key, key))
		e = visible(f, at, sequence);
	cqe->sequence = e ? e->sequence : 0;
	if (e)
		answer_bytes(s, sqe, e->value, cqe);
	else
		cqe->res = SHALE_NOTFOUND;
}

static const struct fake_entry *find(const struct fake *f, struct slice key, uint64_t sequence)
{
	size_t at = lower_bound(f, key);

	return at < f->entry_count && slice_equal(f->entries[at].key, key) ? visible(f, at, sequence) : NULL;
}

static void do_multiget(struct fake *f, struct fake_session *s, const struct sqe *sqe, uint64_t sequence,
			struct cqe *cqe)
{
	const unsigned char *p = s->arena + sqe->in_off + 4, *end = s->arena + sqe->in_off + sqe->in_len;
	unsigned char *out = s->arena + sqe->out_off;
	size_t used = 0, need = 0;

	for (uint32_t n = load_le32(p - 4); n > 0; n--) {
		const struct fake_entry *e;
		struct slice key;

		p = length_prefixed_get(p, end, &key);
		ck_assert_ptr_nonnull(p);
		e = find(f, key, sequence);
		need += 16 + (e ? e->value.size : 0);
		if (need > sqe->out_len)
			continue;
		store_le32(out + used, e ? 0 : SHALE_NOTFOUND);
		store_le32(out + used + 4, e ? (uint32_t)e->value.size : 0);
		store_le64(out + used + 8, e ? e->sequence : 0);
		if (e)
			memcpy(out + used + 16, e->value.data, e->value.size);
		used += 16 + (e ? e->value.size : 0);
	}
	ck_assert_ptr_eq(p, end);
	cqe->len = (uint32_t)need;
}

/* True when all conditions hold; else the completion names the first that does not. */
static bool conditions_hold(const struct fake *f, struct slice bytes, struct cqe *cqe)
{
	struct condition_reader reader;
	struct condition c;

	condition_reader_init(&reader, bytes);
	for (uint32_t i = 0; condition_reader_next(&reader, &c); i++) {
		const struct fake_entry *e = find(f, c.key, f->sequence);
		bool holds = c.type == CONDITION_ABSENT	   ? !e
			     : c.type == CONDITION_PRESENT ? e != NULL
			     : c.type == CONDITION_EQUAL   ? e && slice_equal(e->value, c.value)
							   : e && e->sequence == c.sequence;

		if (holds)
			continue;
		cqe->res = SHALE_MISMATCH;
		cqe->len = i;
		cqe->sequence = e ? e->sequence : 0;
		return false;
	}
	return true;
}

static void do_write(struct fake *f, struct fake_session *s, const struct sqe *sqe, struct cqe *cqe)
{
	struct slice payload = copy(slice_of(s->arena + sqe->in_off, sqe->in_len));
	struct slice conditions = slice_of(payload.data, sqe->extra_len);
	struct slice batch = slice_of(payload.data + sqe->extra_len, sqe->in_len - sqe->extra_len);
	const struct batch_limits limits = {.max_key = f->max_key, .max_value = f->max_request};
	struct batch_reader reader;
	struct batch_record record;
	uint32_t count;

	cqe->res = s->read_only ? -EROFS : batch_check(batch, &limits, NULL);
	if (cqe->res == 0 && conditions.size)
		cqe->res = conditions_check(conditions, &limits, &count);
	if (cqe->res == 0 && (!conditions.size || conditions_hold(f, conditions, cqe))) {
		batch_reader_init(&reader, batch);
		while (batch_reader_next(&reader, &record))
			store(f, record.key, record.value, record.type == BATCH_DELETE);
		cqe->sequence = f->sequence;
		atomic_fetch_add(&f->writes, 1);
	}
	free((void *)payload.data);
}

static bool in_range(const struct sqe *sqe, struct slice key, struct slice start, struct slice limit)
{
	bool reverse = sqe->flags & SQE_REVERSE;
	int c;

	if (sqe->flags & SQE_HAS_START) {
		c = slice_compare(key, start);
		if (c == 0 && (sqe->flags & SQE_EXCLUSIVE))
			return false;
		if (reverse ? c > 0 : c < 0)
			return false;
	}
	if (sqe->flags & SQE_HAS_LIMIT) {
		c = slice_compare(key, limit);
		if (reverse ? c < 0 : c >= 0)
			return false;
	}
	return true;
}

static void do_scan(struct fake *f, struct fake_session *s, const struct sqe *sqe, uint64_t sequence, struct cqe *cqe)
{
	bool reverse = sqe->flags & SQE_REVERSE;
	unsigned char *out = s->arena + sqe->out_off;
	struct scan_args args;
	struct slice start, limit;
	size_t used = 0;

	memcpy(&args, s->arena + sqe->in_off, sizeof(args));
	start = slice_of(s->arena + sqe->in_off + sizeof(args), args.start_len);
	limit = slice_of(start.data + start.size, args.limit_len);
	ck_assert_uint_eq(sqe->in_len, sizeof(args) + args.start_len + args.limit_len);
	for (size_t i = 0; i < f->entry_count; i++) {
		size_t at = reverse ? f->entry_count - 1 - i : i;
		const struct fake_entry *e;
		size_t size;

		if (at > 0 && slice_equal(f->entries[at - 1].key, f->entries[at].key))
			continue; /* not the newest version of its key */
		e = visible(f, at, sequence);
		if (!e || !in_range(sqe, e->key, start, limit))
			continue;
		size = varint_length(e->key.size) + varint_length(e->value.size) + e->key.size + e->value.size;
		if (used + size > sqe->out_len) {
			cqe->flags |= CQE_MORE;
			cqe->len = (uint32_t)(used ? used : size);
			return;
		}
		unsigned char *p = varint32_put(out + used, (uint32_t)e->key.size);

		p = varint32_put(p, (uint32_t)e->value.size);
		memcpy(p, e->key.data, e->key.size);
		memcpy(p + e->key.size, e->value.data, e->value.size);
		used += size;
	}
	cqe->len = (uint32_t)used;
}

static bool pinned(const struct fake *f, uint64_t sequence)
{
	for (int i = 0; i < FAKE_SESSIONS; i++) {
		for (unsigned k = 0; k < f->session[i].pin_count; k++) {
			if (f->session[i].pins[k] == sequence)
				return true;
		}
	}
	return false;
}

static void do_release(struct fake *f, struct fake_session *s, const struct sqe *sqe, struct cqe *cqe)
{
	cqe->res = -ENOENT;
	for (unsigned k = 0; k < s->pin_count; k++) {
		if (s->pins[k] != sqe->sequence)
			continue;
		s->pins[k] = s->pins[--s->pin_count];
		atomic_fetch_sub(&f->pins, 1);
		cqe->res = 0;
		return;
	}
}

void fake_request(struct fake *f, struct fake_session *s, const struct sqe *sqe, struct cqe *cqe)
{
	uint64_t sequence = sqe->sequence && sqe->op != OP_SNAPSHOT ? sqe->sequence : f->sequence, bytes = 4711;

	atomic_store(&f->deadline_ns, sqe->deadline_ns);
	if (atomic_load(&f->mood) == MOOD_FAIL) {
		cqe->res = atomic_load(&f->fail_code);
		return;
	}
	if ((sqe->op == OP_GET || sqe->op == OP_SCAN || sqe->op == OP_MULTIGET) && sqe->sequence &&
	    !pinned(f, sqe->sequence)) {
		cqe->res = -SHALE_EOUSTED;
		return;
	}
	cqe->sequence = sequence;
	switch (sqe->op) {
	case OP_GET:
		do_get(f, s, sqe, sequence, cqe);
		break;
	case OP_MULTIGET:
		do_multiget(f, s, sqe, sequence, cqe);
		break;
	case OP_WRITE:
		do_write(f, s, sqe, cqe);
		break;
	case OP_SCAN:
		do_scan(f, s, sqe, sequence, cqe);
		break;
	case OP_SNAPSHOT:
		atomic_store(&f->last_lease, (unsigned)sqe->sequence);
		cqe->sequence = f->sequence;
		ck_assert_uint_lt(s->pin_count, FAKE_PINS);
		s->pins[s->pin_count++] = f->sequence;
		atomic_fetch_add(&f->pins, 1);
		break;
	case OP_RELEASE:
		do_release(f, s, sqe, cqe);
		break;
	case OP_PROPERTY:
		if (slice_equal(slice_of(s->arena + sqe->in_off, sqe->in_len), slice_str("leveldb.stats")))
			answer_bytes(s, sqe, slice_str("all is well\n"), cqe);
		else
			cqe->res = SHALE_NOTFOUND;
		break;
	case OP_SIZES:
		answer_bytes(s, sqe, slice_of(&bytes, sizeof(bytes)), cqe);
		break;
	default:
		break; /* NOP, FLUSH, COMPACT */
	}
}

/* Wrong answers to a scan. */
void fake_bad_scan(struct fake *f, struct fake_session *s, const struct sqe *sqe, int mood, struct cqe *cqe)
{
	struct sqe first = *sqe;

	switch (mood) {
	case MOOD_GARBAGE_SCAN:
		cqe->len = (uint32_t)min_size(sqe->out_len, 1000);
		memset(s->arena + sqe->out_off, 0xfe, cqe->len);
		break;
	case MOOD_CIRCLE_SCAN:
		first.flags &= (uint16_t) ~(SQE_EXCLUSIVE | SQE_HAS_START);
		do_scan(f, s, &first, f->sequence, cqe);
		cqe->flags |= CQE_MORE;
		break;
	case MOOD_EMPTY_MORE:
		cqe->flags |= CQE_MORE;
		break;
	}
}
