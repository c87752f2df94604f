/*
 * config_keys.h - the table of settings and their values in words, for the config*.c files alone.
 */
#ifndef SHALE_DAEMON_CONFIG_KEYS_H
#define SHALE_DAEMON_CONFIG_KEYS_H

#include "daemon/config.h"

enum config_type { T_SIZE, T_COUNT, T_BOOL, T_CHOICE, T_LEVELS, T_MODE, T_UIDS, T_WEIGHTS };

/* When a changed setting takes effect: at once on a reload (SIGHUP), or at the next start. */
enum config_effect { AT_ONCE, AT_START };

/* Room for any value in words. */
enum { CONFIG_VALUE = 1024 };

struct config_key {
	const char *section, *name;
	enum config_type type;
	enum config_effect effect;
	size_t offset;
	const char *standard; /* the default, as one would write it */
	uint64_t min, max;
	const char *const *choices; /* NULL-terminated; the value is the index */
	const char *doc;
};
extern const struct config_key config_keys[CONFIG_KEYS];

/* NULL: there is none of that name. */
const struct config_key *config_key_find(const char *section, const char *name);

/* The key that was likely meant: the right name in another section, or the nearest spelling; NULL when none is near. */
const struct config_key *config_key_nearest(const char *section, const char *name);

/* False: @value is not allowed, and *@c is as it was. @why may get what is wrong; room for 128. */
bool config_value_parse(struct config *c, const struct config_key *k, const char *value, char *why);

void config_value_print(const struct config *c, const struct config_key *k, char *buf, size_t cap);

bool config_value_equal(const struct config *a, const struct config *b, const struct config_key *k);
void config_value_copy(struct config *to, const struct config *from, const struct config_key *k);

/* What @k allows, in words. */
void config_value_allowed(char *buf, size_t cap, const struct config_key *k);

#endif
