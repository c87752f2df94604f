/*
 * kill_point.h - named places at which a test makes the process die as by kill -9.
 *
 *	SHALE_KILL_POINT=wal_committed      dies when it comes there for the first time
 *	SHALE_KILL_POINT=wal_committed:7    … for the seventh time
 *
 * Only builds with SHALE_DEBUG (debug, asan) know them; in the others the macro is nothing at all. A point stands between two steps
 * whose order something relies on. Its name tells what has been done by then. tests/proc/test_crash_kill.c
 * lists them all, and fails when one is never reached.
 */
#ifndef SHALE_ENGINE_KILL_POINT_H
#define SHALE_ENGINE_KILL_POINT_H

#ifdef SHALE_DEBUG
void kill_point(const char *name); /* any thread */
/* For a test that plays the kernel: called at each point with its name. NULL: nobody. Set while there is one thread. */
extern void (*kill_point_hook)(const char *name);
#define KILL_POINT(name) kill_point(name)
#else
#define KILL_POINT(name) ((void)0)
#endif

#endif
