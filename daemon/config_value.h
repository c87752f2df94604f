/* config_value.h - numbers and lists of users, from and to words, for config.c. */
#ifndef SHALE_DAEMON_CONFIG_VALUE_H
#define SHALE_DAEMON_CONFIG_VALUE_H

#include "daemon/config.h"

/* A whole number without sign or space. */
bool parse_number(const char *s, int base, uint64_t *out);

/* Users, by name or number. @why gets what is wrong, if it is more than the form; room for 128. */
bool parse_uids(const char *s, struct config_uids *out, char *why);
void print_uids(const struct config_uids *list, char *buf, size_t cap);

/* "user:weight …" */
bool parse_weights(const char *s, struct config_weights *out, char *why);
void print_weights(const struct config_weights *list, char *buf, size_t cap);

#endif
