#include "daemon/roster.h"

#include "daemon/pending.h"
#include "daemon/pins.h"
#include "daemon/stats.h"
#include "daemon/turns.h"
#include "shm/probe.h"
#include "shm/sigbus.h"

/* How long a client that does not read its completions is left alone. */
static const uint64_t CLOG_MIN_NS = 1000000, CLOG_MAX_NS = 100000000;
static const uint64_t CANCEL_AGAIN_NS = 1000000;

static void tell_control(struct service *svc, struct session *s, unsigned bits)
{
	mailbox_post(&svc->outbox, &s->out, bits);
	service_ring(svc->outbox_event);
}

void session_activate(struct service *svc, struct session *s)
{
	if (s->ending || s->active)
		return;
	if (s->parked)
		ring_daemon_unpark(&s->ring);
	s->parked = s->clogged = false;
	s->active = true;
	s->busy_ns = svc->now_ns;
	list_remove(&s->link);
	list_push_back(&svc->active, &s->link);
	turns_join(svc, s);
}

static void deactivate(struct service *svc, struct session *s, struct list *where)
{
	if (s->active)
		turns_leave(svc, s);
	s->active = false;
	list_remove(&s->link);
	list_push_back(where, &s->link);
}

static void on_bell(struct io_req *req)
{
	struct session *s = req->context;
	struct service *svc = s->service;

	s->bell_armed = false;
	if (s->ending)
		return; /* roster_let_go() comes by in this pass */
	if (req->result < 0)
		session_break(svc, s, "its doorbell cannot be read");
	else
		session_activate(svc, s);
}

bool roster_park(struct service *svc, struct session *s)
{
	bool parked = ring_daemon_park(&s->ring);

	/* Zeros in place of a page that went can look like an empty ring; so it is here that such a session is noticed. */
	if (unlikely(sigbus_guard_broken(s->guard))) {
		session_break(svc, s, "it took pages of its channel away");
		return false;
	}
	if (!parked)
		return false;
	s->parked = true;
	if (!s->bell_armed) {
		s->bell_armed = true;
		io_submit(svc->queue, &s->bell);
	}
	deactivate(svc, s, &svc->parked);
	stats_session(svc, s);
	return true;
}

void roster_set_aside(struct service *svc, struct session *s, int room)
{
	if (room || svc->closing) {
		deactivate(svc, s, &svc->parked);
		return;
	}
	s->clogged_wait_ns = s->clogged_wait_ns ? min_size(2 * s->clogged_wait_ns, CLOG_MAX_NS) : CLOG_MIN_NS;
	s->busy_ns = svc->now_ns;
	s->clogged = true;
	deactivate(svc, s, &svc->clogged);
	stats_session(svc, s);
}

uint64_t roster_look_at_clogged(struct service *svc)
{
	uint64_t next = UINT64_MAX;
	struct list *l, *after;

	for (l = svc->clogged.next; l != &svc->clogged; l = after) {
		struct session *s = container_of(l, struct session, link);

		after = l->next;
		if (svc->now_ns - s->busy_ns >= s->clogged_wait_ns)
			session_activate(svc, s);
		else if (s->busy_ns + s->clogged_wait_ns < next)
			next = s->busy_ns + s->clogged_wait_ns;
	}
	return next;
}

void session_end(struct service *svc, struct session *s)
{
	struct list *l;

	if (s->ending)
		return;
	session_wake(s, ring_cq_publish(&s->ring));
	deactivate(svc, s, &svc->ending);
	s->ending = true;
	s->parked = false;
	while ((l = s->requests.next) != &s->requests)
		request_abandon(svc, container_of(l, struct request, of_session));
	list_remove(&s->dirty);
	list_remove(&s->answer_link);
	pins_drop(svc, s);
	if (s->row >= 0)
		region_session_remove(svc->region, s->row);
	s->row = -1;
	if (s->guard >= 0)
		sigbus_guard_remove(s->guard);
	s->guard = -1;
	svc->session_count--;
	PROBE2(session__close, s->id, s->operations);
	svc->stats_changed = true;
	if (s->bell_armed)
		io_cancel(svc->queue, &s->bell); /* refused: roster_let_go() asks again */
}

void session_break(struct service *svc, struct session *s, const char *why)
{
	if (s->ending)
		return;
	svc->stats.protocol_errors++;
	svc->stats.sessions_broken++;
	log_braked(&svc->broken_brake, svc->now_ns, LOG_WARNING, "session of process %ld (%s, user %u) ended: %s",
		   (long)s->pid, s->command, (unsigned)s->uid, why);
	event_tell(&svc->events, REGION_EVENT_BROKEN, LOG_WARNING, "session of process %ld (%s, user %u) ended: %s",
		   (long)s->pid, s->command, (unsigned)s->uid, why);
	session_tell(s, CHANNEL_BROKEN);
	session_end(svc, s);
	tell_control(svc, s, SESSION_BROKEN);
}

struct session *roster_find(struct service *svc, uint64_t id)
{
	struct list *lists[] = {&svc->active, &svc->parked, &svc->clogged};

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (struct list *l = lists[i]->next; l != lists[i]; l = l->next)
			if (container_of(l, struct session, link)->id == id)
				return container_of(l, struct session, link);
	return NULL;
}

void roster_kick(struct service *svc, struct session *s)
{
	session_tell(s, CHANNEL_KICKED);
	session_end(svc, s);
	tell_control(svc, s, SESSION_BROKEN);
}

void roster_let_go(struct service *svc)
{
	struct list *l, *next;

	for (l = svc->ending.next; l != &svc->ending; l = next) {
		struct session *s = container_of(l, struct session, link);

		next = l->next;
		if (s->bell_armed && svc->now_ns - s->busy_ns >= CANCEL_AGAIN_NS) {
			/* A cancellation can miss a bell that was between two looks of the kernel's. */
			s->busy_ns = svc->now_ns;
			io_cancel(svc->queue, &s->bell);
		}
		if (s->bell_armed || !s->end_seen)
			continue;
		list_remove(&s->link);
		user_leave(svc, s->user);
		tell_control(svc, s, SESSION_GONE); /* the last touch */
	}
}

static void adopt(struct service *svc, struct session *s)
{
	s->service = svc;
	s->bell = (struct io_req){.op = IO_EVENT,
				  .fd = s->doorbell,
				  .buf = &s->bell_count,
				  .len = sizeof(s->bell_count),
				  .done = on_bell,
				  .context = s};
	s->user = user_join(svc, s->uid);
	list_push_back(&svc->active, &s->link);
	s->active = true;
	s->busy_ns = svc->now_ns;
	turns_join(svc, s);
	svc->session_count++;
	svc->stats.sessions_ever++;
	PROBE3(session__open, s->id, s->pid, s->uid);
	svc->stats_changed = true;
	s->guard = sigbus_guard_add(s->channel.base, s->channel.size);
	if (s->guard < 0) {
		session_break(svc, s, "the table of guarded channels is full");
		return;
	}
	s->row = region_session_add(svc->region, s->id, (uint32_t)s->pid, s->uid, s->command, svc->now_ns);
	if (svc->closing) {
		session_tell(s, CHANNEL_CLOSING);
		session_end(svc, s);
	}
}

unsigned roster_read_mail(struct service *svc)
{
	struct mail *mail;
	unsigned bits, n = 0;

	for (; (mail = mailbox_take(&svc->inbox, &bits)); n++) {
		struct session *s = container_of(mail, struct session, in);

		if (bits & SESSION_ADOPT)
			adopt(svc, s);
		if (bits & SESSION_END) {
			s->end_seen = true; /* no further mail of the control thread is under way */
			session_end(svc, s);
		}
	}
	return n;
}
