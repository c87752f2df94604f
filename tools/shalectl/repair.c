/*
 * repair.c - a damaged database made usable again. What goes out of use is found in lost/ inside the database directory.
 *
 * A file gets there by a second name for the same bytes (a hard link), before anything else changes, and loses its first name after everything
 * else is done; so at no moment it is nowhere. Where the file system knows no links, by a copy.
 */
#include "engine/repair.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/shalectl/offline.h"

static const char lost_name[] = "lost";

struct mending {
	struct repair_options options;
	struct offline *offline;
	int dir, lost; /* descriptors; lost: -1 until it is needed */
	uint64_t losses;
};

/* ---- lost/ ---- */

static int open_lost(struct mending *m)
{
	if (m->lost >= 0)
		return 0;
	if (mkdirat(m->dir, lost_name, 0700) < 0 && errno != EEXIST)
		return -errno;
	m->lost = openat(m->dir, lost_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (m->lost < 0)
		return -errno;
	return fsync(m->dir) < 0 ? -errno : 0;
}

static int copy(struct mending *m, const char *name, const char *to)
{
	int in = openat(m->dir, name, O_RDONLY | O_CLOEXEC);
	int out = in < 0 ? -1 : openat(m->lost, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = in < 0 || out < 0 ? -errno : 0;
	ssize_t n = 1;

	while (rc == 0 && n > 0) {
		n = sendfile(out, in, NULL, 1 << 30);
		rc = n < 0 ? -errno : 0;
	}
	if (rc == 0 && fsync(out) < 0)
		rc = -errno;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return rc;
}

static bool same_file(struct mending *m, const char *name, const char *there)
{
	struct stat a, b;

	return !fstatat(m->dir, name, &a, 0) && !fstatat(m->lost, there, &b, 0) && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int keep(struct repair_options *options, const char *name)
{
	struct mending *m = container_of(options, struct mending, options);
	char there[FILE_NAME_MAX + 24];
	int rc = open_lost(m);

	for (unsigned i = 0; rc == 0; i++) {
		snprintf(there, sizeof(there), i ? "%s.%u" : "%s", name, i);
		if (same_file(m, name, there) || linkat(m->dir, name, m->lost, there, 0) == 0)
			break;
		if (errno == EPERM || errno == EOPNOTSUPP || errno == EMLINK) {
			rc = copy(m, name, there);
			if (rc == 0)
				break;
			rc = rc == -EEXIST ? 0 : rc;
		} else if (errno != EEXIST) { /* another repair's: it keeps its name */
			rc = -errno;
		}
	}
	if (rc == 0 && fsync(m->lost) < 0)
		rc = -errno;
	return rc;
}

/* ---- telling ---- */

static json_t *loss_json(const struct repair_loss *l)
{
	json_t *j = json_pack("{s:s,s:s,s:s,s:I}", "kind", l->kind, "file", l->file, "what", l->what, "bytes",
			      (json_int_t)l->bytes);

	if (l->entries)
		json_object_set_new(j, "entries", json_integer((json_int_t)l->entries));
	if (l->has_range)
		json_set_range(j, l->first, l->last);
	if (l->sequence_high) {
		json_object_set_new(j, "sequence_low", json_integer((json_int_t)l->sequence_low));
		json_object_set_new(j, "sequence_high", json_integer((json_int_t)l->sequence_high));
	}
	return json_pack("{s:o}", "loss", j);
}

static void lost(struct repair_options *options, const struct repair_loss *l)
{
	struct mending *m = container_of(options, struct mending, options);
	char bytes[32];

	m->losses++;
	offline_bar_clear(m->offline);
	if (m->offline->ctl->json) {
		print_json(loss_json(l));
		return;
	}
	printf("LOST: %s: %s (%s)\n", l->file, l->what, size_text(l->bytes, bytes));
	if (l->has_range) {
		printf("    keys       ");
		print_range(stdout, l->first, l->last);
		putchar('\n');
	}
	if (l->sequence_high)
		printf("    sequences  %" PRIu64 " to %" PRIu64 "\n", l->sequence_low, l->sequence_high);
}

static const char *verdict(const struct mending *m, const struct repair_result *r)
{
	return r->nothing ? "nothing" : m->options.dry_run ? "would repair" : "repaired";
}

static void summary_json(const struct mending *m, const struct repair_result *r)
{
	print_json(json_pack("{s:{s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "summary", "result", verdict(m, r),
			     "levels_known", (int)r->levels_known, "losses", (json_int_t)m->losses, "tables_kept",
			     (json_int_t)r->kept, "tables_rewritten", (json_int_t)r->rewritten, "tables_written",
			     (json_int_t)r->written, "files_moved", (json_int_t)r->moved, "entries_kept_of_rewritten",
			     (json_int_t)r->entries, "entries_withheld", (json_int_t)r->withheld, "log_bytes_lost",
			     (json_int_t)r->log_bytes, "last_sequence", (json_int_t)r->last_sequence));
}

static void summary(const struct mending *m, const struct repair_result *r)
{
	const char *db = m->offline->ctl->database;

	if (r->nothing) {
		printf("%s: nothing to repair%s\n", db,
		       r->moved ? "; files that nothing refers to are in lost/ now" : "");
		return;
	}
	if (!r->levels_known)
		printf("\nWhich table belongs where was not known (no MANIFEST that can be believed), so tables were "
		       "put together by sequence "
		       "numbers.\nWhether tables are missing cannot be known, nor what they had deleted or "
		       "replaced.\n");
	if (m->options.keep_older)
		printf("\nOlder values of keys whose newest entry is lost were kept: deleted data may be among "
		       "them.\n");
	printf("\n%s: %s: %" PRIu64 " tables stay as they are, %" PRIu64 " %s, %" PRIu64 " loss%s\n", db,
	       m->options.dry_run ? "would be repaired" : "repaired", r->kept, r->rewritten,
	       m->options.dry_run ? "would be written anew" : "were written anew", m->losses,
	       m->losses == 1 ? "" : "es");
	if (m->options.dry_run)
		printf("next: a copy of the directory, if there is room; then shalectl repair --db %s\n", db);
	else
		printf("what was taken out (%" PRIu64
		       " files) is in %s/%s, as it was; next: shalectl verify --db %s, then start shaled\n",
		       r->moved, db, lost_name, db);
}

static bool agreed(struct ctl *ctl)
{
	char line[16];

	if (ctl->yes || ctl->dry_run)
		return true;
	if (!isatty(STDIN_FILENO)) {
		complain("repair rewrites parts of %s; give --yes to do it, or --dry-run to see what it would do",
			 ctl->database);
		return false;
	}
	fprintf(stderr,
		"repair writes a new MANIFEST and new tables in %s; damaged files are moved to %s/%s.\n"
		"(--dry-run shows what it would do.) Go on? [y/N] ",
		ctl->database, ctl->database, lost_name);
	return fgets(line, sizeof(line), stdin) && (*line == 'y' || *line == 'Y');
}

int cmd_repair(struct ctl *ctl)
{
	struct mending m = {
		.options = {.dry_run = ctl->dry_run, .keep_older = ctl->keep_older, .keep = keep, .lost = lost},
		.lost = -1};
	struct repair_result result;
	struct err_info err = {0};
	struct offline o;
	int code = offline_open(ctl, "repair", &o), rc;

	if (code != EXIT_OK)
		return code;
	if (!agreed(ctl)) {
		offline_close(&o);
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN); /* a reader who goes away must not end it half-way */
	m.offline = &o;
	m.dir = io_env_dirfd(o.exam.env);
	m.options.keep_logs = o.window;
	if (o.window)
		fprintf(stderr, "a killed shaled left acknowledged writes in memory: the logs stay as they are, and "
				"the next start completes "
				"and recovers them\n");
	rc = repair_database(&o.exam, &m.options, &result, &err);
	if (m.lost >= 0)
		close(m.lost);
	if (rc < 0) {
		code = offline_failed(&o, rc, &err);
		offline_close(&o);
		return code;
	}
	offline_bar_clear(&o);
	if (ctl->json)
		summary_json(&m, &result);
	else
		summary(&m, &result);
	offline_close(&o);
	code = ctl_finish_output();
	return code == EXIT_OK && ctl->dry_run && !result.nothing ? EXIT_PROBLEM : code;
}
