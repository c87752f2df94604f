/*
 * channel.c - one session with the daemon: its handshake, its mapping, its end.
 *
 * The socket carries nothing after the handshake. It stays open because its hang-up is the one sure sign, for either side,
 * that the other process is gone.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/internal.h"
#include "shm/handshake.h"

enum {
	MAIN_ENTRIES = 64, /* the main session sends requests without payload: a small ring and the smallest arena do */
	BACKOFF_MAX_MS = 50,
	ARENA_SLACK = 64 << 10, /* beside the largest request: batch and scan headers */
};

void channel_init(struct channel *ch)
{
	*ch = (struct channel){.socket = -1, .doorbell = -1};
}

void channel_close(struct channel *ch, bool forked)
{
	if (ch->base && !forked) {
		munmap(ch->base, ch->size);
		row_reader_unmap(&ch->rows);
	}
	if (ch->doorbell >= 0)
		close(ch->doorbell);
	if (ch->socket >= 0) {
		/* Children that were forked meanwhile hold the socket, too: closing ours alone would not end the session. */
		if (!forked)
			shutdown(ch->socket, SHUT_RDWR);
		close(ch->socket);
	}
	channel_init(ch);
}

void region_drop(struct shale_db *db, bool forked)
{
	if (db->region.header && !forked)
		region_close(&db->region, false);
	db->region = (struct region){.segment = {.fd = -1}};
}

/* Maps the segment behind @fd and attaches to its rings. */
static int map_channel(struct channel *ch, int fd, const struct welcome *w, struct err_info *err)
{
	uint64_t session;
	void *base;
	int rc;

	base = mmap(NULL, w->channel_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return err_set(err, -errno, "cannot map the channel of %llu bytes that the daemon made: %s",
			       (unsigned long long)w->channel_size, strerror(errno));
	ch->base = base;
	ch->size = w->channel_size;
	madvise(base, ch->size, MADV_DONTFORK); /* a child that used it would talk with the parent's voice */
	rc = ring_client_init(&ch->ring, base, ch->size, &session, &ch->arena, &ch->arena_size);
	if (rc == 0 && session != w->session)
		rc = -EPROTO;
	if (rc < 0)
		return err_set(err, -SHALE_ENOTSHALE,
			       "the channel that came with WELCOME does not add up: not shaled, or a damaged one");
	ch->session = session;
	return 0;
}

/* Replaces db->region by the one behind @fd. Readers of it hold main_lock, as does the caller. */
static int map_region(struct shale_db *db, int fd, const struct welcome *w, struct err_info *err)
{
	struct region fresh = {.segment = {.fd = -1}};
	int rc = region_map(&fresh, fd, err);

	if (rc < 0)
		return rc;
	if (memcmp(fresh.header->boot_id, w->boot_id, sizeof(w->boot_id)) != 0) {
		region_close(&fresh, false);
		return err_set(err, -SHALE_ENOTSHALE, "the region that came with WELCOME belongs to another daemon");
	}
	madvise(fresh.segment.base, fresh.segment.size, MADV_DONTFORK);
	region_drop(db, false);
	db->region = fresh;
	return 0;
}

/* Puts together what WELCOME and its descriptors say. */
static int adopt(struct shale_db *db, struct channel *ch, const struct welcome *w, const int fds[WELCOME_FDS],
		 struct err_info *err)
{
	uint64_t spin_us = db->spin_us ? db->spin_us : w->spin_us;
	int rc = map_channel(ch, fds[0], w, err);

	if (rc < 0)
		return rc;
	if (ch == &db->main) {
		rc = map_region(db, fds[1], w, err);
		if (rc < 0)
			return rc;
		/* Release: the session is there before snapshots of its predecessor go stale. Pairs with snapshot_alive(). */
		atomic_fetch_add_explicit(&db->main_count, 1, memory_order_release);
	} else {
		rc = row_reader_map(&ch->rows, fds[3], err);
		if (rc < 0)
			return rc;
	}
	spinner_init(&ch->spin, db->one_core ? 0 : spin_us * 1000);
	memcpy(ch->boot_id, w->boot_id, sizeof(ch->boot_id));
	atomic_store_explicit(&db->max_key, w->max_key_bytes, memory_order_relaxed);
	atomic_store_explicit(&db->max_request, w->max_request_bytes, memory_order_relaxed);
	return 0;
}

/*
 * How far the daemon's clock is ahead of ours. It read it between @before and now; if that cannot be, it is in another time namespace, whose clock is off by
 * a constant. What WELCOME took to come is then missing from it, so deadlines are early by as much, and never late.
 */
static int64_t clock_ahead(uint64_t daemon_ns, uint64_t before)
{
	uint64_t now = monotonic_ns();

	return daemon_ns >= before && daemon_ns <= now ? 0 : (int64_t)(daemon_ns - now);
}

int channel_connect(struct shale_db *db, struct channel *ch, uint32_t entries, size_t arena_size, unsigned timeout_ms,
		    struct err_info *err)
{
	bool is_main = ch == &db->main;
	struct hello hello = {
		.magic = HELLO_MAGIC,
		.size = sizeof(hello),
		.abi = SHM_ABI,
		.flags = db->read_only ? HELLO_READ_ONLY : 0,
		.fingerprint = layout_fingerprint(),
		.ring_entries = is_main ? MAIN_ENTRIES : entries,
		.arena_size = is_main ? ARENA_SIZE_MIN : arena_size,
	};
	int fds[WELCOME_FDS], rc, socket;
	uint64_t before = monotonic_ns();
	struct welcome w;

	assert(ch->socket < 0);
	rc = handshake_connect(db->path, &hello, timeout_ms, &socket, &w, fds, err);
	if (rc == -ENOENT || rc == -ECONNREFUSED) {
		int help = autostart_help(&db->autostart, db->path, err); /* leaves the words alone when it is 0 */

		return help < 0 ? help : rc;
	}
	if (rc < 0)
		return rc;
	autostart_done(&db->autostart);
	channel_init(ch);
	ch->socket = socket;
	ch->doorbell = fds[2];
	ch->clock_ahead = clock_ahead(w.monotonic_ns, before);
	rc = adopt(db, ch, &w, fds, err);
	close(fds[0]); /* the mappings hold the memory */
	close(fds[1]);
	close(fds[3]);
	if (rc < 0) {
		channel_close(ch, false);
		return rc;
	}
	if (!is_main && !entries && arena_size == db->arena_bytes)
		atomic_store_explicit(&db->usual_arena, ch->arena_size, memory_order_relaxed);
	ch->usual_arena = atomic_load_explicit(&db->usual_arena, memory_order_relaxed);
	if (ch->usual_arena == 0 || is_main || entries)
		ch->usual_arena = ch->arena_size;
	return 0;
}

bool channel_hung_up(const struct channel *ch)
{
	struct pollfd p = {.fd = ch->socket, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

/* Largest arena worth asking for. */
size_t arena_limit(const struct shale_db *db)
{
	size_t most = atomic_load_explicit(&db->max_request, memory_order_relaxed) +
		      2 * atomic_load_explicit(&db->max_key, memory_order_relaxed) + ARENA_SLACK;

	return min_size(align_up(most, SHM_PAGE), ARENA_SIZE_MAX);
}

/* An arena size that holds @need bytes, at most arena_limit(): a power of two, or the limit. */
size_t arena_for(const struct shale_db *db, size_t need)
{
	size_t size = ARENA_SIZE_MIN;

	while (size < need)
		size *= 2;
	return min_size(max_size(size, db->arena_bytes), arena_limit(db));
}

void channel_ring(const struct channel *ch)
{
	const uint64_t one = 1;

	while (write(ch->doorbell, &one, sizeof(one)) < 0 && errno == EINTR)
		; /* EAGAIN: the counter is full, so it is ringing already */
}

bool connect_may_retry(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EPIPE:
	case -EAGAIN:
	case -EBUSY:
	case -ESHUTDOWN:
	case -ECONNABORTED:
	case -ETIMEDOUT: /* also what a daemon says that is ending */
		return true;
	default:
		return false;
	}
}

void backoff(unsigned *step_ms, uint64_t until_ns)
{
	uint64_t now = monotonic_ns(), wait = (uint64_t)*step_ms * 1000000;
	struct timespec ts;

	if (now >= until_ns)
		return;
	if (wait > until_ns - now)
		wait = until_ns - now;
	ts = (struct timespec){(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
	nanosleep(&ts, NULL); /* a signal ends it early: the next try comes sooner */
	*step_ms = *step_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : *step_ms * 2;
}
