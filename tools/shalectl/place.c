#include "tools/shalectl/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"

int place_path(const char *verb, const char *given, char out[PATH_MAX])
{
	char a[PATH_MAX], b[PATH_MAX], parent[PATH_MAX];
	const char *name;

	if (strlen(given) >= sizeof(a)) {
		complain("%s: the path is too long", verb);
		return EXIT_USAGE;
	}
	strcpy(a, given);
	strcpy(b, given);
	name = basename(a);
	if (!realpath(dirname(b), parent)) {
		complain("%s: %s: the directory it is to be in: %m", verb, given);
		return EXIT_FAILED;
	}
	if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", name) >= PATH_MAX) {
		complain("%s: the path is too long", verb);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static bool is_empty(int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *entry;
	bool empty = d != NULL;

	while (empty && (entry = readdir(d)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	if (d)
		closedir(d);
	else
		close(dir);
	return empty;
}

int place_begin(const char *verb, const char *path, struct backup_dir *b)
{
	struct err_info err = {0};
	struct stat st;
	int rc = backup_locate(b, path, &err);

	if (rc == 0 && fstatat(b->parent, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		int dir = openat(b->parent, b->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (dir < 0 || !is_empty(dir))
			rc = err_set(&err, -EEXIST,
				     "%s is there, and is no empty directory: nothing was touched; choose a name that "
				     "is free",
				     path);
	}
	if (rc == 0)
		rc = backup_begin(b, &err);
	if (rc == 0)
		return EXIT_OK;
	place_end(b);
	complain("%s: %s", verb, err.text);
	return EXIT_FAILED;
}

int place_publish(const char *verb, const char *path, struct backup_dir *b)
{
	struct err_info err = {0};
	struct stat st;
	int rc = 0;

	if (fstatat(b->parent, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (fchown(b->dir, st.st_uid, st.st_gid) < 0 && geteuid() == 0)
			rc = err_set(&err, -errno, "%s: giving it to the owner of the empty directory: %m", path);
		if (rc == 0 && fchmod(b->dir, st.st_mode & 07777) < 0)
			rc = err_set(&err, -errno, "%s: its mode: %m", path);
		if (rc == 0 && unlinkat(b->parent, b->name, AT_REMOVEDIR) < 0)
			rc = err_set(&err, -errno, "%s: replacing the empty directory: %m%s", path,
				     errno == EBUSY ? ". It is a mount point: choose a directory in it" : "");
	}
	if (rc == 0)
		rc = backup_publish(b, &err);
	if (rc == 0)
		return EXIT_OK;
	complain("%s: %s", verb, err.text);
	return EXIT_FAILED;
}

void place_end(struct backup_dir *b)
{
	backup_drop(b);
	backup_close(b);
}
