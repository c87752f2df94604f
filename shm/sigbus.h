/*
 * sigbus.h - touching a channel that its client may truncate or punch at any moment.
 *
 * A client holds the channel's descriptor and can make any page of it vanish; a touch then raises SIGBUS in the daemon.
 * The handler (installed once) looks the address up in a table of guarded ranges: inside one, it maps zero pages over
 * the whole range, marks the range broken and returns, so the touch completes with zeros and the service loop ends the
 * session when it next looks. Outside every range it re-raises with the default action, as a real fault should.
 *
 * Ranges are added and removed by the service thread; the handler runs on whichever thread touched the page, uses
 * only async-signal-safe calls (mmap is one in practice on Linux: a bare system call), and takes no lock.
 */
#ifndef SHALE_SHM_SIGBUS_H
#define SHALE_SHM_SIGBUS_H

#include "shm/base.h"

/* Installs the handler. 0 or -errno. Call once, before any range is added. */
int sigbus_guard_install(void);

/* Guards [base, base+size). Returns a slot >= 0, or -ENOSPC when the table is full. */
int sigbus_guard_add(void *base, size_t size);

/* True when a fault happened inside the range: its contents are zeros now, the session must end. */
bool sigbus_guard_broken(int slot);

/* Forgets the range; call before it is unmapped. */
void sigbus_guard_remove(int slot);

#endif
