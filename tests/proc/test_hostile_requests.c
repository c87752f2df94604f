/*
 * Requests that are well-formed as submissions and hostile in what they ask: too many keys, conditions that lie, compactions without end,
 * leases beyond time, other people's sessions, batches of millions of records.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/raw_client.h"

static struct scene s;

/* ---- conditions ---- */

/* A conditional write of "guarded" whose conditions are the @n bytes at @bytes. */
static int32_t write_if(struct raw_client *r, const void *bytes, uint32_t n)
{
	memcpy(r->arena, bytes, n);
	return raw_call(
		r, (struct sqe){.op = OP_WRITE, .extra_len = n, .in_len = n + raw_batch(r, n, "guarded", "value")});
}

/* Conditions that are no conditions are refused with a code, nothing is written, and the session goes on; lengths that do not add up end it. */
START_TEST(broken_conditions)
{
	unsigned char one[64], *end;
	struct condition c = {.type = CONDITION_ABSENT, .key = slice_str("x")};
	struct raw_client r;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	store_le32(one, 1);
	end = condition_append(one + CONDITION_HEADER_SIZE, &c);
	for (uint32_t cut = 1; cut < (uint32_t)(end - one); cut++)
		ck_assert_int_eq(write_if(&r, one, cut), -EBADMSG);
	*end = 0;
	ck_assert_int_eq(write_if(&r, one, (uint32_t)(end - one) + 1), -EBADMSG);
	for (unsigned i = 0; i < 4; i++) {
		const uint32_t counts[] = {2, CONDITIONS_MAX + 1, INT32_MAX, UINT32_MAX};

		store_le32(one, counts[i]);
		ck_assert_int_lt(write_if(&r, one, (uint32_t)(end - one)), 0);
	}
	store_le32(one, 1);
	for (unsigned type = CONDITION_SEQUENCE + 1; type < 256; type++) {
		one[CONDITION_HEADER_SIZE] = (unsigned char)type;
		ck_assert_int_eq(write_if(&r, one, (uint32_t)(end - one)), -EBADMSG);
	}
	one[CONDITION_HEADER_SIZE] = CONDITION_ABSENT;
	memset(one + CONDITION_HEADER_SIZE + 1, 0xff, 5); /* a key of 2^35 bytes */
	ck_assert_int_eq(write_if(&r, one, (uint32_t)(end - one)), -EBADMSG);
	memcpy(r.arena, "guarded", 7);
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_GET, .in_len = 7, .out_off = 4096, .out_len = 8}),
			 SHALE_NOTFOUND);
	store_le32(one, 1);
	end = condition_append(one + CONDITION_HEADER_SIZE, &c);
	ck_assert_int_eq(write_if(&r, one, (uint32_t)(end - one)), 0);
	for (unsigned i = 0; i < 3; i++) {
		const struct sqe outside[] = {{.op = OP_WRITE, .in_len = 20, .extra_len = 21},
					      {.op = OP_WRITE, .in_len = 20, .extra_len = UINT32_MAX},
					      {.op = OP_GET, .in_len = 4, .extra_len = 4}};

		ck_assert_int_eq(raw_call(&r, outside[i]), RAW_ENDED);
		raw_close(&r);
		raw_open(s.d.socket, &r);
	}
	raw_close(&r);
	scene_end(&s);
}
END_TEST

struct flipper {
	unsigned char *at;
	unsigned char a, b;
	_Atomic bool stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	while (!atomic_load(&f->stop)) {
		*(volatile unsigned char *)f->at = f->a;
		*(volatile unsigned char *)f->at = f->b;
	}
	return NULL;
}

/* Conditions are copied once: changed while they are looked at, they are either those or these. "Present" and "absent" of one key never let both through, nor nonsense. */
START_TEST(conditions_that_change)
{
	struct condition c = {.type = CONDITION_ABSENT, .key = slice_str("never there")};
	unsigned held = 0, failed = 0, refused = 0;
	struct raw_client r;
	struct flipper f;
	unsigned char *end;
	pthread_t thread;
	uint32_t extra, len;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (unsigned round = 0; round < 3; round++) {
		c.type = round ? CONDITION_PRESENT : CONDITION_ABSENT; /* never holds, whatever else is wrong */
		store_le32(r.arena, 1);
		end = condition_append(r.arena + CONDITION_HEADER_SIZE, &c);
		extra = (uint32_t)(end - r.arena);
		len = extra + raw_batch(&r, extra, "changed", "value");
		f = (struct flipper){
			.at = r.arena + CONDITION_HEADER_SIZE, .a = CONDITION_ABSENT, .b = CONDITION_PRESENT};
		if (round == 1)
			f.a = 0xee;
		if (round == 2) /* a count that grows beyond what is there */
			f = (struct flipper){.at = r.arena, .a = 1, .b = 200};
		ck_assert_int_eq(pthread_create(&thread, NULL, flip, &f), 0);
		for (unsigned i = 0; i < 3000; i++) {
			int32_t res;

			res = raw_call(&r, (struct sqe){.op = OP_WRITE, .extra_len = extra, .in_len = len});
			ck_assert_msg(res == SHALE_MISMATCH || res == (round ? -EBADMSG : 0), "round %u: %d", round,
				      res);
			held += res == 0;
			failed += res == SHALE_MISMATCH;
			refused += res == -EBADMSG;
		}
		atomic_store(&f.stop, true);
		pthread_join(thread, NULL);
	}
	printf("of changing conditions %u held, %u failed, %u were refused\n", held, failed, refused);
	ck_assert_uint_gt(held, 0);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* So is a batch: what is applied is what was checked. */
START_TEST(batches_that_change)
{
	unsigned applied = 0, refused = 0;
	struct raw_client r;
	struct flipper f;
	pthread_t thread;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (unsigned round = 0; round < 3; round++) {
		uint32_t len = raw_batch(&r, 0, "changed", "value");
		unsigned char *record = r.arena + BATCH_HEADER_SIZE;

		f = (struct flipper){.at = record, .a = BATCH_PUT, .b = 0xee};
		if (round == 1) /* the key's length */
			f = (struct flipper){.at = record + 1, .a = 7, .b = 0x7f};
		if (round == 2) /* the count, whose sequences would be given */
			f = (struct flipper){.at = r.arena + 8, .a = 1, .b = 9};
		ck_assert_int_eq(pthread_create(&thread, NULL, flip, &f), 0);
		for (unsigned i = 0; i < 3000; i++) {
			int32_t res = raw_call(&r, (struct sqe){.op = OP_WRITE, .in_len = len});

			ck_assert_msg(res == 0 || res == -EBADMSG, "%d", res);
			applied += res == 0;
			refused += res == -EBADMSG;
		}
		atomic_store(&f.stop, true);
		pthread_join(thread, NULL);
	}
	printf("of changing batches %u were applied, %u refused\n", applied, refused);
	ck_assert_uint_gt(applied, 0);
	memcpy(r.arena, "changed", 7);
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_GET, .in_len = 7, .out_off = 64, .out_len = 64}), 0);
	ck_assert_mem_eq(r.arena + 64, "value", 5);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* ---- much at once ---- */

/* A list of keys that lies about itself is refused; one that is too long, too, before anything is read. */
START_TEST(lists_of_keys)
{
	struct hello hello = raw_hello();
	struct raw_client r;

	scene_begin(&s, NULL);
	hello.arena_size = 16 << 20;
	ck_ok(raw_try(s.d.socket, &hello, &r));
	memset(r.arena, 0, r.arena_size);
	for (unsigned i = 0; i < 6; i++) {
		const uint32_t counts[] = {1, 1 << 20, MULTIGET_MAX + 1, UINT32_MAX, 5, 0};
		const uint32_t lens[] = {4, 4 + (1 << 20), 4 + MULTIGET_MAX + 1, 1 << 20, 4 + 4, 5};
		const int32_t results[] = {-EINVAL, -E2BIG, -E2BIG, -E2BIG, -EINVAL, -EINVAL};

		store_le32(r.arena, counts[i]);
		ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_MULTIGET,
							   .in_len = lens[i],
							   .out_off = 8 << 20,
							   .out_len = 1 << 20}),
				 results[i]);
	}
	store_le32(r.arena, MULTIGET_MAX);
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_MULTIGET,
						   .in_len = 4 + MULTIGET_MAX,
						   .out_off = 8 << 20,
						   .out_len = 1 << 20}),
			 0);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* Who reads while millions of records are inserted is served between them. (Who writes has to wait: nothing comes between the records of a batch.) */
START_TEST(millions_of_records)
{
	enum { RECORDS = 300000 * (PATIENCE == 1 ? 4 : 1) };
	struct hello hello = raw_hello();
	struct raw_client r, reader;
	unsigned char *p;
	uint64_t served = 0;
	char key[16];

	scene_begin(&s, "limits.max_batch_records=2000000", NULL);
	hello.arena_size = 32 << 20;
	ck_ok(raw_try(s.d.socket, &hello, &r));
	raw_open(s.d.socket, &reader);
	p = batch_begin(r.arena);
	for (uint32_t i = 0; i < RECORDS; i++) {
		snprintf(key, sizeof(key), "%07x", (i * 2654435761u) >> 4);
		p = batch_append_delete(p, slice_str(key));
	}
	batch_set_count(r.arena, RECORDS);
	raw_submit(&r, (struct sqe){.op = OP_WRITE, .in_len = (uint32_t)(p - r.arena)});
	while (!ring_cq_peek(&r.ring)) {
		ck_assert(!raw_hung_up(&r, 0));
		ck_assert_int_eq(raw_call(&reader, (struct sqe){.op = OP_NOP}), 0);
		served++;
	}
	ck_assert_int_eq(raw_take(&r).res, 0);
	batch_set_count(r.arena, 2000001); /* refused by its number alone */
	ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_WRITE, .in_len = (uint32_t)(p - r.arena)}), -E2BIG);
	ck_assert_msg(served > 20, "%llu calls were served meanwhile", (unsigned long long)served);
	raw_close(&r);
	raw_close(&reader);
	scene_check(&s);
	witness_stop(&s.witness, 30000);
	proc_stop(&s.d);
	private_daemon_fini(&s.d);
}
END_TEST

/* Compactions that nobody waits for are bounded like any others, and a client that asks for thousands holds up nobody. */
START_TEST(compactions_without_end)
{
	unsigned refused = 0;
	struct raw_client r;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	for (unsigned round = 0; round < 20; round++) { /* so many at once that no worker is as quick */
		raw_put(&r, "compacted", "again");
		memset(r.arena, 0, 2);
		for (uint32_t i = 0; i < r.ring.entries; i++)
			raw_prepare(&r, i, (struct sqe){.op = OP_COMPACT, .in_len = 2, .flags = SQE_NO_WAIT});
		raw_publish(&r, r.ring.entries);
		for (uint32_t i = 0; i < r.ring.entries; i++) {
			int32_t res = raw_take(&r).res;

			ck_assert(res == 0 || res == -EBUSY);
			refused += res == -EBUSY;
		}
	}
	ck_assert_uint_gt(refused, 0);
	printf("%u of %u compactions were refused\n", refused, 20 * r.ring.entries);
	for (unsigned i = 0; i < r.ring.entries; i++) /* and those that are waited for, by somebody who goes away */
		raw_prepare(&r, i, (struct sqe){.op = i % 2 ? OP_COMPACT : OP_FLUSH, .in_len = i % 2 ? 2 : 0});
	raw_publish(&r, r.ring.entries);
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* ---- time ---- */

/* Leases and deadlines at the edges of 64 bits neither overflow nor keep the loop awake. */
START_TEST(beyond_time)
{
	static const uint64_t times[] = {
		1, INT64_MAX, 1ull << 63, UINT64_MAX / 1000000, UINT64_MAX / 1000000 + 1, UINT64_MAX - 1, UINT64_MAX};
	const uint64_t HOUR_NS = 3600 * UINT64_C(1000000000);
	struct raw_client r;
	int want;

	scene_begin(&s, NULL);
	raw_open(s.d.socket, &r);
	ck_assert_int_eq(raw_put(&r, "then", "value"), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
		struct cqe cqe;

		raw_submit(&r, (struct sqe){.op = OP_SNAPSHOT, .sequence = times[i]});
		cqe = raw_take(&r);
		ck_assert_int_eq(cqe.res, 0);
		memcpy(r.arena, "then", 4);
		if (times[i] > 1)
			ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_GET,
								   .in_len = 4,
								   .out_off = 64,
								   .out_len = 64,
								   .sequence = cqe.sequence}),
					 0);
		else
			usleep(5000);
		ck_assert_int_le(raw_call(&r, (struct sqe){.op = OP_RELEASE, .sequence = cqe.sequence}), 0);
		/* A deadline is a point in time, and a machine may have run for five hours. */
		want = times[i] > monotonic_ns() + HOUR_NS ? 0 : -ETIMEDOUT;
		if (want && times[i] > 1)
			continue;
		ck_assert_int_eq(raw_call(&r, (struct sqe){.op = OP_NOP, .deadline_ns = times[i]}), want);
		raw_submit(&r, (struct sqe){.op = OP_FLUSH, .deadline_ns = times[i]});
		ck_assert_int_eq(raw_take(&r).res, want);
	}
	raw_close(&r);
	scene_end(&s);
}
END_TEST

/* ---- other people ---- */

struct stranger {
	uint64_t victim;
	char socket[108];
};

/* As another user: what is readable is, what is not is not. Exit codes tell which step failed. */
static int stranger_run(void *arg)
{
	struct stranger *v = arg;
	char path[64];
	struct raw_client r;
	struct hello hello = raw_hello();
	int fd;

	if (setgid(65533) < 0 || setuid(65533) < 0)
		return 90;
	if (raw_try(v->socket, &hello, &r) < 0)
		return 1;
	if (raw_call(&r, (struct sqe){.op = OP_KICK, .sequence = v->victim}) != -EPERM)
		return 2;
	if (raw_call(&r, (struct sqe){.op = OP_NOP}) != 0)
		return 3;
	for (unsigned i = 0; i < 2; i++) { /* the region, by its descriptor and by its mapping, again and for writing */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", r.fds[1]);
		fd = open(path, i ? O_RDWR | O_TRUNC : O_RDWR);
		if (fd >= 0)
			return 4;
	}
	if (ftruncate(r.fds[1], 0) == 0 || write(r.fds[1], "x", 1) > 0)
		return 5;
	if (raw_put(&r, "stranger", "was here") != 0)
		return 6;
	raw_close(&r);
	return 0;
}

/* Another user may not end sessions that are not its own, nor write to what it may read. */
START_TEST(strangers)
{
	struct stranger *v = proc_shared(sizeof(*v));
	struct region region;
	char instance[INSTANCE_LEN + 1];

	if (getuid() != 0) {
		printf("not root: cannot become somebody else; skipped\n");
		return;
	}
	scene_begin(&s, "access.mode=0666", NULL);
	ck_ok(chmod(s.d.scratch, 0711));
	snprintf(v->socket, sizeof(v->socket), "%s", s.d.socket);
	ck_ok(private_daemon_instance(&s.d, instance));
	ck_ok(region_open(&region, instance, NULL));
	for (unsigned i = 0; i < REGION_SESSIONS && !v->victim; i++)
		v->victim = atomic_load(&region.sessions[i].session);
	region_close(&region, false);
	ck_assert_uint_ne(v->victim, 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(proc_wait(proc_fork(stranger_run, v)), 0);
	scene_end(&s);
}
END_TEST

TEST_MAIN("hostile_requests", 100 * PATIENCE, broken_conditions, conditions_that_change, batches_that_change,
	  lists_of_keys, millions_of_records, compactions_without_end, beyond_time, strangers)
