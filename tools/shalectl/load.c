/*
 * load.c - writes what export wrote, or anything in the same forms, into the database, in batches.
 *
 * Later entries of a key win. What was written before a failure stays: to load the same file again does no harm.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "shm/error.h"
#include "tools/shalectl/kvfile.h"
#include "tools/shalectl/progress.h"

enum { BATCH_ENTRIES = 1000, BATCH_BYTES = 256 << 10 };

struct loading {
	struct ctl *ctl;
	const char *name;
	struct kv_reader reader;
	struct progress progress;
	struct shale_db *db;
	struct shale_batch *batch;
	uint64_t total; /* of the input; 0: unknown */
	uint64_t written;
};

/* @last: with --sync, it is on disk when this returns, and so is all before it. */
static int write_batch(struct loading *l, bool last)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	size_t count = shale_batch_count(l->batch);
	int rc;

	if (!count)
		return 0;
	options.sync = last && l->ctl->sync;
	rc = shale_write(l->db, &options, l->batch, NULL);
	if (rc == 0)
		l->written += count;
	shale_batch_clear(l->batch);
	return rc;
}

static bool full(const struct loading *l)
{
	return shale_batch_count(l->batch) >= BATCH_ENTRIES ||
	       shale_batch_bytes(l->batch) + l->reader.key.size + l->reader.value.size > BATCH_BYTES;
}

/* 0; the reader's failure, or the daemon's (*@writing_out). A batch is kept back until the next entry is seen, so that the last one is known. */
static int each_entry(struct loading *l, bool *writing_out)
{
	int got;

	while ((got = kv_next(&l->reader)) > 0) {
		int rc = full(l) ? write_batch(l, false) : 0;

		if (rc == 0)
			rc = shale_batch_put(l->batch, l->reader.key.data, l->reader.key.size, l->reader.value.data,
					     l->reader.value.size);
		*writing_out = rc < 0;
		if (rc < 0)
			return rc;
		if (l->total)
			progress_show(&l->progress, l->reader.bytes, l->total, "file", l->name);
		if (progress_interrupted())
			return -ECANCELED;
	}
	if (got < 0)
		return got;
	got = write_batch(l, true);
	*writing_out = got < 0;
	return got;
}

static int tell(struct loading *l, int rc, bool writing)
{
	int code = EXIT_FAILED;

	progress_clear(&l->progress);
	if (rc == 0) {
		if (l->ctl->json)
			print_json(json_pack("{s:{s:s,s:I}}", "summary", "result", "loaded", "entries",
					     (json_int_t)l->written));
		else
			printf("%s: %" PRIu64 " entries loaded\n", l->name, l->written);
		return ctl_finish_output();
	}
	if (writing)
		code = ctl_failed(l->db, "load", rc);
	else if (rc == -ECANCELED)
		complain("load: ended by Ctrl-C");
	else
		complain("load: %s: %s", l->name, rc == -EBADMSG ? l->reader.why : shale_strerror(rc));
	complain("load: %" PRIu64 " entries were written%s", l->written,
		 writing ? ", and perhaps those of the batch under way" : "");
	return code;
}

static int load(struct loading *l, FILE *file)
{
	bool writing = false;
	struct stat st;
	int code = ctl_open(l->ctl, false, &l->db), rc;

	if (code != EXIT_OK)
		return code;
	if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode))
		l->total = (uint64_t)st.st_size;
	progress_begin(&l->progress, l->ctl);
	l->batch = shale_batch_new();
	rc = l->batch ? kv_open(&l->reader, file) : -ENOMEM;
	if (rc == 0)
		rc = each_entry(l, &writing);
	code = tell(l, rc, writing);
	kv_close(&l->reader);
	shale_batch_free(l->batch);
	shale_close(l->db);
	return code;
}

int cmd_load(struct ctl *ctl)
{
	bool given = ctl->nargs && strcmp(ctl->args[0], "-");
	struct loading l = {.ctl = ctl, .name = given ? ctl->args[0] : "standard input"};
	FILE *file = given ? fopen(l.name, "re") : stdin;
	int code;

	if (!file) {
		complain("load: %s: %m", l.name);
		return EXIT_FAILED;
	}
	code = load(&l, file);
	if (file != stdin)
		fclose(file);
	return code;
}
