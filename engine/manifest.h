/*
 * manifest.h - the MANIFEST's bytes: appending records, beginning a new one, switching CURRENT. Inside the version set only; every
 * call under manifest_lock (or before threads), none under the engine's lock: they wait for the disk.
 */
#ifndef SHALE_ENGINE_MANIFEST_H
#define SHALE_ENGINE_MANIFEST_H

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

#endif
