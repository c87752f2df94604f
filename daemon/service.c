/*
 * service.c - the loop.
 *
 * One pass
 *	1. io_queue_poll: doorbells, the inbox, blocks that arrived, WAL writes and syncs that ended
 *	2. mails of the control thread; what the engine's background work set free
 *	3. reads whose blocks are in; every active session in turn, with a budget (turns.c); stalled writes, by their shares (shares.c)
 *	4. show the completions, once per session
 *	5. drive the log; complete the syncs that it covers; deadlines; the stats page
 * A pass without work spins; when spinning does not pay, all sessions are parked, the log is drained, and the thread sleeps in its
 * io_queue. Only sessions that are active are looked at, so a thousand idle ones cost nothing.
 *
 * No wake-up is lost
 *	client → us: ring_daemon_park() sets the flag, then looks at the tail; ring_sq_publish() sets the tail, then looks at the flag.
 *	thread → us: service_sleep() sets `sleeping`, then looks at inbox, progress and stop; a poster sets one of them, then looks at
 *	`sleeping`. All four accesses of each pair are seq_cst, so at least one side sees the other.
 */
#include "daemon/service.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/meter.h"
#include "daemon/pending.h"
#include "daemon/pins.h"
#include "daemon/reads.h"
#include "daemon/room.h"
#include "daemon/roster.h"
#include "daemon/rows.h"
#include "daemon/stats.h"
#include "daemon/turns.h"
#include "engine/kill_point.h"
#include "shm/error.h"

#define MILLISECOND UINT64_C(1000000)
static const uint64_t STATS_EVERY_NS = 100 * MILLISECOND;
static const uint64_t STATS_REST_NS =
	2 * MILLISECOND; /* the least time between two pages, however short the rests between them are */
static const uint64_t DRAIN_REST_NS =
	2 * MILLISECOND; /* how long the log's last bytes stay in the window at most, while there is little to do */
static const uint64_t YIELD_NS = 2000; /* of looking for work in vain: as the client does (client/call.c) */
static const uint64_t CLOSING_MAX_NS = 5000 * MILLISECOND; /* how long a clean end waits for what is in flight */
static const uint64_t RETRY_NS = 1000 * MILLISECOND;	   /* how often a full disk is tried again */
static const uint64_t SET_ASIDE_NS =
	60000 * MILLISECOND; /* and unreadable tables, of which the engine heeds ever fewer */

/* ---- waking ---- */

void service_ring(int fd)
{
	const uint64_t one = 1;
	ssize_t ignored = write(fd, &one, sizeof(one));

	(void)ignored; /* it fails only when the counter is full, and then it can be read already */
}

void service_wake(struct service *svc)
{
	/* seq_cst, after the caller's store: pairs with service_sleep(). */
	if (atomic_exchange_explicit(&svc->sleeping, false, memory_order_seq_cst))
		service_ring(svc->event);
}

void service_stop(struct service *svc)
{
	atomic_store_explicit(&svc->stop, true, memory_order_seq_cst);
	service_wake(svc);
}

void service_progress(struct service *svc)
{
	atomic_store_explicit(&svc->progress, true, memory_order_seq_cst);
	service_wake(svc);
}

bool service_rests(const struct service *svc)
{
	/* Whoever calls stores what it is to see, then takes `sleeping` away: so a call that is not heeded is seen in either. */
	return atomic_load_explicit(&svc->sleeping, memory_order_seq_cst) && !mailbox_full(&svc->inbox) &&
	       !atomic_load_explicit(&svc->progress, memory_order_seq_cst) &&
	       !atomic_load_explicit(&svc->stop, memory_order_seq_cst);
}

void service_post(struct service *svc, struct session *s, unsigned bits)
{
	mailbox_post(&svc->inbox, &s->in, bits);
	service_wake(svc);
}

static void on_event(struct io_req *req)
{
	struct service *svc = req->context;

	if (req->result >= 0) /* else the queue is being taken down */
		io_submit(svc->queue, req);
}

/* ---- one pass ---- */

void service_show(struct service *svc, struct session *s)
{
	enum ring_wake how;

	list_remove(&s->dirty);
	/* Release: what the memtable holds before the number. Readers of the region only look at it. */
	atomic_store_explicit(&svc->region->header->last_sequence, engine_last_sequence(svc->engine),
			      memory_order_release);
	svc->stats_changed = true;
	how = ring_cq_publish(&s->ring);
	KILL_POINT("answers_published");
	session_wake(s, how);
}

static void show_completions(struct service *svc)
{
	while (!list_empty(&svc->dirty))
		service_show(svc, container_of(svc->dirty.next, struct session, dirty));
}

/* Cut to the room that the stats page has. */
static void tell_error(struct service *svc, const char *text)
{
	size_t n = min_size(strlen(text), sizeof(svc->stats.last_error) - 1);

	memcpy(svc->stats.last_error, text, n);
	svc->stats.last_error[n] = '\0';
}

/* What background work waits for and is tried again: a full disk, and what the system is short of at times. */
static bool heals(int rc)
{
	return rc == -ENOSPC || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

/* Asks the engine how it is after its background work got on. */
static void check_engine(struct service *svc)
{
	struct err_info err = {0};
	int rc = engine_state(svc->engine, &err);

	svc->stats_changed = true;
	svc->jobs_look = svc->stall_look = true;
	tell_error(svc, rc ? err.text : svc->standing_error ? svc->standing_error : "");
	if (heals(rc) && !svc->paused) {
		log_event(&(struct log_about){.event = EVENT_DISK_FULL}, LOG_ERR,
			  "%s; background work waits and is tried again each second", err.text);
		event_tell(&svc->events, REGION_EVENT_PAUSED, LOG_ERR, "background work waits: %s", err.text);
		svc->retry_ns = svc->now_ns + RETRY_NS;
	} else if (!rc && svc->paused) {
		event_tell(&svc->events, REGION_EVENT_RESUMED, LOG_NOTICE, "background work goes on again");
		log_event(&(struct log_about){.event = EVENT_DISK_ROOM}, LOG_NOTICE, "background work goes on again");
	}
	svc->paused = heals(rc);
	if (!svc->set_aside && !svc->paused)
		svc->retry_ns = svc->now_ns + svc->set_aside_every_ns;
	if (engine_set_aside(svc->engine) && !svc->set_aside)
		event_tell(&svc->events, REGION_EVENT_SET_ASIDE, LOG_ERR,
			   "a compaction is set aside: its tables cannot be read; shalectl verify tells which");
	svc->set_aside = engine_set_aside(svc->engine);
	if (rc < 0 && !svc->paused)
		service_fail(svc, rc);
}

static void retry_background(struct service *svc)
{
	if (likely(!svc->paused && !svc->set_aside) || svc->now_ns < svc->retry_ns)
		return;
	svc->retry_ns = svc->now_ns + (svc->paused ? RETRY_NS : svc->set_aside_every_ns);
	if (!engine_retry(svc->engine))
		check_engine(svc);
}

static void apply_config(struct service *svc)
{
	const struct config *config = svc->config;

	svc->turn_cost = (int64_t)config->turn_bytes;
	svc->request_cost = max_size(config->turn_bytes / config->turn_requests, 1);
	spinner_init(&svc->spinner, config->spin_us * 1000);
}

/* The settings of a reload. What a pass keeps of them is worked out anew; sessions keep the ring and the arena that they have. */
static void take_config(struct service *svc)
{
	/* Acquire: pairs with the release in service_reload(): the settings before the pointer. */
	struct config *next = atomic_exchange_explicit(&svc->new_config, NULL, memory_order_acquire);

	if (!next)
		return;
	if (svc->rows && !config_same_access(svc->config, next))
		rows_replace(svc->rows);
	free(svc->own_config);
	svc->config = svc->own_config = next;
	apply_config(svc);
	users_reweigh(svc);
	stats_settings(svc);
	svc->stall_look = true; /* what waited for a rate may go now */
}

void service_reload(struct service *svc, struct config *config)
{
	free(atomic_exchange_explicit(&svc->new_config, config,
				      memory_order_acq_rel)); /* one that nobody has come for */
	service_progress(svc);
}

static void begin_closing(struct service *svc);

static unsigned pass(struct service *svc)
{
	int polled = io_queue_poll(svc->queue);
	unsigned work;

	if (unlikely(polled < 0)) {
		service_fail(svc, polled);
		polled = 0;
	}
	work = (unsigned)polled + roster_read_mail(svc);
	/* Relaxed look first: the exchange costs a locked instruction. Whoever stores it also wakes us. */
	if (unlikely(atomic_load_explicit(&svc->progress, memory_order_relaxed)) &&
	    atomic_exchange_explicit(&svc->progress, false, memory_order_seq_cst)) {
		take_config(svc);
		check_engine(svc);
		work++;
	}
	if (unlikely(atomic_load_explicit(&svc->stop, memory_order_relaxed)) && !svc->closing)
		begin_closing(svc);
	retry_background(svc);
	work += pending_run_ready(svc);
	work += turns_take(svc);
	work += read_answer_on(svc);
	if (unlikely(svc->room_look))
		work += room_run(svc);
	if (unlikely(!list_empty(&svc->stalled)) && (svc->stall_look || polled || svc->now_ns >= svc->stall_retry_ns)) {
		unsigned n = pending_retry_stalled(svc);

		svc->stall_look = n > 0;
		work += n;
	}
	if (unlikely(!list_empty(&svc->stalled)))
		meter_stall_goes_on(svc);
	show_completions(svc);
	if (!svc->failed) {
		int rc = engine_pump(svc->engine, false);

		if (unlikely(rc < 0))
			service_fail(svc, rc);
	}
	if (unlikely(svc->large_underway))
		work += pending_check_underway(svc);
	work += pending_complete_synced(svc);
	if (unlikely(svc->jobs_look || (polled && !list_empty(&svc->flushes_due)))) {
		svc->jobs_look = false;
		work += pending_check_jobs(svc);
	}
	work += pending_expire(svc);
	pins_expire(svc);
	show_completions(svc);
	if (unlikely(!list_empty(&svc->ending)))
		roster_let_go(svc);
	if (unlikely(!list_empty(&svc->clogged)))
		roster_look_at_clogged(svc);
	if ((svc->stats_changed || svc->stats.jobs_running) && svc->now_ns - svc->stats_ns >= STATS_EVERY_NS)
		stats_publish(svc);
	return work;
}

/* ---- resting ---- */

static bool park_all(struct service *svc)
{
	struct list *l, *next;

	for (l = svc->active.next; l != &svc->active; l = next) {
		struct session *s = container_of(l, struct session, link);

		next = l->next;
		if (!roster_park(svc, s)) {
			s->busy_ns = svc->now_ns;
			return false;
		}
	}
	return true;
}

static bool called(const struct service *svc)
{
	return mailbox_full(&svc->inbox) || atomic_load_explicit(&svc->progress, memory_order_seq_cst) ||
	       (atomic_load_explicit(&svc->stop, memory_order_seq_cst) && !svc->closing);
}

/*
 * The log's last bytes go to its file before a long sleep, not before each short one: the write is handed to a thread of the kernel's, and its end would wake
 * us. Until then they are in the window, which outlives us.
 */
static int drain_before_sleep(struct service *svc)
{
	bool due = svc->now_ns - svc->drained_ns >= DRAIN_REST_NS;

	if (svc->failed || !svc->drain_due)
		return 0;
	if (due) {
		svc->drain_due = false;
		svc->drained_ns = svc->now_ns;
	}
	return engine_pump(svc->engine, due);
}

/* Every session is parked. */
static void service_sleep(struct service *svc)
{
	uint64_t next, clogged, now;
	int rc = drain_before_sleep(svc);

	if (rc < 0) {
		service_fail(svc, rc);
		return;
	}
	if (unlikely(engine_write_busy(svc->engine)))
		return;
	/* Before every sleep would cost more than many a request: the last ones before a long rest are published a moment later. */
	if (svc->stats_changed && svc->now_ns - svc->stats_ns >= STATS_REST_NS)
		stats_publish(svc);
	clogged = roster_look_at_clogged(svc);
	if (svc->active_count)
		return;
	next = pending_next_ns(svc);
	if (svc->stats_changed)
		next = min_size(next, svc->stats_ns + STATS_REST_NS);
	if (svc->drain_due)
		next = min_size(next, svc->drained_ns + DRAIN_REST_NS);
	if (clogged < next)
		next = clogged;
	next = min_size(next, pins_next_ns(svc));
	if (svc->stats.jobs_running && svc->stats_ns + STATS_EVERY_NS < next)
		next = svc->stats_ns + STATS_EVERY_NS; /* so that progress is seen */
	now = monotonic_ns();
	if (next <= now)
		return;
	atomic_store_explicit(&svc->sleeping, true, memory_order_seq_cst);
	rc = called(svc) ? 0 : io_queue_wait(svc->queue, next == UINT64_MAX ? UINT64_MAX : next - now);
	/* Relaxed: a poster that still sees true writes to the event once for nothing. */
	atomic_store_explicit(&svc->sleeping, false, memory_order_relaxed);
	if (rc < 0)
		service_fail(svc, rc);
	svc->stall_look |= rc > 0;
}

/* Nothing to do in this pass. Spins while that is likely to pay; else parks everybody and sleeps. */
static void rest(struct service *svc, uint64_t *idle_since)
{
	if (!*idle_since)
		*idle_since = svc->now_ns;
	if (svc->active_count && svc->now_ns - *idle_since < svc->spinner.budget_ns) {
		/*
		 * With more clients than cores, a spin takes the core from the one that we wait for. And whoever has not asked for so long may have none, because
		 * a compaction has it: to go on by turns on this core costs less than two sleeps.
		 */
		if (svc->active_count > svc->cores || svc->now_ns - *idle_since >= YIELD_NS)
			sched_yield();
		else
			cpu_relax();
		return;
	}
	if (svc->active_count)
		spinner_miss(&svc->spinner);
	if (park_all(svc))
		service_sleep(svc);
	*idle_since = 0;
}

/* ---- the end ---- */

void service_fail(struct service *svc, int rc)
{
	struct err_info err = {0};

	if (svc->failed)
		return;
	svc->failed = rc;
	if (engine_state(svc->engine, &err) >= 0)
		snprintf(err.text, sizeof(err.text), "the I/O queue failed: %s", shale_strerror(rc));
	log_line(LOG_ERR, "%s; the daemon ends, so that recovery decides what is on the disk", err.text);
	tell_error(svc, err.text);
	event_tell(&svc->events, REGION_EVENT_FAILED, LOG_ERR, "nothing is written any more: %s", err.text);
	stats_publish(svc);
	/* Release: the words before the state that tells to read them. */
	atomic_store_explicit(&svc->region->header->state, REGION_FAILED, memory_order_release);
	pending_fail(svc, -SHALE_EFAILED);
	begin_closing(svc);
}

static void each_session(struct service *svc, void (*act)(struct service *svc, struct session *s))
{
	struct list *lists[] = {&svc->active, &svc->parked, &svc->clogged}, *next;

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (struct list *l = lists[i]->next; l != lists[i]; l = next) {
			next = l->next;
			act(svc, container_of(l, struct session, link));
		}
}

static void announce_end(struct service *svc, struct session *s)
{
	s->closing_left = s->ring.entries;
	session_tell(s, CHANNEL_CLOSING);
	session_activate(svc, s); /* what it published before it could know is looked for, bell or no bell */
}

static void begin_closing(struct service *svc)
{
	if (svc->closing)
		return;
	svc->closing = true;
	svc->closing_until_ns = monotonic_ns() + CLOSING_MAX_NS;
	event_tell(&svc->events, REGION_EVENT_STOPPING, LOG_NOTICE, "ending; %u session%s open", svc->session_count,
		   svc->session_count == 1 ? " is" : "s are");
	if (!svc->failed)
		atomic_store_explicit(&svc->region->header->state, REGION_STOPPING, memory_order_release);
	each_session(svc, announce_end);
}

/* Whether the client may still expect something of us. */
static bool owed(struct session *s)
{
	return !list_empty(&s->requests) ||
	       (s->closing_left && ring_sq_waiting(&s->ring) && ring_cq_room(&s->ring) > 0);
}

static bool all_answered(const struct service *svc)
{
	const struct list *lists[] = {&svc->active, &svc->parked, &svc->clogged};

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		for (struct list *l = lists[i]->next; l != lists[i]; l = l->next)
			if (owed(container_of(l, struct session, link)))
				return false;
	return true;
}

static bool any_bell_armed(const struct service *svc)
{
	for (struct list *l = svc->ending.next; l != &svc->ending; l = l->next)
		if (container_of(l, struct session, link)->bell_armed)
			return true;
	return false;
}

/* What could not be finished in time was not applied (stalled) or nobody can say (sync). */
static void end_all(struct service *svc)
{
	uint64_t until = monotonic_ns() + CLOSING_MAX_NS;

	pending_fail(svc, svc->failed ? -SHALE_EFAILED : -EPIPE);
	show_completions(svc);
	each_session(svc, session_end);
	/* Doorbells ring, reads in flight arrive. A client that steals its doorbell's ring cannot hold us for ever. */
	while (pending_run_ready(svc), (any_bell_armed(svc) || svc->pool.busy) && svc->now_ns < until) {
		if (io_queue_wait(svc->queue, 10 * MILLISECOND) < 0)
			break;
		svc->now_ns = monotonic_ns();
		roster_let_go(svc); /* repeats cancellations that missed */
	}
	if (!svc->pool.busy) {
		request_pool_fini(&svc->pool);
	} else if (!svc->failed) {
		svc->failed = -EIO;
		log_line(LOG_ERR, "reads from the disk do not come back; the daemon ends without them");
	}
}

int service_run(struct service *svc)
{
	uint64_t idle_since = 0, beats = 0, before;
	bool worked = false;

	io_submit(svc->queue, &svc->event_req);
	if (svc->rows)
		rows_own(svc->rows);
	atomic_store_explicit(&svc->region->header->state, REGION_SERVING, memory_order_release);
	for (;;) {
		before = svc->now_ns;
		svc->now_ns = monotonic_ns();
		if (worked)
			meter_pass(svc, svc->now_ns - before);
		atomic_store_explicit(&svc->beats, ++beats, memory_order_relaxed);
		worked = pass(svc) > 0;
		if (worked) {
			if (idle_since)
				spinner_hit(&svc->spinner, svc->now_ns - idle_since);
			idle_since = 0;
			svc->drain_due = true;
		} else if (svc->closing && (all_answered(svc) || svc->now_ns >= svc->closing_until_ns)) {
			break;
		} else {
			rest(svc, &idle_since);
		}
	}
	end_all(svc);
	stats_publish(svc);
	return svc->failed;
}

/* ---- making ---- */

int service_init(struct service *svc, const struct config *config, struct engine *engine, struct io_queue *queue,
		 struct region *region, struct err_info *err)
{
	struct list *lists[] = {&svc->active,	   &svc->parked,      &svc->clogged,   &svc->ending,  &svc->dirty,
				&svc->ready,	   &svc->stalled,     &svc->syncing,   &svc->flushes, &svc->underway,
				&svc->compactions, &svc->flushes_due, &svc->answering, &svc->users,   &svc->turns,
				&svc->light,	   &svc->leased,      &svc->errands,   &svc->crowded};

	memset(svc, 0, sizeof(*svc));
	svc->config = config;
	svc->engine = engine;
	svc->queue = queue;
	svc->region = region;
	svc->cores = config_cores();
	svc->set_aside_every_ns = SET_ASIDE_NS;
	svc->now_ns = svc->started_ns = monotonic_ns();
	apply_config(svc);
	svc->light_round = 1;
	svc->next_lease_ns = UINT64_MAX;
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		list_init(lists[i]);
	events_init(&svc->events, region);
	mailbox_init(&svc->inbox);
	mailbox_init(&svc->outbox);
	request_pool_init(&svc->pool, svc, engine_read_shared(engine));
	svc->event = eventfd(0, EFD_CLOEXEC);
	svc->outbox_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (svc->event < 0 || svc->outbox_event < 0) {
		int rc = err_set(err, -errno, "no event descriptor: %s", shale_strerror(-errno));

		service_fini(svc);
		return rc;
	}
	svc->event_req = (struct io_req){.op = IO_EVENT,
					 .fd = svc->event,
					 .buf = &svc->event_count,
					 .len = sizeof(svc->event_count),
					 .done = on_event,
					 .context = svc};
	return 0;
}

void service_fini(struct service *svc)
{
	free(atomic_exchange_explicit(&svc->new_config, NULL, memory_order_acquire));
	free(svc->own_config);
	svc->own_config = NULL;
	users_fini(svc);
	if (!svc->pool.busy) /* else reads that never came back still point there */
		request_pool_fini(&svc->pool);
	if (svc->event >= 0)
		close(svc->event);
	if (svc->outbox_event >= 0)
		close(svc->outbox_event);
	events_fini(&svc->events);
	mailbox_fini(&svc->inbox);
	mailbox_fini(&svc->outbox);
}
