/*
 * repair_impl.h - inside repair: repair.c decides and commits, repair_merge.c writes tables, repair_logs.c looks after the logs.
 */
#ifndef SHALE_ENGINE_REPAIR_IMPL_H
#define SHALE_ENGINE_REPAIR_IMPL_H

#include "engine/repair.h"
#include "engine/table_exam.h"

/* One table that the database has, or should have. */
struct item {
	struct table_exam *t;	      /* NULL: missing */
	const struct file_meta *meta; /* as the MANIFEST says; NULL without one */
	unsigned level;
	unsigned rank;	    /* of its place: lower ones are read first. Without levels all have 0 */
	bool rewrite;	    /* it does not stay as it is */
	struct key_buf superseded; /* user key: a later table holds what counts of this one up to here (repair_merge.c); empty: nothing */
};

/* Keys whose newest entry may be lost. */
struct lost_range {
	const struct item *item;
	struct table_hole hole; /* item->t's, borrowed, or all of a table that is gone */
};

struct repair {
	struct exam *x;
	struct repair_options *o;
	struct repair_result *r;
	struct err_info *err;
	struct dir_list files;
	bool levels_known;
	uint64_t manifest_number;
	struct edit sum; /* of the MANIFEST, when it can be read */
	bool has_sum;
	struct item *items;
	size_t count;
	struct lost_range *lost;
	size_t lost_count, lost_cap;
	uint64_t next_number;
	struct edit edit; /* what the new MANIFEST will say */
	uint64_t sequence_high; /* in any table */
	/* logs */
	uint64_t log_number, first_logged; /* first_logged: sequence of the first record that counts; 0: none */
	struct log_action {
		const struct dir_file *file;
		uint64_t keep_bytes; /* 0: the whole log goes */
	} *cuts;
	size_t cut_count;
};

/* ---- repair_merge.c ---- */

/*
 * Writes what @items (of one place, or any when levels are not known) hold and may be believed into new tables of @level, added to r->edit.
 * Withheld entries are told as one loss. 0, or a failure with words.
 */
int repair_merge(struct repair *r, struct item *const *items, size_t count, unsigned level);
/* True when @item holds entries that would be withheld or are superseded: it cannot stay as it is. Negative: failure. */
int repair_must_rewrite(struct repair *r, struct item *item);
/* Without levels: finds tables that a later one of @items was made from (see there). */
int repair_supersede(struct repair *r, struct item *const *items, size_t count);

/* ---- repair_logs.c ---- */

/* Decides which logs count, and tells what of them is lost; r->log_number is set. */
int repair_plan_logs(struct repair *r);
/* Makes them so. */
int repair_cut_logs(struct repair *r);

/* ---- repair.c ---- */

void repair_tell(struct repair *r, const struct repair_loss *l);
/* Into lost/, and then out of the directory. */
int repair_move_away(struct repair *r, const char *name);

#endif
