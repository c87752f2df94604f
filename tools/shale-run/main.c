/*
 * shale-run - a private shaled for one command.
 *
 *	shale-run [--db DIR] [--set key=value]… -- CMD…
 *
 * Starts shaled on DIR, or on a temporary directory, with a socket of its own; waits until it serves; runs CMD with
 * SHALE_SOCKET set; stops the daemon and waits for it; exits with CMD's status (128 + n when signal n killed it).
 *
 * SIGINT and SIGTERM sent to shale-run go on to CMD; those that a terminal made have reached CMD already, as it is in
 * the same process group, and are not sent twice. The daemon is in another one.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/private_daemon.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANNOT_RUN = 126, EXIT_NO_COMMAND = 127 };

/* The signals that this program waits for; the command gets the mask that it was started with. */
static sigset_t waited_for, inherited_mask;

static int failed(const struct err_info *err)
{
	fprintf(stderr, "shale-run: %s\n", err->text);
	return EXIT_FAILED;
}

/* However long its recovery takes: the daemon either serves or ends, and says why itself. A signal ends the wait. */
static int start_daemon(struct private_daemon *d)
{
	const struct timespec pause = {0, 5000000};
	struct err_info err = {0};
	int rc = private_daemon_spawn(d, &err), sig;

	while (rc == 0) {
		rc = private_daemon_try(d, 200, &err);
		if (rc)
			break;
		sig = sigtimedwait(&waited_for, NULL, &pause);
		if (sig > 0 && sig != SIGCHLD)
			return 128 + sig;
	}
	return rc < 0 ? failed(&err) : 0;
}

static pid_t start_command(char **argv)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	sigprocmask(SIG_SETMASK, &inherited_mask, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "shale-run: %s: %m\n", argv[0]);
	_exit(errno == ENOENT ? EXIT_NO_COMMAND : EXIT_CANNOT_RUN);
}

/* Runs CMD to its end; returns the exit code to pass on. */
static int run_command(struct private_daemon *d, char **argv)
{
	int status, sig;
	siginfo_t info;
	pid_t command;

	setenv("SHALE_SOCKET", d->socket, 1);
	setenv("SHALE_DB", d->database, 1);
	command = start_command(argv);
	if (command < 0) {
		perror("shale-run: cannot start a process");
		return EXIT_FAILED;
	}
	while (waitpid(command, &status, WNOHANG) != command) {
		if (d->pid && waitpid(d->pid, &d->status, WNOHANG) == d->pid) {
			d->pid = 0;
			fprintf(stderr, "shale-run: the daemon ended while %s ran (status %#x)\n", argv[0],
				(unsigned)d->status);
		}
		sig = sigwaitinfo(&waited_for, &info);
		if (sig > 0 && sig != SIGCHLD && info.si_code != SI_KERNEL)
			kill(command, sig);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void usage(FILE *out)
{
	fputs("usage: shale-run [--db DIR] [--set key=value]... -- CMD...\n"
	      "runs CMD beside a private shaled, on DIR or on a temporary directory that is removed afterwards;\n"
	      "SHALE_SOCKET tells CMD where it is; the exit status is CMD's\n",
	      out);
}

/* Fills @sets with what follows each --set. 0, or the exit code plus one. */
static int parse(int argc, char **argv, const char **database, const char **sets, int *nsets)
{
	static const struct option options[] = {
		{"db", required_argument, NULL, 'd'},
		{"set", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "+d:s:h", options, NULL)) != -1) {
		switch (letter) {
		case 'd':
			*database = optarg;
			break;
		case 's':
			if (*nsets == PRIVATE_DAEMON_ARGS / 2) {
				fprintf(stderr, "shale-run: at most %d times --set\n", PRIVATE_DAEMON_ARGS / 2);
				return EXIT_USAGE + 1;
			}
			sets[(*nsets)++] = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0 + 1;
		default:
			return EXIT_USAGE + 1;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE + 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	const char *database = NULL, *sets[PRIVATE_DAEMON_ARGS / 2];
	struct private_daemon daemon;
	struct err_info err = {0};
	int nsets = 0, rc = parse(argc, argv, &database, sets, &nsets);

	if (rc)
		return rc - 1;
	sigemptyset(&waited_for);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&waited_for, signals[i]);
	sigprocmask(SIG_BLOCK, &waited_for, &inherited_mask);

	rc = private_daemon_init(&daemon, NULL, database, &err);
	for (int i = 0; i < nsets; i++) {
		private_daemon_arg(&daemon, "--set");
		private_daemon_arg(&daemon, sets[i]);
	}
	rc = rc < 0 ? failed(&err) : start_daemon(&daemon);
	if (rc == 0)
		rc = run_command(&daemon, argv + optind);
	if (private_daemon_stop(&daemon))
		fprintf(stderr, "shale-run: the daemon did not end cleanly (status %#x)\n", (unsigned)daemon.status);
	private_daemon_fini(&daemon);
	return rc;
}
