/*
 * backup_dir.h - directories that appear whole or not at all, made of links to files or of copies: checkpoints, restored databases, exports.
 *
 * A new directory is filled under another name beside its own, ".NAME.shale-part", and renamed when everything in it is on disk. Who finds NAME finds
 * all of it; what a kill leaves has the other name, and the next attempt clears it away.
 *
 * Paths are walked from "/" component by component, and no symbolic link is followed: some directory on the way may be writable for others than those who
 * may ask. A directory that is filled belongs to this process's user, and nobody else may write to it.
 *
 * Plain system calls that wait: for workers and tools.
 */
#ifndef SHALE_ENGINE_BACKUP_DIR_H
#define SHALE_ENGINE_BACKUP_DIR_H

#include <limits.h>

#include "shm/base.h"

struct edit;
struct err_info;

struct backup_dir {
	int parent, dir; /* descriptors; -1: none */
	bool fresh;	 /* @dir has the other name until backup_publish */
	char name[NAME_MAX + 1], part[NAME_MAX + 1];
};

/*
 * Opens the directory that @path is in: absolute, without links, "." and "..". 0, b->parent and b->name; or a negative code with words. On failure, too,
 * backup_close is fine.
 */
int backup_locate(struct backup_dir *b, const char *path, struct err_info *err);

/*
 * Opens b->name itself, if it is there: 1; 0: it is not. -ENOTDIR, -EPERM (not ours alone) and the like with words.
 */
int backup_existing(struct backup_dir *b, struct err_info *err);

/* Makes the directory under its other name, after clearing away what an earlier attempt left. 0, or a negative code with words. */
int backup_begin(struct backup_dir *b, struct err_info *err);

/* Syncs it, gives it its name and syncs the parent. -EEXIST: somebody was faster. With words. */
int backup_publish(struct backup_dir *b, struct err_info *err);

/* Removes an unpublished directory, if there is one; an existing one stays as it is. */
void backup_drop(struct backup_dir *b);
void backup_close(struct backup_dir *b);

/* How a file came into the directory. */
enum backup_way { BACKUP_KEPT, BACKUP_LINKED, BACKUP_COPIED };

/* Who copies. */
struct backup_copy {
	bool link;	     /* hard links where the file system can */
	bool durable_source; /* the files are known to be on disk: a link needs no sync of its own */
	/* So many more bytes were copied. Negative ends it. NULL: nobody cares. */
	int (*progress)(struct backup_copy *c, uint64_t bytes);
};

/*
 * Puts the file @name of directory @from under the same name into @b: keeps what is there already if it is the same file, or an earlier copy of it; else links
 * or copies. A copy appears whole, with the times of the original. 0 and *@way_out; -EEXIST: another file has that name; with words.
 */
int backup_file(struct backup_copy *c, int from, const char *name, struct backup_dir *b, enum backup_way *way_out,
		struct err_info *err);

/* A small file, whole and on disk, in place of what has the name. */
int backup_write(struct backup_dir *b, const char *name, const void *data, size_t size, struct err_info *err);

/* MANIFEST-@number of the one record @edit, and a CURRENT that names it, likewise. */
int backup_manifest(struct backup_dir *b, uint64_t number, const struct edit *edit, struct err_info *err);
int backup_current(struct backup_dir *b, uint64_t number, struct err_info *err);

#endif
