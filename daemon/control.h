/*
 * control.h - the control thread: the socket, handshakes, who is still alive, signals.
 *
 * One epoll over the listening socket, connections that have not said hello yet (with a deadline), the sockets and pidfds of sessions,
 * the service's outbox, and a signalfd. It sleeps without time-out unless a handshake is open. It makes sessions and frees them;
 * between the two they are the service thread's (see session.h).
 */
#ifndef SHALE_DAEMON_CONTROL_H
#define SHALE_DAEMON_CONTROL_H

#include <pthread.h>

#include "daemon/admit.h"
#include "daemon/notify.h"
#include "daemon/service.h"

struct connection;

struct control {
	const struct config *config;
	struct service *service;
	char instance[INSTANCE_LEN + 1];
	const struct region *region;
	int region_fd;	  /* read-only, to hand over */
	const char *path; /* of the socket; borrowed */
	bool passed;	  /* the socket is a supervisor's: its name stays */
	const struct config_sources *sources; /* to read again */
	struct config *own_config;	      /* what a reload brought: config points to it */
	struct notifier notifier;
	int listener, epoll, signals;
	int reserve; /* a descriptor kept free, to accept and refuse when all others are used */
	struct connection *connections;
	unsigned connection_count;
	struct session *sessions;
	struct admission admission;
	bool closing;
	bool used;	    /* there was a client */
	uint64_t unused_ns; /* since when there is none; 0: there is one */
	_Atomic bool quit;
	pthread_t thread;
	bool running;
	struct log_brake refused_brake;
};

/*
 * Makes the socket, or takes @passed (-1: none was), and starts the thread. SIGTERM, SIGINT and SIGHUP are blocked in the calling thread. Everything is borrowed
 * until control_stop. The database is locked, so a socket at @path can only be a dead daemon's and is replaced; anything else there is
 * -EEXIST. 0 or a negative code with words.
 */
int control_start(struct control *c, const struct config *config, const struct config_sources *sources, struct service *service,
		  const struct region *region, const char *instance, const char *path, int passed, struct err_info *err);

/* reload.c, in the control thread: reads the configuration again; what can change, changes. */
void control_reload(struct control *c);

/* The session's client has to go. It sees the hang-up when the service thread has ended the session, and not before. */
void control_hang_up(struct control *c, struct session *s);

/* After service_run: ends the thread, frees every session, removes the socket. Takes a zeroed struct. */
void control_stop(struct control *c);

#endif
