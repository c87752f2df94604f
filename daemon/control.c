/*
 * control.c - sessions come and go here.
 *
 * Every descriptor in the epoll set points to a `struct watched` that says what it is. An event may refer to something that an earlier event
 * of the same batch ended, so nothing is freed before the batch is over: it goes to a list of the dead first.
 *
 * Who may in (admit.c) is decided by what the kernel says of the peer (SO_PEERCRED), never by what HELLO says.
 */
#include "daemon/control.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "daemon/rows.h"
#include "shm/error.h"
#include "shm/handshake.h"

enum {
	CONNECTIONS_MAX = 128,	     /* that have not said hello yet */
	CONNECTIONS_OF_UID_MAX = 32, /* of one user, so that no user keeps the others out */
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

static enum region_refusal refusal(int status)
{
	switch (status) {
	case -EACCES:
		return REGION_REFUSED_ACCESS;
	case -EUSERS:
	case -EDQUOT:
		return REGION_REFUSED_QUOTA;
	case -EPROTO:
	case -SHALE_EABI:
	case -SHALE_ENOTSHALE:
		return REGION_REFUSED_PROTOCOL;
	default:
		return REGION_REFUSED_OTHER;
	}
}

static void refuse(struct control *c, int socket, const struct ucred *peer, int status, const char *text)
{
	struct welcome w = {.magic = WELCOME_MAGIC,
			    .size = sizeof(w),
			    .abi = SHM_ABI,
			    .status = status,
			    .fingerprint = layout_fingerprint()};

	snprintf(w.text, sizeof(w.text), "%s", text);
	handshake_send(socket, &w, NULL, 0); /* a peer that does not listen needs no words */
	event_tell(&c->service->events, REGION_EVENT_REFUSED, LOG_NOTICE, "refused process %ld (user %ld): %s",
		   (long)peer->pid, (long)peer->uid, text);
	atomic_fetch_add_explicit(&c->service->refused[refusal(status)], 1, memory_order_relaxed);
	log_braked(&c->refused_brake, monotonic_ns(), LOG_NOTICE, "refused process %ld (user %ld): %s", (long)peer->pid,
		   (long)peer->uid, text);
}

static void connection_close(struct connection *conn)
{
	conn->dead = true; /* freed when the batch of events is over */
	close_fd(&conn->socket);
}

/* ---- sessions ---- */

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
	uint64_t rows_size = 0;
	int rows = rows_descriptor(c->service->rows, &rows_size), rc;
	int fds[WELCOME_FDS] = {s->channel.fd, c->region_fd, s->doorbell, rows};
	struct welcome w = {
		.magic = WELCOME_MAGIC,
		.size = sizeof(w),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
		.session = s->id,
		.channel_size = s->channel.size,
		.region_size = c->region->segment.size,
		.rows_size = rows_size,
		.max_request_bytes = c->config->max_request,
		.max_key_bytes = c->config->max_key,
		.spin_us = (uint32_t)c->config->spin_us,
		.monotonic_ns = monotonic_ns(),
	};

	if (rows < 0)
		return rows;
	memcpy(w.boot_id, c->region->header->boot_id, sizeof(w.boot_id));
	rc = handshake_send(socket, &w, fds, WELCOME_FDS);
	close_fd(&rows);
	return rc;
}

/*
 * The client is gone, or has to go. The socket stays open until the session is freed: see session.h. Nor is it shut down here: a hang-up tells the client
 * that what was not taken from its ring never will be, and that is true only once the service thread has ended the session.
 */
void control_hang_up(struct control *c, struct session *s)
{
	if (s->hung_up)
		return; /* told already */
	s->hung_up = true;
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, s->socket, NULL);
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
	int rc;

	if (state == REGION_STOPPING || state == REGION_FAILED)
		return err_set(err, -ETIMEDOUT, "the daemon is ending"); /* it tries again, and finds the next one */
	rc = admission_check(&c->admission, conn->peer.uid, h, &wish, err);
	if (rc < 0)
		return rc;
	rc = session_new(c->instance, admission_id(&c->admission), &wish, &s, err);
	if (rc < 0)
		return rc;
	s->pid = conn->peer.pid;
	s->uid = conn->peer.uid;
	process_name(s->pid, s->command);
	rc = admission_enter(&c->admission, s);
	if (rc < 0) {
		session_free(s);
		return err_set(err, rc, "no memory for another session");
	}
	rc = send_welcome(c, conn->socket, s);
	if (rc < 0) {
		admission_leave(&c->admission, s);
		session_free(s);
		return err_set(err, rc, "the greeting could not be sent: %s", shale_strerror(rc));
	}
	close_fd(&s->channel.fd); /* mapped and handed over: not needed any more */
	epoll_ctl(c->epoll, EPOLL_CTL_DEL, conn->socket, NULL);
	s->socket = conn->socket;
	conn->socket = -1;
	s->pidfd = open_pidfd(s->pid);
	s->next = c->sessions;
	s->place = &c->sessions;
	if (s->next)
		s->next->place = &s->next;
	c->sessions = s;
	/* From here on it is the service thread's. A watch that cannot be had would leave it for ever, so it ends at once. */
	service_post(c->service, s, SESSION_ADOPT);
	rc = watch(c, s->socket, EPOLLRDHUP, W_SESSION, s);
	if (rc == 0 && s->pidfd >= 0 && watch(c, s->pidfd, EPOLLIN, W_SESSION, s) < 0)
		close_fd(&s->pidfd);
	if (rc < 0)
		control_hang_up(c, s);
	return 0;
}

static void session_gone(struct control *c, struct session *s)
{
	*s->place = s->next;
	if (s->next)
		s->next->place = s->place;
	admission_leave(&c->admission, s);
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
			control_reload(c);
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

		if (bits & SESSION_GONE) {
			session_gone(c, s);
		} else {
			shutdown(s->socket, SHUT_RDWR);
			control_hang_up(c, s);
		}
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
		control_hang_up(c, ptr);
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

/* Of two times to wait, in ms; -1: for ever. */
static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static void *control_loop(void *arg)
{
	struct control *c = arg;
	struct epoll_event events[EVENTS];

	prctl(PR_SET_NAME, "shaled-control");
	/* Acquire: pairs with the release in control_stop(), which then rings the outbox. */
	while (!atomic_load_explicit(&c->quit, memory_order_acquire)) {
		int wait_ms = sooner(tend_connections(c), tend_use(c)), n;

		wait_ms = sooner(wait_ms, notifier_tend(&c->notifier, c->service, c->admission.count));
		n = epoll_wait(c->epoll, events, EVENTS, wait_ms);

		if (n > 0)
			handle_events(c, events, n);
	}
	return NULL;
}

/* ---- making ---- */

static int open_all(struct control *c, struct err_info *err)
{
	sigset_t set;
	int rc;

	c->region_fd = segment_reopen_readonly(&c->region->segment);
	if (c->region_fd < 0)
		return err_set(err, c->region_fd, "the region cannot be opened for reading: %s",
			       shale_strerror(c->region_fd));
	rc = admission_init(&c->admission, c->config, err);
	if (rc < 0)
		return rc;
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (c->epoll < 0 || c->signals < 0 || c->reserve < 0)
		return err_set(err, -errno, "no descriptors for the control thread: %s", shale_strerror(-errno));
	if (!c->passed)
		c->listener = listen_open(c->path, (mode_t)c->config->mode, err);
	if (c->listener < 0)
		return c->listener;
	if (watch(c, c->listener, EPOLLIN, W_LISTENER, NULL) < 0 || watch(c, c->signals, EPOLLIN, W_SIGNAL, NULL) < 0 ||
	    watch(c, c->service->outbox_event, EPOLLIN, W_OUTBOX, NULL) < 0)
		return err_set(err, -errno, "epoll: %s", shale_strerror(-errno));
	return 0;
}

int control_start(struct control *c, const struct config *config, const struct config_sources *sources,
		  struct service *service, const struct region *region, const char *instance, const char *path,
		  int passed, struct err_info *err)
{
	int rc;

	*c = (struct control){
		.config = config,
		.sources = sources,
		.service = service,
		.region = region,
		.path = path,
		.passed = passed >= 0,
		.region_fd = -1,
		.listener = passed,
		.epoll = -1,
		.signals = -1,
		.reserve = -1,
	};
	snprintf(c->instance, sizeof(c->instance), "%s", instance);
	notifier_init(&c->notifier);
	rc = open_all(c, err);
	if (rc == 0) {
		rc = -pthread_create(&c->thread, NULL, control_loop, c);
		if (rc < 0)
			err_set(err, rc, "the control thread cannot be started: %s", shale_strerror(rc));
	}
	c->running = rc == 0;
	if (rc < 0) {
		if (c->listener >= 0 && !c->passed)
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
		if (!c->passed)
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
		admission_leave(&c->admission, s);
		session_free(s);
	}
	admission_fini(&c->admission);
	close_fd(&c->listener);
	close_fd(&c->epoll);
	close_fd(&c->signals);
	close_fd(&c->reserve);
	close_fd(&c->region_fd);
	free(c->own_config);
	memset(c, 0, sizeof(*c));
}
