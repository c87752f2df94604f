/*
 * where.c - which daemon is meant: its socket, and the region of a directory.
 *
 * A directory's daemon listens on DIR/shale.sock unless it was told otherwise; then its region says where. But /dev/shm is open to all: anybody may
 * put a region there under the name of a directory whose daemon does not run. So a region that was found by name is believed only if it belongs to who
 * could serve the directory anyway: its owner, root, or ourselves. Else root, asking for a database, could be led to a socket of somebody who waits there
 * for what root sends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/shalectl/picture.h"

static bool believed(uid_t owner, uid_t directory_owner)
{
	return owner == 0 || owner == directory_owner || owner == geteuid();
}

/* Opens /dev/shm/@name and maps it, if it belongs to one of those who may serve what belongs to @master. */
static int region_named(const char *name, uid_t master, struct region *r, struct err_info *err)
{
	struct stat st;
	int fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0), rc;

	if (fd < 0)
		return err_set(err, -errno, "opening the shared region /dev/shm%s: %m", name);
	if (fstat(fd, &st) < 0)
		rc = err_set(err, -errno, "looking at the shared region /dev/shm%s: %m", name);
	else if (!believed(st.st_uid, master))
		rc = err_set(err, -EACCES,
			     "/dev/shm%s belongs to uid %u, and what it speaks of to uid %u: it is not believed; "
			     "whoever put it there can say why, and root may remove it",
			     name, (unsigned)st.st_uid, (unsigned)master);
	else
		rc = region_map(r, fd, err);
	close(fd);
	return rc;
}

int region_of_directory(const char *directory, struct region *r, struct err_info *err)
{
	char instance[INSTANCE_LEN + 1], name[SEGMENT_NAME_MAX];
	int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), rc;
	struct stat st;

	if (dir < 0)
		return err_set(err, -ENOTDIR, "%s: %s", directory, shale_strerror(-errno));
	rc = segment_instance(dir, instance);
	if (rc == 0 && fstat(dir, &st) < 0)
		rc = -errno;
	close(dir);
	if (rc < 0)
		return err_set(err, rc, "%s: %s", directory, shale_strerror(rc));
	snprintf(name, sizeof(name), "/shale.%s.region", instance);
	rc = region_named(name, st.st_uid, r, err);
	return rc == -ENOENT ? err_set(err, -ENOENT, "no shaled serves %s", directory) : rc;
}

bool region_of_socket(const char *socket, struct region *r)
{
	struct stat wanted, named;
	struct dirent *entry;
	char name[NAME_MAX + 2];
	bool found = false;
	DIR *shm;

	if (stat(socket, &wanted) < 0 || !S_ISSOCK(wanted.st_mode))
		return false;
	shm = opendir("/dev/shm");
	while (shm && !found && (entry = readdir(shm)) != NULL) {
		struct region one = {.segment.fd = -1};
		size_t n = strlen(entry->d_name);

		if (strncmp(entry->d_name, "shale.", 6) != 0 || n < 7 || strcmp(entry->d_name + n - 7, ".region") != 0)
			continue;
		snprintf(name, sizeof(name), "/%s", entry->d_name);
		if (region_named(name, wanted.st_uid, &one, NULL) < 0)
			continue;
		found = one.header->socket[0] == '/' && !one.header->socket[sizeof(one.header->socket) - 1] &&
			region_served(&one) && stat(one.header->socket, &named) == 0 && named.st_dev == wanted.st_dev &&
			named.st_ino == wanted.st_ino;
		if (found)
			*r = one;
		else
			region_close(&one, false);
	}
	if (shm)
		closedir(shm);
	return found;
}

bool region_served(const struct region *r)
{
	pid_t pid = (pid_t)r->header->daemon_pid;

	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

/* The socket that the region of a running daemon names. */
static bool named_socket(const char *directory, char *path, size_t cap)
{
	struct region r = {.segment.fd = -1};
	uint32_t state;
	bool found = false;

	if (region_of_directory(directory, &r, NULL) < 0)
		return false;
	/* Acquire: the path was written before the state said more than STARTING. */
	state = atomic_load_explicit(&r.header->state, memory_order_acquire);
	if ((state == REGION_SERVING || state == REGION_STOPPING || state == REGION_FAILED) && region_served(&r)) {
		snprintf(path, cap, "%.*s", (int)sizeof(r.header->socket) - 1, r.header->socket);
		found = *path == '/';
	}
	region_close(&r, false);
	return found;
}

int ctl_where(const struct ctl *ctl, const char **path_out)
{
	static char path[4096];
	const char *chosen = ctl->socket;
	struct stat st;
	int rc;

	if (!chosen && !ctl->database)
		chosen = getenv("SHALE_SOCKET");
	if (chosen && *chosen) {
		*path_out = chosen;
		return EXIT_OK;
	}
	if (!ctl->database) {
		*path_out = SHALE_DEFAULT_SOCKET;
		return EXIT_OK;
	}
	rc = stat(ctl->database, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	if (rc < 0) {
		complain("%s: %s", ctl->database, shale_strerror(rc));
		return EXIT_FAILED;
	}
	if (!named_socket(ctl->database, path, sizeof(path)))
		snprintf(path, sizeof(path), "%s/shale.sock", ctl->database);
	*path_out = path;
	return EXIT_OK;
}
