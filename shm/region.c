/*
 * region.c - build, map and use the window that every client may look through.
 *
 *	page 0       region_header
 *	page 1 …     snapshot table   REGION_SNAPSHOTS × 32 bytes
 *	…            session table    REGION_SESSIONS rows
 *	…            stats page       count of publications and two struct region_stats
 *	…            events           number of the newest and REGION_EVENTS rows (shm/events.c)
 *
 * The stats page holds two copies. The writer fills the one that does not hold, then counts on, and so makes it the one that does. A
 * reader copies the one that holds and looks at the count again: unchanged means that the writer had not begun to fill this copy. The words are
 * moved as 64-bit atomics: release stores keep them after the count before, acquire loads keep them before the second look. On
 * x86 these are plain moves, and unlike fences around a memcpy they are defined behaviour that the thread sanitizer can follow.
 */
#include "shm/region.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/park.h"

enum { STATS_WAIT_NS = 100 * 1000 * 1000 };

static_assert(sizeof(struct region_header) <= SHM_PAGE, "the header has one page");
static_assert(sizeof(struct region_stats) % sizeof(uint64_t) == 0, "the stats page is copied by words");
static_assert(sizeof(((struct region_session *)0)->command) == 32, "copied by words");

static uint64_t snapshots_at(void)
{
	return SHM_PAGE;
}

static uint64_t sessions_at(void)
{
	return snapshots_at() + align_up(REGION_SNAPSHOTS * sizeof(struct region_snapshot), SHM_PAGE);
}

static uint64_t stats_at(void)
{
	return sessions_at() + align_up(REGION_SESSIONS * sizeof(struct region_session), SHM_PAGE);
}

static uint64_t events_at(void)
{
	return stats_at() + align_up(sizeof(struct region_stats_page), SHM_PAGE);
}

static uint64_t region_size(void)
{
	return events_at() + align_up(sizeof(struct region_events), SHM_PAGE);
}

static void point(struct region *r, void *base)
{
	char *bytes = base;

	r->header = base;
	r->snapshots = (struct region_snapshot *)(bytes + snapshots_at());
	r->sessions = (struct region_session *)(bytes + sessions_at());
	r->stats = (struct region_stats_page *)(bytes + stats_at());
	r->events = (struct region_events *)(bytes + events_at());
}

int region_create(struct region *r, const char *instance, const char *database, mode_t mode, struct err_info *err)
{
	struct region made = {0};
	struct region_header *h;
	struct timespec now;
	int rc;

	if (strlen(database) >= sizeof(h->database))
		return err_set(err, -ENAMETOOLONG, "%s: the path of a database may have at most %zu bytes", database,
			       sizeof(h->database) - 1);
	rc = segment_create(instance, "region", region_size(), mode, true, &made.segment, err);
	if (rc < 0)
		return rc;
	point(&made, made.segment.base);
	h = made.header;
	if (getrandom(h->boot_id, sizeof(h->boot_id), 0) != (ssize_t)sizeof(h->boot_id)) {
		rc = err_set(err, -EIO, "no random numbers for the boot id: %m");
		region_close(&made, true);
		return rc;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	h->abi = SHM_ABI;
	h->daemon_pid = (uint32_t)getpid();
	h->fingerprint = layout_fingerprint();
	h->total_size = region_size();
	h->snapshots_off = snapshots_at();
	h->sessions_off = sessions_at();
	h->stats_off = stats_at();
	h->events_off = events_at();
	h->started_realtime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	snprintf(h->database, sizeof(h->database), "%s", database);
	snprintf(h->version, sizeof(h->version), "%s", SHALE_VERSION);
	atomic_store_explicit(&h->state, REGION_STARTING, memory_order_relaxed);
	/* The magic last: who opens by name meanwhile finds no region yet. Pairs with the acquire in check_header(). */
	__atomic_store_n(&h->magic, REGION_MAGIC, __ATOMIC_RELEASE);
	*r = made;
	return 0;
}

void region_set_socket(struct region *r, const char *path)
{
	char *to = r->header->socket, full[sizeof(r->header->socket)];
	size_t n = 0;

	if (*path != '/' && getcwd(full, sizeof(full) - 1)) {
		n = strlen(full);
		full[n++] = '/';
	}
	/* Readers look at it once the state, stored with release later, says more than STARTING. */
	if ((*path == '/' || n) && n + strlen(path) < sizeof(full)) {
		memcpy(to, full, n);
		memcpy(to + n, path, strlen(path) + 1);
	}
}

/* What a region's first page must say before anything else of it is believed. */
static int check_header(const struct region_header *h, size_t size, struct err_info *err)
{
	/* Acquire: pairs with the release at the end of region_create(). */
	uint64_t magic = __atomic_load_n(&h->magic, __ATOMIC_ACQUIRE);

	if (magic == 0)
		return err_set(err, -ENOENT, "the daemon's shared region is not set up yet");
	if (magic != REGION_MAGIC)
		return err_set(err, -SHALE_ENOTSHALE, "the shared region does not begin with shale's magic number");
	if (h->abi != SHM_ABI || h->fingerprint != layout_fingerprint())
		return err_set(err, -SHALE_EABI,
			       "the daemon's shared region has protocol version %u, layout %016llx; this program knows "
			       "version "
			       "%u, layout %016llx: install matching versions and restart the daemon",
			       h->abi, (unsigned long long)h->fingerprint, SHM_ABI,
			       (unsigned long long)layout_fingerprint());
	if (h->total_size != region_size() || h->total_size > size || h->snapshots_off != snapshots_at() ||
	    h->sessions_off != sessions_at() || h->stats_off != stats_at() || h->events_off != events_at())
		return err_set(err, -SHALE_ENOTSHALE, "the shared region's sizes do not add up");
	return 0;
}

int region_map(struct region *r, int fd, struct err_info *err)
{
	struct region mapped = {.segment.fd = -1};
	struct stat st;
	void *base;
	int rc;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "looking at the shared region: %m");
	if (st.st_size == 0)
		return err_set(err, -ENOENT, "the daemon's shared region is not set up yet");
	if (st.st_size < SHM_PAGE)
		return err_set(err, -SHALE_ENOTSHALE, "the shared region is cut short");
	base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return err_set(err, -errno, "mapping the shared region: %m");
	mapped.segment.base = base;
	mapped.segment.size = (size_t)st.st_size;
	rc = check_header(base, mapped.segment.size, err);
	if (rc < 0) {
		segment_close(&mapped.segment);
		return rc;
	}
	point(&mapped, base);
	*r = mapped;
	return 0;
}

int region_open(struct region *r, const char *instance, struct err_info *err)
{
	char name[SEGMENT_NAME_MAX];
	int fd, rc;

	if (snprintf(name, sizeof(name), "/shale.%s.region", instance) >= (int)sizeof(name))
		return err_set(err, -ENAMETOOLONG, "\"%s\" is no instance name", instance);
	fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0) {
		rc = -errno;
		return err_set(err, rc, "opening the shared region /dev/shm%s: %s", name, shale_strerror(rc));
	}
	rc = region_map(r, fd, err);
	close(fd);
	if (rc < 0)
		err_prefix(err, "/dev/shm%s: ", name);
	return rc;
}

void region_close(struct region *r, bool unlink)
{
	if (!r)
		return;
	if (unlink)
		segment_unlink(&r->segment);
	segment_close(&r->segment);
	*r = (struct region){.segment.fd = -1};
}

/* A copy of the stats page as words. The shared memory has no declared type and is accessed through these alone. */
static _Atomic uint64_t *stats_words(const struct region *r, uint64_t published)
{
	return (_Atomic uint64_t *)&r->stats->copy[published & 1];
}

void region_publish_stats(struct region *r, const struct region_stats *stats)
{
	/* Relaxed: we alone write. */
	uint64_t next = atomic_load_explicit(&r->stats->published, memory_order_relaxed) + 1;
	_Atomic uint64_t *words = stats_words(r, next);

	for (size_t i = 0; i < sizeof(*stats) / sizeof(uint64_t); i++) {
		uint64_t word = load_le64((const char *)stats + i * sizeof(uint64_t));

		/* Most rows of the page change seldom. Relaxed: we alone write. */
		if (atomic_load_explicit(&words[i], memory_order_relaxed) == word)
			continue;
		/* Release: the count that left this copy before any new word. Pairs with the acquire in region_read_stats(). */
		atomic_store_explicit(&words[i], word, memory_order_release);
	}
	/* Release: all new words before the count that names them. Pairs with the acquire of the count. */
	atomic_store_explicit(&r->stats->published, next, memory_order_release);
}

int region_read_stats(const struct region *r, struct region_stats *out)
{
	const uint64_t give_up_at = monotonic_ns() + STATS_WAIT_NS;
	struct region_stats copy;

	do {
		/* Acquire: pairs with the release that ends region_publish_stats(). */
		uint64_t published = atomic_load_explicit(&r->stats->published, memory_order_acquire);
		const _Atomic uint64_t *words = stats_words(r, published);

		for (size_t i = 0; i < sizeof(copy) / sizeof(uint64_t); i++) {
			/* Acquire: who sees a word of a later round sees, below, the count that came before it. */
			store_le64((char *)&copy + i * sizeof(uint64_t),
				   atomic_load_explicit(&words[i], memory_order_acquire));
		}
		if (atomic_load_explicit(&r->stats->published, memory_order_relaxed) == published) {
			*out = copy;
			return 0;
		}
		sched_yield();
	} while (monotonic_ns() < give_up_at);
	return -EAGAIN;
}

int region_snapshot_take(struct region *r, uint64_t sequence, uint64_t session, uint64_t now_ns,
			 uint64_t lease_until_ns)
{
	for (int i = 0; i < REGION_SNAPSHOTS; i++) {
		struct region_snapshot *s = &r->snapshots[i];

		if (atomic_load_explicit(&s->sequence_plus_1, memory_order_relaxed))
			continue;
		atomic_store_explicit(&s->session, session, memory_order_relaxed);
		atomic_store_explicit(&s->taken_monotonic_ns, now_ns, memory_order_relaxed);
		atomic_store_explicit(&s->lease_until_ns, lease_until_ns, memory_order_relaxed);
		/* Release: the row before the word that makes it count. Readers load it with acquire. */
		atomic_store_explicit(&s->sequence_plus_1, sequence + 1, memory_order_release);
		return i;
	}
	return -ENOSPC;
}

void region_snapshot_free(struct region *r, int slot)
{
	assert(slot >= 0 && slot < REGION_SNAPSHOTS);
	atomic_store_explicit(&r->snapshots[slot].sequence_plus_1, 0, memory_order_release);
}

/* Writes a row's command by words, for readers that look meanwhile. */
static void put_command(struct region_session *s, const char *command)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)s->command;
	char text[sizeof(s->command)] = "";

	snprintf(text, sizeof(text), "%s", command ? command : "");
	for (size_t i = 0; i < sizeof(text) / sizeof(uint64_t); i++)
		atomic_store_explicit(&words[i], load_le64(text + i * sizeof(uint64_t)), memory_order_relaxed);
}

int region_session_add(struct region *r, uint64_t session, uint32_t pid, uint32_t uid, const char *command,
		       uint64_t now_ns)
{
	assert(session);
	for (unsigned n = 0; n < REGION_SESSIONS; n++) {
		unsigned i = ((uint32_t)session + n) % REGION_SESSIONS;
		struct region_session *s = &r->sessions[i];

		if (atomic_load_explicit(&s->session, memory_order_relaxed))
			continue;
		atomic_store_explicit(&s->pid, pid, memory_order_relaxed);
		atomic_store_explicit(&s->uid, uid, memory_order_relaxed);
		atomic_store_explicit(&s->connected_monotonic_ns, now_ns, memory_order_relaxed);
		atomic_store_explicit(&s->operations, 0, memory_order_relaxed);
		atomic_store_explicit(&s->bytes_in, 0, memory_order_relaxed);
		atomic_store_explicit(&s->bytes_out, 0, memory_order_relaxed);
		atomic_store_explicit(&s->snapshots, 0, memory_order_relaxed);
		atomic_store_explicit(&s->state, 0, memory_order_relaxed);
		atomic_store_explicit(&s->active_monotonic_ns, now_ns, memory_order_relaxed);
		atomic_store_explicit(&s->in_flight, 0, memory_order_relaxed);
		atomic_store_explicit(&s->bytes_held, 0, memory_order_relaxed);
		atomic_store_explicit(&s->throttled_us, 0, memory_order_relaxed);
		atomic_store_explicit(&s->channel_bytes, 0, memory_order_relaxed);
		atomic_store_explicit(&s->ousted, 0, memory_order_relaxed);
		put_command(s, command);
		/* Release: the row before the word that makes it count. Readers load it with acquire. */
		atomic_store_explicit(&s->session, session, memory_order_release);
		return (int)i;
	}
	return -ENOSPC;
}

void region_session_remove(struct region *r, int slot)
{
	assert(slot >= 0 && slot < REGION_SESSIONS);
	atomic_store_explicit(&r->sessions[slot].session, 0, memory_order_release);
}
