#include "tests/proc/loopfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static char place[200], boot_id_file[256];

const char *loopfs_missing(const char *type)
{
	static char text[128];
	char out[64];

	if (geteuid() != 0)
		return "not root";
	if (strcmp(type, "tmpfs") == 0)
		return NULL;
	if (access("/dev/loop-control", R_OK | W_OK) < 0)
		return "no /dev/loop-control";
	if (proc_shell(out, sizeof(out), "PATH=$PATH:/usr/sbin:/sbin command -v mkfs.%s", type) == 0)
		return NULL;
	snprintf(text, sizeof(text), "no mkfs.%s (make deps-ci brings it)", type);
	return text;
}

static void spit(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void new_boot_id(void)
{
	uint64_t a = monotonic_ns(), b = (uint64_t)getpid();
	char text[40];

	snprintf(text, sizeof(text), "%08x-0000-4000-8000-%012llx\n", (unsigned)b,
		 (unsigned long long)a & 0xffffffffffff);
	spit(boot_id_file, text);
}

const char *loopfs_place(void)
{
	return place;
}

void loopfs_private(size_t shm_kib, size_t place_mib)
{
	char options[32], *dir;

	if (*place)
		return;
	ck_assert_msg(unshare(CLONE_NEWNS) == 0, "unshare: %m");
	ck_assert_msg(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts: %m");
	snprintf(options, sizeof(options), "size=%zuk,mode=1777", shm_kib);
	ck_assert_msg(mount("none", "/dev/shm", "tmpfs", 0, options) == 0, "mount /dev/shm: %m");
	dir = test_tmpdir();
	snprintf(place, sizeof(place), "%s", dir);
	free(dir);
	snprintf(options, sizeof(options), "size=%zum,mode=755", place_mib);
	ck_assert_msg(mount("none", place, "tmpfs", 0, options) == 0, "mount tmpfs: %m");
	snprintf(boot_id_file, sizeof(boot_id_file), "%s/boot_id", place);
	new_boot_id();
	ck_assert_msg(mount(boot_id_file, "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL) == 0, "boot_id: %m");
}

void loopfs_reboot(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/dev/shm");

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		if (*entry->d_name != '.')
			ck_assert_int_eq(unlinkat(dirfd(dir), entry->d_name, 0), 0);
	closedir(dir);
	new_boot_id();
}

/* A free loop device over the image; the kernel lets go of it when the last user is gone. */
static void attach(struct loopfs *fs)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), image = open(fs->image, O_RDWR | O_CLOEXEC),
	    rc = -1;
	struct loop_config config = {.fd = (uint32_t)image, .info.lo_flags = LO_FLAGS_AUTOCLEAR};

	ck_assert_msg(control >= 0 && image >= 0, "loop: %m");
	for (int i = 0; i < 100 && rc < 0; i++) {
		snprintf(fs->device, sizeof(fs->device), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		fs->loop = open(fs->device, O_RDWR | O_CLOEXEC);
		rc = fs->loop < 0 ? -1 : ioctl(fs->loop, LOOP_CONFIGURE, &config);
		if (rc < 0) { /* somebody else was faster, or the node is not there yet */
			if (fs->loop >= 0)
				close(fs->loop);
			usleep(10000);
		}
	}
	ck_assert_msg(rc == 0, "%s: %m", fs->device);
	close(image);
	close(control);
}

void loopfs_make(struct loopfs *fs, const char *type, size_t mib, const char *options)
{
	/* XFS wants 300 MiB at least; the image is sparse. */
	size_t size = (strcmp(type, "xfs") == 0 && mib < 320 ? 320 : mib) << 20;
	static unsigned made;
	char out[1024];
	int fd;

	memset(fs, 0, sizeof(*fs));
	fs->type = type;
	fs->loop = -1;
	snprintf(fs->image, sizeof(fs->image), "%s/image%u", place, made);
	snprintf(fs->root, sizeof(fs->root), "%s/%s%u", place, type, made++);
	ck_ok(mkdir(fs->root, 0755));
	if (strcmp(type, "tmpfs") == 0) {
		snprintf(out, sizeof(out), "size=%zum", mib);
		loopfs_mount(fs, out);
		return;
	}
	fd = open(fs->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_ok(ftruncate(fd, (off_t)size));
	close(fd);
	ck_assert_msg(proc_shell(out, sizeof(out), "PATH=$PATH:/usr/sbin:/sbin mkfs.%s -q %s %s 2>&1", type,
				 strcmp(type, "xfs") == 0 ? "-f" : "-F -m 0", fs->image) == 0,
		      "mkfs.%s: %s", type, out);
	attach(fs);
	loopfs_mount(fs, options);
}

void loopfs_mount(struct loopfs *fs, const char *options)
{
	ck_assert_msg(mount(fs->loop >= 0 ? fs->device : "none", fs->root, fs->type, 0, options) == 0, "mount %s: %m",
		      fs->type);
}

void loopfs_unmount(struct loopfs *fs)
{
	int rc = -1;

	for (int i = 0; i < 1000 * PATIENCE && rc < 0; i++) {
		rc = umount(fs->root);
		if (rc < 0)
			usleep(10000);
	}
	ck_assert_msg(rc == 0, "umount %s: %m", fs->root);
}

void loopfs_fini(struct loopfs *fs)
{
	loopfs_unmount(fs);
	if (fs->loop >= 0)
		close(fs->loop);
	unlink(fs->image);
}

void loopfs_shutdown(const struct loopfs *fs, int flush_log)
{
	uint32_t how = flush_log ? 1 : 2; /* LOGFLUSH, NOLOGFLUSH: the same numbers for ext4 and XFS */
	int fd = open(fs->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_msg(ioctl(fd, _IOR('X', 125, uint32_t), &how) == 0, "shutting %s down: %m", fs->type);
	close(fd);
}

void loopfs_fill(const char *directory, const char *name, size_t leave)
{
	struct statvfs vfs;
	char path[300];
	uint64_t size;
	int fd;

	ck_ok(statvfs(directory, &vfs));
	size = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	/* Somebody else may take some at the same time, and the file's own map some more. */
	for (size = size > leave ? size - leave : 0; size && posix_fallocate(fd, 0, (off_t)size) == ENOSPC;)
		size = size > 4096 ? size - 4096 : 0;
	close(fd);
}

void loopfs_shorten(const struct loopfs *fs, size_t bytes)
{
	struct loop_info64 info;

	ck_assert_msg(ioctl(fs->loop, LOOP_GET_STATUS64, &info) == 0, "loop status: %m");
	info.lo_sizelimit = bytes;
	ck_assert_msg(ioctl(fs->loop, LOOP_SET_STATUS64, &info) == 0, "loop size: %m");
}
