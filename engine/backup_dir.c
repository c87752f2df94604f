#include "engine/backup_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/edit.h"
#include "engine/filename.h"
#include "engine/kill_point.h"
#include "engine/log_format.h"
#include "shm/error.h"

enum { PIECE = 4 << 20 };

static const char copy_name[] = "SHALE.copy"; /* a copy until it is whole */
static const char write_name[] = "SHALE.part";

static int failed(struct err_info *err, int rc, const char *doing, const char *name)
{
	const char *help =
		rc == -EROFS ? ". Under systemd the service may write below its state directory only (/var/lib/shale); "
			       "choose a place there, or allow another one with ReadWritePaths="
		: rc == -EACCES || rc == -EPERM	 ? ". It must be a place where the user that does the work may write"
		: rc == -ENOSPC || rc == -EDQUOT ? ". Free some space on that file system"
						 : "";

	return err_set(err, rc, "%s: %s: %s%s", name, doing, shale_strerror(rc), help);
}

/* ---- the way there ---- */

static int step(int at, const char *path, const char *name, int flags, struct err_info *err)
{
	int fd = openat(at, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;
	struct stat st;

	if (fd >= 0)
		return fd;
	rc = -errno;
	if ((rc == -ENOTDIR || rc == -ELOOP) && !fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode))
		return err_set(err, -ELOOP,
			       "%s: '%s' is a symbolic link, and none is followed; give the path it leads to", path,
			       name);
	return failed(err, rc, name, path);
}

int backup_locate(struct backup_dir *b, const char *path, struct err_info *err)
{
	const char *at = path;
	int fd;

	*b = (struct backup_dir){.parent = -1, .dir = -1};
	if (*path != '/')
		return err_set(err, -EINVAL, "%s: the path must be absolute", path);
	fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failed(err, -errno, "opening it", "/");
	b->parent = fd;
	for (;;) {
		char name[NAME_MAX + 1];
		size_t n;

		at += strspn(at, "/");
		n = strcspn(at, "/");
		/* The other name is longer than the name. */
		if (n > sizeof(name) - 32)
			return err_set(err, -ENAMETOOLONG, "%s: a name in it is too long", path);
		memcpy(name, at, n);
		name[n] = '\0';
		at += n;
		if (!n || !strcmp(name, ".") || !strcmp(name, ".."))
			return err_set(err, -EINVAL, "%s: it must name a directory, without '.' and '..'", path);
		if (!at[strspn(at, "/")]) {
			snprintf(b->name, sizeof(b->name), "%s", name);
			snprintf(b->part, sizeof(b->part), ".%.200s.shale-part", name);
			break;
		}
		fd = step(b->parent, path, name, O_PATH, err);
		if (fd < 0)
			return fd;
		close(b->parent);
		b->parent = fd;
	}
	fd = openat(b->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* O_PATH cannot be synced */
	if (fd < 0)
		return failed(err, -errno, "opening the directory it is in", path);
	close(b->parent);
	b->parent = fd;
	return 0;
}

/* Ours, and nobody else may write to it. */
static int check_ours(int dir, const char *name, struct err_info *err)
{
	struct stat st;

	if (fstat(dir, &st) < 0)
		return failed(err, -errno, "looking at it", name);
	if (st.st_uid != geteuid())
		return err_set(err, -EPERM, "%s: it belongs to user %u, not to the one that does this (%u)", name,
			       (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, -EPERM, "%s: others may write to it; chmod go-w, or choose another place", name);
	return 0;
}

int backup_existing(struct backup_dir *b, struct err_info *err)
{
	struct stat st;
	int rc;

	if (fstatat(b->parent, b->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : failed(err, -errno, "looking at it", b->name);
	b->dir = step(b->parent, b->name, b->name, O_RDONLY, err);
	if (b->dir < 0)
		return b->dir;
	rc = check_ours(b->dir, b->name, err);
	return rc < 0 ? rc : 1;
}

/* ---- beginning and end ---- */

static bool is_ours(const char *name)
{
	enum file_type type;
	uint64_t number;

	return file_parse(name, &type, &number) || strncmp(name, "SHALE.", 6) == 0;
}

/* Empties a directory that was filled here; a name that is not ours stays, and rmdir() will say so. */
static void empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d && fd >= 0)
		close(fd);
	while (d && (entry = readdir(d)))
		if (is_ours(entry->d_name))
			unlinkat(dir, entry->d_name, 0);
	if (d)
		closedir(d);
}

static int clear_part(struct backup_dir *b, struct err_info *err)
{
	int fd = openat(b->parent, b->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : failed(err, -errno, "clearing away what an earlier attempt left", b->part);
	rc = check_ours(fd, b->part, err);
	if (rc == 0) {
		empty(fd);
		if (unlinkat(b->parent, b->part, AT_REMOVEDIR) < 0)
			rc = failed(err, -errno, "clearing away what an earlier attempt left", b->part);
	}
	close(fd);
	return rc;
}

int backup_begin(struct backup_dir *b, struct err_info *err)
{
	int rc = clear_part(b, err);

	if (rc < 0)
		return rc;
	if (mkdirat(b->parent, b->part, 0700) < 0)
		return failed(err, -errno, "making a directory beside it", b->name);
	KILL_POINT("backup_begun");
	b->dir = openat(b->parent, b->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (b->dir < 0)
		return failed(err, -errno, "opening it", b->part);
	b->fresh = true;
	return check_ours(b->dir, b->part, err);
}

int backup_publish(struct backup_dir *b, struct err_info *err)
{
	struct stat st;
	int rc = 0;

	if (fsync(b->dir) < 0)
		return failed(err, -errno, "syncing it", b->part);
	KILL_POINT("backup_filled");
	if (renameat2(b->parent, b->part, b->parent, b->name, RENAME_NOREPLACE) < 0)
		rc = -errno;
	if (rc == -EINVAL || rc == -ENOSYS) { /* not every file system can tell whether the name is free */
		rc = fstatat(b->parent, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? -EEXIST : 0;
		if (rc == 0 && renameat(b->parent, b->part, b->parent, b->name) < 0)
			rc = -errno;
	}
	if (rc < 0)
		return failed(err, rc, "giving it its name", b->name);
	KILL_POINT("backup_renamed");
	b->fresh = false;
	return fsync(b->parent) < 0 ? failed(err, -errno, "syncing the directory it is in", b->name) : 0;
}

void backup_drop(struct backup_dir *b)
{
	if (!b->fresh)
		return;
	empty(b->dir);
	unlinkat(b->parent, b->part, AT_REMOVEDIR);
	b->fresh = false;
}

void backup_close(struct backup_dir *b)
{
	if (b->dir >= 0)
		close(b->dir);
	if (b->parent >= 0)
		close(b->parent);
	b->dir = b->parent = -1;
}

/* ---- files ---- */

/* One file, or a copy that was made here: the same size and, to the nanosecond, the same time. */
static bool same(const struct stat *a, const struct stat *b)
{
	if (a->st_dev == b->st_dev && a->st_ino == b->st_ino)
		return true;
	return S_ISREG(b->st_mode) && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int write_all(int fd, const unsigned char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* The next piece, in the kernel where it can (which may share the blocks), else through @buf. Bytes, 0 at the end, or -errno. */
static ssize_t copy_piece(int in, int out, unsigned char **buf)
{
	ssize_t n;
	int rc;

	if (!*buf) {
		n = copy_file_range(in, NULL, out, NULL, PIECE, 0);
		if (n >= 0)
			return n;
		if (errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP && errno != EPERM)
			return -errno;
		*buf = malloc(PIECE);
		if (!*buf)
			return -ENOMEM;
	}
	n = read(in, *buf, PIECE);
	if (n < 0)
		return -errno;
	rc = write_all(out, *buf, (size_t)n);
	return rc < 0 ? rc : n;
}

static int copy_bytes(struct backup_copy *c, int in, int out, const struct stat *st)
{
	const struct timespec times[2] = {st->st_mtim, st->st_mtim};
	unsigned char *buf = NULL;
	uint64_t copied = 0;
	ssize_t n = 1;
	int rc = 0;

	while (rc == 0 && n > 0) {
		n = copy_piece(in, out, &buf);
		copied += n > 0 ? (uint64_t)n : 0;
		rc = n < 0 ? (int)n : c->progress && n ? c->progress(c, (uint64_t)n) : 0;
	}
	free(buf);
	if (rc == 0 && copied != (uint64_t)st->st_size)
		rc = -EIO; /* it is shorter than it was: somebody cut it */
	if (rc == 0 && futimens(out, times) < 0)
		rc = -errno;
	if (rc == 0 && fsync(out) < 0)
		rc = -errno;
	/* What nobody is about to read shall not drive out what somebody does. */
	posix_fadvise(out, 0, 0, POSIX_FADV_DONTNEED);
	return rc;
}

static int copy(struct backup_copy *c, int from, const char *name, struct backup_dir *b, const struct stat *st)
{
	int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out, rc;

	if (in < 0)
		return -errno;
	unlinkat(b->dir, copy_name, 0);
	out = openat(b->dir, copy_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0644);
	rc = out < 0 ? -errno : copy_bytes(c, in, out, st);
	KILL_POINT("backup_copied");
	if (rc == 0 && renameat(b->dir, copy_name, b->dir, name) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(b->dir, copy_name, 0);
	if (out >= 0)
		close(out);
	close(in);
	return rc;
}

static int link_file(struct backup_copy *c, int from, const char *name, struct backup_dir *b)
{
	int fd, rc = 0;

	if (linkat(from, name, b->dir, name, 0) < 0)
		return -errno;
	if (c->durable_source)
		return 0;
	fd = openat(b->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

int backup_file(struct backup_copy *c, int from, const char *name, struct backup_dir *b, enum backup_way *way_out,
		struct err_info *err)
{
	struct stat st, there;
	int rc;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(err, -errno, "looking at it", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: it is no regular file", name);
	if (fstatat(b->dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!same(&st, &there))
			return err_set(
				err, -EEXIST,
				"%s: there is another file of that name in %s: it must be of another database, or of "
				"another life of this one; choose another directory, or remove that one",
				name, b->name);
		*way_out = BACKUP_KEPT;
		return 0;
	}
	rc = c->link ? link_file(c, from, name, b) : -EXDEV;
	*way_out = BACKUP_LINKED;
	/* Another file system, or another mount of the same one, or one without links, or with no more of them for this file. */
	if (rc == -EXDEV || rc == -EPERM || rc == -EOPNOTSUPP || rc == -EMLINK || rc == -ENOSYS) {
		rc = copy(c, from, name, b, &st);
		*way_out = BACKUP_COPIED;
	}
	return rc == -ECANCELED ? rc : rc < 0 ? failed(err, rc, "linking or copying it", name) : 0;
}

int backup_write(struct backup_dir *b, const char *name, const void *data, size_t size, struct err_info *err)
{
	int fd, rc;

	unlinkat(b->dir, write_name, 0);
	fd = openat(b->dir, write_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return failed(err, -errno, "making it", name);
	rc = write_all(fd, data, size);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	if (rc == 0 && renameat(b->dir, write_name, b->dir, name) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(b->dir, write_name, 0);
	return rc < 0 ? failed(err, rc, "writing it", name) : 0;
}

int backup_manifest(struct backup_dir *b, uint64_t number, const struct edit *edit, struct err_info *err)
{
	struct log_dest dest = {.mask = UINT64_MAX};
	unsigned char *record = NULL;
	char name[FILE_NAME_MAX];
	size_t size = 0;
	int rc = edit_encode(edit, &record, &size);

	if (rc == 0) {
		dest.base = malloc(log_framed_size(0, size));
		rc = dest.base ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		uint64_t end = log_frame(&dest, 0, slice_of(record, size));

		rc = backup_write(b, file_name(name, FILE_MANIFEST, number), dest.base, end, err);
	} else {
		err_set(err, rc, "no memory for a MANIFEST");
	}
	free(record);
	free(dest.base);
	return rc;
}

int backup_current(struct backup_dir *b, uint64_t number, struct err_info *err)
{
	char name[FILE_NAME_MAX + 1];
	size_t n;

	file_name(name, FILE_MANIFEST, number);
	n = strlen(name);
	name[n++] = '\n';
	return backup_write(b, "CURRENT", name, n, err);
}
