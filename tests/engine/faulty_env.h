/* faulty_env.h - a directory on the posix backend whose n-th changing operation fails, for loops of the kind "fail each in turn". */
#ifndef SHALE_TESTS_FAULTY_ENV_H
#define SHALE_TESTS_FAULTY_ENV_H

#include "engine/io.h"

enum { FAULTY_EXIT = 77 };

struct faulty_env {
	struct io_env base;
	struct io_env *inner;
	long countdown; /* changing operations until one fails; negative: none does */
	int failure;    /* what it answers */
	long ops;       /* changing operations so far */
	char last[64];  /* the one that failed */
	bool dies;      /* instead of failing, the process ends there with FAULTY_EXIT; unlinks count, too */
};

/* Creates, renames, directory syncs, writes, syncs and reservations count; what fails is not carried out. */
void faulty_env_init(struct faulty_env *f, const char *dir);
void faulty_env_fini(struct faulty_env *f);

#endif
