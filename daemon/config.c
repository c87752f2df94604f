/*
 * One table, `keys`, says everything about every setting. Each value is kept as a uint64_t in struct config (lists of users
 * apart), so that reading, bounding and printing need no code per key.
 */
#include "daemon/config.h"

#include <ctype.h>
#include <ini.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>

#include "shm/error.h"
#include "shm/layout.h"
#include "shm/ring.h"

enum type { T_SIZE, T_COUNT, T_BOOL, T_CHOICE, T_LEVELS, T_MODE, T_UIDS, T_WEIGHTS };

struct key {
	const char *section, *name;
	enum type type;
	size_t offset;
	const char *standard; /* the default, as one would write it */
	uint64_t min, max;
	const char *const *choices; /* NULL-terminated; the value is the index */
	const char *doc;
};

static const char *const compressions[] = {"none", "snappy", "zstd", NULL};
static const char *const windows[] = {"shm", "directory", NULL};
static const char *const backends[] = {"auto", "io_uring", "posix", NULL};
static_assert(COMPRESS_NONE == 0 && COMPRESS_SNAPPY == 1 && COMPRESS_ZSTD == 2, "choices are in the order of the enum");
static_assert(WINDOW_SHM == 0 && WINDOW_DIRECTORY == 1, "choices are in the order of the enum");
static_assert(IO_BACKEND_AUTO == 0 && IO_BACKEND_URING == 1 && IO_BACKEND_POSIX == 2,
	      "choices are in the order of the enum");

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)
#define AT(field) offsetof(struct config, field)

static const struct key keys[] = {
	{"engine", "write_buffer", T_SIZE, AT(write_buffer), "16M", 64 * K, 1 * G, NULL,
	 "memory of one memtable; when it is full it is written out as a table"},
	{"engine", "max_immutables", T_COUNT, AT(max_immutables), "2", 1, 16, NULL,
	 "full memtables that may wait for their flush before writers have to"},
	{"engine", "block_cache", T_SIZE, AT(block_cache), "64M", 64 * K, 1024 * G, NULL,
	 "memory for decompressed blocks of tables"},
	{"engine", "max_open_tables", T_COUNT, AT(max_open_tables), "1000", 16, 1000000, NULL,
	 "tables kept open, with their index and filter in memory"},
	{"engine", "block_size", T_SIZE, AT(block_size), "4K", 256, 4 * M, NULL,
	 "uncompressed size of a table's blocks"},
	{"engine", "bloom_bits", T_COUNT, AT(bloom_bits), "10", 0, 40, NULL,
	 "bits per key of the Bloom filters; 0 for none"},
	{"engine", "compression", T_CHOICE, AT(compression), "snappy", 0, 0, compressions,
	 "of new tables; stock LevelDB reads none and snappy"},
	{"engine", "compression_per_level", T_LEVELS, AT(compression_per_level), "", 0, 0, compressions,
	 "compression of level 0, 1, …, instead of the one above; the last one named goes for all deeper levels; a "
	 "memtable is written with that of level 0"},
	{"engine", "max_file_size", T_SIZE, AT(max_file_size), "2M", 64 * K, 1 * G, NULL,
	 "size at which a table ends and the next begins"},
	{"engine", "level1_size", T_SIZE, AT(level1_size), "10M", 256 * K, 1024 * G, NULL, "target size of level 1"},
	{"engine", "level_multiplier", T_COUNT, AT(level_multiplier), "10", 2, 1000, NULL,
	 "how many times larger the target of each further level is"},
	{"engine", "l0_compaction", T_COUNT, AT(l0_compaction), "4", 1, 1000, NULL,
	 "files of level 0 that start a compaction"},
	{"engine", "l0_gather", T_COUNT, AT(l0_gather), "6", 0, 1000, NULL,
	 "files that level 0 gathers at most while they are small beside level 1, which then may hold as much as they "
	 "do; 0: as LevelDB"},
	{"engine", "seek_compaction", T_BOOL, AT(seek_compaction), "no", 0, 1, NULL,
	 "compact files that cost reads a block in vain too often, as LevelDB does; it writes when nobody else does, "
	 "and "
	 "pays where a seek costs milliseconds"},
	{"engine", "tombstone_percent", T_COUNT, AT(tombstone_percent), "50", 0, 100, NULL,
	 "compact a file with so many deleted or replaced entries in a hundred, though its level is not full; 0: "
	 "never"},
	{"engine", "background_rate", T_SIZE, AT(background_rate), "0", 0, 64 * G, NULL,
	 "bytes per second that compactions may read and write, except while level 0 is past l0_slowdown; 0: no limit"},
	{"engine", "l0_slowdown", T_COUNT, AT(l0_slowdown), "8", 1, 1000, NULL,
	 "files of level 0 from which on writes are paced (service.slowdown_rate)"},
	{"engine", "l0_stop", T_COUNT, AT(l0_stop), "12", 1, 1000, NULL,
	 "files of level 0 from which on writes wait for a compaction"},
	{"engine", "create_if_missing", T_BOOL, AT(create_if_missing), "yes", 0, 1, NULL,
	 "make a new database where there is none"},
	{"engine", "paranoid", T_BOOL, AT(paranoid), "no", 0, 1, NULL,
	 "refuse to start on a bad log record, instead of recovering what is before it"},
	{"engine", "best_effort", T_BOOL, AT(best_effort), "no", 0, 1, NULL,
	 "serve what can be read when tables are missing or unreadable: their keys answer an error, the rest is "
	 "served"},
	{"engine", "compaction_workers", T_COUNT, AT(compaction_workers), "0", 0, 64, NULL,
	 "threads that compact; 0: one less than there are cores, at least one"},
	{"wal", "ring", T_SIZE, AT(wal_ring), "16M", 256 * K, 1 * G, NULL,
	 "memory for log bytes that are not yet written to their file; a power of two"},
	{"wal", "window", T_CHOICE, AT(wal_window), "shm", 0, 0, windows,
	 "where that memory lies: shared memory, or a file in the database directory where /dev/shm does not outlive "
	 "the daemon"},
	{"limits", "max_key", T_SIZE, AT(max_key), "64K", 16, 16 * M, NULL, "longest key"},
	{"limits", "max_request", T_SIZE, AT(max_request), "65M", 4 * K, 1 * G, NULL,
	 "largest write as it is encoded (a value of 64M fits the default); one that wal.ring cannot hold keeps "
	 "others waiting while it passes"},
	{"limits", "sessions", T_COUNT, AT(sessions), "4096", 1, REGION_SESSIONS, NULL,
	 "connected sessions (a thread of a client has one)"},
	{"limits", "sessions_per_uid", T_COUNT, AT(sessions_per_uid), "2048", 1, REGION_SESSIONS, NULL,
	 "of those, sessions of one user"},
	{"limits", "memory_per_uid", T_SIZE, AT(memory_per_uid), "2G", 256 * K, 1024 * G, NULL,
	 "shared memory (in /dev/shm) of all sessions of one user"},
	{"limits", "snapshots", T_COUNT, AT(snapshots), "256", 1, REGION_SNAPSHOTS, NULL,
	 "snapshots that one session may hold at a time"},
	{"limits", "snapshots_per_uid", T_COUNT, AT(snapshots_per_uid), "512", 1, REGION_SNAPSHOTS, NULL,
	 "snapshots that all sessions of one user may hold"},
	{"limits", "snapshot_lease", T_COUNT, AT(snapshot_lease), "0", 0, UINT64_C(1000000000000), NULL,
	 "milliseconds after which a snapshot ends by itself, unless its client asked for less; 0: when its session "
	 "ends"},
	{"limits", "in_flight_per_uid", T_SIZE, AT(in_flight_per_uid), "1G", 64 * K, 1024 * G, NULL,
	 "payload of all waiting requests of one user; one more is refused"},
	{"limits", "write_rate_per_uid", T_SIZE, AT(write_rate_per_uid), "0", 0, 64 * G, NULL,
	 "bytes of writes per second that one user may have taken; more of them wait; 0: no limit"},
	{"limits", "handshake_ms", T_COUNT, AT(handshake_ms), "2000", 10, 600000, NULL,
	 "milliseconds that a new connection has to say hello"},
	{"fairness", "turn_requests", T_COUNT, AT(turn_requests), "32", 4, 4096, NULL,
	 "requests that are taken of one user before it is the next one's turn"},
	{"fairness", "turn_bytes", T_SIZE, AT(turn_bytes), "256K", 4 * K, 64 * M, NULL,
	 "bytes that these requests may bring and get; large ones are paid for by later turns"},
	{"fairness", "weights", T_WEIGHTS, AT(weights), "", 0, 0, NULL,
	 "users (names or numbers) with larger turns and larger shares of the write path than others, who have 1, "
	 "as in \"alice:4 1000:2\""},
	{"access", "mode", T_MODE, AT(mode), "0660", 0, 0777, NULL, "of the socket: who may connect at all"},
	{"access", "uids", T_UIDS, AT(uids), "", 0, 0, NULL,
	 "users (names or numbers) that may read and write; empty: everybody who can connect"},
	{"access", "read_only_uids", T_UIDS, AT(read_only_uids), "", 0, 0, NULL, "users that may only read"},
	{"service", "spin_us", T_COUNT, AT(spin_us), "50", 0, 100000, NULL,
	 "microseconds to look for work before sleeping, and what clients are told to spin"},
	{"service", "slowdown_rate", T_SIZE, AT(slowdown_rate), "8M", 4 * K, 64 * G, NULL,
	 "bytes of writes taken per second while level 0 is past l0_slowdown"},
	{"service", "ring_entries", T_COUNT, AT(ring_entries), "128", RING_ENTRIES_MIN, RING_ENTRIES_MAX, NULL,
	 "requests in flight per session, when the client does not say; a power of two"},
	{"service", "arena", T_SIZE, AT(arena), "1M", ARENA_SIZE_MIN, 1 * G, NULL,
	 "payload memory per session, when the client does not say"},
	{"service", "exit_when_unused", T_COUNT, AT(exit_when_unused), "0", 0, 86400000, NULL,
	 "milliseconds without a client after which shaled ends by itself; 0: it stays"},
	{"io", "backend", T_CHOICE, AT(backend), "auto", 0, 0, backends,
	 "how to reach the disk; auto tries io_uring and says why when it takes posix"},
};

static uint64_t *value_at(const struct config *c, const struct key *k)
{
	return (uint64_t *)((char *)(uintptr_t)c + k->offset);
}

/* ---- values, from and to words ---- */

static bool parse_number(const char *s, int base, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false; /* no sign, no space: strtoull would take them */
	errno = 0;
	*out = strtoull(s, &end, base);
	return errno == 0 && *end == '\0';
}

static bool parse_size(const char *s, uint64_t *out)
{
	size_t len = strlen(s);
	uint64_t unit = 1, n;
	char digits[24];

	if (len && strchr("bB", s[len - 1]) && len > 1 && !isdigit((unsigned char)s[len - 2]))
		len--; /* "16MB", "16MiB" */
	if (len && s[len - 1] == 'i')
		len--;
	if (len) {
		switch (toupper((unsigned char)s[len - 1])) {
		case 'K':
			unit = K;
			break;
		case 'M':
			unit = M;
			break;
		case 'G':
			unit = G;
			break;
		}
		len -= unit > 1;
	}
	if (!len || len >= sizeof(digits))
		return false;
	memcpy(digits, s, len);
	digits[len] = '\0';
	return parse_number(digits, 10, &n) && !__builtin_mul_overflow(n, unit, out);
}

static bool parse_bool(const char *s, uint64_t *out)
{
	static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};

	for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
		if (!strcasecmp(s, yes[i]) || !strcasecmp(s, no[i])) {
			*out = !strcasecmp(s, yes[i]);
			return true;
		}
	return false;
}

/* A user's number, or the number of a user's name. @why gets what is wrong; room for 128. */
static bool parse_uid(const char *word, uid_t *out, char *why)
{
	struct passwd *pw;
	uint64_t uid;

	if (!parse_number(word, 10, &uid)) {
		pw = getpwnam(word);
		if (!pw) {
			snprintf(why, 128, "there is no user \"%.64s\"", word);
			return false;
		}
		uid = pw->pw_uid;
	}
	if (uid > UINT32_MAX - 1) {
		snprintf(why, 128, "a user's number is below 2^32 - 1");
		return false;
	}
	*out = (uid_t)uid;
	return true;
}

/* "user:weight …" */
static bool parse_weights(const char *s, struct config_weights *out, char *why)
{
	struct config_weights list = {0};
	char copy[1024], *save = NULL;

	if (strlen(s) >= sizeof(copy)) {
		strcpy(why, "the list is too long");
		return false;
	}
	strcpy(copy, s);
	for (char *word = strtok_r(copy, " ,\t", &save); word; word = strtok_r(NULL, " ,\t", &save)) {
		char *colon = strrchr(word, ':');
		uint64_t weight;

		if (list.count == CONFIG_UIDS) {
			snprintf(why, 128, "at most %d users", CONFIG_UIDS);
			return false;
		}
		if (!colon || !parse_number(colon + 1, 10, &weight) || weight < 1 || weight > CONFIG_WEIGHT_MAX)
			return false;
		*colon = '\0';
		if (!parse_uid(word, &list.uid[list.count], why))
			return false;
		list.weight[list.count++] = (unsigned)weight;
	}
	*out = list;
	return true;
}

/* @why gets what is wrong; room for 128. */
static bool parse_uids(const char *s, struct config_uids *out, char *why)
{
	struct config_uids list = {0};
	char copy[1024], *save = NULL;

	if (strlen(s) >= sizeof(copy)) {
		strcpy(why, "the list is too long");
		return false;
	}
	strcpy(copy, s);
	for (char *word = strtok_r(copy, " ,\t", &save); word; word = strtok_r(NULL, " ,\t", &save)) {
		if (list.count == CONFIG_UIDS) {
			snprintf(why, 128, "at most %d users", CONFIG_UIDS);
			return false;
		}
		if (!parse_uid(word, &list.uid[list.count++], why))
			return false;
	}
	*out = list;
	return true;
}

static bool parse_choice(const char *const *choices, const char *s, uint64_t *out)
{
	uint64_t v = 0;

	while (choices[v] && strcasecmp(s, choices[v]))
		v++;
	*out = v;
	return choices[v] != NULL;
}

static bool parse_levels(const char *const *choices, const char *s, uint64_t *out)
{
	char copy[128], *save = NULL;
	uint64_t all = 0, v;
	unsigned levels = 0;

	if (strlen(s) >= sizeof(copy))
		return false;
	strcpy(copy, s);
	for (char *word = strtok_r(copy, " ,\t", &save); word; word = strtok_r(NULL, " ,\t", &save)) {
		if (levels == LEVELS || !parse_choice(choices, word, &v))
			return false;
		all |= (v + 1) << (4 * levels++);
	}
	*out = all;
	return true;
}

static void print_size(char *buf, size_t cap, uint64_t v)
{
	if (v && v % G == 0)
		snprintf(buf, cap, "%lluG", (unsigned long long)(v / G));
	else if (v && v % M == 0)
		snprintf(buf, cap, "%lluM", (unsigned long long)(v / M));
	else if (v && v % K == 0)
		snprintf(buf, cap, "%lluK", (unsigned long long)(v / K));
	else
		snprintf(buf, cap, "%llu", (unsigned long long)v);
}

/* What @k allows, in words. */
static void print_allowed(char *buf, size_t cap, const struct key *k)
{
	char low[32], high[32];
	size_t used = 0;

	switch (k->type) {
	case T_SIZE:
		print_size(low, sizeof(low), k->min);
		print_size(high, sizeof(high), k->max);
		snprintf(buf, cap, "a size from %s to %s (suffixes K, M, G)", low, high);
		break;
	case T_COUNT:
		snprintf(buf, cap, "a number from %llu to %llu", (unsigned long long)k->min,
			 (unsigned long long)k->max);
		break;
	case T_BOOL:
		snprintf(buf, cap, "yes or no");
		break;
	case T_MODE:
		snprintf(buf, cap, "an octal mode from 0000 to 0777");
		break;
	case T_UIDS:
		snprintf(buf, cap, "user names or numbers, separated by spaces or commas");
		break;
	case T_WEIGHTS:
		snprintf(buf, cap, "users and weights from 1 to %d, as in \"1000:4\", separated by spaces or commas",
			 CONFIG_WEIGHT_MAX);
		break;
	case T_LEVELS:
		used = (size_t)snprintf(buf, cap, "up to %d, separated by commas, of ", LEVELS);
		/* fall through */
	case T_CHOICE:
		for (unsigned i = 0; k->choices[i] && used < cap; i++)
			used += (size_t)snprintf(buf + used, cap - used, "%s%s",
						 !i ? "" : (k->choices[i + 1] ? ", " : " or "), k->choices[i]);
		break;
	}
}

static bool parse_value(struct config *c, const struct key *k, const char *value, char *why)
{
	uint64_t v = 0;
	bool ok = false;

	switch (k->type) {
	case T_SIZE:
		ok = parse_size(value, &v) && v >= k->min && v <= k->max;
		break;
	case T_COUNT:
		ok = parse_number(value, 10, &v) && v >= k->min && v <= k->max;
		break;
	case T_MODE:
		ok = parse_number(value, 8, &v) && v <= k->max;
		break;
	case T_BOOL:
		ok = parse_bool(value, &v);
		break;
	case T_CHOICE:
		ok = parse_choice(k->choices, value, &v);
		break;
	case T_LEVELS:
		ok = parse_levels(k->choices, value, &v);
		break;
	case T_UIDS:
		return parse_uids(value, (struct config_uids *)value_at(c, k), why);
	case T_WEIGHTS:
		return parse_weights(value, (struct config_weights *)value_at(c, k), why);
	}
	if (ok)
		*value_at(c, k) = v;
	return ok;
}

static void print_value(const struct config *c, const struct key *k, char *buf, size_t cap)
{
	uint64_t v = k->type == T_UIDS || k->type == T_WEIGHTS ? 0 : *value_at(c, k);
	size_t used = 0;

	switch (k->type) {
	case T_SIZE:
		print_size(buf, cap, v);
		break;
	case T_COUNT:
		snprintf(buf, cap, "%llu", (unsigned long long)v);
		break;
	case T_MODE:
		snprintf(buf, cap, "%04llo", (unsigned long long)v);
		break;
	case T_BOOL:
		snprintf(buf, cap, "%s", v ? "yes" : "no");
		break;
	case T_CHOICE:
		snprintf(buf, cap, "%s", k->choices[v]);
		break;
	case T_LEVELS:
		*buf = '\0';
		for (; v && used < cap; v >>= 4)
			used += (size_t)snprintf(buf + used, cap - used, "%s%s", used ? "," : "",
						 k->choices[(v & 15) - 1]);
		break;
	case T_WEIGHTS: {
		const struct config_weights *list = (const struct config_weights *)value_at(c, k);

		*buf = '\0';
		for (unsigned i = 0; i < list->count && used < cap; i++)
			used += (size_t)snprintf(buf + used, cap - used, "%s%u:%u", i ? " " : "",
						 (unsigned)list->uid[i], list->weight[i]);
		break;
	}
	case T_UIDS: {
		const struct config_uids *list = (const struct config_uids *)value_at(c, k);

		*buf = '\0';
		for (unsigned i = 0; i < list->count && used < cap; i++)
			used += (size_t)snprintf(buf + used, cap - used, "%s%u", i ? " " : "", (unsigned)list->uid[i]);
		break;
	}
	}
}

/* ---- finding keys ---- */

/* Levenshtein's distance, for names up to 63 bytes. */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[64];

	if (la > 63 || lb > 63)
		return 1000;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned corner = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned up = row[j], best = corner + (a[i - 1] != b[j - 1]);

			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			corner = up;
			row[j] = best;
		}
	}
	return row[lb];
}

/* The key that was likely meant: the right name in another section, or the nearest spelling; NULL when none is near. */
static const struct key *nearest(const char *section, const char *name)
{
	const struct key *best = NULL;
	unsigned best_distance = 1000;

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		unsigned by_name = distance(name, keys[i].name), by_section = distance(section, keys[i].section);
		unsigned d = 2 * by_name + (by_section < 3 ? by_section : 3);

		if (by_name <= 1 + strlen(keys[i].name) / 3 && d < best_distance) {
			best = &keys[i];
			best_distance = d;
		}
	}
	return best;
}

/* @where: "file:line: " or "--set: ". */
static int assign(struct config *c, const char *where, const char *section, const char *name, const char *value,
		  struct err_info *err)
{
	const struct key *k = NULL;
	char allowed[256], why[128] = "";

	for (unsigned i = 0; i < ARRAY_SIZE(keys) && !k; i++)
		if (!strcmp(section, keys[i].section) && !strcmp(name, keys[i].name))
			k = &keys[i];
	if (!k) {
		k = nearest(section, name);
		if (k)
			return err_set(err, -SHALE_ECONFIG, "%sthere is no setting \"%s.%s\"; did you mean \"%s.%s\"?",
				       where, section, name, k->section, k->name);
		return err_set(err, -SHALE_ECONFIG,
			       "%sthere is no setting \"%s.%s\"; `shaled --explain-config` lists all of them", where,
			       section, name);
	}
	if (parse_value(c, k, value, why))
		return 0;
	print_allowed(allowed, sizeof(allowed), k);
	return err_set(err, -SHALE_ECONFIG, "%s%s.%s cannot be \"%.100s\": allowed is %s%s%s", where, section, name,
		       value, allowed, *why ? "; " : "", why);
}

/* ---- reading ---- */

struct reading {
	struct config *config;
	struct err_info *err;
	const char *path;
	FILE *file;
	char *line; /* getline's */
	size_t cap;
	unsigned number; /* of the last line handed to libinih */
	int rc;
};

/*
 * fgets for libinih, which neither counts lines for its handler nor tells a long line apart. Leading blanks go, because libinih
 * would take an indented setting for a continuation of the one before.
 */
static char *next_line(char *buf, int cap, void *stream)
{
	struct reading *r = stream;
	ssize_t n = getline(&r->line, &r->cap, r->file);
	const char *s = r->line;

	if (n < 0 || r->rc < 0)
		return NULL;
	r->number++;
	while (*s == ' ' || *s == '\t')
		s++;
	if (strlen(s) >= (size_t)cap) {
		r->rc = err_set(r->err, -SHALE_ECONFIG, "%s:%u: the line is longer than %d bytes", r->path, r->number,
				cap - 1);
		return NULL;
	}
	return strcpy(buf, s);
}

static int on_setting(void *context, const char *section, const char *name, const char *value)
{
	struct reading *r = context;
	char where[512];

	if (r->rc < 0)
		return 1; /* the first error is the one told */
	snprintf(where, sizeof(where), "%.480s:%u: ", r->path, r->number);
	r->rc = assign(r->config, where, section, name, value, r->err);
	return 1;
}

int config_read(struct config *c, const char *path, struct err_info *err)
{
	struct reading r = {.config = c, .err = err, .path = path};
	int bad;

	r.file = fopen(path, "re");
	if (!r.file) {
		int code = -errno;

		return err_set(err, code, "cannot read the configuration %s: %s", path, shale_strerror(code));
	}
	bad = ini_parse_stream(next_line, &r, on_setting, &r);
	if (r.rc == 0 && ferror(r.file))
		r.rc = err_set(err, -EIO, "cannot read the configuration %s", path);
	else if (r.rc == 0 && bad)
		r.rc = err_set(err, -SHALE_ECONFIG, "%s:%d: neither \"key = value\" nor \"[section]\"", path, bad);
	fclose(r.file);
	free(r.line);
	return r.rc;
}

int config_set(struct config *c, const char *assignment, struct err_info *err)
{
	const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
	char section[64], name[64];

	if (!dot || !equals || dot > equals || dot == assignment || dot + 1 == equals ||
	    (size_t)(dot - assignment) >= sizeof(section) || (size_t)(equals - dot - 1) >= sizeof(name))
		return err_set(err, -SHALE_ECONFIG,
			       "--set %.100s: it must look like section.key=value, as in engine.block_cache=256M",
			       assignment);
	snprintf(section, sizeof(section), "%.*s", (int)(dot - assignment), assignment);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - dot - 1), dot + 1);
	return assign(c, "--set: ", section, name, equals + 1, err);
}

int config_check(const struct config *c, struct err_info *err)
{
	if (!is_power_of_two(c->wal_ring))
		return err_set(err, -SHALE_ECONFIG, "wal.ring must be a power of two, as 8M, 16M or 32M are");
	if (!is_power_of_two(c->ring_entries))
		return err_set(err, -SHALE_ECONFIG,
			       "service.ring_entries must be a power of two, as 64, 128 or 256 are");
	if (c->turn_bytes / c->turn_requests < K)
		return err_set(err, -SHALE_ECONFIG,
			       "fairness.turn_bytes must be at least 1K for each of fairness.turn_requests: a request "
			       "costs more than its bytes");
	if (c->max_key > c->max_request / 2)
		return err_set(err, -SHALE_ECONFIG, "limits.max_key must be at most half of limits.max_request");
	if (c->l0_slowdown < c->l0_compaction || c->l0_stop < c->l0_slowdown)
		return err_set(err, -SHALE_ECONFIG,
			       "engine.l0_compaction <= engine.l0_slowdown <= engine.l0_stop must hold: writes would "
			       "wait for a compaction "
			       "that does not start");
	return 0;
}

/* ---- the rest ---- */

void config_default(struct config *c)
{
	char why[128];

	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		bool ok = parse_value(c, &keys[i], keys[i].standard, why);

		assert(ok);
		(void)ok;
	}
}

void config_write(const struct config *c, bool explain, FILE *out)
{
	const char *section = "", *comment = explain ? "#" : "";
	char value[1024], allowed[256];

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct key *k = &keys[i];

		if (strcmp(section, k->section)) {
			fprintf(out, "%s[%s]\n", i ? "\n" : "", k->section);
			section = k->section;
		}
		print_value(c, k, value, sizeof(value));
		if (explain) {
			print_allowed(allowed, sizeof(allowed), k);
			fprintf(out, "\n# %c%s.\n# Allowed: %s.\n", toupper((unsigned char)k->doc[0]), k->doc + 1,
				allowed);
		}
		fprintf(out, "%s%s =%s%s\n", comment, k->name, *value ? " " : "", value);
	}
}

unsigned config_weight(const struct config *c, uid_t uid)
{
	for (unsigned i = 0; i < c->weights.count; i++)
		if (c->weights.uid[i] == uid)
			return c->weights.weight[i];
	return 1;
}

unsigned config_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : (unsigned)n;
}

unsigned config_workers(const struct config *c)
{
	unsigned cores = config_cores();

	if (c->compaction_workers)
		return (unsigned)c->compaction_workers;
	return cores > 1 ? cores - 1 : 1;
}

void config_engine_options(const struct config *c, struct engine_options *out)
{
	struct engine_options o;

	engine_options_default(&o);
	o.write_buffer_bytes = c->write_buffer;
	o.max_immutables = (unsigned)c->max_immutables;
	o.wal_ring_bytes = c->wal_ring;
	o.block_cache_bytes = c->block_cache;
	o.max_open_tables = (unsigned)c->max_open_tables;
	o.table.block_bytes = c->block_size;
	o.table.bloom_bits_per_key = (unsigned)c->bloom_bits;
	o.table.compression = (enum compression)c->compression;
	o.compression_by_level = c->compression_per_level != 0;
	for (unsigned level = 0, named = 1; level < LEVELS; level++) {
		unsigned next = c->compression_per_level >> (4 * level) & 15;

		named = next ? next : named;
		o.level_compression[level] = (enum compression)(named - 1);
	}
	o.levels.max_file_bytes = c->max_file_size;
	o.levels.level1_bytes = c->level1_size;
	o.levels.level_multiplier = (unsigned)c->level_multiplier;
	o.levels.tombstone_percent = (unsigned)c->tombstone_percent;
	o.seek_compaction = c->seek_compaction;
	o.background_rate = c->background_rate;
	o.levels.l0_compaction_trigger = (unsigned)c->l0_compaction;
	o.levels.l0_gather_files = (unsigned)c->l0_gather;
	o.l0_slowdown_trigger = (unsigned)c->l0_slowdown;
	o.l0_stop_trigger = (unsigned)c->l0_stop;
	o.limits.max_key = c->max_key;
	o.limits.max_value = c->max_request;
	o.max_batch_bytes = c->max_request;
	o.create_if_missing = c->create_if_missing;
	o.paranoid = c->paranoid;
	o.best_effort = c->best_effort;
	*out = o;
}
