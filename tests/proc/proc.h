/*
 * proc.h - real daemons and real client processes for tests.
 *
 * A daemon belongs to the test's process and goes with it, also when the test fails or Check kills it for its time (see
 * tools/private_daemon.h). $SHALE_BUILD names the build folder; without it, the one that the test lies in.
 */
#ifndef SHALE_TESTS_PROC_H
#define SHALE_TESTS_PROC_H

#include <sys/wait.h>

#include "client/shale.h"
#include "shm/error.h"
#include "shm/park.h"
#include "shm/region.h"
#include "tests/test.h"
#include "tools/private_daemon.h"

/* Sanitizers make everything several times slower: limits on waiting stretch by this. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { PATIENCE = 10 };
#else
enum { PATIENCE = 1 };
#endif

/* The build folder. */
const char *proc_build(void);

/* A daemon on @database (NULL: a fresh directory), with the --set words given up to NULL; not started. Its stderr goes to d->log. */
void proc_init(struct private_daemon *d, const char *database, ...) __attribute__((sentinel));

/* proc_init without settings, and proc_start. */
void proc_begin(struct private_daemon *d);

/* Start and wait until it serves; the test fails if it does not. Returns milliseconds. */
double proc_start(struct private_daemon *d);

/* A clean stop: the test fails when the exit status is not 0 or a segment is left. */
void proc_stop(struct private_daemon *d);

/* Starts a daemon that must refuse to start: returns its exit code and its words (stderr) in @text. */
int proc_refused(struct private_daemon *d, char *text, size_t cap);

/* The last words of a daemon's log, for messages (Check dies of one that is longer than 4 KiB). Valid until the next call. */
const char *proc_log_tail(const struct private_daemon *d);

/* A connection; the test fails without. */
struct shale_db *proc_open(const struct private_daemon *d);

/* The stats page, published after this call or by a daemon that has been asleep since. */
struct region_stats proc_stats(const struct private_daemon *d);

/* Waits until all threads of @pid sleep, and have done so for 20 ms: it waits for somebody. */
void proc_await_sleep(pid_t pid);

/* A child that runs @fn and exits with what it returns; it dies with the test. */
pid_t proc_fork(int (*fn)(void *arg), void *arg);

/* Waits for a child. Its exit code, or -signal. */
int proc_wait(pid_t pid);

/* Descriptors that @pid has open. */
unsigned proc_fds(pid_t pid);

/* Runs a command (sh -c), returns its exit code; stdout and stderr together in @out (NUL-terminated). */
int proc_shell(char *out, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Memory that children share with the test, zeroed. */
void *proc_shared(size_t size);

/* Puts strings. The test fails unless it returns 0. */
void proc_put(struct shale_db *db, const char *key, const char *value);

/* The key's value as a string, or NULL when it is not there. Valid until the next call. */
const char *proc_get(struct shale_db *db, const char *key);

/* Writes a stock LevelDB database: @n keys ("key%06d" → "value%d") through the C API; deletes each 7th. */
void stock_fill(const char *path, int n, int first, bool snappy, int bloom_bits);

#endif
