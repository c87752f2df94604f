/*
 * commands.h - the two tables that say what shalectl understands. Parser, help, man page and completion are made of them alone, so none of
 * them can say something that another does not know.
 */
#ifndef SHALE_SHALECTL_COMMANDS_H
#define SHALE_SHALECTL_COMMANDS_H

#include "tools/shalectl/shalectl.h"

/*
 * One verb. @args is what the help shows and what is parsed: words in capitals are operands, in [brackets] those that may be missing; a trailing
 * "..." takes any number; "a|b" takes one of these words. FILE, PATH, DIR, CHECKPOINT and VERB are completed.
 */
struct command {
	const char *name, *args;
	const char *options; /* letters of the verb's own options in option_table */
	const char *help;    /* one line */
	int (*run)(struct ctl *ctl);
	const char *more; /* a paragraph for `help VERB` and the man page; NULL: the line says all */
};

enum option_kind {
	OPTION_HELP,
	OPTION_TRUE,
	OPTION_FALSE,
	OPTION_TEXT,	     /* const char * */
	OPTION_COUNT,	     /* uint64_t */
	OPTION_MILLISECONDS, /* unsigned */
	OPTION_SECONDS,	     /* double */
	OPTION_LEVEL,	     /* int level, and has_level */
};

struct option_row {
	char letter; /* also the short option of the global ones */
	const char *name, *arg;
	enum option_kind kind;
	size_t offset; /* into struct ctl */
	const char *help;
};

enum { GLOBAL_OPTIONS = 5 }; /* the first ones of option_table */

extern const struct command command_table[];
extern const size_t command_count;
extern const struct option_row option_table[];
extern const size_t option_count;

/* NULL: there is none of that name, which has been said then. */
const struct command *command_find(const char *name);

/* Whether the verb (NULL: the words before it) knows this option. */
bool command_takes(const struct command *c, size_t option);

/* What @args of a command allows. @max_out is INT_MAX for any number. */
void command_operands(const struct command *c, int *min_out, int *max_out);

/* Operand @i of the command, without brackets and dots; false: there is none. */
bool command_operand(const struct command *c, int i, char *buf, size_t cap);

/* ---- parse.c ---- */

/* The whole command line, and the verb that it names; 0 and *@out, or -1 with the exit code in *@code_out. */
int parse_command_line(struct ctl *ctl, int argc, char **argv, const struct command **out, int *code_out);

/* ---- help.c, scdoc.c, completion.c ---- */

void print_help(void);
void print_command_help(const struct command *c);
void print_scdoc(void);
int cmd_help(struct ctl *ctl);
int cmd_completion(struct ctl *ctl);

#endif
