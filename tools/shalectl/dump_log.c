/* dump_log.c - records of logs and MANIFESTs, and what is in them. Behind a damaged record it goes on with the next whole one. */
#include <inttypes.h>

#include "engine/ikey.h"
#include "engine/log_format.h"
#include "shm/batch.h"
#include "tools/shalectl/dump.h"

static void dump_batch(struct dump *d, uint64_t offset, struct slice record)
{
	struct batch_info info;
	struct batch_reader reader;
	struct batch_record r;
	uint64_t sequence;

	if (record.size < BATCH_HEADER_SIZE || batch_check(record, NULL, &info) < 0) {
		dump_damage(d, offset, "the checksum is right, but it is no well-formed batch");
		return;
	}
	sequence = batch_sequence(record.data);
	DUMP(d, "batch", NUMBER("offset", offset), NUMBER("size", record.size), NUMBER("sequence", sequence),
	     NUMBER("count", info.count));
	batch_reader_init(&reader, record);
	for (; batch_reader_next(&reader, &r); sequence++) {
		if (r.type == BATCH_DELETE)
			DUMP(d, "delete", NUMBER("sequence", sequence), BYTES("key", r.key));
		else
			DUMP(d, "put", NUMBER("sequence", sequence), BYTES("key", r.key),
			     NUMBER("value_size", r.value.size), BYTES("value", r.value));
	}
}

static void dump_fields(struct dump *d, const struct edit *e)
{
	if (e->has_comparator)
		DUMP(d, "comparator", WORD("name", e->comparator));
	if (e->has_log_number)
		DUMP(d, "log", NUMBER("number", e->log_number));
	if (e->has_prev_log_number)
		DUMP(d, "previous_log", NUMBER("number", e->prev_log_number));
	if (e->has_next_file)
		DUMP(d, "next_file", NUMBER("number", e->next_file));
	if (e->has_last_sequence)
		DUMP(d, "last_sequence", NUMBER("sequence", e->last_sequence));
	for (size_t i = 0; i < e->pointer_count; i++)
		DUMP(d, "pointer", NUMBER("level", e->pointers[i].level),
		     BYTES("key", ikey_user(key_buf_slice(&e->pointers[i].key))));
	for (size_t i = 0; i < e->deleted_count; i++)
		DUMP(d, "delete_table", NUMBER("level", e->deleted[i].level), NUMBER("number", e->deleted[i].number));
	for (size_t i = 0; i < e->added_count; i++) {
		const struct file_meta *m = e->added[i].meta;
		struct slice first = key_buf_slice(&m->smallest), last = key_buf_slice(&m->largest);

		DUMP(d, "add_table", NUMBER("level", e->added[i].level), NUMBER("number", e->added[i].number),
		     NUMBER("size", m->size), BYTES("first_key", ikey_user(first)),
		     NUMBER("first_sequence", ikey_sequence(first)), BYTES("last_key", ikey_user(last)),
		     NUMBER("last_sequence", ikey_sequence(last)));
	}
}

static int dump_edit(struct dump *d, uint64_t offset, struct slice record)
{
	struct err_info why = {0};
	struct edit e;
	int rc = edit_decode(record, &e, &why);

	if (rc == -SHALE_ECORRUPT) {
		dump_damage(d, offset, why.text);
		return 0;
	}
	if (rc < 0)
		return rc;
	DUMP(d, "edit", NUMBER("offset", offset), NUMBER("size", record.size));
	dump_fields(d, &e);
	edit_fini(&e);
	return 0;
}

static int dump_records(struct dump *d, bool manifest, struct log_reader *reader)
{
	struct slice record;
	int rc = 0;

	for (;;) {
		rc = log_reader_next(reader, &record);
		if (rc == -SHALE_ECORRUPT) {
			dump_damage(d, log_reader_end_offset(reader), log_reader_reason(reader));
			log_reader_resync(reader);
			continue;
		}
		if (rc)
			return rc;
		if (manifest)
			rc = dump_edit(d, log_reader_record_offset(reader), record);
		else
			dump_batch(d, log_reader_record_offset(reader), record);
		if (rc < 0)
			return rc;
	}
}

int dump_log(struct dump *d, bool manifest, struct err_info *err)
{
	struct log_reader *reader = NULL;
	struct io_file *f = NULL;
	uint64_t size = 0;
	int rc = io_open(d->exam.env, d->name, IO_OPEN_READ, &f);

	if (rc == 0)
		rc = io_size(f, &size);
	if (rc == 0)
		rc = log_reader_new(d->exam.q, f, &reader);
	if (rc == 0)
		rc = dump_records(d, manifest, reader);
	if (rc == LOG_END) {
		DUMP(d, "end", NUMBER("offset", log_reader_end_offset(reader)), NUMBER("size", size));
		rc = 0;
	}
	log_reader_free(reader);
	io_close(f);
	return rc < 0 ? err_set(err, rc, "%s: cannot be read: %s", d->name, shale_strerror(rc)) : 0;
}
