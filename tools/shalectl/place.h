/* place.h - where a verb puts what it makes: a directory that appears whole or not at all. */
#ifndef SHALE_SHALECTL_PLACE_H
#define SHALE_SHALECTL_PLACE_H

#include <limits.h>

#include "engine/backup_dir.h"
#include "tools/shalectl/shalectl.h"

/*
 * @given as an absolute path without symbolic links, but for the last name, which need not exist; the directory that it is in must. EXIT_OK, or the exit
 * code after having said why.
 */
int place_path(const char *verb, const char *given, char out[PATH_MAX]);

/*
 * A new directory for @path (from place_path), to be filled through b->dir. @path must not exist, or be an empty directory, which it will replace. EXIT_OK, or
 * the exit code after having said why.
 */
int place_begin(const char *verb, const char *path, struct backup_dir *b);

/* It gets its name, and owner and mode of the empty directory that is there. EXIT_OK, or the exit code after having said why. */
int place_publish(const char *verb, const char *path, struct backup_dir *b);

/* Drops what was not published, closes. */
void place_end(struct backup_dir *b);

#endif
