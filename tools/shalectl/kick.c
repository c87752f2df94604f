/*
 * kick.c - ends the sessions of a client. It is asked for through a session of our own, over which the kernel tells the daemon who we are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "shm/park.h"
#include "tools/shalectl/link.h"

/* Asks for the end of session @id. 0 or a negative code. */
static int kick(struct ctl *ctl, struct link *l, uint64_t id)
{
	const struct sqe sqe = {.op = OP_KICK, .sequence = id};
	struct cqe cqe;
	int rc = link_submit(l, &sqe);

	if (rc == 0)
		rc = link_wait(l, monotonic_ns() + (uint64_t)ctl->timeout_ms * 1000000, &cqe);
	return rc < 0 ? rc : rc == 0 ? -ETIMEDOUT : cqe.res;
}

static int kick_one(struct ctl *ctl, struct link *l, uint64_t id)
{
	int rc = kick(ctl, l, id);

	switch (rc) {
	case 0:
		return EXIT_OK;
	case -ESRCH:
		complain("there is no session %" PRIx64 "; shalectl clients lists them", id);
		return EXIT_NOT_FOUND;
	case -EPERM:
		complain("only root and the user that the daemon runs as may end sessions");
		return EXIT_FAILED;
	default:
		complain("session %" PRIx64 ": %s", id, shale_strerror(rc));
		return EXIT_FAILED;
	}
}

/* All sessions of a process, but ours. */
static int kick_process(struct ctl *ctl, struct link *l, uint64_t pid)
{
	unsigned ended = 0;

	for (unsigned i = 0; i < REGION_SESSIONS; i++) {
		const struct region_session *row = &l->region.sessions[i];
		/* Acquire: the row was filled before its id was set. */
		uint64_t id = atomic_load_explicit(&row->session, memory_order_acquire);
		int code;

		if (!id || id == l->session || atomic_load_explicit(&row->pid, memory_order_relaxed) != pid)
			continue;
		code = kick_one(ctl, l, id);
		if (code == EXIT_FAILED)
			return code;
		ended += code == EXIT_OK;
	}
	if (!ended) {
		complain("process %" PRIu64 " has no session; shalectl clients lists them", pid);
		return EXIT_NOT_FOUND;
	}
	return EXIT_OK;
}

int cmd_kick(struct ctl *ctl)
{
	uint64_t id = 0;
	struct link l;
	char *end;
	int code;

	if (!ctl->pid == !ctl->nargs) {
		complain("usage: shalectl kick SESSION, or shalectl kick --pid PID");
		return EXIT_USAGE;
	}
	if (ctl->nargs) {
		errno = 0;
		id = strtoull(ctl->args[0], &end, 16);
		if (!*ctl->args[0] || *end || errno || !id) {
			complain("'%s' is no session; shalectl clients lists them", ctl->args[0]);
			return EXIT_USAGE;
		}
	}
	code = link_open(ctl, &l);
	if (code != EXIT_OK)
		return code;
	code = ctl->nargs ? kick_one(ctl, &l, id) : kick_process(ctl, &l, ctl->pid);
	link_close(&l);
	return code;
}
