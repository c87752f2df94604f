/*
 * clients.h - rows of the session table.
 */
#ifndef SHALE_SHALECTL_CLIENTS_H
#define SHALE_SHALECTL_CLIENTS_H

#include "tools/shalectl/picture.h"

/* One session's row, copied. */
struct client {
	uint64_t id, operations, bytes_in, bytes_out, in_flight, held, throttled_us, channel, ousted;
	uint64_t age_us, idle_us, oldest_us; /* oldest_us: of its snapshots; 0: it has none */
	unsigned pid, uid, snapshots, state;
	char command[sizeof(((struct region_session *)0)->command) + 1];
	char user[CELL / 2];
	bool stopped;
};

/* Copies row @i. False: there is none. Our own is none, either. */
bool client_read(const struct region *r, unsigned i, uint64_t now, struct client *out);

/* "active", "idle", "stopped" (by a signal), "clogged", "ousted" */
const char *client_state(const struct client *c);

#endif
