/* export.h - what export hands its entries to. */
#ifndef SHALE_SHALECTL_EXPORT_H
#define SHALE_SHALECTL_EXPORT_H

#include "shm/error.h"
#include "tools/shalectl/shalectl.h"

/* Entries come in order of their keys, each key once. Failures are -errno; their words, if any, to @err. */
struct export_sink {
	int (*add)(struct export_sink *s, struct slice key, struct slice value);
	int (*end)(struct export_sink *s); /* all of it is there, and on disk */
	void (*drop)(struct export_sink *s); /* always called last; leaves nothing of what did not end */
	struct err_info err;
};

/* A LevelDB directory at @given. EXIT_OK and *@out, or the exit code after having said why. */
int export_leveldb(struct ctl *ctl, const char *given, struct export_sink **out);

#endif
