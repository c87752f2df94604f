/*
 * dump.c - shalectl dump: what a file of a database says, one line an item.
 *
 * The kind of a file is told by its name, or else by its contents: what was put into lost/, or was renamed, can be read, too. Lines are stable: item
 * and field names stay, new fields come last.
 */
#include "tools/shalectl/dump.h"

#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/ikey.h"
#include "engine/manifest.h"
#include "engine/table_exam.h"

static const size_t SHOWN = 60; /* bytes of a value in words */

static void print_bytes(const struct field *f)
{
	bool value = strcmp(f->name, "value") == 0 && f->bytes.size > SHOWN;

	printf(" %s='", f->name);
	print_escaped(stdout, slice_of(f->bytes.data, value ? SHOWN : f->bytes.size));
	fputs(value ? "'..." : "'", stdout);
}

void dump_line(const struct dump *d, const char *item, const struct field *fields, size_t count)
{
	json_t *j = d->ctl->json ? json_pack("{s:s}", "item", item) : NULL;

	if (!j)
		fputs(item, stdout);
	for (const struct field *f = fields; f < fields + count; f++) {
		if (d->ctl->keys_only && strcmp(f->name, "value") == 0)
			continue;
		if (j && f->kind == FIELD_NUMBER)
			json_object_set_new(j, f->name, json_integer((json_int_t)f->number));
		else if (j && f->kind == FIELD_WORD)
			json_object_set_new(j, f->name, json_string(f->word));
		else if (j)
			json_set_bytes(j, f->name, f->bytes);
		else if (f->kind == FIELD_NUMBER)
			printf(" %s=%" PRIu64, f->name, f->number);
		else if (f->kind == FIELD_WORD)
			printf(" %s=%s", f->name, f->word);
		else
			print_bytes(f);
	}
	if (j)
		print_json(j);
	else
		putchar('\n');
}

void dump_damage(struct dump *d, uint64_t offset, const char *what)
{
	d->damaged++;
	DUMP(d, "damage", NUMBER("offset", offset), BYTES("what", slice_str(what)));
}

static void found(struct exam *x, const struct finding *f)
{
	struct dump *d = container_of(x, struct dump, exam);

	if (f->note)
		DUMP(d, "note", NUMBER("offset", f->offset), BYTES("what", slice_str(f->what)));
	else
		dump_damage(d, f->offset, f->what);
}

/* ---- tables ---- */

struct table_dump {
	struct table_watch watch;
	struct dump *dump;
};

static const char *type_name(unsigned type)
{
	static const char *const names[] = {"none", "snappy", "zstd"};

	return type < ARRAY_SIZE(names) ? names[type] : "unknown";
}

static void table_block(struct table_watch *w, const char *kind, struct block_handle h, unsigned type, size_t size,
			size_t entries)
{
	struct dump *d = container_of(w, struct table_dump, watch)->dump;

	DUMP(d, "block", NUMBER("offset", h.offset), NUMBER("size", h.size), WORD("kind", kind),
	     WORD("compression", type_name(type)), NUMBER("bytes", size), NUMBER("entries", entries));
}

static void table_entry(struct table_watch *w, struct slice ikey, struct slice value, struct block_handle h)
{
	struct dump *d = container_of(w, struct table_dump, watch)->dump;

	if (ikey_kind(ikey) == IKEY_DELETION)
		DUMP(d, "delete", NUMBER("block", h.offset), NUMBER("sequence", ikey_sequence(ikey)),
		     BYTES("key", ikey_user(ikey)));
	else
		DUMP(d, "put", NUMBER("block", h.offset), NUMBER("sequence", ikey_sequence(ikey)),
		     BYTES("key", ikey_user(ikey)), NUMBER("value_size", value.size), BYTES("value", value));
}

static void table_meta(struct table_watch *w, struct slice key, struct slice value)
{
	struct dump *d = container_of(w, struct table_dump, watch)->dump;

	DUMP(d, "meta", BYTES("name", key), BYTES("content", value));
}

static void table_index(struct table_watch *w, struct slice ikey, struct block_handle h)
{
	struct dump *d = container_of(w, struct table_dump, watch)->dump;

	DUMP(d, "index", NUMBER("offset", h.offset), NUMBER("size", h.size), NUMBER("sequence", ikey_sequence(ikey)),
	     BYTES("key", ikey_user(ikey)));
}

int dump_table(struct dump *d, struct err_info *err)
{
	struct table_dump t = {
		.watch = {.block = table_block, .entry = table_entry, .meta = table_meta, .index = table_index},
		.dump = d};
	struct table_exam *e;
	int rc;

	d->exam.found = found;
	rc = table_examine(&d->exam, d->name, 0, NULL, &t.watch, &e, err);
	if (rc < 0)
		return rc;
	if (e->entries)
		DUMP(d, "table", NUMBER("size", e->size), NUMBER("entries", e->entries),
		     NUMBER("first_sequence", e->sequence_low), NUMBER("last_sequence", e->sequence_high),
		     BYTES("first_key", ikey_user(key_buf_slice(&e->smallest))),
		     BYTES("last_key", ikey_user(key_buf_slice(&e->largest))));
	else
		DUMP(d, "table", NUMBER("size", e->size), NUMBER("entries", 0));
	table_exam_free(e);
	return 0;
}

/* ---- CURRENT, and a directory as a whole ---- */

int dump_current(struct dump *d, struct err_info *err)
{
	char name[FILE_NAME_MAX];
	struct err_info why = {0};
	uint64_t number;
	int rc = manifest_current(d->exam.env, d->exam.q, name, &number, &why);

	if (rc == -SHALE_ECORRUPT) {
		dump_damage(d, 0, why.text);
		return 0;
	}
	if (rc < 0)
		return err_set(err, rc, "%s", why.text);
	DUMP(d, "current", WORD("manifest", name));
	return 0;
}

static void level_lines(struct dump *d, const struct edit *sum)
{
	DUMP(d, "database", NUMBER("log", sum->log_number), NUMBER("next_file", sum->next_file),
	     NUMBER("last_sequence", sum->last_sequence), NUMBER("tables", sum->added_count));
	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < sum->added_count; i++) {
			const struct file_meta *m = sum->added[i].meta;

			if (sum->added[i].level == level)
				DUMP(d, "table", NUMBER("level", level), NUMBER("number", m->number),
				     NUMBER("size", m->size),
				     BYTES("first_key", ikey_user(key_buf_slice(&m->smallest))),
				     BYTES("last_key", ikey_user(key_buf_slice(&m->largest))));
		}
	}
}

int dump_directory(struct dump *d, struct err_info *err)
{
	char name[FILE_NAME_MAX];
	struct err_info why = {0};
	struct dir_list files;
	struct edit sum;
	uint64_t number, whole;
	int rc = dir_list_read(d->exam.env, &files, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < files.count; i++)
		DUMP(d, "file", WORD("name", files.at[i].name), NUMBER("size", files.at[i].size));
	dir_list_free(&files);
	rc = manifest_current(d->exam.env, d->exam.q, name, &number, &why);
	if (rc == 0) {
		DUMP(d, "current", WORD("manifest", name));
		rc = manifest_sum(d->exam.env, d->exam.q, name, &sum, &whole, &why);
	}
	if (rc == 0) {
		level_lines(d, &sum);
		edit_fini(&sum);
	} else {
		dump_damage(d, 0, why.text);
	}
	return 0;
}

/* ---- which kind ---- */

/* By its contents: a table ends with a magic number; a MANIFEST's first record begins with the tag of the comparator, a log's is a batch. */
static int guess(struct dump *d, enum file_type *out, struct err_info *err)
{
	unsigned char *bytes;
	size_t size;
	int rc = exam_read(&d->exam, d->name, &bytes, &size, err);

	if (rc < 0)
		return rc;
	if (size >= TABLE_FOOTER && load_le64(bytes + size - 8) == TABLE_MAGIC)
		*out = FILE_TABLE;
	else
		*out = size > 8 && bytes[7] == 1 && bytes[8] == strlen(COMPARATOR_NAME) ? FILE_MANIFEST : FILE_LOG;
	free(bytes);
	return 0;
}

static int dump_file(struct dump *d, struct err_info *err)
{
	enum file_type type;
	uint64_t number;
	int rc = 0;

	if (!file_parse(d->name, &type, &number))
		rc = guess(d, &type, err);
	if (rc < 0)
		return rc;
	switch (type) {
	case FILE_TABLE:
	case FILE_SST:
		return dump_table(d, err);
	case FILE_LOG:
		return dump_log(d, false, err);
	case FILE_MANIFEST:
		return dump_log(d, true, err);
	case FILE_CURRENT:
		return dump_current(d, err);
	default:
		return err_set(err, -EINVAL,
			       "%s: there is nothing in such a file to show; dump reads tables, logs, MANIFESTs, "
			       "CURRENT, and directories",
			       d->name);
	}
}

int cmd_dump(struct ctl *ctl)
{
	char path[PATH_MAX], folder[PATH_MAX];
	struct dump d = {.ctl = ctl};
	struct err_info err = {0};
	struct stat st;
	bool whole;
	int rc;

	if (!realpath(ctl->args[0], path) || stat(path, &st) < 0) {
		complain("dump: %s: %m", ctl->args[0]);
		return EXIT_FAILED;
	}
	whole = S_ISDIR(st.st_mode);
	snprintf(folder, sizeof(folder), "%s", path);
	d.name = basename(path);
	rc = io_env_open(whole ? folder : dirname(folder), IO_BACKEND_POSIX, false, &d.exam.env, &err);
	if (rc == 0)
		rc = io_queue_new(d.exam.env, 8, &d.exam.q);
	if (rc == 0)
		rc = whole ? dump_directory(&d, &err) : dump_file(&d, &err);
	if (rc < 0)
		complain("dump: %s", *err.text ? err.text : shale_strerror(rc));
	io_queue_free(d.exam.q);
	if (d.exam.env)
		io_env_close(d.exam.env);
	if (rc < 0)
		return EXIT_FAILED;
	rc = ctl_finish_output();
	return rc == EXIT_OK && d.damaged ? EXIT_PROBLEM : rc;
}
