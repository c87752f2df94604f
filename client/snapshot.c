/*
 * snapshot.c - pins, all held by the main session, so that they outlive the threads that took them.
 *
 * An iterator is closed without waiting: its pin is left on a list, and whoever has the main session sends what is there before
 * giving it back. That is the closer itself unless somebody else is just using the session, maybe waiting with it for a daemon that is stopped. main_lock is
 * given back only while the list is locked and seen to be empty, so nothing is forgotten between the two. What finds the ring full stays on the
 * list for the next who comes, or goes with the session.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"

/* Those that cannot be sent yet; NULL: none. */
static struct shale_snapshot *send_all(struct shale_db *db, struct shale_snapshot *left)
{
	while (left && call_release_nowait(db, left)) {
		struct shale_snapshot *sent = left;

		left = left->next;
		free(sent);
	}
	return left;
}

static void put_back(struct shale_db *db, struct shale_snapshot *rest)
{
	struct shale_snapshot **end = &rest;

	while (*end)
		end = &(*end)->next;
	*end = db->left;
	db->left = rest;
}

/* Gives back main_lock. */
static void main_unlock(struct shale_db *db)
{
	struct shale_snapshot *left, *rest = NULL;

	pthread_mutex_lock(&db->left_lock);
	while ((left = db->left) && !rest) {
		db->left = NULL;
		pthread_mutex_unlock(&db->left_lock);
		rest = send_all(db, left);
		pthread_mutex_lock(&db->left_lock);
		put_back(db, rest);
	}
	pthread_mutex_unlock(&db->main_lock);
	pthread_mutex_unlock(&db->left_lock);
}

void snapshot_leave(struct shale_db *db, struct shale_snapshot *snapshot)
{
	pthread_mutex_lock(&db->left_lock);
	snapshot->next = db->left;
	db->left = snapshot;
	pthread_mutex_unlock(&db->left_lock);
	if (pthread_mutex_trylock(&db->main_lock) == 0)
		main_unlock(db);
}

int snapshot_take(struct shale_db *db, unsigned lease_ms, uint64_t deadline_us, struct shale_snapshot *out)
{
	const struct call call = {
		.what = "snapshot", .op = OP_SNAPSHOT, .sequence = lease_ms, .deadline_us = deadline_us};
	struct answer answer;
	int rc;

	pthread_mutex_lock(&db->main_lock);
	rc = call_main(db, &call, &answer);
	if (rc == 0) {
		out->sequence = answer.sequence;
		/* relaxed: only holders of main_lock change it. */
		out->main_count = atomic_load_explicit(&db->main_count, memory_order_relaxed);
		memcpy(out->boot_id, db->main.boot_id, sizeof(out->boot_id));
	}
	main_unlock(db);
	return rc;
}

int shale_snapshot_take(struct shale_db *db, struct shale_snapshot **snapshot_out)
{
	return shale_snapshot_take_with(db, NULL, snapshot_out);
}

int shale_snapshot_take_with(struct shale_db *db, const struct shale_snapshot_options *options,
			     struct shale_snapshot **snapshot_out)
{
	struct shale_snapshot_options o;
	struct shale_snapshot *s;
	int rc = check_fork(db);

	if (rc == 0)
		rc = options_copy(db, &o, sizeof(o), options);
	if (rc < 0)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return fail(db, -ENOMEM, "snapshot: out of memory");
	rc = snapshot_take(db, o.lease_ms, o.deadline_us, s);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*snapshot_out = s;
	return 0;
}

void shale_snapshot_release(struct shale_db *db, struct shale_snapshot *snapshot)
{
	const struct call call = {.what = "release", .op = OP_RELEASE, .same_session = true, .snapshot = snapshot};
	struct answer answer;

	if (!snapshot)
		return;
	if (check_fork(db) == 0) {
		pthread_mutex_lock(&db->main_lock);
		/* Waits for the answer, so that a compaction asked for next may already drop what only this pin kept. */
		if (db->main.socket >= 0 && snapshot_alive(db, snapshot))
			call_main(db, &call, &answer);
		main_unlock(db);
	}
	free(snapshot);
}

uint64_t shale_snapshot_sequence(const struct shale_snapshot *snapshot)
{
	return snapshot->sequence == SEQUENCE_EMPTY ? 0 : snapshot->sequence;
}
