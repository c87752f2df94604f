#include <inttypes.h>

#include "tools/shalectl/picture.h"

struct libscols_table *table_new(const char *const *columns, size_t n, size_t left)
{
	struct libscols_table *t = scols_new_table();

	for (size_t i = 0; t && i < n; i++)
		scols_table_new_column(t, columns[i], 0, i && i < left ? SCOLS_FL_RIGHT : 0);
	return t;
}

void table_row(struct libscols_table *t, char cells[][CELL], size_t n)
{
	struct libscols_line *line = t ? scols_table_new_line(t, NULL) : NULL;

	for (size_t i = 0; line && i < n; i++)
		scols_line_set_data(line, i, cells[i]);
}

void table_print(struct libscols_table *t)
{
	if (!t)
		return;
	fflush(stdout);
	scols_print_table(t);
	scols_unref_table(t);
}

const char *time_text(uint64_t micros, char buf[32])
{
	if (micros < 1000)
		snprintf(buf, 32, "%" PRIu64 " us", micros);
	else if (micros < 1000000)
		snprintf(buf, 32, "%.1f ms", (double)micros / 1e3);
	else if (micros < 120000000)
		snprintf(buf, 32, "%.1f s", (double)micros / 1e6);
	else
		snprintf(buf, 32, "%" PRIu64 " min %" PRIu64 " s", micros / 60000000, micros / 1000000 % 60);
	return buf;
}
