/*
 * where.c - which daemon is meant: its socket, and the region of a directory.
 *
 * A directory's daemon listens on DIR/shale.sock unless it was told otherwise; then its region says where. But /dev/shm is open to all: anybody may
 * put a region there under the name of a directory whose daemon does not run. So a region that was found by name is believed only if it belongs to who
 * could serve the directory anyway: its owner, root, or ourselves. Else root, asking for a database, could be led to a socket of somebody who waits there
 * for what root sends.
 */
#include <errno.h>
#include <fcntl.h>
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

int region_of_directory(const char *directory, struct region *r, struct err_info *err)
{
	char instance[INSTANCE_LEN + 1], name[SEGMENT_NAME_MAX];
	int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, rc;
	struct stat folder, segment;

	if (dir < 0)
		dir = open(directory,
			   O_PATH | O_DIRECTORY | O_CLOEXEC); /* one that we may not list has a name all the same */
	if (dir < 0)
		return err_set(err, -ENOTDIR, "%s: %s", directory, shale_strerror(-errno));
	rc = segment_instance(dir, instance);
	if (rc == 0 && fstat(dir, &folder) < 0)
		rc = -errno;
	close(dir);
	if (rc < 0)
		return err_set(err, rc, "%s: %s", directory, shale_strerror(rc));
	snprintf(name, sizeof(name), "/shale.%s.region", instance);
	fd = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0 || fstat(fd, &segment) < 0)
		rc = errno == ENOENT ? err_set(err, -ENOENT, "no shaled serves %s", directory)
				     : err_set(err, -errno, "opening the shared region /dev/shm%s: %m", name);
	else if (!believed(segment.st_uid, folder.st_uid))
		rc = err_set(err, -EACCES,
			     "/dev/shm%s belongs to uid %u, but %s to uid %u: it is not believed; whoever put it there "
			     "can say why, and root may remove it",
			     name, (unsigned)segment.st_uid, directory, (unsigned)folder.st_uid);
	else
		rc = region_map(r, fd, err);
	if (fd >= 0)
		close(fd);
	return rc;
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
