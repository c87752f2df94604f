/*
 * control.c - sessions come and go here.
 *
 * Every descriptor in the epoll set points to a `struct watched` that says what it is. An event may refer to something that an earlier event
 * of the same batch ended, so nothing is freed before the batch is over: it goes to a list of the dead first.
 *
 * Who may in is decided by what the kernel says of the peer (SO_PEERCRED), never by what HELLO says.
 */
#include "daemon/control.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "shm/error.h"
#include "shm/handshake.h"

enum {
	CONNECTIONS_MAX = 128,	     /* that have not said hello yet */
	CONNECTIONS_OF_UID_MAX = 32, /* of one user, so that no user keeps the others out */
	DESCRIPTORS_OF_SESSION = 3,  /* socket, pidfd, doorbell */
	DESCRIPTORS_OF_DAEMON = 64,  /* logs, rings, the table being written… */
	ACCEPT_PAUSE_NS = 10 * 1000 * 1000,
	EVENTS = 32,
	FIRST_CLIENT_NS = 2000 * 1000 * 1000,
};

/* What an epoll entry is: the low bits of its data; the rest is a pointer (all of which are aligned to 8). */
enum watched { W_LISTENER, W_SIGNAL, W_OUTBOX, W_CONNECTION, W_SESSION, W_KINDS = 7 };

/* A peer that has not said hello yet. */
struct connection {
	struct connection *next;
	int socket;
	bool dead;
	uint64_t deadline_ns;
	struct ucred peer;
};

static int watch(const struct control *c, int fd, uint32_t events, enum watched what, void *ptr)
{
	struct epoll_event e = {.events = events, .data.u64 = (uint64_t)(uintptr_t)ptr | what};

	return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- refusing ---- */

static void refuse(struct control *c, int socket, const struct ucred *peer, int status, const char *text)
{
	struct welcome w = {.magic = WELCOME_MAGIC,
			    .size = sizeof(w),
			    .abi = SHM_ABI,
			    .status = status,
			    .fingerprint = layout_fingerprint()};

	snprintf(w.text, sizeof(w.text), "%s", text);
	handshake_send(socket, &w, NULL, 0); /* a peer that does not listen needs no words */
	log_braked(&c->refused_brake, monotonic_ns(), LOG_NOTICE, "refused process %ld (user %ld): %s", (long)peer->pid,
		   (long)peer->uid, text);
}

static void connection_close(struct connection *conn)
{
	conn->dead = true; /* freed when the batch of events is over */
	close_fd(&conn->socket);
}

/* ---- who may in ---- */

static bool listed(const struct config_uids *list, uid_t uid)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->uid[i] == uid)
			return true;
	return false;
}

/* 0 and whether only reads are allowed, or a refusal with words. */
static int check_access(const struct control *c, const struct ucred *peer, const struct hello *h, bool *read_only_out,
			struct err_info *err)
{
	unsigned all = 0, of_uid = 0;

	if (c->config->uids.count && !listed(&c->config->uids, peer->uid) &&
	    !listed(&c->config->read_only_uids, peer->uid))
		return err_set(err, -EACCES, "user %u may not use this database (access.uids)", (unsigned)peer->uid);
	for (const struct session *s = c->sessions; s; s = s->next) {
		all++;
		of_uid += s->uid == peer->uid;
	}
	if (all >= c->sessions_max)
		return err_set(err, -EUSERS, "all %u sessions are taken (%s)", all,
			       all < c->config->sessions ? "the daemon's ulimit -n" : "limits.sessions");
	if (of_uid >= c->config->sessions_per_uid)
		return err_set(err, -EUSERS, "user %u has %u sessions already (limits.sessions_per_uid)",
			       (unsigned)peer->uid, of_uid);
	*read_only_out = (h->flags & HELLO_READ_ONLY) || listed(&c->config->read_only_uids, peer->uid);
	return 0;
}

/* What the client wants, within what the configuration allows. Too much is cut: the client sees in the channel what it got. */
static void bound_wish(const struct config *config, const struct hello *h, bool read_only, struct session_wish *out)
{
	uint64_t entries = h->ring_entries ? h->ring_entries : config->ring_entries;
	uint64_t arena = h->arena_size ? h->arena_size : config->arena;
	uint64_t arena_max = 2 * config->max_request + config->arena;
	uint32_t rounded = RING_ENTRIES_MIN;

	while (rounded < entries && rounded < RING_ENTRIES_MAX)
		rounded *= 2;
	if (arena_max > ARENA_SIZE_MAX)
		arena_max = ARENA_SIZE_MAX;
	if (arena > arena_max)
		arena = arena_max;
	if (arena < ARENA_SIZE_MIN)
		arena = ARENA_SIZE_MIN;
	*out = (struct session_wish){
		.entries = rounded, .arena_size = align_up(arena, SHM_PAGE), .read_only = read_only};
}

/* 0, or a refusal with words: one user cannot fill /dev/shm. */
static int check_memory(const struct control *c, uid_t uid, const struct session_wish *wish, struct err_info *err)
{
	uint64_t have = 0, want = channel_size(wish->entries, wish->arena_size);

	for (const struct session *s = c->sessions; s; s = s->next)
		have += s->uid == uid ? s->channel.size : 0;
	if (have + want <= c->config->memory_per_uid)
		return 0;
	return err_set(err, -EDQUOT,
		       "the sessions of user %u have %llu KiB of shared memory, %llu KiB more are too much "
		       "(limits.memory_per_uid)",
		       (unsigned)uid, (unsigned long long)(have >> 10), (unsigned long long)(want >> 10));
}

static void read_command(pid_t pid, char out[32])
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, 31);
		close(fd);
	}
	if (n > 0 && out[n - 1] == '\n')
		n--;
	out[n > 0 ? n : 0] = '\0';
	for (char *p = out; *p; p++) /* it goes to logs and terminals */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

/* ---- sessions ---- */

static uint64_t take_id(struct control *c)
{
	uint32_t slot = 0;

	while (c->slots[slot]) /* check_access() saw that one is free */
		slot++;
	c->generation += c->generation == 0; /* an id is never 0 */
	return (uint64_t)c->generation++ << 32 | slot;
}

/* A descriptor that becomes readable when the process ends. Optional: the socket's hang-up tells as much of a process that dies normally. */
static int open_pidfd(pid_t pid)
{
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

static int send_welcome(const struct control *c, int socket, const struct session *s)
{
	int fds[WELCOME_FDS] = {s->channel.fd, c->region_fd, s->doorbell};
	struct welcome w = {
		.magic = WELCOME_MAGIC,
		.size = sizeof(w),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
		.session = s->id,
		.channel_size = s->channel.size,
		.region_size = c->region->segment.size,
		.max_request_bytes = c->config->max_request,
		.max_key_bytes = c->config->max_key,
		.spin_us = (uint32_t)c->config->spin_us,
	};

	memcpy(w.boot_id, c->region->header->boot_id, sizeof(w.boot_id));
	return handshake_send(socket, &w, fds, WELCOME_FDS);
}

/* The client is gone, or has to go. The socket stays open, and shut down, until the session is freed: see session.h. */
static void session_hang_up(struct control *c, struct session *s)
{
	if (s->hung_up)
		return; /* told already */
	s->hung_up = true;
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, s->socket, NULL);
	shutdown(s->socket, SHUT_RDWR);
	close_fd(&s->pidfd);
	service_post(c->service, s, SESSION_END);
}

/* Makes the session of a checked hello, tells the client, hands it to the service thread. 0 or a negative code with words. */
static int admit(struct control *c, struct connection *conn, const struct hello *h, struct err_info *err)
{
	/* Acquire: pairs with the release in begin_closing() and service_fail(), which come before any client is told. */
	uint32_t state = atomic_load_explicit(&c->region->header->state, memory_order_acquire);
	struct session_wish wish;
	struct session *s;
	bool read_only = false;
	int rc;

	if (state == REGION_STOPPING || state == REGION_FAILED)
		return err_set(err, -ETIMEDOUT, "the daemon is ending"); /* it tries again, and finds the next one */
	rc = check_access(c, &conn->peer, h, &read_only, err);
	if (rc < 0)
		return rc;
	bound_wish(c->config, h, read_only, &wish);
	rc = check_memory(c, conn->peer.uid, &wish, err);
	if (rc < 0)
		return rc;
	rc = session_new(c->instance, take_id(c), &wish, &s, err);
	if (rc < 0)
		return rc;
	s->pid = conn->peer.pid;
	s->uid = conn->peer.uid;
	read_command(s->pid, s->command);
	rc = send_welcome(c, conn->socket, s);
	if (rc < 0) {
		session_free(s);
		return err_set(err, rc, "the greeting could not be sent: %s", shale_strerror(rc));
	}
	close_fd(&s->channel.fd); /* mapped and handed over: not needed any more */
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, conn->socket, NULL);
	s->socket = conn->socket;
	conn->socket = -1;
	s->pidfd = open_pidfd(s->pid);
	s->next = c->sessions;
	c->sessions = s;
	c->slots[(uint32_t)s->id] = s;
	/* From here on it is the service thread's. A watch that cannot be had would leave it for ever, so it ends at once. */
	service_post(c->service, s, SESSION_ADOPT);
	rc = watch(c, s->socket, EPOLLRDHUP, W_SESSION, s);
	if (rc == 0 && s->pidfd >= 0 && watch(c, s->pidfd, EPOLLIN, W_SESSION, s) < 0)
		close_fd(&s->pidfd);
	if (rc < 0)
		session_hang_up(c, s);
	return 0;
}

static void session_gone(struct control *c, struct session *s)
{
	for (struct session **p = &c->sessions; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	c->slots[(uint32_t)s->id] = NULL;
	session_free(s);
}

/* ---- events ---- */

static void on_hello(struct control *c, struct connection *conn)
{
	union {
		struct hello hello;
		unsigned char bytes[256]; /* a later release's HELLO may be longer: it is refused in words, too */
	} in;
	struct err_info err = {0};
	struct hello hello;
	unsigned stray = 0;
	long n = handshake_receive(conn->socket, &in, sizeof(in), &stray);
	int rc;

	if (n == -EAGAIN)
		return;
	if (n > 0)
		rc = hello_check(&in, (size_t)n, &hello, &err);
	else if (n == -EPROTO)
		rc = err_set(&err, -EPROTO, stray ? "HELLO brought descriptors along" : "HELLO is too long");
	else {
		connection_close(conn); /* it hung up */
		return;
	}
	if (rc == 0)
		rc = admit(c, conn, &hello, &err);
	if (rc < 0)
		refuse(c, conn->socket, &conn->peer, rc, err.text);
	connection_close(conn);
}

/* The listener stays readable while nothing can be accepted: without a pause the loop would turn all the time. */
static void pause_accepting(void)
{
	const struct timespec pause = {.tv_nsec = ACCEPT_PAUSE_NS};

	nanosleep(&pause, NULL);
}

/* No descriptor is left: give up the reserve, accept one connection, tell it so. */
static void refuse_for_want_of_descriptors(struct control *c)
{
	char drain[64];
	unsigned stray;
	int fd;

	close_fd(&c->reserve);
	fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		struct ucred peer = {0};
		socklen_t len = sizeof(peer);

		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
		handshake_receive(fd, drain, sizeof(drain), &stray); /* else closing would reset what we send */
		refuse(c, fd, &peer, -EMFILE, "the daemon has no file descriptors left (ulimit -n)");
		close(fd);
	} else if (errno != EAGAIN) {
		pause_accepting(); /* somebody else took the reserve's place */
	}
	c->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool too_many_connections(const struct control *c, uid_t uid)
{
	unsigned of_uid = 0;

	for (const struct connection *conn = c->connections; conn; conn = conn->next)
		of_uid += conn->peer.uid == uid;
	return c->connection_count >= CONNECTIONS_MAX || of_uid >= CONNECTIONS_OF_UID_MAX;
}

static void on_connect(struct control *c)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	struct connection *conn;
	int fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_for_want_of_descriptors(c);
		else if (errno == ENOMEM || errno == ENOBUFS)
			pause_accepting();
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		close(fd);
		return;
	}
	conn = too_many_connections(c, peer.uid) ? NULL : calloc(1, sizeof(*conn));
	if (!conn) {
		refuse(c, fd, &peer, -EAGAIN, "too many connections are being opened: try again");
		close(fd);
		return;
	}
	conn->socket = fd;
	conn->peer = peer;
	conn->deadline_ns = monotonic_ns() + c->config->handshake_ms * 1000000;
	if (watch(c, fd, EPOLLIN | EPOLLRDHUP, W_CONNECTION, conn) < 0) {
		close(fd);
		free(conn);
		return;
	}
	conn->next = c->connections;
	c->connections = conn;
	c->connection_count++;
}

static void begin_ending(struct control *c)
{
	c->closing = true;
	close_fd(&c->listener); /* whoever connects now is refused by the kernel, and tries the next daemon */
	service_stop(c->service);
}

static void on_signal(struct control *c)
{
	struct signalfd_siginfo info;

	while (read(c->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			log_line(LOG_NOTICE,
				 "SIGHUP: the configuration is read at the start only; restart to change it");
			continue;
		}
		log_line(LOG_NOTICE, "%s: ending", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
		begin_ending(c);
	}
}

static void on_outbox(struct control *c)
{
	uint64_t count;
	ssize_t ignored = read(c->service->outbox_event, &count, sizeof(count));
	struct mail *mail;
	unsigned bits;

	(void)ignored;
	while ((mail = mailbox_take(&c->service->outbox, &bits))) {
		struct session *s = container_of(mail, struct session, out);

		if (bits & SESSION_GONE)
			session_gone(c, s);
		else
			session_hang_up(c, s);
	}
}

static void dispatch(struct control *c, const struct epoll_event *e)
{
	void *ptr = (void *)(uintptr_t)(e->data.u64 & ~(uint64_t)W_KINDS);

	switch ((enum watched)(e->data.u64 & W_KINDS)) {
	case W_LISTENER:
		if (c->listener >= 0)
			on_connect(c);
		break;
	case W_SIGNAL:
		on_signal(c);
		break;
	case W_CONNECTION:
		if (!((struct connection *)ptr)->dead)
			on_hello(c, ptr);
		break;
	case W_SESSION:
		session_hang_up(c, ptr);
		break;
	case W_OUTBOX: /* handle_events() comes to it last */
	case W_KINDS:
		break;
	}
}

/* The outbox last: it frees sessions, which other events of the batch may point to. */
static void handle_events(struct control *c, const struct epoll_event *events, int n)
{
	bool outbox = false;

	for (int i = 0; i < n; i++) {
		outbox |= events[i].data.u64 == W_OUTBOX;
		dispatch(c, &events[i]);
	}
	if (outbox)
		on_outbox(c);
}

/* Buries dead connections, ends those whose time is up. Returns how long to wait, in ms: -1 when none is left. */
static int tend_connections(struct control *c)
{
	uint64_t now = c->connections ? monotonic_ns() : 0, next = UINT64_MAX;
	struct connection **p = &c->connections;

	while (*p) {
		struct connection *conn = *p;

		if (!conn->dead && (now >= conn->deadline_ns || c->closing)) {
			refuse(c, conn->socket, &conn->peer, -ETIMEDOUT,
			       c->closing ? "the daemon is ending" : "no HELLO came in time (limits.handshake_ms)");
			connection_close(conn);
		}
		if (conn->dead) {
			*p = conn->next;
			free(conn);
			c->connection_count--;
			continue;
		}
		if (conn->deadline_ns < next)
			next = conn->deadline_ns;
		p = &conn->next;
	}
	return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000 + 1);
}

/* With service.exit_when_unused: ends when nobody has been there for so long. Returns how long to wait, in ms: -1 for ever. */
static int tend_use(struct control *c)
{
	uint64_t limit = c->config->exit_when_unused * UINT64_C(1000000), now;

	if (!limit || c->closing)
		return -1;
	c->used |= c->sessions != NULL;
	if (c->sessions || c->connections) {
		c->unused_ns = 0;
		return -1;
	}
	now = monotonic_ns();
	if (!c->unused_ns)
		c->unused_ns = now;
	/* The first client may need its time: it waits for us, too. */
	if (!c->used && limit < FIRST_CLIENT_NS)
		limit = FIRST_CLIENT_NS;
	if (now - c->unused_ns < limit)
		return (int)((limit - (now - c->unused_ns)) / 1000000 + 1);
	log_line(LOG_NOTICE, "nobody uses this database any more (service.exit_when_unused): ending");
	begin_ending(c);
	return -1;
}

static void *control_loop(void *arg)
{
	struct control *c = arg;
	struct epoll_event events[EVENTS];

	prctl(PR_SET_NAME, "shaled-control");
	/* Acquire: pairs with the release in control_stop(), which then rings the outbox. */
	while (!atomic_load_explicit(&c->quit, memory_order_acquire)) {
		int hello_ms = tend_connections(c), use_ms = tend_use(c), n;

		n = epoll_wait(c->epoll, events, EVENTS,
			       hello_ms < 0 || (use_ms >= 0 && use_ms < hello_ms) ? use_ms : hello_ms);

		if (n > 0)
			handle_events(c, events, n);
	}
	return NULL;
}

/* ---- making ---- */

/*
 * Sessions that the limit of descriptors leaves room for besides the engine's files: a log or a table that cannot be opened
 * would stop the daemon, a session that cannot be made stops nobody.
 */
static unsigned affordable_sessions(const struct config *config)
{
	uint64_t reserve = config->max_open_tables + DESCRIPTORS_OF_DAEMON, left;
	struct rlimit files;
	unsigned most;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return (unsigned)config->sessions;
	left = files.rlim_cur / 2 > reserve ? files.rlim_cur - reserve : files.rlim_cur / 2;
	most = left / DESCRIPTORS_OF_SESSION > 0 ? (unsigned)min_size(left / DESCRIPTORS_OF_SESSION, config->sessions)
						 : 1;
	if (most < config->sessions)
		log_line(LOG_WARNING,
			 "%llu file descriptors (ulimit -n) are enough for %u sessions, not for %u (limits.sessions)",
			 (unsigned long long)files.rlim_cur, most, (unsigned)config->sessions);
	return most;
}

static int open_all(struct control *c, struct err_info *err)
{
	sigset_t set;

	c->region_fd = segment_reopen_readonly(&c->region->segment);
	if (c->region_fd < 0)
		return err_set(err, c->region_fd, "the region cannot be opened for reading: %s",
			       shale_strerror(c->region_fd));
	c->sessions_max = affordable_sessions(c->config);
	c->slots = calloc(c->config->sessions, sizeof(struct session *));
	if (!c->slots)
		return err_set(err, -ENOMEM, "no memory for the table of sessions");
	if (getrandom(&c->generation, sizeof(c->generation), 0) != sizeof(c->generation))
		return err_set(err, -EIO, "no random bytes");
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (c->epoll < 0 || c->signals < 0 || c->reserve < 0)
		return err_set(err, -errno, "no descriptors for the control thread: %s", shale_strerror(-errno));
	c->listener = listen_open(c->path, (mode_t)c->config->mode, err);
	if (c->listener < 0)
		return c->listener;
	if (watch(c, c->listener, EPOLLIN, W_LISTENER, NULL) < 0 || watch(c, c->signals, EPOLLIN, W_SIGNAL, NULL) < 0 ||
	    watch(c, c->service->outbox_event, EPOLLIN, W_OUTBOX, NULL) < 0)
		return err_set(err, -errno, "epoll: %s", shale_strerror(-errno));
	return 0;
}

int control_start(struct control *c, const struct config *config, struct service *service, const struct region *region,
		  const char *instance, const char *path, struct err_info *err)
{
	int rc;

	*c = (struct control){
		.config = config,
		.service = service,
		.region = region,
		.path = path,
		.region_fd = -1,
		.listener = -1,
		.epoll = -1,
		.signals = -1,
		.reserve = -1,
	};
	snprintf(c->instance, sizeof(c->instance), "%s", instance);
	rc = open_all(c, err);
	if (rc == 0) {
		rc = -pthread_create(&c->thread, NULL, control_loop, c);
		if (rc < 0)
			err_set(err, rc, "the control thread cannot be started: %s", shale_strerror(rc));
	}
	c->running = rc == 0;
	if (rc < 0) {
		if (c->listener >= 0)
			unlink(path);
		control_stop(c);
	}
	return rc;
}

void control_stop(struct control *c)
{
	const uint64_t one = 1;

	if (c->running) {
		ssize_t ignored;

		atomic_store_explicit(&c->quit, true, memory_order_release);
		ignored = write(c->service->outbox_event, &one, sizeof(one));
		(void)ignored; /* a full counter is readable as well */
		pthread_join(c->thread, NULL);
		unlink(c->path);
	}
	if (!c->config)
		return; /* zeroed: never started */
	while (c->connections) {
		struct connection *conn = c->connections;

		c->connections = conn->next;
		close_fd(&conn->socket);
		free(conn);
	}
	while (c->sessions) {
		struct session *s = c->sessions;

		c->sessions = s->next;
		session_free(s);
	}
	free(c->slots);
	close_fd(&c->listener);
	close_fd(&c->epoll);
	close_fd(&c->signals);
	close_fd(&c->reserve);
	close_fd(&c->region_fd);
	memset(c, 0, sizeof(*c));
}
