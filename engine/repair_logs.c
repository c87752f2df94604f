/*
 * repair_logs.c - which logs the repaired database begins with.
 *
 * As at every open, what is recovered of logs is a prefix: it ends at the first record that cannot be used, since those behind it were made by somebody who
 * had seen that one. The rest goes to lost/. Logs that are not known to be in tables are all of them when there is no MANIFEST: replaying
 * one that was flushed already does no harm, because with it come all that follow.
 */
#include "engine/repair_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/ikey.h"
#include "engine/log_exam.h"

static void tell_lost(struct repair *r, const struct dir_file *f, uint64_t bytes, const char *why)
{
	struct repair_loss l = {.kind = "log", .file = f->name, .bytes = bytes};

	r->r->log_bytes += bytes;
	snprintf(l.what, sizeof(l.what), "%" PRIu64 " of %" PRIu64 " bytes are not used: %s", bytes, f->size, why);
	repair_tell(r, &l);
}

static int plan_cut(struct repair *r, const struct dir_file *f, uint64_t keep_bytes)
{
	struct log_action *grown = reallocarray(r->cuts, r->cut_count + 1, sizeof(*grown));

	if (!grown)
		return err_set(r->err, -ENOMEM, "%s: no memory", f->name);
	r->cuts = grown;
	r->cuts[r->cut_count++] = (struct log_action){f, keep_bytes};
	return 0;
}

/* One log after those that count. *@ended_io: nothing behind it does. */
static int plan_log(struct repair *r, const struct dir_file *f, uint64_t known, uint64_t *last_io, bool *ended_io)
{
	struct log_exam l;
	int rc;

	if (*ended_io) {
		tell_lost(r, f, f->size,
			  "a log before it cannot be used to its end, so what follows has no ground to stand on");
		return plan_cut(r, f, 0);
	}
	rc = log_examine(r->x, f->name, known, last_io, &l, r->err);
	if (rc < 0)
		return rc;
	if (l.end == RECORD_GOOD || l.whole)
		r->log_number = r->log_number ? r->log_number : f->number;
	r->first_logged = r->first_logged ? r->first_logged : l.first;
	if (l.end == RECORD_GOOD)
		return 0;
	*ended_io = true;
	tell_lost(r, f, l.size - l.whole,
		  l.end == RECORD_GAP ? "records before its first one are missing"
				      : "a record in it is damaged, and all behind it was made after that one");
	return plan_cut(r, f, l.whole);
}

static uint64_t oldest_needed(const struct repair *r)
{
	if (!r->has_sum)
		return 0;
	return r->sum.prev_log_number && r->sum.prev_log_number < r->sum.log_number ? r->sum.prev_log_number
										    : r->sum.log_number;
}

int repair_plan_logs(struct repair *r)
{
	uint64_t oldest = oldest_needed(r), known = r->has_sum ? r->sum.last_sequence : SEQUENCE_MAX, last = 0;
	char name[FILE_NAME_MAX];
	bool ended = false;
	int rc = 0;

	if (oldest && !dir_list_find(&r->files, FILE_LOG, oldest)) {
		struct finding f = {.kind = "missing", .file = file_name(name, FILE_LOG, oldest), .cause = cause_hands};
		struct repair_loss l = {.kind = "log", .file = name};

		snprintf(f.what, sizeof(f.what),
			 "the MANIFEST names it as the oldest log that is needed, and it is not there");
		exam_found(r->x, &f);
		snprintf(l.what, sizeof(l.what), "it is missing: writes since the last flush are lost");
		repair_tell(r, &l);
	}
	for (size_t i = 0; i < r->files.count && rc == 0; i++) {
		const struct dir_file *f = &r->files.at[i];

		if (f->type != FILE_LOG || f->number < oldest || f->number >= NUMBER_IMPOSSIBLE)
			continue;
		if (r->o->keep_logs)
			r->log_number = r->log_number ? r->log_number : f->number;
		else
			rc = plan_log(r, f, known, &last, &ended);
	}
	r->r->last_sequence = last;
	return rc;
}

/* ---- doing it ---- */

static int failed(struct repair *r, const char *name, int rc, const char *doing)
{
	return err_set(r->err, rc, "%s: %s: %s. The database is as it was; remove the cause and run it again", name,
		       doing, shale_strerror(rc));
}

/* The first @bytes of @name into the new file @to, synced. */
static int copy_front(struct repair *r, const char *name, const char *to, uint64_t bytes)
{
	unsigned char *data = NULL;
	struct io_file *out = NULL;
	size_t size;
	int rc = exam_read(r->x, name, &data, &size, r->err);

	if (rc < 0)
		return rc;
	rc = io_open(r->x->env, to, IO_OPEN_WRITE | IO_OPEN_CREATE, &out);
	if (rc == 0)
		rc = io_pwrite(r->x->q, out, data, bytes, 0);
	if (rc == 0)
		rc = io_fdatasync(r->x->q, out);
	io_close(out);
	free(data);
	return rc < 0 ? failed(r, to, rc, "writing it") : 0;
}

static int cut(struct repair *r, const struct log_action *a)
{
	char temp[FILE_NAME_MAX + 16];
	int rc;

	if (!a->keep_bytes)
		return repair_move_away(r, a->file->name);
	/* No name of LevelDB's: nobody takes it for a log while it is half written. */
	snprintf(temp, sizeof(temp), "repair-%s.tmp", a->file->name);
	rc = copy_front(r, a->file->name, temp, a->keep_bytes);
	if (rc < 0)
		return rc;
	rc = r->o->keep(r->o, a->file->name);
	if (rc == 0)
		rc = io_rename(r->x->env, temp, a->file->name); /* the whole one lives on in lost/ */
	r->r->moved++;
	return rc < 0 ? failed(r, a->file->name, rc, "replacing it by its sound front") : 0;
}

int repair_cut_logs(struct repair *r)
{
	char name[FILE_NAME_MAX];
	struct io_file *f = NULL;
	int rc = 0;

	/* From the last on: at any moment what is left is a prefix. */
	for (size_t i = r->cut_count; i-- > 0 && rc == 0;)
		rc = cut(r, &r->cuts[i]);
	if (rc < 0 || r->log_number)
		return rc;
	r->log_number = r->next_number++;
	rc = io_open(r->x->env, file_name(name, FILE_LOG, r->log_number), IO_OPEN_WRITE | IO_OPEN_CREATE, &f);
	if (rc == 0)
		rc = io_fdatasync(r->x->q, f);
	io_close(f);
	return rc < 0 ? failed(r, name, rc, "creating an empty log") : 0;
}
