/*
 * ops.c - from a submission to its answer.
 *
 * @sqe is a private copy. Nothing else of the channel is read more than once: keys are copied before they are used, a batch goes from the arena
 * into the WAL window in one copy, which engine_write() then checks. Answers are written to the arena and never read back.
 *
 * What a well-behaved library cannot send (a foreign session, an unknown operation, a range outside the arena) ends the
 * session. What a program can ask for by mistake (a key that is too long) is refused with a code.
 */
#include "daemon/ops.h"

#include <stdlib.h>
#include <unistd.h>

#include "daemon/checkpoints.h"
#include "daemon/checks.h"
#include "daemon/pending.h"
#include "daemon/pins.h"
#include "daemon/reads.h"
#include "daemon/roster.h"
#include "daemon/writes.h"
#include "shm/error.h"

enum {
	PROPERTY_NAME_MAX = 128,
	STEP_COST = 64, /* of looking at one more waiting request, in bytes: there can be thousands */
};

/* ---- checks ---- */

static const uint16_t flags_of[OP_COUNT] = {
	[OP_GET] = SQE_NO_FILL,
	[OP_WRITE] = SQE_SYNC | SQE_NO_SLOWDOWN,
	[OP_SCAN] = SQE_REVERSE | SQE_EXCLUSIVE | SQE_NO_FILL | SQE_HAS_START | SQE_HAS_LIMIT,
	[OP_COMPACT] = SQE_NO_WAIT,
	[OP_MULTIGET] = SQE_NO_FILL,
};

static bool in_arena(const struct session *s, uint64_t off, uint32_t len)
{
	return off <= s->arena_size && len <= s->arena_size - off;
}

/* Why no library of ours would have sent this, or NULL. */
static const char *violation(const struct session *s, const struct sqe *sqe)
{
	if (sqe->session != s->id)
		return "a submission names another session";
	if (sqe->op >= OP_COUNT)
		return "a submission has an unknown operation";
	if (sqe->flags & ~SQE_FLAGS_KNOWN)
		return "a submission has unknown flags";
	if (sqe->extra_len && (sqe->op != OP_WRITE || sqe->extra_len > sqe->in_len))
		return "a submission has conditions where none can be";
	if (!in_arena(s, sqe->in_off, sqe->in_len) || !in_arena(s, sqe->out_off, sqe->out_len))
		return "a submission points outside its arena";
	/* Each request in flight has a payload of its own. Without this bound, private copies of one could fill our memory. */
	if (sqe->in_len > s->arena_size - s->held)
		return "its waiting requests have more payload than its arena can hold";
	return NULL;
}

int ops_copy_payload(struct request *r)
{
	return request_copy_in(r, r->session->arena + r->sqe.in_off, r->sqe.in_len);
}

void ops_answer(struct service *svc, struct request *r, const void *data, size_t size)
{
	size_t n = min_size(size, r->sqe.out_len);

	if (n)
		memcpy(r->session->arena + r->sqe.out_off, data, n);
	r->session->bytes_out += n;
	session_charge(r->session, n);
	svc->stats.bytes_read_by_clients += n;
	request_complete(svc, r, 0, (uint32_t)size);
}

void ops_refuse(struct service *svc, struct request *r, const struct err_info *err)
{
	size_t size = strlen(err->text), n = min_size(size, r->sqe.out_len);

	if (r->session && n)
		memcpy(r->session->arena + r->sqe.out_off, err->text, n);
	request_complete(svc, r, err->code, (uint32_t)size);
}

int ops_two_keys(const struct service *svc, const struct request *r, struct slice *a_out, struct slice *b_out)
{
	const unsigned char *end = r->in + r->sqe.in_len, *p = length_prefixed_get(r->in, end, a_out);

	if (p)
		p = length_prefixed_get(p, end, b_out);
	if (p != end || !p)
		return -EINVAL;
	return a_out->size > svc->config->max_key || b_out->size > svc->config->max_key ? -E2BIG : 0;
}

/* ---- the small ones ---- */

/* "shale.config": the settings in force, as a configuration file, each with its origin as a comment. */
static int config_text(const struct service *svc, char **text_out)
{
	size_t size;
	FILE *f = open_memstream(text_out, &size);

	if (!f)
		return -ENOMEM;
	config_write(svc->config, CONFIG_WITH_ORIGINS, f);
	return fclose(f) ? -ENOMEM : 0;
}

static void op_property(struct service *svc, struct request *r)
{
	char *text = NULL;
	struct slice name;
	int rc = r->sqe.in_len > PROPERTY_NAME_MAX ? SHALE_NOTFOUND : ops_copy_payload(r);

	if (rc) {
		request_complete(svc, r, rc, 0);
		return;
	}
	name = slice_of(r->in, r->sqe.in_len);
	rc = slice_equal(name, slice_str("shale.config")) ? config_text(svc, &text)
							  : engine_property(svc->engine, name, &text);
	if (rc == 0) {
		size_t size = strlen(text);

		session_charge(r->session,
			       size - min_size(size, r->sqe.out_len)); /* it was made, also where it does not fit */
		ops_answer(svc, r, text, size);
	} else {
		request_complete(svc, r, rc, 0);
	}
	free(text);
}

static void op_sizes(struct service *svc, struct request *r)
{
	unsigned char bytes[8];
	struct slice start, limit;
	int rc = r->sqe.in_len > 2 * (svc->config->max_key + VARINT32_MAX) ? -E2BIG : ops_copy_payload(r);

	if (rc == 0)
		rc = ops_two_keys(svc, r, &start, &limit);
	if (rc < 0) {
		request_complete(svc, r, rc, 0);
		return;
	}
	store_le64(bytes, engine_approximate_size(svc->engine, start, limit));
	ops_answer(svc, r, bytes, sizeof(bytes));
}

/* What waits and can be taken back is completed as cancelled; what is applied already is not: the client hears -ENOENT. */
static void op_cancel(struct service *svc, struct request *r)
{
	struct session *s = r->session;
	struct request *found = NULL;

	for (struct list *l = s->requests.next; l != &s->requests && !found; l = l->next) {
		struct request *other = container_of(l, struct request, of_session);

		session_charge(s, STEP_COST);
		if (other->sqe.user_data == r->sqe.sequence && other->state != REQUEST_SYNCING &&
		    other->state != REQUEST_UNDERWAY)
			found = other;
	}
	if (found)
		pending_give_up(svc, found, -ECANCELED);
	request_complete(svc, r, found ? 0 : -ENOENT, 0);
}

/* For root, and for whoever runs the daemon. */
static void op_kick(struct service *svc, struct request *r)
{
	uid_t uid = r->session->uid;
	struct session *other;

	if (uid != 0 && uid != geteuid()) {
		request_complete(svc, r, -EPERM, 0);
		return;
	}
	other = roster_find(svc, r->sqe.sequence);
	if (!other) {
		request_complete(svc, r, -ESRCH, 0);
		return;
	}
	log_line(LOG_NOTICE, "session of process %ld (%s, user %u) ended by process %ld (%s, user %u)",
		 (long)other->pid, other->command, (unsigned)other->uid, (long)r->session->pid, r->session->command,
		 (unsigned)uid);
	event_tell(&svc->events, REGION_EVENT_KICKED, LOG_NOTICE,
		   "session of process %ld (%s, user %u) ended by process %ld (%s, user %u)", (long)other->pid,
		   other->command, (unsigned)other->uid, (long)r->session->pid, r->session->command, (unsigned)uid);
	roster_kick(svc, other);
	request_complete(svc, r, 0, 0);
}

void ops_execute(struct service *svc, struct session *s, const struct sqe *sqe)
{
	const char *why = violation(s, sqe);
	struct request *r;

	if (unlikely(why)) {
		session_break(svc, s, why);
		return;
	}
	r = request_get(&svc->pool, s, sqe);
	if (unlikely(!r)) {
		/* Not even a request to answer with: the client would wait for ever, so its session must end. */
		session_break(svc, s, "the daemon has no memory left to answer it");
		return;
	}
	s->operations++;
	/* A reload may have set the limit below what is held already. */
	if (unlikely(s->user->held + sqe->in_len > svc->config->in_flight_per_uid)) {
		request_complete(svc, r, -EDQUOT, 0);
		return;
	}
	if (unlikely(sqe->flags & ~flags_of[sqe->op])) {
		request_complete(svc, r, -EINVAL, 0);
		return;
	}
	if (unlikely(sqe->deadline_ns && sqe->deadline_ns <= svc->now_ns)) {
		request_complete(svc, r, -ETIMEDOUT, 0);
		return;
	}
	switch ((enum shm_op)sqe->op) {
	case OP_NOP:
		svc->stats.nops++;
		request_complete(svc, r, 0, 0);
		break;
	case OP_GET:
		read_get(svc, r);
		break;
	case OP_WRITE:
		write_begin(svc, r);
		break;
	case OP_SCAN:
		read_scan(svc, r);
		break;
	case OP_SNAPSHOT:
		pin_take(svc, r);
		break;
	case OP_RELEASE:
		pin_release(svc, r);
		break;
	case OP_PROPERTY:
		op_property(svc, r);
		break;
	case OP_SIZES:
		op_sizes(svc, r);
		break;
	case OP_FLUSH:
		flush_begin(svc, r);
		break;
	case OP_COMPACT:
		compact_begin(svc, r);
		break;
	case OP_MULTIGET:
		read_multiget(svc, r);
		break;
	case OP_CANCEL:
		op_cancel(svc, r);
		break;
	case OP_KICK:
		op_kick(svc, r);
		break;
	case OP_CHECKPOINT:
		checkpoint_begin(svc, r);
		break;
	case OP_CHECK:
		check_begin(svc, r);
		break;
	case OP_COUNT:
		break; /* violation() refused it */
	}
}
