#include "daemon/pins.h"

#include <stdlib.h>

#include "daemon/pending.h"
#include "daemon/stats.h"
#include "shm/error.h"

static const uint64_t MS = 1000000, LEASE_MAX_MS = UINT64_C(1000) * 3600 * 24 * 365;

/* ---- one session's ---- */

static int add(struct session *s, const struct session_snapshot *snap)
{
	if (s->snapshot_count == s->snapshot_cap) {
		unsigned cap = s->snapshot_cap ? 2 * s->snapshot_cap : 8;
		struct session_snapshot *list = realloc(s->snapshots, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		s->snapshots = list;
		s->snapshot_cap = cap;
	}
	s->snapshots[s->snapshot_count++] = *snap;
	return 0;
}

/* Gives back what it pins; its place in the session's list stays. */
static void unpin(struct service *svc, struct session *s, struct session_snapshot *snap)
{
	if (snap->row < 0)
		return;
	region_snapshot_free(svc->region, snap->row);
	engine_snapshot_release(svc->engine, snap->sequence);
	snap->row = -1;
	s->pinned--;
	s->user->pins--;
}

/* Of several with one sequence, which no request can tell apart, one whose lease is over goes first. */
static struct session_snapshot *find(struct session *s, uint64_t sequence)
{
	struct session_snapshot *found = NULL;

	for (unsigned i = s->snapshot_count; i-- > 0;)
		if (s->snapshots[i].sequence == sequence && (!found || s->snapshots[i].row < 0))
			found = &s->snapshots[i];
	return found;
}

int pin_check(struct service *svc, const struct session *s, uint64_t sequence)
{
	bool over = false;

	for (unsigned i = s->snapshot_count; i-- > 0;) {
		if (s->snapshots[i].sequence != sequence)
			continue;
		if (s->snapshots[i].row >= 0)
			return 0;
		over = true;
	}
	/* Sessions of one client share snapshots, so another session's will do; but not in place of one that is over. */
	return !over && engine_snapshot_held(svc->engine, sequence) ? 0 : -SHALE_EOUSTED;
}

void pins_drop(struct service *svc, struct session *s)
{
	while (s->snapshot_count)
		unpin(svc, s, &s->snapshots[--s->snapshot_count]);
	list_remove(&s->leased);
}

/* ---- requests ---- */

/* When a lease of @asked_ms, 0 for the longest there is, ends. 0: never. */
static uint64_t lease_end(const struct service *svc, uint64_t asked_ms)
{
	uint64_t longest = svc->config->snapshot_lease, ms = asked_ms;

	if (!ms || (longest && ms > longest))
		ms = longest;
	return ms && ms <= LEASE_MAX_MS ? svc->now_ns + ms * MS : 0;
}

static void lease(struct service *svc, struct session *s, uint64_t until_ns)
{
	if (!until_ns)
		return;
	if (list_empty(&s->leased))
		list_push_back(&svc->leased, &s->leased);
	svc->next_lease_ns = min_size(svc->next_lease_ns, until_ns);
}

static int take(struct service *svc, struct session *s, uint64_t asked_ms, uint64_t *sequence_out)
{
	struct session_snapshot snap = {.until_ns = lease_end(svc, asked_ms)};
	int rc;

	if (s->snapshot_count >= svc->config->snapshots)
		return -ENOSPC;
	if (s->user->pins >= svc->config->snapshots_per_uid)
		return -EDQUOT;
	rc = engine_snapshot_take(svc->engine, &snap.sequence);
	if (rc < 0)
		return rc;
	snap.row = region_snapshot_take(svc->region, snap.sequence, s->id, svc->now_ns, snap.until_ns);
	rc = snap.row < 0 ? snap.row : add(s, &snap);
	if (rc < 0) {
		if (snap.row >= 0)
			region_snapshot_free(svc->region, snap.row);
		engine_snapshot_release(svc->engine, snap.sequence);
		return rc;
	}
	s->pinned++;
	s->user->pins++;
	lease(svc, s, snap.until_ns);
	*sequence_out = snap.sequence ? snap.sequence : SEQUENCE_EMPTY;
	return 0;
}

void pin_take(struct service *svc, struct request *r)
{
	int rc = take(svc, r->session, r->sqe.sequence, &r->sequence);

	request_complete(svc, r, rc, 0);
}

void pin_release(struct service *svc, struct request *r)
{
	struct session *s = r->session;
	struct session_snapshot *snap = find(s, r->sqe.sequence == SEQUENCE_EMPTY ? 0 : r->sqe.sequence);

	if (snap) {
		unpin(svc, s, snap);
		*snap = s->snapshots[--s->snapshot_count];
	}
	request_complete(svc, r, snap ? 0 : -EINVAL, 0);
}

/* ---- leases ---- */

/* Ends those of @s that are over. When the next one will be; UINT64_MAX: none has a lease. */
static uint64_t expire(struct service *svc, struct session *s)
{
	uint64_t next = UINT64_MAX;
	unsigned ended = 0;

	for (unsigned i = 0; i < s->snapshot_count; i++) {
		struct session_snapshot *snap = &s->snapshots[i];

		if (snap->row < 0 || !snap->until_ns)
			continue;
		if (snap->until_ns > svc->now_ns) {
			next = min_size(next, snap->until_ns);
			continue;
		}
		unpin(svc, s, snap);
		ended++;
	}
	if (ended) {
		s->ousted += ended;
		stats_session(svc, s);
		svc->stats.snapshots_ousted += ended;
		svc->stats_changed = true;
		event_tell(&svc->events, REGION_EVENT_OUSTED, LOG_NOTICE,
			   "the lease of %u snapshot%s of process %ld (%s, user %u) is over", ended,
			   ended == 1 ? "" : "s", (long)s->pid, s->command, (unsigned)s->uid);
		log_braked(&svc->ousted_brake, svc->now_ns, LOG_NOTICE,
			   "the lease of %u snapshot%s of process %ld (%s, user %u) is over", ended,
			   ended == 1 ? "" : "s", (long)s->pid, s->command, (unsigned)s->uid);
	}
	return next;
}

void pins_expire(struct service *svc)
{
	uint64_t next = UINT64_MAX;
	struct list *l, *after;

	if (likely(svc->now_ns < svc->next_lease_ns))
		return;
	for (l = svc->leased.next; l != &svc->leased; l = after) {
		struct session *s = container_of(l, struct session, leased);
		uint64_t its_next = expire(svc, s);

		after = l->next;
		if (its_next == UINT64_MAX)
			list_remove(&s->leased);
		next = min_size(next, its_next);
	}
	svc->next_lease_ns = next;
}
