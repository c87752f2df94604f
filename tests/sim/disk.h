/*
 * disk.h - one directory on a simulated disk: what programs see, what would be there after a power loss, and what may become of the difference.
 *
 *	inode      cache     what a read returns: the page cache, which outlives the daemon and not the machine
 *	           durable   what is on the platter
 *	           pending   writes that are in the first and not in the second, in order
 *	directory  names     as seen
 *	           durable   as on the platter
 *	           changes   creates, unlinks, renames between the two, in order
 *
 * A power loss keeps of each file's pending writes, sector by sector (512 bytes), some first ones: sectors are independent, so anything may be torn,
 * or overtaken by a later write. A size may persist without its data. Each change of the directory stays or vanishes by itself.
 *
 * Space is counted in 4 KiB blocks from the front of each file, written or reserved; beyond `capacity` the answer is -ENOSPC.
 */
#ifndef SHALE_TESTS_SIM_DISK_H
#define SHALE_TESTS_SIM_DISK_H

#include "shm/base.h"

enum { DISK_SECTOR = 512, DISK_BLOCK = 4096, DISK_NAME = 40 };

struct disk_write {
	struct disk_write *next;
	uint64_t id, offset;
	size_t len;
	bool truncate; /* to @offset */
	unsigned char data[];
};

struct disk_inode {
	unsigned refs; /* names, durable names, changes, open files, late writes */
	uint64_t number;
	unsigned char *cache, *durable;
	uint64_t size, cap, durable_size, durable_cap;
	uint64_t allocated; /* bytes from 0 on that have their space */
	struct disk_write *pending, **tail;
	unsigned pending_count;
};

struct disk_name {
	char name[DISK_NAME];
	struct disk_inode *inode;
};

struct disk_names {
	struct disk_name *v;
	size_t count, cap;
};

struct disk_change {
	enum { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME } kind;
	char name[DISK_NAME], to[DISK_NAME];
	struct disk_inode *inode;
};

/* A write that was in flight when its process was killed. While there are any, the lock is held. */
struct disk_late {
	struct disk_inode *inode;
	struct disk_write *write;
	struct disk_late *next;
};

struct disk {
	struct disk_names names, durable;
	struct disk_change *changes;
	size_t change_count, change_cap;
	uint64_t next_inode, next_write;
	uint64_t used, capacity; /* bytes; UINT64_MAX: no limit */
	struct disk_late *late;
	bool locked;
};

void disk_init(struct disk *d);
void disk_fini(struct disk *d);

/* ---- names; 0 or -errno ---- */

struct disk_inode *disk_find(const struct disk *d, const char *name); /* borrowed; NULL: none */
struct disk_inode *disk_create(struct disk *d, const char *name);     /* there must be none; borrowed */
int disk_unlink(struct disk *d, const char *name);
int disk_rename(struct disk *d, const char *from, const char *to);
void disk_sync_names(struct disk *d);
/* A directory sync that failed: each change was made durable or will never be. */
void disk_lose_names(struct disk *d, uint64_t seed);

/* ---- bytes ---- */

struct disk_inode *disk_ref(struct disk_inode *i);
void disk_unref(struct disk *d, struct disk_inode *i); /* NULL is fine */
size_t disk_read(const struct disk_inode *i, void *buf, size_t len, uint64_t offset);
int disk_write(struct disk *d, struct disk_inode *i, const void *buf, size_t len, uint64_t offset);
int disk_allocate(struct disk *d, struct disk_inode *i, uint64_t end);
void disk_truncate(struct disk *d, struct disk_inode *i, uint64_t size);
/* Makes durable what was written up to write number @upto (disk->next_write when the sync was submitted). */
void disk_sync(struct disk *d, struct disk_inode *i, uint64_t upto);
/* A sync that failed: the pages are clean now, whether they were written or not. */
void disk_lose(struct disk *d, struct disk_inode *i, uint64_t upto, uint64_t seed);

/* ---- ends ---- */

/* A process was killed while it wrote: the write may still land, until disk_land. */
void disk_add_late(struct disk *d, struct disk_inode *i, const void *buf, size_t len, uint64_t offset);
void disk_land(struct disk *d, uint64_t seed);
/* The machine lost its power: late writes first, as pending ones. */
void disk_power_loss(struct disk *d, uint64_t seed);
/* Damages one bit of @name, on the platter and in the cache. False: there is no such byte. */
bool disk_flip(struct disk *d, const char *name, uint64_t offset, unsigned bit);

/* A well-mixed word: every decision of the simulation is one of these. */
static inline uint64_t mix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* splitmix64. */
static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = mix64(*state);

	*state += UINT64_C(0x9e3779b97f4a7c15);
	return x;
}

#endif
