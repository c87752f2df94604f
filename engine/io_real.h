/*
 * io_real.h - what the two backends of the real disk share: one directory, one lock. Private to engine/io*.c.
 *
 *	io_dir.c     directory, files, names, clock: plain system calls, the same for both
 *	io_lock.c    LevelDB's lock
 *	io_posix.c   the queue by pread, pwrite, poll
 *	io_uring.c   the queue by io_uring
 */
#ifndef SHALE_ENGINE_IO_REAL_H
#define SHALE_ENGINE_IO_REAL_H

#include "engine/io.h"

#include <stdatomic.h>
#include <sys/types.h>

struct io_env_real {
	struct io_env base;
	int dirfd;
	char *path;
	unsigned ring_flags; /* io_uring only: setup flags that this kernel takes */
	/*
	 * -1 until io_lock. Atomic because queues of other threads register it while the lock is being taken; the
	 * release in io_lock pairs with their acquire.
	 */
	_Atomic int lock_fd;
	dev_t lock_dev; /* identity of the LOCK file in the process-wide registry */
	ino_t lock_ino;
};

static inline struct io_env_real *env_real(const struct io_env *env)
{
	return container_of(env, struct io_env_real, base);
}

/* Opens (and with @create makes) the directory: everything of an env but its backend. 0 or a negative code with words. */
int io_dir_open(const char *path, bool create, struct io_env_real **out, struct err_info *err);
void io_dir_close(struct io_env_real *real);

int io_lock_take(struct io_env *env, const char *name, struct err_info *err);
void io_lock_release(struct io_env_real *real);

/* Makes @real use the backend. 0, or -errno and env->reason says why io_uring cannot be had. */
void io_posix_attach(struct io_env_real *real);
int io_uring_attach(struct io_env_real *real);

/* True when @ops are those of one of the two. */
bool io_env_is_real(const struct io_env *env);

/* The parts of io_env_ops that are the same for both. */
int io_dir_file_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out);
void io_dir_file_close(struct io_file *file);
int io_dir_file_size(struct io_file *file, uint64_t *size_out);
int io_dir_file_truncate(struct io_file *file, uint64_t size);
int io_dir_unlink(struct io_env *env, const char *name);
int io_dir_rename(struct io_env *env, const char *from, const char *to);
int io_dir_sync(struct io_env *env);
int io_dir_list(struct io_env *env, void (*each)(void *context, const char *name), void *context);
uint64_t io_dir_now_ns(struct io_env *env);
uint64_t io_dir_random(struct io_env *env);
void io_dir_env_close(struct io_env *env);

#define IO_DIR_OPS                                                                                                     \
	.open = io_dir_file_open, .close = io_dir_file_close, .size = io_dir_file_size,                                \
	.truncate = io_dir_file_truncate, .unlink = io_dir_unlink, .rename = io_dir_rename, .sync_dir = io_dir_sync,   \
	.list = io_dir_list, .lock = io_lock_take, .now_ns = io_dir_now_ns, .random = io_dir_random,                   \
	.env_close = io_dir_env_close

/*
 * AddressSanitizer does not see what the kernel writes through io_uring: ask it before, so that a freed or short buffer
 * is found where it was submitted. Nothing in other builds.
 */
#if defined(__SANITIZE_ADDRESS__)
void io_check_buffer(const struct io_req *req);
#else
static inline void io_check_buffer(const struct io_req *req)
{
	(void)req;
}
#endif

#endif
