/* filename.h - LevelDB's file names: make and parse. Source: LevelDB 1.23, db/filename.cc. */
#ifndef SHALE_ENGINE_FILENAME_H
#define SHALE_ENGINE_FILENAME_H

#include "shm/base.h"

enum file_type { FILE_LOG, FILE_TABLE, FILE_SST /* old name of a table */, FILE_MANIFEST, FILE_CURRENT, FILE_LOCK, FILE_INFO_LOG, FILE_TEMP };
enum { FILE_NAME_MAX = 40 };

/* Writes the name and returns @buf. CURRENT, LOCK and LOG ignore @number. */
const char *file_name(char buf[FILE_NAME_MAX], enum file_type type, uint64_t number);

/* True when @name is one of LevelDB's. */
bool file_parse(const char *name, enum file_type *type_out, uint64_t *number_out);

#endif
