/*
 * parse.c - the command line, by the tables of commands.c.
 *
 * Options may stand before the verb (the global ones) or after it, among the operands. So the line is parsed in two rounds of getopt_long: up to the
 * verb, and behind it with the verb in the place of the program's name.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "shm/layout.h"
#include "tools/shalectl/commands.h"

enum { MOST_OPTIONS = 96, WORD = 64 };

static int parse_count(const char *name, const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno) {
		complain("--%s: '%s' is no number", name, text);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int parse_seconds(const char *name, const char *text, double *out)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !isfinite(seconds) || seconds < 0.05 || seconds > 86400) {
		complain("--%s: '%s' is no number of seconds from 0.05 to 86400", name, text);
		return EXIT_USAGE;
	}
	*out = seconds;
	return EXIT_OK;
}

static int take_option(struct ctl *ctl, const struct option_row *o)
{
	void *field = (char *)ctl + o->offset;
	uint64_t n = 0;
	int code = EXIT_OK;

	switch (o->kind) {
	case OPTION_HELP:
		break;
	case OPTION_TRUE:
	case OPTION_FALSE:
		*(bool *)field = o->kind == OPTION_TRUE;
		break;
	case OPTION_TEXT:
		*(const char **)field = optarg;
		break;
	case OPTION_COUNT:
		code = parse_count(o->name, optarg, field);
		break;
	case OPTION_MILLISECONDS:
		code = parse_count(o->name, optarg, &n);
		*(unsigned *)field = n > UINT_MAX ? UINT_MAX : (unsigned)n;
		break;
	case OPTION_SECONDS:
		code = parse_seconds(o->name, optarg, field);
		break;
	case OPTION_LEVEL:
		code = parse_count(o->name, optarg, &n);
		if (code == EXIT_OK && n >= REGION_LEVELS) {
			complain("there is no level '%s'; levels are 0 to %d", optarg, REGION_LEVELS - 1);
			code = EXIT_USAGE;
		}
		ctl->has_level = true;
		*(int *)field = (int)n;
		break;
	}
	return code;
}

static const struct option_row *option_of(int letter)
{
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].letter == letter)
			return &option_table[i];
	return NULL;
}

/* Says what is wrong with the option that getopt stopped at. */
static void complain_option(const struct command *c, char **argv, int problem, const char *const *names)
{
	const char *word = argv[optind - 1], *near = NULL;
	char single[3] = {'-', (char)optopt, 0}, bare[WORD];

	if (strncmp(word, "--", 2) != 0 && optopt)
		word = single; /* of several letters behind one dash */
	else if (strncmp(word, "--", 2) != 0)
		word = argv[optind];
	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(word + 2, "="), word + 2);
	if (problem == ':') {
		complain("%s needs a value", word);
		return;
	}
	if (optopt && strchr(word, '=')) {
		complain("--%s takes no value", bare);
		return;
	}
	if (strncmp(word, "--", 2) == 0)
		near = did_you_mean(bare, names);
	complain("unknown option %s%s%s%s%s%s%s%s", word, near ? ": did you mean --" : "", near ? near : "",
		 near ? "?" : "", near || !c ? "" : "; shalectl help ", near || !c ? "" : c->name,
		 near || !c ? "" : " lists those of ", near || !c ? "" : c->name);
}

/*
 * Parses options from optind on: the global ones and those of @c. Without a verb it stops at the first operand. EXIT_OK, EXIT_USAGE, or -1 when
 * --help was asked for.
 */
static int parse_options(struct ctl *ctl, int argc, char **argv, const struct command *c)
{
	struct option longs[MOST_OPTIONS + 1] = {0};
	const char *names[MOST_OPTIONS + 1] = {0};
	char shorts[2 * GLOBAL_OPTIONS + 3] = "+:";
	size_t n = 0, s = strlen(shorts);
	int letter;

	assert(option_count <= MOST_OPTIONS);
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *o = &option_table[i];

		if (!command_takes(c, i))
			continue;
		names[n] = o->name;
		longs[n++] = (struct option){o->name, o->arg ? required_argument : no_argument, NULL, o->letter};
		if (i < GLOBAL_OPTIONS) {
			shorts[s++] = o->letter;
			if (o->arg)
				shorts[s++] = ':';
		}
	}
	opterr = 0;
	while ((letter = getopt_long(argc, argv, c ? shorts + 1 : shorts, longs, NULL)) != -1) {
		if (letter == '?' || letter == ':') {
			complain_option(c, argv, letter, names);
			return EXIT_USAGE;
		}
		if (option_of(letter)->kind == OPTION_HELP)
			return -1;
		if (take_option(ctl, option_of(letter)) != EXIT_OK)
			return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* An operand "a|b" takes one of these words. */
static bool one_of(const char *choices, const char *word)
{
	const char *list[16] = {0}, *near;
	char copy[128], *save = NULL;
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", choices);
	for (char *p = strtok_r(copy, "|", &save); p && n + 1 < ARRAY_SIZE(list); p = strtok_r(NULL, "|", &save)) {
		if (strcmp(p, word) == 0)
			return true;
		list[n++] = p;
	}
	near = did_you_mean(word, list);
	complain("'%s' is none of %s%s%s%s", word, choices, near ? ": did you mean '" : "", near ? near : "",
		 near ? "'?" : "");
	return false;
}

static bool is_word(const char *operand)
{
	return *operand >= 'a' && *operand <= 'z';
}

static int check_operands(const struct ctl *ctl, const struct command *c)
{
	char operand[WORD];
	int min, max;

	command_operands(c, &min, &max);
	if (ctl->nargs < min || ctl->nargs > max) {
		complain("too %s operands; usage: shalectl %s %s", ctl->nargs < min ? "few" : "many", c->name,
			 *c->args ? c->args : "(it takes none)");
		return EXIT_USAGE;
	}
	for (int i = 0; i < ctl->nargs; i++)
		if (command_operand(c, i, operand, sizeof(operand)) && is_word(operand) &&
		    !one_of(operand, ctl->args[i]))
			return EXIT_USAGE;
	if (ctl->socket && ctl->database) {
		complain("--socket and --db both name a daemon: give one");
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

int parse_command_line(struct ctl *ctl, int argc, char **argv, const struct command **out, int *code_out)
{
	const struct command *c;
	int code = parse_options(ctl, argc, argv, NULL);

	*code_out = EXIT_USAGE;
	if (code == -1) {
		print_help();
		*code_out = ctl_finish_output();
		return -1;
	}
	if (code != EXIT_OK)
		return -1;
	if (optind == argc) {
		complain("no verb; shalectl help lists them");
		return -1;
	}
	c = command_find(argv[optind]);
	if (!c)
		return -1;
	argc -= optind;
	argv += optind;
	optind = 0; /* begin anew, with the verb in the place of the program's name */
	code = parse_options(ctl, argc, argv, c);
	if (code == -1) {
		print_command_help(c);
		*code_out = ctl_finish_output();
		return -1;
	}
	if (code != EXIT_OK)
		return -1;
	ctl->args = argv + optind;
	ctl->nargs = argc - optind;
	*code_out = check_operands(ctl, c);
	*out = c;
	return *code_out == EXIT_OK ? 0 : -1;
}
