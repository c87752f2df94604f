/*
 * shalectl's faces: one table behind parser, help, manual page and completion; top; doctor; config; and which daemon is meant.
 */
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "tests/proc/proc.h"

static struct private_daemon d;
static char out[1 << 18], text[1 << 17];

/* Runs shalectl with these words (a shell's); its exit code; stdout and stderr in `out`. */
#define ctl(...) proc_shell(out, sizeof(out), __VA_ARGS__)

static void begin(void)
{
	proc_begin(&d);
	ck_assert_int_eq(ctl("%s/shalectl --socket %s put a 1 2>&1", proc_build(), d.socket), 0);
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

static json_t *parsed(void)
{
	json_error_t error;
	json_t *j = json_loads(out, 0, &error);

	ck_assert_msg(j, "%s\n%s", error.text, out);
	return j;
}

/* The verbs by the completion, one after the other; @save as strtok_r's. */
static char *verbs(char *buf, size_t cap)
{
	char *list;

	ck_assert_int_eq(proc_shell(buf, cap, "%s/shalectl completion bash", proc_build()), 0);
	list = strstr(buf, "\tverbs='");
	ck_assert_ptr_nonnull(list);
	list += strlen("\tverbs='");
	list[strcspn(list, "'")] = 0;
	return list;
}

static const char *value_for(const char *placeholder)
{
	return strcmp(placeholder, "KEY") == 0 || strcmp(placeholder, "BYTES") == 0 ? "x" : "1";
}

/* Each option that `help VERB` lists is parsed, with its value; --help behind it keeps the verb from running. */
static void try_options(const char *verb)
{
	char *save = NULL;

	ck_assert_int_eq(proc_shell(text, sizeof(text), "%s/shalectl help %s", proc_build(), verb), 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[64], value[64];

		if (sscanf(line, "      --%63[a-z0-9-]%*[ ]%63[A-Z]", name, value) < 1)
			continue;
		if (sscanf(line, "      --%63[a-z0-9-] %63[A-Z]%*[ ]", name, value) == 2)
			ck_assert_msg(ctl("%s/shalectl %s --%s %s --help 2>&1", proc_build(), verb, name,
					  value_for(value)) == 0,
				      "%s --%s: %s", verb, name, out);
		else
			ck_assert_msg(ctl("%s/shalectl %s --%s --help 2>&1", proc_build(), verb, name) == 0,
				      "%s --%s: %s", verb, name, out);
		ck_assert_int_eq(proc_shell(out, sizeof(out), "%s/shalectl help --scdoc", proc_build()), 0);
		snprintf(value, sizeof(value), "*--%.50s*", name);
		ck_assert_msg(strstr(out, value), "the manual page lacks %s of %s", name, verb);
	}
}

/* Every verb, with every option, is in help, manual page and completion, and what help says is what is parsed. */
START_TEST(one_table)
{
	char list[1 << 15], man[1 << 16], wanted[64], *save = NULL;

	proc_init(&d, NULL, NULL);
	ck_assert_int_eq(proc_shell(man, sizeof(man), "%s/shalectl help --scdoc", proc_build()), 0);
	ck_assert_int_eq(strncmp(man, "shalectl(1)\n", 12), 0);
	for (char *v = strtok_r(verbs(list, sizeof(list)), " ", &save); v; v = strtok_r(NULL, " ", &save)) {
		ck_assert_int_eq(ctl("%s/shalectl help", proc_build()), 0);
		snprintf(wanted, sizeof(wanted), "\n  %s ", v);
		ck_assert_msg(strstr(out, wanted), "help lacks %s", v);
		snprintf(wanted, sizeof(wanted), "\n*%s*", v);
		ck_assert_msg(strstr(man, wanted), "the manual page lacks %s", v);
		ck_assert_int_eq(ctl("%s/shalectl help %s", proc_build(), v), 0);
		snprintf(wanted, sizeof(wanted), "usage: shalectl %s", v);
		ck_assert_int_eq(strncmp(out, wanted, strlen(wanted)), 0);
		try_options(v);
	}
	end();
}
END_TEST

/* bash completes verbs, options of the verb, directories and files where these are wanted, also behind "=". */
START_TEST(completion)
{
	static const struct {
		const char *words, *answer;
	} cases[] = {
		{"shalectl snap", "snapshots"},
		{"shalectl --db /tmp sc", "scan"},
		{"shalectl --db = /tmp sc", "scan"},
		{"shalectl scan --rev", "--reverse"},
		{"shalectl scan --keep", ""},
		{"shalectl scan --js", "--json"},
		{"shalectl --db /de", "/dev"},
		{"shalectl --db = /de", "/dev"},
		{"shalectl --db /dev/nul", ""},
		{"shalectl dump /dev/nul", "/dev/null"},
		{"shalectl help repa", "repair"},
		{"shalectl config sh", "show"},
		{"shalectl config show /dev/nul", "/dev/null"},
		{"shalectl put k v", ""},
	};

	proc_init(&d, NULL, NULL);
	if (ctl("bash -c 'type compgen' 2>&1") != 0)
		return; /* there is no bash */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_int_eq(
			ctl("bash -c 'source <(%s/shalectl completion bash); COMP_WORDS=(%s); "
			    "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shalectl; echo -n \"${COMPREPLY[*]}\"' 2>&1",
			    proc_build(), cases[i].words),
			0);
		ck_assert_msg(strcmp(out, cases[i].answer) == 0, "%s: \"%s\"", cases[i].words, out);
	}
	end();
}
END_TEST

/* top as one object, as a line each interval, and as text without a terminal; with and without work, of a stopped and of a dead daemon. */
START_TEST(top_without_terminal)
{
	json_t *j;

	begin();
	ck_assert_int_eq(ctl("%s/shalectl --db %s top --json", proc_build(), d.database), 0);
	j = parsed();
	ck_assert_str_eq(json_string_value(json_object_get(j, "state")), "serving");
	ck_assert_uint_eq(json_array_size(json_object_get(j, "levels")), 7);
	ck_assert_ptr_nonnull(json_object_get(json_object_get(j, "per_second"), "gets"));
	ck_assert_ptr_nonnull(json_object_get(json_object_get(j, "latencies"), "get"));
	json_decref(j);
	/* Two lines come, one after the other: the reader ends it. */
	ctl("%s/shalectl --socket %s top --json --interval 0.1 | head -2 | wc -l", proc_build(), d.socket);
	ck_assert_int_eq(atoi(out), 2);
	stop_daemon();
	ck_assert_int_eq(ctl("%s/shalectl --socket %s top", proc_build(), d.socket), 0);
	ck_assert_msg(strstr(out, "A SIGNAL STOPPED IT") && strstr(out, "heartbeat") && !strchr(out, '\033'), "%s",
		      out);
	kill(d.pid, SIGCONT);
	private_daemon_kill(&d);
	ck_assert_int_eq(ctl("%s/shalectl --db %s top --json", proc_build(), d.database), 3);
	j = parsed();
	ck_assert_str_eq(json_string_value(json_object_get(j, "health")), "gone");
	json_decref(j);
	proc_start(&d);
	end();
}
END_TEST

/* Reads from the terminal's other side until @wanted has come, or nothing comes for a long time. */
static bool comes(int fd, size_t *used, const char *wanted)
{
	while (!strstr(text, wanted)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, 20000) <= 0 || *used + 1 >= sizeof(text))
			return false;
		n = read(fd, text + *used, sizeof(text) - 1 - *used);
		if (n <= 0)
			return false;
		*used += (size_t)n;
		text[*used] = 0;
	}
	return true;
}

/* A live view on a terminal of @columns; ended by a key, or by a signal. */
static void live_view(const char *end_key, int signal, bool no_color, unsigned short columns)
{
	struct winsize size = {.ws_row = 30, .ws_col = columns};
	struct termios before, after;
	char program[700];
	size_t used = 0;
	int fd, slave, status;
	pid_t pid;

	snprintf(program, sizeof(program), "%s/shalectl", proc_build());
	memset(text, 0, sizeof(text));
	ck_assert_int_eq(openpty(&fd, &slave, NULL, NULL, &size), 0);
	ck_assert_int_eq(tcgetattr(slave, &before), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		login_tty(slave);
		if (no_color)
			setenv("NO_COLOR", "1", 1);
		else
			unsetenv("NO_COLOR");
		execl(program, "shalectl", "--db", d.database, "top", "--interval", "0.2", NULL);
		_exit(127);
	}
	ck_assert_msg(comes(fd, &used, "\033[?1049h") && comes(fd, &used, "LEVEL") && comes(fd, &used, "CLIENT"), "%s",
		      text);
	/* A change of size is drawn; so are later looks. */
	size.ws_col = columns / 2;
	ck_assert_int_eq(ioctl(fd, TIOCSWINSZ, &size), 0);
	used = 0;
	text[0] = 0;
	ck_assert_msg(comes(fd, &used, "heartbeat"), "%s", text);
	ck_assert_msg(no_color == !strstr(text, "\033[1"), "%s", text);
	if (signal)
		kill(pid, signal);
	else
		ck_assert_int_eq(write(fd, end_key, strlen(end_key)), (ssize_t)strlen(end_key));
	ck_assert_msg(comes(fd, &used, "\033[?1049l"), "%s", text);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
	ck_assert_int_eq(tcgetattr(slave, &after), 0);
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	close(fd);
	close(slave);
}

/* On a terminal: its own screen, given back with its modes by q, by Ctrl-C and by a signal; NO_COLOR is heeded, and a change of size. */
START_TEST(top_on_terminal)
{
	begin();
	live_view("q", 0, false, 120);
	live_view("\003", 0, true, 60);
	live_view(NULL, SIGTERM, false, 20);
	stop_daemon();
	live_view("q", 0, false, 100);
	kill(d.pid, SIGCONT);
	end();
}
END_TEST

/* The finding of that check, or NULL. */
static const json_t *finding(const json_t *j, const char *check)
{
	const json_t *f;
	size_t i;

	json_array_foreach(json_object_get(j, "findings"), i,
			   f) if (strcmp(json_string_value(json_object_get(f, "check")), check) == 0) return f;
	return NULL;
}

static const char *verdict(const json_t *j, const char *check)
{
	const json_t *f = finding(j, check);

	ck_assert_msg(f, "nothing is said of %s: %s", check, out);
	return json_string_value(json_object_get(f, "verdict"));
}

/* doctor answers with, without and about a killed daemon; a problem has a fix and the exit code 5. */
START_TEST(doctor)
{
	static const char *const checks[] = {"kernel",	   "io_uring", "memlock", "open-files", "window",
					     "filesystem", "disk",     "shm",	  "left-over"};
	json_t *j;

	begin();
	ctl("%s/shalectl --socket %s doctor --json", proc_build(), d.socket);
	j = parsed();
	ck_assert(json_is_true(json_object_get(j, "daemon_runs")));
	ck_assert_str_eq(verdict(j, "daemon"), "ok");
	ck_assert_str_eq(verdict(j, "version"), "ok");
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		verdict(j, checks[i]);
	json_decref(j);
	private_daemon_kill(&d);
	ck_assert_int_eq(ctl("%s/shalectl --db %s doctor --json", proc_build(), d.database), 5);
	j = parsed();
	ck_assert(json_is_false(json_object_get(j, "daemon_runs")));
	ck_assert_str_eq(verdict(j, "daemon"), "problem");
	ck_assert_ptr_nonnull(json_object_get(finding(j, "daemon"), "fix"));
	json_decref(j);
	proc_start(&d);
	proc_stop(&d);
	ctl("%s/shalectl --db %s doctor --json", proc_build(), d.database);
	j = parsed();
	ck_assert_str_eq(verdict(j, "daemon"), "note");
	json_decref(j);
	ck_assert_int_eq(ctl("%s/shalectl --db %s/none doctor", proc_build(), d.scratch), 5);
	end();
}
END_TEST

static void write_file(const char *name, const char *contents)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", d.scratch, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(contents, f);
	fclose(f);
}

/* config check tells every error with its line, those of FILE.d/ too; config show tells values with their origins, of files and of the daemon. */
START_TEST(config)
{
	char wanted[300];
	json_t *j;

	proc_init(&d, NULL, "engine.bloom_bits=12", NULL);
	mkdir(strcat(strcpy(wanted, d.scratch), "/a.conf.d"), 0700);
	write_file("a.conf", "[engine]\nblock_cach = 5M\n# fine\nblock_size = huge\n nonsense\n[wal]\nring = 8M\n");
	write_file("a.conf.d/b.conf", "[limits]\nmax_kye = 9\n");
	ck_assert_int_eq(ctl("%s/shalectl config check %s/a.conf", proc_build(), d.scratch), 5);
	for (const char *const *p =
		     (const char *const[]){"a.conf:2: ", "did you mean \"engine.block_cache\"",
					   "a.conf:4: ", "a.conf:5: ", "b.conf:2: ", "limits.max_key", NULL};
	     *p; p++)
		ck_assert_msg(strstr(out, *p), "%s is not in:\n%s", *p, out);
	ck_assert_int_eq(ctl("%s/shalectl config check --json %s/a.conf", proc_build(), d.scratch), 5);
	j = parsed();
	ck_assert_uint_eq(json_array_size(json_object_get(j, "problems")), 4);
	json_decref(j);
	write_file("good.conf", "[engine]\nblock_size = 8K\n");
	ck_assert_int_eq(ctl("%s/shalectl config check %s/good.conf", proc_build(), d.scratch), 0);
	ck_assert_int_eq(ctl("%s/shalectl config check %s/none.conf 2>&1", proc_build(), d.scratch), 1);
	ck_assert_int_eq(ctl("%s/shalectl config check %s 2>&1", proc_build(), d.scratch), 1);
	ck_assert_int_eq(ctl("%s/shalectl config show %s/good.conf | grep block_size", proc_build(), d.scratch), 0);
	ck_assert_msg(strstr(out, "8K") && strstr(out, "4K") && strstr(out, "good.conf:2"), "%s", out);
	ck_assert_int_eq(ctl("%s/shalectl config show %s/a.conf 2>&1", proc_build(), d.scratch), 5);
	proc_start(&d);
	ck_assert_int_eq(ctl("%s/shalectl --socket %s config show | grep bloom_bits", proc_build(), d.socket), 0);
	ck_assert_msg(strstr(out, "12") && strstr(out, "10") && strstr(out, "--set"), "%s", out);
	ck_assert_int_eq(ctl("%s/shalectl --socket %s config show --json", proc_build(), d.socket), 0);
	j = parsed();
	ck_assert_uint_gt(json_array_size(json_object_get(j, "settings")), 40);
	json_decref(j);
	end();
}
END_TEST

/* --db finds a daemon whose socket lies elsewhere; but a region that somebody else put under the directory's name leads nowhere. */
START_TEST(which_daemon)
{
	char instance[INSTANCE_LEN + 1], other[INSTANCE_LEN + 1], folder[200], spoof[100];
	int fd;

	begin();
	ck_assert_int_eq(ctl("%s/shalectl --db %s get a 2>&1", proc_build(), d.database), 0);
	ck_assert_str_eq(out, "1");
	ck_assert_int_eq(ctl("%s/shalectl --db %s kick --pid 4000000 2>&1", proc_build(), d.database), 4);
	/* The running daemon's own region, as if it were another directory's. */
	snprintf(folder, sizeof(folder), "%s/other", d.scratch);
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	fd = open(folder, O_RDONLY | O_DIRECTORY);
	ck_ok(segment_instance(fd, other));
	close(fd);
	ck_ok(private_daemon_instance(&d, instance));
	snprintf(spoof, sizeof(spoof), "/dev/shm/shale.%s.region", other);
	ck_assert_int_eq(ctl("cp /dev/shm/shale.%s.region %s", instance, spoof), 0);
	ck_assert_int_eq(ctl("%s/shalectl --db %s get a 2>&1", proc_build(), folder), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(spoof, 65534, 65534), 0);
		ck_assert_int_eq(ctl("%s/shalectl --timeout 50 --db %s get a 2>&1", proc_build(), folder), 3);
		ck_assert_int_eq(ctl("%s/shalectl --db %s status 2>&1", proc_build(), folder), 1);
		ck_assert_msg(strstr(out, "not believed"), "%s", out);
	}
	unlink(spoof);
	end();
}
END_TEST

/* Long work says with --json how it ended, as its last line. */
START_TEST(progress)
{
	begin();
	ck_assert_int_eq(ctl("%s/shalectl --socket %s compact --json 2>&1", proc_build(), d.socket), 0);
	ck_assert_msg(strstr(out, "{\"summary\":{\"result\":\"done\"}}"), "%s", out);
	ck_assert_int_eq(ctl("%s/shalectl --socket %s compact --no-wait --json 2>&1", proc_build(), d.socket), 0);
	ck_assert_msg(strstr(out, "begun"), "%s", out);
	end();
}
END_TEST

TEST_MAIN("ctl_view", 60 * PATIENCE, one_table, completion, top_without_terminal, top_on_terminal, doctor, config,
	  which_daemon, progress)
