/*
 * kvfile.h - keys and values as a file: JSON lines, or a binary form that is smaller and tells when its end is missing.
 *
 * JSON lines: {"key":"…","value":"…"}, as scan --json prints them; bytes that are no UTF-8 as key_base64, value_base64.
 *
 * Binary: eight bytes "SHALEKV\1", then chunks, each
 *	le32 masked crc32c of what follows, le32 size, and so many bytes of entries: varint32 key length, varint32 value length, key, value
 * The last chunk has size 0, and after it the le64 number of all entries, which its crc covers as well.
 */
#ifndef SHALE_SHALECTL_KVFILE_H
#define SHALE_SHALECTL_KVFILE_H

#include "tools/shalectl/shalectl.h"

/* ---- writing ---- */

struct kv_writer {
	FILE *file;
	bool binary;
	uint64_t entries;
	unsigned char *chunk; /* 8 bytes of header, then entries */
	size_t used, cap;
};

/* Each: 0, or -errno of @file or -ENOMEM. Begin writes the first bytes, end the last; free may be called at any time. */
int kv_begin(struct kv_writer *w, FILE *file, bool binary);
int kv_add(struct kv_writer *w, struct slice key, struct slice value);
int kv_end(struct kv_writer *w);
void kv_free(struct kv_writer *w);

/* ---- reading ---- */

struct kv_reader {
	FILE *file;
	bool binary;
	uint64_t entries, bytes; /* read so far */
	uint64_t line;		 /* JSON: of the last entry */
	unsigned char *chunk;
	size_t used, size, cap;
	char *text;
	size_t text_cap;
	json_t *object;
	struct slice key, value; /* of the last entry; valid until the next */
	unsigned char *decoded[2];
	char why[256]; /* of -EBADMSG */
};

/* Looks at the first byte to tell which form it is. 0, -errno, -EBADMSG. */
int kv_open(struct kv_reader *r, FILE *file);
/* 1 and an entry; 0 at the end; -EBADMSG with words: what is there is no such file, damaged or cut short; -errno. */
int kv_next(struct kv_reader *r);
void kv_close(struct kv_reader *r);

#endif
