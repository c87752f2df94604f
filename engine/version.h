/*
 * version.h - a version: which tables make up the database at one moment. Immutable once installed.
 *
 * Level 0 files may overlap, newest (highest number) first in @files[0]; levels 1 to 6 are sorted by smallest key and disjoint.
 * References are counted under the engine's lock.
 */
#ifndef SHALE_ENGINE_VERSION_H
#define SHALE_ENGINE_VERSION_H

#include "engine/edit.h"
#include "engine/iter.h"
#include "engine/source.h"

struct version_set;

struct version {
	uint32_t refs; /* engine lock */
	struct version_set *set;
	struct version *next, *prev; /* all live versions */
	struct file_meta **files[LEVELS];
	size_t count[LEVELS];
	uint64_t bytes[LEVELS];
	uint64_t dead_bytes[LEVELS]; /* of dead entries, by the share that they have of their files */
	size_t dead_files[LEVELS]; /* files whose share of dead entries is tombstone_percent or more */
	double score[LEVELS]; /* filled when installed; [LEVELS-1] is always 0 */
};

/* First file of a sorted, disjoint level whose largest key >= @ikey; count when none. */
size_t version_find_file(const struct version *v, unsigned level, struct slice ikey);

/* True when a file of @level overlaps the user keys [smallest, largest]; NULL pointers are open ends. */
bool version_overlaps(const struct version *v, unsigned level, const struct slice *smallest, const struct slice *largest);

/*
 * Files of @level that overlap the user keys [begin, end] (NULL: open), in order, into a malloc'ed array. At level 0 the range grows until
 * it is closed under overlap. 0 or -ENOMEM.
 */
int version_overlapping(const struct version *v, unsigned level, const struct slice *begin, const struct slice *end,
			struct file_meta ***files_out, size_t *count_out);

/*
 * Newest entry of @user_key at or below @sequence in the tables. 0, *@value_out (pinned in @ctx) and *@entry_out (its sequence; may be NULL), SHALE_NOTFOUND
 * (absent or tombstone), READ_MISS, or a failure. *@charge_out (may be NULL): the first file probed in vain when more than one read a block, else NULL (seek compaction).
 */
int version_get(const struct version *v, struct read_ctx *ctx, struct slice user_key, uint64_t sequence, struct slice *value_out,
		uint64_t *entry_out, struct file_meta **charge_out);

/* Adds to @children (room for count[0] + LEVELS) one iterator per L0 file and one per deeper level that is not empty. 0, READ_MISS never; -ENOMEM. */
int version_iters(struct version *v, struct block_source *src, struct iter **children, unsigned *count_io);

/* One iterator over a run of sorted, disjoint files, opening tables as it goes. @files is borrowed while it lives. */
int level_iter_new(struct file_meta *const *files, size_t count, struct block_source *src, struct iter **out);

/* Approximate bytes before @ikey. Through @src for tables that are open; files of tables that are not count half. */
uint64_t version_offset_of(const struct version *v, struct slice ikey, struct table_cache *tables);

/* Invariants: sorted, disjoint, no file twice, keys valid. 0 or -SHALE_ECORRUPT with words. */
int version_check(const struct version *v, struct err_info *err);

/* Where version_check found what is wrong. Borrowed from the version. */
struct version_fault {
	const char *kind; /* a word that stays: "overlap", "twice", "level" */
	int level;        /* -1: several */
	const struct file_meta *a, *b; /* in their order; NULL: none */
};
int version_check_at(const struct version *v, struct version_fault *fault_out, struct err_info *err);

#endif
