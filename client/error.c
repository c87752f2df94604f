/*
 * error.c - the story of the last failure.
 *
 * Each thread keeps two: of its last failing call, with the database it was made on, and of its last failing open. A number
 * travels in every return value; the words are formatted only when something failed, so the usual call pays nothing.
 */
#include <stdio.h>
#include <string.h>

#include "client/internal.h"

struct story {
	uint64_t db_id;
	struct err_info info;
};

static _Thread_local struct story last_call;
static _Thread_local struct err_info last_open;

static struct err_info *story_of(const struct shale_db *db)
{
	if (!db)
		return &last_open;
	last_call.db_id = db->id;
	return &last_call.info;
}

int fail(const struct shale_db *db, int code, const char *fmt, ...)
{
	struct err_info *info = story_of(db);
	va_list args;

	info->code = code;
	va_start(args, fmt);
	vsnprintf(info->text, sizeof(info->text), fmt, args);
	va_end(args);
	return code;
}

int fail_info(const struct shale_db *db, const struct err_info *err)
{
	*story_of(db) = *err;
	return err->code;
}

/* What to do about an answer of the daemon; "" where the words of the code say all. */
static const char *next_step(int code)
{
	switch (code) {
	case -EAGAIN:
		return "; the engine is behind with flushes or compactions: try again later, or let the call wait "
		       "(no_slowdown = 0)";
	case -ENOSPC:
		return "; free space on the database's disk: writing resumes by itself (see `shalectl status`)";
	case -EROFS:
		return "; this session may only read: see the access rules in shaled.conf";
	case -E2BIG:
		return "; see limits.max_key, limits.max_request and limits.max_batch_records in shaled.conf";
	case -ETIMEDOUT:
		return "; the deadline passed in the daemon";
	case -SHALE_EFAILED:
		return "; look into shaled's log for the first I/O error, mend the disk, restart shaled";
	case -SHALE_EOUSTED:
		return "; take a new snapshot and read again";
	case -SHALE_ECORRUPT:
	case -SHALE_EMISSING:
		return "; shaled's log names the file; run `shalectl status`";
	default:
		return "";
	}
}

int fail_answer(struct shale_db *db, const char *what, int code)
{
	return fail(db, code, "%s: the daemon on %s answered %s: %s%s", what, db->path, error_name(code),
		    shale_strerror(code), next_step(code));
}

const char *shale_last_error(const struct shale_db *db)
{
	if (!db)
		return last_open.text;
	return last_call.db_id == db->id ? last_call.info.text : "";
}
