/*
 * version_builder.h - how versions come and go: inside the version set only.
 *
 * A version's files of one level are a run: an immutable, reference-counted array that versions share as long as the level does not
 * change, so that installing the result of a flush costs nothing for the thousands of files below. Runs hold the references to
 * file_metas. Everything here is under the engine's lock.
 */
#ifndef SHALE_ENGINE_VERSION_BUILDER_H
#define SHALE_ENGINE_VERSION_BUILDER_H

#include "engine/version_set.h"

/* A version without files, with one reference, in no list. NULL: no memory. */
struct version *version_new_empty(struct version_set *vs);

/*
 * @base with @edit applied: one reference, in no list. 0; -ENOMEM; -SHALE_ECORRUPT with words when the edit does not fit: it deletes
 * a file that is not there, or adds one that is there or overlaps another of its level.
 */
int version_build(const struct version *base, const struct edit *edit, struct version **out, struct err_info *err);

/* Frees a version that is in no list, whatever its references. NULL is fine. */
void version_destroy(struct version *v);

/* Makes @next (its one reference is taken) current, and drops the old one. */
void version_install(struct version_set *vs, struct version *next);

/* Fills v->score[] from its counts and bytes. */
void version_score(struct version *v);

/* Under the lock: counts dead_files anew, since what is known of files has changed. */
void version_count_dead(struct version *v);

#endif
