#include "engine/crc32c.h"

#include <isa-l/crc.h>

enum { CRC_PIECE = 1 << 30 }; /* ISA-L counts in int */

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size)
{
	const unsigned char *p = data;

	while (size) {
		size_t n = min_size(size, CRC_PIECE);

		/* ISA-L leaves out the complement before and after; it reads the buffer only, whatever its prototype says. */
		crc = ~crc32_iscsi((unsigned char *)p, (int)n, ~crc);
		p += n;
		size -= n;
	}
	return crc;
}
