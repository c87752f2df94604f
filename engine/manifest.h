/*
 * manifest.h - the MANIFEST's bytes: appending records, beginning a new one, switching CURRENT. Inside the version set only, but for the two that
 * read, which verify and repair use as well; every call under manifest_lock (or before threads), none under the engine's lock: they wait for the disk.
 */
#ifndef SHALE_ENGINE_MANIFEST_H
#define SHALE_ENGINE_MANIFEST_H

#include "engine/filename.h"
#include "engine/version_set.h"

/* How far a failure went. */
enum manifest_damage {
	MANIFEST_WHOLE,     /* the disk says what it said before: may be tried again */
	MANIFEST_UNTRUSTED, /* the disk says what it said before, but could not sync: nothing more is written to it */
	MANIFEST_UNKNOWN,   /* it may or may not hold the record */
};

/* Appends @record to vs->manifest and syncs it. 0 or a failure with words; *@damage_out is set on failure. */
int manifest_append(struct version_set *vs, struct io_queue *q, struct slice record, enum manifest_damage *damage_out,
		    struct err_info *err);

/*
 * Begins MANIFEST-@number with @records (the first a snapshot), makes CURRENT name it, and makes it vs->manifest; the old file is closed and removed.
 * Returns as manifest_append. The caller stores @number in vs->manifest_number.
 */
int manifest_begin(struct version_set *vs, struct io_queue *q, uint64_t number, const struct slice *records, unsigned count,
		   enum manifest_damage *damage_out, struct err_info *err);

/* The file that CURRENT names, and its number. 0; -ENOENT; -SHALE_ECORRUPT: it names none; all with words. */
int manifest_current(struct io_env *env, struct io_queue *q, char name[FILE_NAME_MAX], uint64_t *number_out,
		     struct err_info *err);

/*
 * What the records of MANIFEST @name add up to, as one edit (edit_fini): numbers, pointers, and the live tables as added files, in the order
 * of their numbers. The tables are not looked at. *@whole_out: bytes up to the end of the last whole record. Failures as version_set_recover.
 */
int manifest_sum(struct io_env *env, struct io_queue *q, const char *name, struct edit *sum_out, uint64_t *whole_out,
		 struct err_info *err);

#endif
