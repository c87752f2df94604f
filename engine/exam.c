#include "engine/exam.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/table_impl.h"

const char cause_rot[] = "bytes changed on the disk after they were written (failing device, memory error, or a "
			 "program that wrote into the file)";
const char cause_bug[] =
	"the checksum is right, so it was written like this: by another program, or by a fault in shale";
const char cause_hands[] = "somebody removed or replaced files, or copied the directory incompletely";
const char cause_crash[] = "a crash; the next open clears it away";

enum { PIECE = 1 << 20, PAGE = 4096 };

void exam_found(struct exam *x, const struct finding *f)
{
	if (f->note)
		x->notes++;
	else
		x->problems++;
	if (x->found)
		x->found(x, f);
}

int exam_progress(struct exam *x, const char *file, uint64_t bytes)
{
	return x->progress ? x->progress(x, file, bytes) : 0;
}

/* ---- the directory ---- */

static enum file_type folded(enum file_type type)
{
	return type == FILE_SST ? FILE_TABLE : type;
}

static void list_add(void *context, const char *name)
{
	struct dir_list *l = context;
	enum file_type type;
	uint64_t number = 0;

	if (l->rc < 0 || strlen(name) >= FILE_NAME_MAX || !file_parse(name, &type, &number))
		return;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct dir_file *grown = reallocarray(l->at, cap, sizeof(*grown));

		if (!grown) {
			l->rc = -ENOMEM;
			return;
		}
		l->at = grown;
		l->cap = cap;
	}
	l->at[l->count] = (struct dir_file){.type = type, .number = number};
	snprintf(l->at[l->count++].name, FILE_NAME_MAX, "%s", name);
}

static int by_type_and_number(const void *a, const void *b)
{
	const struct dir_file *x = a, *y = b;

	if (folded(x->type) != folded(y->type))
		return folded(x->type) < folded(y->type) ? -1 : 1;
	return x->number != y->number ? (x->number > y->number) - (x->number < y->number) : (int)x->type - (int)y->type;
}

int dir_list_read(struct io_env *env, struct dir_list *out, struct err_info *err)
{
	struct dir_list l = {0};
	int rc = io_list(env, list_add, &l);

	rc = rc == 0 ? l.rc : rc;
	for (size_t i = 0; i < l.count && rc == 0; i++) {
		struct io_file *f;

		if (l.at[i].type == FILE_LOCK) /* never opened a second time: closing it would drop the lock */
			continue;
		rc = io_open(env, l.at[i].name, IO_OPEN_READ, &f);
		if (rc < 0) {
			err_set(err, rc, "%s: cannot be opened: %s; check its owner and mode", l.at[i].name,
				shale_strerror(rc));
			break;
		}
		rc = io_size(f, &l.at[i].size);
		io_close(f);
	}
	if (rc < 0) {
		dir_list_free(&l);
		return err && err->code == rc
			       ? rc
			       : err_set(err, rc, "listing the database directory: %s", shale_strerror(rc));
	}
	if (l.count)
		qsort(l.at, l.count, sizeof(*l.at), by_type_and_number);
	*out = l;
	return 0;
}

void dir_list_free(struct dir_list *l)
{
	free(l->at);
	*l = (struct dir_list){0};
}

const struct dir_file *dir_list_find(const struct dir_list *l, enum file_type type, uint64_t number)
{
	for (size_t low = 0, high = l->count; low < high;) {
		size_t middle = low + (high - low) / 2;
		const struct dir_file *f = &l->at[middle];

		if (folded(f->type) == folded(type) && f->number == number)
			return f;
		if (folded(f->type) < folded(type) || (folded(f->type) == folded(type) && f->number < number))
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

uint64_t dir_list_highest(const struct dir_list *l)
{
	uint64_t highest = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->at[i].number < NUMBER_IMPOSSIBLE && l->at[i].number > highest)
			highest = l->at[i].number;
	return highest;
}

/* ---- reading ---- */

static void cannot_read(struct exam *x, const char *name, uint64_t offset, uint64_t size, int rc)
{
	struct finding f = {.kind = "read", .file = name, .has_offset = true, .offset = offset, .size = size};

	f.cause = "the device or the file system: see the kernel log (dmesg)";
	snprintf(f.what, sizeof(f.what), "%" PRIu64 " bytes cannot be read: %s", size, shale_strerror(rc));
	exam_found(x, &f);
}

/* A piece that fails is tried page by page: the pages that fail stay zero, and their checksums will say so. */
static int read_piece(struct exam *x, struct io_file *f, const char *name, unsigned char *buf, size_t len,
		      uint64_t offset)
{
	int64_t got = table_read(x->q, f, buf, len, offset);

	if (got == (int64_t)len)
		return exam_progress(x, name, len);
	for (size_t at = 0; at < len; at += PAGE) {
		size_t n = min_size(PAGE, len - at);

		got = table_read(x->q, f, buf + at, n, offset + at);
		if (got < 0) {
			memset(buf + at, 0, n);
			cannot_read(x, name, offset + at, n, (int)got);
		} else if ((size_t)got < n) {
			memset(buf + at + got, 0, n - (size_t)got); /* it shrank while we looked */
		}
	}
	return exam_progress(x, name, len);
}

int exam_read(struct exam *x, const char *name, unsigned char **bytes_out, size_t *size_out, struct err_info *err)
{
	unsigned char *bytes = NULL;
	struct io_file *f = NULL;
	uint64_t size = 0;
	int rc = io_open(x->env, name, IO_OPEN_READ, &f);

	if (rc == 0)
		rc = io_size(f, &size);
	if (rc == 0) {
		bytes = malloc(size + 1);
		rc = bytes ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		io_close(f);
		return err_set(err, rc, "%s: cannot be read: %s", name, shale_strerror(rc));
	}
	for (uint64_t at = 0; at < size && rc == 0; at += PIECE)
		rc = read_piece(x, f, name, bytes + at, min_size(PIECE, size - at), at);
	io_close(f);
	if (rc < 0) {
		free(bytes);
		return err_set(err, rc, "%s: %s", name, shale_strerror(rc));
	}
	*bytes_out = bytes;
	*size_out = size;
	return 0;
}
