/* stats.h - the region's stats page and session rows: the engine's numbers and the service's counters put together. The service thread only. */
#ifndef SHALE_DAEMON_STATS_H
#define SHALE_DAEMON_STATS_H

#include "daemon/service.h"

/* What never changes after the start. */
void stats_init(struct service *svc, const struct engine_recovery *recovery, const struct io_env *env);

/* The settings that the page shows: at the start, and after a reload. */
void stats_settings(struct service *svc);

/* Writes the page and the heartbeat. */
void stats_publish(struct service *svc);

/* Writes one session's row. */
void stats_session(struct service *svc, const struct session *s);

#endif
