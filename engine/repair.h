/*
 * repair.h - makes a database that can be opened again out of one that cannot, keeping what is certain and telling what is not.
 *
 * What it promises
 *	1. nothing deleted comes back: where an entry is lost, it may have been a deletion or a newer value, so what older tables hold of the keys that
 *	   it may have been is withheld, too (the damaged table's filter makes these few). options->keep_older gives that up, and says so
 *	2. no file is deleted: what is not used any more lies in lost/, as it was
 *	3. killed at any moment, it leaves the old state or the new one, and can be run again
 *
 * Levels are the MANIFEST's. Without a MANIFEST that can be read, tables are put together by sequence numbers into one sorted run; then it cannot be known
 * whether tables are missing, and the words say so.
 */
#ifndef SHALE_ENGINE_REPAIR_H
#define SHALE_ENGINE_REPAIR_H

#include "engine/exam.h"

/* Something that the database had and has no more. Valid during the call that tells it. */
struct repair_loss {
	const char *kind; /* "block", "table", "withheld", "log", "unknown": a word that stays */
	const char *file; /* where it lies now: below lost/, or as it was called */
	uint64_t bytes;	  /* of the file that cannot be used; withheld: of entries */
	uint64_t entries; /* withheld only */
	bool has_range;
	const struct slice *first, *last; /* user keys; NULL: open */
	uint64_t sequence_low, sequence_high; /* 0: not known */
	char what[320];
};

struct repair_options {
	bool dry_run;	 /* says what it would do */
	bool keep_older; /* older versions of keys that a lost entry may have replaced or deleted come back */
	bool keep_logs;	 /* leave damaged logs alone: a killed daemon's window will complete them */
	/* Makes @name of the directory be found in lost/, too, for good; it may be there already. 0 or -errno. */
	int (*keep)(struct repair_options *o, const char *name);
	void (*lost)(struct repair_options *o, const struct repair_loss *l);
};

struct repair_result {
	bool nothing;		/* to repair: every file is sound */
	bool levels_known;	/* the MANIFEST could be read, and tables are in the order that it says */
	uint64_t kept, rewritten, written, moved; /* tables left as they are; read and written anew; new ones; files put in lost/ */
	uint64_t entries;	/* in rewritten tables, kept */
	uint64_t withheld;	/* entries */
	uint64_t log_bytes;	/* of logs, not used any more */
	uint64_t last_sequence;
};

/*
 * Repairs the database in x->env, whose LOCK the caller holds. Findings go to x->found, losses to options->lost. 0; -SHALE_ENODATABASE;
 * -SHALE_ECOMPARATOR; what x->progress returned; or why it could not go on, with words: then the database is as it was, but for files that
 * nothing refers to.
 */
int repair_database(struct exam *x, struct repair_options *options, struct repair_result *out, struct err_info *err);

#endif
