/*
 * levels.c - what each level holds, what came into it and why, and what all of that costs.
 */
#include <inttypes.h>

#include "tools/shalectl/picture.h"

/* Names come from the daemon's page; whatever is there ends within its array. */
const char *reason_name(const struct region_stats *s, uint64_t reason)
{
	static char name[sizeof(s->reason_names[0]) + 1];

	if (reason >= REGION_REASONS || !*s->reason_names[reason])
		return "?";
	memcpy(name, s->reason_names[reason], sizeof(s->reason_names[0]));
	return name;
}

static void reasons_text(const struct region_stats *s, const struct region_level *l, char buf[CELL])
{
	size_t used = 0;

	*buf = 0;
	for (unsigned i = 0; i < REGION_REASONS && used < CELL; i++) {
		if (l->by_reason[i])
			used += (size_t)snprintf(buf + used, CELL - used, "%s%s %" PRIu64, used ? ", " : "",
						 reason_name(s, i), l->by_reason[i]);
	}
}

void print_levels(const struct region_stats *s)
{
	static const char *const columns[] = {"LEVEL",	 "FILES",   "SIZE",	"TARGET",     "SCORE", "BUSY",	"READ",
					      "WRITTEN", "ENTRIES", "SHADOWED", "TOMBSTONES", "TIME",  "MOVED", "JOBS"};
	struct libscols_table *t = table_new(columns, ARRAY_SIZE(columns), ARRAY_SIZE(columns) - 1);
	char text[ARRAY_SIZE(columns)][CELL];

	for (unsigned i = 0; t && i < REGION_LEVELS; i++) {
		const struct region_level *l = &s->level[i];

		snprintf(text[0], CELL, "%u", i);
		snprintf(text[1], CELL, "%" PRIu64, l->files);
		size_text(l->bytes, text[2]);
		if (i == 0)
			snprintf(text[3], CELL, "%" PRIu64 " files", s->settings.l0_compaction);
		else if (i < REGION_LEVELS - 1)
			size_text(l->target_bytes, text[3]);
		else
			snprintf(text[3], CELL, "none"); /* nothing lies below it */
		snprintf(text[4], CELL, "%.2f", l->score);
		size_text(l->busy_bytes, text[5]);
		size_text(l->bytes_read, text[6]);
		size_text(l->bytes_written, text[7]);
		snprintf(text[8], CELL, "%" PRIu64, l->entries_in);
		snprintf(text[9], CELL, "%" PRIu64, l->dropped_shadowed);
		snprintf(text[10], CELL, "%" PRIu64, l->dropped_tombstone);
		time_text(l->micros, text[11]);
		snprintf(text[12], CELL, "%" PRIu64, l->moved);
		reasons_text(s, l, text[13]);
		table_row(t, text, ARRAY_SIZE(columns));
	}
	table_print(t);
}

json_t *levels_json(const struct region_stats *s)
{
	json_t *levels = json_array();

	for (unsigned i = 0; i < REGION_LEVELS; i++) {
		const struct region_level *l = &s->level[i];
		json_t *reasons = json_object();
		json_t *row = json_pack("{s:i,s:I,s:I,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "level",
					(int)i, "files", (json_int_t)l->files, "bytes", (json_int_t)l->bytes, "score",
					l->score, "compactions", (json_int_t)l->compactions, "bytes_read",
					(json_int_t)l->bytes_read, "bytes_written", (json_int_t)l->bytes_written,
					"moved", (json_int_t)l->moved, "micros", (json_int_t)l->micros, "target_bytes",
					(json_int_t)l->target_bytes, "busy_files", (json_int_t)l->busy_files,
					"busy_bytes", (json_int_t)l->busy_bytes, "entries_in",
					(json_int_t)l->entries_in, "dropped_shadowed", (json_int_t)l->dropped_shadowed,
					"dropped_tombstone", (json_int_t)l->dropped_tombstone);

		json_object_set_new(row, "dead_bytes", json_integer((json_int_t)l->dead_bytes));
		for (unsigned k = 0; k < REGION_REASONS; k++) {
			if (*s->reason_names[k])
				json_object_set_new(reasons, reason_name(s, k),
						    json_integer((json_int_t)l->by_reason[k]));
		}
		json_object_set_new(row, "by_reason", reasons);
		json_array_append_new(levels, row);
	}
	return levels;
}

/* ---- the verb ---- */

static void print_all(const struct picture *p)
{
	const struct region_stats *s = &p->stats;
	char a[32], b[32], c[32], d[32];

	print_levels(s);
	printf("\nwritten to tables   %.2f bytes for each byte flushed (%s flushed, %s by compactions)\n",
	       s->write_amplification, size_text(s->flush_bytes, a), size_text(s->compaction_bytes_written, b));
	printf("space               at most %.2f bytes for each byte that is needed (%s in %" PRIu64
	       " files; the largest sorted run is needed)\n",
	       s->space_amplification, size_text(s->live_bytes, a), s->live_files);
	printf("debt                %s over the levels' targets\n", size_text(s->debt_bytes, a));
	printf("writes waited       %s paced, %s for level 0, %s for a memtable, %s for the log\n",
	       time_text(s->stall_slowdown_us, a), time_text(s->stall_l0_us, b), time_text(s->stall_memtable_us, c),
	       time_text(s->stall_log_us, d));
}

static json_t *all_json(const struct picture *p)
{
	const struct region_stats *s = &p->stats;
	json_t *obj = json_pack("{s:s,s:f,s:f,s:I,s:I}", "state", state_name(p), "write_amplification",
				s->write_amplification, "space_amplification", s->space_amplification, "debt_bytes",
				(json_int_t)s->debt_bytes, "live_bytes", (json_int_t)s->live_bytes);

	json_object_set_new(obj, "stalls",
			    json_pack("{s:I,s:I,s:I,s:I}", "slowdown_us", (json_int_t)s->stall_slowdown_us, "l0_us",
				      (json_int_t)s->stall_l0_us, "memtable_us", (json_int_t)s->stall_memtable_us,
				      "log_us", (json_int_t)s->stall_log_us));
	json_object_set_new(obj, "levels", levels_json(s));
	return obj;
}

int cmd_levels(struct ctl *ctl)
{
	return show_picture(ctl, print_all, all_json);
}
