/*
 * New settings for a running service: they hold from the next request on, also under load, and the old ones are given back.
 */
#include "tests/daemon/rig.h"

#include <string.h>

static void reload(const char *setting)
{
	struct config *next = malloc(sizeof(*next));
	struct err_info err = {0};

	ck_assert_ptr_nonnull(next);
	*next = rig.config; /* a copy of what it began with */
	ck_ok(config_set(next, setting, &err));
	service_reload(&rig.service, next);
}

/* Some time after the reload, for the service comes to it by itself. */
static void await(struct client *c, unsigned op, uint32_t length, int res)
{
	struct cqe cqe;

	for (int i = 0; i < 8000; i++) {
		cqe = call(c, op, 0, 0, "shale.config", length);
		if (cqe.res == 0 && res && op == OP_SNAPSHOT)
			ck_assert_int_eq(call(c, OP_RELEASE, 0, cqe.sequence, NULL, 0).res, 0);
		if (cqe.res == res)
			return;
		nap();
	}
	ck_abort_msg("%d, not %d", cqe.res, res);
}

/* A limit on snapshots is lowered below what is held, and raised again: what is held stays, more is refused, then taken. */
START_TEST(limits_change)
{
	struct client c;
	uint64_t kept;

	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "one");
	kept = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).sequence;
	put(&c, 0, "a", "two");
	ck_assert_int_eq(call(&c, OP_SNAPSHOT, 0, 0, NULL, 0).res, 0);
	reload("limits.snapshots=1");
	await(&c, OP_SNAPSHOT, 0, -ENOSPC);
	ck_get(&c, kept, "a", "one");
	reload("limits.snapshots=8");
	await(&c, OP_SNAPSHOT, 0, 0);
	client_close(&c);
	rig_stop();
}
END_TEST

/* "shale.config" shows the new ones. A second reload before the first is looked at replaces it; one that nobody looks at any more is not lost memory. */
START_TEST(settings_are_shown)
{
	struct client c;
	struct cqe cqe = {0};

	rig_start();
	client_open(&c, false);
	for (int i = 0; i < 100; i++)
		reload("service.slowdown_rate=9M");
	reload("fairness.turn_requests=77");
	for (int i = 0; i < 8000 && !memmem(answer(&c), cqe.len, "turn_requests = 77 ; --set", 26); i++)
		cqe = call(&c, OP_PROPERTY, 0, 0, "shale.config", 12);
	ck_assert_ptr_nonnull(memmem(answer(&c), cqe.len, "turn_requests = 77 ; --set", 26));
	ck_assert_ptr_nonnull(memmem(answer(&c), cqe.len, "slowdown_rate = 8M ; default", 28));
	client_close(&c);
	rig_stop();
}
END_TEST

/* Rates and weights change under a user who writes: nothing is lost, and no old debt holds it up. */
START_TEST(under_load)
{
	static const char *const settings[] = {"limits.write_rate_per_uid=64M", "fairness.weights=0:7",
					       "limits.write_rate_per_uid=0", "service.spin_us=0",
					       "fairness.turn_bytes=1M"};
	struct client c;
	char key[16];

	rig_start();
	client_open(&c, false);
	for (int i = 0; i < 500; i++) {
		if (i % 10 == 0)
			reload(settings[i / 10 % ARRAY_SIZE(settings)]);
		snprintf(key, sizeof(key), "key%d", i);
		ck_assert_int_eq(put(&c, 0, key, "value").res, 0);
	}
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		ck_get(&c, 0, key, "value");
	}
	client_close(&c);
	rig_stop();
}
END_TEST

/* The engine's own two: the share of dead entries counts the tables that are there. */
START_TEST(engine_is_tuned)
{
	struct client c;
	struct engine_stats es;

	rig.setting = "engine.tombstone_percent=0";
	rig_start();
	client_open(&c, false);
	put(&c, 0, "a", "one");
	put(&c, 0, "b", NULL);
	put(&c, 0, "c", NULL);
	ck_assert_int_eq(call(&c, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	engine_stats(rig.engine, &es);
	ck_assert_uint_eq(es.compactions, 0);
	engine_tune(rig.engine, 1 << 20, 50);
	for (int i = 0; i < 8000 && es.compactions == 0; i++) {
		nap();
		engine_stats(rig.engine, &es);
	}
	ck_assert_uint_gt(es.compactions, 0);
	ck_get(&c, 0, "a", "one");
	client_close(&c);
	rig_stop();
}
END_TEST

TEST_MAIN("reload", 30, limits_change, settings_are_shown, under_load, engine_is_tuned)
