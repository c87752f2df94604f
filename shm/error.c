/*
 * error.c - words and names for every code that shale returns.
 */
#include "shm/error.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "shm/base.h"

struct code_words {
	int code; /* as returned: negative for failures */
	const char *name, *words;
};

#define CODE(sign, name, words)                                                                                        \
	{                                                                                                              \
		sign name, #name, words                                                                                \
	}

/* Codes of our own, and the two errnos whose usual words would say too little about what happened here. */
static const struct code_words known[] = {
	CODE(+, SHALE_NOTFOUND, "no such key"),
	CODE(+, SHALE_MISMATCH, "a condition of the write does not hold; nothing was applied"),
	CODE(-, SHALE_ECORRUPT, "corruption: bytes on disk fail their check"),
	CODE(-, SHALE_EUNKNOWN, "outcome unknown: the daemon went away while the write was in flight"),
	CODE(-, SHALE_EABI, "library and daemon do not speak the same protocol version"),
	CODE(-, SHALE_EOUSTED, "the snapshot is gone: its lease ended, or the daemon restarted"),
	CODE(-, SHALE_EFAILED, "the daemon stopped writing after an I/O error; it must be restarted"),
	CODE(-, SHALE_ECOMPARATOR, "the database was made with another comparator"),
	CODE(-, SHALE_ENOTSHALE, "what answers there is not shaled"),
	CODE(-, SHALE_EFORKED, "the handle was opened by the parent process; open one in the child"),
	CODE(-, SHALE_ELOCKED, "another process has this database open"),
	CODE(-, SHALE_ECONFIG, "the configuration has an unknown key or a bad value"),
	CODE(-, SHALE_EMISSING, "a file that the MANIFEST names is missing"),
	CODE(-, SHALE_ESESSION, "the daemon ended this session: its channel broke the protocol"),
	CODE(-, SHALE_ENODATABASE, "the directory holds no database"),
	CODE(-, SHALE_EKICKED, "an administrator ended this session; the next call opens a new one"),
	CODE(-, EPIPE, "the daemon is gone and did not come back in time"),
	CODE(-, E2BIG, "larger than the daemon's limit for keys or requests"),
};

static const struct code_words *find(int code)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].code == code)
			return &known[i];
	}
	return NULL;
}

__attribute__((visibility("default"))) const char *shale_strerror(int code)
{
	const struct code_words *k = find(code);
	const char *words;

	if (k)
		return k->words;
	if (code == 0)
		return "done";
	words = code < 0 && code != INT_MIN ? strerrordesc_np(-code) : NULL;
	return words ? words : "a code that this version of shale does not know";
}

const char *error_name(int code)
{
	const struct code_words *k = find(code);
	const char *name;

	if (k)
		return k->name;
	if (code == 0)
		return "OK";
	name = code < 0 && code != INT_MIN ? strerrorname_np(-code) : NULL;
	return name ? name : "UNKNOWN";
}

int err_set(struct err_info *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return code;
}

void err_prefix(struct err_info *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list args;
	size_t n;
	int rc;

	if (!err)
		return;
	memcpy(old, err->text, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	va_start(args, fmt);
	rc = vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	n = rc < 0 ? 0 : min_size((size_t)rc, sizeof(err->text) - 1);
	snprintf(err->text + n, sizeof(err->text) - n, "%s", old);
}
