/*
 * shale-run - a private shaled for one command.
 *
 *	shale-run [--db DIR] [--set key=value]… -- CMD…
 *
 * Starts shaled on DIR, or on a temporary directory, with a socket of its own; waits until it serves; runs CMD with
 * SHALE_SOCKET set; stops the daemon and waits for it; exits with CMD's status (128 + n when signal n killed it).
 *
 * The daemon gets a process group of its own, so that a Ctrl-C meant for CMD does not take the database away from it;
 * and a parent-death signal, so that it does not outlive a killed shale-run. SIGINT and SIGTERM sent to shale-run itself
 * go on to CMD; those that a terminal made have reached CMD already and are not sent twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/shale.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANNOT_RUN = 126, EXIT_NO_COMMAND = 127 };

struct run {
	const char *database;          /* NULL: below scratch */
	char scratch[64];              /* holds the socket, and the database when none was named */
	char socket[96];
	char daemon[PATH_MAX];
	const char *daemon_argv[128];
	int daemon_argc;
	pid_t daemon_pid, command_pid; /* 0: not running */
	int command_status;            /* as waitpid says */
};

static void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *fmt, ...)
{
	va_list ap;

	fputs("shale-run: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* The signals that this program waits for; its children get the mask that it was started with. */
static sigset_t waited_for, inherited_mask;

/* ---- files ---- */

static int make_scratch(struct run *run)
{
	const char *base = getenv("TMPDIR");

	/* A socket's path has to fit into sun_path: a deep TMPDIR is left aside. */
	if (!base || !*base || strlen(base) > 32)
		base = "/tmp";
	snprintf(run->scratch, sizeof(run->scratch), "%s/shale-run.XXXXXX", base);
	if (!mkdtemp(run->scratch)) {
		complain("no temporary directory in %s: %m", base);
		*run->scratch = 0;
		return EXIT_FAILED;
	}
	snprintf(run->socket, sizeof(run->socket), "%s/socket", run->scratch);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

/* Finds shaled beside this program, else leaves it to $PATH. */
static void find_daemon(struct run *run)
{
	ssize_t n = readlink("/proc/self/exe", run->daemon, sizeof(run->daemon) - sizeof("shaled"));
	char *slash;

	if (n > 0) {
		run->daemon[n] = 0;
		slash = strrchr(run->daemon, '/');
		strcpy(slash + 1, "shaled");
		if (access(run->daemon, X_OK) == 0)
			return;
	}
	strcpy(run->daemon, "shaled");
}

/* ---- processes ---- */

static pid_t spawn(const char *const *argv, bool is_daemon)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	if (is_daemon) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(EXIT_FAILED);
	}
	sigprocmask(SIG_SETMASK, &inherited_mask, NULL);
	execvp(argv[0], (char *const *)argv);
	complain("%s: %m", argv[0]);
	_exit(errno == ENOENT ? EXIT_NO_COMMAND : EXIT_CANNOT_RUN);
}

/* Reaps what ended. Returns true when the daemon was among it, with its wait status. */
static bool reap(struct run *run, int *daemon_status)
{
	bool daemon_ended = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == run->daemon_pid) {
			run->daemon_pid = 0;
			*daemon_status = status;
			daemon_ended = true;
		} else if (pid == run->command_pid) {
			run->command_pid = 0;
			run->command_status = status;
		}
	}
	return daemon_ended;
}

static int start_daemon(struct run *run)
{
	static char database[96];
	struct shale_options options = SHALE_OPTIONS_INIT;
	const struct timespec pause = {0, 10000000};
	struct shale_db *db;
	int status, sig, rc;

	if (!run->database) {
		snprintf(database, sizeof(database), "%s/db", run->scratch);
		run->database = database;
	}
	run->daemon_argv[0] = run->daemon;
	run->daemon_argv[1] = "--db";
	run->daemon_argv[2] = run->database;
	run->daemon_argv[3] = "--socket";
	run->daemon_argv[4] = run->socket;
	run->daemon_pid = spawn(run->daemon_argv, true);
	if (run->daemon_pid < 0) {
		run->daemon_pid = 0;
		complain("cannot start a process: %m");
		return EXIT_FAILED;
	}
	/* However long its recovery takes: it either serves or ends, and says why itself. */
	options.connect_ms = 200;
	for (;;) {
		rc = shale_open(run->socket, &options, &db);
		if (rc == 0)
			break;
		reap(run, &status);
		if (!run->daemon_pid) {
			complain("the daemon did not start");
			return EXIT_FAILED;
		}
		if (rc != -ENOENT && rc != -ECONNREFUSED && rc != -ETIMEDOUT && rc != -EPIPE) {
			complain("%s", shale_last_error(NULL));
			return EXIT_FAILED;
		}
		sig = sigtimedwait(&waited_for, NULL, &pause);
		if (sig > 0 && sig != SIGCHLD)
			return 128 + sig;
	}
	shale_close(db);
	return 0;
}

static void stop_daemon(struct run *run)
{
	int status = 0;

	if (!run->daemon_pid)
		return;
	kill(run->daemon_pid, SIGTERM);
	while (waitpid(run->daemon_pid, &status, 0) < 0 && errno == EINTR)
		;
	run->daemon_pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		complain("the daemon did not end cleanly (status %#x)", (unsigned)status);
}

/* Runs CMD to its end; returns the exit code to pass on. */
static int run_command(struct run *run, char **argv)
{
	siginfo_t info;
	int status, sig;

	setenv("SHALE_SOCKET", run->socket, 1);
	run->command_pid = spawn((const char *const *)argv, false);
	if (run->command_pid < 0) {
		run->command_pid = 0;
		complain("cannot start a process: %m");
		return EXIT_FAILED;
	}
	while (run->command_pid) {
		sig = sigwaitinfo(&waited_for, &info);
		if (sig == SIGCHLD) {
			if (reap(run, &status) && run->command_pid)
				complain("the daemon ended while %s ran (status %#x)", argv[0], (unsigned)status);
		} else if (sig > 0 && info.si_code != SI_KERNEL) {
			kill(run->command_pid, sig);
		}
	}
	return WIFEXITED(run->command_status) ? WEXITSTATUS(run->command_status) : 128 + WTERMSIG(run->command_status);
}

static void usage(FILE *out)
{
	fputs("usage: shale-run [--db DIR] [--set key=value]... -- CMD...\n"
	      "runs CMD beside a private shaled, on DIR or on a temporary directory that is removed afterwards;\n"
	      "SHALE_SOCKET tells CMD where it is; the exit status is CMD's\n",
	      out);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"db", required_argument, NULL, 'd'},
		{"set", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct run run = {.daemon_argc = 5};
	int letter, rc;

	while ((letter = getopt_long(argc, argv, "+d:s:h", options, NULL)) != -1) {
		switch (letter) {
		case 'd':
			run.database = optarg;
			break;
		case 's':
			if (run.daemon_argc + 3 > (int)(sizeof(run.daemon_argv) / sizeof(run.daemon_argv[0]))) {
				complain("too many --set");
				return EXIT_USAGE;
			}
			run.daemon_argv[run.daemon_argc++] = "--set";
			run.daemon_argv[run.daemon_argc++] = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	sigemptyset(&waited_for);
	for (const int *s = (const int[]){SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, 0}; *s; s++)
		sigaddset(&waited_for, *s);
	sigprocmask(SIG_BLOCK, &waited_for, &inherited_mask);
	find_daemon(&run);
	rc = make_scratch(&run);
	if (rc == 0)
		rc = start_daemon(&run);
	if (rc == 0)
		rc = run_command(&run, argv + optind);
	stop_daemon(&run);
	if (*run.scratch)
		nftw(run.scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return rc;
}
