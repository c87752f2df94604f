#include "tools/private_daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shale.h"
#include "shm/error.h"
#include "shm/segment.h"

/* @folder/shaled, else the one beside this program, else whichever $PATH has. */
static void find_program(struct private_daemon *d, const char *folder)
{
	char self[sizeof(d->program) - sizeof("shaled")];
	ssize_t n;

	if (folder) {
		snprintf(d->program, sizeof(d->program), "%s/shaled", folder);
		return;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		snprintf(d->program, sizeof(d->program), "%s/shaled", self);
		if (access(d->program, X_OK) == 0)
			return;
	}
	strcpy(d->program, "shaled");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void remove_traces(struct private_daemon *d)
{
	char instance[INSTANCE_LEN + 1];

	/* Never for a database of somebody else's: the WAL window of a killed daemon holds acknowledged writes. */
	if (d->scratch_database && private_daemon_instance(d, instance) == 0)
		segment_sweep(instance, NULL);
	nftw(d->scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/*
 * A child that outlives this program, however it ends, and cleans up after it. It holds the reading end of a pipe whose
 * writing end is ours alone: a byte means that all is clean already, the end of file that we are dead, and the daemon by its
 * parent-death signal as well.
 */
static int start_janitor(struct private_daemon *d)
{
	int ends[2], null;
	char c;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	d->janitor = fork();
	if (d->janitor) {
		close(ends[0]);
		d->janitor_pipe = ends[1];
		return d->janitor < 0 ? -errno : 0;
	}
	setpgid(0, 0);
	signal(SIGHUP, SIG_IGN);
	null = open("/dev/null", O_RDWR); /* nobody shall wait for an end of file because of us */
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	dup2(ends[0], 3);
	close_range(4, ~0u, 0);
	if (read(3, &c, 1) == 0) {
		usleep(200000); /* the daemon dies at the same time */
		remove_traces(d);
	}
	_exit(0);
}

static void stop_janitor(struct private_daemon *d)
{
	ssize_t ignored = write(d->janitor_pipe, "", 1);

	(void)ignored; /* without it, it cleans what is clean */
	close(d->janitor_pipe);
	while (waitpid(d->janitor, NULL, 0) < 0 && errno == EINTR)
		;
}

int private_daemon_init(struct private_daemon *d, const char *folder, const char *database, struct err_info *err)
{
	const char *base = getenv("TMPDIR");
	int rc;

	memset(d, 0, sizeof(*d));
	d->owner = getpid();
	/* A socket's path has to fit into sun_path: a deep TMPDIR is left aside. */
	if (!base || !*base || strlen(base) > 40)
		base = "/tmp";
	snprintf(d->scratch, sizeof(d->scratch), "%s/shale-run.XXXXXX", base);
	if (!mkdtemp(d->scratch)) {
		rc = -errno;
		*d->scratch = 0;
		return err_set(err, rc, "no temporary directory in %s: %s", base, strerror(-rc));
	}
	snprintf(d->socket, sizeof(d->socket), "%s/socket", d->scratch);
	if (database && strlen(database) >= sizeof(d->database))
		return err_set(err, -ENAMETOOLONG, "%s: the path is too long", database);
	if (database)
		strcpy(d->database, database);
	else
		snprintf(d->database, sizeof(d->database), "%s/db", d->scratch);
	d->scratch_database = !database;
	find_program(d, folder);
	rc = start_janitor(d);
	return rc < 0 ? err_set(err, rc, "cannot start a process: %s", strerror(-rc)) : 0;
}

void private_daemon_arg(struct private_daemon *d, const char *arg)
{
	assert(d->nargs < PRIVATE_DAEMON_ARGS);
	d->args[d->nargs++] = arg;
}

static void exec_daemon(struct private_daemon *d)
{
	const char *argv[PRIVATE_DAEMON_ARGS + 6] = {d->program, "--db", d->database, "--socket", d->socket};
	sigset_t none;
	int fd;

	memcpy(argv + 5, d->args, sizeof(d->args[0]) * (size_t)d->nargs);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != d->owner)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (*d->log) {
		fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (fd >= 0)
			dup2(fd, STDERR_FILENO);
	}
	execvp(d->program, (char *const *)argv);
	dprintf(STDERR_FILENO, "%s: %m\n", d->program);
	_exit(127);
}

int private_daemon_spawn(struct private_daemon *d, struct err_info *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_set(err, -errno, "cannot start a process: %m");
	if (pid == 0)
		exec_daemon(d);
	d->pid = pid;
	return 0;
}

static bool ended(struct private_daemon *d)
{
	if (d->pid && waitpid(d->pid, &d->status, WNOHANG) == d->pid)
		d->pid = 0;
	return !d->pid;
}

int private_daemon_try(struct private_daemon *d, unsigned step_ms, struct err_info *err)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	struct shale_db *db;
	int rc;

	options.connect_ms = step_ms;
	rc = shale_open(d->socket, &options, &db);
	if (rc == 0) {
		shale_close(db);
		return 1;
	}
	if (ended(d))
		return err_set(err, -SHALE_EFAILED, "%s did not start on %s (%s %d)", d->program, d->database,
			       WIFEXITED(d->status) ? "exit status" : "signal",
			       WIFEXITED(d->status) ? WEXITSTATUS(d->status) : WTERMSIG(d->status));
	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -ETIMEDOUT || rc == -EPIPE)
		return 0;
	return err_set(err, rc, "%s", shale_last_error(NULL));
}

int private_daemon_start(struct private_daemon *d, struct err_info *err)
{
	int rc = private_daemon_spawn(d, err);

	/* Short looks first: within one attempt to connect, the library waits ever longer between its looks. */
	for (unsigned look = 0; rc == 0; look++) {
		rc = private_daemon_try(d, look < 40 ? 5 : 100, err);
		if (rc == 0)
			usleep(1000);
	}
	return rc < 0 ? rc : 0;
}

static int end_with(struct private_daemon *d, int sig)
{
	if (!d->pid)
		return 0;
	kill(d->pid, sig);
	while (waitpid(d->pid, &d->status, 0) < 0 && errno == EINTR)
		;
	d->pid = 0;
	return d->status;
}

int private_daemon_stop(struct private_daemon *d)
{
	return end_with(d, SIGTERM);
}

int private_daemon_kill(struct private_daemon *d)
{
	return end_with(d, SIGKILL);
}

void private_daemon_fini(struct private_daemon *d)
{
	if (d->owner != getpid())
		return;
	private_daemon_kill(d);
	if (*d->scratch)
		remove_traces(d);
	if (d->janitor > 0)
		stop_janitor(d);
	*d->scratch = 0;
	d->janitor = 0;
	d->owner = 0;
}

int private_daemon_instance(const struct private_daemon *d, char *out)
{
	int fd = open(d->database, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = segment_instance(fd, out);
	close(fd);
	return rc;
}

int private_daemon_segments(const struct private_daemon *d)
{
	char instance[INSTANCE_LEN + 1];
	struct dirent *entry;
	int n = private_daemon_instance(d, instance);
	DIR *dir;

	if (n < 0)
		return n;
	dir = opendir("/dev/shm");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		n += strncmp(entry->d_name, "shale.", 6) == 0 &&
		     strncmp(entry->d_name + 6, instance, INSTANCE_LEN) == 0;
	closedir(dir);
	return n;
}
