/*
 * private_daemon.h - a shaled for one program: started beside it, on a directory of its own, and gone with it.
 *
 * shale-run, the demo, the benchmark and the tests share this. The socket lies in a scratch directory; so does the
 * database, unless one is named. A daemon has a process group of its own (a Ctrl-C does not reach it) and a
 * parent-death signal (SIGKILL: it must survive that anyway), so that none is left behind; a small child of this program
 * removes the directory and the segments when this program is killed.
 */
#ifndef SHALE_TOOLS_PRIVATE_DAEMON_H
#define SHALE_TOOLS_PRIVATE_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

struct err_info;

enum { PRIVATE_DAEMON_ARGS = 64 };

struct private_daemon {
	pid_t pid; /* 0: not running */
	pid_t janitor;
	int janitor_pipe;
	pid_t owner;	       /* the process that made it; a forked child must not clean up */
	int status;	       /* as waitpid says, of the last one that ended */
	char scratch[64];      /* removed by private_daemon_fini */
	char database[512];    /* absolute, or as given */
	bool scratch_database; /* it lies in the scratch directory */
	char socket[96];
	char program[512];
	char log[96];			       /* stderr goes here; "" for ours */
	const char *args[PRIVATE_DAEMON_ARGS]; /* further arguments; borrowed */
	int nargs;
};

/*
 * Makes the scratch directory and finds shaled (@folder's, else beside this program, else in $PATH). @database may be
 * NULL. Starts nothing. 0 or -errno with words. private_daemon_fini afterwards in any case.
 */
int private_daemon_init(struct private_daemon *d, const char *folder, const char *database, struct err_info *err);

/* One more argument for the daemon. */
void private_daemon_arg(struct private_daemon *d, const char *arg);

/* Starts the process and does not wait. 0 or -errno with words. */
int private_daemon_spawn(struct private_daemon *d, struct err_info *err);

/*
 * Waits until it serves: one attempt to connect of at most @step_ms. 1 serving, 0 not yet, negative: it ended (d->status) or
 * cannot be reached, with words.
 */
int private_daemon_try(struct private_daemon *d, unsigned step_ms, struct err_info *err);

/* private_daemon_spawn, then private_daemon_try until an answer. 0 or negative with words. */
int private_daemon_start(struct private_daemon *d, struct err_info *err);

/* SIGTERM or SIGKILL, and waits for the end. 0 for a clean end, else the wait status. Does nothing when it does not run. */
int private_daemon_stop(struct private_daemon *d);
int private_daemon_kill(struct private_daemon *d);

/*
 * Kills what still runs and removes the scratch directory; if the database was in it, also what a killed daemon left in
 * /dev/shm. Takes zeroed ones; does nothing in a forked child.
 */
void private_daemon_fini(struct private_daemon *d);

/* The instance name of its database's segments in @out (17 bytes). 0 or -errno. */
int private_daemon_instance(const struct private_daemon *d, char *out);

/* Segments of the database's instance that lie in /dev/shm, or -errno. */
int private_daemon_segments(const struct private_daemon *d);

#endif
