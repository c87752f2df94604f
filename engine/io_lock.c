/*
 * io_lock.c - one database, one process.
 *
 * Stock LevelDB takes an fcntl lock over the whole LOCK file. Such a lock belongs to the process and goes when the process
 * goes, although a write that it had handed to the disk may land later: a second process could then replay a log that
 * still changes. A lock of the open file description (F_OFD_SETLK) stays until its last user is gone, and a ring that has the
 * descriptor registered is one until its last operation is over. But such a lock has no pid to tell.
 *
 *	byte 0 … LOCK_SPLIT-1    process lock: tells the owner's pid
 *	byte LOCK_SPLIT …        description lock: outlives SIGKILL until the I/O is over
 *
 * Together they cover the whole file, so stock's lock excludes ours and ours excludes stock's. Neither excludes a second open in
 * the same process (a process lock does not conflict with itself, and closing any descriptor of the file would drop it), so
 * a registry of locked files is asked first, before the file is opened.
 */
#include "engine/io_real.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

static const off_t LOCK_SPLIT = (off_t)1 << 62;

/* A killed owner's ring is taken down by the kernel a moment after the process: worth a short wait, not an error. */
enum { LINGER_MS = 5000 };

/* ---- the registry of this process ---- */

enum { REGISTRY_MAX = 64 };

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
	dev_t dev;
	ino_t ino;
	bool used;
} registry[REGISTRY_MAX];

static bool registry_holds(dev_t dev, ino_t ino)
{
	for (int i = 0; i < REGISTRY_MAX; i++)
		if (registry[i].used && registry[i].dev == dev && registry[i].ino == ino)
			return true;
	return false;
}

static bool registry_add(dev_t dev, ino_t ino)
{
	for (int i = 0; i < REGISTRY_MAX; i++) {
		if (!registry[i].used) {
			registry[i].dev = dev;
			registry[i].ino = ino;
			registry[i].used = true;
			return true;
		}
	}
	return false;
}

static void registry_remove(dev_t dev, ino_t ino)
{
	for (int i = 0; i < REGISTRY_MAX; i++)
		if (registry[i].used && registry[i].dev == dev && registry[i].ino == ino)
			registry[i].used = false;
}

/* ---- the two locks ---- */

static int set_lock(int fd, int command, short type, off_t start, off_t length)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	return fcntl(fd, command, &lock) ? -errno : 0;
}

/* The process that holds a conflicting lock; 0 when nobody does, -1 when a description lock has no process to name. */
static pid_t lock_owner(int fd, off_t start, off_t length)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

void process_name(pid_t pid, char out[32])
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, 31);
		close(fd);
	}
	if (n > 0 && out[n - 1] == '\n')
		n--;
	out[n > 0 ? n : 0] = '\0';
	for (char *p = out; *p; p++) /* it goes to logs and terminals */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static int explain_conflict(const struct io_env_real *real, pid_t owner, struct err_info *err)
{
	char name[32];

	if (owner < 0)
		return err_set(
			err, -SHALE_ELOCKED,
			"%s is in use: the last disk operations of a process that was killed are still under way "
			"(a stalled disk?); try again when they are over",
			real->path);
	process_name(owner, name);
	return err_set(err, -SHALE_ELOCKED, "%s is in use by process %ld%s%s%s; stop it or use another directory",
		       real->path, (long)owner, name[0] ? " (" : "", name, name[0] ? ")" : "");
}

static bool is_conflict(int rc)
{
	return rc == -EAGAIN || rc == -EACCES;
}

/* Takes both locks; waits for a killed owner's I/O, never for a living process. */
static int take_both(const struct io_env_real *real, int fd, const char *name, struct err_info *err)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	pid_t owner;
	int rc;

	for (int waited = 0;; waited++) {
		rc = set_lock(fd, F_SETLK, F_WRLCK, 0, LOCK_SPLIT);
		if (!rc) {
			rc = set_lock(fd, F_OFD_SETLK, F_WRLCK, LOCK_SPLIT, 0);
			if (!rc)
				return 0;
			set_lock(fd, F_SETLK, F_UNLCK, 0, LOCK_SPLIT);
		}
		if (!is_conflict(rc))
			return err_set(err, rc, "%s/%s cannot be locked: %s", real->path, name, strerror(-rc));
		owner = lock_owner(fd, 0, LOCK_SPLIT);
		if (!owner)
			owner = lock_owner(fd, LOCK_SPLIT, 0);
		if (owner > 0 || waited >= LINGER_MS)
			return explain_conflict(real, owner ? owner : -1, err);
		nanosleep(&pause, NULL);
	}
}

/* With the registry's mutex held. */
static int lock_file(struct io_env_real *real, const char *name, struct err_info *err)
{
	struct stat st;
	int fd, rc;

	if (!fstatat(real->dirfd, name, &st, 0) && registry_holds(st.st_dev, st.st_ino))
		return explain_conflict(real, getpid(), err);
	fd = openat(real->dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EROFS) { /* not seen before: the kernel made it so after an error */
		rc = err_set(err, -EROFS,
			     "%s lies on a read-only file system; see the kernel log (dmesg) for why, remount it "
			     "read-write or use "
			     "another directory",
			     real->path);
		goto fail;
	}
	if (fd < 0 || fstat(fd, &st)) {
		rc = err_set(err, -errno, "%s/%s cannot be opened: %s", real->path, name, strerror(errno));
		goto fail;
	}
	rc = take_both(real, fd, name, err);
	if (rc < 0)
		goto fail;
	if (!registry_add(st.st_dev, st.st_ino)) {
		rc = err_set(err, -EMFILE, "%s: this process has %d databases open already", real->path, REGISTRY_MAX);
		goto fail;
	}
	real->lock_dev = st.st_dev;
	real->lock_ino = st.st_ino;
	/* Pairs with the acquire of a queue that registers it. */
	atomic_store_explicit(&real->lock_fd, fd, memory_order_release);
	return 0;
fail:
	if (fd >= 0)
		close(fd);
	return rc;
}

int io_lock_take(struct io_env *env, const char *name, struct err_info *err)
{
	struct io_env_real *real = env_real(env);
	int rc;

	/* A host may take it early, to touch nothing of another's; engine_open takes it again. Relaxed: opening is one thread's. */
	if (atomic_load_explicit(&real->lock_fd, memory_order_relaxed) >= 0)
		return 0;
	pthread_mutex_lock(&registry_mutex);
	rc = lock_file(real, name, err);
	pthread_mutex_unlock(&registry_mutex);
	return rc;
}

void io_lock_release(struct io_env_real *real)
{
	int fd = atomic_load_explicit(&real->lock_fd, memory_order_relaxed); /* no queue is left that could look */

	if (fd < 0)
		return;
	pthread_mutex_lock(&registry_mutex);
	/* By hand: a ring that is still being taken down would hold the description lock a moment longer. */
	set_lock(fd, F_OFD_SETLK, F_UNLCK, LOCK_SPLIT, 0);
	close(fd);
	registry_remove(real->lock_dev, real->lock_ino);
	pthread_mutex_unlock(&registry_mutex);
	atomic_store_explicit(&real->lock_fd, -1, memory_order_relaxed);
}
