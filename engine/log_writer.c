#include "engine/log_format.h"

#include "engine/crc32c.h"

static inline uint64_t block_left(uint64_t offset)
{
	return LOG_BLOCK - offset % LOG_BLOCK;
}

size_t log_framed_size(uint64_t offset, size_t size)
{
	size_t total = 0;

	/* Whole blocks of a huge record at once; the rest, fragment by fragment, as log_frame writes them. */
	for (;;) {
		uint64_t left = block_left(offset);
		size_t room;

		if (left < LOG_HEADER) {
			total += left;
			offset += left;
			left = LOG_BLOCK;
		}
		room = (size_t)left - LOG_HEADER;
		if (size <= room)
			return total + LOG_HEADER + size;
		total += (size_t)left;
		offset += left;
		size -= room;
		if (size > LOG_BLOCK - LOG_HEADER) {
			size_t blocks = (size - 1) / (LOG_BLOCK - LOG_HEADER);

			total += blocks * LOG_BLOCK;
			offset += blocks * LOG_BLOCK;
			size -= blocks * (LOG_BLOCK - LOG_HEADER);
		}
	}
}

/* Copies @size bytes to file offset @offset, around the end of the ring if need be. NULL @data: zeros. */
static void put(const struct log_dest *dest, uint64_t offset, const unsigned char *data, size_t size)
{
	while (size) {
		uint64_t at = (offset + dest->shift) & dest->mask;
		size_t n = (size_t)(dest->mask - at < size ? dest->mask - at + 1 : size);

		if (data) {
			memcpy(dest->base + at, data, n);
			data += n;
		} else {
			memset(dest->base + at, 0, n);
		}
		offset += n;
		size -= n;
	}
}

static void make_header(unsigned char header[LOG_HEADER], unsigned type, const unsigned char *data, size_t size)
{
	unsigned char t = (unsigned char)type;

	store_le32(header, crc32c_mask(crc32c_extend(crc32c(&t, 1), data, size)));
	header[4] = (unsigned char)size;
	header[5] = (unsigned char)(size >> 8);
	header[6] = t;
}

uint64_t log_frame_part(const struct log_dest *dest, uint64_t offset, uint64_t room, struct slice *rest, bool *begun,
			bool *done_out)
{
	const uint64_t limit = room < UINT64_MAX - offset ? offset + room : UINT64_MAX;

	*done_out = false;
	while (!*done_out) {
		uint64_t left = block_left(offset), pad = left < LOG_HEADER ? left : 0;
		unsigned char header[LOG_HEADER];
		bool last;
		size_t n;

		n = min_size(rest->size, (size_t)(pad ? LOG_BLOCK : left) - LOG_HEADER);
		last = n == rest->size;
		if (pad + LOG_HEADER + n > limit - offset)
			break;
		put(dest, offset, NULL, (size_t)pad);
		offset += pad;
		make_header(header, *begun ? (last ? LOG_LAST : LOG_MIDDLE) : (last ? LOG_FULL : LOG_FIRST), rest->data,
			    n);
		put(dest, offset, header, LOG_HEADER);
		if (n)
			put(dest, offset + LOG_HEADER, rest->data, n);
		offset += LOG_HEADER + n;
		if (n)
			rest->data += n;
		rest->size -= n;
		*begun = true;
		*done_out = last;
	}
	return offset;
}

uint64_t log_frame(const struct log_dest *dest, uint64_t offset, struct slice payload)
{
	bool begun = false, done;

	return log_frame_part(dest, offset, UINT64_MAX, &payload, &begun, &done);
}

unsigned char *log_frame_reserve(const struct log_dest *dest, uint64_t offset, size_t size)
{
	uint64_t at = (offset + dest->shift) & dest->mask;

	if (block_left(offset) < LOG_HEADER || size > block_left(offset) - LOG_HEADER)
		return NULL;
	if (dest->mask - at < LOG_HEADER + size - 1)
		return NULL;
	return dest->base + at + LOG_HEADER;
}

uint64_t log_frame_finish(const struct log_dest *dest, uint64_t offset, size_t size)
{
	unsigned char *header = dest->base + ((offset + dest->shift) & dest->mask);

	make_header(header, LOG_FULL, header + LOG_HEADER, size);
	return offset + LOG_HEADER + size;
}
