/*
 * shalectl - look at a running shaled, and read and write its keys from a shell.
 *
 * One table of verbs and one of options make the parser, the help and the suggestions. Options may stand before or
 * after the verb; those of a verb only after it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>

#include "shm/layout.h"
#include "tools/shalectl/shalectl.h"

static int cmd_help(struct ctl *ctl);

static const struct command commands[] = {
	{"ping", "", 0, 0, "", "is the daemon there and serving?", cmd_ping},
	{"status", "", 0, 0, "", "state, sizes, levels; works while the daemon hangs", cmd_status},
	{"stats", "", 0, 0, "", "every counter, level, session and snapshot", cmd_stats},
	{"levels", "", 0, 0, "", "what each level holds, and what came into it and why", cmd_levels},
	{"jobs", "", 0, 0, "", "background jobs: running, and the last ones", cmd_jobs},
	{"clients", "", 0, 0, "", "who is connected, and what it does; works while the daemon hangs", cmd_clients},
	{"snapshots", "", 0, 0, "", "who holds which snapshot, and for how long", cmd_snapshots},
	{"kick", "[SESSION]", 0, 1, "P", "end a session, or all of a process", cmd_kick},
	{"explain", "", 0, 0, "", "why writes are slow now, and why space is not free", cmd_explain},
	{"get", "KEY", 1, 1, "x", "print a value, byte for byte", cmd_get},
	{"put", "KEY VALUE", 2, 2, "y", "write a value; '-' takes it from standard input", cmd_put},
	{"del", "KEY...", 1, INT32_MAX, "y", "delete keys, all at once", cmd_del},
	{"scan", "", 0, 0, "ftpnrk", "print entries in order, one a line", cmd_scan},
	{"flush", "", 0, 0, "", "write the memtables out as tables", cmd_flush},
	{"compact", "[FROM [TO]]", 0, 2, "ftlWN", "compact a range of keys, or all; Ctrl-C ends it", cmd_compact},
	{"verify", "", 0, 0, "", "check every byte of the database in --db DIR, which nobody serves", cmd_verify},
	{"repair", "", 0, 0, "YDO", "make a damaged database usable again; what is lost is told, and kept in lost/",
	 cmd_repair},
	{"dump", "FILE", 1, 1, "k", "print what a table, log, MANIFEST or CURRENT says, or a directory as a whole", cmd_dump},
	{"version", "", 0, 0, "", "print the version", cmd_version},
	{"help", "[VERB]", 0, 1, "", "print this, or a verb's options", cmd_help},
};

enum { GLOBAL_OPTIONS = 5 }; /* the first ones of the table below */

static const struct {
	char letter; /* also the short option for global ones */
	const char *name, *arg, *help;
} option_table[] = {
	{'s', "socket", "PATH", "the daemon's socket; default: $SHALE_SOCKET, else " SHALE_DEFAULT_SOCKET},
	{'d', "db", "DIR", "the daemon that serves this database directory, or the directory itself"},
	{'j', "json", NULL, "answer in JSON"},
	{'w', "timeout", "MS", "how long to wait for a connection; default 2000"},
	{'h', "help", NULL, "print this"},
	{'x', "hex", NULL, "print the value in hexadecimal"},
	{'y', "sync", NULL, "return when it is on disk"},
	{'f', "from", "KEY", "begin at this key"},
	{'t', "to", "KEY", "end before this key"},
	{'p', "prefix", "BYTES", "only keys that begin so"},
	{'n', "limit", "N", "at most so many entries"},
	{'r', "reverse", NULL, "from the last to the first"},
	{'k', "keys-only", NULL, "leave the values out"},
	{'l', "level", "N", "only what level N holds, into the next one; the last is rewritten"},
	{'W', "wait", NULL, "return when it is done (the default)"},
	{'N', "no-wait", NULL, "return when it is begun"},
	{'P', "pid", "PID", "the sessions of this process"},
	{'Y', "yes", NULL, "do it without asking"},
	{'D', "dry-run", NULL, "say what would be done, and change nothing"},
	{'O', "keep-older", NULL,
	 "keep older values of keys whose newest entry may be lost: deleted data may come back"},
};

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

static const char *where(const struct ctl *ctl)
{
	return ctl->socket ? ctl->socket : ctl->database;
}

int ctl_failed(struct shale_db *db, const char *what, int rc)
{
	const char *story = shale_last_error(db);

	complain("%s: %s", what, *story ? story : shale_strerror(rc));
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -EPIPE:
		return EXIT_NOT_RUNNING;
	default:
		return EXIT_FAILED;
	}
}

int ctl_open(struct ctl *ctl, bool read_only, struct shale_db **db_out)
{
	struct shale_options options = SHALE_OPTIONS_INIT;
	int rc;

	options.connect_ms = ctl->timeout_ms;
	options.reconnect_ms = ctl->timeout_ms;
	options.read_only = read_only;
	rc = shale_open(where(ctl), &options, db_out);
	return rc == 0 ? EXIT_OK : ctl_failed(NULL, "cannot connect", rc);
}

int ctl_finish_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	complain("writing the answer: %m");
	return EXIT_FAILED;
}

/* ---- help ---- */

static void print_options(size_t first, size_t end, const char *letters)
{
	for (size_t i = first; i < end; i++) {
		char text[32];

		if (letters && !strchr(letters, option_table[i].letter))
			continue;
		snprintf(text, sizeof(text), "--%s%s%s", option_table[i].name, option_table[i].arg ? " " : "",
			 option_table[i].arg ? option_table[i].arg : "");
		printf("  %-18s %s\n", text, option_table[i].help);
	}
}

static const struct command *find_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands) + 1] = {0};
	const char *near;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		names[i] = commands[i].name;
	}
	near = did_you_mean(name, names);
	complain("no verb '%s'%s%s%s; shalectl help lists them", name, near ? ": did you mean '" : "", near ? near : "",
		 near ? "'?" : "");
	return NULL;
}

static void print_help(void)
{
	printf("usage: shalectl [--socket PATH | --db DIR] [--json] VERB ...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-9s %-12s %s\n", commands[i].name, commands[i].args, commands[i].help);
	printf("\noptions\n");
	print_options(0, GLOBAL_OPTIONS, NULL);
	printf("\nexit codes: 0 done, 1 failed, 2 usage, 3 the daemon does not run, 4 no such key, 5 problem found\n");
}

static int cmd_help(struct ctl *ctl)
{
	const struct command *c;

	if (ctl->nargs == 0) {
		print_help();
		return ctl_finish_output();
	}
	c = find_command(ctl->args[0]);
	if (!c)
		return EXIT_USAGE;
	printf("usage: shalectl %s%s%s%s: %s\n", c->name, *c->options ? " [options]" : "", *c->args ? " " : "", c->args,
	       c->help);
	print_options(GLOBAL_OPTIONS, ARRAY_SIZE(option_table), c->options);
	return ctl_finish_output();
}

/* ---- the command line ---- */

static int parse_count(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno) {
		complain("'%s' is no number", text);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int take_option(struct ctl *ctl, int letter)
{
	uint64_t n = 0;

	switch (letter) {
	case 's':
		ctl->socket = optarg;
		break;
	case 'd':
		ctl->database = optarg;
		break;
	case 'j':
		ctl->json = true;
		break;
	case 'x':
		ctl->hex = true;
		break;
	case 'y':
		ctl->sync = true;
		break;
	case 'f':
		ctl->from = optarg;
		break;
	case 't':
		ctl->to = optarg;
		break;
	case 'p':
		ctl->prefix = optarg;
		break;
	case 'r':
		ctl->reverse = true;
		break;
	case 'k':
		ctl->keys_only = true;
		break;
	case 'W':
	case 'N':
		ctl->no_wait = letter == 'N';
		break;
	case 'Y':
		ctl->yes = true;
		break;
	case 'D':
		ctl->dry_run = true;
		break;
	case 'O':
		ctl->keep_older = true;
		break;
	case 'l':
		if (parse_count(optarg, &n) != EXIT_OK || n >= REGION_LEVELS) {
			complain("there is no level '%s'; levels are 0 to %d", optarg, REGION_LEVELS - 1);
			return EXIT_USAGE;
		}
		ctl->has_level = true;
		ctl->level = (int)n;
		break;
	case 'n':
		return parse_count(optarg, &ctl->limit);
	case 'P':
		return parse_count(optarg, &ctl->pid);
	case 'w':
		if (parse_count(optarg, &n) != EXIT_OK)
			return EXIT_USAGE;
		ctl->timeout_ms = n > UINT32_MAX ? UINT32_MAX : (unsigned)n;
		break;
	}
	return EXIT_OK;
}

/* Says what is wrong with the option that getopt stopped at. */
static void complain_option(char **argv, int problem, const char *const *names)
{
	const char *word = argv[optind - 1];
	const char *near;

	if (problem == ':') {
		complain("%s needs a value", word);
		return;
	}
	near = strncmp(word, "--", 2) == 0 ? did_you_mean(word + 2, names) : NULL;
	complain("unknown option %s%s%s%s", word, near ? ": did you mean --" : "", near ? near : "", near ? "?" : "");
}

/*
 * Parses options from optind on: the global ones and those of @letters. With @verb_ahead it stops at the first operand.
 * EXIT_OK, EXIT_USAGE, or -1 when --help was asked for.
 */
static int parse_options(struct ctl *ctl, int argc, char **argv, const char *letters, bool verb_ahead)
{
	struct option longs[ARRAY_SIZE(option_table) + 1] = {0};
	const char *names[ARRAY_SIZE(option_table) + 1] = {0};
	size_t n = 0;
	int letter;

	for (size_t i = 0; i < ARRAY_SIZE(option_table); i++) {
		if (i >= GLOBAL_OPTIONS && !strchr(letters, option_table[i].letter))
			continue;
		names[n] = option_table[i].name;
		longs[n++] =
			(struct option){option_table[i].name, option_table[i].arg ? required_argument : no_argument,
					NULL, option_table[i].letter};
	}
	opterr = 0;
	while ((letter = getopt_long(argc, argv, verb_ahead ? "+:s:d:jw:h" : ":s:d:jw:h", longs, NULL)) != -1) {
		if (letter == 'h')
			return -1;
		if (letter == '?' || letter == ':') {
			complain_option(argv, letter, names);
			return EXIT_USAGE;
		}
		if (take_option(ctl, letter) != EXIT_OK)
			return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* Runs the verb at argv[optind]. */
static int dispatch(struct ctl *ctl, int argc, char **argv)
{
	const struct command *c = find_command(argv[optind]);
	int rc;

	if (!c)
		return EXIT_USAGE;
	argc -= optind;
	argv += optind;
	optind = 0; /* begin anew, with the verb in the place of the program's name */
	rc = parse_options(ctl, argc, argv, c->options, false);
	if (rc == -1) {
		ctl->args = argv;
		ctl->nargs = 1;
		return cmd_help(ctl);
	}
	if (rc != EXIT_OK)
		return rc;
	ctl->args = argv + optind;
	ctl->nargs = argc - optind;
	if (ctl->nargs < c->min_args || ctl->nargs > c->max_args) {
		complain("usage: shalectl %s %s", c->name, *c->args ? c->args : "takes no operands");
		return EXIT_USAGE;
	}
	if (ctl->socket && ctl->database) {
		complain("--socket and --db both name a daemon: give one");
		return EXIT_USAGE;
	}
	return c->run(ctl);
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.timeout_ms = 2000, .limit = UINT64_MAX};
	int rc = parse_options(&ctl, argc, argv, "", true);

	if (rc == -1) {
		print_help();
		return ctl_finish_output();
	}
	if (rc != EXIT_OK)
		return rc;
	if (optind == argc) {
		complain("no verb; shalectl help lists them");
		return EXIT_USAGE;
	}
	return dispatch(&ctl, argc, argv);
}
