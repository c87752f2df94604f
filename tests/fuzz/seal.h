/* seal.h - puts right checksums on mutated bytes, so that what lies behind the checksum is fuzzed as well. */
#ifndef SHALE_TESTS_FUZZ_SEAL_H
#define SHALE_TESTS_FUZZ_SEAL_H

#include "shm/base.h"

/* Every fragment of a record log, as far as the lengths lead. */
void seal_log(unsigned char *data, size_t size);

/* Every block of a table that its footer, index and metaindex lead to. */
void seal_table(unsigned char *data, size_t size);

#endif
