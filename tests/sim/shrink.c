/*
 * shrink.c - from thousands of commands to a dozen.
 *
 * A script is cut into pieces, first halves, at last single commands, and each piece is left out on trial. What makes a trial count is that it fails in the
 * same way: another failure that was met on the way down is another bug, or none (a script that makes no sense may well
 * run out of something), and to follow it would lose the one that was found.
 */
#include "tests/sim/shrink.h"

#include <ctype.h>
#include <stdio.h>

enum { TRIAL_SECONDS = 10, ROUNDS = 4 };

/* The words without their numbers; what follows a colon is detail, unless it is all there is to know. A code in brackets, "(-5)", says what kind it is. */
static void kind_of(const char *words, char *out, size_t size)
{
	bool whole = strncmp(words, "the process", 11) == 0, code = false;
	size_t n = 0;

	for (const char *p = words; *p && n + 1 < size && (whole || *p != ':'); p++) {
		code = (code || (p[0] == '(' && p[1] == '-')) && *p != ')';
		if (p[0] == '0' && p[1] == 'x') {
			while (isxdigit((unsigned char)p[2]))
				p++;
			p++;
			continue;
		}
		if (!isdigit((unsigned char)*p) || code)
			out[n++] = *p;
	}
	out[n] = 0;
}

static bool fails(const struct sim_script *script, const char *kind, struct sim_result *result)
{
	struct sim_result r;
	char its[512];

	isolate_script(script, TRIAL_SECONDS, false, &r);
	if (!r.violation[0])
		return false;
	kind_of(r.violation, its, sizeof(its));
	if (kind && strcmp(its, kind) != 0)
		return false;
	*result = r;
	return true;
}

/* One pass with pieces of this size. True: something went. */
static bool leave_out(struct sim_script *script, size_t piece, double until, const char *kind,
		      struct sim_result *result)
{
	struct sim_script trial = {.config = script->config};
	bool shorter = false;

	for (size_t at = script->count; at && seconds_now() < until;) {
		size_t from = at > piece ? at - piece : 0;

		trial.count = 0;
		for (size_t i = 0; i < script->count; i++) {
			if (i < from || i >= at)
				script_add(&trial, script->v[i]);
		}
		if (fails(&trial, kind, result)) {
			if (trial.count)
				memcpy(script->v, trial.v, trial.count * sizeof(*trial.v));
			script->count = trial.count;
			shorter = true;
		}
		at = from;
	}
	script_fini(&trial);
	return shorter;
}

bool shrink(struct sim_script *script, double seconds, bool any, struct sim_result *result)
{
	double until = seconds_now() + seconds;
	char words[512];
	const char *kind = any ? NULL : words;

	if (!fails(script, NULL, result))
		return false;
	kind_of(result->violation, words, sizeof(words));
	for (size_t piece = script->count / 2 + 1; piece > 1; piece = (piece + 1) / 2) {
		leave_out(script, piece, until, kind, result);
		if (piece == 2)
			break;
	}
	/* What one command needed may be needless once that one has gone. */
	for (unsigned i = 0; i < ROUNDS && leave_out(script, 1, until, kind, result); i++)
		;
	return true;
}
