/*
 * Every verb of shalectl in bad company: no daemon, one that hangs, no permission, wrong directories, a full disk, closed pipes, wrong words.
 *
 * A verb without a row in the table below fails the first test, so that a new one cannot be forgotten.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/proc.h"

enum need {
	NOTHING, /* prints what it knows */
	DAEMON,	 /* an answer */
	REGION,	 /* shared memory alone: works while the daemon hangs */
	OFFLINE, /* a directory that nobody serves */
	OTHER,	 /* has tests of its own for these */
};

static const struct row {
	const char *verb, *args; /* @: the scratch directory */
	enum need need;
	bool prints; /* to stdout, when all is well and nobody is connected */
} rows[] = {
	{"ping", "", DAEMON, true},
	{"status", "", REGION, true},
	{"stats", "", REGION, true},
	{"levels", "", REGION, true},
	{"jobs", "", REGION, true},
	{"clients", "", REGION, false},
	{"snapshots", "", REGION, false},
	{"kick", "--pid 4000000", DAEMON, false},
	{"explain", "", REGION, true},
	{"top", "--once", REGION, true},
	{"events", "", REGION, true},
	{"metrics", "", REGION, true},
	{"doctor", "", OTHER, true},
	{"config", "show", DAEMON, true},
	{"get", "a", DAEMON, true},
	{"put", "a 1", DAEMON, false},
	{"del", "nothing", DAEMON, false},
	{"scan", "", DAEMON, true},
	{"flush", "", DAEMON, false},
	{"compact", "", DAEMON, false},
	{"checkpoint", "@/backup", DAEMON, false},
	{"check", "", DAEMON, true},
	{"export", "/nonexistent/shale/backup", OTHER, false},
	{"restore", "/nonexistent/shale/backup", OTHER, false},
	{"load", "", OTHER, false},
	{"verify", "", OFFLINE, true},
	{"repair", "--yes", OFFLINE, true},
	{"dump", "/nonexistent/shale/file", OTHER, false},
	{"completion", "bash", NOTHING, true},
	{"version", "", NOTHING, true},
	{"help", "", NOTHING, true},
};

static struct private_daemon d;
static char out[1 << 18], err[1 << 14], names[64][32];
static unsigned name_count;

static void slurp(const char *path, char *buf, size_t cap)
{
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(buf, 1, cap - 1, f) : 0;

	if (f)
		fclose(f);
	buf[n] = 0;
}

/* Runs shalectl with these words; its exit code; @out and @err are what it wrote. */
static int ctl(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int ctl(const char *fmt, ...)
{
	char words[1500], path[128], none[8];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	rc = proc_shell(none, sizeof(none), "%s/shalectl %s >%s/out 2>%s/err </dev/null", proc_build(), words,
			d.scratch, d.scratch);
	snprintf(path, sizeof(path), "%s/out", d.scratch);
	slurp(path, out, sizeof(out));
	snprintf(path, sizeof(path), "%s/err", d.scratch);
	slurp(path, err, sizeof(err));
	return rc;
}

/* The verbs that this shalectl has, from its completion. */
static void learn_names(void)
{
	char *list, *save = NULL;

	ck_assert_int_eq(ctl("completion bash"), 0);
	list = strstr(out, "verbs='");
	list = list && strstr(list + 7, "verbs='") ? strstr(list + 7, "verbs='") : list;
	ck_assert_ptr_nonnull(list);
	list += strlen("verbs='");
	list[strcspn(list, "'")] = 0;
	name_count = 0;
	for (char *p = strtok_r(list, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
		ck_assert_uint_lt(name_count, ARRAY_SIZE(names));
		snprintf(names[name_count++], sizeof(names[0]), "%s", p);
	}
}

static const struct row *row_of(const char *verb)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].verb, verb) == 0)
			return &rows[i];
	return NULL;
}

/* Each row whose verb there is. */
static const struct row *next_row(size_t *i)
{
	while (*i < ARRAY_SIZE(rows)) {
		const struct row *r = &rows[(*i)++];

		for (unsigned k = 0; k < name_count; k++)
			if (strcmp(names[k], r->verb) == 0)
				return r;
	}
	return NULL;
}

static const char *args_of(const struct row *r)
{
	static char args[256];
	const char *at = strchr(r->args, '@');

	if (!at)
		return r->args;
	snprintf(args, sizeof(args), "%.*s%s%s", (int)(at - r->args), r->args, d.scratch, at + 1);
	return args;
}

/* Failed as it should: with this code, words on stderr, and no word of an answer. */
static void failed(const struct row *r, int rc, int wanted, const char *where)
{
	ck_assert_msg(rc == wanted, "%s (%s): exit code %d instead of %d\n%s", r->verb, where, rc, wanted, err);
	ck_assert_msg(strncmp(err, "shalectl: ", 10) == 0, "%s (%s): %s", r->verb, where, err);
	ck_assert_msg(!*out, "%s (%s) wrote: %s", r->verb, where, out);
}

static void scratch_only(void)
{
	proc_init(&d, NULL, NULL);
	learn_names();
}

static void begin(void)
{
	proc_begin(&d);
	learn_names();
	ck_assert_int_eq(ctl("--socket %s put a 1", d.socket), 0);
}

static void end(void)
{
	if (d.pid)
		proc_stop(&d);
	private_daemon_fini(&d);
}

/* Stopped for sure when this returns. */
static void stop_daemon(void)
{
	int status;

	kill(d.pid, SIGSTOP);
	ck_assert_int_eq(waitpid(d.pid, &status, WUNTRACED), d.pid);
	ck_assert(WIFSTOPPED(status));
}

/* Wrong options and numbers of operands are usage errors (2) with a hint, for each verb; nothing is done before. */
START_TEST(wrong_words)
{
	const struct row *r;

	scratch_only();
	for (unsigned i = 0; i < name_count; i++)
		ck_assert_msg(row_of(names[i]), "the verb %s needs a row in this test's table", names[i]);
	for (size_t i = 0; (r = next_row(&i));) {
		failed(r, ctl("%s --no-such-thing", r->verb), 2, "unknown option");
		ck_assert_msg(strstr(err, "unknown option --no-such-thing"), "%s", err);
		failed(r, ctl("%s --jsn", r->verb), 2, "unknown option");
		ck_assert_msg(strstr(err, "did you mean --json"), "%s", err);
		failed(r, ctl("--socket /a --db /b %s %s", r->verb, args_of(r)), 2, "two daemons");
		failed(r, ctl("%s --timeout x", r->verb), 2, "no number");
		if (strcmp(r->verb, "del") == 0)
			continue; /* takes any number */
		failed(r, ctl("%s a b c d e f g h i j", r->verb), 2, "too many");
		ck_assert_msg(strstr(err, "too many") && strstr(err, r->verb), "%s", err);
	}
	failed(row_of("get"), ctl("get"), 2, "too few");
	ck_assert_ptr_nonnull(strstr(err, "KEY"));
	failed(row_of("del"), ctl("del"), 2, "too few");
	failed(row_of("put"), ctl("put a"), 2, "too few");
	failed(row_of("scan"), ctl("scan --limit"), 2, "no value");
	failed(row_of("scan"), ctl("scan --json=yes"), 2, "a value");
	failed(row_of("config"), ctl("config chek"), 2, "no such word");
	ck_assert_ptr_nonnull(strstr(err, "did you mean 'check'"));
	end();
}
END_TEST

/* Without a daemon those that need one end at once with 3, by socket and by directory; the others work or say what they need. */
START_TEST(no_daemon)
{
	const struct row *r;

	scratch_only();
	for (size_t i = 0; (r = next_row(&i));) {
		if (r->need == DAEMON || r->need == REGION) {
			failed(r, ctl("--socket %s/none %s %s", d.scratch, r->verb, args_of(r)), 3, "no socket");
			failed(r, ctl("--timeout 50 --db %s %s %s", d.scratch, r->verb, args_of(r)), 3, "not served");
		} else if (r->need == OFFLINE) {
			failed(r, ctl("--socket %s/none %s %s", d.scratch, r->verb, args_of(r)), 2,
			       "no directory given");
		} else if (r->need == NOTHING) {
			ck_assert_int_eq(ctl("--socket %s/none %s %s", d.scratch, r->verb, args_of(r)), 0);
		}
	}
	end();
}
END_TEST

/* A directory that is none, or not there, is told as such. */
START_TEST(wrong_directory)
{
	const struct row *r;
	char file[128];
	int fd;

	scratch_only();
	snprintf(file, sizeof(file), "%s/file", d.scratch);
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	for (size_t i = 0; (r = next_row(&i));) {
		if (r->need != DAEMON && r->need != REGION && r->need != OFFLINE)
			continue;
		failed(r, ctl("--db %s/nowhere %s %s", d.scratch, r->verb, args_of(r)), 1, "not there");
		ck_assert_msg(strstr(err, "nowhere"), "%s", err);
		failed(r, ctl("--db %s %s %s", file, r->verb, args_of(r)), 1, "a file");
	}
	end();
}
END_TEST

/* While the daemon is stopped, what needs its answer gives up in words, and what needs only its memory works, with its socket and with its directory. */
START_TEST(daemon_hangs)
{
	const struct row *r;

	begin();
	stop_daemon();
	for (size_t i = 0; (r = next_row(&i));) {
		if (r->need == DAEMON) {
			failed(r, ctl("--timeout 100 --socket %s %s %s", d.socket, r->verb, args_of(r)), 1, "hangs");
			ck_assert_msg(strstr(err, "hangs"), "%s: %s", r->verb, err);
		} else if (r->need == REGION) {
			ck_assert_msg(ctl("--socket %s %s %s", d.socket, r->verb, args_of(r)) == 0, "%s: %s", r->verb,
				      err);
			ck_assert_msg(ctl("--db %s %s %s", d.database, r->verb, args_of(r)) == 0, "%s: %s", r->verb,
				      err);
			ck_assert_msg(*out || !r->prints, "%s says nothing", r->verb);
		} else if (r->need == OFFLINE) {
			failed(r, ctl("--db %s %s %s", d.database, r->verb, args_of(r)), 1, "served");
		}
	}
	ck_assert_int_eq(ctl("--db %s doctor", d.database), 5);
	ck_assert_msg(strstr(out, "a signal stopped the daemon") && strstr(out, "kill -CONT"), "%s", out);
	kill(d.pid, SIGCONT);
	end();
}
END_TEST

/* Who may not connect is told so, and neither changes nor sees anything. */
START_TEST(no_permission)
{
	const struct row *r;
	char command[64] = "setpriv --reuid=65534 --regid=65534 --clear-groups true", none[8];

	if (geteuid() != 0 || proc_shell(none, sizeof(none), "%s", command) != 0)
		return; /* only root can become somebody else */
	proc_init(&d, NULL, "access.mode=0600", NULL);
	proc_start(&d);
	learn_names();
	chmod(d.scratch, 0755);
	for (size_t i = 0; (r = next_row(&i));) {
		char path[128];
		int rc;

		if (r->need != DAEMON && r->need != REGION)
			continue;
		rc = proc_shell(none, sizeof(none),
				"setpriv --reuid=65534 --regid=65534 --clear-groups %s/shalectl --timeout 500 --socket "
				"%s %s %s "
				">%s/out 2>%s/err",
				proc_build(), d.socket, r->verb, args_of(r), d.scratch, d.scratch);
		snprintf(path, sizeof(path), "%s/out", d.scratch);
		slurp(path, out, sizeof(out));
		snprintf(path, sizeof(path), "%s/err", d.scratch);
		slurp(path, err, sizeof(err));
		if (rc == 126 || rc == 127)
			break; /* the build folder is not open to others */
		failed(r, rc, 1, "no permission");
		ck_assert_msg(strstr(err, "ermi") || strstr(err, "may not"), "%s: %s", r->verb, err);
	}
	end();
}
END_TEST

/* A full disk under standard output is an error that is told, with exit code 1. */
START_TEST(full_disk)
{
	const struct row *r;

	begin();
	for (size_t i = 0; (r = next_row(&i));) {
		char words[600];

		if (!r->prints || r->need == OFFLINE)
			continue;
		for (int json = 0; json < 2; json++) {
			if (json && strcmp(r->verb, "metrics") == 0)
				break; /* has a format of its own */
			snprintf(words, sizeof(words), "%s/shalectl --socket %s %s %s %s 2>&1 >/dev/full", proc_build(),
				 d.socket, json ? "--json" : "", r->verb, args_of(r));
			ck_assert_msg(proc_shell(out, sizeof(out), "%s", words) == 1, "%s: %s", words, out);
			ck_assert_msg(strstr(out, "No space left"), "%s: %s", words, out);
		}
	}
	proc_stop(&d);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out), "%s/shalectl --db %s verify 2>&1 >/dev/full", proc_build(), d.database),
		1);
	end();
}
END_TEST

/* A reader that goes away ends the writer without a word, also where the parent ignores SIGPIPE; and what was being done is whole. */
START_TEST(broken_pipe)
{
	const struct row *r;

	begin();
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "%s/shalectl --socket %s put big \"$(head -c 60000 /dev/zero | tr '\\0' x)\" 2>&1",
				    proc_build(), d.socket),
			 0);
	for (size_t i = 0; (r = next_row(&i));) {
		if (!r->prints || r->need == OFFLINE)
			continue;
		proc_shell(out, sizeof(out), "trap '' PIPE; { %s/shalectl --socket %s %s %s | true; } 2>&1",
			   proc_build(), d.socket, r->verb, args_of(r));
		ck_assert_msg(!*out, "%s: %s", r->verb, out);
	}
	proc_shell(out, sizeof(out), "{ %s/shalectl --socket %s scan | head -c 1; } 2>&1", proc_build(), d.socket);
	ck_assert_str_eq(out, "a");
	end();
}
END_TEST

/* Without a terminal there are neither bars nor colours nor escapes. */
START_TEST(no_terminal)
{
	const struct row *r;

	begin();
	for (size_t i = 0; (r = next_row(&i));) {
		if (r->need != DAEMON && r->need != REGION && r->need != NOTHING)
			continue;
		ctl("--socket %s %s %s", d.socket, r->verb, args_of(r));
		ck_assert_msg(!strchr(err, '\r') && !strchr(err, '\033') && !strchr(out, '\033'), "%s: %s%s", r->verb,
			      out, err);
	}
	proc_stop(&d);
	ck_assert_int_eq(ctl("--db %s verify", d.database), 0);
	ck_assert_msg(!strchr(err, '\r') && !strchr(err, '\033'), "%s", err);
	end();
}
END_TEST

TEST_MAIN("ctl_bad", 60 * PATIENCE, wrong_words, no_daemon, wrong_directory, daemon_hangs, no_permission, full_disk,
	  broken_pipe, no_terminal)
