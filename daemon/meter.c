#include "daemon/meter.h"

#include "shm/probe.h"

static const uint64_t STALL_WORTH_TELLING_NS = 100000000;

static enum region_op op_of(const struct sqe *sqe)
{
	switch (sqe->op) {
	case OP_GET:
		return REGION_OP_GET;
	case OP_WRITE:
		return sqe->flags & SQE_SYNC ? REGION_OP_SYNC_WRITE : REGION_OP_WRITE;
	case OP_SCAN:
		return REGION_OP_SCAN;
	case OP_MULTIGET:
		return REGION_OP_MULTIGET;
	case OP_FLUSH:
	case OP_COMPACT:
	case OP_CHECKPOINT:
	case OP_CHECK:
		return REGION_OP_JOB;
	default:
		return REGION_OP_OTHER;
	}
}

static void end_part(struct service *svc, struct request *r, uint64_t now_ns)
{
	if (r->part == REGION_PARTS)
		return;
	histogram_add(&svc->stats.part_times[r->part], now_ns - r->part_ns, 1);
	r->part = REGION_PARTS;
}

void meter_done(struct service *svc, struct request *r, int32_t res)
{
	enum region_op op = op_of(&r->sqe);
	uint64_t now_ns, took_ns = 0;

	svc->stats.failed[op] += res < 0;
	if (likely(!r->taken_ns)) {
		svc->quick[op]++;
	} else {
		now_ns = monotonic_ns();
		took_ns = now_ns - r->taken_ns;
		histogram_add(&svc->stats.op_times[op], took_ns, 1);
		end_part(svc, r, now_ns);
	}
	PROBE4(request__done, r->session->id, r->sqe.op, res, took_ns);
}

static enum region_part part_of(enum request_state state)
{
	switch (state) {
	case REQUEST_CROWDED:
	case REQUEST_FETCHING:
		return REGION_PART_READ;
	case REQUEST_STALLED:
	case REQUEST_UNDERWAY:
		return REGION_PART_STALL;
	case REQUEST_SYNCING:
		return REGION_PART_SYNC;
	case REQUEST_JOB:
		return REGION_PART_JOB;
	default: /* READY and RUNNING wait for nothing; ANSWERING for other requests' turns */
		return REGION_PARTS;
	}
}

void meter_wait(struct service *svc, struct request *r, enum request_state state)
{
	enum region_part part = part_of(state);
	/* The pass that took it began a moment ago; later on, it may have waited through many since this pass began. */
	uint64_t now_ns = r->taken_ns == svc->now_ns ? svc->now_ns : monotonic_ns();

	if (part == r->part)
		return;
	end_part(svc, r, now_ns);
	r->part = (uint8_t)part;
	r->part_ns = now_ns;
}

void meter_resume(struct service *svc, struct request *r)
{
	if (r->part != REGION_PARTS)
		end_part(svc, r, monotonic_ns());
}

void meter_pass(struct service *svc, uint64_t ns)
{
	histogram_add(&svc->stats.pass_times, ns, 1);
	for (unsigned op = 0; op < REGION_OPS; op++) {
		if (!svc->quick[op])
			continue;
		histogram_add(&svc->stats.op_times[op], ns, svc->quick[op]);
		svc->quick[op] = 0;
	}
	if (svc->stats.writes != svc->grouped_writes) {
		svc->stats.groups++;
		PROBE1(write__group, svc->stats.writes - svc->grouped_writes);
		svc->grouped_writes = svc->stats.writes;
	}
}

/* ---- stalls ---- */

static const char *why_words(uint16_t why)
{
	return why & DELAY_L0	      ? "level 0 is at its stop limit"
	       : why & DELAY_MEMTABLE ? "every memtable is full and waits for its flush"
	       : why & DELAY_LOG      ? "there is no room in the log"
				      : "they are paced (service.slowdown_rate, limits.write_rate_per_uid)";
}

void meter_stall_begun(struct service *svc)
{
	svc->stats.stalls++;
	PROBE1(stall__begin, svc->stall_why);
}

void meter_stall_ended(struct service *svc)
{
	uint64_t us = (monotonic_ns() - svc->stall_since_ns) / 1000;

	PROBE2(stall__end, svc->stall_why, us);
	if (!svc->stall_told)
		return;
	svc->stall_told = false;
	event_tell(&svc->events, REGION_EVENT_STALL_ENDED, LOG_NOTICE, "writes go on after %llu ms",
		   (unsigned long long)(us / 1000));
}

void meter_stall_goes_on(struct service *svc)
{
	if (svc->stall_told || svc->now_ns - svc->stall_since_ns < STALL_WORTH_TELLING_NS)
		return;
	svc->stall_told = true;
	event_tell(&svc->events, REGION_EVENT_STALL_BEGUN, LOG_WARNING, "writes of %u session%s wait: %s",
		   svc->stalled_count, svc->stalled_count == 1 ? "" : "s", why_words(svc->stall_why));
}
