/*
 * exhaustive.h - no seed: every sequence of up to so many operations, on a tiny configuration, and for each a crash at every I/O, of the daemon and
 * of the machine, with several fates of what was not synced; and a death of the daemon at every kill point (engine/kill_point.h), where the build has them.
 */
#ifndef SHALE_TESTS_SIM_EXHAUSTIVE_H
#define SHALE_TESTS_SIM_EXHAUSTIVE_H

#include "tests/sim/isolate.h"

/* Stops at the first violation; its words name the sequence and the crash. */
void exhaustive_run(unsigned operations, unsigned jobs, struct sim_result *out);

#endif
