/* verify.h - is this database what it should be? Reads all of it, changes nothing. */
#ifndef SHALE_ENGINE_VERIFY_H
#define SHALE_ENGINE_VERIFY_H

#include "engine/exam.h"

struct verify_result {
	uint64_t tables, logs, records; /* looked at */
	uint64_t entries, bytes;	/* of tables */
	uint64_t manifest_records_bytes;
	uint64_t last_sequence; /* highest that was found */
	bool order_checked;	/* over all levels; not where tables are damaged beyond that, or levels are unknown */
};

/*
 * Every file of the database in x->env, whose LOCK the caller holds: CURRENT, MANIFEST, each block and entry of each table, filters and indexes, order,
 * key ranges, sequences across levels, logs, and whether every file is accounted for. What is wrong goes to x->found and is counted there.
 * 0 (also with findings); -SHALE_ENODATABASE; what x->progress returned; -ENOMEM and failures that are not the database's; with words.
 */
int verify_database(struct exam *x, struct verify_result *out, struct err_info *err);

struct table_exam;

/*
 * Tables against one another, by what can be read of them: those of a level from 1 on are disjoint, and of each key a newer place holds the newer sequences.
 * @sum: live tables as added files, in the order of their numbers; @tables: as these, NULL for a missing one. 0, 1 with findings, or a failure with words.
 */
int verify_order(struct exam *x, const struct edit *sum, struct table_exam **tables, struct err_info *err);

#endif
