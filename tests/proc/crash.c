#include "tests/proc/crash.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum { ENTRIES = 8192, VALUE_MAX = 120000, TOLD = 10 };

/* What became of a batch, as its writer knows. */
enum fate { NEVER, SENT, ACKNOWLEDGED, REFUSED, UNKNOWN };

struct entry {
	_Atomic uint32_t fate;
	uint32_t sync;
	uint64_t sequence; /* of its last write; set before ACKNOWLEDGED, as is … */
	uint64_t at_ns;	   /* … when that was */
};

struct crash_journal {
	struct {
		uint64_t first; /* number of the first batch of this cycle */
		_Atomic uint64_t sent;
		struct entry entry[ENTRIES];
	} writer[CRASH_WRITERS];
};

/* ---- what a batch does ---- */

static uint64_t mix(uint64_t writer, uint64_t n, uint64_t i)
{
	uint64_t state = (writer + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (n << 8) ^ i;

	return test_random(&state);
}

static bool deletes(uint64_t n)
{
	return n % 5 == 0;
}

static int key_of(char key[32], unsigned writer, unsigned slot, unsigned i)
{
	return sprintf(key, "w%u-%02u-%u", writer, slot, i);
}

static size_t value_of(char *value, unsigned writer, uint64_t n, unsigned i)
{
	uint64_t h = mix(writer, n, i);
	size_t len = h % 16 ? 10 + (h >> 8) % 300 : 2000 + (h >> 8) % 10000;

	if (n % 61 == 7) /* with its like more than the log's ring takes at once */
		len = 60000 + h % (VALUE_MAX - 60000);
	for (size_t at = 0; at < len; at += 8) {
		uint64_t word = h * (at + 1);

		memcpy(value + at, &word, len - at < 8 ? len - at : 8);
	}
	return len;
}

static void fill_batch(struct shale_batch *batch, unsigned writer, uint64_t n)
{
	char key[32], value[VALUE_MAX];
	int kn;

	shale_batch_clear(batch);
	for (unsigned i = 0; i < CRASH_KEYS; i++) {
		kn = key_of(key, writer, (unsigned)(n % CRASH_SLOTS), i);
		if (deletes(n))
			shale_batch_delete(batch, key, (size_t)kn);
		else
			shale_batch_put(batch, key, (size_t)kn, value, value_of(value, writer, n, i));
	}
	kn = sprintf(key, "c%u", writer);
	shale_batch_put(batch, key, (size_t)kn, &n, sizeof(n));
}

/* ---- a writer ---- */

struct writer {
	struct crash *c;
	unsigned number;
};

static enum fate fate_of(int rc)
{
	switch (rc) {
	case 0:
		return ACKNOWLEDGED;
	case -SHALE_EUNKNOWN:
	case -SHALE_ESESSION:
		return UNKNOWN;
	default:
		return REFUSED;
	}
}

/* Now and then something that is more than a write: what it answers is no matter. */
static void disturb(struct shale_db *db, uint64_t dice)
{
	if (dice % 64 == 0)
		shale_flush(db);
	else if (dice % 256 == 1)
		shale_compact_range(db, NULL, 0, NULL, 0);
}

static int write_until_gone(void *arg)
{
	struct shale_write_options how = SHALE_WRITE_OPTIONS_INIT;
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_batch *batch = shale_batch_new();
	struct writer *w = arg;
	struct crash_journal *j = w->c->journal;
	unsigned number = w->number;
	struct shale_db *db = NULL;
	int rc;

	options.reconnect_ms = 1;
	rc = shale_open(w->c->d->socket, &options, &db);
	for (uint64_t i = 0; rc == 0 && i < ENTRIES; i++) {
		uint64_t n = j->writer[number].first + i, dice = mix(number, n, 99);
		struct entry *entry = &j->writer[number].entry[i];

		fill_batch(batch, number, n);
		how.sync = entry->sync = dice % 16 == 0;
		atomic_store(&entry->fate, SENT);
		atomic_store(&j->writer[number].sent, n);
		rc = shale_write(db, &how, batch, &entry->sequence);
		entry->at_ns = monotonic_ns();
		atomic_store(&entry->fate, fate_of(rc));
		if (rc == 0)
			disturb(db, dice >> 8);
	}
	shale_batch_free(batch);
	shale_close(db);
	return 0;
}

void crash_load(struct crash *c)
{
	for (unsigned i = 0; i < CRASH_WRITERS; i++) {
		struct writer w = {c, i};

		c->pid[i] = proc_fork(write_until_gone, &w);
	}
}

void crash_join(struct crash *c)
{
	for (unsigned i = 0; i < CRASH_WRITERS; i++) {
		if (c->pid[i])
			ck_assert_int_eq(proc_wait(c->pid[i]), 0);
		c->pid[i] = 0;
	}
}

/* ---- judging ---- */

__attribute__((format(printf, 2, 3))) static void complain(struct crash *c, const char *fmt, ...)
{
	va_list ap;

	if (c->lost++ >= TOLD)
		return;
	printf("cycle %u: ", c->cycles);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static uint64_t recovered_sequence(const struct crash *c)
{
	char instance[INSTANCE_LEN + 1];
	struct region region;
	uint64_t last;

	ck_ok(private_daemon_instance(c->d, instance));
	ck_ok(region_open(&region, instance, NULL));
	last = atomic_load(&region.header->last_sequence);
	region_close(&region, false);
	return last;
}

static uint64_t read_counter(struct shale_db *db, unsigned writer)
{
	uint64_t n = 0;
	char key[32];
	size_t len;
	int kn = sprintf(key, "c%u", writer), rc = shale_get(db, NULL, key, (size_t)kn, &n, sizeof(n), &len);

	ck_assert_msg(rc >= 0, "get %s: %s", key, shale_last_error(db));
	return rc == 0 ? n : 0;
}

/* Each batch of this cycle, against where the writer's counter stands and the sequence that was recovered. */
static void judge_batches(struct crash *c, unsigned w, uint64_t counter, enum crash_kind kind)
{
	struct crash_journal *j = c->journal;
	uint64_t first = j->writer[w].first, sent = atomic_load(&j->writer[w].sent);

	if (counter != c->counter[w] && (counter < first || counter > sent))
		complain(c, "writer %u: the counter is %llu; before the crash it was %llu, and %llu to %llu were sent",
			 w, (unsigned long long)counter, (unsigned long long)c->counter[w], (unsigned long long)first,
			 (unsigned long long)sent);
	for (uint64_t n = first; n <= sent; n++) {
		const struct entry *e = &j->writer[w].entry[n - first];
		unsigned long long number = n;
		bool there = n <= counter;

		c->batches++;
		if (e->fate == REFUSED && there)
			complain(c, "writer %u: batch %llu was refused, and is there", w, number);
		if (e->fate != ACKNOWLEDGED)
			continue;
		if (!there && (kind == CRASH_KILLED || (e->sync && e->at_ns < c->cut_ns)))
			complain(c, "writer %u: batch %llu, acknowledged%s as sequence %llu, is lost", w, number,
				 e->sync ? " and synced" : "", (unsigned long long)e->sequence);
		if (there != (e->sequence <= c->last_sequence))
			complain(c,
				 "writer %u: batch %llu (sequence %llu) is %sthere, but %llu is the last that was "
				 "recovered",
				 w, number, (unsigned long long)e->sequence, there ? "" : "not ",
				 (unsigned long long)c->last_sequence);
	}
	for (uint64_t n = first; n <= sent && n <= counter; n++)
		c->slot[w][n % CRASH_SLOTS] = n;
	c->counter[w] = counter;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* @before: recovered at the beginning of the cycle. */
static void judge_numbers(struct crash *c, uint64_t before)
{
	static uint64_t given[CRASH_WRITERS * ENTRIES];
	size_t count = 0;

	for (unsigned w = 0; w < CRASH_WRITERS; w++)
		for (size_t i = 0; i < ENTRIES && c->journal->writer[w].entry[i].fate != NEVER; i++)
			if (c->journal->writer[w].entry[i].fate == ACKNOWLEDGED)
				given[count++] = c->journal->writer[w].entry[i].sequence;
	qsort(given, count, sizeof(given[0]), by_value);
	for (size_t i = 0; i < count; i++) {
		if (given[i] < before + CRASH_KEYS + 1)
			complain(c, "sequence %llu was given twice", (unsigned long long)given[i]);
		before = given[i];
	}
}

struct content {
	bool seen[CRASH_WRITERS][CRASH_SLOTS][CRASH_KEYS];
	unsigned counters;
};

static void judge_entry(struct crash *c, struct content *content, const struct shale_iter *it)
{
	char key[32] = "", expected[VALUE_MAX];
	unsigned w = 0, s = 0, i = 0;
	size_t kn, vn;
	const void *k = shale_iter_key(it, &kn), *v = shale_iter_value(it, &vn);

	memcpy(key, k, kn < sizeof(key) ? kn : sizeof(key) - 1);
	if (sscanf(key, "c%u", &w) == 1) {
		content->counters++;
		return;
	}
	if (sscanf(key, "w%u-%u-%u", &w, &s, &i) != 3 || w >= CRASH_WRITERS || s >= CRASH_SLOTS || i >= CRASH_KEYS) {
		complain(c, "a key that nobody wrote: %s", key);
	} else if (!c->slot[w][s] || deletes(c->slot[w][s])) {
		complain(c, "%s is there, though batch %llu deleted it", key, (unsigned long long)c->slot[w][s]);
	} else {
		content->seen[w][s][i] = true;
		if (vn != value_of(expected, w, c->slot[w][s], i) || memcmp(v, expected, vn) != 0)
			complain(c, "%s does not hold what batch %llu wrote", key, (unsigned long long)c->slot[w][s]);
	}
}

static void judge_content(struct crash *c, struct shale_db *db)
{
	struct content content = {0};
	struct shale_iter *it;

	ck_ok(shale_iter_open(db, NULL, &it));
	for (shale_iter_seek_first(it); shale_iter_valid(it); shale_iter_next(it))
		judge_entry(c, &content, it);
	ck_assert_msg(shale_iter_error(it) == 0, "scan: %s", shale_last_error(db));
	shale_iter_close(it);
	for (unsigned w = 0; w < CRASH_WRITERS; w++)
		for (unsigned s = 0; s < CRASH_SLOTS; s++)
			for (unsigned i = 0; i < CRASH_KEYS; i++)
				if (!content.seen[w][s][i] && c->slot[w][s] && !deletes(c->slot[w][s]))
					complain(c, "key %u of slot %u of writer %u is gone; batch %llu put it", i, s,
						 w, (unsigned long long)c->slot[w][s]);
}

static void next_cycle(struct crash *c)
{
	for (unsigned w = 0; w < CRASH_WRITERS; w++) {
		uint64_t sent = atomic_load(&c->journal->writer[w].sent);

		memset(&c->journal->writer[w], 0, sizeof(c->journal->writer[w]));
		c->journal->writer[w].first = sent + 1;
		atomic_store(&c->journal->writer[w].sent, sent);
	}
	c->cycles++;
}

void crash_judge(struct crash *c, enum crash_kind kind)
{
	uint64_t before = c->last_sequence;
	struct shale_db *db = proc_open(c->d);

	c->last_sequence = recovered_sequence(c);
	for (unsigned w = 0; w < CRASH_WRITERS; w++)
		judge_batches(c, w, read_counter(db, w), kind);
	judge_numbers(c, before);
	judge_content(c, db);
	shale_close(db);
	next_cycle(c);
	ck_assert_msg(c->lost < 1000, "too much is wrong to go on");
}

/* ---- around it ---- */

void crash_begin(struct crash *c, struct private_daemon *d, uint64_t seed)
{
	memset(c, 0, sizeof(*c));
	c->d = d;
	c->seed = seed;
	c->journal = proc_shared(sizeof(*c->journal));
	for (unsigned w = 0; w < CRASH_WRITERS; w++)
		c->journal->writer[w].first = 1;
}

void crash_end(struct crash *c)
{
	printf("crash: cycles=%u kills=%u shutdowns=%u batches=%llu lost=%u\n", c->cycles, c->kills, c->shutdowns,
	       (unsigned long long)c->batches, c->lost);
	fflush(stdout);
	ck_assert_uint_eq(c->lost, 0);
	ck_assert_uint_gt(c->batches, c->cycles);
}

unsigned crash_rounds(unsigned seldom, unsigned often)
{
	const char *given = getenv("SHALE_CRASH");

	return given && *given ? often : seldom;
}
