/*
 * notify.h - what a supervisor hears (sd_notify(3)): ready, reloading, stopping, that recovery gets on, how many sessions there are, and
 * that the service loop lives. Nothing, and no wake-up, where none listens.
 */
#ifndef SHALE_DAEMON_NOTIFY_H
#define SHALE_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct service;

void notify_recovering(const char *text); /* at most once a second; asks for more time */
void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);

/* For the control thread's loop. */
struct notifier {
	bool heard;	     /* there is a supervisor */
	uint64_t period_ns;  /* the watchdog's; 0: there is none */
	uint64_t look_ns;    /* when to look after the service thread */
	uint64_t beats;	     /* as they were at the last look */
	unsigned sessions;   /* as told last */
	uint64_t told_ns;
};

void notifier_init(struct notifier *n);

/*
 * Tells what is due. The watchdog is told that we live if the service thread's loop turned since the last look, or sleeps and has nothing to do.
 * Returns how long to wait until the next call, in ms; -1: until something happens.
 */
int notifier_tend(struct notifier *n, const struct service *svc, unsigned sessions);

#endif
