/*
 * export.c - all entries, or a range of them, as they are at one moment: as JSON lines, in the binary form of kvfile.h, or as a LevelDB directory.
 *
 * A file gets its name when all of it is on disk, so there is never half of one.
 */
#include "tools/shalectl/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/error.h"
#include "tools/shalectl/kvfile.h"
#include "tools/shalectl/progress.h"

/* ---- to a file, or standard output ---- */

struct file_sink {
	struct export_sink sink;
	struct kv_writer writer;
	const char *path; /* NULL: standard output */
	char part[PATH_MAX];
	FILE *file;
};

static int file_add(struct export_sink *s, struct slice key, struct slice value)
{
	return kv_add(&container_of(s, struct file_sink, sink)->writer, key, value);
}

static int file_end(struct export_sink *s)
{
	struct file_sink *f = container_of(s, struct file_sink, sink);
	int rc = kv_end(&f->writer);

	if (rc < 0 || !f->path)
		return rc;
	if (fsync(fileno(f->file)) < 0)
		return -errno;
	if (renameat2(AT_FDCWD, f->part, AT_FDCWD, f->path, RENAME_NOREPLACE) < 0) {
		rc = -errno;
		if ((rc == -EINVAL || rc == -ENOSYS) && access(f->path, F_OK) < 0) /* a file system that cannot tell */
			rc = rename(f->part, f->path) < 0 ? -errno : 0;
		if (rc < 0)
			return rc;
	}
	*f->part = '\0';
	return 0;
}

static void file_drop(struct export_sink *s)
{
	struct file_sink *f = container_of(s, struct file_sink, sink);

	kv_free(&f->writer);
	if (f->path && f->file)
		fclose(f->file);
	if (*f->part)
		unlink(f->part);
	free(f);
}

static int file_open(struct file_sink *f)
{
	int fd;

	if (!f->path) {
		f->file = stdout;
		return 0;
	}
	if (access(f->path, F_OK) == 0)
		return -EEXIST;
	if (snprintf(f->part, sizeof(f->part), "%s.shale-part", f->path) >= (int)sizeof(f->part)) {
		*f->part = '\0';
		return -ENAMETOOLONG;
	}
	fd = open(f->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		*f->part = '\0';
		return -errno;
	}
	f->file = fdopen(fd, "w");
	return f->file ? 0 : -errno;
}

static int export_file(struct ctl *ctl, const char *path, struct export_sink **out)
{
	struct file_sink *f = calloc(1, sizeof(*f));
	int rc;

	if (!f) {
		complain("export: no memory");
		return EXIT_FAILED;
	}
	f->sink = (struct export_sink){.add = file_add, .end = file_end, .drop = file_drop};
	f->path = path;
	if (!path && ctl->binary && isatty(STDOUT_FILENO)) {
		complain("export: the binary form is nothing for a terminal; give a FILE, or send it to one");
		free(f);
		return EXIT_USAGE;
	}
	rc = file_open(f);
	if (rc == 0)
		rc = kv_begin(&f->writer, f->file, ctl->binary);
	if (rc == 0) {
		*out = &f->sink;
		return EXIT_OK;
	}
	complain("export: %s: %s", path ? path : "standard output", shale_strerror(rc));
	file_drop(&f->sink);
	return EXIT_FAILED;
}

/* ---- the entries ---- */

struct exporting {
	struct ctl *ctl;
	struct shale_db *db;
	struct export_sink *sink;
	struct progress progress;
	struct shale_read_options options;
	uint64_t entries, bytes;
	const void *begin; /* of the range */
	size_t begin_len;
	uint64_t total; /* of the range on disk, roughly */
};

/* What the range takes on disk, as a measure of how far it is. */
static void measure(struct exporting *x)
{
	const struct shale_read_options *o = &x->options;
	unsigned char end[512];
	size_t n = min_size(o->prefix_len, sizeof(end) / 2);

	x->begin = o->lower ? o->lower : o->prefix;
	x->begin_len = o->lower ? o->lower_len : o->prefix_len;
	/* Hardly a key that begins so is larger than this. */
	memset(end, 0xff, sizeof(end));
	if (n)
		memcpy(end, o->prefix, n);
	if (shale_approximate_size(x->db, x->begin, x->begin_len, o->upper ? o->upper : end,
				   o->upper ? o->upper_len : n + sizeof(end) / 2, &x->total) < 0)
		x->total = 0;
}

/* How far it is on disk: what lies before the key. */
static void show(struct exporting *x, struct slice key)
{
	uint64_t before = 0;

	if (!progress_due(&x->progress) || !x->total)
		return;
	if (shale_approximate_size(x->db, x->begin, x->begin_len, key.data, key.size, &before) == 0)
		progress_show(&x->progress, before, x->total, "step", "export");
}

static int each_entry(struct exporting *x, struct shale_iter *it)
{
	uint64_t left = x->ctl->limit;
	int rc = 0;

	for (shale_iter_seek_first(it); rc == 0 && left && shale_iter_valid(it); shale_iter_next(it), left--) {
		struct slice key, value;

		key.data = shale_iter_key(it, &key.size);
		value.data = shale_iter_value(it, &value.size);
		rc = x->sink->add(x->sink, key, value);
		x->entries++;
		x->bytes += key.size + value.size;
		show(x, key);
		if (progress_interrupted())
			rc = -ECANCELED;
	}
	return rc;
}

static int failed(struct exporting *x, int rc)
{
	progress_clear(&x->progress);
	if (rc == -ECANCELED)
		complain("export: ended by Ctrl-C");
	else
		complain("export: %s", *x->sink->err.text ? x->sink->err.text : shale_strerror(rc));
	return EXIT_FAILED;
}

static int run(struct exporting *x)
{
	struct shale_iter *it;
	int rc, code = EXIT_OK;

	rc = shale_iter_open(x->db, &x->options, &it);
	if (rc < 0)
		return ctl_failed(x->db, "export", rc);
	rc = each_entry(x, it);
	if (rc == 0 && shale_iter_error(it) < 0)
		code = ctl_failed(x->db, "export", shale_iter_error(it));
	shale_iter_close(it);
	if (rc == 0 && code == EXIT_OK)
		rc = x->sink->end(x->sink);
	return rc < 0 ? failed(x, rc) : code;
}

static int tell(const struct exporting *x, const char *path)
{
	char bytes[32];

	if (x->ctl->json)
		print_json(json_pack("{s:{s:s,s:s,s:I,s:I}}", "summary", "result", "exported", "path", path, "entries",
				     (json_int_t)x->entries, "bytes", (json_int_t)x->bytes));
	else
		fprintf(stderr, "%s: %" PRIu64 " entries, %s\n", path, x->entries, size_text(x->bytes, bytes));
	return ctl_finish_output();
}

static void range(struct ctl *ctl, struct shale_read_options *o)
{
	o->no_fill_cache = 1;
	o->lower = ctl->from;
	o->lower_len = ctl->from ? strlen(ctl->from) : 0;
	o->upper = ctl->to;
	o->upper_len = ctl->to ? strlen(ctl->to) : 0;
	o->prefix = ctl->prefix;
	o->prefix_len = ctl->prefix ? strlen(ctl->prefix) : 0;
}

int cmd_export(struct ctl *ctl)
{
	const char *path = ctl->nargs && strcmp(ctl->args[0], "-") ? ctl->args[0] : NULL;
	struct exporting x = {.ctl = ctl, .options = SHALE_READ_OPTIONS_INIT};
	struct ctl quiet = *ctl;
	int code;

	if (ctl->leveldb && (ctl->binary || !path)) {
		complain(path ? "export: --leveldb or --binary, not both"
			      : "export: --leveldb needs a directory's name");
		return EXIT_USAGE;
	}
	range(ctl, &x.options);
	code = ctl_open(ctl, true, &x.db);
	if (code != EXIT_OK)
		return code;
	code = ctl->leveldb ? export_leveldb(ctl, path, &x.sink) : export_file(ctl, path, &x.sink);
	if (code == EXIT_OK) {
		quiet.json &= path != NULL; /* on standard output are the entries */
		progress_begin(&x.progress, &quiet);
		measure(&x);
		code = run(&x);
		progress_clear(&x.progress);
		x.sink->drop(x.sink);
	}
	if (code == EXIT_OK && path)
		code = tell(&x, path);
	shale_close(x.db);
	return code;
}
