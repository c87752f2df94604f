/*
 * reload.c - SIGHUP: the configuration is read again, by the control thread.
 *
 * What can change at run time changes; of the rest the log says that it needs a restart. A configuration that cannot be read or does not pass the check changes nothing.
 * Nobody reads settings that another thread changes: the control thread and the service thread each have their own copy.
 */
#include <stdlib.h>

#include "daemon/control.h"
#include "shm/error.h"

static const char *or_quotes(const char *value)
{
	return *value ? value : "\"\"";
}

static void tell(void *context, const struct config_change *change)
{
	(void)context;
	log_line(LOG_NOTICE, "%s.%s: %s → %s (%s)%s", change->section, change->name, or_quotes(change->before),
		 or_quotes(change->after), change->origin, change->at_once ? "" : ": needs a restart");
}

/* Whom the access lists no longer let in, or let in for reading only, may not stay as it is. A client that may read comes back by itself. */
static void heed_access(struct control *c)
{
	struct session *next;

	for (struct session *s = c->sessions; s; s = next) {
		next = s->next;
		if (admission_may_stay(&c->admission, s))
			continue;
		log_line(LOG_NOTICE, "session of process %ld (%s, user %u) ended: the access lists changed",
			 (long)s->pid, s->command, (unsigned)s->uid);
		event_tell(&c->service->events, REGION_EVENT_KICKED, LOG_NOTICE,
			   "session of process %ld (%s, user %u) ended: the access lists changed", (long)s->pid,
			   s->command, (unsigned)s->uid);
		control_hang_up(c, s);
	}
}

/* 0, or a negative code with words: then nothing has changed. */
static int reload(struct control *c, int *changed_out, struct err_info *err)
{
	struct config *asked = malloc(sizeof(*asked)), *ours = malloc(sizeof(*ours)),
		      *service = malloc(sizeof(*service));
	int rc = asked && ours && service ? config_gather(c->sources, asked, err) : err_set(err, -ENOMEM, "no memory");

	if (rc == 0)
		rc = config_merge(c->config, asked, ours, tell, NULL, err);
	if (rc >= 0) {
		*changed_out = rc;
		*service = *ours;
		c->config = c->admission.config = ours;
		free(c->own_config);
		c->own_config = ours;
		log_level(LOG_ERR + (int)ours->log_level);
		engine_tune(c->service->engine, ours->background_rate, (unsigned)ours->tombstone_percent);
		service_reload(c->service, service);
		ours = service = NULL;
	}
	free(asked);
	free(ours);
	free(service);
	return rc < 0 ? rc : 0;
}

void control_reload(struct control *c)
{
	struct err_info err = {0};
	int changed = 0, rc;

	notify_reloading();
	rc = reload(c, &changed, &err);
	if (rc < 0) {
		log_line(LOG_ERR, "SIGHUP: nothing was changed: %s", err.text);
		event_tell(&c->service->events, REGION_EVENT_RELOADED, LOG_ERR, "configuration not taken: %s",
			   err.text);
	} else {
		heed_access(c);
		log_event(&(struct log_about){.event = EVENT_RELOADED}, LOG_NOTICE,
			  "SIGHUP: configuration read again, %d setting%s changed", changed, changed == 1 ? "" : "s");
	}
	if (rc == 0)
		event_tell(&c->service->events, REGION_EVENT_RELOADED, LOG_NOTICE,
			   "configuration read again, %d setting%s changed", changed, changed == 1 ? "" : "s");
	notify_ready();
	c->notifier.told_ns = 0; /* STATUS is to say how many sessions there are again */
	c->notifier.sessions = 0;
}
