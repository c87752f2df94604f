/* doctor_space.c - the database's file system, shared memory, and segments that nobody owns any more. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/shalectl/doctor.h"

/* What is known of file systems. @warning NULL: it is good. */
static const struct known_fs {
	unsigned long magic;
	const char *name;
	enum verdict verdict;
	const char *warning;
} file_systems[] = {
	{0xef53, "ext4", FINE, NULL},
	{0x58465342, "XFS", FINE, NULL},
	{0xf2f52010, "F2FS", FINE, NULL},
	{0x2fc12fc1, "ZFS", FINE, NULL},
	{0x9123683e, "btrfs", NOTE, "copies on write, which makes syncs of the log slower than on ext4 or XFS"},
	{0x01021994, "tmpfs", NOTE, "is memory: everything is lost when the machine restarts"},
	{0x858458f6, "ramfs", NOTE, "is memory: everything is lost when the machine restarts"},
	{0x794c7630, "overlayfs", NOTE, "is a container's own layer: everything is lost with the container"},
	{0x65735546, "FUSE", NOTE, "depends on a program for its locks and syncs"},
	{0x6969, "NFS", PROBLEM, "is over the network: neither its locks nor its syncs are what a database needs"},
	{0xff534d42, "CIFS", PROBLEM, "is over the network: neither its locks nor its syncs are what a database needs"},
	{0xfe534d42, "SMB", PROBLEM, "is over the network: neither its locks nor its syncs are what a database needs"},
	{0x517b, "SMB", PROBLEM, "is over the network: neither its locks nor its syncs are what a database needs"},
	{0x00c36400, "Ceph", PROBLEM, "is over the network: neither its locks nor its syncs are what a database needs"},
	{0x01021997, "9p", PROBLEM, "is over a wire: neither its locks nor its syncs are what a database needs"},
	{0x4d44, "FAT", PROBLEM, "has no permissions and tears files at a power loss"},
};

static void file_system(struct doctor *d)
{
	static const char fix[] = "move the directory to a local ext4 or XFS while no daemon serves it";
	struct statfs fs;
	struct statvfs vfs;

	if (statfs(d->database, &fs) < 0 || statvfs(d->database, &vfs) < 0) {
		doctor_tell(d, PROBLEM, "filesystem", "give the database's directory by --db DIR", "%s: %s",
			    d->database, shale_strerror(-errno));
		return;
	}
	if (vfs.f_flag & ST_RDONLY) {
		doctor_tell(d, PROBLEM, "filesystem", "look for the reason (dmesg), then mount -o remount,rw",
			    "%s is mounted read-only", d->database);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++) {
		const struct known_fs *k = &file_systems[i];

		if (((unsigned long)fs.f_type & 0xffffffff) != k->magic)
			continue;
		if (k->warning)
			doctor_tell(d, k->verdict, "filesystem", fix, "%s lies on %s, which %s", d->database, k->name,
				    k->warning);
		else
			doctor_tell(d, FINE, "filesystem", NULL, "%s lies on %s", d->database, k->name);
		return;
	}
	doctor_tell(d, NOTE, "filesystem", fix,
		    "%s lies on a file system of type 0x%lx, of which nothing is known here", d->database,
		    (unsigned long)fs.f_type);
}

/* Free space against what is about to be written: memtables and the log, merges that are due, and their inputs meanwhile. */
static void disk_space(struct doctor *d)
{
	static const uint64_t few_inodes = 1000;
	const struct region_stats *s = &d->picture.stats;
	uint64_t needed = UINT64_C(128) << 20, free_bytes;
	char a[32], b[32], c[32];
	struct statvfs vfs;

	if (statvfs(d->database, &vfs) < 0)
		return;
	free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (d->found)
		needed = s->settings.wal_ring + 2 * s->settings.write_buffer * (1 + s->settings.max_immutables) +
			 2 * s->debt_bytes;
	if (free_bytes < needed)
		doctor_tell(d, PROBLEM, "disk", "make room, or move the directory",
			    "%s are free, but memtables, log and the merges that are due (%s) may need %s",
			    size_text(free_bytes, a), size_text(d->found ? s->debt_bytes : 0, b), size_text(needed, c));
	else if (d->found && free_bytes < s->live_bytes / 2)
		doctor_tell(d, NOTE, "disk", "make room: `shalectl compact` of everything needs up to as much again",
			    "%s are free beside a database of %s", size_text(free_bytes, a),
			    size_text(s->live_bytes, b));
	else
		doctor_tell(d, FINE, "disk", NULL, "%s are free", size_text(free_bytes, a));
	if (vfs.f_files && vfs.f_favail < few_inodes)
		doctor_tell(d, PROBLEM, "inodes", "make room: files, not bytes, are what is short",
			    "only %llu more files can be made", (unsigned long long)vfs.f_favail);
}

/* ---- /dev/shm ---- */

static uint64_t channels_now(const struct region *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < REGION_SESSIONS; i++)
		/* Acquire: the row was filled before its id was set. */
		if (atomic_load_explicit(&r->sessions[i].session, memory_order_acquire))
			sum += atomic_load_explicit(&r->sessions[i].channel_bytes, memory_order_relaxed);
	return sum;
}

static void shared_memory(struct doctor *d)
{
	static const char fix[] =
		"mount -o remount,size=1G /dev/shm (and in /etc/fstab); for a container --shm-size=1g";
	static const uint64_t usual_ring = 16 << 20, channel = UINT64_C(1100) << 10, some_channels = 64;
	uint64_t size, free_bytes, window, used = 0;
	char a[32], b[32], c[32], e[32];
	struct statvfs vfs;
	struct statfs fs;

	if (statvfs("/dev/shm", &vfs) < 0 || statfs("/dev/shm", &fs) < 0) {
		doctor_tell(d, PROBLEM, "shm", "mount -t tmpfs -o mode=1777 tmpfs /dev/shm", "/dev/shm: %s",
			    shale_strerror(-errno));
		return;
	}
	if (fs.f_type != 0x01021994)
		doctor_tell(d, PROBLEM, "shm", "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
			    "/dev/shm is no tmpfs: shared memory would be written to a disk");
	size = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	window = d->found && d->picture.stats.settings.wal_ring ? d->picture.stats.settings.wal_ring : usual_ring;
	if (d->runs)
		used = channels_now(&d->picture.region);
	if (free_bytes < (d->runs ? 0 : window) + 4 * channel)
		doctor_tell(d, PROBLEM, "shm", fix,
			    "/dev/shm has %s free of %s: no room for %s; the log's window takes %s, each session about "
			    "1 MiB",
			    size_text(free_bytes, a), size_text(size, b), d->runs ? "more sessions" : "a daemon",
			    size_text(window, c));
	else if (free_bytes < (d->runs ? 0 : window) + some_channels * channel)
		doctor_tell(d, NOTE, "shm", fix, "/dev/shm has %s free of %s: room for about %llu more sessions",
			    size_text(free_bytes, a), size_text(size, b),
			    (unsigned long long)((free_bytes - (d->runs ? 0 : window)) / channel));
	else
		doctor_tell(d, FINE, "shm", NULL, "/dev/shm has %s free of %s; the log's window takes %s, sessions %s",
			    size_text(free_bytes, a), size_text(size, b), size_text(window, c), size_text(used, e));
}

/* ---- what nobody owns any more ---- */

static bool segment_there(const char *instance, const char *what)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/dev/shm/shale.%s.%s", instance, what);
	return access(path, F_OK) == 0;
}

/* One instance whose region is there. True: something of it waits. */
static bool look_at_instance(struct doctor *d, const char *instance)
{
	struct region r = {.segment.fd = -1};
	struct err_info err = {0};
	char fix[PATH_MAX + 64], database[sizeof(r.header->database)];
	bool gone, ours = !d->database, writes = segment_there(instance, "wal");

	if (region_open(&r, instance, &err) < 0)
		return false; /* of another release, or not ours to read: nothing can be said */
	gone = !region_served(&r) && atomic_load_explicit(&r.header->state, memory_order_relaxed) != REGION_STOPPED;
	snprintf(database, sizeof(database), "%.*s", (int)sizeof(database) - 1, r.header->database);
	region_close(&r, false);
	if (!gone)
		return false;
	ours |= d->database && strcmp(database, d->database) == 0;
	if (access(database, F_OK) < 0 && errno == ENOENT) {
		snprintf(fix, sizeof(fix), "rm /dev/shm/shale.%s.*", instance);
		doctor_tell(d, PROBLEM, "left-over", fix,
			    "a killed daemon left shared memory, and its database %s is gone", database);
	} else {
		snprintf(fix, sizeof(fix), "shaled --db %s (do not remove them)", database);
		doctor_tell(d, writes && ours ? PROBLEM : NOTE, "left-over", fix,
			    "the daemon of %s was killed%s; the next one recovers", database,
			    writes ? "; acknowledged writes lie in /dev/shm" : "");
	}
	return true;
}

static void left_over(struct doctor *d)
{
	bool waits = false;
	struct dirent *entry;
	DIR *shm = opendir("/dev/shm");

	while (shm && (entry = readdir(shm)) != NULL) {
		char instance[INSTANCE_LEN + 1], what[16];

		if (sscanf(entry->d_name, "shale.%16[0-9a-f].%15s", instance, what) == 2 &&
		    strcmp(what, "region") == 0 && strlen(instance) == INSTANCE_LEN)
			waits |= look_at_instance(d, instance);
	}
	if (shm)
		closedir(shm);
	if (!waits)
		doctor_tell(d, FINE, "left-over", NULL, "nothing that a killed daemon left waits in /dev/shm");
}

void doctor_space(struct doctor *d)
{
	if (d->database) {
		file_system(d);
		disk_space(d);
	} else {
		doctor_tell(d, NOTE, "filesystem", "shalectl --db DIR doctor",
			    "no database is known, so neither its file system nor its disk was looked at");
	}
	shared_memory(d);
	left_over(d);
}
