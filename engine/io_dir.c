#include "engine/io_real.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

/* ---- the directory ---- */

/* Makes the directory and its name durable: a database whose directory vanishes at a power loss is lost whole. */
static int make_directory(const char *path, struct err_info *err)
{
	char copy[PATH_MAX];
	const char *parent;
	int fd;

	if (strlen(path) >= sizeof(copy))
		return err_set(err, -ENAMETOOLONG, "the database path is longer than %d bytes", PATH_MAX);
	snprintf(copy, sizeof(copy), "%s", path);
	parent = dirname(copy);
	if (mkdir(path, 0700)) {
		int rc = -errno;

		if (rc == -EEXIST)
			return 0;
		if (rc == -ENOENT)
			return err_set(err, rc,
				       "%s cannot be created: its parent directory %s does not exist; make it first "
				       "(mkdir -p %s)",
				       path, parent, parent);
		return err_set(err, rc, "%s cannot be created in %s: %s", path, parent, strerror(-rc));
	}
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* a parent that may be searched but not read: nothing to be had here */
	if (fsync(fd)) {
		int rc = -errno;

		close(fd);
		return err_set(err, rc, "%s: the new directory could not be made durable in %s: %s", path, parent,
			       strerror(-rc));
	}
	close(fd);
	return 0;
}

static int explain_open(const char *path, int rc, struct err_info *err)
{
	switch (rc) {
	case -ENOENT:
		return err_set(err, rc, "%s does not exist; create it, or check the path given as database directory",
			       path);
	case -ENOTDIR:
		return err_set(err, rc, "%s is not a directory; a database is a directory of files", path);
	case -EACCES:
		return err_set(err, rc, "%s may not be opened by user %u; check its owner and mode (ls -ld %s)", path,
			       (unsigned)geteuid(), path);
	case -ELOOP:
		return err_set(err, rc, "%s leads through too many symbolic links", path);
	default:
		return err_set(err, rc, "%s cannot be opened: %s", path, strerror(-rc));
	}
}

/* A directory that cannot be written is refused now, not at the first flush. */
static int check_writable(const struct io_env_real *real, struct err_info *err)
{
	int rc;

	if (!faccessat(real->dirfd, ".", R_OK | W_OK | X_OK, AT_EACCESS))
		return 0;
	rc = -errno;
	if (rc == -EROFS)
		return err_set(err, rc,
			       "%s lies on a read-only file system; remount it read-write or use another directory",
			       real->path);
	if (rc == -EACCES)
		return err_set(err, rc, "%s may not be written by user %u; check its owner and mode (ls -ld %s)",
			       real->path, (unsigned)geteuid(), real->path);
	return err_set(err, rc, "%s cannot be used: %s", real->path, strerror(-rc));
}

int io_dir_open(const char *path, bool create, struct io_env_real **out, struct err_info *err)
{
	struct io_env_real *real;
	int rc;

	if (create) {
		rc = make_directory(path, err);
		if (rc < 0)
			return rc;
	}
	real = calloc(1, sizeof(*real));
	if (!real)
		return err_set(err, -ENOMEM, "out of memory");
	real->dirfd = -1;
	atomic_init(&real->lock_fd, -1);
	real->path = strdup(path);
	if (!real->path) {
		rc = err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	real->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (real->dirfd < 0) {
		rc = explain_open(path, -errno, err);
		goto fail;
	}
	rc = check_writable(real, err);
	if (rc < 0)
		goto fail;
	*out = real;
	return 0;
fail:
	io_dir_close(real);
	return rc;
}

void io_dir_close(struct io_env_real *real)
{
	if (!real)
		return;
	io_lock_release(real);
	if (real->dirfd >= 0)
		close(real->dirfd);
	free(real->path);
	free(real);
}

void io_dir_env_close(struct io_env *env)
{
	io_dir_close(env_real(env));
}

/* ---- files ---- */

int io_dir_file_open(struct io_env *env, const char *name, unsigned flags, struct io_file **out)
{
	int how = O_CLOEXEC | (flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY);
	struct io_file *file;

	if (flags & IO_OPEN_CREATE)
		how |= O_CREAT | (flags & IO_OPEN_EXCL ? O_EXCL : O_TRUNC);
	file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->env = env;
	file->fd = openat(env_real(env)->dirfd, name, how, 0644);
	if (file->fd < 0) {
		int rc = -errno;

		free(file);
		return rc;
	}
	*out = file;
	return 0;
}

void io_dir_file_close(struct io_file *file)
{
	close(file->fd);
	free(file);
}

int io_dir_file_size(struct io_file *file, uint64_t *size_out)
{
	struct stat st;

	if (fstat(file->fd, &st))
		return -errno;
	*size_out = (uint64_t)st.st_size;
	return 0;
}

int io_dir_file_truncate(struct io_file *file, uint64_t size)
{
	int rc;

	do
		rc = ftruncate(file->fd, (off_t)size);
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

int io_dir_unlink(struct io_env *env, const char *name)
{
	return unlinkat(env_real(env)->dirfd, name, 0) ? -errno : 0;
}

int io_dir_rename(struct io_env *env, const char *from, const char *to)
{
	int dirfd_ = env_real(env)->dirfd;

	return renameat(dirfd_, from, dirfd_, to) ? -errno : 0;
}

int io_dir_sync(struct io_env *env)
{
	return fsync(env_real(env)->dirfd) ? -errno : 0;
}

int io_dir_list(struct io_env *env, void (*each)(void *context, const char *name), void *context)
{
	int fd = openat(env_real(env)->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir;
	int rc;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		close(fd);
		return rc;
	}
	for (;;) {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			break;
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			each(context, entry->d_name);
	}
	rc = -errno;
	closedir(dir);
	return rc;
}

/* ---- clock and randomness ---- */

uint64_t io_dir_now_ns(struct io_env *env)
{
	struct timespec now;

	(void)env;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t io_dir_random(struct io_env *env)
{
	uint64_t v = 0;

	/* Up to 256 bytes come whole; before the kernel's pool is ready a signal may cut the wait. */
	while (getrandom(&v, sizeof(v), 0) != sizeof(v))
		assert(errno == EINTR);
	(void)env;
	return v;
}
