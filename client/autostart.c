/*
 * autostart.c - a private shaled for a database directory that nobody serves.
 *
 * Several processes may find nobody there at the same time. Each starts a daemon; the directory's LOCK lets one of them have it, and the others end
 * at once. So nobody has to know whether his own daemon won: everybody goes on connecting. What must be told apart is "not yet" from "never":
 *
 *	ours runs                 it recovers the database: wait
 *	somebody holds LOCK       a daemon that starts, or one that is just ending: wait
 *	neither                   start one; after TRIES that came to nothing, give up, with the last lines of its log
 *
 * The daemon must not be a child that the program has to wait for, nor get anything of the program's: not its descriptors, signal mask,
 * ignored signals, working directory, terminal or supervisor. A child of this process makes a session and the daemon in it, and ends at once. That child is
 * made by a bare clone() with no exit signal: the program hears no SIGCHLD, its own wait() never sees the child, and no pthread_atfork handler runs.
 * Between there and exec only system calls are made.
 *
 * Whether LOCK is held is read from /proc/locks. To open the file and ask would be wrong: with the close, all locks of this process on it go, and the
 * program may have opened the database by itself.
 */
#include "client/autostart.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/shale.h"
#include "shm/error.h"

enum { TRIES = 3, LOG_TAIL = 300 };

extern char **environ;

/* What the child needs, made before it is. */
struct start {
	char program[4096], log[4096];
	const char *argv[8];
	const char **env;
	int pipe[2]; /* the child tells the daemon's pid, or -errno of exec */
};

/* ---- which program ---- */

static bool runnable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Beside the library, and in the bin of its prefix: lib/, lib/<architecture>/. */
static bool find_by_library(char *out, size_t cap)
{
	static const char *const places[] = {"shaled", "../bin/shaled", "../../bin/shaled"};
	Dl_info info;
	const char *slash;

	if (!dladdr((void *)(uintptr_t)&shale_open, &info) || !info.dli_fname || !strchr(info.dli_fname, '/'))
		return false;
	slash = strrchr(info.dli_fname, '/');
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(out, cap, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, places[i]);
		if (runnable(out))
			return true;
	}
	return false;
}

static bool find_in_path(char *out, size_t cap)
{
	const char *path = secure_getenv("PATH");

	for (const char *p = path ? path : "/usr/local/bin:/usr/bin"; *p;) {
		size_t n = strcspn(p, ":");

		snprintf(out, cap, "%.*s/shaled", (int)n, p);
		if (n > 0 && runnable(out))
			return true;
		p += n + (p[n] == ':');
	}
	return false;
}

/* The daemon begins in another directory than the program. */
static int make_absolute(char *path, size_t cap, struct err_info *err)
{
	char *full = path[0] == '/' ? NULL : realpath(path, NULL);
	int rc = 0;

	if (path[0] != '/' && (!full || strlen(full) >= cap))
		rc = err_set(err, -ENOENT, "autostart: %s has no absolute path", path);
	else if (full)
		memcpy(path, full, strlen(full) + 1);
	free(full);
	return rc;
}

/* A program with more rights than its caller does not ask the caller's environment what to run. */
static int find_program(char *out, size_t cap, struct err_info *err)
{
	const char *named = secure_getenv("SHALED");

	if (named && *named) {
		snprintf(out, cap, "%s", named);
		if (!runnable(out))
			return err_set(err, -ENOENT, "$SHALED is %s, which is no program", named);
		return make_absolute(out, cap, err);
	}
	if (find_by_library(out, cap) || find_in_path(out, cap))
		return make_absolute(out, cap, err);
	return err_set(err, -ENOENT,
		       "autostart: there is no shaled beside the library, in its prefix, or in $PATH; install it, or "
		       "name it by "
		       "$SHALED");
}

/* ---- the child ---- */

/* Handlers are gone with exec, but ignored signals would stay so; and until exec, a handler of the program's must not run here. */
static void default_signals(void)
{
	struct sigaction act = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &act, NULL); /* fails for those that cannot be ignored either */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(unsigned first)
{
	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
	for (int fd = (int)first; fd < 65536; fd++) /* a kernel before 5.9 */
		close(fd);
}

static void __attribute__((noreturn)) become_daemon(const struct start *s)
{
	int32_t told;
	ssize_t ignored;
	int null, log;

	/*
	 * The pipe moves to 3, so that whatever the program had as 0, 1, 2 can be replaced. All else goes before anything is opened: the program may
	 * have used up its descriptors.
	 */
	if (s->pipe[1] != 3 && dup3(s->pipe[1], 3, O_CLOEXEC) < 0)
		_exit(127);
	close_from(4);
	null = open("/dev/null", O_RDWR);
	log = open(s->log, O_WRONLY | O_CREAT | O_APPEND, 0640);
	dup2(null, 0);
	dup2(log >= 0 ? log : null, 1);
	dup2(log >= 0 ? log : null, 2);
	close_from(4);
	told = chdir("/");
	told = (int32_t)getpid();
	ignored = write(3, &told, sizeof(told));
	default_signals();
	execve(s->program, (char *const *)s->argv, (char *const *)s->env);
	told = -errno;
	ignored = write(3, &told, sizeof(told));
	(void)ignored; /* who would hear of it? */
	_exit(127);
}

/* clone() without an exit signal, and without glibc's fork handlers. 0 in the child. */
static pid_t bare_fork(void)
{
	return (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
}

/* ---- starting ---- */

/* The environment, but for what would have the daemon talk to this program's supervisor. NULL: no memory. */
static const char **environment(void)
{
	static const char *const left_out[] = {"NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_"};
	size_t n = 0, kept = 0;
	const char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++) {
		bool keep = true;

		for (size_t k = 0; k < ARRAY_SIZE(left_out); k++)
			keep = keep && strncmp(environ[i], left_out[k], strlen(left_out[k])) != 0;
		if (keep)
			env[kept++] = environ[i];
	}
	return env;
}

/* Makes child and daemon; the daemon's pid, or a negative code. */
static pid_t launch(const struct start *s)
{
	sigset_t all, before;
	int32_t pid = 0, told;
	pid_t child;

	/* No handler of the program's may run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	child = bare_fork();
	if (child == 0) {
		setsid();
		if (bare_fork() == 0)
			become_daemon(s);
		_exit(0);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(s->pipe[1]);
	if (child < 0)
		return -errno;
	while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
		;
	/* Its pid; then the end of file, by exec, or why there was none. */
	for (;;) {
		ssize_t n = read(s->pipe[0], &told, sizeof(told));

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(told))
			return pid ? pid : -EAGAIN;
		if (told < 0)
			return told;
		pid = told;
	}
}

static int start(struct autostart *a, const char *socket, struct err_info *err)
{
	struct start *s = calloc(1, sizeof(*s));
	pid_t pid;
	int rc;

	if (!s)
		return err_set(err, -ENOMEM, "autostart: out of memory");
	rc = find_program(s->program, sizeof(s->program), err);
	if (rc == 0 && mkdir(a->directory, 0755) < 0 && errno != EEXIST)
		rc = err_set(err, -errno, "autostart: the directory %s cannot be made: %s", a->directory,
			     strerror(errno));
	s->env = rc == 0 ? environment() : NULL;
	if (rc == 0 && (!s->env || pipe2(s->pipe, O_CLOEXEC) < 0))
		rc = err_set(err, s->env ? -errno : -ENOMEM, "autostart: no memory, or no descriptor, left");
	if (rc < 0) {
		free(s->env);
		free(s);
		return rc;
	}
	snprintf(s->log, sizeof(s->log), "%s/shaled.log", a->directory);
	memcpy(s->argv,
	       (const char *[]){s->program, "--db", a->directory, "--socket", socket, "--set",
				"service.exit_when_unused=500", NULL},
	       sizeof(s->argv));
	pid = launch(s);
	close(s->pipe[0]);
	if (pid < 0)
		rc = err_set(err, (int)pid, "autostart: %s cannot be started: %s", s->program,
			     shale_strerror((int)pid));
	else
		a->pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* none: it has ended already */
	free(s->env);
	free(s);
	return rc;
}

/* ---- waiting ---- */

static bool ours_runs(struct autostart *a)
{
	struct pollfd p = {.fd = a->pidfd, .events = POLLIN};

	if (a->pidfd < 0)
		return false;
	if (poll(&p, 1, 0) == 0)
		return true;
	close(a->pidfd);
	a->pidfd = -1;
	return false;
}

bool autostart_locked(const struct autostart *a)
{
	char path[4096], want[64], line[256];
	bool found = false;
	struct stat st;
	FILE *f;

	if (!a->directory)
		return false;
	snprintf(path, sizeof(path), "%s/LOCK", a->directory);
	if (stat(path, &st) < 0)
		return false;
	/* 1: POSIX  ADVISORY  WRITE 4711 fe:01:1234 0 EOF */
	snprintf(want, sizeof(want), " %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino);
	f = fopen("/proc/locks", "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, want) != NULL && !strstr(line, "->");
	if (f)
		fclose(f);
	return found;
}

/* The end of the daemon's log, as one line. */
static void log_tail(const struct autostart *a, char *out, size_t cap)
{
	char path[4096];
	ssize_t n = 0;
	off_t size;
	int fd;

	snprintf(path, sizeof(path), "%s/shaled.log", a->directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		size = lseek(fd, 0, SEEK_END);
		n = pread(fd, out, cap - 1, size > (off_t)cap - 1 ? size - (off_t)cap + 1 : 0);
		close(fd);
	}
	n = n > 0 ? n : 0;
	while (n > 0 && out[n - 1] == '\n')
		n--;
	out[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		out[i] = out[i] == '\n' ? ' ' : out[i];
}

int autostart_help(struct autostart *a, const char *socket, struct err_info *err)
{
	char tail[LOG_TAIL];
	int rc = 0;

	if (!a->directory)
		return 0;
	pthread_mutex_lock(&a->lock);
	if (!ours_runs(a) && !autostart_locked(a)) {
		if (a->tries < TRIES) {
			a->tries++;
			rc = start(a, socket, err);
			if (rc < 0) {
				rc = -SHALE_EFAILED; /* the words say why; a plain errno might seem worth another try */
				if (err)
					err->code = rc;
			}
		} else {
			log_tail(a, tail, sizeof(tail));
			a->tries = 0; /* the next call may have more luck */
			rc = err_set(err, -SHALE_EFAILED, "autostart: shaled ends as soon as it is started on %s: … %s",
				     a->directory, tail);
		}
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

void autostart_done(struct autostart *a)
{
	if (!a->directory)
		return;
	pthread_mutex_lock(&a->lock);
	a->tries = 0;
	if (a->pidfd >= 0)
		close(a->pidfd);
	a->pidfd = -1;
	pthread_mutex_unlock(&a->lock);
}

void autostart_init(struct autostart *a, char *directory)
{
	a->directory = directory;
	a->pidfd = -1;
	a->tries = 0;
	pthread_mutex_init(&a->lock, NULL);
}

void autostart_fini(struct autostart *a, bool forked)
{
	if (a->pidfd >= 0)
		close(a->pidfd);
	if (!forked)
		pthread_mutex_destroy(&a->lock);
	free(a->directory);
}
