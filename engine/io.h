/*
 * io.h - the one door between the engine and the disk.
 *
 *	struct io_env     one database directory on one backend: names, opens, locks, the clock, randomness
 *	struct io_file    an open file of that directory
 *	struct io_queue   one thread's queue of reads, writes and syncs: submit now, completions later
 *	struct io_req     one such operation, in the caller's memory until it completes
 *
 * Backends: io_uring (engine/io_uring.c), posix (engine/io_posix.c, taken with a named reason when io_uring is
 * forbidden), sim (tests). A queue belongs to one thread at a time: another may take it over only while nothing is in
 * flight. An env and a file may be used by any. Names are relative to the directory and never contain a slash.
 *
 * Blocking: env calls may wait for the disk and are for workers, open and close. io_submit/flush/poll never wait for the disk
 * on io_uring; on posix the operation runs inside io_queue_flush().
 *
 * Short transfers: a read that ends early ended at the end of the file; everything else is continued by the
 * backend until it is whole or has failed, so result is the full length or a negative errno.
 */
#ifndef SHALE_ENGINE_IO_H
#define SHALE_ENGINE_IO_H

#include <sys/types.h>

#include "shm/base.h"

struct err_info;
struct io_env;
struct io_file;
struct io_queue;

enum io_op {
	IO_NOP,
	IO_READ,      /* result: bytes read; less than len only at end of file */
	IO_WRITE,     /* result: len */
	IO_FDATASYNC, /* covers writes completed before it was submitted */
	IO_ALLOCATE,  /* [offset, offset+len): reserve space, file size unchanged (FALLOC_FL_KEEP_SIZE) */
	IO_EVENT,     /* wait until @fd (an eventfd) can be read, and read 8 bytes into buf */
};

struct io_req {
	/* the caller's, unchanged by the backend */
	enum io_op op;
	struct io_file *file; /* NULL for IO_NOP and IO_EVENT */
	int fd;               /* IO_EVENT only */
	void *buf;
	size_t len;
	uint64_t offset;
	void (*done)(struct io_req *req); /* called in the queue's thread, from io_queue_poll or io_queue_wait */
	void *context;                    /* for done() */
	/* the answer */
	int64_t result;
	/* the backend's while submitted */
	size_t progress;
	struct io_req *next;
};

enum io_backend { IO_BACKEND_AUTO, IO_BACKEND_URING, IO_BACKEND_POSIX };

/* Open flags. */
enum {
	IO_OPEN_READ = 1 << 0,
	IO_OPEN_WRITE = 1 << 1,  /* read and write */
	IO_OPEN_CREATE = 1 << 2, /* with WRITE: create, or empty an existing file */
	IO_OPEN_EXCL = 1 << 3,   /* with CREATE: -EEXIST when it is there */
};

/* What a backend implements; tests embed struct io_env and supply their own. */
struct io_env_ops {
	int (*open)(struct io_env *env, const char *name, unsigned flags, struct io_file **out);
	void (*close)(struct io_file *file);
	int (*size)(struct io_file *file, uint64_t *size_out);
	int (*truncate)(struct io_file *file, uint64_t size);
	int (*unlink)(struct io_env *env, const char *name);
	int (*rename)(struct io_env *env, const char *from, const char *to);
	int (*sync_dir)(struct io_env *env);
	int (*list)(struct io_env *env, void (*each)(void *context, const char *name), void *context);
	int (*lock)(struct io_env *env, const char *name, struct err_info *err);
	int (*queue_new)(struct io_env *env, unsigned depth, struct io_queue **out);
	uint64_t (*now_ns)(struct io_env *env);
	uint64_t (*random)(struct io_env *env);
	void (*env_close)(struct io_env *env);
};

struct io_queue_ops {
	void (*submit)(struct io_queue *q, struct io_req *req);
	int (*flush)(struct io_queue *q);
	int (*poll)(struct io_queue *q);
	int (*wait)(struct io_queue *q, uint64_t timeout_ns);
	void (*free)(struct io_queue *q);
	int (*cancel)(struct io_queue *q, struct io_req *req); /* may be NULL in a queue that knows no IO_EVENT */
};

struct io_env {
	const struct io_env_ops *ops;
	const char *backend; /* "io_uring", "posix", "sim" */
	char reason[128];    /* why a fall-back was taken; "" when none was */
	bool dir_failed;     /* see io_sync_dir */
};

struct io_file {
	struct io_env *env;
	int fd; /* -1 in sim */
};

struct io_queue {
	const struct io_queue_ops *ops;
	struct io_env *env;
	unsigned in_flight; /* submitted and not yet completed */
};

/*
 * io_env_open - the directory @path on a real backend. With IO_BACKEND_AUTO io_uring is tried first, and env->reason
 * names why it was not to be had. @create makes the directory (0700, parents not). Returns 0, or a negative code with
 * words: -ENOENT, -ENOTDIR, -EACCES, -EROFS, …
 */
int io_env_open(const char *path, enum io_backend backend, bool create, struct io_env **out, struct err_info *err);
void io_env_close(struct io_env *env);
int io_env_dirfd(const struct io_env *env); /* of a real backend; borrowed */

/* 0 and an open file, or -errno. */
int io_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out);
void io_close(struct io_file *file); /* NULL is fine. Nothing may be in flight on it */
int io_size(struct io_file *file, uint64_t *size_out);
int io_truncate(struct io_file *file, uint64_t size);
int io_unlink(struct io_env *env, const char *name);
int io_rename(struct io_env *env, const char *from, const char *to);
/*
 * Makes names durable. Once it has failed it fails for ever (-EIO): the kernel tells one caller only, and another job's sync would be told that all is well,
 * over names that are lost.
 */
int io_sync_dir(struct io_env *env);
int io_list(struct io_env *env, void (*each)(void *context, const char *name), void *context);

/*
 * Takes LevelDB's lock (fcntl F_SETLK over the whole of @name), held until io_env_close and, on io_uring, until the last
 * I/O of the process is over, because each queue registers its descriptor. -SHALE_ELOCKED with the owner's pid in words.
 * fcntl locks do not exclude the same process: a second env on the same directory in one process is refused, too. On the env that holds
 * it already the call succeeds: shaled takes it before it touches shared memory, engine_open takes it again.
 */
int io_lock(struct io_env *env, const char *name, struct err_info *err);

/* What ps calls a process, fit for logs and terminals; "" when there is none. */
void process_name(pid_t pid, char out[32]);

uint64_t io_now_ns(struct io_env *env);  /* monotonic */
uint64_t io_random(struct io_env *env);

/* @depth: operations that may be in flight before submit flushes by itself. */
int io_queue_new(struct io_env *env, unsigned depth, struct io_queue **out);
/* NULL is fine. Waits for what is in flight; an IO_EVENT that still waits then ends with -ECANCELED. The using thread's. */
void io_queue_free(struct io_queue *q);

/* Queues @req; it and its buffer must stay until done() is called. Never fails: an error comes as the result. */
void io_submit(struct io_queue *q, struct io_req *req);

/* Hands what was submitted to the kernel. Returns 0 or -errno. */
int io_queue_flush(struct io_queue *q);

/* Calls done() of what has completed, without waiting; flushes first. Returns how many, or -errno. */
int io_queue_poll(struct io_queue *q);

/*
 * As poll, but waits for at least one completion, at most @timeout_ns (UINT64_MAX: for ever). Returns how many; 0: time-out,
 * or nothing is in flight that could be waited for ever for. A signal does not end the wait.
 */
int io_queue_wait(struct io_queue *q, uint64_t timeout_ns);

/*
 * Ends an IO_EVENT that waits: its done() comes from a later poll or wait, with -ECANCELED, or with the event if that was faster. Returns 0;
 * -EBUSY when the kernel takes no more for now (ask again later).
 */
int io_cancel(struct io_queue *q, struct io_req *req);

/* Submit one operation and wait for it; other completions of the queue are served meanwhile. Workers only. */
int io_pread(struct io_queue *q, struct io_file *f, void *buf, size_t len, uint64_t offset); /* -EIO when the file ends early */
int io_pwrite(struct io_queue *q, struct io_file *f, const void *buf, size_t len, uint64_t offset);
int io_fdatasync(struct io_queue *q, struct io_file *f);
int io_allocate(struct io_queue *q, struct io_file *f, uint64_t offset, uint64_t len);

/* Reads a whole small file (CURRENT, LOG) into malloc'ed memory with a NUL after it; at most @max bytes (-EFBIG). */
int io_read_file(struct io_queue *q, struct io_env *env, const char *name, size_t max, char **data_out, size_t *size_out);

#endif
