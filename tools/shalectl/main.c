/*
 * main.c - shalectl: look at a running shaled, keep its database, and read and write its keys from a shell.
 *
 * What it understands is in commands.c. Here: the way in, words for failures, and the way out.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/shalectl/commands.h"

enum { ANSWER_FACTOR = 5 }; /* an answer may take so many times as long as a connection */

void complain(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("shalectl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- talking to the daemon ---- */

int ctl_refused(int rc, const char *story)
{
	complain("%s", *story ? story : shale_strerror(rc));
	switch (rc) {
	case -ETIMEDOUT:
		complain(
			"the daemon hangs, or is very busy; `shalectl --db DIR status`, `top` and `explain` look at it "
			"without asking it");
		return EXIT_FAILED;
	case -ENOENT:
	case -ECONNREFUSED:
	case -EPIPE:
		return EXIT_NOT_RUNNING;
	default:
		return EXIT_FAILED;
	}
}

int ctl_failed(struct shale_db *db, const char *what, int rc)
{
	const char *story = shale_last_error(db);
	char words[1024];

	snprintf(words, sizeof(words), "%s: %s", what, *story ? story : shale_strerror(rc));
	return ctl_refused(rc, words);
}

int ctl_open(struct ctl *ctl, bool read_only, struct shale_db **db_out)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	const char *path;
	int code = ctl_where(ctl, &path), rc;

	if (code != EXIT_OK)
		return code;
	options.connect_ms = ctl->timeout_ms;
	options.reconnect_ms = ctl->timeout_ms;
	options.read_only = read_only;
	/* A daemon that hangs after the connection is noticed, too. Writes wait as long as it takes: a stall is no hang. */
	options.deadline_us = read_only ? ANSWER_FACTOR * (uint64_t)ctl->timeout_ms * 1000 : 0;
	if (access(path, F_OK) < 0 && errno == ENOENT)
		options.connect_ms =
			0; /* nobody is there: a socket that is left over may have a daemon on its way back */
	rc = shale_open(path, &options, db_out);
	return rc == 0 ? EXIT_OK : ctl_failed(NULL, "cannot connect", rc);
}

int ctl_finish_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	if (errno != EPIPE) /* who closed the pipe wants no more words either */
		complain("writing the answer: %m");
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.timeout_ms = 2000, .limit = UINT64_MAX};
	const struct command *command;
	int code;

	/* Whatever our parent did with it: who reads only our first lines ends us quietly. */
	signal(SIGPIPE, SIG_DFL);
	if (parse_command_line(&ctl, argc, argv, &command, &code) < 0)
		return code;
	return command->run(&ctl);
}
