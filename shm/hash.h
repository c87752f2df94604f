/*
 * hash.h - 64 bits of a key, for tables in memory: two multiplications for 16 bytes. Not for files, and no defence against somebody who looks for collisions.
 */
#ifndef SHALE_SHM_HASH_H
#define SHALE_SHM_HASH_H

#include "shm/base.h"

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_key(struct slice key)
{
	const unsigned char *p = key.data;
	uint64_t h = key.size * UINT64_C(0xd6e8feb86659fd93) + UINT64_C(0xa0761d6478bd642f), tail = 0;
	size_t n = key.size;

	for (; n >= 8; n -= 8, p += 8)
		h = hash_mix(h ^ load_le64(p), UINT64_C(0xe7037ed1a0b428db));
	if (n)
		memcpy(&tail, p, n);
	return hash_mix(h ^ tail, UINT64_C(0x8ebc6af09c88c6e3));
}

#endif
