#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/region.h"
#include "tests/test.h"

static struct region r;

static void create(void)
{
	char name[INSTANCE_LEN + 1];
	struct err_info err;
	int rc;

	snprintf(name, sizeof(name), "7e59%012x", (unsigned)getpid());
	rc = region_create(&r, name, "/var/lib/shale/db", 0600, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
}

/* What was added is read back; the last REGION_EVENTS stay, older ones are known to be gone, and those to come not to be there. */
START_TEST(the_last_events_stay)
{
	struct region_event e;
	char text[32];

	create();
	ck_assert_uint_eq(region_newest_event(&r), 0);
	ck_assert_int_eq(region_read_event(&r, 0, &e), -ENOENT);
	ck_assert_int_eq(region_read_event(&r, 1, &e), -ENOENT);
	for (unsigned n = 1; n <= 3 * REGION_EVENTS + 5; n++) {
		snprintf(text, sizeof(text), "event %u", n);
		region_add_event(&r, REGION_EVENT_BROKEN, 4, 1000 + n, text);
		ck_assert_uint_eq(region_newest_event(&r), n);
		ck_ok(region_read_event(&r, n, &e));
		ck_assert_str_eq(e.text, text);
		ck_assert_uint_eq(e.number, n);
		ck_assert_uint_eq(e.realtime_ns, 1000 + n);
		ck_assert_uint_eq(e.kind, REGION_EVENT_BROKEN);
		ck_assert_uint_eq(e.severity, 4);
		if (n > REGION_EVENTS) {
			ck_assert_int_eq(region_read_event(&r, n - REGION_EVENTS, &e), -ENOENT);
			ck_ok(region_read_event(&r, n - REGION_EVENTS + 1, &e));
		}
		ck_assert_int_eq(region_read_event(&r, n + 1, &e), -ENOENT);
	}
	region_close(&r, true);
}
END_TEST

/* A text of any length is cut to what a row has room for, and ends there. */
START_TEST(long_text_is_cut)
{
	char text[600];
	struct region_event e;

	create();
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	region_add_event(&r, REGION_EVENT_STARTED, 5, 1, text);
	ck_ok(region_read_event(&r, 1, &e));
	ck_assert_uint_eq(strlen(e.text), sizeof(e.text) - 1);
	region_close(&r, true);
}
END_TEST

/* A daemon that was killed while it wrote a row leaves that row out, and all others in. */
START_TEST(a_half_written_row_is_left_out)
{
	struct region_event e;

	create();
	region_add_event(&r, REGION_EVENT_STARTED, 5, 1, "one");
	region_add_event(&r, REGION_EVENT_STARTED, 5, 2, "two");
	r.events->row[1].number = 0;
	ck_assert_int_eq(region_read_event(&r, 1, &e), -ENOENT);
	ck_ok(region_read_event(&r, 2, &e));
	region_close(&r, true);
}
END_TEST

static _Atomic bool over;

/* All bytes of the text say the same letter, and kind and time say which. */
static void *add(void *arg)
{
	char text[200];

	(void)arg;
	for (unsigned n = 1; !atomic_load(&over); n++) {
		memset(text, 'a' + n % 26, sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		region_add_event(&r, 1, n % 26, n, text);
		if (n % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* A reader gets a row whole or not at all, however fast they are written over. */
START_TEST(rows_are_never_torn)
{
	unsigned whole = 0, missed = 0;
	pthread_t thread;

	create();
	ck_ok(pthread_create(&thread, NULL, add, NULL));
	while (whole < 20000) {
		uint64_t newest = region_newest_event(&r);
		struct region_event e;

		/* The row that is written over next: most likely to be torn. */
		if (newest < REGION_EVENTS || region_read_event(&r, newest - REGION_EVENTS + 1 + whole % 2, &e) < 0) {
			missed++;
			sched_yield();
			continue;
		}
		whole++;
		if (e.severity != e.number % 26 || e.realtime_ns != e.number || strlen(e.text) != 199 ||
		    strspn(e.text, (char[]){(char)('a' + e.number % 26), 0}) != 199)
			ck_abort_msg("event %llu is torn: %s", (unsigned long long)e.number, e.text);
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	printf("%u rows missed\n", missed);
	region_close(&r, true);
}
END_TEST

TEST_MAIN("events", 30, the_last_events_stay, long_text_is_cut, a_half_written_row_is_left_out, rows_are_never_torn)
