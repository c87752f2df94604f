/* plants.h - the planted bugs of engine/plant.h, each run until the simulation finds it. */
#ifndef SHALE_TESTS_SIM_PLANTS_H
#define SHALE_TESTS_SIM_PLANTS_H

#include <stdbool.h>
#include <stdint.h>

/* Prints a table. 0: all found, each within @seconds; 1: not; 2: this build has none. */
int plants_run(uint64_t seed, double seconds, unsigned jobs);

/* From now on this one is planted. False: this build has no such bug. */
bool plants_choose(const char *name);

#endif
