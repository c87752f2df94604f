/*
 * admin.c - requests about the database as a whole.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"

enum { PROPERTY_WANT = 16 << 10 };

int shale_ping(struct shale_db *db)
{
	const struct call call = {.what = "ping", .op = OP_NOP};
	struct answer answer;
	int rc = check_fork(db);

	return rc < 0 ? rc : call_run(db, &call, &answer);
}

int shale_flush(struct shale_db *db)
{
	const struct call call = {.what = "flush", .op = OP_FLUSH, .takes_long = true};
	struct answer answer;
	int rc = check_fork(db);

	return rc < 0 ? rc : call_run(db, &call, &answer);
}

/* The payload of OP_COMPACT and OP_SIZES: two length-prefixed keys, the lengths in @lengths. */
static int range_call(const struct shale_db *db, struct call *call, const void *start, size_t start_len,
		      const void *limit, size_t limit_len, unsigned char lengths[2][VARINT64_MAX])
{
	if (start_len > UINT32_MAX || limit_len > UINT32_MAX)
		return fail(db, -E2BIG, "%s: a key is longer than 4 GiB", call->what);
	if (!start)
		start_len = 0;
	if (!limit)
		limit_len = 0;
	call->part[0] = slice_of(lengths[0], (size_t)(varint32_put(lengths[0], (uint32_t)start_len) - lengths[0]));
	call->part[1] = slice_of(start, start_len);
	call->part[2] = slice_of(lengths[1], (size_t)(varint32_put(lengths[1], (uint32_t)limit_len) - lengths[1]));
	call->part[3] = slice_of(limit, limit_len);
	call->parts = 4;
	return 0;
}

int shale_compact_range(struct shale_db *db, const void *start, size_t start_len, const void *limit, size_t limit_len)
{
	return shale_compact(db, NULL, start, start_len, limit, limit_len);
}

int shale_compact(struct shale_db *db, const struct shale_compact_options *options, const void *start, size_t start_len,
		  const void *limit, size_t limit_len)
{
	unsigned char lengths[2][VARINT64_MAX];
	struct shale_compact_options o;
	struct call call = {.what = "compact", .op = OP_COMPACT, .takes_long = true};
	struct answer answer;
	int rc = check_fork(db);

	if (rc == 0)
		rc = options_copy(db, &o, sizeof(o), options);
	if (rc < 0)
		return rc;
	if (o.one_level && (o.level < 0 || o.level >= REGION_LEVELS))
		return fail(db, -EINVAL, "compact: there is no level %d; levels are 0 to %d", o.level,
			    REGION_LEVELS - 1);
	call.flags = o.no_wait ? SQE_NO_WAIT : 0;
	call.sequence = o.one_level ? (uint64_t)o.level + 1 : 0;
	call.deadline_us = o.deadline_us;
	call.watch = o.watch;
	call.watch_context = o.watch_context;
	if (rc == 0)
		rc = range_call(db, &call, start, start_len, limit, limit_len, lengths);
	return rc < 0 ? rc : call_run(db, &call, &answer);
}

int shale_approximate_size(struct shale_db *db, const void *start, size_t start_len, const void *limit,
			   size_t limit_len, uint64_t *bytes_out)
{
	unsigned char lengths[2][VARINT64_MAX];
	struct call call = {.what = "approximate size", .op = OP_SIZES, .out_want = sizeof(uint64_t)};
	struct answer answer;
	int rc = check_fork(db);

	if (rc == 0)
		rc = range_call(db, &call, start, start_len, limit, limit_len, lengths);
	if (rc == 0)
		rc = call_run(db, &call, &answer);
	if (rc != 0)
		return rc;
	if (answer.len != sizeof(uint64_t))
		return fail(db, -SHALE_ENOTSHALE, "approximate size: the daemon on %s answered %zu bytes instead of 8",
			    db->path, answer.len);
	*bytes_out = load_le64(answer.bytes);
	return 0;
}

int shale_property(struct shale_db *db, const char *name, char **text_out)
{
	const struct call call = {
		.what = "property",
		.op = OP_PROPERTY,
		.parts = 1,
		.part = {slice_str(name)},
		.out_want = PROPERTY_WANT,
	};
	struct answer answer;
	int rc = check_fork(db);
	char *text;

	if (rc == 0)
		rc = call_run(db, &call, &answer);
	if (rc != 0)
		return rc;
	text = malloc(answer.len + 1);
	if (!text)
		return fail(db, -ENOMEM, "property: no memory for %zu bytes of text", answer.len);
	memcpy(text, answer.bytes, answer.len);
	text[answer.len] = '\0';
	*text_out = text;
	return 0;
}
