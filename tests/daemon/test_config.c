/* Settings: what is read, what is refused and in which words, and that the shipped shaled.conf tells the truth. */
#include "tests/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "shm/error.h"

static struct config c;
static struct err_info err;

static int read_text(const char *text)
{
	char path[] = "/tmp/shale-test-config.XXXXXX";
	int fd = mkstemp(path), rc;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	config_default(&c);
	memset(&err, 0, sizeof(err));
	rc = config_read(&c, path, &err);
	unlink(path);
	return rc;
}

#define ck_words(words) ck_assert_msg(strstr(err.text, words) != NULL, "\"%s\" is not in \"%s\"", words, err.text)

/* Values of every type arrive, with suffixes, comments, blanks and indentation, which libinih alone would misread. */
START_TEST(values_are_read)
{
	ck_ok(read_text(
		"; comment\n[engine]\n  write_buffer = 32M\n  block_cache=1G\n\tcompression = zstd\nparanoid = Yes\n"
		"block_size = 8KiB\n[access]\nmode = 0600\nuids = 0, 17 18\n[wal]\nwindow=directory\nring = "
		"33554432\n"));
	ck_ok(config_check(&c, &err));
	ck_assert_uint_eq(c.write_buffer, 32 << 20);
	ck_assert_uint_eq(c.block_cache, 1 << 30);
	ck_assert_uint_eq(c.compression, COMPRESS_ZSTD);
	ck_assert_uint_eq(c.paranoid, 1);
	ck_assert_uint_eq(c.block_size, 8192);
	ck_assert_uint_eq(c.mode, 0600);
	ck_assert_uint_eq(c.uids.count, 3);
	ck_assert_uint_eq(c.uids.uid[2], 18);
	ck_assert_uint_eq(c.wal_window, WINDOW_DIRECTORY);
	ck_assert_uint_eq(c.wal_ring, 32 << 20);
}
END_TEST

/* Compression per level: the last one named goes for the deeper levels; none named, one setting goes for all. */
START_TEST(compression_of_levels)
{
	struct engine_options o;

	ck_ok(read_text("[engine]\ncompression_per_level = none, Snappy,zstd\n"));
	config_engine_options(&c, &o);
	ck_assert(o.compression_by_level);
	ck_assert_int_eq(o.level_compression[0], COMPRESS_NONE);
	ck_assert_int_eq(o.level_compression[1], COMPRESS_SNAPPY);
	for (unsigned level = 2; level < LEVELS; level++)
		ck_assert_int_eq(o.level_compression[level], COMPRESS_ZSTD);
	ck_ok(read_text("[engine]\ncompression_per_level =\n"));
	config_engine_options(&c, &o);
	ck_assert(!o.compression_by_level);
}
END_TEST

/* A misspelt key must be found at its line, with the key that was meant; else the operator believes it is in force. */
START_TEST(unknown_keys_are_told_with_line_and_suggestion)
{
	ck_assert_int_eq(read_text("[engine]\nwrite_bufer = 1M\n"), -SHALE_ECONFIG);
	ck_words(":2: ");
	ck_words("did you mean \"engine.write_buffer\"");
	ck_assert_int_eq(read_text("\n\n[engine]\nmax_key = 1K\n"), -SHALE_ECONFIG);
	ck_words(":4: ");
	ck_words("did you mean \"limits.max_key\"");
	ck_assert_int_eq(read_text("[engine]\nentirely_different_thing = 1\n"), -SHALE_ECONFIG);
	ck_words("there is no setting");
	ck_assert_ptr_null(strstr(err.text, "did you mean"));
}
END_TEST

/* Every wrong value is refused with what is allowed, and leaves the setting as it was. */
START_TEST(bad_values_are_told_with_what_is_allowed)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{"[engine]\nwrite_buffer = 12Q\n", "from 64K to 1G"},
		{"[engine]\nwrite_buffer = -1\n", "from 64K to 1G"},
		{"[engine]\nwrite_buffer = 2G\n", "from 64K to 1G"},
		{"[engine]\nwrite_buffer = 99999999999999999999\n", "from 64K to 1G"},
		{"[engine]\nwrite_buffer = 18446744073709551615G\n", "from 64K to 1G"},
		{"[engine]\nwrite_buffer =\n", "from 64K to 1G"},
		{"[engine]\ncompression = lz4\n", "none, snappy or zstd"},
		{"[engine]\nparanoid = maybe\n", "yes or no"},
		{"[engine]\ncompression_per_level = none,lz4\n", "separated by commas, of none, snappy or zstd"},
		{"[engine]\ncompression_per_level = none none none none none none none none\n", "up to 7"},
		{"[engine]\ntombstone_percent = 101\n", "from 0 to 100"},
		{"[engine]\nmax_immutables = 0\n", "from 1 to 16"},
		{"[engine]\nmax_immutables = 0x10\n", "from 1 to 16"},
		{"[access]\nmode = 0888\n", "octal"},
		{"[access]\nmode = 1777\n", "octal"},
		{"[access]\nuids = no-such-user-here\n", "there is no user"},
		{"[access]\nuids = 4294967295\n", "below"},
		{"[fairness]\nweights = 1000\n", "as in \"1000:4\""},
		{"[fairness]\nweights = 1000:0\n", "from 1 to 1000"},
		{"[fairness]\nweights = 1000:2 no-such-user-here:3\n", "there is no user"},
		{"[limits]\nsnapshots_per_uid = 0\n", "from 1 to 1024"},
		{"[wal]\nwindow = tmpfs\n", "shm or directory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(read_text(bad[i].text) == -SHALE_ECONFIG, "accepted: %s", bad[i].text);
		ck_words(bad[i].words);
		ck_words(":2: ");
	}
	ck_assert_uint_eq(c.write_buffer, 16 << 20);
}
END_TEST

/* A line that is no setting, or longer than the reader takes, is an error and not skipped. */
START_TEST(broken_lines_are_told)
{
	char text[1000] = "[engine]\nwrite_buffer = ";

	ck_assert_int_eq(read_text("[engine]\nthis is no setting\n"), -SHALE_ECONFIG);
	ck_words(":2: ");
	memset(text + strlen(text), '1', 600);
	ck_assert_int_eq(read_text(text), -SHALE_ECONFIG);
	ck_words(":2: the line is longer");
	ck_assert_int_eq(config_read(&c, "/nonexistent/shaled.conf", &err), -ENOENT);
	ck_words("/nonexistent/shaled.conf");
}
END_TEST

/* --set takes section.key=value, and says so when it gets something else. */
START_TEST(set_overrides)
{
	config_default(&c);
	ck_ok(config_set(&c, "engine.block_cache=8M", &err));
	ck_assert_uint_eq(c.block_cache, 8 << 20);
	ck_assert_int_eq(config_set(&c, "engine.block_cache", &err), -SHALE_ECONFIG);
	ck_words("section.key=value");
	ck_assert_int_eq(config_set(&c, "block_cache=8.5M", &err), -SHALE_ECONFIG);
	ck_assert_int_eq(config_set(&c, ".=", &err), -SHALE_ECONFIG);
	ck_assert_int_eq(config_set(&c, "engine.blok_cache=1M", &err), -SHALE_ECONFIG);
	ck_words("engine.block_cache");
}
END_TEST

/* Settings that are fine alone and impossible together are refused before anything starts. */
START_TEST(impossible_together)
{
	static const char *const bad[] = {"wal.ring=3M",
					  "service.ring_entries=100",
					  "limits.max_request=100K",
					  "fairness.turn_bytes=4K",
					  "fairness.turn_requests=4096",
					  "engine.l0_stop=5"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		config_default(&c);
		ck_ok(config_check(&c, &err));
		ck_ok(config_set(&c, bad[i], &err));
		ck_assert_msg(config_check(&c, &err) == -SHALE_ECONFIG, "accepted: %s", bad[i]);
	}
}
END_TEST

/* What is printed can be read back and gives the same settings. */
START_TEST(print_and_read_again)
{
	struct config again;
	char *text;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	config_default(&c);
	ck_ok(config_set(&c, "access.uids=1 2 3", &err));
	ck_ok(config_set(&c, "fairness.weights=0:4, 1000:2", &err));
	ck_assert_uint_eq(config_weight(&c, 0), 4);
	ck_assert_uint_eq(config_weight(&c, 1000), 2);
	ck_assert_uint_eq(config_weight(&c, 7), 1);
	ck_ok(config_set(&c, "engine.write_buffer=100001", &err));
	ck_ok(config_set(&c, "access.mode=0640", &err));
	ck_ok(config_set(&c, "engine.compression_per_level=none,none,zstd", &err));
	again = c;
	config_write(&c, false, f);
	fclose(f);
	ck_ok(read_text(text));
	ck_assert_int_eq(memcmp(&c, &again, offsetof(struct config, origin)), 0);
	free(text);
}
END_TEST

/* daemon/shaled.conf is what --explain-config prints, after its heading: else it would document settings that are not there. */
START_TEST(shipped_file_is_complete)
{
	const char *path = "daemon/shaled.conf";
	FILE *f = fopen(path, "r"), *m;
	char *text, *expected, *at;
	size_t size, n;

	if (!f) /* run from another folder than the repository's */
		return;
	text = calloc(1, 64 << 10);
	n = fread(text, 1, (64 << 10) - 1, f);
	fclose(f);
	m = open_memstream(&expected, &size);
	config_default(&c);
	config_write(&c, true, m);
	fclose(m);
	at = strstr(text, "[engine]");
	ck_assert_ptr_nonnull(at);
	ck_assert_msg(!strcmp(at, expected), "%s (%zu bytes) differs from shaled --explain-config", path, n);
	free(expected);
	free(text);
}
END_TEST

/* ---- several files, and again ---- */

static char *folder;

static const char *write_file(const char *name, const char *text)
{
	static char path[16][256];
	static unsigned next;
	char *p = path[next++ % 16];
	FILE *f;

	snprintf(p, 256, "%s/%s", folder, name);
	f = fopen(p, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	return p;
}

static void make_folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	ck_ok(mkdir(path, 0700));
}

static char *text_of(const struct config *config, enum config_style style)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc;

	config_write(config, style, f);
	rc = fclose(f);
	return rc == 0 ? text : NULL;
}

/* Later words go over earlier ones: files as named, each folder behind its file and in the order of names, --set last. Each value knows where it comes from. */
START_TEST(sources_in_order)
{
	struct config_sources from = {.files = 2, .sets = 1, .set = {"engine.bloom_bits=3"}};
	char *text, words[300];

	folder = test_tmpdir();
	from.file[0] = write_file("a.conf", "[engine]\nbloom_bits = 1\nmax_immutables = 1\nl0_stop = 20\n");
	from.file[1] = write_file("b.conf", "[engine]\nl0_stop = 50\n");
	make_folder("a.conf.d");
	write_file("a.conf.d/20.conf", "[engine]\nmax_immutables = 4\n");
	write_file("a.conf.d/10.conf", "[engine]\nmax_immutables = 3\nl0_stop = 30\n");
	write_file("a.conf.d/30.conf~", "this is no setting");
	write_file("a.conf.d/.hidden.conf", "nor is this");
	ck_assert_msg(config_gather(&from, &c, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(c.bloom_bits, 3);
	ck_assert_uint_eq(c.max_immutables, 4);
	ck_assert_uint_eq(c.l0_stop, 50);
	text = text_of(&c, CONFIG_WITH_ORIGINS);
	ck_assert_ptr_nonnull(strstr(text, "bloom_bits = 3 ; --set\n"));
	snprintf(words, sizeof(words), "max_immutables = 4 ; %s/a.conf.d/20.conf:2\n", folder);
	ck_assert_msg(strstr(text, words) != NULL, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "write_buffer = 16M ; default\n"));
	/* Origins are comments: it can be read again. */
	ck_ok(read_text(text));
	ck_assert_uint_eq(c.l0_stop, 50);
	free(text);
	test_rmtree(folder);
	free(folder);
}
END_TEST

/* A file may be missing only if that was said; one that is there is never skipped. */
START_TEST(files_that_may_be_missing)
{
	struct config_sources from = {.files = 1, .file = {"-/nonexistent/shaled.conf"}};
	char optional[260];

	ck_ok(config_gather(&from, &c, &err));
	from.file[0] = "/nonexistent/shaled.conf";
	ck_assert_int_eq(config_gather(&from, &c, &err), -ENOENT);
	folder = test_tmpdir();
	snprintf(optional, sizeof(optional), "-%s", write_file("bad.conf", "[engine]\nnonsense = 1\n"));
	from.file[0] = optional;
	ck_assert_int_eq(config_gather(&from, &c, &err), -SHALE_ECONFIG);
	ck_words("bad.conf:2: there is no setting");
	make_folder("bad.conf.d");
	write_file("bad.conf", "");
	write_file("bad.conf.d/x.conf", "[wal]\nring = 3M\n");
	ck_assert_int_eq(config_gather(&from, &c, &err), -SHALE_ECONFIG);
	ck_words("power of two");
	test_rmtree(folder);
	free(folder);
}
END_TEST

static char changes[2048];

static void note_change(void *context, const struct config_change *change)
{
	size_t n = strlen(changes);

	(void)context;
	snprintf(changes + n, sizeof(changes) - n, "%s.%s %s>%s (%s) %s\n", change->section, change->name,
		 change->before, change->after, change->origin, change->at_once ? "now" : "restart");
}

/* A reload takes what can change and tells of the rest; going back to the default is a change, too. */
START_TEST(merged_with_what_runs)
{
	struct config running, asked, next;

	config_default(&running);
	ck_ok(config_set(&running, "limits.snapshots=7", &err));
	config_default(&asked);
	ck_ok(config_set(&asked, "engine.write_buffer=8M", &err));
	ck_ok(config_set(&asked, "access.uids=1 2", &err));
	ck_assert_int_eq(config_merge(&running, &asked, &next, note_change, NULL, &err), 2);
	ck_assert_str_eq(changes, "engine.write_buffer 16M>8M (--set) restart\n"
				  "limits.snapshots 7>256 (default) now\n"
				  "access.uids >1 2 (--set) now\n");
	ck_assert_uint_eq(next.write_buffer, 16 << 20);
	ck_assert_uint_eq(next.snapshots, 256);
	ck_assert_uint_eq(next.uids.count, 2);
	/* The same again: only what waits for a restart is told. */
	changes[0] = '\0';
	ck_assert_int_eq(config_merge(&next, &asked, &running, note_change, NULL, &err), 0);
	ck_assert_str_eq(changes, "engine.write_buffer 16M>8M (--set) restart\n");
}
END_TEST

/* The log of a start names what is not as it is by default, and where that was said. */
START_TEST(summary_of_differences)
{
	char words[64];

	config_default(&c);
	config_summary(&c, words, sizeof(words));
	ck_assert_str_eq(words, "");
	ck_ok(config_set(&c, "engine.bloom_bits=3", &err));
	config_summary(&c, words, sizeof(words));
	ck_assert_str_eq(words, "engine.bloom_bits=3 (--set)");
	ck_ok(config_set(&c, "engine.block_cache=3M", &err));
	ck_ok(config_set(&c, "engine.l0_stop=33", &err));
	config_summary(&c, words, sizeof(words)); /* cut, and no further */
	ck_assert_uint_eq(strlen(words), sizeof(words) - 1);
}
END_TEST

TEST_MAIN("config", 10, values_are_read, compression_of_levels, unknown_keys_are_told_with_line_and_suggestion,
	  bad_values_are_told_with_what_is_allowed, broken_lines_are_told, set_overrides, impossible_together,
	  print_and_read_again, shipped_file_is_complete, sources_in_order, files_that_may_be_missing,
	  merged_with_what_runs, summary_of_differences)
