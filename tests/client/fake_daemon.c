#include "tests/client/fake_daemon.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/test.h"

static void complete(struct fake *f, struct fake_session *s, const struct sqe *sqe)
{
	int mood = atomic_load(&f->mood);
	struct cqe cqe = {.user_data = sqe->user_data};

	if (sqe->op == OP_SCAN && mood >= MOOD_GARBAGE_SCAN && mood <= MOOD_EMPTY_MORE)
		fake_bad_scan(f, s, sqe, mood, &cqe);
	else
		fake_request(f, s, sqe, &cqe);
	if (mood == MOOD_HUGE_LEN && sqe->op != OP_SNAPSHOT)
		cqe.len = sqe->out_len + 1;
	if (mood == MOOD_WRONG_IDS) {
		struct cqe stray = {.user_data = sqe->user_data + 4096, .res = -EIO};

		s->ring.in_flight++; /* a completion that no request stands for */
		ck_assert_int_eq(ring_cq_push(&s->ring, &stray), 0);
	}
	ck_assert_int_eq(ring_cq_push(&s->ring, &cqe), 0);
}

/* Shows completions, and wakes who sleeps in the way it asked for. */
static void show(struct fake_session *s)
{
	uint32_t how;

	if (!ring_cq_publish(&s->ring))
		return;
	how = atomic_load(&s->ring.theirs->parked);
	if (how < PARK_SOCKET) {
		ring_wake_client(&s->ring);
	} else if (how != s->ticket) {
		s->ticket = how;
		ck_assert_int_eq(send(s->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL), 1);
	}
}

static void cancel(struct fake_session *s, const struct sqe *sqe)
{
	struct cqe cqe = {.user_data = sqe->user_data, .res = -ENOENT};

	for (unsigned i = 0; i < s->held_count; i++) {
		struct cqe ended = {.user_data = s->held[i].user_data, .res = -ECANCELED};

		if (s->held[i].user_data != sqe->sequence)
			continue;
		s->held[i] = s->held[--s->held_count];
		ck_assert_int_eq(ring_cq_push(&s->ring, &ended), 0);
		cqe.res = 0;
		break;
	}
	ck_assert_int_eq(ring_cq_push(&s->ring, &cqe), 0);
}

/* Serves one session. Returns whether there was work; sets *@die when the daemon is to end now. */
static bool serve(struct fake *f, struct fake_session *s, bool *die)
{
	int mood = atomic_load(&f->mood), n;
	struct sqe sqes[64];

	if (mood != MOOD_LATE && s->held_count) {
		for (unsigned i = 0; i < s->held_count; i++)
			complete(f, s, &s->held[i]);
		s->held_count = 0;
		show(s);
	}
	if (mood == MOOD_MUTE || s->broken || !ring_sq_waiting(&s->ring))
		return false;
	if (mood == MOOD_DIE_UNTAKEN) {
		*die = true;
		return true;
	}
	if (mood == MOOD_BREAK || mood == MOOD_KICK) {
		atomic_store(&f->mood, MOOD_SERVE);
		s->broken = true;
		ring_daemon_set_state(&s->ring, mood == MOOD_KICK ? CHANNEL_KICKED : CHANNEL_BROKEN);
		return true;
	}
	n = ring_sq_take(&s->ring, sqes, ARRAY_SIZE(sqes));
	ck_assert_int_ge(n, 0);
	for (int i = 0; i < n; i++) {
		ck_assert_uint_eq(sqes[i].session, s->id);
		ck_assert_uint_le(sqes[i].in_off + sqes[i].in_len, s->arena_size);
		ck_assert_uint_le(sqes[i].out_off + sqes[i].out_len, s->arena_size);
		atomic_fetch_add(&f->requests, 1);
		if (sqes[i].op == OP_CANCEL) {
			cancel(s, &sqes[i]);
		} else if (mood == MOOD_LATE) {
			ck_assert_uint_lt(s->held_count, FAKE_HELD);
			s->held[s->held_count++] = sqes[i];
		} else if (mood == MOOD_DIE_TAKEN && sqes[i].op != OP_NOP) {
			struct cqe unseen = {0};

			fake_request(f, s, &sqes[i], &unseen);
			*die = true;
		} else if (mood != MOOD_SWALLOW) {
			complete(f, s, &sqes[i]);
		}
	}
	if (mood == MOOD_CLOSING) {
		ring_daemon_set_state(&s->ring, CHANNEL_CLOSING);
		*die = true;
	}
	show(s);
	return true;
}

/* ---- sessions ---- */

static void end_session(struct fake *f, struct fake_session *s)
{
	if (s->socket < 0)
		return;
	close(s->socket);
	if (s->doorbell >= 0)
		close(s->doorbell);
	if (s->connected)
		atomic_fetch_sub(&f->sessions, 1);
	atomic_fetch_sub(&f->pins, s->pin_count);
	segment_close(&s->channel);
	*s = (struct fake_session){.socket = -1, .doorbell = -1, .channel.fd = -1};
}

static void instance_name(const struct fake *f, char out[INSTANCE_LEN + 1])
{
	snprintf(out, INSTANCE_LEN + 1, "%08x%08x", (unsigned)getpid(), (unsigned)(uintptr_t)f);
}

static void welcome(struct fake *f, struct fake_session *s, const struct hello *h)
{
	struct welcome w = {
		.magic = WELCOME_MAGIC,
		.size = sizeof(w),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
		.max_request_bytes = f->max_request,
		.max_key_bytes = f->max_key,
		.spin_us = f->spin_us,
		.monotonic_ns = monotonic_ns() + (uint64_t)f->clock_ahead,
		.region_size = f->region.segment.size,
		.rows_size = f->rows.segment.size,
	};
	char instance[INSTANCE_LEN + 1], what[32];
	size_t arena_size = h->arena_size ? h->arena_size : f->arena;
	uint32_t entries = h->ring_entries ? h->ring_entries : RING_ENTRIES_MIN;
	int fds[WELCOME_FDS];

	instance_name(f, instance);
	s->id = ++f->next_session;
	snprintf(what, sizeof(what), "chan.%llu", (unsigned long long)s->id);
	s->arena_size = arena_size;
	ck_ok(segment_create(instance, what, channel_size(entries, arena_size), 0600, true, &s->channel, NULL));
	segment_unlink(&s->channel);
	ring_daemon_init(&s->ring, s->channel.base, s->id, entries, arena_size, &s->arena);
	s->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	s->read_only = h->flags & HELLO_READ_ONLY;
	w.session = s->id;
	w.channel_size = s->channel.size;
	memcpy(w.boot_id, f->region.header->boot_id, sizeof(w.boot_id));
	fds[0] = s->channel.fd;
	fds[1] = segment_reopen_readonly(&f->region.segment);
	fds[2] = s->doorbell;
	fds[3] = segment_reopen_readonly(&f->rows.segment);
	ck_assert_int_ge(fds[1], 0);
	ck_assert_int_ge(fds[3], 0);
	s->connected = true;
	if (arena_size > atomic_load(&f->largest_arena))
		atomic_store(&f->largest_arena, (unsigned)arena_size);
	atomic_fetch_add(&f->sessions, 1);
	if (handshake_send(s->socket, &w, fds, WELCOME_FDS) < 0)
		end_session(f, s);
	close(fds[1]);
	close(fds[3]);
}

/* A HELLO is there. */
static void shake(struct fake *f, struct fake_session *s)
{
	struct welcome w = {
		.magic = WELCOME_MAGIC, .size = sizeof(w), .abi = SHM_ABI, .fingerprint = layout_fingerprint()};
	char buf[sizeof(struct hello) + 8];
	struct hello h;
	unsigned stray;
	long n = handshake_receive(s->socket, buf, sizeof(buf), &stray);

	if (n == -EAGAIN)
		return;
	atomic_fetch_add(&f->handshakes, 1);
	if (n <= 0 || hello_check(buf, (size_t)n, &h, NULL) < 0) {
		end_session(f, s);
		return;
	}
	switch (atomic_load(&f->handshake)) {
	case SHAKE_WELL:
		welcome(f, s, &h);
		return;
	case SHAKE_FLAKY:
	case SHAKE_ENDING:
		if (atomic_fetch_sub(&f->misses, 1) <= 0) {
			welcome(f, s, &h);
			return;
		}
		w.status = -ETIMEDOUT;
		snprintf(w.text, sizeof(w.text), "the daemon is ending");
		if (atomic_load(&f->handshake) == SHAKE_ENDING)
			handshake_send(s->socket, &w, NULL, 0);
		break;
	case SHAKE_SILENT:
		return;
	case SHAKE_GARBAGE:
		memset(&w, 'x', sizeof(w));
		handshake_send(s->socket, &w, NULL, 0);
		break;
	case SHAKE_OTHER_ABI:
		w.abi = SHM_ABI + 1;
		handshake_send(s->socket, &w, NULL, 0);
		break;
	case SHAKE_REFUSE:
		w.status = -EACCES;
		snprintf(w.text, sizeof(w.text), "uid 4711 is not on the list");
		handshake_send(s->socket, &w, NULL, 0);
		break;
	case SHAKE_NO_FDS:
		handshake_send(s->socket, &w, NULL, 0);
		break;
	}
	end_session(f, s);
}

static void accept_one(struct fake *f)
{
	int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < FAKE_SESSIONS; i++) {
		if (f->session[i].socket < 0) {
			f->session[i].socket = fd;
			return;
		}
	}
	close(fd);
}

/* Sleeps until something may be there, with all sessions parked as the real daemon parks them. */
static void wait_for_work(struct fake *f)
{
	struct pollfd fds[1 + 2 * FAKE_SESSIONS] = {{.fd = f->listener, .events = POLLIN}};
	bool parked = true;
	uint64_t rings;

	for (int i = 0; i < FAKE_SESSIONS; i++) {
		struct fake_session *s = &f->session[i];

		fds[1 + 2 * i] = (struct pollfd){.fd = s->socket, .events = POLLIN | POLLRDHUP};
		fds[2 + 2 * i] = (struct pollfd){.fd = s->doorbell, .events = POLLIN};
		if (s->connected && !ring_daemon_park(&s->ring) && atomic_load(&f->mood) != MOOD_MUTE)
			parked = false;
	}
	poll(fds, ARRAY_SIZE(fds), parked ? 5 : 0); /* a mood may change, which nobody rings for */
	if (fds[0].revents)
		accept_one(f);
	for (int i = 0; i < FAKE_SESSIONS; i++) {
		struct fake_session *s = &f->session[i];

		if (s->connected) {
			ring_daemon_unpark(&s->ring);
			if (fds[2 + 2 * i].revents)
				(void)!read(s->doorbell, &rings, sizeof(rings));
			if (fds[1 + 2 * i].revents)
				end_session(f, s);
		} else if (s->socket >= 0 && fds[1 + 2 * i].revents) {
			shake(f, s);
		}
	}
}

static void *run(void *arg)
{
	struct fake *f = arg;
	bool die = false;
	unsigned idle = 0;

	while (!atomic_load(&f->stop) && !die) {
		bool work = false;

		for (int i = 0; i < FAKE_SESSIONS && !die; i++) {
			if (f->session[i].connected)
				work |= serve(f, &f->session[i], &die);
		}
		idle = work ? 0 : idle + 1;
		if (idle > 100 && !die)
			wait_for_work(f);
	}
	close(f->listener);
	for (int i = 0; i < FAKE_SESSIONS; i++)
		end_session(f, &f->session[i]);
	return NULL;
}

struct fake *fake_new(const char *path)
{
	struct fake *f = calloc(1, sizeof(*f));

	ck_assert_ptr_nonnull(f);
	f->path = strdup(path);
	f->max_request = 4 << 20;
	f->max_key = 64 << 10;
	f->arena = 128 << 10;
	f->spin_us = 20;
	for (int i = 0; i < FAKE_SESSIONS; i++)
		f->session[i] = (struct fake_session){.socket = -1, .doorbell = -1, .channel.fd = -1};
	return f;
}

void fake_start(struct fake *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char instance[INSTANCE_LEN + 1];

	ck_assert(!f->running);
	instance_name(f, instance);
	ck_ok(region_create(&f->region, instance, "/fake", 0600, NULL));
	atomic_store(&f->region.header->state, REGION_SERVING);
	ck_ok(row_cache_create(&f->rows, instance, 0, NULL));
	unlink(f->path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(f->listener, 64), 0);
	atomic_store(&f->stop, false);
	f->running = true;
	ck_assert_int_eq(pthread_create(&f->thread, NULL, run, f), 0);
}

void fake_kill(struct fake *f)
{
	if (!f->running)
		return;
	atomic_store(&f->stop, true);
	pthread_join(f->thread, NULL);
	f->running = false;
	region_close(&f->region, true);
	row_cache_close(&f->rows);
}

void fake_free(struct fake *f)
{
	if (!f)
		return;
	fake_kill(f);
	for (size_t i = 0; i < f->entry_count; i++) {
		free((void *)f->entries[i].key.data);
		free((void *)f->entries[i].value.data);
	}
	free(f->entries);
	unlink(f->path);
	free(f->path);
	free(f);
}
