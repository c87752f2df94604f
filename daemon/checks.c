/*
 * checks.c - CHECK.
 *
 * A worker holds the database against its invariants (engine/check.h). When it is done, the service thread adds what is its own: the rings, the pins, and what
 * the region shows of them. That takes a look at each session and each pin, in memory: well below a millisecond for as many as there can be.
 *
 * Only root and the daemon's own user may ask. A check changes nothing and tells no more than a scan does; but it reads the whole disk, and keeps deleted
 * tables on it until it ends: what others have to pay for is not for anybody to order.
 *
 * Nobody but its asker wants the answer. So a check ends with its session, and with its deadline.
 *
 * The answer is struct check_answer and its rows; that of a failure is its words.
 */
#include "daemon/checks.h"

#include <inttypes.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/ops.h"
#include "daemon/pending.h"
#include "engine/check.h"
#include "shm/error.h"
#include "shm/sigbus.h"

static_assert((int)CHECK_FINDINGS <= (int)CHECK_ROWS && (int)CHECK_KEY_SHOWN <= (int)CHECK_ROW_KEY,
	      "a finding fits into a row");

/* ---- asking ---- */

void check_begin(struct service *svc, struct request *r)
{
	uid_t uid = r->session->uid;
	struct err_info err = {0};
	int rc;

	if (uid != 0 && uid != geteuid()) {
		err_set(&err, -EPERM, "only root and the user that the daemon runs as may have the database checked");
		ops_refuse(svc, r, &err);
		return;
	}
	rc = engine_check_start(svc->engine, &r->ticket);
	if (rc < 0) {
		if (rc == -EBUSY)
			err_set(&err, rc, "another check is under way; shalectl jobs shows how far it is");
		else
			err_set(&err, rc, "the check cannot begin: %s", shale_strerror(rc));
		ops_refuse(svc, r, &err);
		return;
	}
	log_line(LOG_NOTICE, "check begun for process %ld (%s, user %u)", (long)r->session->pid, r->session->command,
		 (unsigned)uid);
	r->delay |= DELAY_JOB;
	request_wait(svc, r, REQUEST_JOB, &svc->errands);
	svc->jobs_look = true;
}

/* ---- what is the service thread's own ---- */

static void tell(struct check_result *c, const char *kind, const struct session *s, const char *what)
{
	struct check_finding *f = &c->finding[c->kept];

	c->problems++;
	if (c->kept == CHECK_FINDINGS)
		return;
	c->kept++;
	*f = (struct check_finding){.code = -EPROTO, .level = -1};
	snprintf(f->kind, sizeof(f->kind), "%s", kind);
	if (s)
		snprintf(f->what, sizeof(f->what), "session %" PRIx64 " of process %ld (%s, user %u): %s", s->id,
			 (long)s->pid, s->command, (unsigned)s->uid, what);
	else
		snprintf(f->what, sizeof(f->what), "%s", what);
}

/* Relaxed loads: this thread alone writes what they read. */
static bool pin_is_shown(const struct service *svc, const struct session *s, const struct session_snapshot *snap)
{
	const struct region_snapshot *row = &svc->region->snapshots[snap->row];

	return atomic_load_explicit(&row->sequence_plus_1, memory_order_relaxed) == snap->sequence + 1 &&
	       atomic_load_explicit(&row->session, memory_order_relaxed) == s->id;
}

static void check_session(const struct service *svc, struct session *s, struct check_result *c,
			  struct check_answer *answer)
{
	const struct region_session *row = s->row < 0 ? NULL : &svc->region->sessions[s->row];
	const char *why;
	unsigned pinned = 0;

	answer->sessions++;
	/* In place of pages that its client took away there are zeros; that session ends when it is looked at next. */
	if (ring_daemon_check(&s->ring, &why) < 0 && !sigbus_guard_broken(s->guard))
		tell(c, "ring", s, why);
	if (row && atomic_load_explicit(&row->session, memory_order_relaxed) != s->id)
		tell(c, "region", s, "its row in the region is another session's");
	for (unsigned i = 0; i < s->snapshot_count; i++) {
		const struct session_snapshot *snap = &s->snapshots[i];

		if (snap->row < 0)
			continue;
		pinned++;
		answer->snapshots++;
		if (!engine_snapshot_held(svc->engine, snap->sequence))
			tell(c, "snapshot", s, "a snapshot that it holds is not pinned in the engine");
		if (!pin_is_shown(svc, s, snap))
			tell(c, "region", s, "a snapshot that it holds is not in the region");
	}
	if (pinned != s->pinned)
		tell(c, "snapshot", s, "it does not hold as many snapshots as are counted");
}

static void check_service(struct service *svc, struct check_result *c, struct check_answer *answer)
{
	struct list *lists[] = {&svc->active, &svc->parked, &svc->clogged};
	uint64_t shown = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (struct list *l = lists[i]->next; l != lists[i]; l = l->next)
			check_session(svc, container_of(l, struct session, link), c, answer);
	if (answer->sessions != svc->session_count)
		tell(c, "session", NULL, "there are not as many sessions as are counted");
	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++)
		shown += atomic_load_explicit(&svc->region->snapshots[i].sequence_plus_1, memory_order_relaxed) != 0;
	if (shown != answer->snapshots)
		tell(c, "region", NULL, "the region shows snapshots that no session holds");
	if (atomic_load_explicit(&svc->region->header->last_sequence, memory_order_relaxed) >
	    engine_last_sequence(svc->engine))
		tell(c, "region", NULL, "the region shows a sequence that was not given yet");
}

/* ---- answering ---- */

static void fill_row(struct check_row *row, const struct check_finding *f)
{
	static_assert(sizeof(row->kind) >= sizeof(f->kind) && sizeof(row->file) >= sizeof(f->file) &&
			      sizeof(row->what) >= sizeof(f->what),
		      "words fit");
	row->code = f->code;
	row->level = f->level;
	memcpy(row->kind, f->kind, sizeof(f->kind));
	memcpy(row->file, f->file, sizeof(f->file));
	memcpy(row->what, f->what, sizeof(f->what));
	row->has_range = f->has_range;
	row->first_len = f->first.size;
	row->last_len = f->last.size;
	memcpy(row->first, f->first.bytes, sizeof(f->first.bytes));
	memcpy(row->last, f->last.bytes, sizeof(f->last.bytes));
}

static void tell_log(struct service *svc, const struct check_result *c)
{
	if (!c->problems) {
		log_line(LOG_NOTICE,
			 "check: %" PRIu64 " tables, %" PRIu64 " entries, up to sequence %" PRIu64 ": clean", c->tables,
			 c->entries, c->sequence);
		return;
	}
	for (unsigned i = 0; i < c->kept; i++)
		log_line(LOG_ERR, "check: %s%s%s", c->finding[i].file, *c->finding[i].file ? ": " : "",
			 c->finding[i].what);
	event_tell(&svc->events, REGION_EVENT_DAMAGE, LOG_ERR, "a check found %" PRIu64 " problem%s; the first: %s%s%s",
		   c->problems, c->problems == 1 ? "" : "s", c->finding[0].file, *c->finding[0].file ? ": " : "",
		   c->finding[0].what);
}

static void answer(struct service *svc, struct request *r, struct check_result *c)
{
	struct {
		struct check_answer head;
		struct check_row rows[CHECK_FINDINGS];
	} a = {0};

	check_service(svc, c, &a.head);
	tell_log(svc, c);
	if (!r->session) {
		request_complete(svc, r, 0, 0);
		return;
	}
	a.head.sequence = c->sequence;
	a.head.tables = c->tables;
	a.head.table_bytes = c->table_bytes;
	a.head.memtables = c->memtables;
	a.head.entries = c->entries;
	a.head.files = c->files;
	a.head.entries_checked = c->entries_checked;
	a.head.problems = c->problems;
	a.head.rows = c->kept;
	for (unsigned i = 0; i < c->kept; i++)
		fill_row(&a.rows[i], &c->finding[i]);
	ops_answer(svc, r, &a, sizeof(a.head) + c->kept * sizeof(a.rows[0]));
}

bool check_ended(struct service *svc, struct request *r)
{
	struct check_result result;
	struct err_info err = {0};
	int rc = engine_check_done(svc->engine, r->ticket, &result, &err);

	if (!rc)
		return false;
	if (rc > 0) {
		answer(svc, r, &result);
		return true;
	}
	if (!err.code)
		err_set(&err, rc, "%s", shale_strerror(rc));
	log_line(rc == -ECANCELED ? LOG_NOTICE : LOG_WARNING, "no check: %s", err.text);
	ops_refuse(svc, r, &err);
	return true;
}
