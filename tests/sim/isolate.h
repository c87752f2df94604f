/*
 * isolate.h - runs in processes of their own: a failed assertion, a sanitizer's report or an endless loop is a violation like any other, and the
 * next run begins afresh.
 */
#ifndef SHALE_TESTS_SIM_ISOLATE_H
#define SHALE_TESTS_SIM_ISOLATE_H

#include <stdatomic.h>

#include "tests/sim/sim.h"

enum { SCRIPT_MAX = 1 << 14 };

struct sim_result {
	uint64_t seeds, ops, crashes, recovery_crashes, faults, commands, hash;
	uint64_t flips, detected; /* worlds in which a bit was damaged; in which somebody said so */
	uint64_t broken_off;	  /* worlds that the time ended */
	int stopped;		  /* a signal from outside ended a process: no verdict */
	char violation[512];	  /* "" : none */
};

/* A script in its own process. Of what the child writes to stderr only the line that says why it died is kept, in the violation's words, unless @loud. */
void isolate_script(const struct sim_script *script, unsigned seconds, bool loud, struct sim_result *out);

/*
 * Seeds from @seed on, in @jobs processes at a time, for @seconds or @most seeds, or until a violation: then *@failed_out is that seed, and *@script_out
 * (script_fini) what it did. *@out is the sum. @loud: children may write to stderr. Worlds that are under way when the time is over are broken off
 * between two commands; it returns a few seconds later at most.
 */
void isolate_seeds(uint64_t seed, uint64_t most, double seconds, unsigned jobs, bool loud, struct sim_result *out,
		   uint64_t *failed_out, struct sim_script *script_out);

double seconds_now(void);
/* From now on this process may use so many seconds of a processor: not of the clock, for the machine may be busy. It dies of SIGPROF then. */
void limit_cpu(unsigned seconds);

#endif
