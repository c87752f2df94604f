#include "tests/proc/raw_client.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the socket ---- */

struct hello raw_hello(void)
{
	return (struct hello){
		.magic = HELLO_MAGIC,
		.size = sizeof(struct hello),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
	};
}

int raw_connect(const char *path, int type)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), rc;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

ssize_t raw_send(int socket, const void *bytes, size_t n, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec v = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
	struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t sent;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	sent = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : sent;
}

/* ---- a session ---- */

int raw_try(const char *path, const struct hello *hello, struct raw_client *out)
{
	struct raw_client r = {0};
	struct err_info err = {0};
	int rc = handshake_connect(path, hello, 5000 * PATIENCE, &r.sock, &r.welcome, r.fds, &err);

	if (rc < 0)
		return rc;
	r.size = r.welcome.channel_size;
	r.base = mmap(NULL, r.size, PROT_READ | PROT_WRITE, MAP_SHARED, r.fds[0], 0);
	ck_assert_ptr_ne(r.base, MAP_FAILED);
	ck_ok(ring_client_init(&r.ring, r.base, r.size, &r.session, &r.arena, &r.arena_size));
	*out = r;
	return 0;
}

void raw_open(const char *path, struct raw_client *out)
{
	struct hello hello = raw_hello();

	ck_ok(raw_try(path, &hello, out));
}

void raw_close(struct raw_client *r)
{
	munmap(r->base, r->size);
	for (unsigned i = 0; i < WELCOME_FDS; i++)
		close(r->fds[i]);
	close(r->sock);
}

void raw_ring(const struct raw_client *r)
{
	uint64_t one = 1;

	ck_assert_int_eq(write(r->fds[2], &one, sizeof(one)), sizeof(one));
}

bool raw_hung_up(const struct raw_client *r, int patience_ms)
{
	char c[16];
	ssize_t n;

	for (int i = 0; i <= patience_ms * PATIENCE; i++) {
		while ((n = recv(r->sock, c, sizeof(c), MSG_DONTWAIT)) > 0)
			; /* wake-ups */
		if (n == 0 || errno == ECONNRESET)
			return true;
		if (patience_ms)
			usleep(1000);
	}
	return false;
}

struct sqe *raw_prepare(struct raw_client *r, uint32_t ahead, struct sqe sqe)
{
	struct sqe *slot = ring_sq_slot(&r->ring, ahead);

	if (!sqe.session)
		sqe.session = r->session;
	sqe.user_data = ++r->user_data;
	*slot = sqe;
	return slot;
}

void raw_publish(struct raw_client *r, uint32_t n)
{
	if (ring_sq_publish(&r->ring, n))
		raw_ring(r);
}

void raw_submit(struct raw_client *r, struct sqe sqe)
{
	raw_prepare(r, 0, sqe);
	raw_publish(r, 1);
}

struct cqe raw_take(struct raw_client *r)
{
	uint64_t begin = monotonic_ns();

	for (;;) {
		const struct cqe *seen = ring_cq_peek(&r->ring);
		struct cqe cqe;

		if (seen) {
			cqe = *seen;
			ring_cq_pop(&r->ring);
			return cqe;
		}
		if (raw_hung_up(r, 0))
			return (struct cqe){.res = RAW_ENDED};
		ck_assert_msg(monotonic_ns() - begin < UINT64_C(40000000000), "neither answered nor ended");
		usleep(200);
	}
}

int32_t raw_call(struct raw_client *r, struct sqe sqe)
{
	raw_submit(r, sqe);
	return raw_take(r).res;
}

uint32_t raw_batch(struct raw_client *r, size_t off, const char *key, const char *value)
{
	unsigned char *begin = r->arena + off, *end = batch_begin(begin);

	end = value ? batch_append_put(end, slice_str(key), slice_str(value))
		    : batch_append_delete(end, slice_str(key));
	batch_set_count(begin, 1);
	return (uint32_t)(end - begin);
}

int32_t raw_put(struct raw_client *r, const char *key, const char *value)
{
	return raw_call(r, (struct sqe){.op = OP_WRITE, .in_len = raw_batch(r, 0, key, value)});
}

/* ---- what the daemon holds ---- */

static void count_mappings(const struct private_daemon *d, struct holdings *h)
{
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)d->pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long from, to;

		if (!strstr(line, ".chan.") || sscanf(line, "%llx-%llx", &from, &to) != 2)
			continue;
		h->mappings++;
		h->mapped += to - from;
	}
	fclose(f);
}

/* Descriptors besides those of the database's files, which come and go with its tables. */
static unsigned count_descriptors(const struct private_daemon *d)
{
	char path[64], target[600];
	struct dirent *e;
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((e = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

		target[len > 0 ? len : 0] = '\0';
		n += len > 0 && strncmp(target, d->database, strlen(d->database)) != 0;
	}
	closedir(dir);
	return n;
}

static uint64_t resident_kb(const struct private_daemon *d)
{
	char path[64], line[256];
	unsigned long long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)d->pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %llu", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

struct holdings holdings_of(const struct private_daemon *d)
{
	struct region_stats s = proc_stats(d);
	struct holdings h = {
		.sessions = s.sessions,
		.snapshots = s.snapshots,
		.fds = count_descriptors(d),
		.segments = private_daemon_segments(d),
		.resident_kb = resident_kb(d),
	};

	h.resident_kb -= min_size(h.resident_kb, s.memtable_bytes >> 10);
	count_mappings(d, &h);
	return h;
}

/* Memory of its own may stay with the allocator, and the witness's data grows meanwhile. */
enum { RESIDENT_SLACK_KB = 96 << 10 };

double holdings_await(const struct private_daemon *d, struct holdings want)
{
	uint64_t begin = monotonic_ns();

	for (;;) {
		struct holdings now = holdings_of(d);
		double ms = (double)(monotonic_ns() - begin) / 1e6;

		if (now.sessions <= want.sessions && now.snapshots <= want.snapshots && now.fds <= want.fds &&
		    now.segments <= want.segments && now.mappings <= want.mappings && now.mapped <= want.mapped &&
		    now.resident_kb <= want.resident_kb + RESIDENT_SLACK_KB * PATIENCE)
			return ms;
		ck_assert_msg(ms < 20000 * PATIENCE,
			      "after %.0f ms: sessions %llu (before: %llu), snapshots %llu (%llu), descriptors %u "
			      "(%u), segments %d (%d), channels mapped %u (%u), bytes of those %llu (%llu), own memory "
			      "%llu KiB (%llu)",
			      ms, (unsigned long long)now.sessions, (unsigned long long)want.sessions,
			      (unsigned long long)now.snapshots, (unsigned long long)want.snapshots, now.fds, want.fds,
			      now.segments, want.segments, now.mappings, want.mappings, (unsigned long long)now.mapped,
			      (unsigned long long)want.mapped, (unsigned long long)now.resident_kb,
			      (unsigned long long)want.resident_kb);
		usleep(2000);
	}
}

/* ---- a daemon under attack ---- */

void scene_begin(struct scene *s, ...)
{
	const char *setting;
	va_list ap;

	memset(s, 0, sizeof(*s));
	/* So large a memtable is not flushed here: tables and logs would change the number of descriptors. */
	proc_init(&s->d, NULL, "engine.write_buffer=512M", NULL);
	va_start(ap, s);
	while ((setting = va_arg(ap, const char *))) {
		private_daemon_arg(&s->d, "--set");
		private_daemon_arg(&s->d, setting);
	}
	va_end(ap);
	proc_start(&s->d);
	witness_start(&s->witness, &s->d, test_seed());
	witness_progress(&s->witness, 200);
	for (int i = 0; (s->before = holdings_of(&s->d)).sessions > 2; i++, usleep(10000)) /* proc_start() had one */
		ck_assert_int_lt(i, 1000);
	s->before.snapshots = 1; /* the witness takes one now and then */
}

void scene_alive(struct scene *s)
{
	char log[4000];

	if (waitpid(s->d.pid, &s->d.status, WNOHANG) == 0)
		return;
	proc_shell(log, sizeof(log), "tail -c 3900 %s", s->d.log);
	ck_abort_msg("the daemon ended with status %#x\n%s", (unsigned)s->d.status, log);
}

void scene_check(struct scene *s)
{
	scene_alive(s);
	witness_progress(&s->witness, 50);
	holdings_await(&s->d, s->before);
}

void scene_end(struct scene *s)
{
	scene_check(s);
	witness_stop(&s->witness, 4000);
	proc_stop(&s->d);
	private_daemon_fini(&s->d);
}
