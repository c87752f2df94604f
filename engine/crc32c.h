/* crc32c.h - CRC-32C (Castagnoli) by ISA-L, and LevelDB's masking of stored checksums (util/crc32c.h of 1.23). */
#ifndef SHALE_ENGINE_CRC32C_H
#define SHALE_ENGINE_CRC32C_H

#include "shm/base.h"

/* The CRC of what @crc covers followed by @data; start with 0. */
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size);

static inline uint32_t crc32c(const void *data, size_t size)
{
	return crc32c_extend(0, data, size);
}

/* A CRC that is stored beside data that itself may hold CRCs is rotated and shifted first. */
static inline uint32_t crc32c_mask(uint32_t crc)
{
	return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static inline uint32_t crc32c_unmask(uint32_t masked)
{
	uint32_t rot = masked - 0xa282ead8u;

	return (rot >> 17) | (rot << 15);
}

#endif
