/* table_find.h - blocks of a table whose index is gone: found by their checksums. */
#ifndef SHALE_ENGINE_TABLE_FIND_H
#define SHALE_ENGINE_TABLE_FIND_H

#include "engine/table.h"

/*
 * A block in the file's @bytes whose checksum matches: one that begins at @from, or, to @resync, the nearest one behind it that also
 * begins as a block of entries does. False: none.
 */
bool table_find_block(const unsigned char *bytes, size_t size, uint64_t from, bool resync, struct block_handle *out);

#endif
