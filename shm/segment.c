/*
 * segment.c - create, map, hand over and sweep named shared memory.
 *
 * Linux keeps POSIX shared memory as files in a tmpfs at /dev/shm; sweeping and the words about a full one rely on
 * that.
 *
 * A segment's file stays empty until posix_fallocate has taken all of its memory and set its size in one step. So a
 * daemon killed half-way leaves an empty file, which segment_open takes for none at all.
 */
#include "shm/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/error.h"

#define SHM_DIR "/dev/shm"

int segment_instance(int dirfd, char instance_out[INSTANCE_LEN + 1])
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a over the two words, then mixed */
	struct stat st;

	if (fstat(dirfd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	h = (h ^ (uint64_t)st.st_dev) * UINT64_C(0x100000001b3);
	h = (h ^ (uint64_t)st.st_ino) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	snprintf(instance_out, INSTANCE_LEN + 1, "%016llx", (unsigned long long)h);
	return 0;
}

static int make_name(const char *instance, const char *what, char name_out[SEGMENT_NAME_MAX], struct err_info *err)
{
	int n;

	if (!*instance || !*what || strchr(instance, '/') || strchr(what, '/'))
		return err_set(err, -EINVAL, "a shared-memory segment cannot be named \"%s\".\"%s\"", instance, what);
	n = snprintf(name_out, SEGMENT_NAME_MAX, "/shale.%s.%s", instance, what);
	if (n >= SEGMENT_NAME_MAX)
		return err_set(err, -ENAMETOOLONG, "the shared-memory name /shale.%s.%s is too long", instance, what);
	return 0;
}

static int no_space(const char *name, size_t size, int code, struct err_info *err)
{
	struct statvfs vfs;
	unsigned long long available = 0, total = 0;

	if (statvfs(SHM_DIR, &vfs) == 0) {
		available = (unsigned long long)vfs.f_bavail * vfs.f_frsize;
		total = (unsigned long long)vfs.f_blocks * vfs.f_frsize;
	}
	return err_set(err, code,
		       "%s%s: needs %zu KiB of shared memory, but " SHM_DIR " has %llu of %llu KiB free: enlarge it "
		       "(mount -o remount,size=… " SHM_DIR
		       "; for a container --shm-size), remove what others left there, or "
		       "configure smaller buffers",
		       SHM_DIR, name, size >> 10, available >> 10, total >> 10);
}

/* Takes all memory of the empty file @fd and gives it its size. */
static int allocate(int fd, size_t size)
{
	int rc;

	do
		rc = posix_fallocate(fd, 0, (off_t)size);
	while (rc == EINTR);
	return -rc;
}

static int map(struct segment *s)
{
	void *base = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);

	if (base == MAP_FAILED)
		return -errno;
	s->base = base;
	return 0;
}

/* Makes the file of that name, replacing an older one if told so. Returns the descriptor. */
static int create_file(const char *name, mode_t mode, bool replace, struct err_info *err)
{
	int fd, rc;

	if (replace && shm_unlink(name) < 0 && errno != ENOENT) {
		rc = -errno;
		return err_set(err, rc, "%s%s is left over and cannot be removed: %s; remove it by hand as its owner",
			       SHM_DIR, name, shale_strerror(rc));
	}
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		return err_set(err, rc, "creating %s%s: %s", SHM_DIR, name, shale_strerror(rc));
	}
	/* The mode that was asked for, whatever the umask. */
	if (fchmod(fd, mode) < 0) {
		rc = err_set(err, -errno, "setting mode %03o of %s%s: %m", (unsigned)mode, SHM_DIR, name);
		shm_unlink(name);
		close(fd);
		return rc;
	}
	return fd;
}

int segment_create(const char *instance, const char *what, size_t size, mode_t mode, bool replace, struct segment *out,
		   struct err_info *err)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct segment s = {.fd = -1};
	int rc;

	if (size == 0 || size > (size_t)SSIZE_MAX - page)
		return err_set(err, -EINVAL, "a shared-memory segment of %zu bytes is not possible", size);
	s.size = align_up(size, page);
	rc = make_name(instance, what, s.name, err);
	if (rc < 0)
		return rc;
	s.fd = create_file(s.name, mode, replace, err);
	if (s.fd < 0)
		return s.fd;
	rc = allocate(s.fd, s.size);
	if (rc == -ENOSPC || rc == -ENOMEM) {
		no_space(s.name, s.size, rc, err);
		goto fail;
	}
	if (rc == 0)
		rc = map(&s);
	if (rc < 0) {
		err_set(err, rc, "allocating %zu KiB for %s%s: %s", s.size >> 10, SHM_DIR, s.name, shale_strerror(rc));
		goto fail;
	}
	*out = s;
	return 0;
fail:
	segment_unlink(&s);
	segment_close(&s);
	return rc;
}

int segment_open(const char *instance, const char *what, struct segment *out, struct err_info *err)
{
	struct segment s = {.fd = -1};
	struct stat st;
	int rc;

	rc = make_name(instance, what, s.name, err);
	if (rc < 0)
		return rc;
	s.fd = shm_open(s.name, O_RDWR | O_CLOEXEC, 0);
	if (s.fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (s.fd < 0 || fstat(s.fd, &st) < 0) {
		rc = -errno;
		err_set(err, rc, "opening %s%s: %s", SHM_DIR, s.name, shale_strerror(rc));
		goto fail;
	}
	/* /dev/shm is open to all: what another user put there under our name is not ours to believe. */
	if (st.st_uid != geteuid()) {
		rc = err_set(err, -EACCES, "%s%s belongs to uid %u, this is uid %u: start as that user, or remove it",
			     SHM_DIR, s.name, (unsigned)st.st_uid, (unsigned)geteuid());
		goto fail;
	}
	if (!S_ISREG(st.st_mode) || st.st_size == 0) {
		rc = -ENOENT;
		goto fail;
	}
	s.size = (size_t)st.st_size;
	/*
	 * A no-op on what segment_create made; it fills holes that somebody punched, which would raise SIGBUS when
	 * memory is short.
	 */
	rc = allocate(s.fd, s.size);
	if (rc == -ENOSPC || rc == -ENOMEM) {
		no_space(s.name, s.size, rc, err);
		goto fail;
	}
	if (rc == 0)
		rc = map(&s);
	if (rc < 0) {
		err_set(err, rc, "mapping %s%s: %s", SHM_DIR, s.name, shale_strerror(rc));
		goto fail;
	}
	*out = s;
	return 0;
fail:
	segment_close(&s);
	return rc;
}

int segment_reopen_readonly(const struct segment *s)
{
	char path[64];
	int fd;

	/* By descriptor first: it is this segment, whatever the name means by now, and it works without one. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && s->name[0])
		fd = shm_open(s->name, O_RDONLY | O_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

void segment_unlink(struct segment *s)
{
	if (s->name[0])
		shm_unlink(s->name);
	s->name[0] = '\0';
}

void segment_close(struct segment *s)
{
	if (!s)
		return;
	if (s->base)
		munmap(s->base, s->size);
	/* A zeroed struct has no mapping and no size; its descriptor 0 is not ours to close. */
	if (s->fd > 0 || (s->fd == 0 && s->size))
		close(s->fd);
	*s = (struct segment){.fd = -1};
}

static bool listed(const char *what, const char *const *keep)
{
	for (; keep && *keep; keep++) {
		if (strcmp(what, *keep) == 0)
			return true;
	}
	return false;
}

int segment_sweep(const char *instance, const char *const *keep)
{
	char prefix[SEGMENT_NAME_MAX], name[NAME_MAX + 2];
	struct dirent *entry;
	size_t len;
	int swept = 0;
	DIR *dir;

	len = (size_t)snprintf(prefix, sizeof(prefix), "shale.%s.", instance);
	if (!*instance || len >= sizeof(prefix))
		return -EINVAL;
	dir = opendir(SHM_DIR);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, prefix, len) != 0 || listed(entry->d_name + len, keep))
			continue;
		snprintf(name, sizeof(name), "/%s", entry->d_name);
		/*
		 * A file that another user planted under our prefix cannot be removed; it must not keep us from
		 * starting.
		 */
		if (shm_unlink(name) == 0)
			swept++;
	}
	closedir(dir);
	return swept;
}
