#include "daemon/config_value.h"

#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>

bool parse_number(const char *s, int base, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false; /* no sign, no space: strtoull would take them */
	errno = 0;
	*out = strtoull(s, &end, base);
	return errno == 0 && *end == '\0';
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

bool parse_weights(const char *s, struct config_weights *out, char *why)
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

bool parse_uids(const char *s, struct config_uids *out, char *why)
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

void print_uids(const struct config_uids *list, char *buf, size_t cap)
{
	size_t used = 0;

	*buf = '\0';
	for (unsigned i = 0; i < list->count && used < cap; i++)
		used += (size_t)snprintf(buf + used, cap - used, "%s%u", i ? " " : "", (unsigned)list->uid[i]);
}

void print_weights(const struct config_weights *list, char *buf, size_t cap)
{
	size_t used = 0;

	*buf = '\0';
	for (unsigned i = 0; i < list->count && used < cap; i++)
		used += (size_t)snprintf(buf + used, cap - used, "%s%u:%u", i ? " " : "", (unsigned)list->uid[i],
					 list->weight[i]);
}
