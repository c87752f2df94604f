/*
 * open.c - handles: where the daemon is, the first session, the end.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/internal.h"

enum { CONNECT_MS = 5000, RECONNECT_MS = 10000, STRANGERS_MAX = 4 };
enum { OPTIONS_MAX = 4096 }; /* bytes of an options struct of any release: more is a struct_size that nobody has set */

#define SOCKET_NAME "shale.sock" /* of the daemon's socket in its database directory, unless it was told otherwise */

int options_copy(const struct shale_db *db, void *to, size_t to_size, const void *from)
{
	const unsigned char *bytes = from;
	size_t size;

	memset(to, 0, to_size);
	if (!from)
		return 0;
	memcpy(&size, from, sizeof(size)); /* struct_size is the first field of each */
	if (size < sizeof(size) || size > OPTIONS_MAX)
		return fail(db, -EINVAL, "an options struct has struct_size %zu; set it to sizeof the struct", size);
	for (size_t i = to_size; i < size; i++) {
		if (bytes[i])
			return fail(
				db, -EINVAL,
				"an options struct uses a field that libshale %s does not know; upgrade the library",
				SHALE_VERSION);
	}
	memcpy(to, from, min_size(size, to_size));
	return 0;
}

/* A relative path would go astray when the program changes its directory, and reconnects come later. Owned by the caller. */
static char *absolute(const char *path)
{
	char cwd[PATH_MAX], *full;

	if (path[0] == '/' || !getcwd(cwd, sizeof(cwd)))
		return strdup(path);
	return asprintf(&full, "%s/%s", cwd, path) < 0 ? NULL : full;
}

/*
 * What @where means: the socket, and the directory in which a daemon is to be started (NULL: none). 0 or -ENOMEM; both owned by the caller.
 */
static int resolve(const char *where, bool autostart, char **socket_out, char **directory_out)
{
	bool named = where != NULL, directory;
	char *socket = NULL, *full;
	struct stat st;

	if (!where)
		where = secure_getenv("SHALE_SOCKET");
	if (!where || !*where)
		where = SHALE_DEFAULT_SOCKET;
	if (stat(where, &st) == 0)
		directory = S_ISDIR(st.st_mode);
	else
		directory = autostart && named; /* the daemon makes it */
	full = absolute(where);
	if (!full)
		return -ENOMEM;
	if (!directory) {
		*socket_out = full;
		*directory_out = NULL;
		return 0;
	}
	if (asprintf(&socket, "%s/" SOCKET_NAME, full) < 0)
		socket = NULL;
	if (!autostart || !socket) {
		free(full);
		full = NULL;
	}
	*socket_out = socket;
	*directory_out = full;
	return socket ? 0 : -ENOMEM;
}

static bool has_one_core(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1;
}

static void db_free(struct shale_db *db, bool forked)
{
	struct shale_snapshot *left;

	if (!db)
		return;
	lanes_close(db);
	channel_close(&db->main, forked);
	region_drop(db, forked);
	autostart_fini(&db->autostart, forked);
	if (!forked) {
		pthread_mutex_destroy(&db->main_lock);
		pthread_mutex_destroy(&db->left_lock);
	}
	while ((left = db->left)) { /* they went with the session */
		db->left = left->next;
		free(left);
	}
	free(db->path);
	free(db);
}

static struct shale_db *db_new(const char *where, const struct shale_options *o)
{
	static _Atomic uint64_t ids;
	struct shale_db *db = calloc(1, sizeof(*db));
	char *directory = NULL;
	int rc;

	if (!db)
		return NULL;
	db->id = atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed) + 1;
	db->fork_count = atomic_load_explicit(&fork_count, memory_order_relaxed);
	db->reconnect_ms = o->reconnect_ms ? o->reconnect_ms : RECONNECT_MS;
	db->spin_us = o->spin_us;
	db->deadline_us = o->deadline_us;
	db->read_only = o->read_only != 0;
	db->one_core = has_one_core();
	db->arena_bytes = o->arena_bytes ? max_size(align_up(o->arena_bytes, SHM_PAGE), ARENA_SIZE_MIN) : 0;
	pthread_mutex_init(&db->main_lock, NULL);
	pthread_mutex_init(&db->left_lock, NULL);
	channel_init(&db->main);
	region_drop(db, true); /* nothing is mapped yet */
	rc = resolve(where, o->autostart, &db->path, &directory);
	autostart_init(&db->autostart, directory);
	if (rc < 0) {
		db_free(db, false);
		return NULL;
	}
	return db;
}

static int first_connect(struct shale_db *db, unsigned connect_ms)
{
	uint64_t until = monotonic_ns() + (uint64_t)(connect_ms ? connect_ms : CONNECT_MS) * 1000000;
	struct err_info err = {0, ""};
	unsigned step_ms = 1, strangers = 0;

	for (;;) {
		uint64_t now = monotonic_ns();
		uint64_t left = now < until ? until - now : 0;
		bool nobody, late;
		int rc = channel_connect(db, &db->main, 0, 0, (unsigned)(left / 1000000 + 1), &err);

		if (rc == 0)
			return 0;
		late = monotonic_ns() >= until;
		nobody = (rc == -ENOENT || rc == -ECONNREFUSED) && !db->autostart.directory;
		/* A daemon that dies in the middle of a handshake looks like a stranger: look again. */
		if (rc == -SHALE_ENOTSHALE && ++strangers < STRANGERS_MAX && !late) {
			backoff(&step_ms, until);
			continue;
		}
		if (late && connect_may_retry(rc) && autostart_locked(&db->autostart))
			return fail(NULL, -SHALE_ELOCKED,
				    "shale_open(%s): another program has the database open and does not serve it (%s)",
				    db->path, err.text);
		if (!connect_may_retry(rc) || late || (nobody && !connect_ms))
			return fail(NULL, rc, "shale_open(%s): %s", db->path, err.text);
		backoff(&step_ms, until);
	}
}

int shale_open(const char *where, const struct shale_options *options, struct shale_db **db_out)
{
	struct shale_options o;
	struct shale_db *db;
	int rc;

	rc = options_copy(NULL, &o, sizeof(o), options);
	if (rc < 0)
		return rc;
	rc = lanes_setup();
	if (rc < 0)
		return fail(NULL, rc, "shale_open: this process has no thread-specific key left (pthread_key_create)");
	db = db_new(where, &o);
	if (!db)
		return fail(NULL, -ENOMEM, "shale_open: out of memory");
	rc = first_connect(db, o.connect_ms);
	if (rc < 0) {
		db_free(db, false);
		return rc;
	}
	*db_out = db;
	return 0;
}

void shale_close(struct shale_db *db)
{
	if (db)
		db_free(db, atomic_load_explicit(&fork_count, memory_order_relaxed) != db->fork_count);
}

void shale_limits(const struct shale_db *db, size_t *max_key_out, size_t *max_request_out)
{
	*max_key_out = atomic_load_explicit(&db->max_key, memory_order_relaxed);
	*max_request_out = atomic_load_explicit(&db->max_request, memory_order_relaxed);
}
