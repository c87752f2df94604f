/*
 * completion.c - the completion for bash, made of the tables. It needs bash alone: no package of helper functions.
 *
 * The function finds the verb and how many operands stand before the cursor, and from these, as compgen's words, what may come there. bash cuts
 * words at '=' (COMP_WORDBREAKS), so "--db=DIR" comes as three: an option's value is found behind either.
 */
#include "tools/shalectl/commands.h"

/* The names of the options of @c alone (NULL: of the global ones). */
static void print_names(const struct command *c)
{
	const char *gap = "";

	for (size_t i = c ? GLOBAL_OPTIONS : 0; i < option_count; i++) {
		if (!command_takes(c, i))
			continue;
		printf("%s--%s", gap, option_table[i].name);
		gap = " ";
	}
}

/* Every spelling of the options with a value, as a pattern of case. */
static void print_pattern(size_t option)
{
	printf("--%s", option_table[option].name);
	if (option < GLOBAL_OPTIONS)
		printf(" | -%c", option_table[option].letter);
}

/* What a placeholder is completed with, as an array of compgen's words. */
static void print_kind(char *placeholder)
{
	if (strcmp(placeholder, "DIR") == 0 || strcmp(placeholder, "CHECKPOINT") == 0)
		printf("kind=(-d)");
	else if (strcmp(placeholder, "FILE") == 0 || strcmp(placeholder, "PATH") == 0)
		printf("kind=(-f)");
	else if (strcmp(placeholder, "VERB") == 0)
		printf("kind=(-W \"$verbs\")");
	else if (*placeholder >= 'a' && *placeholder <= 'z') {
		for (char *p = placeholder; (p = strchr(p, '|')) != NULL; p++)
			*p = ' ';
		printf("kind=(-W '%s')", placeholder);
	} else {
		printf("kind=()");
	}
}

static void print_operands(const struct command *c)
{
	bool any = strstr(c->args, "...") != NULL;
	char operand[64];

	for (int i = 0; command_operand(c, i, operand, sizeof(operand)); i++) {
		if (any)
			printf("\t%s:*) ", c->name);
		else
			printf("\t%s:%d) ", c->name, i);
		print_kind(operand);
		printf(" ;;\n");
	}
}

/* The verb, and how many operands stand between it and the cursor. */
static void print_find_verb(void)
{
	const char *gap = "\t\t";

	printf("\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tif [[ $skip ]]; then\n"
	       "\t\t\t[[ ${COMP_WORDS[i]} == = ]] || skip=\n"
	       "\t\t\tcontinue\n"
	       "\t\tfi\n"
	       "\t\tcase ${COMP_WORDS[i]} in\n");
	for (size_t i = 0; i < option_count; i++) {
		if (!option_table[i].arg)
			continue;
		fputs(gap, stdout);
		print_pattern(i);
		gap = " | ";
	}
	printf(") skip=1 ;;\n"
	       "\t\t-*) ;;\n"
	       "\t\t*) if [[ $verb ]]; then count=$((count + 1)); else verb=${COMP_WORDS[i]}; fi ;;\n"
	       "\t\tesac\n"
	       "\tdone\n");
}

static void print_values(void)
{
	char placeholder[64];

	printf("\tcase $before in\n");
	for (size_t i = 0; i < option_count; i++) {
		if (!option_table[i].arg)
			continue;
		snprintf(placeholder, sizeof(placeholder), "%s", option_table[i].arg);
		printf("\t");
		print_pattern(i);
		printf(") value=1 ");
		print_kind(placeholder);
		printf(" ;;\n");
	}
	printf("\tesac\n");
}

static void print_choices(void)
{
	printf("\tif [[ ! $value ]]; then\n\tcase $verb in\n");
	for (size_t i = 0; i < command_count; i++) {
		if (!*command_table[i].options)
			continue;
		printf("\t%s) options+=' ", command_table[i].name);
		print_names(&command_table[i]);
		printf("' ;;\n");
	}
	printf("\tesac\n\tcase $verb:$count in\n\t:*) kind=(-W \"$verbs\") ;;\n");
	for (size_t i = 0; i < command_count; i++)
		print_operands(&command_table[i]);
	printf("\tesac\n\tif [[ $word == -* ]]; then kind=(-W \"$options\"); fi\n\tfi\n");
}

int cmd_completion(struct ctl *ctl)
{
	(void)ctl; /* the parser lets "bash" through alone */
	printf("# bash completion for shalectl; made by: shalectl completion bash\n"
	       "_shalectl() {\n"
	       "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tlocal verb= count=0 i skip= value= options verbs kind=()\n"
	       "\tCOMPREPLY=()\n"
	       "\t[[ $word != = ]] || word=\n"
	       "\t[[ $before != = ]] || before=${COMP_WORDS[COMP_CWORD - 2]}\n"
	       "\tverbs='");
	for (size_t i = 0; i < command_count; i++)
		printf("%s%s", i ? " " : "", command_table[i].name);
	printf("'\n\toptions='");
	print_names(NULL);
	printf("'\n");
	print_find_verb();
	print_values();
	print_choices();
	printf("\t((${#kind[@]})) || return 0\n"
	       "\t[[ ${kind[0]} == -W ]] || compopt -o filenames 2>/dev/null\n"
	       "\tmapfile -t COMPREPLY < <(compgen \"${kind[@]}\" -- \"$word\")\n"
	       "}\n"
	       "complete -F _shalectl shalectl\n");
	return ctl_finish_output();
}
