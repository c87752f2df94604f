#include "tools/shalectl/link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/park.h"

void link_close(struct link *l)
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
	int rc = region_map(&l->region, l->fds[1], err);

	if (rc < 0)
		return rc;
	l->base = mmap(NULL, l->welcome.channel_size, PROT_READ | PROT_WRITE, MAP_SHARED, l->fds[0], 0);
	if (l->base == MAP_FAILED) {
		l->base = NULL;
		return err_set(err, -errno, "mapping the channel: %m");
	}
	rc = ring_client_init(&l->ring, l->base, l->welcome.channel_size, &l->session, &l->arena, &l->arena_size);
	return rc < 0 ? err_set(err, rc, "the channel does not add up") : 0;
}

int link_open(struct ctl *ctl, struct link *l)
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

int link_submit(struct link *l, const struct sqe *sqe)
{
	const uint64_t one = 1;
	struct sqe *slot = ring_sq_slot(&l->ring, 0);

	*slot = *sqe;
	slot->session = l->session;
	if (ring_sq_publish(&l->ring, 1) && write(l->fds[2], &one, sizeof(one)) < 0)
		return -errno;
	return 0;
}

/* A killed daemon writes no state; the kernel closes its end of the socket. */
static bool hung_up(const struct link *l)
{
	struct pollfd p = {.fd = l->socket, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

int link_wait(struct link *l, uint64_t until_ns, struct cqe *out)
{
	const struct cqe *cqe;

	while (!(cqe = ring_cq_peek(&l->ring))) {
		uint64_t now = monotonic_ns();

		if (ring_client_state(&l->ring) != CHANNEL_OPEN || hung_up(l))
			return -EPIPE;
		if (now >= until_ns)
			return 0;
		ring_client_park(&l->ring, min_size(until_ns - now, 100000000));
	}
	*out = *cqe;
	ring_cq_pop(&l->ring);
	return 1;
}
