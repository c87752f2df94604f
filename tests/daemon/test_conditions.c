/*
 * Conditional writes: judged and applied in one step, with what fails named; how they keep their place among a session's writes when they
 * have to fetch blocks; what ends them early.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>

#include "shm/condition.h"

/* The payload of a write of @key = @value under @n conditions, at @at in the client's arena; a submission for it @ahead places on. */
static struct sqe *prepare_write(struct client *c, unsigned ahead, size_t at, const struct condition *conditions,
				 unsigned n, const char *key, const char *value)
{
	unsigned char *begin = c->arena + at, *p = begin + CONDITION_HEADER_SIZE, *batch;
	struct sqe *sqe = prepare(c, ahead, OP_WRITE);

	store_le32(begin, n);
	for (unsigned i = 0; i < n; i++)
		p = condition_append(p, &conditions[i]);
	batch = n ? p : begin;
	p = batch_append_put(batch_begin(batch), slice_str(key), slice_str(value));
	batch_set_count(batch, 1);
	sqe->in_off = at;
	sqe->in_len = (uint32_t)(p - begin);
	sqe->extra_len = (uint32_t)(batch - begin);
	sqe->out_off = sqe->out_len = 0;
	return sqe;
}

static struct cqe write_if(struct client *c, const struct condition *conditions, unsigned n, const char *key,
			   const char *value)
{
	prepare_write(c, 0, 0, conditions, n, key, value);
	publish(c, 1);
	return take(c);
}

static struct condition absent(const char *key)
{
	return (struct condition){.type = CONDITION_ABSENT, .key = slice_str(key)};
}

static struct condition present(const char *key)
{
	return (struct condition){.type = CONDITION_PRESENT, .key = slice_str(key)};
}

static struct condition equal(const char *key, const char *value)
{
	return (struct condition){.type = CONDITION_EQUAL, .key = slice_str(key), .value = slice_str(value)};
}

static struct condition sequence_is(const char *key, uint64_t sequence)
{
	return (struct condition){.type = CONDITION_SEQUENCE, .key = slice_str(key), .sequence = sequence};
}

static void ck_mismatch(struct cqe cqe, uint32_t which, uint64_t sequence)
{
	ck_assert_int_eq(cqe.res, SHALE_MISMATCH);
	ck_assert_uint_eq(cqe.len, which);
	ck_assert_uint_eq(cqe.sequence, sequence);
}

/* Writes rewrite everything into tables that nothing has cached, so that the next look at a key has to read the disk. */
static void evict(struct client *c)
{
	static const unsigned char everything[] = {0, 0};

	ck_assert_int_eq(call(c, OP_COMPACT, 0, 0, everything, sizeof(everything)).res, 0);
}

/* Each kind of condition, when it holds and when it does not; wherever the entry lies. A deletion is an absent key. */
START_TEST(each_kind)
{
	struct client c;

	rig_start();
	client_open(&c, false);
	ck_assert_uint_eq(put(&c, 0, "a", "one").sequence, 1);
	put(&c, 0, "gone", "x");
	put(&c, 0, "gone", NULL);
	for (int round = 0; round < 2; round++) {
		uint64_t at = call(&c, OP_GET, 0, 0, "a", 1).sequence;

		ck_mismatch(
			write_if(&c, &(struct condition){.type = CONDITION_ABSENT, .key = slice_str("a")}, 1, "w", "1"),
			0, at);
		ck_mismatch(write_if(&c, (struct condition[]){present("gone")}, 1, "w", "1"), 0, 0);
		ck_mismatch(write_if(&c, (struct condition[]){present("never")}, 1, "w", "1"), 0, 0);
		ck_mismatch(write_if(&c, (struct condition[]){equal("a", "two")}, 1, "w", "1"), 0, at);
		ck_mismatch(write_if(&c, (struct condition[]){equal("gone", "x")}, 1, "w", "1"), 0, 0);
		ck_mismatch(write_if(&c, (struct condition[]){sequence_is("a", at + 1)}, 1, "w", "1"), 0, at);
		ck_mismatch(write_if(&c, (struct condition[]){sequence_is("never", 0)}, 1, "w", "1"), 0, 0);
		ck_mismatch(write_if(&c,
				     (struct condition[]){present("a"), absent("gone"), equal("a", ""), absent("a")}, 4,
				     "w", "1"),
			    2, at);
		ck_get(&c, 0, "w", NULL);
		ck_assert_int_eq(write_if(&c,
					  (struct condition[]){present("a"), absent("gone"), equal("a", "one"),
							       sequence_is("a", at), absent("never")},
					  5, "w", "1")
					 .res,
				 0);
		ck_get(&c, 0, "w", "1");
		ck_assert_int_eq(put(&c, 0, "w", NULL).res, 0);
		evict(&c);
	}
	/* No condition at all is a write. */
	ck_assert_int_eq(write_if(&c, NULL, 0, "plain", "1").res, 0);
	client_close(&c);
	rig_stop();
}
END_TEST

/* A GET tells the sequence of the entry, not the one read at; so does each key of a MULTIGET. */
START_TEST(reads_tell_sequences)
{
	static const unsigned char many[] = {3, 0, 0, 0, 1, 'b', 2, 'n', 'o', 1, 'a'};
	struct client c;
	struct cqe cqe;

	rig_start();
	client_open(&c, false);
	for (int round = 0; round < 2; round++) {
		const unsigned char *p = answer(&c);

		put(&c, 0, "a", "one");
		put(&c, 0, "b", "two");
		put(&c, 0, "c", "three");
		ck_assert_uint_eq(call(&c, OP_GET, 0, 0, "a", 1).sequence, 3 * (uint64_t)round + 1);
		ck_assert_uint_eq(call(&c, OP_GET, 0, 0, "no", 2).sequence, 0);
		cqe = call(&c, OP_MULTIGET, 0, 0, many, sizeof(many));
		ck_assert_int_eq(cqe.res, 0);
		ck_assert_uint_eq(cqe.len, 3 * 16 + 6);
		ck_assert_int_eq((int)load_le32(p), 0);
		ck_assert_uint_eq(load_le32(p + 4), 3);
		ck_assert_uint_eq(load_le64(p + 8), 3 * (uint64_t)round + 2);
		ck_assert_int_eq(memcmp(p + 16, "two", 3), 0);
		ck_assert_int_eq((int)load_le32(p + 19), SHALE_NOTFOUND);
		ck_assert_uint_eq(load_le64(p + 27), 0);
		ck_assert_uint_eq(load_le64(p + 43), 3 * (uint64_t)round + 1);
		ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	}
	client_close(&c);
	rig_stop();
}
END_TEST

/* Conditions that are not well formed are refused with a code; conditions where none can be, or more of them than payload, end the session. */
START_TEST(bad_conditions)
{
	struct condition many = absent("k");
	struct client c, bad;
	struct sqe *sqe;

	rig_start();
	client_open(&c, false);
	for (int i = 0; i < 5; i++) {
		sqe = prepare_write(&c, 0, 0, &many, 1, "w", "1");
		switch (i) {
		case 0:
			c.arena[CONDITION_HEADER_SIZE] = 77; /* the type */
			break;
		case 1:
			store_le32(c.arena, 2); /* more than there are */
			break;
		case 2:
			store_le32(c.arena, CONDITIONS_MAX + 1);
			break;
		case 3:
			sqe->extra_len--; /* ends inside a key; the batch begins too early */
			break;
		case 4:
			sqe->extra_len = 2;
			break;
		}
		publish(&c, 1);
		ck_assert_int_eq(take(&c).res, i == 2 ? -E2BIG : -EBADMSG);
	}
	ck_get(&c, 0, "w", NULL);
	client_open(&bad, false);
	prepare_write(&bad, 0, 0, &many, 1, "w", "1")->op = OP_GET;
	publish(&bad, 1);
	await_mail(bad.s, SESSION_BROKEN);
	client_close(&bad);
	client_close(&c);
	rig_stop();
}
END_TEST

/* Many clients add to one counter by compare-and-set: no addition is lost, whatever is flushed or merged meanwhile. */
enum { ADDERS = 4, ADDITIONS = 150 };

static void *add(void *arg)
{
	struct client *c = arg;
	char value[32];

	for (int i = 0; i < ADDITIONS;) {
		struct cqe cqe = call(c, OP_GET, 0, 0, "counter", 7);
		struct condition unchanged = sequence_is("counter", cqe.sequence);

		ck_assert_int_eq(cqe.res, 0);
		memcpy(value, answer(c), cqe.len);
		value[cqe.len] = 0;
		snprintf(value, sizeof(value), "%d", atoi(value) + 1);
		cqe = write_if(c, &unchanged, 1, "counter", value);
		if (cqe.res == 0)
			i++;
		else
			ck_assert_int_eq(cqe.res, SHALE_MISMATCH);
		if (i % 50 == 49)
			ck_assert_int_eq(call(c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	}
	return NULL;
}

START_TEST(counter)
{
	struct client clients[ADDERS];
	pthread_t threads[ADDERS];
	char total[32];

	rig_start();
	for (int i = 0; i < ADDERS; i++)
		client_open(&clients[i], false);
	put(&clients[0], 0, "counter", "0");
	for (int i = 0; i < ADDERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add, &clients[i]), 0);
	for (int i = 0; i < ADDERS; i++)
		pthread_join(threads[i], NULL);
	snprintf(total, sizeof(total), "%d", ADDERS * ADDITIONS);
	ck_get(&clients[0], 0, "counter", total);
	for (int i = 0; i < ADDERS; i++)
		client_close(&clients[i]);
	rig_stop();
}
END_TEST

/*
 * A conditional write that has to read the disk keeps its place: what its session writes after it is applied after it, also when that could go at
 * once. The keys are looked at in tables that were just written and are in no cache.
 */
START_TEST(order_is_kept_over_a_fetch)
{
	uint64_t fetched = 0;
	struct client c;
	char key[16], old[16];

	rig_start();
	client_open(&c, false);
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "k%03d", i);
		put(&c, 0, key, "old");
	}
	for (int i = 0; i < 40; i++) {
		struct condition was;
		struct cqe first, second, third;

		if (i % 8 == 0)
			evict(&c);
		snprintf(key, sizeof(key), "k%03d", i);
		strcpy(old, key);
		was = equal(key, "old");
		prepare_write(&c, 0, 0, &was, 1, key, "first");
		prepare_write(&c, 1, 1024, NULL, 0, key, "second");
		was.value = slice_str("second");
		prepare_write(&c, 2, 2048, &was, 1, key, "third");
		publish(&c, 3);
		first = take(&c);
		second = take(&c);
		third = take(&c);
		ck_assert_uint_lt(first.user_data, second.user_data);
		ck_assert_uint_lt(second.user_data, third.user_data);
		ck_assert_int_eq(first.res, 0);
		ck_assert_int_eq(second.res, 0);
		ck_assert_int_eq(third.res, 0);
		ck_assert_uint_lt(first.sequence, second.sequence);
		ck_assert_uint_lt(second.sequence, third.sequence);
		fetched += !!(first.delay & DELAY_READ);
		ck_get(&c, 0, key, "third");
	}
	ck_assert_uint_gt(fetched, 0); /* else this tested nothing */
	client_close(&c);
	rig_stop();
}
END_TEST

/* A session that ends, or cancels, while its conditional write fetches: nothing of it is applied later than its answer, nothing leaks, others go on. */
START_TEST(ended_while_fetching)
{
	struct client c, other;
	char key[16];

	rig_start();
	client_open(&other, false);
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "k%03d", i);
		put(&other, 0, key, "old");
	}
	for (int i = 0; i < 20; i++) {
		struct condition was;
		struct cqe cqe;
		bool cancelled = false;

		evict(&other);
		client_open(&c, false);
		snprintf(key, sizeof(key), "k%03d", i);
		was = equal(key, "old");
		prepare_write(&c, 0, 0, &was, 1, key, "new");
		prepare_write(&c, 1, 1024, NULL, 0, "after", key);
		prepare(&c, 2, OP_CANCEL)->sequence = c.user_data - 2;
		publish(&c, i % 2 ? 2 : 3);
		if (i % 2 == 0) {
			for (int n = 0; n < 3; n++) {
				cqe = take(&c);
				cancelled |= cqe.res == -ECANCELED;
			}
			ck_get(&other, 0, key, cancelled ? "old" : "new");
			ck_get(&other, 0, "after", key); /* what was behind it is not lost with it */
		}
		client_close(&c);
		ck_assert_int_eq(call(&other, OP_NOP, 0, 0, NULL, 0).res, 0);
	}
	client_close(&other);
	rig_stop();
}
END_TEST

TEST_MAIN("conditions", 30, each_kind, reads_tell_sequences, bad_conditions, counter, order_is_kept_over_a_fetch,
	  ended_while_fetching)
