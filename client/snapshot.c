/*
 * snapshot.c - pins, all held by the main session, so that they outlive the threads that took them.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"

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
	pthread_mutex_unlock(&db->main_lock);
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
		pthread_mutex_unlock(&db->main_lock);
	}
	free(snapshot);
}

uint64_t shale_snapshot_sequence(const struct shale_snapshot *snapshot)
{
	return snapshot->sequence == SEQUENCE_EMPTY ? 0 : snapshot->sequence;
}
