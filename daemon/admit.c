/*
 * admit.c - counted per user as sessions come and go, so that letting one in costs the same however many there are.
 */
#include "daemon/admit.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "daemon/log.h"
#include "shm/error.h"

enum {
	DESCRIPTORS_OF_SESSION = 3, /* socket, pidfd, doorbell */
	DESCRIPTORS_OF_DAEMON = 64, /* logs, rings, the table being written… */
};

/* A user with sessions. They are few: a list, with the last one found in front. */
struct guest {
	struct guest *next;
	uid_t uid;
	unsigned sessions;
	uint64_t memory; /* of their channels */
};

static struct guest **find(struct guest **list, uid_t uid)
{
	while (*list && (*list)->uid != uid)
		list = &(*list)->next;
	return list;
}

static bool listed(const struct config_uids *list, uid_t uid)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->uid[i] == uid)
			return true;
	return false;
}

static bool may_enter(const struct config *config, uid_t uid)
{
	return !config->uids.count || listed(&config->uids, uid) || listed(&config->read_only_uids, uid);
}

static void bound_wish(const struct config *config, const struct hello *h, struct session_wish *out)
{
	uint64_t entries = h->ring_entries ? h->ring_entries : config->ring_entries;
	uint64_t arena = h->arena_size ? h->arena_size : config->arena;
	uint64_t arena_max = 2 * config->max_request + config->arena;
	uint32_t rounded = RING_ENTRIES_MIN;

	while (rounded < entries && rounded < RING_ENTRIES_MAX)
		rounded *= 2;
	arena = min_size(arena, min_size(arena_max, ARENA_SIZE_MAX));
	out->entries = rounded;
	out->arena_size = align_up(max_size(arena, ARENA_SIZE_MIN), SHM_PAGE);
}

int admission_check(const struct admission *a, uid_t uid, const struct hello *h, struct session_wish *out,
		    struct err_info *err)
{
	const struct config *config = a->config;
	const struct guest *g = *find((struct guest **)&a->guests, uid);
	uint64_t have = g ? g->memory : 0, want;

	if (!may_enter(config, uid))
		return err_set(err, -EACCES, "user %u may not use this database (access.uids)", (unsigned)uid);
	if (a->count >= a->sessions_max)
		return err_set(err, -EUSERS, "all %u sessions are taken (%s)", a->count,
			       a->count < config->sessions ? "the daemon's ulimit -n" : "limits.sessions");
	if (g && g->sessions >= config->sessions_per_uid)
		return err_set(err, -EUSERS, "user %u has %u sessions already (limits.sessions_per_uid)", (unsigned)uid,
			       g->sessions);
	bound_wish(config, h, out);
	out->read_only = (h->flags & HELLO_READ_ONLY) || listed(&config->read_only_uids, uid);
	want = channel_size(out->entries, out->arena_size);
	if (have + want > config->memory_per_uid)
		return err_set(err, -EDQUOT,
			       "the sessions of user %u have %llu KiB of shared memory, %llu KiB more are too much "
			       "(limits.memory_per_uid)",
			       (unsigned)uid, (unsigned long long)(have >> 10), (unsigned long long)(want >> 10));
	return 0;
}

bool admission_may_stay(const struct admission *a, const struct session *s)
{
	return may_enter(a->config, s->uid) && (s->read_only || !listed(&a->config->read_only_uids, s->uid));
}

uint64_t admission_id(struct admission *a)
{
	uint32_t slots = (uint32_t)a->config->sessions;

	while (a->slots[a->next_slot % slots]) /* admission_check() saw that one is free */
		a->next_slot++;
	a->generation += a->generation == 0; /* an id is never 0 */
	return (uint64_t)a->generation++ << 32 | a->next_slot++ % slots;
}

int admission_enter(struct admission *a, struct session *s)
{
	struct guest **at = find(&a->guests, s->uid), *g = *at;

	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g)
			return -ENOMEM;
		g->uid = s->uid;
	} else {
		*at = g->next;
	}
	g->next = a->guests;
	a->guests = g;
	g->sessions++;
	g->memory += s->channel.size;
	a->slots[(uint32_t)s->id] = s;
	a->count++;
	return 0;
}

void admission_leave(struct admission *a, struct session *s)
{
	struct guest **at = find(&a->guests, s->uid), *g = *at;

	assert(g && g->sessions && a->slots[(uint32_t)s->id] == s);
	g->memory -= s->channel.size;
	if (--g->sessions == 0) {
		*at = g->next;
		free(g);
	}
	a->slots[(uint32_t)s->id] = NULL;
	a->count--;
}

/* ---- making ---- */

/*
 * Sessions that the limit of descriptors leaves room for besides the engine's files: a log or a table that cannot be opened
 * would stop the daemon, a session that cannot be made stops nobody.
 */
static unsigned affordable_sessions(const struct config *config)
{
	uint64_t reserve = config->max_open_tables + DESCRIPTORS_OF_DAEMON, left;
	struct rlimit files;
	unsigned most;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return (unsigned)config->sessions;
	left = files.rlim_cur / 2 > reserve ? files.rlim_cur - reserve : files.rlim_cur / 2;
	most = left / DESCRIPTORS_OF_SESSION > 0 ? (unsigned)min_size(left / DESCRIPTORS_OF_SESSION, config->sessions)
						 : 1;
	if (most < config->sessions)
		log_line(LOG_WARNING,
			 "%llu file descriptors (ulimit -n) are enough for %u sessions, not for %u (limits.sessions)",
			 (unsigned long long)files.rlim_cur, most, (unsigned)config->sessions);
	return most;
}

int admission_init(struct admission *a, const struct config *config, struct err_info *err)
{
	*a = (struct admission){.config = config, .sessions_max = affordable_sessions(config)};
	a->slots = calloc(config->sessions, sizeof(struct session *));
	if (!a->slots)
		return err_set(err, -ENOMEM, "no memory for the table of sessions");
	if (getrandom(&a->generation, sizeof(a->generation), 0) != sizeof(a->generation))
		return err_set(err, -EIO, "no random bytes");
	return 0;
}

void admission_fini(struct admission *a)
{
	free(a->slots);
	a->slots = NULL;
}
