/*
 * plant.h - planted bugs: the proof that the simulation (tests/sim) finds what it is there to find.
 *
 *	if (!PLANT("tombstone-early") && !compaction_is_base_level(…))
 *
 * Each name is one mistake that somebody could make here. Only `make sim-bugs` builds with SHALE_PLANT; everywhere else PLANT() is false, and
 * the compiler drops what hangs on it. The list with its words is in tests/sim/plants.c.
 */
#ifndef SHALE_ENGINE_PLANT_H
#define SHALE_ENGINE_PLANT_H

#include <stdbool.h>

#ifdef SHALE_PLANT
#include <string.h>
extern const char *plant_chosen; /* NULL: none */

static inline bool plant_is(const char *name)
{
	return plant_chosen && strcmp(plant_chosen, name) == 0;
}
#define PLANT(name) plant_is(name)
#else
#define PLANT(name) false
#endif

#endif
