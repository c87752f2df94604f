/*
 * edit.h - version edits: the records of a MANIFEST. Spec: engine/FORMAT.md. Source: LevelDB 1.23, db/version_edit.cc.
 */
#ifndef SHALE_ENGINE_EDIT_H
#define SHALE_ENGINE_EDIT_H

#include <stdatomic.h>

#include "engine/ikey.h"

struct err_info;

enum { LEVELS = 7 };
#define COMPARATOR_NAME "leveldb.BytewiseComparator"

/*
 * One SSTable as versions know it. Reference-counted under the engine's lock; shared by all versions that contain it. When the last
 * reference goes, the file is obsolete.
 */
struct file_meta {
	uint32_t refs;        /* engine lock */
	bool compacting;      /* engine lock: an input of a running job */
	uint64_t number;
	uint64_t size;        /* bytes */
	struct key_buf smallest, largest; /* internal keys */
	/* Seeks left before it is worth compacting. Relaxed: counted down by the service thread, set anew under the lock. */
	_Atomic int32_t allowed_seeks;
	/*
	 * Engine lock. Of its entries, how many in a hundred are dead: deletions, and versions that a newer one hides; 0 when nobody counted. They
	 * may all go once no snapshot is older than dead_sequence.
	 */
	bool counted; /* what follows is known; the MANIFEST does not tell it, the table does (reclaim.c) */
	unsigned dead_percent;
	uint64_t dead_sequence;
};

struct edit_file {
	unsigned level;
	struct file_meta *meta; /* added files: a reference of the edit's; NULL once version_set_apply made it the version's */
	uint64_t number;        /* added and deleted files */
};

struct edit_pointer {
	unsigned level;
	struct key_buf key;
};

struct edit {
	bool has_comparator, has_log_number, has_prev_log_number, has_next_file, has_last_sequence;
	char comparator[64];
	uint64_t log_number, prev_log_number, next_file, last_sequence;
	struct edit_pointer *pointers;
	struct edit_file *deleted, *added;
	size_t pointer_count, deleted_count, added_count;
};

struct file_meta *file_meta_new(uint64_t number, uint64_t size, struct slice smallest, struct slice largest); /* refs 1; NULL: no memory */
void file_meta_allow_seeks(struct file_meta *m); /* as many as a new file has */
void file_meta_free(struct file_meta *m); /* NULL is fine; regardless of refs */
/*
 * Gives up one reference and frees at the last; NULL is fine. For metas that no version holds yet: a maker's own reference after
 * edit_add_file(). Once a version may hold it, call under the engine's lock and before the version lets go (else nobody calls obsolete()).
 */
void file_meta_unref(struct file_meta *m);

void edit_init(struct edit *e);
void edit_fini(struct edit *e); /* frees metas that nobody else refers to (refs drops to 0) */

/*
 * 0 or -ENOMEM. edit_add_file takes one reference of its own. A table that moves to another level (deleted there, added here) keeps its
 * file_meta: were it given a second one, the end of the first would make a live file obsolete.
 */
int edit_add_file(struct edit *e, unsigned level, struct file_meta *meta);
int edit_delete_file(struct edit *e, unsigned level, uint64_t number);
int edit_set_pointer(struct edit *e, unsigned level, struct slice ikey);

/* Encodes into malloc'ed memory. 0 or -ENOMEM. */
int edit_encode(const struct edit *e, unsigned char **data_out, size_t *size_out);

/* Decodes a record; every field checked. @out is initialised by the call and must be fini'ed after success. 0, -SHALE_ECORRUPT with words, -ENOMEM. */
int edit_decode(struct slice record, struct edit *out, struct err_info *err);

#endif
