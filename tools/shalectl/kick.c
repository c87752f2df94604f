/*
 * kick.c - ends the sessions of a client. It is asked for through a session of our own, over which the kernel tells the daemon who we are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/park.h"
#include "shm/region.h"
#include "shm/ring.h"
#include "tools/shalectl/shalectl.h"

/* A session by hand: the library has no call for this. */
struct link {
	int socket, fds[WELCOME_FDS];
	struct welcome welcome;
	struct region region;
	void *base;
	struct ring_client ring;
	uint64_t session;
};

static void link_close(struct link *l)
{
	if (l->base)
		munmap(l->base, l->welcome.channel_size);
	region_close(&l->region, false);
	for (int i = 0; i < WELCOME_FDS; i++)
		close(l->fds[i]);
	close(l->socket);
}

static int attach(struct link *l, struct err_info *err)
{
	unsigned char *arena;
	size_t arena_size;
	int rc = region_map(&l->region, l->fds[1], err);

	if (rc < 0)
		return rc;
	l->base = mmap(NULL, l->welcome.channel_size, PROT_READ | PROT_WRITE, MAP_SHARED, l->fds[0], 0);
	if (l->base == MAP_FAILED) {
		l->base = NULL;
		return err_set(err, -errno, "mapping the channel: %m");
	}
	rc = ring_client_init(&l->ring, l->base, l->welcome.channel_size, &l->session, &arena, &arena_size);
	return rc < 0 ? err_set(err, rc, "the channel does not add up") : 0;
}

static int link_open(struct ctl *ctl, struct link *l)
{
	struct hello hello = {
		.magic = HELLO_MAGIC,
		.size = sizeof(hello),
		.abi = SHM_ABI,
		.flags = HELLO_READ_ONLY,
		.fingerprint = layout_fingerprint(),
		.ring_entries = RING_ENTRIES_MIN,
		.arena_size = ARENA_SIZE_MIN,
	};
	struct err_info err = {0};
	const char *path;
	int code = ctl_where(ctl, &path), rc;

	*l = (struct link){.region.segment.fd = -1};
	if (code != EXIT_OK)
		return code;
	rc = handshake_connect(path, &hello, ctl->timeout_ms, &l->socket, &l->welcome, l->fds, &err);
	if (rc == 0) {
		rc = attach(l, &err);
		if (rc < 0)
			link_close(l);
	}
	return rc == 0 ? EXIT_OK : ctl_refused(rc, err.text);
}

/* Asks for the end of session @id. 0 or a negative code. */
static int kick(struct ctl *ctl, struct link *l, uint64_t id)
{
	const uint64_t until = monotonic_ns() + (uint64_t)ctl->timeout_ms * 1000000;
	const struct cqe *cqe;
	const uint64_t one = 1;
	int res;

	*ring_sq_slot(&l->ring, 0) = (struct sqe){.session = l->session, .op = OP_KICK, .sequence = id};
	if (ring_sq_publish(&l->ring, 1) && write(l->fds[2], &one, sizeof(one)) < 0)
		return -errno;
	while (!(cqe = ring_cq_peek(&l->ring))) {
		uint64_t now = monotonic_ns();

		if (now >= until)
			return -ETIMEDOUT;
		if (ring_client_state(&l->ring) != CHANNEL_OPEN)
			return -EPIPE;
		ring_client_park(&l->ring, min_size(until - now, 100000000));
	}
	res = cqe->res;
	ring_cq_pop(&l->ring);
	return res;
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
