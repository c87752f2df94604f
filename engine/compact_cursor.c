#include "engine/compact_pick.h"

enum { GRANDPARENT_FACTOR = 10, ALIGN_PART = 2 };

void compaction_cursor_init(struct compaction_cursor *cur, const struct compaction *c)
{
	*cur = (struct compaction_cursor){.c = c};
}

/*
 * True when the output under way must end before @ikey:
 *
 *	because what it spans of the level below its own has become too much: the compaction of that one output into that level would otherwise
 *	be very large (LevelDB's rule);
 *
 *	or because it is half full, and a table of that level ends here. A table that ends where one below it ends will be merged with that one and not
 *	with the next as well. Without this each table pays for about one more of the level below than its keys need: a fifth of all that is
 *	written under random overwrites.
 */
bool compaction_stop_before(struct compaction_cursor *cur, struct slice ikey, uint64_t max_file_bytes,
			    uint64_t output_bytes)
{
	const struct compaction *c = cur->c;
	bool crossed = false;

	while (cur->grandparent < c->grandparent_count &&
	       ikey_compare(ikey, key_buf_slice(&c->grandparents[cur->grandparent]->largest)) > 0) {
		/* Those that end before the first key lie under no output. */
		if (cur->seen_key)
			cur->overlapped += c->grandparents[cur->grandparent]->size;
		cur->grandparent++;
		crossed = true;
	}
	cur->seen_key = true;
	if (cur->overlapped <= GRANDPARENT_FACTOR * max_file_bytes &&
	    !(crossed && output_bytes >= max_file_bytes / ALIGN_PART))
		return false;
	cur->overlapped = 0;
	return true;
}

/*
 * True when no level below the output can hold @user_key, so that a tombstone has nothing left to hide there. Keys are asked in ascending
 * order. The compaction's own version is the right one to ask: entries below come only from levels above, and what passes through these
 * levels meanwhile in this range would be a conflicting job.
 */
bool compaction_is_base_level(struct compaction_cursor *cur, struct slice user_key)
{
	const struct version *v = cur->c->version;

	for (unsigned level = cur->c->output_level + 1; level < LEVELS; level++) {
		size_t *at = &cur->level_at[level];

		while (*at < v->count[level] &&
		       slice_compare(user_key, ikey_user(key_buf_slice(&v->files[level][*at]->largest))) > 0)
			(*at)++;
		if (*at < v->count[level] &&
		    slice_compare(user_key, ikey_user(key_buf_slice(&v->files[level][*at]->smallest))) >= 0)
			return false;
	}
	return true;
}
