/*
 * read.c - one key: memtable, immutable memtables, tables; the newest entry at or below the sequence wins.
 *
 * Nothing here does I/O: version_get asks the block source and may answer READ_MISS, whereupon the caller fetches and asks again.
 */
#include "engine/engine_internal.h"

int engine_get_entry(struct view *v, struct read_ctx *ctx, uint64_t sequence, struct slice key, struct slice *value_out,
		     uint64_t *entry_out)
{
	struct file_meta *charge = NULL;
	int rc = memtable_get(v->mem, key, sequence, value_out, entry_out);

	for (unsigned i = 0; rc == MEMTABLE_ABSENT && i < v->immutable_count; i++)
		rc = memtable_get(v->immutables[i], key, sequence, value_out, entry_out);
	if (rc != MEMTABLE_ABSENT)
		return rc;
	rc = version_get(v->version, ctx, key, sequence, value_out, entry_out, &charge);
	if (unlikely(charge) && v->engine->options.seek_compaction)
		seek_charge(v->engine, charge);
	return rc;
}

int engine_get(struct view *v, struct read_ctx *ctx, uint64_t sequence, struct slice key, struct slice *value_out)
{
	return engine_get_entry(v, ctx, sequence, key, value_out, NULL);
}
