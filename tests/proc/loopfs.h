/*
 * loopfs.h - a place of one's own for tests that take file systems away: small ext4 and XFS file systems on loop devices.
 *
 * loopfs_private() gives the test (a process of its own) a mount namespace, with a /dev/shm and a boot id that are its alone. So
 * whatever it mounts is gone with its last process, however that ends, and it can play a power loss whole: the file
 * system forgets what was not synced, shared memory is empty, and the machine has booted anew.
 *
 * Needs root, loop devices and mkfs; loopfs_missing() says what is not there, for a test to skip with.
 */
#ifndef SHALE_TESTS_LOOPFS_H
#define SHALE_TESTS_LOOPFS_H

#include <stddef.h>

struct loopfs {
	const char *type;
	char image[256], root[256]; /* root: where it is mounted */
	int loop;		    /* the device, or -1 */
	char device[32];
};

/* What is missing for a file system of @type ("tmpfs", "ext4", "xfs"), or NULL. */
const char *loopfs_missing(const char *type);

/*
 * From here on the test and its children have mounts of their own, an empty /dev/shm of @shm_kib, and a tmpfs of @place_mib that holds the
 * images and mount points, so that a disk's speed is no matter.
 */
void loopfs_private(size_t shm_kib, size_t place_mib);

/* The path of that tmpfs; borrowed. */
const char *loopfs_place(void);

/* Makes a file system of @mib there, and mounts it. @options as mount(2) takes them, or NULL. */
void loopfs_make(struct loopfs *fs, const char *type, size_t mib, const char *options);
void loopfs_mount(struct loopfs *fs, const char *options);
void loopfs_unmount(struct loopfs *fs); /* waits for a killed process's last operations */
void loopfs_fini(struct loopfs *fs);

/*
 * The file system stops as if its device had been unplugged: all that follows is an I/O error, and what is only in memory is lost.
 * @flush_log: its journal's memory still reaches the device, but no data does.
 */
void loopfs_shutdown(const struct loopfs *fs, int flush_log);

/*
 * The device ends after @bytes (0: it is whole again): the file system does not know, and what it reads or writes beyond fails. (An image in a
 * full tmpfs would not do: the loop driver calls a write that was cut short a success.)
 */
void loopfs_shorten(const struct loopfs *fs, size_t bytes);

/* What else a power loss takes: shared memory, and the boot id. */
void loopfs_reboot(void);

/* Takes what is free in the directory's file system, but for @leave bytes, by a file of that name there; unlink gives it back. */
void loopfs_fill(const char *directory, const char *name, size_t leave);

#endif
