/*
 * SIGHUP: what changes while clients are connected, and who has to go.
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char path[512];

static void configure(const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

static void begin(const char *text)
{
	proc_init(&d, NULL, NULL);
	snprintf(path, sizeof(path), "%s/shaled.conf", d.scratch);
	configure(text);
	private_daemon_arg(&d, "--config");
	private_daemon_arg(&d, path);
	proc_start(&d);
}

/* Reads @text, and waits until the daemon has said @words. */
static void reload(const char *text, const char *words)
{
	char out[64];

	configure(text);
	ck_ok(kill(d.pid, SIGHUP));
	for (int i = 0; proc_shell(out, sizeof(out), "grep -qF -- '%s' %s", words, d.log) != 0; i++, usleep(10000))
		ck_assert_msg(i < 500 * PATIENCE, "not said: %s\n%s", words, proc_log_tail(&d));
}

/* A limit holds for the next call, connected or not; a file that is wrong changes nothing, and the log says where. */
START_TEST(limits_for_connected_clients)
{
	struct shale_snapshot *first, *second;
	struct shale_db *db;

	begin("[limits]\nsnapshots = 1\n");
	db = proc_open(&d);
	ck_ok(shale_snapshot_take(db, &first));
	ck_assert_int_eq(shale_snapshot_take(db, &second), -ENOSPC);
	reload("[limits]\nsnapshots = 2\nhandshake_ms = 1\n", "nothing was changed");
	ck_assert_int_eq(shale_snapshot_take(db, &second), -ENOSPC);
	reload("[limits]\nsnapshots = 2\n", "limits.snapshots: 1 → 2");
	for (int i = 0, rc; (rc = shale_snapshot_take(db, &second)) != 0; i++, usleep(10000))
		ck_assert_msg(rc == -ENOSPC && i < 500 * PATIENCE, "%d", rc);
	shale_snapshot_release(db, first);
	shale_snapshot_release(db, second);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Whom the lists no longer let in is out, not only from the next connection on; who may only read from now on comes back as a reader. */
START_TEST(access_is_taken_back)
{
	struct shale_db *db;
	char text[128];
	int rc;

	begin("");
	db = proc_open(&d);
	proc_put(db, "a", "1");
	snprintf(text, sizeof(text), "[access]\nread_only_uids = %u\n", (unsigned)getuid());
	reload(text, "the access lists changed");
	for (int i = 0; (rc = shale_put(db, NULL, "b", 1, "2", 1)) != -EROFS; i++, usleep(10000))
		ck_assert_msg(i < 500 * PATIENCE, "%d", rc);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	snprintf(text, sizeof(text), "[access]\nuids = %u\n", (unsigned)getuid() + 1);
	reload(text, "access.read_only_uids");
	for (int i = 0; (rc = shale_put(db, NULL, "b", 1, "2", 1)) != -EACCES; i++, usleep(10000))
		ck_assert_msg(i < 500 * PATIENCE, "%d", rc);
	reload("", "access.uids: ");
	for (int i = 0; (rc = shale_put(db, NULL, "b", 1, "2", 1)) != 0; i++, usleep(10000))
		ck_assert_msg(i < 500 * PATIENCE, "%d", rc);
	shale_close(db);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("reload", 60, limits_for_connected_clients, access_is_taken_back)
