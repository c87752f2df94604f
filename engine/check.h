/* check.h - the slow invariants: what version_check and engine_check do not look at, because it takes the disk to know. */
#ifndef SHALE_ENGINE_CHECK_H
#define SHALE_ENGINE_CHECK_H

struct engine;
struct err_info;
struct io_queue;

/*
 * Files: every table of the current version is in the directory, and every table, log and MANIFEST in the directory is in a live version, is being
 * written, or waits for its deletion. Any thread, also while jobs run; not under the lock. After a failure for good, or once a deletion failed,
 * nothing is said about strays. 0; -SHALE_ECORRUPT with words; -ENOMEM, or why the directory cannot be listed.
 */
int engine_check_files(struct engine *e, struct err_info *err);

/*
 * All of it: engine_check, engine_check_files, and every entry of memtables and tables: tables hold what the MANIFEST says, keys are in order, and of each
 * user key a newer place (memtable, level 0 newest first, level 1, …) holds the newer sequences. Reads the whole database through @queue, and waits.
 * Service thread. 0; -SHALE_ECORRUPT with words; failures of reading, with words.
 */
int engine_check_deep(struct engine *e, struct io_queue *queue, struct err_info *err);

#endif
