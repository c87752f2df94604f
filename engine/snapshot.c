/*
 * snapshot.c - pinned sequences, and what they make a merge keep.
 *
 * The pins lie in one ascending array, because each new one is the newest sequence. A merge copies the array when it starts. A snapshot
 * taken later is at or above the newest sequence of that moment, hence above every entry of the merge's inputs: it sees the newest
 * entry of each key, which every merge keeps. So the copy stays right for as long as the merge runs.
 *
 *	sequences   1 ...... s0 ...... s1 ......  newest
 *	stripe        0          1          2
 *
 * An entry is seen by the snapshots at or above it; two entries of one key in the same stripe are seen by exactly the same ones, and each
 * of these takes the newer. So the older one can go. A tombstone may go only from stripe 0: everybody sees it or something newer, and all
 * older entries of its key go with it.
 */
#include "engine/engine_internal.h"
#include "engine/plant.h"

#include <stdlib.h>

/* First index whose snapshot is >= @sequence. */
static size_t lower_bound(const uint64_t *a, size_t count, uint64_t sequence)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (a[mid] < sequence)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int engine_snapshot_take(struct engine *e, uint64_t *sequence_out)
{
	uint64_t sequence;

	pthread_mutex_lock(&e->lock);
	if (e->snapshot_count == e->snapshot_cap) {
		size_t cap = e->snapshot_cap ? e->snapshot_cap * 2 : 16;
		uint64_t *grown = realloc(e->snapshots, cap * sizeof(*grown));

		if (!grown) {
			pthread_mutex_unlock(&e->lock);
			return -ENOMEM;
		}
		e->snapshots = grown;
		e->snapshot_cap = cap;
	}
	/* Under the lock, so that the array stays sorted: the sequence never goes back between two takes. */
	sequence = engine_last_sequence(e);
	e->snapshots[e->snapshot_count++] = sequence;
	pthread_mutex_unlock(&e->lock);
	*sequence_out = sequence;
	return 0;
}

void engine_snapshot_release(struct engine *e, uint64_t sequence)
{
	size_t i;

	pthread_mutex_lock(&e->lock);
	i = lower_bound(e->snapshots, e->snapshot_count, sequence);
	if (i < e->snapshot_count && e->snapshots[i] == sequence) {
		e->snapshot_count--;
		memmove(&e->snapshots[i], &e->snapshots[i + 1], (e->snapshot_count - i) * sizeof(e->snapshots[0]));
		if (i == 0 && reclaim_waiting(e))
			engine_wake_jobs(e);
	}
	pthread_mutex_unlock(&e->lock);
}

bool engine_snapshot_held(struct engine *e, uint64_t sequence)
{
	bool held;
	size_t i;

	pthread_mutex_lock(&e->lock);
	i = lower_bound(e->snapshots, e->snapshot_count, sequence);
	held = i < e->snapshot_count && e->snapshots[i] == sequence;
	pthread_mutex_unlock(&e->lock);
	return held;
}

/* ---- what survives a merge ---- */

int survivor_init(struct survivor *s, struct engine *e)
{
	int rc = 0;

	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&e->lock);
	if (e->snapshot_count && !PLANT("snapshot-ignored")) {
		s->snapshots = malloc(e->snapshot_count * sizeof(s->snapshots[0]));
		if (s->snapshots) {
			memcpy(s->snapshots, e->snapshots, e->snapshot_count * sizeof(s->snapshots[0]));
			s->count = PLANT("oldest-snapshot-only") ? 1 : e->snapshot_count;
		} else {
			rc = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

void survivor_fini(struct survivor *s)
{
	free(s->snapshots);
	key_buf_fini(&s->user);
	memset(s, 0, sizeof(*s));
}

int survivor_judge(struct survivor *s, struct slice ikey, enum verdict *out, bool *new_user_out)
{
	size_t stripe;

	if (!ikey_valid(ikey)) { /* not ours to understand, so not ours to drop */
		s->has_user = false;
		*out = VERDICT_KEEP;
		*new_user_out = true;
		return 0;
	}
	stripe = s->count ? lower_bound(s->snapshots, s->count, ikey_sequence(ikey)) : 0;
	*new_user_out = !s->has_user || !slice_equal(key_buf_slice(&s->user), ikey_user(ikey));
	if (*new_user_out) {
		int rc = key_buf_set(&s->user, ikey_user(ikey));

		if (rc < 0)
			return rc;
		s->has_user = true;
	} else if (stripe == s->stripe) {
		*out = VERDICT_SHADOWED;
		return 0;
	}
	s->stripe = stripe;
	*out = ikey_kind(ikey) == IKEY_DELETION && stripe == 0 ? VERDICT_TOMBSTONE : VERDICT_KEEP;
	return 0;
}
