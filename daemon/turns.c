/*
 * turns.c - deficit round robin on two floors, with a short cut for those who ask for little.
 *
 *	round     each user with active sessions has one turn
 *	turn      a user may cost fairness.turn_bytes × its weight; its sessions are visited in turn until that is used up, or nothing is left
 *	visit     a session may cost a quarter of a turn: VISIT_TAKE small requests, or one large one
 *
 * A request costs turn_bytes ÷ turn_requests, and the bytes that it brings and gets. What costs more than was left is done all the same, and is a debt that later
 * turns pay off, so that no request is too large ever to be taken. Answers that come later (blocks from disk, stalled writes) are
 * charged when they come. Who is alone has no debts.
 *
 * Between two visits of sessions that have more than a visit takes, all others are looked at: those that ask for one thing at a time. They wait
 * for one visit, not for a round, and their completions are shown at once. What they take is charged as well: a user whose many small
 * sessions together have used up its turn waits for the next.
 *
 * A look at a session that has nothing is a load from a line that is in the cache as long as the client does not write to it.
 */
#include "daemon/turns.h"

#include "daemon/ops.h"
#include "daemon/roster.h"
#include "shm/sigbus.h"

static const uint64_t SESSION_IDLE_NS = 1000000; /* an idle session is parked though others are busy */
enum {
	VISITS = 4,	 /* to a turn */
	LIGHT_LOOK = 32, /* sessions looked at between two visits */
	DEBT_TURNS =
		64, /* no debt is larger: a request that costs more than so many turns need not be paid to the end */
};

/* ---- who is polled ---- */

static void set_light(struct service *svc, struct session *s, bool light)
{
	if (light == !list_empty(&s->light))
		return;
	if (light)
		list_push_back(&svc->light, &s->light);
	else
		list_remove(&s->light);
}

void turns_join(struct service *svc, struct session *s)
{
	struct user *u = s->user;

	list_push_back(&u->polled, &s->turn);
	if (u->polled_count++ == 0)
		list_push_back(&svc->turns, &u->turn);
	set_light(svc, s, true);
	svc->active_count++;
}

void turns_leave(struct service *svc, struct session *s)
{
	struct user *u = s->user;

	list_remove(&s->turn);
	if (--u->polled_count == 0)
		list_remove(&u->turn);
	set_light(svc, s, false);
	svc->active_count--;
}

/* ---- one visit ---- */

/* Adds what a turn brings to what is left or owed. */
static int64_t grant(int64_t left, int64_t amount, bool alone)
{
	if (alone || left >= 0)
		return amount;
	return (left > -DEBT_TURNS * amount ? left : -DEBT_TURNS * amount) + amount;
}

/* Takes and executes at most @most of what it has. How many; *@more_out: there may be more. */
static unsigned take(struct service *svc, struct session *s, unsigned most, bool *more_out)
{
	int room = ring_cq_room(&s->ring), n;

	*more_out = false;
	if (unlikely(svc->closing) && (int)s->closing_left < room)
		room = (int)s->closing_left;
	n = room < 0 ? room : ring_sq_take(&s->ring, svc->taken, (uint32_t)min_size((size_t)room, most));
	if (unlikely(n < 0)) {
		session_break(svc, s, "its ring indices are out of bounds");
		return 0;
	}
	if (n == 0) {
		if ((!room || s->ring.in_flight == s->ring.entries) && ring_sq_waiting(&s->ring))
			roster_set_aside(svc, s, room);
		return 0;
	}
	s->closing_left -= svc->closing ? (unsigned)n : 0;
	session_charge(s, (uint64_t)n * svc->request_cost);
	for (int i = 0; i < n && !s->ending; i++)
		ops_execute(svc, s, &svc->taken[i]);
	*more_out = !s->ending && (unsigned)n == most;
	return (unsigned)n;
}

/* How many were taken. *@idle_out: there is nothing to take (none may also mean that it has to pay off a debt first). */
static unsigned visit(struct service *svc, struct session *s, bool *idle_out)
{
	const int64_t quantum = svc->turn_cost / VISITS;
	unsigned done = 0;
	bool more = true;

	*idle_out = !ring_sq_waiting(&s->ring);
	if (*idle_out)
		return 0;
	s->deficit = grant(s->deficit, quantum, svc->active_count == 1);
	while (more && s->deficit > 0 && done < VISIT_TAKE) {
		int64_t before = s->deficit, fit = before / (int64_t)svc->request_cost;
		/* After a large request one at a time, so that a visit is not over by many of them. */
		unsigned most = s->large || fit < 1 ? 1 : (unsigned)min_size((size_t)fit, VISIT_TAKE - done), n;

		n = take(svc, s, most, &more);
		s->large = n && before - s->deficit > 4 * (int64_t)n * (int64_t)svc->request_cost;
		done += n;
	}
	*idle_out = !done && !more;
	if (s->ending)
		return done;
	if (unlikely(sigbus_guard_broken(s->guard))) {
		session_break(svc, s, "it took pages of its channel away");
		return done;
	}
	if (s->active)
		set_light(svc, s, !more);
	if (done) {
		s->busy_ns = svc->now_ns;
		s->clogged_wait_ns = 0;
	}
	if (done && !more) /* it has all that it asked for: it need not wait for others */
		service_show(svc, s);
	return done;
}

/* ---- one round ---- */

/* The sessions that seldom have much, each once. */
static unsigned look_at_light(struct service *svc)
{
	unsigned work = 0;
	bool idle;

	for (unsigned n = 0; n < LIGHT_LOOK && !list_empty(&svc->light); n++) {
		struct session *s = container_of(svc->light.next, struct session, light);

		if (s->light_round == svc->light_round)
			break; /* all were looked at */
		s->light_round = svc->light_round;
		list_remove(&s->light);
		list_push_back(&svc->light, &s->light);
		if (s->user->credit <= 0)
			continue;
		work += visit(svc, s, &idle);
	}
	svc->light_round++;
	return work;
}

static unsigned turn_of(struct service *svc, struct user *u, bool alone)
{
	unsigned idle_count = 0, work = 0;

	u->credit = grant(u->credit, svc->turn_cost * u->weight, alone);
	while (u->credit > 0 && idle_count < u->polled_count) {
		struct session *s = container_of(u->polled.next, struct session, turn);
		unsigned n;
		bool idle;

		list_remove(&s->turn);
		list_push_back(&u->polled, &s->turn);
		n = visit(svc, s, &idle);
		if (!idle) {
			idle_count = 0;
			work += n;
			if (n && s->active && list_empty(&s->light))
				work += look_at_light(svc);
			continue;
		}
		idle_count++;
		if (s->active && svc->now_ns - s->busy_ns > SESSION_IDLE_NS && !ring_sq_waiting(&s->ring))
			roster_park(svc, s);
	}
	svc->owed |= u->credit <= 0;
	return work;
}

unsigned turns_take(struct service *svc)
{
	unsigned work = 0, users = 0;

	for (struct list *l = svc->turns.next; l != &svc->turns; l = l->next)
		users++;
	svc->owed = false;
	for (unsigned i = users; i && !list_empty(&svc->turns); i--) {
		struct user *u = container_of(svc->turns.next, struct user, turn);

		list_remove(&u->turn);
		list_push_back(&svc->turns, &u->turn);
		work += turn_of(svc, u, users == 1);
	}
	return work ? work : svc->owed;
}
