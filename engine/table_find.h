/* table_find.h - blocks of a table whose index is gone: found by their checksums. */
#ifndef SHALE_ENGINE_TABLE_FIND_H
#define SHALE_ENGINE_TABLE_FIND_H

#include "engine/table.h"

/* The block that begins at @from in the file's @bytes: up to where a checksum matches. False: none. */
bool table_find_block(const unsigned char *bytes, size_t size, uint64_t from, struct block_handle *out);

/* The nearest block of entries that begins behind @behind; time in proportion to the bytes. 1, 0: none, or -ENOMEM. */
int table_find_next_block(const unsigned char *bytes, size_t size, uint64_t behind, struct block_handle *out);

#endif
