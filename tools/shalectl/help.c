/* help.c - what the tables say, for people: on the terminal, and as the source of the manual page. */
#include "tools/shalectl/commands.h"

enum { WIDTH = 80 };

static void print_options(const struct command *c, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		const struct option_row *o = &option_table[i];
		char text[64];

		if (!command_takes(c, i))
			continue;
		snprintf(text, sizeof(text), "%s%c%s--%s%s%s", i < GLOBAL_OPTIONS ? "-" : "",
			 i < GLOBAL_OPTIONS ? o->letter : ' ', i < GLOBAL_OPTIONS ? ", " : "   ", o->name,
			 o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-22s %s\n", text, o->help);
	}
}

static const char exit_codes[] = "0 done, 1 failed, 2 usage, 3 the daemon does not run, 4 no such key, 5 problem found";

void print_help(void)
{
	printf("usage: shalectl [--socket PATH | --db DIR] [--json] VERB ...\n\n");
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = &command_table[i];
		char left[64];

		snprintf(left, sizeof(left), "%s %s", c->name, c->args);
		printf("  %-22s %s\n", left, c->help);
	}
	printf("\noptions\n");
	print_options(NULL, 0, GLOBAL_OPTIONS);
	printf("\nexit codes: %s\n", exit_codes);
}

static void print_wrapped(const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > WIDTH) {
			putchar('\n');
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column ? " " : "", (int)n, text);
		text += n + strspn(text + n, " ");
	}
	putchar('\n');
}

void print_command_help(const struct command *c)
{
	printf("usage: shalectl %s%s%s%s: %s\n", c->name, *c->options ? " [options]" : "", *c->args ? " " : "", c->args,
	       c->help);
	if (c->more) {
		putchar('\n');
		print_wrapped(c->more);
	}
	if (*c->options)
		putchar('\n');
	print_options(c, GLOBAL_OPTIONS, option_count);
}

int cmd_help(struct ctl *ctl)
{
	const struct command *c;

	if (ctl->scdoc) {
		if (ctl->nargs) {
			complain("the manual page is one for all verbs: leave '%s' out", ctl->args[0]);
			return EXIT_USAGE;
		}
		print_scdoc();
		return ctl_finish_output();
	}
	if (ctl->nargs == 0) {
		print_help();
		return ctl_finish_output();
	}
	c = command_find(ctl->args[0]);
	if (!c)
		return EXIT_USAGE;
	print_command_help(c);
	return ctl_finish_output();
}

/* ---- the manual page ---- */

/* Text in which nothing is mark-up. */
static void plain(const char *text)
{
	for (; *text; text++) {
		if (strchr("\\*_#`|[<>~+-.", *text) && (*text != '-' && *text != '.' && *text != '|'))
			putchar('\\');
		putchar(*text);
	}
}

/* An @args text: words in capitals are underlined, others bold. */
static void operands(const char *args)
{
	while (*args) {
		size_t n = strspn(args, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
		       m = strcspn(args, "ABCDEFGHIJKLMNOPQRSTUVWXYZ[] .");

		if (n)
			printf("_%.*s_", (int)n, args);
		else if (m)
			printf("*%.*s*", (int)m, args);
		else
			printf(*args == '[' || *args == ']' ? "\\%c" : "%c", *args);
		args += n ? n : m ? m : 1;
	}
}

static void sentence(const char *text)
{
	putchar(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
	plain(text + 1);
	if (!strchr(".?!", text[strlen(text) - 1]))
		putchar('.');
}

static void option_entry(const struct option_row *o, bool short_too, bool nested)
{
	printf(nested ? "\t" : "");
	if (short_too)
		printf("*-%c*, ", o->letter);
	printf("*--%s*", o->name);
	if (o->arg)
		printf(" _%s_", o->arg);
	printf("\n%s\t", nested ? "\t" : "");
	sentence(o->help);
	printf("\n\n");
}

void print_scdoc(void)
{
	printf("shalectl(1)\n\n# NAME\n\nshalectl - look at a running shaled, keep its database, read and write its "
	       "keys\n\n"
	       "# SYNOPSIS\n\n*shalectl* \\[*--socket* _PATH_ | *--db* _DIR_\\] \\[*--json*\\] _VERB_ ...\n\n"
	       "# DESCRIPTION\n\nData goes to standard output, all else to standard error. Verbs that only look "
	       "(*status*, "
	       "*stats*, *levels*, *jobs*, *clients*, *snapshots*, *explain*, *top*) read shared memory; with *--db* "
	       "they ask "
	       "nobody, and work while the daemon hangs.\n\n# OPTIONS\n\n");
	for (size_t i = 0; i < GLOBAL_OPTIONS; i++)
		option_entry(&option_table[i], true, false);
	printf("# VERBS\n\n");
	for (size_t i = 0; i < command_count; i++) {
		const struct command *c = &command_table[i];

		printf("*%s*", c->name);
		if (*c->options)
			printf(" \\[_options_\\]");
		if (*c->args)
			putchar(' ');
		operands(c->args);
		printf("\n\t");
		sentence(c->help);
		if (c->more) {
			putchar(' ');
			plain(c->more);
		}
		printf("\n\n");
		for (size_t k = GLOBAL_OPTIONS; k < option_count; k++)
			if (command_takes(c, k))
				option_entry(&option_table[k], false, true);
	}
	printf("# EXIT STATUS\n\n");
	plain(exit_codes);
	printf(".\n\n# ENVIRONMENT\n\n*SHALE_SOCKET*\n\tThe socket, where neither *--socket* nor *--db* is given.\n\n"
	       "*NO_COLOR*\n\tWhen set and not empty, nothing is coloured.\n\n"
	       "# SEE ALSO\n\n*shaled*(8), *shaled.conf*(5), *shale-run*(1), *libshale*(3)\n");
}
