#include "engine/filename.h"

#include <inttypes.h>
#include <stdio.h>

/* Files that carry their number before a suffix. */
static const struct {
	const char *suffix;
	enum file_type type;
} numbered[] = {
	{".log", FILE_LOG},
	{".ldb", FILE_TABLE},
	{".sst", FILE_SST},
	{".dbtmp", FILE_TEMP},
};

/* Files of a fixed name; of two names for one type the first is the one that is made. */
static const struct {
	const char *name;
	enum file_type type;
} fixed[] = {
	{"CURRENT", FILE_CURRENT},
	{"LOCK", FILE_LOCK},
	{"LOG", FILE_INFO_LOG},
	{"LOG.old", FILE_INFO_LOG},
};

static const char manifest_prefix[] = "MANIFEST-";

const char *file_name(char buf[FILE_NAME_MAX], enum file_type type, uint64_t number)
{
	buf[0] = '\0';
	if (type == FILE_MANIFEST)
		snprintf(buf, FILE_NAME_MAX, "%s%06" PRIu64, manifest_prefix, number);
	for (size_t i = 0; i < ARRAY_SIZE(numbered); i++)
		if (numbered[i].type == type)
			snprintf(buf, FILE_NAME_MAX, "%06" PRIu64 "%s", number, numbered[i].suffix);
	for (size_t i = 0; i < ARRAY_SIZE(fixed) && !buf[0]; i++)
		if (fixed[i].type == type)
			snprintf(buf, FILE_NAME_MAX, "%s", fixed[i].name);
	assert(buf[0]);
	return buf;
}

/* Reads a decimal number of at least one digit; NULL when there is none or it does not fit 64 bits. */
static const char *parse_number(const char *s, uint64_t *number_out)
{
	uint64_t v = 0;

	if (*s < '0' || *s > '9')
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		unsigned digit = (unsigned)(*s - '0');

		if (v > (UINT64_MAX - digit) / 10)
			return NULL;
		v = v * 10 + digit;
	}
	*number_out = v;
	return s;
}

bool file_parse(const char *name, enum file_type *type_out, uint64_t *number_out)
{
	uint64_t number = 0;
	const char *rest;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		if (!strcmp(name, fixed[i].name)) {
			*type_out = fixed[i].type;
			*number_out = 0;
			return true;
		}
	}
	if (!strncmp(name, manifest_prefix, sizeof(manifest_prefix) - 1)) {
		rest = parse_number(name + sizeof(manifest_prefix) - 1, &number);
		if (!rest || *rest)
			return false;
		*type_out = FILE_MANIFEST;
		*number_out = number;
		return true;
	}
	rest = parse_number(name, &number);
	for (size_t i = 0; rest && i < ARRAY_SIZE(numbered); i++) {
		if (!strcmp(rest, numbered[i].suffix)) {
			*type_out = numbered[i].type;
			*number_out = number;
			return true;
		}
	}
	return false;
}
