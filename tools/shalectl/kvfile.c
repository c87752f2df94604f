#include "tools/shalectl/kvfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "engine/crc32c.h"

enum { HEADER = 8, CHUNK = 256 << 10 };
static const unsigned char magic[8] = "SHALEKV\1";
/* Keys and values are lengths of 32 bits; no daemon takes more than 4 GiB at once. */
static const size_t CHUNK_MAX = (size_t)1 << 32;

static int file_error(void)
{
	return errno ? -errno : -EIO;
}

/* ---- writing ---- */

static int put(struct kv_writer *w, const void *data, size_t size)
{
	errno = 0;
	return fwrite(data, 1, size, w->file) == size ? 0 : file_error();
}

int kv_begin(struct kv_writer *w, FILE *file, bool binary)
{
	*w = (struct kv_writer){.file = file, .binary = binary, .used = HEADER};
	return binary ? put(w, magic, sizeof(magic)) : 0;
}

static int room(struct kv_writer *w, size_t more)
{
	size_t cap = w->used + more < CHUNK ? CHUNK : w->used + more;
	unsigned char *grown;

	if (w->used + more <= w->cap)
		return 0;
	grown = realloc(w->chunk, cap);
	if (!grown)
		return -ENOMEM;
	w->chunk = grown;
	w->cap = cap;
	return 0;
}

/* The chunk as it is; @size is what its header says. */
static int put_chunk(struct kv_writer *w, size_t size)
{
	store_le32(w->chunk + 4, (uint32_t)size);
	store_le32(w->chunk, crc32c_mask(crc32c(w->chunk + 4, w->used - 4)));
	int rc = put(w, w->chunk, w->used);

	w->used = HEADER;
	return rc;
}

static int add_json(struct kv_writer *w, struct slice key, struct slice value)
{
	json_t *obj = json_object();
	int rc = 0;

	json_set_bytes(obj, "key", key);
	json_set_bytes(obj, "value", value);
	errno = 0;
	if (json_dumpf(obj, w->file, JSON_COMPACT) < 0 || putc('\n', w->file) == EOF)
		rc = file_error();
	json_decref(obj);
	return rc;
}

int kv_add(struct kv_writer *w, struct slice key, struct slice value)
{
	size_t need = 2 * VARINT32_MAX + key.size + value.size;
	unsigned char *p;
	int rc = 0;

	w->entries++;
	if (!w->binary)
		return add_json(w, key, value);
	if (w->used > HEADER && w->used + need > CHUNK)
		rc = put_chunk(w, w->used - HEADER);
	if (rc == 0)
		rc = room(w, need);
	if (rc < 0)
		return rc;
	p = varint32_put(w->chunk + w->used, (uint32_t)key.size);
	p = varint32_put(p, (uint32_t)value.size);
	if (key.size)
		memcpy(p, key.data, key.size);
	p += key.size;
	if (value.size)
		memcpy(p, value.data, value.size);
	w->used = (size_t)(p + value.size - w->chunk);
	return 0;
}

int kv_end(struct kv_writer *w)
{
	int rc = 0;

	if (w->binary) {
		rc = w->used > HEADER ? put_chunk(w, w->used - HEADER) : room(w, 8);
		if (rc == 0) {
			store_le64(w->chunk + HEADER, w->entries);
			w->used += 8;
			rc = put_chunk(w, 0);
		}
	}
	errno = 0;
	if (rc == 0 && fflush(w->file) != 0)
		rc = file_error();
	return rc;
}

void kv_free(struct kv_writer *w)
{
	free(w->chunk);
	w->chunk = NULL;
}

/* ---- reading ---- */

__attribute__((format(printf, 2, 3))) static int bad(struct kv_reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

/* @size bytes, or -EBADMSG when the file ends before. */
static int take(struct kv_reader *r, void *to, size_t size)
{
	size_t n;

	errno = 0;
	n = fread(to, 1, size, r->file);
	r->bytes += n;
	if (n == size)
		return 0;
	return ferror(r->file)
		       ? file_error()
		       : bad(r, "it is cut short after %" PRIu64 " entries, at byte %" PRIu64, r->entries, r->bytes);
}

int kv_open(struct kv_reader *r, FILE *file)
{
	unsigned char begin[sizeof(magic)];
	int c, rc = 0;

	*r = (struct kv_reader){.file = file};
	errno = 0;
	c = getc(file);
	if (c == EOF)
		return ferror(file) ? file_error() : 0; /* empty: no lines */
	ungetc(c, file);
	r->binary = c == magic[0];
	if (r->binary) {
		rc = take(r, begin, sizeof(begin));
		if (rc == 0 && memcmp(begin, magic, sizeof(magic)) != 0)
			rc = bad(r, "it is neither JSON lines nor what export --binary writes");
	}
	return rc;
}

/* Reads the next chunk: 1; the last one: 0. */
static int next_chunk(struct kv_reader *r)
{
	unsigned char header[HEADER];
	uint64_t at = r->bytes;
	int rc = take(r, header, sizeof(header));
	size_t size, stored;

	if (rc < 0)
		return rc;
	size = load_le32(header + 4);
	stored = size ? size : 8;
	if (HEADER + stored > r->cap) {
		unsigned char *grown = HEADER + stored > CHUNK_MAX ? NULL : realloc(r->chunk, HEADER + stored);

		if (!grown)
			return -ENOMEM;
		r->chunk = grown;
		r->cap = HEADER + stored;
	}
	memcpy(r->chunk, header, sizeof(header));
	rc = take(r, r->chunk + HEADER, stored);
	if (rc < 0)
		return rc;
	if (crc32c_unmask(load_le32(header)) != crc32c(r->chunk + 4, HEADER - 4 + stored))
		return bad(r, "the checksum of the chunk at byte %" PRIu64 " does not match", at);
	r->used = HEADER;
	r->size = HEADER + stored;
	if (size)
		return 1;
	if (load_le64(r->chunk + HEADER) != r->entries)
		return bad(r, "it says that it has %" PRIu64 " entries, and has %" PRIu64, load_le64(r->chunk + HEADER),
			   r->entries);
	return getc(r->file) == EOF ? 0 : bad(r, "something follows its end, at byte %" PRIu64, r->bytes);
}

static int next_binary(struct kv_reader *r)
{
	const unsigned char *p, *end;
	uint32_t key, value;

	if (r->used == r->size) {
		int rc = next_chunk(r);

		if (rc <= 0)
			return rc;
	}
	p = r->chunk + r->used;
	end = r->chunk + r->size;
	p = varint32_get(p, end, &key);
	p = p ? varint32_get(p, end, &value) : NULL;
	if (!p || key > (size_t)(end - p) || value > (size_t)(end - p) - key)
		return bad(r, "entry %" PRIu64 " does not fit its chunk", r->entries + 1);
	r->key = slice_of(p, key);
	r->value = slice_of(p + key, value);
	r->used = (size_t)(p + key + value - r->chunk);
	r->entries++;
	return 1;
}

/* ---- JSON ---- */

static int digit64(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* malloc'ed bytes, or NULL: no base64 (or no memory). */
static unsigned char *base64_decode(const char *text, size_t len, size_t *size_out)
{
	unsigned char *out = malloc(len / 4 * 3 + 1), *p = out;

	if (!out || len % 4)
		goto fail;
	for (size_t i = 0; i < len; i += 4) {
		unsigned pad = i + 4 == len ? (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=') : 0;
		uint32_t v = 0;

		for (unsigned k = 0; k < 4; k++) {
			int d = k >= 4 - pad ? 0 : digit64(text[i + k]);

			if (d < 0)
				goto fail;
			v = v << 6 | (uint32_t)d;
		}
		for (unsigned k = 0; k < 3 - pad; k++)
			*p++ = (unsigned char)(v >> (16 - 8 * k));
	}
	*size_out = (size_t)(p - out);
	return out;
fail:
	free(out);
	return NULL;
}

/* obj.@name, or obj.@name_base64. */
static int take_bytes(struct kv_reader *r, const char *name, unsigned char **decoded, struct slice *out)
{
	json_t *plain = json_object_get(r->object, name), *coded;
	char name64[32];
	size_t size;

	snprintf(name64, sizeof(name64), "%s_base64", name);
	coded = json_object_get(r->object, name64);
	if (!plain == !coded)
		return bad(r, "line %" PRIu64 ": it must have either %s or %s", r->line, name, name64);
	if (!json_is_string(plain ? plain : coded))
		return bad(r, "line %" PRIu64 ": %s is no string", r->line, plain ? name : name64);
	if (plain) {
		*out = slice_of(json_string_value(plain), json_string_length(plain));
		return 0;
	}
	free(*decoded);
	*decoded = base64_decode(json_string_value(coded), json_string_length(coded), &size);
	if (!*decoded)
		return bad(r, "line %" PRIu64 ": %s is no base64", r->line, name64);
	*out = slice_of(*decoded, size);
	return 0;
}

static int next_json(struct kv_reader *r)
{
	json_error_t error;
	ssize_t n;
	int rc;

	do {
		errno = 0;
		n = getline(&r->text, &r->text_cap, r->file);
		if (n < 0)
			return ferror(r->file) || errno ? file_error() : 0;
		r->bytes += (uint64_t)n;
		r->line++;
	} while (strspn(r->text, " \t\r\n") == (size_t)n); /* blank */
	json_decref(r->object);
	r->object = json_loadb(r->text, (size_t)n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(r->object))
		return bad(r, "line %" PRIu64 ": %s%s", r->line, r->object ? "it is no object" : error.text,
			   feof(r->file) || r->text[n - 1] != '\n' ? "; the file seems to be cut short" : "");
	rc = take_bytes(r, "key", &r->decoded[0], &r->key);
	if (rc == 0)
		rc = take_bytes(r, "value", &r->decoded[1], &r->value);
	r->entries += rc == 0;
	return rc < 0 ? rc : 1;
}

int kv_next(struct kv_reader *r)
{
	return r->binary ? next_binary(r) : next_json(r);
}

void kv_close(struct kv_reader *r)
{
	free(r->chunk);
	free(r->text);
	json_decref(r->object);
	free(r->decoded[0]);
	free(r->decoded[1]);
	*r = (struct kv_reader){0};
}
