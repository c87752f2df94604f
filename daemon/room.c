/*
 * room.c - back-pressure for reads.
 *
 * A read that waits for blocks pins those that it has and owns the buffers of those that are under way; one whose large value goes out in slices
 * pins that. What a ring full of such reads needs is not bounded by the ring: a block is as large as its largest value. So bytes are counted, on two floors:
 *
 *	session   at most its arena and SESSION_ROOM, so that the reads of one client do not hold up its user's other ones
 *	user      together with the payload of its waiting requests at most limits.in_flight_per_uid
 *
 * A read that would take more waits in session.crowd, in order, and nothing fails. *Who is alone may always*: on a floor where nobody else is at it, a read
 * goes on whatever it needs. So there is always one that gets on, and the bound is the share and one request more. What one request pins is bounded where it is
 * executed (probe_multiget, engine_scan).
 *
 * A read that has to go on after its first blocks are in asks again, before those that have not begun. While it waits it keeps what it has (that
 * was inside of the share), but is not "at it", so two that wait for each other's room are not a deadlock: both count as gone, and the first goes on.
 *
 * Nobody starves: new reads queue up behind a session's crowd, and a session that waits for its user's room (user.first) lets none of that user's
 * others go before it.
 *
 * The question is asked only by reads that miss, or have more than a slice to answer with. A get out of the cache does not come here.
 */
#include "daemon/room.h"

#include "daemon/pending.h"
#include "daemon/reads.h"

enum {
	SESSION_ROOM = 8 << 20, /* two thousand blocks of usual size: more than a disk makes use of */
	RUN_BUDGET = 32,	/* reads that are run in one pass, so that it stays short */
};

enum fit { FITS, SESSION_FULL, USER_FULL };

static enum fit fit(const struct service *svc, const struct request *r, size_t more)
{
	const struct session *s = r->session;
	const struct user *u = s->user;

	if (s->readers > r->reader && s->room_used + more > s->arena_size + SESSION_ROOM)
		return SESSION_FULL;
	if (u->readers == r->reader)
		return FITS;
	if (u->first && u->first != s)
		return USER_FULL;
	return u->held + u->room_used + more > svc->config->in_flight_per_uid ? USER_FULL : FITS;
}

static void begin(struct request *r)
{
	struct user *u = r->session->user;

	if (u->first == r->session)
		u->first = NULL;
	if (r->reader)
		return;
	r->reader = true;
	r->session->readers++;
	u->readers++;
}

static void stop(struct service *svc, struct request *r)
{
	if (!r->reader)
		return;
	r->reader = false;
	r->session->readers--;
	r->session->user->readers--;
	svc->room_look = true;
}

/* @s has a crowd, or has none any more. */
static void settle(struct service *svc, struct session *s)
{
	struct user *u = s->user;
	bool in = !list_empty(&s->crowd_link);

	if (in == !list_empty(&s->crowd))
		return;
	if (!in) {
		list_push_back(&u->crowded, &s->crowd_link);
		if (list_empty(&u->crowded_link))
			list_push_back(&svc->crowded, &u->crowded_link);
		return;
	}
	list_remove(&s->crowd_link);
	if (u->first == s) {
		u->first = NULL;
		svc->room_look = true;
	}
	if (list_empty(&u->crowded))
		list_remove(&u->crowded_link);
}

bool room_enter(struct service *svc, struct request *r, size_t more)
{
	struct session *s = r->session;
	bool before_others = r->reader || r->waited;
	enum fit found;

	if (!more)
		return true;
	found = before_others || list_empty(&s->crowd) ? fit(svc, r, more) : SESSION_FULL;
	if (likely(found == FITS)) {
		begin(r);
		return true;
	}
	if (found == USER_FULL && !s->user->first)
		s->user->first = s;
	stop(svc, r);
	read_ctx_forget(&r->ctx);
	r->waited = true;
	r->wants = more;
	request_wait(svc, r, REQUEST_CROWDED, before_others ? s->crowd.next : &s->crowd);
	settle(svc, s);
	return false;
}

void room_set(struct request *r, size_t bytes)
{
	r->session->room_used += bytes - r->room;
	r->session->user->room_used += bytes - r->room;
	r->room = bytes;
}

void room_drop(struct service *svc, struct request *r)
{
	room_set(r, 0);
	stop(svc, r);
}

void room_leave(struct service *svc, struct request *r)
{
	struct session *s = r->session;

	if (r->reader && r->ctx.in_flight) { /* it is still at it, for its user, who stays until then */
		s->room_used -= r->room;
		s->readers--;
		r->payer = s->user;
		r->payer->sessions++;
		return;
	}
	room_drop(svc, r);
	if (r->state == REQUEST_CROWDED)
		list_remove(&r->link);
	settle(svc, s);
}

void room_forget(struct service *svc, struct request *r)
{
	struct user *u = r->payer;

	if (!u)
		return;
	u->room_used -= r->room;
	u->readers--;
	r->room = 0;
	r->reader = false;
	r->payer = NULL;
	svc->room_look = true;
	user_leave(svc, u);
}

/* The session's first goes on. Whatever becomes of it, and of the session, the lists are as they should be afterwards. */
static void run(struct service *svc, struct session *s)
{
	struct request *r = container_of(s->crowd.next, struct request, link);

	list_remove(&r->link);
	r->state = REQUEST_RUNNING;
	settle(svc, s);
	read_again(svc, r);
}

static unsigned length(const struct list *head)
{
	unsigned n = 0;

	for (const struct list *l = head->next; l != head; l = l->next)
		n++;
	return n;
}

/* Its sessions by turns, from the one that was looked at least recently. */
static unsigned run_user(struct service *svc, struct user *u, unsigned most)
{
	unsigned done = 0;

	for (unsigned n = length(&u->crowded); n && !list_empty(&u->crowded); n--) {
		struct session *s = container_of(u->crowded.next, struct session, crowd_link);

		list_remove(&s->crowd_link);
		list_push_back(&u->crowded, &s->crowd_link);
		while (!list_empty(&s->crowd)) {
			struct request *r = container_of(s->crowd.next, struct request, link);
			enum fit found = fit(svc, r, r->wants);

			if (found == USER_FULL && !u->first)
				u->first = s;
			if (found != FITS)
				break;
			if (done == most) {
				svc->room_look = true;
				return done;
			}
			done++;
			run(svc, s);
		}
	}
	return done;
}

unsigned room_run(struct service *svc)
{
	unsigned done = 0;

	svc->room_look = false;
	for (unsigned n = length(&svc->crowded); n && !list_empty(&svc->crowded); n--) {
		struct user *u = container_of(svc->crowded.next, struct user, crowded_link);

		list_remove(&u->crowded_link);
		list_push_back(&svc->crowded, &u->crowded_link);
		done += run_user(svc, u, RUN_BUDGET);
	}
	return done;
}
