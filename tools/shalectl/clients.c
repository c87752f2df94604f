/*
 * clients.c - who is connected and what it does; who holds which snapshot. From the region alone, and /proc for whether a process is stopped.
 */
#include <inttypes.h>
#include <pwd.h>
#include <unistd.h>

#include "shm/park.h"
#include "tools/shalectl/clients.h"
#include "tools/shalectl/explain.h"

static uint64_t word(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static uint64_t since(uint64_t now, uint64_t then)
{
	return then && now > then ? (now - then) / 1000 : 0;
}

static void user_name(unsigned uid, char out[CELL / 2])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(out, CELL / 2, "%s", pw->pw_name);
	else
		snprintf(out, CELL / 2, "%u", uid);
}

static uint64_t oldest_snapshot_us(const struct region *r, uint64_t id, uint64_t now)
{
	uint64_t oldest = 0;

	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++) {
		const struct region_snapshot *snap = &r->snapshots[i];

		/* Acquire: the row was filled before its sequence was set. */
		if (atomic_load_explicit(&snap->sequence_plus_1, memory_order_acquire) && word(&snap->session) == id)
			oldest = max_size(oldest, since(now, word(&snap->taken_monotonic_ns)) + 1);
	}
	return oldest;
}

bool client_read(const struct region *r, unsigned i, uint64_t now, struct client *out)
{
	const struct region_session *row = &r->sessions[i];
	struct client c = {0};

	/* Acquire: the row was filled before its id was set. */
	c.id = atomic_load_explicit(&row->session, memory_order_acquire);
	c.pid = atomic_load_explicit(&row->pid, memory_order_relaxed);
	if (!c.id || c.pid == (unsigned)getpid())
		return false;
	c.uid = atomic_load_explicit(&row->uid, memory_order_relaxed);
	c.operations = word(&row->operations);
	c.bytes_in = word(&row->bytes_in);
	c.bytes_out = word(&row->bytes_out);
	c.in_flight = word(&row->in_flight);
	c.held = word(&row->bytes_held);
	c.throttled_us = word(&row->throttled_us);
	c.channel = word(&row->channel_bytes);
	c.ousted = word(&row->ousted);
	c.snapshots = atomic_load_explicit(&row->snapshots, memory_order_relaxed);
	c.state = atomic_load_explicit(&row->state, memory_order_relaxed);
	c.age_us = since(now, word(&row->connected_monotonic_ns));
	c.idle_us = since(now, word(&row->active_monotonic_ns));
	memcpy(c.command, row->command, sizeof(row->command));
	c.stopped = is_stopped(c.pid);
	c.oldest_us = c.snapshots ? oldest_snapshot_us(r, c.id, now) : 0;
	user_name(c.uid, c.user);
	*out = c;
	return true;
}

const char *client_state(const struct client *c)
{
	if (c->stopped)
		return "stopped";
	if (c->state == SESSION_STATE_CLOGGED)
		return "clogged";
	if (c->state == SESSION_STATE_ACTIVE)
		return "active";
	return c->ousted ? "ousted" : "idle";
}

/* ---- clients ---- */

static void client_row(struct libscols_table *t, const struct client *c)
{
	char text[13][CELL];

	snprintf(text[0], CELL, "%s", c->command);
	snprintf(text[1], CELL, "%s", c->user);
	snprintf(text[2], CELL, "%" PRIx64, c->id);
	snprintf(text[3], CELL, "%u", c->pid);
	time_text(c->age_us, text[4]);
	snprintf(text[5], CELL, "%" PRIu64, c->operations);
	size_text(c->bytes_in, text[6]);
	size_text(c->bytes_out, text[7]);
	snprintf(text[8], CELL, "%" PRIu64, c->in_flight);
	snprintf(text[9], CELL, "%u", c->snapshots);
	snprintf(text[10], CELL, "-");
	if (c->oldest_us)
		time_text(c->oldest_us, text[10]);
	time_text(c->throttled_us, text[11]);
	snprintf(text[12], CELL, "%s", client_state(c));
	table_row(t, text, ARRAY_SIZE(text));
}

static void clients_text(const struct picture *p)
{
	static const char *const columns[] = {"CLIENT",	    "USER",	 "SESSION", "PID",	 "AGE",
					      "OPERATIONS", "IN",	 "OUT",	    "IN FLIGHT", "SNAPSHOTS",
					      "OLDEST",	    "THROTTLED", "STATE"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), ARRAY_SIZE(columns) - 1);
	uint64_t now = monotonic_ns();
	struct client c;

	for (unsigned i = 0; t && i < REGION_SESSIONS; i++)
		if (client_read(&p->region, i, now, &c))
			client_row(t, &c);
	table_print(t);
}

static json_t *clients_json(const struct picture *p)
{
	json_t *list = json_array();
	uint64_t now = monotonic_ns();
	struct client c;

	for (unsigned i = 0; i < REGION_SESSIONS; i++) {
		char id[17];
		json_t *row;

		if (!client_read(&p->region, i, now, &c))
			continue;
		snprintf(id, sizeof(id), "%" PRIx64, c.id);
		row = json_pack("{s:s,s:i,s:i,s:s,s:f,s:f,s:s}", "session", id, "pid", (int)c.pid, "uid", (int)c.uid,
				"user", c.user, "age_s", (double)c.age_us / 1e6, "idle_s", (double)c.idle_us / 1e6,
				"state", client_state(&c));
		json_set_bytes(row, "command", slice_str(c.command));
		json_object_update_new(row, json_pack("{s:I,s:I,s:I,s:I,s:I,s:i,s:f,s:I,s:f,s:I}", "operations",
						      (json_int_t)c.operations, "bytes_in", (json_int_t)c.bytes_in,
						      "bytes_out", (json_int_t)c.bytes_out, "in_flight",
						      (json_int_t)c.in_flight, "bytes_waiting", (json_int_t)c.held,
						      "snapshots", (int)c.snapshots, "oldest_snapshot_s",
						      (double)c.oldest_us / 1e6, "snapshots_ousted",
						      (json_int_t)c.ousted, "throttled_s", (double)c.throttled_us / 1e6,
						      "channel_bytes", (json_int_t)c.channel));
		json_array_append_new(list, row);
	}
	return json_pack("{s:s,s:o}", "state", state_name(p), "clients", list);
}

int cmd_clients(struct ctl *ctl)
{
	return show_picture(ctl, clients_text, clients_json);
}

/* ---- snapshots ---- */

struct held {
	uint64_t sequence, session, age_us, lease_us; /* lease_us: what is left; 0: none, or over any moment */
	bool leased;
	struct client client; /* all zero: its session has just ended */
};

static bool held_read(const struct region *r, unsigned i, uint64_t now, struct held *out)
{
	const struct region_snapshot *row = &r->snapshots[i];
	/* Acquire: the row was filled before its sequence was set. */
	uint64_t sequence_plus_1 = atomic_load_explicit(&row->sequence_plus_1, memory_order_acquire);
	uint64_t until = word(&row->lease_until_ns);
	struct held h = {.sequence = sequence_plus_1 - 1, .session = word(&row->session), .leased = until != 0};

	if (!sequence_plus_1)
		return false;
	h.age_us = since(now, word(&row->taken_monotonic_ns));
	h.lease_us = since(until, now);
	for (unsigned s = 0; s < REGION_SESSIONS; s++)
		if (word(&r->sessions[s].session) == h.session && client_read(r, s, now, &h.client))
			break;
	*out = h;
	return true;
}

static void snapshots_text(const struct picture *p)
{
	static const char *const columns[] = {"CLIENT", "USER", "SESSION", "PID", "SEQUENCE", "BEHIND", "AGE", "LEASE"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), SIZE_MAX);
	uint64_t now = monotonic_ns(), last = word(&p->region.header->last_sequence);
	struct held h;

	for (unsigned i = 0; t && i < REGION_SNAPSHOTS; i++) {
		char text[8][CELL];

		if (!held_read(&p->region, i, now, &h))
			continue;
		snprintf(text[0], CELL, "%s", h.client.command);
		snprintf(text[1], CELL, "%s", h.client.user);
		snprintf(text[2], CELL, "%" PRIx64, h.session);
		snprintf(text[3], CELL, "%u", h.client.pid);
		snprintf(text[4], CELL, "%" PRIu64, h.sequence);
		snprintf(text[5], CELL, "%" PRIu64, last > h.sequence ? last - h.sequence : 0);
		time_text(h.age_us, text[6]);
		snprintf(text[7], CELL, "none");
		if (h.leased)
			time_text(h.lease_us, text[7]);
		table_row(t, text, ARRAY_SIZE(text));
	}
	table_print(t);
}

static json_t *snapshots_json(const struct picture *p)
{
	uint64_t now = monotonic_ns();
	json_t *list = json_array();
	struct held h;

	for (unsigned i = 0; i < REGION_SNAPSHOTS; i++) {
		char id[17];
		json_t *row;

		if (!held_read(&p->region, i, now, &h))
			continue;
		snprintf(id, sizeof(id), "%" PRIx64, h.session);
		row = json_pack("{s:I,s:s,s:i,s:i,s:f}", "sequence", (json_int_t)h.sequence, "session", id, "pid",
				(int)h.client.pid, "uid", (int)h.client.uid, "age_s", (double)h.age_us / 1e6);
		json_set_bytes(row, "command", slice_str(h.client.command));
		json_object_set_new(row, "lease_left_s", h.leased ? json_real((double)h.lease_us / 1e6) : json_null());
		json_array_append_new(list, row);
	}
	return json_pack("{s:s,s:I,s:o}", "state", state_name(p), "last_sequence",
			 (json_int_t)word(&p->region.header->last_sequence), "snapshots", list);
}

int cmd_snapshots(struct ctl *ctl)
{
	return show_picture(ctl, snapshots_text, snapshots_json);
}
