/* shrink.h - a failing script, made short. */
#ifndef SHALE_TESTS_SIM_SHRINK_H
#define SHALE_TESTS_SIM_SHRINK_H

#include "tests/sim/isolate.h"

/*
 * Leaves commands out, for at most @seconds, as long as what is left fails in the same way: with the same words, whatever the numbers in them. (@any: in
 * whatever way.) *@result_out is that of the shortest. False: the script does not fail at all, and *@result_out is untouched.
 */
bool shrink(struct sim_script *script, double seconds, bool any, struct sim_result *result_out);

#endif
