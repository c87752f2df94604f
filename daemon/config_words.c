/* Values of settings: from words and to words, by the table in config_keys.c. (Numbers and lists of users: config_value.c.) */
#include "daemon/config_keys.h"
#include "daemon/config_value.h"

#include <ctype.h>
#include <stdlib.h>

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)

static uint64_t *value_at(const struct config *c, const struct config_key *k)
{
	return (uint64_t *)((char *)(uintptr_t)c + k->offset);
}

/* ---- values, from and to words ---- */

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

void config_value_allowed(char *buf, size_t cap, const struct config_key *k)
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

bool config_value_parse(struct config *c, const struct config_key *k, const char *value, char *why)
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

void config_value_print(const struct config *c, const struct config_key *k, char *buf, size_t cap)
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
	case T_WEIGHTS:
		print_weights((const struct config_weights *)value_at(c, k), buf, cap);
		break;
	case T_UIDS:
		print_uids((const struct config_uids *)value_at(c, k), buf, cap);
		break;
	}
}

/* ---- whole values ---- */

static size_t value_size(const struct config_key *k)
{
	return k->type == T_UIDS      ? sizeof(struct config_uids)
	       : k->type == T_WEIGHTS ? sizeof(struct config_weights)
				      : sizeof(uint64_t);
}

bool config_value_equal(const struct config *a, const struct config *b, const struct config_key *k)
{
	return !memcmp(value_at(a, k), value_at(b, k), value_size(k)); /* lists are zero behind their ends */
}

void config_value_copy(struct config *to, const struct config *from, const struct config_key *k)
{
	memcpy(value_at(to, k), value_at(from, k), value_size(k));
}
