/*
 * compact_pick.h - what to compact next, and why. Decisions only; no I/O. Under the engine's lock.
 *
 * LevelDB's rules (shared by name in engine/README.md), and beyond them: files that a running job reads are never picked again, and
 * the key range that a running job will write counts as overlap at its output level (the hazard that LevelDB has: a flush pushed into the
 * gap of a running compaction makes Get miss keys).
 */
#ifndef SHALE_ENGINE_COMPACT_PICK_H
#define SHALE_ENGINE_COMPACT_PICK_H

#include "engine/version_set.h"

enum compaction_reason {
	REASON_FLUSH,  /* a full memtable */
	REASON_MANUAL, /* somebody asked */
	REASON_SIZE,   /* a level is over its target */
	REASON_SEEK,   /* a file was probed in vain too often */
	REASON_TOMBSTONES, /* a file holds mostly what nobody will read: deletions, and versions that newer ones hide */
	REASON_COUNT
};

const char *compaction_reason_name(enum compaction_reason r);

/* One compaction of @level into @level + 1, or (a rewrite) into @level itself, without inputs[1]. */
struct compaction {
	enum compaction_reason reason;
	unsigned level;            /* inputs[0] */
	unsigned output_level;     /* inputs[1] and the outputs */
	struct version *version;   /* the inputs are of this one; a reference */
	struct file_meta **inputs[2];
	size_t input_count[2];
	struct file_meta **grandparents; /* of output_level + 1, overlapping all inputs */
	size_t grandparent_count;
	struct key_buf smallest, largest; /* user keys: the range of all inputs, and so of all outputs */
	struct compaction *next;   /* list of running ones */
	bool started;              /* in that list, inputs marked */
	bool set_aside;            /* it failed to read, and is in that list to keep others off its range: it will not end by itself */
	_Atomic bool cancelled;    /* nobody wants it any more: the merge ends soon, and leaves all as it was. Relaxed: it carries nothing else */
	struct key_buf pointer;    /* internal key: where compact_pointer[level] moved to; belongs into the edit (edit_set_pointer) */
	bool trivial;              /* one file, nothing to merge with: move it */
	struct key_buf manual_end; /* manual: largest internal key of inputs[0]: where the next piece begins; empty when the range is done */
};

/* What runs now: the picker's memory of it. */
struct running {
	struct compaction *head;
};

/* The next size-triggered compaction that conflicts with nothing that runs, or NULL. Moves compact_pointer[level] at once. -ENOMEM counts as none. */
struct compaction *compact_pick_size(struct version_set *vs, const struct running *running);

/*
 * One that begins with @first of @level, for a @reason of the file's own (REASON_SEEK, REASON_TOMBSTONES), below the last level. NULL: it conflicts with what
 * runs, or -ENOMEM.
 */
struct compaction *compact_pick_file(struct version_set *vs, const struct running *running, unsigned level, struct file_meta *first,
				     enum compaction_reason reason);

/*
 * One that rewrites the @count files of @level from index @first in place; the caller sees to it that no user key goes on in the next. 0 and *@out,
 * -EAGAIN when it must wait for a running job, -ENOMEM.
 */
int compact_pick_rewrite(struct version_set *vs, const struct running *running, unsigned level, size_t first, size_t count,
			 enum compaction_reason reason, struct compaction **out);

/* Whether any level's score asks for one (which may have to wait for running ones). */
bool compact_needed(const struct version_set *vs);

/*
 * One piece of a manual compaction of @level over user keys [begin, end] (NULL: open). Returns 0 and *@out (NULL: nothing of the range at that level),
 * -EAGAIN when it must wait for a running job, -ENOMEM.
 */
int compact_pick_manual(struct version_set *vs, const struct running *running, unsigned level, const struct slice *begin,
			const struct slice *end, struct compaction **out);

/*
 * Marks the inputs and adds it to @running; and the reverse, also freeing it (NULL, or one that was never started, is fine). Under the
 * lock. A flush enters itself, too, zeroed but for reason, level and output_level (both flush_pick_level's answer), version, smallest and largest,
 * before the lock is let go after picking, so that no compaction is picked across the place where its table is about to appear.
 */
void compaction_start(struct running *running, struct compaction *c);
void compaction_end(struct running *running, struct compaction *c);

/*
 * Level for a flushed memtable with user keys [smallest, largest]: 0 to 2 as LevelDB's PickLevelForMemTableOutput, in-flight outputs counted.
 * Under the lock, at install time (version may have moved on since the flush began).
 */
unsigned flush_pick_level(const struct version_set *vs, const struct running *running, struct slice smallest, struct slice largest);

/* ---- questions that the merge asks as it goes (no lock: the compaction's version is pinned) ---- */

struct compaction_cursor {
	const struct compaction *c;
	size_t grandparent;       /* index */
	bool seen_key;
	uint64_t overlapped;      /* grandparent bytes under the current output */
	size_t level_at[LEVELS];  /* for compaction_is_base_level: cursors only move forward */
};

void compaction_cursor_init(struct compaction_cursor *cur, const struct compaction *c);
/* Asked for each key in order. @output_bytes: of the output under way, 0 when there is none. True: it ends before @ikey. */
bool compaction_stop_before(struct compaction_cursor *cur, struct slice ikey, uint64_t max_file_bytes, uint64_t output_bytes);
bool compaction_is_base_level(struct compaction_cursor *cur, struct slice user_key);

#endif
