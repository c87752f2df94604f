/*
 * What a daemon cannot serve it refuses: with its own exit code, with words that name the file, the cause and the next
 * step, and with every file as it was.
 */
#include <fcntl.h>
#include <glob.h>
#include <leveldb/c.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/proc.h"

/* shaled's exit codes, as its help tells them. */
enum {
	EXIT_FAILED_ = 1,
	EXIT_USAGE = 2,
	EXIT_LOCKED = 3,
	EXIT_NO_DATABASE = 4,
	EXIT_PERMISSION = 5,
	EXIT_CORRUPT = 6,
	EXIT_COMPARATOR = 7,
};

static struct private_daemon d;
static char words[4096];

/* The daemon must refuse with @code, and its words must hold @must (NULL-terminated list). */
static void refused(int code, ...)
{
	const char *must;
	va_list ap;
	int got = proc_refused(&d, words, sizeof(words));

	ck_assert_msg(got == code, "exit code %d instead of %d\n%s", got, code, words);
	va_start(ap, code);
	while ((must = va_arg(ap, const char *)))
		ck_assert_msg(strstr(words, must) != NULL, "no \"%s\" in:\n%s", must, words);
	va_end(ap);
}

static const char *in_database(const char *name)
{
	static char path[700];
	glob_t found;

	snprintf(path, sizeof(path), "%s/%s", d.database, name);
	if (strpbrk(name, "*?")) {
		ck_assert_msg(glob(path, 0, NULL, &found) == 0, "nothing like %s", path);
		snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
		globfree(&found);
	}
	return path;
}

/* Reads a whole small file; free(). */
static char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "r");
	char *bytes = malloc(1 << 20);

	ck_assert_msg(f != NULL, "%s", path);
	*len = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	return bytes;
}

static void spit(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

/* A directory that is a file, one in a place that does not exist, and one without a database when none may be made. */
START_TEST(wrong_directory)
{
	proc_init(&d, "/proc/version", NULL);
	refused(EXIT_NO_DATABASE, "/proc/version", NULL);
	private_daemon_fini(&d);
	proc_init(&d, "/nowhere/at/all", NULL);
	refused(EXIT_NO_DATABASE, "/nowhere/at/all", NULL);
	private_daemon_fini(&d);
	proc_init(&d, NULL, "engine.create_if_missing=no", NULL);
	ck_ok(mkdir(d.database, 0700));
	refused(EXIT_NO_DATABASE, d.database, NULL);
	ck_ok(private_daemon_segments(&d));
	private_daemon_fini(&d);
}
END_TEST

/* The program is opened before: its folder may be one that nobody else can reach. */
static int as_nobody(void *arg)
{
	const char *const argv[] = {d.program, "--db", d.database, "--socket", d.socket, NULL};
	int fd = open(d.log, O_WRONLY | O_CREAT | O_APPEND, 0666), program = open(d.program, O_RDONLY);
	struct passwd *pw = getpwnam("nobody");

	(void)arg;
	if (!pw || program < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return 99;
	dup2(fd, STDERR_FILENO);
	fexecve(program, (char *const *)argv, environ);
	return 98;
}

/* A user who may not read the directory. */
START_TEST(no_permission)
{
	size_t len;
	char *text;

	if (getuid() != 0) {
		printf("not root: cannot become somebody else; skipped\n");
		return;
	}
	proc_begin(&d);
	proc_stop(&d);
	unlink(d.log);
	ck_ok(chmod(d.scratch, 0711));
	ck_ok(chmod(d.database, 0700));
	ck_assert_int_eq(proc_wait(proc_fork(as_nobody, NULL)), EXIT_PERMISSION);
	text = slurp(d.log, &len);
	text[len] = 0;
	ck_assert_msg(strstr(text, d.database) != NULL, "%s", text);
	free(text);
	proc_start(&d);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* The second daemon names the first one's pid and does not disturb it, even at the first one's socket. */
START_TEST(second_daemon)
{
	struct private_daemon first;
	struct shale_db *db;
	char pid[32];

	proc_begin(&first);
	db = proc_open(&first);
	proc_put(db, "a", "1");
	snprintf(pid, sizeof(pid), "%d", (int)first.pid);
	proc_init(&d, first.database, NULL);
	refused(EXIT_LOCKED, pid, first.database, NULL);
	strcpy(d.socket, first.socket);
	refused(EXIT_LOCKED, pid, NULL);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	shale_close(db);
	db = proc_open(&first);
	ck_assert_str_eq(proc_get(db, "a"), "1");
	shale_close(db);
	proc_stop(&first);
	private_daemon_fini(&d);
	private_daemon_fini(&first);
}
END_TEST

/* Stock LevelDB has the directory open: the same lock says so. */
START_TEST(locked_by_stock)
{
	leveldb_options_t *options = leveldb_options_create();
	char *error = NULL, pid[32];
	leveldb_t *db;

	proc_init(&d, NULL, NULL);
	leveldb_options_set_create_if_missing(options, 1);
	db = leveldb_open(options, d.database, &error);
	ck_assert_msg(!error, "%s", error);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	refused(EXIT_LOCKED, pid, NULL);
	leveldb_close(db);
	leveldb_options_destroy(options);
	proc_start(&d);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

static int compare_backwards(void *state, const char *a, size_t an, const char *b, size_t bn)
{
	(void)state;
	return slice_compare(slice_of(b, bn), slice_of(a, an));
}

static const char *comparator_name(void *state)
{
	(void)state;
	return "tests.Backwards";
}

static void no_destructor(void *state)
{
	(void)state;
}

/* Another comparator orders keys in another way: both names are told. */
START_TEST(foreign_comparator)
{
	leveldb_comparator_t *comparator =
		leveldb_comparator_create(NULL, no_destructor, compare_backwards, comparator_name);
	leveldb_options_t *options = leveldb_options_create();
	char *error = NULL;
	leveldb_t *db;

	proc_init(&d, NULL, NULL);
	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_comparator(options, comparator);
	db = leveldb_open(options, d.database, &error);
	ck_assert_msg(!error, "%s", error);
	leveldb_close(db);
	refused(EXIT_COMPARATOR, "tests.Backwards", "leveldb.BytewiseComparator", NULL);
	db = leveldb_open(options, d.database, &error);
	ck_assert_msg(!error, "harmed: %s", error);
	leveldb_close(db);
	leveldb_options_destroy(options);
	leveldb_comparator_destroy(comparator);
	private_daemon_fini(&d);
}
END_TEST

/* Names a MANIFEST that is not there, no MANIFEST at all, or a line without its end. */
START_TEST(corrupt_current)
{
	static const char *const contents[] = {"MANIFEST-999999\n", "garbage\n", "", "MANIFEST-000001"};
	char *good;
	size_t len;

	proc_init(&d, NULL, NULL);
	stock_fill(d.database, 1000, 0, true, 10);
	good = slurp(in_database("CURRENT"), &len);
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		spit(in_database("CURRENT"), contents[i], strlen(contents[i]));
		refused(EXIT_CORRUPT, "CURRENT", NULL);
	}
	spit(in_database("CURRENT"), good, len);
	proc_start(&d);
	proc_stop(&d);
	free(good);
	private_daemon_fini(&d);
}
END_TEST

/* One bit of a MANIFEST: found by its checksum, named with its offset, left as it was. */
START_TEST(corrupt_manifest)
{
	char path[700], *bytes, *after;
	size_t len, len_after;

	proc_init(&d, NULL, NULL);
	stock_fill(d.database, 3000, 0, true, 10);
	strcpy(path, in_database("MANIFEST-*"));
	bytes = slurp(path, &len);
	ck_assert_uint_gt(len, 100);
	bytes[20] ^= 0x10;
	spit(path, bytes, len);
	refused(EXIT_CORRUPT, "MANIFEST-", NULL);
	after = slurp(path, &len_after);
	ck_assert_uint_eq(len_after, len);
	ck_assert_mem_eq(after, bytes, len);
	bytes[20] ^= 0x10;
	spit(path, bytes, len);
	proc_start(&d);
	proc_stop(&d);
	free(bytes);
	free(after);
	private_daemon_fini(&d);
}
END_TEST

/* A table that the MANIFEST names is not there: its name is told; when it is back, so is the database. */
START_TEST(missing_table)
{
	char path[700], away[720];

	proc_init(&d, NULL, NULL);
	stock_fill(d.database, 5000, 0, true, 10);
	strcpy(path, in_database("*.ldb"));
	snprintf(away, sizeof(away), "%s.away", path);
	ck_ok(rename(path, away));
	refused(EXIT_CORRUPT, strrchr(path, '/') + 1, NULL);
	ck_ok(rename(away, path));
	proc_start(&d);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* An unknown key: line, and what was probably meant. A bad value: what is allowed. */
START_TEST(bad_configuration)
{
	char path[200];

	proc_init(&d, NULL, "engine.wirte_buffer=1M", NULL);
	refused(EXIT_USAGE, "wirte_buffer", "write_buffer", NULL);
	private_daemon_fini(&d);
	proc_init(&d, NULL, "engine.write_buffer=lots", NULL);
	refused(EXIT_USAGE, "lots", "write_buffer", NULL);
	private_daemon_fini(&d);

	proc_init(&d, NULL, NULL);
	snprintf(path, sizeof(path), "%s/conf", d.scratch);
	spit(path, "# a comment\n[engine]\nblock_chace = 8M\n", 38);
	private_daemon_arg(&d, "--config");
	private_daemon_arg(&d, path);
	refused(EXIT_USAGE, path, ":3", "block_chace", "block_cache", NULL);
	spit(path, "[engine]\nblock_cache = 8M\n", 26);
	proc_start(&d);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

/* Something that is no socket lies where the socket should be: it is not removed. */
START_TEST(socket_path_taken)
{
	char *bytes;
	size_t len;

	proc_init(&d, NULL, NULL);
	spit(d.socket, "precious", 8);
	refused(EXIT_FAILED_, d.socket, NULL);
	bytes = slurp(d.socket, &len);
	ck_assert_uint_eq(len, 8);
	free(bytes);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("bad_start", 30 * PATIENCE, wrong_directory, no_permission, second_daemon, locked_by_stock,
	  foreign_comparator, corrupt_current, corrupt_manifest, missing_table, bad_configuration, socket_path_taken)
