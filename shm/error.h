/*
 * error.h - how shale says what went wrong.
 *
 * One int everywhere. Negative is failure: -errno, or -SHALE_E… from a range above every errno. 0 is done.
 * Positive is another answer (SHALE_NOTFOUND). So `rc < 0` is the only failure test, and the same int32
 * travels in a completion: engine, ring and library need no translation, nothing is allocated.
 *
 * The codes below are repeated, word for word, in client/shale.h, which is installed alone; the compiler
 * refuses the two to differ wherever both are included.
 *
 * Words belong to cold paths: open, recovery, compaction and admin calls fill an optional err_info with what
 * failed, where, the likely cause and the next command to run. Library code never prints.
 */
#ifndef SHALE_SHM_ERROR_H
#define SHALE_SHM_ERROR_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

#define SHALE_NOTFOUND 1 /* no such key: an answer, not a failure */
#define SHALE_MISMATCH 2 /* a condition of a write does not hold, so nothing was applied: an answer, too */

#define SHALE_ECORRUPT 5001    /* bytes on disk fail their check */
#define SHALE_EUNKNOWN 5002    /* the daemon went while a write was in flight: it may or may not have been applied */
#define SHALE_EABI 5003        /* library and daemon do not speak the same protocol version */
#define SHALE_EOUSTED 5004     /* the snapshot is gone: its lease ended, or the daemon restarted */
#define SHALE_EFAILED 5005     /* the daemon stopped writing after an I/O error; a restart is needed */
#define SHALE_ECOMPARATOR 5006 /* the database was made with another comparator */
#define SHALE_ENOTSHALE 5007   /* what answers on the socket is not shaled */
#define SHALE_EFORKED 5008     /* the handle was opened by the parent process; open one in the child */
#define SHALE_ELOCKED 5009     /* another process has this database open */
#define SHALE_ECONFIG 5010     /* the configuration has an unknown key or a bad value */
#define SHALE_EMISSING 5011    /* a file that the MANIFEST names is not there */
#define SHALE_ESESSION 5012    /* the daemon ended this session: the channel's contents broke the protocol */
#define SHALE_ENODATABASE 5013 /* the directory holds no database and creating one was not asked for */
#define SHALE_EKICKED 5014     /* an administrator ended this session; the next call opens a new one */

/* Room for what failed, where, why, and what to do next. */
struct err_info {
	int code; /* the negative code returned */
	char text[768];
};

/*
 * shale_strerror - words for a return code, positive or negative.
 * Threads: any. Never NULL; the text lives for ever.
 */
const char *shale_strerror(int code);

/* Short symbolic name ("SHALE_ECORRUPT", "ENOENT"), for logs and JSON. Never NULL. */
const char *error_name(int code);

/*
 * Fills @err (may be NULL) with @code and the formatted text, and returns @code, so that a failure is
 * reported in one line: `return err_set(err, -SHALE_ECORRUPT, "%s: ...", name)`.
 */
int err_set(struct err_info *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts more words before the text that @err holds already ("opening /db: " …). @err may be NULL. */
void err_prefix(struct err_info *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
