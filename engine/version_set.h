/*
 * version_set.h - the current version, its history, and the MANIFEST that makes changes durable.
 *
 * Locking: fields below are guarded by the engine's lock (*lock), except where told. version_set_apply is called WITHOUT the lock,
 * by any worker (manifest_lock, taken inside, makes it one at a time), so that nobody waits on `lock` for the disk:
 *	1. take manifest_lock          2. under lock: build the next version, encode the edit
 *	3. append to MANIFEST, sync    4. under lock: install; drop the old current
 *
 * Failures: space for the MANIFEST is reserved before it is written, so a full disk (-ENOSPC) is noticed while the file is still whole,
 * changes nothing, and heals. A failed append or sync, or a failure after CURRENT was switched, poisons the set (failed != 0): what the disk
 * holds is no longer known, so nothing may follow it until the directory was read again. A new MANIFEST that cannot be finished before
 * the switch is removed; the old one stays good.
 */
#ifndef SHALE_ENGINE_VERSION_SET_H
#define SHALE_ENGINE_VERSION_SET_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/version.h"

struct err_info;

struct version_set_options {
	unsigned l0_compaction_trigger; /* files: 4 */
	unsigned l0_gather_files;       /* so many at most while level 0 holds little beside level 1 (level0_due): 6; 0: LevelDB's rules */
	uint64_t l0_file_bytes;         /* about the size of a flushed table, for level_target; 0: not known, LevelDB's targets */
	uint64_t level1_bytes;          /* target of level 1: 10 MiB; × level_multiplier per level */
	unsigned level_multiplier;      /* 10 */
	uint64_t max_file_bytes;        /* 2 MiB */
	uint64_t max_manifest_bytes;    /* a new MANIFEST is begun past this: 64 MiB */
	unsigned tombstone_percent;     /* share of dead entries from which on a file is compacted for them: 50; 0: never */
};

struct version_set {
	struct io_env *env;
	pthread_mutex_t *lock; /* the engine's; borrowed */
	struct version_set_options options;

	struct version *current;
	struct version versions;          /* list head of all live ones */
	struct key_buf compact_pointer[LEVELS];
	_Atomic uint64_t next_file;       /* any thread, fetch_add */
	_Atomic uint64_t last_sequence;   /* written by the service thread (release); read by workers (acquire) */
	uint64_t log_number;              /* logs below are no longer needed */
	uint64_t manifest_number;
	/*
	 * At or above every sequence in a table, and below all that are in logs only: what records say is the last sequence. So recovery knows
	 * what the oldest log must begin with. UINT64_MAX: not kept; records say last_sequence.
	 */
	uint64_t tables_sequence;
	int failed;                       /* sticky: 0 or a negative code */
	bool best_effort;                 /* set before recover: live tables that are missing or of the wrong size do not fail it */

	pthread_mutex_t manifest_lock;    /* one writer of the MANIFEST at a time; taken before *lock */
	struct io_file *manifest;         /* manifest_lock; NULL: the next apply begins a new one */
	uint64_t manifest_offset;         /* manifest_lock: where the next record goes */
	uint64_t manifest_reserved;       /* manifest_lock: space is reserved up to here; UINT64_MAX: the file system cannot */
	uint64_t manifest_begin_bytes;    /* manifest_lock: size when it was begun, so that a huge snapshot does not roll over at once */

	/* Called under *lock when the last reference to a file went: it may be deleted. Takes @meta. */
	void (*obsolete)(void *context, struct file_meta *meta);
	void *context;
};

/* 0 or -ENOMEM. Until create or recover, current is an empty version. */
int version_set_init(struct version_set *vs, struct io_env *env, pthread_mutex_t *lock, const struct version_set_options *o,
		     void (*obsolete)(void *context, struct file_meta *meta), void *context);
/* Frees all versions and metas without calling obsolete(); nobody else uses the set any more. NULL and a zeroed set are fine. */
void version_set_fini(struct version_set *vs);

/*
 * A new, empty database: MANIFEST-000001, CURRENT, all synced. 0 or a negative code with words. This and version_set_recover are for
 * the open: before any other thread knows the set, without the lock.
 */
int version_set_create(struct version_set *vs, struct io_queue *q, struct err_info *err);

/*
 * Reads CURRENT and the MANIFEST it names. 0; -ENOENT (no CURRENT: no database here); -SHALE_ECORRUPT, -SHALE_ECOMPARATOR, -SHALE_EMISSING, with
 * words that name the file, the record, the likely cause and the next step. *@next_file, log_number and last_sequence are set.
 */
int version_set_recover(struct version_set *vs, struct io_queue *q, struct err_info *err);

/*
 * Makes @edit (next_file, last_sequence and a missing log_number filled in here) durable and current. A new MANIFEST is begun when none
 * is open or it is large. On success the references of added files are the version's (added[].meta becomes NULL; the numbers stay), so that
 * edit_fini needs no lock. Returns 0; -ENOSPC (nothing changed; may be tried again); -SHALE_EFAILED (poisoned before); -SHALE_ECORRUPT
 * (the edit does not fit the current version: nothing changed); another failure: poisoned if vs->failed says so. With words.
 */
int version_set_apply(struct version_set *vs, struct edit *edit, struct io_queue *q, struct err_info *err);

static inline uint64_t version_set_new_number(struct version_set *vs)
{
	return atomic_fetch_add_explicit(&vs->next_file, 1, memory_order_relaxed);
}

/* A file @number is in use on disk: numbers given out from now on are higher. */
void version_set_number_used(struct version_set *vs, uint64_t number);

/* Under the lock. Unref may call obsolete(). */
struct version *version_ref(struct version *v);
void version_unref(struct version *v);

/* Target size of a level, bytes. */
uint64_t level_target(const struct version_set_options *o, unsigned level);

/* Files from which on level 0 of @v is compacted. */
unsigned level0_due(const struct version *v);

/* Under the lock: true when @number is referenced by a live version. For sweeping the directory at open. */
bool version_set_is_live(const struct version_set *vs, uint64_t number);

#endif
