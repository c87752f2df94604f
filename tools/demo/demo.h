/*
 * demo.h - the plan that the demo's processes share, and its parts.
 *
 *	main.c      starts, kills and restarts the others; progress; the table
 *	files.c     lists the files; reads one
 *	writer.c    a writer process
 *	scanner.c   the scanner process
 *	verify.c    reads everything back, through shaled and through stock LevelDB
 *
 * The plan lies in shared anonymous memory made before any fork, so that the journal of a killed writer survives it.
 */
#ifndef SHALE_DEMO_H
#define SHALE_DEMO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/shale.h"
#include "shm/base.h"

enum {
	WRITERS = 4,
	HEAD_BYTES = 4096,	 /* of each file that becomes its value */
	BATCH_FILES = 64,	 /* files in a batch at most */
	BATCH_BYTES = 128 << 10, /* and bytes */
};

enum file_state {
	FILE_WAITING = 0,
	FILE_SENT,	   /* in a batch whose answer is not known */
	FILE_ACKNOWLEDGED, /* the daemon said that it has it */
	FILE_EXCLUDED,	   /* vanished or became unreadable before it was read */
};

/* One file. The journal: state, value length and hash are written by the writer that has it, and outlive that process. */
struct file {
	uint32_t path_off, path_len; /* in plan.paths */
	_Atomic uint32_t
		state; /* enum file_state; release, after length and hash. Pairs with the acquire in file_state() */
	_Atomic uint32_t value_len;
	_Atomic uint64_t value_hash;
};

/* What a process counts; each field has one writer process. */
struct tally {
	_Atomic uint64_t files, bytes, batches, unknown, errors;
};

struct plan {
	uint32_t nfiles;
	struct file *files; /* sorted by path */
	char *paths;
	char socket[96];
	_Atomic uint32_t stop; /* the scanner ends after the scan it is at */
	struct tally writer[WRITERS];
	/* the scanner's */
	_Atomic uint64_t scans, scanned_entries, ousted, scan_mismatches;
};

static inline uint32_t file_state(const struct file *f)
{
	/* Acquire: length and hash belong to the state seen. Pairs with the release in the writer. */
	return atomic_load_explicit(&f->state, memory_order_acquire);
}

static inline struct slice file_path(const struct plan *p, const struct file *f)
{
	return slice_of(p->paths + f->path_off, f->path_len);
}

static inline void tally_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t tally_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- files.c ---- */

/* Lists every regular file below @roots (NULL-terminated) into a new shared plan. NULL when memory is short. */
struct plan *plan_new(const char *const *roots);

/* Reads a file's head into @buf (HEAD_BYTES). Bytes read, or -errno. */
long file_read_head(const char *path, unsigned char *buf);

uint64_t hash_bytes(struct slice s);

/* ---- processes: never return ---- */

_Noreturn void writer_run(struct plan *p, unsigned number);
_Noreturn void scanner_run(struct plan *p);

/* ---- verify.c ---- */

struct verdict {
	uint64_t compared;   /* keys read back */
	uint64_t changed;    /* files that changed on disk since they were written: compared by hash only */
	uint64_t mismatches; /* missing, different or surplus keys; order */
};

/* Reads every acknowledged key through shaled and compares it with its file. 0 or negative after having said why. */
int verify_shale(const struct plan *p, struct verdict *out);

/* Opens @database with stock LevelDB and compares all of it. 0 or negative after having said why. */
int verify_stock(const struct plan *p, const char *database, struct verdict *out);

/* Prints "demo: …" to stderr, on a line of its own. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
