/* notify.h - readiness for whoever started us: one datagram to $NOTIFY_SOCKET, as sd_notify(3) describes; nothing when it is not set. */
#ifndef SHALE_DAEMON_NOTIFY_H
#define SHALE_DAEMON_NOTIFY_H

/* @state: "READY=1", "STOPPING=1", "STATUS=…". */
void notify_supervisor(const char *state);

#endif
