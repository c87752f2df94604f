/*
 * restore.c - a database directory from a checkpoint, or from any other copy that nobody serves.
 *
 * It is filled under another name, verified to the last byte, and only then gets its own: a damaged backup, a full disk or Ctrl-C leave nothing. Tables may be
 * hard links, since nobody ever changes one. All else is copied: a MANIFEST is written on, and so would the backup's be.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/verify.h"
#include "tools/shalectl/offline.h"
#include "tools/shalectl/place.h"

struct restoring {
	struct ctl *ctl;
	const char *source;
	char path[PATH_MAX];
	struct backup_dir place;
	int from; /* descriptor */
	uid_t uid;
	gid_t gid; /* of the source, to whom root gives it */
	struct backup_copy copy;
	struct progress progress;
	const char *file;
	uint64_t done, total, linked, copied;
};

static bool wanted(const char *name, enum file_type *type_out)
{
	uint64_t number;

	return file_parse(name, type_out, &number) && *type_out != FILE_LOCK && *type_out != FILE_INFO_LOG &&
	       *type_out != FILE_TEMP;
}

static int on_copied(struct backup_copy *c, uint64_t bytes)
{
	struct restoring *r = container_of(c, struct restoring, copy);

	r->done += bytes;
	progress_show(&r->progress, r->done, r->total, "file", r->file);
	return progress_interrupted() ? -ECANCELED : 0;
}

static int copy_one(struct restoring *r, const char *name, enum file_type type, struct err_info *err)
{
	enum backup_way way;
	struct stat st;
	int rc;

	r->file = name;
	r->copy.link = r->ctl->link && (type == FILE_TABLE || type == FILE_SST);
	if (r->copy.link && fstatat(r->from, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r->done += (uint64_t)st.st_size;
	rc = backup_file(&r->copy, r->from, name, &r->place, &way, err);
	if (rc < 0)
		return rc;
	r->linked += way == BACKUP_LINKED;
	r->copied += way == BACKUP_COPIED;
	if (way == BACKUP_COPIED && geteuid() == 0 &&
	    fchownat(r->place.dir, name, r->uid, r->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, -errno, "%s: giving it its owner: %m", name);
	return progress_interrupted() ? -ECANCELED : 0;
}

/* Calls copy_one for each file (@copying), or adds up their sizes. */
static int each_file(struct restoring *r, bool copying, struct err_info *err)
{
	DIR *d = fdopendir(openat(r->from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	enum file_type type;
	struct stat st;
	int rc = 0;

	if (!d)
		return err_set(err, -errno, "%s: %m", r->source);
	while (rc == 0 && (entry = readdir(d))) {
		if (!wanted(entry->d_name, &type))
			continue;
		if (copying)
			rc = copy_one(r, entry->d_name, type, err);
		else if (fstatat(r->from, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			r->total += (uint64_t)st.st_size;
	}
	closedir(d);
	return rc;
}

static int say(struct restoring *r, int rc, const struct err_info *err)
{
	progress_clear(&r->progress);
	if (rc == -ECANCELED)
		complain("restore: ended by Ctrl-C; %s was not made", r->path);
	else
		complain("restore: %s; %s was not made", *err->text ? err->text : shale_strerror(rc), r->path);
	return EXIT_FAILED;
}

static int copy_all(struct restoring *r)
{
	struct err_info err = {0};
	int rc;

	progress_begin(&r->progress, r->ctl);
	rc = each_file(r, false, &err);
	if (rc == 0)
		rc = each_file(r, true, &err);
	if (rc == 0 && geteuid() == 0 && fchown(r->place.dir, r->uid, r->gid) < 0)
		rc = err_set(&err, -errno, "giving the directory its owner: %m");
	if (rc < 0)
		return say(r, rc, &err);
	progress_clear(&r->progress);
	return EXIT_OK;
}

/* Reads back all of it. What is wrong is the backup's fault, and said of it. */
static int verify_all(struct restoring *r, struct verify_result *result)
{
	char part[PATH_MAX + NAME_MAX + 2], *slash;
	struct ctl ctl = *r->ctl;
	struct err_info err = {0};
	struct offline o;
	int code, rc;

	snprintf(part, sizeof(part), "%s", r->path);
	slash = strrchr(part, '/');
	snprintf(slash + 1, sizeof(part) - (size_t)(slash + 1 - part), "%s", r->place.part);
	ctl.database = part;
	code = offline_open(&ctl, "restore", &o);
	if (code != EXIT_OK)
		return code;
	ctl.database = r->source;
	rc = verify_database(&o.exam, result, &err);
	offline_bar_clear(&o);
	if (rc < 0) {
		code = say(r, rc, &err);
	} else if (o.exam.problems) {
		fflush(stdout);
		complain("restore: %s is damaged (%" PRIu64
			 " problem%s); %s was not made. Take another backup, or repair a copy "
			 "of this one",
			 r->source, o.exam.problems, o.exam.problems == 1 ? "" : "s", r->path);
		code = EXIT_PROBLEM;
	}
	offline_close(&o);
	if (code == EXIT_OK && geteuid() == 0)
		if (fchownat(r->place.dir, "LOCK", r->uid, r->gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT) {
			complain("restore: LOCK: giving it its owner: %m");
			code = EXIT_FAILED;
		}
	return code;
}

static int tell(const struct restoring *r, const struct verify_result *v)
{
	char bytes[32];

	if (r->ctl->json)
		print_json(json_pack("{s:{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I}}", "summary", "result", "restored", "path",
				     r->path, "tables", (json_int_t)v->tables, "entries", (json_int_t)v->entries,
				     "bytes", (json_int_t)r->total, "files_linked", (json_int_t)r->linked,
				     "files_copied", (json_int_t)r->copied, "last_sequence",
				     (json_int_t)v->last_sequence));
	else
		printf("%s: restored and verified: %" PRIu64 " tables, %" PRIu64
		       " entries (%s), up to sequence %" PRIu64 "; %" PRIu64 " files linked, %" PRIu64 " copied\n",
		       r->path, v->tables, v->entries, size_text(r->total, bytes), v->last_sequence, r->linked,
		       r->copied);
	return ctl_finish_output();
}

/* Keeps daemons and checkpoints out of the source. A read-only medium has neither. */
static int lock_source(struct restoring *r, struct offline *o)
{
	struct ctl ctl = *r->ctl;
	int code;

	*o = (struct offline){0};
	if (faccessat(r->from, ".", W_OK, AT_EACCESS) < 0)
		return EXIT_OK;
	ctl.database = r->source;
	code = offline_open(&ctl, "restore", o);
	if (code == EXIT_OK && o->window) {
		complain("restore: %s: a killed shaled left acknowledged writes in memory, and only there: start it "
			 "once, stop "
			 "it, then restore",
			 r->source);
		offline_close(o);
		code = EXIT_FAILED;
	}
	return code;
}

static int restore(struct restoring *r)
{
	struct verify_result result = {0};
	int code = place_path("restore", r->ctl->args[1], r->path);

	if (code == EXIT_OK)
		code = place_begin("restore", r->path, &r->place);
	if (code != EXIT_OK)
		return code;
	code = copy_all(r);
	if (code == EXIT_OK)
		code = verify_all(r, &result);
	if (code == EXIT_OK)
		code = place_publish("restore", r->path, &r->place);
	place_end(&r->place);
	return code == EXIT_OK ? tell(r, &result) : code;
}

int cmd_restore(struct ctl *ctl)
{
	struct restoring r = {.ctl = ctl, .source = ctl->args[0], .copy = {.progress = on_copied}};
	struct offline o;
	struct stat st;
	int code;

	r.from = open(r.source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r.from < 0 || fstat(r.from, &st) < 0) {
		complain("restore: %s: %m", r.source);
		return EXIT_FAILED;
	}
	r.uid = st.st_uid;
	r.gid = st.st_gid;
	if (faccessat(r.from, "CURRENT", F_OK, 0) < 0) {
		complain("restore: %s holds no checkpoint and no database (it has no CURRENT)", r.source);
		code = EXIT_FAILED;
	} else {
		code = lock_source(&r, &o);
		if (code == EXIT_OK) {
			code = restore(&r);
			offline_close(&o);
		}
	}
	close(r.from);
	return code;
}
