/*
 * exam.h - looking at a database's files one by one, damaged or not: what verify, repair and dump have in common.
 *
 * The engine refuses what does not add up and stops there. These readers go on: each thing that is wrong is reported (struct finding), and what
 * can be read is read. Offline only: the caller holds the LOCK, or the file is nobody's.
 */
#ifndef SHALE_ENGINE_EXAM_H
#define SHALE_ENGINE_EXAM_H

#include "engine/edit.h"
#include "engine/filename.h"
#include "engine/io.h"
#include "engine/table.h"
#include "shm/error.h"

/* One thing that is not as it should be. Valid during the call that reports it. */
struct finding {
	bool note;        /* odd but harmless: a crash leaves it, and the next open clears it away */
	const char *kind; /* one word that stays: "checksum", "order", "range", "missing", "size", "index", "filter", "record", … */
	const char *file;
	bool has_offset;
	uint64_t offset, size; /* bytes touched; size 0: unknown */
	bool has_range;        /* keys that may be touched lie from @first to @last, both included; NULL: open */
	const struct slice *first, *last; /* user keys */
	char what[320];
	const char *cause; /* likely */
};

struct exam {
	struct io_env *env;
	struct io_queue *q;
	void (*found)(struct exam *x, const struct finding *f);
	/* So many more bytes of @file were looked at. Negative ends the exam with that code. NULL: nobody cares. */
	int (*progress)(struct exam *x, const char *file, uint64_t bytes);
	uint64_t problems, notes;
	uint64_t total; /* bytes that the whole of it will have looked at, as far as is known */
};

void exam_found(struct exam *x, const struct finding *f); /* counts it, and tells */
int exam_progress(struct exam *x, const char *file, uint64_t bytes);

extern const char cause_rot[], cause_bug[], cause_hands[], cause_crash[];

/* ---- the directory ---- */

struct dir_file {
	enum file_type type; /* FILE_SST counts as FILE_TABLE in @number order */
	uint64_t number, size;
	char name[FILE_NAME_MAX];
};

struct dir_list {
	struct dir_file *at; /* ascending by type, then number */
	size_t count, cap;
	int rc;
};

/* All files with LevelDB's names. 0 or a failure with words. */
int dir_list_read(struct io_env *env, struct dir_list *out, struct err_info *err);
void dir_list_free(struct dir_list *l);
/* NULL: not there. A table is found under either name. */
const struct dir_file *dir_list_find(const struct dir_list *l, enum file_type type, uint64_t number);
/* No counter gets here: a file with such a number is nobody's. */
#define NUMBER_IMPOSSIBLE (UINT64_C(1) << 60)
uint64_t dir_list_highest(const struct dir_list *l); /* number in any name that a database makes */

/*
 * Reads a whole file into malloc'ed memory. Pages that the disk cannot give are zeros and reported. 0, or a failure with words (no memory, not there).
 */
int exam_read(struct exam *x, const char *name, unsigned char **bytes_out, size_t *size_out, struct err_info *err);

#endif
