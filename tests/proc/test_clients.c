/*
 * Clients as shalectl shows them, and the end of a session by an administrator.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"
#include "tests/proc/raw_client.h"

static struct private_daemon d;
static char out[1 << 16];

#define ctl(words) proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>&1", proc_build(), d.socket, words)
#define ctl_by_db(words) proc_shell(out, sizeof(out), "%s/shalectl --db %s %s 2>&1", proc_build(), d.database, words)

/* What a child does: opens the database, writes, pins a snapshot, tells that it is ready; then waits until it is to end, and what a put says then. */
struct shared {
	_Atomic bool ready, go_on;
	int put_result, second_result, read_result;
} * shared;

static int client(void *arg)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct shale_snapshot *snap;
	struct shale_db *db;
	char value[8];
	size_t len;

	(void)arg;
	if (shale_open(d.socket, NULL, &db) < 0 || shale_put(db, NULL, "k", 1, "v", 1) < 0 ||
	    shale_snapshot_take(db, &snap) < 0)
		return 1;
	atomic_store(&shared->ready, true);
	while (!atomic_load(&shared->go_on))
		usleep(1000);
	shared->put_result = shale_put(db, NULL, "k", 1, "w", 1);
	shared->second_result = shale_put(db, NULL, "k", 1, "w", 1);
	options.snapshot = snap;
	shared->read_result = shale_get(db, &options, "k", 1, value, sizeof(value), &len);
	shale_snapshot_release(db, snap);
	shale_close(db);
	return 0;
}

static pid_t begin(void)
{
	pid_t pid;

	proc_begin(&d);
	shared = proc_shared(sizeof(*shared));
	pid = proc_fork(client, NULL);
	for (int i = 0; i < 10000 && !atomic_load(&shared->ready); i++)
		usleep(1000);
	ck_assert(atomic_load(&shared->ready));
	return pid;
}

static void end(pid_t pid)
{
	atomic_store(&shared->go_on, true);
	ck_assert_int_eq(proc_wait(pid), 0);
	proc_stop(&d);
	private_daemon_fini(&d);
}

static json_t *parse(void)
{
	json_error_t error;
	json_t *all = json_loads(out, 0, &error);

	ck_assert_msg(all != NULL, "%s\n%s", error.text, out);
	return all;
}

/* The rows of @pid in the answer of `clients --json`: one with operations is what counts, the main session may be another. */
static json_t *row_of(const json_t *all, pid_t pid, const char *key)
{
	json_t *rows = json_object_get(all, key), *row, *found = NULL;
	size_t i;

	json_array_foreach(rows, i,
			   row) if (json_integer_value(json_object_get(row, "pid")) == pid &&
				    (!found || json_integer_value(json_object_get(row, "operations")) >
						       json_integer_value(json_object_get(found, "operations"))))
		found = row;
	ck_assert_msg(found != NULL, "no row of process %d: %s", (int)pid, out);
	return found;
}

static const char *text_of(json_t *row, const char *name)
{
	return json_string_value(json_object_get(row, name));
}

/* Waits until `clients` says that the process is in @state. */
static void await_state(pid_t pid, const char *state)
{
	for (int i = 0; i < 500; i++, usleep(10000)) {
		json_t *all;
		bool there;

		ck_assert_int_eq(ctl_by_db("clients --json"), 0);
		all = parse();
		there = !strcmp(text_of(row_of(all, pid, "clients"), "state"), state);
		json_decref(all);
		if (there)
			return;
	}
	ck_abort_msg("the client is not %s: %s", state, out);
}

/* A client is listed with what it is and did; an idle, a stopped and a working one differ; all of it also while the daemon hangs. */
START_TEST(listed)
{
	pid_t pid = begin();
	json_t *all, *row;
	char words[64];

	await_state(pid, "idle");
	ck_assert_int_eq(ctl("clients"), 0);
	snprintf(words, sizeof(words), " %d ", (int)pid);
	ck_assert_msg(strstr(out, words) && strstr(out, "THROTTLED"), "%s", out);
	kill(pid, SIGSTOP);
	await_state(pid, "stopped");
	kill(d.pid, SIGSTOP);
	ck_assert_int_eq(ctl_by_db("clients --json"), 0);
	all = parse();
	row = row_of(all, pid, "clients");
	ck_assert_int_eq(json_integer_value(json_object_get(row, "uid")), (int)getuid());
	ck_assert_int_gt(json_integer_value(json_object_get(row, "operations")), 0);
	ck_assert_int_gt(json_integer_value(json_object_get(row, "channel_bytes")), 0);
	json_decref(all);
	ck_assert_int_eq(ctl_by_db("snapshots --json"), 0);
	all = parse();
	row = row_of(all, pid, "snapshots");
	ck_assert_int_eq(json_integer_value(json_object_get(row, "sequence")), 1);
	ck_assert(json_is_null(json_object_get(row, "lease_left_s")));
	json_decref(all);
	ck_assert_int_eq(ctl_by_db("snapshots"), 0);
	ck_assert_msg(strstr(out, words), "%s", out);
	kill(d.pid, SIGCONT);
	kill(pid, SIGCONT);
	await_state(pid, "idle");
	end(pid);
}
END_TEST

/* A kicked client loses what it held, and may open a new session. Who is not there cannot be kicked, and what is no session is said to be none. */
START_TEST(kicked)
{
	pid_t pid = begin();
	char words[64];
	json_t *all;

	ck_assert_int_eq(ctl("kick"), 2);
	ck_assert_int_eq(ctl("kick xyz"), 2);
	ck_assert_int_eq(ctl("kick --pid 1 77"), 2);
	ck_assert_int_eq(ctl("kick 123456789"), 4);
	ck_assert_int_eq(ctl("kick --pid 1"), 4);
	snprintf(words, sizeof(words), "kick --pid %d", (int)pid);
	ck_assert_int_eq(ctl(words), 0);
	ck_assert_int_eq(ctl(words), 4);
	ck_assert_int_eq(ctl("clients --json"), 0);
	all = parse();
	ck_assert_uint_eq(json_array_size(json_object_get(all, "clients")), 0);
	json_decref(all);
	ck_assert_int_eq(ctl("snapshots --json"), 0);
	all = parse();
	ck_assert_uint_eq(json_array_size(json_object_get(all, "snapshots")), 0);
	json_decref(all);
	atomic_store(&shared->go_on, true);
	ck_assert_int_eq(proc_wait(pid), 0);
	/* The library may have noticed the hang-up before it sent anything, and then this goes through a new session. */
	ck_assert(shared->put_result == -SHALE_EKICKED || shared->put_result == 0);
	ck_assert_int_eq(shared->second_result, 0);
	ck_assert_int_eq(shared->read_result, -SHALE_EOUSTED); /* its pin went with the session */
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* A client with several sessions loses one of them by its id, as it is listed. */
START_TEST(kicked_by_id)
{
	pid_t pid = begin();
	char words[64];
	json_t *all;

	ck_assert_int_eq(ctl("clients --json"), 0);
	all = parse();
	snprintf(words, sizeof(words), "kick %s", text_of(row_of(all, pid, "clients"), "session"));
	json_decref(all);
	ck_assert_int_eq(ctl(words), 0);
	atomic_store(&shared->go_on, true);
	ck_assert_int_eq(proc_wait(pid), 0);
	ck_assert_int_eq(shared->second_result, 0);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Anonymous memory of the daemon, in bytes. */
static uint64_t private_bytes(void)
{
	char path[64], line[128];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)d.pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "RssAnon: %llu", &kib) != 1)
		;
	fclose(f);
	return kib << 10;
}

/* An idle session costs the daemon little besides its channel: thousands of them must be affordable. */
START_TEST(idle_sessions_are_small)
{
	enum { SESSIONS = 300 };
	static struct raw_client clients[SESSIONS];
	struct hello hello = raw_hello();
	uint64_t before, after;

	proc_begin(&d);
	hello.ring_entries = RING_ENTRIES_MIN;
	hello.arena_size = ARENA_SIZE_MIN;
	for (int i = 0; i < 10; i++) /* what the first ones need once */
		ck_ok(raw_try(d.socket, &hello, &clients[i]));
	before = private_bytes();
	for (int i = 10; i < SESSIONS; i++) {
		ck_ok(raw_try(d.socket, &hello, &clients[i]));
		for (int k = 0; k < WELCOME_FDS; k++) /* we may have 1024 of them */
			close(clients[i].fds[k]);
	}
	for (int i = 0; i < 1000 && proc_stats(&d).sessions < SESSIONS; i++)
		usleep(10000);
	ck_assert_uint_ge(proc_stats(&d).sessions, SESSIONS);
	after = private_bytes();
	ck_assert_msg(PATIENCE > 1 || after < before + (UINT64_C(64) << 10) *
							       (SESSIONS - 10), /* sanitizers keep books of their own */
		      "%llu bytes for each session", (unsigned long long)(after - before) / (SESSIONS - 10));
	for (int i = 0; i < SESSIONS; i++)
		close(clients[i].sock);
	for (int i = 0; i < 1000 && proc_stats(&d).sessions; i++)
		usleep(10000);
	ck_assert_uint_eq(proc_stats(&d).sessions, 0);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("clients", 60, listed, kicked, kicked_by_id, idle_sessions_are_small)
