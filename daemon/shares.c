/*
 * shares.c - two questions, two mechanisms.
 *
 * Who is next? Fair queueing by virtual time, on two floors: among users, and among the sessions of a user. Each write begins, in virtual time, where the one before
 * it of the same writer ended, but not before the clock, which stands at the beginning of the write that was taken last. It takes its bytes, divided
 * by the user's weight. Of those that wait the one that begins first is next. So who has written little is before all whose
 * backlog is long, one user's many sessions count as one, and nobody saves up turns by being silent.
 *
 * How fast? Buckets of bytes, filled by time, which a write may overdraw, so that none is too large ever to go. While writes are paced, each session has a small one of
 * its own, filled with an equal part of the rate, besides the one of all. A write goes when either has something. A session that
 * writes now and then finds its own full and does not wait behind those that have emptied the common one; what it takes is
 * missing there, so that all together keep the rate.
 *
 * Rejected: one queue in order of arrival. A client that keeps 128 writes waiting then puts each single write of another one behind 128 of its own.
 */
#include "daemon/shares.h"

enum {
	BURST_MIN = 4096,  /* bytes that a bucket holds at least */
	COST_MIN = 256,	   /* bytes that the smallest write counts as: it costs more than its bytes */
	LOOK_AT_MAX = 256, /* waiting sessions that are compared at a time */
};

static const uint64_t LOOK_ON_NS = 1000000; /* until the next of them are looked at, when none of these may go */

static const double NS = 1e9;

/* Fills a bucket for the time since *@at. */
static void fill(int64_t *left, uint64_t *at, uint64_t now, double rate, int64_t most)
{
	double bytes = (double)(now - *at) / NS * rate;
	int64_t whole = bytes < rate ? (int64_t)bytes : (int64_t)rate; /* a second's worth at a time */

	if (!whole)
		return; /* so that many short looks do not lose what a long one would get */
	*at = bytes < rate ? *at + (uint64_t)((double)whole * NS / rate) : now;
	*left = *left + whole < most ? *left + whole : most;
}

static int64_t burst(double rate)
{
	return (int64_t)(rate / 50) + BURST_MIN; /* 20 ms worth */
}

/* When a bucket that is empty now has something. */
static uint64_t filled_at(const struct service *svc, int64_t left, double rate)
{
	return svc->now_ns + (uint64_t)((double)(1 - left) * NS / rate) + 1000;
}

void share_charge(struct service *svc, struct session *s, size_t size)
{
	struct user *u = s->user;
	uint64_t cost = max_size(size, COST_MIN), begin = max_size(u->tag, svc->write_clock);

	svc->write_clock = begin;
	u->tag = begin + cost / u->weight;
	begin = max_size(s->write_tag, u->clock);
	u->clock = begin;
	s->write_tag = begin + cost;
	u->rate_left -= (int64_t)size;
	s->pace_left -= (int64_t)size;
	svc->pace_left -= (int64_t)size;
}

/* Of the rate that is left while level 0 is too full. */
static uint64_t pace(struct service *svc, struct session *s, bool waiting)
{
	double rate = (double)svc->config->slowdown_rate, own = rate / (svc->stalled_count + 1);
	uint64_t common;

	if (likely(!engine_slowdown(svc->engine))) {
		svc->paced = false;
		return 0;
	}
	if (!svc->paced) { /* what was written at full speed is no debt, and nobody has a better start */
		svc->paced = true;
		svc->pace_round++;
		svc->pace_left = 0;
		svc->pace_ns = svc->now_ns;
	}
	if (s->pace_round != svc->pace_round) {
		s->pace_round = svc->pace_round;
		s->pace_left = burst(own);
		s->pace_ns = svc->now_ns;
	}
	fill(&svc->pace_left, &svc->pace_ns, svc->now_ns, rate, burst(rate));
	fill(&s->pace_left, &s->pace_ns, svc->now_ns, own, burst(own));
	if (s->pace_left > 0)
		return 0;
	if (svc->pace_left > 0 && (waiting || list_empty(&svc->stalled)))
		return 0;
	common = filled_at(svc, svc->pace_left, rate);
	return svc->pace_left > 0 ? svc->now_ns : min_size(common, filled_at(svc, s->pace_left, own));
}

uint64_t share_wait(struct service *svc, struct session *s, bool waiting)
{
	struct user *u = s->user;
	double rate = (double)svc->config->write_rate_per_uid;

	if (unlikely(rate > 0)) {
		fill(&u->rate_left, &u->rate_ns, svc->now_ns, rate, burst(rate));
		if (u->rate_left <= 0)
			return filled_at(svc, u->rate_left, rate);
	}
	return pace(svc, s, waiting);
}

struct session *share_next(struct service *svc, uint64_t *ready_out)
{
	unsigned most = svc->stalled_count < LOOK_AT_MAX ? svc->stalled_count : LOOK_AT_MAX;
	uint64_t best_user = 0, best_own = 0, ready = UINT64_MAX;
	struct list *l = svc->stalled.next, *next;
	struct session *best = NULL;

	for (unsigned i = 0; i < most; i++, l = next) {
		struct session *s = container_of(l, struct session, stalled_link);
		const struct request *head = container_of(s->stalled.next, struct request, link);
		uint64_t user = max_size(s->user->tag, svc->write_clock), own = max_size(s->write_tag, s->user->clock);
		uint64_t at = head->sqe.op == OP_WRITE ? share_wait(svc, s, true) : 0;

		next = l->next;
		if (at) { /* to the end, so that those whom a rate of their own holds do not keep others out of sight */
			ready = min_size(ready, at);
			list_remove(l);
			list_push_back(&svc->stalled, l);
		} else if (!best || (s->user == best->user ? own < best_own : user < best_user)) {
			best = s;
			best_user = user;
			best_own = own;
		}
	}
	if (!best)
		*ready_out = svc->stalled_count > most ? min_size(ready, svc->now_ns + LOOK_ON_NS) : ready;
	return best;
}
