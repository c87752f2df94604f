/* plants.h - the planted bugs of engine/plant.h, each run until the simulation finds it. */
#ifndef SHALE_TESTS_SIM_PLANTS_H
#define SHALE_TESTS_SIM_PLANTS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * For each bug: first its script in @folder, which finds it at once, then seeds from @seed on, for @seconds at most. Prints a table.
 * @keep: writes the shortened scripts of those seeds to @folder where a script is missing or finds nothing any more.
 * 0: every bug was found, at least by its script; 1: not; 2: this build has none.
 */
int plants_run(const char *folder, bool keep, uint64_t seed, double seconds, unsigned jobs);

/* From now on this one is planted. False: this build has no such bug. */
bool plants_choose(const char *name);

#endif
