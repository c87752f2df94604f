/*
 * region.h - the daemon's read-only window for clients: last sequence, snapshot table, sessions, stats page, events.
 *
 * The daemon builds it with region_create and writes through region_*; a client maps the descriptor it is handed and
 * reads. All writers are the daemon's service thread unless a line says otherwise.
 */
#ifndef SHALE_SHM_REGION_H
#define SHALE_SHM_REGION_H

#include "shm/layout.h"
#include "shm/segment.h"

struct err_info;

struct region {
	struct segment segment;
	struct region_header *header;
	struct region_snapshot *snapshots; /* [REGION_SNAPSHOTS] */
	struct region_session *sessions;   /* [REGION_SESSIONS] */
	struct region_stats_page *stats;
	struct region_events *events;
};

/* Daemon: creates /shale.<instance>.region, replacing a dead one. State is REGION_STARTING. 0 or -errno with words. */
int region_create(struct region *r, const char *instance, const char *database, mode_t mode, struct err_info *err);

/* Daemon, while it is starting: where clients connect. A relative path counts from here. Of one that is too long nothing is told. */
void region_set_socket(struct region *r, const char *path);

/*
 * Client: maps @fd (borrowed) read-only and checks magic, ABI, fingerprint and sizes.
 * Returns 0, -SHALE_EABI, -SHALE_ENOTSHALE or -errno, with words.
 */
int region_map(struct region *r, int fd, struct err_info *err);

/*
 * Client tools: opens by instance name, read-only; works while the daemon hangs or is gone. As region_map, or -ENOENT.
 */
int region_open(struct region *r, const char *instance, struct err_info *err);

/* Unmaps; the daemon's side also unlinks when @unlink. */
void region_close(struct region *r, bool unlink);

/* Makes @stats the page that readers find. One writer at a time. */
void region_publish_stats(struct region *r, const struct region_stats *stats);

/* The newest whole page. Returns 0, or -EAGAIN: publications kept overtaking this reader for 100 ms. */
int region_read_stats(const struct region *r, struct region_stats *out);

/*
 * Pins: a slot of the snapshot table; @lease_until_ns 0: it does not end by itself. Returns the slot, or -ENOSPC when the table is full.
 * region_snapshot_free takes a slot from region_snapshot_take.
 */
int region_snapshot_take(struct region *r, uint64_t sequence, uint64_t session, uint64_t now_ns, uint64_t lease_until_ns);
void region_snapshot_free(struct region *r, int slot);

/*
 * Session rows. Returns the slot, or -ENOSPC (the session still works, it is only not listed). The search begins where the low half of @session points: a
 * daemon that puts a slot number there finds a free row at once.
 */
int region_session_add(struct region *r, uint64_t session, uint32_t pid, uint32_t uid, const char *command,
		       uint64_t now_ns);
void region_session_remove(struct region *r, int slot);

/*
 * Adds an event; @text is cut to the row's room. One writer at a time. Readers see it whole or not at all.
 */
void region_add_event(struct region *r, enum region_event_kind kind, unsigned severity, uint64_t realtime_ns, const char *text);

/* The number of the newest event, 0: none. */
uint64_t region_newest_event(const struct region *r);

/* Event @number. 0; -ENOENT: it is not there yet, or not there any more (or its daemon was killed while it wrote the row). */
int region_read_event(const struct region *r, uint64_t number, struct region_event *out);

#endif
