/* dump.h - what the dumps of all kinds of files share: one line an item, in words or as JSON. */
#ifndef SHALE_SHALECTL_DUMP_H
#define SHALE_SHALECTL_DUMP_H

#include "engine/exam.h"
#include "tools/shalectl/shalectl.h"

struct dump {
	struct exam exam;
	struct ctl *ctl;
	const char *name; /* of the file, in exam.env */
	uint64_t damaged; /* lines that say so */
};

/* One field of a line. */
struct field {
	const char *name;
	enum { FIELD_NUMBER, FIELD_WORD, FIELD_BYTES } kind;
	uint64_t number;
	const char *word;
	struct slice bytes;
};
#define NUMBER(n, v)                                                                                                   \
	(struct field)                                                                                                 \
	{                                                                                                              \
		.name = n, .kind = FIELD_NUMBER, .number = v                                                           \
	}
#define WORD(n, v)                                                                                                     \
	(struct field)                                                                                                 \
	{                                                                                                              \
		.name = n, .kind = FIELD_WORD, .word = v                                                               \
	}
#define BYTES(n, v)                                                                                                    \
	(struct field)                                                                                                 \
	{                                                                                                              \
		.name = n, .kind = FIELD_BYTES, .bytes = v                                                             \
	}

/* "item name=value name='bytes' …", or {"item":…,"name":…}. */
void dump_line(const struct dump *d, const char *item, const struct field *fields, size_t count);
#define DUMP(d, item, ...)                                                                                             \
	dump_line(d, item, (const struct field[]){__VA_ARGS__}, sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field))

void dump_damage(struct dump *d, uint64_t offset, const char *what);

/* Each: 0, or a failure with words. Damage is a line, not a failure. */
int dump_log(struct dump *d, bool manifest, struct err_info *err);
int dump_table(struct dump *d, struct err_info *err);
int dump_current(struct dump *d, struct err_info *err);
int dump_directory(struct dump *d, struct err_info *err);

#endif
