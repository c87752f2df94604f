/* metrics.h - what the table of metrics and its printer share. */
#ifndef SHALE_SHALECTL_METRICS_H
#define SHALE_SHALECTL_METRICS_H

#include "tools/shalectl/picture.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO, METRIC_STATESET };
enum metric_scale { SCALE_ONE, SCALE_MICROS, SCALE_NANOS, SCALE_DOUBLE };

/* One sample. Rows of one family stand together. */
struct metric_row {
	const char *name; /* of the family: a counter's without _total. What ends in _seconds or _bytes has that unit */
	enum metric_type type;
	const char *help;	   /* of the family's first row */
	const char *label, *value; /* NULL: none */
	size_t offset;		   /* in struct region_stats; with per_level in struct region_level */
	enum metric_scale scale;
	bool per_level;	 /* a sample for each level, labelled with it */
	size_t known_if; /* not 0: no sample unless this field of struct region_stats is other than 0 */
};

extern const struct metric_row metric_rows[];
extern const size_t metric_row_count;

struct metrics {
	bool text;
	char db[2 * 1024 + 4]; /* the label, escaped */
};

/* Text of at most @size bytes as the inside of a label's quotes, cut to fit. */
void metrics_label(char *buf, size_t cap, const char *text, size_t size);

#endif
