/*
 * As many hostile submissions as fit into some seconds (SHALE_HOSTILE_SECONDS, 3 by default; `make hostile SECONDS=60`), against a real
 * daemon, beside a client that checks its data all the time.
 *
 * A submission counts when the daemon has taken it from the ring. Attackers are processes; each session follows one strategy:
 *
 *	mutated     what a library would send, one field changed now and then
 *	edges       every field one of the values at which arithmetic goes wrong
 *	random      random bytes, with the right session id
 *	payload     good submissions, broken payloads: batches, conditions, lists of keys, bounds
 *	racing      good submissions whose payloads, slots and indices a second thread changes meanwhile
 *
 * One that breaks the protocol ends its session, so strategies break it seldom on purpose; else the flood would be one of handshakes.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

enum { ATTACKERS = 2, BURST = 256, STRATEGIES = 5, KEYS = 512 };

struct counters {
	_Atomic uint64_t submissions, sessions, hung;
	_Atomic bool stop;
};

static struct scene s;
static struct counters *counters;

struct attacker {
	struct raw_client r;
	uint64_t seed;
	_Atomic bool stop;
};

static uint64_t roll(struct attacker *a, uint64_t n)
{
	return test_random(&a->seed) % n;
}

static uint64_t edge(struct attacker *a)
{
	const uint64_t n = a->r.arena_size;
	const uint64_t values[] = {0,
				   1,
				   2,
				   7,
				   8,
				   n - 1,
				   n,
				   n + 1,
				   n / 2,
				   INT32_MAX,
				   1ull << 31,
				   UINT32_MAX,
				   1ull << 32,
				   1ull << 56,
				   SEQUENCE_EMPTY,
				   INT64_MAX,
				   UINT64_MAX,
				   UINT64_MAX - n,
				   UINT64_MAX - 1,
				   monotonic_ns(),
				   monotonic_ns() + 1000000};

	return values[roll(a, ARRAY_SIZE(values))];
}

/* ---- payloads ---- */

static struct slice random_key(struct attacker *a, char *buf)
{
	return slice_of(buf, (size_t)sprintf(buf, "h%03u", (unsigned)roll(a, KEYS)));
}

static uint32_t put_batch(struct attacker *a, unsigned char *at)
{
	unsigned char *p = batch_begin(at);
	uint32_t n = (uint32_t)roll(a, 5);
	char key[16], value[300];

	for (uint32_t i = 0; i < n; i++) {
		memset(value, (int)i, sizeof(value));
		p = roll(a, 3) ? batch_append_put(p, random_key(a, key), slice_of(value, roll(a, sizeof(value))))
			       : batch_append_delete(p, random_key(a, key));
	}
	batch_set_count(at, n);
	return (uint32_t)(p - at);
}

static uint32_t put_conditions(struct attacker *a, unsigned char *at)
{
	unsigned char *p = at + CONDITION_HEADER_SIZE;
	uint32_t n = (uint32_t)roll(a, 4);
	char key[16];

	store_le32(at, n);
	for (uint32_t i = 0; i < n; i++) {
		struct condition c = {.type = (enum condition_type)roll(a, 4), .key = random_key(a, key)};

		if (c.type == CONDITION_EQUAL)
			c.value = slice_str("value");
		if (c.type == CONDITION_SEQUENCE)
			c.sequence = roll(a, 2) ? edge(a) : roll(a, 100000);
		p = condition_append(p, &c);
	}
	return (uint32_t)(p - at);
}

static uint32_t put_keys(struct attacker *a, unsigned char *at, uint32_t n, bool counted)
{
	unsigned char *p = at;
	char buf[16];

	if (counted) {
		store_le32(p, n);
		p += 4;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct slice key = random_key(a, buf);

		p = varint32_put(p, (uint32_t)key.size);
		memcpy(p, key.data, key.size);
		p += key.size;
	}
	return (uint32_t)(p - at);
}

/* A good submission, its payload at a place of its own in the lower half of the arena; the answer goes to the upper half. */
static struct sqe good(struct attacker *a, uint32_t slot)
{
	static const uint8_t ops[] = {OP_NOP,	 OP_GET,      OP_GET,	     OP_WRITE,	  OP_WRITE, OP_WRITE,
				      OP_SCAN,	 OP_SNAPSHOT, OP_RELEASE,    OP_PROPERTY, OP_SIZES, OP_MULTIGET,
				      OP_CANCEL, OP_KICK,     OP_CHECKPOINT, OP_CHECK};
	const size_t room = 2048;
	struct sqe sqe = {.session = a->r.session, .op = ops[roll(a, ARRAY_SIZE(ops))]};
	unsigned char *at = a->r.arena + slot % BURST * room;
	struct scan_args args = {.start_len = 4, .limit_len = 0, .max_count = (uint32_t)roll(a, 20)};
	char key[16];

	sqe.in_off = (uint64_t)(at - a->r.arena);
	sqe.out_off = a->r.arena_size / 2 + slot % BURST * room;
	sqe.out_len = (uint32_t)room;
	if (roll(a, 5000) == 0)
		sqe.op = roll(a, 2) ? OP_COMPACT : OP_FLUSH;
	switch (sqe.op) {
	case OP_GET:
		sqe.in_len = (uint32_t)random_key(a, (char *)at).size;
		break;
	case OP_WRITE:
		if (roll(a, 3) == 0)
			sqe.extra_len = put_conditions(a, at);
		sqe.in_len = sqe.extra_len + put_batch(a, at + sqe.extra_len);
		sqe.flags = (uint16_t)(roll(a, 1000) ? 0 : SQE_SYNC);
		break;
	case OP_SCAN:
		memcpy(at, &args, sizeof(args));
		memcpy(at + sizeof(args), random_key(a, key).data, 4);
		sqe.in_len = sizeof(args) + 4;
		sqe.flags =
			(uint16_t)(SQE_HAS_START | (roll(a, 2) ? SQE_REVERSE : 0) | (roll(a, 2) ? SQE_EXCLUSIVE : 0));
		break;
	case OP_SIZES:
	case OP_COMPACT:
		sqe.in_len = put_keys(a, at, 2, false);
		sqe.flags = sqe.op == OP_COMPACT && roll(a, 2) ? SQE_NO_WAIT : 0;
		break;
	case OP_MULTIGET:
		sqe.in_len = put_keys(a, at, (uint32_t)roll(a, 20), true);
		break;
	case OP_PROPERTY:
		sqe.in_len = (uint32_t)sprintf((char *)at, "leveldb.stats");
		break;
	case OP_SNAPSHOT:
	case OP_RELEASE:
		sqe.sequence = roll(a, 2) ? edge(a) : 0;
		break;
	case OP_CANCEL:
	case OP_KICK:
		sqe.sequence = roll(a, 2) ? edge(a) : a->r.session + roll(a, 4);
		break;
	default:
		break;
	}
	if (roll(a, 50) == 0)
		sqe.deadline_ns = edge(a);
	return sqe;
}

/* ---- strategies ---- */

static uint64_t strange(struct attacker *a)
{
	return roll(a, 2) ? edge(a) : test_random(&a->seed);
}

/* One field of a good one; a field whose change surely ends the session is left alone most of the time. */
static struct sqe mutated(struct attacker *a, uint32_t slot)
{
	struct sqe sqe = good(a, slot);

	switch (roll(a, 40)) {
	case 0:
		sqe.in_len = (uint32_t)roll(a, 4096);
		break;
	case 1:
		sqe.out_len = (uint32_t)roll(a, 4096);
		break;
	case 2:
		sqe.in_off = roll(a, a->r.arena_size / 2);
		break;
	case 3:
		sqe.out_off = roll(a, a->r.arena_size - sqe.out_len);
		break;
	case 4:
		sqe.op = (uint16_t)roll(a, OP_COUNT);
		sqe.extra_len = 0;
		break;
	case 5:
		sqe.flags = (uint16_t)roll(a, SQE_FLAGS_KNOWN + 1);
		break;
	case 6:
	case 7:
		sqe.sequence = strange(a);
		break;
	case 8:
		sqe.deadline_ns = strange(a);
		break;
	case 9:
		if (roll(a, 20) == 0)
			((unsigned char *)&sqe)[8 + roll(a, sizeof(sqe) - 8)] ^= (unsigned char)(1 << roll(a, 8));
		break;
	default:
		break;
	}
	return sqe;
}

static struct sqe edges(struct attacker *a, uint32_t slot)
{
	struct sqe sqe = {
		.session = a->r.session, .op = (uint16_t)roll(a, OP_COUNT), .flags = (uint16_t)(1 << roll(a, 8))};

	if (sqe.op == OP_COMPACT || sqe.op == OP_FLUSH)
		sqe.op = OP_GET; /* those of good() are enough */
	(void)slot;
	sqe.in_off = roll(a, 3) ? 0 : a->r.arena_size - roll(a, 64);
	sqe.in_len = (uint32_t)min_size(roll(a, 2) ? edge(a) : roll(a, 64), a->r.arena_size - sqe.in_off);
	sqe.out_off = roll(a, 3) ? a->r.arena_size / 2 : a->r.arena_size - roll(a, 64);
	sqe.out_len = (uint32_t)min_size(edge(a), a->r.arena_size - sqe.out_off);
	sqe.extra_len = sqe.op == OP_WRITE && roll(a, 2) ? (uint32_t)min_size(edge(a), sqe.in_len) : 0;
	sqe.sequence = edge(a);
	sqe.deadline_ns = roll(a, 3) ? 0 : edge(a);
	if (roll(a, 500) == 0) { /* outside, at last */
		uint64_t *field = roll(a, 2) ? &sqe.in_off : &sqe.out_off;

		*field = edge(a);
	}
	return sqe;
}

static struct sqe noise(struct attacker *a, uint32_t slot)
{
	struct sqe sqe;

	(void)slot;
	for (size_t i = 0; i < sizeof(sqe); i += 8)
		store_le64((char *)&sqe + i, test_random(&a->seed));
	sqe.session = a->r.session;
	if (roll(a, 200)) { /* random, and yet not ended at once */
		sqe.op %= OP_COUNT;
		if (sqe.op == OP_COMPACT || sqe.op == OP_FLUSH)
			sqe.op = OP_WRITE;
		sqe.flags &= SQE_FLAGS_KNOWN;
		sqe.in_off %= a->r.arena_size;
		sqe.in_len %= (uint32_t)min_size(a->r.arena_size - sqe.in_off, 4096);
		sqe.out_off %= a->r.arena_size;
		sqe.out_len %= (uint32_t)(a->r.arena_size - sqe.out_off);
		sqe.extra_len = sqe.op == OP_WRITE && sqe.in_len ? sqe.extra_len % sqe.in_len : 0;
	}
	return sqe;
}

static struct sqe broken_payload(struct attacker *a, uint32_t slot)
{
	struct sqe sqe = good(a, slot);
	unsigned char *at = a->r.arena + sqe.in_off;

	if (!sqe.in_len)
		return sqe;
	for (unsigned n = (unsigned)roll(a, 4); n > 0; n--) {
		size_t i = roll(a, sqe.in_len);

		if (roll(a, 2) && i + 4 <= sqe.in_len)
			store_le32(at + i, (uint32_t)edge(a));
		else
			at[i] = (unsigned char)(roll(a, 2) ? 0xff : roll(a, 256));
	}
	if (roll(a, 8) == 0)
		sqe.in_len = (uint32_t)roll(a, sqe.in_len + 1);
	if (sqe.extra_len)
		sqe.extra_len =
			roll(a, 4) ? (uint32_t)min_size(sqe.extra_len, sqe.in_len) : (uint32_t)roll(a, sqe.in_len + 1);
	return sqe;
}

/* Words that the daemon may be about to read. The indices only seldom: a wrong one ends the session. */
static void *scribble(void *arg)
{
	struct attacker *a = arg;
	uint64_t seed = a->seed ^ UINT64_C(0x9e3779b97f4a7c15);
	struct raw_client *r = &a->r;

	while (!atomic_load(&a->stop)) {
		uint64_t v = test_random(&seed), where = v % 1000;
		unsigned char *at = where < 700	  ? r->arena + test_random(&seed) % (BURST * 2048)
				    : where < 900 ? r->arena + test_random(&seed) % r->arena_size
				    : where < 990 ? r->base + SHM_PAGE + 2 * SHM_LINE /* parked */
				    : where < 995
					    ? r->base + 2 * SHM_PAGE + test_random(&seed) % 256
					    : (unsigned char *)r->ring.sq + test_random(&seed) % (r->ring.entries * 64);

		if (where >= 997 && v >> 60)
			continue;
		/* Volatile: another process reads it. */
		*(volatile unsigned char *)at = (unsigned char)(v >> 32);
	}
	return NULL;
}

/* ---- attackers ---- */

static void drain(struct attacker *a)
{
	/* Not by raw_take(): a scribbled tail may say anything. */
	for (unsigned i = 0; i < 4 * BURST && ring_cq_peek(&a->r.ring); i++)
		ring_cq_pop(&a->r.ring);
}

/* Up to some thousand submissions, or until the daemon has had enough. Returns how many it took. */
static uint64_t attack(struct attacker *a)
{
	static struct sqe (*const strategies[STRATEGIES])(struct attacker *, uint32_t) = {mutated, edges, noise,
											  broken_payload, good};
	unsigned strategy = (unsigned)roll(a, STRATEGIES), bursts = (unsigned)roll(a, 100);
	struct raw_client *r = &a->r;
	bool racing = strategy == 4, late = !roll(a, 10);
	uint64_t taken = 0;
	pthread_t thread;
	uint32_t before = 0;

	a->stop = false;
	if (racing)
		ck_assert_int_eq(pthread_create(&thread, NULL, scribble, a), 0);
	for (unsigned burst = 0; burst < bursts && !atomic_load(&counters->stop); burst++) {
		uint32_t n = (uint32_t)roll(a, BURST) + 1, head = 0;
		uint64_t begin = monotonic_ns();

		for (uint32_t k = 0; k < n; k++) {
			struct sqe *slot = ring_sq_slot(&r->ring, k);

			*slot = strategies[strategy](a, burst * BURST + k);
			slot->user_data = roll(a, 100);
		}
		raw_publish(r, n);
		if (racing)
			raw_ring(r);
		/* Until they have been taken; sq_head is the daemon's word, and it writes it anew with each visit. */
		for (unsigned spins = 0; (head = atomic_load(&r->ring.theirs->sq_head)) != r->ring.sq_tail; spins++) {
			if (!late || spins > 1000)
				drain(a);
			if (spins % 64 == 63 && raw_hung_up(r, 0))
				break;
			if (racing && monotonic_ns() - begin > UINT64_C(200000000))
				break; /* its last value was scribbled over, and the daemon waits for us */
			if (monotonic_ns() - begin > UINT64_C(60000000000)) {
				atomic_fetch_add(&counters->hung, 1);
				break;
			}
			usleep(spins < 20 ? 20 : 200); /* the cores are for the daemon */
		}
		if (head != r->ring.sq_tail) {
			uint32_t some = head - before;

			taken += racing || some > n ? 0 : some;
			break;
		}
		taken += n;
		before = head;
		drain(a);
	}
	atomic_store(&a->stop, true);
	if (racing)
		pthread_join(thread, NULL);
	return taken;
}

static int attacker_run(void *arg)
{
	struct attacker a = {.seed = *(uint64_t *)arg};

	while (!atomic_load(&counters->stop)) {
		struct hello hello = raw_hello();

		hello.ring_entries = (uint32_t)(BURST << roll(&a, 2));
		if (raw_try(s.d.socket, &hello, &a.r) < 0) {
			usleep(1000); /* its earlier sessions are being taken down */
			continue;
		}
		atomic_fetch_add(&counters->submissions, attack(&a));
		atomic_fetch_add(&counters->sessions, 1);
		raw_close(&a.r);
	}
	return 0;
}

static unsigned seconds(void)
{
	const char *given = getenv("SHALE_HOSTILE_SECONDS");

	return given && *given ? (unsigned)strtoul(given, NULL, 10) : 3;
}

/* Whatever is submitted, the daemon lives, the client beside has right answers in time, and nothing is kept. */
START_TEST(flood)
{
	uint64_t seed = test_seed(), seeds[ATTACKERS], until, rounds, slowest;
	pid_t pid[ATTACKERS];

	counters = proc_shared(sizeof(*counters));
	scene_begin(&s, "engine.write_buffer=8M", NULL);
	for (unsigned i = 0; i < ATTACKERS; i++) {
		seeds[i] = test_random(&seed);
		pid[i] = proc_fork(attacker_run, &seeds[i]);
	}
	for (until = monotonic_ns() + seconds() * UINT64_C(1000000000); monotonic_ns() < until;) {
		scene_alive(&s);
		witness_progress(&s.witness, 10);
		usleep(20000);
	}
	atomic_store(&counters->stop, true);
	for (unsigned i = 0; i < ATTACKERS; i++)
		ck_assert_int_eq(proc_wait(pid[i]), 0);
	ck_assert_uint_eq(atomic_load(&counters->hung), 0);
	rounds = atomic_load(&s.witness.rounds);
	slowest = atomic_load(&s.witness.slowest_ns);
	scene_check(&s);
	printf("the client beside: %llu rounds, slowest call %.1f ms\n", (unsigned long long)rounds,
	       (double)slowest / 1e6);
	printf("hostile: submissions=%llu sessions=%llu violations=%llu daemon=alive\n",
	       (unsigned long long)atomic_load(&counters->submissions),
	       (unsigned long long)atomic_load(&counters->sessions),
	       (unsigned long long)proc_stats(&s.d).protocol_errors);
	fflush(stdout);
	scene_end(&s);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {flood};

	return test_main("hostile_flood", 100 * PATIENCE + seconds(), tests, ARRAY_SIZE(tests));
}
