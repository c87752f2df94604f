/* generate.h - scripts from seeds: a configuration, and commands that suit the state that the world is in. */
#ifndef SHALE_TESTS_SIM_GENERATE_H
#define SHALE_TESTS_SIM_GENERATE_H

#include "tests/sim/sim.h"

enum { PLAN_MAX = 64 };

struct generator {
	uint64_t random;
	unsigned weight[OPS], weights; /* of commands while a daemon runs */
	unsigned faults;	       /* 1 << enum sim_fault: which of them this world has */
	bool space, flips, islands;
	unsigned inline_percent; /* of jobs: run to their end */
	unsigned most;		 /* records of a batch */
	unsigned sync_percent, power_percent;
	unsigned cluster_every, cluster; /* writes stay in one part of the key space for so many commands; 0: anywhere */
	unsigned crash_every;	 /* commands, on average */
	unsigned recovery_depth; /* crashes in a row */
	uint64_t left;		 /* commands */
	uint64_t events_most;	 /* I/Os: a world is at its end then, whatever is left */
	unsigned large_every;	 /* writes: one in so many is larger than the ring or has thousands of records; 0: none */
	unsigned kill_percent;	 /* of the daemon's deaths: at a kill point, not at an I/O */
	struct sim_command plan[PLAN_MAX]; /* comes before anything else is drawn */
	unsigned planned, plan_at;
};

/* The seed's world: its configuration and what happens in it. */
void generator_init(struct generator *g, uint64_t seed, struct sim_config *config_out);
/* False: the script is at its end. */
bool generator_next(struct generator *g, const struct sim *s, struct sim_command *out);

/*
 * Runs the seed to its end (sim_fini is the caller's). Each command is in *@script before it is executed, so that a script in shared memory tells what a
 * process died of. False: @go_on (NULL: always), asked before each, said no.
 */
bool generator_play(uint64_t seed, struct sim *s, struct sim_script *script, bool (*go_on)(void *), void *context);

#endif
