/* co.h - coroutines: how several jobs are under way in one thread, each stopped where it waits for the disk. */
#ifndef SHALE_TESTS_SIM_CO_H
#define SHALE_TESTS_SIM_CO_H

#include <stdbool.h>

struct co;

struct co *co_new(void (*run)(void *arg), void *arg); /* runs nothing yet */
void co_resume(struct co *c);			      /* until it yields or ends; never from inside another */
void co_yield(void);				      /* from inside: back to whoever resumed */
bool co_inside(void);
bool co_ended(const struct co *c);
void co_free(struct co *c); /* one that has ended, or never began */

#endif
